"""Search: what is found, what is never found again, and an index that nobody has to think of."""

import asyncio
import json
import logging
import random
import sqlite3
import threading
import time
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from helpers import run_python, text_message
from strands_sqlite_session_manager import SQLiteSessionRepository
from strands_sqlite_session_manager._catalog import message_search
from strands_sqlite_session_manager._catalog.records import SearchResult
from strands_sqlite_session_manager._engine.holder import database_of
from strands_sqlite_session_manager._search import erasing, sources
from strands_sqlite_session_manager._search import index as _search
from strands_sqlite_session_manager._search.text import LONGEST_TEXT
from strands_sqlite_session_manager.catalog import SessionCatalog

FTS_PARTS = ("data", "idx", "content", "docsize", "config")


@pytest.fixture
def catalog(repository: SQLiteSessionRepository) -> SessionCatalog:
    return SessionCatalog(session_repository=repository)


@pytest.fixture
def without_fts5(monkeypatch: pytest.MonkeyPatch) -> None:
    """An SQLite that has no module fts5, as far as the library can tell."""
    monkeypatch.setattr(_search, "_has_fts5", lambda database: False)
    monkeypatch.setattr(_search, "_has_warned", True)


def add(repository: SQLiteSessionRepository, *texts: str, session_id: str = "s", first: int = 0) -> None:
    for number, text in enumerate(texts, first):
        repository.create_message(session_id, "a", text_message(number, text, "assistant" if number % 2 else "user"))


def add_session(repository: SQLiteSessionRepository, session_id: str, *texts: str) -> None:
    repository.create_session(Session(session_id, SessionType.AGENT))
    repository.create_agent(session_id, SessionAgent("a", {}, {}))
    add(repository, *texts, session_id=session_id)


def ids(results: list[SearchResult]) -> list[int]:
    return sorted(result.message_id for result in results)


def epoch(raw: sqlite3.Connection, source: str = "messages") -> list[Any]:
    """What changes when an index is built anew."""
    # Tickets begin at a random number, and a few thousand of them are given here at the most.
    return raw.execute("SELECT ticket / 1000000 FROM search_state WHERE source = ?", (source,)).fetchall()


def redacted(number: int, text: str = "[redacted]") -> SessionMessage:
    message = text_message(number, text)
    message.redact_message = message.message
    return message


def bytes_on_disk(db_path: Path) -> bytes:
    # From another process: closing a file drops this process's locks on it.
    code = "import sys, pathlib; [sys.stdout.write(pathlib.Path(p).read_bytes().hex()) for p in sys.argv[1:]]"
    files = [db_path, db_path.with_name(db_path.name + "-wal")]
    return bytes.fromhex(run_python(code, *(path for path in files if path.exists())))


@pytest.mark.parametrize("with_index", [True, False], ids=["index", "scan"])
class TestWhatIsFound:
    @pytest.fixture(autouse=True)
    def _choose(self, with_index: bool, request: pytest.FixtureRequest) -> None:
        if not with_index:
            request.getfixturevalue("without_fts5")

    def test_messages_with_all_words_in_any_order_and_case(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository
    ) -> None:
        add(repository, "The order of the refund", "an order", "REFUND! Order?", "disorder and refunds")
        assert ids(catalog.search("refund order")) == [0, 2]
        assert ids(catalog.search("nothing order")) == []

    def test_is_told_with_its_place_role_time_score_and_a_snippet(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository
    ) -> None:
        add(repository, "no", "What a blue, blue sky")
        message = repository.read_message("s", "a", 1)
        (found,) = catalog.search("blue")
        assert found.score > 0
        assert found == SearchResult(
            "s", "a", 1, "assistant", message.created_at, found.score, "What a [blue], [blue] sky"
        )

    @pytest.mark.parametrize("query", ["creme brulee", "Crème Brûlée", "CRE\u0300ME BRU\u0302LE\u0301E"])
    def test_accents_of_latin_letters_do_not_matter(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, query: str
    ) -> None:
        add(repository, "crème brûlée", "creme brulee", "cre\u0300me bru\u0302le\u0301e", "cram", "tiếng Việt")
        assert ids(catalog.search(query)) == [0, 1, 2]
        assert ids(catalog.search("tieng viet")) == [4]

    @pytest.mark.parametrize(
        ("text", "queries", "others"),
        [
            ("我想去東京都看櫻花", ["東", "東京", "京都", "去東京都看", "櫻花 東京"], ["東都", "花櫻", "北"]),
            ("カタカナとひらがな、漢字", ["カタ", "ひ", "漢字", "とひらがな"], ["カナカ", "字漢"]),
            ("ผมอยากไปกรุงเทพวันนี้", ["กรุงเทพ", "ไป", "ม", "วันนี้"], ["กรงเทพ", "นีวัน"]),
            ("저는 서울에서 살아요", ["서울", "울", "서울에서 살아요"], ["울서"]),
            ("使用Python3编程", ["Python3", "用Python3编", "编程"], ["Python4"]),
            ("done 🎉 at last", ["🎉", "🎉 done"], ["🎈"]),
            ("Lego®, Python™: 20°C │name│age│ ●item", ["lego", "python", "20", "name age", "item", "20°C"], ["0"]),
        ],
    )
    def test_scripts_without_spaces_are_found_by_any_part_of_a_text(
        self,
        catalog: SessionCatalog,
        repository: SQLiteSessionRepository,
        text: str,
        queries: list[str],
        others: list[str],
    ) -> None:
        add(repository, "something else", text)
        for query in queries:
            (found,) = catalog.search(query)
            assert found.message_id == 1
            assert found.snippet.replace("[", "").replace("]", "") == text
            assert "[" in found.snippet
        for query in others:
            assert catalog.search(query) == []

    def test_only_where_a_filter_allows(self, catalog: SessionCatalog, repository: SQLiteSessionRepository) -> None:
        add(repository, "blue 0", "blue 1")
        repository.create_agent("s", SessionAgent("b", {}, {}))
        repository.create_message("s", "b", text_message(7, "blue b"))
        add_session(repository, "other", "blue other")
        catalog.set_metadata("other", {"user": "ada", "plan": 1})
        old = text_message(2, "blue old")
        old.created_at = "2020-01-01T00:00:00.000000+00:00"
        repository.create_message("s", "a", old)

        def found(**filters: Any) -> list[tuple[str, str, int]]:
            return sorted((r.session_id, r.agent_id, r.message_id) for r in catalog.search("blue", **filters))

        assert len(found()) == 5
        assert found(session_id="other") == [("other", "a", 0)]
        assert found(agent_id="b") == [("s", "b", 7)]
        assert found(role="assistant") == [("s", "a", 1)]
        assert found(metadata={"user": "ada"}) == [("other", "a", 0)]
        assert found(metadata={"user": "bob"}) == []
        for unknown in ({"user": "ada\0"}, [1]):
            with pytest.raises(ValueError, match="metadata"):
                found(metadata=unknown)
        time_ = datetime(2021, 1, 1, tzinfo=timezone.utc)
        assert found(until=time_) == [("s", "a", 2)]
        assert len(found(since=time_)) == 4
        assert found(since=time_, session_id="s", role="user") == [("s", "a", 0), ("s", "b", 7)]
        assert len(found(limit=2)) == 2
        assert found(limit=0) == []

    def test_best_match_comes_first(self, catalog: SessionCatalog, repository: SQLiteSessionRepository) -> None:
        add(repository, "blue " + "word " * 50, "blue blue blue", "blue sky and sea")
        results = catalog.search("blue")
        assert results[0].message_id == 1
        assert [r.score for r in results] == sorted((r.score for r in results), reverse=True)
        assert catalog.search("blue", limit=1) == results[:1]

    def test_what_replaces_a_redacted_message_and_not_that_message(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository
    ) -> None:
        message = text_message(0, "secret")
        message.redact_message = {"role": "user", "content": [{"text": "hidden"}]}
        repository.create_message("s", "a", message)
        assert catalog.search("secret") == []
        assert ids(catalog.search("hidden")) == [0]

    def test_is_the_text_and_not_tools_or_the_form_of_json(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository
    ) -> None:
        message = text_message(0)
        message.message["content"] = [
            {"text": "one"},
            {"toolUse": {"toolUseId": "1", "name": "tool", "input": {"x": "within"}}},
            {"text": "two \ud800 \0 end"},
        ]
        repository.create_message("s", "a", message)
        assert ids(catalog.search("one two end")) == [0]
        for query in ("tool", "within", "role", "content", "text"):
            assert catalog.search(query) == []

    def test_is_the_text_of_citations_too(self, catalog: SessionCatalog, repository: SQLiteSessionRepository) -> None:
        """Strands stores text that cites a source in place of a block of text."""
        message = text_message(0, "before")
        cited = {"citations": [{"title": "Source"}], "content": [{"text": "the sky is blue"}, {"other": 1}, "damaged"]}
        damaged = [{"citationsContent": shape} for shape in (None, [], "x", {}, {"content": {"text": "x"}})]
        message.message["content"] += [*damaged, {"citationsContent": cited}, {"text": "after"}]
        repository.create_message("s", "a", message)
        assert ids(catalog.search("before blue after")) == [0]
        assert catalog.search("source") == catalog.search("damaged") == catalog.search("x") == []

    def test_damaged_messages_are_not_found_and_harm_no_search(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        add(repository, "blue", "blue", "blue", "blue")
        for number, text in enumerate(("{blue", '{"content": 1}', '["blue"]')):
            raw.execute("UPDATE messages SET message = ? WHERE message_id = ?", (text, number))
        assert ids(catalog.search("blue")) == [3]

    def test_bytes_that_are_no_text_hide_nothing_around_them(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        add(repository, "blue", "blue", "blue")
        catalog.search("blue")
        before = epoch(raw)
        raw.execute("UPDATE messages SET message = CAST(x'7b22ff' AS TEXT) WHERE message_id = 0")
        damaged = b'{"role": "user", "content": [{"text": "blue \xff sky"}]}'
        raw.execute("UPDATE messages SET message = CAST(? AS TEXT) WHERE message_id = 1", (damaged,))
        assert ids(catalog.search("blue")) == [1, 2]
        assert ids(catalog.search("sky")) == [1]
        assert epoch(raw) == before

    def test_a_role_that_is_no_text_is_shown_as_far_as_it_is(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        repository.create_message("s", "a", text_message(0, "blue", "us\ud800er"))
        add(repository, "blue", "blue", first=1)
        catalog.search("blue")
        before = epoch(raw)
        damaged = b'{"role": "us\xffer", "content": [{"text": "blue"}]}'
        raw.execute("UPDATE messages SET message = CAST(? AS TEXT) WHERE message_id = 1", (damaged,))
        raw.execute("""UPDATE messages SET message = '{"content": [{"text": "blue"}]}' WHERE message_id = 2""")
        roles = {result.message_id: result.role for result in catalog.search("blue")}
        assert roles == {0: "us\ufffd\ufffd\ufffder", 1: "us\ufffder", 2: ""}
        assert epoch(raw) == before

    def test_control_characters_are_no_hits(self, catalog: SessionCatalog, repository: SQLiteSessionRepository) -> None:
        add(repository, "one \x02two\x03 blue \0 end")
        (found,) = catalog.search("blue")
        assert found.snippet == "one  two  [blue]   end"

    def test_is_in_the_start_of_a_very_long_text(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository
    ) -> None:
        hay = "hay " * (LONGEST_TEXT // 4)
        add(repository, "needle " + hay, hay + "needle", "hay needle")
        assert ids(catalog.search("needle hay")) == [0, 2]

    @pytest.mark.parametrize(
        "query",
        ["", " ", '"', "'", "AND", "a OR", "NOT", "NEAR(", "text:", "*", "blue*", "^blue", "{", "-", "a-b", "(((", "+",
         "\0", "\ud800", "🎉", "%_", "\u200b", "\u0e34", "a" * 100_000, " ".join(map(str, range(20_000)))],
        ids=lambda query: ascii(query[:9]),
    )  # fmt: skip
    def test_any_text_is_a_safe_query(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, query: str
    ) -> None:
        add(repository, "blue")
        assert isinstance(catalog.search(query), list)

    @pytest.mark.parametrize(
        ("text", "query"),
        [
            ("漢" * 2000, "漢" * 100_000),
            ("".join(map(chr, range(0x4E00, 0x5600))), "".join(map(chr, range(0x4E00, 0x9E00)))),
        ],
        ids=["one character", "many characters"],
    )
    def test_of_a_very_long_query_the_start_counts(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, text: str, query: str
    ) -> None:
        """Each character of a script without spaces is one more word of a phrase, which took gigabytes."""
        add(repository, text, text[:900])
        assert ids(catalog.search(query)) == [0]

    def test_operators_are_words(self, catalog: SessionCatalog, repository: SQLiteSessionRepository) -> None:
        add(repository, "this OR that", "this", "dark-mode", "mode dark", "column text: x", 'say "hi" there')
        assert ids(catalog.search("this OR that")) == [0]
        assert ids(catalog.search("text: x")) == [4]
        assert ids(catalog.search('"hi"')) == [5]

    def test_arguments_out_of_range_are_refused(self, catalog: SessionCatalog) -> None:
        for options in ({"limit": -1}, {"session_id": ""}, {"agent_id": ""}, {"since": datetime(2020, 1, 1)}):
            with pytest.raises(ValueError, match=next(iter(options))):
                catalog.search("x", **options)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=st.text(st.characters() | st.sampled_from("\"'*()^-+:{} ORANDT东ไ\u200b\0"), max_size=30))
def test_no_query_fails(
    catalog: SessionCatalog, repository: SQLiteSessionRepository, caplog: pytest.LogCaptureFixture, query: str
) -> None:
    assert catalog.search(query) == []
    assert caplog.text == ""  # SQLite had no complaint, after which all is searched without the index.


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=50))
def test_every_text_can_be_indexed_and_finds_itself(
    catalog: SessionCatalog, repository: SQLiteSessionRepository, raw: sqlite3.Connection, text: str
) -> None:
    raw.execute("DELETE FROM messages")
    add(repository, text + " needle")
    assert ids(catalog.search("needle")) == [0]
    assert ids(catalog.search(text)) in ([0], [])
    if any(character.isascii() and character.isalnum() for character in text):
        assert ids(catalog.search(text)) == [0]


def test_words_are_found_by_their_stem(catalog: SessionCatalog, repository: SQLiteSessionRepository) -> None:
    add(repository, "He was running to the stores", "The store runs well", "a runner restored it")
    assert ids(catalog.search("store run")) == [0, 1]
    assert "[running]" in catalog.search("runs stores")[1].snippet + catalog.search("runs stores")[0].snippet


class TestWhatIsNeverFoundAgain:
    """Deleted or replaced text, although it had been indexed."""

    @pytest.fixture(autouse=True)
    def _indexed(self, catalog: SessionCatalog, repository: SQLiteSessionRepository) -> None:
        add(repository, "secret zero", "answer", "secret two", "answer")
        add_session(repository, "other", "secret other")
        assert len(catalog.search("secret")) == 3

    def found(self, catalog: SessionCatalog) -> list[tuple[str, int]]:
        return sorted((result.session_id, result.message_id) for result in catalog.search("secret"))

    def test_after_a_redaction(self, catalog: SessionCatalog, repository: SQLiteSessionRepository) -> None:
        repository.update_message("s", "a", redacted(2, "a blank"))
        assert self.found(catalog) == [("other", 0), ("s", 0)]
        assert ids(catalog.search("blank")) == [2]

    def test_on_disk_when_a_search_took_it_out_of_the_index(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, raw: sqlite3.Connection, db_path: Path
    ) -> None:
        """As another process's may, between a redaction and its erasure. The next erasure has nothing to take out."""
        add(repository, "xylophone", first=4)
        catalog.search("xylophone")
        raw.execute("""UPDATE messages SET message = '{"role":"user","content":[]}' WHERE message_id = 4""")
        assert catalog.search("xylophone") == []
        assert b"xylophon" in bytes_on_disk(db_path)
        add(repository, "not indexed yet", first=5)
        repository.update_message("s", "a", redacted(5))
        assert b"xylophon" not in bytes_on_disk(db_path)

    def test_even_by_one_who_cannot_bring_the_index_up_to_date(self, raw: sqlite3.Connection, db_path: Path) -> None:
        raw.execute("""UPDATE messages SET message = '{"role":"user","content":[]}' WHERE message_id = 2""")
        raw.execute("BEGIN IMMEDIATE")
        with SessionCatalog(db_path, busy_timeout=0.05) as hurried:
            assert self.found(hurried) == [("other", 0), ("s", 0)]
        indexed = "SELECT count(*) FROM search_messages WHERE search_messages MATCH 'secret'"
        assert raw.execute(indexed).fetchone() == (3,)
        assert raw.execute(f"{indexed} AND {sources.MESSAGES.not_stale}").fetchone() == (2,)

    def test_after_a_deletion(self, catalog: SessionCatalog) -> None:
        catalog.delete_session("other")
        assert self.found(catalog) == [("s", 0), ("s", 2)]
        catalog.delete_agent("s", "a")
        assert self.found(catalog) == []

    def test_after_an_undo_even_under_the_same_message_id(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        """The new message gets the rowid of the old one too, if that was the last in the table."""
        before = epoch(raw)
        catalog.delete_session("other")
        catalog.undo_turns("s", "a")
        add(repository, "something new", first=2)
        assert self.found(catalog) == [("s", 0)]
        assert ids(catalog.search("something new")) == [2]
        assert epoch(raw) == before

    def test_when_it_is_redacted_while_it_is_indexed(
        self,
        catalog: SessionCatalog,
        repository: SQLiteSessionRepository,
        raw: sqlite3.Connection,
    ) -> None:
        texts = sources.MESSAGES.texts

        def redact_meanwhile(message: str) -> tuple[str, ...]:
            raw.execute("UPDATE messages SET redact_message = '{}' WHERE message_id = 4")
            raw.execute("DELETE FROM messages WHERE message_id = 5")
            return texts(message)

        add(repository, "secret four", "secret five", first=4)
        redacting = sources.MESSAGES._replace(texts=redact_meanwhile)
        _search.queue_new(database_of(repository), redacting, newest=1000)
        _search.refresh(database_of(repository), redacting)
        found = "SELECT rowid FROM search_messages WHERE search_messages MATCH 'four OR five'"
        assert raw.execute(found).fetchall() == []
        assert raw.execute("SELECT count(*) FROM search_stale").fetchone() == (2,)

    def test_after_deletions_by_hand(self, catalog: SessionCatalog, raw: sqlite3.Connection) -> None:
        raw.execute("DELETE FROM sessions WHERE session_id = 'other'")
        raw.execute("UPDATE messages SET message = '{}' WHERE message_id = 0")
        assert self.found(catalog) == [("s", 2)]
        assert raw.execute("SELECT count(*) FROM search_stale").fetchone() == (0,)

    def test_under_the_old_name_of_a_session(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository
    ) -> None:
        catalog.rename_session("other", "renamed")
        assert self.found(catalog) == [("renamed", 0), ("s", 0), ("s", 2)]
        catalog.fork_session("renamed", "copy")
        repository.update_message("renamed", "a", redacted(0))
        assert self.found(catalog) == [("copy", 0), ("s", 0), ("s", 2)]

    @pytest.mark.parametrize("last", [True, False])
    def test_a_rowid_that_is_used_again_is_indexed_again(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, raw: sqlite3.Connection, last: bool
    ) -> None:
        raw.execute("DELETE FROM messages WHERE session_id = ?", ("other" if last else "s",))
        if last:
            assert len(self.found(catalog)) == 2  # and the index has forgotten the rowid
        add(repository, "newest", session_id="other" if last else "s")
        assert ids(catalog.search("newest")) == [0]
        raw.execute("DELETE FROM messages")
        add(repository, "very newest")
        assert ids(catalog.search("newest")) == [0]
        assert self.found(catalog) == []

    def test_on_disk_once_it_is_erased(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, db_path: Path
    ) -> None:
        add(repository, "xylophone is the password", first=4)
        assert ids(catalog.search("xylophone")) == [4]
        assert b"xylophon" in bytes_on_disk(db_path)
        repository.update_message("s", "a", redacted(4))
        erasing.erase_from_index(database_of(repository), sources.MESSAGES)
        assert database_of(repository).truncate_log()
        assert b"xylophon" not in bytes_on_disk(db_path)
        assert self.found(catalog) == [("other", 0), ("s", 0), ("s", 2)]

    def test_on_disk_if_it_was_written_under_a_rowid_that_an_erasure_was_about_to_take_out(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, raw: sqlite3.Connection, db_path: Path
    ) -> None:
        raw.execute("DELETE FROM messages WHERE session_id = 'other'")
        add(repository, "xylophone is the password", session_id="other")
        erasing.erase_from_index(database_of(repository), sources.MESSAGES)
        assert raw.execute("SELECT * FROM search_messages_content WHERE c0 LIKE 'xylo%'").fetchall() == []
        assert [result.session_id for result in catalog.search("xylophone")] == ["other"]
        repository.update_message("other", "a", redacted(0))
        assert database_of(repository).truncate_log()
        assert b"xylophon" not in bytes_on_disk(db_path)

    def test_although_much_is_still_to_be_indexed_which_an_erasure_leaves_to_searches(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        """A search that was killed leaves rows that are queued, and not in the index."""
        add(repository, *(f"later {number}" for number in range(300)), first=4)
        _search.queue_new(database_of(repository), sources.MESSAGES, newest=1000)
        repository.update_message("s", "a", redacted(0))
        repository.update_message("s", "a", redacted(4))
        catalog.delete_session("other")
        erasing.erase_from_index(database_of(repository), sources.MESSAGES)
        assert raw.execute("SELECT count(*) FROM search_stale").fetchone() == (300,)
        assert raw.execute("SELECT count(*) FROM search_messages_content").fetchone() == (4,)
        assert raw.execute("SELECT * FROM search_messages_content WHERE c0 = 'secret zero'").fetchall() == []
        assert len(catalog.search("later", limit=500)) == 299
        assert self.found(catalog) == [("s", 2)]

    def test_after_the_file_was_vacuumed(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        raw.execute("DELETE FROM messages WHERE message_id = 1")
        raw.execute("VACUUM")
        repository.update_message("s", "a", redacted(2))
        add(repository, "secret four", first=4)
        assert self.found(catalog) == [("other", 0), ("s", 0), ("s", 4)]

    def test_when_rows_were_renumbered(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        """A dump and restore closes the gaps that deleted rows left."""
        raw.execute("DELETE FROM messages WHERE message_id = 1")
        raw.execute("UPDATE messages SET rowid = rowid - 1 WHERE rowid > 1")
        repository.update_message("s", "a", redacted(2))
        add(repository, "secret four", first=4)
        assert self.found(catalog) == [("other", 0), ("s", 0), ("s", 4)]


class TestTheIndex:
    def test_is_kept_after_an_error_that_does_not_mean_that_it_is_broken(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        catalog.search("blue")
        before = epoch(raw)
        assert _search.find(database_of(repository), sources.MESSAGES, "SELECT CAST(x'ff' AS TEXT)", ()) is None
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

    def test_is_not_written_to_when_there_is_nothing_new(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        add(repository, "blue")
        catalog.search("blue")
        raw.execute("BEGIN IMMEDIATE")  # so that a write would have to wait
        assert ids(catalog.search("blue")) == [0]

    def test_searches_all_without_it_while_somebody_holds_the_lock(
        self,
        catalog: SessionCatalog,
        repository: SQLiteSessionRepository,
        raw: sqlite3.Connection,
        db_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        add(repository, "blue")
        catalog.search("blue")
        add(repository, "blue", first=1)
        with SessionCatalog(db_path, busy_timeout=0.05) as hurried:
            raw.execute("BEGIN IMMEDIATE")
            assert ids(hurried.search("blue")) == [0, 1]
        assert "searching without the index" in caplog.text
        assert "broken" not in caplog.text

    def test_catches_up_in_batches(self, catalog: SessionCatalog, raw: sqlite3.Connection) -> None:
        message = json.dumps({"role": "user", "content": [{"text": "blue " * 20}]})
        rows = _search.QUEUED_ROWS * 2 + 1
        raw.execute("BEGIN")
        raw.executemany(
            "INSERT INTO messages (session_id, agent_id, message_id, message) VALUES ('s', 'a', ?, ?)",
            ((number, message) for number in range(rows)),
        )
        raw.execute("COMMIT")
        assert len(catalog.search("blue", limit=rows)) == rows
        assert raw.execute("SELECT count(*) FROM search_stale").fetchone() == (0,)

    def test_queues_little_at_once_because_giving_it_up_deletes_the_queue_under_one_lock(
        self, catalog: SessionCatalog, raw: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_search, "QUEUED_ROWS", 20)
        monkeypatch.setattr(_search, "INDEXED_ROWS", 7)
        queued = []

        def texts(message: bytes) -> tuple[str, ...]:
            queued.extend(raw.execute("SELECT count(*) FROM search_stale").fetchone())
            return ("blue",)

        monkeypatch.setattr(message_search, "MESSAGES", sources.MESSAGES._replace(texts=texts))
        raw.executemany(
            "INSERT INTO messages (session_id, agent_id, message_id, message) VALUES ('s', 'a', ?, '{}')",
            ((number,) for number in range(90)),
        )
        assert len(catalog.search("blue", limit=100)) == len(queued) == 90
        assert max(queued) == 20

    def test_writers_that_never_rest_keep_no_search_waiting_for_ever(
        self,
        catalog: SessionCatalog,
        repository: SQLiteSessionRepository,
        raw: sqlite3.Connection,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(_search, "QUEUED_ROWS", 1)
        monkeypatch.setattr(_search, "INDEXED_ROWS", 1)
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

    def test_takes_texts_out_in_smaller_steps_than_it_puts_them_in(
        self,
        catalog: SessionCatalog,
        repository: SQLiteSessionRepository,
        raw: sqlite3.Connection,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Because that takes longer, and nobody should wait for the write lock for more than 50 ms."""
        database, batches = database_of(repository), []
        transaction = database.transaction

        def noted(statements: Any) -> list[int]:
            batches.append(sum("search_messages" in sql for sql, _ in statements))
            return transaction(statements)

        def largest_batch(change: str) -> int:
            raw.execute(change)
            batches.clear()
            catalog.search("x")
            return max(batches)

        size = _search.INDEXED_BYTES // 20
        add(repository, *("blue " * (size // 5) for _ in range(100)))
        monkeypatch.setattr(database, "transaction", noted)
        assert largest_batch("DELETE FROM messages WHERE message_id = 0") == 20
        assert largest_batch("UPDATE messages SET redact_message = '{}' WHERE message_id < 50") == 4
        assert largest_batch("DELETE FROM messages WHERE message_id >= 50") == 4
        # An empty text is taken out at once.
        assert largest_batch("DELETE FROM messages") == 49

    def test_of_a_very_long_text_holds_the_start(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository
    ) -> None:
        add(repository, "needle " + "hay " * LONGEST_TEXT, "hay needle", "東京" * LONGEST_TEXT)
        assert ids(catalog.search("needle hay")) == [0, 1]
        assert ids(catalog.search("東京")) == [2]

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
        assert raw.execute("SELECT count(*), count(DISTINCT id) FROM search_messages_content").fetchone() == (
            3000,
            3000,
        )
        raw.execute("INSERT INTO search_messages (search_messages) VALUES ('integrity-check')")

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
        assert raw.execute("SELECT count(*) FROM search_messages_content").fetchone() == (300 - 43,)
        raw.execute("INSERT INTO search_messages (search_messages) VALUES ('integrity-check')")

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
        waits = []
        while searcher.is_alive():
            start = time.perf_counter()
            repository.create_message("s", "b", text_message(len(waits)))
            waits.append(time.perf_counter() - start)
        assert len(waits) > 20
        assert sorted(waits)[len(waits) // 2] < 0.05  # Each one would need a machine of its own.

    @pytest.mark.parametrize(("messages", "words"), [(2000, 40), (200, 2000)], ids=["many texts", "long texts"])
    def test_holds_the_write_lock_for_moments_only(
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
        transaction = database_of(repository).transaction
        holds: list[float] = []

        def timed(statements: Any) -> list[int]:
            start = time.perf_counter()
            changes = transaction(statements)
            holds.append(time.perf_counter() - start)
            return changes

        monkeypatch.setattr(database_of(repository), "transaction", timed)
        totals = []
        for change in ("", "UPDATE messages SET redact_message = message", "DELETE FROM messages"):
            raw.execute(change)
            holds.clear()
            catalog.search("x")
            assert sorted(holds)[len(holds) // 2] < 0.05, change  # Each one would need a machine of its own.
            totals.append(sum(holds))
        # FTS5's `secure-delete` takes 15 times as long.
        assert totals[2] < 5 * totals[0]

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


class TestABrokenIndex:
    BREAKS = (
        *(f"DROP TABLE search_messages_{part}" for part in FTS_PARTS),
        *(f"DELETE FROM search_messages_{part}" for part in ("data", "content", "docsize", "config")),
        "UPDATE search_messages_docsize SET sz = x'ff00ff'",
        "UPDATE search_messages_data SET block = CAST(hex(block) AS BLOB) WHERE id > 10",
        "DROP TABLE search_messages",
        "DELETE FROM search_state",
    )

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
    @pytest.mark.parametrize("breaking", [b for b in BREAKS if b != "DELETE FROM search_messages_content"])
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
        _search.drop(database_of(repository), sources.MESSAGES)
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


class TestWithoutFts5:
    def test_says_so_once(
        self, catalog: SessionCatalog, repository: SQLiteSessionRepository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_search, "_has_fts5", lambda database: False)
        monkeypatch.setattr(_search, "_has_warned", False)
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
        monkeypatch.setattr(_search, "_has_fts5", lambda database: False)
        monkeypatch.setattr(_search, "_has_warned", True)
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
        if _search._has_fts5(database_of(storage)):
            asyncio.run(storage.reindex())

    @pytest.mark.usefixtures("_choose")
    def test_looks_at_the_start_of_very_long_data(self, storage: Any) -> None:
        hay = b"hay " * (LONGEST_TEXT // 4)
        asyncio.run(storage.write("start", b"needle " + hay))
        asyncio.run(storage.write("end", hay + b"needle"))
        assert self.run(storage, "needle") == ["start"]

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

    def test_can_be_built_anew(self, storage: Any, db_path: Path) -> None:
        asyncio.run(storage.write("k", b"words"))
        assert self.run(storage, "word") == ["k"]
        with closing(sqlite3.connect(db_path)) as connection, connection:
            connection.execute("DELETE FROM search_storage")
        assert self.run(storage, "word") == []
        asyncio.run(storage.reindex())
        assert self.run(storage, "word") == ["k"]

    @settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(query=st.text(max_size=30))
    def test_no_query_fails(self, storage: Any, query: str) -> None:
        self.run(storage, query)


def test_a_closed_catalog_says_so(db_path: Path) -> None:
    catalog = SessionCatalog(db_path)
    catalog.close()
    with pytest.raises(SessionException, match="closed"):
        catalog.search("x")


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


def test_a_long_time_range_is_no_filter(repository: SQLiteSessionRepository, catalog: SessionCatalog) -> None:
    add(repository, "blue")
    now = datetime.now(timezone.utc)
    assert ids(catalog.search("blue", since=now - timedelta(days=1), until=now + timedelta(days=1))) == [0]
