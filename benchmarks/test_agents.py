"""Agents: what a web handler does for a request, and what a turn costs."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest
from strands import Agent
from strands.models import Model
from strands.session.repository_session_manager import RepositorySessionManager

from contenders import FLOOR, OURS, BareRepository, Nothing
from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

NO_STORAGE = "no storage"


class OneAnswer(Model):
    """Always says the same."""

    def update_config(self, **model_config: Any) -> None:
        pass

    def get_config(self) -> dict[str, Any]:
        return {}

    async def structured_output(self, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        raise NotImplementedError
        yield

    async def stream(self, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        yield {"messageStart": {"role": "assistant"}}
        yield {"contentBlockStart": {"start": {}}}
        yield {"contentBlockDelta": {"delta": {"text": "An answer of a few words."}}}
        yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": "end_turn"}}
        yield {
            "metadata": {
                "usage": {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2},
                "metrics": {"latencyMs": 1},
            }
        }


@pytest.fixture
def db_path(tmp_path: Path) -> Path:
    """A file with a session whose agent has 20 messages."""
    path = tmp_path / "sessions.db"
    with SQLiteSessionManager("s", path) as manager:
        store_20_messages(manager)
    return path


def store_20_messages(manager: Any) -> None:
    messages: Any = [
        {
            "role": "assistant" if number % 2 else "user",
            "content": [{"text": f"{number} " + "A sentence of about forty characters. " * 25}],
        }
        for number in range(20)
    ]
    # Two of them by a turn, after which what is stored is what every turn stores.
    agent = Agent(model=OneAnswer(), callback_handler=None, messages=messages[:18], session_manager=manager)
    agent(messages[18]["content"])


@pytest.mark.work("an agent with 20 messages restored", (NO_STORAGE, OURS))
@pytest.mark.goal(2, times=NO_STORAGE)
def test_restore_an_agent(measure: Callable[..., Any], contender: str, db_path: Path) -> None:
    """By a manager of its own, as in a web application that makes one for each request and holds nothing open."""
    options: dict[str, Any] = {"model": OneAnswer(), "callback_handler": None}
    if contender == NO_STORAGE:
        measure(lambda: Agent(**options), rounds=200)
        return
    restored = measure(lambda: Agent(session_manager=SQLiteSessionManager("s", db_path), **options), rounds=200)
    assert len(restored.messages) == 20


@pytest.mark.work("the same, on a repository that the application holds", (NO_STORAGE, FLOOR, OURS))
@pytest.mark.goal(2, times=NO_STORAGE)
def test_restore_an_agent_on_a_repository(
    measure: Callable[..., Any], contender: str, db_path: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"model": OneAnswer(), "callback_handler": None}
    if contender == NO_STORAGE:
        measure(lambda: Agent(**options), rounds=200)
        return
    if contender == FLOOR:
        bare = BareRepository(tmp_path)
        store_20_messages(RepositorySessionManager("s", bare))
        restored = measure(lambda: Agent(session_manager=RepositorySessionManager("s", bare), **options), rounds=200)
    else:
        with SQLiteSessionRepository(db_path) as held:
            restored = measure(
                lambda: Agent(session_manager=SQLiteSessionManager("s", session_repository=held), **options), rounds=200
            )
    assert len(restored.messages) == 20


IN_A_FRESH_PROCESS = """
import sys, time
import strands, strands_sqlite_session_manager
sys.path.insert(0, sys.argv[1])
from test_agents import OneAnswer
started = time.perf_counter()
manager = strands_sqlite_session_manager.SQLiteSessionManager("s", sys.argv[2])
agent = strands.Agent(model=OneAnswer(), callback_handler=None, session_manager=manager)
print(time.perf_counter() - started)
assert len(agent.messages) == 20
"""


@pytest.mark.work("an agent with 20 messages restored in a fresh process", (OURS,))
@pytest.mark.goal(0.005)
def test_restore_an_agent_in_a_fresh_process(record: Callable[[float], None], db_path: Path) -> None:
    record(float(run(IN_A_FRESH_PROCESS, Path(__file__).parent, db_path)))


@pytest.mark.work("importing the package after strands", (OURS,))
@pytest.mark.goal(0.005)
def test_import(record: Callable[[float], None]) -> None:
    record(
        float(
            run(
                "import strands, time; started = time.perf_counter(); import strands_sqlite_session_manager; "
                "print(time.perf_counter() - started)"
            )
        )
    )


def run(code: str, *arguments: object) -> str:
    """Run code in a new process, as it is when everything has been compiled before."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, env=environment, text=True, check=True)
    return done.stdout


def manager_for(contender: str, directory: Path) -> Any:
    """A session manager that stores in this way."""
    if contender == OURS:
        return SQLiteSessionManager("s", directory / "sessions.db")
    return RepositorySessionManager("s", Nothing() if contender == NO_STORAGE else BareRepository(directory))


@pytest.mark.work("a turn of an agent", (NO_STORAGE, OURS))
@pytest.mark.goal(1.3, times=NO_STORAGE)
def test_a_turn(measure: Callable[..., Any], contender: str, tmp_path: Path) -> None:
    agent = Agent(model=OneAnswer(), callback_handler=None, session_manager=manager_for(contender, tmp_path))
    measure(lambda: agent("A question."), rounds=300)


@pytest.mark.work("what storage adds to a turn", (FLOOR, OURS))
def test_what_storage_adds(record: Callable[[float], None], contender: str, short: bool, tmp_path: Path) -> None:
    """Turn by turn beside one that stores nothing: the difference is small beside what a turn takes."""
    agents = [
        Agent(model=OneAnswer(), callback_handler=None, session_manager=manager_for(name, tmp_path))
        for name in (contender, NO_STORAGE)
    ]
    differences = []
    for _ in range(50 if short else 300):
        times = []
        for agent in agents:
            started = time.perf_counter()
            agent("A question.")
            times.append(time.perf_counter() - started)
        differences.append(times[0] - times[1])
    record(statistics.median(differences))
