"""Search in a million messages, and in 10,000 entries of a storage."""

import asyncio
import json
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import pytest
from strands.types.session import SessionMessage

from contenders import OURS
from strands_sqlite_session_manager import SQLiteSessionRepository
from strands_sqlite_session_manager.catalog import SessionCatalog
from strands_sqlite_session_manager.storage import SQLiteStorage

SDK = "the SDK's keyword search"


@pytest.fixture(scope="session")
def sentences() -> Callable[[], str]:
    """Sentences of some 200 characters, with frequent and rare words as in a natural language."""
    source = random.Random(1)
    words = ["".join(source.choices("abcdefghijklmnopqrstuvwxyz", k=source.randint(3, 10))) for _ in range(30_000)]
    pool = source.choices(words, [1 / rank for rank in range(1, len(words) + 1)], k=1_000_000)

    def sentence() -> str:
        start = source.randrange(len(pool) - 30)
        return " ".join(pool[start : start + 30])

    return sentence


@pytest.fixture(scope="session")
def unsearched(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, sentences: Callable[[], str]
) -> Iterator[SessionCatalog]:
    """A million messages in sessions of ten each. Ten of them have a rare word."""
    messages = 100_000 if request.config.option.short else 1_000_000
    path = tmp_path_factory.mktemp("search") / "sessions.db"
    with SQLiteSessionRepository(path) as repository:
        with closing(sqlite3.connect(path)) as connection, connection:
            names = [(f"session-{number}",) for number in range(messages // 10)]
            connection.executemany("INSERT INTO sessions (session_id) VALUES (?)", names)
            connection.executemany("INSERT INTO agents (session_id, agent_id) VALUES (?, 'a')", names)
            connection.executemany(
                "INSERT INTO messages (session_id, agent_id, message_id, message) VALUES (?, 'a', ?, ?)",
                (
                    (
                        f"session-{number // 10}",
                        number % 10,
                        json.dumps({"role": "user", "content": [{"text": sentences() + rare}]}),
                    )
                    for number in range(messages)
                    for rare in [" xylophones" if number % (messages // 10) == 0 else ""]
                ),
            )
        yield SessionCatalog(session_repository=repository)


@pytest.fixture(scope="session")
def first_search(unsearched: SessionCatalog) -> float:
    """Seconds that the first search takes."""
    start = time.perf_counter()
    unsearched.search("xylophone")
    return time.perf_counter() - start


@pytest.fixture
def catalog(unsearched: SessionCatalog, first_search: float) -> SessionCatalog:
    """The same, indexed."""
    return unsearched


@pytest.mark.work("the first search of 1,000,000 messages", (OURS,))
@pytest.mark.goal(30)
def test_first_search(record: Callable[[float], None], first_search: float) -> None:
    record(first_search)


@pytest.mark.work("delete a session of 10 messages beside that index", (OURS,))
@pytest.mark.goal(0.020)
def test_delete_beside_an_index(measure: Callable[..., Any], catalog: SessionCatalog) -> None:
    numbers = iter(range(1, 100_000, 7))

    def session_id() -> tuple[str]:
        return (next(name for number in numbers if catalog.describe(name := f"session-{number}")),)

    measure(catalog.delete_session, arguments=session_id, rounds=50)


@pytest.mark.work("search beside one new message", (OURS,))
@pytest.mark.goal(0.050)
def test_search_after_an_append(measure: Callable[..., Any], catalog: SessionCatalog) -> None:
    numbers = iter(range(time.monotonic_ns(), 2**63))
    repository = SQLiteSessionRepository.on(catalog)

    def append() -> tuple[str]:
        message: Any = {"role": "user", "content": [{"text": "a new message about a xylophone"}]}
        repository.create_message("session-0", "a", SessionMessage(message, next(numbers)))
        return ("xylophone",)

    measure(catalog.search, arguments=append, rounds=50)


@pytest.mark.work("search 1,000,000 messages for a rare word", (OURS,))
@pytest.mark.goal(0.050)
def test_rare_word(measure: Callable[..., Any], catalog: SessionCatalog) -> None:
    assert len(measure(partial(catalog.search, "xylophone"), rounds=100)) >= 10


@pytest.fixture(scope="session")
def storage(tmp_path_factory: pytest.TempPathFactory, sentences: Callable[[], str]) -> Iterator[SQLiteStorage]:
    """10,000 entries of 600 characters, of which ten have a rare word."""
    with SQLiteStorage(tmp_path_factory.mktemp("storage") / "sessions.db") as storage:
        asyncio.run(
            storage.write_many(
                {
                    f"memory/facts/{number}.md": " ".join((*(sentences() for _ in range(3)), rare)).encode()
                    for number in range(10_000)
                    for rare in ["xylophones" if number % 1000 == 0 else ""]
                }
            )
        )
        yield storage


@pytest.mark.work("search 10,000 entries of a storage", (OURS, SDK))
@pytest.mark.goal(1 / 50, times=SDK)
def test_storage(record: Callable[[float], None], contender: str, storage: SQLiteStorage) -> None:
    from strands.storage.search import KeywordSearchStrategy

    async def seconds() -> float:
        search = storage.search if contender == OURS else partial(KeywordSearchStrategy().search, storage)
        await storage.search("xylophones")
        start = time.perf_counter()
        assert len(await search("xylophones")) == 10
        return time.perf_counter() - start

    record(asyncio.run(seconds()))


@pytest.mark.work("index 10,000 entries of a storage", (OURS,))
@pytest.mark.goal(2)
def test_index_storage(record: Callable[[float], None], storage: SQLiteStorage) -> None:
    start = time.perf_counter()
    asyncio.run(storage.reindex())
    record(time.perf_counter() - start)
