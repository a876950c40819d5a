"""Vectors of memories: storing them, and finding which are nearest to that of a question."""

import heapq
import json
import math
import struct
from typing import Any, NamedTuple

from .._engine.database import Database, Statement
from .records import IN_PLACE, Place

# Vectors that are read at once, and bytes of a number in them.
_ROWS, _BYTES = 5_000, 4
# Of so many vectors at the end of those in memory, one must still be stored, or all are read again.
_LOOKS = 50

# Of the vectors of one embedder in one place. Those with other dimensions are from a model that it had before.
_OURS = "store = :store AND scope = :scope AND model = :model AND dimensions = :dimensions"
# Not so of one that is damaged, which is left out, and made again by `reindex`.
_IS_WHOLE = "length(vector) = 4 * dimensions"


def storing(place: Place, model: str, content: str, vector: bytes) -> Statement:
    """Return the statement that stores the vector of a memory, unless its text has changed since."""
    return (
        f"""
        REPLACE INTO memory_vectors (memory_id, store, scope, model, dimensions, vector)
        SELECT memory_id, store, scope, :model, :dimensions, :vector FROM memories
        WHERE {IN_PLACE} AND content = :content
        """,  # noqa: S608 (constants only, as in all of this module)
        {
            "store": place.store,
            "scope": place.scope,
            "content": content,
            "model": model,
            "dimensions": len(vector) // _BYTES,
            "vector": vector,
        },
    )


def has_vector(database: Database, memory_id: int, model: str, size: int | None) -> bool:
    """Tell whether a memory has a vector of an embedder.

    Args:
        database: Database to look in.
        memory_id: Id of the memory.
        model: Name of what the embedder uses.
        size: Bytes of one of its vectors; None if it is not known, and then the memory has none.
    """
    return bool(
        database.query(
            "SELECT 1 FROM memory_vectors WHERE memory_id = :memory_id AND model = :model AND length(vector) = :size",
            {"memory_id": memory_id, "model": model, "size": size},
        )
    )


def without_vector(
    database: Database, place: Place, model: str, size: int, after: int, limit: int
) -> list[tuple[Any, ...]]:
    """Return ids and texts of memories that have no vector of an embedder.

    Args:
        database: Database to look in.
        place: Where.
        model: Name of what the embedder uses.
        size: Bytes of one of its vectors.
        after: Id after which to begin.
        limit: Number of memories at the most.
    """
    return database.query(
        f"""
        SELECT memory_id, content FROM memories WHERE memory_id > :after AND {IN_PLACE} AND NOT EXISTS (
            SELECT 1 FROM memory_vectors WHERE memory_vectors.memory_id = memories.memory_id AND {_OURS} AND {_IS_WHOLE}
        )
        ORDER BY memory_id LIMIT :limit
        """,  # noqa: S608
        {
            "store": place.store,
            "scope": place.scope,
            "model": model,
            "dimensions": size // _BYTES,
            "after": after,
            "limit": limit,
        },
    )


class _Block(NamedTuple):
    """Vectors in memory: NumPy arrays of their ids, their memories' ids, and, row by row, themselves."""

    vector_ids: Any
    memory_ids: Any
    matrix: Any


class VectorIndex:
    """Finds the memories whose vectors are nearest to another: exactly, by looking at all of them.

    With NumPy, it keeps them in memory, and reads those that came since. Without it, it reads all of them each time,
    since unpacking takes longer than reading.
    """

    def __init__(self, database: Database, place: Place, model: str):
        """Begin with nothing read.

        Args:
            database: Database with the vectors.
            place: Where the memories are.
            model: Name of what made the vectors.
        """
        self._database = database
        self._values = {"store": place.store, "scope": place.scope, "model": model}
        # Never changed in place, so that threads need no lock: who comes first reads for the others.
        self._blocks: tuple[_Block, ...] = ()

    def nearest(self, vector: bytes, limit: int) -> list[int]:
        """Return the ids of memories, by cosine similarity, the nearest first.

        Args:
            vector: What they are to be near to, as the table holds it.
            limit: Number of memories at the most.
        """
        try:
            import numpy
        except ImportError:
            return self._nearest_of_all(vector, limit)
        blocks = self._refreshed(numpy, len(vector) // _BYTES)
        while blocks:
            vector_ids, memory_ids = _best(numpy, blocks, numpy.frombuffer(vector, "<f4"), limit)
            if self._are_there(vector_ids):
                return memory_ids
            # Deleted since, or replaced.
            self._blocks = blocks = self._without_deleted(numpy, blocks, len(vector) // _BYTES)
        return []

    def _nearest_of_all(self, vector: bytes, limit: int) -> list[int]:
        """Do it with the standard library. Of vectors of length 1, the nearest is the most similar."""
        unpack = struct.Struct(f"<{len(vector) // _BYTES}f").unpack
        sought, distance = unpack(vector), math.dist
        found: list[tuple[float, int]] = []
        last_id = 0
        while rows := self._rows(len(sought), last_id):
            last_id = rows[-1][0]
            near = ((distance(sought, unpack(other)), -memory_id) for _, memory_id, other in rows)
            found = heapq.nsmallest(limit, [*found, *near])
        return [-memory_id for _, memory_id in found]

    def _rows(self, dimensions: int, last_id: int) -> list[tuple[Any, ...]]:
        return self._database.query(
            f"""
            SELECT vector_id, memory_id, vector FROM memory_vectors
            WHERE {_OURS} AND vector_id > :last_id AND {_IS_WHOLE}
            ORDER BY vector_id LIMIT {_ROWS}
            """,  # noqa: S608
            {**self._values, "dimensions": dimensions, "last_id": last_id},
        )

    def _refreshed(self, numpy: Any, dimensions: int) -> tuple[_Block, ...]:
        """Return blocks with the vectors that there are now, and maybe some that were deleted since."""
        blocks = [block for block in self._blocks if block.matrix.shape[1] == dimensions]
        # The last one may be deleted, or a backup was restored, whose ids are given once more.
        while blocks and not (number := self._number_there(blocks[-1])):
            blocks.pop()
        if blocks and number < len(blocks[-1].vector_ids):
            blocks[-1] = _Block(*(part[:number].copy() for part in blocks[-1]))
        last_id = int(blocks[-1].vector_ids[-1]) if blocks else 0
        while rows := self._rows(dimensions, last_id):
            last_id = rows[-1][0]
            matrix = numpy.frombuffer(b"".join(row[2] for row in rows), "<f4").reshape(len(rows), -1)
            ids = numpy.array([row[:2] for row in rows], "i8")
            blocks.append(_Block(ids[:, 0], ids[:, 1], matrix))
            # So there are few, and each vector is seldom copied.
            while len(blocks) > 1 and len(blocks[-2].vector_ids) < 2 * len(blocks[-1].vector_ids):
                last = blocks.pop()
                blocks[-1] = _Block(*map(numpy.concatenate, zip(blocks[-1], last, strict=True)))
        self._blocks = tuple(blocks)
        return self._blocks

    def _number_there(self, block: _Block) -> int:
        """Return how many vectors of a block come before the last one that is still stored, and that one."""
        for looks in (1, _LOOKS):  # Mostly, it is the last of all.
            ids: list[int] = block.vector_ids[-looks:].tolist()
            stored = self._database.query(
                "SELECT vector_id, vector FROM memory_vectors WHERE vector_id IN (SELECT value FROM json_each(?))",
                (json.dumps(ids),),
            )
            ours = {vector_id: row.tobytes() for vector_id, row in zip(ids, block.matrix[-looks:], strict=True)}
            if there := [vector_id for vector_id, vector in stored if ours[vector_id] == vector]:
                return len(block.vector_ids) - len(ids) + ids.index(max(there)) + 1
        return 0

    def _are_there(self, vector_ids: list[int]) -> bool:
        ((number,),) = self._database.query(
            "SELECT count(*) FROM memory_vectors WHERE vector_id IN (SELECT value FROM json_each(?))",
            (json.dumps(vector_ids),),
        )
        return bool(number == len(vector_ids))

    def _without_deleted(self, numpy: Any, blocks: tuple[_Block, ...], dimensions: int) -> tuple[_Block, ...]:
        rows = self._database.query(
            f"SELECT vector_id FROM memory_vectors WHERE {_OURS}",  # noqa: S608
            {**self._values, "dimensions": dimensions},
        )
        there = numpy.array([row[0] for row in rows], "i8")
        kept = [numpy.isin(block.vector_ids, there) for block in blocks]
        return tuple(
            _Block(*(part[mask] for part in block)) for block, mask in zip(blocks, kept, strict=True) if mask.any()
        )


def _best(numpy: Any, blocks: tuple[_Block, ...], sought: Any, limit: int) -> tuple[list[int], list[int]]:
    """Return ids of the vectors that are nearest to one, the nearest first, and those of their memories."""
    similarities = numpy.concatenate([block.matrix @ sought for block in blocks])
    vector_ids, memory_ids = (numpy.concatenate(ids) for ids in list(zip(*blocks, strict=True))[:2])
    limit = min(limit, len(similarities))
    best = numpy.argpartition(-similarities, limit - 1)[:limit]
    # Of equal ones the newest, as everywhere.
    order = best[numpy.lexsort((-memory_ids[best], -similarities[best]))]
    return vector_ids[order].tolist(), memory_ids[order].tolist()
