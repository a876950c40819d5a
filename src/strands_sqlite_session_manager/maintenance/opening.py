"""Files that exist, opened for maintenance, and the tables in them."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from strands.types.exceptions import SessionException

from .._engine.database import Database, open_database
from .._engine.file import FileDatabase
from .._engine.path import chosen_path, is_cluster


def require_file(db_path: str | os.PathLike[str] | None, instead: str) -> None:
    """Make sure that a database is a file.

    Args:
        db_path: Path of the database.
        instead: What does for a cluster what is to be done.

    Raises:
        SessionException: If it is a cluster.
    """
    if is_cluster(chosen_path(db_path)):
        raise SessionException(f"the database is a cluster, which is looked after with rqlite's own tools: {instead}")


def existing(db_path: str | os.PathLike[str] | None) -> str:
    """Return the path of a file with symbolic links resolved, if there is something."""
    path = os.path.realpath(chosen_path(db_path))
    try:
        os.stat(path)  # noqa: PTH116 (as in `private_file`)
    except OSError as error:
        raise SessionException(f"{path}: cannot be used: {error.strerror}; check the path") from error
    return path


@contextlib.contextmanager
def opened(db_path: str | os.PathLike[str] | None, *, read_only: bool = False) -> Iterator[Database]:
    """Open a database that exists, for a `with` block."""
    if not is_cluster(chosen_path(db_path)):
        existing(db_path)
    with contextlib.closing(open_database(db_path, read_only=read_only)) as database:
        yield database


@contextlib.contextmanager
def opened_file(
    db_path: str | os.PathLike[str] | None, instead: str, *, read_only: bool = False
) -> Iterator[FileDatabase]:
    """Open a file that exists, for a `with` block. See `require_file`."""
    require_file(db_path, instead)
    existing(db_path)
    with contextlib.closing(FileDatabase(db_path, read_only=read_only)) as database:
        yield database


def table_names(database: Database) -> list[str]:
    """Return the names of the tables that hold something; a virtual table keeps its rows in others."""
    return [
        name
        for (name,) in database.query(
            """
            SELECT name FROM pragma_table_list
            WHERE schema = 'main' AND type IN ('table', 'shadow') AND name NOT LIKE 'sqlite#_%' ESCAPE '#'
            """
        )
    ]


def column_names(database: Database, table: str) -> list[str]:
    """Return the names of the columns of a table."""
    return [name for (name,) in database.query("SELECT name FROM pragma_table_info(?)", (table,))]


def quoted(name: str) -> str:
    """Return a name as SQL takes it: a person may have added tables and columns of any name."""
    return '"' + name.replace('"', '""') + '"'


def size_of(path: str) -> int:
    """Return the size of a file in bytes, 0 if there is none."""
    try:
        return Path(path).stat().st_size
    except FileNotFoundError:
        return 0


def hard_links(path: str) -> int:
    """Return how many names a file has."""
    try:
        return Path(path).stat().st_nlink
    except OSError:
        return 0
