"""Sessions of the SDK's `SnapshotSessionManager`, beside as many of the tables."""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("strands.session.snapshot_session_manager", reason="an SDK without SnapshotSessionManager")

from strands import Agent
from strands.session import SnapshotSessionManager

from conftest import filled
from contenders import OURS
from strands_sqlite_session_manager.catalog import SessionCatalog
from strands_sqlite_session_manager.storage import SQLiteStorage

WITHOUT = "without a list of sessions"
KEY = "session/snapshots-{}/scopes/agent/a/snapshots/snapshot_latest.json"


def snapshot(messages: int, kilobytes: int = 1) -> bytes:
    """Return a snapshot of so many messages."""
    content = [{"text": f"A sentence of about forty characters. {'x' * (1000 * kilobytes - 40)}"}]
    data = {"messages": [{"role": "user", "content": content}] * messages, "state": {}}
    return json.dumps({"scope": "agent", "schema_version": "1.0", "created_at": "2026", "data": data}).encode()


@pytest.fixture(scope="session")
def both_kinds(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """100,000 sessions of each kind, the snapshots of two short messages."""
    sessions = 10_000 if request.config.option.short else 100_000
    directory = tmp_path_factory.mktemp("both")
    with filled(directory, sessions, []) as repository:
        data = snapshot(2, 0)
        with closing(sqlite3.connect(directory / "sessions.db")) as connection, connection:
            connection.executemany(
                "INSERT INTO storage (key, data) VALUES (?, ?)", ((KEY.format(n), data) for n in range(sessions))
            )
        yield SessionCatalog(session_repository=repository)


@pytest.mark.work("list sessions, the first 50 of 100,000 of each kind", (OURS,))
@pytest.mark.goal(0.010)
def test_first_page_of_both(measure: Callable[..., Any], both_kinds: Any) -> None:
    assert len(measure(both_kinds.list_sessions, rounds=200).sessions) == 50


@pytest.mark.work("list the agents of a session of snapshots", (OURS,))
@pytest.mark.goal(0.005)
def test_agents(measure: Callable[..., Any], both_kinds: Any) -> None:
    numbers = count()
    agents = measure(both_kinds.list_agents, arguments=lambda: (f"snapshots-{next(numbers)}",), rounds=200)
    assert agents[0].message_count == 2


def save(measure: Callable[..., Any], contender: str, directory: Path, messages: int) -> None:
    """Time the SDK storing an agent, one of 5,000 in turn."""
    storage = SQLiteStorage(directory / "sessions.db")
    with closing(sqlite3.connect(directory / "sessions.db")) as connection, connection:
        data, sessions = snapshot(messages), 5000
        connection.executemany(
            "INSERT INTO storage (key, data) VALUES (?, ?)", ((KEY.format(n), data) for n in range(sessions))
        )
        if contender == WITHOUT:
            for name in ("insert", "update"):
                connection.execute(f"DROP TRIGGER storage_touch_session_{name}")
    agent = Agent(callback_handler=None, agent_id="a", messages=json.loads(snapshot(messages))["data"]["messages"])
    managers = (SnapshotSessionManager(f"snapshots-{n * 37 % sessions}", storage=storage) for n in count())
    with closing(storage), closing(asyncio.new_event_loop()) as loop:
        measure(
            lambda manager: loop.run_until_complete(manager.save_snapshot(agent, is_latest=True)),
            arguments=lambda: (next(managers),),
            rounds=1000,
        )
        loop.run_until_complete(loop.shutdown_default_executor())


@pytest.mark.work("store a snapshot of 2 messages of 1 KB", (WITHOUT, OURS))
@pytest.mark.goal(1.05, times=WITHOUT)
def test_save_small(measure: Callable[..., Any], contender: str, tmp_path: Path) -> None:
    save(measure, contender, tmp_path, 2)


@pytest.mark.work("store a snapshot of 20 messages of 1 KB", (WITHOUT, OURS))
@pytest.mark.goal(1.05, times=WITHOUT)
def test_save_20(measure: Callable[..., Any], contender: str, tmp_path: Path) -> None:
    save(measure, contender, tmp_path, 20)


@pytest.mark.work("store a snapshot of 100 messages of 1 KB", (WITHOUT, OURS))
@pytest.mark.goal(1.05, times=WITHOUT)
def test_save_100(measure: Callable[..., Any], contender: str, tmp_path: Path) -> None:
    save(measure, contender, tmp_path, 100)
