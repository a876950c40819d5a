"""The write-ahead log of a file, and when it is emptied.

The log has former versions of pages, with text that was deleted or redacted since. SQLite overwrites it from its start
when nobody reads from it any more, and deletes it when the last connection closes. Until then it keeps its size and
what is in it, so this library empties it: behind a deletion, and when it has grown large.
"""

import math
import os
import sqlite3
import time

# Bytes beyond which a log is emptied at the next write. SQLite begins to copy it into the file at 4 MB.
# `PRAGMA journal_size_limit` would cut it off by itself, also what a program that replicates the log has not read yet.
_LARGE = 16 * 1024 * 1024

# The tables that Litestream makes in a file that it replicates (https://litestream.io/how-it-works/).
_OF_LITESTREAM = r"SELECT 1 FROM sqlite_master WHERE name LIKE '\_litestream\_%' ESCAPE '\'"

# Seconds between two attempts to empty a log that somebody reads.
_PAUSE = 0.1


class WriteAheadLog:
    """The log of one file.

    Attributes:
        is_owed: Whether text that was deleted is still in it, because somebody reads from it.
        next_attempt: Time, on the monotonic clock, from which a write is to empty it.
    """

    def __init__(self, path: str):
        """Begin with nothing to be done.

        Args:
            path: Path of the database.
        """
        self._path = f"{path}-wal"
        self.is_owed = False
        self.next_attempt = math.inf

    def owe(self) -> None:
        """Note that text that was deleted is still in it."""
        self.is_owed = True
        self.next_attempt = min(self.next_attempt, time.monotonic() + _PAUSE)

    def look(self) -> None:
        """Have it emptied if it is large."""
        try:
            if self.next_attempt == math.inf and os.stat(self._path).st_size > _LARGE:  # noqa: PTH116
                self.next_attempt = 0
        except OSError:
            pass  # There is none.

    def empty(self, connection: sqlite3.Connection, lock_wait: int) -> bool:
        """Copy it into the file and empty it, unless somebody reads from it.

        Args:
            connection: Connection to the file.
            lock_wait: Milliseconds for which this connection waits for locks otherwise.

        Returns:
            Whether there is nothing left to be done. Litestream's is left alone: it copies the log at its own pace, and
            must find there what it has not copied yet.
        """
        busy = 0
        if not connection.execute(_OF_LITESTREAM).fetchall():
            connection.execute("PRAGMA busy_timeout = 0")
            busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            connection.execute(f"PRAGMA busy_timeout = {lock_wait}")
        self.is_owed = bool(self.is_owed and busy)
        self.next_attempt = time.monotonic() + _PAUSE if busy else math.inf
        return not busy
