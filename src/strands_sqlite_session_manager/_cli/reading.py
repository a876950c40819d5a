"""Commands that look at what is there."""

from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from typing import Annotated, Literal

import typer
from strands.types.exceptions import SessionException

from .. import maintenance
from .._catalog import writing
from .._codec import encode
from .._errors import MissingRecordError
from ..catalog import AgentSummary, HistoryMessage, SessionCatalog
from . import display
from .program import (
    Age,
    Database,
    Json,
    Metadata,
    Session,
    can_be_written,
    command,
    console,
    errors,
    fields_of,
    open_catalog,
    pairs_of,
    print_json,
    progress_bar,
    time_of,
)


@command("ls")
def list_sessions(
    db: Database = None,
    prefix: Annotated[str | None, typer.Option(help="Only ids that begin with this.")] = None,
    metadata: Metadata = None,
    since: Age = None,
    until: Age = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="Number of sessions at the most.")] = 50,
    after: Annotated[str | None, typer.Option(help="`next` of the page before, from --json.")] = None,
    as_json: Json = False,
) -> None:
    """List sessions, the last active first.

    Example: strands-sqlite ls --prefix user- --metadata team=support
    """
    with open_catalog(db, read_only=True) as catalog:
        page = catalog.list_sessions(
            prefix=prefix,
            metadata=pairs_of(metadata),
            updated_after=time_of(since),
            updated_before=time_of(until),
            limit=limit,
            after=after,
        )
        agents = {entry.session_id: _agents(catalog, entry.session_id) for entry in page.sessions}
    if as_json:
        sessions = [{**fields_of(entry), "agents": agents[entry.session_id]} for entry in page.sessions]
        print_json({"sessions": sessions, "next": page.next})
        return
    console.print(display.sessions_table(page.sessions, agents, datetime.now(timezone.utc)))
    if page.next:
        errors.print("There are more: raise --limit, or go on with --after and the `next` of --json.", style="dim")


def _agents(catalog: SessionCatalog, session_id: str) -> list[AgentSummary]:
    try:
        return catalog.list_agents(session_id)
    except (SessionException, ValueError):
        return []  # Deleted since; or its id cannot be one, which its `damage` says.


@command("show")
def show(
    session: Session,
    db: Database = None,
    agent: Annotated[str | None, typer.Option(help="Only this agent.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="Number of last messages of each agent.")] = 50,
    before: Annotated[int | None, typer.Option(min=0, help="Only messages with a lower number.", metavar="N")] = None,
    after: Annotated[
        int | None, typer.Option(min=-1, help="Only messages with a higher number, the first of them.", metavar="N")
    ] = None,
    snapshot: Annotated[
        str | None, typer.Option(help="The agent in this snapshot, see `snapshots`.", metavar="ID")
    ] = None,
    raw: Annotated[bool, typer.Option("--raw", "--json", help="Print the messages as JSON, one on a line.")] = False,
    form: Annotated[
        Literal["json", "markdown", "python"] | None,
        typer.Option("--as", help="Print the messages of one agent as a list in JSON, as Markdown, or as a test."),
    ] = None,
) -> None:
    """Show the conversations of a session.

    What is damaged is shown with what is wrong with it, and the exit code is 1 then.

    Example: strands-sqlite show user-42 --limit 10
    """
    is_damaged = False
    if snapshot is not None:
        agent = agent or "default"
    with open_catalog(db, read_only=True) as catalog:
        read = partial(
            catalog.history, limit=limit, before=before, after=after, snapshot_id=snapshot, with_damaged=True
        )
        if form is not None:
            _write(catalog, read, session, agent, form)
            return
        for agent_id in [agent] if agent else [entry.agent_id for entry in catalog.list_agents(session)]:
            try:
                messages = read(session, agent_id)[::-1]
            except (ValueError, MissingRecordError) as error:
                if agent:
                    raise
                errors.print(display.plain(error))
                # Somebody has put an id there that cannot be one. That there is only the past of an agent is no damage.
                is_damaged |= isinstance(error, ValueError)
                continue
            is_damaged |= any(message.damage for message in messages)
            if raw:
                for message in messages:
                    row = {"agent_id": agent_id, **fields_of(message)}
                    print(display.json_text(encode(row, "message", around=1)))
            else:
                console.print(display.conversation(agent_id, messages))
        if agent is None and not raw:
            multi_agents = catalog.list_multi_agents(session)
            is_damaged |= any(summary.damage for summary in multi_agents)
            console.print(display.multi_agents(multi_agents))
    if is_damaged:
        raise typer.Exit(1)


def _write(
    catalog: SessionCatalog,
    read: Callable[[str, str], list[HistoryMessage]],
    session: str,
    agent: str | None,
    form: str,
) -> None:
    """Print the messages of one agent in a form to take elsewhere."""
    names = [agent] if agent else [entry.agent_id for entry in catalog.list_agents(session)]
    if len(names) > 1:
        # Of others there is only the past.
        names = [name for found in catalog.contents([session]).values() for name in found.agents] or names
    if len(names) != 1:
        raise typer.BadParameter(f"session {session} has {len(names)} agents: name one with --agent")
    messages = read(session, names[0])[::-1]
    print(writing.FORMS[form](messages, f"{session}, agent {names[0]}"), end="")
    if any(message.damage for message in messages):
        raise typer.Exit(1)


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
    with open_catalog(db, read_only=not can_be_written(db)) as catalog, progress_bar("indexing") as progress:
        found = catalog.search(
            " ".join(words),
            session_id=session,
            agent_id=agent,
            role=role,
            metadata=pairs_of(metadata),
            since=time_of(since),
            until=time_of(until),
            limit=limit,
            progress=progress,
        )
    if as_json:
        print_json(found)
    else:
        console.print(display.search_results(found))


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
    with open_catalog(db, read_only=True) as catalog, progress_bar("adding up"):
        if session is not None:
            catalog.list_agents(session)  # which raises if it does not exist
        totals = catalog.usage(session, since=time_of(since), until=time_of(until), by=by)
    if as_json:
        print_json([{by: key, **fields_of(value)} for key, value in totals.items()])
    else:
        console.print(display.usage_table(by, totals))


@command("stats")
def stats(db: Database = None, as_json: Json = False) -> None:
    """Tell how large the database is, and what is in it.

    Example: strands-sqlite stats --db sessions.db
    """
    with progress_bar("adding up"):
        sizes = maintenance.stats(db)
    if as_json:
        print_json(sizes)
    else:
        console.print(display.stats_tables(sizes))


@command("check")
def check(db: Database = None, as_json: Json = False) -> None:
    """Look for everything that is wrong with the database. The exit code is 1 if there are errors.

    Example: strands-sqlite check --json
    """
    with progress_bar("checking") as progress:
        findings = maintenance.check(db, progress=progress)
    if as_json:
        print_json(findings)
    else:
        console.print(display.findings_list(findings))
    if any(finding.severity == "error" for finding in findings):
        raise typer.Exit(1)
