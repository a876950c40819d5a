"""One log of messages from several snapshots of a conversation."""

import difflib
from typing import Any

from strands.types.content import Message


class MergedLog:
    """All messages that snapshots of an agent tell of, in the order in which they were said.

    A message is recognised by its tracking id, or by its content where the SDK gave it none. What comes behind all that
    is known was said since. What comes before, and is not known, was put there: a summary, say. So was a message
    without a tracking id among others that have one, because the SDK gives one to all that is said.

    Attributes:
        messages: The messages.
        times: When the first snapshot was taken that has each.
    """

    def __init__(self) -> None:
        """Begin without any."""
        self.messages: list[Message] = []
        self.times: list[str] = []
        self._by_identity: dict[str, list[int]] = {}
        # Of the snapshot before: what tells its messages from others, and where each is in the log.
        self._identities: list[str] = []
        self._places: list[int | None] = []

    def add(self, messages: list[Any], summary: Any, time: str) -> None:
        """Take the messages of the next snapshot.

        Args:
            messages: The messages.
            summary: The message that the conversation manager has put before them, if it has.
            time: When it was taken.
        """
        identities = [_identity(message) for message in messages]
        places: list[int | None] = [None] * len(messages)
        matcher = difflib.SequenceMatcher(None, self._identities, identities, autojunk=False)
        for start, other_start, size in matcher.get_matching_blocks():
            places[other_start : other_start + size] = self._places[start : start + size]
        used = {place for place in places if place is not None}
        # An older snapshot may have been restored, so that messages are back that the one before did not have.
        for index, identity in enumerate(identities):
            if places[index] is None:
                free = [place for place in self._by_identity.get(identity, ()) if place not in used]
                places[index] = free[0] if free else None
                used.update(free[:1])
        is_summary = bool(messages) and messages[0] == summary
        known = [index for index, place in enumerate(places) if place is not None]
        first_new = known[-1] + 1 if known else int(is_summary)
        has_ids = any("tracking_id" in message for message in messages)
        for index in range(first_new, len(messages)):
            if has_ids and "tracking_id" not in messages[index]:
                continue
            places[index] = len(self.messages)
            self._by_identity.setdefault(identities[index], []).append(len(self.messages))
            self.messages.append(messages[index])
            self.times.append(time)
        self._identities, self._places = identities, places


def _identity(message: Any) -> str:
    tracking_id = message.get("tracking_id")
    return tracking_id if isinstance(tracking_id, str) else repr(message)
