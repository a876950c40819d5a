"""Managers, repositories, catalogs and storages in processes that are spawned, as on macOS and Windows."""

import copy
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from helpers import make_agent, texts
from strands_sqlite_session_manager import SessionCatalog, SQLiteSessionManager, SQLiteSessionRepository
from strands_sqlite_session_manager._engine.holder import database_of


def messages_of(store: Any) -> list[str]:
    if isinstance(store, SessionCatalog):
        return [message.message["content"][0]["text"] for message in store.history("s", "default")][::-1]
    return texts(store.list_messages("s", "default"))


@pytest.fixture
def said(db_path: Path) -> list[str]:
    with SQLiteSessionManager("s", db_path) as manager:
        make_agent(manager, "hello")("hi")
    return ["hi", "hello"]


@pytest.mark.slow
def test_work_in_a_spawned_process(db_path: Path, said: list[str]) -> None:
    stores = [
        SQLiteSessionManager("s", db_path, synchronous="FULL", busy_timeout=2),
        SQLiteSessionRepository(db_path, read_only=True),
        SessionCatalog(db_path),
        SessionCatalog(session_repository=SQLiteSessionRepository(db_path)),
    ]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        assert list(executor.map(messages_of, stores)) == [said] * len(stores)


@pytest.mark.file_only
def test_keep_their_options(db_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    manager = SQLiteSessionManager("s", db_path.name, synchronous="FULL", busy_timeout=2)
    monkeypatch.chdir(db_path.parent.parent)  # A relative path means the same file wherever it is unpickled.
    again = pickle.loads(pickle.dumps(manager))
    assert messages_of(again) == said
    assert database_of(again).path == str(db_path)
    assert database_of(again).query("PRAGMA synchronous") == [(2,)]
    read_only = pickle.loads(pickle.dumps(SQLiteSessionRepository(db_path, read_only=True)))
    with pytest.raises(Exception, match="readonly"):
        read_only.delete_session("s")


async def test_storages_keep_their_prefix(db_path: Path) -> None:
    storage_class = pytest.importorskip("strands_sqlite_session_manager.storage", exc_type=ImportError).SQLiteStorage
    view = storage_class(db_path).namespace("a/b")
    await view.write("c", b"data")
    again = pickle.loads(pickle.dumps(view))
    assert await again.read("c") == b"data"
    assert await again.list() == ["c"]


@pytest.mark.parametrize("build", [lambda: SQLiteSessionManager("s", ":memory:"), lambda: SessionCatalog(":memory:")])
def test_a_database_in_memory_is_refused_with_a_reason(build: Any) -> None:
    for duplicate in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError, match=r"':memory:' cannot be pickled or copied: .*use a file"):
            duplicate(build())


def test_a_manager_says_why_it_is_not_copied_with_its_agent(db_path: Path) -> None:
    manager = SQLiteSessionManager("s", db_path)
    with pytest.raises(TypeError, match="cannot be copied, because both would write to the same conversation"):
        copy.deepcopy(manager)
    with pytest.raises((TypeError, AttributeError)):  # The SDK's agents have locks, which cannot be copied either.
        copy.deepcopy(make_agent(manager))
