"""Questions and changes across 100,000 sessions with a million messages."""

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from contenders import OURS
from strands_sqlite_session_manager import SQLiteSessionRepository
from strands_sqlite_session_manager.catalog import SessionCatalog

LONG_SESSION = "a session of 1,000 messages"


@pytest.fixture
def catalog(many_sessions: SQLiteSessionRepository) -> SessionCatalog:
    return SessionCatalog(session_repository=many_sessions)


@pytest.fixture
def long_session(catalog: SessionCatalog, many_sessions: SQLiteSessionRepository) -> str:
    """A session with a thousand messages of one kilobyte."""
    if catalog.describe(LONG_SESSION) is None:
        from test_messages import TEXT

        catalog.fork_session("session-0", LONG_SESSION, through={"a": 0})
        for number in range(1, 1000):
            many_sessions.create_message(LONG_SESSION, "a", SessionMessage(TEXT[0], number))
    return LONG_SESSION


@pytest.mark.work("list sessions, the first 50 of 100,000", (OURS,))
@pytest.mark.goal(0.010)
def test_first_page(measure: Callable[..., Any], catalog: SessionCatalog) -> None:
    assert len(measure(catalog.list_sessions, rounds=200).sessions) == 50


@pytest.mark.work("list sessions, the hundredth page", (OURS,))
@pytest.mark.goal(0.010)
def test_hundredth_page(measure: Callable[..., Any], catalog: SessionCatalog) -> None:
    after = None
    for _ in range(99):
        after = catalog.list_sessions(after=after).next
    assert len(measure(partial(catalog.list_sessions, after=after), rounds=200).sessions) == 50


@pytest.mark.work("describe a session", (OURS,))
@pytest.mark.goal(0.005)
def test_describe(measure: Callable[..., Any], catalog: SessionCatalog) -> None:
    numbers = count()
    summary = measure(catalog.describe, arguments=lambda: (f"session-{next(numbers)}",), rounds=200)
    assert summary.message_count == 20


@pytest.mark.work("a page of a history", (OURS,))
@pytest.mark.goal(0.001)
def test_history(measure: Callable[..., Any], catalog: SessionCatalog, long_session: str) -> None:
    assert len(measure(partial(catalog.history, long_session, "a", before=500), rounds=200)) == 50


@pytest.mark.work("usage of 1,000,000 messages", (OURS,))
@pytest.mark.goal(3)
def test_usage(measure: Callable[..., Any], catalog: SessionCatalog) -> None:
    assert measure(catalog.usage, rounds=1).total_tokens > 0


@pytest.mark.work("fork a session of 1,000 messages", (OURS,))
@pytest.mark.goal(0.050)
def test_fork(measure: Callable[..., Any], catalog: SessionCatalog, long_session: str) -> None:
    names = [f"copy {number}" for number in range(33)]
    unused = iter(names)
    measure(catalog.fork_session, arguments=lambda: (long_session, next(unused)), rounds=30)
    catalog.delete_sessions(names)


@pytest.mark.work("delete a session of 1,000 messages", (OURS,))
@pytest.mark.goal(0.050)
def test_delete(measure: Callable[..., Any], catalog: SessionCatalog, long_session: str) -> None:
    def copied() -> tuple[str]:
        catalog.fork_session(long_session, "a copy")
        return ("a copy",)

    assert measure(catalog.delete_session, arguments=copied, rounds=30).messages == 1000


PRUNE = """
import sys
from datetime import timedelta
from strands_sqlite_session_manager.catalog import SessionCatalog
SessionCatalog(sys.argv[1]).prune(older_than=timedelta(days=1))
"""


@pytest.mark.work("the longest append beside pruning 1,000,000 sessions", (OURS,))
@pytest.mark.goal(0.25)
def test_append_beside_pruning(record: Callable[[float], None], short: bool, tmp_path: Path, turn: int) -> None:
    """Another process prunes."""
    if turn:
        return  # Once is enough.
    path = tmp_path / "sessions.db"
    with SQLiteSessionRepository(path) as repository:
        with closing(sqlite3.connect(path)) as connection, connection:
            long_ago = "2020-01-01T00:00:00.000000+00:00"
            names = [(f"session-{number}", long_ago, long_ago) for number in range(20_000 if short else 1_000_000)]
            connection.executemany("INSERT INTO sessions (session_id, created_at, updated_at) VALUES (?, ?, ?)", names)
        repository.create_session(Session("live", SessionType.AGENT))
        repository.create_agent("live", SessionAgent("a", {}, {}))
        pruning = subprocess.Popen([sys.executable, "-c", PRUNE, str(path)])
        longest = 0.0
        for number in count():
            if pruning.poll() is not None:
                break
            start = time.perf_counter()
            repository.create_message("live", "a", SessionMessage({"role": "user", "content": [{"text": "x"}]}, number))
            longest = max(longest, time.perf_counter() - start)
        assert pruning.returncode == 0
        assert SessionCatalog.on(repository).count_sessions() == 1
    record(longest)
