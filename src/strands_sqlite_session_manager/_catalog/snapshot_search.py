"""Messages in snapshots by the words in their text.

The index of `storage` tells which of the latest snapshots have all the words. These are then read, and their messages
searched one by one, as messages of the tables are. Of a long snapshot, the index has the start alone, so a few of those
are read without asking it.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from .._arguments import BEGINS_WITH
from .._engine.database import Database
from .._engine.schema import SNAPSHOT_SESSION
from .._search import beside, index
from .._search.segments import Texts
from .._search.sources import MESSAGES, STORAGE, block_text
from .._search.text import LONGEST_TEXT, match_expression, snippet
from . import snapshots
from .records import SearchResult

# Snapshots that are looked through at the most beyond what is asked for: the best matches, and of those that are longer
# than what is indexed, the last stored. To read and decode one takes several milliseconds.
_BEST, _LONG = 180, 20


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
    suffix = snapshots.LATEST if agent_id is None else f"/scopes/agent/{agent_id}{snapshots.LATEST}"
    since, until = times
    condition = f"""
        {BEGINS_WITH.format(column="storage.key")} AND substr(storage.key, -length(?)) = ?
        AND instr(storage.key, '/scopes/agent/')
        AND (? IS NULL OR storage.updated_at >= ?) AND (? IS NULL OR storage.updated_at < ?)
        AND EXISTS (
            SELECT 1 FROM sessions
            WHERE session_id = {SNAPSHOT_SESSION.format(key="storage.key")} AND {sessions[0]}
        )
        """  # noqa: S608 (constants only, as below)
    parameters = (prefix, prefix, suffix, suffix, since, since, until, until, *sessions[1])
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
        (f"content : ({match_expression(words, 'AND')})", *parameters, limit + _BEST),
        lambda not_indexed: database.query(others + not_indexed, parameters),
    )
    # These may have the words further on.
    longest = f"{others} length(data) > {LONGEST_TEXT} ORDER BY updated_at DESC, key LIMIT {_LONG}"
    keys = list(dict.fromkeys(key for key, _ in (*rows, *database.query(longest, parameters))))
    return _search_messages(database, keys, words, role, limit)


def _search_messages(
    database: Database, keys: list[str], words: list[str], role: str | None, limit: int
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

    for snapshot in _chosen(database, keys):
        for number, message in enumerate(snapshots.readable_messages(snapshot)):
            if role in (None, message["role"]):
                texts[len(found)] = (block_text(message["content"]),)
                found.append((snapshot.session_id, snapshot.name, number, message["role"], snapshot.updated_at))
        if len(texts) > beside.ROWS:
            search_batch()
    search_batch()
    return best


def _chosen(database: Database, keys: list[str]) -> Iterator[snapshots.Snapshot]:
    """Yield the snapshots under some keys that are of an agent which is not in the tables."""
    others = snapshots.in_tables(database, {key[8 : key.index("/scopes/", 8)] for key in keys})
    for key in keys:
        for snapshot in snapshots.under(database, key):
            if (snapshot.session_id, snapshot.name) not in others:
                yield snapshot
