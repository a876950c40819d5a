"""Checks of what callers pass, and times as the tables hold them."""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

# A range of keys that begin with a text, which is bound twice. GLOB and LIKE scan when their pattern is bound. SQLite
# compares the bytes of UTF-8, and none of them is as high as FF.
BEGINS_WITH = "{column} >= ? AND {column} < ? || CAST(x'FF' AS TEXT)"


def checked_id(name: str, value: str) -> str:
    """Return an id if it can be one.

    Raises:
        ValueError: If it is not a non-empty string without NUL that UTF-8 can hold.
    """
    if isinstance(value, str) and value and "\0" not in value:
        try:
            value.encode()
        except UnicodeEncodeError:
            pass
        else:
            return value
    raise ValueError(f"{name}={value!r}: an id is a non-empty string without NUL that UTF-8 can hold")


def checked_ids(name: str, values: Iterable[str]) -> list[str]:
    """Return ids if they can be some, each once.

    Raises:
        ValueError: If one cannot be, or it is a single string instead of several.
    """
    if isinstance(values, str):
        raise ValueError(f"{name}={values!r}: must be several ids, not one string")
    return list(dict.fromkeys(checked_id(name, value) for value in values))


def checked_number(name: str, value: int) -> int:
    """Return a number if SQLite can count to it.

    Raises:
        ValueError: If it is not an int from 0 to 2**63 - 1.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise ValueError(f"{name}={value!r}: must be an int from 0 to 2**63 - 1")
    return value


def checked_metadata(name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata that `list_sessions(metadata=…)` can find.

    Raises:
        ValueError: If it is no dictionary, or holds a NUL or an integer beyond 64 bits, which SQLite's JSON functions
            change.
    """
    metadata = checked_mapping(name, value)
    try:
        leaves = list(_leaves(metadata))
    except RecursionError:
        raise ValueError(f"{name}: nested too deeply, or holding itself") from None
    for item in leaves:
        if isinstance(item, str) and "\0" in item:
            raise ValueError(f"{name}: {item!r}: metadata cannot hold NUL characters")
        if isinstance(item, int) and not -(2**63) <= item < 2**63:
            raise ValueError(f"{name}: {item!r}: metadata cannot hold integers beyond 64 bits")
    return metadata


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def checked_mapping(name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping as a dictionary.

    Raises:
        ValueError: If it is none.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{name}={value!r}: must be a dictionary")
    return dict(value)


def now(other_than: str | None = None) -> str:
    """Return the present time as the tables hold it.

    Args:
        other_than: A time that it must differ from. Some clocks stand still for some milliseconds.
    """
    time = datetime.now(timezone.utc)
    return (time if time.isoformat() != other_than else time + timedelta(microseconds=1)).isoformat()


def checked_moment(name: str, value: datetime | timedelta) -> str:
    """Return a time, or the end of a time span from now on, as the tables hold it.

    Raises:
        ValueError: If it is neither a timedelta nor a datetime with a time zone.
    """
    return _moment(name, value, datetime.now(timezone.utc), 1)


def checked_cut_off(name: str, value: datetime | timedelta, now: datetime | None = None) -> str:
    """Return the time before which something is old, as the tables hold it.

    Args:
        name: Name of the argument, for the error.
        value: The time, or an age.
        now: What the age is counted from. Defaults to the present.

    Raises:
        ValueError: If the age is negative, or it is neither a timedelta nor a datetime with a time zone.
    """
    if isinstance(value, timedelta) and value < timedelta(0):
        raise ValueError(f"{name}={value!r}: an age cannot be negative")
    return _moment(name, value, now or datetime.now(timezone.utc), -1)


def _moment(name: str, value: datetime | timedelta, now: datetime, direction: int) -> str:
    if isinstance(value, timedelta):
        try:
            value = now + direction * value
        except OverflowError as error:
            raise ValueError(f"{name}={value!r}: {error}") from error
    elif not isinstance(value, datetime):
        raise ValueError(f"{name}={value!r}: must be a timedelta, or a datetime with a time zone")
    return checked_time(name, value)


def parsed_time(text: str) -> datetime:
    """Return the time that a text in ISO 8601 tells.

    Raises:
        ValueError: If it tells none.
    """
    # Before Python 3.11, "Z" is not understood.
    return datetime.fromisoformat(re.sub("Z$", "+00:00", text))


def checked_time(name: str, value: datetime) -> str:
    """Return a time as the tables hold it: ISO 8601, UTC, to be compared as text.

    Raises:
        ValueError: If it is not a datetime with a time zone.
    """
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError(f"{name}={value!r}: must be a datetime with a time zone")
    try:
        # Without the fraction of a whole second, as Python and so the SDK write it: "+" sorts before ".".
        return value.astimezone(timezone.utc).isoformat()
    except OverflowError as error:
        raise ValueError(f"{name}={value!r}: {error}") from error
