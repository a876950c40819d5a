"""What callers of Strands' own storages rely on, run against theirs and ours."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("strands.storage")

from strands.storage import InMemoryStorage, LocalFileStorage, Storage
from strands.types.exceptions import StorageError

from strands_sqlite_session_manager.storage import SQLiteStorage


class TestContract:
    """Ours beside the SDK's."""

    STORES = ("InMemoryStorage", "LocalFileStorage", "SQLiteStorage", "in memory")

    @pytest.fixture(params=[*STORES, pytest.param("rqlite", marks=pytest.mark.cluster)])
    def storage(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
        if request.param == "InMemoryStorage":
            yield InMemoryStorage()
        elif request.param == "LocalFileStorage":
            yield LocalFileStorage(str(tmp_path / "files"))
        else:
            paths: dict[str, Any] = {"SQLiteStorage": tmp_path / "s.db", "in memory": ":memory:"}
            with SQLiteStorage(paths.get(request.param) or request.getfixturevalue("cluster").url) as storage:
                yield storage

    def test_is_a_storage(self, storage: Any) -> None:
        assert isinstance(storage, Storage)

    @pytest.mark.parametrize("data", [b"", b"text", bytes(range(256)), b"\0" * 200_000], ids=len)
    async def test_bytes_come_back_as_they_were(self, storage: Any, data: bytes) -> None:
        await storage.write("a/b.bin", data)
        assert await storage.read("a/b.bin") == data
        assert type(await storage.read("a/b.bin")) is bytes

    async def test_a_write_replaces_what_was_there(self, storage: Any) -> None:
        for data in (b"first", b"second and longer", b"3"):
            await storage.write("k", data)
            assert await storage.read("k") == data
        assert await storage.list("") == ["k"]

    async def test_what_is_not_there_is_none_and_deleting_it_is_fine(self, storage: Any) -> None:
        assert await storage.read("k") is None
        await storage.delete("k")
        await storage.write("k", b"")
        await storage.delete("k")
        assert await storage.read("k") is None
        assert await storage.list("") == []

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("prefix", "expected"),
        [
            ("", ["B", "a", "a-", "a0", "ab/1", "ab/2", "é", "😀"]),
            ("a", ["a", "a-", "a0", "ab/1", "ab/2"]),
            ("ab/", ["ab/1", "ab/2"]),
            ("/ab//", ["ab/1", "ab/2"]),
            ("ab/2", ["ab/2"]),
            ("b", []),
            ("%", []),
            ("*", []),
        ],
    )
    async def test_lists_are_of_a_prefix_and_in_order(self, storage: Any, prefix: str, expected: list[str]) -> None:
        for key in ("😀", "a0", "ab/2", "B", "é", "a", "ab/1", "a-"):
            await storage.write(key, b"")
        assert await storage.list(prefix) == expected

    async def test_slashes_too_many_make_no_other_key(self, storage: Any) -> None:
        await storage.write("//a///b/", b"x")
        assert await storage.read("a/b") == b"x"
        assert await storage.list("//a//") == ["a/b"]
        await storage.delete("/a/b")
        assert await storage.list("") == []

    @pytest.mark.parametrize("key", ["", "/", "..", "a/../b", "../a", "a/..", "a\\b", "a\0b", "a\ud800b"])
    async def test_bad_keys_are_refused(self, storage: Any, key: str) -> None:
        lenient = isinstance(storage, InMemoryStorage) and key in ("a\0b", "a\ud800b")
        if lenient:
            pytest.skip("the dictionary holds it")
        with pytest.raises(StorageError):
            await storage.write(key, b"x")
        assert await storage.list("") == []

    @pytest.mark.parametrize("prefix", ["..", "a/../", "a\\"])
    async def test_bad_prefixes_are_refused(self, storage: Any, prefix: str) -> None:
        with pytest.raises(StorageError):
            await storage.list(prefix)
        with pytest.raises(StorageError):
            storage.namespace(prefix)

    async def test_a_namespace_sees_its_own_keys_only(self, storage: Any) -> None:
        view = storage.namespace("/a//b/")
        await view.write("c/d", b"1")
        await storage.write("a/bb", b"2")
        assert await storage.list("") == ["a/b/c/d", "a/bb"]
        assert await view.list("") == await view.list("/c") == ["c/d"]
        assert await view.read("a/b/c/d") is None
        assert await view.namespace("c").read("d") == await storage.namespace("a").namespace("b/c").read("d") == b"1"
        assert await view.namespace("").list("") == ["c/d"]
        with pytest.raises(StorageError):
            await view.read("..")
        await view.delete("/c/d/")
        assert await storage.list("") == ["a/bb"]

    async def test_a_search_ranks_by_words_and_keeps_to_its_namespace(self, storage: Any) -> None:
        pytest.importorskip("strands.storage.search")
        await storage.write("other/dark-memory.md", b"mode")
        view = storage.namespace("memory/agent")
        await view.write("theme.md", b"the user wants dark mode")
        await view.write("night.md", b"dark outside")
        await view.write("noise.md", b"\xff\xfe\0")
        found = await view.search("What about the dark mode of memory?")
        assert [result.key for result in found] == ["theme.md", "night.md"]
        assert found[0].score > found[1].score > 0
        assert found[1].data == b"dark outside"
        found = await storage.search("mode")
        assert {result.key for result in found} == {"memory/agent/theme.md", "other/dark-memory.md"}
        assert await view.search("the") == []

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("lego", ["brand"]),
            ("python", ["brand"]),
            ("20", ["degrees"]),
            ("name", ["table"]),
            ("item", ["list"]),
            ("bar", ["arrow"]),
            ("coffee—tea", ["coffee", "tea"]),
            ("“coffee”…", ["coffee"]),
            ("咖啡，茶", ["cha", "kafei"]),
            ("5€+tea", ["tea"]),
        ],
    )
    async def test_symbols_and_punctuation_part_words(self, storage: Any, query: str, expected: list[str]) -> None:
        pytest.importorskip("strands.storage.search")
        items = {
            "brand": "Lego® in Python™",
            "degrees": "it is 20°C",
            "table": "│name│age│",
            "list": "●item one",
            "arrow": "foo↓bar",
            "coffee": "coffee",
            "tea": "tea",
            "kafei": "咖啡",
            "cha": "茶",
        }
        for key, text in items.items():
            await storage.write(key, text.encode())
        assert sorted(result.key for result in await storage.search(query)) == expected

    async def test_data_is_as_it_was_when_written(self, storage: Any) -> None:
        async def change_while_writing() -> None:
            data = bytearray(b"before")
            work = asyncio.ensure_future(storage.write("k", data))
            await asyncio.sleep(0)
            data[:] = b"after!"
            await work

        await change_while_writing()
        assert await storage.read("k") == b"before"
