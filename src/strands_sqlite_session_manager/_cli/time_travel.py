"""Commands on snapshots of the past."""

from datetime import datetime, timezone
from typing import Annotated

import typer

from .._wording import plural
from . import display
from .program import (
    Database,
    DryRun,
    Json,
    Session,
    Yes,
    command,
    console,
    fields_of,
    is_confirmed,
    open_catalog,
    print_json,
)

Agent = Annotated[str, typer.Option(help="Id of the agent.", metavar="ID")]


@command("snapshots")
def list_snapshots(
    session: Session,
    db: Database = None,
    agent: Agent = "default",
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=0, help="Number of snapshots at the most.")] = None,
    before: Annotated[str | None, typer.Option(help="Only older ones than this snapshot.", metavar="ID")] = None,
    as_json: Json = False,
) -> None:
    """List the snapshots that the SDK's SnapshotSessionManager has stored of an agent, the latest first.

    Example: strands-sqlite snapshots user-42
    """
    with open_catalog(db, read_only=True) as catalog:
        found = catalog.list_snapshots(session, agent, limit=limit, before=before)
    if as_json:
        print_json(found)
    else:
        console.print(display.snapshots_table(found, datetime.now(timezone.utc)))
    if any(snapshot.damage for snapshot in found):
        raise typer.Exit(1)


@command("diff")
def diff(
    session: Session,
    first: Annotated[str, typer.Argument(help="Id of a snapshot, or latest.", show_default=False)],
    second: Annotated[str | None, typer.Argument(help="Id of another. Defaults to the latest.")] = None,
    db: Database = None,
    agent: Agent = "default",
    as_json: Json = False,
) -> None:
    """Show what differs between two snapshots of an agent.

    Example: strands-sqlite diff user-42 01989b3c-8f2e-7000-8000-000000000000
    """
    with open_catalog(db, read_only=True) as catalog:
        # As `snapshots` lists it.
        ids = (None if snapshot_id == "latest" else snapshot_id for snapshot_id in (first, second))
        found = catalog.diff_snapshots(session, agent, *ids)
    if as_json:
        pairs = [{"before": fields_of(before), "after": fields_of(after)} for before, after in found.changed]
        print_json({**fields_of(found), "changed": pairs})
    else:
        console.print(display.snapshot_diff(found))


@command("restore-snapshot")
def restore_snapshot(
    session: Session,
    snapshot: Annotated[str, typer.Argument(help="Id of the snapshot.", show_default=False)],
    db: Database = None,
    agent: Agent = "default",
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Make a snapshot the latest, from which the agent goes on. The one that was the latest is kept.

    Example: strands-sqlite restore-snapshot user-42 01989b3c-8f2e-7000-8000-000000000000
    """
    with open_catalog(db, read_only=dry_run) as catalog:
        # Refused before anybody is asked.
        catalog.restore_snapshot(session, agent, snapshot, dry_run=True)
        counts = {entry.snapshot_id: entry.message_count for entry in catalog.list_snapshots(session, agent)}
        told = f"{plural(counts.get(snapshot, 0), 'message')} in the place of {counts.get(None, 0):,}"
        if is_confirmed(f"Go on with {told}", yes, dry_run):
            former = catalog.restore_snapshot(session, agent, snapshot)
            print(display.one_line(f"Restored {snapshot}." + (f" What was the latest is {former}." if former else "")))
