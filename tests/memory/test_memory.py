"""The people's side of a store: get, list, count, update, delete, forget, clear, prune, and memories that expire."""

import asyncio
import copy
import json
import math
import pickle
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import SessionConflictError
from strands_sqlite_session_manager._engine.holder import database_of

NOW = datetime.now(timezone.utc)


def contents(memories: Any) -> list[str]:
    return [memory.content for memory in memories]


class TestAdding:
    async def test_what_was_added_comes_back(self, store: Any) -> None:
        """Text, metadata and times are those that were given."""
        metadata = {"source": "call", "n": 1.5, "tags": ["a", None], "é": "✓"}
        memory_id = await store.add("  Ada likes tea.\n", metadata, expires_at=NOW + timedelta(days=1))
        memory = await store.get(memory_id)
        assert (memory.memory_id, memory.content, memory.metadata) == (memory_id, "Ada likes tea.", metadata)
        assert (memory.times_added, memory.used_at, memory.damage) == (1, None, None)
        assert memory.created_at == memory.updated_at
        assert abs(datetime.fromisoformat(memory.created_at) - datetime.now(timezone.utc)) < timedelta(minutes=1)
        assert datetime.fromisoformat(memory.expires_at) == NOW + timedelta(days=1)

    async def test_the_same_text_is_one_memory_whose_time_and_count_move_on(self, store: Any) -> None:
        """Writes of the SDK come at least once. Metadata that comes again replaces what was there; none leaves it."""
        first = await store.add("Ada likes tea.", {"n": 1})
        before = await store.get(first)
        assert await store.add("Ada likes tea. ") == first
        after = await store.get(first)
        assert (after.times_added, after.metadata, after.created_at) == (2, {"n": 1}, before.created_at)
        assert after.updated_at > before.updated_at
        assert await store.add("Ada likes tea.", {}) == first
        assert (await store.get(first)).metadata == {}
        assert await store.count() == 1

    async def test_ids_are_never_given_twice(self, store: Any) -> None:
        """An id that somebody has noted down never means another memory."""
        ids = []
        for number in range(3):
            ids.append(await store.add(f"fact {number}"))
            await store.delete(ids[-1])
        await store.clear()
        assert ids == sorted(set(ids))

    @pytest.mark.parametrize("content", ["", "  \n", None, 7, "a\0b", "\ud800"], ids=repr)
    async def test_what_is_no_text_is_refused(self, store: Any, content: Any) -> None:
        """Nothing is changed silently to make it fit."""
        with pytest.raises(ValueError, match="content="):
            await store.add(content)
        assert await store.count() == 0

    @pytest.mark.parametrize(
        ("metadata", "similar"),
        [
            ({"a": "b\0c"}, {"a": "b"}),
            ({"a\0c": 1}, {"a": 1}),
            ({"a": 2**70}, {"a": float(2**70)}),
            ([{"a": 1}], {"a": 1}),
            (1.5, {"metadata": 1.5}),
            ("b\0c", {"metadata": "b"}),
        ],
    )
    async def test_metadata_that_sqlite_would_change_is_kept_as_a_text(
        self, store: Any, metadata: Any, similar: dict[str, Any]
    ) -> None:
        """Models make it up. It is not taken for what it resembles, and a person who changes it is told."""
        memory_id = await store.add("Ada likes tea.", metadata)
        kept = (await store.get(memory_id)).metadata
        assert json.loads(kept["metadata"]) == metadata
        assert await store.search("tea", {"metadata": similar}) == []
        assert (await store.list(metadata=similar)).memories == []
        assert contents((await store.list(metadata=kept)).memories) == ["Ada likes tea."]
        with pytest.raises(ValueError, match="metadata"):
            await store.update(memory_id, metadata=metadata)
        assert (await store.get(memory_id)).metadata == kept

    async def test_a_text_as_metadata_is_kept(self, store: Any) -> None:
        """As it is."""
        assert (await store.get(await store.add("fact", "drinks"))).metadata == {"metadata": "drinks"}

    async def test_metadata_without_a_json_form_is_named(self, store: Any) -> None:
        """The error says where it is."""
        with pytest.raises(SessionException, match=r"metadata\.a\[0\]"):
            await store.add("fact", {"a": [object()]})
        for metadata in (object(), [object()], {"a": "\0", "b": object()}):
            with pytest.raises(ValueError, match="metadata"):
                await store.add("fact", metadata)
        assert await store.count() == 0


class TestReading:
    async def test_pages_have_every_memory_once_the_newest_first(self, store: Any) -> None:
        """What is added in between moves to the front and shifts nothing."""
        for number in range(7):
            await store.add(f"fact {number}", {"even": number % 2 == 0})
        page = await store.list(limit=3)
        assert contents(page.memories) == ["fact 6", "fact 5", "fact 4"]
        await store.add("fact 7")
        rest = await store.list(limit=100, after=page.next)
        assert contents(rest.memories) == ["fact 3", "fact 2", "fact 1", "fact 0"]
        assert rest.next is None
        assert contents((await store.list(metadata={"even": True})).memories) == [
            "fact 6",
            "fact 4",
            "fact 2",
            "fact 0",
        ]
        assert (await store.list(limit=0)).memories == []
        assert (await store.count(), await store.count(metadata={"even": False})) == (8, 3)

    @pytest.mark.parametrize(
        "cursor",
        ["", "x", "WzFd", "é", "WyIiLCAxZTk5XQ==", "WyIiLCAxMDAwMDAwMDAwMDAwMDAwMDAwMF0=", "WyJcdWQ4MDAiLCAxXQ=="],
    )
    async def test_what_is_no_cursor_is_refused(self, store: Any, cursor: str) -> None:
        """The error names it."""
        with pytest.raises(ValueError, match="after="):
            await store.list(after=cursor)

    async def test_a_damaged_memory_is_shown_as_such_and_takes_no_others_with_it(self, store: Any, raw: Any) -> None:
        """Lists, searches and `get` show its text, and say what is wrong."""
        memory_id = await store.add("Ada likes tea.")
        await store.add("Ada likes coffee.")
        raw.execute("UPDATE memories SET metadata = '{' WHERE content = 'Ada likes tea.'")
        assert len((await store.list()).memories) == 2
        assert "damaged JSON" in (await store.get(memory_id)).damage
        assert len(await store.search("Ada")) == 2
        await store.update(memory_id, metadata={})
        assert (await store.get(memory_id)).damage is None


class TestChanging:
    async def test_an_update_changes_what_it_names_and_keeps_the_id(self, store: Any) -> None:
        """A new text is found, the former one is not, and its time moves; metadata alone moves no time."""
        memory_id = await store.add("Ada likes tea.", {"n": 1}, expires_at=NOW + timedelta(days=1))
        assert len(await store.search("tea")) == 1
        before = await store.get(memory_id)
        await store.update(memory_id, metadata={"n": 2}, expires_at="never")
        between = await store.get(memory_id)
        assert (between.metadata, between.expires_at, between.updated_at) == ({"n": 2}, None, before.updated_at)
        await store.update(memory_id, content=" Ada likes coffee. ")
        after = await store.get(memory_id)
        assert (after.content, after.metadata, after.created_at) == ("Ada likes coffee.", {"n": 2}, before.created_at)
        assert after.updated_at > before.updated_at
        assert await store.search("tea") == []
        assert len(await store.search("coffee")) == 1

    async def test_an_update_to_the_text_of_another_is_a_conflict(self, store: Any) -> None:
        """Two memories of one text would be one, so somebody has to choose."""
        await store.add("a fact")
        other = await store.add("another fact")
        with pytest.raises(SessionConflictError, match=f"Memory {other} in scope default of store facts"):
            await store.update(other, content="a fact")
        assert (await store.get(other)).content == "another fact"

    async def test_what_does_not_exist_is_told(self, store: Any) -> None:
        """`get` returns None; what changes raises, and says what is missing."""
        assert await store.get(1) is None
        for change in (store.update(1, content="x"), store.delete(1)):
            with pytest.raises(SessionException, match="Memory 1 in scope default of store facts does not exist"):
                await change
        assert await store.forget(memory_ids=[1]) == []

    async def test_wrong_arguments_are_refused(self, store: Any) -> None:
        """Each names the argument."""
        memory_id = await store.add("fact")
        for call, name in (
            (store.update(memory_id), "nothing to change"),
            (store.update(memory_id, content=" "), "content"),
            (store.update("1", content="x"), "memory_id"),
            (store.get(-1), "memory_id"),
            (store.forget(), "query or memory_ids"),
            (store.forget("fact", memory_ids=[memory_id]), "query or memory_ids"),
            (store.prune(older_than=timedelta(-1)), "older_than"),
            (store.prune(unused_for=datetime(2026, 1, 31)), "unused_for"),
            (store.prune(keep_last=-1), "keep_last"),
            (store.add("x", expires_at=datetime(2026, 1, 31)), "expires_at"),
            (store.search("x", {"max_search_results": 0}), "max_search_results"),
            (store.search(None), "query"),
            (store.forget(12), "query"),
            (store.add("x", expires_at="tomorrow"), "expires_at"),
            (store.list(limit=-1), "limit"),
        ):
            with pytest.raises(ValueError, match=name):
                await call
        assert await store.count() == 1

    @pytest.mark.parametrize(
        "options",
        [
            {"name": ""},
            {"scope": ""},
            {"scope": None},
            {"embedding_model": ""},
            {"embedder": "a model"},
            {"max_search_results": 0},
        ],
        ids=str,
    )
    def test_a_store_without_a_name_or_scope_is_refused(self, open_store: Any, options: dict[str, Any]) -> None:
        """A scope that was computed and came out empty must not be everybody's."""
        with pytest.raises(ValueError, match=next(iter(options))):
            open_store(**options)

    def test_a_store_stays_in_its_scope(self, store: Any) -> None:
        with pytest.raises(AttributeError):
            store.scope = "user-43"


class TestForgetting:
    async def test_by_words_all_of_which_a_memory_must_have(self, store: Any) -> None:
        """As they are, but for case and punctuation."""
        for content in ("Ada likes green tea.", "Ada likes tea.", "Ada is green with envy."):
            await store.add(content)
        assert await store.forget("what is the") == []
        assert await store.forget("green coffee") == []
        assert contents(await store.forget("the greenest of teas: green teas!")) == []
        assert contents(await store.forget("that Ada likes green tea")) == []
        assert contents(await store.forget("Green-tea, ADA")) == ["Ada likes green tea."]
        assert contents((await store.list()).memories) == ["Ada is green with envy.", "Ada likes tea."]

    @pytest.mark.parametrize(
        ("query", "content"),
        [
            ("Will", "Will is Ada's brother."),
            ("to be or not to be", "To be, or not to be"),
            ("user_name", "my user_name is zed"),
            ("foo", "see foo_bar.py"),
            ("ENDSECRET", "filler " * 20_000 + "ENDSECRET"),
            ("ENDSECRET", "ß" * 60_000 + " ENDSECRET"),
            ("soeur", "ma Sœur"),
            ("\U0001f469\u200d\U0001f680", "mail \U0001f469\u200d\U0001f680 end"),
        ],
        ids=[
            "a name",
            "words that say nothing",
            "underscore",
            "half of a name",
            "long",
            "longer when respelt",
            "another spelling",
            "joined emoji",
        ],
    )
    async def test_nothing_that_has_the_words_is_passed_over(self, store: Any, query: str, content: str) -> None:
        await store.add(content)
        await store.add("another one")
        assert contents(await store.forget(query)) == [content]
        assert await store.count() == 1

    @pytest.mark.parametrize(
        ("query", "other"),
        [
            ("Will Smith", "Anna Smith is my boss."),
            ("plan B", "Plan A is to move to Graz."),
            ("not a vegan", "Ada's mother is a vegan."),
            ("IT department of the US", "Our IT department is in Berlin."),
            ("programming in C++", "I write programming books."),
            ("university", "The universal remote is broken."),
            ("organ", "organic food"),
            ("東京都", "東京 is large."),
        ],
    )
    async def test_by_words_spares_what_only_looks_alike(self, store: Any, query: str, other: str) -> None:
        """A search may find too much. What deletes may not."""
        meant = f"Note: {query}!"
        await store.add(other)
        await store.add(meant)
        assert contents(await store.forget(query)) == [meant]
        assert contents((await store.list()).memories) == [other]

    @pytest.mark.parametrize("query", ["", " ", "...", "!?", "\u200d", "\ufe0f", "\u064b"])
    async def test_by_a_query_without_words_is_refused(self, store: Any, query: str) -> None:
        """It would be in every memory."""
        await store.add("filler " * 20_000)
        with pytest.raises(ValueError, match="must have a word"):
            await store.forget(query)
        assert await store.count() == 1

    async def test_by_a_query_that_is_cut_off_is_refused(self, store: Any) -> None:
        with pytest.raises(ValueError, match="1,001 characters"):
            await store.forget("x" * 1001)
        with pytest.raises(ValueError, match="1,002 characters"):
            await store.forget("ß" * 501)  # Which are sought as "ss".

    async def test_by_ids(self, store: Any) -> None:
        """All at once; what is not there is passed over."""
        ids = [await store.add(f"fact {number}") for number in range(4)]
        assert contents(await store.forget(memory_ids=[ids[2], ids[0], 99])) == ["fact 0", "fact 2"]
        assert await store.count() == 2
        await store.delete(ids[1])
        assert contents((await store.list()).memories) == ["fact 3"]

    async def test_clear_deletes_all_and_tells_how_many(self, store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """In batches."""
        monkeypatch.setattr("strands_sqlite_session_manager._memory.records.BATCH", 2)
        for number in range(5):
            await store.add(f"fact {number}")
        assert await store.clear() == 5
        assert await store.clear() == 0
        assert await store.search("fact") == []


class TestExpiry:
    async def test_what_has_expired_is_not_there_any_more(self, store: Any, raw: Any) -> None:
        """No call shows it, and the next `prune` deletes it."""
        memory_id = await store.add("Ada is in Rome.", expires_at=NOW + timedelta(hours=1))
        assert len(await store.search("Rome")) == 1
        raw.execute("UPDATE memories SET expires_at = '2026-01-31T12:00:00+00:00'")
        assert await store.search("Rome") == []
        assert (await store.list()).memories == []
        assert await store.get(memory_id) is None
        assert await store.count() == 0
        with pytest.raises(SessionException, match="does not exist"):
            await store.update(memory_id, metadata={})
        assert await store.prune(dry_run=True) == 1
        assert await store.prune() == 1
        assert raw.execute("SELECT count(*) FROM memories").fetchone() == (0,)

    async def test_it_can_be_forgotten_like_others(self, store: Any, raw: Any) -> None:
        """As long as it is stored, whoever wants it gone is told that it was there."""
        database_of(store).next_sweep = math.inf
        await store.add("Ada is in Rome.", expires_at=NOW - timedelta(days=1))
        assert contents(await store.forget("Rome")) == ["Ada is in Rome."]
        assert raw.execute("SELECT count(*) FROM memories").fetchone() == (0,)

    async def test_adding_it_again_makes_another_memory(self, store: Any) -> None:
        """Nothing is left of the one that has expired."""
        database_of(store).next_sweep = math.inf
        memory_id = await store.add("Ada is in Rome.", {"n": 1}, expires_at=NOW - timedelta(days=1))
        assert await store.get(memory_id) is None
        again = await store.get(await store.add("Ada is in Rome."))
        assert again.memory_id != memory_id
        assert (again.expires_at, again.metadata, again.times_added) == (None, {}, 1)

    async def test_adding_again_leaves_the_time_unless_it_gives_one(self, store: Any) -> None:
        """What repeats a write, as an extraction does, makes nothing stay for ever."""
        memory_id = await store.add("Ada is in Rome.", expires_at=timedelta(hours=1))
        before = await store.get(memory_id)
        await store.add("Ada is in Rome.")
        assert (await store.get(memory_id)).expires_at == before.expires_at
        await store.add("Ada is in Rome.", expires_at=timedelta(hours=2))
        assert (await store.get(memory_id)).expires_at > before.expires_at
        await store.add("Ada is in Rome.", expires_at="never")
        assert (await store.get(memory_id)).expires_at is None

    async def test_another_memory_can_be_given_the_text(self, store: Any) -> None:
        """One that nobody sees is in nobody's way."""
        database_of(store).next_sweep = math.inf
        await store.add("Ada is in Rome.", expires_at=NOW - timedelta(days=1))
        memory_id = await store.add("Ada is in Bern.")
        await store.update(memory_id, content="Ada is in Rome.")
        assert contents((await store.list()).memories) == ["Ada is in Rome."]

    async def test_those_who_add_later_delete_it(self, store: Any, raw: Any) -> None:
        await store.add("Ada is in Rome.", expires_at=timedelta(hours=1))
        await store.add("Bob is in Oslo.", expires_at=timedelta(seconds=-1))
        database_of(store).next_sweep = 0.0
        await store.add("Eve is in Bern.")
        assert raw.execute("SELECT content FROM memories ORDER BY 1").fetchall() == [
            ("Ada is in Rome.",),
            ("Eve is in Bern.",),
        ]


class TestPruning:
    @pytest.fixture
    async def aged(self, store: Any, raw: Any) -> Any:
        """A store with memories that are 0 to 5 days old; those 1 and 4 days old were found by a search today."""
        for age in range(6):
            memory_id = await store.add(f"fact {age}")
            used_at = NOW.isoformat() if age in (1, 4) else None
            raw.execute(
                "UPDATE memories SET updated_at = ?, used_at = ? WHERE memory_id = ?",
                ((NOW - timedelta(days=age)).isoformat(), used_at, memory_id),
            )
        return store

    @pytest.mark.parametrize(
        ("arguments", "left"),
        [
            ({}, "012345"),
            ({"older_than": timedelta(days=2, hours=1)}, "012"),
            ({"older_than": NOW - timedelta(days=3)}, "0123"),
            ({"unused_for": timedelta(days=2, hours=1)}, "0124"),
            ({"keep_last": 2}, "01"),
            ({"keep_last": 0}, ""),
            ({"older_than": timedelta(days=3, hours=1), "keep_last": 5}, "0123"),
            ({"unused_for": timedelta(hours=1), "keep_last": 3}, "01"),
        ],
        ids=lambda value: ",".join(value),
    )
    async def test_deletes_what_one_of_the_limits_means(
        self, aged: Any, arguments: dict[str, Any], left: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A dry run tells how many, and batches change nothing of it."""
        monkeypatch.setattr("strands_sqlite_session_manager._memory.records.BATCH", 1)
        assert await aged.prune(**arguments, dry_run=True) == 6 - len(left)
        assert await aged.count() == 6
        assert await aged.prune(**arguments) == 6 - len(left)
        assert contents((await aged.list()).memories) == [f"fact {age}" for age in left]

    async def test_a_search_counts_as_use(self, store: Any, raw: Any) -> None:
        """It is noted for what was found, and to the hour: a second search writes nothing."""
        used, unused = await store.add("Ada likes tea."), await store.add("Ada likes jazz.")
        await store.search("tea")
        assert (await store.get(unused)).used_at is None
        noted = (await store.get(used)).used_at
        assert noted is not None
        await store.search("tea")
        assert (await store.get(used)).used_at == noted
        raw.execute("UPDATE memories SET used_at = '2026-01-31T12:00:00+00:00' WHERE used_at IS NOT NULL")
        await store.search("tea")
        assert (await store.get(used)).used_at >= noted


class TestCopies:
    def test_a_store_can_be_pickled_and_copied(self, open_store: Callable[..., Any]) -> None:
        """It opens the same file, with the same name and scope."""
        store = open_store(
            "wishes", scope="user-42", description="Wishes.", max_search_results=1, forget_tool_config=True
        )
        asyncio.run(store.add("a boat"))
        for other in (pickle.loads(pickle.dumps(store)), copy.deepcopy(store)):
            with other:
                assert (other.name, other.scope, other.description) == ("wishes", "user-42", "Wishes.")
                assert [tool.tool_name for tool in other.get_tools()] == ["forget_memory"]
                assert contents(asyncio.run(other.list()).memories) == ["a boat"]
        with open_store("wishes", scope="user-42") as again:
            assert asyncio.run(again.count()) == 1

    def test_a_store_in_memory_is_private(self) -> None:
        """It lives as long as its object."""
        pytest.importorskip("strands.memory")
        from strands_sqlite_session_manager import SQLiteMemoryStore

        with SQLiteMemoryStore("facts", ":memory:") as store:
            asyncio.run(store.add("a fact"))
            assert len(asyncio.run(store.search("facts"))) == 1
            with pytest.raises(TypeError, match="cannot be pickled"):
                pickle.dumps(store)

    def test_a_closed_store_says_so(self, store: Any) -> None:
        """Closing twice is fine."""
        store.close()
        store.close()
        with pytest.raises(SessionException, match="closed"):
            asyncio.run(store.add("x"))
