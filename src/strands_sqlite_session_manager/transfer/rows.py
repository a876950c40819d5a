"""The rows of sessions: what records become, and a stream of those that are stored, page by page.

A row is a tuple of the columns in the order of `TABLES`. A session's rows come in the order in which they can be
written: the session, each agent followed by its messages, then the multi-agent states, then its keys in `storage`.
"""

import contextlib
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any, TypeVar

from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage

from .._arguments import checked_id, parsed_time
from .._catalog import snapshots
from .._codec import encode, encode_agent
from .._conversation.live_view import parse
from .._engine.database import BrokenText
from .._engine.holder import database_of
from .._engine.schema import SNAPSHOTS_OF_SESSION, STASH_OF_SESSION
from ..repository import SQLiteSessionRepository

# Key and content. All tables end with the times: `expires_at` where they have it, `created_at` and `updated_at`.
TABLES = {
    "sessions": (("session_id",), ("session_type", "metadata", "expires_at")),
    "agents": (
        ("session_id", "agent_id"),
        ("state", "conversation_manager_state", "internal_state", "live_view"),
    ),
    "messages": (("session_id", "agent_id", "message_id"), ("message", "redact_message", "attachments")),
    "multi_agents": (("session_id", "multi_agent_id"), ("state",)),
    "storage": (("key",), ("data", "expires_at")),
}
COLUMNS = {table: (*key, *content, "created_at", "updated_at") for table, (key, content) in TABLES.items()}
# How many of the columns, from the first on, are other than times, which move on.
WITHOUT_TIMES = {table: len(key) + len(content) - ("expires_at" in content) for table, (key, content) in TABLES.items()}

# Constants only, hence the `noqa`. The CAST, here and below, is for keys that are no UTF-8.
_SELECT = {table: f"SELECT {', '.join(columns)} FROM {table}" for table, columns in COLUMNS.items()}  # noqa: S608
_IS = {
    "message_id": "message_id = ?",
    **{column: f"{column} = CAST(? AS TEXT)" for column in ("session_id", "agent_id", "multi_agent_id", "key")},
}
SELECT_ONE = {
    table: f"{_SELECT[table]} WHERE {' AND '.join(_IS[column] for column in key)}" for table, (key, _) in TABLES.items()
}
SELECT_ONE["sessions"] += " AND NOT EXISTS (SELECT 1 FROM expired_sessions WHERE expired_id = session_id)"
# A page is small, because a message may hold documents of some megabytes each.
PAGE = 20
# Messages of an agent from one on.
SELECT_PAGE = f"""
    {_SELECT["messages"]} WHERE {_IS["session_id"]} AND {_IS["agent_id"]} AND message_id >= ?
    ORDER BY message_id LIMIT {PAGE}
    """
Row = tuple[Any, ...]
Record = TypeVar("Record", Session, SessionAgent, SessionMessage)


def session_row(session: Session) -> Row:
    """Return the row of a session. Metadata and expiry are None: Strands' repositories keep none."""
    session_id = checked_id("session_id", session.session_id)
    return (session_id, session.session_type, None, None, session.created_at, session.updated_at)


def agent_row(session_id: str, agent: SessionAgent) -> Row:
    """Return the row of an agent. Its live view is None: Strands' repositories keep none."""
    key = (checked_id("session_id", session_id), checked_id("agent_id", agent.agent_id))
    return (*key, *encode_agent(agent), None, agent.created_at, agent.updated_at)


def multi_agent_row(session_id: str, multi_agent_id: str, state: dict[str, Any], time: datetime) -> Row:
    """Return the row of a multi-agent state. Strands' repositories keep no times of it, hence the time to use."""
    key = (checked_id("session_id", session_id), checked_id("multi_agent_id", multi_agent_id))
    return (*key, encode(state, "state"), time.isoformat(), time.isoformat())


def checked_repository(name: str, value: object) -> None:
    """Raise if something else is passed, such as the path of a database.

    Raises:
        ValueError: If it is no `SQLiteSessionRepository`.
    """
    if not isinstance(value, SQLiteSessionRepository):
        raise ValueError(f"{name}={value!r}: must be a SQLiteSessionRepository, not a manager or a path")


def checked_timestamp(name: str, text: object) -> str:
    """Return a text if it is a time that compares as text with all others in the database.

    Raises:
        ValueError: If it is not ISO 8601 in UTC.
    """
    if isinstance(text, str) and text[10:11] == "T":
        with contextlib.suppress(ValueError):
            if parsed_time(text).utcoffset() == timedelta(0):
                return text
    raise ValueError(f"{name}={text!r}: must be a time in UTC such as 2026-01-31T12:00:00.123456+00:00")


def session_ids(repository: SQLiteSessionRepository) -> Iterator[str]:
    """Yield the ids of all sessions in their order, page by page."""
    last, comparison = "", ">="  # Somebody may have put the empty id there.
    while rows := database_of(repository).query(
        f"""
        SELECT session_id FROM sessions
        WHERE session_id {comparison} CAST(? AS TEXT) AND session_id NOT IN expired_sessions
        ORDER BY session_id LIMIT ?
        """,  # noqa: S608 (constants only)
        (last, PAGE),
    ):
        yield from (session_id for (session_id,) in rows)
        last, comparison = rows[-1][0], ">"


def agent_ids(repository: SQLiteSessionRepository, session_id: str) -> list[str]:
    """Return the ids of a session's agents in their order."""
    rows = database_of(repository).query(
        f"SELECT agent_id FROM agents WHERE {_IS['session_id']} ORDER BY agent_id",  # noqa: S608
        (session_id,),
    )
    return [agent_id for (agent_id,) in rows]


def multi_agent_ids(repository: SQLiteSessionRepository, session_id: str) -> list[str]:
    """Return the ids of a session's multi-agent states in their order."""
    rows = database_of(repository).query(
        f"SELECT multi_agent_id FROM multi_agents WHERE {_IS['session_id']} ORDER BY multi_agent_id",  # noqa: S608
        (session_id,),
    )
    return [multi_agent_id for (multi_agent_id,) in rows]


def live_view(repository: SQLiteSessionRepository, session_id: str, agent_id: str) -> list[Any] | None:
    """Return the items of an agent's live view; None if none is stored."""
    key = (session_id, agent_id)
    rows = database_of(repository).query("SELECT live_view FROM agents WHERE session_id = ? AND agent_id = ?", key)
    return parse(rows[0][0], key) if rows and rows[0][0] is not None else None


def last_id(repository: SQLiteSessionRepository, session_id: str, agent_id: str) -> int:
    """Return the number of an agent's last message; -1 if it has none."""
    ((number,),) = database_of(repository).query(
        "SELECT coalesce(max(message_id), -1) FROM messages WHERE session_id = ? AND agent_id = ?",
        (session_id, agent_id),
    )
    return int(number)


def count_before(repository: SQLiteSessionRepository, session_id: str, agent_id: str, message_id: int) -> int:
    """Return how many messages an agent has before a number."""
    ((count,),) = database_of(repository).query(
        "SELECT count(*) FROM messages WHERE session_id = ? AND agent_id = ? AND message_id < ?",
        (session_id, agent_id, message_id),
    )
    return int(count)


def message_count(repository: SQLiteSessionRepository, session_id: str) -> int:
    """Return how many messages a session has."""
    ((count,),) = database_of(repository).query("SELECT count(*) FROM messages WHERE session_id = ?", (session_id,))
    return int(count)


def has_metadata(repository: SQLiteSessionRepository, session_id: str) -> bool:
    """Tell whether a session has metadata, or expires."""
    return bool(
        database_of(repository).query(
            "SELECT 1 FROM sessions WHERE session_id = ? AND (metadata <> '{}' OR expires_at IS NOT NULL)",
            (session_id,),
        )
    )


def read_rows(
    repository: SQLiteSessionRepository, session_id: str, agents: Iterable[str], multi_agents: Iterable[str]
) -> Iterator[tuple[str, Row]]:
    """Yield the rows of a session, each with its table. What is deleted at the same time is left out.

    Args:
        repository: Where to read.
        session_id: Id of the session.
        agents: Ids of the agents to read.
        multi_agents: Ids of the multi-agent states to read.
    """
    query = database_of(repository).query
    for row in query(SELECT_ONE["sessions"], (session_id,)):
        yield "sessions", row
    for agent_id in agents:
        for row in query(SELECT_ONE["agents"], (session_id, agent_id)):
            yield "agents", row
        last = -1
        while rows := query(
            f"""
            {_SELECT["messages"]} WHERE {_IS["session_id"]} AND {_IS["agent_id"]} AND message_id > ?
            ORDER BY message_id LIMIT ?
            """,
            (session_id, agent_id, last, PAGE),
        ):
            for row in rows:
                yield "messages", row
            last = rows[-1][2]
    for multi_agent_id in multi_agents:
        for row in query(SELECT_ONE["multi_agents"], (session_id, multi_agent_id)):
            yield "multi_agents", row
    # No key has an id in it that is no UTF-8.
    for is_of_session in () if isinstance(session_id, BrokenText) else (SNAPSHOTS_OF_SESSION, STASH_OF_SESSION):
        # One at a time: a snapshot may be large.
        keys = f"""
            SELECT key FROM sessions CROSS JOIN storage ON {is_of_session}
            WHERE session_id = ? AND NOT EXISTS (SELECT 1 FROM expired_keys WHERE expired_key = key)
            ORDER BY key
            """  # noqa: S608
        for key in query(keys, (session_id,)):
            for row in query(SELECT_ONE["storage"], key):
                yield "storage", row


def storage_prefixes(session_id: str) -> tuple[str, str]:
    """Return what the keys in `storage` begin with that belong to a session: its snapshots, and its stash."""
    return snapshots.prefix_of(session_id), f"context/{session_id}/scopes/"


def exists(repository: SQLiteSessionRepository, session_id: str) -> bool:
    """Tell whether there is a session, of messages or of snapshots."""
    return bool(database_of(repository).query(SELECT_ONE["sessions"], (session_id,)))


def named(field: str, expected: object, record: Record) -> Record:
    """Return a record if it has the id by which it was found. A file that was copied by hand may not have."""
    if getattr(record, field) != expected:
        raise SessionException(f"the record of {field} {expected!r} says that it is {getattr(record, field)!r}")
    return record
