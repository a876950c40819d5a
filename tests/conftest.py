"""Fixtures: real database files, and a second, raw connection to look at them with."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from nodes import Cluster, raw_connection, running
from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository
from strands_sqlite_session_manager.catalog import SessionCatalog

# Shared machines are slow at times; that is no failure.
settings.register_profile("shared", deadline=None)
settings.load_profile("shared")


@pytest.fixture(autouse=True)
def _private_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the default path, ./sessions.db, away from the checkout and from other tests."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STRANDS_SQLITE_DB_PATH", raising=False)


# Folders whose tests are all about files.
FILE_ONLY = ("cli", "engine", "maintenance", "stress")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is about files where the database is a cluster."""
    left_out = [
        item
        for item in items
        if "db_path" in getattr(item, "fixturenames", ())
        and item.get_closest_marker("cluster")
        and (item.get_closest_marker("file_only") or item.path.parent.name in FILE_ONLY)
    ]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes."""
    with running(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def cluster(nodes: Cluster) -> Iterator[Cluster]:
    """Three nodes without anything in them, which must have the same rows in the end."""
    nodes.empty()
    yield nodes
    nodes.require_equal_nodes()


@pytest.fixture(params=["file", pytest.param("rqlite", marks=pytest.mark.cluster)])
def db_path(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Where a database is to be: a path, or the URL of a cluster."""
    return tmp_path / "sessions.db" if request.param == "file" else request.getfixturevalue("cluster").url


@pytest.fixture
def repository(db_path: Path) -> Iterator[SQLiteSessionRepository]:
    """A repository with the session `s` and its agent `a`."""
    with SQLiteSessionRepository(db_path) as repository:
        repository.create_session(Session("s", SessionType.AGENT))
        repository.create_agent("s", SessionAgent("a", {}, {}))
        yield repository


@pytest.fixture
def empty(db_path: Path) -> Iterator[SQLiteSessionRepository]:
    """A repository without any session."""
    with SQLiteSessionRepository(db_path) as repository:
        yield repository


@pytest.fixture
def catalog(empty: SQLiteSessionRepository) -> SessionCatalog:
    """A catalog of the repository `empty`."""
    return SessionCatalog(session_repository=empty)


@pytest.fixture
def manager(db_path: Path) -> Iterator[SQLiteSessionManager]:
    """A manager of the session `s`, without agents."""
    with SQLiteSessionManager("s", db_path) as manager:
        yield manager


@pytest.fixture
def storage(db_path: Path) -> Iterator[Any]:
    """A storage, where the SDK has storages."""
    pytest.importorskip("strands.storage")
    from strands_sqlite_session_manager.storage import SQLiteStorage

    with SQLiteStorage(db_path) as storage:
        yield storage


@pytest.fixture
def filled(db_path: Path) -> Path:
    """A database with the sessions `s` and `t`, of one agent and two turns each."""
    usage = {"usage": {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15}}  # As newer SDKs store it.
    with SQLiteSessionRepository(db_path) as repository:
        for session_id in "st":
            repository.create_session(Session(session_id, SessionType.AGENT))
            repository.create_agent(session_id, SessionAgent("default", {}, {}))
            for number, text in enumerate(("I am Ada.", "Hello, Ada.", "Bye.", "Goodbye.")):
                message: Any = {"role": "assistant" if number % 2 else "user", "content": [{"text": text}]}
                if number % 2:
                    message["metadata"] = usage
                repository.create_message(session_id, "default", SessionMessage(message, number))
    return db_path


@pytest.fixture
def raw(db_path: Any) -> Iterator[Any]:
    """A plain connection to the database, in autocommit mode."""
    with raw_connection(db_path) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        yield connection


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[sqlite3.Connection]:
    """The connections that the library opens from now on."""
    connections: list[sqlite3.Connection] = []
    connect: Callable[..., sqlite3.Connection] = sqlite3.connect

    def counting_connect(*args: object, **kwargs: object) -> sqlite3.Connection:
        connections.append(connect(*args, **kwargs))
        return connections[-1]

    monkeypatch.setattr("strands_sqlite_session_manager._engine.connection.sqlite3.connect", counting_connect)
    return connections
