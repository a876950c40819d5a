"""The program that the commands belong to, and what they have in common."""

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
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from strands.types.exceptions import SessionException

from .._engine.path import DB_PATH_VARIABLE, chosen_path, is_cluster
from ..catalog import SessionCatalog
from . import display

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
        "--db",
        help=f"The database: a file, or rqlite://host:port. Defaults to {DB_PATH_VARIABLE}, else ./sessions.db.",
        metavar="FILE",
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


def command(name: str, group: typer.Typer = app) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add a command to the program, or to a group. What the library raises ends it with one line and exit code 1."""

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

        return group.command(name)(run)

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


def path_of_existing(db: str | None) -> str:
    """Return the path of a database that exists: only `import`, `copy` and `restore` make one."""
    path = chosen_path(db)
    if not is_cluster(path) and not Path(path).exists():
        raise SessionException(f"{path}: no such file; name the database with --db, or set {DB_PATH_VARIABLE}")
    return path


def can_be_written(db: str | None) -> bool:
    """Tell whether a search can write into the index of a database; what is not in it is searched beside it else."""
    path = path_of_existing(db)
    return is_cluster(path) or os.access(path, os.W_OK)


def open_catalog(db: str | None, *, read_only: bool = False) -> SessionCatalog:
    return SessionCatalog(path_of_existing(db), read_only=read_only)


def fields_of(record: Any) -> dict[str, Any]:
    """Return the fields of a record as they are. `dataclasses.asdict` copies what is in them, however deep it is."""
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def print_json(value: Any) -> None:
    def plain(item: Any) -> Any:
        return fields_of(item) if dataclasses.is_dataclass(item) else str(item)

    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=plain)
    except ValueError:  # What JSON has no number for is null, as in JavaScript.
        text = json.dumps(json.loads(json.dumps(value, default=plain), parse_constant=lambda _: None), indent=2)
    print(display.json_text(text))


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], object]]:
    """Show how far something is, on a terminal.

    Args:
        what: What is being done.

    Yields:
        To be called with what is done and what there is to do. Until then, and where the latter is 0, the bar moves
        back and forth.
    """
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total or None)


def is_confirmed(action: str, yes: bool, dry_run: bool) -> bool:
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


def pairs_of(pairs: Iterable[str] | None, *, empty: str | None = "") -> dict[str, Any]:
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


def time_of(text: str | None, *, ahead: bool = False) -> datetime | None:
    """Return the time that a time, or a time span from now, stands for; a time without a zone is local.

    Args:
        text: Such as 30d or 2026-01-31.
        ahead: Whether a time span goes into the future.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)([dhm])", text)
    try:
        if match:
            unit = {"d": "days", "h": "hours", "m": "minutes"}[match[2]]
            span = timedelta(**{unit: int(match[1])})
            return datetime.now(timezone.utc) + (span if ahead else -span)
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text!r} is neither an age such as 30d nor a time such as 2026-01-31") from None
