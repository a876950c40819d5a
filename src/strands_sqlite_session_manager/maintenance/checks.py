"""What may be wrong with a database: each check yields what it finds."""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta, timezone
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from strands.types.content import Message
from strands.types.exceptions import SessionException

from .._arguments import checked_id, checked_time, now
from .._catalog import snapshots
from .._codec import decode, decode_checked
from .._conversation import live_view
from .._engine.database import BrokenText, Database, text_marks
from .._engine.file import FileDatabase
from .._engine.path import chosen_path, is_cluster
from .findings import RESTORE_OR_SALVAGE, Finding
from .opening import existing, hard_links, opened, size_of
from .structure import schema_findings

# Bytes. A log starts over when no reader needs its old part: at 4 MiB, unless a reader stays or a write is huge.
LARGE_LOG = 64 * 1024 * 1024
# Rows that a check reads at once: few, because a message may have megabytes.
_BATCH = 100

_NETWORK_FILE_SYSTEMS = (
    *("9p", "afs", "beegfs", "ceph", "cifs", "davfs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "glusterfs"),
    *("gpfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs", "vboxsf", "virtiofs"),
)

# The CAST, here and below, is for ids that are no UTF-8.
_NO_SESSION = "NOT EXISTS (SELECT 1 FROM sessions WHERE sessions.session_id = {table}.session_id)"
_NEW_SESSION = """
    INSERT INTO sessions (session_id, created_at, updated_at) VALUES (CAST(? AS TEXT), ?, ?) ON CONFLICT DO NOTHING
    """

# Rows that have lost what they belong to: their table, the second column of its key, which they are, what is missing,
# and the statement that creates it from the beginning of the key and its times. An agent's conversation manager is the
# SDK's default one, which restores it.
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
        INSERT INTO agents (session_id, agent_id, created_at, updated_at, conversation_manager_state)
        VALUES (
            CAST(? AS TEXT), CAST(? AS TEXT), ?, ?,
            '{"__name__":"SlidingWindowConversationManager","removed_message_count":0}'
        )
        """,
        2,
    ),
)


# Whose key ends with an id that is theirs. Those of messages are other rows', or orphans.
_OWN_IDS = {
    "sessions": ("session_id",),
    "agents": ("session_id", "agent_id"),
    "multi_agents": ("session_id", "multi_agent_id"),
}


def check(
    db_path: str | os.PathLike[str] | None = None, *, progress: Callable[[int, int], object] | None = None
) -> list[Finding]:
    """Look for everything that is wrong with a database or may become so, without changing it.

    Rows are looked at when the structure of the file is sound: what a damaged index leads to proves nothing. Of a
    cluster, they are all that is looked at.

    Args:
        db_path: Path of the database.
        progress: Called now and then with how many messages were looked at, and how many there are.

    Returns:
        What was found, each with what to do; errors first.

    Raises:
        SessionException: If there is no such file. A file that is too damaged to be read is a finding.
    """
    if is_cluster(chosen_path(db_path)):
        with opened(db_path, read_only=True) as database:
            return list(findings(database, progress))
    found = list(file_findings(existing(db_path)))
    try:
        with opened(db_path, read_only=True) as database:
            for finding in findings(database, progress):
                found.append(finding)  # One by one: what was found before an error is kept.
    except SessionException as error:
        found.append(Finding("error", "unreadable", str(error), f"unless a lock is the cause, {RESTORE_OR_SALVAGE}"))
    return sorted(found, key=lambda finding: ("error", "warning", "info").index(finding.severity))


def file_findings(path: str) -> Iterator[Finding]:
    """Look at what is around a database, without opening it.

    Args:
        path: Its path, with symbolic links resolved.

    Yields:
        What is found.
    """
    yield from _network_findings(path)
    yield from _log_findings(path)
    if (links := hard_links(path)) > 1:
        yield Finding(
            "error",
            "hard_link",
            f"{path}: has {links} names (hard links), each with a write-ahead log of its own; writers that use "
            "different ones lose each other's rows",
            "remove the other names; `find -samefile` lists them",
        )


def findings(database: Database, progress: Callable[[int, int], object] | None = None) -> Iterator[Finding]:
    """Look at a database, and at its rows if its structure is sound: what a damaged index leads to proves nothing.

    Args:
        database: The database.
        progress: See `check`.

    Yields:
        What is found.
    """
    damage: list[Finding] = []
    if isinstance(database, FileDatabase):
        yield from _version_findings(database)
        damage = list(structure_findings(database))
        yield from damage or schema_findings(database)
    if not damage:
        yield from _bad_ids(database)
        yield from _orphans(database)
        yield from _damaged_metadata(database)
        yield from _damaged_states(database)
        yield from _damaged_conversations(database, progress)
        yield from _damaged_snapshots(database)
        yield from _damaged_vectors(database)
        yield from _future_times(database)


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
    size = size_of(f"{path}-wal")
    if size > LARGE_LOG:
        yield Finding(
            "warning",
            "log",
            f"{path}-wal: the write-ahead log has {size // 2**20} MiB, which makes reading slow",
            "end whatever has been reading for long, and repair",
            remedy=(("PRAGMA wal_checkpoint(TRUNCATE)", ()),),
        )


def _future_times(database: Database) -> Iterator[Finding]:
    # A day, because clocks are never quite the same.
    limit = checked_time("limit", datetime.now(timezone.utc) + timedelta(days=1))
    for table, column in (("sessions", "updated_at"), ("messages", "created_at")):
        ((count, newest),) = database.query(
            f"SELECT count(*), max({column}) FROM {table} WHERE {column} > ?",  # noqa: S608 (constants only)
            (limit,),
        )
        if count:
            yield Finding(
                "info",
                "clock",
                f"{table}: {count} with a time in the future, up to {newest}; a clock was wrong",
                "lists by activity have them first, and pruning by age leaves them; correct the times with an UPDATE",
                table,
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


def structure_findings(database: FileDatabase) -> Iterator[Finding]:
    """Look at the structure of a database: pages, tables and indexes.

    Yields:
        What is found.
    """
    others, indexes = database.structure_damage()
    for text in others[:100]:
        yield Finding("error", "integrity", f"{database.path}: {text}", RESTORE_OR_SALVAGE)
    for index in indexes:
        yield Finding(
            "error",
            "index",
            f"{database.path}: the index {index} disagrees with its table",
            RESTORE_OR_SALVAGE if others else "repair, which makes the index again from the table; then check again",
            # Not where pages are damaged too: one that is taken for free may be in use.
            remedy=() if others else ((f'REINDEX "{index}"', ()),),
        )


def _orphans(database: Database) -> Iterator[Finding]:
    time = now()
    for table, column, condition, complaint, remedy, parameters in _ORPHANS:
        found = database.query(
            f"""
            SELECT session_id, {column}, count(*) FROM {table}
            WHERE {condition.format(table=table)} AND NOT EXISTS (
                SELECT 1 FROM sessions WHERE sessions.session_id = {table}.session_id AND expires_at <= ?
            )
            GROUP BY session_id, {column} ORDER BY session_id, {column}
            """,  # noqa: S608 (constants only)
            (time,),
        )
        for session_id, record_id, count in found:
            key = (session_id, record_id)
            number = f"{count} message{'' if count == 1 else 's'}: " if table == "messages" else ""
            yield Finding(
                "error",
                "orphan",
                f"{table} {key}: {number}{complaint}",
                "repair, which creates it; then delete the session or agent if it was to be gone",
                table,
                key,
                ((remedy, (*key[:parameters], time, time)),),
            )


def _bad_ids(database: Database) -> Iterator[Finding]:
    for table, key in _OWN_IDS.items():
        for row in _rows(database, table, key, ()):
            try:
                checked_id(key[-1], row[-1])
            except ValueError as error:
                yield Finding(
                    "error",
                    "id",
                    f"{table} {row}: {error}, so nothing finds it by its id",
                    f"give it another {key[-1]} by hand, with an UPDATE",
                    table,
                    row,
                )


def _damaged_metadata(database: Database) -> Iterator[Finding]:
    for table, column in (("sessions", "session_id"), ("memories", "memory_id")):
        for record_id, metadata in _rows(database, table, (column,), ("metadata",)):
            key: tuple[Any, ...] = (record_id,)
            for complaint in _complaints((metadata,), table, key):
                # Unless it was corrected in between. Ids of sessions may be no UTF-8.
                remedy = f"""
                    UPDATE {table} SET metadata = '{{}}'
                    WHERE {column} = {"CAST(? AS TEXT)" if table == "sessions" else "?"} AND metadata = CAST(? AS TEXT)
                    """  # noqa: S608 (constants only)
                yield Finding(
                    "error",
                    "metadata",
                    f"{complaint}; it reads {metadata!r}",
                    "correct it by hand, or repair, which makes it {}",
                    table,
                    key,
                    ((remedy, (record_id, metadata)),),
                )


def _damaged_snapshots(database: Database) -> Iterator[Finding]:
    for (key,) in _rows(database, "storage", ("key",), ()):
        if isinstance(key, BrokenText):
            continue  # Nobody finds it.
        # One at a time, because a hundred may not fit into memory. Not by the views, which may be missing.
        for snapshot in snapshots.parsed(database.query(f"{snapshots.SELECT_ROW} WHERE key = ?", (key,))):
            try:
                snapshots.decode(snapshot)
            except SessionException as error:
                if snapshot.snapshot_id is not None:
                    advice = "take it from a backup, or delete this row of storage: no agent needs it"
                elif snapshot.scope == "agent":
                    advice = (
                        "`strands-sqlite restore-snapshot SESSION SNAPSHOT --agent AGENT` makes one of the past the "
                        "latest, and `strands-sqlite snapshots SESSION` lists them; or take it from a backup; the "
                        "agent cannot be restored until then"
                    )
                else:
                    advice = "take it from a backup, or delete it with the graph or swarm, which begins again then"
                yield Finding("error", "snapshot", str(error), advice, "storage", (key,))


def _damaged_vectors(database: Database) -> Iterator[Finding]:
    damaged = """
        FROM memory_vectors WHERE length(vector) <> 4 * dimensions
            OR NOT EXISTS (SELECT 1 FROM memories WHERE memories.memory_id = memory_vectors.memory_id)
        """
    ((count,),) = database.query(f"SELECT count(*) {damaged}")
    if count:
        yield Finding(
            "error",
            "vector",
            f"memory_vectors: {count} damaged, or of a memory that does not exist",
            "repair, which deletes them; then `SQLiteMemoryStore.reindex` makes those of memories again",
            "memory_vectors",
            remedy=((f"DELETE {damaged}", ()),),
        )


def _damaged_states(database: Database) -> Iterator[Finding]:
    states = {
        "agents": ("agent_id", ("state", "conversation_manager_state", "internal_state")),
        "multi_agents": ("multi_agent_id", ("state",)),
    }
    for table, (column, texts) in states.items():
        for session_id, record_id, *values in _rows(database, table, ("session_id", column), texts):
            key = (session_id, record_id)
            for complaint in _complaints(values, table, key):
                advice = f"correct {' or '.join(texts)} of this row by hand, with an UPDATE, or take it from a backup"
                yield Finding("error", "json", complaint, advice, table, key)
    for session_id, agent_id, view in _rows(database, "agents", ("session_id", "agent_id"), ("live_view",)):
        if view is not None and not _is_live_view(view):
            yield Finding(
                "error",
                "live_view",
                f"agents {(session_id, agent_id)}: damaged live_view; it reads {view[:200]!r}",
                "repair, which gives it up: the agent is restored with what its conversation manager has not removed",
                "agents",
                (session_id, agent_id),
                (
                    (
                        "UPDATE agents SET live_view = NULL "
                        "WHERE session_id = CAST(? AS TEXT) AND agent_id = CAST(? AS TEXT) "
                        "AND live_view = CAST(? AS TEXT)",
                        (session_id, agent_id, view),
                    ),
                ),
            )


def _is_live_view(text: str) -> bool:
    try:
        live_view.parse(text, ("", ""))
    except SessionException:
        return False
    return True


def _complaints(texts: Iterable[str], table: str, key: tuple[Any, ...]) -> Iterator[str]:
    for text in texts:
        try:
            decode(text, table, key)
        except SessionException as error:
            yield str(error)


def _damaged_conversations(database: Database, progress: Callable[[int, int], object] | None) -> Iterator[Finding]:
    ((total,),) = database.query("SELECT count(*) FROM messages")
    done = 0
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
            done += 1
            if progress is not None and done % _BATCH == 0:
                progress(done, total)
            key = (session_id, agent_id, message_id)
            if message_id != expected_id:
                yield _gap(session_id, agent_id, expected_id, message_id)
            message, complaint = _decoded(key, *columns)
            if complaint:
                advice = (
                    "correct message or redact_message of this row by hand, with an UPDATE, or take it from a backup; "
                    "the agent cannot be restored until then. To give the message up instead, `strands-sqlite fork "
                    "SESSION NEW --through N` copies what is before it, and `strands-sqlite undo SESSION --agent "
                    "AGENT` removes the last turns"
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
        "if they were not deleted on purpose, look for them in a backup",
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
    key: tuple[Any, ...], text: str, redact_text: str | None, attachments_size: int | None
) -> tuple[Message | None, str]:
    """Return what is shown of a message, or what is wrong with it."""
    session_id, agent_id, message_id = key
    try:
        # What the bytes are cannot be wrong; only how many.
        row = (message_id, text, redact_text, bytes(attachments_size or 0), "", "")
        return decode_checked(row, session_id, agent_id).to_message(), ""
    except SessionException as error:
        return None, str(error)


def _rows(
    database: Database, table: str, key: tuple[str, ...], texts: tuple[str, ...], more: str = ""
) -> Iterator[tuple[Any, ...]]:
    """Go through a table in the order of its key, in batches."""
    names = ", ".join(key)
    last: tuple[Any, ...] = tuple(-1 if column in ("message_id", "memory_id") else "" for column in key)
    comparison = ">="  # Somebody may have put the empty id there.
    while True:
        rows = database.query(
            f"""
            SELECT {", ".join((names, *texts))} {more} FROM {table}
            WHERE ({names}) {comparison} ({text_marks(last)}) ORDER BY {names} LIMIT {_BATCH}
            """,  # noqa: S608 (constants only)
            last,
        )
        yield from rows
        if len(rows) < _BATCH:
            return
        last, comparison = rows[-1][: len(key)], ">"
