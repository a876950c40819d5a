"""Forking while other threads use SQLite."""

import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from strands.types.exceptions import SessionException

from .connection import connect

logger = logging.getLogger(__name__)

# Seconds for which a fork keeps new calls out, before and after the seconds for which it waits for a slow one.
SHUT, PATIENCE = 0.1, 0.8

# Seconds in which SQLite answers a child, if it ever does.
ANSWER = 1.0


class Owner(NamedTuple):
    """What a call is inside of.

    Attributes:
        identity: What tells it from others: what a file is to the file system, or the name of a database in memory.
        path: What people call it.
    """

    identity: object
    path: str


class ForkGate:
    """Lets threads in and out, and a fork happen while no thread is inside, if that can be had soon.

    A child inherits SQLite as it is at the moment of the fork. A mutex that another thread holds just then, of the
    memory allocator for one, stays locked in the child for ever. And where a connection to a file is open, the child's
    SQLite takes the parent's locks on that file for its own and asks the system for none
    (https://sqlite.org/howtocorrupt.html, "Carrying an open database file across a fork"). So a fork waits for the
    calls that are under way, new ones wait for the fork, and `before_fork` closes the connections.

    Nobody waits for long, though: most forks only start another program. Where a call takes longer than a second, the
    fork happens all the same, and the child refuses to use what the call was using.
    """

    def __init__(
        self,
        before_fork: Callable[[], None],
        after_fork_in_parent: Callable[[], None],
        after_fork_in_child: Callable[[], None],
    ):
        """Register with the interpreter, for its lifetime.

        Args:
            before_fork: Called in the parent when no other thread is inside, or none that leaves soon.
            after_fork_in_parent: Called in the parent when others may be inside again.
            after_fork_in_child: Called in the child before anything else runs there.
        """
        self._before_fork = before_fork
        self._after_fork_in_parent = after_fork_in_parent
        self._after_fork_in_child = after_fork_in_child
        # By a token for each call, so that a call within a call leaves for itself alone. A dict's own methods are
        # atomic, so no lock is needed around them.
        self._inside: dict[object, tuple[int, Owner | None]] = {}
        # To be called with the token and None, to be outside.
        self.leave: Callable[[object, None], object] = self._inside.pop
        # In a child: what was in use at the fork, and whether SQLite itself was and has not answered since.
        self._lost: set[object] = set()
        self._is_in_doubt = False
        self._probe: threading.Thread | None = None
        self._answer_is_due = 0.0
        # What the fork that is under way did not wait for.
        self._slow: list[tuple[int, Owner | None]] = []
        self._reset()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._close, after_in_parent=self._open, after_in_child=self._open_in_child)

    def _reset(self) -> None:
        self._forking_thread: int | None = None
        self._one_fork_at_a_time = threading.RLock()
        self._opened = threading.Event()

    def enter(self, token: object, owner: Owner | None = None) -> None:
        """Wait while another thread forks, then be inside.

        Call it in the `try` whose `finally` calls `leave`, which has been fetched before: a signal can strike wherever
        a Python function starts, so nothing but a call of C may stand between an exception and the leaving.

        Args:
            token: Anything unique to the call.
            owner: What it is inside of, to be refused in a child that is forked meanwhile.
        """
        thread = threading.get_ident()
        self._inside[token] = (thread, owner)
        # Looked at only now: whoever forks sets it first, and then looks who is inside.
        while self._forking_thread is not None and self._forking_thread != thread:
            if [inside for inside, _ in list(self._inside.values())].count(thread) > 1:
                return  # A call within a call, by a finalizer or signal handler. The fork waits for the outer one.
            del self._inside[token]
            self._opened.wait()
            self._inside[token] = (thread, owner)

    def try_to_enter(self, token: object) -> bool:
        """Be inside, unless another thread forks. To be called as `enter` is.

        Args:
            token: Anything unique to the call.

        Returns:
            Whether it is inside.
        """
        thread = threading.get_ident()
        self._inside[token] = (thread, None)
        if self._forking_thread is None or self._forking_thread == thread:
            return True
        del self._inside[token]
        return False

    @contextlib.contextmanager
    def entered(self, *, wait: bool = True) -> Iterator[bool]:
        """Be inside for a `with` block.

        Args:
            wait: Whether to wait while another thread forks.

        Yields:
            Whether it is inside.
        """
        token = object()
        try:
            if wait:
                self.enter(token)
                yield True
            else:
                yield self.try_to_enter(token)
        finally:
            self.leave(token, None)

    def require(self, owner: Owner, uri: str) -> None:
        """Make sure that this process may use something, and SQLite at all.

        Args:
            owner: What is to be used.
            uri: URI of the database.

        Raises:
            SessionException: If it was in use when this process was forked.
        """
        if owner.identity in self._lost:
            raise SessionException(
                f"{owner.path}: another thread was using it when this process was forked, so it cannot be used here; "
                "fork when no long call is running, or start processes with the method 'spawn'"
            )
        if self._is_in_doubt and not self._is_answered(uri):
            raise SessionException(
                f"{owner.path}: another thread was using SQLite when this process was forked, which does not "
                "answer here since; fork when no long call is running, or start processes with the method 'spawn'"
            )

    def _is_answered(self, uri: str) -> bool:
        """Ask SQLite in another thread, once, and tell whether it answers in time."""
        # A lock of SQLite's own that a thread held which is not in this process would never be released.
        probe = self._probe
        if probe is None or not probe.is_alive():
            probe = self._probe = threading.Thread(target=self._ask, args=(uri,), daemon=True)
            self._answer_is_due = time.monotonic() + ANSWER
            probe.start()
        probe.join(max(0, self._answer_is_due - time.monotonic()))
        return not probe.is_alive()

    def _ask(self, uri: str) -> None:
        # A file that cannot be opened proves little. Whoever wants it is told why by its own attempt.
        with contextlib.suppress(sqlite3.Error):
            _use_sqlite(uri)
            self._is_in_doubt = False

    def _close(self) -> None:
        # The interpreter ignores what is raised here and forks anyway, so a signal must not cut the waiting short.
        interruption = None
        while True:
            try:
                self._one_fork_at_a_time.acquire()
                self._slow = self._wait_for_others(threading.get_ident())
                self._before_fork()
                break
            except BaseException as error:
                interruption = error
        if interruption is not None:
            raise interruption

    def _wait_for_others(self, thread: int) -> list[tuple[int, Owner | None]]:
        """Shut the gate at a moment when no other thread is inside, or after about a second; return who is."""
        self._shut(thread)
        if tokens := self._others(thread, SHUT):
            self._forking_thread = None
            self._opened.set()
            deadline = time.monotonic() + PATIENCE
            # A signal handler may fork while its own thread is inside, which cannot be waited for.
            while time.monotonic() < deadline and any(token in self._inside for token in tokens):
                time.sleep(0.001)
            self._shut(thread)
            tokens = self._others(thread, SHUT)
        return [inside for token in tokens if (inside := self._inside.get(token))]

    def _shut(self, thread: int) -> None:
        self._opened.clear()
        self._forking_thread = thread

    def _others(self, thread: int, patience: float) -> list[Any]:
        """Wait until no other thread is inside, for some seconds; return the tokens of those that are."""
        deadline = time.monotonic() + patience
        while True:
            tokens = [token for token, (inside, _) in list(self._inside.items()) if inside != thread]
            if not tokens or time.monotonic() >= deadline:
                return tokens
            time.sleep(0.0002)

    def _open(self) -> None:
        slow, self._slow = self._slow, []
        self._forking_thread = None
        self._opened.set()
        with contextlib.suppress(RuntimeError):
            while True:  # An interruption may have made it more than one.
                self._one_fork_at_a_time.release()
        self._after_fork_in_parent()
        # Not before the fork, when a thread that has the lock of a logging handler may wait at the gate.
        if slow:
            paths = sorted({owner.path for _, owner in slow if owner is not None})
            logger.warning("paths=<%s> | forked while other threads used it; the child cannot", ", ".join(paths))

    def _open_in_child(self) -> None:
        self._slow = []
        thread = threading.get_ident()
        for token, (inside, owner) in list(self._inside.items()):
            if inside != thread:  # The child does not have it.
                del self._inside[token]
                self._is_in_doubt = True
                if owner is not None:
                    self._lost.add(owner.identity)
        self._reset()
        self._after_fork_in_child()


def _use_sqlite(uri: str) -> None:
    """Take each of the locks that all connections share: for file systems, files, memory, pages and random numbers."""
    with contextlib.closing(connect(uri)) as connection:
        connection.execute("SELECT random(), count(*) FROM sqlite_master").fetchall()
