"""Removing what has expired, in small steps. Until then it is hidden: sessions and keys by views of the schema."""

import json
import logging
import time

from strands.types.exceptions import SessionException

from ._arguments import now
from ._engine.database import Database, impatient
from ._engine.schema import SESSION_OF_KEY, SNAPSHOTS_OF_SESSION, STASH_OF_SESSION

logger = logging.getLogger(__name__)

# Those who write look once in so many seconds whether something has expired.
_PAUSE = 60.0
# What one step deletes at the most of each table, so that it takes a few milliseconds.
_ROWS, _BYTES, _SESSIONS = 200, 2_000_000, 50
# The bytes of a row of each table.
SIZES = {
    "messages": "length(CAST(message AS BLOB)) + coalesce(length(attachments), 0)",
    "storage": "length(data)",
    "agents": "length(state) + length(internal_state)",
    "multi_agents": "length(state)",
    "memories": "length(content)",
}

_SOMETHING = """
    SELECT EXISTS (SELECT 1 FROM sessions WHERE expires_at <= :now)
        OR EXISTS (SELECT 1 FROM storage WHERE expires_at <= :now)
        OR EXISTS (SELECT 1 FROM memories WHERE expires_at <= :now)
    """

# The sessions that a step begins with, the first ones first.
_EXPIRED = f"""
    SELECT session_id FROM sessions WHERE expires_at <= :now ORDER BY expires_at, session_id LIMIT {_SESSIONS}
    """  # noqa: S608 (constants only, as below)


def _delete_some(table: str, rows: str) -> str:
    """Return a statement that deletes rows, as many as a step may, and one at the least.

    Args:
        table: Where they are.
        rows: What comes behind FROM to choose them. It is a loop within a loop, both along an index, so replicas delete
            the same without sorting all that there is.
    """
    return f"""
        DELETE FROM {table} WHERE rowid IN (
            SELECT row_id FROM (
                SELECT row_id, sum(size) OVER (ROWS UNBOUNDED PRECEDING) - size AS size_before
                FROM (SELECT {table}.rowid AS row_id, {SIZES[table]} AS size FROM {rows} LIMIT {_ROWS})
            )
            WHERE size_before < {_BYTES}
        )
        """  # noqa: S608


def delete_some_expired(table: str) -> str:
    """Return a statement that deletes rows which have expired by themselves, as many as a step may."""
    return _delete_some(table, f"{table} WHERE expires_at <= :now ORDER BY expires_at, rowid")


_IS_EMPTY = f"""
    NOT EXISTS (SELECT 1 FROM messages WHERE messages.session_id = expired.session_id)
    AND NOT EXISTS (SELECT 1 FROM storage WHERE {SNAPSHOTS_OF_SESSION})
    AND NOT EXISTS (SELECT 1 FROM storage WHERE {STASH_OF_SESSION})
    """  # noqa: S608

# A session goes when nothing is left in it, since its deletion takes all with it, however long that takes. So do
# agents, with their messages and stash.
_STEP = (
    # From here on, it has expired by every clock: no other one sees a part of it.
    f"UPDATE sessions SET expires_at = '0' WHERE session_id IN ({_EXPIRED}) AND expires_at > '0'",  # noqa: S608
    _delete_some("messages", f"({_EXPIRED}) CROSS JOIN messages USING (session_id)"),
    _delete_some("storage", f"({_EXPIRED}) CROSS JOIN storage ON {SNAPSHOTS_OF_SESSION}"),
    _delete_some("storage", f"({_EXPIRED}) CROSS JOIN storage ON {STASH_OF_SESSION}"),
    _delete_some(
        "agents",
        f"(SELECT session_id FROM ({_EXPIRED}) AS expired WHERE {_IS_EMPTY}) CROSS JOIN agents USING (session_id)",  # noqa: S608
    ),
    _delete_some("multi_agents", f"({_EXPIRED}) CROSS JOIN multi_agents USING (session_id)"),
    f"""
    DELETE FROM sessions WHERE session_id IN (
        SELECT session_id FROM ({_EXPIRED}) AS expired
        WHERE {_IS_EMPTY} AND NOT EXISTS (SELECT 1 FROM agents WHERE agents.session_id = expired.session_id)
            AND NOT EXISTS (SELECT 1 FROM multi_agents WHERE multi_agents.session_id = expired.session_id)
    )
    """,  # noqa: S608
    delete_some_expired("storage"),
    delete_some_expired("memories"),
)


def make_way(database: Database, session_id: str) -> None:
    """Remove a session if it has expired, so that another can have its id."""
    is_expired, parameters = "session_id = ? AND expires_at <= ?", (session_id, now())
    if database.query(f"SELECT 1 FROM sessions WHERE {is_expired}", parameters):  # noqa: S608 (constants only, as below)
        database.execute(f"DELETE FROM sessions WHERE {is_expired}", parameters)  # noqa: S608
        _erase(database)


def make_way_for_keys(database: Database, keys: list[str]) -> None:
    """Remove the sessions that keys of `storage` belong to and that have expired, so that others can have their ids."""
    rows = database.query(
        f"""
        SELECT DISTINCT session_id FROM json_each(?) AS given
        CROSS JOIN sessions ON session_id = {SESSION_OF_KEY.format(key="given.value")}
        """,  # noqa: S608
        (json.dumps(keys),),
    )
    for (session_id,) in rows:
        make_way(database, session_id)


def sweep(database: Database) -> None:
    """Remove a little of what has expired, if there was no look at it for a minute or something was left.

    For those who have just written. It does not fail their call.

    Args:
        database: Where they have written.
    """
    if time.monotonic() < database.next_sweep:
        return
    database.next_sweep = time.monotonic() + _PAUSE
    try:
        with impatient(0.05):
            if remove_some(database):
                database.next_sweep = 0.0
    except SessionException as error:
        logger.warning("error=<%s> | what has expired is hidden, and is removed later", error)


def remove_some(database: Database) -> bool:
    """Remove a little of what has expired, also from the disk, and return whether there was something."""
    parameters = {"now": now()}
    if database.query(_SOMETHING, parameters) == [(0,)]:
        return False
    database.transaction([(statement, parameters) for statement in _STEP])
    _erase(database)
    return True


def _erase(database: Database) -> None:
    # Only here: mostly, nothing expires.
    from ._search.erasing import erase_former_content
    from ._search.sources import MEMORIES, MESSAGES, STORAGE

    erase_former_content(database, MESSAGES, STORAGE, MEMORIES, wait=False)
