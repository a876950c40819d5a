"""A piece of a conversation: its messages with their tools' results, and what the agent has of them now."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from .._catalog.records import AgentDescription, HistoryMessage
from .blocks import Block, blocks_of

# Makes the address of bytes from the number of a message and the place in it.
HrefInMessage = Callable[[int, str], str]


@dataclass
class Shown:
    """A message on a page.

    Attributes:
        message_id: Its number; None if it is not in the log, but only in what the agent has now.
        role: "user", "assistant", or "summary" for one that is not in the log.
        created_at: When it was created.
        blocks: Its content.
        is_redacted: Whether its content replaces another.
        damage: What is wrong with it.
        is_live: Whether the agent has it now.
        edited: What the agent has in its place, if that differs.
        found: The part of a longer text that a search has found, and where the hits are in it.
        remarks: Tokens and time that it took.
        place: Names one that is not in the log: the message that it precedes, and which of those that precede it.
    """

    message_id: int | None
    role: str
    created_at: str = ""
    blocks: list[Block] = field(default_factory=list)
    is_redacted: bool = False
    damage: str | None = None
    is_live: bool = True
    edited: list[Block] | None = None
    found: tuple[str, tuple[tuple[int, int], ...]] | None = None
    remarks: list[str] = field(default_factory=list)
    place: str = ""


class LiveMessages:
    """Which messages of the log an agent has now."""

    def __init__(self, agent: AgentDescription):
        """Look at an agent."""
        self._ranges: list[tuple[int, int]] = []
        self._edited: dict[int, Any] = {}
        # What is not in the log, by the number of the message that it comes before.
        self.inserted: dict[int, list[Any]] = {}
        waiting: list[Any] = []
        for item in agent.live_view:
            if isinstance(item, dict) and "message_id" not in item:
                waiting.append(item["message"])
                continue
            first = item[0] if isinstance(item, list) else item["message_id"]
            if waiting:
                self.inserted.setdefault(first, []).extend(waiting)
                waiting = []
            if isinstance(item, list):
                self._ranges.append((first, item[1] if len(item) == 2 else 2**63))
            else:
                self._edited[first] = item["message"]

    def has(self, message_id: int) -> bool:
        """Tell whether the agent has a message, as it is in the log or edited."""
        return message_id in self._edited or any(first <= message_id <= last for first, last in self._ranges)

    def edited(self, message_id: int) -> Any:
        """Return what the agent has in the place of a message; None if that is the message, or nothing."""
        return self._edited.get(message_id)

    def count(self, last_message_id: int | None) -> int:
        """Return how many messages the agent has, if none is missing in the log."""
        end = -1 if last_message_id is None else last_message_id
        return (
            sum(max(0, min(last, end) - first + 1) for first, last in self._ranges)
            + len(self._edited)
            + sum(map(len, self.inserted.values()))
        )


def shown_messages(
    messages: Iterable[HistoryMessage], live: LiveMessages, href: HrefInMessage, is_end: bool
) -> list[Shown]:
    """Return messages as a page shows them, each tool's result with its call.

    Args:
        messages: The messages, the oldest first.
        live: What the agent has now.
        href: See `HrefInMessage`.
        is_end: Whether the last one is the last of the conversation.
    """
    shown = (_shown(message, live, href) for message in messages)
    return list(_paired(_with_inserted(shown, live, is_end)))


def _shown(message: HistoryMessage, live: LiveMessages, href: HrefInMessage) -> Shown:
    number = message.message_id
    if message.damage:
        return Shown(number, "damaged", message.created_at, damage=message.damage, is_live=live.has(number))

    edited = live.edited(number)
    made = Shown(
        number,
        str(message.message["role"]),
        message.created_at,
        blocks_of(message.message["content"], lambda place: href(number, place)),
        message.is_redacted,
        is_live=live.has(number),
        edited=None if edited is None else blocks_of(edited["content"], _nowhere),
        remarks=_remarks(message.message.get("metadata")),
    )
    for block in made.blocks:
        block.message_id, block.created_at = number, message.created_at
    return made


def _nowhere(_: str) -> None:
    """Return the address of bytes of a message that is not in the log: there is none."""


def _remarks(metadata: Any) -> list[str]:
    metadata = metadata if isinstance(metadata, dict) else {}
    usage, metrics = (found if isinstance(found, dict) else {} for found in map(metadata.get, ("usage", "metrics")))
    remarks = [
        f"{usage[name]:,} {what}"
        for name, what in (
            ("inputTokens", "tokens in"),
            ("outputTokens", "out"),
            ("cacheReadInputTokens", "from the cache"),
        )
        if isinstance(usage.get(name), int) and usage[name]
    ]
    time = metrics.get("latencyMs")
    # Larger ones are no milliseconds, and nothing can be reckoned with them.
    if isinstance(time, (int, float)) and abs(time) < 2**63:
        remarks.append(f"{time / 1000:.1f} s")
    return remarks


def _with_inserted(shown: Iterable[Shown], live: LiveMessages, is_end: bool) -> Iterator[Shown]:
    """Put in what is not in the log: before the message that it precedes, or at the end."""
    waiting = dict(sorted(live.inserted.items()))
    is_first = True
    for message in shown:
        number = message.message_id or 0
        for before in [before for before in waiting if before <= number]:
            found = waiting.pop(before)
            # What precedes an earlier message is on an earlier page.
            if before == number or not is_first or number == 0:
                yield from _summaries(before, found)
        yield message
        is_first = False
    if is_end:
        for before, found in waiting.items():
            yield from _summaries(before, found)


def _summaries(before: int, messages: list[Any]) -> Iterator[Shown]:
    for index, message in enumerate(messages):
        yield Shown(
            None, "summary", blocks=blocks_of(message.get("content", message), _nowhere), place=f"{before}-{index}"
        )


def _paired(shown: Iterable[Shown]) -> Iterator[Shown]:
    """Fold results of tools under their calls, and leave out messages of which nothing is left."""
    open_calls: dict[str | None, list[Block]] = {}
    for message in shown:
        kept: list[Block] = []
        folded: list[Block] = []
        for block in message.blocks:
            calls = open_calls.setdefault(block.tool_use_id, [])
            if block.kind == "result" and calls:
                call = calls.pop(0)
                call.children, call.status = [block], block.status
                folded.append(block)
                # One that was changed since stays in its place too, where it is marked.
                if not message.is_redacted and message.edited is None:
                    continue
            kept.append(block)
            if block.kind == "tool":
                # Only those of one message wait together: what an earlier one called has no result.
                if calls and calls[0].message_id != block.message_id:
                    calls.clear()
                calls.append(block)
        if kept or not message.blocks:
            message.blocks = kept
            yield message
        else:
            # A link to the message leads there.
            folded[0].is_anchor = True
