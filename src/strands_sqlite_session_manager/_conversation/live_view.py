"""Which messages an agent has now, beside the log of all that were ever appended.

The table `messages` is the log. A conversation manager trims, pins, truncates or summarises what the agent has of it,
and an application edits `agent.messages` as it likes. So the row of an agent has a column `live_view`, a JSON list of

* `[first, last]`: the messages of the log with these ids and those between them, as they are;
* `{"message_id": 7, "message": {…}}`: a message of the log that was changed in memory since it was stored;
* `{"message": {…}}`: one that is not in the log: a summary, or what the application added.

The last item is `[first]`, the messages from there on, also those that are appended later. So `[[0]]` is the view of an
agent that has all its messages, `[[30]]` that behind a sliding window, and neither changes with an append.
"""

import uuid
from collections.abc import Iterable
from typing import Any

from strands.types.content import Message
from strands.types.exceptions import SessionException

from .._codec import decode_any, encode, encode_live

# Not in older SDKs.
_HAS_TRACKING_IDS = "tracking_id" in Message.__annotations__


class LiveView:
    """What is stored of an agent's messages, to be compared with what it has.

    Kept are the messages themselves, to recognise them; copies of their containers, to see that something in them was
    changed; and for each its number and text, as `LiveMessage` has them. The copies share all texts with the messages,
    so that comparing two equal lists is one call that compares mostly addresses.
    """

    def __init__(
        self, messages: Iterable[Message] = (), ids: Iterable[int | None] = (), texts: Iterable[str | None] = ()
    ):
        """Begin with what is stored.

        Args:
            messages: The messages.
            ids: The number of each in the log; None if it is not there.
            texts: The JSON of each in the view; None if it is as it is in the log.

        Raises:
            SessionException: If somebody has put a message into the database that is nested too deeply.
        """
        self._messages: list[Any] = list(messages)
        try:
            self._copies: list[Any] = [_copy_message(message) for message in self._messages]
        except RecursionError as error:
            raise SessionException("a message is nested too deeply; `strands-sqlite check` names it") from error
        self._ids: list[int | None] = list(ids)
        self._texts: list[str | None] = list(texts)

    @property
    def messages(self) -> list[Message]:
        """The messages, in a new list."""
        return [*self._messages]

    @property
    def ids(self) -> list[int | None]:
        """The number of each message in the log; None of one that is not there."""
        return [*self._ids]

    def _append(self, message: Message, message_id: int | None, text: str | None) -> None:
        self._messages.append(message)
        self._copies.append(_copy_message(message))
        self._ids.append(message_id)
        self._texts.append(text)

    def append(self, message: Message, message_id: int) -> None:
        """Note that a message was appended to the log, with this number."""
        self._append(message, message_id, None)

    def is_of(self, messages: list[Message]) -> bool:
        """Tell whether what is stored is what the agent has."""
        return messages == self._copies

    def has_outside_log(self, message: Message) -> bool:
        """Tell whether a message is stored in the view, but not in the log."""
        return None in self._ids and any(
            known is message and message_id is None for known, message_id in zip(self._messages, self._ids, strict=True)
        )

    def ids_of(self, message: Message) -> list[int]:
        """Return the numbers in the log of a message: those of the same object, or with the same tracking id."""
        tracking_id = message.get("tracking_id")
        return [
            message_id
            for known, message_id in zip(self._messages, self._ids, strict=True)
            if message_id is not None
            and (known is message or (tracking_id is not None and known.get("tracking_id") == tracking_id))
        ]

    def tracking_id(self, message_ids: Iterable[int]) -> str | None:
        """Return the tracking id of the first of these messages that has one."""
        wanted = set(message_ids)
        found = zip(self._messages, self._ids, strict=True)
        return next((m["tracking_id"] for m, message_id in found if message_id in wanted and "tracking_id" in m), None)

    def replace(self, message: Message, message_id: int) -> None:
        """Put a message in the place of another, as was done in the log."""
        index = self._ids.index(message_id)
        self._messages[index], self._copies[index] = message, _copy_message(message)
        self._texts[index] = None

    def replace_content(self, message_ids: Iterable[int], content: list[Any]) -> None:
        """Replace the content of messages that have these numbers, as was done in the log."""
        changed = set(message_ids)
        for index, message_id in enumerate(self._ids):
            if message_id in changed:
                self._messages[index]["content"] = content
                # What was changed besides is found by the next comparison, and bytes that were not kept.
                others = {key: item for key, item in self._messages[index].items() if key != "content"}
                attachments: list[bytes] = []
                encode(others, "message", attachments)
                is_as_in_log = self._texts[index] is None and not attachments
                self._copies[index] = _copy_message(self._messages[index]) if is_as_in_log else None
                self._texts[index] = None

    def of(self, messages: list[Message]) -> "LiveView":
        """Return the view of what an agent has now.

        A message is recognised as the same object, by its tracking id, or by its content. A new one is not in the log.

        Raises:
            SessionException: If a message holds something that has no JSON form.
        """
        # Those that are in the log first: a message that was added by hand may have been appended since.
        order = sorted(range(len(self._ids)), key=lambda index: self._ids[index] is None)
        by_object: dict[int, list[int]] = {}
        by_tracking_id: dict[Any, list[int]] = {}
        for index in order:
            message = self._messages[index]
            by_object.setdefault(id(message), []).append(index)
            if message.get("tracking_id") is not None:
                by_tracking_id.setdefault(message["tracking_id"], []).append(index)
        by_content: dict[str, list[int]] | None = None
        view = LiveView()
        for position, message in enumerate(messages):
            text = None
            found = by_object.get(id(message))
            if found is None and isinstance(message, dict):
                found = by_tracking_id.get(message.get("tracking_id"))
            if found is None:
                text = encode_live(message, f"messages[{position}]")
                by_content = self._by_content() if by_content is None else by_content
                found = by_content.get(text)
            if found is None:
                view._append(message, None, text)
                continue
            # The same message may be there several times.
            index = found.pop(0) if len(found) > 1 else found[0]
            if message == self._copies[index]:
                view._append(message, self._ids[index], self._texts[index])
            else:
                view._append(message, self._ids[index], text or encode_live(message, f"messages[{position}]"))
        return view

    def _by_content(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for index, copy in enumerate(self._copies):
            found.setdefault(encode(copy, "message") if copy is not None else "", []).append(index)
        return found

    def to_json(self, last_id: int | None) -> str:
        """Return the column `live_view`.

        Args:
            last_id: Number of the last message in the log; None if it has none.
        """
        following = 0 if last_id is None else last_id + 1
        items: list[str] = []
        first = last = -1
        for message_id, text in zip(self._ids, self._texts, strict=True):
            if text is None and message_id is not None and first >= 0 and message_id == last + 1:
                last = message_id
                continue
            if first >= 0:
                items.append(f"[{first},{last}]")
            first = -1
            if text is not None:
                name = "" if message_id is None else f'"message_id":{message_id},'
                items.append(f'{{{name}"message":{text}}}')
            elif message_id is not None:
                first = last = message_id
        if first >= 0 and last + 1 == following:
            following = first
        elif first >= 0:
            items.append(f"[{first},{last}]")
        return f"[{','.join((*items, f'[{following}]'))}]"


def add_tracking_ids(messages: Iterable[Message], ids: Iterable[int], agent_id: str) -> None:
    """Give messages of the log tracking ids where they were stored without.

    The SDK gives such a message a random one when the agent is called next. These are the same every time.

    Args:
        messages: The messages. They are changed.
        ids: Their numbers in the log.
        agent_id: Id of the agent.
    """
    if not _HAS_TRACKING_IDS:
        return
    prefix = ""
    for message, message_id in zip(messages, ids, strict=True):
        if not message.get("tracking_id"):
            prefix = prefix or str(uuid.uuid5(uuid.NAMESPACE_OID, agent_id))[:24]
            message["tracking_id"] = f"{prefix}{message_id:012x}"


def nearest_offset(items: list[Any], last_id: int, summary: object) -> tuple[int, bool]:
    """Return what comes closest to a live view in the SDK's terms: all messages of the log from one on.

    Args:
        items: The view.
        last_id: Number of the last message in the log; -1 if it has none.
        summary: The message that the SDK puts before them, if the conversation manager has one.

    Returns:
        Number of the first message, and whether this is the view exactly.
    """
    ranges: list[tuple[int, int]] = []
    for item in items:
        if isinstance(item, list):
            ranges.append((item[0], item[1] if len(item) == 2 else last_id))
        elif "message_id" in item:
            ranges.append((item["message_id"], item["message_id"]))

    def difference(first: int) -> int:
        """Count the messages that would be lost, and those that would come in addition."""
        kept = sum(max(0, end - max(start, first) + 1) for start, end in ranges)
        return sum(max(0, end - start + 1) for start, end in ranges) - kept + abs(last_id - first + 1 - kept)

    first = min((start for start, _ in ranges), key=lambda start: (difference(start), -start))
    prepended = [] if summary is None else [{"message": summary}]
    following, others = first, items[len(prepended) :]
    for item in others:
        if not isinstance(item, list) or item[0] != following:
            return first, False
        following = item[-1] + 1
    return first, items[: len(prepended)] == prepended and bool(others)


def parse(text: str, key: tuple[str, str]) -> list[Any]:
    """Return the items of a column `live_view`.

    Args:
        text: The column.
        key: Primary key of the agent, for the error.

    Raises:
        SessionException: If it is damaged.
    """
    # A message has a list and an object around it.
    items = decode_any(text, "agents", key, around=2)
    if isinstance(items, list) and all(map(_is_item, items)) and items and len(items[-1]) == 1:
        return items
    raise SessionException(f"agents {key}: damaged live_view in the database; `repair` gives it up for the log")


def _is_item(item: Any) -> bool:
    if isinstance(item, list):
        return 1 <= len(item) <= 2 and all(type(message_id) is int for message_id in item)
    return (
        isinstance(item, dict)
        and item.keys() <= {"message", "message_id"}
        and type(item.get("message_id", 0)) is int
        and isinstance(item.get("message"), dict)
        and isinstance(item["message"].get("content"), list)
        and "role" in item["message"]
    )


def _copy_message(message: Any) -> Any:
    """Return a copy of a message's dictionaries and lists that shares what is in them."""
    if type(message) is not dict or type(message.get("content")) is not list:
        return _copy_containers(message)
    copy = message.copy()
    # Nearly all blocks are a text, and nearly all messages have nothing else, which makes this twice as fast.
    copy["content"] = [
        block.copy() if type(block) is dict and len(block) == 1 and "text" in block else _copy_containers(block)
        for block in message["content"]
    ]
    if len(message) > 3 or (len(message) == 3 and "tracking_id" not in message):
        for key, item in message.items():
            if key != "content":
                copy[key] = _copy_containers(item)
    return copy


def _copy_containers(value: Any) -> Any:
    kind = type(value)
    if kind is dict:
        copy = value.copy()
        for key, item in value.items():
            if not isinstance(item, (str, bytes, int, float)):
                copy[key] = _copy_containers(item)
        return copy
    if kind is list:
        return [_copy_containers(item) for item in value]
    # What a program may put into a message: they are equal to the plain ones.
    if isinstance(value, dict):
        return {key: _copy_containers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copy_containers(item) for item in value]
    return tuple(_copy_containers(item) for item in value) if isinstance(value, tuple) else value
