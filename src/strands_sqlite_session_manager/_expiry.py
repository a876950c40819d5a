"""Removing what has expired, in small steps. Until then it is hidden: sessions and keys by views of the schema."""

import logging
import time

from strands.types.exceptions import SessionException

from ._arguments import now
from ._engine.database import Database
from ._engine.schema import SNAPSHOTS_OF_SESSION

logger = logging.getLogger(__name__)

# Those who write look once in so many seconds whether something has expired.
_PAUSE = 60.0
# What one step deletes at the most. A step takes a few milliseconds.
_MESSAGES, _KEYS, _SESSIONS = 200, 50, 20

_SOMETHING = """
    SELECT EXISTS (SELECT 1 FROM sessions WHERE expires_at <= :now)
        OR EXISTS (SELECT 1 FROM storage WHERE expires_at <= :now)
        OR EXISTS (SELECT 1 FROM memories WHERE expires_at <= :now)
    """

# A session goes when nothing is left in it that takes long. In order, so that replicas delete the same. Constants only,
# hence the `noqa`.
_STEP = (
    f"""
    DELETE FROM messages WHERE rowid IN (
        SELECT messages.rowid FROM sessions CROSS JOIN messages USING (session_id)
        WHERE sessions.expires_at <= :now
        ORDER BY sessions.expires_at, session_id, messages.rowid LIMIT {_MESSAGES}
    )
    """,  # noqa: S608
    f"""
    DELETE FROM storage WHERE rowid IN (
        SELECT storage.rowid FROM sessions CROSS JOIN storage ON {SNAPSHOTS_OF_SESSION}
        WHERE sessions.expires_at <= :now ORDER BY sessions.expires_at, key LIMIT {_KEYS}
    )
    """,  # noqa: S608
    f"""
    DELETE FROM storage WHERE rowid IN (
        SELECT rowid FROM storage WHERE expires_at <= :now ORDER BY expires_at, key LIMIT {_KEYS}
    )
    """,  # noqa: S608
    f"""
    DELETE FROM memories WHERE memory_id IN (
        SELECT memory_id FROM memories WHERE expires_at <= :now ORDER BY expires_at, memory_id LIMIT {_KEYS}
    )
    """,  # noqa: S608
    f"""
    DELETE FROM sessions WHERE session_id IN (
        SELECT session_id FROM sessions
        WHERE expires_at <= :now
            AND NOT EXISTS (SELECT 1 FROM messages WHERE messages.session_id = sessions.session_id)
            AND NOT EXISTS (SELECT 1 FROM storage WHERE {SNAPSHOTS_OF_SESSION})
        ORDER BY expires_at, session_id LIMIT {_SESSIONS}
    )
    """,  # noqa: S608
)


def make_way(database: Database, session_id: str) -> None:
    """Remove a session if it has expired, so that another can have its id."""
    is_expired, parameters = "session_id = ? AND expires_at <= ?", (session_id, now())
    if database.query(f"SELECT 1 FROM sessions WHERE {is_expired}", parameters):  # noqa: S608 (constants only, as below)
        database.execute(f"DELETE FROM sessions WHERE {is_expired}", parameters)  # noqa: S608
        _erase(database)


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
