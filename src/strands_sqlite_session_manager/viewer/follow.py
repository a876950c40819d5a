"""Following conversations while agents are at work in other processes."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager

from starlette.concurrency import run_in_threadpool
from strands.types.exceptions import SessionException

from ..catalog import SessionCatalog

logger = logging.getLogger(__name__)

# Seconds between two looks at the database.
TICK = 0.4
# Ticks after which a browser is told that the connection lives, and is looked for.
KEEP_ALIVE = 5
# Seconds after which a browser is to ask again, so that a server which is to end does not wait for it for ever.
LONGEST = 30.0

# Ids of a session and of an agent; None instead of that for a session without agents.
Key = tuple[str, str | None]


class Follower:
    """Looks at the conversations that browsers have open: once for all of them, at each tick, while there are any."""

    def __init__(self, catalog: SessionCatalog, is_file_gone: Callable[[], bool]):
        """Begin without any.

        Args:
            catalog: Where the conversations are.
            is_file_gone: Tells whether another file, or none, is now where the catalog's was.
        """
        self._catalog = catalog
        self.is_file_gone = is_file_gone
        # None ends the events.
        self._watchers: dict[Key, list[asyncio.Queue[str | None]]] = {}
        self._states: dict[Key, str] = {}
        self._task: asyncio.Task[None] | None = None

    @property
    def is_watching(self) -> bool:
        """Whether it looks at the database."""
        return self._task is not None and not self._task.done()

    async def events(self, key: Key, is_gone: Callable[[], Awaitable[bool]]) -> AsyncIterator[str]:
        """Yield server-sent events: the revision of a conversation at first, and whenever it has changed.

        "" is that of one that was deleted.

        Args:
            key: See `Key`.
            is_gone: Tells whether the browser has gone, which not every server notices by itself.
        """
        end = time.monotonic() + LONGEST
        with self._watched(key) as queue:
            while time.monotonic() < end:
                try:
                    state = await asyncio.wait_for(queue.get(), TICK * KEEP_ALIVE)
                    if state is None:
                        return
                    yield f"event: changed\ndata: {json.dumps(state)}\nretry: 200\n\n"
                except asyncio.TimeoutError:
                    if await is_gone():
                        return
                    yield ": still here\n\n"

    @contextmanager
    def _watched(self, key: Key) -> Iterator[asyncio.Queue[str | None]]:
        """Let a queue have the revisions of a conversation: the one that is known, and each that comes."""
        queue: asyncio.Queue[str | None] = asyncio.Queue()
        self._watchers.setdefault(key, []).append(queue)
        if key in self._states:
            queue.put_nowait(self._states[key])
        if not self.is_watching:
            self._task = asyncio.create_task(self._watch())
        try:
            yield queue
        finally:
            self._watchers[key].remove(queue)
            if not self._watchers[key]:
                del self._watchers[key]
                self._states.pop(key, None)

    def stop(self) -> None:
        """End all events, so that the server can end. To be called in the thread of its event loop."""
        for queues in self._watchers.values():
            for queue in queues:
                queue.put_nowait(None)

    async def _watch(self) -> None:
        while self._watchers:
            if await run_in_threadpool(self.is_file_gone):
                # The file that is still open changes no more. Whoever asks again is told.
                self.stop()
            try:
                keys = list(self._watchers)
                found = await run_in_threadpool(self._catalog.revisions, keys)
                states = {key: found.get(key, "") for key in keys}
            except SessionException as error:
                # A lock, say: the next tick may have more luck.
                logger.warning("error=<%s> | could not look for new messages", error)
                states = {}
            for key, state in states.items():
                if key in self._watchers and self._states.get(key) != state:
                    self._states[key] = state
                    for queue in self._watchers[key]:
                        queue.put_nowait(state)
            await asyncio.sleep(TICK)
