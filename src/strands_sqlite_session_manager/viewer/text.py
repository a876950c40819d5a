"""Text as a page shows it: Markdown, JSON, numbers, and whatever else somebody has put into a message."""

import functools
import json
import re
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup

# Characters of a text that a page shows; there is a link to the rest.
LONGEST = 10_000

# What a terminal, a parser of HTML or UTF-8 might take for a command: as pictures of them, U+FFFD for half a pair.
_CONTROLS = {code: 0x2400 + code for code in range(32) if code not in (9, 10, 13)} | {127: 0x2421}
_SURROGATE = re.compile("[\ud800-\udfff]")


def visible(html: str) -> str:
    """Return a page without characters that could do anything but be shown."""
    return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", html.translate(_CONTROLS))


def _link_open(self: RendererHTML, tokens: Sequence[Token], index: int, options: Any, environment: Any) -> str:
    tokens[index].attrSet("rel", "noopener noreferrer")
    tokens[index].attrSet("target", "_blank")
    return self.renderToken(tokens, index, options, environment)


# HTML in a text is text. The library refuses links with `javascript:` and the like by itself. A picture of another host
# would tell that host who reads, so it is a link.
_markdown = (
    MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"]).disable("image")
)
_markdown.add_render_rule("link_open", _link_open)


@functools.lru_cache(maxsize=2_000)
def markdown(text: str) -> Markup:
    """Return the HTML of a Markdown text, in which nothing can run."""
    html = _markdown.render(text)
    html = html.replace("<table>", '<div class="scroll" tabindex="0"><table>').replace("</table>", "</table></div>")
    html = html.replace("<pre>", '<pre tabindex="0">')
    # A heading of a message is none of the page.
    return Markup(re.sub(r"(</?)h([1-6])>", r"\1p>", html))  # noqa: S704 (made by a library that escapes)


def pretty_json(value: Any) -> str:
    """Return a value as JSON that a person can read; bytes are told of."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=_told)


def short_json(value: Any, length: int = 100) -> str:
    """Return the beginning of a value as JSON on one line."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=_told)
    text = " ".join(text[: 4 * length].split())
    return text if len(text) <= length else f"{text[:length]}…"


def _told(value: Any) -> str:
    return f"{size(len(value))} of bytes" if isinstance(value, bytes) else str(value)


def size(number: int) -> str:
    """Return a number of bytes as a person reads it."""
    amount = float(number)
    for unit in ("B", "KB", "MB", "GB"):
        if round(amount, 1) < 1000:
            return f"{number} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:,.1f} TB"


def count(number: int, noun: str) -> str:
    """Return a number of things as a person reads it."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def day(time: str) -> str:
    """Return the day of a time."""
    return time[:10]


def clock(time: str) -> str:
    """Return the time of day of a time."""
    return time[11:19]


def age(time: str, now: datetime | None = None) -> str:
    """Return how long ago a time was, as a person says it; of one to come, the day; what is no time, as it is."""
    try:
        passed = (now or datetime.now(timezone.utc)) - datetime.fromisoformat(time).astimezone(timezone.utc)
    except ValueError:
        return time
    seconds = passed.total_seconds()
    if seconds < 0:
        return time[:10]
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            return f"{count(int(seconds // length), unit)} ago"
    return "just now"


_HIT = re.compile(r"\[([^\[\]]+)\]")


def marked(snippet: str) -> Markup:
    """Return the snippet of a search with its hits, which are in brackets, marked."""
    parts = _HIT.split(snippet)
    return Markup("").join(
        Markup("<mark>{}</mark>").format(part) if index % 2 else part for index, part in enumerate(parts)
    )
