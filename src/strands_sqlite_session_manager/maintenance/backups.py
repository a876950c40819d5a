"""Backups of a database and what restores them."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from strands.types.exceptions import SessionException

from .._engine.database import Database
from .._engine.file import is_in_use
from .._engine.path import chosen_path, new_file
from .checks import structure_findings
from .opening import column_names, opened_file, quoted, require_file, table_names
from .structure import schema_findings

logger = logging.getLogger(__name__)

# What does the same for a cluster.
_BACKUP = "`.backup FILE` in its shell, or GET /db/backup, makes a file that `strands-sqlite` reads"
RESTORE_CLUSTER = (
    "`.restore FILE` in its shell, or POST /db/load; or copy the sessions, `strands-sqlite copy --all --to URL`"
)


@dataclass(frozen=True)
class BackupResult:
    """A backup that was made.

    Attributes:
        path: Where it is.
        size: Its size in bytes.
    """

    path: str
    size: int


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
    with opened_file(db_path, _BACKUP, read_only=True) as database:
        _make_file(path, lambda partial: database.backup_to(partial, progress))
        logger.debug("path=<%s>, destination=<%s> | made a backup", database.path, path)
    return BackupResult(str(path), path.stat().st_size)


def restore_backup(
    source: str | os.PathLike[str],
    db_path: str | os.PathLike[str] | None = None,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> None:
    """Replace everything in a database by what a backup holds, or make the database from it if there is none.

    Others may go on using the file. They see all of it replaced at once. An agent that is under way still has in memory
    what was replaced; build it again. Where damage keeps the file from being opened, move it away first, with its
    `-wal` and `-shm`.

    Args:
        source: Path of the backup. It is verified first and not changed.
        db_path: Path of the database.
        overwrite: Whether to replace a database that is in use, or that has something newer, or a session or
            key that the backup lacks.
        progress: Called now and then with the number of pages copied and the number of all pages.

    Raises:
        SessionException: If the source is damaged, another program's or a newer version's; or the database is in use
            or newer and `overwrite` is False; or one of them cannot be read or written.
        ValueError: If both are the same file.
    """
    require_file(db_path, RESTORE_CLUSTER)
    target = Path(os.path.abspath(chosen_path(db_path)))  # noqa: PTH100 (a link to nowhere is not to be followed)
    with opened_file(os.fspath(source), RESTORE_CLUSTER, read_only=True) as saved:
        if target.exists() and target.samefile(saved.path):
            raise ValueError(f"{target}: a backup cannot be restored to itself")
        damage = [*structure_findings(saved), *schema_findings(saved)]
        if damage:
            raise SessionException(
                f"{saved.path}: a damaged backup: {damage[0].message}; nothing was restored ({damage[0].advice})"
            )
        if not target.exists():
            _make_file(target, lambda partial: saved.backup_to(partial, progress))
        else:
            if not overwrite and is_in_use(os.path.realpath(target)):
                raise SessionException(f"{target}: in use; close what uses it, or restore with overwrite=True")
            with opened_file(db_path, RESTORE_CLUSTER) as database:
                if not overwrite and _is_ahead(database, saved):
                    raise SessionException(
                        f"{target}: written to after the backup was made; to lose that, restore with overwrite=True"
                    )
                saved.copy_into(database, progress)
                database.truncate_log()
        logger.debug("path=<%s>, source=<%s> | restored a backup", target, saved.path)


def _is_ahead(database: Database, saved: Database) -> bool:
    """Tell whether a database has a change that is newer than a backup, or a record that this lacks."""
    if _last_change(database) > _last_change(saved):
        return True
    # By their numbers too: a clock may have been set back since.
    conversations = """
        SELECT session_id, agent_id, max(message_id), count(*), sum(length(CAST(message AS BLOB))) FROM messages
        GROUP BY session_id, agent_id
        """
    backed_up = {tuple(row[:2]): tuple(row[2:]) for row in saved.query(conversations)}
    for session_id, agent_id, last_id, count, size in database.query(conversations):
        was_last_id, was_count, was_size = backed_up.get((session_id, agent_id), (-1, 0, 0))
        if last_id > was_last_id or count > was_count or (count == was_count and size != was_size):
            return True
    for table, column in (("sessions", "session_id"), ("storage", "key"), ("memories", "memory_id")):
        if table in table_names(saved):
            sql = f"SELECT {column} FROM {table}"  # noqa: S608 (constants only)
            if set(database.query(sql)) - set(saved.query(sql)):
                return True
    return False


def _last_change(database: Database) -> str:
    """Return the newest `updated_at` of all rows: a redaction, say, moves that of its message alone."""
    newest = (
        database.query(f"SELECT max(updated_at) FROM {quoted(table)}")[0][0]  # noqa: S608
        for table in table_names(database)
        if "updated_at" in column_names(database, table)
    )
    return max(filter(None, newest), default="")


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
