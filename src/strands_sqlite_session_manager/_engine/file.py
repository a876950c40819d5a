"""Connections to a session database: opening, sharing, transactions and errors.

Every holder of a `Database` on the same file and settings shares one pool of connections. A connection belongs to a
call only while the call runs and then goes back, so there are as many connections as calls that run at once, and a few
idle ones, however many managers and threads come and go. (One connection a thread, the usual way, would open and close
one for every `agent("…")`, because Strands runs each in a fresh thread.)
"""

import contextlib
import logging
import os
import sqlite3
import threading
import time
import uuid
import warnings
import weakref
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from strands.types.exceptions import SessionException

from . import _schema
from ._fork import ForkGate
from ._path import IN_MEMORY, chosen_path, private_file
from ._write_lock import WriteLock

logger = logging.getLogger(__name__)

# Seconds for which SQLite itself waits for a lock. Then it is asked again, until `busy_timeout` is over: it sleeps
# longer and longer between its attempts, 0.1 s in the end, and misses the moments between the short transactions of
# another process. Measured, 8 processes with 4 threads each that append: the longest waits 0.1-0.2 s, where it waits
# 1.1 s otherwise; with FULL 0.3 s, not 2.6 s.
LOCK_WAIT = 0.018

# Seconds for which a file is taken to be at its path still: it may be deleted right after any look, and a look costs a
# tenth of an append.
SEEN = 0.01

# Connections that a pool keeps open for the next call. A call for which there is none opens another.
MAX_IDLE = 16

Parameters = Sequence[Any]
Synchronous = Literal["NORMAL", "FULL"]
_Result = TypeVar("_Result")

# What SQLite says (https://sqlite.org/rescode.html), matched by text because Python 3.10 has no error codes, and
# what a person can do about it.
_ADVICE = (
    ("locked", "another connection held the lock for longer than busy_timeout; try again, or raise busy_timeout"),
    ("disk is full", 'free some space and try again; what was stored is unharmed; ":memory:" holds up to 1 GiB'),
    (
        "readonly",
        "if it was not opened with read_only=True, check owner and permissions of the file, of its -wal and -shm, and "
        "of the directory",
    ),
    ("unable to open", "check that the path is a file that this user can read and write, in such a directory"),
    ("disk I/O error", "the file system failed; check the disk and the system's log"),
    ("not a database", "the file is something else, or encrypted; choose a different path"),
    (
        "disk image is malformed",
        "the file is damaged; restore a backup, or salvage it with the `.recover` command of sqlite3",
    ),
)


class SessionConflictError(SessionException):
    """Somebody else stored a record with this id first, and theirs is kept.

    To go on from it, build the agent anew, with a new session manager.
    """


class MissingParentError(SessionException):
    """The session or agent that a new record belongs to does not exist."""


class Database:
    """A database as its holders see it: a few calls, each atomic, from any thread and after any fork.

    Args:
        db_path: Path of the file; None means the environment variable `STRANDS_SQLITE_DB_PATH`, else `sessions.db`
            in the working directory; ":memory:" is a private database that lives as long as this object.
        synchronous: "NORMAL" or "FULL" (https://sqlite.org/pragma.html#pragma_synchronous).
        busy_timeout: Seconds to wait for another connection's lock.
        read_only: Whether to leave what is stored as it is, the schema version and the journal mode too.

    Raises:
        SessionException: If the database cannot be opened or is not ours to use.
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        db_path: str | os.PathLike[str] | None,
        *,
        synchronous: Synchronous,
        busy_timeout: float,
        read_only: bool = False,
    ):
        """Open the database, creating it if it does not exist."""
        path = chosen_path(db_path)
        if synchronous not in ("NORMAL", "FULL"):
            raise ValueError(f"synchronous={synchronous!r}: must be 'NORMAL' or 'FULL'")
        # SQLite counts milliseconds in a C int.
        if not isinstance(busy_timeout, (int, float)) or not 0 <= busy_timeout < 2**31 / 1000:
            raise ValueError(f"busy_timeout={busy_timeout!r}: must be seconds, from 0 to {2**31 // 1000}")
        self._pool: _Pool | None = _pool_for(path, synchronous, busy_timeout, read_only)
        self.path = self._pool.path
        self._pool.run(_nothing)  # Opens a connection if there is none, so that trouble shows here.

    def query(self, sql: str, parameters: Parameters = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a SELECT."""
        return self._live_pool().run(_query, sql, parameters)

    def execute(self, sql: str, parameters: Parameters = ()) -> int:
        """Run one statement that writes and return the number of rows that it changed."""
        return self._live_pool().run_exclusively(_execute, sql, parameters)

    def transaction(self, statements: Iterable[tuple[str, Parameters]]) -> list[int]:
        """Run statements that write, all or none, and return the number of rows that each changed."""
        return self._live_pool().run_exclusively(_transaction, list(statements))

    def truncate_log(self, *, wait: bool = True) -> bool:
        """Copy the write-ahead log into the file and empty it, so that nothing overwritten is left in either.

        `secure_delete` overwrites what is deleted in the newest version of its pages; the log holds older versions too.

        Args:
            wait: Whether to wait for others who use the file, up to the busy timeout; if they keep it from being
                emptied for longer, that is logged.

        Returns:
            Whether it was emptied.
        """
        pool = self._live_pool()
        deadline = time.monotonic() + pool.busy_timeout
        while True:
            try:
                if pool.run_exclusively(_truncate_log, pool.lock_wait):
                    return True
            except SessionException as error:
                # What was to be erased is committed all the same, so this is no failure of the call.
                if "locked" not in str(error.__cause__):
                    logger.warning("path=<%s>, error=<%s> | the write-ahead log cannot be emptied", self.path, error)
                    return False
            if not wait:
                return False
            # Waiting out here and not in SQLite, which would keep all writers waiting too.
            if time.monotonic() >= deadline:
                logger.warning(
                    "path=<%s> | somebody else is using the file, so deleted or redacted text stays in the write-ahead "
                    "log until the next deletion or redaction, or until the last connection closes",
                    self.path,
                )
                return False
            time.sleep(0.005)

    def backup_to(self, path: str, progress: Callable[[int, int], object] | None = None) -> None:
        """Copy all of this moment into an empty file, while others write. A fork waits until it is done."""
        self._live_pool().run(_backup_to, path, progress)

    def copy_into(self, other: "Database") -> None:
        """Put all of this database in the place of all of another, in one transaction that others see whole."""
        self._live_pool().run(_copy_into, other._live_pool())

    def close(self) -> None:
        """Let go of the connections; the last holder's closes them. Closing twice is fine."""
        self._pool = None

    def _live_pool(self) -> "_Pool":
        pool = self._pool
        if pool is None:
            raise SessionException(f"{self.path}: used after it was closed")
        return pool


def _query(connection: sqlite3.Connection, sql: str, parameters: Parameters) -> list[tuple[Any, ...]]:
    return connection.execute(sql, parameters).fetchall()


def _execute(connection: sqlite3.Connection, sql: str, parameters: Parameters) -> int:
    # One statement outside a transaction is a transaction of its own, and SQLite takes the write lock before it
    # reads anything for it; a BEGIN IMMEDIATE around it would only add two statements.
    return connection.execute(sql, parameters).rowcount


def _transaction(connection: sqlite3.Connection, statements: list[tuple[str, Parameters]]) -> list[int]:
    # Whatever is raised before the COMMIT, `_Pool` rolls back, at the latest by closing the connection.
    connection.execute("BEGIN IMMEDIATE")
    changes = [connection.execute(sql, parameters).rowcount for sql, parameters in statements]
    connection.execute("COMMIT")
    return changes


def _truncate_log(connection: sqlite3.Connection, lock_wait: int) -> bool:
    connection.execute("PRAGMA busy_timeout = 0")
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    connection.execute(f"PRAGMA busy_timeout = {lock_wait}")
    return not busy


def _backup_to(connection: sqlite3.Connection, path: str, progress: Callable[[int, int], object] | None) -> None:
    # A transaction that reads around all steps: the copy is of one moment, and no write makes it start anew, as it does
    # between the steps otherwise. Unlike `VACUUM INTO`, which reads so too, it copies pages as they are and can say how
    # far it is. Writers go on, into a log that grows meanwhile; without a write-ahead log, they wait.
    connection.execute("BEGIN")
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    uri = f"{Path(path).as_uri()}?mode=rw"
    with contextlib.closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as copy:
        # The caller throws a half-made file away, and makes a whole one durable.
        copy.execute("PRAGMA journal_mode = OFF")
        copy.execute("PRAGMA synchronous = OFF")
        connection.backup(
            copy, pages=1024, progress=progress and (lambda _, remaining, total: progress(total - remaining, total))
        )
        # The first page, copied too, asks for a write-ahead log.
        copy.execute("PRAGMA journal_mode = DELETE")
    connection.execute("COMMIT")


def _copy_into(source: sqlite3.Connection, pool: "_Pool") -> None:
    pool.run_exclusively(_replace_with, source)
    # Not in the same operation: if a lock made it be repeated, what others have stored meanwhile would be replaced too.
    pool.run_exclusively(_schema.migrate, pool.path)


def _replace_with(connection: sqlite3.Connection, source: sqlite3.Connection) -> None:
    def fail_if_busy(status: int, remaining: int, total: int) -> None:
        if status in (5, 6):  # SQLITE_BUSY and SQLITE_LOCKED, after the busy timeout. Python would try for ever.
            raise sqlite3.OperationalError("database is locked")

    source.backup(connection, progress=fail_if_busy)


def _nothing(connection: sqlite3.Connection) -> None:
    pass


class _Pool:
    """The connections to one database with one set of settings. They are closed when the pool is collected."""

    def __init__(
        self,
        path: str,
        synchronous: Synchronous,
        busy_timeout: float,
        read_only: bool,
        file_id: tuple[int, int] | None = None,
    ):
        self.path = path
        self._file_id = file_id
        self._seen_until = 0.0
        self._max_idle = MAX_IDLE
        self._read_only = read_only
        self._synchronous = synchronous
        self.busy_timeout = busy_timeout
        # Milliseconds, as SQLite counts them.
        self.lock_wait = int(1000 * min(LOCK_WAIT, busy_timeout))
        # `append` and `pop` of a list are atomic, so no lock is needed around them.
        self._idle: list[sqlite3.Connection] = []
        self._anchors: list[sqlite3.Connection] = []
        self._write_lock = WriteLock()
        if path == IN_MEMORY:
            # A name of its own in SQLite's memdb VFS, which, unlike its shared cache, honours the busy timeout.
            self._uri = f"file:/{uuid.uuid4().hex}?vfs=memdb"
        else:
            # SQLite must not create the file: see `_check_file`.
            self._uri = f"{Path(path).as_uri()}?mode=rw"
        token, leave = object(), _fork_gate.leave
        try:
            _fork_gate.enter(token)
            _all_pools.add(self)
            if path == IN_MEMORY:
                # The database lives as long as a connection to it does, and one that fails is closed.
                self._anchors.append(self._open())
        finally:
            leave(token, None)
        weakref.finalize(self, _abandon, self._idle, self._anchors)

    def run(self, operation: Callable[..., _Result], *arguments: Any) -> _Result:
        """Run an operation on a connection of its own."""
        connection = None
        token, leave = object(), _fork_gate.leave
        try:
            _fork_gate.enter(token)
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._open()
            result = self._run_when_unlocked(operation, connection, arguments)
            done, connection = connection, None  # No longer this call's to close, wherever a signal interrupts it.
            if len(self._idle) < self._max_idle:
                self._idle.append(done)
            else:
                done.close()
            return result
        except BaseException as error:
            # Closing rolls back. A connection that failed, on a full disk say, is replaced rather than trusted again.
            if connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    connection.close()
            if isinstance(error, sqlite3.Error):
                raise _explained(error, self.path) from error
            raise
        finally:
            leave(token, None)

    def _run_when_unlocked(
        self, operation: Callable[..., _Result], connection: sqlite3.Connection, arguments: tuple[Any, ...]
    ) -> _Result:
        """Run an operation, and again while it is refused a lock. It must have stored nothing then."""
        deadline = None
        while True:
            try:
                return operation(connection, *arguments)
            except sqlite3.OperationalError as error:
                deadline = deadline or time.monotonic() + self.busy_timeout
                if "locked" not in str(error) or time.monotonic() >= deadline:
                    raise
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def run_exclusively(self, operation: Callable[..., _Result], *arguments: Any) -> _Result:
        """Run an operation that writes, while no other thread that shares this pool does."""
        release = self._write_lock.release
        try:
            if not self._write_lock.acquire(self.busy_timeout):
                error = sqlite3.OperationalError("database is locked")
                raise _explained(error, self.path) from error
            if time.monotonic() >= self._seen_until:
                self._check_file()
            return self.run(operation, *arguments)
        finally:
            try:  # noqa: SIM105 (see `WriteLock.acquire`)
                release()
            except RuntimeError:
                pass

    def _check_file(self) -> None:
        """Make sure that the file of this pool is still at its path, where others look for it.

        SQLite itself asks this for its rollback journal alone (https://sqlite.org/rescode.html#readonly_dbmoved).
        """
        if self._file_id is None:
            return
        try:
            status = os.stat(self.path)  # noqa: PTH116 (`Path.stat` takes longer)
            is_there = (status.st_dev, status.st_ino) == self._file_id
        except (FileNotFoundError, NotADirectoryError):
            is_there = False
        except OSError:
            return  # Unreachable by its path, but open.
        if not is_there:
            raise SessionException(
                f"{self.path}: the file was deleted, moved or replaced while it was in use, so nothing was read or "
                "stored; put it back, or go on with a new session manager and agent"
            )
        self._seen_until = time.monotonic() + SEEN

    def before_fork(self) -> None:
        """Close the connections to a file; after the fork, parent and child each open their own."""
        while self.path != IN_MEMORY and self._idle:
            self._idle.pop().close()

    def after_fork_in_child(self) -> None:
        """Replace the lock, which a thread that the child does not have may have held."""
        self._write_lock = WriteLock()

    def _open(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(
                self._uri_to_read() if self._read_only else self._uri,
                uri=True,
                timeout=self.busy_timeout,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                self._check_file()  # This may be another one, to be put away again with what is written into it.
                self._configure(connection)
                connection.execute(f"PRAGMA busy_timeout = {self.lock_wait}")
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            raise _explained(error, self.path) from error
        return connection

    def _uri_to_read(self) -> str:
        """Return a URI that leaves the file and what is beside it as they are."""
        file = Path(self.path)
        if Path(f"{self.path}-wal").exists():
            return f"{file.as_uri()}?mode=ro"  # The last connection that may write empties the log.
        if not os.access(file.parent, os.W_OK):
            # Even to read, SQLite makes a `-wal` and a `-shm`, unless it may take it that nobody writes. That holds for
            # this call: to a later one, the connection would show the file as it was.
            self._max_idle = 0
            return f"{file.as_uri()}?immutable=1"
        return self._uri  # With `mode=ro`, these two would stay behind.

    def _configure(self, connection: sqlite3.Connection) -> None:
        # Before anything that would change a database that is not ours.
        version = _schema.check(connection, self.path)
        if self._read_only:
            if version == 0:
                raise SessionException(f"{self.path}: an empty file, without the tables of sessions")
            connection.execute("PRAGMA query_only = ON")
            return
        if self.path != IN_MEMORY:
            self._use_write_ahead_log(connection)
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        # Overwrite with zeros what is deleted or redacted. Measured: no slower than leaving it there.
        connection.execute("PRAGMA secure_delete = ON")
        # What a burst of writes beside a long read added to the log is given back to the file system afterwards.
        connection.execute("PRAGMA journal_size_limit = 16777216")
        _schema.migrate(connection, self.path)

    def _use_write_ahead_log(self, connection: sqlite3.Connection) -> None:
        """Set journal mode WAL, which lasts, unless the file has it already."""
        if connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
            return
        deadline = time.monotonic() + self.busy_timeout
        while True:
            try:
                mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
                break
            except sqlite3.OperationalError as error:
                if "readonly" in str(error):
                    return  # It can still be read; what writes to it raises.
                # Two connections that switch at once would deadlock, so SQLite does not wait here but fails.
                if "locked" not in str(error) or time.monotonic() >= deadline:
                    raise
                time.sleep(0.001)
        if mode != "wal":
            warnings.warn(
                f"{self.path}: this file system does not support SQLite's write-ahead log, so readers and writers "
                f"wait for each other; a local disk does",
                RuntimeWarning,
                stacklevel=2,
            )


_lock = threading.RLock()
_shared_pools: "weakref.WeakValueDictionary[tuple[Any, ...], _Pool]" = weakref.WeakValueDictionary()
_all_pools: "weakref.WeakSet[_Pool]" = weakref.WeakSet()


# Connections of pools that were collected, to be closed; and those that a child has from a fork at that moment, which
# it can neither use nor close.
_orphans: list[sqlite3.Connection] = []
_parked: list[sqlite3.Connection] = []


def _before_fork() -> None:
    for pool in list(_all_pools):
        pool.before_fork()
    _close_orphans()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()
    _parked.extend(_orphans)
    _orphans.clear()
    for pool in list(_all_pools):
        pool.after_fork_in_child()


def is_in_use(path: str) -> bool:
    """Tell whether this process or another one has a file open as a session database.

    Where the file system cannot do a write-ahead log, others are noticed only while they read or write.

    Args:
        path: Path of the file, with symbolic links resolved.

    Raises:
        SessionException: If it cannot be opened.
    """
    token, leave = object(), _fork_gate.leave
    try:
        _fork_gate.enter(token)
        if any(pool.path == path for pool in list(_all_pools)):
            return True
        uri = f"{Path(path).as_uri()}?mode=rw"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None)) as connection:
            # Every connection to a file with a write-ahead log holds a shared lock as long as it lives.
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("BEGIN EXCLUSIVE")
        return False
    except sqlite3.Error as error:
        if "locked" in str(error):
            return True
        raise _explained(error, path) from error
    finally:
        leave(token, None)


def _pool_for(path: str, synchronous: Synchronous, busy_timeout: float, read_only: bool) -> _Pool:
    """Return the process's pool for a path and settings."""
    if path == IN_MEMORY:
        return _Pool(path, synchronous, busy_timeout, read_only)
    with _lock:
        path, file_id = private_file(path, create=not read_only)
        # The file's id is part of the key, so that a file put in another's place gets connections of its own.
        key = (path, file_id, synchronous, busy_timeout, read_only)
        pool = _shared_pools.get(key)
        if pool is None:
            pool = _shared_pools[key] = _Pool(path, synchronous, busy_timeout, read_only, file_id)
        return pool


def _abandon(*lists: list[sqlite3.Connection]) -> None:
    """Close the connections of a pool that was collected, or leave them to the fork that is under way.

    The garbage collector strikes anywhere, perhaps under a lock that a hook of this very fork is waiting for. So
    nothing here may wait.
    """
    for connections in lists:
        # Taken out one by one, because a thread that outlives the interpreter's exit may still take one.
        with contextlib.suppress(IndexError):
            while True:
                _orphans.append(connections.pop())
    _close_orphans()


def _close_orphans() -> None:
    token, leave = object(), _fork_gate.leave
    try:
        if _fork_gate.try_to_enter(token):
            with contextlib.suppress(IndexError):
                while True:
                    _orphans.pop().close()
    finally:
        leave(token, None)


# Entered for whatever calls SQLite or changes the set of pools.
_fork_gate = ForkGate(_before_fork, _close_orphans, _after_fork_in_child)


def _explained(error: sqlite3.Error, path: str) -> SessionException:
    if "UNIQUE constraint failed" in str(error):
        return SessionConflictError(f"{path}: {error}")
    if "FOREIGN KEY constraint failed" in str(error):
        return MissingParentError(f"{path}: {error}")
    advice = next((advice for fragment, advice in _ADVICE if fragment in str(error)), None)
    return SessionException(f"{path}: {error}" + (f" ({advice})" if advice else ""))
