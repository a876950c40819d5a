"""Whether tables, triggers, indexes and views are those that this library makes, and nothing was put among them."""

import contextlib
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from .._engine.database import Database, open_database
from .._engine.path import IN_MEMORY
from .._engine.schema import without_clock
from .._search.tables import TABLES_OF_INDEXES
from .findings import Finding
from .opening import quoted


class _Object(NamedTuple):
    """A row of SQLite's schema table."""

    type: str
    name: str
    table: str
    sql: str


def schema_findings(database: Database) -> Iterator[Finding]:
    """Compare the schema of a database with what the migrations make.

    Tables of Litestream are left out, and so are plain tables and views that a person has added, with what belongs to
    them, indexes on our tables, and columns of theirs in our tables.

    Yields:
        What is found: of the kind "schema" what is missing or changed, of the kind "foreign" what was added and acts on
        what is stored.
    """
    there = {found.name: found for found in _objects(database)}
    is_from_cluster = "cluster_writes" in there
    for expected in _expected():
        found = there.pop(expected.name, None)
        complaint = _complaint(database, expected, found)
        if complaint and not (is_from_cluster and _is_of_cluster(expected, found)):
            yield Finding(
                "error",
                "schema",
                f"the {expected.type} {expected.name} {complaint}",
                "repair, which makes it again" if _remedy(expected, found) else _RESTORE,
                remedy=_remedy(expected, found),
            )
    ours = {expected.name for expected in _expected()} | TABLES_OF_INDEXES
    for found in there.values():
        if _is_foreign(database, found, ours):
            yield Finding(
                "error",
                "foreign",
                f"the {found.type} {found.name} on {found.table} is none of this library's, and may change, swallow or "
                f"keep what is stored: {' '.join(found.sql.split())[:200]}",
                f"unless you know what it is for: DROP {found.type.upper()} {quoted(found.name)}",
            )


_RESTORE = "restore a backup; what was in it cannot be made again"


def _objects(database: Database) -> list[_Object]:
    """Return what is in a database, without SQLite's own indexes and tables, and without Litestream's."""
    return [
        _Object(*row)
        for row in database.query(
            r"""
            SELECT type, name, tbl_name, sql FROM sqlite_master
            WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite\_%' ESCAPE '\'
                AND tbl_name NOT LIKE '\_litestream\_%' ESCAPE '\'
            ORDER BY rowid
            """
        )
    ]


@lru_cache(1)
def _expected() -> tuple[_Object, ...]:
    with contextlib.closing(open_database(IN_MEMORY)) as database:
        return tuple(_objects(database))


def _is_of_cluster(expected: _Object, found: _Object | None) -> bool:
    """Tell whether an object is as a cluster has it, whose backup is a file too."""
    of_cluster = [sql.split() for sql in without_clock([expected.sql])]
    return of_cluster == ([] if found is None else [found.sql.split()])


def _complaint(database: Database, expected: _Object, found: _Object | None) -> str:
    """Return what is wrong with an object, if anything."""
    if found is None:
        return "is missing"
    if found.type != expected.type or found.table != expected.table:
        return f"is a {found.type} on {found.table}"
    if found.sql.split() == expected.sql.split():
        return ""
    if found.type == "table" and _columns(database, found.name) == _columns(None, found.name):
        return ""  # A person has added a column.
    return "is not as this library makes it"


def _columns(database: Database | None, table: str) -> list[tuple[object, ...]]:
    """Return the columns and foreign keys of a table, without columns that are not ours."""
    with contextlib.closing(open_database(IN_MEMORY)) as new:
        names = {name for (name,) in new.query("SELECT name FROM pragma_table_info(?)", (table,))}
        there = database or new
        columns = there.query('SELECT name, type, "notnull", dflt_value, pk FROM pragma_table_info(?)', (table,))
        keys = there.query("SELECT * FROM pragma_foreign_key_list(?)", (table,))
        kinds = there.query("SELECT wr, strict FROM pragma_table_list WHERE schema = 'main' AND name = ?", (table,))
        return [*(column for column in columns if column[0] in names), *keys, *kinds]


def _remedy(expected: _Object, found: _Object | None) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return what makes an object again, if that loses nothing."""
    if expected.type == "table" and not (found is None and expected.name.startswith("search_")):
        return ()
    statements: list[tuple[str, tuple[str, ...]]] = []
    if found is not None:
        statements.append((f"DROP {found.type.upper()} {quoted(found.name)}", ()))
    statements.append((expected.sql, ()))
    if "_search_" in expected.name:
        # What changed without the trigger is not known. The next search makes the index again.
        statements += [
            (f"DELETE FROM {table} WHERE source = ?", (expected.table,))  # noqa: S608 (constants only)
            for table in ("search_state", "search_stale", "search_segments")
        ]
    return tuple(statements)


def _is_foreign(database: Database, found: _Object, ours: set[str]) -> bool:
    """Tell whether something that is not ours acts on what is."""
    if found.name in TABLES_OF_INDEXES:
        return found.type not in ("table", "index")
    if found.type == "index":
        # Another index makes a query quick, but one that is unique refuses rows.
        is_unique = database.query(
            'SELECT "unique" FROM pragma_index_list(?) WHERE name = ?', (found.table, found.name)
        )
        return found.table in ours and is_unique == [(1,)]
    return found.type == "trigger" and found.table in ours
