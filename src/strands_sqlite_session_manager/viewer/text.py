"""Text as a page shows it: Markdown, JSON, numbers, and whatever else somebody has put into a message."""

import functools
import json
import math
import re
from collections.abc import Sequence
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from markupsafe import Markup

from .._catalog.writing import visible
from .._wording import size

# Characters of a text that a page shows; there is a link to the rest.
LONGEST = 10_000

# What changes the order in which text is shown. In prose it is part of the language, in names it is a trick.
_DIRECTION = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_BLANK_NAME = re.compile(r"<bdi>\s+</bdi>")
_NAMES = re.compile(r"<(?:bdi|code|pre|title)\b[^>]*>[^<]*")


def safe_page(html: str) -> str:
    """Return a page in which control characters can be seen, those of the direction in names and code only.

    So can names that are nothing but blanks: else there would be links that nobody finds.
    """
    html = _BLANK_NAME.sub("<bdi>␠</bdi>", visible(html))
    if _DIRECTION.search(html):
        html = _NAMES.sub(lambda name: _DIRECTION.sub(lambda found: f"[U+{ord(found[0]):04X}]", name[0]), html)
    return html


def isolated(line: str) -> Markup:
    """Return a line whose words stay in their order, whatever is written in them from right to left."""
    return Markup(" ").join(
        word if word.isascii() else Markup("<bdi>{}</bdi>").format(word) for word in line.split(" ")
    )


def _link_open(self: RendererHTML, tokens: Sequence[Token], index: int, options: Any, environment: Any) -> str:
    tokens[index].attrSet("rel", "noopener noreferrer")
    tokens[index].attrSet("target", "_blank")
    return self.renderToken(tokens, index, options, environment)


def _cell_open(self: RendererHTML, tokens: Sequence[Token], index: int, options: Any, environment: Any) -> str:
    # No page may have styles in it. The side is the only one that the library gives.
    style = tokens[index].attrs.pop("style", None)
    if style is not None:
        tokens[index].attrSet("class", str(style).removeprefix("text-align:"))
    return self.renderToken(tokens, index, options, environment)


# HTML in a text is text. The library refuses links with `javascript:` and the like by itself. A picture of another host
# would tell that host who reads, so it is a link.
_markdown = (
    MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"]).disable("image")
)
_markdown.add_render_rule("link_open", _link_open)
_markdown.add_render_rule("th_open", _cell_open)
_markdown.add_render_rule("td_open", _cell_open)


# Lines of the text that a page shows, which then have 5 characters. They are as slow in one paragraph as in many.
MOST_LINES = 2_000

# Pieces that a text is parsed into: a row of a table with three columns is 11, an item of a list 5. So many take a
# twentieth of a second, and no prose has them.
MOST_PIECES = 5_000


class _TooManyPiecesError(Exception):
    """A text has more than `MOST_PIECES`."""


class _Pieces(list[Token]):
    def append(self, token: Token) -> None:
        if len(self) == MOST_PIECES:
            raise _TooManyPiecesError
        super().append(token)


def _parse_blocks(state: StateCore) -> None:
    state.tokens = _Pieces()
    state.md.block.parse(state.src, state.md, state.env, state.tokens)


_markdown.core.ruler.at("block", _parse_blocks)


# What Markdown could mean something by. Most texts have nothing of it, and need not be parsed.
_MARKUP = re.compile(r"[\\`*_~\[\]<>&|#\r\t]|\n\n|^\s*(?:[-+=]|\d+[.)])|^ {2}| {2}$", re.MULTILINE)

# What the parser compares with all others of its kind. So many are no prose, and 9,900 take a quarter of a second.
_SLOW = re.compile(r"[\[*_]")
MOST_SLOW = 500


@functools.lru_cache(maxsize=2_000)
def markdown(text: str) -> Markup:
    """Return the HTML of a Markdown text, in which nothing can run."""
    if not _MARKUP.search(text) or len(_SLOW.findall(text)) > MOST_SLOW or text.count("\n") > MOST_LINES:
        return _plain(text)
    try:
        html = _markdown.render(text)
    except _TooManyPiecesError:
        return _plain(text)
    html = html.replace("<table>", '<div class="scroll" tabindex="0"><table>').replace("</table>", "</table></div>")
    html = html.replace("<pre>", '<pre tabindex="0">')
    # A heading of a message is none of the page, and only looks like one.
    html = re.sub(r"<h([1-6])>", r'<p class="h\1">', html)
    return Markup(re.sub(r"</h[1-6]>", "</p>", html))  # noqa: S704 (made by a library that escapes)


def _plain(text: str) -> Markup:
    """Return the HTML of a text as it is."""
    return Markup("<p>%s</p>\n") % Markup("<br />\n").join(text.strip().split("\n"))


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


def sum_of_money(amount: float) -> str:
    """Return a sum of money: of one below 1, two digits that say something."""
    digits = 1 - math.floor(math.log10(amount)) if 0 < amount < 1 else 2
    return f"{amount:,.{digits}f}"


def day(time: str) -> str:
    """Return the day of a time."""
    return time[:10]


def clock(time: str) -> str:
    """Return the time of day of a time."""
    return time[11:19]


def marked(snippet: str, hits: Sequence[tuple[int, int]]) -> Markup:
    """Return the snippet of a search with its hits marked, instead of in brackets."""
    html, last = Markup(""), 0
    for start, end in hits:
        html += Markup("{}<mark>{}</mark>").format(snippet[last : start - 1], snippet[start:end])
        last = end + 1
    return html + snippet[last:]
