"""Conditions on sessions and messages, of what a caller asks for."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from .._arguments import BEGINS_WITH, checked_id, checked_time
from .._metadata import HAS_METADATA, wanted_metadata, where_clauses

_HAS_METADATA = HAS_METADATA.format(wanted="?")

# Spares most sessions the parsing of their JSON: without a backslash in it, a text value stands there as it is.
_MAY_HAVE_TEXT = "(instr(metadata, ?) OR instr(metadata, '\\'))"

# For what writes. The view `expired_sessions`, which asks the clock, is for what only reads.
NOT_EXPIRED_AT = "(expires_at IS NULL OR expires_at > ?)"

# A condition on `messages`.
OF_SESSION_WITH_METADATA = f"""
    EXISTS (SELECT 1 FROM sessions WHERE sessions.session_id = messages.session_id AND {_HAS_METADATA})
    """  # noqa: S608 (constants only)


def session_conditions(
    prefix: str | None,
    metadata: Mapping[str, Any] | None,
    updated_before: datetime | None,
    updated_after: datetime | None,
) -> tuple[list[str], list[Any]]:
    """Return the conditions on `sessions` for what a caller asks for, and their parameters."""
    wanted = wanted_metadata(metadata)
    texts = [value for value in (metadata or {}).values() if isinstance(value, str) and value.isascii()]
    conditions, parameters = where_clauses(
        *((_MAY_HAVE_TEXT, f'"{text}"') for text in texts),
        (_HAS_METADATA, wanted),
        ("updated_at < ?", None if updated_before is None else checked_time("updated_before", updated_before)),
        ("updated_at >= ?", None if updated_after is None else checked_time("updated_after", updated_after)),
    )
    if prefix not in (None, ""):
        conditions.append(BEGINS_WITH.format(column="session_id"))
        parameters += [checked_id("prefix", prefix)] * 2
    return conditions, parameters
