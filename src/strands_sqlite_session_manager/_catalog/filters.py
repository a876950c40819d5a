"""Conditions on sessions and messages, of what a caller asks for."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ._arguments import BEGINS_WITH, checked_id, checked_mapping, checked_time
from ._codec import encode

# Every wanted name and value is among the session's own, with true and 1 told apart and 1 and 1.0 not. What somebody
# has damaged by hand matches nothing, instead of failing the whole list; nor does what `json_each` changes: it makes a
# float of an integer beyond 64 bits, and ends a text at a NUL. Where there is a NUL, the name and value must stand in
# the JSON as they are.
_HAS_METADATA = """
    NOT EXISTS (
        SELECT 1 FROM json_each(?) AS wanted
        WHERE NOT EXISTS (
            SELECT 1 FROM json_each(CASE WHEN json_valid(metadata) THEN metadata ELSE '{}' END) AS own
            WHERE own.key = wanted.key AND own.value IS wanted.value AND (
                own.type = wanted.type OR own.type IN ('integer', 'real') AND wanted.type IN ('integer', 'real')
            ) AND NOT (own.type = 'integer' AND typeof(own.value) = 'real') AND (
                NOT instr(replace(metadata, '\\\\', ''), '\\u0000')
                OR instr(metadata, json_quote(own.key) || ':' || json_quote(own.value))
            )
        )
    )
    """

# Spares most sessions the parsing of their JSON: without a backslash in it, a text value stands there as it is.
_MAY_HAVE_TEXT = "(instr(metadata, ?) OR instr(metadata, '\\'))"

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
    conditions, parameters = given(
        *((_MAY_HAVE_TEXT, f'"{text}"') for text in texts),
        (_HAS_METADATA, wanted),
        ("updated_at < ?", None if updated_before is None else checked_time("updated_before", updated_before)),
        ("updated_at >= ?", None if updated_after is None else checked_time("updated_after", updated_after)),
    )
    if prefix not in (None, ""):
        conditions.append(BEGINS_WITH.format(column="session_id"))
        parameters += [checked_id("prefix", prefix)] * 2
    return conditions, parameters


def given(*filters: tuple[str, Any]) -> tuple[list[str], list[Any]]:
    """Return the conditions of filters that have a value, one at the least, and these values."""
    used = [(condition, value) for condition, value in filters if value is not None]
    return ["TRUE", *(condition for condition, _ in used)], [value for _, value in used]


def wanted_metadata(metadata: Mapping[str, Any] | None) -> str | None:
    """Return the parameter of `_HAS_METADATA`; None if any metadata will do."""
    if metadata is None:
        return None
    wanted = checked_mapping("metadata", metadata)
    text = encode(wanted, "metadata")
    has_nul = "\\u0000" in text.replace("\\\\", "")
    if has_nul or any(isinstance(value, int) and not -(2**63) <= value < 2**63 for value in wanted.values()):
        raise ValueError(f"metadata={metadata!r}: SQLite cannot find texts with NUL and integers beyond 64 bits")
    return text if wanted else None
