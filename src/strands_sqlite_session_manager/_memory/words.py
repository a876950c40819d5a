"""Memories by the words in their text: few are read, and many are sought in the search index and beside it."""

import heapq
import json
from typing import Any, Literal

from .._engine.database import Database
from .._search import beside, index
from .._search.segments import Texts
from .._search.sources import MEMORIES, place_word
from .._search.text import MOST_WORDS, all_words, match_expression, question_words, respelt
from .records import IN_PLACE, Place, live

# So many memories of a place, with so many bytes, are read for each search if there are so many times as many
# elsewhere: the words of all places are in the index, and it takes the longer the more there are.
_FEW, _FEW_BYTES, _TIMES = 200, 20_000, 200
# A word that so many memories have is only sought if there is no other.
_MANY = 1_000
# Where to look, from 0 for the first memory to 1 for the last, to guess what share of them a place has: in no regular
# steps, since places may take turns.
_SAMPLE = json.dumps([number * 0.618034 % 1 for number in range(50)])

Operator = Literal["AND", "OR"]
# Id, score and time of a memory.
_Found = tuple[int, float, str]


def find(
    database: Database,
    place: Place,
    query: str,
    operator: Operator,
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
    query = respelt(query)
    words = question_words(query) if operator == "OR" else all_words(query)[:MOST_WORDS]
    if not words:
        return {}
    values = place.at(now, metadata=metadata, limit=min(limit, 2**62), many=_MANY)
    condition = live(metadata)
    ((number, last_id),) = database.query(
        f"""
        SELECT
            (SELECT count(*) FROM (SELECT 1 FROM memories WHERE {IN_PLACE} LIMIT :many)),
            (SELECT coalesce(max(memory_id), 0) FROM memories)
        """,  # noqa: S608 (constants only, as in all of this module)
        values,
    )
    if number <= _FEW and number * _TIMES <= last_id and not _are_long(database, values):
        texts = _texts(database, condition, values)
        found = _scored(database, texts, words, operator, are_all=True) if texts else []
    else:
        # Where most memories are in the place, to skip the others is quicker than to go through a list of those in it.
        values["place"] = "" if _has_most(database, values) else f'place : "{place_word(*place)}" AND '
        found = []
        if operator == "OR" and number >= _MANY and len(words) > 1:
            found = _of_index(database, condition, values, words, operator, _TELLING)
        # No other memory may have the words that tell more.
        found = found or _of_index(database, condition, values, words, operator, ":all")
    found.sort(key=_by_rank, reverse=True)
    return {memory_id: score for memory_id, score, _ in found[:limit]}


def _are_long(database: Database, values: dict[str, Any]) -> bool:
    # The first one beyond the limit ends it, so that it does not read much more than that.
    return bool(
        database.query(
            f"""
            SELECT 1 FROM (
                SELECT sum(length(CAST(content AS BLOB))) OVER (ROWS UNBOUNDED PRECEDING) AS bytes
                FROM memories WHERE {IN_PLACE}
            )
            WHERE bytes > {_FEW_BYTES} LIMIT 1
            """,  # noqa: S608
            values,
        )
    )


def _has_most(database: Database, values: dict[str, Any]) -> bool:
    ((has_most,),) = database.query(
        f"""
        SELECT total({IN_PLACE}) > count(*) / 2 FROM memories WHERE memory_id IN (
            SELECT 1 + CAST(value * (SELECT max(memory_id) FROM memories) AS INTEGER) FROM json_each(:sample)
        )
        """,  # noqa: S608
        {**values, "sample": _SAMPLE},
    )
    return bool(has_most)


# What is to be found in the index: words without those that very many memories have, which tell little and cost much.
_TELLING = """
    SELECT coalesce(group_concat(value, ' OR '), :all) FROM json_each(:each) AS word WHERE :many > (
        SELECT count(*) FROM (
            SELECT 1 FROM search_memories
            WHERE search_memories MATCH :place || 'text : (' || word.value || ')' LIMIT :many
        )
    )
    """


def _of_index(
    database: Database, condition: str, values: dict[str, Any], words: list[str], operator: Operator, sought: str
) -> list[_Found]:
    """Search the index, and beside it what is not in it.

    Args:
        database: Database to search.
        condition: SQL that holds for the memories that may be found.
        values: Its parameters, and `limit` and `place`.
        words: What to look for.
        operator: Whether a memory must have all of the words, or one.
        sought: SQL for what to look for in the index, with the parameters `all` and `each`: the words.
    """
    beside_it: list[_Found] = []

    def search_beside(not_indexed: str) -> list[_Found]:
        batch = f"memory_id > :last_id AND {condition} AND {not_indexed} ORDER BY memory_id LIMIT {beside.ROWS}"
        last_id = -1
        while rows := _texts(database, batch, {**values, "last_id": last_id}):
            last_id = rows[-1][0]
            best = heapq.nlargest(values["limit"], _scored(database, rows, words, operator), key=_by_rank)
            beside_it.extend(best)
        return beside_it

    found = index.find(
        database,
        MEMORIES,
        f"""
        SELECT memories.memory_id, -bm25(search_memories, 0, 1) AS score, memories.updated_at
        FROM search_memories CROSS JOIN memories ON memories.memory_id = search_memories.rowid
        WHERE search_memories MATCH :place || 'text : (' || ({sought}) || ')' AND {MEMORIES.not_stale} AND {condition}
        ORDER BY score DESC, memories.updated_at DESC, memories.memory_id DESC LIMIT :limit
        """,  # noqa: S608
        {
            **values,
            "all": match_expression(words, operator),
            "each": json.dumps([match_expression([word], operator) for word in words]),
        },
        search_beside,
    )
    if not beside_it:
        return found
    # A word that is rare in the index need not be so among the few beside it. So all are compared with each other.
    ids = json.dumps([memory_id for memory_id, _, _ in found])
    rows = _texts(database, "memory_id IN (SELECT value FROM json_each(:ids))", {"ids": ids})
    return _scored(database, rows, words, operator)


def _texts(database: Database, condition: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
    return database.query(f"SELECT memory_id, content, updated_at FROM memories WHERE {condition}", values)  # noqa: S608


def _scored(
    database: Database, rows: list[tuple[Any, ...]], words: list[str], operator: Operator, *, are_all: bool = False
) -> list[_Found]:
    """Return those of `_texts` that are found."""
    times = {memory_id: updated_at for memory_id, _, updated_at in rows}
    texts: Texts = {memory_id: ("", MEMORIES.texts("", "", content)[1]) for memory_id, content, _ in rows}
    found = beside.search(database, MEMORIES, texts, words, operator, are_all=are_all)
    return [(memory_id, score, times[memory_id]) for memory_id, score, _ in found]


def _by_rank(found: _Found) -> tuple[float, str, int]:
    memory_id, score, updated_at = found
    return score, updated_at, memory_id
