"""What SQLite reads for the calls that agents make all the time: never more than it must."""

from typing import Any

import pytest

from helpers import query_plans
from strands_sqlite_session_manager._engine.holder import database_of
from strands_sqlite_session_manager._memory import records, vectors, words
from strands_sqlite_session_manager._memory.records import Place
from strands_sqlite_session_manager._memory.vectors import VectorIndex

pytestmark = pytest.mark.file_only

PLACE = Place("facts", "default")
NOW = "2026-01-31T12:00:00+00:00"


@pytest.fixture
def plans(store: Any, remember: Any, raw: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[list[str]]]:
    """The database of a store with memories, and the plans of what is asked of it from now on."""
    remember("likes tea", "likes coffee", "fears dogs")
    words.find(database_of(store), PLACE, "tea", "OR", 10, None, NOW)
    return database_of(store), query_plans(store, raw, monkeypatch)


def test_memories_are_read_by_their_ids(plans: tuple[Any, list[list[str]]]) -> None:
    """Not by going through all of the scope."""
    database, steps = plans
    assert len(records.read(database, PLACE, [1, 2], None, NOW)) == 2
    assert "SEARCH memories USING INTEGER PRIMARY KEY (rowid=?)" in steps[0]


def test_a_page_is_read_in_its_order(plans: tuple[Any, list[list[str]]]) -> None:
    """Without sorting all of the scope, also from the middle on."""
    database, steps = plans
    page = records.page(database, PLACE, 1, None, None, NOW)
    records.page(database, PLACE, 1, page.next, None, NOW)
    index = "SEARCH memories USING INDEX memories_by_time (store=? AND scope=?"
    assert steps == [[f"{index})"], [f"{index} AND updated_at<?)"]] or steps == [
        [f"{index})"],
        [f"{index} AND (updated_at,memory_id)<(?,?))"],
    ]


def test_a_search_reads_the_rows_that_the_index_gives(plans: tuple[Any, list[list[str]]]) -> None:
    """Each by its id."""
    database, steps = plans
    assert len(words.find(database, PLACE, "tea", "OR", 10, None, NOW)) == 1
    assert steps[-1][0].startswith("SCAN search_memories VIRTUAL TABLE INDEX")
    assert "SEARCH memories USING INTEGER PRIMARY KEY (rowid=?)" in steps[-1]


def test_vectors_that_came_since_are_read_alone(plans: tuple[Any, list[list[str]]]) -> None:
    """By store, scope, model and number; and those that are nearest are looked up, whether they are still there."""
    pytest.importorskip("numpy")
    database, steps = plans
    database.transaction([vectors.storing(PLACE, "m", "likes tea", bytes(4))])
    VectorIndex(database, PLACE, "m").nearest(bytes(4), 1)
    where = "memory_vectors_by_store (store=? AND scope=? AND model=? AND dimensions=?"
    assert steps[0] == [f"SEARCH memory_vectors USING INDEX {where} AND rowid>?)"]
    assert steps[-1][0] == "SEARCH memory_vectors USING INTEGER PRIMARY KEY (rowid=?)"


def test_vectors_below_one_that_was_deleted_are_not_read_again(
    store: Any, remember: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest memory is the one that is deleted or changed most often."""
    pytest.importorskip("numpy")
    ids = remember(*(f"likes tea {number}" for number in range(9)))
    database = database_of(store)
    database.transaction([vectors.storing(PLACE, "m", f"likes tea {number}", bytes(4)) for number in range(9)])
    index = VectorIndex(database, PLACE, "m")
    assert index.nearest(bytes(4), 9) == ids[::-1]
    records.delete(database, PLACE, ids[2:3] + ids[7:])
    read_after: list[int] = []
    read = index._rows
    monkeypatch.setattr(index, "_rows", lambda size, after: read_after.append(after) or read(size, after))
    assert index.nearest(bytes(4), 9) == [*ids[6:2:-1], *ids[1::-1]]
    assert read_after == [7]
