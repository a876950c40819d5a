"""Embedders: having them embed memories and questions, and going on without them when they fail."""

import asyncio
import inspect
import logging
import math
import struct
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from .._engine.database import Database
from .._threads import in_own_thread, to_its_end
from .records import Place
from .vectors import VectorIndex, has_vector, storing, without_vector

logger = logging.getLogger(__name__)

# Takes texts, and returns a vector for each, all of one length.
Embedder = Callable[[list[str]], Sequence[Sequence[float]] | Awaitable[Sequence[Sequence[float]]]]

# Texts that an embedder is given at once, and seconds after which it has failed a search, or a memory that is added.
_BATCH, _TIMEOUT = 64, 60.0


class _Line:
    """Texts of calls on one event loop that wait for the embedder, and the lock of the one that asks it."""

    def __init__(self) -> None:
        self.calls = 0
        self.texts: dict[str, None] = {}
        self.lock = asyncio.Lock()


class Embedding:
    """An embedder, and the vectors that it has made of the memories in a place.

    Attributes:
        vectors: What finds the nearest of them.
    """

    def __init__(self, database: Database, place: Place, embedder: Embedder, model: str):
        """Begin without asking it anything.

        Args:
            database: Database with the memories.
            place: Where they are.
            embedder: What embeds them.
            model: Name of what it uses.
        """
        self.vectors = VectorIndex(database, place, model)
        self._database = database
        self._place = place
        self._embedder = embedder
        self._model = model
        # Bytes of a vector. Only one tells.
        self._size: int | None = None
        # The same of those that were compared with all memories.
        self._sizes_looked_for: set[int] = set()
        self._lines: dict[asyncio.AbstractEventLoop, _Line] = {}

    async def of_query(self, query: str) -> bytes | None:
        """Return the vector of a question; None if the embedder fails, which is logged."""
        vector = (await self._attempt([query])).get(query)
        if vector is not None and len(vector) not in self._sizes_looked_for:
            self._sizes_looked_for.add(len(vector))
            await asyncio.to_thread(self._warn_of_missing, len(vector))
        return vector

    async def add(self, memory_id: int, text: str) -> None:
        """Give a memory its vector, unless it has one, or the embedder fails, which is logged."""
        if await asyncio.to_thread(has_vector, self._database, memory_id, self._model, self._size):
            return
        loop = asyncio.get_running_loop()
        line = self._lines.setdefault(loop, _Line())
        line.calls += 1
        line.texts[text] = None
        try:
            # While the embedder works for one call, the texts of others gather, and one of these has them all embedded.
            async with line.lock:
                if text in line.texts:
                    await self._add_batch(text, line.texts)
        finally:
            line.calls -= 1
            if not line.calls:
                # A lock that was waited for holds its loop, so weak references would not let it go.
                del self._lines[loop]

    async def _add_batch(self, text: str, waiting: dict[str, None]) -> None:
        batch = [text, *(other for other in waiting if other != text)][:_BATCH]
        for taken in batch:
            del waiting[taken]
        try:
            vectors = await self._attempt(batch)
            if vectors:
                await self._store([*vectors], [*vectors.values()])
        except BaseException:
            # Cancelled, or the database's fault: the others do it themselves.
            waiting.update(dict.fromkeys(batch[1:]))
            raise

    async def add_missing(self, progress: Callable[[int], object] | None = None) -> int:
        """Give all memories vectors that have none of this embedder, and return how many those were.

        Args:
            progress: Called now and then with how many it has been.

        Raises:
            ValueError: If it returns no vector for some of them, when all others have theirs.
            Exception: What the embedder raises.
        """
        size = len((await embed(self._embedder, ["length"]))[0])
        embedded = last_id = 0
        refused: dict[int, ValueError] = {}
        while rows := await asyncio.to_thread(
            without_vector, self._database, self._place, self._model, size, last_id, _BATCH
        ):
            last_id = rows[-1][0]
            texts = [content for _, content in rows]
            try:
                await self._store(texts, await embed(self._embedder, texts))
            except ValueError:
                # One of them keeps the others from being embedded.
                for memory_id, text in rows:
                    await self._add_one(memory_id, text, refused)
            embedded += len(rows)
            if progress is not None:
                progress(embedded)
        if refused:
            memory_id, error = next(iter(refused.items()))
            raise ValueError(
                f"{len(refused)} of {embedded} memories could not be embedded, the others are; of memory {memory_id}: "
                f"{error}"
            ) from error
        return embedded

    async def _add_one(self, memory_id: int, text: str, refused: dict[int, ValueError]) -> None:
        try:
            await self._store([text], await embed(self._embedder, [text]))
        except ValueError as error:
            refused[memory_id] = error

    async def _attempt(self, texts: list[str], end: float | None = None) -> dict[str, bytes]:
        """Return the vectors of texts, but of those that the embedder fails for, which is logged."""
        clock = asyncio.get_running_loop().time
        end = end or clock() + _TIMEOUT
        try:
            vectors = await asyncio.wait_for(embed(self._embedder, texts), end - clock())
        except Exception as error:
            if len(texts) > 1 and not isinstance(error, asyncio.TimeoutError):
                # One of them may be the reason.
                return {text: vector for each in texts for text, vector in (await self._attempt([each], end)).items()}
            logger.warning(
                "store=<%s>, error=<%s> | the embedder failed, so words alone count",
                self._place.store,
                # That of a timeout says nothing.
                str(error) or type(error).__name__,
                exc_info=True,
            )
            return {}
        self._size = len(vectors[0])
        return dict(zip(texts, vectors, strict=True))

    async def _store(self, texts: list[str], vectors: list[bytes]) -> None:
        statements = [
            storing(self._place, self._model, text, vector) for text, vector in zip(texts, vectors, strict=True)
        ]
        await to_its_end(lambda: self._database.transaction(statements))

    def _warn_of_missing(self, size: int) -> None:
        if without_vector(self._database, self._place, self._model, size, 0, 1):
            logger.warning(
                "store=<%s>, scope=<%s>, embedding_model=<%s> | some memories have no vector of this embedder, and are "
                "found by their words alone: call reindex()",
                *self._place,
                self._model,
            )


async def embed(embedder: Embedder, texts: list[str]) -> list[bytes]:
    """Have texts embedded: in a thread, or on this loop if the embedder is asynchronous.

    Args:
        embedder: What does it.
        texts: The texts.

    Returns:
        The vectors, of length 1, as the table holds them: float32, little-endian.

    Raises:
        ValueError: If the embedder returns something else than a vector of numbers for each text, all of one length.
        Exception: What the embedder raises.
    """
    result: Any = await in_own_thread(lambda: _packed_unless_awaitable(embedder(texts)))
    if inspect.isawaitable(result):
        vectors = await result
        # In a thread too: it takes a while for many.
        result = await in_own_thread(lambda: _packed_unless_awaitable(vectors))
    packed: list[bytes] = result
    if len(packed) != len(texts) or len({len(vector) for vector in packed}) > 1:
        raise ValueError(f"the embedder returned {len(packed)} vectors for {len(texts)} texts, or of several lengths")
    return packed


def _packed_unless_awaitable(vectors: Any) -> Any:
    if inspect.isawaitable(vectors):
        return vectors
    if not isinstance(vectors, Iterable):
        raise ValueError(f"the embedder returned {vectors!r:.50}: must be a list with a vector for each text")
    return [_packed(vector) for vector in vectors]


def _packed(vector: Iterable[float]) -> bytes:
    try:
        numbers = [float(number) for number in vector]
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"the embedder returned {vector!r:.50} as a vector: must be a list of numbers") from error
    length = math.hypot(*numbers)
    if not 0 < length < math.inf:
        raise ValueError("the embedder returned a vector that is empty, zero, or not finite")
    return struct.pack(f"<{len(numbers)}f", *(number / length for number in numbers))
