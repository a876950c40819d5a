"""What the live view costs: turns in long conversations, and restores, beside the SDK's own rule on the same tables."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from strands import Agent
from strands.agent.conversation_manager import NullConversationManager, SlidingWindowConversationManager
from strands.session.repository_session_manager import RepositorySessionManager

from contenders import OURS
from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository
from test_agents import OneAnswer

SDK_RULE = "the SDK's rule on the same tables"


def manager_for(contender: str, path: Path) -> Any:
    if contender == OURS:
        return SQLiteSessionManager("s", path)
    return RepositorySessionManager("s", SQLiteSessionRepository(path))


def agent_for(contender: str, path: Path, **options: Any) -> Agent:
    options.setdefault("conversation_manager", NullConversationManager())
    return Agent(model=OneAnswer(), callback_handler=None, session_manager=manager_for(contender, path), **options)


def conversation(count: int) -> Any:
    text = "A sentence of about forty characters. " * 25
    return [
        {"role": "assistant" if number % 2 else "user", "content": [{"text": f"{number} {text}"}]}
        for number in range(count)
    ]


def measure_turns(measure: Callable[..., Any], contender: str, path: Path, count: int, rounds: int) -> None:
    agent = agent_for(contender, path, messages=conversation(count))
    agent("The first question, after which all messages have tracking ids.")
    measure(lambda: agent("A question."), rounds=rounds)


@pytest.mark.work("a turn beside 20 messages", (SDK_RULE, OURS))
@pytest.mark.goal(1.1, times=SDK_RULE)
def test_a_turn_beside_20_messages(measure: Callable[..., Any], contender: str, tmp_path: Path) -> None:
    measure_turns(measure, contender, tmp_path / "sessions.db", 20, 200)


@pytest.mark.work("a turn beside 200 messages", (SDK_RULE, OURS))
@pytest.mark.goal(1.1, times=SDK_RULE)
def test_a_turn_beside_200_messages(measure: Callable[..., Any], contender: str, tmp_path: Path) -> None:
    measure_turns(measure, contender, tmp_path / "sessions.db", 200, 60)


@pytest.mark.work("a turn beside 2,000 messages", (SDK_RULE, OURS))
@pytest.mark.goal(1.1, times=SDK_RULE)
def test_a_turn_beside_2000_messages(measure: Callable[..., Any], contender: str, tmp_path: Path) -> None:
    measure_turns(measure, contender, tmp_path / "sessions.db", 2000, 20)


@pytest.mark.work("a turn behind a window of 20", (SDK_RULE, OURS))
@pytest.mark.goal(1.1, times=SDK_RULE)
def test_a_turn_behind_a_window(measure: Callable[..., Any], contender: str, tmp_path: Path) -> None:
    window = SlidingWindowConversationManager(window_size=20)
    agent = agent_for(contender, tmp_path / "sessions.db", messages=conversation(20), conversation_manager=window)
    measure(lambda: agent("A question."), rounds=200)


@pytest.mark.work("an agent with 1,000 messages restored", (SDK_RULE, OURS))
@pytest.mark.goal(1.1, times=SDK_RULE)
def test_restore_1000(measure: Callable[..., Any], contender: str, tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    with SQLiteSessionManager("s", path) as manager:
        agent = Agent(
            model=OneAnswer(),
            callback_handler=None,
            session_manager=manager,
            conversation_manager=NullConversationManager(),
        )
        for number, message in enumerate(conversation(1000)):
            agent.messages.append({**message, "tracking_id": f"00000000-0000-4000-8000-{number:012}"})
            manager.append_message(agent.messages[-1], agent)
        manager.sync_agent(agent)
    with SQLiteSessionManager("s", path):  # Keeps the file open in the process.
        restored = measure(lambda: agent_for(contender, path), rounds=100)
    assert len(restored.messages) == 1000


@pytest.mark.work("a window of 10 restored out of 1,000,000 messages", (OURS,))
@pytest.mark.goal(0.001)
def test_restore_a_window(measure: Callable[..., Any], contender: str, short: bool, tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    count = 100_000 if short else 1_000_000

    def window() -> SlidingWindowConversationManager:
        return SlidingWindowConversationManager(window_size=10)

    with SQLiteSessionManager("s", path) as manager:
        Agent(model=OneAnswer(), callback_handler=None, session_manager=manager, conversation_manager=window())("Hello")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            """
            WITH RECURSIVE number (id) AS (SELECT 2 UNION ALL SELECT id + 1 FROM number WHERE id < ? - 1)
            INSERT INTO messages (session_id, agent_id, message_id, message)
            SELECT 's', 'default', id, json_object(
                'role', iif(id % 2, 'assistant', 'user'),
                'content', json_array(json_object('text', 'Message ' || id))
            ) FROM number
            """,
            (count,),
        )
        connection.execute("UPDATE agents SET live_view = json_array(json_array(? - 10))", (count,))
    with SQLiteSessionManager("s", path):
        restored = measure(lambda: agent_for(contender, path, conversation_manager=window()), rounds=100)
    assert len(restored.messages) == 10
