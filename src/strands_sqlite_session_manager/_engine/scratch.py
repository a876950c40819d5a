"""A database in memory for work that needs SQLite, and no lock of any other database."""

import sqlite3
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from .connection import connect, session_error
from .database import Database, Parameters, Statement
from .file import execute, many, query
from .pool import outside_forks

_Result = TypeVar("_Result")


class ScratchDatabase(Database):
    """A private, empty database on one connection, for one thread. Nothing is rolled back when a call fails."""

    path = location = "a scratch database in memory"

    def __init__(self) -> None:
        """Open it."""
        with outside_forks():
            self._connection = connect("file::memory:")
        self.query("PRAGMA journal_mode = OFF")

    def query(self, sql: str, parameters: Parameters = ()) -> list[tuple[Any, ...]]:
        """See `Database.query`."""
        return self._run(query, sql, parameters)

    def execute(self, sql: str, parameters: Parameters = ()) -> int:
        """See `Database.execute`."""
        return self._run(execute, sql, parameters)

    def transaction(self, statements: Iterable[Statement]) -> list[int]:
        """See `Database.transaction`."""
        raise NotImplementedError("use write_aside")

    def write_aside(self, statements: Iterable[Statement]) -> None:
        """See `Database.write_aside`."""
        self._run(many, list(statements))

    def truncate_log(self, *, wait: bool = True) -> bool:
        """See `Database.truncate_log`."""
        return True

    def close(self) -> None:
        """See `Database.close`."""
        with outside_forks():
            self._connection.close()

    def _run(self, operation: Callable[..., _Result], *arguments: Any) -> _Result:
        try:
            with outside_forks():
                return operation(self._connection, *arguments)
        except sqlite3.Error as error:
            raise session_error(error, self.path) from error
