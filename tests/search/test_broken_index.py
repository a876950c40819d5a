"""An index that is broken, or that SQLite or the file does not allow."""

import json
import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from search_helpers import add, bytes_on_disk, epoch, ids, redacted
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import SQLiteSessionRepository
from strands_sqlite_session_manager._engine.holder import database_of
from strands_sqlite_session_manager._search import erasing, sources, tables
from strands_sqlite_session_manager.catalog import SessionCatalog

# Rows that are damaged by hand.
pytestmark = pytest.mark.file_only

FTS_PARTS = ("data", "idx", "text", "docsize", "config")


class TestABrokenIndex:
    BREAKS = (
        *(f"DROP TABLE search_messages_{part}" for part in FTS_PARTS),
        *(f"DELETE FROM search_messages_{part}" for part in ("data", "text", "docsize", "config")),
        "UPDATE search_messages_docsize SET sz = x'ff00ff'",
        "UPDATE search_messages_data SET block = CAST(hex(block) AS BLOB) WHERE id > 10",
        "DROP TABLE search_messages",
        "DELETE FROM search_state",
    )

    @pytest.mark.slow
    @pytest.mark.parametrize("breaking", BREAKS)
    def test_is_built_anew(
        self,
        catalog: SessionCatalog,
        repository: SQLiteSessionRepository,
        raw: sqlite3.Connection,
        db_path: Path,
        breaking: str,
    ) -> None:
        add(repository, *(f"blue word{number}" for number in range(50)))
        assert len(catalog.search("blue", limit=100)) == 50
        raw.execute(breaking)
        with SessionCatalog(db_path, busy_timeout=4) as other:  # with connections that have not seen it whole
            assert len(other.search("blue", limit=100)) == 50
        assert ids(catalog.search("word49")) == [49]
        add(repository, "blue", first=50)
        assert len(catalog.search("blue", limit=100)) == 51
        with closing(sqlite3.connect(db_path)) as fresh, fresh:
            fresh.execute("INSERT INTO search_messages (search_messages) VALUES ('integrity-check')")

    # Without its content FTS5 cannot take a text out of the index, and does not say so.
    @pytest.mark.slow
    @pytest.mark.parametrize("breaking", [b for b in BREAKS if b != "DELETE FROM search_messages_text"])
    def test_makes_no_write_fail(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, raw: sqlite3.Connection, breaking: str
    ) -> None:
        add(repository, "blue", "green", "blue")
        catalog.search("blue")
        raw.execute(breaking)
        repository.update_message("s", "a", redacted(0))
        erasing.erase_from_index(database_of(repository), sources.MESSAGES)
        catalog.undo_turns("s", "a")
        add(repository, "blue", first=2)
        assert ids(catalog.search("blue")) == [2]
        catalog.delete_session("s")
        assert catalog.search("blue") == []

    def test_is_dropped_by_an_erasure_with_all_that_is_in_it(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, raw: sqlite3.Connection, db_path: Path
    ) -> None:
        add(repository, "xylophone")
        catalog.search("blue")
        raw.execute("DELETE FROM search_messages_config")
        repository.update_message("s", "a", redacted(0))
        erasing.erase_from_index(database_of(repository), sources.MESSAGES)
        assert database_of(repository).truncate_log()
        assert b"xylophon" not in bytes_on_disk(db_path)

    def test_that_was_given_up_and_not_built_yet_is_erased_too(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, raw: sqlite3.Connection, db_path: Path
    ) -> None:
        """As a process leaves it that was killed meanwhile."""
        add(repository, "xylophone", "blue")
        catalog.search("blue")
        tables.drop(database_of(repository), sources.MESSAGES)
        repository.update_message("s", "a", redacted(0))
        assert b"xylophon" not in bytes_on_disk(db_path)
        assert ids(catalog.search("blue")) == [1]

    def test_that_is_no_good_without_fts5_is_emptied_by_an_erasure(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, raw: sqlite3.Connection, db_path: Path
    ) -> None:
        add(repository, "xylophone")
        catalog.search("blue")
        raw.execute("PRAGMA writable_schema = ON")
        raw.execute("UPDATE sqlite_master SET sql = replace(sql, 'fts5', 'fts99') WHERE name = 'search_messages'")
        with SQLiteSessionRepository(db_path, busy_timeout=4) as other:  # with connections that have not seen it whole
            other.update_message("s", "a", redacted(0))
        assert b"xylophon" not in bytes_on_disk(db_path)

    def test_is_not_what_a_lock_means_that_an_erasure_waits_for_in_vain(
        self,
        catalog: SessionCatalog,
        repository: SQLiteSessionRepository,
        raw: sqlite3.Connection,
        db_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        class Release(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                raw.execute("COMMIT")

        add(repository, "xylophone")
        catalog.search("blue")
        before = epoch(raw)
        raw.execute("BEGIN IMMEDIATE")
        raw.execute("UPDATE messages SET message = '{}'")
        raw.execute("COMMIT")
        raw.execute("BEGIN IMMEDIATE")
        handler = Release()
        erasing.logger.addHandler(handler)
        try:
            with SessionCatalog(db_path, busy_timeout=0.05) as hurried:
                erasing.erase_from_index(database_of(hurried), sources.MESSAGES)
        finally:
            erasing.logger.removeHandler(handler)
        assert "stays in the search index until the next deletion" in caplog.text
        assert epoch(raw) == before
        erasing.erase_from_index(database_of(repository), sources.MESSAGES)
        assert database_of(repository).truncate_log()
        assert b"xylophon" not in bytes_on_disk(db_path)

    def test_that_cannot_be_looked_at_makes_no_erasure_fail(
        self, repository: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        raw.execute("DROP TABLE search_stale")
        erasing.erase_from_index(database_of(repository), sources.MESSAGES)

    @pytest.mark.parametrize(
        "breaking",
        [
            "INSERT INTO search_messages_text VALUES (1000000, 1, 'nobody')",
            "UPDATE search_messages_text SET segment = 99",
            "DELETE FROM search_segments",
            "UPDATE search_segments SET totals = x''",
            "UPDATE search_state SET indexed_id = 0",
        ],
    )
    def test_whose_own_tables_disagree_keeps_nobody_for_ever(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, raw: sqlite3.Connection, breaking: str
    ) -> None:
        add(repository, "blue", "green", "blue")
        catalog.search("blue")
        raw.execute(breaking)
        repository.update_message("s", "a", redacted(0))
        add(repository, "blue", first=3)
        assert ids(catalog.search("blue")) == [2, 3]
        raw.execute("INSERT INTO search_messages (search_messages, rank) VALUES ('integrity-check', 1)")


class TestWithoutFts5:
    def test_says_so_once(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tables, "has_fts5", lambda database: False)
        monkeypatch.setattr(tables, "_has_warned", False)
        add(repository, "blue")
        with pytest.warns(RuntimeWarning, match="lacks FTS5"):
            assert ids(catalog.search("blue")) == [0]
        assert ids(catalog.search("blue")) == [0]  # A second warning would be an error here.

    @pytest.mark.usefixtures("without_fts5")
    def test_there_is_nothing_to_build(self, catalog: SessionCatalog, db_path: Path) -> None:
        with pytest.raises(SessionException, match=r"sessions\.db.*FTS5"):
            catalog.reindex()

    def test_writes_go_on_in_a_file_that_was_searched_with_it(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The triggers name no FTS5 table, which SQLite could not even open."""
        add(repository, "secret", "green")
        catalog.search("secret")
        (count,) = database_of(repository).query(
            "SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND sql LIKE '%search#_messages%' ESCAPE '#'"
        )
        assert count == (0,)
        monkeypatch.setattr(tables, "has_fts5", lambda database: False)
        monkeypatch.setattr(tables, "_has_warned", True)
        repository.update_message("s", "a", redacted(0))
        assert catalog.search("secret") == []

    @pytest.mark.usefixtures("without_fts5")
    def test_the_best_of_very_many_are_found(self, catalog: SessionCatalog, raw: sqlite3.Connection) -> None:
        text = {7: "blue blue blue", 990: "blue blue blue blue"}
        raw.execute("BEGIN")
        raw.executemany(
            "INSERT INTO messages (session_id, agent_id, message_id, message) VALUES ('s', 'a', ?, ?)",
            ((n, json.dumps({"role": "user", "content": [{"text": text.get(n, "blue")}]})) for n in range(1000)),
        )
        raw.execute("COMMIT")
        assert [result.message_id for result in catalog.search("blue", limit=3)] == [990, 7, 0]

    @pytest.mark.usefixtures("without_fts5")
    def test_a_snippet_shows_the_place(self, catalog: SessionCatalog, repository: SQLiteSessionRepository) -> None:
        add(repository, "a " * 100 + "Blue sky " + "z " * 100)
        (found,) = catalog.search("blue")
        assert found.snippet.startswith("…a a a")
        assert " [Blue] sky z" in found.snippet
        assert found.snippet.endswith("…")


def test_a_file_that_cannot_be_written_is_searched_all_the_same(
    repository: SQLiteSessionRepository, catalog: SessionCatalog
) -> None:
    add(repository, "blue", "green")
    database = database_of(repository)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "_pool", _read_only(repository))
        assert ids(catalog.search("blue")) == [0]
    catalog.search("blue")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "_pool", _read_only(repository))
        assert ids(catalog.search("blue")) == [0]


def _read_only(repository: SQLiteSessionRepository) -> Any:
    from strands_sqlite_session_manager._engine.file import FileDatabase as Database

    return Database(database_of(repository).path, synchronous="NORMAL", busy_timeout=5.0, read_only=True)._pool
