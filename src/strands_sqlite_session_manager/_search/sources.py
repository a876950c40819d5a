"""The tables whose texts are indexed."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from .._engine.database import valid_text
from .text import LONGEST_TEXT, respelt

# Bytes of data that are looked at.
LONGEST_DATA = 4 * LONGEST_TEXT

# Without looking for what comes after the JSON, which takes as long again.
_decode = json.JSONDecoder().raw_decode

_NOT_STALE = """
    NOT EXISTS (SELECT 1 FROM search_stale WHERE search_stale.source = '{0}' AND search_stale.id = search_{0}.rowid)
    """


class Source(NamedTuple):
    """A table whose texts are indexed.

    Attributes:
        table: Its name.
        columns: What `texts` takes.
        fields: Columns of the index.
        texts: Returns the text for each of the fields.
        identity: SQL for what tells a row from others that may get its rowid.
    """

    table: str
    columns: str
    fields: tuple[str, ...]
    texts: Callable[..., tuple[str, ...]]
    identity: str

    @property
    def fts_table(self) -> str:
        """Name of the FTS5 table."""
        return f"search_{self.table}"

    @property
    def not_indexed(self) -> str:
        """Condition for a row of the table that is not in the index, or not as it is now."""
        return f"""(
            {self.table}.rowid > (SELECT indexed_id FROM search_state WHERE search_state.source = '{self.table}')
            OR {self.table}.rowid IN (SELECT id FROM search_stale WHERE search_stale.source = '{self.table}')
            )"""  # noqa: S608 (constants only)

    @property
    def not_stale(self) -> str:
        """Condition for a row of the index that may be shown."""
        return _NOT_STALE.format(self.table)


def message_text(message: str) -> str:
    """Return what is searched of a message: the start of its text as the view `conversation` shows it."""
    try:
        return block_text(_decode(valid_text(message).lstrip())[0]["content"])
    except (ValueError, TypeError, LookupError, RecursionError):
        return ""  # A damaged message is not found, instead of failing every search.


def block_text(content: Iterable[Any]) -> str:
    """Return what is searched of a message's content; nothing if it is damaged."""
    try:
        return "\n".join(_block_texts(content))[:LONGEST_TEXT]
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return ""


def _block_texts(content: Iterable[Any]) -> Iterator[str]:
    for block in content:
        if isinstance(block.get("text"), str):
            yield block["text"]
        cited = block.get("citationsContent")
        if isinstance(cited, dict) and isinstance(cited.get("content"), list):
            yield from _block_texts(part for part in cited["content"] if isinstance(part, dict))


def storage_texts(key: str, data: bytes) -> tuple[str, str]:
    """Return the key without its extension, as Strands' own search takes it, and the start of what is text in the data.

    In JSON, escapes are blanks, so that they are no part of the words behind them. Of snapshots of the past, only the
    key is searched.

    Data with a NUL is an image or the like, and has none. Bytes that are not UTF-8 become blanks, so that they are no
    part of the words beside them.
    """
    data = data[:LONGEST_DATA]
    # A snapshot of the past is much the same as the latest, and there may be hundreds.
    is_hidden = b"\0" in data or (key.startswith("session/") and "/snapshots/immutable_history/" in key)
    text = "" if is_hidden else data.decode(errors="replace").replace("\ufffd", " ")
    if key.endswith(".json"):
        text = re.sub(r'\\[nrtbf"/\\]', " ", text)  # Or a line's first word would begin with an "n".
    return re.sub(r"(?<=[^/])\.[^./]*$", "", key), text[:LONGEST_TEXT]


def place_word(store: str, scope: str) -> str:
    """Return the word that the index has for a store and scope, so that a search reads what is in them alone."""
    place = json.dumps([valid_text(store), valid_text(scope)])
    return f"x{hashlib.sha256(place.encode()).hexdigest()[:20]}"


MESSAGES = Source(
    "messages",
    "coalesce(redact_message, message)",
    ("text",),
    lambda text: (message_text(text),),
    "message_id || created_at",
)
STORAGE = Source(
    "storage",
    # In hexadecimal digits, which every engine returns as they are.
    f"key, hex(substr(data, 1, {LONGEST_DATA}))",
    ("name", "content"),
    lambda key, digits: storage_texts(key, bytes.fromhex(digits)),
    "key",
)
MEMORIES = Source(
    "memories",
    "store, scope, content",
    ("place", "text"),
    lambda store, scope, content: (place_word(store, scope), respelt(valid_text(content)[:LONGEST_TEXT])),
    "memory_id || created_at",
)
SOURCES = (MESSAGES, STORAGE, MEMORIES)
