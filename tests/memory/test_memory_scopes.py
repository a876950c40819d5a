"""Stores and scopes are exact: nothing of one is found, listed, changed or deleted through another."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

PLACES = [
    ("facts", "user-4"),
    ("facts", "user-42"),
    ("facts", "USER-42"),
    ("facts", "user-42 "),
    ("facts", "%"),
    ("facts", "user_42"),
    ("facts", "'; DROP TABLE memories; --"),
    ("fact", "suser-42"),
    ("wishes", "user-42"),
    ("facts", "用户"),
]


@pytest.fixture
def stores(open_store: Callable[..., Any]) -> dict[tuple[str, str], Any]:
    """A store for each place, with two memories of the same texts as in the others, and one of its own."""

    async def fill(store: Any, place: tuple[str, str]) -> None:
        for content in ("likes green tea", "likes jazz", f"is called {place}"):
            await store.add(content, {"place": list(place)})

    stores = {place: open_store(place[0], scope=place[1]) for place in PLACES}
    for place, store in stores.items():
        asyncio.run(fill(store, place))
    return stores


def all_of(stores: dict[tuple[str, str], Any], but: tuple[str, str]) -> list[Any]:
    return [asyncio.run(store.list()) for place, store in stores.items() if place != but]


async def test_searches_lists_and_counts_see_their_own_alone(stores: dict[tuple[str, str], Any]) -> None:
    """With and without the words of others, before and after the index was built."""
    for _ in range(2):
        for place, store in stores.items():
            found = await store.search("Who likes green tea or is called what?", {"max_search_results": 100})
            assert len(found) == 3
            assert all(entry.metadata["place"] == list(place) for entry in found)
            assert all(memory.metadata["place"] == list(place) for memory in (await store.list()).memories)
            assert await store.count() == 3


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_changes_touch_their_own_alone(stores: dict[tuple[str, str], Any], place: tuple[str, str]) -> None:
    """Not by the ids of others either."""
    store = stores[place]
    before = all_of(stores, place)
    foreign = [memory.memory_id for page in before for memory in page.memories]

    async def change() -> None:
        for memory_id in foreign[:3]:
            assert await store.get(memory_id) is None
            with pytest.raises(Exception, match="does not exist"):
                await store.update(memory_id, content="x")
            with pytest.raises(Exception, match="does not exist"):
                await store.delete(memory_id)
        assert await store.forget(memory_ids=foreign) == []
        assert len(await store.forget("jazz")) == 1
        assert await store.prune(keep_last=1) == 1
        assert await store.clear() == 1

    asyncio.run(change())
    assert all_of(stores, place) == before


async def test_a_word_that_the_index_has_for_a_place_finds_nothing(stores: dict[tuple[str, str], Any]) -> None:
    """Whoever knows how places are written in the index cannot search with it."""
    from strands_sqlite_session_manager._search.sources import place_word

    for place in PLACES:
        assert await stores["facts", "user-42"].search(place_word(*place)) == []
        assert await stores["facts", "user-42"].search(f'place : "{place_word(*place)}"') == []


async def test_metadata_narrows_a_search_down(open_store: Callable[..., Any]) -> None:
    """All names and values must be there; true and 1 differ."""
    store = open_store()
    await store.add("likes tea", {"kind": "food", "n": 1})
    await store.add("likes coffee", {"kind": "food", "n": 2})
    await store.add("likes jazz", {"kind": "music", "n": 1})

    async def found(metadata: dict[str, Any]) -> list[str]:
        return [entry.content for entry in await store.search("likes", {"metadata": metadata})]

    assert await found({"kind": "food", "n": 1}) == ["likes tea"]
    assert sorted(await found({"kind": "food"})) == ["likes coffee", "likes tea"]
    assert await found({"n": True}) == []
    assert len(await found({})) == 3


async def test_rows_by_hand_move_to_the_place_that_they_are_given(open_store: Callable[..., Any], raw: Any) -> None:
    """A memory whose scope is changed with SQL is found there, and not where it was."""
    one, other = open_store(scope="one"), open_store(scope="other")
    await one.add("likes tea")
    assert len(await one.search("tea")) == 1
    raw.execute("UPDATE memories SET scope = 'other'")
    assert await one.search("tea") == []
    assert len(await other.search("tea")) == 1
