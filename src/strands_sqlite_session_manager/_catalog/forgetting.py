"""Deleting all that is known of someone: sessions, what is stored beside them, and memories."""

import json
from collections.abc import Mapping
from typing import Any

from .._arguments import BEGINS_WITH
from .._engine.database import Database
from .._metadata import HAS_METADATA, wanted_metadata
from .records import ForgetResult

_CHOSEN = f"""
    SELECT session_id FROM sessions WHERE session_id IN (SELECT value FROM json_each(:session_ids))
        OR :metadata IS NOT NULL AND {HAS_METADATA.format(wanted=":metadata")}
    """  # noqa: S608 (constants only, as below)
_OF_CHOSEN = f"session_id IN ({_CHOSEN})"

# Snapshots and stash of the sessions. A session's id may look like a longer part of another's prefix, hence the second
# condition.
_PREFIXES = f"""
    SELECT kind.value || '/' || chosen.session_id || '/scopes/' AS prefix
    FROM json_each('["session", "context"]') AS kind CROSS JOIN ({_CHOSEN}) AS chosen
    """  # noqa: S608
_KEYS = f"""
    key IN (
        SELECT storage.key FROM ({_PREFIXES}) CROSS JOIN storage
        WHERE storage.key >= prefix AND storage.key < substr(prefix, 1, length(prefix) - 1) || '0'
            AND NOT instr(substr(storage.key, length(prefix)), '/scopes/')
        UNION ALL
        SELECT storage.key FROM json_each(:prefixes) AS given CROSS JOIN storage
        WHERE {BEGINS_WITH.format(column="storage.key").replace("?", "given.value")}
    )
    """  # noqa: S608

_COUNT_SESSIONS = f"UPDATE sessions SET metadata = metadata WHERE {_OF_CHOSEN}"  # noqa: S608

# By table, what goes. The sessions go last, and the keys before them: what triggers delete is not counted.
_CONDITIONS = {
    "storage": _KEYS,
    "messages": _OF_CHOSEN,
    "agents": _OF_CHOSEN,
    "multi_agents": _OF_CHOSEN,
    "sessions": _OF_CHOSEN,
    "memories": "scope IN (SELECT value FROM json_each(:scopes))",
}


def forget(
    database: Database,
    metadata: Mapping[str, Any] | None,
    session_ids: list[str],
    storage_prefixes: list[str],
    memory_scopes: list[str],
    dry_run: bool,
) -> ForgetResult:
    """Delete it all at once; see `SessionCatalog.forget_user`."""
    values = {
        "metadata": wanted_metadata(metadata),
        "session_ids": json.dumps(session_ids),
        "prefixes": json.dumps(storage_prefixes),
        "scopes": json.dumps(memory_scopes),
    }
    if dry_run:
        counts = ", ".join(f"(SELECT count(*) FROM {table} WHERE {which})" for table, which in _CONDITIONS.items())  # noqa: S608
        numbers: list[int] = [int(number) for number in database.query(f"SELECT {counts}", values)[0]]
    else:
        deletions = [(f"DELETE FROM {table} WHERE {which}", values) for table, which in _CONDITIONS.items()]  # noqa: S608
        # With its last snapshot, a session goes that is nothing else.
        sessions, *numbers = database.transaction([(_COUNT_SESSIONS, values), *deletions])
    counted = dict(zip(_CONDITIONS, numbers, strict=True))
    return ForgetResult(
        sessions=counted["sessions"] if dry_run else sessions,
        agents=counted["agents"],
        messages=counted["messages"],
        multi_agents=counted["multi_agents"],
        storage_keys=counted["storage"],
        memories=counted["memories"],
    )
