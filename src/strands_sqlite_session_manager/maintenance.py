"""The file as a whole: backups of it, what is wrong with it and what mends it, and how large it is.

Functions take `db_path` as everywhere: None is the environment variable `STRANDS_SQLITE_DB_PATH`, else `sessions.db` in
the working directory. None of them makes a database where there is none, and all work while others use the file.
"""

import contextlib
import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

from strands.types.content import Message
from strands.types.exceptions import SessionException

from ._codec import decode, decode_message
from ._database import Database, is_in_use
from ._path import chosen_path

logger = logging.getLogger(__name__)

# Bytes. A log starts over when no reader needs its old part: at 4 MiB, unless a reader stays or a write is huge.
LARGE_LOG = 64 * 1024 * 1024
# Rows that a check reads at once: few, because a message may have megabytes.
_BATCH = 100

_NETWORK_FILE_SYSTEMS = (
    *("9p", "afs", "beegfs", "ceph", "cifs", "davfs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "glusterfs"),
    *("gpfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs", "vboxsf", "virtiofs"),
)
# The complaints of `PRAGMA integrity_check` about an index whose pages and table are sound.
_INDEX_DAMAGE = re.compile(
    r"(?:row \d+ missing from|wrong # of entries in|row \d+ values differ from"
    r"|rowid not at end-of-record for row \d+ of) index (\w+)"
)
_RESTORE_OR_SALVAGE = (
    "move the file away, with its -wal and -shm, and restore a backup; or salvage what is left into a new file with "
    "the `.recover` command of sqlite3; writing to it may damage more"
)

_NO_SESSION = "NOT EXISTS (SELECT 1 FROM sessions WHERE sessions.session_id = {table}.session_id)"
_NEW_SESSION = "INSERT INTO sessions (session_id) VALUES (?) ON CONFLICT DO NOTHING"

# Rows that have lost what they belong to: their table, the second column of its key, which they are, what is missing,
# and the statement that makes it anew from the beginning of the key. An agent's conversation manager is the SDK's
# default one, which restores it.
_ORPHANS = (
    ("agents", "agent_id", _NO_SESSION, "its session does not exist", _NEW_SESSION, 1),
    ("multi_agents", "multi_agent_id", _NO_SESSION, "its session does not exist", _NEW_SESSION, 1),
    ("messages", "agent_id", _NO_SESSION, "their session does not exist", _NEW_SESSION, 1),
    (
        "messages",
        "agent_id",
        "NOT EXISTS (SELECT 1 FROM agents WHERE (agents.session_id, agents.agent_id) = "
        "(messages.session_id, messages.agent_id))",
        "their agent does not exist",
        """
        INSERT INTO agents (session_id, agent_id, conversation_manager_state)
        VALUES (?, ?, '{"__name__":"SlidingWindowConversationManager","removed_message_count":0}')
        """,
        2,
    ),
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


@dataclass(frozen=True)
class Finding:
    """Something that `check` noticed.

    Attributes:
        severity: "error": something cannot be read, or is at risk. "warning": it may become an error, or a part of a
            conversation is missing. "info": good to know.
        kind: "unreadable", "integrity", "index", "orphan", "metadata", "json", "gap", "tool_call", "log",
            "sqlite_version" or "network".
        message: What is wrong.
        advice: What to do.
        table: Table of the row, if it is about one.
        key: Primary key of that row; session and agent ids where it is about all messages of an agent.
        remedy: The SQL statement that `repair` runs, with its parameters; None if it cannot mend this.
    """

    severity: Literal["error", "warning", "info"]
    kind: str
    message: str
    advice: str
    table: str | None = None
    key: tuple[Any, ...] | None = None
    remedy: tuple[str, tuple[Any, ...]] | None = None

    @property
    def repairable(self) -> bool:
        """Whether `repair` can mend it."""
        return self.remedy is not None


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
    with _opened(db_path) as database:
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
        damage = list(_integrity(saved))
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
    path = _existing(db_path)
    findings: list[Finding] = []
    try:
        for finding in _findings(db_path, path):
            findings.append(finding)  # One by one: what was found before an error is kept.
    except SessionException as error:
        findings.append(
            Finding("error", "unreadable", str(error), f"unless a lock is the cause, {_RESTORE_OR_SALVAGE}")
        )
    return sorted(findings, key=lambda finding: ("error", "warning", "info").index(finding.severity))


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
    findings = [finding for finding in check(db_path) if finding.repairable]
    if dry_run or not findings:
        return findings
    with _opened(db_path) as database:
        # A checkpoint is no part of a transaction.
        database.transaction([finding.remedy for finding in findings if finding.remedy and finding.kind != "log"])
        is_log_empty = database.truncate_log()
    mended = [finding for finding in findings if finding.kind != "log" or is_log_empty]
    for finding in mended:
        logger.info("kind=<%s>, table=<%s>, key=<%s> | repaired", finding.kind, finding.table, finding.key)
    return mended


def stats(db_path: str | os.PathLike[str] | None = None) -> DatabaseStats:
    """Tell how large a database is, and what in it.

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
            file_size=_size(database.path),
            log_size=_size(f"{database.path}-wal"),
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
    with _opened(db_path) as database:
        size_before = _size(database.path) + _size(f"{database.path}-wal")
        # The search index refers to rowids. SQLite gives new ones only to tables without any index, not even of a key.
        database.execute("VACUUM")
        database.truncate_log()
        return VacuumResult(size_before, _size(database.path) + _size(f"{database.path}-wal"))


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


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except FileNotFoundError:
        return 0


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
        database.query(f'SELECT max(updated_at) FROM "{table}"')[0][0]  # noqa: S608
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
        TableStats(table, database.query(f'SELECT count(*) FROM "{table}"')[0][0], sizes.get(table, 0))  # noqa: S608
        for table in _tables(database)
    )
    return tuple(sorted(tables, key=lambda table: (-table.size, table.name)))


def _size_of_values(database: Database, table: str) -> int:
    columns = _columns(database, table)
    size = " + ".join(f'coalesce(length(CAST("{column}" AS BLOB)), 0)' for column in columns)
    return int(database.query(f'SELECT coalesce(sum({size}), 0) FROM "{table}"')[0][0])  # noqa: S608


def _make_file(path: Path, fill: Callable[[str], None]) -> None:
    """Make a private file that is complete or absent.

    Args:
        path: Where it is to be. Nothing may be there.
        fill: Gets the path of an empty file beside it, to fill.
    """
    _refuse_existing(path)
    with _explained(path):
        descriptor, name = tempfile.mkstemp(prefix=f"{path.name}.", suffix=".partial", dir=path.parent)
        os.close(descriptor)
    partial = Path(name)
    try:
        try:
            fill(name)
        except SessionException as error:
            raise SessionException(f"{path}: not written: {error}") from error
        with _explained(path):
            _sync(partial, os.O_RDWR)
            # Not a hard link, which would find out what exists in the same step: not all file systems have them.
            _refuse_existing(path)
            partial.rename(path)
    except BaseException:
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                Path(f"{partial}{suffix}").unlink()
        raise
    # The directory's entry; some systems cannot do this.
    with contextlib.suppress(OSError):
        _sync(path.parent, os.O_RDONLY)


def _refuse_existing(path: Path) -> None:
    # A log that was left behind by another file would be taken for this one's, and damage it.
    for taken in (str(path), f"{path}-wal", f"{path}-journal"):
        if os.path.lexists(taken):
            raise SessionException(f"{taken}: exists already; move it away, or choose another path than {path}")


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SessionException(f"{path}: cannot be written: {error}") from error


def _findings(db_path: str | os.PathLike[str] | None, path: str) -> Iterator[Finding]:
    yield from _network_findings(path)
    yield from _log_findings(path)
    with _opened(db_path, read_only=True) as database:
        yield from _version_findings(database)
        damage = list(_integrity(database))
        yield from damage
        if not damage:
            yield from _orphans(database)
            yield from _damaged_states(database)
            yield from _damaged_conversations(database)


def _network_findings(path: str) -> Iterator[Finding]:
    mounts = Path("/proc/mounts")  # Linux only.
    file_system = _file_system(path, mounts.read_text("utf-8", "replace")) if mounts.exists() else ""
    if file_system in _NETWORK_FILE_SYSTEMS:
        yield Finding(
            "warning",
            "network",
            f"{path}: on a network file system ({file_system}), where a write-ahead log can damage the database",
            "keep it on a local disk, and put backups on the network",
        )


def _file_system(path: str, mounts: str) -> str:
    """Return the type of the file system that a path is on, by the text of /proc/mounts."""
    found_at, found = "", ""
    for line in mounts.splitlines():
        _, mounted_at, file_system, *_ = line.split(" ")
        # Blanks and the like are written in octal.
        mounted_at = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), mounted_at).rstrip("/")
        # The last one counts, if several are mounted at the same place.
        if f"{path}/".startswith(f"{mounted_at}/") and len(mounted_at) >= len(found_at):
            found_at, found = mounted_at, file_system
    return found


def _log_findings(path: str) -> Iterator[Finding]:
    size = _size(f"{path}-wal")
    if size > LARGE_LOG:
        yield Finding(
            "warning",
            "log",
            f"{path}-wal: the write-ahead log has {size // 2**20} MiB, which makes reading slow",
            "end whatever has been reading for long, and repair",
            remedy=("PRAGMA wal_checkpoint(TRUNCATE)", ()),
        )


def _version_findings(database: Database) -> Iterator[Finding]:
    ((version,),) = database.query("SELECT sqlite_version()")
    if _has_wal_reset_bug(tuple(int(number) for number in version.split("."))):
        yield Finding(
            "warning",
            "sqlite_version",
            f"SQLite {version} can, very rarely, damage a database in WAL mode (https://sqlite.org/wal.html#walresetbug)",
            "use a Python with SQLite 3.51.3 or newer, 3.50.7 or 3.44.6, and keep backups",
        )


def _has_wal_reset_bug(version: tuple[int, ...]) -> bool:
    return version < (3, 51, 3) and not (3, 50, 7) <= version < (3, 51) and not (3, 44, 6) <= version < (3, 45)


def _integrity(database: Database) -> Iterator[Finding]:
    complaints = [text for (text,) in database.query("PRAGMA integrity_check(10000)") if text != "ok"]
    indexes = {match[1] for text in complaints if (match := _INDEX_DAMAGE.fullmatch(text))}
    others = [text for text in complaints if not _INDEX_DAMAGE.fullmatch(text)]
    for text in others[:100]:
        yield Finding("error", "integrity", f"{database.path}: {text}", _RESTORE_OR_SALVAGE)
    for index in sorted(indexes):
        yield Finding(
            "error",
            "index",
            f"{database.path}: the index {index} disagrees with its table",
            _RESTORE_OR_SALVAGE if others else "repair, which makes the index anew from the table; then check again",
            # Not where pages are damaged too: one that is taken for free may be in use.
            remedy=None if others else (f'REINDEX "{index}"', ()),
        )


def _orphans(database: Database) -> Iterator[Finding]:
    for table, column, condition, complaint, remedy, parameters in _ORPHANS:
        found = database.query(
            f"""
            SELECT session_id, {column}, count(*) FROM {table} WHERE {condition.format(table=table)}
            GROUP BY session_id, {column} ORDER BY session_id, {column}
            """  # noqa: S608 (constants only)
        )
        for session_id, record_id, count in found:
            key = (session_id, record_id)
            yield Finding(
                "error",
                "orphan",
                f"{table} {key}: {f'{count} messages: ' if table == 'messages' else ''}{complaint}",
                "repair, which makes it anew; then delete the session or agent if it was to be gone",
                table,
                key,
                (remedy, key[:parameters]),
            )


def _damaged_states(database: Database) -> Iterator[Finding]:
    for session_id, metadata in _rows(database, "sessions", ("session_id",), ("metadata",)):
        key: tuple[Any, ...] = (session_id,)
        for complaint in _complaints((metadata,), "sessions", key):
            yield Finding(
                "error",
                "metadata",
                f"{complaint}; it reads {metadata!r}",
                "mend it by hand, or repair, which makes it {}",
                "sessions",
                key,
                (
                    # Unless somebody else has mended it meanwhile.
                    "UPDATE sessions SET metadata = '{}' WHERE session_id = ? AND CAST(metadata AS BLOB) = ?",
                    (session_id, metadata),
                ),
            )
    states = {
        "agents": ("agent_id", ("state", "conversation_manager_state", "internal_state")),
        "multi_agents": ("multi_agent_id", ("state",)),
    }
    for table, (column, texts) in states.items():
        for session_id, record_id, *values in _rows(database, table, ("session_id", column), texts):
            key = (session_id, record_id)
            for complaint in _complaints(values, table, key):
                advice = f"mend {' or '.join(texts)} of this row by hand, with an UPDATE, or take it from a backup"
                yield Finding("error", "json", complaint, advice, table, key)


def _complaints(texts: Iterable[bytes], table: str, key: tuple[Any, ...]) -> Iterator[str]:
    for text in texts:
        try:
            decode(text.decode(), table, key)
        except SessionException as error:
            yield str(error)
        except UnicodeDecodeError as error:
            yield f"{table} {key}: damaged text in the database: {error}"


def _damaged_conversations(database: Database) -> Iterator[Finding]:
    rows = _rows(
        database,
        "messages",
        ("session_id", "agent_id", "message_id"),
        ("message", "redact_message"),
        ", length(attachments)",
    )
    for (session_id, agent_id), conversation in groupby(rows, key=itemgetter(0, 1)):
        expected_id = 0
        unanswered: set[str] = set()
        for _, _, message_id, *columns in conversation:
            key = (session_id, agent_id, message_id)
            if message_id != expected_id:
                yield _gap(session_id, agent_id, expected_id, message_id)
            message, complaint = _decoded(key, *columns)
            if complaint:
                advice = (
                    "mend message or redact_message of this row by hand, with an UPDATE, or take it from a backup; the "
                    "agent cannot be restored before"
                )
                yield Finding("error", "json", complaint, advice, "messages", key)
            elif message_id == expected_id and not unanswered <= _tool_use_ids(message, "toolResult"):
                yield _missing_results((session_id, agent_id, message_id - 1), unanswered, message)
            # Of the last message there may be no results yet.
            unanswered = _tool_use_ids(message, "toolUse")
            expected_id = message_id + 1


def _gap(session_id: str, agent_id: str, expected_id: int, message_id: int) -> Finding:
    missing = f"message {expected_id} is" if message_id == expected_id + 1 else f"{expected_id} to {message_id - 1} are"
    return Finding(
        "warning",
        "gap",
        f"messages {(session_id, agent_id)}: {missing} missing; the agent may remember less than it should",
        "if nobody deleted them on purpose, look for them in a backup",
        "messages",
        (session_id, agent_id),
    )


def _missing_results(key: tuple[Any, ...], unanswered: set[str], answer: Message | None) -> Finding:
    missing = ", ".join(sorted(unanswered - _tool_use_ids(answer, "toolResult")))
    return Finding(
        "info",
        "tool_call",
        f"messages {key}: calls of tools without results: {missing}",
        "nothing: the SDK adds a result that says so when it restores the agent",
        "messages",
        key,
    )


def _tool_use_ids(message: Message | None, kind: str) -> set[str]:
    blocks: Iterable[Any] = message["content"] if message else ()
    found = (block.get(kind) for block in blocks if isinstance(block, dict))
    return {str(block.get("toolUseId")) for block in found if isinstance(block, dict)}


def _decoded(
    key: tuple[Any, ...], text: bytes, redact_text: bytes | None, attachments_size: int | None
) -> tuple[Message | None, str]:
    """Return what is shown of a message, or what is wrong with it."""
    session_id, agent_id, message_id = key
    try:
        row = (
            message_id,
            text.decode(),
            None if redact_text is None else redact_text.decode(),
            # What the bytes are cannot be wrong; only how many.
            bytes(attachments_size or 0),
            "",
            "",
        )
        return decode_message(row, session_id, agent_id).to_message(), ""
    except SessionException as error:
        return None, str(error)
    except UnicodeDecodeError as error:
        return None, f"messages {key}: damaged text in the database: {error}"


def _rows(
    database: Database, table: str, key: tuple[str, ...], texts: tuple[str, ...], more: str = ""
) -> Iterator[tuple[Any, ...]]:
    """Go through a table in the order of its key, in batches, with texts as bytes: they may be no UTF-8."""
    names = ", ".join(key)
    last: tuple[Any, ...] = tuple(-1 if column == "message_id" else "" for column in key)
    while True:
        rows = database.query(
            f"""
            SELECT {names}, {", ".join(f"CAST({text} AS BLOB)" for text in texts)} {more} FROM {table}
            WHERE ({names}) > ({", ".join("?" * len(key))}) ORDER BY {names} LIMIT {_BATCH}
            """,  # noqa: S608 (constants only)
            last,
        )
        yield from rows
        if len(rows) < _BATCH:
            return
        last = rows[-1][: len(key)]
