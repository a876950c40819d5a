"""Pools of connections to a file.

Every holder of the same file with the same settings shares one pool. A connection belongs to a call only while the call
runs and then goes back, so there are as many connections as calls that run at once, and a few idle ones, however many
managers and threads come and go. (One connection a thread, the usual way, would open and close one for every
`agent("…")`, because Strands runs each in a fresh thread.)
"""

import contextlib
import logging
import math
import os
import sqlite3
import threading
import time
import uuid
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from strands.types.exceptions import SessionException

from .._errors import DatabaseLockedError
from . import schema
from .connection import connect, file_uri, is_locked, is_read_only, session_error
from .database import Synchronous, patience
from .fork import ForkGate, Owner
from .log import WriteAheadLog
from .path import IN_MEMORY, private_file

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

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

# Pools that are kept when nobody holds them any more, with a connection each.
MAX_WARM = 4


class Pool:
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
        self.log = WriteAheadLog(path)
        self._file_id = file_id
        self._seen_until = math.inf if file_id is None else 0.0
        self._max_idle = MAX_IDLE
        self._read_only = read_only
        # Ids of the objects that hold this pool.
        self.holders: set[int] = set()
        self._synchronous = synchronous
        self.busy_timeout = busy_timeout
        # Milliseconds, as SQLite counts them.
        self.lock_wait = int(1000 * min(LOCK_WAIT, busy_timeout))
        # `append` and `pop` of a list are atomic, so no lock is needed around them.
        self._idle: list[sqlite3.Connection] = []
        self._anchors: list[sqlite3.Connection] = []
        # SQLite's busy handler does not queue: 64 threads that append at once, with no lock before SQLite's own, wait
        # up to 840 ms with `synchronous` NORMAL and 2,900 ms with FULL; with this one 153 and 137 ms (2 processors). A
        # lock that queues, tried too, halves the longest wait again, but an append takes 1.2 to 1.6 times as long.
        self._write_lock = threading.RLock()
        if path == IN_MEMORY:
            # A name of its own in SQLite's memdb VFS, which, unlike its shared cache, honours the busy timeout.
            self._uri = f"file:/{uuid.uuid4().hex}?vfs=memdb"
        else:
            # SQLite must not create the file: see `_check_file`.
            self._uri = file_uri(path)
        self._owner = Owner(file_id or self._uri, path)
        with outside_forks():
            _all_pools.add(self)
            if path == IN_MEMORY:
                # The database lives as long as a connection to it does, and one that fails is closed.
                self._anchors.append(self.open())
        weakref.finalize(self, _abandon, self._idle, self._anchors)

    def run(self, operation: Callable[..., _Result], *arguments: Any) -> _Result:
        """Run an operation on a connection of its own."""
        connection = None
        token, leave = object(), _fork_gate.leave
        try:
            _fork_gate.enter(token, self._owner)
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self.open()
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
            # OverflowError: what does not even fit into SQLite's count of bytes.
            if isinstance(error, (sqlite3.Error, OverflowError)):
                raise session_error(error, self.path) from error
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
                deadline = deadline or time.monotonic() + min(self.busy_timeout, patience.get())
                if not is_locked(error) or time.monotonic() >= deadline:
                    raise
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def run_exclusively(self, operation: Callable[..., _Result], *arguments: Any) -> _Result:
        """Run an operation that writes, while no other thread that shares this pool does."""
        return self._run_exclusively(min(self.busy_timeout, patience.get()), operation, arguments)

    def _run_exclusively(
        self, timeout: float, operation: Callable[..., _Result], arguments: tuple[Any, ...]
    ) -> _Result:
        # A signal can strike between the taking of a lock and a `try` below it, and wherever a Python function starts.
        # So the lock is taken in the `try`, and a reentrant one refuses to be released by a thread that lacks it.
        release = self._write_lock.release
        try:
            # With a timeout it takes three times as long, also where nobody holds it.
            if not (self._write_lock.acquire(blocking=False) or self._write_lock.acquire(timeout=timeout)):
                error = sqlite3.OperationalError("database is locked")
                raise session_error(error, self.path) from error
            now = time.monotonic()
            if now >= self._seen_until:
                self._check_file()
                self.log.look()
            result = self.run(operation, *arguments)
            if now >= self.log.next_attempt:
                # What was to be stored is, so a failure of this is none of the call's.
                with contextlib.suppress(SessionException):
                    self.run(self.log.empty, self.lock_wait)
            return result
        finally:
            try:  # noqa: SIM105 (suppress() is Python)
                release()
            except RuntimeError:
                pass

    def empty_log(self, wait: float) -> bool:
        """Empty the write-ahead log, or owe it.

        Args:
            wait: Seconds to wait for those who read from it; not again while it is owed because of them.

        Returns:
            Whether it is empty.
        """
        was_owed = self.log.is_owed
        self.log.owe()
        deadline = time.monotonic() + (0 if was_owed else wait)
        while True:
            try:
                if self._run_exclusively(max(0, deadline - time.monotonic()), self.log.empty, (self.lock_wait,)):
                    return True
            except DatabaseLockedError:
                pass
            except SessionException as error:
                # What was to be erased is committed all the same, so this is no failure of the call.
                logger.warning("path=<%s>, error=<%s> | the write-ahead log cannot be emptied", self.path, error)
                break
            # Waiting out here and not in SQLite, which would keep all writers waiting too.
            if time.monotonic() >= deadline:
                if not was_owed:
                    logger.warning(
                        "path=<%s> | another connection reads an older state of the file, so deleted or redacted text "
                        "stays in its write-ahead log for now; the first write that finds it free empties it, or the "
                        "last connection that closes",
                        self.path,
                    )
                break
            time.sleep(0.005)
        return False

    def _check_file(self) -> None:
        """Make sure that the file of this pool is still at its path, where others look for it.

        SQLite itself asks this for its rollback journal alone (https://sqlite.org/rescode.html#readonly_dbmoved).
        """
        if self._file_id is None:  # In memory.
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

    def abandon_surplus(self) -> None:
        """Let go of idle connections but one."""
        with contextlib.suppress(IndexError):
            while len(self._idle) > 1:
                _orphans.append(self._idle.pop())
        _close_orphans()

    def before_fork(self) -> None:
        """Close the connections to a file; after the fork, parent and child each open their own."""
        while self.path != IN_MEMORY and self._idle:
            self._idle.pop().close()

    def after_fork_in_child(self) -> None:
        """Replace the lock, which a thread that the child does not have may have held."""
        self._write_lock = threading.RLock()
        # Those to a database in memory, which were not closed. The next call opens one, if that is allowed.
        _parked.extend(self._idle)
        self._idle.clear()

    def open(self) -> sqlite3.Connection:
        """Return a new connection, for the caller to close."""
        uri = self._uri_to_read() if self._read_only else self._uri
        _fork_gate.require(self._owner, uri)
        try:
            connection = connect(uri, timeout=self.lock_wait / 1000)
            try:
                self._check_file()  # This may be another one, to be put away again with what is written into it.
                # Who is refused a lock looks again, and mostly finds that another has made the tables meanwhile.
                self._run_when_unlocked(self._configure, connection, ())
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            raise session_error(error, self.path) from error
        return connection

    def _uri_to_read(self) -> str:
        """Return a URI that leaves the file and what is beside it as they are."""
        if Path(f"{self.path}-wal").exists():
            return file_uri(self.path, "mode=ro")  # The last connection that may write empties the log.
        if not os.access(Path(self.path).parent, os.W_OK):
            # Even to read, SQLite makes a `-wal` and a `-shm`, unless it may assume that nothing writes. That holds for
            # this call: to a later one, the connection would show the file as it was.
            self._max_idle = 0
            return file_uri(self.path, "immutable=1")
        return self._uri  # With `mode=ro`, these two would stay behind.

    def _configure(self, connection: sqlite3.Connection) -> None:
        # What somebody has put into the schema may not call functions that do more than compute.
        connection.execute("PRAGMA trusted_schema = OFF")
        # Before anything that would change a database that is not ours.
        version = schema.check(connection, self.path)
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
        schema.migrate(connection, self.path)

    def _use_write_ahead_log(self, connection: sqlite3.Connection) -> None:
        """Set journal mode WAL, which lasts, unless the file has it already."""
        if connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal":
            return
        try:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if is_read_only(error):
                return  # It can still be read; what writes to it raises.
            # Two connections that switch at once would deadlock, so SQLite does not wait here but fails.
            if is_locked(error):
                time.sleep(0.001)
            raise
        if mode != "wal":
            warnings.warn(
                f"{self.path}: this file system does not support SQLite's write-ahead log, so readers and writers "
                f"wait for each other; a local disk does",
                RuntimeWarning,
                stacklevel=2,
            )


_lock = threading.RLock()
_shared_pools: weakref.WeakValueDictionary[tuple[Any, ...], Pool] = weakref.WeakValueDictionary()
_all_pools: weakref.WeakSet[Pool] = weakref.WeakSet()

# Pools that stay open although nobody holds them, the last one to be let go at the end. By id, because a dict's own
# methods are atomic.
_warm: dict[int, Pool] = {}


# Connections of pools that were collected, to be closed; and those that a child has from a fork at that moment, which
# it can neither use nor close.
_orphans: list[sqlite3.Connection] = []
_parked: list[sqlite3.Connection] = []


def _before_fork() -> None:
    for pool in _pools():
        pool.before_fork()
    _close_orphans()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()
    _parked.extend(_orphans)
    _orphans.clear()
    for pool in _pools():
        pool.after_fork_in_child()


def pool_for(path: str, synchronous: Synchronous, busy_timeout: float, read_only: bool) -> Pool:
    """Return the process's pool for a path and settings."""
    if path == IN_MEMORY:
        return Pool(path, synchronous, busy_timeout, read_only)
    with _lock:
        path, file_id = private_file(path, create=not read_only)
        # The file's id is part of the key, so that a file put in another's place gets connections of its own.
        key = (path, file_id, synchronous, busy_timeout, read_only)
        pool = _shared_pools.get(key)
        if pool is None:
            pool = _shared_pools[key] = Pool(path, synchronous, busy_timeout, read_only, file_id)
        return pool


def keep_warm(pool: Pool) -> None:
    """Keep the pool of a file open for the next holder, because the last one was collected and not closed.

    A web application that makes a manager for each request would otherwise open the file each time, and close its last
    connection, which copies the log into the file. Like `_abandon`, this is called by the garbage collector.
    """
    if pool.path == IN_MEMORY or pool.holders:
        return
    pool.abandon_surplus()
    _warm.pop(id(pool), None)
    _warm[id(pool)] = pool
    with contextlib.suppress(RuntimeError, StopIteration):  # Another thread does the same.
        while len(_warm) > MAX_WARM:
            _warm.pop(next(iter(_warm)), None)


def let_cool(pool: Pool) -> None:
    """Do not keep a pool open any longer than it has holders."""
    _warm.pop(id(pool), None)


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
    with outside_forks(wait=False) as is_outside, contextlib.suppress(IndexError):
        while is_outside:
            _orphans.pop().close()


# Entered for whatever calls SQLite or changes the set of pools.
_fork_gate = ForkGate(_before_fork, _close_orphans, _after_fork_in_child)
outside_forks = _fork_gate.entered


def is_held(path: str) -> bool:
    """Tell whether anything in this process holds a file open; what nothing holds is closed.

    To be called outside forks.
    """
    for key in [key for key, pool in list(_warm.items()) if pool.path == path]:
        _warm.pop(key, None)
    return any(pool.path == path for pool in _pools())


def _pools() -> list[Pool]:
    while True:
        try:
            return list(_all_pools)
        except RuntimeError:  # Another thread added one at this moment.
            pass
