"""Conditions on rows whose column `metadata` holds a JSON object."""

from collections.abc import Mapping
from typing import Any

from ._arguments import checked_metadata
from ._codec import encode

# Every wanted name and value is among the session's own; true and 1 differ, 1 and 1.0 do not. Metadata that was damaged
# by hand matches nothing, instead of failing the whole list.
HAS_METADATA = """
    NOT EXISTS (
        SELECT 1 FROM json_each({wanted}) AS wanted
        WHERE NOT EXISTS (
            SELECT 1 FROM json_each(CASE WHEN json_valid(metadata) THEN metadata ELSE '{{}}' END) AS own
            WHERE own.key = wanted.key AND own.value IS wanted.value AND (
                own.type = wanted.type OR own.type IN ('integer', 'real') AND wanted.type IN ('integer', 'real')
            )
        )
    )
    """


def where_clauses(*filters: tuple[str, Any]) -> tuple[list[str], list[Any]]:
    """Return the conditions of filters that have a value, one at the least, and these values."""
    used = [(condition, value) for condition, value in filters if value is not None]
    return ["TRUE", *(condition for condition, _ in used)], [value for _, value in used]


def wanted_metadata(metadata: Mapping[str, Any] | None) -> str | None:
    """Return the parameter of `HAS_METADATA`; None if any metadata will do."""
    if metadata is None:
        return None
    wanted = checked_metadata("metadata", metadata)
    return encode(wanted, "metadata") if wanted else None
