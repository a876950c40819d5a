"""Commands that move sessions and files in and out."""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, TextIO

import typer
from strands.types.exceptions import SessionException

from .. import maintenance, transfer
from .._engine.path import chosen_path
from .._errors import SessionConflictError, missing
from .._wording import plural, size
from ..maintenance.backups import RESTORE_CLUSTER
from ..maintenance.opening import require_file
from ..repository import SQLiteSessionRepository
from ..transfer.copies import session_of
from ..transfer.json_lines import import_records, read_header
from ..transfer.reports import counts
from ..transfer.rows import exists, message_count, session_ids
from ..transfer.snapshots import snapshots_in
from . import display
from .program import (
    Database,
    DryRun,
    Yes,
    command,
    fields_of,
    is_confirmed,
    path_of_existing,
    progress_bar,
)


@command("export")
def export(
    destination: Annotated[
        Path, typer.Argument(help="A new .jsonl file, - for the output, or a directory for FileSessionManager.")
    ],
    sessions: Annotated[list[str] | None, typer.Argument(help="Ids of sessions. Defaults to all.")] = None,
    db: Database = None,
) -> None:
    """Write sessions to a JSON Lines file, or to a directory as the SDK's FileSessionManager does.

    Example: strands-sqlite export sessions.jsonl user-42
    """
    is_directory = destination.suffix != ".jsonl" and str(destination) != "-"
    if is_directory and destination.suffix and not destination.is_dir():
        raise typer.BadParameter(f"{destination} is neither a .jsonl file nor a directory; make it, if it is to be one")
    with SQLiteSessionRepository(path_of_existing(db), read_only=True) as source, progress_bar("exporting") as progress:
        if is_directory:
            report = transfer.export_file_sessions(source, destination, session_ids=sessions or None, progress=progress)
            _print_report("Exported", report)
            return
        copied = transfer.export_jsonl(
            source,
            sys.stdout if str(destination) == "-" else destination,
            session_ids=sessions or None,
            progress=progress,
        )
    if str(destination) != "-":
        print(f"Exported {_told(copied.sessions, copied)}.")


@command("import")
def import_(
    source: Annotated[
        Path, typer.Argument(help="A .jsonl file, - for the input, or a directory of FileSessionManager.")
    ],
    db: Database = None,
) -> None:
    """Read sessions from a JSON Lines file, or from a directory of the SDK's FileSessionManager.

    What is there already stays as it is, so it can be run again.

    Example: strands-sqlite import old-sessions/ --db sessions.db
    """
    if str(source) != "-" and not source.exists():
        raise SessionException(f"{source}: no such file or directory")
    # Before there is a new database.
    if source.is_dir() and not any(source.glob("session_*")):
        raise SessionException(f"{source}: a directory without sessions; name the storage_dir of a FileSessionManager")
    if source.is_dir():
        with SQLiteSessionRepository(db) as target, progress_bar("importing") as progress:
            report = transfer.import_file_sessions(source, target, progress=progress)
    else:
        with lines_of(source) as lines:
            read_header(lines)
            size = 0 if lines is sys.stdin else os.fstat(lines.fileno()).st_size
            with SQLiteSessionRepository(db) as target, progress_bar("importing") as progress:
                report = import_records(lines, target, size, progress)
    _print_report("Imported", report)


@contextmanager
def lines_of(source: Path) -> Iterator[TextIO]:
    """Open a file of JSON Lines, or the input."""
    # What is no UTF-8 is found when its line is parsed.
    if str(source) != "-":
        with source.open(encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
            yield lines
        return
    if sys.stdin is None:
        raise OSError("the input is closed")
    sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]
    yield sys.stdin


@command("copy")
def copy(
    to: Annotated[str, typer.Option(help="The other database: a file, or rqlite://host:port.", metavar="FILE")],
    sessions: Annotated[list[str] | None, typer.Argument(help="Ids of sessions.")] = None,
    all_sessions: Annotated[bool, typer.Option("--all", help="All sessions.")] = False,
    db: Database = None,
) -> None:
    """Copy sessions to another database, from a file to a cluster, say, or back.

    What is there already stays as it is, so it can be run again. A session that is there and differs is skipped.

    Example: strands-sqlite copy --all --to rqlite://app:secret@db1:4001,db2:4001,db3:4001
    """
    if bool(sessions) == all_sessions:
        raise typer.BadParameter("name sessions, or pass --all")
    copied: Counter[str] = Counter()
    there: Counter[str] = Counter()
    skipped: list[transfer.Skipped] = []
    with SQLiteSessionRepository(path_of_existing(db), read_only=True) as source:
        names = list(session_ids(source)) if all_sessions else list(dict.fromkeys(sessions or ()))
        # Before there is a new database.
        for name in sessions or ():
            if not exists(source, name):
                raise missing("sessions", name)
        total, done = sum(message_count(source, name) for name in names), 0
        with SQLiteSessionRepository(to) as target, progress_bar("copying") as progress:
            for name in names:
                try:
                    result = transfer.copy_session(
                        source,
                        target,
                        name,
                        progress=lambda n, _: progress(done + n, total),  # noqa: B023
                    )
                    copied.update(fields_of(result.copied))
                    there.update(fields_of(result.already_there))
                except SessionConflictError as error:
                    skipped.append(transfer.Skipped(name, str(error)))
                done += message_count(source, name)
    print(f"Copied {_told(copied['sessions'], counts(copied))}.")
    if there["sessions"]:
        print(f"There already: {_told(there['sessions'], counts(there))}.")
    _print_skipped(skipped)


@command("convert")
def convert(
    sessions: Annotated[list[str], typer.Argument(help="Ids of sessions.", show_default=False)],
    to: Annotated[
        Literal["snapshots", "messages"],
        typer.Option(help="For the SDK's SnapshotSessionManager, or for SQLiteSessionManager."),
    ],
    db: Database = None,
    into: Annotated[
        str | None, typer.Option(help="Another database to store in. Defaults to the same.", metavar="FILE")
    ] = None,
    new_id: Annotated[str | None, typer.Option("--as", help="Id of the converted session.", metavar="ID")] = None,
) -> None:
    """Convert sessions from message logs to snapshots, or back. The source stays as it is.

    What is there already stays as it is, so it can be run again. A session that is there and differs is skipped, and so
    is one with an id that cannot be one on the other side.

    In one database, an id is one session: to make snapshots, name another file with --into, or another id with --as.

    Example: strands-sqlite convert user-42 --to snapshots --into snapshots.db
    """
    if new_id is not None and len(sessions) != 1:
        raise typer.BadParameter("name one session with --as")
    path = path_of_existing(db)
    skipped: list[transfer.Skipped] = []
    for session in dict.fromkeys(sessions):
        try:
            report = _converted(session, new_id, to, path, into or path)
        except (SessionConflictError, ValueError) as error:
            skipped.append(transfer.Skipped(session, str(error)))
            continue
        converted, there = report.converted, report.already_there
        told = f"{plural(converted.agents, 'agent')} with {plural(converted.messages, 'message')}"
        known = f"; there already: {plural(there.agents, 'agent')}" if there.agents else ""
        print(display.one_line(f"Converted {session}: {told}{known}."))
        for what in report.left_out:
            print(display.one_line(f"Left out: {what}."))
    _print_skipped(skipped)


def _converted(session: str, new_id: str | None, to: str, path: str, into: str) -> transfer.ConversionReport:
    try:
        from strands.types.exceptions import StorageError

        from ..storage import SQLiteStorage
    except ImportError as error:  # An older SDK, as it says.
        raise SessionException(str(error)) from error
    try:
        # The source is looked at before there is a new database.
        if to == "snapshots":
            with SQLiteSessionRepository(path) as source:
                session_of(source, session)
                with SQLiteStorage(into) as storage:
                    return transfer.to_snapshots(source, storage, session, new_id=new_id)
        with SQLiteStorage(path) as storage:
            snapshots_in(storage, session)
            with SQLiteSessionRepository(into) as target:
                return transfer.from_snapshots(storage, target, session, new_id=new_id)
    except StorageError as error:
        raise SessionException(str(error)) from error


@command("backup")
def backup(
    destination: Annotated[Path, typer.Argument(help="The new file.", show_default=False)], db: Database = None
) -> None:
    """Copy the database to a new file, while it is in use.

    Example: strands-sqlite backup backups/2026-01-31.db
    """
    with progress_bar("copying") as progress:
        result = maintenance.backup(destination, db, progress=progress)
    print(f"Copied {size(result.size)} to {result.path}.")


@command("restore")
def restore(
    source: Annotated[Path, typer.Argument(help="The backup.", show_default=False)],
    db: Database = None,
    overwrite: Annotated[bool, typer.Option(help="Also over a database that is in use, or newer.")] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Put a backup in the place of the database.

    Example: strands-sqlite restore backups/2026-01-31.db --yes
    """
    require_file(db, RESTORE_CLUSTER)
    target, source = Path(chosen_path(db)), Path(chosen_path(str(source)))
    what = f"Replace all of {target} with" if target.exists() else f"Make {target} from"
    if not source.exists():
        raise SessionException(f"{source}: no such file")
    if is_confirmed(f"{what} {source}", yes, dry_run):
        try:
            with progress_bar("restoring") as progress:
                maintenance.restore_backup(source, db, overwrite=overwrite, progress=progress)
        except SessionException as error:
            raise SessionException(str(error).replace("overwrite=True", "--overwrite")) from error
        print(display.one_line(f"Restored {target} from {source}."))


def _told(sessions: int, records: transfer.RecordCounts) -> str:
    told = f"{plural(sessions, 'session')} with {plural(records.messages, 'message')}"
    return told + (f" and {plural(records.storage, 'key')} of snapshots and stash" if records.storage else "")


def _print_report(done: str, report: Any) -> None:
    print(f"{done} {_told(len(report.session_ids), report.copied)}.")
    if isinstance(report, transfer.ImportReport) and report.already_there.sessions:
        print(f"There already: {_told(report.already_there.sessions, report.already_there)}.")
    if isinstance(report, transfer.ExportReport) and report.without_metadata:
        print(display.one_line(f"Without their metadata: {', '.join(report.without_metadata)}."))
    if isinstance(report, transfer.ExportReport) and report.inexact:
        sessions = ", ".join(report.inexact)
        print(display.one_line(f"Restored there with other messages than the agents had: {sessions}."))
    _print_skipped(report.skipped)


def _print_skipped(skipped: list[transfer.Skipped]) -> None:
    for one in skipped:
        typer.echo(display.one_line(f"skipped {one.what}: {one.reason}"), err=True)
    if skipped:
        raise typer.Exit(1)
