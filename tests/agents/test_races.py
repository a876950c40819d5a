"""Agents of one session in many places at once: threads, tasks, managers and processes."""

import asyncio
import multiprocessing
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from strands.types.exceptions import EventLoopException, SessionException
from strands.types.session import Session, SessionAgent, SessionType

from helpers import make_agent, reopen, text_message, texts
from strands_sqlite_session_manager import SessionConflictError, SQLiteSessionManager, SQLiteSessionRepository


def text_messages(*contents: str) -> list[Any]:
    return [text_message(0, text, ("user", "assistant")[n % 2]).message for n, text in enumerate(contents)]


def _open_in_turns(path: str, rounds: int, barrier: Any, results: Any) -> None:
    """Open a new session and create its agent, at the same moment as the other processes do."""
    for number in range(rounds):
        barrier.wait(timeout=30)
        try:
            manager = SQLiteSessionManager(f"session-{number}", f"{path}-{number % 5}")
            agent = make_agent(manager, "ok", agent_id="new", messages=text_messages("x", "y"))
            try:
                agent("hello")
                results.put("appended")
            # Inside its event loop the SDK wraps what a session manager raises.
            except (SessionConflictError, EventLoopException) as error:
                if not isinstance(error, SessionConflictError) and not isinstance(
                    error.__cause__, SessionConflictError
                ):
                    raise
                results.put("overtaken")
        except Exception as error:
            results.put(repr(error))


class OvertakenRepository(SQLiteSessionRepository):
    """One where another process always creates a session or an agent a moment before this one does."""

    def create_session(self, session: Session, **options: Any) -> Session:
        super().create_session(Session(session.session_id, SessionType.AGENT, "2020", "2020"))
        return super().create_session(session, **options)

    def create_agent(self, session_id: str, session_agent: SessionAgent, **options: Any) -> None:
        theirs = SessionAgent("default", {"by": "other"}, session_agent.conversation_manager_state)
        super().create_agent(session_id, theirs, messages=[text_message(0, "theirs")])
        super().create_agent(session_id, session_agent, **options)


class TestRaces:
    @pytest.mark.slow
    @pytest.mark.file_only
    def test_processes_open_one_new_session_and_agent_at_once(self, db_path: Path) -> None:
        """No constructor fails, and of those that append the same message exactly one succeeds."""
        processes, rounds = 4, 6
        context = multiprocessing.get_context("spawn")
        barrier, results = context.Barrier(processes), context.Queue()
        workers = [
            context.Process(target=_open_in_turns, args=(str(db_path), rounds, barrier, results), daemon=True)
            for _ in range(processes)
        ]
        for worker in workers:
            worker.start()
        outcomes = []
        while len(outcomes) < processes * rounds and set(outcomes) <= {"appended", "overtaken"}:
            outcomes.append(results.get(timeout=50))
        assert set(outcomes) <= {"appended", "overtaken"}
        for worker in workers:
            worker.join(50)
        for number in range(rounds):
            with SQLiteSessionManager(f"session-{number}", f"{db_path}-{number % 5}") as manager:
                stored = texts(manager.list_messages(f"session-{number}", "new"))
            assert stored[:2] == ["x", "y"]
            assert set(stored[2:]) <= {"hello", "ok"}
        assert outcomes.count("appended") >= rounds

    def test_an_agent_that_another_process_just_created_is_restored(self, db_path: Path) -> None:
        with OvertakenRepository(db_path) as repository:
            manager = SQLiteSessionManager("s", session_repository=repository)
            agent = make_agent(manager, "answer", state={"by": "me"}, messages=text_messages("mine"))
            assert agent.state.get() == {"by": "other"}
            assert texts(agent.messages) == ["theirs"]
            agent("next")
            assert texts(repository.list_messages("s", "default")) == ["theirs", "next", "answer"]

    def test_a_session_that_another_process_just_created_is_opened(self, db_path: Path) -> None:
        with OvertakenRepository(db_path) as repository:
            assert SQLiteSessionManager("s", session_repository=repository).session.created_at == "2020"

    def test_whoever_was_overtaken_is_refused_until_the_agent_is_built_again(
        self, manager: SQLiteSessionManager
    ) -> None:
        make_agent(manager, "b")("a")
        first, second = make_agent(reopen(manager), "d"), make_agent(reopen(manager), *"xyz")
        first("c")
        for _ in range(3):
            with pytest.raises(SessionConflictError, match="build the agent again"):
                second("lost?")
        assert texts(manager.list_messages("s", "default")) == ["a", "b", "c", "d"]
        make_agent(reopen(manager), "f")("e")
        assert texts(manager.list_messages("s", "default")) == ["a", "b", "c", "d", "e", "f"]

    def test_whoever_was_overtaken_does_not_overwrite_the_state_either(self, manager: SQLiteSessionManager) -> None:
        """The SDK syncs the agent after a call that failed, too."""
        make_agent(manager, "b", state={"turns": 1})("a")
        second_manager = reopen(manager)
        first, second = make_agent(reopen(manager), "d"), make_agent(second_manager, "x")
        first.state.set("turns", 2)
        first("c")
        second.state.set("turns", 99)
        with pytest.raises(SessionConflictError):
            second("lost?")
        assert manager.read_agent("s", "default").state == {"turns": 2}
        with pytest.raises(SessionConflictError, match="was overtaken"):
            second_manager.sync_agent(second)

    def test_an_agent_that_could_not_be_restored_may_try_again(
        self, manager: SQLiteSessionManager, raw: sqlite3.Connection
    ) -> None:
        make_agent(manager, "b")("a")
        again = reopen(manager)
        (message,) = raw.execute("SELECT message FROM messages WHERE message_id = 0").fetchone()
        raw.execute("UPDATE messages SET message = '{' WHERE message_id = 0")
        with pytest.raises(SessionException, match="damaged JSON"):
            make_agent(again)
        raw.execute("UPDATE messages SET message = ? WHERE message_id = 0", (message,))
        assert texts(make_agent(again).messages) == ["a", "b"]

    def test_threads_share_one_manager(self, manager: SQLiteSessionManager) -> None:
        def work(number: int) -> None:
            agent = make_agent(manager, *["ok"] * 10, agent_id=f"agent-{number}")
            for turn in range(10):
                agent(f"turn {turn}")

        with ThreadPoolExecutor(8) as executor:
            list(executor.map(work, range(8)))
        for number in range(8):
            stored = manager.list_messages("s", f"agent-{number}")
            assert texts(stored)[::2] == [f"turn {turn}" for turn in range(10)]
            assert [message.message_id for message in stored] == list(range(20))

    async def test_asyncio_tasks_share_one_manager(self, manager: SQLiteSessionManager) -> None:
        async def work(number: int) -> None:
            agent = make_agent(manager, "ok", agent_id=f"agent-{number}")
            async for _ in agent.stream_async("hello"):
                pass

        await asyncio.gather(*map(work, range(20)))
        for number in range(20):
            assert texts(manager.list_messages("s", f"agent-{number}")) == ["hello", "ok"]
