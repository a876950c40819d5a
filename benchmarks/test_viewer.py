"""Pages of the viewer on large files, and how soon they follow."""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from contenders import OURS
from strands_sqlite_session_manager import SQLiteSessionRepository
from strands_sqlite_session_manager._engine.holder import database_of
from strands_sqlite_session_manager.viewer import create_app
from strands_sqlite_session_manager.viewer.text import markdown

sys.path += [str(Path(__file__).parents[1] / "tests" / room) for room in (".", "viewer")]

from viewer_helpers import add_conversation, events, serving

from helpers import text_message

# Texts that parsers take long for.
HOSTILE = [(part * 9_900)[:9_900] for part in ("[", "![", "*_", "**a*", "a[a](b", "#\n", "- a\n", "- a b c\n")]
HOSTILE += [(("|a" * 100 + "\n" + "|-" * 100 + "\n") + row * 9_900)[:9_900] for row in ("x\n", "row 1\n")]

ANSWER = """Here is **what** I found for `order {0}`:

1. It left the depot on Monday.
2. It was delivered to a neighbour.

Is that [fine](https://example.com)?"""
RICH = """## Order {0}

Here is **what** I found for `order {0}`, with *all* of its [documents](https://example.com/{0}):

| When | Where | What |
|---|---|---|
| Mon 18:02 | Leipzig | sorted |
| Tue 06:40 | Hanover | out for delivery |
| Tue 11:15 | Hanover | **delivered** to `neighbour` |

1. It left the depot on *Monday*.
2. It was delivered to a neighbour:
   - Ms. Smith, **no. 12**
   - second floor

> The recipient was not at home.

```python
def parcel(number: int) -> str:
    return "JD-0" + str(number)
```

Is that [fine](https://example.com)? See also ~~the old label~~ <https://example.com/help>."""


def opened(repository: SQLiteSessionRepository) -> Iterator[TestClient]:
    with TestClient(create_app(database_of(repository).path)) as client:
        yield client


@pytest.fixture
def sessions(many_sessions: SQLiteSessionRepository) -> Iterator[TestClient]:
    yield from opened(many_sessions)


@pytest.fixture
def conversation(long_conversation: SQLiteSessionRepository) -> Iterator[TestClient]:
    """Beside the long conversation are two of 200 messages, half of them in Markdown."""
    for name, answer in (("markdown", ANSWER), ("rich", RICH)):
        if long_conversation.read_session(name) is not None:
            continue
        long_conversation.create_session(Session(name, SessionType.AGENT))
        long_conversation.create_agent(name, SessionAgent("a", {}, {}))
        for number in range(200):
            text = answer.format(number) if number % 2 else f"Hello, where is my parcel {number}, please?"
            message: Any = {"role": "assistant" if number % 2 else "user", "content": [{"text": text}]}
            long_conversation.create_message(name, "a", SessionMessage(message, number))
    yield from opened(long_conversation)


def get(client: TestClient, path: str) -> str:
    markdown.cache_clear()
    response = client.get(path)
    assert response.status_code == 200
    return response.text


@pytest.mark.work("a page of 50 of 100,000 sessions", (OURS,))
@pytest.mark.goal(0.050)
def test_sessions(measure: Callable[..., Any], sessions: TestClient) -> None:
    assert measure(partial(get, sessions, "/"), rounds=100).count("<tr>") == 51


@pytest.mark.work("a page of 200 of 1,000,000 messages", (OURS,))
@pytest.mark.goal(0.050)
def test_end_of_a_conversation(measure: Callable[..., Any], conversation: TestClient) -> None:
    page = partial(get, conversation, "/session?id=session-0&limit=200")
    assert measure(page, rounds=100).count("<article") == 200


@pytest.mark.work("a page of 200 messages in its middle", (OURS,))
@pytest.mark.goal(0.050)
def test_middle_of_a_conversation(measure: Callable[..., Any], conversation: TestClient) -> None:
    page = partial(get, conversation, "/session?id=session-0&limit=200&at=50000")
    assert measure(page, rounds=100).count("<article") == 200


@pytest.mark.work("a page of 200 messages in Markdown", (OURS,))
@pytest.mark.goal(0.050)
def test_markdown(measure: Callable[..., Any], conversation: TestClient) -> None:
    page = partial(get, conversation, "/session?id=markdown&limit=200")
    assert measure(page, rounds=100).count("<article") == 200


# The parser takes a millisecond for each, and no part of it stands out. A faster path for plain lines in it saved a
# tenth, another parser a sixth. What was shown once is in a cache, and the page takes 20 to 30 ms then.
@pytest.mark.work("a page of 200 messages in rich Markdown", (OURS,))
@pytest.mark.goal(0.150)
def test_rich_markdown(measure: Callable[..., Any], conversation: TestClient) -> None:
    """With tables, lists and code in half of them, none of which was shown before."""
    page = partial(get, conversation, "/session?id=rich&limit=200")
    assert measure(page, rounds=100).count("<table>") == 100


@pytest.mark.work("10 texts in hostile Markdown", (OURS,))
@pytest.mark.goal(0.200)
def test_hostile_markdown(measure: Callable[..., Any]) -> None:
    def render() -> int:
        markdown.cache_clear()
        return sum(markdown(text).count("<") for text in HOSTILE)

    assert measure(render, rounds=10) > 0


@pytest.mark.work("a message to be told to who follows", (OURS,))
@pytest.mark.goal(1.0)
def test_follow(measure: Callable[..., Any], tmp_path: Path) -> None:
    add_conversation(tmp_path / "sessions.db", "s", "one")
    with (
        serving(create_app(tmp_path / "sessions.db")) as host,
        SQLiteSessionRepository(tmp_path / "sessions.db") as repository,
    ):
        told = events(host, session="s", agent="default")
        seen = {next(told)}

        def append() -> None:
            repository.create_message("s", "default", text_message(len(seen)))
            seen.add(next(told))

        measure(append, rounds=20)
        told.close()
        assert len(seen) == len(repository.list_messages("s", "default"))
