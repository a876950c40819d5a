"""The past of an agent of the SDK's `SnapshotSessionManager`."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from .._catalog.records import HistoryMessage, SnapshotDiff
from .app import catalog_of, links_of, render
from .blocks import Block, blocks_of, json_block


def snapshots_page(request: Request) -> Response:
    """Show the snapshots of an agent as a time line, and what differs between two of them."""
    query, links = request.query_params, links_of(request)
    session_id, agent_id = query.get("session", ""), query.get("agent", "")
    found = catalog_of(request).list_snapshots(session_id, agent_id)
    difference = None
    command = links.command("snapshots", session_id, agent=agent_id)
    if "first" in query:
        first, second = query["first"], query.get("second") or None
        difference = _shown(catalog_of(request).diff_snapshots(session_id, agent_id, first, second))
        command = links.command("diff", session_id, first, *filter(None, [second]), agent=agent_id)
    return render(
        request,
        "snapshots.html",
        session_id=session_id,
        agent_id=agent_id,
        # Each with the one before it.
        rows=[
            (snapshot, before, None if before is None else snapshot.message_count - before.message_count)
            for snapshot, before in pairwise([*found, None])
            if snapshot is not None
        ],
        difference=difference,
        first=query.get("first"),
        second=query.get("second"),
        blocks={snapshot.snapshot_id: json_block(snapshot.app_data) for snapshot in found if snapshot.app_data},
        command=command,
    )


def _shown(difference: SnapshotDiff) -> dict[str, Any]:
    """Return what differs as the page shows it: each message with what became of it."""
    changes = [
        *(("removed", message, None) for message in difference.removed),
        *(("changed", before, after) for before, after in difference.changed),
        *(("added", message, None) for message in difference.added),
    ]
    return {
        "messages": [
            (what, message, _blocks(message), None if after is None else _blocks(after))
            for what, message, after in changes
        ],
        "state_keys": difference.state_keys,
        "parts": difference.parts,
    }


def _blocks(message: HistoryMessage) -> list[Block]:
    return blocks_of(message.message["content"], lambda _: None)


ROUTES: dict[str, Callable[[Request], Response]] = {"/snapshots": snapshots_page}
