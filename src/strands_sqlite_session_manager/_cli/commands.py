"""The command line: parses, calls the library, prints."""

import dataclasses
import functools
import importlib.metadata
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import Progress
from strands.types.exceptions import SessionException

from .. import maintenance, transfer
from .._codec import encode
from .._engine.path import DB_PATH_VARIABLE, chosen_path
from .._errors import missing
from ..catalog import SessionCatalog
from ..repository import SQLiteSessionRepository
from . import display
from .display import plural

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
console = Console()
errors = Console(stderr=True)
# Columns where the output is no terminal: nothing is cut or wrapped for the program that reads the output.
UNLIMITED = 1_000_000

Database = Annotated[
    str | None,
    typer.Option(
        "--db", help=f"The database file. Defaults to {DB_PATH_VARIABLE}, else ./sessions.db.", metavar="FILE"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell what would be done.")]
Session = Annotated[str, typer.Argument(help="Id of the session.", show_default=False)]
Metadata = Annotated[
    list[str] | None, typer.Option(help="Only sessions with this metadata, NAME=VALUE. May be repeated.")
]
Age = Annotated[str | None, typer.Option(help="30d, 12h, 15m, or a time such as 2026-01-31.", metavar="AGE")]


def command(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add a command to the program. What the library raises ends it with one line and exit code 1."""

    def add(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(*arguments: Any, **options: Any) -> None:
            try:
                if sys.stdout is None:
                    raise OSError("the output is closed")
                # JSON is UTF-8, and writes half a surrogate pair just as this does.
                sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
                if hasattr(signal, "SIGPIPE"):  # Whoever reads the output may stop reading.
                    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
                for output in (console, errors):
                    if not output.file.isatty():
                        output.width = UNLIMITED
                function(*arguments, **options)
                sys.stdout.flush()
            except BrokenPipeError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise typer.Exit(0) from None
            except KeyboardInterrupt:
                raise typer.Exit(130) from None
            except (SessionException, ValueError, OSError) as error:
                typer.echo(display.one_line(f"strands-sqlite: {error}"), err=True)
                raise typer.Exit(1) from None

        return app.command(name)(run)

    return add


def _print_version(wanted: bool) -> None:
    if wanted:
        print(importlib.metadata.version("strands-sqlite-session-manager"))
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Look after the sessions of Strands agents in a SQLite file."""


@command("ls")
def list_sessions(
    db: Database = None,
    prefix: Annotated[str | None, typer.Option(help="Only ids that begin with this.")] = None,
    metadata: Metadata = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="Number of sessions at the most.")] = 50,
    after: Annotated[str | None, typer.Option(help="`next` of the page before, from --json.")] = None,
    as_json: Json = False,
) -> None:
    """List sessions, the last active first.

    Example: strands-sqlite ls --prefix user- --metadata team=support
    """
    with _catalog(db, read_only=True) as catalog:
        page = catalog.list_sessions(prefix=prefix, metadata=_pairs(metadata), limit=limit, after=after)
        agents = {entry.session_id: catalog.list_agents(entry.session_id) for entry in page.sessions}
    if as_json:
        sessions = [{**_fields(entry), "agents": agents[entry.session_id]} for entry in page.sessions]
        _print_json({"sessions": sessions, "next": page.next})
        return
    console.print(display.sessions_table(page.sessions, agents, datetime.now(timezone.utc)))
    if page.next:
        errors.print("There are more: raise --limit, or go on with --after and the `next` of --json.", style="dim")


@command("show")
def show(
    session: Session,
    db: Database = None,
    agent: Annotated[str | None, typer.Option(help="Only this agent.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="Number of last messages of each agent.")] = 50,
    raw: Annotated[bool, typer.Option("--raw", "--json", help="Print the messages as JSON, one on a line.")] = False,
) -> None:
    """Show the conversations of a session.

    A message that is damaged is shown with what is wrong with it, and the exit code is 1 then.

    Example: strands-sqlite show user-42 --limit 10
    """
    is_damaged = False
    with _catalog(db, read_only=True) as catalog:
        for agent_id in [agent] if agent else [entry.agent_id for entry in catalog.list_agents(session)]:
            messages = catalog.history(session, agent_id, limit=limit, with_damaged=True)[::-1]
            is_damaged |= any(message.damage for message in messages)
            if raw:
                for message in messages:
                    row = {"agent_id": agent_id, **_fields(message)}
                    print(display.json_text(encode(row, "message")))
            else:
                console.print(display.conversation(agent_id, messages))
        if agent is None and not raw:
            console.print(display.multi_agents(catalog.list_multi_agents(session)))
    if is_damaged:
        raise typer.Exit(1)


@command("stats")
def stats(db: Database = None, as_json: Json = False) -> None:
    """Tell how large the database is, and what is in it.

    Example: strands-sqlite stats --db sessions.db
    """
    sizes = maintenance.stats(db)
    if as_json:
        _print_json(sizes)
    else:
        console.print(display.stats_tables(sizes))


@command("usage")
def usage(
    session: Annotated[str | None, typer.Argument(help="Id of a session. Defaults to all.", show_default=False)] = None,
    db: Database = None,
    by: Annotated[Literal["session", "agent", "day"], typer.Option(help="What to tell apart.")] = "day",
    since: Age = None,
    until: Age = None,
    as_json: Json = False,
) -> None:
    """Add up the tokens that answers took.

    Example: strands-sqlite usage --by session --since 7d
    """
    with _catalog(db, read_only=True) as catalog:
        if session is not None:
            catalog.list_agents(session)  # which raises if it does not exist
        totals = catalog.usage(session, since=_time(since), until=_time(until), by=by)
    if as_json:
        _print_json([{by: key, **dataclasses.asdict(value)} for key, value in totals.items()])
    else:
        console.print(display.usage_table(by, totals))


@command("search")
def search(
    words: Annotated[list[str], typer.Argument(help="What to look for: all of these words.", show_default=False)],
    db: Database = None,
    session: Annotated[str | None, typer.Option(help="Only in this session.")] = None,
    agent: Annotated[str | None, typer.Option(help="Only messages of agents with this id.")] = None,
    role: Annotated[str | None, typer.Option(help="Only of user or assistant.")] = None,
    metadata: Metadata = None,
    since: Age = None,
    until: Age = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="Number of messages at the most.")] = 20,
    as_json: Json = False,
) -> None:
    """Find messages by their words, the best match first.

    The first search makes an index in the database, and each one adds what is new to it.

    Example: strands-sqlite search lost parcel --role user --since 30d
    """
    with _catalog(db) as catalog, _busy("searching"):
        found = catalog.search(
            " ".join(words),
            session_id=session,
            agent_id=agent,
            role=role,
            metadata=_pairs(metadata),
            since=_time(since),
            until=_time(until),
            limit=limit,
        )
    if as_json:
        _print_json(found)
    else:
        console.print(display.search_results(found))


@command("rm")
def remove(
    sessions: Annotated[list[str], typer.Argument(help="Ids of sessions.", show_default=False)],
    db: Database = None,
    agent: Annotated[str | None, typer.Option(help="Only this agent of the session.", metavar="ID")] = None,
    multi_agent: Annotated[str | None, typer.Option(help="Only this graph or swarm.", metavar="ID")] = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Delete sessions with all that is in them, or one agent, graph or swarm of a session.

    Example: strands-sqlite rm user-42 --yes
    """
    sessions = list(dict.fromkeys(sessions))
    if (agent is not None or multi_agent is not None) and len(sessions) != 1:
        raise typer.BadParameter("name one session with --agent or --multi-agent")
    with _catalog(db, read_only=dry_run) as catalog:
        if agent is not None or multi_agent is not None:
            _remove_parts(catalog, sessions[0], agent, multi_agent, yes, dry_run)
            return
        count = sum(entry.message_count for session in sessions for entry in catalog.list_agents(session))
        if _confirmed(f"Delete {plural(len(sessions), 'session')} with {plural(count, 'message')}", yes, dry_run):
            deleted = catalog.delete_sessions(sessions)
            print(f"Deleted {plural(deleted.sessions, 'session')} with {plural(deleted.messages, 'message')}.")


def _remove_parts(
    catalog: SessionCatalog, session: str, agent: str | None, multi_agent: str | None, yes: bool, dry_run: bool
) -> None:
    parts = []
    if agent is not None:
        counts = {entry.agent_id: entry.message_count for entry in catalog.list_agents(session)}
        if agent not in counts:
            raise missing("agents", session, agent)
        parts.append(f"agent {agent} with {plural(counts[agent], 'message')}")
    if multi_agent is not None:
        if multi_agent not in {entry.multi_agent_id for entry in catalog.list_multi_agents(session)}:
            raise missing("multi_agents", session, multi_agent)
        parts.append(f"the state of {multi_agent}")
    what = display.one_line(" and ".join(parts))
    if _confirmed(f"Delete {what}", yes, dry_run):
        if agent is not None:
            catalog.delete_agent(session, agent)
        if multi_agent is not None:
            catalog.delete_multi_agent(session, multi_agent)
        print(f"Deleted {what}.")


@command("prune")
def prune(
    db: Database = None,
    older_than: Age = None,
    keep_last: Annotated[
        int | None, typer.Option(min=0, help="Delete sessions beyond so many last active ones.")
    ] = None,
    metadata: Metadata = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Delete sessions that were not active for long, or are not among the last active.

    Example: strands-sqlite prune --older-than 90d --dry-run
    """
    if older_than is None and keep_last is None:
        raise typer.BadParameter("give --older-than or --keep-last: nothing is deleted without a limit")
    options: Any = {"older_than": _time(older_than), "keep_last": keep_last, "metadata": _pairs(metadata)}
    with _catalog(db, read_only=dry_run) as catalog:
        plan = catalog.prune(**options, dry_run=True)
        if dry_run:
            for session_id in plan.session_ids:
                console.print(display.plain(session_id), soft_wrap=True)
        told = f"{plural(len(plan.session_ids), 'session')} with {plural(plan.messages, 'message')}"
        if _confirmed(f"Delete {told}, {display.size(plan.bytes)}", yes, dry_run):
            with _busy("deleting"):
                result = catalog.prune(**options, session_ids=plan.session_ids)
            print(f"Deleted {plural(len(result.session_ids), 'session')}, {display.size(result.bytes)}.")


@command("fork")
def fork(
    source: Session,
    new: Annotated[str, typer.Argument(help="Id of the copy.", show_default=False)],
    db: Database = None,
    through: Annotated[int | None, typer.Option(min=0, help="Id of the last message to copy.")] = None,
) -> None:
    """Copy a session under another id.

    Example: strands-sqlite fork user-42 user-42-experiment --through 7
    """
    with _catalog(db) as catalog:
        copied = catalog.fork_session(source, new, through=through)
    print(f"Copied {plural(copied.messages, 'message')}.")


@command("rename")
def rename(
    old: Session, new: Annotated[str, typer.Argument(help="Its new id.", show_default=False)], db: Database = None
) -> None:
    """Give a session another id.

    Example: strands-sqlite rename user-42 user-43
    """
    with _catalog(db) as catalog:
        catalog.rename_session(old, new)
    print(display.one_line(f"Renamed {old} to {new}."))


@command("undo")
def undo(
    session: Session,
    db: Database = None,
    agent: Annotated[str, typer.Option(help="Id of the agent.")] = "default",
    turns: Annotated[int, typer.Option(min=0, help="Number of turns.")] = 1,
    unanswered: Annotated[
        bool, typer.Option("--unanswered", help="Only if the last message is no answer, as after a failure.")
    ] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Remove the last turns of a conversation: what the user said, and all that followed.

    Example: strands-sqlite undo user-42 --turns 2
    """
    with _catalog(db, read_only=dry_run) as catalog:
        total = {entry.agent_id: entry.message_count for entry in catalog.list_agents(session)}.get(agent)
        options: Any = {"message_count": total, "only_unanswered": unanswered}
        count = catalog.undo_turns(session, agent, turns, **options, dry_run=True)
        if _confirmed(f"Remove the last {plural(count, 'message')} of agent {agent}", yes, dry_run):
            if catalog.undo_turns(session, agent, turns, **options) != count:
                raise SessionException(
                    f"The conversation of agent {agent} was changed since it was shown; nothing was removed"
                )
            print(f"Removed {plural(count, 'message')}.")


@command("tag")
def tag(
    session: Session,
    pairs: Annotated[
        list[str] | None, typer.Argument(help="NAME=TEXT, NAME:=JSON, or NAME= to remove it.", show_default=False)
    ] = None,
    db: Database = None,
) -> None:
    """Set, remove or print metadata of a session.

    Example: strands-sqlite tag user-42 title="Lost parcel" priority:=2 draft=
    """
    with _catalog(db, read_only=not pairs) as catalog:
        if pairs:
            catalog.update_metadata(session, **_pairs(pairs, empty=None))
        summary = catalog.describe(session)
    if summary is None:
        raise missing("sessions", session)
    _print_json(summary.metadata)


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
    with SQLiteSessionRepository(_path_of_existing(db), read_only=True) as source, _busy("exporting"):
        if is_directory:
            report = transfer.export_file_sessions(source, destination, session_ids=sessions or None)
            _print_report("Exported", report)
            return
        copied = transfer.export_jsonl(
            source, sys.stdout if str(destination) == "-" else destination, session_ids=sessions or None
        )
    if str(destination) != "-":
        print(f"Exported {plural(copied.sessions, 'session')} with {plural(copied.messages, 'message')}.")


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
    with SQLiteSessionRepository(db) as target, _busy("importing"):
        if source.is_dir():
            report = transfer.import_file_sessions(source, target)
        else:
            if str(source) == "-":
                if sys.stdin is None:
                    raise OSError("the input is closed")
                sys.stdin.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
            report = transfer.import_jsonl(sys.stdin if str(source) == "-" else source, target)
    _print_report("Imported", report)


@command("backup")
def backup(
    destination: Annotated[Path, typer.Argument(help="The new file.", show_default=False)], db: Database = None
) -> None:
    """Copy the database to a new file, while it is in use.

    Example: strands-sqlite backup backups/2026-01-31.db
    """
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("copying", total=None)
        result = maintenance.backup(
            destination, db, progress=lambda done, total: progress.update(task, completed=done, total=total)
        )
    print(f"Copied {display.size(result.size)} to {result.path}.")


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
    target = Path(chosen_path(db))
    what = f"Replace all of {target} with" if target.exists() else f"Make {target} from"
    if not source.exists():
        raise SessionException(f"{source}: no such file")
    if _confirmed(f"{what} {source}", yes, dry_run):
        try:
            with _busy("restoring"):
                maintenance.restore_backup(source, db, overwrite=overwrite)
        except SessionException as error:
            raise SessionException(str(error).replace("overwrite=True", "--overwrite")) from error
        print(display.one_line(f"Restored {target} from {source}."))


@command("check")
def check(db: Database = None, as_json: Json = False) -> None:
    """Look for everything that is wrong with the database. The exit code is 1 if there are errors.

    Example: strands-sqlite check --json
    """
    with _busy("checking"):
        findings = maintenance.check(db)
    if as_json:
        _print_json(findings)
    else:
        console.print(display.findings_list(findings))
    if any(finding.severity == "error" for finding in findings):
        raise typer.Exit(1)


@command("repair")
def repair(db: Database = None, yes: Yes = False, dry_run: DryRun = False) -> None:
    """Repair what `check` finds, where it can be repaired. The exit code is 1 if errors are left.

    Example: strands-sqlite repair --dry-run
    """
    findings = maintenance.check(db)
    console.print(display.findings_list(findings))
    planned = [finding for finding in findings if finding.repairable]
    left = [finding for finding in findings if not finding.repairable]
    if planned and _confirmed(f"Repair {plural(len(planned), 'finding')}", yes, dry_run):
        print(f"Repaired {plural(len(maintenance.repair(db, dry_run=False)), 'finding')}.")
        # Checked again: rows can be, when the indexes are sound.
        left = maintenance.check(db)
    count = sum(finding.severity == "error" for finding in left)
    if count:
        raise SessionException(f"{plural(count, 'error')} left; `strands-sqlite check` says what to do")


@command("vacuum")
def vacuum(db: Database = None) -> None:
    """Give the free space in the database back to the file system. Writers wait for it.

    Example: strands-sqlite vacuum
    """
    with _busy("vacuuming"):
        result = maintenance.vacuum(db)
    print(f"{display.size(result.size_before)} before, {display.size(result.size_after)} now.")


def _path_of_existing(db: str | None) -> Path:
    """Return the path of a database that exists: only `import` and `restore` make one."""
    path = Path(chosen_path(db))
    if not path.exists():
        raise SessionException(f"{path}: no such file; name the database with --db, or set {DB_PATH_VARIABLE}")
    return path


def _catalog(db: str | None, *, read_only: bool = False) -> SessionCatalog:
    return SessionCatalog(_path_of_existing(db), read_only=read_only)


def _fields(record: Any) -> dict[str, Any]:
    """Return the fields of a record as they are. `dataclasses.asdict` copies what is in them, however deep it is."""
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def _print_json(value: Any) -> None:
    def plain(item: Any) -> Any:
        return _fields(item) if dataclasses.is_dataclass(item) else str(item)

    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=plain)
    except ValueError:  # What JSON has no number for is null, as in JavaScript.
        text = json.dumps(json.loads(json.dumps(value, default=plain), parse_constant=lambda _: None), indent=2)
    print(display.json_text(text))


def _print_report(done: str, report: Any) -> None:
    print(f"{done} {plural(len(report.session_ids), 'session')} with {plural(report.copied.messages, 'message')}.")
    if isinstance(report, transfer.ImportReport) and report.already_there.sessions:
        there = report.already_there
        print(f"There already: {plural(there.sessions, 'session')} with {plural(there.messages, 'message')}.")
    if isinstance(report, transfer.ExportReport) and report.without_metadata:
        print(display.one_line(f"Without their metadata: {', '.join(report.without_metadata)}."))
    if isinstance(report, transfer.ExportReport) and report.inexact:
        sessions = ", ".join(report.inexact)
        print(display.one_line(f"Restored there with other messages than the agents had: {sessions}."))
    for skipped in report.skipped:
        typer.echo(display.one_line(f"skipped {skipped.what}: {skipped.reason}"), err=True)
    if report.skipped:
        raise typer.Exit(1)


@contextmanager
def _busy(what: str) -> Iterator[None]:
    """Show that something is going on, on a terminal."""
    if errors.is_terminal:
        with errors.status(what):
            yield
    else:
        yield


def _confirmed(action: str, yes: bool, dry_run: bool) -> bool:
    """Ask, and return whether to go on."""
    if dry_run:
        print(f"{action}: nothing was changed.")
        return False
    if not yes:
        try:
            typer.confirm(f"{action}?", abort=True, err=True)
        except RuntimeError as error:  # also what typer raises after a "no" and after Ctrl-C
            if isinstance(error, typer.Abort) and not isinstance(error.__context__, EOFError):
                raise
            typer.echo(err=True)
            raise SessionException("not a terminal, so nothing was changed: pass --yes") from error
    return True


def _pairs(pairs: Iterable[str] | None, *, empty: str | None = "") -> dict[str, Any]:
    """Return names and values; `empty` stands for a text without characters."""
    found = {}
    for pair in pairs or ():
        match = re.fullmatch(r"([^=]+?)(:?)=(.*)", pair, re.DOTALL)
        if match is None:
            raise typer.BadParameter(f"{pair!r} is not NAME=VALUE")
        name, is_json, value = match.groups()
        try:
            found[name] = json.loads(value) if is_json else value or empty
        except (ValueError, RecursionError) as error:
            raise typer.BadParameter(f"{name!r} has no JSON after the :=: {error}") from None
    return found


def _time(text: str | None) -> datetime | None:
    """Return the time that an age or a time stands for; a time without a zone is local."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)([dhm])", text)
    try:
        if match:
            unit = {"d": "days", "h": "hours", "m": "minutes"}[match[2]]
            return datetime.now(timezone.utc) - timedelta(**{unit: int(match[1])})
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text!r} is neither an age such as 30d nor a time such as 2026-01-31") from None
