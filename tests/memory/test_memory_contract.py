"""What the SDK's `MemoryManager` relies on, run against the SDK's own stores and ours."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("strands.memory", reason="it needs an SDK with memory")

from strands.memory import MemoryEntry, MemoryManager

from helpers import make_agent

OURS = "SQLiteMemoryStore"
WITH_EMBEDDER = "SQLiteMemoryStore with an embedder"


def embedder(texts: list[str]) -> list[list[float]]:
    """Counts letters."""
    return [[1.0 + text.lower().count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts]


@pytest.fixture(
    params=[
        *("TestMemoryStore", "FileMemoryStore", "FileMemoryStore on SQLiteStorage", OURS, WITH_EMBEDDER),
        pytest.param("rqlite", marks=pytest.mark.cluster),
    ]
)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Makes stores of a kind."""
    if request.param == "TestMemoryStore":
        module = pytest.importorskip("strands.vended_memory_stores.test_memory_store")
        yield lambda **options: module.TestMemoryStore(path=str(tmp_path / "memory.json"), **options)
    elif request.param == "FileMemoryStore":
        module = pytest.importorskip("strands.vended_memory_stores.file_memory_store")
        storage = pytest.importorskip("strands.storage").LocalFileStorage(str(tmp_path / "files"))
        yield lambda **options: module.FileMemoryStore(storage=storage, **options)
    elif request.param == "FileMemoryStore on SQLiteStorage":
        module = pytest.importorskip("strands.vended_memory_stores.file_memory_store")
        from strands_sqlite_session_manager import SQLiteStorage

        with SQLiteStorage(tmp_path / "storage.db") as storage:
            yield lambda **options: module.FileMemoryStore(storage=storage, **options)
    else:
        is_cluster, options = request.param == "rqlite", {}
        db_path = request.getfixturevalue("cluster").url if is_cluster else tmp_path / "sessions.db"
        if request.param == WITH_EMBEDDER:
            options["embedder"] = embedder
        from strands_sqlite_session_manager import SQLiteMemoryStore

        opened = []

        def make_ours(**more: Any) -> Any:
            opened.append(SQLiteMemoryStore(db_path=db_path, **options, **more))
            return opened[-1]

        yield make_ours
        for store in opened:
            store.close()


class TestContract:
    async def test_has_the_attributes_of_the_protocol(self, make: Callable[..., Any]) -> None:
        """By the names and with the defaults that the manager reads."""
        store = make(name="notes", description="Notes.", max_search_results=2)
        assert (store.name, store.description, store.max_search_results) == ("notes", "Notes.", 2)
        assert store.writable is True
        assert not store.extraction
        assert make(name="others", writable=False).writable is False
        assert store.get_tools() == []
        await store.initialize()

    async def test_what_was_added_is_found_as_an_entry(self, make: Callable[..., Any]) -> None:
        """With its whole text, by a word of it."""
        store = make(name="notes")
        await store.add("Ada likes green tea")
        await store.add("Bob owns a boat")
        entry, *_ = await store.search("green")
        assert isinstance(entry, MemoryEntry)
        assert entry.content == "Ada likes green tea"

    async def test_no_more_are_found_than_were_asked_for(self, make: Callable[..., Any]) -> None:
        """By the call, else by the store; less than one is refused."""
        store = make(name="notes", max_search_results=2)
        for number in ("one", "two", "three", "four"):
            await store.add(f"tea number {number}")
        assert len(await store.search("tea")) == 2
        assert len(await store.search("tea", {"max_search_results": 3})) == 3
        with pytest.raises(ValueError, match="max_search_results"):
            await store.search("tea", {"max_search_results": 0})

    async def test_a_text_that_is_added_again_is_found_once(self, make: Callable[..., Any]) -> None:
        """Extraction writes at least once."""
        store = make(name="notes")
        for _ in range(3):
            await store.add("Ada likes green tea")
        assert len(await store.search("tea")) == 1

    async def test_an_empty_query_finds_nothing(self, make: Callable[..., Any]) -> None:
        """Not everything."""
        store = make(name="notes")
        await store.add("Ada likes green tea")
        assert await store.search("") == []
        assert await store.search("  ") == []

    async def test_stores_of_other_names_are_apart(self, make: Callable[..., Any], request: Any) -> None:
        """In one file or directory."""
        if "TestMemoryStore" in request.node.name:
            pytest.skip("its path is that of one store")
        one, other = make(name="one"), make(name="other")
        await one.add("Ada likes green tea")
        assert await other.search("tea") == []

    def test_the_manager_adds_finds_and_injects(self, make: Callable[..., Any]) -> None:
        """Through the SDK, on a loop for each call."""
        manager = MemoryManager(stores=[make(name="notes")])
        asyncio.run(manager.add("Ada likes green tea", {"metadata": {"kind": "drink"}}))
        (entry,) = asyncio.run(manager.search("tea"))
        assert (entry.content, entry.store_name) == ("Ada likes green tea", "notes")
        agent = make_agent(None, "Tea.", memory_manager=manager)
        agent("Which tea?")
        assert "Ada likes green tea" in str(agent.model.requests[0])
