"""Searches of a file that cannot be written: the index as it is, and beside it what is not in it."""

import asyncio
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from search_helpers import add, add_session, ids

from strands_sqlite_session_manager import SQLiteSessionRepository
from strands_sqlite_session_manager._engine.file import FileDatabase
from strands_sqlite_session_manager._search import tables
from strands_sqlite_session_manager.catalog import SessionCatalog


@pytest.fixture
def reader(repository: SQLiteSessionRepository, db_path: Path) -> Iterator[SessionCatalog]:
    """A catalog that may not write."""
    with SessionCatalog(db_path, read_only=True) as reader:
        yield reader


def test_finds_what_is_new_by_its_stem_and_without_accents(
    repository: SQLiteSessionRepository, catalog: SessionCatalog, reader: SessionCatalog
) -> None:
    add(repository, "he was refunded", "nothing")
    assert ids(catalog.search("refund")) == [0]
    add(repository, "refunds for Zoë", "dark-mode 東京都", first=2)
    assert ids(reader.search("refunding")) == [0, 2]
    assert ids(reader.search("zoe refund")) == [2]
    assert ids(reader.search("dark-mode")) == ids(reader.search("東京")) == [3]
    assert ids(reader.search("refund", limit=1)) in ([0], [2])
    (found,) = reader.search("zoe")
    assert found.snippet == "refunds for [Zoë]"


def test_finds_a_changed_text_as_it_is_now_and_a_deleted_one_not_at_all(
    repository: SQLiteSessionRepository, catalog: SessionCatalog, reader: SessionCatalog, raw: sqlite3.Connection
) -> None:
    add(repository, "secret one", "secret two", "secret three")
    catalog.search("secret")
    raw.execute("DELETE FROM messages WHERE message_id = 2")
    raw.execute("UPDATE messages SET redact_message = replace(message, 'secret', 'blank') WHERE message_id = 1")
    assert ids(reader.search("secret")) == [0]
    assert ids(reader.search("blank")) == [1]


def test_needs_no_index(repository: SQLiteSessionRepository, reader: SessionCatalog) -> None:
    add(repository, *(f"refunds {number}" for number in range(1200)))
    add_session(repository, "other", "refunded")
    assert ids(reader.search("refund", session_id="s", limit=2000)) == list(range(1200))
    assert [hit.session_id for hit in reader.search("refund", session_id="other")] == ["other"]


def test_reads_only_what_is_not_in_the_index(
    repository: SQLiteSessionRepository,
    catalog: SessionCatalog,
    reader: SessionCatalog,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    add(repository, *(f"blue {number}" for number in range(100)))
    catalog.search("blue")
    add(repository, "blue", first=100)
    rows = []
    query = FileDatabase.query

    def counted(database: FileDatabase, sql: str, parameters: object = ()) -> list[tuple[object, ...]]:
        found = query(database, sql, parameters)  # type: ignore[arg-type]
        rows.append(len(found))
        return found

    monkeypatch.setattr(FileDatabase, "query", counted)
    caplog.set_level(logging.INFO)
    assert ids(reader.search("blue 5")) == [5]
    assert sum(rows) < 20
    assert caplog.text == ""


def test_ranks_what_is_new_among_the_rest(
    repository: SQLiteSessionRepository, catalog: SessionCatalog, reader: SessionCatalog
) -> None:
    """By the numbers of all messages: in the few new ones, a word that is rare elsewhere would count for nothing."""
    add(repository, *("green " * 20 for _ in range(50)), "green blue " + "red " * 40)
    catalog.search("blue")
    add(repository, "blue", first=51)
    assert [hit.message_id for hit in reader.search("blue")] == [51, 50]


def test_a_broken_index_is_left_to_others(
    repository: SQLiteSessionRepository, catalog: SessionCatalog, reader: SessionCatalog, raw: sqlite3.Connection
) -> None:
    add(repository, "blue", "green")
    catalog.search("blue")
    raw.execute("DELETE FROM search_messages_config")
    raw.execute("DELETE FROM search_messages_data")
    assert ids(reader.search("blue")) == [0]
    assert raw.execute("SELECT count(*) FROM search_state").fetchone() == (1,)
    assert ids(catalog.search("blue")) == [0]


def test_a_row_that_is_indexed_between_the_two_searches_is_found_once(
    repository: SQLiteSessionRepository,
    catalog: SessionCatalog,
    reader: SessionCatalog,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add(repository, "blue")
    catalog.search("blue")
    add(repository, "blue", first=1)
    query = FileDatabase.query

    def index_first(database: FileDatabase, sql: str, parameters: object = ()) -> list[tuple[object, ...]]:
        if "highlight(search_messages" in sql and database.read_only:
            catalog.search("blue")
        return query(database, sql, parameters)  # type: ignore[arg-type]

    monkeypatch.setattr(FileDatabase, "query", index_first)
    assert [hit.message_id for hit in reader.search("blue")].count(1) == 1
    assert ids(reader.search("blue")) == [0, 1]


@pytest.mark.file_only
def test_storage_too_while_somebody_holds_the_lock(db_path: Path) -> None:
    pytest.importorskip("strands.storage.search")
    from strands_sqlite_session_manager.storage import SQLiteStorage

    async def found(storage: SQLiteStorage, query: str) -> list[str]:
        return sorted(result.key for result in await storage.search(query))

    async def search() -> None:
        with SQLiteStorage(db_path) as storage, SQLiteStorage(db_path, busy_timeout=0.05) as reader:
            await storage.write("facts/tea.md", b"Ada drinks green tea")
            assert await found(storage, "drinking") == ["facts/tea.md"]
            await storage.write("facts/coffee.md", b"Bob drank coffee and drinks milk")
            with closing(sqlite3.connect(db_path, isolation_level=None)) as writer:
                writer.execute("BEGIN IMMEDIATE")
                assert await found(reader, "drinking") == ["facts/coffee.md", "facts/tea.md"]
                assert await found(reader.namespace("facts"), "coffee") == ["coffee.md"]
                assert await found(reader.namespace("facts"), "facts") == []

    asyncio.run(search())


@pytest.mark.usefixtures("without_fts5")
def test_without_fts5_words_are_found_as_they_are(repository: SQLiteSessionRepository, reader: SessionCatalog) -> None:
    add(repository, "refunds", "refunded")
    assert not tables.has_fts5(None)  # type: ignore[arg-type]
    assert ids(reader.search("refund")) == [0, 1]
    assert ids(reader.search("refunds")) == [0]
