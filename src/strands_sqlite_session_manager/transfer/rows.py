"""The rows of sessions as a stream: read page by page, written by batches, never over what is there.

A row is a tuple of the columns in the order of `TABLES`. A session's rows come in the order in which they can be
written: the session, each agent followed by its messages, then the multi-agent states.
"""

import contextlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage

from ._arguments import checked_id
from ._codec import encode
from ._database import MissingParentError, SessionConflictError
from ._records import RecordCounts
from .repository import SQLiteSessionRepository, _agent_states, _message_parameters

# Key and content. All tables end with the times, `created_at` and `updated_at`.
TABLES = {
    "sessions": (("session_id",), ("session_type", "metadata")),
    "agents": (("session_id", "agent_id"), ("state", "conversation_manager_state", "internal_state")),
    "messages": (("session_id", "agent_id", "message_id"), ("message", "redact_message", "attachments")),
    "multi_agents": (("session_id", "multi_agent_id"), ("state",)),
}
COLUMNS = {table: (*key, *content, "created_at", "updated_at") for table, (key, content) in TABLES.items()}

_NAMES = {
    "sessions": "Session {}",
    "agents": "Agent {1} in session {0}",
    "messages": "Message {2} of agent {1} in session {0}",
    "multi_agents": "MultiAgent state {1} in session {0}",
}
_PARENTS = {"sessions": None, "agents": "sessions", "messages": "agents", "multi_agents": "sessions"}

# Constants only, hence the `noqa`.
_SELECT = {table: f"SELECT {', '.join(columns)} FROM {table}" for table, columns in COLUMNS.items()}  # noqa: S608
_SELECT_ONE = {
    table: f"{_SELECT[table]} WHERE {' AND '.join(f'{column} = ?' for column in key)}"
    for table, (key, _) in TABLES.items()
}
_INSERT = {
    table: f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608
    for table, columns in COLUMNS.items()
}

# A page is small, because a message may hold documents of some megabytes each.
_PAGE = 20
# What is written at once. A session that is smaller is stored completely or not at all.
_BATCH = 1000
_BATCH_SIZE = 16 * 2**20

Row = tuple[Any, ...]
Record = TypeVar("Record", Session, SessionAgent, SessionMessage)


@dataclass(frozen=True)
class Skipped:
    """Something that was not taken over.

    Attributes:
        what: Path of a file or directory, or id of a session.
        reason: Why, and what to do about it.
    """

    what: str
    reason: str


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes:
        session_ids: Sessions of which something was stored.
        copied: Number of records stored.
        already_there: Number of records that the database held already.
        skipped: What was left out, and why.
    """

    session_ids: list[str]
    copied: RecordCounts
    already_there: RecordCounts
    skipped: list[Skipped]


def session_row(session: Session) -> Row:
    """Return the row of a session. Its metadata is None: Strands' repositories keep none."""
    session_id = checked_id("session_id", session.session_id)
    return (session_id, session.session_type, None, session.created_at, session.updated_at)


def agent_row(session_id: str, agent: SessionAgent) -> Row:
    """Return the row of an agent."""
    key = (checked_id("session_id", session_id), checked_id("agent_id", agent.agent_id))
    return (*key, *_agent_states(agent), agent.created_at, agent.updated_at)


def message_row(session_id: str, agent_id: str, message: SessionMessage) -> Row:
    """Return the row of a message."""
    return _message_parameters(session_id, agent_id, message)


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
            # Before Python 3.11, "Z" is not understood.
            if datetime.fromisoformat(re.sub("Z$", "+00:00", text)).utcoffset() == timedelta(0):
                return text
    raise ValueError(f"{name}={text!r}: must be a time in UTC such as 2026-01-31T12:00:00.123456+00:00")


def session_ids(repository: SQLiteSessionRepository) -> Iterator[str]:
    """Yield the ids of all sessions in their order, page by page."""
    last = ""
    while rows := repository._database.query(
        "SELECT session_id FROM sessions WHERE session_id > ? ORDER BY session_id LIMIT ?", (last, _PAGE)
    ):
        yield from (session_id for (session_id,) in rows)
        last = rows[-1][0]


def agent_ids(repository: SQLiteSessionRepository, session_id: str) -> list[str]:
    """Return the ids of a session's agents in their order."""
    rows = repository._database.query(
        "SELECT agent_id FROM agents WHERE session_id = ? ORDER BY agent_id", (session_id,)
    )
    return [agent_id for (agent_id,) in rows]


def multi_agent_ids(repository: SQLiteSessionRepository, session_id: str) -> list[str]:
    """Return the ids of a session's multi-agent states in their order."""
    rows = repository._database.query(
        "SELECT multi_agent_id FROM multi_agents WHERE session_id = ? ORDER BY multi_agent_id", (session_id,)
    )
    return [multi_agent_id for (multi_agent_id,) in rows]


def read_rows(
    repository: SQLiteSessionRepository, session_id: str, agents: Iterable[str], multi_agents: Iterable[str]
) -> Iterator[tuple[str, Row]]:
    """Yield the rows of a session, each with its table. What is deleted meanwhile is left out.

    Args:
        repository: Where to read.
        session_id: Id of the session.
        agents: Ids of the agents to read.
        multi_agents: Ids of the multi-agent states to read.
    """
    query = repository._database.query
    for row in query(_SELECT_ONE["sessions"], (session_id,)):
        yield "sessions", row
    for agent_id in agents:
        for row in query(_SELECT_ONE["agents"], (session_id, agent_id)):
            yield "agents", row
        last = -1
        while rows := query(
            f"""
            {_SELECT["messages"]} WHERE session_id = ? AND agent_id = ? AND message_id > ?
            ORDER BY message_id LIMIT ?
            """,
            (session_id, agent_id, last, _PAGE),
        ):
            for row in rows:
                yield "messages", row
            last = rows[-1][2]
    for multi_agent_id in multi_agents:
        for row in query(_SELECT_ONE["multi_agents"], (session_id, multi_agent_id)):
            yield "multi_agents", row


class RowWriter:
    """Adds rows to a database, and keeps what is there.

    A row that is there already must be equal, but for its times, which move on while a session is in use.
    """

    def __init__(self, repository: SQLiteSessionRepository):
        """Write nothing yet."""
        self._database = repository._database
        self.copied: Counter[str] = Counter()
        self.already_there: Counter[str] = Counter()
        self._pending: list[tuple[str, Row]] = []
        self._pending_size = 0
        # Tables whose latest row was not there. Then nothing that belongs to it was, and there is nothing to compare.
        self._new: set[str | None] = set()

    def add(self, table: str, row: Row) -> None:
        """Take a row for the next batch, unless it is there already. A session's row flushes what was before it.

        Raises:
            SessionConflictError: If a different row is there.
        """
        if table == "sessions":
            self.flush()
        stored = None
        if _PARENTS[table] not in self._new:
            key = TABLES[table][0]
            stored = next(iter(self._database.query(_SELECT_ONE[table], row[: len(key)])), None)
        if table == "sessions" and row[2] is None:
            # A source without metadata agrees with whatever the target has, such as tags given since an earlier copy.
            row = (*row[:2], "{}" if stored is None else stored[2], *row[3:])
        if stored is None:
            self._new.add(table)
            self._pending.append((table, row))
            self._pending_size += sum(len(value) for value in row if isinstance(value, (str, bytes)))
        elif stored[:-2] == row[:-2]:
            self._new.discard(table)
            self.already_there[table] += 1
        else:
            raise conflict(table, row)

    def flush_if_full(self) -> None:
        """Write the batch if it has become large."""
        if len(self._pending) >= _BATCH or self._pending_size >= _BATCH_SIZE:
            self.flush()

    def flush(self) -> None:
        """Write the batch, completely or not at all.

        Raises:
            SessionException: If somebody else stored one of the rows, or deleted the session, since it was added.
        """
        if not self._pending:
            return
        session_id = self._pending[0][1][0]
        statements = [(_INSERT[table], row) for table, row in self._pending]
        if "sessions" in self._new:
            # A trigger sets the session's `updated_at` to the time of each message that is newer. A session that is
            # new here keeps the source's, so meanwhile it is made greater than any time. Nobody sees that: it is one
            # transaction. In a session that was there, newer messages are activity like any other.
            hold = "UPDATE sessions SET updated_at = char(1114111) || updated_at WHERE session_id = ?"
            release = "UPDATE sessions SET updated_at = substr(updated_at, 2) WHERE session_id = ?"
            start = 1 if self._pending[0][0] == "sessions" else 0
            statements[start:start] = [(hold, (session_id,))]
            statements.append((release, (session_id,)))
        try:
            self._database.transaction(statements)
        except (SessionConflictError, MissingParentError) as error:
            raise type(error)(
                f"Session {session_id}: a record of it came twice, or somebody else stored one or deleted the session "
                f"in the target meanwhile; try again ({error})"
            ) from error
        self.copied.update(table for table, _ in self._pending)
        self.discard()

    def discard(self) -> None:
        """Forget the batch."""
        self._pending = []
        self._pending_size = 0


def named(field: str, expected: object, record: Record) -> Record:
    """Return a record if it has the id by which it was found. A file that was copied by hand may not have."""
    if getattr(record, field) != expected:
        raise SessionException(f"the record of {field} {expected!r} says that it is {getattr(record, field)!r}")
    return record


def counts(records: Counter[str]) -> RecordCounts:
    """Return how many records there are of each table."""
    return RecordCounts(*(records[table] for table in TABLES))


def conflict(table: str, key: Row) -> SessionConflictError:
    """Return the error for a record that the target holds differently."""
    return SessionConflictError(
        f"{_NAMES[table].format(*key)}: the target holds a different one, which is kept; to replace it, delete its "
        "session in the target first"
    )


def missing(table: str, *key: object) -> SessionException:
    """Return the error for a record that the source does not hold."""
    return SessionException(f"{_NAMES[table].format(*key)} does not exist in the source")
