"""Deleting sessions that were not used for long, in batches that hold up no writer."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from .._arguments import checked_number
from .._engine.database import BrokenText, Database, text_marks
from .._engine.schema import SESSION_OF_KEY, SNAPSHOTS_OF_SESSION
from .._expiry import SIZES, delete_some_expired
from . import snapshots

# A transaction deletes at most so many sessions, and ends at so many messages or bytes, so that it takes a few
# milliseconds. A session goes whole or not at all, so a larger one takes longer.
BATCH_SESSIONS, BATCH_MESSAGES, BATCH_BYTES = 100, 250, 2_000_000

# A session that was imported may have messages or states that are newer than its own time of the last activity.
_IS_INACTIVE = """
    (updated_at, session_id) < ({cut_off})
    AND NOT EXISTS (SELECT 1 FROM messages WHERE messages.session_id = sessions.session_id AND created_at > {time})
    AND NOT EXISTS (
        SELECT 1 FROM multi_agents
        WHERE multi_agents.session_id = sessions.session_id AND multi_agents.updated_at > {time}
    )
    """

_Row = tuple[str, str, int, int]


def delete_sessions(
    database: Database, session_ids: list[str], condition: str = "TRUE", parameters: Sequence[Any] = ()
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
    now: str,
    older_than: str | None,
    keep_last: int | None,
    among: str,
    parameters: list[Any],
    session_ids: set[str] | None,
    dry_run: bool,
    progress: Callable[[int, int], object] | None,
) -> tuple[list[str], int, int]:
    """Delete sessions; see `SessionCatalog.prune`.

    Args:
        database: Database to prune.
        now: Time before which sessions have expired, which go too.
        older_than: Time of the last activity before which sessions go.
        keep_last: Number of sessions beyond which they go.
        among: Condition for the sessions to look at.
        parameters: The condition's.
        session_ids: Ids of the sessions that may go; None means all.
        dry_run: Whether only to tell what would go.
        progress: Called with how many sessions are deleted, and how many are to be, 0 if that is not known.

    Returns:
        Ids of the sessions, number of their messages, bytes of these.
    """
    cut_off: tuple[str, str] = ("", "") if older_than is None else (older_than, "")
    if keep_last is not None:
        rows = database.query(
            f"""
            SELECT updated_at, session_id FROM sessions WHERE {among}
            ORDER BY updated_at DESC, session_id DESC LIMIT 1 OFFSET ?
            """,  # noqa: S608
            (*parameters, checked_number("keep_last", keep_last)),
        )
        for updated_at, session_id in rows:
            # The first that goes, and itself too, hence the NUL, which no id has.
            is_broken = isinstance(session_id, BrokenText)
            last_id = BrokenText(session_id.raw + b"\0") if is_broken else f"{session_id}\0"
            cut_off = max(cut_off, (updated_at, last_id))
    inactive = f"{_IS_INACTIVE.format(cut_off=text_marks(cut_off), time=text_marks(cut_off[:1]))} AND {among}"
    doomed: list[tuple[str, list[Any]]] = [("expires_at <= ?", [now])]
    if cut_off > ("", ""):
        doomed.append((inactive, [*cut_off, cut_off[0], cut_off[0], *parameters]))
    gone: list[_Row] = []
    for condition, values in doomed:
        _delete(database, condition, values, session_ids, dry_run, progress, gone)
    return [row[0] for row in gone], sum(row[2] for row in gone), sum(row[3] for row in gone)


def _delete(
    database: Database,
    condition: str,
    parameters: list[Any],
    session_ids: set[str] | None,
    dry_run: bool,
    progress: Callable[[int, int], object] | None,
    gone: list[_Row],
) -> None:
    """Delete sessions for which a condition holds, and add the rows of those that went."""
    for batch in _batches(database, condition, parameters):
        # By an id that is no UTF-8, nothing is found in a JSON list.
        batch = [row for row in batch if not isinstance(row[0], BrokenText)]
        batch = [row for row in batch if session_ids is None or row[0] in session_ids]
        if batch and not dry_run:
            with making_room():
                # Asked again: a session that has become active, or has other metadata now, stays.
                delete_sessions(database, [row[0] for row in batch], condition, parameters)
            batch = _missing(database, batch)
        gone += batch
        if progress is not None:
            progress(len(gone), 0 if session_ids is None else len(session_ids))


def prune_expired(database: Database, table: str, now: str, gone: list[str], dry_run: bool) -> tuple[int, int]:
    """Delete rows that have expired by themselves, in small batches, and return how many rows and bytes that is.

    Args:
        database: Database to prune.
        table: `storage` or `memories`.
        now: Time before which they have expired.
        gone: Ids of sessions whose keys a dry run has counted already.
        dry_run: Whether only to tell.
    """
    session_id = SESSION_OF_KEY.format(key="key") if table == "storage" else "NULL"
    ((count, total),) = database.query(
        f"""
        SELECT count(*), coalesce(sum({SIZES[table]}), 0) FROM {table}
        WHERE expires_at <= ? AND ({session_id} IS NULL OR {session_id} NOT IN (SELECT value FROM json_each(?)))
        """,  # noqa: S608
        (now, json.dumps(gone if dry_run else [])),
    )
    deleted = count
    while deleted and not dry_run:
        with making_room():
            deleted = database.execute(delete_some_expired(table), {"now": now})
    return count, total


@contextmanager
def making_room() -> Iterator[None]:
    """Wait twice as long as a deletion took, behind it.

    Writers of other processes do not queue but look now and then, and must find the file free.
    """
    started = time.monotonic()
    yield
    time.sleep(2 * (time.monotonic() - started))


def in_batches(rows: Iterable[Sequence[Any]], limits: tuple[int, ...]) -> Iterator[list[Any]]:
    """Yield rows, so many at a time as may be deleted at once, one at the least.

    Args:
        rows: The rows.
        limits: What their last columns may add up to.
    """
    batch: list[Any] = []
    for row in rows:
        columns = zip(*(other[-len(limits) :] for other in (*batch, row)), strict=True)
        if batch and any(sum(column) > limit for column, limit in zip(columns, limits, strict=True)):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _missing(database: Database, rows: list[_Row]) -> list[_Row]:
    """Return the rows of those sessions that do not exist any more."""
    left = database.query(
        "SELECT session_id FROM sessions WHERE session_id IN (SELECT value FROM json_each(?))",
        (json.dumps([row[0] for row in rows]),),
    )
    return [row for row in rows if (row[0],) not in left]


def _batches(database: Database, condition: str, parameters: list[Any]) -> Iterable[list[_Row]]:
    """Return rows of session id, time, messages and bytes, so many at a time as may be deleted at once."""
    after = ("", "")
    while rows := database.query(
        f"""
        SELECT
            session_id,
            updated_at,
            (SELECT count(*) FROM messages WHERE messages.session_id = sessions.session_id)
                + (
                    SELECT coalesce(sum({snapshots.MESSAGE_COUNT}), 0) FROM storage
                    WHERE {SNAPSHOTS_OF_SESSION} AND {snapshots.IS_LATEST} AND {snapshots.NOT_IN_TABLES}
                ),
            (SELECT coalesce(sum(length(data)), 0) FROM storage WHERE {SNAPSHOTS_OF_SESSION}) + (
                SELECT coalesce(sum(
                    length(CAST(message AS BLOB)) + coalesce(length(CAST(redact_message AS BLOB)), 0)
                    + coalesce(length(attachments), 0)
                ), 0)
                FROM messages WHERE messages.session_id = sessions.session_id
            )
        FROM sessions WHERE (updated_at, session_id) > ({text_marks(after)}) AND {condition}
        ORDER BY updated_at, session_id LIMIT ?
        """,  # noqa: S608
        (*after, *parameters, BATCH_SESSIONS),
    ):
        after = (rows[-1][1], rows[-1][0])
        yield from in_batches(rows, (BATCH_MESSAGES, BATCH_BYTES))
