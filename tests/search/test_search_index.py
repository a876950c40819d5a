"""How the index is kept true, beside those who write."""

import json
import random
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from search_helpers import add, epoch, ids, redacted
from strands.types.exceptions import SessionException
from strands.types.session import SessionAgent

from helpers import run_python, text_message
from strands_sqlite_session_manager import SQLiteSessionRepository
from strands_sqlite_session_manager._catalog import message_search
from strands_sqlite_session_manager._engine.holder import database_of
from strands_sqlite_session_manager._search import index as _search
from strands_sqlite_session_manager._search import sources
from strands_sqlite_session_manager._search.text import LONGEST_TEXT
from strands_sqlite_session_manager.catalog import SessionCatalog


class TestTheIndex:
    def test_is_kept_after_an_error_that_does_not_mean_that_it_is_broken(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        catalog.search("blue")
        before = epoch(raw)
        with pytest.raises(SessionException, match="overflow"):
            _search.find(database_of(repository), sources.MESSAGES, "SELECT abs(-9223372036854775808)", (), list)
        assert epoch(raw) == before

    def test_costs_writers_nothing(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        add(repository, "before any search")
        repository.update_message("s", "a", redacted(0))
        assert raw.execute("SELECT count(*) FROM search_stale").fetchone() == (0,)
        assert raw.execute("SELECT name FROM sqlite_master WHERE name LIKE 'search_messages%'").fetchall() == []
        catalog.search("x")
        before = raw.execute("SELECT total(length(block)) FROM search_messages_data").fetchone()
        add(repository, "after it", first=1)
        assert raw.execute("SELECT total(length(block)) FROM search_messages_data").fetchone() == before
        assert raw.execute("SELECT count(*) FROM search_stale").fetchone() == (0,)

    @pytest.mark.file_only
    def test_is_not_written_to_when_there_is_nothing_new(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        add(repository, "blue")
        catalog.search("blue")
        raw.execute("BEGIN IMMEDIATE")  # so that a write would have to wait
        assert ids(catalog.search("blue")) == [0]

    @pytest.mark.file_only
    def test_is_searched_beside_what_is_new_while_somebody_holds_the_lock(
        self,
        catalog: SessionCatalog,
        repository: SQLiteSessionRepository,
        raw: sqlite3.Connection,
        db_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level("INFO")
        add(repository, "blue")
        catalog.search("blue")
        add(repository, "blue", first=1)
        with SessionCatalog(db_path, busy_timeout=0.05) as hurried:
            raw.execute("BEGIN IMMEDIATE")
            assert ids(hurried.search("blue")) == [0, 1]
        assert "searching what is new without the index" in caplog.text
        assert "broken" not in caplog.text

    @pytest.mark.file_only
    def test_catches_up_in_batches(self, catalog: SessionCatalog, raw: sqlite3.Connection) -> None:
        message = json.dumps({"role": "user", "content": [{"text": "blue " * 20}]})
        rows = _search.FULL_ROWS * 2 + 1
        raw.execute("BEGIN")
        raw.executemany(
            "INSERT INTO messages (session_id, agent_id, message_id, message) VALUES ('s', 'a', ?, ?)",
            ((number, message) for number in range(rows)),
        )
        raw.execute("COMMIT")
        assert len(catalog.search("blue", limit=rows)) == rows
        assert raw.execute("SELECT count(*) FROM search_stale").fetchone() == (0,)

    def test_writers_that_never_rest_keep_no_search_waiting_for_ever(
        self,
        catalog: SessionCatalog,
        repository: SQLiteSessionRepository,
        raw: sqlite3.Connection,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(_search, "FULL_ROWS", 1)
        indexed = []

        def write_meanwhile(message: bytes) -> tuple[str, ...]:
            indexed.append(message)
            if len(indexed) < 50:
                add(repository, "newer", first=2 + len(indexed))
                raw.execute("UPDATE messages SET redact_message = message WHERE message_id = 0")
            return (sources.message_text(message),)

        monkeypatch.setattr(message_search, "MESSAGES", sources.MESSAGES._replace(texts=write_meanwhile))
        add(repository, "blue", "blue", "blue")
        # The first one changes while it is indexed, and once more with each of the others.
        assert ids(catalog.search("blue")) == [1, 2]
        assert len(indexed) < 10

    @pytest.mark.file_only
    def test_makes_only_the_segment_again_that_a_text_is_erased_from(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        """So that what this costs does not depend on the size of the index."""
        raw.execute("BEGIN")
        raw.executemany(
            "INSERT INTO messages (session_id, agent_id, message_id, message) VALUES ('s', 'a', ?, ?)",
            ((n, json.dumps(text_message(n, f"{n} words").message)) for n in range(5 * _search.FULL_ROWS)),
        )
        raw.execute("COMMIT")
        catalog.search("words")

        def segments() -> dict[int, list[Any]]:
            rows = raw.execute("SELECT id >> 37, id, block FROM search_messages_data WHERE id > 10").fetchall()
            return {number: [row for row in rows if row[0] == number] for number, *_ in rows}

        before = segments()
        assert len(before) == 5
        repository.update_message("s", "a", redacted(_search.FULL_ROWS + 1))
        after = segments()
        assert sum(before[number] != after[number] for number in before) == 1
        raw.execute("INSERT INTO search_messages (search_messages, rank) VALUES ('integrity-check', 1)")

    @pytest.mark.slow
    def test_has_few_segments_however_many_searches_made_it(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        for number in range(100):
            add(repository, f"blue {number}", first=number)
            assert len(catalog.search("blue", limit=200)) == number + 1
        assert raw.execute("SELECT count(*) FROM search_segments").fetchone()[0] < 10

    @pytest.mark.file_only
    def test_has_no_more_segments_than_fts5_allows(
        self,
        catalog: SessionCatalog,
        raw: sqlite3.Connection,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(_search, "FULL_ROWS", 2)
        monkeypatch.setattr(_search, "MOST_SEGMENTS", 5)
        raw.executemany(
            "INSERT INTO messages (session_id, agent_id, message_id, message) VALUES ('s', 'a', ?, ?)",
            ((n, json.dumps(text_message(n, f"blue {n}").message)) for n in range(50)),
        )
        assert len(catalog.search("blue", limit=100)) == 50
        assert raw.execute("SELECT count(*) FROM search_segments").fetchone() == (5,)
        raw.execute("DELETE FROM messages WHERE message_id % 3 = 0")
        assert ids(catalog.search("blue", limit=100)) == [n for n in range(50) if n % 3]
        raw.execute("INSERT INTO search_messages (search_messages, rank) VALUES ('integrity-check', 1)")

    @pytest.mark.slow
    def test_of_a_very_long_text_holds_the_start(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository
    ) -> None:
        add(repository, "needle " + "hay " * LONGEST_TEXT, "hay needle", "東京" * LONGEST_TEXT)
        assert ids(catalog.search("needle hay")) == [0, 1]
        assert ids(catalog.search("東京")) == [2]

    @pytest.mark.slow
    @pytest.mark.file_only
    def test_two_processes_that_search_at_once_index_each_message_once(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, raw: sqlite3.Connection, db_path: Path
    ) -> None:
        raw.execute("BEGIN")
        raw.executemany(
            "INSERT INTO messages (session_id, agent_id, message_id, message) VALUES ('s', 'a', ?, ?)",
            ((n, json.dumps({"role": "user", "content": [{"text": f"blue {n}"}]})) for n in range(3000)),
        )
        raw.execute("COMMIT")
        code = """
import sys
from strands_sqlite_session_manager.catalog import SessionCatalog
print(len(SessionCatalog(sys.argv[1]).search("blue", limit=5000)))
"""
        outputs: list[str] = []
        threads = [threading.Thread(target=lambda: outputs.append(run_python(code, db_path))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [int(output) for output in outputs] == [3000] * 3
        assert raw.execute("SELECT count(*), count(DISTINCT id) FROM search_messages_text").fetchone() == (
            3000,
            3000,
        )
        raw.execute("INSERT INTO search_messages (search_messages) VALUES ('integrity-check')")

    @pytest.mark.slow
    def test_is_true_after_searches_beside_writers_that_redact(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        stop = threading.Event()
        failures: list[BaseException] = []

        def search() -> None:
            try:
                while not stop.is_set():
                    catalog.search("secret")
            except BaseException as error:
                failures.append(error)

        searchers = [threading.Thread(target=search) for _ in range(2)]
        for thread in searchers:
            thread.start()
        for number in range(300):
            add(repository, f"secret {number}", first=number)
            if number % 3 == 0:
                raw.execute(
                    'UPDATE messages SET message = \'{"role": "user", "content": []}\' WHERE message_id = ?', (number,)
                )
            if number % 7 == 0:
                raw.execute("DELETE FROM messages WHERE message_id = ?", (number,))
        stop.set()
        for thread in searchers:
            thread.join()
        assert failures == []
        expected = [number for number in range(300) if number % 3 and number % 7]
        assert ids(catalog.search("secret", limit=300)) == expected
        assert raw.execute("SELECT count(*) FROM search_messages_text").fetchone() == (len(expected),)
        raw.execute("INSERT INTO search_messages (search_messages) VALUES ('integrity-check')")

    @pytest.mark.slow
    @pytest.mark.file_only
    def test_keeps_no_writer_waiting_while_it_is_built(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        raw.execute("BEGIN")
        raw.executemany(
            "INSERT INTO messages (session_id, agent_id, message_id, message) VALUES ('s', 'a', ?, ?)",
            (
                (n, json.dumps({"role": "user", "content": [{"text": f"{n} {n * 7} many words of text " * 10}]}))
                for n in range(10_000)
            ),
        )
        raw.execute("COMMIT")
        repository.create_agent("s", SessionAgent("b", {}, {}))
        searcher = threading.Thread(target=catalog.search, args=("words",))
        searcher.start()
        written = 0
        while searcher.is_alive():
            repository.create_message("s", "b", text_message(written))
            written += 1
        assert written > 20

    @pytest.mark.parametrize(("messages", "words"), [(2000, 40), (200, 2000)], ids=["many texts", "long texts"])
    @pytest.mark.slow
    @pytest.mark.file_only
    def test_writes_little_at_once_so_that_writers_get_their_turn(
        self,
        catalog: SessionCatalog,
        repository: SQLiteSessionRepository,
        raw: sqlite3.Connection,
        monkeypatch: pytest.MonkeyPatch,
        messages: int,
        words: int,
    ) -> None:
        choices = random.Random(0).choices
        vocabulary = [f"word{number}" for number in range(20_000)]
        texts = (" ".join(choices(vocabulary, k=words)) for _ in range(messages))
        raw.execute("BEGIN")
        raw.executemany(
            "INSERT INTO messages (session_id, agent_id, message_id, message) VALUES ('s', 'a', ?, ?)",
            ((n, json.dumps(text_message(n, text).message)) for n, text in enumerate(texts)),
        )
        raw.execute("COMMIT")
        write = database_of(repository).write_aside
        holds: list[int] = []

        def weighed(statements: Any) -> None:
            statements = list(statements)
            write(statements)
            values = [value for _, row in statements for value in (row.values() if isinstance(row, dict) else row)]
            holds.append(sum(len(value) if isinstance(value, (bytes, str)) else 8 for value in values))

        monkeypatch.setattr(database_of(repository), "write_aside", weighed)
        for change in ("", "UPDATE messages SET redact_message = message", "DELETE FROM messages"):
            raw.execute(change)
            holds.clear()
            catalog.search("x")
            assert 0 < max(holds) < 2**20, change  # bytes

    def test_can_be_built_anew(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        add(repository, *(f"blue {number}" for number in range(1000)))
        catalog.search("blue")
        raw.execute("DELETE FROM search_messages WHERE rowid % 2")  # which SQLite cannot know to be wrong
        assert len(catalog.search("blue", limit=1000)) == 500
        catalog.reindex()
        assert len(catalog.search("blue", limit=1000)) == 1000
        raw.execute("INSERT INTO search_messages (search_messages) VALUES ('integrity-check')")
