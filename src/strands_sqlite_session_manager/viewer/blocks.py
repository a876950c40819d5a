"""Blocks of a message's content, as the templates show them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from .._wording import size
from . import text

# What browsers show, and nothing that can hold a script: an SVG is not among them.
SHOWN_IMAGES = {"png": "image/png", "jpeg": "image/jpeg", "jpg": "image/jpeg", "gif": "image/gif", "webp": "image/webp"}
_MEDIA = ("image", "document", "video", "audio")


@dataclass
class Block:
    """A block of content.

    Attributes:
        kind: "text", "code", "tool", "result", "image", "file", "reasoning", "citations", "error" or "node"; the
            templates have a macro for each.
        title: What it is, or is called.
        body: Its text: HTML for "text" and "citations", else plain.
        cut: How many characters there are, if not all are shown.
        href: Where its bytes are.
        tool_use_id: Id of the tool's call, of "tool" and "result".
        status: "success" or "error", of "result".
        children: Blocks in it: of "result" and "node", and of "tool" that of its result, once it is paired.
        message_id: Number of the message that it is in.
        created_at: When that was created.
        is_anchor: Whether it stands for that message, of which nothing is left elsewhere.
        tags: Short remarks: a format, a size.
        sources: Of "citations", each with a title, a text and a link or None.
    """

    kind: str
    title: str = ""
    body: str | Markup = ""
    cut: int = 0
    href: str | None = None
    tool_use_id: str | None = None
    status: str | None = None
    children: list["Block"] = field(default_factory=list)
    message_id: int | None = None
    created_at: str = ""
    is_anchor: bool = False
    tags: list[str] = field(default_factory=list)
    sources: list[tuple[str, str, str | None]] = field(default_factory=list)


# Makes the address of the bytes of a block from its place in the message: "0", or "0.1" in a tool's result.
Href = Callable[[str], str | None]


def blocks_of(content: Any, href: Href, place: str = "") -> list[Block]:
    """Return the blocks of a message's content, or of a tool's result.

    Args:
        content: The content.
        href: See `Href`.
        place: The place of the tool's result.
    """
    if not isinstance(content, list):
        return [_code("content", content)]
    return [_block(block, href, f"{place}{index}") for index, block in enumerate(content)]


def node_blocks(result: Any) -> list[Block]:
    """Return what a node of a graph or swarm came to.

    Args:
        result: An agent's message, an exception, or the results of a graph or swarm in it, as the SDK stores them.
    """
    if isinstance(result, Mapping):
        message, results = result.get("message"), result.get("results")
        if result.get("type") == "exception":
            block = _code("", message)
            block.kind = "error"
            return [block]
        if isinstance(message, Mapping):
            return blocks_of(message.get("content"), lambda place: None)
        if isinstance(results, Mapping):
            return [
                Block(
                    "node", str(name), children=node_blocks(node.get("result") if isinstance(node, Mapping) else node)
                )
                for name, node in results.items()
            ]
    return [json_block(result)]


def json_block(value: Any) -> Block:
    """Return any value as a block of JSON."""
    return _code("", value)


def _block(block: Any, href: Href, place: str) -> Block:
    if not isinstance(block, Mapping) or len(block) != 1:
        return _code("block", block)
    kind, value = next(iter(block.items()))
    if kind == "text" and isinstance(value, str):
        return _text(value)
    if kind == "json":
        return _code("", value)
    if not isinstance(value, Mapping):
        return _code(str(kind), value)
    make = _MAKERS.get(str(kind))
    if make is not None:
        return make(value)
    if kind == "toolResult":
        return _result(value, href, place)
    if kind in _MEDIA:
        return _media(str(kind), value, href, place)
    return _code(str(kind), value)


def _text(value: str) -> Block:
    shown = text.markdown(value[: text.LONGEST]) if value.strip() else Markup('<p class="quiet">Empty.</p>')
    return Block("text", body=shown, cut=_cut(value))


def _cut(value: str) -> int:
    return len(value) if len(value) > text.LONGEST else 0


def _code(title: str, value: Any) -> Block:
    shown = value if isinstance(value, str) else text.pretty_json(value)
    return Block("code", title, shown[: text.LONGEST], _cut(shown))


def _tool(value: Mapping[str, Any]) -> Block:
    made = _code(str(value.get("name")), value.get("input"))
    made.kind, made.tool_use_id = "tool", str(value.get("toolUseId"))
    made.tags = [text.short_json(value.get("input"))]
    return made


def _result(value: Mapping[str, Any], href: Href, place: str) -> Block:
    return Block(
        "result",
        tool_use_id=str(value.get("toolUseId")),
        status=str(value.get("status", "success")),
        children=blocks_of(value.get("content"), href, f"{place}."),
    )


def _reasoning(value: Mapping[str, Any]) -> Block:
    reasoning = value.get("reasoningText")
    if isinstance(reasoning, Mapping) and isinstance(reasoning.get("text"), str):
        shown = reasoning["text"]
        return Block("reasoning", body=text.markdown(shown[: text.LONGEST]), cut=_cut(shown))
    return Block("reasoning", body=Markup("<p>The provider keeps it secret.</p>"))


def _citations(value: Mapping[str, Any]) -> Block:
    parts, citations = (
        [item for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []
        for found in map(value.get, ("content", "citations"))
    )
    shown = "".join(str(part.get("text", "")) for part in parts)
    return Block(
        "citations",
        body=text.markdown(shown[: text.LONGEST]),
        cut=_cut(shown),
        sources=[_source(citation) for citation in citations],
    )


def _source(citation: Mapping[str, Any]) -> tuple[str, str, str | None]:
    sources = citation.get("sourceContent")
    sources = sources if isinstance(sources, list) else []
    quoted = " ".join(str(source.get("text", "")) for source in sources if isinstance(source, Mapping))
    location = citation.get("location")
    location = location if isinstance(location, Mapping) else {}
    web = location.get("web")
    url = web.get("url") if isinstance(web, Mapping) else location.get("url")
    is_link = isinstance(url, str) and url.startswith(("https://", "http://"))
    return str(citation.get("title") or url or "Source"), quoted or text.short_json(location), url if is_link else None


def _media(kind: str, value: Mapping[str, Any], href: Href, place: str) -> Block:
    source = value.get("source")
    source = source if isinstance(source, Mapping) else {}
    file_format = str(value.get("format", ""))
    name = value.get("name")
    made = Block("file", str(name) if name else kind, tags=[kind, file_format])
    if isinstance(source.get("bytes"), bytes):
        made.tags.append(size(len(source["bytes"])))
        made.href = href(place)
        if kind == "image" and file_format.lower() in SHOWN_IMAGES and made.href:
            made.kind = "image"
    elif isinstance(source.get("text"), str) or isinstance(source.get("content"), list):
        content = source.get("text", source.get("content"))
        # `find_bytes` leads into results of tools, not into documents.
        made.children = blocks_of(content, lambda _: None) if isinstance(content, list) else [_code("", content)]
    else:
        made.tags.append(text.short_json(source))
    return made


_MAKERS: dict[str, Callable[[Mapping[str, Any]], Block]] = {
    "toolUse": _tool,
    "reasoningContent": _reasoning,
    "citationsContent": _citations,
}


def find_bytes(content: Any, place: str) -> tuple[str, Mapping[str, Any], bytes] | None:
    """Return the bytes of a block.

    Args:
        content: Content of the message.
        place: What `Href` was given.

    Returns:
        What the block is ("image", …), the block, and its bytes; None if there are none.
    """
    block: Any = None
    for step in place.split("."):
        if not step.isdecimal() or not isinstance(content, list) or int(step) >= len(content):
            return None
        block = content[int(step)]
        result = block.get("toolResult") if isinstance(block, Mapping) else None
        content = result.get("content") if isinstance(result, Mapping) else None
    for kind in _MEDIA:
        value = block.get(kind) if isinstance(block, Mapping) else None
        source = value.get("source") if isinstance(value, Mapping) else None
        if isinstance(value, Mapping) and isinstance(source, Mapping) and isinstance(source.get("bytes"), bytes):
            return kind, value, source["bytes"]
    return None
