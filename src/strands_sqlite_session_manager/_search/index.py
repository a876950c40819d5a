"""The search index: FTS5 tables inside the database, and what keeps them true.

A write pays nothing for the index. What was added since the last search is indexed by the next one, in short
transactions between which writers get their turn. What was indexed and then changed or deleted is entered into the
plain table `search_stale` by triggers, in the same statement, and no search shows what is entered there. The triggers
touch plain tables alone, so neither a broken index nor an SQLite without FTS5 can make a write fail; that is why they
do not delete from the index themselves. The former text lies in the file until the next search, or `erase_removed`,
takes it out.

* `search_state`: for each source (a table), the row up to which rows are indexed or entered as stale: its rowid, and
  what tells it from a row that a dump and restore, say, gave the same rowid. Then all is indexed again. The row always
  exists (a trigger sees to it), so rows that are added have higher rowids. `ticket` is the last ticket given; it only
  grows. `unmerged` is a ticket, or 0: whether words of texts that were taken out are still in the index.
* `search_stale`: rowids to be indexed, or to be taken out where the row is gone. Whoever has done so deletes the entry
  only if its ticket is still the one it read, because the row may have changed since.
* `search_messages`, `search_storage`: the FTS5 tables, with the rowids of their sources.

Words match by their English stem, and without accents (tokenizers porter and unicode61). Of scripts without spaces, and
of Korean, which glues particles to its words, each character is a word of its own: zero-width spaces are put between
them. A run of them is then found as a phrase, wherever it stands, at any length. The trigram tokenizer would want a
second, larger index beside this one, and find nothing for the two characters that most Chinese words have.

The index holds the texts too: FTS5 needs them to delete (until 3.43), and to show snippets. Of very long texts, only
the start is indexed. To erase what is gone from it, `erase_removed` merges the whole index: half a second for 100,000
messages. FTS5's own `secure-delete`, from SQLite 3.42 on, takes as long for a dozen that are deleted.

An index that makes SQLite fail is dropped and built again. Where this cannot be done (no FTS5, a file that cannot be
written, a lock that is held for too long), a search reads everything there is instead: slow, but complete.
"""

import contextlib
import logging
import secrets
import sqlite3
import time
import warnings
from typing import Any

from strands.types.exceptions import SessionException

from .._engine.database import Database, Parameters, Statement
from .._errors import DamagedDatabaseError, SessionConflictError
from .sources import Source
from .text import TOKENIZER, segment

logger = logging.getLogger(__name__)

# What one transaction does at the most, so that it holds the write lock for less than 50 ms.
QUEUED_ROWS, INDEXED_ROWS, INDEXED_BYTES, MERGED_PAGES, EMPTIED_ROWS = 2000, 200, 50_000, 32, 100
# Seconds between two transactions. Writers of other processes do not queue but look now and then, and must find the
# file free. Measured: twice as many of their appends get through, and the longest takes 75-95 ms, not 75-220.
PAUSE = 0.001
# To take a text out of the index takes longer than to put it in, by this factor.
REMOVAL = 5
# Tables that an FTS5 table consists of, with these after its name.
_PARTS = ("data", "idx", "content", "docsize", "config")


def find(database: Database, source: Source, sql: str, parameters: Parameters) -> list[tuple[Any, ...]] | None:
    """Bring the index up to date and search it.

    Args:
        database: Database to search.
        source: What is searched.
        sql: SELECT on the index.
        parameters: Its parameters.

    Returns:
        Its rows; None if there is no index that could be used.
    """
    if not _has_fts5(database):
        _warn_of_missing_fts5()
        return None
    for _ in range(2):
        try:
            update(database, source)
            return database.query(sql, parameters)
        except DamagedDatabaseError as error:
            logger.warning("index=<%s>, error=<%s> | building a broken index again", source.fts_table, error)
            with contextlib.suppress(SessionException):  # The next attempt fails too then.
                drop(database, source)
        except SessionException as error:
            logger.warning("index=<%s>, error=<%s> | searching without the index", source.fts_table, error)
            return None
    return None


def rebuild(database: Database, source: Source) -> None:
    """Drop the index and build it again.

    Raises:
        SessionException: If it cannot be built.
    """
    if not _has_fts5(database):
        raise SessionException(f"{database.path}: this SQLite lacks FTS5, so there is no search index to build")
    drop(database, source)
    update(database, source)


def update(database: Database, source: Source) -> None:
    """Index what was added or changed since the last time, and take out what was deleted.

    Raises:
        SessionException: If this cannot be done.
    """
    state = database.query(
        f"""
        SELECT
            last_id = 0 OR EXISTS (SELECT 1 FROM {source.table} WHERE rowid = last_id AND {source.identity} = last_row),
            EXISTS (SELECT 1 FROM {source.table} WHERE rowid > last_id)
            OR EXISTS (SELECT 1 FROM search_stale WHERE search_stale.source = search_state.source)
        FROM search_state WHERE source = ?
        """,  # noqa: S608 (constants only, as in all of this module)
        (source.table,),
    )
    if not state:
        create(database, source)
    else:
        is_ours, has_work = state[0]
        if not is_ours:
            logger.debug("index=<%s> | rows were renumbered, building the index again", source.fts_table)
            drop(database, source)
            create(database, source)
        elif not has_work:
            return
    # No more than there is now: writers that never rest keep no search waiting for ever.
    ((newest,),) = database.query(f"SELECT max(rowid) FROM {source.table}")  # noqa: S608
    queued = QUEUED_ROWS
    while queued == QUEUED_ROWS:
        queued = queue_new(database, source, newest)
        # All that is queued, before there is more: `drop` deletes the queue at once.
        refresh(database, source)


def next_ticket(source: Source) -> Statement:
    """Return the statement that gives the next ticket of a source, which the same transaction then reads."""
    return "UPDATE search_state SET ticket = ticket + 1 WHERE source = ?", (source.table,)


def queue_new(database: Database, source: Source, newest: int | None) -> int:
    """Enter some of the rows that are not indexed yet as stale, up to the rowid `newest`, and return how many."""
    new = f"""
        SELECT rowid FROM {source.table}
        WHERE rowid > (SELECT last_id FROM search_state WHERE source = :source) AND rowid <= :newest
        ORDER BY rowid LIMIT {QUEUED_ROWS}
        """  # noqa: S608
    parameters = {"source": source.table, "newest": newest}
    _, queued, _ = database.transaction(
        [
            next_ticket(source),
            (
                f"""
                INSERT INTO search_stale (source, id, ticket)
                SELECT source, new.rowid, ticket FROM search_state CROSS JOIN ({new}) AS new WHERE source = :source
                ON CONFLICT (source, id) DO UPDATE SET ticket = excluded.ticket
                """,  # noqa: S608
                parameters,
            ),
            (
                f"""
                UPDATE search_state SET (last_id, last_row) = (
                    SELECT rowid, {source.identity} FROM {source.table} WHERE rowid = (SELECT max(rowid) FROM ({new}))
                )
                WHERE source = :source AND EXISTS ({new})
                """,  # noqa: S608
                parameters,
            ),
        ]
    )
    return queued


def refresh(database: Database, source: Source, *, only_indexed: bool = False) -> None:
    """Index the stale rows again, each once: a row that changes in between is left to the next time.

    Args:
        database: Database to index.
        source: What is indexed.
        only_indexed: Leave out rows that are not in the index yet.
    """
    # A row above `last_id` has the rowid of one that is gone. It is not indexed before it is queued, because until then
    # the triggers do not tell when it changes.
    statement = f"""
        SELECT
            search_stale.id, ticket, {source.table}.rowid IS NOT NULL,
            coalesce(length(CAST({source.indexed} AS BLOB)), 0), {source.columns}
        FROM search_stale {"CROSS" if only_indexed else "LEFT"} JOIN {source.fts_table}_content AS indexed
            ON indexed.id = search_stale.id
        LEFT JOIN {source.table} ON {source.table}.rowid = search_stale.id
            AND search_stale.id <= (SELECT last_id FROM search_state WHERE search_state.source = search_stale.source)
        WHERE source = ? AND search_stale.id > ? ORDER BY search_stale.id LIMIT {INDEXED_ROWS}
        """  # noqa: S608
    last_id = -(2**63)
    while rows := database.query(statement, (source.table, last_id)):
        last_id = rows[-1][0]
        _index_rows(database, source, rows)


def _index_rows(database: Database, source: Source, rows: list[tuple[Any, ...]]) -> None:
    """Index rows again, in as many transactions as their texts are long."""
    statements: list[Statement] = []
    size = 0
    for row_id, ticket, exists, former, *columns in rows:
        texts = [segment(text) for text in source.texts(*columns)] if exists else []
        # A Latin word takes about as many bytes as a character of a script without spaces with its separator.
        added = sum(len(text.encode()) for text in texts) + REMOVAL * former
        if statements and size + added > INDEXED_BYTES:
            _write(database, source, statements)
            statements, size = [], 0
        key = (source.table, row_id, ticket)
        statements += [
            _replace(source, texts, key) if exists else _remove(source, key),
            ("DELETE FROM search_stale WHERE source = ? AND id = ? AND ticket = ?", key),
        ]
        if former:
            # In the same transaction, so that whoever erases next merges, whoever took the text out.
            statements += [
                next_ticket(source),
                ("UPDATE search_state SET unmerged = ticket WHERE source = ?", (source.table,)),
            ]
        size += added
    _write(database, source, statements)


def _write(database: Database, source: Source, statements: list[Statement]) -> None:
    database.transaction(statements)
    time.sleep(PAUSE)
    # By itself, FTS5 would merge now and then, and for longer.
    merge(database, source, MERGED_PAGES)


def _replace(source: Source, texts: list[str], key: tuple[str, int, int]) -> Statement:
    return (
        f"""
        INSERT OR REPLACE INTO {source.fts_table} (rowid, {source.fields})
        SELECT id, {", ".join("?" * len(texts))} FROM search_stale WHERE source = ? AND id = ? AND ticket = ?
        """,  # noqa: S608
        (*texts, *key),
    )


def _remove(source: Source, key: tuple[str, int, int]) -> Statement:
    return (
        f"""
        DELETE FROM {source.fts_table}
        WHERE rowid = (SELECT id FROM search_stale WHERE source = ? AND id = ? AND ticket = ?)
        """,  # noqa: S608
        key,
    )


def merge(database: Database, source: Source, pages: int) -> None:
    database.execute(f"INSERT INTO {source.fts_table} ({source.fts_table}, rank) VALUES ('merge', ?)", (pages,))  # noqa: S608
    time.sleep(PAUSE)


def exists(database: Database, source: Source) -> bool:
    return bool(database.query("SELECT 1 FROM sqlite_master WHERE name = ? AND type = 'table'", (source.fts_table,)))


def drop(database: Database, source: Source) -> None:
    """Give up an index. Its tables stay until `create` puts new ones in their place."""
    database.transaction(
        [(f"DELETE FROM {table} WHERE source = ?", (source.table,)) for table in ("search_state", "search_stale")]  # noqa: S608
    )


def create(database: Database, source: Source) -> None:
    """Make an empty index in the place of one that was given up, unless another process just did."""
    index = source.fts_table
    statements: list[Statement] = [
        # Fails if another process was first. The tickets of an index that was given up are not used again.
        ("INSERT INTO search_state (source, ticket) VALUES (?, ?)", (source.table, secrets.randbits(62))),
        ("DELETE FROM search_stale WHERE source = ?", (source.table,)),
    ]
    if exists(database, source):
        _empty(database, source)
        statements += _drop_tables(index)
    # Their FTS5 table may have been dropped by force.
    statements += [(f"DROP TABLE IF EXISTS {index}_{part}", ()) for part in _PARTS]
    statements += [
        (f'CREATE VIRTUAL TABLE {index} USING fts5({source.fields}, tokenize="{TOKENIZER}")', ()),
        # Merges are asked for, in steps of known size.
        (f"INSERT INTO {index} ({index}, rank) VALUES ('automerge', 0)", ()),  # noqa: S608
        (f"INSERT INTO {index} ({index}, rank) VALUES ('crisismerge', 1999)", ()),  # noqa: S608
    ]
    with contextlib.suppress(SessionConflictError):
        database.transaction(statements)


def _empty(database: Database, source: Source) -> None:
    """Empty the tables that an index consists of in small steps, because dropping a large index takes seconds."""
    for part in ("data", "content", "docsize"):
        table = f"{source.fts_table}_{part}"
        # What is missing or forbidden (SQLite's defensive mode) is left to the dropping of the whole.
        with contextlib.suppress(SessionException):
            while database.execute(
                f"""
                DELETE FROM {table} WHERE id IN (SELECT id FROM {table} LIMIT {EMPTIED_ROWS})
                AND NOT EXISTS (SELECT 1 FROM search_state WHERE source = ?)
                """,  # noqa: S608
                (source.table,),
            ):
                time.sleep(PAUSE)


def _drop_tables(index: str) -> list[tuple[str, Parameters]]:
    """Return what drops an FTS5 table. It must look sound at first sight, or FTS5 refuses."""
    return [
        (f"CREATE TABLE IF NOT EXISTS {index}_data (id INTEGER PRIMARY KEY, block BLOB)", ()),
        (f"CREATE TABLE IF NOT EXISTS {index}_config (k PRIMARY KEY, v) WITHOUT ROWID", ()),
        (f"REPLACE INTO {index}_data VALUES (1, x''), (10, zeroblob(7))", ()),  # noqa: S608
        (f"REPLACE INTO {index}_config VALUES ('version', 4)", ()),  # noqa: S608
        (f"DROP TABLE {index}", ()),
    ]


def _has_fts5(database: Database) -> bool:
    return bool(database.query("SELECT 1 FROM pragma_module_list WHERE name = 'fts5'"))


_has_warned = False


def _warn_of_missing_fts5() -> None:
    global _has_warned
    if not _has_warned:
        _has_warned = True
        warnings.warn(
            f"this SQLite ({sqlite3.sqlite_version}) lacks FTS5, so each search reads everything; most builds have it",
            RuntimeWarning,
            stacklevel=2,
        )
