"""Searches: by words, and with a vector by words and meaning together."""

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta

from strands.types.exceptions import SessionException

from .._arguments import checked_time
from .._engine.database import Database, impatient
from . import records, words
from .records import Memory, Place
from .vectors import VectorIndex

logger = logging.getLogger(__name__)

# How far down a ranking is looked at the least, and the constant of reciprocal rank fusion
# (https://doi.org/10.1145/1571941.1572114).
_DEPTH, _RANK_CONSTANT = 50, 60

# That a memory was found is noted to the hour, so that few searches write.
_USE = timedelta(hours=1)


def search(
    database: Database,
    place: Place,
    query: str,
    nearest: VectorIndex | None,
    vector: bytes | None,
    limit: int,
    metadata: str | None,
    now: str,
) -> list[tuple[Memory, float]]:
    """Find memories.

    Args:
        database: Database to search.
        place: Where.
        query: What to look for.
        nearest: The vectors of the memories; None searches by words alone.
        vector: That of the query.
        limit: Number of memories at the most.
        metadata: See `records.live`.
        now: The present time.

    Returns:
        The memories, the best first, each with its score: BM25, or with a vector the sum of its reciprocal ranks.
    """
    if nearest is None or vector is None:
        scores = words.find(database, place, query, "OR", limit, metadata, now)
        found = records.read(database, place, scores, metadata, now)
        return [(found[memory_id], score) for memory_id, score in scores.items() if memory_id in found]
    depth = max(_DEPTH, limit)
    by_words = words.find(database, place, query, "OR", depth, metadata, now)
    by_meaning, found = _nearest(database, place, nearest, vector, depth, metadata, now)
    found.update(records.read(database, place, by_words.keys() - found.keys(), metadata, now))
    fused: dict[int, float] = dict.fromkeys(found, 0.0)
    for ranking in (by_words, by_meaning):
        for rank, memory_id in enumerate((memory_id for memory_id in ranking if memory_id in found), 1):
            fused[memory_id] += 1 / (_RANK_CONSTANT + rank)
    ranked = sorted(fused, key=lambda memory_id: (fused[memory_id], found[memory_id].updated_at), reverse=True)
    return [(found[memory_id], fused[memory_id]) for memory_id in ranked[:limit]]


def _nearest(
    database: Database,
    place: Place,
    nearest: VectorIndex,
    vector: bytes,
    depth: int,
    metadata: str | None,
    now: str,
) -> tuple[list[int], dict[int, Memory]]:
    """Return ids of the nearest memories that may be shown, and these."""
    wanted = depth
    while True:
        memory_ids = nearest.nearest(vector, wanted)
        found = records.read(database, place, memory_ids, metadata, now)
        if len(found) >= depth or len(memory_ids) < wanted:
            return [memory_id for memory_id in memory_ids if memory_id in found][:depth], found
        wanted *= 8  # Those that have expired, or other metadata, took the places of others.


def note_use(database: Database, place: Place, memories: Iterable[Memory], now: datetime) -> None:
    """Note that memories were found. That this cannot be written is no failure of a search.

    Args:
        database: Database that they are in.
        place: Where.
        memories: The memories.
        now: The present time.
    """
    since = checked_time("now", now - _USE)
    unnoted = [memory.memory_id for memory in memories if memory.used_at is None or memory.used_at < since]
    if not unnoted or database.read_only:
        return
    try:
        with impatient(0.05):
            records.mark_used(database, place, unnoted, checked_time("now", now), since)
    except SessionException as error:
        logger.warning("memories=<%d>, error=<%s> | could not note that they were used", len(unnoted), error)
