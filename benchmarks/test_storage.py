"""The Strands `Storage` protocol: this package and the SDK's local files."""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from strands.storage import LocalFileStorage

from contenders import OURS
from strands_sqlite_session_manager.storage import SQLiteStorage

LOCAL_FILES = "LocalFileStorage"
BOTH = (LOCAL_FILES, OURS)
THREAD = "a thread that does nothing"


class AThread:
    """What each call costs that does its work in a thread, so that the event loop need not wait for it."""

    async def write(self, key: str, data: bytes) -> None:
        self._data = await asyncio.to_thread(bytes, data)

    async def read(self, key: str) -> bytes:
        return await asyncio.to_thread(bytes, self._data)


@pytest.fixture
def storage(contender: str, tmp_path: Path) -> Any:
    if contender == THREAD:
        return AThread()
    return SQLiteStorage(tmp_path / "sessions.db") if contender == OURS else LocalFileStorage(tmp_path / "files")


@pytest.fixture
def run() -> Iterator[Callable[[Any], Any]]:
    """Runs coroutines on one loop, as a server does."""
    with closing(asyncio.new_event_loop()) as loop:
        yield loop.run_until_complete
        loop.run_until_complete(loop.shutdown_default_executor())


def write(measure: Callable[..., Any], run: Callable[[Any], Any], storage: Any, size: int, rounds: int) -> None:
    data, numbers = os.urandom(size), count()
    measure(lambda key: run(storage.write(key, data)), arguments=lambda: (f"a/{next(numbers) % 50}",), rounds=rounds)


def read(measure: Callable[..., Any], run: Callable[[Any], Any], storage: Any, size: int, rounds: int) -> None:
    run(storage.write("a/b", os.urandom(size)))
    assert len(measure(lambda: run(storage.read("a/b")), rounds=rounds)) == size


@pytest.mark.work("storage: write 10 KB", (LOCAL_FILES, THREAD, OURS))
def test_write_10_kb(measure: Callable[..., Any], run: Any, storage: Any) -> None:
    write(measure, run, storage, 10_000, rounds=500)


@pytest.mark.work("storage: write 1 MB", (LOCAL_FILES, THREAD, OURS))
def test_write_1_mb(measure: Callable[..., Any], run: Any, storage: Any) -> None:
    write(measure, run, storage, 1_000_000, rounds=50)


@pytest.mark.work("storage: read 10 KB", (LOCAL_FILES, THREAD, OURS))
def test_read_10_kb(measure: Callable[..., Any], run: Any, storage: Any) -> None:
    read(measure, run, storage, 10_000, rounds=500)


@pytest.mark.work("storage: read 1 MB", (LOCAL_FILES, THREAD, OURS))
def test_read_1_mb(measure: Callable[..., Any], run: Any, storage: Any) -> None:
    read(measure, run, storage, 1_000_000, rounds=50)


@pytest.fixture(scope="module")
def keys(request: pytest.FixtureRequest) -> list[str]:
    """Keys of which a hundredth begin with `group-7/`."""
    number = 10_000 if request.config.option.short else 100_000
    return [f"group-{number % 100}/{number}" for number in range(number)]


@pytest.fixture(scope="module")
def full_storages(keys: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Storages with these keys, filled by the quickest way."""
    directory = tmp_path_factory.mktemp("keys")
    ours = SQLiteStorage(directory / "sessions.db")
    with closing(sqlite3.connect(directory / "sessions.db")) as connection, connection:
        connection.executemany("INSERT INTO storage (key, data) VALUES (?, x'00')", ((key,) for key in keys))
    for key in keys:
        path = directory / "files" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\0")
    return {OURS: ours, LOCAL_FILES: LocalFileStorage(directory / "files")}


@pytest.mark.work("storage: list 1,000 keys among 100,000", BOTH)
@pytest.mark.goal(1 / 10, times=LOCAL_FILES)
def test_list(
    measure: Callable[..., Any], run: Any, contender: str, full_storages: dict[str, Any], keys: list[str]
) -> None:
    listed = measure(lambda: run(full_storages[contender].list("group-7/")), rounds=10)
    assert len(listed) == len(keys) // 100
