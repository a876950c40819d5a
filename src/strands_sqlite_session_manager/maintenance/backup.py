"""The file as a whole: backups of it, what is wrong with it and what mends it, and how large it is.

Functions take `db_path` as everywhere: None is the environment variable `STRANDS_SQLITE_DB_PATH`, else `sessions.db` in
the working directory. None of them makes a database where there is none, and all work while others use the file.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from strands.types.exceptions import SessionException

from ._check import RESTORE_OR_SALVAGE, Finding, file_findings, findings, size_of, structure_findings
from ._database import Database, is_in_use
from ._path import chosen_path, new_file

__all__ = [
    "BackupResult",
    "DatabaseStats",
    "Finding",
    "SessionStats",
    "TableStats",
    "VacuumResult",
    "backup",
    "check",
    "repair",
    "restore_backup",
    "stats",
    "vacuum",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BackupResult:
    """A backup that was made.

    Attributes:
        path: Where it is.
        size: Its size in bytes.
    """

    path: str
    size: int


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
        size: Bytes of its messages and states.
    """

    session_id: str
    messages: int
    size: int


@dataclass(frozen=True)
class DatabaseStats:
    """Sizes in bytes.

    Attributes:
        path: Path of the file, with symbolic links resolved.
        file_size: The file.
        log_size: The write-ahead log beside it.
        free_size: The part of the file that is free for new rows; `vacuum` gives it back to the file system.
        tables: Each table, the largest first.
        largest_sessions: The ten largest sessions, the largest first.
    """

    path: str
    file_size: int
    log_size: int
    free_size: int
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


def backup(
    destination: str | os.PathLike[str],
    db_path: str | os.PathLike[str] | None = None,
    *,
    progress: Callable[[int, int], object] | None = None,
) -> BackupResult:
    """Copy a database to a new file, while others write to it.

    The copy is what was stored at one moment. It appears at its destination when it is complete and on disk. If it
    fails there is nothing; if the process is killed, a file `….partial` may be left over beside it, to be deleted. A
    fork of this process by another thread waits until the copy is complete.

    Args:
        destination: Path of the new file, in a directory that exists. Only its owner may read it.
        db_path: Path of the database.
        progress: Called now and then with the number of pages copied and the number of all pages.

    Returns:
        Path and size of the new file.

    Raises:
        SessionException: If the destination exists or cannot be written, or the database does not exist or cannot be
            read. What `progress` raises ends the backup and is passed on.
    """
    path = Path(os.path.abspath(chosen_path(os.fspath(destination))))  # noqa: PTH100 (a link is not to be followed)
    # To back up is not to migrate.
    with _opened(db_path, read_only=True) as database:
        _make_file(path, lambda partial: database.backup_to(partial, progress))
        logger.debug("path=<%s>, destination=<%s> | made a backup", database.path, path)
    return BackupResult(str(path), path.stat().st_size)


def restore_backup(
    source: str | os.PathLike[str], db_path: str | os.PathLike[str] | None = None, *, overwrite: bool = False
) -> None:
    """Replace everything in a database by what a backup holds, or make the database from it if there is none.

    Others may go on using the file. They see all of it replaced at once. An agent that is under way still has in memory
    what was replaced; build it anew. Where damage keeps the file from being opened, move it away first, with its `-wal`
    and `-shm`.

    Args:
        source: Path of the backup. It is verified first and not changed.
        db_path: Path of the database.
        overwrite: Whether to replace a database that somebody is using, or that has something newer, or a session or
            key that the backup lacks.

    Raises:
        SessionException: If the source is damaged, another program's or a newer version's; or the database is in use
            or newer and `overwrite` is False; or one of them cannot be read or written.
        ValueError: If both are the same file.
    """
    target = Path(os.path.abspath(chosen_path(db_path)))  # noqa: PTH100 (a link to nowhere is not to be followed)
    with _opened(os.fspath(source), read_only=True) as saved:
        if target.exists() and target.samefile(saved.path):
            raise ValueError(f"{target}: a backup cannot be restored to itself")
        damage = list(structure_findings(saved))
        if damage:
            raise SessionException(f"{saved.path}: a damaged backup: {damage[0].message}; nothing was restored")
        if not target.exists():
            _make_file(target, saved.backup_to)
        else:
            if not overwrite and is_in_use(os.path.realpath(target)):
                raise SessionException(f"{target}: in use; close what uses it, or restore with overwrite=True")
            with _opened(db_path) as database:
                if not overwrite and _is_ahead(database, saved):
                    raise SessionException(
                        f"{target}: written to after the backup was made; to lose that, restore with overwrite=True"
                    )
                saved.copy_into(database)
                database.truncate_log()
        logger.debug("path=<%s>, source=<%s> | restored a backup", target, saved.path)


def check(db_path: str | os.PathLike[str] | None = None) -> list[Finding]:
    """Look for everything that is wrong with a database or may become so, without changing it.

    Rows are looked at when the structure of the file is sound: what a damaged index leads to proves nothing.

    Args:
        db_path: Path of the database.

    Returns:
        What was found, each with what to do; errors first.

    Raises:
        SessionException: If there is no such file. A file that is too damaged to be read is a finding.
    """
    found = list(file_findings(_existing(db_path)))
    try:
        with _opened(db_path, read_only=True) as database:
            for finding in findings(database):
                found.append(finding)  # One by one: what was found before an error is kept.
    except SessionException as error:
        found.append(Finding("error", "unreadable", str(error), f"unless a lock is the cause, {RESTORE_OR_SALVAGE}"))
    return sorted(found, key=lambda finding: ("error", "warning", "info").index(finding.severity))


def repair(db_path: str | os.PathLike[str] | None = None, *, dry_run: bool = True) -> list[Finding]:
    """Mend what can be mended without losing anything that could be read, all in one transaction.

    * An index that disagrees with its table is made anew. Do it first: the rows are checked, and can be repaired, when
      all indexes are sound.
    * The session or agent that a row belongs to, and that is missing, is made anew, without metadata and states. If it
      was deleted on purpose, by somebody who had not set `PRAGMA foreign_keys = ON`, delete it again.
    * Metadata of a session that is no JSON becomes `{}`. Its former text is in the finding.
    * A write-ahead log that has grown too large is emptied.

    Messages and states with damaged JSON stay as they are, because a person may still make sense of them; so does a
    file with damaged pages, because writing to it may damage more. `check` says what to do about them.

    Args:
        db_path: Path of the database.
        dry_run: Whether to change nothing, and only return what would be done.

    Returns:
        The findings of `check` that were mended, or would be, each with the SQL statement for it.

    Raises:
        SessionException: If there is no such file, or it cannot be written. Then nothing is changed.
    """
    planned = [finding for finding in check(db_path) if finding.repairable]
    if dry_run or not planned:
        return planned
    with _opened(db_path) as database:
        # A checkpoint is no part of a transaction.
        database.transaction([finding.remedy for finding in planned if finding.remedy and finding.kind != "log"])
        is_log_empty = database.truncate_log()
    mended = [finding for finding in planned if finding.kind != "log" or is_log_empty]
    for finding in mended:
        logger.info("kind=<%s>, table=<%s>, key=<%s> | repaired", finding.kind, finding.table, finding.key)
    return mended


def stats(db_path: str | os.PathLike[str] | None = None) -> DatabaseStats:
    """Tell how large a database is, and what is in it.

    Args:
        db_path: Path of the database.

    Returns:
        Sizes of the file, its tables and its largest sessions.

    Raises:
        SessionException: If there is no such file, or it cannot be read.
    """
    with _opened(db_path, read_only=True) as database:
        ((free_size,),) = database.query(
            "SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size"
        )
        sessions = database.query(
            """
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
                        + length(CAST(internal_state AS BLOB))
                FROM agents
                UNION ALL
                SELECT session_id, 0, length(CAST(state AS BLOB)) FROM multi_agents
                UNION ALL
                SELECT session_id, 0, length(CAST(metadata AS BLOB)) FROM sessions
            )
            GROUP BY session_id ORDER BY sum(size) DESC, session_id LIMIT 10
            """
        )
        return DatabaseStats(
            path=database.path,
            file_size=size_of(database.path),
            log_size=size_of(f"{database.path}-wal"),
            free_size=free_size,
            tables=_table_stats(database),
            largest_sessions=tuple(SessionStats(*row) for row in sessions),
        )


def vacuum(db_path: str | os.PathLike[str] | None = None) -> VacuumResult:
    """Write the database anew, without the free space in it, and empty its write-ahead log.

    It needs free space on the disk for two more copies, and writers wait for it.

    Args:
        db_path: Path of the database.

    Returns:
        Its size before and after. The log keeps its size, if somebody was reading from it just then.

    Raises:
        SessionException: If there is no such file, or it cannot be written. The database is then as it was.
    """
    # Opened for reading first, which an empty file cannot be; for writing, it would become a database.
    with _opened(db_path, read_only=True), _opened(db_path) as database:
        size_before = size_of(database.path) + size_of(f"{database.path}-wal")
        # The search index refers to rowids. SQLite gives new ones only to tables without any index, not even of a key.
        database.execute("VACUUM")
        database.truncate_log()
        return VacuumResult(size_before, size_of(database.path) + size_of(f"{database.path}-wal"))


def _existing(db_path: str | os.PathLike[str] | None) -> str:
    """Return the path of a database with symbolic links resolved, if there is something."""
    path = os.path.realpath(chosen_path(db_path))
    try:
        os.stat(path)  # noqa: PTH116 (as in `private_file`)
    except OSError as error:
        raise SessionException(f"{path}: cannot be used: {error.strerror}; check the path") from error
    return path


@contextlib.contextmanager
def _opened(db_path: str | os.PathLike[str] | None, *, read_only: bool = False) -> Iterator[Database]:
    _existing(db_path)
    with contextlib.closing(Database(db_path, synchronous="NORMAL", busy_timeout=5.0, read_only=read_only)) as database:
        yield database


def _tables(database: Database) -> list[str]:
    # Those that hold something; a virtual table keeps its rows in others.
    return [
        name
        for (name,) in database.query(
            """
            SELECT name FROM pragma_table_list
            WHERE schema = 'main' AND type IN ('table', 'shadow') AND name NOT LIKE 'sqlite#_%' ESCAPE '#'
            """
        )
    ]


def _columns(database: Database, table: str) -> list[str]:
    return [name for (name,) in database.query("SELECT name FROM pragma_table_info(?)", (table,))]


def _is_ahead(database: Database, saved: Database) -> bool:
    """Tell whether a database has a change that is newer than a backup, or a session or key that this lacks."""
    if _last_change(database) > _last_change(saved):
        return True
    for table, column in (("sessions", "session_id"), ("storage", "key")):
        if table in _tables(saved):
            sql = f"SELECT {column} FROM {table}"  # noqa: S608 (constants only)
            if set(database.query(sql)) - set(saved.query(sql)):
                return True
    return False


def _last_change(database: Database) -> str:
    """Return the newest `updated_at` of all rows: a redaction, say, moves that of its message alone."""
    newest = (
        database.query(f"SELECT max(updated_at) FROM {_quoted(table)}")[0][0]  # noqa: S608
        for table in _tables(database)
        if "updated_at" in _columns(database, table)
    )
    return max(filter(None, newest), default="")


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
        sizes = {table: _size_of_values(database, table) for table in _tables(database)}
    tables = (
        TableStats(table, database.query(f"SELECT count(*) FROM {_quoted(table)}")[0][0], sizes.get(table, 0))  # noqa: S608
        for table in _tables(database)
    )
    return tuple(sorted(tables, key=lambda table: (-table.size, table.name)))


def _size_of_values(database: Database, table: str) -> int:
    columns = _columns(database, table)
    size = " + ".join(f"coalesce(length(CAST({_quoted(column)} AS BLOB)), 0)" for column in columns)
    return int(database.query(f"SELECT coalesce(sum({size}), 0) FROM {_quoted(table)}")[0][0])  # noqa: S608


def _quoted(name: str) -> str:
    # A person may have added tables and columns of any name.
    return '"' + name.replace('"', '""') + '"'


def _make_file(path: Path, fill: Callable[[str], None]) -> None:
    """Make a private file that is complete or absent.

    Args:
        path: Where it is to be. Nothing may be there.
        fill: Gets the path of an empty file beside it, to fill.
    """
    with new_file(path, _refuse_existing) as partial:
        try:
            fill(str(partial))
        except SessionException as error:
            raise SessionException(f"{path}: not written: {error}") from error


def _refuse_existing(path: Path) -> None:
    # A log that was left behind by another file would be taken for this one's, and damage it.
    for taken in (str(path), f"{path}-wal", f"{path}-journal"):
        if os.path.lexists(taken):
            raise SessionException(f"{taken}: exists already; move it away, or choose another path than {path}")
