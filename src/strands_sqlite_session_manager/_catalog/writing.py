"""Messages as texts to take elsewhere: JSON, Markdown, a test in Python."""

import json
import pprint
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .._codec import encode
from .records import HistoryMessage

_LONGEST_LINE = 110

# What a terminal or a parser of HTML might take for a command, and what UTF-8 cannot hold.
_CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def visible(text: str) -> str:
    """Return a text in which control characters are pictures of them, and half a surrogate pair is U+FFFD."""
    return _CONTROL.sub(_picture, text.replace("\r\n", "\n"))


def _picture(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 32:
        return chr(0x2400 + code)
    return "\N{SYMBOL FOR DELETE}" if code == 127 else "\N{REPLACEMENT CHARACTER}"


def to_json(messages: Sequence[HistoryMessage], name: str) -> str:
    """Return messages as a JSON list of what the SDK keeps in `agent.messages`; bytes are marked, and in base64.

    Args:
        messages: The messages, the oldest first. Damaged ones are left out.
        name: Not used: JSON has no place for it.
    """
    texts = [encode(dict(message.message), "message") for message in messages if not message.damage]
    return f"[\n{','.join(chr(10) + text for text in texts)[1:]}\n]\n" if texts else "[]\n"


def to_markdown(messages: Sequence[HistoryMessage], name: str) -> str:
    """Return messages as Markdown, with control characters as pictures of them.

    Args:
        messages: The messages, the oldest first.
        name: Heading.
    """
    parts = [f"# {' '.join(name.split())}"]
    for message in messages:
        role = "damaged" if message.damage else str(message.message["role"])
        redacted = ", redacted" if message.is_redacted else ""
        parts.append(f"## {message.message_id}: {role}\n\n{message.created_at}{redacted}")
        parts += [message.damage] if message.damage else map(_block, message.message["content"])
    return visible("\n\n".join(parts) + "\n")


def to_python(messages: Sequence[HistoryMessage], name: str) -> str:
    """Return a test that gives an agent the messages.

    Args:
        messages: The messages, the oldest first. Damaged ones are left out.
        name: Where they are from.
    """
    values = [message.message for message in messages if not message.damage]
    literal = pprint.pformat(values, width=_LONGEST_LINE, sort_dicts=False, compact=False)
    # What Python has no literals for.
    numbers = [word for word in ("inf", "nan") if re.search(rf"\b{word}\b", literal)]
    imports = ["import copy", *([f"from math import {', '.join(numbers)}"] if numbers else [])]
    return "\n".join(
        [
            f"# From {name!a}",
            *imports,
            "",
            "from strands import Agent",
            "",
            f"MESSAGES = {literal}",
            "",
            "",
            "def test_conversation() -> None:",
            "    agent = Agent(messages=copy.deepcopy(MESSAGES), callback_handler=None)",
            "    assert [message['role'] for message in agent.messages] == "
            f"{[str(value['role']) for value in values]!r}",
            "",
        ]
    )


# By the names that the command line and the pages have for them.
FORMS: dict[str, Callable[[Sequence[HistoryMessage], str], str]] = {
    "json": to_json,
    "markdown": to_markdown,
    "python": to_python,
}


def _block(block: Any) -> str:
    kind, value = next(iter(block.items())) if isinstance(block, Mapping) and len(block) == 1 else ("block", block)
    if kind == "text" and isinstance(value, str):
        return value
    if isinstance(value, Mapping) and kind == "toolUse":
        return f"Tool `{value.get('name')}`, call `{value.get('toolUseId')}`:\n\n{_fenced(value.get('input'))}"
    if isinstance(value, Mapping) and kind == "toolResult":
        content = value.get("content")
        shown = [_block(item) for item in content] if isinstance(content, list) else [_fenced(content)]
        return "\n\n".join([f"Result of call `{value.get('toolUseId')}`: {value.get('status', 'success')}", *shown])
    if kind == "json":
        return _fenced(value)
    return f"{kind}:\n\n{_fenced(value)}"


def _fenced(value: Any) -> str:
    """Return a value as a block of JSON, whose fence is longer than any in it."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=_told)
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 3)
    return f"{fence}json\n{text}\n{fence}"


def _told(value: Any) -> str:
    return f"{len(value):,} bytes" if isinstance(value, bytes) else str(value)
