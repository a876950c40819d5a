"""Forking while other threads use SQLite."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator


class ForkGate:
    """Lets threads in and out, and a fork happen only while no thread is inside.

    A child inherits SQLite as it is at the moment of the fork. A mutex that another thread holds just then, of the
    memory allocator for one, stays locked in the child for ever. And where a connection to a file is open, the child's
    SQLite takes the parent's locks on that file for its own and asks the system for none
    (https://sqlite.org/howtocorrupt.html, "Carrying an open database file across a fork"). So a fork waits for the
    calls that are under way, new ones wait for the fork, and `before_fork` closes the connections.
    """

    def __init__(
        self,
        before_fork: Callable[[], None],
        after_fork_in_parent: Callable[[], None],
        after_fork_in_child: Callable[[], None],
    ):
        """Register with the interpreter, for its lifetime.

        Args:
            before_fork: Called in the parent when no other thread is inside.
            after_fork_in_parent: Called in the parent when others may be inside again.
            after_fork_in_child: Called in the child before anything else runs there.
        """
        self._before_fork = before_fork
        self._after_fork_in_parent = after_fork_in_parent
        self._after_fork_in_child = after_fork_in_child
        # By a token for each call, so that a call within a call leaves for itself alone. A dict's own methods are
        # atomic, so no lock is needed around them.
        self._inside: dict[object, int] = {}
        # To be called with the token and None, to be outside.
        self.leave: Callable[[object, None], object] = self._inside.pop
        self._reset()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=self._close, after_in_parent=self._open, after_in_child=self._open_in_child)

    def _reset(self) -> None:
        self._forking_thread: int | None = None
        self._one_fork_at_a_time = threading.RLock()
        self._opened = threading.Event()

    def enter(self, token: object) -> None:
        """Wait while another thread forks, then be inside.

        Call it in the `try` whose `finally` calls `leave`, which has been fetched before: a signal can strike wherever
        a Python function starts, so nothing but a call of C may stand between an exception and the leaving.

        Args:
            token: Anything unique to the call.
        """
        self._inside[token] = thread = threading.get_ident()
        # Looked at only now: whoever forks sets it first, and then looks who is inside.
        while self._forking_thread is not None and self._forking_thread != thread:
            if list(self._inside.values()).count(thread) > 1:
                return  # A call within a call, by a finalizer or signal handler. The fork waits for the outer one.
            del self._inside[token]
            self._opened.wait()
            self._inside[token] = thread

    def try_to_enter(self, token: object) -> bool:
        """Be inside, unless another thread forks. To be called as `enter` is.

        Args:
            token: Anything unique to the call.

        Returns:
            Whether it is inside.
        """
        self._inside[token] = thread = threading.get_ident()
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

    def _close(self) -> None:
        # The interpreter ignores what is raised here and forks anyway, so a signal must not cut the waiting short.
        interruption = None
        while True:
            try:
                self._one_fork_at_a_time.acquire()
                self._opened.clear()
                self._forking_thread = thread = threading.get_ident()
                # A signal handler may fork while its own thread is inside, which cannot be waited for.
                while any(inside != thread for inside in list(self._inside.values())):
                    time.sleep(0.0002)
                self._before_fork()
                break
            except BaseException as error:
                interruption = error
        if interruption is not None:
            raise interruption

    def _open(self) -> None:
        self._forking_thread = None
        self._opened.set()
        with contextlib.suppress(RuntimeError):
            while True:  # An interruption may have made it more than one.
                self._one_fork_at_a_time.release()
        self._after_fork_in_parent()

    def _open_in_child(self) -> None:
        thread = threading.get_ident()
        for token, inside in list(self._inside.items()):
            if inside != thread:  # The child does not have it.
                del self._inside[token]
        self._reset()
        self._after_fork_in_child()
