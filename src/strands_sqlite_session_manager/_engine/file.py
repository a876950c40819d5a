"""The engine for a SQLite file: transactions, and what only a file has: its log, backups, and who uses it."""

import contextlib
import itertools
import os
import re
import sqlite3
import weakref
from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import Any

from strands.types.exceptions import SessionException

from . import schema
from .connection import connect, file_uri, is_locked, is_undecodable, session_error, text_or_broken
from .database import Database, Parameters, Statement, Synchronous, checked_options
from .path import chosen_path
from .pool import Pool, is_held, keep_warm, let_cool, outside_forks, pool_for

# Seconds to wait for a lock.
DEFAULT_TIMEOUT = 5.0

# Seconds that a deletion waits for readers of the log, perhaps in an event loop's thread.
LOG_WAIT = 0.15

# The complaints of `PRAGMA integrity_check` about an index whose pages and table are sound.
_INDEX_DAMAGE = re.compile(
    r"(?:row \d+ missing from|wrong # of entries in|row \d+ values differ from"
    r"|rowid not at end-of-record for row \d+ of) index (\w+)"
)


class FileDatabase(Database):
    """A SQLite file, or a private database in memory. See `Database` for what its calls do."""

    def __init__(
        self,
        db_path: str | os.PathLike[str] | None,
        *,
        synchronous: Synchronous = "NORMAL",
        busy_timeout: float | None = None,
        read_only: bool = False,
    ):
        """Open the file, creating it if it does not exist. See `open_database`."""
        path = chosen_path(db_path)
        timeout = checked_options(synchronous, busy_timeout, DEFAULT_TIMEOUT)
        self._pool: Pool | None = pool_for(path, synchronous, timeout, read_only)
        self._pool.holders.add(id(self))
        # Not `__del__`: it comes after the pool itself was finalized where both are in a cycle of garbage.
        self._left = weakref.finalize(self, _leave_warm, self._pool, id(self))
        self._left.atexit = False
        self.path = self.location = self._pool.path
        self.read_only = read_only
        try:
            self._pool.run(_nothing)  # Opens a connection if there is none, so that trouble shows here.
        except BaseException:
            self.close()
            raise

    def query(self, sql: str, parameters: Parameters = ()) -> list[tuple[Any, ...]]:
        """See `Database.query`."""
        return self._live_pool().run(query, sql, parameters)

    def execute(self, sql: str, parameters: Parameters = ()) -> int:
        """See `Database.execute`."""
        return self._live_pool().run_exclusively(execute, sql, parameters)

    def transaction(self, statements: Iterable[Statement]) -> list[int]:
        """See `Database.transaction`."""
        return self._live_pool().run_exclusively(_transaction, list(statements))

    def write_aside(self, statements: Iterable[Statement]) -> None:
        """See `Database.write_aside`."""
        pool = self._live_pool()
        pool.run_exclusively(_many_aside, pool, list(statements))

    def truncate_log(self, *, wait: bool = True) -> bool:
        """Copy the write-ahead log into the file and empty it, so that nothing overwritten is left in either.

        `secure_delete` overwrites what is deleted in the newest version of its pages; the log has older versions too.
        See `Database.truncate_log`.
        """
        return self._live_pool().empty_log(LOG_WAIT if wait else 0)

    def structure_damage(self) -> tuple[list[str], list[str]]:
        """Look at all pages, tables and indexes (https://sqlite.org/pragma.html#pragma_integrity_check).

        Returns:
            What is wrong with pages and tables; and the indexes, in their order, that are sound but disagree with
            their tables.
        """
        complaints = [text for (text,) in self.query("PRAGMA integrity_check(10000)") if text != "ok"]
        matches = [(text, _INDEX_DAMAGE.fullmatch(text)) for text in complaints]
        return [text for text, match in matches if not match], sorted({match[1] for _, match in matches if match})

    def free_size(self) -> int:
        """Return how many bytes of the file are free for new rows."""
        ((size,),) = self.query("SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size")
        return int(size)

    def vacuum(self) -> None:
        """Write the file again without its free space. Rowids, which the search index refers to, stay.

        SQLite gives new ones only to tables without any index, not even of a key.
        """
        self.execute("VACUUM")

    def backup_to(self, path: str, progress: Callable[[int, int], object] | None = None) -> None:
        """Copy all of this moment into an empty file, while others write. A fork waits until it is done."""
        self._live_pool().run(_backup_to, path, progress)

    def copy_into(self, other: "FileDatabase", progress: Callable[[int, int], object] | None = None) -> None:
        """Put all of this database in the place of all of another, in one transaction that others see whole."""
        self._live_pool().run(_copy_into, other._live_pool(), progress)

    def close(self) -> None:
        """Let go of the connections; the last holder's closes them. Closing twice is fine."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        self._left.detach()
        pool.holders.discard(id(self))
        let_cool(pool)
        if pool.log.is_owed:
            pool.empty_log(0)

    def _live_pool(self) -> Pool:
        pool = self._pool
        if pool is None:
            raise SessionException(f"{self.path}: used after it was closed")
        return pool


def _leave_warm(pool: Pool, holder: int) -> None:
    """Leave the connections to the next holder. Whoever wants them closed closes the database."""
    pool.holders.discard(holder)
    keep_warm(pool)


def query(connection: sqlite3.Connection, sql: str, parameters: Parameters) -> list[tuple[Any, ...]]:
    try:
        return connection.execute(sql, parameters).fetchall()
    except sqlite3.OperationalError as error:
        if not is_undecodable(error):
            raise
    # One damaged text takes no others with it.
    connection.text_factory = text_or_broken
    try:
        return connection.execute(sql, parameters).fetchall()
    finally:
        connection.text_factory = str


def execute(connection: sqlite3.Connection, sql: str, parameters: Parameters) -> int:
    # One statement outside a transaction is a transaction of its own, and SQLite takes the write lock before it
    # reads anything for it; a BEGIN IMMEDIATE around it would only add two statements.
    return connection.execute(sql, parameters).rowcount


def _transaction(connection: sqlite3.Connection, statements: list[tuple[str, Parameters]]) -> list[int]:
    # Whatever is raised before the COMMIT, `Pool` rolls back, at the latest by closing the connection.
    connection.execute("BEGIN IMMEDIATE")
    changes = [connection.execute(sql, parameters).rowcount for sql, parameters in statements]
    connection.execute("COMMIT")
    return changes


def many(connection: sqlite3.Connection, statements: list[Statement]) -> None:
    """Run statements in a transaction, of which many have the same SQL: a third less time for each."""
    connection.execute("BEGIN IMMEDIATE")
    for sql, group in itertools.groupby(statements, key=itemgetter(0)):
        connection.executemany(sql, [parameters for _, parameters in group])
    connection.execute("COMMIT")


def _many_aside(_: sqlite3.Connection, pool: Pool, statements: list[Statement]) -> None:
    with contextlib.closing(pool.open()) as connection:
        many(connection, statements)


def _backup_to(connection: sqlite3.Connection, path: str, progress: Callable[[int, int], object] | None) -> None:
    # A transaction that reads around all steps: the copy is of one moment, and no write between the steps makes it
    # start again. Unlike `VACUUM INTO`, which reads so too, it copies pages as they are and can say how far it is.
    # Writers go on, into a log that grows until it ends; without a write-ahead log, they wait.
    connection.execute("BEGIN")
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    with contextlib.closing(connect(file_uri(path))) as copy:
        # The caller throws a half-made file away, and makes a whole one durable.
        copy.execute("PRAGMA journal_mode = OFF")
        copy.execute("PRAGMA synchronous = OFF")
        connection.backup(copy, pages=1024, progress=_step_of(progress))
        # The first page, copied too, asks for a write-ahead log.
        copy.execute("PRAGMA journal_mode = DELETE")
    connection.execute("COMMIT")


def _step_of(progress: Callable[[int, int], object] | None) -> Callable[[int, int, int], object] | None:
    """Return what SQLite calls after each step of a backup."""
    return None if progress is None else lambda _, remaining, total: progress(total - remaining, total)


def _copy_into(source: sqlite3.Connection, pool: Pool, progress: Callable[[int, int], object] | None) -> None:
    pool.run_exclusively(_replace_with, source, progress)
    # Not in the same operation: if a lock made it be repeated, what others have stored since would be replaced too.
    pool.run_exclusively(schema.migrate, pool.path)


def _replace_with(
    connection: sqlite3.Connection, source: sqlite3.Connection, progress: Callable[[int, int], object] | None
) -> None:
    def tell(status: int, remaining: int, total: int) -> None:
        if status in (5, 6):  # SQLITE_BUSY and SQLITE_LOCKED, after the busy timeout. Python would try for ever.
            raise sqlite3.OperationalError("database is locked")
        if progress is not None:
            progress(total - remaining, total)

    source.backup(connection, pages=1024, progress=tell)


def _nothing(connection: sqlite3.Connection) -> None:
    pass


def is_in_use(path: str) -> bool:
    """Tell whether this process or another one has a file open as a session database.

    Where the file system cannot do a write-ahead log, others are noticed only while they read or write.

    Args:
        path: Path of the file, with symbolic links resolved.

    Raises:
        SessionException: If it cannot be opened.
    """
    try:
        with outside_forks():
            if is_held(path):
                return True
            with contextlib.closing(connect(file_uri(path))) as connection:
                # Every connection to a file with a write-ahead log holds a shared lock as long as it lives.
                connection.execute("PRAGMA locking_mode = EXCLUSIVE")
                connection.execute("BEGIN EXCLUSIVE")
            return False
    except sqlite3.Error as error:
        if is_locked(error):
            return True
        raise session_error(error, path) from error
