"""Searches of the storage."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from search_helpers import bytes_on_disk

from strands_sqlite_session_manager._engine.holder import database_of
from strands_sqlite_session_manager._search import tables
from strands_sqlite_session_manager._search.text import LONGEST_TEXT


class TestStorage:
    @pytest.fixture
    def storage(self, db_path: Path) -> Any:
        pytest.importorskip("strands.storage.search")
        from strands_sqlite_session_manager.storage import SQLiteStorage

        with SQLiteStorage(db_path) as storage:
            yield storage

    @pytest.fixture(params=["index", "scan"])
    def _choose(self, request: pytest.FixtureRequest) -> None:
        if request.param == "scan":
            request.getfixturevalue("without_fts5")

    def run(self, storage: Any, query: str) -> list[str]:
        return [result.key for result in asyncio.run(storage.search(query))]

    def write(self, storage: Any, **items: bytes) -> None:
        asyncio.run(storage.write_many({key.replace("_", "/"): data for key, data in items.items()}))

    @pytest.mark.usefixtures("_choose")
    def test_ranks_keys_and_texts_with_any_of_the_words(self, storage: Any) -> None:
        items = {
            "a/theme.md": b"dark mode",
            "b/dark.md": b"nothing",
            "c": b"bright",
            "d": b"\xff\xfe bright",
            "e/mode": b"\xff",
        }
        asyncio.run(storage.write_many(items))
        results = asyncio.run(storage.search("What about the dark-mode?"))
        assert results[0].key == "a/theme.md"
        assert results[0].data == b"dark mode"
        assert results[0].score >= results[1].score > 0
        assert {result.key for result in results} == {"a/theme.md", "b/dark.md", "e/mode"}
        assert self.run(storage, "md") == self.run(storage, "the what") == self.run(storage, "?!") == []

    @pytest.mark.usefixtures("_choose")
    def test_keeps_to_its_namespace_and_looks_at_no_more_of_the_key_than_it_shows(self, storage: Any) -> None:
        items = {"notes/ada/notes/x": b"1", "notes/ada/y": b"2", "notes/ada/z": b"notes", "notes/bob/w": b"notes"}
        asyncio.run(storage.write_many(items))
        view = storage.namespace("notes/ada")
        assert sorted(self.run(view, "notes")) == ["notes/x", "z"]
        assert sorted(self.run(storage, "notes")) == sorted(items)
        asyncio.run(storage.write("東京/東京", b"-"))
        asyncio.run(storage.write("東京/大阪", b"-"))
        assert self.run(storage.namespace("東京"), "東京") == ["東京"]

    @pytest.mark.usefixtures("_choose")
    def test_finds_what_is_there_now(self, storage: Any) -> None:
        asyncio.run(storage.write("k", "crème 東京都".encode()))
        asyncio.run(storage.write("l", b"other"))
        assert self.run(storage, "creme") == self.run(storage, "京都") == ["k"]
        asyncio.run(storage.write("k", b"changed"))
        asyncio.run(storage.delete("l"))
        asyncio.run(storage.write("m", b"new"))
        assert self.run(storage, "creme other") == []
        assert self.run(storage, "changed") == ["k"]
        assert self.run(storage, "new") == ["m"]

    @pytest.mark.usefixtures("_choose")
    def test_finds_what_is_beside_empty_values_and_bytes_that_are_no_text(self, storage: Any) -> None:
        asyncio.run(storage.write("empty", b""))
        asyncio.run(storage.write("mixed", b"needle\xff\xfetail"))
        asyncio.run(storage.write("needle.png", b"needle tail\0"))
        assert self.run(storage, "empty") == ["empty"]
        assert sorted(self.run(storage, "needle")) == ["mixed", "needle.png"]
        assert self.run(storage, "tail") == ["mixed"]
        if tables.has_fts5(database_of(storage)):
            asyncio.run(storage.reindex())

    @pytest.mark.usefixtures("_choose")
    def test_looks_at_the_start_of_very_long_data(self, storage: Any) -> None:
        hay = b"hay " * (LONGEST_TEXT // 4)
        asyncio.run(storage.write("start", b"needle " + hay))
        asyncio.run(storage.write("end", hay + b"needle"))
        assert self.run(storage, "needle") == ["start"]

    @pytest.mark.file_only
    def test_what_was_deleted_or_changed_is_not_left_in_the_index(
        self, storage: Any, db_path: Path, raw: sqlite3.Connection
    ) -> None:
        items = {"a": b"xylophone", "b": b"zanzibar", "quokka": b"", "d": b"stays"}
        asyncio.run(storage.write_many(items))
        assert self.run(storage, "stays") == ["d"]
        asyncio.run(storage.delete("a"))
        asyncio.run(storage.write("b", b"harmless"))
        asyncio.run(storage.delete_many(["quokka"]))
        assert database_of(storage).truncate_log()
        data = bytes_on_disk(db_path)
        assert not [word for word in (b"xylophon", b"zanzibar", b"quokka") if word in data]
        assert self.run(storage, "stays harmless") == ["b", "d"]

    @pytest.mark.file_only
    def test_can_be_built_anew(self, storage: Any, db_path: Path) -> None:
        asyncio.run(storage.write("k", b"words"))
        assert self.run(storage, "word") == ["k"]
        with closing(sqlite3.connect(db_path)) as connection, connection:
            connection.execute("DELETE FROM search_storage")
        assert self.run(storage, "word") == []
        asyncio.run(storage.reindex())
        assert self.run(storage, "word") == ["k"]

    @pytest.mark.slow
    @settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(query=st.text(max_size=30))
    @pytest.mark.file_only
    def test_no_query_fails(self, storage: Any, query: str) -> None:
        self.run(storage, query)
