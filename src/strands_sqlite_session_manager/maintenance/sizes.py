"""How large a database is, and how it gives free space back."""

import os
from dataclasses import dataclass

from .._catalog import snapshots
from .._engine.database import Database
from .._engine.file import FileDatabase
from .._engine.schema import IS_OF_SNAPSHOTS, SNAPSHOT_SESSION
from .opening import column_names, opened, opened_file, quoted, size_of, table_names


@dataclass(frozen=True)
class TableStats:
    """Size of a table.

    Attributes:
        name: Its name.
        rows: Number of its rows.
        size: Bytes of its pages and those of its indexes; only of its values, where SQLite was built without `dbstat`.
    """

    name: str
    rows: int
    size: int


@dataclass(frozen=True)
class SessionStats:
    """Size of a session.

    Attributes:
        session_id: Its id.
        messages: Number of its messages.
        size: Bytes of its messages, states and snapshots.
    """

    session_id: str
    messages: int
    size: int


@dataclass(frozen=True)
class DatabaseStats:
    """Sizes in bytes.

    Attributes:
        path: Path of the file, with symbolic links resolved; or the URL of the cluster, without the password.
        file_size: The file. None of a cluster, as the next two: each node has a file of its own.
        log_size: The write-ahead log beside it.
        free_size: The part of the file that is free for new rows; `vacuum` gives it back to the file system.
        tables: Each table, the largest first.
        largest_sessions: The ten largest sessions, the largest first.
    """

    path: str
    file_size: int | None
    log_size: int | None
    free_size: int | None
    tables: tuple[TableStats, ...]
    largest_sessions: tuple[SessionStats, ...]


@dataclass(frozen=True)
class VacuumResult:
    """What `vacuum` did.

    Attributes:
        size_before: Bytes of file and write-ahead log before.
        size_after: Bytes of both afterwards.
    """

    size_before: int
    size_after: int


def stats(db_path: str | os.PathLike[str] | None = None) -> DatabaseStats:
    """Tell how large a database is, and what is in it.

    Args:
        db_path: Path of the database.

    Returns:
        Sizes of the file, its tables and its largest sessions.

    Raises:
        SessionException: If there is no such file, or it cannot be read.
    """
    with opened(db_path, read_only=True) as database:
        sessions = database.query(
            f"""
            SELECT session_id, sum(messages), sum(size) FROM (
                SELECT
                    session_id,
                    1 AS messages,
                    length(CAST(message AS BLOB)) + coalesce(length(CAST(redact_message AS BLOB)), 0)
                        + coalesce(length(attachments), 0) AS size
                FROM messages
                UNION ALL
                SELECT
                    session_id,
                    0,
                    length(CAST(state AS BLOB)) + length(CAST(conversation_manager_state AS BLOB))
                        + length(CAST(internal_state AS BLOB)) + coalesce(length(CAST(live_view AS BLOB)), 0)
                FROM agents
                UNION ALL
                SELECT session_id, 0, length(CAST(state AS BLOB)) FROM multi_agents
                UNION ALL
                SELECT session_id, 0, length(CAST(metadata AS BLOB)) FROM sessions
                UNION ALL
                SELECT
                    {SNAPSHOT_SESSION.format(key="key")},
                    coalesce((
                        SELECT {snapshots.MESSAGE_COUNT} FROM sessions
                        WHERE session_id = {SNAPSHOT_SESSION.format(key="key")} AND {snapshots.NOT_IN_TABLES}
                    ), 0),
                    length(data)
                FROM storage WHERE {IS_OF_SNAPSHOTS.format(key="key")}
            )
            GROUP BY session_id ORDER BY sum(size) DESC, session_id LIMIT 10
            """  # noqa: S608 (constants only)
        )
        is_file = isinstance(database, FileDatabase)
        return DatabaseStats(
            path=database.path,
            file_size=size_of(database.path) if is_file else None,
            log_size=size_of(f"{database.path}-wal") if is_file else None,
            free_size=database.free_size() if isinstance(database, FileDatabase) else None,
            tables=_table_stats(database),
            largest_sessions=tuple(SessionStats(*row) for row in sessions),
        )


# What does the same for a cluster.
_VACUUM = "VACUUM as a statement, to POST /db/execute, or the option -auto-vacuum-int of its nodes"


def vacuum(db_path: str | os.PathLike[str] | None = None) -> VacuumResult:
    """Write the database again without the free space in it, and empty its write-ahead log.

    It needs free space on the disk for two more copies, and writers wait for it.

    Args:
        db_path: Path of the database.

    Returns:
        Its size before and after. The log keeps its size if another connection was reading from it.

    Raises:
        SessionException: If there is no such file, or it cannot be written. The database is then as it was.
    """
    # Opened for reading first, which an empty file cannot be; for writing, it would become a database.
    with opened_file(db_path, _VACUUM, read_only=True), opened_file(db_path, _VACUUM) as database:
        size_before = size_of(database.path) + size_of(f"{database.path}-wal")
        database.vacuum()
        database.truncate_log()
        return VacuumResult(size_before, size_of(database.path) + size_of(f"{database.path}-wal"))


def _table_stats(database: Database) -> tuple[TableStats, ...]:
    if database.query("SELECT 1 FROM pragma_module_list WHERE name = 'dbstat'"):
        sizes = dict(
            database.query(
                """
                SELECT tbl_name, sum(pgsize) FROM dbstat JOIN sqlite_master USING (name)
                WHERE aggregate = TRUE GROUP BY tbl_name
                """
            )
        )
    else:
        sizes = {table: _size_of_values(database, table) for table in table_names(database)}
    tables = (
        TableStats(table, database.query(f"SELECT count(*) FROM {quoted(table)}")[0][0], sizes.get(table, 0))  # noqa: S608
        for table in table_names(database)
    )
    return tuple(sorted(tables, key=lambda table: (-table.size, table.name)))


def _size_of_values(database: Database, table: str) -> int:
    columns = column_names(database, table)
    size = " + ".join(f"coalesce(length(CAST({quoted(column)} AS BLOB)), 0)" for column in columns)
    return int(database.query(f"SELECT coalesce(sum({size}), 0) FROM {quoted(table)}")[0][0])  # noqa: S608
