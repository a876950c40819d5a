"""What manager, repository, catalog and storage have in common: they open a database, own it, and close it."""

import os
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .database import Database, Synchronous, open_database
from .path import IN_MEMORY

if TYPE_CHECKING:
    from typing_extensions import Self


class DatabaseHolder:
    """Something that holds a database open until `close`, which a `with` statement calls at its end."""

    _database: Database
    _owns_database: bool
    _options: dict[str, Any]

    def __init__(
        self,
        db_path: str | os.PathLike[str] | None = None,
        *,
        shared: "DatabaseHolder | None" = None,
        synchronous: Synchronous = "NORMAL",
        busy_timeout: float | None = None,
        read_only: bool = False,
    ):
        """Open a database, or share one.

        Args:
            db_path: See `open_database`, as the options are.
            shared: Another holder whose database to use; it stays open when this is closed.
            synchronous: See `open_database`.
            busy_timeout: See `open_database`.
            read_only: See `open_database`.

        Raises:
            SessionException: If the database cannot be opened or is not ours to use.
            ValueError: If an argument is out of its range, or there is a database to share and options beside it.
        """
        self._options = {
            "db_path": db_path,
            "synchronous": synchronous,
            "busy_timeout": busy_timeout,
            "read_only": read_only,
        }
        if shared is None:
            self._database = open_database(
                db_path, synchronous=synchronous, busy_timeout=busy_timeout, read_only=read_only
            )
        elif (db_path, synchronous, busy_timeout, read_only) == (None, "NORMAL", None, False):
            self._database, self._options = shared._database, shared._options
        else:
            raise ValueError("session_repository was opened with its own options: give none beside it")
        self._owns_database = shared is None

    @classmethod
    def on(cls, other: "DatabaseHolder") -> "Self":
        """Return one on the database of another. Closing either closes both."""
        holder = cls.__new__(cls)
        DatabaseHolder.__init__(holder, shared=other)
        holder._owns_database = other._owns_database
        return holder

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs to open the same database: its path or URL, with the password, and options.

        Raises:
            TypeError: If the database is in memory.
        """
        if self._database.path == IN_MEMORY:
            raise TypeError(
                f"a {type(self).__name__} on {IN_MEMORY!r} cannot be pickled or copied: its database belongs to this "
                "object alone; use a file"
            )
        return {**self._options, "db_path": self._database.location}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the database again."""
        DatabaseHolder.__init__(self, **state)

    def close(self) -> None:
        """Let go of the database. Closing twice is fine; any other use afterwards raises `SessionException`.

        A database that is shared stays open, for its owner to close.
        """
        if self._owns_database:
            self._database.close()

    def __enter__(self) -> "Self":
        """Return itself."""
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


def database_of(holder: DatabaseHolder) -> Database:
    """Return the database that is held, for the other rooms of this package."""
    return holder._database
