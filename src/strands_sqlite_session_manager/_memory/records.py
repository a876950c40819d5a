"""Memories as rows: adding, reading, changing and deleting them, within one store and scope."""

import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from strands.types.exceptions import SessionException

from .._arguments import checked_id, checked_number
from .._codec import decode
from .._engine.database import Database, valid_text
from .._errors import SessionConflictError, missing, naming_too_large, record_name, require_stored
from .._metadata import HAS_METADATA

# What one transaction deletes at the most, so that it holds the write lock for some milliseconds.
BATCH = 500

# The columns of `Memory`, in this order.
COLUMNS = """
    memories.memory_id, memories.content, memories.metadata, memories.times_added, memories.created_at,
    memories.updated_at, memories.used_at, memories.expires_at
    """

# Conditions on `memories`, with the parameters of `Place.at`.
IN_PLACE = "memories.store = :store AND memories.scope = :scope"
# The same where rows are sought by their ids: the plus signs keep SQLite from reading through all that is in the place.
_ALSO_IN_PLACE = "+memories.store = :store AND +memories.scope = :scope"
_BY_IDS = f"memories.memory_id IN (SELECT value FROM json_each(:ids)) AND {_ALSO_IN_PLACE}"  # noqa: S608
NOT_EXPIRED = "(memories.expires_at IS NULL OR memories.expires_at > :now)"
_HAS_METADATA = HAS_METADATA.format(wanted=":metadata")

# Deletes the memory with a text if it has expired, so that another can have the text. Constants only, as in all of this
# module, hence the `noqa`.
MAKE_WAY = f"DELETE FROM memories WHERE {IN_PLACE} AND content = :content AND expires_at <= :now"  # noqa: S608


@dataclass(frozen=True)
class Memory:
    """What is remembered.

    Attributes:
        memory_id: Its number, which no other memory of the database ever gets.
        content: Its text.
        metadata: What was added with it.
        times_added: How often it was added: the same text in the same scope is one memory.
        created_at: When it was added first, in ISO 8601, UTC.
        updated_at: When it was last added, or its text last changed.
        used_at: When a search last found it, to the hour; None if none has.
        expires_at: When it is forgotten; None if it is not.
        damage: What is wrong with its row in the database; None if nothing is. Of damaged metadata, nothing is shown.
    """

    memory_id: int
    content: str
    metadata: dict[str, Any]
    times_added: int
    created_at: str
    updated_at: str
    used_at: str | None
    expires_at: str | None
    damage: str | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class MemoryPage:
    """A page of a list of memories.

    Attributes:
        memories: The memories.
        next: Cursor for `after`, which leads to the next page; None on the last one.
    """

    memories: list[Memory]
    next: str | None


class Place(NamedTuple):
    """Where memories are: no statement looks beyond it.

    Attributes:
        store: Name of the store.
        scope: Whose memories they are.
    """

    store: str
    scope: str

    def at(self, now: str, **more: Any) -> dict[str, Any]:
        """Return the parameters of conditions on memories, and more.

        Args:
            now: The present time.
            **more: Other parameters.
        """
        return {"store": self.store, "scope": self.scope, "now": now, **more}


def live(metadata: str | None, place: str = IN_PLACE) -> str:
    """Return the condition for memories that may be shown.

    Args:
        metadata: The parameter `:metadata`, JSON of names and values that their metadata must have; None if it may be
            any.
        place: The condition for the place.
    """
    return f"{place} AND {NOT_EXPIRED}" + (f" AND {_HAS_METADATA}" if metadata is not None else "")


def to_memory(row: Sequence[Any]) -> Memory:
    """Return the memory of a row with `COLUMNS`."""
    memory_id, content, metadata, *rest = row
    try:
        return Memory(memory_id, valid_text(content), decode(metadata, "memories", (memory_id,)), *rest)
    except SessionException as error:
        return Memory(memory_id, valid_text(content), {}, *rest, damage=str(error))


def checked_content(content: str) -> str:
    """Return the text of a memory, without the blanks around it.

    Raises:
        ValueError: If it is blank, or nothing that SQLite can hold as a text.
    """
    text = content.strip() if isinstance(content, str) else ""
    try:
        return checked_id("content", text)
    except ValueError:
        raise ValueError(
            f"content={content!r:.100}: must be a text that is not blank, without NUL, and that UTF-8 can hold"
        ) from None


def add(database: Database, place: Place, content: str, metadata: str | None, expires_at: str | None, now: str) -> int:
    """Add a memory, or move the time and count of the one with this text.

    Args:
        database: Database to add to.
        place: Where.
        content: Its text.
        metadata: JSON of its metadata; None leaves what there is.
        expires_at: When it is forgotten, or "never"; None leaves what there is.
        now: The present time.

    Returns:
        Its id.
    """
    values = place.at(now, content=content, metadata=metadata, expires_at=expires_at)
    insert = """
        INSERT INTO memories (store, scope, content, metadata, created_at, updated_at, expires_at)
        VALUES (:store, :scope, :content, coalesce(:metadata, '{}'), :now, :now, nullif(:expires_at, 'never'))
        ON CONFLICT (store, scope, content) DO UPDATE SET
            metadata = coalesce(:metadata, metadata),
            times_added = times_added + 1,
            updated_at = max(updated_at, :now),
            expires_at = nullif(coalesce(:expires_at, expires_at), 'never')
        WHERE expires_at IS NULL OR expires_at > :now
        """
    with naming_too_large("The memory"):
        count = database.execute(insert, values)
        if not count:  # One that has expired has the text.
            _, count = database.transaction([(MAKE_WAY, values), (insert, values)])
    require_stored((count,), "The memory")
    rows = database.query(
        "SELECT memory_id FROM memories WHERE store = :store AND scope = :scope AND content = :content",
        {"store": place.store, "scope": place.scope, "content": content},
    )
    if not rows:
        raise SessionConflictError(f"The memory was deleted by someone else while it was added: {content[:100]!r}")
    return int(rows[0][0])


def read(
    database: Database, place: Place, memory_ids: Iterable[int], metadata: str | None, now: str
) -> dict[int, Memory]:
    """Return those of some memories that may be shown, by their ids.

    Args:
        database: Database to read.
        place: Where.
        memory_ids: Their ids.
        metadata: See `live`.
        now: The present time.
    """
    rows = database.query(
        f"""
        SELECT {COLUMNS} FROM memories WHERE {live(metadata, _BY_IDS)}
        """,  # noqa: S608
        place.at(now, ids=json.dumps(list(memory_ids)), metadata=metadata),
    )
    return {row[0]: to_memory(row) for row in rows}


def longer_than(database: Database, place: Place, length: int) -> list[int]:
    """Return the ids of memories with more characters, of which the search index does not have all."""
    rows = database.query(
        f"SELECT memory_id FROM memories WHERE {IN_PLACE} AND length(content) > :length",  # noqa: S608
        place.at("", length=length),
    )
    return [memory_id for (memory_id,) in rows]


def page(database: Database, place: Place, limit: int, after: str | None, metadata: str | None, now: str) -> MemoryPage:
    """Return a page of memories, the newest first; see `SQLiteMemoryStore.list`."""
    values = place.at(now, metadata=metadata, limit=min(limit, 2**62) + 1)
    follows = ""
    if after is not None:
        values["last_time"], values["last_id"] = _from_cursor(after)
        follows = "AND (updated_at, memory_id) < (:last_time, :last_id)"
    rows = database.query(
        f"""
        SELECT {COLUMNS} FROM memories WHERE {live(metadata)} {follows}
        ORDER BY updated_at DESC, memory_id DESC LIMIT :limit
        """,  # noqa: S608
        values,
    )
    memories = [to_memory(row) for row in rows[:limit]]
    return MemoryPage(memories, _to_cursor(memories[-1]) if memories and len(rows) > limit else None)


def count(database: Database, place: Place, metadata: str | None, now: str) -> int:
    """Count memories."""
    ((number,),) = database.query(
        f"SELECT count(*) FROM memories WHERE {live(metadata)}",  # noqa: S608
        place.at(now, metadata=metadata),
    )
    return int(number)


def update(database: Database, place: Place, memory_id: int, changes: dict[str, Any], now: str) -> None:
    """Change columns of a memory. What its text was stays in the search index; see `erase_former_content`.

    Raises:
        SessionConflictError: If another memory has the text.
        SessionException: If the memory does not exist.
    """
    name = record_name("memories", *place, memory_id)
    if "content" in changes:
        changes = {**changes, "updated_at": now}
    assignments = ", ".join(f"{column} = :new_{column}" for column in changes)
    values = place.at(now, memory_id=memory_id, **{f"new_{column}": value for column, value in changes.items()})
    statement = f"""
        UPDATE memories SET {assignments} WHERE memory_id = :memory_id AND {live(None, _ALSO_IN_PLACE)}
        """  # noqa: S608
    make_way = place.at(now, content=changes.get("content"))
    try:
        with naming_too_large(name):
            _, changed = database.transaction([(MAKE_WAY, make_way), (statement, values)])
    except SessionConflictError as error:
        raise SessionConflictError(f"{name}: another memory has this text; delete one of them") from error
    if not changed:
        raise missing("memories", *place, memory_id)


def delete(database: Database, place: Place, memory_ids: Iterable[int]) -> int:
    """Delete memories, all at once, and return how many there were. See `erase_former_content`."""
    return database.execute(
        f"DELETE FROM memories WHERE {_BY_IDS}",  # noqa: S608
        {"store": place.store, "scope": place.scope, "ids": json.dumps(list(memory_ids))},
    )


def prune(
    database: Database,
    place: Place,
    older_than: str | None,
    unused_since: str | None,
    keep_last: int | None,
    now: str,
    *,
    dry_run: bool = False,
) -> int:
    """Delete memories in batches, between which writers get their turn; see `SQLiteMemoryStore.prune`."""
    # Settled at the start, so that what goes for another reason makes no room for what was beyond the last ones.
    beyond = () if keep_last is None else _first_beyond(database, place, keep_last, now)
    last_time, last_id = beyond or ("", 0)
    values = place.at(now, older_than=older_than, unused_since=unused_since, last_time=last_time, last_id=last_id)
    condition = f"""
        {IN_PLACE} AND (
            NOT {NOT_EXPIRED}
            OR updated_at < :older_than
            OR max(updated_at, coalesce(used_at, '')) < :unused_since
            OR (updated_at, memory_id) <= (:last_time, :last_id)
        )
        """
    if dry_run:
        return int(database.query(f"SELECT count(*) FROM memories WHERE {condition}", values)[0][0])  # noqa: S608
    return _delete_in_batches(database, condition, values)


def _first_beyond(database: Database, place: Place, keep_last: int, now: str) -> tuple[Any, ...]:
    """Return time and id of the newest memory beyond so many last ones, if there is one."""
    rows = database.query(
        f"""
        SELECT updated_at, memory_id FROM memories WHERE {live(None)}
        ORDER BY updated_at DESC, memory_id DESC LIMIT 1 OFFSET :keep_last
        """,  # noqa: S608
        place.at(now, keep_last=keep_last),
    )
    return rows[0] if rows else ()


def clear(database: Database, place: Place) -> int:
    """Delete all memories, in batches, and return how many there were."""
    return _delete_in_batches(database, IN_PLACE, place.at(""))


def _delete_in_batches(database: Database, condition: str, values: dict[str, Any]) -> int:
    deleted = 0
    while number := database.execute(
        f"""
        DELETE FROM memories WHERE memory_id IN (
            SELECT memory_id FROM memories WHERE {condition} ORDER BY memory_id LIMIT {BATCH}
        )
        """,  # noqa: S608
        values,
    ):
        deleted += number
    return deleted


def mark_used(database: Database, place: Place, memory_ids: Iterable[int], now: str, since: str) -> None:
    """Note that memories were found, where that was not noted for a while.

    Args:
        database: Database that they are in.
        place: Where.
        memory_ids: Their ids.
        now: The present time.
        since: The time from which on a note is new enough.
    """
    database.execute(
        f"""
        UPDATE memories SET used_at = :now WHERE {_BY_IDS} AND (used_at IS NULL OR used_at < :since)
        """,  # noqa: S608
        place.at(now, ids=json.dumps(list(memory_ids)), since=since),
    )


def places(database: Database, scope: str | None, now: str) -> list[tuple[str, str, int, str]]:
    """Return each store and scope, or those of one scope, how many memories there are, and the time of the newest."""
    return database.query(
        f"""
        SELECT store, scope, count(*), max(updated_at) FROM memories
        WHERE (:scope IS NULL OR scope = :scope) AND {NOT_EXPIRED} GROUP BY store, scope ORDER BY store, scope
        """,  # noqa: S608 (constants only)
        {"scope": scope, "now": now},
    )


def _to_cursor(last: Memory) -> str:
    return base64.urlsafe_b64encode(json.dumps([last.updated_at, last.memory_id]).encode()).decode()


def _from_cursor(cursor: str) -> tuple[str, int]:
    try:
        time, memory_id = json.loads(base64.urlsafe_b64decode(cursor))
        checked_id("time", time)
        checked_number("memory_id", memory_id)
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"after={cursor!r:.100}: not a cursor of a list of memories") from error
    return time, memory_id
