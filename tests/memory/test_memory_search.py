"""What a search by words finds: questions, languages, any text; and in which order."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strands_sqlite_session_manager import SessionCatalog
from strands_sqlite_session_manager._engine.holder import database_of
from strands_sqlite_session_manager._memory import words
from strands_sqlite_session_manager._search import tables


async def found(store: Any, query: str, limit: int = 10) -> list[str]:
    return [entry.content for entry in await store.search(query, {"max_search_results": limit})]


@pytest.fixture(params=["index", "scan"])
def searched(request: pytest.FixtureRequest, store: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A store, with FTS5 and without."""
    if request.param == "scan":
        monkeypatch.setattr(tables, "has_fts5", lambda database: False)
        monkeypatch.setattr(tables, "_has_warned", True)
    return store


class TestWhatIsFound:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("memory", "question"),
        [
            ("Ada likes green tea.", "What does Ada drink?"),
            ("Ada's brother plays chess", "Who plays chess?"),
            ("Der Schlüssel hängt am Brett.", "Wo hangt der schlussel?"),
            ("Camille a été à l'école à Lyon.", "ou etait l’ecole ?"),
            ("小明喜欢喝绿茶。", "小明喜欢喝什么茶？"),
            ("猫が好きです。", "何が好きですか"),
            ("서울에 살아요", "서울은 어디?"),
            ("แมวชื่อมะลิ", "แมวชื่ออะไร"),
            ("茶", "茶?"),
            ("The code is 7.", "Code 7?"),
            ("C++ is used for dark-mode.", "Which dark theme?"),
            ("Likes 🍵 very much", "🍵"),
            ("NFD: cafe\u0301", "café"),
            ("La sœur d'Ada", "soeur"),
            ("Hauptstrasse 7", "in welcher HAUPTSTRAßE?"),
            ("Wohnt in Łódź.", "lodz"),
            ("Чай и ёлка", "елка?"),
            ("Ελλάδα", "ελλαδα"),
            ("שָׁלוֹם", "שלום"),
            ("ｶﾞﾗｽのＡＢＣ", "ガラス"),
            ("ｶﾞﾗｽのＡＢＣ", "abc"),
            ("心❤\ufe0f", "❤"),
            ("Likes 🍵 and 🎸", "🎸🍵🍵?"),
            ("喜欢🍵", "喝🍵吗"),
            ("艾达喜欢喝绿茶。", "她喝茶吗？"),
        ],
    )
    async def test_a_question_finds_a_statement(self, searched: Any, memory: str, question: str) -> None:
        """One word is enough, in any script, with or without accents."""
        for distraction in ("zzz", "qqq www", "ツツツ"):
            await searched.add(distraction)
        await searched.add(memory)
        assert await found(searched, question) == [memory]

    async def test_one_character_of_a_japanese_question_is_not_enough(self, searched: Any) -> None:
        """Only of Chinese does one say something."""
        await searched.add("我们本周去日光浴。")
        await searched.add("東京は首都です。")
        assert await found(searched, "日本の首都は？") == ["東京は首都です。"]
        assert await found(searched, "ニュースを見た日？") == []

    async def test_flags_are_told_apart(self, searched: Any) -> None:
        """Each is made of two symbols, which are in others too."""
        await searched.add("🇩🇪")
        await searched.add("🇩🇰🇪🇸")
        assert await found(searched, "🇩🇪") == ["🇩🇪"]

    async def test_in_any_english_form(self, store: Any) -> None:
        """By the stem, with the index."""
        await store.add("Ada was refunded for two orders.")
        assert len(await found(store, "refund order")) == 1

    @pytest.mark.parametrize("query", ["Who is Will?", "Will", "is C++ better?", "The Who", "what IT does"])
    async def test_what_looks_like_a_name_is_looked_for(self, searched: Any, query: str) -> None:
        """Also if it is spelt like a word that says nothing."""
        await searched.add("Will does IT in C++, and likes The Who.")
        await searched.add("it was better than what there is")
        assert "Will does IT in C++, and likes The Who." in await found(searched, query)

    @pytest.mark.parametrize("query", ["", " ", "?", "What is it?", "the of and", "谁的？", "\0", "'", '"', "()*^:-"])
    async def test_what_says_nothing_finds_nothing(self, searched: Any, query: str) -> None:
        """Instead of everything that has a common word."""
        await searched.add("What is it? The one of Ada and Bob's. 她是我的医生。")
        assert await found(searched, query) == []

    @pytest.mark.parametrize(
        "query", ["AND tea", "NEAR(tea, 1)", '"tea', "tea*", "text:tea", "-tea", "{text} : tea", "tea\0", "\ud800 tea"]
    )
    async def test_any_text_is_a_query(self, searched: Any, query: str) -> None:
        """Nothing in it is an operator."""
        await searched.add("tea")
        assert await found(searched, query) == ["tea"]

    @settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(query=st.text(max_size=200))
    @pytest.mark.file_only
    def test_no_text_makes_a_search_fail(self, store: Any, query: str) -> None:
        """Whatever characters there are."""
        asyncio.run(store.search(query))

    async def test_long_texts_and_queries_are_searched_from_their_start(self, store: Any) -> None:
        """The first 100,000 characters of a memory, and 1,000 of a query."""
        await store.add("first " + "x " * 60_000 + "last")
        assert len(await found(store, "first")) == 1
        assert await found(store, "last") == []
        assert await found(store, "y " * 600 + "first") == []


class TestOrder:
    async def test_the_best_comes_first_and_of_equal_ones_the_newest(self, searched: Any) -> None:
        """More of the words are better; then what was added last."""
        await searched.add("tea one")
        await searched.add("tea two")
        await searched.add("green tea")
        await searched.add("other things")
        assert await found(searched, "green tea") == ["green tea", "tea two", "tea one"]
        await searched.add("tea one")
        assert await found(searched, "green tea") == ["green tea", "tea one", "tea two"]

    async def test_the_number_of_results_is_that_of_the_call_else_of_the_store(
        self, open_store: Callable[..., Any]
    ) -> None:
        """And ten by default."""
        store, narrow = open_store(), open_store(max_search_results=3)
        for number in range(12):
            await store.add(f"tea {number}")
        assert len(await store.search("tea")) == 10
        assert len(await narrow.search("tea")) == 3
        assert len(await narrow.search("tea", {"max_search_results": 12})) == 12

    async def test_results_tell_id_score_and_time(self, store: Any) -> None:
        """Beside the metadata that was added, and instead of names in it that are the same."""
        memory_id = await store.add("tea", {"kind": "drink", "score": "mine"})
        (entry,) = await store.search("tea")
        assert entry.store_name == "facts"
        assert entry.metadata == {
            "kind": "drink",
            "memory_id": memory_id,
            "score": entry.metadata["score"],
            "updated_at": (await store.get(memory_id)).updated_at,
        }
        assert isinstance(entry.metadata["score"], float)


class TestFrequentWords:
    @pytest.fixture
    async def crowded(self, store: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
        """A store where three memories with a word are very many."""
        monkeypatch.setattr(words, "_MANY", 3)
        for content in ("user likes tea", "user likes jazz", "user fears dogs", "user likes green"):
            await store.add(content)
        return store

    async def test_are_left_out_beside_rare_ones(self, crowded: Any) -> None:
        """A question with a rare word does not read through all that have a frequent one."""
        assert await found(crowded, "Does the user fear dogs?") == ["user fears dogs"]
        assert sorted(await found(crowded, "user green jazz")) == ["user likes green", "user likes jazz"]

    async def test_are_sought_where_there_are_no_others(self, crowded: Any) -> None:
        """A question of frequent words alone finds what has them."""
        assert len(await found(crowded, "user")) == 4
        assert len(await found(crowded, "user likes")) == 4

    async def test_do_not_keep_a_memory_from_being_forgotten(self, crowded: Any) -> None:
        """There, all words count."""
        assert [memory.content for memory in await crowded.forget("user likes jazz")] == ["user likes jazz"]
        assert await crowded.forget("user fears jazz") == []


class TestWays:
    """Few memories are read, those of whoever has most are sought among all, and others in a list of their own."""

    @pytest.fixture
    def add_all(self, raw: Any) -> Callable[..., None]:
        """Adds as many memories to a scope as it is given texts."""

        def add(scope: str, texts: list[str]) -> None:
            for text in texts:
                raw.execute(
                    """
                    INSERT INTO memories (store, scope, content, metadata, created_at, updated_at)
                    VALUES ('facts', ?, ?, ?, '2026-01-31T12:00:00+00:00', '2026-01-31T12:00:00+00:00')
                    """,
                    (scope, text, '{"kind": "likes"}' if "likes" in text else "{}"),
                )

        return add

    @pytest.mark.parametrize("metadata", [None, {"kind": "likes"}])
    @pytest.mark.parametrize("question", ["tea", "Who likes green tea?", "coffee at noon", "nothing", "ノ"])
    async def test_find_the_same(
        self,
        open_store: Callable[..., Any],
        add_all: Callable[..., None],
        monkeypatch: pytest.MonkeyPatch,
        question: str,
        metadata: dict[str, str] | None,
    ) -> None:
        """Of the index, with the same scores."""
        store = open_store(scope="a")
        add_all("b", ["likes green tea", "likes coffee at noon", "fears tea"])
        add_all("a", ["tea at noon", "likes green tea", "likes tea, tea and tea", "likes coffee", "likes ノート"])
        await store.add("likes tea at noon", expires_at=timedelta(seconds=-1))
        found = []
        monkeypatch.setattr(words, "_TIMES", 0)
        for few, most in ((200, False), (0, True), (0, False)):
            monkeypatch.setattr(words, "_FEW", few)
            monkeypatch.setattr(words, "_has_most", lambda *_, most=most: most)
            entries = await store.search(question, {"max_search_results": 10, "metadata": metadata})
            found.append([(entry.content, pytest.approx(entry.metadata["score"])) for entry in entries])
        of_texts, of_all, of_list = found
        assert of_all == of_list
        assert {content for content, _ in of_texts} == {content for content, _ in of_all}
        assert bool(of_texts) == (question != "nothing")

    async def test_what_few_of_the_scope_have_is_rare_there(
        self, open_store: Callable[..., Any], add_all: Callable[..., None]
    ) -> None:
        """However many others have it."""
        store = open_store(scope="few")
        add_all("others", [f"drinks tea {number}" for number in range(200 * 5)])
        add_all("few", ["user fears dogs", "user likes user stories", "user walks", "user sings", "drinks tea"])
        assert (await found(store, "Does the user drink?"))[0] == "drinks tea"

    @pytest.mark.file_only
    @pytest.mark.parametrize(
        ("scope", "is_read", "has_a_list"), [("few", True, False), ("most", False, False), ("some", False, True)]
    )
    async def test_the_quickest_is_taken(
        self,
        open_store: Callable[..., Any],
        add_all: Callable[..., None],
        monkeypatch: pytest.MonkeyPatch,
        scope: str,
        is_read: bool,
        has_a_list: bool,
    ) -> None:
        """Whatever the scopes' order in the table."""
        store = open_store(scope=scope)
        for number in range(40):
            add_all("most", [f"likes tea number {number}{letter}" for letter in "abcdef"])
            add_all("some", [f"likes tea number {number}"])
        add_all("few", ["likes tea"])
        asked = []
        query = database_of(store).query

        def note(sql: str, parameters: Any = ()) -> Any:
            asked.append((sql, parameters))
            return query(sql, parameters)

        monkeypatch.setattr(database_of(store), "query", note)
        assert await store.search("tea")
        places = [parameters["place"] for sql, parameters in asked if "bm25" in sql]
        assert bool(places) != is_read
        assert [bool(place) for place in places] == [has_a_list] * len(places)

    @pytest.mark.parametrize("text", ["tea " * 6, "tea 茶茶茶茶茶"])
    async def test_long_texts_are_not_read(
        self, open_store: Callable[..., Any], add_all: Callable[..., None], monkeypatch: pytest.MonkeyPatch, text: str
    ) -> None:
        """A few of them are as much as many short ones, and of some scripts each character is a word."""
        store = open_store(scope="a")
        add_all("a", [text])
        monkeypatch.setattr(words, "_TIMES", 1)
        monkeypatch.setattr(words, "_FEW_BYTES", 18)
        monkeypatch.setattr(words, "_texts", None)
        assert len(await store.search("tea")) == 1

    @pytest.mark.parametrize("place", ["most", "others"])
    @pytest.mark.parametrize("rare", ["nowhere", "elsewhere", "expired", "labelled"])
    async def test_words_that_find_nothing_keep_no_others_from_it(
        self, open_store: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, rare: str, place: str
    ) -> None:
        """They may be nowhere, or only where this search does not look, or may not."""
        monkeypatch.setattr(words, "_MANY", 3)
        monkeypatch.setattr(words, "_has_most", lambda *_: place == "most")
        store, other = open_store(scope="a"), open_store(scope="b")
        for number in range(5):
            await store.add(f"Ada wrote note {number}", {"kind": "note"})
        await other.add("elsewhere")
        await store.add("expired", expires_at=timedelta(seconds=-1))
        await store.add("labelled", {"kind": "label"})
        entries = await store.search(f"Ada {rare}", {"metadata": {"kind": "note"}})
        assert len(entries) == 5

    @pytest.mark.parametrize("writable", [True, False])
    async def test_what_is_not_indexed_counts_no_more_than_the_rest(
        self, open_store: Callable[..., Any], raw: Any, monkeypatch: pytest.MonkeyPatch, writable: bool
    ) -> None:
        """A word that all of the newest have is not rare for that."""
        store = open_store()
        for number in range(30):
            await store.add(f"Ada drank tea {number}" if number < 6 else f"Ada wrote page {number}")
        assert await found(store, "tea")
        for number in range(5):
            await store.add(f"Ada is out {number}")
        entries = await found(open_store(writable=writable), "Did Ada buy tea?", 5)
        assert all("tea" in content for content in entries)


class TestIndex:
    async def test_what_was_changed_by_others_is_found_as_it_is_now(
        self, open_store: Callable[..., Any], raw: Any
    ) -> None:
        """Two stores of the same scope see each other's changes at once."""
        one, other = open_store(), open_store()
        memory_id = await one.add("likes tea")
        assert await found(other, "tea") == ["likes tea"]
        await one.update(memory_id, content="likes coffee")
        assert await found(other, "tea coffee") == ["likes coffee"]
        raw.execute("UPDATE memories SET content = 'likes water'")
        assert await found(one, "water coffee") == ["likes water"]
        raw.execute("DELETE FROM memories")
        assert await found(one, "water coffee") == []

    @pytest.mark.file_only
    async def test_a_broken_index_is_built_again(self, store: Any, raw: Any) -> None:
        """A search finds everything all the same."""
        await store.add("likes tea")
        await store.search("tea")
        raw.execute("DELETE FROM search_memories_data")
        assert await found(store, "tea") == ["likes tea"]
        assert await found(store, "tea") == ["likes tea"]

    @pytest.mark.file_only
    async def test_reindex_finds_what_an_index_that_looks_sound_lacks(self, store: Any, db_path: Any, raw: Any) -> None:
        """That of the catalog, which reads every memory again."""
        await store.add("likes tea")
        await store.search("tea")
        raw.execute("UPDATE search_memories_text SET text = 'likes nothing'")
        raw.execute("INSERT INTO search_memories (search_memories) VALUES ('rebuild')")
        assert await found(store, "tea") == []
        with SessionCatalog(db_path) as catalog:
            catalog.reindex()
        assert await found(store, "tea") == ["likes tea"]

    @pytest.mark.slow
    @pytest.mark.file_only
    async def test_searches_while_another_holds_the_lock_find_what_is_there(
        self, open_store: Callable[..., Any], raw: Any
    ) -> None:
        """What cannot be indexed is searched beside the index, and that it was used is not noted."""
        store = open_store(busy_timeout=30)
        await store.add("likes tea")
        await store.search("tea")
        await store.add("likes green tea")
        raw.execute("BEGIN IMMEDIATE")
        # Nobody waits for what can be done the next time.
        assert sorted(await asyncio.wait_for(found(store, "tea"), 15)) == ["likes green tea", "likes tea"]
        raw.execute("ROLLBACK")
