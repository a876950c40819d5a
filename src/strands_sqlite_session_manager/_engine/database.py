"""The seam between what is stored and where: what every engine offers, and which engine a path means."""

import contextlib
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Literal

from .path import chosen_path, is_cluster

# In the order of the question marks, or by the names after the colons.
Parameters = Sequence[Any] | Mapping[str, Any]
Statement = tuple[str, Parameters]
Synchronous = Literal["NORMAL", "FULL"]

# Seconds that the work of a context waits for locks at the most, however long its database would.
patience: ContextVar[float] = ContextVar("patience", default=math.inf)


@contextlib.contextmanager
def impatient(seconds: float) -> Iterator[None]:
    """Wait only so long for locks: for writes that can be left to the next time, and that nobody is to wait for."""
    token = patience.set(seconds)
    try:
        yield
    finally:
        patience.reset(token)


class BrokenText(str):
    """A text that is no UTF-8, which somebody has put into the database. Its odd bytes are lone surrogates.

    So it can be compared, sorted and shown like any other, as Python does with the names of files. As a parameter it
    is bytes: what looks for it, or stores it, says `CAST(? AS TEXT)`; see `text_marks`.
    """

    def __new__(cls, raw: bytes) -> "BrokenText":
        """Make the text of bytes."""
        return super().__new__(cls, raw.decode(errors="surrogateescape"))

    @property
    def raw(self) -> bytes:
        """The bytes of it."""
        return self.encode(errors="surrogateescape")

    def __reduce__(self) -> tuple[type["BrokenText"], tuple[bytes]]:
        """Return how it is copied."""
        return type(self), (self.raw,)

    def __conform__(self, protocol: object) -> bytes:
        """Return what Python's `sqlite3` binds."""
        return self.raw


def valid_text(text: str) -> str:
    """Return a text, with U+FFFD in the place of what is no UTF-8."""
    return text.raw.decode(errors="replace") if isinstance(text, BrokenText) else text


def text_marks(values: Iterable[object]) -> str:
    """Return the question marks for a row of values, with a CAST for broken texts alone: it keeps indexes from rows."""
    return ", ".join("CAST(? AS TEXT)" if isinstance(value, BrokenText) else "?" for value in values)


class Database(ABC):
    """A database as its holders see it: a few calls, each atomic, from any thread and after any fork.

    All calls raise `SessionException`, or one of its subclasses in `_errors`, with the database's path.

    Attributes:
        path: Where it is, for errors and logs.
        location: What opens it again, elsewhere too. It may hold a password.
        read_only: Whether it was opened so.
        next_sweep: When to look for what has expired, by `time.monotonic()`; see `_expiry`.
    """

    path: str
    location: str
    read_only: bool = False
    next_sweep: float = 0.0

    @abstractmethod
    def query(self, sql: str, parameters: Parameters = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a SELECT. A text that is no UTF-8 comes as a `BrokenText`."""

    @abstractmethod
    def execute(self, sql: str, parameters: Parameters = ()) -> int:
        """Run one statement that writes and return the number of rows that it changed."""

    @abstractmethod
    def transaction(self, statements: Iterable[Statement]) -> list[int]:
        """Run statements that write, all or none, and return the number of rows that each changed."""

    @abstractmethod
    def write_aside(self, statements: Iterable[Statement]) -> None:
        """Run statements that write into the tables that an FTS5 table consists of, all or none.

        A connection keeps in memory what it has read of them, and notices what others have written there, but not what
        it has written itself. So it is another one that no one uses afterwards.
        """

    @abstractmethod
    def truncate_log(self, *, wait: bool = True) -> bool:
        """Let go of what was overwritten or deleted where the engine keeps former versions of its pages.

        Args:
            wait: Whether to wait for others who read from there, for a moment.

        Returns:
            Whether nothing of it is left there. Where others keep it, that is logged, and done as soon as possible.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the database. Closing twice is fine; any other call afterwards raises."""


def open_database(
    db_path: str | os.PathLike[str] | None = None,
    *,
    synchronous: Synchronous = "NORMAL",
    busy_timeout: float | None = None,
    read_only: bool = False,
) -> Database:
    """Open a database with the engine that its path means.

    Args:
        db_path: Path of the file; None means the environment variable `STRANDS_SQLITE_DB_PATH`, else `sessions.db`
            in the working directory; ":memory:" is a private database that lives as long as its holder.
            `rqlite://user:password@host:port,host:port` is a cluster.
        synchronous: "NORMAL" or "FULL" (https://sqlite.org/pragma.html#pragma_synchronous). A cluster's nodes always
            write to their disks first.
        busy_timeout: Seconds to wait for another connection's lock, or for a cluster to have a leader. Defaults to 5
            for a file and to 30 for a cluster.
        read_only: Whether to leave what is stored as it is, the schema version and the journal mode too.

    Raises:
        SessionException: If the database cannot be opened or is not ours to use.
        ValueError: If an argument is out of its range.
    """
    # Engines import this module.
    path = chosen_path(db_path)
    if is_cluster(path):
        from .rqlite import ClusterDatabase

        return ClusterDatabase(path, synchronous=synchronous, busy_timeout=busy_timeout, read_only=read_only)
    from .file import FileDatabase

    return FileDatabase(path, synchronous=synchronous, busy_timeout=busy_timeout, read_only=read_only)


def checked_options(synchronous: Synchronous, busy_timeout: float | None, default_timeout: float) -> float:
    """Return the timeout if it can be one, else the default.

    Raises:
        ValueError: If an option is out of its range.
    """
    if synchronous not in ("NORMAL", "FULL"):
        raise ValueError(f"synchronous={synchronous!r}: must be 'NORMAL' or 'FULL'")
    timeout = default_timeout if busy_timeout is None else busy_timeout
    # SQLite counts milliseconds in a C int.
    if not isinstance(timeout, (int, float)) or not 0 <= timeout < 2**31 / 1000:
        raise ValueError(f"busy_timeout={timeout!r}: must be seconds, from 0 to {2**31 // 1000}")
    return timeout


def open_scratch() -> Database:
    """Open an empty database in memory, without the tables of sessions, for the thread that calls."""
    from .scratch import ScratchDatabase  # The same.

    return ScratchDatabase()
