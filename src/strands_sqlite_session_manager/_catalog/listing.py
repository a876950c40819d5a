"""Sessions in lists, and what is in one."""

import base64
import json
from collections.abc import Iterable
from typing import Any

from strands.types.exceptions import SessionException

from .._arguments import checked_id, checked_number
from .._codec import decode
from .._engine.database import BrokenText, Database, text_marks
from . import snapshots
from .records import MultiAgentSummary, SessionEntry, SessionPage, SessionSummary, Usage
from .usage import OF_MESSAGE, TOTALS, add

# By order: what a list is sorted by, and how what follows a cursor compares with it.
_ORDERS = {
    "updated": ("updated_at DESC, session_id DESC", "(updated_at, session_id) <"),
    "created": ("created_at DESC, session_id DESC", "(created_at, session_id) <"),
    "session_id": ("session_id", "(session_id, session_id) >"),
}


def list_sessions(
    database: Database, conditions: list[str], parameters: list[Any], limit: int, after: str | None, order: str
) -> SessionPage:
    """Return a page of sessions for which conditions hold; see `SessionCatalog.list_sessions`."""
    if order not in _ORDERS:
        raise ValueError(f"order={order!r}: must be one of {', '.join(_ORDERS)}")
    ordering, follows = _ORDERS[order]
    if after is not None:
        values = _from_cursor(after, order)
        conditions = [*conditions, f"{follows} ({text_marks(values)})"]
        parameters = [*parameters, *values]
    rows = database.query(
        f"""
        SELECT session_id, session_type, created_at, updated_at, metadata
        FROM sessions WHERE {" AND ".join(conditions)} ORDER BY {ordering} LIMIT ?
        """,  # noqa: S608 (constants only)
        (*parameters, min(checked_number("limit", limit), 2**62) + 1),
    )
    sessions = [SessionEntry(*row[:4], **_shown_metadata(row[0], row[4], row[:4])) for row in rows[:limit]]
    return SessionPage(sessions, _to_cursor(order, sessions[-1]) if sessions and len(rows) > limit else None)


def describe(database: Database, session_id: str) -> SessionSummary | None:
    """Describe a session; see `SessionCatalog.describe`."""
    rows = database.query(
        f"""
        SELECT
            session_type, created_at, updated_at, metadata,
            (SELECT json_group_array(agent_id) FROM agents WHERE session_id = :session_id),
            (SELECT json_group_array(multi_agent_id) FROM multi_agents WHERE session_id = :session_id),
            (
                SELECT json_array({TOTALS})
                FROM (SELECT session_id, {OF_MESSAGE} AS usage FROM messages WHERE session_id = :session_id LIMIT -1)
            )
        FROM sessions WHERE session_id = :session_id
        """,  # noqa: S608 (constants only)
        {"session_id": session_id},
    )
    if not rows:
        return None
    session_type, created_at, updated_at, metadata, agents, multi_agents, usage = rows[0]
    totals = Usage(*json.loads(usage))
    agents, multi_agents = set(json.loads(agents)), set(json.loads(multi_agents))
    for _, tokens in snapshots.usage(database, session_id, None, None):
        totals = add(totals, tokens)
    return SessionSummary(
        session_id=session_id,
        session_type=session_type,
        created_at=created_at,
        updated_at=updated_at,
        **_shown_metadata(session_id, metadata, rows[0][:3]),
        agents=sorted(agents.union(snapshots.names(database, session_id, "agent"))),
        multi_agents=sorted(multi_agents.union(snapshots.names(database, session_id, "multiAgent"))),
        message_count=totals.message_count,
        usage=totals,
    )


def multi_agent_summary(
    session_id: str, multi_agent_id: str, text: str, created_at: str, updated_at: str
) -> MultiAgentSummary:
    """Return what the state of a graph or swarm tells, by the names that `Graph` and `Swarm` give it in the SDK."""
    try:
        state, damage = decode(text, "multi_agents", (session_id, multi_agent_id)), None
    except SessionException as error:
        state, damage = {}, str(error)
    next_nodes = state.get("next_nodes_to_execute")
    return MultiAgentSummary(
        multi_agent_id,
        state.get("type"),
        state.get("status"),
        state.get("current_task"),
        [str(node) for node in next_nodes] if isinstance(next_nodes, list) else [],
        created_at,
        updated_at,
        damage,
    )


def decode_metadata(session_id: str, text: str) -> dict[str, Any]:
    """Return the metadata of a row of `sessions`."""
    return decode(text, "sessions", (session_id,))


def _shown_metadata(session_id: str, text: str, others: Iterable[str]) -> dict[str, Any]:
    """Return the attributes `metadata` and `damage` of a session: one that is damaged takes no others with it.

    Args:
        session_id: Its id.
        text: Its column `metadata`.
        others: Its other columns.
    """
    metadata: dict[str, Any] = {}
    damage = None
    try:
        checked_id("session_id", session_id)
        metadata = decode_metadata(session_id, text)
        if any(isinstance(other, BrokenText) for other in others):
            damage = f"sessions {(session_id,)}: a type or time that is no UTF-8"
    except (SessionException, ValueError) as error:
        damage = str(error)
    return {"metadata": metadata, "damage": damage}


def _to_cursor(order: str, last: SessionEntry) -> str:
    value = {"updated": last.updated_at, "created": last.created_at, "session_id": last.session_id}[order]
    return base64.urlsafe_b64encode(json.dumps([order, value, last.session_id]).encode()).decode()


def _from_cursor(cursor: str, order: str) -> list[str]:
    try:
        of_order, value, session_id = json.loads(base64.urlsafe_b64decode(cursor))
        if not all(isinstance(part, str) for part in (of_order, value, session_id)):
            raise ValueError("not three texts")
        values = [_text(value), _text(session_id)]
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"after={cursor!r:.100}: not a cursor of list_sessions") from error
    if of_order != order:
        raise ValueError(f"after={cursor!r}: a cursor for order={of_order!r}, not for order={order!r}")
    return values


def _text(text: str) -> str:
    """Return a text of a cursor, in which broken ones have lone surrogates."""
    raw = text.encode(errors="surrogateescape")
    return text if raw.decode(errors="ignore") == text else BrokenText(raw)
