"""Tokens that messages took."""

from dataclasses import fields
from typing import Any

from .._engine.database import Database
from .._metadata import where_clauses
from . import snapshots
from .records import Usage

# Of the columns `usage` and `session_id`, in the order of `Usage`. A sum() would fail, or be no integer, where a
# stored count is none.
TOTALS = """
    CAST(total(json_extract(usage, '$.inputTokens')) AS INTEGER),
    CAST(total(json_extract(usage, '$.outputTokens')) AS INTEGER),
    CAST(total(json_extract(usage, '$.totalTokens')) AS INTEGER),
    CAST(total(json_extract(usage, '$.cacheReadInputTokens')) AS INTEGER),
    CAST(total(json_extract(usage, '$.cacheWriteInputTokens')) AS INTEGER),
    count(session_id)
    """

# The search for the name spares most messages the parsing of their JSON. Where it is used, the LIMIT keeps SQLite from
# merging the query into the one around it, where it would be computed once for each total.
OF_MESSAGE = """
    CASE
        WHEN instr(message, '"usage"') AND json_valid(message) AND json_type(message, '$.metadata.usage') = 'object'
        THEN json_extract(message, '$.metadata.usage')
    END
    """

_KEYS = {
    None: "NULL",
    "session": "session_id",
    "agent": "session_id, agent_id",
    "day": "substr(created_at, 1, 10)",
}


def add_up(database: Database, session_id: str | None, since: str | None, until: str | None, by: str | None) -> Any:
    """Add up tokens; see `SessionCatalog.usage`."""
    if by not in _KEYS:
        raise ValueError(f"by={by!r}: must be 'session', 'agent', 'day' or None")
    conditions, parameters = where_clauses(
        ("session_id = ?", session_id), ("created_at >= ?", since), ("created_at < ?", until)
    )
    conditions.append("session_id NOT IN expired_sessions")
    rows = database.query(
        f"""
        SELECT {TOTALS}, {_KEYS[by]}
        FROM (
            SELECT session_id, agent_id, created_at, {OF_MESSAGE} AS usage
            FROM messages WHERE {" AND ".join(conditions)} LIMIT -1
        )
        {"" if by is None else f"GROUP BY {_KEYS[by]} ORDER BY {_KEYS[by]}"}
        """,  # noqa: S608 (constants only)
        parameters,
    )
    totals = {row[6] if len(row) == 7 else row[6:]: Usage(*row[:6]) for row in rows}
    for snapshot, tokens in snapshots.usage(database, session_id, since, until):
        key: Any = {
            None: None,
            "session": snapshot.session_id,
            "agent": (snapshot.session_id, snapshot.name),
            "day": snapshot.updated_at[:10],
        }[by]
        totals[key] = add(totals[key], tokens) if key in totals else tokens
    return totals[None] if by is None else dict(sorted(totals.items()))


def add(one: Usage, other: Usage) -> Usage:
    """Return the sum of two."""
    return Usage(*(getattr(one, field.name) + getattr(other, field.name) for field in fields(Usage)))
