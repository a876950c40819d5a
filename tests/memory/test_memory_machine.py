"""Any sequence of calls, beside a model of plain dictionaries."""

import asyncio
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

pytest.importorskip("strands.memory", reason="it needs an SDK with memory")

from strands_sqlite_session_manager import SessionConflictError, SQLiteMemoryStore

WORDS = ("tea", "jazz", "boat", "茶", "été")
contents = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join)
places = st.sampled_from([("facts", "a"), ("facts", "b"), ("wishes", "a")])
metadata = st.none() | st.fixed_dictionaries({"n": st.integers(0, 1)})


def embedder(texts: list[str]) -> list[list[float]]:
    """Has a dimension for each word."""
    return [[text.count(word) + 0.1 for word in WORDS] for text in texts]


class MemoryMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.store = SQLiteMemoryStore("facts", ":memory:", scope="a", embedder=embedder)
        # Others on the same database, which is in memory: by its pickled form it could not be opened again.
        self.stores: dict[tuple[str, str], Any] = {}
        for place in (("facts", "a"), ("facts", "b"), ("wishes", "a")):
            other = SQLiteMemoryStore.on(self.store)
            other._configure({**self.store._config, "name": place[0], "scope": place[1]})
            self.stores[place] = other
        # By place, the memories by their ids, in the order in which they were last added: text, metadata, times added.
        self.memories: dict[tuple[str, str], dict[int, list[Any]]] = {place: {} for place in self.stores}
        self.ids: set[int] = set()

    def teardown(self) -> None:
        self.store.close()
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    def run(self, call: Any) -> Any:
        return self.loop.run_until_complete(call)

    def id_of(self, place: tuple[str, str], content: str) -> int | None:
        return next((key for key, memory in self.memories[place].items() if memory[0] == content), None)

    @rule(place=places, content=contents, metadata=metadata)
    def add(self, place: tuple[str, str], content: str, metadata: dict[str, int] | None) -> None:
        memory_id = self.run(self.stores[place].add(content, metadata))
        known = self.id_of(place, content)
        if known is None:
            assert memory_id not in self.ids
            self.ids.add(memory_id)
            self.memories[place][memory_id] = [content, metadata or {}, 1]
        else:
            assert memory_id == known
            memory = self.memories[place].pop(known)
            self.memories[place][known] = [content, memory[1] if metadata is None else metadata, memory[2] + 1]

    @precondition(lambda self: self.ids)
    @rule(place=places, content=contents, data=st.data())
    def update(self, place: tuple[str, str], content: str, data: st.DataObject) -> None:
        memory_id = data.draw(st.sampled_from(sorted(self.ids)))
        call = self.stores[place].update(memory_id, content=content)
        if memory_id not in self.memories[place]:
            with pytest.raises(Exception, match="does not exist"):
                self.run(call)
        elif self.id_of(place, content) not in (None, memory_id):
            with pytest.raises(SessionConflictError):
                self.run(call)
        else:
            self.run(call)
            memory = self.memories[place].pop(memory_id)
            self.memories[place][memory_id] = [content, *memory[1:]]

    @precondition(lambda self: self.ids)
    @rule(place=places, data=st.data())
    def forget(self, place: tuple[str, str], data: st.DataObject) -> None:
        ids = data.draw(st.lists(st.sampled_from(sorted(self.ids)), max_size=3))
        forgotten = self.run(self.stores[place].forget(memory_ids=ids))
        there = {memory_id for memory_id in ids if memory_id in self.memories[place]}
        assert {memory.memory_id for memory in forgotten} == there
        for memory_id in there:
            del self.memories[place][memory_id]

    @rule(place=places, words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=2))
    def forget_words(self, place: tuple[str, str], words: list[str]) -> None:
        self.run(self.stores[place].forget(" ".join(words)))
        for memory_id, (content, *_) in [*self.memories[place].items()]:
            if set(words) <= set(content.split()):
                del self.memories[place][memory_id]

    @rule(place=places, keep_last=st.integers(0, 3))
    def prune(self, place: tuple[str, str], keep_last: int) -> None:
        ids = [*self.memories[place]]
        gone = ids[: max(len(ids) - keep_last, 0)]
        assert self.run(self.stores[place].prune(keep_last=keep_last)) == len(gone)
        for memory_id in gone:
            del self.memories[place][memory_id]

    @rule(place=places, words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=2, unique=True))
    def search(self, place: tuple[str, str], words: list[str]) -> None:
        entries = self.run(self.stores[place].search(" ".join(words), {"max_search_results": 100}))
        # By meaning, all are found; by words, those that have one come first if they also are the nearest.
        expected = {content for content, *_ in self.memories[place].values()}
        assert {entry.content for entry in entries} == expected
        assert len(entries) == len(expected)
        if any(set(words) & set(content.split()) for content in expected):
            assert set(words) & set(entries[0].content.split())

    @invariant()
    def all_is_there(self) -> None:
        for place, memories in self.memories.items():
            page = self.run(self.stores[place].list(limit=100))
            listed = [(m.memory_id, [m.content, m.metadata, m.times_added]) for m in page.memories]
            assert listed == [*memories.items()][::-1]
            assert self.run(self.stores[place].count()) == len(memories)
        ((vectors,),) = self.store._database.query("SELECT count(*) FROM memory_vectors")
        assert vectors == sum(map(len, self.memories.values()))


class TestQuickly(MemoryMachine.TestCase):
    settings = settings(max_examples=10, stateful_step_count=20, deadline=None)


@pytest.mark.slow
class TestThoroughly(MemoryMachine.TestCase):
    settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
