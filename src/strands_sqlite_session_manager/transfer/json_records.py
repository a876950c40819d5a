"""A line of JSON Lines and the row that it is; see `json_lines`."""

import base64
import json
from typing import Any

from strands.types.exceptions import SessionException

from .._arguments import checked_id, checked_metadata, checked_number
from .._codec import MARK, check_depth, decode
from .._conversation import live_view
from .._engine.database import BrokenText
from .rows import COLUMNS, TABLES, Row, checked_timestamp

_TABLES = {
    "session": "sessions",
    "agent": "agents",
    "message": "messages",
    "multi_agent": "multi_agents",
    "storage": "storage",
}
_RECORDS = {table: record for record, table in _TABLES.items()}
_JSON_COLUMNS = {
    *("metadata", "state", "conversation_manager_state", "internal_state", "live_view"),
    *("message", "redact_message"),
}
_ATTACHMENTS = COLUMNS["messages"].index("attachments")

_to_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")).encode


def line_of(table: str, row: Row) -> str:
    """Return the line for a row."""
    fields = [f'"record":"{_RECORDS[table]}"']
    for column, value in zip(COLUMNS[table], row, strict=True):
        name = column
        if column in _JSON_COLUMNS and value is not None:
            if _is_embeddable(table, column, row, value):
                fields.append(f'"{column}":{value}')
                continue
            name = f"{column}_text"
        if isinstance(value, BrokenText):
            fields.append(f'"{name}":{json.dumps(value)}')  # Lone surrogates as escapes.
        elif isinstance(value, bytes):
            fields.append(f'"{name}":"{base64.b64encode(value).decode()}"')
        else:
            fields.append(f'"{name}":{_to_json(value)}')
    return f"{{{','.join(fields)}}}\n"


def _is_embeddable(table: str, column: str, row: Row, text: str) -> bool:
    """Tell whether a column's text comes back the same when it is part of a line."""
    if isinstance(text, BrokenText):
        return False
    try:
        value = json.loads(text)
        if not isinstance(value, list if column == "live_view" else dict) or _to_json(value) != text:
            return False
        _check_value(table, column, row, text, value)
    except (ValueError, RecursionError, SessionException):
        return False
    return True


def record_of(line: str) -> dict[str, Any]:
    """Return the record of a line.

    Raises:
        ValueError: If it is none.
    """
    _utf8(line)
    record = json.loads(line)
    if not isinstance(record, dict):
        raise ValueError("not a JSON object")
    return record


def row_of(record: dict[str, Any]) -> tuple[str, Row]:
    """Return a record's table and row.

    Args:
        record: The record. It is taken apart.

    Raises:
        KeyError: If a field is missing.
        ValueError: If a value cannot be one.
        SessionException: If a value would be damage.
    """
    name = record.pop("record")
    if name not in _TABLES:
        raise ValueError(f"no such record: {name!r}")
    table = _TABLES[name]
    parsed = {column: record[column] for column in COLUMNS[table] if column in _JSON_COLUMNS and column in record}
    row = tuple(_value(record, column) for column in COLUMNS[table])
    if record:
        raise ValueError(f"unknown fields: {', '.join(record)}")
    for column, value in parsed.items():
        if value is not None:
            _check_value(table, column, row, row[COLUMNS[table].index(column)], value)
    return table, row


def _check_value(table: str, column: str, row: Row, text: str, value: Any) -> None:
    """Raise if what is parsed of a text is nested too deeply, or refers to bytes that its row does not have.

    Raises:
        SessionException: If it is so. It names the record.
    """
    key = row[: len(TABLES[table][0])]
    if column == "live_view":
        live_view.parse(text, (row[0], row[1]))
    elif MARK in text:
        decode(text, table, key, row[_ATTACHMENTS] if table == "messages" else None)
    else:
        check_depth(value, text, f"{table} {key}: {column}")


def _value(record: dict[str, Any], column: str) -> Any:
    """Take a column's value out of a record."""
    if column in _JSON_COLUMNS and f"{column}_text" in record:
        return _text(record.pop(f"{column}_text"))
    value = record.pop(column, None) if column == "expires_at" else record.pop(column)
    if column == "message_id":
        return checked_number(column, value)
    if column.endswith("_id"):
        return checked_id(column, value)
    if column == "metadata":
        checked_metadata(column, value)
    if column in _JSON_COLUMNS and isinstance(value, list if column == "live_view" else dict):
        return _utf8(_to_json(value))
    if column in ("redact_message", "attachments", "live_view", "expires_at") and value is None:
        return None
    if column in ("created_at", "updated_at", "expires_at"):
        return checked_timestamp(column, value)
    if column in _JSON_COLUMNS:
        raise ValueError(f"{column}: not an object")
    return base64.b64decode(value, validate=True) if column in ("attachments", "data") else _utf8(value)


def _text(text: Any) -> str:
    """Return a text of the database, also one that is no UTF-8."""
    try:
        return _utf8(text)
    except ValueError:
        if not isinstance(text, str):
            raise
        return BrokenText(text.encode(errors="surrogateescape"))


def _utf8(text: Any) -> str:
    """Return a text if the database can hold it."""
    if not isinstance(text, str):
        raise ValueError(f"{text!r}: not a text")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("not UTF-8, or a lone surrogate") from None
    return text
