"""Forks of sessions and turns undone: what both must keep right where a conversation is cut."""

import json
from collections.abc import Mapping

from .._arguments import checked_id, checked_number, now
from .._conversation.stored import forget_stash
from .._engine.database import Database
from .._engine.schema import SNAPSHOTS_OF_SESSION
from . import snapshot_changes
from .snapshots import SESSION_TYPE

_IS_COPIED = """
    messages.session_id = :source AND messages.agent_id = agents.agent_id
    AND message_id <= coalesce((SELECT value FROM json_each(:limits) WHERE key = agents.agent_id), :others)
    """

# Not one of snapshots that have all expired by themselves: nothing would ever end a session without any.
_COPY_SESSION = f"""
    INSERT INTO sessions (session_id, session_type, metadata, expires_at, created_at, updated_at)
    SELECT :new, session_type, metadata, expires_at, :now, :now FROM sessions
    WHERE session_id = :source AND (
        session_type <> '{SESSION_TYPE}' OR EXISTS (
            SELECT 1 FROM storage
            WHERE {SNAPSHOTS_OF_SESSION} AND (storage.expires_at IS NULL OR storage.expires_at > :now)
        )
    )
    """  # noqa: S608 (constants only, as below)
_COPY_AGENTS = """
    INSERT INTO agents (
        session_id, agent_id, state, conversation_manager_state, internal_state, live_view, created_at, updated_at
    )
    SELECT :new, agent_id, state, conversation_manager_state, internal_state, live_view, created_at, updated_at
    FROM agents WHERE session_id = :source
    """
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

# "0" comes after "/". A session's id may look like a longer part of another's prefix, hence the last condition.
_COPY_STASH = """
    INSERT INTO storage (key, data, expires_at, created_at, updated_at)
    SELECT 'context/' || :new || substr(key, length('context/' || :source) + 1), data, expires_at, :now, :now
    FROM storage
    WHERE key >= 'context/' || :source || '/scopes/agent/' AND key < 'context/' || :source || '/scopes/agent0'
        AND NOT instr(substr(key, length('context/' || :source || '/scopes/agent/')), '/scopes/agent/')
        AND EXISTS (SELECT 1 FROM sessions WHERE session_id = :new AND created_at = :now)
        AND (expires_at IS NULL OR expires_at > :now)
    ON CONFLICT (key) DO UPDATE SET data = excluded.data, expires_at = excluded.expires_at
    """

# The first message of the last turns: of the user, and not only tool results. A damaged one counts too, so that rather
# too little is removed than too much. An answer is the assistant's, and calls no tool.
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
    WHERE (
        :message_count IS NULL OR :message_count = (
            SELECT count(*) FROM messages WHERE session_id = :session_id AND agent_id = :agent_id
        )
    ) AND NOT (
        :only_unanswered AND EXISTS (
            SELECT 1 FROM (
                SELECT message FROM messages WHERE session_id = :session_id AND agent_id = :agent_id
                ORDER BY message_id DESC LIMIT 1
            )
            WHERE json_valid(message) AND json_extract(message, '$.role') = 'assistant' AND NOT EXISTS (
                SELECT 1 FROM json_each(message, '$.content') AS block
                WHERE block.type = 'object' AND json_extract(block.value, '$.toolUse') IS NOT NULL
            )
        )
    )
    """
_IS_CUT = f"session_id = :session_id AND agent_id = :agent_id AND message_id >= ({_FIRST})"

# Which conversations end earlier now: their agent, the number of their last message, and how many are left.
_FORKED = """
    SELECT
        copy.session_id, copy.agent_id, :source AS log,
        coalesce(max(message_id), -1) AS last, count(message_id) AS remaining
    FROM agents AS copy LEFT JOIN messages USING (session_id, agent_id)
    WHERE copy.session_id = :new
    GROUP BY copy.session_id, copy.agent_id
    HAVING max(message_id) IS NOT (
        SELECT max(message_id) FROM messages WHERE session_id = :source AND agent_id = copy.agent_id
    )
    """
_UNDONE = f"""
    SELECT
        :session_id AS session_id, :agent_id AS agent_id, :session_id AS log,
        coalesce((
            SELECT max(message_id) FROM messages
            WHERE session_id = :session_id AND agent_id = :agent_id AND message_id < first
        ), -1) AS last,
        (
            SELECT count(*) FROM messages
            WHERE session_id = :session_id AND agent_id = :agent_id AND message_id < first
        ) AS remaining
    FROM (SELECT ({_FIRST}) AS first) WHERE first IS NOT NULL
    """  # noqa: S608 (constants only, as below)

# Rows of the log that an item of a live view refers to: the first and the last.
_ITEM_FIRST = "coalesce(json_extract(item.value, '$.message_id'), json_extract(item.value, '$[0]'))"
_ITEM_LAST = """
    CASE item.type
        WHEN 'array' THEN coalesce(json_extract(item.value, '$[1]'), 9223372036854775807)
        ELSE json_extract(item.value, '$.message_id')
    END
    """
# What is left of a live view. What is not in the log goes with the messages that it came behind.
_LIVE_VIEW = f"""
    (
        SELECT json_group_array(json(piece)) FROM (
            SELECT
                CASE item.type
                    WHEN 'array' THEN json_array({_ITEM_FIRST}, min({_ITEM_LAST}, cut.last))
                    ELSE item.value
                END AS piece
            FROM json_each(live_view) AS item
            WHERE coalesce(
                {_ITEM_FIRST} <= cut.last,
                item.key < (
                    SELECT min(item.key) FROM json_each(live_view) AS item WHERE {_ITEM_LAST} > cut.last
                )
            )
            UNION ALL
            SELECT json_array(cut.last + 1)
        )
    )
    """  # noqa: S608
# Where a conversation manager had removed all that is left, the agent would have nothing. It gets all that is left
# then, without the summary, which tells of what was cut. Not so if the application has removed some of it.
_IS_RESET = f"""
    CASE
        WHEN NOT json_valid(conversation_manager_state) THEN FALSE
        WHEN json_valid(live_view) THEN
            json_extract(conversation_manager_state, '$.removed_message_count') > 0
            AND NOT EXISTS (SELECT 1 FROM json_each(live_view) AS item WHERE {_ITEM_FIRST} <= cut.last)
            AND json_extract(conversation_manager_state, '$.removed_message_count') = (
                SELECT count(*) FROM messages AS logged
                WHERE logged.session_id = cut.log AND logged.agent_id = agents.agent_id AND NOT EXISTS (
                    SELECT 1 FROM json_each(live_view) AS item
                    WHERE logged.message_id BETWEEN {_ITEM_FIRST} AND {_ITEM_LAST}
                )
            )
        ELSE json_extract(conversation_manager_state, '$.removed_message_count') >= cut.remaining
    END
    """  # noqa: S608


def _cut_agents(cut: str) -> str:
    """Return the statement that makes agents fit conversations which end earlier now.

    An interrupt and the state of a server-side model belong to the end that they had.
    """
    return f"""
        UPDATE agents
        SET
            conversation_manager_state = CASE
                WHEN {_IS_RESET}
                THEN json_replace(conversation_manager_state, '$.removed_message_count', 0, '$.summary_message', NULL)
                ELSE conversation_manager_state
            END,
            live_view = CASE WHEN {_IS_RESET} THEN NULL WHEN json_valid(live_view) THEN {_LIVE_VIEW} ELSE live_view END,
            internal_state = '{{}}',
            updated_at = :now
        FROM ({cut}) AS cut
        WHERE agents.session_id = cut.session_id AND agents.agent_id = cut.agent_id
        """  # noqa: S608


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
    copies = (_COPY_SESSION, _COPY_AGENTS, _COPY_MESSAGES, _COPY_MULTI_AGENTS, _COPY_STASH, _cut_agents(_FORKED))
    of_snapshots = snapshot_changes.fork_statements(
        database, source, new, lambda agent_id: limits.get(agent_id, others), through is not None
    )
    return database.transaction([*((sql, parameters) for sql in copies), *of_snapshots])[:4]


def undo(
    database: Database,
    session_id: str,
    agent_id: str,
    turns: int,
    message_count: int | None,
    only_unanswered: bool,
    dry_run: bool,
) -> int:
    """Remove the last turns of a conversation; see `SessionCatalog.undo_turns`.

    Returns:
        How many messages were removed.
    """
    parameters = {
        "session_id": session_id,
        "agent_id": agent_id,
        "turns": turns,
        "message_count": message_count,
        "only_unanswered": bool(only_unanswered),
        "now": now(),
    }
    if dry_run:
        ((count,),) = database.query(f"SELECT count(*) FROM messages WHERE {_IS_CUT}", parameters)  # noqa: S608
        return int(count)
    statements = (
        forget_stash(_IS_CUT),
        _cut_agents(_UNDONE),
        f"DELETE FROM messages WHERE {_IS_CUT}",  # noqa: S608
    )
    return database.transaction([(sql, parameters) for sql in statements])[-1]
