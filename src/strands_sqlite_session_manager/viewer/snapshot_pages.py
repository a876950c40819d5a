"""The past of an agent of the SDK's `SnapshotSessionManager`."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from .._catalog.records import HistoryMessage, SnapshotDiff
from .blocks import Block, blocks_of, json_block
from .page import catalog_of, links_of, render

PAGE = 50


def snapshots_page(request: Request) -> Response:
    """Show the snapshots of an agent as a time line, and what differs between two of them."""
    query, links = request.query_params, links_of(request)
    session_id, agent_id = query.get("session", ""), query.get("agent", "")
    before = query.get("before") or None
    # One more than is shown, for what has changed since.
    found = catalog_of(request).list_snapshots(session_id, agent_id, limit=PAGE + 1, before=before)
    difference, changes = None, []
    command = links.command("snapshots", session_id, agent=agent_id, limit=PAGE, before=before)
    first, second = query.get("first"), query.get("second") or None
    if first and first != second:
        difference = catalog_of(request).diff_snapshots(session_id, agent_id, first, second)
        changes = _changes(difference, request)
        command = links.command("diff", session_id, first, *filter(None, [second]), agent=agent_id)
    return render(
        request,
        "snapshots.html",
        session_id=session_id,
        agent_id=agent_id,
        # Each with the one before it.
        rows=[
            (snapshot, older, None if older is None else snapshot.message_count - older.message_count)
            for snapshot, older in pairwise([*found, None])
            if snapshot is not None
        ][:PAGE],
        before=before,
        following=found[PAGE - 1].snapshot_id if len(found) > PAGE else None,
        difference=difference,
        changes=changes,
        first=first,
        second=second,
        blocks={snapshot.snapshot_id: json_block(snapshot.app_data) for snapshot in found if snapshot.app_data},
        command=command,
    )


def _changes(difference: SnapshotDiff, request: Request) -> list[Any]:
    """Return messages that differ as the page shows them: what became of each, and its versions."""
    links, query = links_of(request), request.query_params

    def version(which: str, message: HistoryMessage) -> tuple[HistoryMessage, list[Block], str]:
        """Return a message of the first or the second snapshot, its blocks, and the link to all of it."""
        place = {"session": query.get("session"), "agent": query.get("agent"), "snapshot": query.get(which)}
        whole = links.to("copy", **place, message=message.message_id, **{"as": "markdown"})
        return message, blocks_of(message.message["content"], lambda _: None), whole

    return [
        *(("removed", [version("first", message)]) for message in difference.removed),
        *(("changed", [version("first", before), version("second", after)]) for before, after in difference.changed),
        *(("added", [version("second", message)]) for message in difference.added),
    ]


ROUTES: dict[str, Callable[[Request], Response]] = {"/snapshots": snapshots_page}
