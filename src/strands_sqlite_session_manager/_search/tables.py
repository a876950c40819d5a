"""The tables that a search index consists of: whether there can be any, making them, and giving them up."""

import contextlib
import secrets
import sqlite3
import time
import warnings

from strands.types.exceptions import SessionException

from .._engine.database import Database, Statement
from .._errors import SessionConflictError
from .sources import SOURCES, Source
from .text import TOKENIZER

# What one transaction deletes of an index that is given up, so that it holds the write lock for less than 50 ms, and
# seconds until the next: writers of other processes do not queue but look now and then, and must find the file free.
EMPTIED_ROWS, PAUSE = 100, 0.001
# Tables that an FTS5 table consists of, with these after its name.
_PARTS = ("data", "idx", "docsize", "config")
# Names of all tables that are made for indexes, and of the indexes on them.
TABLES_OF_INDEXES = {
    f"{source.fts_table}{suffix}"
    for source in SOURCES
    for suffix in ("", "_text", "_text_by_segment", *(f"_{part}" for part in _PARTS))
}


def has_fts5(database: Database) -> bool:
    """Tell whether there can be an index."""
    return bool(database.query("SELECT 1 FROM pragma_module_list WHERE name = 'fts5'"))


_has_warned = False


def warn_of_missing_fts5() -> None:
    """Warn that searches are slow, once."""
    global _has_warned
    if not _has_warned:
        _has_warned = True
        warnings.warn(
            f"this SQLite ({sqlite3.sqlite_version}) lacks FTS5, so each search reads everything; most builds have it",
            RuntimeWarning,
            stacklevel=2,
        )


def exists(database: Database, source: Source) -> bool:
    """Tell whether there is an FTS5 table, in use or given up."""
    return bool(database.query("SELECT 1 FROM sqlite_master WHERE name = ? AND type = 'table'", (source.fts_table,)))


def drop(database: Database, source: Source) -> None:
    """Give up an index. Its tables stay until `create` puts new ones in their place."""
    tables = ("search_state", "search_stale", "search_segments")
    database.transaction([(f"DELETE FROM {table} WHERE source = ?", (source.table,)) for table in tables])  # noqa: S608


def create(database: Database, source: Source) -> None:
    """Make an empty index in the place of one that was given up, unless another process just did."""
    index, fields = source.fts_table, ", ".join(source.fields)
    # The numbers of an index that was given up are not used again.
    first = secrets.randbits(62)
    statements: list[Statement] = [
        # Fails if another process was first.
        ("INSERT INTO search_state (source, ticket, version) VALUES (?, ?, ?)", (source.table, first, first)),
        ("DELETE FROM search_stale WHERE source = ?", (source.table,)),
        ("DELETE FROM search_segments WHERE source = ?", (source.table,)),
    ]
    if exists(database, source):
        _empty(database, source)
        statements += _drop_tables(index)
    # Their FTS5 table may have been dropped by force.
    statements += [(f"DROP TABLE IF EXISTS {index}_{part}", ()) for part in (*_PARTS, "text")]
    statements += [
        (f"CREATE TABLE {index}_text (id INTEGER PRIMARY KEY, segment INTEGER NOT NULL, {fields})", ()),
        (f"CREATE INDEX {index}_text_by_segment ON {index}_text (segment)", ()),
        (
            f"CREATE VIRTUAL TABLE {index} "
            f"""USING fts5({fields}, content='{index}_text', content_rowid='id', tokenize="{TOKENIZER}")""",
            (),
        ),
    ]
    with contextlib.suppress(SessionConflictError):
        database.transaction(statements)


def _empty(database: Database, source: Source) -> None:
    """Empty the tables that an index consists of in small steps, because dropping a large index takes seconds."""
    for part in ("data", "text", "docsize"):
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


def _drop_tables(index: str) -> list[Statement]:
    """Return what drops an FTS5 table. It must look sound at first sight, or FTS5 refuses."""
    return [
        (f"CREATE TABLE IF NOT EXISTS {index}_data (id INTEGER PRIMARY KEY, block BLOB)", ()),
        (f"CREATE TABLE IF NOT EXISTS {index}_config (k PRIMARY KEY, v) WITHOUT ROWID", ()),
        (f"REPLACE INTO {index}_data VALUES (1, x''), (10, zeroblob(7))", ()),  # noqa: S608
        (f"REPLACE INTO {index}_config VALUES ('version', 4)", ()),  # noqa: S608
        (f"DROP TABLE {index}", ()),
    ]
