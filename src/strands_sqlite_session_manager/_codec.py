"""Strands' values to and from the text and bytes of a row.

JSON that SQLite and people can read, and back to exactly what it was. What JSON has no form for is written as an
object with the single key `__encoded__`, holding a list of a kind and its arguments:

* `["bytes", "<base64>"]`: bytes, where the table has no column for them
* `["attachment", offset, length]`: bytes that lie in the row's `attachments` column
* `["float", "nan" | "inf" | "-inf"]`: a number that strict JSON lacks
* `["dict", [[key, value], ...]]`: an object that itself has a key `__encoded__`

As in Strands' own managers, tuples come back as lists, and keys of objects as strings; of keys that become the same
string, one is kept.
"""

import base64
import json
import math
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any, cast

from strands.types.content import Message
from strands.types.exceptions import SessionException
from strands.types.session import SessionAgent, SessionMessage

from ._arguments import checked_id, checked_number
from ._engine.database import BrokenText

MARK = "__encoded__"
_MARK_IN_JSON = f'"{MARK}"'

# Levels of lists and dictionaries. What could be stored deep down in a call stack must be readable deep down in
# another, and Python's JSON decoder takes part of the stack for each level.
MAX_DEPTH = 200

_FORMAT: dict[str, Any] = {"check_circular": False, "allow_nan": False, "separators": (",", ":")}
_to_json: Callable[[Any], str] = json.JSONEncoder(ensure_ascii=False, **_FORMAT).encode
_to_ascii_json: Callable[[Any], str] = json.JSONEncoder(ensure_ascii=True, **_FORMAT).encode
_decoder = json.JSONDecoder()

# RuntimeError: too deep a nesting, or a dictionary that another thread changes at the same time.
_UNENCODABLE = (TypeError, ValueError, RuntimeError)
_UNDECODABLE = (TypeError, ValueError, RuntimeError, LookupError)


def encode(value: Mapping[str, Any], name: str, attachments: list[bytes] | None = None, *, around: int = 0) -> str:
    """Return the JSON text of a value.

    Args:
        value: Value to store. It is not changed.
        name: What the value is, the start of the place that an error names.
        attachments: Where to put the bytes in it; they are written into the text if there is no such list.
        around: Levels of the value around what is, or was, stored.

    Returns:
        JSON that UTF-8 can hold.

    Raises:
        SessionException: If the value is no dictionary or holds something that has no JSON form.
    """
    if not isinstance(value, dict):
        raise SessionException(f"{name}: a dictionary is needed, not {type(value).__name__}")
    try:
        text = _to_json(value)
    except _UNENCODABLE:
        text = None
    if text is None or _MARK_IN_JSON in text:
        path: list[Any] = [name]
        try:
            value = _encodable(value, path, attachments)
            text = _to_json(value)
        except RecursionError:
            raise SessionException(f"{_place(path[:6])}…: nested too deeply, or holding itself") from None
        except _UNENCODABLE as error:
            raise SessionException(f"{_place(path)}: {error}") from error
    check_depth(value, text, name, around)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            # A lone surrogate, which UTF-8 cannot hold but the escape \\udXXX can.
            text = _to_ascii_json(value)
    return text


def check_depth(value: Any, text: str, name: str, around: int = 0) -> None:
    """Raise if a value is nested more deeply than can be read everywhere.

    Args:
        value: The value.
        text: Its JSON.
        name: What it is, for the error.
        around: Levels that it may have in addition.

    Raises:
        SessionException: If it is.
    """
    # Nearly all texts are shorter than so many levels need, or have fewer brackets.
    may_be_deep = len(text) > 2 * MAX_DEPTH and text.count("{") + text.count("[") > MAX_DEPTH
    level = [value] if may_be_deep else []
    for depth in range(len(text)):
        level = [
            item
            for container in level
            for item in (container.values() if isinstance(container, dict) else container)
            if isinstance(item, (dict, list, tuple))
        ]
        if not level:
            return
        if depth + 2 > MAX_DEPTH + around:
            raise SessionException(f"{name}: nested too deeply: more than {MAX_DEPTH} levels")


def _encodable(value: Any, path: list[Any], attachments: list[bytes] | None) -> Any:
    """Return a copy of a value that strict JSON can hold. When it raises, `path` leads to what it cannot."""
    if isinstance(value, dict):
        copy: dict[Any, Any] = {}
        for key, item in value.items():
            path.append(key)
            if not isinstance(key, (str, int, float, type(None))):
                raise TypeError(f"a {type(key).__name__} cannot be the key of a JSON object")
            copy[key] = _encodable(item, path, attachments)
            path.pop()
        return {MARK: ["dict", list(copy.items())]} if MARK in copy else copy
    if isinstance(value, (list, tuple)):
        items = []
        for index, item in enumerate(value):
            path.append(index)
            items.append(_encodable(item, path, attachments))
            path.pop()
        return items
    if isinstance(value, bytes):
        if attachments is None:
            return {MARK: ["bytes", base64.b64encode(value).decode()]}
        attachments.append(value)
        return {MARK: ["attachment", sum(map(len, attachments[:-1])), len(value)]}
    if isinstance(value, float):
        return value if math.isfinite(value) else {MARK: ["float", float.__repr__(value)]}
    if isinstance(value, int):
        int.__repr__(value)  # raises beyond sys.get_int_max_str_digits(), as reading it back would
        return value
    if value is None or isinstance(value, str):
        return value
    raise TypeError(f"a value of type {type(value).__name__} cannot be stored as JSON")


def _place(path: list[Any]) -> str:
    """Return a path as a person writes it: `message.content[0].text`."""
    return str(path[0]) + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path[1:])


def decode(text: str, table: str, key: tuple[Any, ...], attachments: bytes | None = None) -> dict[str, Any]:
    """Return the value of a JSON text that `encode` made or a person edited.

    Args:
        text: The text.
        table: Table of the row it is from.
        key: Primary key of that row.
        attachments: The row's bytes.

    Returns:
        The value.

    Raises:
        SessionException: If the text is damaged. It names the table and the key.
    """
    value = decode_any(text, table, key, attachments)
    if not isinstance(value, dict):
        raise SessionException(f"{table} {key}: damaged JSON in the database: not an object")
    return value


def decode_any(
    text: str, table: str, key: tuple[Any, ...], attachments: bytes | None = None, *, around: int = 0
) -> Any:
    """Return the value of a JSON text as `decode` does, also one that is no dictionary.

    Args are those of `decode`, and `around`: levels around what `encode` made.
    """
    return parse(text, f"{table} {key}: damaged JSON in the database", attachments, around)


def parse(text: str, name: str, attachments: bytes | None = None, around: int = 0) -> Any:
    """Return the value of a JSON text, wherever it is from.

    Args are those of `decode_any`, and `name`: what the text is, for the error.
    """
    try:
        if isinstance(text, BrokenText):
            text.raw.decode()  # raises, and says where
        if _MARK_IN_JSON in text:
            restorer = _Restorer(attachments or b"")
            value = json.JSONDecoder(object_hook=restorer.restored).decode(text)
            restorer.check_overlaps()
        else:
            value = _decoder.decode(text)
    except _UNDECODABLE as error:
        raise SessionException(f"{name}: {error}") from error
    check_depth(value, text, name, around)
    return value


class _Restorer:
    """Turns objects of the JSON into what they stand for."""

    def __init__(self, attachments: bytes):
        """Begin a text.

        Args:
            attachments: The row's bytes.
        """
        self._attachments = attachments
        self._left = len(attachments)
        self._spans: list[tuple[int, int]] = []

    def restored(self, item: dict[str, Any]) -> Any:
        """Return what an object stands for: mostly itself."""
        if MARK not in item:
            return item
        kind, *arguments = item[MARK]
        if kind != "attachment":
            return _FROM_MARK[kind](*arguments)
        offset, length = arguments
        if not 0 <= offset <= offset + length <= len(self._attachments):
            raise ValueError("an attachment is missing")
        # Each byte belongs to one of them: thousands of references to the same would fill the memory.
        self._left -= length
        if self._left < 0:
            raise ValueError("more attachments than there are bytes")
        self._spans.append((offset, offset + length))
        return self._attachments[offset : offset + length]

    def check_overlaps(self) -> None:
        """Raise if two attachments share bytes. They may be in another order, as in JSON with sorted keys."""
        for (_, end), (start, _) in pairwise(sorted(self._spans)):
            if start < end:
                raise ValueError("attachments overlap")


_FROM_MARK: dict[str, Callable[..., Any]] = {
    "bytes": lambda text: base64.b64decode(text, validate=True),
    "float": float,
    "dict": dict,
}


def encode_agent(session_agent: SessionAgent) -> tuple[str, str, str]:
    """Return the columns `state`, `conversation_manager_state` and `internal_state` of an agent.

    Raises:
        SessionException: If one of them holds something that has no JSON form.
    """
    return (
        encode(session_agent.state, "state"),
        encode(session_agent.conversation_manager_state, "conversation_manager_state"),
        encode(session_agent._internal_state, "internal_state"),
    )


def encode_message(session_message: SessionMessage) -> tuple[str, str | None, bytes | None]:
    """Return the columns `message`, `redact_message` and `attachments` of a message.

    Args:
        session_message: Message to store. It is not changed.

    Raises:
        SessionException: If the message lacks its role or content, or holds something that has no JSON form.
    """
    attachments: list[bytes] = []
    message = _encode_content(session_message.message, "message", attachments)
    redact_message = session_message.redact_message
    redact_text = None if redact_message is None else _encode_content(redact_message, "redact_message", attachments)
    return message, redact_text, b"".join(attachments) if attachments else None


def message_row(session_id: str, agent_id: str, session_message: SessionMessage) -> tuple[Any, ...]:
    """Return the row of a message, in the order of the table's columns.

    Raises:
        SessionException: If the message lacks its role or content, or holds something that has no JSON form.
        ValueError: If an id cannot be one.
    """
    return (
        checked_id("session_id", session_id),
        checked_id("agent_id", agent_id),
        checked_number("message_id", session_message.message_id),
        *encode_message(session_message),
        session_message.created_at,
        session_message.updated_at,
    )


def encode_content(message: Message) -> tuple[str, bytes | None]:
    """Return the JSON of a message's content, and the bytes in it.

    Raises:
        SessionException: If it holds something that has no JSON form.
    """
    attachments: list[bytes] = []
    text = encode({"content": message["content"]}, "redact_message", attachments)
    return text[len('{"content":') : -1], b"".join(attachments) if attachments else None


def encode_live(message: Any, name: str) -> str:
    """Return the JSON of a message that is no row of its own, with the bytes in it.

    Args:
        message: The message.
        name: What it is, for the error.

    Raises:
        SessionException: If the message lacks its role or content, or holds something that has no JSON form.
    """
    return _encode_content(message, name, None)


def _encode_content(message: Message, name: str, attachments: list[bytes] | None) -> str:
    text = encode(message, name, attachments)
    if "role" not in message or not isinstance(message.get("content"), (list, tuple)):
        raise SessionException(f"{name}: a message needs a role and a list as content")
    return text


def decode_message(row: tuple[Any, ...], session_id: str, agent_id: str) -> SessionMessage:
    """Return the message of a row.

    Args:
        row: The columns message_id, message, redact_message, attachments, created_at and updated_at.
        session_id: Id of the message's session.
        agent_id: Id of the message's agent.

    Raises:
        SessionException: If the row is damaged. It names the table and the key.
    """
    message_id, text, redact_text, attachments, created_at, updated_at = row
    key = (session_id, agent_id, message_id)
    message = _decode_content(text, key, attachments)
    redact_message = None if redact_text is None else _decode_content(redact_text, key, attachments)
    return SessionMessage(message, message_id, redact_message, created_at, updated_at)


def decode_checked(row: tuple[Any, ...], session_id: str, agent_id: str) -> SessionMessage:
    """Return the message of a row, as `decode_message` does, unless it is nested too deeply to be shown everywhere.

    The restore of an agent does not look for that, which would take half as long again.

    Raises:
        SessionException: If the row is damaged, or is nested so deeply.
    """
    stored = decode_message(row, session_id, agent_id)
    for value, text in ((stored.message, row[1]), (stored.redact_message, row[2])):
        if value is not None:
            check_depth(value, text, f"messages {(session_id, agent_id, row[0])}: damaged JSON in the database")
    return stored


def decode_shown(rows: Iterable[tuple[Any, ...]], session_id: str, agent_id: str) -> list[Message]:
    """Return what is shown of the messages of rows: the redaction, where there is one.

    Args:
        rows: Of each, the columns message_id, message, redact_message and attachments, after one that is passed over.
        session_id: Id of the messages' session.
        agent_id: Id of the messages' agent.

    Raises:
        SessionException: If a row is damaged, or a block of its content is no object, which the SDK relies on.
    """
    messages: list[Message] = []
    raw_decode = _decoder.raw_decode
    for _, message_id, text, redact_text, attachments, *_ in rows:
        # As in `_decode_content`, without a call for each of a thousand messages.
        if redact_text is None and type(text) is str and _MARK_IN_JSON not in text:
            try:
                message, end = raw_decode(text)
                if end == len(text) and "role" in message and type(message["content"]) is list:
                    for block in message["content"]:
                        if type(block) is not dict:
                            break
                    else:
                        messages.append(message)
                        continue
            except _UNDECODABLE:
                pass
        key = (session_id, agent_id, message_id)
        message = _decode_content(text if redact_text is None else redact_text, key, attachments)
        if not all(isinstance(block, dict) for block in message["content"]):
            raise SessionException(f"messages {key}: damaged JSON in the database: a block of the content is no object")
        messages.append(message)
    return messages


def _decode_content(text: str, key: tuple[str, str, int], attachments: bytes | None) -> Message:
    if type(text) is str and _MARK_IN_JSON not in text:
        # Nearly all rows. `raw_decode` leaves out the two searches for blanks around the text.
        try:
            message, end = _decoder.raw_decode(text)
            if end == len(text) and "role" in message and type(message["content"]) is list:
                return cast(Message, message)
        except _UNDECODABLE:
            pass  # What is wrong is told below.
    message = decode(text, "messages", key, attachments)
    # Strands reads both without asking (`RepositorySessionManager._fix_broken_tool_use`).
    if "role" not in message or not isinstance(message.get("content"), list):
        raise SessionException(f"messages {key}: damaged JSON in the database: no role, or no list as content")
    return cast(Message, message)
