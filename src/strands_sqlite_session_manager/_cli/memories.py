"""Commands for memories: a group of their own."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from strands.types.exceptions import SessionException

from .._arguments import now
from .._engine.database import Database as AnyDatabase
from .._engine.holder import DatabaseHolder, database_of
from .._engine.path import new_file
from .._errors import missing
from .._memory import exchange, records, words
from .._memory.records import Memory, Place
from .._search.erasing import erase_former_content
from .._search.sources import MEMORIES
from .._wording import plural
from . import display
from .moving import lines_of
from .program import (
    Database,
    DryRun,
    Json,
    Yes,
    app,
    can_be_written,
    command,
    console,
    errors,
    fields_of,
    is_confirmed,
    path_of_existing,
    print_json,
    progress_bar,
)

group = typer.Typer(no_args_is_help=True, help="Look after what agents remember.", rich_markup_mode=None)
app.add_typer(group, name="memories")

Store = Annotated[str, typer.Option(help="Name of the store.", metavar="NAME", show_default=False)]
Scope = Annotated[str, typer.Option(help="Whose memories.", metavar="NAME")]
Ids = Annotated[list[int], typer.Argument(help="Ids of memories.", show_default=False)]
Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="Number of memories at the most.")]


@contextmanager
def _opened(db: str | None, *, read_only: bool = False) -> Iterator[AnyDatabase]:
    with DatabaseHolder(path_of_existing(db), read_only=read_only) as holder:
        yield database_of(holder)


@command("ls", group)
def list_memories(
    db: Database = None,
    store: Annotated[str | None, typer.Option(help="Name of a store, to list its memories.", metavar="NAME")] = None,
    scope: Annotated[
        str | None, typer.Option(help="Whose memories. Defaults to all; with --store, to `default`.", metavar="NAME")
    ] = None,
    limit: Limit = 50,
    after: Annotated[str | None, typer.Option(help="`next` of the page before, from --json.")] = None,
    as_json: Json = False,
) -> None:
    """List stores and scopes; with --store, the memories of one scope, the newest first.

    Example: strands-sqlite memories ls --store facts --scope user-42
    """
    with _opened(db, read_only=True) as database:
        if store is None:
            places = records.places(database, scope, now())
            if as_json:
                names = ("store", "scope", "memories", "updated_at")
                print_json([dict(zip(names, row, strict=True)) for row in places])
            else:
                console.print(display.memory_places(places))
            return
        page = records.page(database, Place(store, "default" if scope is None else scope), limit, after, None, now())
    if as_json:
        print_json({"memories": page.memories, "next": page.next})
        return
    console.print(display.memories_table(page.memories))
    if page.next:
        errors.print("There are more: raise --limit, or go on with --after and the `next` of --json.", style="dim")


@command("search", group)
def search(
    query: Annotated[list[str], typer.Argument(help="What to look for: one of these words.", show_default=False)],
    store: Store,
    db: Database = None,
    scope: Scope = "default",
    limit: Limit = 10,
    as_json: Json = False,
) -> None:
    """Find memories of a scope by their words, the best match first.

    Example: strands-sqlite memories search green tea --store facts --scope user-42
    """
    place, time = Place(store, scope), now()
    with _opened(db, read_only=not can_be_written(db)) as database, progress_bar("searching"):
        scores = words.find(database, place, " ".join(query), "OR", limit, None, time)
        memories = records.read(database, place, scores, None, time)
    found = [(memories[memory_id], score) for memory_id, score in scores.items() if memory_id in memories]
    if as_json:
        print_json([{**fields_of(memory), "score": score} for memory, score in found])
    else:
        console.print(display.memories_table([memory for memory, _ in found]))


@command("show", group)
def show(
    memory: Annotated[int, typer.Argument(help="Id of the memory.", show_default=False)],
    store: Store,
    db: Database = None,
    scope: Scope = "default",
    as_json: Json = False,
) -> None:
    """Show all of a memory. What is damaged is shown with what is wrong with it, and the exit code is 1 then.

    Example: strands-sqlite memories show 17 --store facts --scope user-42
    """
    with _opened(db, read_only=True) as database:
        (found,) = _existing(database, Place(store, scope), [memory])
    if as_json:
        print_json(found)
    else:
        console.print(display.memory(found))
    if found.damage:
        raise typer.Exit(1)


@command("rm", group)
def remove(
    memories: Ids,
    store: Store,
    db: Database = None,
    scope: Scope = "default",
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Delete memories, and overwrite them on disk. With --json, what went is printed, or would.

    Example: strands-sqlite memories rm 17 18 --store facts --scope user-42
    """
    place = Place(store, scope)
    with _opened(db, read_only=dry_run) as database:
        found = _existing(database, place, memories)
        if not as_json:
            console.print(display.memories_table(found))
        deleted = 0
        if not (as_json and dry_run) and is_confirmed(f"Delete {plural(len(found), 'memory')}", yes, dry_run):
            deleted = records.delete(database, place, [memory.memory_id for memory in found])
            erase_former_content(database, MEMORIES)
    if as_json:
        print_json(found)
    elif deleted:
        print(f"Deleted {plural(deleted, 'memory')}.")


def _existing(database: AnyDatabase, place: Place, memory_ids: list[int]) -> list[Memory]:
    found = records.read(database, place, memory_ids, None, now())
    for memory_id in memory_ids:
        if memory_id not in found:
            raise missing("memories", *place, memory_id)
    return [*found.values()]


@command("export", group)
def export(
    destination: Annotated[Path, typer.Argument(help="A new .jsonl file, or - for the output.", show_default=False)],
    db: Database = None,
    store: Annotated[str | None, typer.Option(help="Only of this store.", metavar="NAME")] = None,
    scope: Annotated[str | None, typer.Option(help="Only of this scope.", metavar="NAME")] = None,
) -> None:
    """Write memories to a JSON Lines file, without vectors.

    Example: strands-sqlite memories export memories.jsonl --scope user-42
    """
    skipped: list[Memory] = []
    with _opened(db, read_only=True) as database, progress_bar("exporting"):
        lines = (f"{line}\n" for line in exchange.export(database, store, scope, skipped))
        if str(destination) == "-":
            sys.stdout.writelines(lines)
        else:
            with new_file(destination, _refuse_existing) as partial, partial.open("w", encoding="utf-8") as file:
                # Between the first line and the last, which say what it is, and how many there are.
                number = sum(1 for line in lines if file.write(line)) - 2
            print(f"Exported {plural(number, 'memory')}.")
    for memory in skipped:
        typer.echo(display.one_line(f"skipped memory {memory.memory_id}: {memory.damage}"), err=True)
    if skipped:
        raise typer.Exit(1)


def _refuse_existing(path: Path) -> None:
    if os.path.lexists(path):
        raise SessionException(f"{path}: exists already; choose another path")


@command("import", group)
def import_(
    source: Annotated[Path, typer.Argument(help="A .jsonl file, or - for the input.", show_default=False)],
    db: Database = None,
    as_json: Json = False,
) -> None:
    """Read memories from a JSON Lines file. What is there already stays as it is, so it can be run again.

    Example: strands-sqlite memories import memories.jsonl --db sessions.db
    """
    with lines_of(source) as lines, DatabaseHolder(db) as holder, progress_bar("importing"):
        added, there = exchange.load(database_of(holder), lines)
    if as_json:
        print_json({"imported": added, "there_already": there})
        return
    print(f"Imported {plural(added, 'memory')}.")
    if there:
        print(f"There already: {plural(there, 'memory')}.")
