"""Many threads, many sessions, many messages."""

import random
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from strands.types.session import SessionAgent, SessionMessage

from conftest import filled
from contenders import OURS, make_repository
from strands_sqlite_session_manager import SQLiteSessionRepository

CONTENT: Any = {"role": "user", "content": [{"text": "A sentence of about forty characters. " * 5}]}
ONE_THREAD = "one thread"
EMPTY_FILE = "an empty file"


@pytest.mark.work("append, of 8 threads", (ONE_THREAD, OURS))
@pytest.mark.goal(1 / 0.9, times=ONE_THREAD)
def test_threads(record: Callable[[float], None], contender: str, short: bool, tmp_path: Path) -> None:
    threads = 1 if contender == ONE_THREAD else 8
    appends = (1_600 if short else 16_000) // threads
    repository = make_repository(OURS, tmp_path)

    def work(thread: int) -> None:
        for number in range(appends):
            repository.create_message("s", f"a{thread}", SessionMessage(CONTENT, number))

    for thread in range(threads):
        repository.create_agent("s", SessionAgent(f"a{thread}", {}, {}))
    with ThreadPoolExecutor(threads) as executor:
        started = time.perf_counter()
        list(executor.map(work, range(threads)))
        record((time.perf_counter() - started) / appends / threads)


@pytest.mark.work("the longest wait of 64 threads that append", (OURS,), unit="s")
@pytest.mark.goal(0.25)
def test_longest_wait(record: Callable[[float], None], short: bool, tmp_path: Path) -> None:
    repository = make_repository(OURS, tmp_path)
    waits: list[float] = []

    def work(thread: int) -> None:
        repository.create_agent("s", SessionAgent(f"a{thread}", {}, {}))
        for number in range(20 if short else 100):
            started = time.perf_counter()
            repository.create_message("s", f"a{thread}", SessionMessage(CONTENT, number))
            waits.append(time.perf_counter() - started)

    with ThreadPoolExecutor(64) as executor:
        list(executor.map(work, range(64)))
    record(max(waits))


@pytest.mark.work("memory while restoring 10,000 messages, of their size", (OURS,), unit="×")
@pytest.mark.goal(1.5)
def test_memory(record: Callable[[float], None], tmp_path: Path) -> None:
    repository = make_repository(OURS, tmp_path)
    for number in range(10_000):
        repository.create_message("s", "a", SessionMessage(CONTENT, number))
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        messages = repository.list_messages("s", "a")
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(messages) == 10_000
    record((peak - before) / (after - before))


@pytest.fixture
def crowded(contender: str, tmp_path: Path, many_sessions: SQLiteSessionRepository) -> Iterator[Any]:
    """A repository that is full for us, and else has one session of 20 messages, `session-0`."""
    if contender == OURS:
        yield many_sessions
        return
    with filled(tmp_path, 1, (("session-0", number) for number in range(20))) as repository:
        yield repository


@pytest.fixture
def picked(contender: str, short: bool) -> Callable[[], str]:
    """Picks a session of the repository."""
    sessions = 1 if contender == EMPTY_FILE else 5_000 if short else 50_000
    return lambda: f"session-{random.randrange(sessions)}"


def append(measure: Callable[..., Any], repository: SQLiteSessionRepository, pick: Callable[[], str]) -> None:
    numbers = iter(range(time.monotonic_ns(), 2**63))
    measure(
        repository.create_message,
        arguments=lambda: (pick(), "a", SessionMessage(CONTENT, next(numbers))),
        rounds=1000,
    )


@pytest.mark.work("append to one session beside 1,000,000 messages", (EMPTY_FILE, OURS))
@pytest.mark.goal(1.3, times=EMPTY_FILE)
def test_append_beside_many(measure: Callable[..., Any], crowded: SQLiteSessionRepository) -> None:
    append(measure, crowded, lambda: "session-0")


@pytest.mark.work("append to any of 50,000 sessions", (EMPTY_FILE, OURS))
@pytest.mark.goal(1.3, times=EMPTY_FILE)
def test_append_anywhere(measure: Callable[..., Any], crowded: SQLiteSessionRepository, picked: Any) -> None:
    append(measure, crowded, picked)


@pytest.mark.work("restore 20 messages beside 1,000,000", (EMPTY_FILE, OURS))
@pytest.mark.goal(1.3, times=EMPTY_FILE)
def test_restore_beside_many(measure: Callable[..., Any], crowded: SQLiteSessionRepository) -> None:
    measure(partial(crowded.list_messages, "session-0", "a", limit=20), rounds=1000)


@pytest.mark.work("restore 20 messages of any of 50,000 sessions", (EMPTY_FILE, OURS))
@pytest.mark.goal(1.3, times=EMPTY_FILE, tolerance=4)
def test_restore_any(measure: Callable[..., Any], crowded: SQLiteSessionRepository, picked: Any) -> None:
    measure(partial(crowded.list_messages, limit=20), arguments=lambda: (picked(), "a"), rounds=1000)
