"""Files that exist, opened for maintenance, and the tables in them."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from strands.types.exceptions import SessionException

from .._engine.database import Database
from .._engine.file import FileDatabase
from .._engine.path import chosen_path


def existing(db_path: str | os.PathLike[str] | None) -> str:
    """Return the path of a database with symbolic links resolved, if there is something."""
    path = os.path.realpath(chosen_path(db_path))
    try:
        os.stat(path)  # noqa: PTH116 (as in `private_file`)
    except OSError as error:
        raise SessionException(f"{path}: cannot be used: {error.strerror}; check the path") from error
    return path


@contextlib.contextmanager
def opened(db_path: str | os.PathLike[str] | None, *, read_only: bool = False) -> Iterator[FileDatabase]:
    """Open a file that exists, for a `with` block."""
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
