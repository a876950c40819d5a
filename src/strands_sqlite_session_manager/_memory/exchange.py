"""Memories as JSON Lines.

The first line says what the file is, and the last one how many memories there are, so that a file that was cut off is
noticed. Between them is one memory a line, with the columns of its row:

    {"format": "strands-sqlite-session-manager memories", "version": 1}
    {"store": …, "scope": …, "content": …, "metadata": {…}, "times_added": 1, "created_at": …, "updated_at": …,
     "used_at": … or null, "expires_at": … or null}
    {"memories": 1}

Vectors are left out: `reindex` makes them again.
"""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from strands.types.exceptions import SessionException

from .._arguments import checked_id, checked_mapping, checked_number, checked_time, now, parsed_time
from .._codec import encode, parse
from .._engine.database import Database
from .records import COLUMNS, MAKE_WAY, NOT_EXPIRED, Memory, checked_content, to_memory

_HEADER = {"format": "strands-sqlite-session-manager memories", "version": 1}
_ROWS = 500
_FIELDS = ("content", "metadata", "times_added", "created_at", "updated_at", "used_at", "expires_at")
_INSERT = """
    INSERT INTO memories (
        store, scope, content, metadata, times_added, created_at, updated_at, used_at, expires_at
    )
    VALUES (
        :store, :scope, :content, :metadata, :times_added, :created_at, :updated_at, :used_at, :expires_at
    )
    ON CONFLICT (store, scope, content) DO NOTHING
    """


def export(database: Database, store: str | None, scope: str | None, skipped: list[Memory]) -> Iterator[str]:
    """Return the lines for memories that have not expired.

    Args:
        database: Database that they are in.
        store: Only those of this store; None is all.
        scope: Only those of this scope; None is all.
        skipped: Gets those that are damaged, which are left out.
    """
    yield json.dumps(_HEADER)
    number, last_id, time = 0, 0, now()
    while rows := database.query(
        f"""
        SELECT {COLUMNS}, memories.store, memories.scope FROM memories
        WHERE memory_id > :last_id AND store = coalesce(:store, store) AND scope = coalesce(:scope, scope)
            AND {NOT_EXPIRED}
        ORDER BY memory_id LIMIT {_ROWS}
        """,  # noqa: S608 (constants only)
        {"last_id": last_id, "store": store, "scope": scope, "now": time},
    ):
        last_id = rows[-1][0]
        for *columns, of_store, of_scope in rows:
            memory = to_memory(columns)
            if memory.damage:
                skipped.append(memory)
                continue
            number += 1
            fields = {name: getattr(memory, name) for name in _FIELDS}
            yield encode({"store": of_store, "scope": of_scope, **fields}, "memory", around=1)
    yield json.dumps({"memories": number})


def load(database: Database, lines: Iterable[str]) -> tuple[int, int]:
    """Add memories, with their times. A text that its store and scope have already stays as it is.

    Args:
        database: Database to add to.
        lines: The lines of an export.

    Returns:
        How many were added, and how many there were already.

    Raises:
        SessionException: If a line is none of such a file, or the last one is missing. What was added before stays, so
            that the file can be read again when it was mended.
    """
    numbered = enumerate(lines, 1)
    if _parsed(*next(numbered, (1, ""))) != _HEADER:
        raise SessionException(f"line 1: not a file of memories; one begins with {json.dumps(_HEADER)}")
    records = _records(numbered)
    added = there = 0
    while batch := list(islice(records, _ROWS)):
        time = now()
        statements = ((sql, {**memory, "now": time}) for memory in batch for sql in (MAKE_WAY, _INSERT))
        counts = database.transaction(statements)[1::2]
        added += sum(counts)
        there += len(counts) - sum(counts)
    return added, there


def _records(numbered: Iterator[tuple[int, str]]) -> Iterator[dict[str, Any]]:
    total = 0
    for number, line in numbered:
        record = _parsed(number, line)
        if isinstance(record, dict) and [*record] == ["memories"]:
            _check_end(number, record["memories"], total, numbered)
            return
        try:
            yield _checked(record)
        except (ValueError, TypeError, LookupError, RecursionError, SessionException) as error:
            raise SessionException(f"line {number}: not a memory: {error}") from error
        total += 1
    raise SessionException(f"the file was cut off: its last line would be {json.dumps({'memories': total})}")


def _check_end(number: int, told: Any, total: int, below: Iterator[tuple[int, str]]) -> None:
    if told != total:
        raise SessionException(f"line {number}: the file should have {told} memories and has {total}; get it again")
    for number, line in below:
        if line.strip():
            raise SessionException(f"line {number}: below the line that ends the file; import each file by itself")


def _parsed(number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise SessionException(f"line {number}: not JSON: {error}") from error


def _checked(record: Any) -> dict[str, Any]:
    values = checked_mapping("memory", record)
    for name in ("store", "scope", *_FIELDS):
        if name not in values:
            raise ValueError(f"no field {name!r}")
    for name in ("store", "scope"):
        values[name] = checked_id(name, values[name])
    values["content"] = checked_content(values["content"])
    # As it is in a row, where "not a number", say, is an object.
    metadata = json.dumps(checked_mapping("metadata", values["metadata"]))
    values["metadata"] = encode(parse(metadata, "metadata"), "metadata")
    values["times_added"] = checked_number("times_added", values["times_added"])
    for name in ("created_at", "updated_at", "used_at", "expires_at"):
        if values[name] is not None or name in ("created_at", "updated_at"):
            values[name] = _time(name, values[name])
    return {name: values[name] for name in ("store", "scope", *_FIELDS)}


def _time(name: str, text: Any) -> str:
    try:
        time = parsed_time(text)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}={text!r:.100}: must be a time such as 2026-01-31T12:00:00.123456+00:00") from error
    return checked_time(name, time)
