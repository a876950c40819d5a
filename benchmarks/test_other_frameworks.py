"""The same work as the embedded session stores of other frameworks do it."""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from other_frameworks import ADK, AGNO, LANGGRAPH, OPENAI, OURS, STORES, Store

ALL = (OURS, OPENAI, LANGGRAPH, AGNO, ADK)
TEXT = "A sentence of about forty characters. " * 27
ROLES = ("user", "assistant")
PROCESSES = 8

pytestmark = [pytest.mark.goal(1, times=other) for other in ALL[1:]]


@pytest.fixture
def store(contender: str, tmp_path: Path) -> Iterator[Store]:
    store = STORES[contender](tmp_path / "sessions.db")
    yield store
    store.close()


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Path]:
    """Directories with a file of each contender, made once."""
    made: dict[tuple[str, int], Path] = {}

    def directory(contender: str, messages: int) -> Path:
        key = (contender, messages)
        if key not in made:
            made[key] = tmp_path_factory.mktemp("filled")
            store = STORES[contender](made[key] / "sessions.db")
            for number in range(messages):
                store.append(ROLES[number % 2], f"{number} {TEXT}")
            store.close()
        return made[key]

    return directory


@pytest.fixture
def conversation(contender: str, short: bool, filled: Callable[[str, int], Path]) -> Iterator[Store]:
    """A thousand messages."""
    store = STORES[contender](filled(contender, 100 if short else 1000) / "sessions.db")
    yield store
    store.close()


@pytest.mark.work("append, beside other frameworks", ALL)
def test_append(measure: Callable[..., Any], store: Store) -> None:
    numbers = count()
    measure(store.append, rounds=100, arguments=lambda: (ROLES[next(numbers) % 2], TEXT))


@pytest.mark.work("restore 1,000 messages, beside other frameworks", ALL)
def test_restore(measure: Callable[..., Any], conversation: Store, short: bool) -> None:
    assert measure(conversation.restore, rounds=10) == (100 if short else 1000)


@pytest.mark.work("the last 10 of 1,000 messages, beside other frameworks", ALL)
def test_last(measure: Callable[..., Any], conversation: Store) -> None:
    assert measure(partial(conversation.restore, 10), rounds=20) == 10


@pytest.mark.work("a request: open, restore 20, append 2, beside other frameworks", ALL)
def test_request(measure: Callable[..., Any], contender: str, tmp_path: Path) -> None:
    """Of one of many sessions in a file. As in a handler that opens it and leaves it to the garbage collector."""
    path = tmp_path / "sessions.db"
    names = [f"s{number}" for number in range(40)]
    for name in names:
        store = STORES[contender](path, name)
        for number in range(20):
            store.append(ROLES[number % 2], TEXT)
        store.close()
    chosen = iter(names)

    def request(name: str) -> int:
        store = STORES[contender](path, name)
        restored = store.restore()
        for role in ROLES:
            store.append(role, TEXT)
        return restored

    assert measure(request, rounds=30, arguments=lambda: (next(chosen),)) == 20


@pytest.mark.work("bytes on disk for a message of 1 KB, beside other frameworks", ALL, unit="B")
def test_size(record: Callable[[float], None], contender: str, filled: Callable[[str, int], Path], short: bool) -> None:
    messages = 100 if short else 1000
    record(sum(path.stat().st_size for path in filled(contender, messages).iterdir()) / messages)


def append_many(contender: str, path: Path, name: str, appends: int, start: Any, seconds: Any) -> None:
    store = STORES[contender](path, name)
    store.append(ROLES[0], TEXT)
    start.wait()
    started = time.perf_counter()
    for number in range(1, appends):
        store.append(ROLES[number % 2], TEXT)
    seconds.put(time.perf_counter() - started)
    store.close()


@pytest.mark.work("an append, of eight processes, beside other frameworks", ALL)
def test_processes(record: Callable[[float], None], contender: str, tmp_path: Path, short: bool) -> None:
    """Whoever loses messages, or fails because of a lock, has no figure."""
    appends = 10 if short else 50
    path = tmp_path / "sessions.db"
    store = STORES[contender](path, "first")  # Makes the tables.
    store.append(ROLES[0], TEXT)
    store.close()
    context = multiprocessing.get_context("spawn")
    start, seconds = context.Barrier(PROCESSES, timeout=60), context.Queue()
    processes = [
        context.Process(target=append_many, args=(contender, path, f"s{number}", appends, start, seconds))
        for number in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        return
    for number in range(PROCESSES):
        store = STORES[contender](path, f"s{number}")
        stored = store.restore()
        store.close()
        if stored != appends:
            return
    record(max(seconds.get() for _ in processes) / PROCESSES / (appends - 1))
