"""What is found."""

import sqlite3
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from search_helpers import add, add_session, epoch, ids
from strands.types.exceptions import SessionException
from strands.types.session import SessionAgent

from helpers import text_message
from strands_sqlite_session_manager import SQLiteSessionRepository
from strands_sqlite_session_manager._catalog.records import SearchResult
from strands_sqlite_session_manager._search.text import LONGEST_TEXT
from strands_sqlite_session_manager.catalog import SessionCatalog


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
            "s", "a", 1, "assistant", message.created_at, found.score, "What a [blue], [blue] sky", ((8, 12), (16, 20))
        )
        assert [found.snippet[start:end] for start, end in found.hits] == ["blue", "blue"]

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

    @pytest.mark.file_only
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

    @pytest.mark.file_only
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

    @pytest.mark.slow
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
@pytest.mark.file_only
def test_no_query_fails(
    catalog: SessionCatalog, repository: SQLiteSessionRepository, caplog: pytest.LogCaptureFixture, query: str
) -> None:
    assert catalog.search(query) == []
    assert caplog.text == ""  # SQLite had no complaint, after which all is searched without the index.


@pytest.mark.slow
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=50))
@pytest.mark.file_only
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


def test_a_closed_catalog_says_so(db_path: Path) -> None:
    catalog = SessionCatalog(db_path)
    catalog.close()
    with pytest.raises(SessionException, match="closed"):
        catalog.search("x")


def test_a_long_time_range_is_no_filter(repository: SQLiteSessionRepository, catalog: SessionCatalog) -> None:
    add(repository, "blue")
    now = datetime.now(timezone.utc)
    assert ids(catalog.search("blue", since=now - timedelta(days=1), until=now + timedelta(days=1))) == [0]
