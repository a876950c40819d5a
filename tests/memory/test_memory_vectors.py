"""Searches by words and meaning: rankings, embedders of all kinds, those that fail or change, and their vectors."""

import asyncio
import builtins
import gc
import logging
import math
import struct
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("strands.memory", reason="it needs an SDK with memory")

from strands_sqlite_session_manager import maintenance
from strands_sqlite_session_manager._memory import vectors
from strands_sqlite_session_manager._memory.embedding import embed
from strands_sqlite_session_manager._memory.records import Place

# What texts are about: drinks, animals, places.
TOPICS = {
    "tea": (1, 0, 0),
    "drink": (1, 0.1, 0),
    "coffee": (0.9, 0, 0.1),
    "cat": (0, 1, 0),
    "pet": (0, 1, 0.1),
    "Paris": (0, 0, 1),
    "lives": (0, 0.1, 1),
}


def meaning(text: str) -> list[float]:
    sums = [0.01, 0.01, 0.01]
    for word, topic in TOPICS.items():
        if word in text:
            sums = [a + b for a, b in zip(sums, topic, strict=True)]
    return sums


class Embedder:
    """An embedder that knows three topics, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, texts: list[str]) -> list[list[float]]:
        self.asked.append(texts)
        return [meaning(text) for text in texts]


async def asynchronous(texts: list[str]) -> list[list[float]]:
    await asyncio.sleep(0)
    return [meaning(text) for text in texts]


def failing(texts: list[str]) -> list[list[float]]:
    raise ConnectionError("no route to the model")


@pytest.fixture(params=["numpy", "plain"])
def arithmetic(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With NumPy and without."""
    if request.param == "numpy":
        pytest.importorskip("numpy")
    else:
        monkeypatch.setitem(sys.modules, "numpy", None)
    return str(request.param)


async def found(store: Any, query: str, limit: int = 10) -> list[str]:
    return [entry.content for entry in await store.search(query, {"max_search_results": limit})]


FACTS = ("Ada likes tea", "Bob owns a cat", "Ada lives in Paris", "Bob likes coffee")


@pytest.mark.usefixtures("arithmetic")
class TestMeaning:
    @pytest.mark.parametrize("embedder", [Embedder(), asynchronous, lambda texts: asynchronous(texts)])
    async def test_finds_what_shares_no_word_with_the_question(
        self, open_store: Callable[..., Any], embedder: Any
    ) -> None:
        """By an embedder that is a function, a coroutine function, or returns an awaitable."""
        store = open_store(embedder=embedder)
        for fact in FACTS:
            await store.add(fact)
        assert (await found(store, "Any pets?"))[0] == "Bob owns a cat"
        assert (await found(store, "What to drink?"))[:2] == ["Ada likes tea", "Bob likes coffee"]
        assert len(await found(store, "Any pets?", 2)) == 2

    async def test_both_rankings_count(self, open_store: Callable[..., Any]) -> None:
        """What is first in both comes before what is first in one, by the sum of 1 / (60 + rank)."""
        store = open_store(embedder=Embedder())
        for fact in FACTS:
            await store.add(fact)
        entries = await store.search("Does Bob drink?")
        assert entries[0].content == "Bob likes coffee"
        assert entries[0].metadata["score"] == pytest.approx(1 / 61 + 1 / 62)
        assert {entry.content for entry in entries} == set(FACTS)

    async def test_what_is_gone_expired_elsewhere_or_of_other_metadata_is_not_found(
        self, open_store: Callable[..., Any], raw: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Although its vector is the nearest, and more of them than the ranking is deep."""
        monkeypatch.setattr("strands_sqlite_session_manager._memory.search._DEPTH", 2)
        store, other = (open_store(embedder=Embedder(), scope=scope) for scope in ("one", "other"))
        await other.add("tea drink of another")
        for number in range(20):
            await store.add(f"tea drink {number}", {"kind": "old"})
        await store.add("coffee", {"kind": "new"})
        assert [entry.content for entry in await store.search("drink", {"metadata": {"kind": "new"}})] == ["coffee"]
        raw.execute("UPDATE memories SET expires_at = '2026-01-31T12:00:00+00:00' WHERE content LIKE '%1%'")
        assert not any("1" in content for content in await found(store, "drink", 30))
        await store.forget("tea")
        assert await found(store, "drink", 30) == ["coffee"]
        assert await found(other, "drink", 30) == ["tea drink of another"]

    async def test_changes_of_others_are_seen(self, open_store: Callable[..., Any], raw: Any) -> None:
        """A store keeps no vector of what another has deleted or changed, and reads those that came."""
        one, other = open_store(embedder=Embedder()), open_store(embedder=Embedder())
        ids = [await one.add(fact) for fact in FACTS]
        assert (await found(one, "pets"))[0] == "Bob owns a cat"
        await other.update(ids[1], content="Bob owns a boat")
        await other.update(ids[0], content="Ada owns a cat")
        assert (await found(one, "pets"))[0] == "Ada owns a cat"
        await other.delete(ids[0])
        await other.add("Eve owns a cat")
        assert (await found(one, "pets"))[0] == "Eve owns a cat"
        assert "Ada owns a cat" not in await found(one, "pets")
        await other.clear()
        assert await found(one, "pets") == []
        assert raw.execute("SELECT count(*) FROM memory_vectors").fetchone() == (0,)


class TestNearest:
    def test_with_numpy_and_without_the_ranking_is_that_of_the_cosine(
        self, open_store: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of many vectors, read in parts, added to, and partly deleted."""
        pytest.importorskip("numpy")
        import random

        monkeypatch.setattr(vectors, "_ROWS", 7)
        source = random.Random(1)
        points: dict[str, list[float]] = {}

        def embedder(texts: list[str]) -> list[list[float]]:
            return [points.setdefault(text, [source.gauss(0, 1) for _ in range(5)]) for text in texts]

        store = open_store(embedder=embedder)
        index = vectors.VectorIndex(store._database, Place("facts", "default"), "default")
        sought = [source.gauss(0, 1) for _ in range(5)]
        (packed,) = asyncio.run(embed(lambda texts: [sought], ["x"]))

        def cosine(point: list[float]) -> float:
            return sum(a * b for a, b in zip(point, sought, strict=True)) / math.hypot(*point) / math.hypot(*sought)

        for number in range(60):
            asyncio.run(store.add(f"fact {number}"))
            if number % 5 == 4:
                asyncio.run(store.delete(asyncio.run(store.list(limit=3)).memories[2].memory_id))
            if number % 4 == 3:
                there = {m.memory_id: m.content for m in asyncio.run(store.list(limit=100)).memories}
                expected = sorted(there, key=lambda memory_id: -cosine(points[there[memory_id]]))
                for limit in (1, 10, 1000):
                    with monkeypatch.context() as without:
                        without.setitem(sys.modules, "numpy", None)
                        assert index.nearest(packed, limit) == expected[:limit]
                    assert index.nearest(packed, limit) == expected[:limit]

    def test_vectors_are_floats_of_32_bits_and_of_length_one(self, open_store: Callable[..., Any], raw: Any) -> None:
        """Anyone can read them with SQL."""
        asyncio.run(open_store(embedder=lambda texts: [[3, 0, 4]] * len(texts), embedding_model="m").add("a fact"))
        ((model, dimensions, digits),) = raw.execute(
            "SELECT model, dimensions, hex(vector) FROM memory_vectors"
        ).fetchall()
        assert (model, dimensions) == ("m", 3)
        assert struct.unpack("<3f", bytes.fromhex(digits)) == pytest.approx((0.6, 0, 0.8))


class TestEmbedder:
    async def test_is_asked_once_for_a_text(self, open_store: Callable[..., Any]) -> None:
        """A memory that is added again is not embedded again; `reindex` asks for many at once."""
        embedder = Embedder()
        store = open_store(embedder=embedder)
        for _ in range(3):
            await store.add("tea")
        assert embedder.asked == [["tea"]]
        plain = open_store()
        for number in range(70):
            await plain.add(f"tea {number}")
        embedder.asked.clear()
        assert await store.reindex() == 70
        assert [len(texts) for texts in embedder.asked] == [1, 64, 6]
        assert await store.reindex() == 0

    async def test_gets_what_waits_for_it_at_once(self, open_store: Callable[..., Any], raw: Any) -> None:
        """While it works for one, the others gather. Who asks for them and is cancelled leaves them to the next."""
        embedder, asked, answer = Embedder(), asyncio.Queue[builtins.list[str]](), asyncio.Queue[None]()

        async def slow(texts: list[str]) -> list[list[float]]:
            await asked.put(texts)
            await answer.get()
            return embedder(texts)

        store = open_store(embedder=slow)
        adding = {"tea 0": asyncio.ensure_future(store.add("tea 0"))}
        assert await asked.get() == ["tea 0"]
        for number in range(1, 41):
            adding[f"tea {number}"] = asyncio.ensure_future(store.add(f"tea {number}"))
        while len(next(iter(store._embedding._lines.values())).texts) < 40:
            await asyncio.sleep(0)
        await answer.put(None)
        together = await asked.get()
        assert sorted(together) == sorted(f"tea {number}" for number in range(1, 41))
        cancelled = adding.pop(together[0])
        cancelled.cancel()
        assert sorted(await asyncio.wait_for(asked.get(), 20)) == sorted(together[1:])
        await answer.put(None)
        await asyncio.gather(*adding.values())
        assert cancelled.cancelled()
        assert raw.execute("SELECT count(*) FROM memory_vectors").fetchone() == (40,)

    def test_keeps_no_loop_whose_texts_waited_for_it(self, open_store: Callable[..., Any]) -> None:
        """An agent that is called synchronously has a new loop for each turn."""
        embedder = Embedder()

        async def slow(texts: list[str]) -> list[list[float]]:
            vectors = embedder(texts)
            while len(embedder.asked) == 1 and not all(line.texts for line in store._embedding._lines.values()):
                await asyncio.sleep(0)
            return vectors

        async def turn() -> Any:
            await asyncio.gather(*(store.add(f"tea {number}") for number in range(3)))
            return weakref.ref(asyncio.get_running_loop())

        store = open_store(embedder=slow)
        loop = asyncio.run(turn())
        gc.collect()
        assert loop() is None

    async def test_one_text_of_several_that_it_cannot_embed_keeps_no_others_from_it(
        self, open_store: Callable[..., Any], raw: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        def embedder(texts: list[str]) -> list[list[float]]:
            if "tea 7" in texts:
                raise RuntimeError("not this one")
            return [meaning(text) for text in texts]

        store = open_store(embedder=embedder)
        await asyncio.gather(*(store.add(f"tea {number}") for number in range(20)))
        assert raw.execute("SELECT count(*) FROM memory_vectors").fetchone() == (19,)
        assert len([record for record in caplog.records if "not this one" in record.message]) == 1

    async def test_is_called_outside_of_any_lock(self, open_store: Callable[..., Any], raw: Any) -> None:
        """While it works, others write, and what it is called for is stored already."""
        stored: list[Any] = []

        async def embedder(texts: list[str]) -> list[list[float]]:
            raw.execute("UPDATE memories SET metadata = '{\"seen\":true}'")
            stored.extend(raw.execute("SELECT content FROM memories").fetchall())
            return [meaning(text) for text in texts]

        await open_store(embedder=embedder).add("tea")
        assert stored == [("tea",)]

    async def test_a_text_that_changes_while_it_is_embedded_gets_no_vector_of_the_former(
        self, open_store: Callable[..., Any], raw: Any
    ) -> None:
        """The vector of a text belongs to that text alone."""

        async def embedder(texts: list[str]) -> list[list[float]]:
            raw.execute("UPDATE memories SET content = 'cat'")
            return [meaning(text) for text in texts]

        await open_store(embedder=embedder).add("tea")
        assert raw.execute("SELECT count(*) FROM memory_vectors").fetchone() == (0,)

    @pytest.mark.parametrize(
        "broken",
        [
            failing,
            lambda texts: [],
            lambda texts: [[1.0]] * (len(texts) + 1),
            lambda texts: [[0.0, 0.0]],
            lambda texts: [[math.nan]],
            lambda texts: [[math.inf, 1.0]],
            lambda texts: [[]],
            lambda texts: [["a"]],
            lambda texts: None,
            lambda texts: [next(iter(()))],
        ],
    )
    async def test_one_that_fails_leaves_memories_that_are_found_by_words(
        self, open_store: Callable[..., Any], broken: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The failure is logged, for the memory and for the search; asking for it explicitly raises."""
        store = open_store(embedder=broken)
        await store.add("Ada likes tea")
        assert await found(store, "tea") == ["Ada likes tea"]
        warnings = [record for record in caplog.records if "the embedder failed" in record.message]
        assert len(warnings) == 2
        assert all(record.levelno == logging.WARNING and record.exc_info for record in warnings)
        with pytest.raises((ConnectionError, ValueError, TypeError, RuntimeError)):
            await store.reindex()

    async def test_what_it_missed_is_embedded_when_it_is_added_again_or_on_request(
        self, open_store: Callable[..., Any], raw: Any
    ) -> None:
        """A write that the SDK repeats makes up for it."""
        broken, sound = open_store(embedder=failing), open_store(embedder=Embedder())
        await broken.add("tea")
        await broken.add("cat")
        await sound.add("tea")
        assert raw.execute("SELECT count(*) FROM memory_vectors").fetchone() == (1,)
        assert await sound.reindex() == 1
        assert (await found(sound, "pet"))[0] == "cat"

    @pytest.mark.slow
    async def test_one_that_hangs_holds_up_nothing_else(
        self, open_store: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """However many calls wait for it, others go on, and each ends when it has waited for long enough."""
        monkeypatch.setattr("strands_sqlite_session_manager._memory.embedding._TIMEOUT", 0.5)
        end = threading.Event()
        store = open_store(embedder=lambda texts: end.wait())
        try:
            hanging = [asyncio.ensure_future(store.add(f"tea {number}")) for number in range(100)]
            while await store.count() < 100:
                pass
            assert not any(task.done() for task in hanging)
            await asyncio.gather(*hanging)
        finally:
            end.set()
        assert "TimeoutError" in caplog.text
        assert await store.count() == 100

    async def test_several_texts_that_it_fails_for_wait_no_longer_than_one(
        self, open_store: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is asked for each of them alone, as long as there is time."""
        monkeypatch.setattr("strands_sqlite_session_manager._memory.embedding._TIMEOUT", 0.2)
        end, embedder = threading.Event(), Embedder()

        def hanging(texts: list[str]) -> list[list[float]]:
            if len(embedder(texts)) == 1:
                end.wait()
            raise ConnectionError("no route to the model")

        store = open_store(embedder=hanging)
        try:
            await asyncio.gather(*(store.add(f"tea {number}") for number in range(20)))
        finally:
            end.set()
        assert await store.count() == 20
        assert len(embedder.asked) < 10

    @pytest.mark.slow
    async def test_one_that_hangs_in_its_result_holds_up_nothing_else(
        self, open_store: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It may make its vectors one by one."""
        monkeypatch.setattr("strands_sqlite_session_manager._memory.embedding._TIMEOUT", 0.5)
        end = threading.Event()

        def lazy(texts: list[str]) -> Any:
            end.wait()
            yield from ([1.0] for _ in texts)

        store = open_store(embedder=lazy)
        try:
            hanging = [asyncio.ensure_future(store.add(f"tea {number}")) for number in range(50)]
            while await store.count() < 50:
                pass
            await asyncio.gather(*hanging)
            assert await store.count() == 50
        finally:
            end.set()

    @pytest.mark.parametrize("refusal", [[0.0, 0.0], [math.nan, 1.0], [1j, 1], ["x", "y"], None], ids=str)
    async def test_one_text_that_it_cannot_embed_keeps_no_others_from_it(
        self, open_store: Callable[..., Any], raw: Any, refusal: Any
    ) -> None:
        """Asking for all again tells which it was, when all others are done."""
        plain = open_store()
        for number in range(130):
            await plain.add(f"tea {number}")
        store = open_store(embedder=lambda texts: [refusal if text == "tea 7" else [1.0, 0.0] for text in texts])
        with pytest.raises(ValueError, match=r"1 of 130 memories could not be embedded, .* memory 8: "):
            await store.reindex()
        assert raw.execute("SELECT count(*) FROM memory_vectors").fetchone() == (129,)

    async def test_a_memory_with_a_vector_of_another_length_gets_one_when_it_is_added_again(
        self, open_store: Callable[..., Any], raw: Any
    ) -> None:
        await open_store(embedder=Embedder()).add("tea")
        await open_store(embedder=lambda texts: [[1.0] * 7] * len(texts)).add("tea")
        assert raw.execute("SELECT dimensions FROM memory_vectors").fetchall() == [(7,)]

    @pytest.mark.parametrize(
        "changed",
        [
            {"embedder": lambda texts: [[*meaning(text), 0.0] for text in texts]},
            {"embedder": Embedder(), "embedding_model": "another"},
        ],
        ids=["dimensions", "model"],
    )
    async def test_another_model_is_noticed_and_embeds_all_again_on_request(
        self,
        open_store: Callable[..., Any],
        raw: Any,
        changed: dict[str, Any],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Vectors of the former one are not compared with the new ones'. Until then, words count."""
        before = open_store(embedder=Embedder())
        for fact in FACTS:
            await before.add(fact)
        await before.search("pets")
        assert caplog.records == []
        after = open_store(**changed)
        assert await found(after, "pets") == []
        assert await found(after, "cat") == ["Bob owns a cat"]
        assert [record.levelno for record in caplog.records if "call reindex()" in record.message] == [logging.WARNING]
        assert await after.reindex() == 4
        assert (await found(after, "pets"))[0] == "Bob owns a cat"
        assert raw.execute("SELECT count(*) FROM memory_vectors").fetchone() == (4,)

    async def test_another_length_is_noticed_also_while_the_store_is_open(
        self, open_store: Callable[..., Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        """Who serves the model may change it at any time. It is told once."""
        numbers = [1.0] * 7
        store = open_store(embedder=lambda texts: [numbers] * len(texts))
        await store.add("tea")
        await store.search("tea")
        assert caplog.records == []
        for length in (8, 7, 8):
            numbers = [1.0] * length
            await store.search("tea")
        assert ["call reindex()" in record.message for record in caplog.records] == [True]

    async def test_a_fault_of_the_database_while_vectors_are_stored_is_raised(
        self, open_store: Callable[..., Any], raw: Any
    ) -> None:
        """It is none of the embedder's, and adding again makes up for it."""
        store = open_store(embedder=Embedder())
        raw.execute(
            "CREATE TRIGGER refusing BEFORE INSERT ON memory_vectors BEGIN SELECT RAISE(ABORT, 'no vectors'); END"
        )
        with pytest.raises(Exception, match="no vectors"):
            await store.add("tea")
        raw.execute("DROP TRIGGER refusing")
        await store.add("tea")
        assert raw.execute("SELECT count(*) FROM memory_vectors").fetchone() == (1,)

    async def test_progress_of_reindexing_is_told(self, open_store: Callable[..., Any]) -> None:
        plain, store = open_store(), open_store(embedder=Embedder())
        for number in range(70):
            await plain.add(f"tea {number}")
        told: builtins.list[int] = []
        await store.reindex(progress=told.append)
        assert told == [64, 70]

    async def test_a_damaged_vector_is_left_out_until_it_is_made_again(
        self, open_store: Callable[..., Any], raw: Any
    ) -> None:
        """It takes no other with it, and its memory is found by its words."""
        store = open_store(embedder=lambda texts: [[float("tea" in text), 1.0] for text in texts])
        for content in ("green tea", "black tea", "a dog"):
            await store.add(content)
        raw.execute("UPDATE memory_vectors SET vector = x'00' WHERE memory_id = 1")
        assert {entry.content for entry in await store.search("tea")} >= {"green tea", "black tea"}
        assert await store.reindex() == 1
        assert raw.execute("SELECT count(*) FROM memory_vectors WHERE length(vector) = 8").fetchone() == (3,)


@pytest.mark.file_only
async def test_a_restored_backup_is_searched_and_not_what_was_before(
    open_store: Callable[..., Any], db_path: Any, tmp_path: Path
) -> None:
    """Ids of vectors that were added since are given once more."""
    pytest.importorskip("numpy")
    store = open_store(embedder=Embedder())
    await store.add("Ada owns a cat")
    maintenance.backup(tmp_path / "backup.db", db_path)
    await store.add("Ada likes tea")
    assert "Ada likes tea" in await found(store, "drinks")
    maintenance.restore_backup(tmp_path / "backup.db", db_path, overwrite=True)
    await store.add("Bob lives in Paris")
    assert await found(store, "olives") == ["Bob lives in Paris", "Ada owns a cat"]
