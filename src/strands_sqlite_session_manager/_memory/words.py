"""Memories by the words in their text: few are read, and many are sought in the search index and beside it."""

import json
from typing import Any, Literal

from .._engine.database import Database
from .._search import beside, index
from .._search.segments import Texts
from .._search.sources import MEMORIES, place_word
from .._search.text import MOST_WORDS, all_words, match_expression, question_words
from .records import IN_PLACE, Place, live

# So many memories of a place, with so many characters, are read for each search if there are so many times as many
# elsewhere: the words of all places are in the index, and it takes the longer the more there are.
_FEW, _FEW_CHARACTERS, _TIMES = 200, 50_000, 200
# A word that so many memories have is only sought if there is no other.
_MANY = 1_000
# Where to look, from 0 for the first memory to 1 for the last, to guess what share of them a place has: in no regular
# steps, since places may take turns.
_SAMPLE = json.dumps([number * 0.618034 % 1 for number in range(50)])

Operator = Literal["AND", "OR"]
# Id, score and time of a memory.
_Found = tuple[int, float, str]
# What is read of those that are not sought in the index.
_TEXTS = "memory_id, content, updated_at"


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
    words = question_words(query) if operator == "OR" else all_words(query)[:MOST_WORDS]
    if not words:
        return {}
    values = place.at(now, metadata=metadata, limit=limit)
    if _has_few(database, values):
        rows = _of_texts(database, live(metadata), values, words, operator)
    else:
        rows = _of_index(database, place, live(metadata), values, words, operator)
    # What was indexed meanwhile was found twice.
    best = {row[0]: row for row in rows}
    ranked = sorted(best.values(), key=lambda row: (row[1], row[2], row[0]), reverse=True)
    return {memory_id: score for memory_id, score, _ in ranked[:limit]}


def _has_few(database: Database, values: dict[str, Any]) -> bool:
    ((number, characters, last_id),) = database.query(
        f"""
        SELECT count(*), total(length(content)), (SELECT coalesce(max(memory_id), 0) FROM memories)
        FROM (SELECT content FROM memories WHERE {IN_PLACE} LIMIT {_FEW + 1})
        """,  # noqa: S608 (constants only, as in all of this module)
        values,
    )
    return bool(number <= _FEW and characters <= _FEW_CHARACTERS and number * _TIMES <= last_id)


def _of_texts(
    database: Database, condition: str, values: dict[str, Any], words: list[str], operator: Operator
) -> list[_Found]:
    """Search the texts of the memories for which a condition holds. What is rare among them alone is rare."""
    rows = database.query(f"SELECT {_TEXTS} FROM memories WHERE {condition}", values)  # noqa: S608
    return _searched(database, rows, words, operator, are_all=True) if rows else []


def _of_index(
    database: Database, place: Place, condition: str, values: dict[str, Any], words: list[str], operator: Operator
) -> list[_Found]:
    """Search the index, and beside it what is not in it, for memories for which a condition holds."""
    # Where most memories are in the place, to skip the others is quicker than to go through a list of those in it.
    restriction = "" if _has_most(database, values) else f'place : "{place_word(*place)}" AND '
    matches = {word: f"{restriction}text : ({match_expression([word], operator)})" for word in words}
    if operator == "OR" and len(words) > 1:
        words = _telling(database, values, matches)
    values["match"] = f"{restriction}text : ({match_expression(words, operator)})"
    return index.find(
        database,
        MEMORIES,
        f"""
        SELECT memories.memory_id, -bm25(search_memories, 0, 1) AS score, memories.updated_at
        FROM search_memories CROSS JOIN memories ON memories.memory_id = search_memories.rowid
        WHERE search_memories MATCH :match AND {MEMORIES.not_stale} AND {condition}
        ORDER BY score DESC, memories.updated_at DESC, memories.memory_id DESC LIMIT :limit
        """,  # noqa: S608
        values,
        lambda not_indexed: _beside_index(database, f"{condition} AND {not_indexed}", values, words, operator),
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


def _telling(database: Database, values: dict[str, Any], matches: dict[str, str]) -> list[str]:
    """Return words without those that very many memories have, if others are left: they tell little, and cost much.

    Args:
        database: Database to search.
        values: See `Place.at`.
        matches: The words, and for each the expression that finds the memories with it.
    """
    rows = index.find(
        database,
        MEMORIES,
        f"""
        SELECT value FROM json_each(:matches) AS asked
        WHERE {_MANY} > (SELECT count(*) FROM (SELECT 1 FROM memories WHERE {IN_PLACE} LIMIT {_MANY})) OR {_MANY} > (
            SELECT count(*) FROM (SELECT 1 FROM search_memories WHERE search_memories MATCH asked.value LIMIT {_MANY})
        )
        """,  # noqa: S608
        {**values, "matches": json.dumps([*matches.values()])},
        lambda _: [],
    )
    rare = {match for (match,) in rows}
    return [word for word in matches if matches[word] in rare] or [*matches]


def _beside_index(
    database: Database, condition: str, values: dict[str, Any], words: list[str], operator: Operator
) -> list[_Found]:
    found: list[_Found] = []
    last_id = -1
    while rows := database.query(
        f"""
        SELECT {_TEXTS} FROM memories WHERE memory_id > :last_id AND {condition}
        ORDER BY memory_id LIMIT {beside.ROWS}
        """,  # noqa: S608
        {**values, "last_id": last_id},
    ):
        last_id = rows[-1][0]
        found += _searched(database, rows, words, operator)
    return found


def _searched(
    database: Database, rows: list[tuple[Any, ...]], words: list[str], operator: Operator, *, are_all: bool = False
) -> list[_Found]:
    """Search rows with `_TEXTS`."""
    times = {memory_id: updated_at for memory_id, _, updated_at in rows}
    texts: Texts = {memory_id: ("", MEMORIES.texts("", "", content)[1]) for memory_id, content, _ in rows}
    found = beside.search(database, MEMORIES, texts, words, operator, are_all=are_all)
    return [(memory_id, score, times[memory_id]) for memory_id, score, _ in found]
