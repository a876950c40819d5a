"""Messages by the words in their text: through the index, or one by one where there is none."""

from typing import Any

from .._engine.database import Database
from .._search import index
from .._search.sources import MESSAGES, message_text
from .._search.text import Scan, match_expression, query_words, snippet
from .records import SearchResult

_ROLE = """
    CASE
        WHEN json_valid(coalesce(redact_message, message))
        THEN json_extract(coalesce(redact_message, message), '$.role')
    END
    """
# In the order of `SearchResult`. The role as bytes: of text that is not UTF-8, Python's sqlite3 makes an error.
_FOUND = f"""
    messages.session_id, messages.agent_id, messages.message_id,
    CAST(coalesce({_ROLE}, '') AS BLOB), messages.created_at
    """

# A condition on `messages`.
HAS_ROLE = f"{_ROLE} = ?"


def search(database: Database, query: str, condition: str, parameters: list[Any], limit: int) -> list[SearchResult]:
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
    )
    if rows is None:
        rows = _scan(database, words, condition, parameters, limit)
    return [
        SearchResult(*(*key, role.decode(errors="replace"), created_at, score, snippet(text)))
        for *key, role, created_at, score, text in rows
    ]


def _scan(
    database: Database, words: list[str], condition: str, parameters: list[Any], limit: int
) -> list[tuple[Any, ...]]:
    """Search without the index."""
    scan = Scan(words)
    best: list[tuple[Any, ...]] = []
    last_id = -1
    while rows := database.query(
        f"""
        SELECT {_FOUND}, {MESSAGES.columns}, messages.rowid FROM messages
        WHERE messages.rowid > ? AND {condition} ORDER BY messages.rowid LIMIT 500
        """,  # noqa: S608 (constants only)
        (last_id, *parameters),
    ):
        last_id = rows[-1][-1]
        for *found, message, _ in rows:
            text = message_text(message)
            counts = scan.count(text)
            if all(counts):
                best.append((*found, float(sum(counts)), text))
        best = sorted(best, key=lambda hit: -hit[-2])[:limit]
    return [(*found, scan.highlighted(text)) for *found, text in best]
