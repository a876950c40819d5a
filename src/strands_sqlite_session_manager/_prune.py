"""Deleting sessions that nobody has used for long, in batches that hold up nobody."""

import json
import time
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from ._arguments import checked_number, checked_time
from ._database import Database

# A transaction deletes at most so many sessions, and ends at so many messages, so that it takes a few milliseconds.
BATCH_SESSIONS, BATCH_MESSAGES = 100, 250

_IS_CONDEMNED = "(updated_at, session_id) < (?, ?)"

_Row = tuple[str, str, int, int]


def delete_sessions(
    database: Database, session_ids: list[str], condition: str = "TRUE", parameters: tuple[Any, ...] = ()
) -> list[int]:
    """Delete those of some sessions that a condition holds for, all at once.

    Returns:
        How many messages, agents, multi-agent states and sessions were deleted.
    """
    chosen = f"""
        SELECT session_id FROM sessions WHERE session_id IN (SELECT value FROM json_each(?)) AND {condition}
        """  # noqa: S608 (constants only, as below)
    # Each table by itself, because a cascade does not tell how many records it deletes.
    return database.transaction(
        [
            (f"DELETE FROM {table} WHERE session_id IN ({chosen})", (json.dumps(session_ids), *parameters))  # noqa: S608
            for table in ("messages", "agents", "multi_agents", "sessions")
        ]
    )


def prune(
    database: Database,
    older_than: datetime | None,
    keep_last: int | None,
    among: str,
    parameters: list[Any],
    dry_run: bool,
) -> tuple[list[str], int, int]:
    """Delete sessions; see `SessionCatalog.prune`.

    Args:
        database: Database to prune.
        older_than: Time of the last activity before which sessions go.
        keep_last: Number of sessions beyond which they go.
        among: Condition for the sessions to look at.
        parameters: The condition's.
        dry_run: Whether only to tell what would go.

    Returns:
        Ids of the sessions, number of their messages, bytes of these.
    """
    cut_off = ("", "") if older_than is None else (checked_time("older_than", older_than), "")
    if keep_last is not None:
        rows = database.query(
            f"""
            SELECT updated_at, session_id FROM sessions WHERE {among}
            ORDER BY updated_at DESC, session_id DESC LIMIT 1 OFFSET ?
            """,  # noqa: S608
            (*parameters, checked_number("keep_last", keep_last)),
        )
        # The first that goes, and itself too, hence the NUL, which no id has.
        cut_off = max([cut_off, *((updated_at, f"{session_id}\0") for updated_at, session_id in rows)])
    session_ids: list[str] = []
    messages = size = 0
    for batch in _batches(database, cut_off, among, parameters):
        ids = [row[0] for row in batch]
        if not dry_run:
            started = time.monotonic()
            # Asked again: a session that has become active meanwhile stays.
            delete_sessions(database, ids, _IS_CONDEMNED, cut_off)
            # Writers of other processes do not queue but look now and then, and must find the file free.
            time.sleep(2 * (time.monotonic() - started))
        session_ids += ids
        messages += sum(row[2] for row in batch)
        size += sum(row[3] for row in batch)
    return session_ids, messages, size


def _batches(database: Database, cut_off: tuple[str, str], among: str, parameters: list[Any]) -> Iterable[list[_Row]]:
    """Return rows of session id, time, messages and bytes, so many at a time as may be deleted at once."""
    after = ("", "")
    while rows := database.query(
        f"""
        SELECT
            session_id,
            updated_at,
            (SELECT count(*) FROM messages WHERE messages.session_id = sessions.session_id),
            (
                SELECT coalesce(sum(
                    length(CAST(message AS BLOB)) + coalesce(length(CAST(redact_message AS BLOB)), 0)
                    + coalesce(length(attachments), 0)
                ), 0)
                FROM messages WHERE messages.session_id = sessions.session_id
            )
        FROM sessions WHERE (updated_at, session_id) > (?, ?) AND {_IS_CONDEMNED} AND {among}
        ORDER BY updated_at, session_id LIMIT ?
        """,  # noqa: S608
        (*after, *cut_off, *parameters, BATCH_SESSIONS),
    ):
        after = (rows[-1][1], rows[-1][0])
        batch: list[Any] = []
        for row in rows:
            if batch and sum(other[2] for other in batch) + row[2] > BATCH_MESSAGES:
                yield batch
                batch = []
            batch.append(row)
        yield batch
