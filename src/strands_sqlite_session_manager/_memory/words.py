"""Memories by the words in their text: in the search index, and beside it what is not in it."""

import json
from typing import Any, Literal

from .._engine.database import Database
from .._search import beside, index
from .._search.segments import Texts
from .._search.sources import MEMORIES, place_word
from .._search.text import MOST_WORDS, all_words, match_expression, question_words
from .records import IN_PLACE, Place, live

# A word that so many memories of a place have is only sought if there is no other.
_MANY = 2_000


def find(
    database: Database,
    place: Place,
    query: str,
    operator: Literal["AND", "OR"],
    limit: int,
    metadata: str | None,
    now: str,
) -> dict[int, float]:
    """Find memories by words, the best match (BM25) first, and of equal ones the newest.

    Args:
        database: Database to search.
        place: Where.
        query: What to look for: any text. Words that say nothing are left out.
        operator: Whether a memory must have all of the words, or one.
        limit: Number of memories at the most.
        metadata: See `records.live`.
        now: The present time.

    Returns:
        Their ids and scores.
    """
    words = _telling(database, place, question_words(query)) if operator == "OR" else all_words(query)[:MOST_WORDS]
    if not words:
        return {}
    match = _match(place, match_expression(words, operator))
    values = place.at(now, metadata=metadata, limit=limit, match=match)
    rows = index.find(
        database,
        MEMORIES,
        f"""
        SELECT memories.memory_id, -bm25(search_memories, 0, 1) AS score, memories.updated_at
        FROM search_memories CROSS JOIN memories ON memories.memory_id = search_memories.rowid
        WHERE search_memories MATCH :match AND {MEMORIES.not_stale} AND {live(metadata)}
        ORDER BY score DESC, memories.updated_at DESC, memories.memory_id DESC LIMIT :limit
        """,  # noqa: S608 (constants only)
        values,
        lambda not_indexed: _find_beside(database, words, operator, f"{live(metadata)} AND {not_indexed}", values),
    )
    # What was indexed meanwhile was found twice.
    best = {row[0]: row for row in rows}
    ranked = sorted(best.values(), key=lambda row: (row[1], row[2], row[0]), reverse=True)
    return {memory_id: score for memory_id, score, _ in ranked[:limit]}


def _match(place: Place, expression: str) -> str:
    return f'place : "{place_word(*place)}" AND text : ({expression})'


def _telling(database: Database, place: Place, words: list[str]) -> list[str]:
    """Return words without those that very many memories have, if others are left: they tell little, and cost much."""
    ((number,),) = database.query(
        f"SELECT count(*) FROM (SELECT 1 FROM memories WHERE {IN_PLACE} LIMIT {_MANY})",  # noqa: S608 (constants only)
        {"store": place.store, "scope": place.scope},
    )
    if number < _MANY or len(words) < 2:
        return words
    matches = {word: _match(place, match_expression([word], "AND")) for word in words}
    rows = index.find(
        database,
        MEMORIES,
        f"""
        SELECT value FROM json_each(:matches) AS asked WHERE {_MANY} > (
            SELECT count(*) FROM (SELECT 1 FROM search_memories WHERE search_memories MATCH asked.value LIMIT {_MANY})
        )
        """,  # noqa: S608
        {"matches": json.dumps([*matches.values()])},
        lambda _: [],
    )
    rare = {match for (match,) in rows}
    return [word for word in words if matches[word] in rare] or words


def _find_beside(
    database: Database, words: list[str], operator: Literal["AND", "OR"], condition: str, values: dict[str, Any]
) -> list[tuple[Any, ...]]:
    """Search memories that are not in the index."""
    found: list[tuple[Any, ...]] = []
    last_id = -1
    while rows := database.query(
        f"""
        SELECT memory_id, content, updated_at FROM memories WHERE memory_id > :last_id AND {condition}
        ORDER BY memory_id LIMIT {beside.ROWS}
        """,  # noqa: S608 (constants only)
        {**values, "last_id": last_id},
    ):
        last_id = rows[-1][0]
        times = {memory_id: updated_at for memory_id, _, updated_at in rows}
        texts: Texts = {memory_id: ("", MEMORIES.texts("", "", content)[1]) for memory_id, content, _ in rows}
        found += [
            (memory_id, score, times[memory_id])
            for memory_id, score, _ in beside.search(database, MEMORIES, texts, words, operator)
        ]
    return found
