"""Deleting all that is stored of a user, as someone who is asked for it by law does."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionType

from helpers import FakeMultiAgent, text_message
from strands_sqlite_session_manager import SQLiteSessionRepository
from strands_sqlite_session_manager.catalog import ForgetResult, SessionCatalog

TABLES = ("sessions", "agents", "messages", "multi_agents", "storage", "memories", "memory_vectors")
TIMES = ("2026-01-31T12:00:00+00:00",) * 2
INSERT_KEY = "INSERT INTO storage (key, data, created_at, updated_at) VALUES (?, x'00', ?, ?)"
KEYS = ("session/{}/scopes/agent/a/snapshots/1", "context/{}/scopes/agent/a/1")


@pytest.fixture
def of_two(empty: SQLiteSessionRepository, catalog: SessionCatalog, raw: Any) -> SessionCatalog:
    """A catalog with two sessions of each of the users ada and bob, with stash, snapshots, notes and memories."""
    for user in ("ada", "bob"):
        for session_id in (f"{user}-a", f"{user}-b"):
            empty.create_session(Session(session_id, SessionType.AGENT))
            empty.create_agent(session_id, SessionAgent("a", {}, {}))
            empty.create_message(session_id, "a", text_message(0, f"secret of {user}"))
            empty.create_multi_agent(session_id, FakeMultiAgent("g", {}))
            catalog.set_metadata(session_id, {"user": user, "team": "x"})
            for key in KEYS:
                raw.execute(INSERT_KEY, (key.format(session_id), *TIMES))
        raw.execute(INSERT_KEY, (f"memory/{user}/notes.md", *TIMES))
        for store in ("facts", "wishes"):
            raw.execute(
                "INSERT INTO memories (store, scope, content, created_at, updated_at) VALUES (?, ?, ?, ?, ?)",
                (store, f"user-{user}", f"of {user}", *TIMES),
            )
        raw.execute(
            """
            INSERT INTO memory_vectors (memory_id, store, scope, model, dimensions, vector)
            SELECT memory_id, store, scope, 'm', 1, x'00' FROM memories WHERE scope = ?
            """,
            (f"user-{user}",),
        )
    return catalog


def everything(raw: Any) -> dict[str, list[Any]]:
    """What is in the tables that people's data is in."""
    return {table: sorted(raw.execute(f"SELECT * FROM {table}").fetchall(), key=str) for table in TABLES}


ALL_OF_ADA: dict[str, Any] = {
    "metadata": {"user": "ada"},
    "memory_scopes": ["user-ada"],
    "storage_prefixes": ["memory/ada/"],
}


def test_all_of_a_user_goes_and_is_reported_and_nothing_of_another(of_two: SessionCatalog, raw: Any) -> None:
    """Sessions by metadata, with stash and snapshots, memories by scope, keys by prefix."""
    told = of_two.forget_user(**ALL_OF_ADA, dry_run=True)
    before = everything(raw)
    assert of_two.forget_user(**ALL_OF_ADA) == told == ForgetResult(2, 2, 2, 2, 5, 2)
    after = everything(raw)
    for table in TABLES:
        assert after[table] == [row for row in before[table] if "ada" not in str(row)]
        assert len(after[table]) == len(before[table]) // 2
    assert of_two.forget_user(**ALL_OF_ADA) == ForgetResult(0, 0, 0, 0, 0, 0)


def test_a_dry_run_changes_nothing(of_two: SessionCatalog, raw: Any) -> None:
    """It only counts."""
    before = everything(raw)
    of_two.forget_user(**ALL_OF_ADA, dry_run=True)
    assert everything(raw) == before


def test_each_argument_alone_deletes_what_it_names(of_two: SessionCatalog) -> None:
    """They are added up, not combined."""
    assert of_two.forget_user(memory_scopes=["user-ada", "nobody"]) == ForgetResult(0, 0, 0, 0, 0, 2)
    assert of_two.forget_user(storage_prefixes=["memory/"]) == ForgetResult(0, 0, 0, 0, 2, 0)
    assert of_two.forget_user(session_ids=["ada-a", "nobody"]) == ForgetResult(1, 1, 1, 1, 2, 0)
    assert of_two.forget_user(metadata={"team": "x"}) == ForgetResult(3, 3, 3, 3, 6, 0)


def test_a_session_that_is_nothing_but_snapshots_goes_by_its_id(catalog: SessionCatalog, raw: Any) -> None:
    """One of the SDK's `SnapshotSessionManager`; an id that is longer is another session."""
    for session_id in ("s", "s2"):
        raw.execute(INSERT_KEY, (KEYS[0].format(session_id), *TIMES))
    assert catalog.forget_user(session_ids=["s"], dry_run=True) == ForgetResult(1, 0, 0, 0, 1, 0)
    assert catalog.forget_user(session_ids=["s"]) == ForgetResult(1, 0, 0, 0, 1, 0)
    assert [key for (key,) in raw.execute("SELECT key FROM storage").fetchall()] == [KEYS[0].format("s2")]
    assert catalog.count_sessions() == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"metadata": {}},
        {"session_ids": [""]},
        {"session_ids": "s"},
        {"memory_scopes": "user-ada"},
        {"storage_prefixes": [""]},
        {"metadata": {}, "memory_scopes": ["user-ada"]},
    ],
    ids=str,
)
def test_what_would_mean_everything_or_nothing_is_refused(
    of_two: SessionCatalog, raw: Any, arguments: dict[str, Any]
) -> None:
    """An argument that was computed and came out empty must not delete all."""
    before = everything(raw)
    with pytest.raises(ValueError, match=r"metadata|ids|scopes|prefixes"):
        of_two.forget_user(**arguments)
    assert everything(raw) == before


@pytest.mark.file_only
def test_it_is_done_completely_or_not_at_all(of_two: SessionCatalog, raw: sqlite3.Connection) -> None:
    """If one of the tables cannot be changed, all others stay as they were."""
    raw.execute("CREATE TRIGGER refusing BEFORE DELETE ON memories BEGIN SELECT RAISE(ABORT, 'memories are kept'); END")
    before = everything(raw)
    with pytest.raises(SessionException, match="memories are kept"):
        of_two.forget_user(**ALL_OF_ADA)
    assert everything(raw) == before


@pytest.mark.file_only
def test_nothing_of_it_is_left_on_disk(db_path: Path) -> None:
    """Messages, stored data and memories leave the search indexes and the log too."""
    pytest.importorskip("strands.memory", reason="it needs an SDK with memory")
    pytest.importorskip("strands.storage", reason="it needs an SDK with storage")
    from strands_sqlite_session_manager import SQLiteMemoryStore, SQLiteStorage

    with (
        SQLiteSessionRepository(db_path) as repository,
        SQLiteStorage(db_path) as storage,
        SQLiteMemoryStore("facts", db_path, scope="user-ada") as store,
    ):
        catalog = SessionCatalog(session_repository=repository)
        repository.create_session(Session("s", SessionType.AGENT))
        repository.create_agent("s", SessionAgent("a", {}, {}))
        repository.create_message("s", "a", text_message(0, "xylophone one"))
        asyncio.run(storage.write("memory/ada/a.md", b"xylophone two"))
        asyncio.run(store.add("xylophone three"))
        assert len(catalog.search("xylophone")) == 1
        assert len(asyncio.run(storage.search("xylophone"))) == 1
        assert len(asyncio.run(store.search("xylophone"))) == 1
        catalog.forget_user(session_ids=["s"], memory_scopes=["user-ada"], storage_prefixes=["memory/ada/"])
        files = [path.read_bytes() for path in db_path.parent.glob(f"{db_path.name}*")]
        assert files
        assert not any(b"xyloph" in content for content in files)
