"""Single calls of a repository: what an agent's turn is made of."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from strands.types.session import SessionAgent, SessionMessage

from contenders import FILES, FLOOR, FLOOR_ON_OUR_TABLES, OURS, SQLALCHEMY, make_repository
from strands_sqlite_session_manager import SQLiteSessionRepository

ALL = (FLOOR, OURS, FILES, SQLALCHEMY)
TEXT = ({"role": "user", "content": [{"text": "A sentence of about forty characters. " * 27}]},)
TOOL_CALL: Any = (
    {
        "role": "assistant",
        "content": [
            {"text": "I look that up."},
            {
                "toolUse": {
                    "toolUseId": "tooluse_8xKq2Jv1TfuCwQmZ",
                    "name": "search_orders",
                    "input": {"customer": "42", "status": ["open", "late"], "limit": 20, "since": "2026-01-01"},
                }
            },
        ],
        "metadata": {"usage": {"inputTokens": 812, "outputTokens": 64, "totalTokens": 876}},
    },
    {
        "role": "user",
        "content": [
            {
                "toolResult": {
                    "toolUseId": "tooluse_8xKq2Jv1TfuCwQmZ",
                    "status": "success",
                    "content": [{"json": {"orders": [{"id": n, "total": 19.5, "late": True} for n in range(8)]}}],
                }
            }
        ],
    },
)
IMAGE: Any = (
    {"role": "user", "content": [{"image": {"format": "png", "source": {"bytes": bytes(range(250)) * 2000}}}]},
)


@pytest.fixture
def repository(contender: str, tmp_path: Path) -> Iterator[Any]:
    repository = make_repository(contender, tmp_path)
    yield repository
    if hasattr(repository, "close"):
        repository.close()


def endless(contents: Any) -> Iterator[tuple[SessionMessage]]:
    """Messages with one content after another."""
    for number in count():
        yield (SessionMessage(contents[number % len(contents)], number),)


def append(measure: Callable[..., Any], repository: Any, contents: Any, rounds: int) -> None:
    messages = endless(contents)
    measure(partial(repository.create_message, "s", "a"), arguments=lambda: next(messages), rounds=rounds)


def restore(measure: Callable[..., Any], repository: Any, contents: Any, number: int, rounds: int) -> None:
    messages = endless(contents)
    for _ in range(number):
        repository.create_message("s", "a", *next(messages))
    assert len(measure(partial(repository.list_messages, "s", "a"), rounds=rounds)) == number


@pytest.mark.work("append a text of 1 KB", (FLOOR, FLOOR_ON_OUR_TABLES, OURS, FILES, SQLALCHEMY))
@pytest.mark.goal(1.3, times=FLOOR)
@pytest.mark.goal(1 / 3, times=FILES)
def test_append_text(measure: Callable[..., Any], repository: Any) -> None:
    append(measure, repository, TEXT, rounds=1000)


@pytest.mark.work("append a tool call or result", (FLOOR, FLOOR_ON_OUR_TABLES, OURS, FILES, SQLALCHEMY))
@pytest.mark.goal(1.3, times=FLOOR)
@pytest.mark.goal(1 / 3, times=FILES)
def test_append_tool_call(measure: Callable[..., Any], repository: Any) -> None:
    append(measure, repository, TOOL_CALL, rounds=1000)


@pytest.mark.work("append a text of 1 KB, FULL", (FLOOR, OURS))
@pytest.mark.goal(1.2, times=FLOOR)
def test_append_text_safe_from_power_loss(measure: Callable[..., Any], contender: str, tmp_path: Path) -> None:
    append(measure, make_repository(contender, tmp_path, "FULL"), TEXT, rounds=300)


@pytest.mark.work("update an agent of 3 KB", ALL)
@pytest.mark.goal(1.3, times=FLOOR)
@pytest.mark.goal(1 / 3, times=FILES)
def test_update_agent(measure: Callable[..., Any], repository: Any) -> None:
    def agent() -> tuple[SessionAgent]:
        states = {"notes": [f"Note {n}: the customer prefers to be called in the morning." for n in range(35)]}
        return (
            SessionAgent(
                "a",
                {**states, "turn": next(turns)},
                {"__name__": "SlidingWindowConversationManager", "removed_message_count": 12},
                _internal_state={"interrupt_state": {"interrupts": {}, "context": None, "activated": False}},
            ),
        )

    turns = count()
    measure(partial(repository.update_agent, "s"), arguments=agent, rounds=1000)


@pytest.mark.work("restore 1,000 texts", ALL)
@pytest.mark.goal(1.3, times=FLOOR)
@pytest.mark.goal(1 / 10, times=FILES)
def test_restore_texts(measure: Callable[..., Any], repository: Any) -> None:
    restore(measure, repository, TEXT, 1000, rounds=15)


@pytest.mark.work("restore 1,000 tool calls and results", ALL)
@pytest.mark.goal(1.3, times=FLOOR)
@pytest.mark.goal(1 / 10, times=FILES)
def test_restore_tool_calls(measure: Callable[..., Any], repository: Any) -> None:
    restore(measure, repository, TOOL_CALL, 1000, rounds=15)


@pytest.mark.work("append an image of 500 KB", (OURS, FILES, SQLALCHEMY))
@pytest.mark.goal(1 / 2, times=FILES)
def test_append_image(measure: Callable[..., Any], repository: Any) -> None:
    append(measure, repository, IMAGE, rounds=30)


@pytest.mark.work("restore an image of 500 KB", (OURS, FILES, SQLALCHEMY))
@pytest.mark.goal(1 / 2, times=FILES)
def test_restore_image(measure: Callable[..., Any], repository: Any) -> None:
    restore(measure, repository, IMAGE, 1, rounds=30)


@pytest.mark.work("space on disk, of an image's size", (OURS,), unit="×")
@pytest.mark.goal(1.05)
def test_space_for_images(record: Callable[[float], None], repository: Any, tmp_path: Path) -> None:
    messages = endless(IMAGE)
    for _ in range(20):
        repository.create_message("s", "a", *next(messages))
    repository.close()
    record((tmp_path / "sessions.db").stat().st_size / 20 / len(IMAGE[0]["content"][0]["image"]["source"]["bytes"]))


TEN_ALONE = "10 messages alone"


@pytest.mark.work("the last 10 of 1,000 messages", (TEN_ALONE, OURS))
@pytest.mark.goal(3, times=TEN_ALONE)
def test_last_ten(measure: Callable[..., Any], contender: str, tmp_path: Path) -> None:
    number = 10 if contender == TEN_ALONE else 1000
    repository = make_repository(OURS, tmp_path)
    messages = endless(TEXT)
    for _ in range(number):
        repository.create_message("s", "a", *next(messages))
    read = partial(repository.list_messages, "s", "a", offset=number - 10)
    assert len(measure(read, rounds=300)) == 10


@pytest.mark.work("the last 10 of 1,000,000 messages", (OURS,))
@pytest.mark.goal(0.025)
def test_last_ten_of_a_million(
    measure: Callable[..., Any], short: bool, long_conversation: SQLiteSessionRepository
) -> None:
    number = 100_000 if short else 1_000_000
    read = partial(long_conversation.list_messages, "session-0", "a", offset=number - 10)
    assert len(measure(read, rounds=20)) == 10
