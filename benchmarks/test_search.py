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
def catalog(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, sentences: Callable[[], str]
) -> Iterator[SessionCatalog]:
    """A million messages, of which ten have a rare word. The first search has indexed them."""
    messages = 100_000 if request.config.option.short else 1_000_000
    path = tmp_path_factory.mktemp("search") / "sessions.db"
    with SQLiteSessionRepository(path) as repository:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("INSERT INTO sessions (session_id) VALUES ('s')")
            connection.execute("INSERT INTO agents (session_id, agent_id) VALUES ('s', 'a')")
            connection.executemany(
                "INSERT INTO messages (session_id, agent_id, message_id, message) VALUES ('s', 'a', ?, ?)",
                (
                    (number, json.dumps({"role": "user", "content": [{"text": sentences() + rare}]}))
                    for number in range(messages)
                    for rare in [" xylophones" if number % (messages // 10) == 0 else ""]
                ),
            )
        catalog = SessionCatalog(session_repository=repository)
        catalog.search("xylophone")
        yield catalog


@pytest.mark.work("search 1,000,000 messages for a rare word", (OURS,))
@pytest.mark.goal(0.050)
def test_rare_word(measure: Callable[..., Any], catalog: SessionCatalog) -> None:
    assert len(measure(partial(catalog.search, "xylophone"), rounds=100)) == 10


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
