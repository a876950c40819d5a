"""Forks of sessions and turns undone: what both must keep right where a conversation is cut."""

import json
from collections.abc import Mapping

from .._arguments import checked_id, checked_number, now
from .._engine.database import Database

# A conversation that is cut before what its conversation manager has removed would be restored empty. All of it is
# restored then, and without the summary, which tells of what was cut.
_CONVERSATION_MANAGER_STATE = """
    CASE
        WHEN NOT json_valid(conversation_manager_state)
        OR coalesce(json_extract(conversation_manager_state, '$.removed_message_count'), 0) < ({remaining})
        THEN conversation_manager_state
        ELSE json_replace(conversation_manager_state, '$.removed_message_count', 0, '$.summary_message', NULL)
    END
    """

_IS_COPIED = """
    messages.session_id = :source AND messages.agent_id = agents.agent_id
    AND message_id <= coalesce((SELECT value FROM json_each(:limits) WHERE key = agents.agent_id), :others)
    """
_COPIED = f"SELECT count(*) FROM messages WHERE {_IS_COPIED}"  # noqa: S608 (constants only, as below)
_ALL = "SELECT count(*) FROM messages WHERE messages.session_id = :source AND messages.agent_id = agents.agent_id"

_COPY_SESSION = """
    INSERT INTO sessions (session_id, session_type, metadata, created_at, updated_at)
    SELECT :new, session_type, metadata, :now, :now FROM sessions WHERE session_id = :source
    """
# An interrupt and the state of a server-side model belong to the end of a conversation.
_COPY_AGENTS = f"""
    INSERT INTO agents (
        session_id, agent_id, state, conversation_manager_state, internal_state, created_at, updated_at
    )
    SELECT
        :new, agent_id, state,
        {_CONVERSATION_MANAGER_STATE.format(remaining=_COPIED)},
        CASE WHEN ({_COPIED}) = ({_ALL}) THEN internal_state ELSE '{{}}' END,
        created_at, updated_at
    FROM agents WHERE session_id = :source
    """  # noqa: S608
_COPY_MESSAGES = f"""
    INSERT INTO messages (
        session_id, agent_id, message_id, message, redact_message, attachments, created_at, updated_at
    )
    SELECT
        :new, messages.agent_id, message_id, message, redact_message, attachments,
        messages.created_at, messages.updated_at
    FROM agents CROSS JOIN messages WHERE agents.session_id = :source AND {_IS_COPIED}
    """  # noqa: S608
_COPY_MULTI_AGENTS = """
    INSERT INTO multi_agents (session_id, multi_agent_id, state, created_at, updated_at)
    SELECT :new, multi_agent_id, state, created_at, updated_at FROM multi_agents WHERE session_id = :source
    """

# The first message of the last turns: of the user, and not only tool results. A damaged one counts too, so that rather
# too little is removed than too much.
_FIRST = """
    SELECT min(message_id) FROM (
        SELECT message_id FROM messages
        WHERE session_id = :session_id AND agent_id = :agent_id AND CASE
            WHEN NOT json_valid(message) THEN TRUE
            WHEN json_type(message, '$.role') IS NULL OR json_type(message, '$.content') IS NOT 'array' THEN TRUE
            ELSE json_extract(message, '$.role') = 'user' AND EXISTS (
                SELECT 1 FROM json_each(message, '$.content') AS block
                WHERE block.type <> 'object' OR json_extract(block.value, '$.toolResult') IS NULL
            )
        END
        ORDER BY message_id DESC LIMIT :turns
    )
    WHERE :message_count IS NULL OR :message_count = (
        SELECT count(*) FROM messages WHERE session_id = :session_id AND agent_id = :agent_id
    )
    """
_REMAINING = f"""
    SELECT count(*) FROM messages WHERE session_id = :session_id AND agent_id = :agent_id AND message_id < ({_FIRST})
    """  # noqa: S608
_CUT_AGENT = f"""
    UPDATE agents
    SET
        conversation_manager_state = {_CONVERSATION_MANAGER_STATE.format(remaining=_REMAINING)},
        internal_state = '{{}}',
        updated_at = :now
    WHERE session_id = :session_id AND agent_id = :agent_id AND ({_FIRST}) IS NOT NULL
    """  # noqa: S608
_CUT = f"""
    FROM messages WHERE session_id = :session_id AND agent_id = :agent_id AND message_id >= ({_FIRST})
    """


def fork(database: Database, source: str, new: str, through: int | Mapping[str, int] | None) -> list[int]:
    """Copy a session; see `SessionCatalog.fork_session`.

    Returns:
        How many sessions, agents, messages and multi-agent states were copied.
    """
    limits: dict[str, int] = {}
    others = 2**63 - 1
    if isinstance(through, Mapping):
        limits = {checked_id("through", name): checked_number("through", last) for name, last in through.items()}
    elif through is not None:
        others = checked_number("through", through)
    parameters = {
        "source": checked_id("source", source),
        "new": checked_id("new", new),
        "limits": json.dumps(limits),
        "others": others,
        "now": now(),
    }
    return database.transaction(
        [(sql, parameters) for sql in (_COPY_SESSION, _COPY_AGENTS, _COPY_MESSAGES, _COPY_MULTI_AGENTS)]
    )


def undo(
    database: Database, session_id: str, agent_id: str, turns: int, message_count: int | None, dry_run: bool
) -> int:
    """Remove the last turns of a conversation; see `SessionCatalog.undo_turns`.

    Returns:
        How many messages were removed.
    """
    parameters = {
        "session_id": session_id,
        "agent_id": agent_id,
        "turns": checked_number("turns", turns),
        "message_count": None if message_count is None else checked_number("message_count", message_count),
        "now": now(),
    }
    if dry_run:
        ((count,),) = database.query(f"SELECT count(*) {_CUT}", parameters)
        return int(count)
    _, removed = database.transaction([(_CUT_AGENT, parameters), (f"DELETE {_CUT}", parameters)])
    return removed
