"""A lock for the writers of one process."""

import threading
import time
from collections.abc import Callable

# Seconds after which a writer that waits goes before those that come later.
PATIENCE = 0.02


class WriteLock:
    """A lock that threads take in no particular order, as long as none of them has waited for long.

    SQLite's busy handler sleeps and tries again; it does not queue. Measured with 64 threads that append at once, on
    2 processors, as the longest single append with `synchronous` NORMAL and FULL: SQLite alone 840 and 2,900 ms, one
    plain lock before it 190-370 and 240-490 ms, this one 80-130 and 110-180 ms, at about four fifths of the plain
    lock's throughput. A strict queue reached 30-50 and 40-110 ms, at half of it.
    """

    def __init__(self) -> None:
        """Make a lock that nobody holds."""
        # Reentrant ones, because they refuse to be released by a thread that does not hold them.
        self._lock = threading.RLock()
        # Held by the one impatient writer that is next, while others wait here instead of competing with it.
        self._next = threading.RLock()
        self._is_next_waiting = False
        # Raises RuntimeError if this thread does not hold it.
        self.release: Callable[[], None] = self._lock.release

    def acquire(self, timeout: float) -> bool:
        """Take the lock.

        Call it in the `try` whose `finally` calls `release`, which has been fetched before. A signal can strike
        between the taking and the `try` otherwise, and wherever a Python function starts.

        Args:
            timeout: Seconds to wait at the most.

        Returns:
            Whether it was taken.
        """
        if not self._is_next_waiting and self._lock.acquire(blocking=False):
            return True
        deadline = time.monotonic() + timeout
        release_next = self._next.release
        if self._is_next_waiting:
            try:
                if not self._next.acquire(timeout=timeout):
                    return False
            finally:
                try:  # noqa: SIM105 (suppress() is Python)
                    release_next()
                except RuntimeError:
                    pass
        if self._lock.acquire(timeout=min(max(0, deadline - time.monotonic()), PATIENCE)):
            return True
        try:
            if not self._next.acquire(timeout=max(0, deadline - time.monotonic())):
                return False
            self._is_next_waiting = True
            return self._lock.acquire(timeout=max(0, deadline - time.monotonic()))
        finally:
            # Not true while another waits as next; then a few more slip in before it.
            self._is_next_waiting = False
            try:  # noqa: SIM105 (suppress() is Python)
                release_next()
            except RuntimeError:
                pass
