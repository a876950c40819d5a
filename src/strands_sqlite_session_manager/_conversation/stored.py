"""Conversations in the database: read at one moment, and never stored over or behind something newer."""

import json
from bisect import bisect_left
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from strands.types.session import SessionAgent

from .._arguments import now
from .._codec import decode, decode_shown, encode
from .._engine.database import Database, Statement
from .._errors import (
    IF_GONE,
    REBUILD,
    MissingParentError,
    SessionConflictError,
    TooLargeError,
    missing,
    naming_too_large,
    record_name,
)
from .live_view import LiveView, add_tracking_ids, parse

# Whether log and agent are as the writer knows them. Nothing is stored otherwise. The number of the last message alone
# does not tell: after an undo, another agent may have got as far again.
_IS_KNOWN = """
    (SELECT max(message_id) FROM messages WHERE session_id = :session_id AND agent_id = :agent_id) IS :last_id
    AND (SELECT updated_at FROM agents WHERE session_id = :session_id AND agent_id = :agent_id) = :known
    """

_APPEND = f"""
    INSERT INTO messages (
        session_id, agent_id, message_id, message, redact_message, attachments, created_at, updated_at
    )
    SELECT
        :session_id, :agent_id, :message_id, :message, :redact_message, :attachments, :created_at, :updated_at
    WHERE {_IS_KNOWN}
    """

_UPDATE_AGENT = f"""
    UPDATE agents
    SET
        state = :state,
        conversation_manager_state = :conversation_manager_state,
        internal_state = :internal_state,
        live_view = :live_view,
        updated_at = :now
    WHERE session_id = :session_id AND agent_id = :agent_id AND {_IS_KNOWN}
    """  # noqa: S608

# One statement, so that state and messages are of one moment. The first row is the agent's. A column of the whole has
# the type of its first SELECT, hence the empty attachments there.
_READ = """
    WITH agent AS (
        SELECT * FROM agents
        WHERE session_id = :session_id AND agent_id = :agent_id
            AND NOT EXISTS (SELECT 1 FROM expired_sessions WHERE expired_id = session_id)
    )
    SELECT
        state, conversation_manager_state, internal_state, live_view,
        (SELECT attachments FROM messages LIMIT 0), created_at, updated_at,
        (SELECT max(message_id) FROM messages WHERE session_id = :session_id AND agent_id = :agent_id)
    FROM agent
    UNION ALL
    SELECT item.key, message_id, message, redact_message, attachments, NULL, NULL, NULL
    FROM agent
    CROSS JOIN json_each(CASE WHEN json_valid(live_view) THEN live_view END) AS item
    CROSS JOIN messages ON messages.session_id = :session_id AND messages.agent_id = :agent_id
        AND message_id BETWEEN json_extract(item.value, '$[0]')
        AND coalesce(json_extract(item.value, '$[1]'), 9223372036854775807)
    WHERE item.type = 'array'
    """

# Messages to redact: some by their number, and the last ones with the same tracking id, which is that of a question
# that was asked again after a failure.
_TO_REDACT = """
    session_id = :session_id AND agent_id = :agent_id AND (
        message_id IN (SELECT value FROM json_each(:message_ids)) AND (
            -- After an undo, another message may have this number.
            :tracking_id IS NULL OR instr(message, :tracking_id) OR NOT instr(message, '"tracking_id":')
        )
        OR instr(message, :tracking_id) AND message_id > (
            SELECT max(message_id) - 1000 FROM messages WHERE session_id = :session_id AND agent_id = :agent_id
        )
    )
    """


# A row's bytes go with its content. If something else in it refers to them, which is no part of the SDK's messages,
# only role and tracking id stay.
_WITHOUT_BYTES = """
    CASE
        WHEN instr(json_remove(message, '$.content'), '"__encoded__":["attachment"')
        THEN json_patch('{}', json_object(
            'role', json_extract(message, '$.role'), 'tracking_id', json_extract(message, '$.tracking_id')
        ))
        ELSE message
    END
    """


class StoredConversation(NamedTuple):
    """An agent and its messages, of one moment.

    Attributes:
        agent: The agent.
        columns: Its columns `state`, `conversation_manager_state` and `internal_state`.
        live: The messages that it has; None if no view is stored, and the SDK's rule tells which of the log they are.
        live_view: The column `live_view`.
        last_id: Number of the last message in the log; None if the log is empty.
    """

    agent: SessionAgent
    columns: dict[str, str]
    live: LiveView | None
    live_view: str | None
    last_id: int | None


def read(database: Database, session_id: str, agent_id: str) -> StoredConversation | None:
    """Read an agent and its messages; None if there is no such agent.

    Raises:
        SessionException: If what is stored is damaged.
    """
    key = (session_id, agent_id)
    rows = database.query(_READ, {"session_id": session_id, "agent_id": agent_id})
    if not rows:
        return None
    state, conversation_manager_state, internal_state, live_view, _, created_at, updated_at, last_id = rows[0]
    agent = SessionAgent(
        agent_id=agent_id,
        state=decode(state, "agents", key),
        conversation_manager_state=decode(conversation_manager_state, "agents", key),
        _internal_state=decode(internal_state, "agents", key),
        created_at=created_at,
        updated_at=updated_at,
    )
    columns = {
        "state": state,
        "conversation_manager_state": conversation_manager_state,
        "internal_state": internal_state,
    }
    live = None if live_view is None else _live(live_view, rows[1:], key)
    return StoredConversation(agent, columns, live, live_view, last_id)


def _live(live_view: str, rows: list[tuple[Any, ...]], key: tuple[str, str]) -> LiveView:
    # As they come, mostly; SQL promises no order, and for an ORDER BY SQLite would copy all texts.
    rows.sort(key=itemgetter(0, 1))
    messages = decode_shown(rows, *key)
    ids: list[Any] = [row[1] for row in rows]
    add_tracking_ids(messages, ids, key[1])
    texts: list[str | None] = [None] * len(rows)
    items = parse(live_view, key)
    for index, item in enumerate(items[:-1]):
        if isinstance(item, dict):
            # Behind the messages of the items before it, and these items themselves.
            place = bisect_left(rows, (index,)) + len(messages) - len(rows)
            messages.insert(place, item["message"])
            ids.insert(place, item.get("message_id"))
            texts.insert(place, encode(item["message"], "live_view"))
    return LiveView(messages, ids, texts)


def store(
    database: Database,
    session_id: str,
    agent_id: str,
    last_id: int | None,
    known: str,
    time: str,
    messages: Sequence[tuple[Any, ...]] = (),
    agent: dict[str, str] | None = None,
) -> str:
    """Append messages and update the agent, all or nothing, if both are as the writer knows them.

    Args:
        database: Where to store.
        session_id: Id of the session.
        agent_id: Id of the agent.
        last_id: Number of the last message that the writer knows of; None if there is none.
        known: When the agent was updated last, as far as the writer knows.
        time: When it is, if it is.
        messages: Rows of `messages`, numbered on from there.
        agent: Columns of `agents` that `_UPDATE_AGENT` sets.

    Returns:
        When the agent was updated last.

    Raises:
        SessionConflictError: If the log goes on or does not go so far, or the agent was updated since.
        SessionException: If the agent does not exist, or the database cannot be used.
    """
    key = {"session_id": session_id, "agent_id": agent_id}
    updated_at = known if agent is None else time
    statements: list[Statement] = []
    for row in messages:
        message = dict(zip(_MESSAGE_COLUMNS, row, strict=True))
        statements.append((_APPEND, {**message, "last_id": last_id, "known": known}))
        last_id = row[2]
    if agent is not None:
        statements.append((_UPDATE_AGENT, {**key, **agent, "now": updated_at, "last_id": last_id, "known": known}))
    # A statement by itself costs less than one in a transaction.
    try:
        counts = [database.execute(*statements[0])] if len(statements) == 1 else database.transaction(statements)
    except TooLargeError as error:
        numbers = ", ".join(str(row[2]) for row in messages)
        what = f"message {numbers}" if messages else "the state"
        raise TooLargeError(f"Agent {agent_id} in session {session_id}: {what}: too large: {error}") from error
    except MissingParentError as error:
        raise missing("agents", session_id, agent_id, advice=IF_GONE) from error
    # Where one of them is refused, all are: each asks for the end that the one before it makes.
    if all(counts):
        return updated_at
    if not database.query(
        """
        SELECT 1 FROM agents
        WHERE session_id = :session_id AND agent_id = :agent_id
            AND NOT EXISTS (SELECT 1 FROM expired_sessions WHERE expired_id = session_id)
        """,
        key,
    ):
        raise missing("agents", session_id, agent_id, advice=IF_GONE)
    raise overtaken(session_id, agent_id)


def outcome(
    database: Database, session_id: str, agent_id: str, messages: Sequence[tuple[Any, ...]]
) -> tuple[str | None, int]:
    """Tell what is stored of an agent after writes that were not answered.

    Args:
        database: Where to look.
        session_id: Id of the session.
        agent_id: Id of the agent.
        messages: Rows that were to be stored, in their order.

    Returns:
        When the agent was updated last, and how many of the messages are there, the first ones, as they were to be.
    """
    key = {"session_id": session_id, "agent_id": agent_id}
    agent = database.query("SELECT updated_at FROM agents WHERE session_id = :session_id AND agent_id = :agent_id", key)
    count = 0
    for row in messages:
        # Of the microsecond and text that another writer's would hardly have.
        if not database.query(
            """
            SELECT 1 FROM messages
            WHERE session_id = :session_id AND agent_id = :agent_id AND message_id = :message_id
                AND message = :message AND created_at = :created_at
            """,
            dict(zip(_MESSAGE_COLUMNS, row, strict=True)),
        ):
            break
        count += 1
    return agent[0][0] if agent else None, count


def overtaken(session_id: str, agent_id: str) -> SessionConflictError:
    """Return the error for an agent that is not as its writer knows it."""
    return SessionConflictError(
        f"{record_name('agents', session_id, agent_id)} was overtaken: another writer was first, or undid turns. "
        f"What is stored is kept. To go on from it, {REBUILD}."
    )


_MESSAGE_COLUMNS = (
    *("session_id", "agent_id", "message_id", "message", "redact_message", "attachments"),
    *("created_at", "updated_at"),
)


def replace(database: Database, row: tuple[Any, ...], tracking_id: str) -> None:
    """Replace the last message with a tracking id, which has grown. What it was is no secret, so nothing is erased.

    Args:
        database: Where it is stored.
        row: What it has become, with any number.
        tracking_id: Its tracking id.
    """
    with naming_too_large(f"Message with tracking id {tracking_id} of agent {row[1]} in session {row[0]}"):
        database.execute(
            """
            UPDATE messages
            SET
                message = :message,
                redact_message = CASE WHEN redact_message IS NOT NULL THEN :message END,
                attachments = :attachments,
                updated_at = :now
            WHERE session_id = :session_id AND agent_id = :agent_id AND message_id = (
                SELECT message_id FROM messages
                WHERE session_id = :session_id AND agent_id = :agent_id AND instr(message, :tracking_id)
                ORDER BY message_id DESC LIMIT 1
            )
            """,
            {
                **dict(zip(_MESSAGE_COLUMNS, row, strict=True)),
                "tracking_id": _tracking_id_in_json(tracking_id),
                "now": now(),
            },
        )


def _tracking_id_in_json(tracking_id: str) -> str:
    return f'"tracking_id":{json.dumps(tracking_id, ensure_ascii=False)}'


def redact(
    database: Database,
    session_id: str,
    agent_id: str,
    message_ids: list[int],
    tracking_id: str | None,
    content: str,
    attachments: bytes | None,
    known: str,
    time: str,
) -> str:
    """Replace the content of messages wherever it is stored: log, live view, stash, search index and free pages.

    Role, tracking id and what else a message has stay.

    Args:
        database: Where they are stored.
        session_id: Id of the session.
        agent_id: Id of the agent.
        message_ids: Numbers of the messages.
        tracking_id: What messages have that are copies of these; None if they have none.
        content: JSON of the new content.
        attachments: Bytes in it.
        known: When the agent was updated last, as far as the writer knows.
        time: When it is, if it is.

    Returns:
        When the agent was updated last, if that was not by another writer.
    """
    parameters = {
        "session_id": session_id,
        "agent_id": agent_id,
        "message_ids": json.dumps(message_ids),
        "tracking_id": None if tracking_id is None else _tracking_id_in_json(tracking_id),
        "content": content,
        "attachments": attachments,
        "now": time,
    }
    with naming_too_large(f"Redaction of messages {message_ids} of agent {agent_id} in session {session_id}"):
        _, changed, redacted = database.transaction(
            [
                (forget_stash(_TO_REDACT), parameters),
                (forget_copies(_TO_REDACT), parameters),
                (
                    f"""
                    UPDATE messages
                    SET
                        message = json_set({_WITHOUT_BYTES}, '$.content', json(:content)),
                        redact_message = json_set({_WITHOUT_BYTES}, '$.content', json(:content)),
                        attachments = :attachments,
                        updated_at = :now
                    WHERE {_TO_REDACT}
                    """,  # noqa: S608
                    parameters,
                ),
            ]
        )
    if not redacted:
        raise overtaken(session_id, agent_id)
    # Only here: most programs never redact.
    from .._search.erasing import erase_former_content
    from .._search.sources import MESSAGES, STORAGE

    erase_former_content(database, MESSAGES, STORAGE)
    return time if changed else known


def forget_copies(condition: str) -> str:
    """Return the statement that makes a live view refer to messages again that it has changed copies of.

    Args:
        condition: Condition on `messages`, with the parameters `:session_id`, `:agent_id` and `:now`.
    """
    copies = "json_each(CASE WHEN json_valid(live_view) THEN live_view END) AS item"
    chosen = f"SELECT message_id FROM messages WHERE {condition}"  # noqa: S608
    return f"""
        UPDATE agents
        SET
            live_view = (
                SELECT json_group_array(json(CASE
                    WHEN json_extract(value, '$.message_id') IN ({chosen})
                    THEN json_array(json_extract(value, '$.message_id'), json_extract(value, '$.message_id'))
                    ELSE value
                END))
                FROM {copies}
            ),
            updated_at = :now
        WHERE session_id = :session_id AND agent_id = :agent_id
            AND EXISTS (SELECT 1 FROM {copies} WHERE json_extract(value, '$.message_id') IN ({chosen}))
        """  # noqa: S608


def forget_stash(condition: str) -> str:
    """Return the statement that deletes what a context manager has put away of messages.

    Its keys begin with a message's tracking id, or the id of a tool's call (`Stash.refs_for` in the SDK).

    Args:
        condition: Condition on `messages`, with the parameters `:session_id` and `:agent_id`.
    """
    return f"""
        DELETE FROM storage WHERE rowid IN (
            SELECT storage.rowid
            FROM (
                SELECT
                    'context/' || :session_id || '/scopes/agent/' || :agent_id || '/' || coalesce(
                        json_extract(block.value, '$.toolResult.toolUseId'), json_extract(message, '$.tracking_id')
                    ) || '_' AS prefix
                FROM messages, json_each(CASE WHEN json_valid(message) THEN message END, '$.content') AS block
                WHERE {condition} AND block.type = 'object'
            )
            CROSS JOIN storage ON key >= prefix AND key < substr(prefix, 1, length(prefix) - 1) || '`'
        )
        """  # noqa: S608
