"""Connections to a SQLite file: how each is made, and what its errors mean."""

import sqlite3
from pathlib import Path

from strands.types.exceptions import SessionException

from .._errors import DamagedDatabaseError, DatabaseLockedError, MissingParentError, SessionConflictError, TooLargeError
from .database import BrokenText

# What SQLite says (https://sqlite.org/rescode.html), matched by text because Python 3.10 has no error codes, and the
# error that it becomes. The first that fits counts.
_KINDS: tuple[tuple[str, type[SessionException]], ...] = (
    ("UNIQUE constraint failed", SessionConflictError),
    ("FOREIGN KEY constraint failed", MissingParentError),
    ("session expired", MissingParentError),  # Our own trigger.
    ("locked", DatabaseLockedError),
    ("string or blob too big", TooLargeError),
    ("longer than INT_MAX bytes", TooLargeError),
    ("malformed", DamagedDatabaseError),
    # Mostly of the search index: its tables are broken or gone, or this SQLite lacks FTS5.
    ("fts5: corrupt", DamagedDatabaseError),
    ("fts5: missing", DamagedDatabaseError),
    ("invalid fts5 file format", DamagedDatabaseError),
    ("vtable constructor failed", DamagedDatabaseError),
    ("no such", DamagedDatabaseError),  # … module, table, column
    ("SQL logic error", DamagedDatabaseError),
)

# https://sqlite.org/limits.html#max_length
_LIMIT = "a row may have 1,000,000,000 bytes, unless this SQLite was built with another limit"

# What a person can do about it.
_ADVICE = (
    ("locked", "another connection held the lock for longer than busy_timeout; try again, or raise busy_timeout"),
    ("string or blob too big", _LIMIT),
    ("longer than INT_MAX bytes", _LIMIT),
    ("disk is full", 'free some space and try again; what was stored is unharmed; ":memory:" holds up to 1 GiB'),
    (
        "readonly",
        "if it was not opened with read_only=True, check owner and permissions of the file, of its -wal and -shm, and "
        "of the directory",
    ),
    (
        "unable to open",
        "check that the path is a file that this user can read and write, in such a directory; on a read-only file "
        "system, open it with read_only=True",
    ),
    ("disk I/O error", "the file system failed; check the disk and the system's log"),
    ("not a database", "the file is something else, or encrypted; choose a different path"),
    (
        "disk image is malformed",
        "the file is damaged; restore a backup, or salvage it with the `.recover` command of sqlite3",
    ),
)


def file_uri(path: str, query: str = "mode=rw") -> str:
    """Return the URI of a file. By itself, SQLite does not create one that is missing.

    Args:
        path: Path of the file.
        query: What SQLite is told of it (https://sqlite.org/uri.html#recognized_query_parameters).
    """
    return f"{Path(path).as_uri()}?{query}"


def connect(uri: str, *, timeout: float = 0.0) -> sqlite3.Connection:
    """Return a connection in autocommit mode, for any thread. No other function makes one.

    Args:
        uri: URI of the file.
        timeout: Seconds to wait for a lock.

    Raises:
        sqlite3.Error: If the file cannot be opened.
    """
    return sqlite3.connect(uri, uri=True, timeout=timeout, isolation_level=None, check_same_thread=False)


def is_locked(error: sqlite3.Error) -> bool:
    """Tell whether SQLite was refused a lock."""
    return "locked" in str(error)


def is_undecodable(error: sqlite3.Error) -> bool:
    """Tell whether a text is no UTF-8."""
    return "decode to UTF-8" in str(error)


def text_or_broken(text: bytes) -> str:
    """Return a text, also one that is no UTF-8, for `Connection.text_factory`."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return BrokenText(text)


def is_read_only(error: sqlite3.Error) -> bool:
    """Tell whether SQLite may not write."""
    return "readonly" in str(error)


def session_error(error: Exception, path: str) -> SessionException:
    """Return what is raised in place of an error of SQLite's, with the path of the file and what to do."""
    kind = next((kind for text, kind in _KINDS if text in str(error)), SessionException)
    advice = next((f" ({advice})" for text, advice in _ADVICE if text in str(error)), "")
    return kind(f"{path}: {error}{advice}")
