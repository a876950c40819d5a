"""Snapshots listed, compared, made the latest, cut and pruned."""

import difflib
import itertools
import json
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from strands.types.exceptions import SessionException
from strands.types.session import encode_bytes_values

from .._arguments import BEGINS_WITH, checked_number, now
from .._engine.database import Database, Statement
from .._engine.schema import SNAPSHOT_SESSION
from .._errors import SessionConflictError
from . import snapshots
from .pruning import BATCH_BYTES, in_batches, making_room
from .records import HistoryMessage, SnapshotDiff, SnapshotSummary

# Immutable snapshots that one transaction deletes at the most.
_BATCH = 100

_KEEP = """
    INSERT INTO storage (key, data, expires_at, created_at, updated_at)
    SELECT :kept, data, expires_at, :now, :now FROM storage WHERE key = :latest AND data = :former
    """
_REPLACE = "UPDATE storage SET data = :data, updated_at = :now WHERE key = :latest AND data = :former"
# Over one that has expired, too.
_CREATE = """
    INSERT INTO storage (key, data, expires_at, created_at, updated_at)
    VALUES (:latest, :data, (SELECT expires_at FROM storage WHERE key = :restored), :now, :now)
    ON CONFLICT (key) DO UPDATE SET
        data = excluded.data,
        expires_at = excluded.expires_at,
        created_at = excluded.created_at,
        updated_at = excluded.updated_at
    WHERE expires_at <= excluded.updated_at
    """

_IS_IMMUTABLE = "instr(storage.key, '/snapshots/immutable_history/snapshot_')"
# "0" comes after "/", and a later snapshot's id after that of an earlier one. Of an agent without a latest snapshot,
# the newest one is all that there is: it stays, and with it the session. The sizes come from a query
# of their own, because SQLite copies all that is numbered, and would copy the data.
_SURPLUS = f"""
    SELECT key, 1, size FROM (
        SELECT
            key,
            size,
            NOT EXISTS (
                SELECT 1 FROM storage AS latest
                WHERE latest.key = substr(immutable.key, 1, place) || substr('{snapshots.LATEST}', 2)
                    AND (latest.expires_at IS NULL OR latest.expires_at > ?)
            ) AS kept,
            row_number() OVER (PARTITION BY substr(key, 1, place) ORDER BY key DESC) AS number
        FROM (
            SELECT key, length(data) AS size, {_IS_IMMUTABLE} AS place
            FROM storage
            WHERE key >= 'session/' AND key < 'session0' AND {_IS_IMMUTABLE} AND (expires_at IS NULL OR expires_at > ?)
                AND EXISTS (
                    SELECT 1 FROM sessions
                    WHERE session_id = {SNAPSHOT_SESSION.format(key="storage.key")} AND {{among}}
                        AND session_id NOT IN (SELECT value FROM json_each(?))
                )
        ) AS immutable
    )
    WHERE number > max(kept, ?)
    """  # noqa: S608 (constants only, as below)


def list_snapshots(
    database: Database, session_id: str, agent_id: str, limit: int | None = None, before: str | None = None
) -> list[SnapshotSummary]:
    """Return the snapshots of an agent, the latest first; see `SessionCatalog.list_snapshots`."""
    summaries = []
    for snapshot in itertools.islice(_of_agent(database, session_id, agent_id, before), limit):
        try:
            content, damage = snapshots.decode(snapshot), None
        except SessionException as error:
            content, damage = {"data": {}}, str(error)
        summaries.append(
            SnapshotSummary(
                snapshot.snapshot_id,
                str(content.get("created_at") or snapshot.updated_at),
                len(content["data"].get("messages", [])),
                len(snapshot.data),
                content.get("app_data", {}),
                damage,
            )
        )
    return summaries


def _of_agent(
    database: Database, session_id: str, agent_id: str, before: str | None = None
) -> Iterator[snapshots.Snapshot]:
    prefix = snapshots.prefix_of(session_id, "agent", agent_id)
    # After all keys with the prefix: "0" comes after "/".
    end = f"{prefix[:-1]}0" if before is None else snapshots.key_of(session_id, "agent", agent_id, before)
    keys = database.query(
        # "snapshot_latest" comes after "immutable_history".
        f"SELECT key FROM storage WHERE {BEGINS_WITH.format(column='key')} AND key < ? ORDER BY key DESC",  # noqa: S608
        (prefix, prefix, end),
    )
    # One at a time, because hundreds may not fit into memory.
    for (key,) in keys:
        yield from snapshots.under(database, key)


def compare(one: snapshots.Snapshot, other: snapshots.Snapshot) -> SnapshotDiff:
    """Return what differs between two snapshots; see `SessionCatalog.diff_snapshots`."""
    first, second = snapshots.decode(one)["data"], snapshots.decode(other)["data"]
    before = [HistoryMessage(n, m, False, one.updated_at) for n, m in enumerate(first.get("messages", []))]
    after = [HistoryMessage(n, m, False, other.updated_at) for n, m in enumerate(second.get("messages", []))]
    added: list[HistoryMessage] = []
    removed: list[HistoryMessage] = []
    changed: list[tuple[HistoryMessage, HistoryMessage]] = []
    matcher = difflib.SequenceMatcher(None, list(map(_identity, before)), list(map(_identity, after)), autojunk=False)
    for kind, start, end, other_start, other_end in matcher.get_opcodes():
        pairs = list(zip(before[start:end], after[other_start:other_end], strict=False))
        if kind == "equal":
            changed += [pair for pair in pairs if pair[0].message != pair[1].message]
        elif end - start == other_end - other_start and all(a.message["role"] == b.message["role"] for a, b in pairs):
            changed += pairs
        else:
            removed += before[start:end]
            added += after[other_start:other_end]
    return SnapshotDiff(
        added,
        removed,
        changed,
        _differing(first.get("state") or {}, second.get("state") or {}),
        [part for part in _differing(first, second) if part not in ("messages", "state")],
    )


def _identity(shown: HistoryMessage) -> str:
    """Return what tells a message from others: the SDK's tracking id, or else all of it."""
    tracking_id: Any = shown.message.get("tracking_id")
    return tracking_id if isinstance(tracking_id, str) else repr(shown.message)


def _differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    missing = object()
    return sorted(key for key in {*one, *other} if one.get(key, missing) != other.get(key, missing))


def new_snapshot_id() -> str:
    """Return an id as the SDK makes them: a UUID of version 7, so that a later one sorts behind."""
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    value = milliseconds << 80 | 7 << 76 | (rest * 4096 // 1_000_000) << 64 | 2 << 62 | uuid.uuid4().int % 2**62
    return str(uuid.UUID(int=value))


def make_latest(
    database: Database, former: snapshots.Snapshot | None, restored: snapshots.Snapshot, data: bytes
) -> str | None:
    """Store a latest snapshot, and keep the former as an immutable one.

    Args:
        database: Database to store in.
        former: The latest snapshot now; None if there is none.
        restored: The snapshot that it comes from. If there is no former one, it expires when that does.
        data: The data of the new one.

    Returns:
        Id of the former, as it is kept.

    Raises:
        SessionConflictError: If the latest snapshot is another one by now. Nothing is stored then.
    """
    time_now = now()
    key = snapshots.key_of(restored.session_id, "agent", restored.name)
    if former is None:
        if not database.execute(_CREATE, {"latest": key, "data": data, "restored": restored.key, "now": time_now}):
            raise SessionConflictError(f"{key} was written meanwhile; nothing was changed, so try again")
        return None
    snapshot_id = new_snapshot_id()
    kept = snapshots.key_of(former.session_id, "agent", former.name, snapshot_id)
    parameters = {"kept": kept, "latest": key, "former": former.data, "data": data, "now": time_now}
    if not all(database.transaction([(_KEEP, parameters), (_REPLACE, parameters)])):
        raise SessionConflictError(
            f"The latest snapshot of agent {former.name} in session {former.session_id} was written meanwhile; "
            "nothing was changed, so try again"
        )
    return snapshot_id


def cut(content: dict[str, Any], count: int) -> bytes:
    """Return a snapshot of an agent with its first messages only.

    An interrupt and the state of a server-side model belong to the end that the conversation had.
    """
    data = {**content["data"], "messages": content["data"].get("messages", [])[:count]}
    if "interrupt_state" in data:
        data["interrupt_state"] = {"interrupts": {}, "context": {}, "activated": False}
    if "model_state" in data:
        data["model_state"] = {}
    return encode({**content, "data": data, "created_at": now().replace("+00:00", "Z")})


def encode(content: dict[str, Any]) -> bytes:
    """Return a snapshot as the SDK writes it."""
    return json.dumps(encode_bytes_values(content), ensure_ascii=False).encode()


def undo(
    database: Database,
    latest: snapshots.Snapshot,
    turns: int,
    message_count: int | None,
    only_unanswered: bool,
    dry_run: bool,
) -> int:
    """Remove the last turns from a latest snapshot, and keep the former; see `SessionCatalog.undo_turns`.

    Returns:
        How many messages were removed.
    """
    content = snapshots.decode(latest)
    messages = content["data"].get("messages", [])
    first = _first_said(content["data"], messages)
    starts = [n for n, message in enumerate(messages) if n >= first and _begins_turn(message)][-turns:] if turns else []
    if message_count not in (None, len(messages)) or (only_unanswered and messages and _is_answer(messages[-1])):
        return 0
    if starts and not dry_run:
        make_latest(database, latest, latest, cut(content, starts[0]))
    return len(messages) - starts[0] if starts else 0


def _first_said(data: dict[str, Any], messages: list[Any]) -> int:
    """Return the number of the first message after a summary, which no turn brought and the manager still knows of.

    Before it comes what is pinned of the turns that it stands for.
    """
    manager_state = data.get("conversation_manager_state")
    summary = manager_state.get("summary_message") if isinstance(manager_state, dict) else None
    return messages.index(summary) + 1 if summary in messages else 0


def _begins_turn(message: dict[str, Any]) -> bool:
    return message["role"] == "user" and not all("toolResult" in block for block in message["content"])


def _is_answer(message: dict[str, Any]) -> bool:
    return message["role"] == "assistant" and not any("toolUse" in block for block in message["content"])


def fork_statements(
    database: Database, source: str, new: str, through: Callable[[str], int | None], is_cut: bool
) -> list[Statement]:
    """Return what copies the snapshots of a session.

    Args:
        database: Database that it is in.
        source: Its id.
        new: Id of the copy.
        through: Returns the number of the last message to copy of an agent; None means all.
        is_cut: Whether that is not always all. The past is not copied then, where the other messages may be.
    """
    parameters = {"old": snapshots.prefix_of(source), "new": snapshots.prefix_of(new), "now": now()}
    copy = f"""
        INSERT INTO storage (key, data, expires_at, created_at, updated_at)
        SELECT :new || substr(key, length(:old) + 1), data, expires_at, :now, :now FROM storage
        WHERE key >= :old AND key < :old || CAST(x'FF' AS TEXT) AND (expires_at IS NULL OR expires_at > :now)
            {f"AND {snapshots.IS_LATEST}" if is_cut else ""}
        """  # noqa: S608
    statements: list[Statement] = [(copy, parameters)]
    for snapshot in snapshots.latest(database, source) if is_cut else ():
        last = through(snapshot.name) if snapshot.scope == "agent" else None
        if last is not None and last + 1 < len(snapshots.messages_of(snapshot)):
            data = cut(snapshots.decode(snapshot), last + 1)
            key = snapshots.key_of(new, "agent", snapshot.name)
            statements.append(("UPDATE storage SET data = ? WHERE key = ?", (data, key)))
    return statements


def prune(
    database: Database, keep: int, among: str, parameters: list[Any], now: str, gone: list[str], dry_run: bool
) -> tuple[int, int]:
    """Delete immutable snapshots beyond the newest ones of each agent, in small batches.

    Args:
        database: Database to prune.
        keep: How many of each agent stay.
        among: Condition for the sessions to look at.
        parameters: The condition's.
        now: Time before which what has expired is no matter of this.
        gone: Ids of sessions not to look at, which a dry run has counted as a whole.
        dry_run: Whether only to tell what would go.

    Returns:
        How many went, and how many bytes.
    """
    values = (now, now, *parameters, json.dumps(gone), checked_number("keep_snapshots", keep))
    # What is too much stays too much: newer ones come only on top.
    surplus = database.query(_SURPLUS.format(among=among), values)
    for batch in () if dry_run else in_batches(surplus, (_BATCH, BATCH_BYTES)):
        with making_room():
            database.transaction([("DELETE FROM storage WHERE key = ?", row[:1]) for row in batch])
    return len(surplus), sum(row[2] for row in surplus)
