"""Memories: adding and searching, beside the SDK's `FileMemoryStore`; with vectors; and what is found."""

import asyncio
import random
import sqlite3
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from strands.storage import LocalFileStorage
from strands.vended_memory_stores.file_memory_store import FileMemoryStore

import memory_quality
from contenders import OURS
from memory_quality import BM25, BOTH, COLUMNS, KEYWORDS, MEANING, WORDS
from strands_sqlite_session_manager import SQLiteMemoryStore, SQLiteStorage

LOCAL_FILES, ON_STORAGE = "FileMemoryStore", "FileMemoryStore on SQLiteStorage"
ALL = (LOCAL_FILES, ON_STORAGE, OURS)
DIMENSIONS = 384
TIME = "2026-01-31T12:00:00+00:00"

FactSource = Callable[[], str]


@pytest.fixture(scope="session")
def facts() -> FactSource:
    """Facts of nine words, with frequent and rare ones as in a natural language."""
    source = random.Random(1)
    words = ["".join(source.choices("abcdefghijklmnopqrstuvwxyz", k=source.randint(3, 10))) for _ in range(30_000)]
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    return lambda: " ".join(source.choices(words, weights, k=9))


@pytest.fixture
def run() -> Iterator[Callable[[Any], Any]]:
    """Runs coroutines on one loop, as a server does."""
    with closing(asyncio.new_event_loop()) as loop:
        yield loop.run_until_complete
        loop.run_until_complete(loop.shutdown_default_executor())


def a_store(contender: str, directory: Path) -> Any:
    if contender == OURS:
        return SQLiteMemoryStore("facts", directory / "sessions.db")
    storage: Any = LocalFileStorage(str(directory / "files"))
    if contender == ON_STORAGE:
        storage = SQLiteStorage(directory / "storage.db")
    return FileMemoryStore(name="facts", storage=storage)


@pytest.mark.work("memory: add", ALL)
@pytest.mark.goal(0.0003)
def test_add(measure: Callable[..., Any], run: Any, contender: str, tmp_path: Path, facts: FactSource) -> None:
    store = a_store(contender, tmp_path)
    # The first 50 characters are the name of a file.
    numbers = count()
    measure(lambda fact: run(store.add(fact)), arguments=lambda: (f"{next(numbers)} {facts()}",), rounds=500)


@contextmanager
def filled(directory: Path, number: int, facts: FactSource, scopes: int = 1, vectors: bool = False) -> Iterator[Path]:
    """Memories, which plain SQL inserts, indexed by a first search."""
    path = directory / "sessions.db"
    with SQLiteMemoryStore("facts", path, scope="0") as store:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.executemany(
                "INSERT INTO memories (store, scope, content, created_at, updated_at) VALUES ('facts', ?, ?, ?, ?)",
                ((str(memory % scopes), f"{facts()} {memory}", TIME, TIME) for memory in range(number)),
            )
            if vectors:
                source = random.Random(2)
                pool = [a_vector(source) for _ in range(1000)]
                connection.executemany(
                    "INSERT INTO memory_vectors (memory_id, store, scope, model, dimensions, vector) "
                    "VALUES (?, 'facts', '0', 'default', ?, ?)",
                    ((memory + 1, DIMENSIONS, source.choice(pool)) for memory in range(number)),
                )
        asyncio.run(store.search("anything"))
        yield path


def a_vector(source: random.Random) -> bytes:
    numbers = [source.gauss(0, 1) for _ in range(DIMENSIONS)]
    length = sum(number * number for number in numbers) ** 0.5
    return struct.pack(f"<{DIMENSIONS}f", *(number / length for number in numbers))


def embedder(texts: list[str]) -> list[list[float]]:
    """Costs nothing: what a model takes is not ours."""
    return [[1.0 + (number + len(text)) % 7 for number in range(DIMENSIONS)] for text in texts]


@pytest.fixture(scope="module")
def fewer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, facts: FactSource) -> Any:
    """10,000 memories with vectors."""
    number = 1_000 if request.config.option.short else 10_000
    with filled(tmp_path_factory.mktemp("fewer"), number, facts, vectors=True) as path:
        yield path


@pytest.fixture(scope="module")
def more(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, facts: FactSource) -> Any:
    """100,000 memories with vectors."""
    number = 10_000 if request.config.option.short else 100_000
    with filled(tmp_path_factory.mktemp("more"), number, facts, vectors=True) as path:
        yield path


@pytest.fixture(scope="module")
def of_many(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, facts: FactSource) -> Any:
    """100 memories of each of 1,000 users."""
    number = 10_000 if request.config.option.short else 100_000
    with filled(tmp_path_factory.mktemp("many"), number, facts, scopes=number // 100) as path:
        yield path


def question(facts: FactSource) -> tuple[str]:
    """Four words, of which one or two are frequent."""
    return ("What about " + " ".join(facts().split()[:4]),)


def search(measure: Callable[..., Any], run: Any, path: Path, facts: FactSource, **options: Any) -> None:
    with SQLiteMemoryStore("facts", path, scope="0", **options) as store:
        run(store.search("the vectors are read by the first search of a process"))
        measure(lambda asked: run(store.search(asked)), arguments=lambda: question(facts), rounds=50)


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory, facts: FactSource, request: pytest.FixtureRequest) -> Any:
    """The SDK's store with 10,000 files, on a local disk and on our storage."""
    number = 1_000 if request.config.option.short else 10_000
    directory = tmp_path_factory.mktemp("beside")
    files = {f"memory/facts/{memory}.md": facts().encode() for memory in range(number)}
    for key, data in files.items():
        path = directory / "files" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    with SQLiteStorage(directory / "storage.db") as storage:
        asyncio.run(storage.write_many(files))
        asyncio.run(storage.search("anything"))
        yield directory


@pytest.mark.work("search 10,000 memories by words", ALL)
@pytest.mark.goal(1, times=LOCAL_FILES)
@pytest.mark.goal(0.005)
def test_words(
    measure: Callable[..., Any], run: Any, contender: str, fewer: Path, beside: Path, facts: FactSource
) -> None:
    if contender == OURS:
        search(measure, run, fewer, facts)
        return
    store = a_store(contender, beside)
    measure(lambda asked: run(store.search(asked)), arguments=lambda: question(facts), rounds=5)


@pytest.mark.work("search 100,000 memories by words", (OURS,))
@pytest.mark.goal(0.050)
def test_words_of_more(measure: Callable[..., Any], run: Any, more: Path, facts: FactSource) -> None:
    search(measure, run, more, facts)


@pytest.mark.work("search 100 memories of one of 1,000 users", (OURS,))
@pytest.mark.goal(0.010)
def test_words_of_a_user(measure: Callable[..., Any], run: Any, of_many: Path, facts: FactSource) -> None:
    search(measure, run, of_many, facts)


@pytest.mark.work("search memories after one was added", (OURS,))
@pytest.mark.goal(0.020)
def test_words_after_an_add(measure: Callable[..., Any], run: Any, fewer: Path, facts: FactSource) -> None:
    with SQLiteMemoryStore("facts", fewer, scope="0") as store:

        def add() -> tuple[str]:
            run(store.add(facts()))
            return question(facts)

        measure(lambda asked: run(store.search(asked)), arguments=add, rounds=50)


@pytest.mark.work("search 10,000 vectors, without NumPy", (OURS,))
@pytest.mark.goal(0.100)
def test_vectors_without_numpy(
    measure: Callable[..., Any], run: Any, fewer: Path, facts: FactSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    search(measure, run, fewer, facts, embedder=embedder)


@pytest.mark.work("search 10,000 vectors, with NumPy", (OURS,))
@pytest.mark.goal(0.010)
def test_vectors(measure: Callable[..., Any], run: Any, fewer: Path, facts: FactSource) -> None:
    search(measure, run, fewer, facts, embedder=embedder)


@pytest.mark.work("search 100,000 vectors, with NumPy", (OURS,))
@pytest.mark.goal(0.080)
def test_vectors_of_more(measure: Callable[..., Any], run: Any, more: Path, facts: FactSource) -> None:
    search(measure, run, more, facts, embedder=embedder)


def test_what_is_found() -> None:
    """Ours finds at least as many facts as each of the SDK's, for each language and kind of question."""
    shares = memory_quality.measure()
    for column in COLUMNS:
        assert shares[WORDS][column] >= max(shares[KEYWORDS][column], shares[BM25][column])
        if BOTH in shares:
            assert shares[BOTH][column] >= shares[WORDS][column]
    if BOTH in shares:
        assert sum(shares[BOTH].values()) >= sum(shares[MEANING].values())
