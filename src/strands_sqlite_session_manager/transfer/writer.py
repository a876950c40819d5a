"""Writes rows by batches, and never over what is there."""

from collections import Counter
from typing import Any

from .._engine.database import BrokenText, text_marks
from .._engine.holder import database_of
from .._errors import MissingParentError, SessionConflictError, naming_too_large, record_name, require_stored
from .._expiry import make_way
from ..repository import SQLiteSessionRepository
from .reports import conflict
from .rows import COLUMNS, PAGE, SELECT_ONE, SELECT_PAGE, TABLES, WITHOUT_TIMES, Row

_PARENTS = {
    "sessions": None,
    "agents": "sessions",
    "messages": "agents",
    "multi_agents": "sessions",
    "storage": "sessions",
}


def _insert(table: str, row: Row) -> str:
    return f"INSERT INTO {table} ({', '.join(COLUMNS[table])}) VALUES ({text_marks(row)})"  # noqa: S608 (constants only)


# What is written at once. A session that is smaller is stored completely or not at all.
_BATCH = 1000
_BATCH_SIZE = 16 * 2**20


def _size(row: Row) -> int:
    return sum(len(value) for value in row if isinstance(value, (str, bytes)))


class RowWriter:
    """Adds rows to a database, and keeps what is there.

    A row that is there already must be equal, but for its times, which move on while a session is in use.
    """

    def __init__(self, repository: SQLiteSessionRepository):
        """Write nothing yet."""
        self._database = database_of(repository)
        self.copied: Counter[str] = Counter()
        self.already_there: Counter[str] = Counter()
        self._pending: list[tuple[str, Row]] = []
        self._pending_size = 0
        self._session_id = ""
        # Rows of messages that are there, of an agent, and the numbers that they are all of.
        self._page_of: list[Any] = []
        self._page: dict[int, Row] = {}
        self._page_range = range(0)
        # Tables whose latest row was not there. Then nothing that belongs to it was, and there is nothing to compare.
        self._new: set[str | None] = set()

    def add(self, table: str, row: Row) -> None:
        """Take a row for the next batch, unless it is there already. A session's row flushes what was before it.

        Raises:
            SessionConflictError: If a different row is there.
        """
        if table == "sessions":
            self.flush()
            self._session_id = row[0]
            if not isinstance(row[0], BrokenText):
                make_way(self._database, row[0])
        stored = None
        if _PARENTS[table] not in self._new:
            stored = self._stored(table, row[: len(TABLES[table][0])])
        if table == "sessions" and row[2] is None:
            # A source without metadata agrees with whatever the target has, such as tags given since an earlier copy.
            row = (*row[:2], *(("{}", None) if stored is None else stored[2:4]), *row[4:])
        if stored is None:
            self._new.add(table)
            self._pending.append((table, row))
            self._pending_size += _size(row)
        elif stored[: WITHOUT_TIMES[table]] == row[: WITHOUT_TIMES[table]]:
            self._new.discard(table)
            self.already_there[table] += 1
        else:
            raise conflict(table, row)

    def _stored(self, table: str, key: Row) -> Row | None:
        """Return the row that is there. Messages, which come in their order, are read by pages."""
        if table != "messages":
            return next(iter(self._database.query(SELECT_ONE[table], key)), None)
        *agent, message_id = key
        if agent != self._page_of or message_id not in self._page_range:
            rows = self._database.query(SELECT_PAGE, key)
            self._page_of, self._page = agent, {row[2]: row for row in rows}
            self._page_range = range(message_id, rows[-1][2] + 1 if len(rows) == PAGE else 2**63)
        return self._page.get(message_id)

    def flush_if_full(self) -> None:
        """Write the batch if it has become large."""
        if len(self._pending) >= _BATCH or self._pending_size >= _BATCH_SIZE:
            self.flush()

    def flush(self) -> None:
        """Write the batch, completely or not at all.

        Raises:
            SessionException: If another writer stored one of the rows, or deleted the session, since it was added.
        """
        if not self._pending:
            return
        session_id = self._session_id
        statements = [(_insert(table, row), row) for table, row in self._pending]
        if "sessions" in self._new:
            # A trigger sets the session's `updated_at` to the time of each message that is newer. A session that is
            # new here keeps the source's, so in between it is made greater than any time. No one sees that: it is one
            # transaction. In a session that was there, newer messages are activity like any other.
            hold = "UPDATE sessions SET updated_at = char(1114111) || updated_at WHERE session_id = ?"
            release = "UPDATE sessions SET updated_at = substr(updated_at, 2) WHERE session_id = ?"
            start = 1 if self._pending[0][0] == "sessions" else 0
            statements[start:start] = [(hold, (session_id,))]
            statements.append((release, (session_id,)))
        # A batch is of 16 MiB at the most without its last row, so what is too large is the largest.
        table, row = max(self._pending, key=lambda pending: _size(pending[1]))
        try:
            with naming_too_large(record_name(table, *row)):
                counts = self._database.transaction(statements)
        except (SessionConflictError, MissingParentError) as error:
            raise type(error)(
                f"Session {session_id}: a record of it came twice, or another writer stored one or deleted the session "
                f"in the target; try again ({error})"
            ) from error
        require_stored(counts, f"A record of session {session_id}")
        self.copied.update(table for table, _ in self._pending)
        self.discard()

    def discard(self) -> None:
        """Forget the batch."""
        self._pending = []
        self._pending_size = 0
