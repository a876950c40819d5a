"""Commands that change or delete what is there."""

from typing import Annotated, Any

import typer
from strands.types.exceptions import SessionException

from .. import maintenance
from .._errors import missing
from .._wording import plural, size
from ..catalog import SessionCatalog
from . import display
from .program import (
    Age,
    Database,
    DryRun,
    Metadata,
    Session,
    Yes,
    command,
    console,
    is_confirmed,
    open_catalog,
    pairs_of,
    print_json,
    progress_bar,
    time_of,
)


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
    with open_catalog(db, read_only=dry_run) as catalog:
        if agent is not None or multi_agent is not None:
            _remove_parts(catalog, sessions[0], agent, multi_agent, yes, dry_run)
            return
        count = sum(entry.message_count for session in sessions for entry in catalog.list_agents(session))
        if is_confirmed(f"Delete {plural(len(sessions), 'session')} with {plural(count, 'message')}", yes, dry_run):
            with progress_bar("deleting"):
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
    if is_confirmed(f"Delete {what}", yes, dry_run):
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
    keep_snapshots: Annotated[
        int | None, typer.Option(min=0, help="Delete snapshots beyond so many newest ones of each agent.")
    ] = None,
    metadata: Metadata = None,
    yes: Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Delete what has expired, sessions that were not active for long, and snapshots of the past.

    Example: strands-sqlite prune --older-than 90d --dry-run
    """
    options: Any = {
        "older_than": time_of(older_than),
        "keep_last": keep_last,
        "keep_snapshots": keep_snapshots,
        "metadata": pairs_of(metadata),
    }
    with open_catalog(db, read_only=dry_run) as catalog:
        with progress_bar("looking") as progress:
            plan = catalog.prune(**options, dry_run=True, progress=progress)
        if dry_run:
            for session_id in plan.session_ids:
                console.print(display.plain(session_id), soft_wrap=True)
        if is_confirmed(f"Delete {display.pruned(plan)}", yes, dry_run):
            with progress_bar("deleting") as progress:
                result = catalog.prune(**options, session_ids=plan.session_ids, progress=progress)
            print(f"Deleted {display.pruned(result)}.")


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
    with open_catalog(db) as catalog, progress_bar("copying"):
        copied = catalog.fork_session(source, new, through=through)
    print(f"Copied {plural(copied.messages, 'message')}.")


@command("rename")
def rename(
    old: Session, new: Annotated[str, typer.Argument(help="Its new id.", show_default=False)], db: Database = None
) -> None:
    """Give a session another id.

    Example: strands-sqlite rename user-42 user-43
    """
    with open_catalog(db) as catalog, progress_bar("renaming"):
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
    with open_catalog(db, read_only=dry_run) as catalog:
        total = {entry.agent_id: entry.message_count for entry in catalog.list_agents(session)}.get(agent)
        options: Any = {"message_count": total, "only_unanswered": unanswered}
        count = catalog.undo_turns(session, agent, turns, **options, dry_run=True)
        if is_confirmed(f"Remove the last {plural(count, 'message')} of agent {agent}", yes, dry_run):
            if catalog.undo_turns(session, agent, turns, **options) != count:
                raise SessionException(
                    f"The conversation of agent {agent} was changed since it was shown; nothing was removed"
                )
            print(f"Removed {plural(count, 'message')}.")


@command("expire")
def expire(
    session: Session,
    when: Annotated[
        str | None, typer.Argument(help="30d, 12h, 15m, a time such as 2026-01-31, or never.", show_default=False)
    ] = None,
    db: Database = None,
) -> None:
    """Let a session expire after a time: it is hidden from then on, and deleted. Without a time, tell when it does.

    Example: strands-sqlite expire user-42 30d
    """
    with open_catalog(db, read_only=when is None) as catalog:
        if when is not None:
            catalog.set_expiry(session, None if when == "never" else time_of(when, ahead=True))
        summary = catalog.describe(session)
    if summary is None and when is None:
        raise missing("sessions", session)
    expires_at = None if summary is None else summary.expires_at
    told = "has expired" if summary is None else f"expires at {expires_at}" if expires_at else "does not expire"
    print(display.one_line(f"Session {session} {told}."))


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
    with open_catalog(db, read_only=not pairs) as catalog:
        if pairs:
            catalog.update_metadata(session, **pairs_of(pairs, empty=None))
        summary = catalog.describe(session)
    if summary is None:
        raise missing("sessions", session)
    if summary.damage:
        raise SessionException(summary.damage)
    print_json(summary.metadata)


@command("reindex")
def reindex(db: Database = None) -> None:
    """Build the search indexes again, where a search does not find what is there.

    Example: strands-sqlite reindex
    """
    with open_catalog(db) as catalog, progress_bar("indexing") as progress:
        catalog.reindex(progress=progress)


@command("repair")
def repair(db: Database = None, yes: Yes = False, dry_run: DryRun = False) -> None:
    """Repair what `check` finds, where it can be repaired. The exit code is 1 if errors are left.

    Example: strands-sqlite repair --dry-run
    """
    with progress_bar("checking") as progress:
        findings = maintenance.check(db, progress=progress)
    console.print(display.findings_list(findings))
    planned = [finding for finding in findings if finding.repairable]
    left = [finding for finding in findings if not finding.repairable]
    if planned and is_confirmed(f"Repair {plural(len(planned), 'finding')}", yes, dry_run):
        with progress_bar("repairing") as progress:
            repaired = maintenance.repair(db, dry_run=False, progress=progress)
        print(f"Repaired {plural(len(repaired), 'finding')}.")
        with progress_bar("checking") as progress:
            # Checked again: rows can be, when the indexes are sound.
            left = maintenance.check(db, progress=progress)
    count = sum(finding.severity == "error" for finding in left)
    if count:
        raise SessionException(f"{plural(count, 'error')} left; `strands-sqlite check` says what to do")


@command("vacuum")
def vacuum(db: Database = None) -> None:
    """Give the free space in the database back to the file system. Writers wait for it.

    Example: strands-sqlite vacuum
    """
    with progress_bar("vacuuming"):  # SQLite does not tell how far it is.
        result = maintenance.vacuum(db)
    print(f"{size(result.size_before)} before, {size(result.size_after)} now.")
