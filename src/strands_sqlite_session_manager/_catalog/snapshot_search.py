"""Messages in snapshots by the words in their text.

The index of `storage` tells which of the latest snapshots have all the words. These are then read, and their messages
searched one by one, as messages of the tables are.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from .._arguments import BEGINS_WITH
from .._engine.database import Database
from .._search import beside, index
from .._search.segments import Texts
from .._search.sources import MESSAGES, STORAGE, block_text
from .._search.text import LONGEST_TEXT, match_expression, snippet
from . import snapshots
from .records import SearchResult

# Snapshots that are looked through at the most beyond what is asked for, the best match first.
_CANDIDATES = 200

_IS_LATEST = f"{BEGINS_WITH.format(column='storage.key')} AND {snapshots.IS_LATEST}"


def any_there(database: Database) -> bool:
    """Tell whether there are snapshots at all."""
    return bool(database.query("SELECT 1 FROM storage WHERE key >= 'session/' AND key < 'session0' LIMIT 1"))


def search(
    database: Database,
    words: list[str],
    session_id: str | None,
    agent_id: str | None,
    role: str | None,
    sessions: tuple[str, Sequence[Any]],
    times: tuple[str | None, str | None],
    limit: int,
) -> list[SearchResult]:
    """Find messages in the latest snapshots; see `SessionCatalog.search`.

    Args:
        database: Database to search.
        words: What to look for.
        session_id: Id of the session to search; None means all.
        agent_id: Id of the agents whose messages to search.
        role: "user" or "assistant".
        sessions: Condition for the sessions to search, and its parameters.
        times: The snapshots were stored at the first time or later, and before the second.
        limit: Number of messages at the most.

    Returns:
        The messages, the best match first.
    """
    if not words or not any_there(database):
        return []
    prefix = "session/" if session_id is None else snapshots.prefix_of(session_id)
    since, until = times
    condition = f"""
        {_IS_LATEST} AND (? IS NULL OR storage.updated_at >= ?) AND (? IS NULL OR storage.updated_at < ?)
        AND EXISTS (
            SELECT 1 FROM sessions
            WHERE session_id = substr(storage.key, 9, instr(storage.key, '/scopes/') - 9) AND {sessions[0]}
        )
        """  # noqa: S608 (constants only, as below)
    parameters = (prefix, prefix, since, since, until, until, *sessions[1])
    # What is longer than what is indexed may have the words further on.
    others = f"SELECT key, 0.0 FROM storage WHERE {condition} AND "  # noqa: S608
    rows = index.find(
        database,
        STORAGE,
        f"""
        SELECT storage.key, rank
        FROM search_storage CROSS JOIN storage ON storage.rowid = search_storage.rowid
        WHERE search_storage MATCH ? AND {STORAGE.not_stale} AND {condition}
        ORDER BY rank LIMIT ?
        """,  # noqa: S608
        (f"content : ({match_expression(words, 'AND')})", *parameters, limit + _CANDIDATES),
        lambda not_indexed: database.query(others + not_indexed, parameters),
    )
    rows = [*rows, *database.query(f"{others} length(data) > {LONGEST_TEXT}", parameters)]
    keys = list(dict.fromkeys(key for key, _ in sorted(rows, key=lambda row: float(row[1]))))
    return _search_messages(database, keys, words, agent_id, role, limit)


def _search_messages(
    database: Database, keys: list[str], words: list[str], agent_id: str | None, role: str | None, limit: int
) -> list[SearchResult]:
    best: list[SearchResult] = []
    found: list[tuple[str, str, int, str, str]] = []
    texts: Texts = {}

    def search_batch() -> None:
        hits = beside.search(database, MESSAGES, texts, words, "AND") if texts else []
        best.extend(SearchResult(*found[number], score, *snippet(text)) for number, score, (text,) in hits)
        best.sort(key=lambda hit: -hit.score)
        del best[limit:]
        texts.clear()
        found.clear()

    for snapshot in _chosen(database, keys, agent_id):
        for number, message in enumerate(snapshots.readable_messages(snapshot)):
            if role in (None, message["role"]):
                texts[len(found)] = (block_text(message["content"]),)
                found.append((snapshot.session_id, snapshot.name, number, message["role"], snapshot.updated_at))
        if len(texts) > beside.ROWS:
            search_batch()
    search_batch()
    return best


def _chosen(database: Database, keys: list[str], agent_id: str | None) -> Iterator[snapshots.Snapshot]:
    """Yield the snapshots under some keys that are of an agent which is not in the tables."""
    others = snapshots.in_tables(database, {key[8 : key.index("/scopes/")] for key in keys})
    for key in keys:
        for snapshot in snapshots.under(database, key):
            is_chosen = snapshot.scope == "agent" and agent_id in (None, snapshot.name)
            if is_chosen and (snapshot.session_id, snapshot.name) not in others:
                yield snapshot
