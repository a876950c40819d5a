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
from .records import (
    MultiAgentSummary,
    NodeSummary,
    SessionContents,
    SessionEntry,
    SessionPage,
    SessionSummary,
    Usage,
)
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
        SELECT session_id, session_type, created_at, updated_at, expires_at, metadata
        FROM sessions WHERE session_id NOT IN expired_sessions AND {" AND ".join(conditions)}
        ORDER BY {ordering} LIMIT ?
        """,  # noqa: S608 (constants only)
        (*parameters, min(checked_number("limit", limit), 2**62) + 1),
    )
    sessions = [SessionEntry(*row[:5], **_shown_metadata(row[0], row[5], row[:5])) for row in rows[:limit]]
    return SessionPage(sessions, _to_cursor(order, sessions[-1]) if sessions and len(rows) > limit else None)


def describe(database: Database, session_id: str) -> SessionSummary | None:
    """Describe a session; see `SessionCatalog.describe`."""
    rows = database.query(
        f"""
        SELECT
            session_type, created_at, updated_at, expires_at, metadata,
            (SELECT json_group_array(agent_id) FROM agents WHERE session_id = :session_id),
            (SELECT json_group_array(multi_agent_id) FROM multi_agents WHERE session_id = :session_id),
            (
                SELECT json_array({TOTALS})
                FROM (SELECT session_id, {OF_MESSAGE} AS usage FROM messages WHERE session_id = :session_id LIMIT -1)
            )
        FROM sessions WHERE session_id = :session_id
            AND NOT EXISTS (SELECT 1 FROM expired_sessions WHERE expired_id = session_id)
        """,  # noqa: S608 (constants only)
        {"session_id": session_id},
    )
    if not rows:
        return None
    session_type, created_at, updated_at, expires_at, metadata, agents, multi_agents, usage = rows[0]
    totals = Usage(*json.loads(usage))
    agents, multi_agents = set(json.loads(agents)), set(json.loads(multi_agents))
    shown = _shown_metadata(session_id, metadata, rows[0][:4])
    for snapshot in snapshots.of_agents(database, session_id):
        try:
            for message in snapshots.messages_of(snapshot):
                totals = add(totals, snapshots.usage_of(message))
        except SessionException as error:
            shown["damage"] = shown["damage"] or str(error)
    return SessionSummary(
        session_id=session_id,
        session_type=session_type,
        created_at=created_at,
        updated_at=updated_at,
        expires_at=expires_at,
        **shown,
        agents=sorted(agents.union(snapshots.names(database, session_id, "agent"))),
        multi_agents=sorted(multi_agents.union(snapshots.names(database, session_id, "multiAgent"))),
        message_count=totals.message_count,
        usage=totals,
    )


def contents(database: Database, session_ids: list[str]) -> dict[str, SessionContents]:
    """Tell what is in sessions; see `SessionCatalog.contents`."""
    rows = database.query(
        """
        WITH wanted AS (
            SELECT session_id FROM json_each(:session_ids) AS id CROSS JOIN sessions ON session_id = id.value
            WHERE NOT EXISTS (SELECT 1 FROM expired_sessions WHERE expired_id = session_id)
        )
        SELECT session_id, 0 AS is_multi_agent, NULL, NULL FROM wanted
        UNION ALL
        SELECT session_id, 0, agent_id, (
            SELECT max(message_id) FROM messages
            WHERE messages.session_id = agents.session_id AND messages.agent_id = agents.agent_id
        )
        FROM wanted CROSS JOIN agents USING (session_id)
        UNION ALL
        SELECT session_id, 1, multi_agent_id, CASE WHEN json_valid(state) THEN json_extract(state, '$.type') END
        FROM wanted CROSS JOIN multi_agents USING (session_id)
        ORDER BY 3
        """,
        {"session_ids": json.dumps(session_ids)},
    )
    found = {row[0]: SessionContents({}, {}) for row in rows}
    for session_id, is_multi_agent, name, value in rows:
        if name is not None and is_multi_agent:
            found[session_id].multi_agents[name] = _word(value)
        elif name is not None:
            found[session_id].agents[name] = value
    for session_id, scope, name, value in snapshots.contents(database, session_ids):
        if session_id in found and scope == "agent":
            found[session_id].agents.setdefault(name, value)
        elif session_id in found:
            found[session_id].multi_agents.setdefault(name, _word(value))
    return found


def multi_agent_summary(
    session_id: str, multi_agent_id: str, text: str, created_at: str, updated_at: str
) -> MultiAgentSummary:
    """Return what the state of a graph or swarm tells, by the names that `Graph` and `Swarm` give it in the SDK."""
    try:
        state, damage = decode(text, "multi_agents", (session_id, multi_agent_id)), None
    except SessionException as error:
        state, damage = {}, str(error)
    internal_state = state.get("_internal_state")
    return MultiAgentSummary(
        multi_agent_id,
        _word(state.get("type")),
        _word(state.get("status")),
        state.get("current_task"),
        _names(state.get("next_nodes_to_execute")),
        created_at,
        updated_at,
        damage,
        _nodes(state),
        internal_state if isinstance(internal_state, dict) else {},
    )


def _word(value: Any) -> str | None:
    """Return a value of a state if it is a text, as a kind or a status is; else None."""
    return value if isinstance(value, str) else None


def _nodes(state: dict[str, Any]) -> list[NodeSummary]:
    """Return the nodes that had their turns, and those that come next."""
    # A graph calls it the one, a swarm the other.
    order = _names(state.get("execution_order")) or _names(state.get("node_history"))
    results = state.get("node_results")
    results = results if isinstance(results, dict) else {}
    turns = [*order, *(node_id for node_id in results if node_id not in order)]
    last_turns = {node_id: turn for turn, node_id in enumerate(turns)}
    nodes = []
    for turn, node_id in enumerate(turns):
        result = results.get(node_id)
        result = result if isinstance(result, dict) else {}
        status, time = result.get("status"), result.get("execution_time")
        usage = result.get("accumulated_usage")
        tokens = usage.get("totalTokens") if isinstance(usage, dict) else None
        nodes.append(
            NodeSummary(
                node_id,
                _word(status) or "executing",
                # Larger ones are no milliseconds, and nothing can be reckoned with them.
                time if isinstance(time, int) and abs(time) < 2**63 else None,
                tokens if isinstance(tokens, int) else None,
                result.get("result") if last_turns[node_id] == turn else None,
            )
        )
    following = [name for name in _names(state.get("next_nodes_to_execute")) if name not in [n.node_id for n in nodes]]
    return [*nodes, *(NodeSummary(node_id, "pending", None, None) for node_id in following)]


def _names(value: Any) -> list[str]:
    return [str(name) for name in value] if isinstance(value, list) else []


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
