"""Messages by the words in their text: in the index, and beside it what is not in it."""

from collections.abc import Callable
from typing import Any

from .._engine.database import Database, valid_text
from .._search import beside, index
from .._search.segments import Texts
from .._search.sources import MESSAGES, block_text, message_text
from .._search.text import match_expression, query_words, snippet
from .records import SearchResult

_ROLE = """
    CASE
        WHEN json_valid(coalesce(redact_message, message))
        THEN json_extract(coalesce(redact_message, message), '$.role')
    END
    """
# In the order of `SearchResult`.
_FOUND = f"""
    messages.session_id, messages.agent_id, messages.message_id, coalesce({_ROLE}, ''), messages.created_at
    """

# A condition on `messages`.
HAS_ROLE = f"{_ROLE} = ?"


def search(
    database: Database,
    query: str,
    condition: str,
    parameters: list[Any],
    limit: int,
    progress: Callable[[int, int], object] | None,
) -> list[SearchResult]:
    """Find messages for which a condition holds; see `SessionCatalog.search`."""
    words = query_words(query)
    if not words:
        return []
    rows = index.find(
        database,
        MESSAGES,
        f"""
        SELECT {_FOUND}, -rank, highlight(search_messages, 0, char(2), char(3))
        FROM search_messages CROSS JOIN messages ON messages.rowid = search_messages.rowid
        WHERE search_messages MATCH ? AND {MESSAGES.not_stale} AND {condition}
        ORDER BY rank LIMIT ?
        """,  # noqa: S608 (constants only)
        (match_expression(words, "AND"), *parameters, limit),
        lambda not_indexed: _search_beside(database, words, f"{condition} AND {not_indexed}", parameters, limit),
        progress,
    )
    # What was indexed meanwhile was found twice.
    best = {row[:3]: row for row in rows}
    return [
        SearchResult(*(*key, valid_text(role), created_at, score, *snippet(text)))
        for *key, role, created_at, score, text in sorted(best.values(), key=lambda row: -row[-2])[:limit]
    ]


def found_in(database: Database, content: Any, query: str) -> tuple[str, tuple[tuple[int, int], ...]] | None:
    """Return what a search shows of one message's content; None if that lacks a word."""
    words = query_words(query)
    texts: Texts = {0: (block_text(content),)}
    found = beside.search(database, MESSAGES, texts, words, "AND", are_all=True) if words else []
    return snippet(found[0][2][0]) if found else None


def _search_beside(
    database: Database, words: list[str], condition: str, parameters: list[Any], limit: int
) -> list[tuple[Any, ...]]:
    """Search messages that are not in the index."""
    best: list[tuple[Any, ...]] = []
    last_id = -1
    while rows := database.query(
        f"""
        SELECT {_FOUND}, {MESSAGES.columns}, messages.rowid FROM messages
        WHERE messages.rowid > ? AND {condition} ORDER BY messages.rowid LIMIT {beside.ROWS}
        """,  # noqa: S608 (constants only)
        (last_id, *parameters),
    ):
        last_id = rows[-1][-1]
        found = {row_id: tuple(columns) for *columns, _, row_id in rows}
        texts: Texts = {row_id: (message_text(message),) for *_, message, row_id in rows}
        best += [
            (*found[row_id], score, highlighted)
            for row_id, score, (highlighted,) in beside.search(database, MESSAGES, texts, words, "AND")
        ]
        best = sorted(best, key=lambda hit: -hit[-2])[:limit]
    return best
