"""Agents that are built, killed, overtaken, redacted and built again."""

import asyncio
import importlib
import inspect
import json
import multiprocessing
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from strands import Agent, tool
from strands.agent.conversation_manager import (
    ConversationManager,
    NullConversationManager,
    SlidingWindowConversationManager,
    SummarizingConversationManager,
)
from strands.models import Model
from strands.session.repository_session_manager import RepositorySessionManager
from strands.session.session_repository import SessionRepository
from strands.types.exceptions import EventLoopException, SessionException
from strands.types.session import Session, SessionAgent, SessionType

from helpers import Redaction, ScriptedModel, make_agent, run_python, text_message, texts, tool_use
from strands_sqlite_session_manager import SessionConflictError, SQLiteSessionManager, SQLiteSessionRepository


@pytest.fixture
def manager(db_path: Path) -> Any:
    with SQLiteSessionManager("s", db_path) as manager:
        yield manager


def reopen(manager: SQLiteSessionManager) -> SQLiteSessionManager:
    """What a new process would build: nothing is shared with the manager but the file."""
    return SQLiteSessionManager(manager.session_id, manager.session_repository._database.path)


class TestRestoring:
    def test_in_a_new_process_brings_everything_back(self, db_path: Path) -> None:
        run_python(
            """
import os, sys
from helpers import make_agent
from strands_sqlite_session_manager import SQLiteSessionManager
agent = make_agent(SQLiteSessionManager("user-42", sys.argv[1]), "Hello, Ada.", state={"visits": 1})
agent("My name is Ada.")
agent.state.set("visits", 2)
agent._session_manager.sync_agent(agent)
os._exit(0)  # nothing is flushed or closed: what a call returned for is stored
""",
            db_path,
        )
        printed = run_python(
            """
import json, sys
from helpers import make_agent, texts
from strands_sqlite_session_manager import SQLiteSessionManager
agent = make_agent(SQLiteSessionManager("user-42", sys.argv[1]), "Ada.")
print(json.dumps([texts(agent.messages), agent.state.get()]))
agent("What is my name?")
print(json.dumps(texts(agent.model.requests[0])))
""",
            db_path,
        )
        before, request = map(json.loads, printed.splitlines())
        assert before == [["My name is Ada.", "Hello, Ada."], {"visits": 2}]
        assert request == ["My name is Ada.", "Hello, Ada.", "What is my name?"]

    def test_several_agents_of_one_session(self, manager: SQLiteSessionManager) -> None:
        for agent_id in ("writer", "critic"):
            make_agent(manager, f"I am the {agent_id}", agent_id=agent_id)("Who are you?")
        again = reopen(manager)
        for agent_id in ("critic", "writer"):
            agent = make_agent(again, agent_id=agent_id)
            assert texts(agent.messages) == ["Who are you?", f"I am the {agent_id}"]

    def test_agent_ids_are_unique_in_a_manager(self, manager: SQLiteSessionManager) -> None:
        make_agent(manager)
        with pytest.raises(SessionException, match="must be unique"):
            make_agent(manager)

    @pytest.mark.parametrize(
        ("update", "complaint"),
        [
            (
                "UPDATE agents SET conversation_manager_state = "
                "json_remove(conversation_manager_state, '$.removed_message_count')",
                "removed_message_count",
            ),
            (
                "UPDATE agents SET internal_state = json_remove(internal_state, '$.interrupt_state.activated')",
                "activated",
            ),
            ("UPDATE messages SET message = json_set(message, '$.content[0]', 1) WHERE message_id = 0", "damaged"),
            ("UPDATE messages SET message = json_set(message, '$.content', 1) WHERE message_id = 0", "damaged"),
            ("UPDATE messages SET message = json_remove(message, '$.role') WHERE message_id = 0", "damaged"),
        ],
    )
    def test_what_was_damaged_by_hand_is_named(
        self, manager: SQLiteSessionManager, raw: sqlite3.Connection, update: str, complaint: str
    ) -> None:
        make_agent(manager, "b")("a")
        raw.execute(update)
        with pytest.raises(SessionException, match=rf"(agents|messages) \('s', 'default'.*{complaint}"):
            make_agent(reopen(manager))

    def test_keys_of_a_newer_sdk_are_ignored(self, manager: SQLiteSessionManager, raw: sqlite3.Connection) -> None:
        make_agent(manager, "b", state={"x": 1})("a")
        for column, table in (
            ("message", "messages"),
            ("state", "agents"),
            ("conversation_manager_state", "agents"),
            ("internal_state", "agents"),
        ):
            raw.execute(f"UPDATE {table} SET {column} = json_set({column}, '$.novelty', json('[1]'))")
        agent = make_agent(reopen(manager))
        assert texts(agent.messages) == ["a", "b"]
        assert agent.state.get() == {"x": 1, "novelty": [1]}

    def test_first_messages_are_stored_once(self, manager: SQLiteSessionManager) -> None:
        first = [{"role": "user", "content": [{"text": "hi"}]}, {"role": "assistant", "content": [{"text": "hello"}]}]
        make_agent(manager, "fine", messages=first)("How are you?")
        agent = make_agent(reopen(manager), messages=[{"role": "user", "content": [{"text": "other"}]}])
        assert texts(agent.messages) == ["hi", "hello", "How are you?", "fine"]

    def test_images_and_documents(self, manager: SQLiteSessionManager) -> None:
        content = [
            {"text": "Compare."},
            {"image": {"format": "png", "source": {"bytes": b"\x89PNG\r\n\x1a\n\x00"}}},
            {"document": {"format": "pdf", "name": "paper", "source": {"bytes": b"%PDF\xff"}}},
        ]
        make_agent(manager, "Done.")(content)
        assert make_agent(reopen(manager)).messages[0]["content"] == content

    def test_tools_and_their_results(self, manager: SQLiteSessionManager) -> None:
        @tool
        def add(a: int, b: int) -> int:
            """Add two numbers."""
            return a + b

        calls = [tool_use("add", "1", '{"a": 1, "b": 2}'), tool_use("add", "2", '{"a": 3, "b": 4}')]
        agent = make_agent(manager, calls, "3 and 7", tools=[add])
        agent("Add.")
        restored = make_agent(reopen(manager))
        assert restored.messages == agent.messages
        results = {block["toolResult"]["toolUseId"]: block["toolResult"] for block in restored.messages[2]["content"]}
        assert {number: result["content"] for number, result in results.items()} == {
            "1": [{"text": "3"}],
            "2": [{"text": "7"}],
        }

    def test_a_tool_call_that_a_crash_left_without_a_result(self, manager: SQLiteSessionManager) -> None:
        """The SDK completes it, so that the model is not sent a broken conversation."""
        make_agent(manager)
        for message_id, content in enumerate(([{"text": "go"}], [tool_use("add", "1")], [{"text": "again"}])):
            message = text_message(message_id, role="assistant" if message_id == 1 else "user")
            message.message["content"] = content
            manager.create_message("s", "default", message)
        (result,) = make_agent(reopen(manager)).messages[2]["content"]
        assert result["toolResult"]["toolUseId"] == "1"
        assert result["toolResult"]["status"] == "error"

    @pytest.mark.skipif(not hasattr(Model, "stateful"), reason="this SDK has no server-side conversations")
    def test_server_side_conversations(self, manager: SQLiteSessionManager) -> None:
        agent = make_agent(manager, model=ScriptedModel("one", "two", stateful=True))
        agent("first")
        agent("second")
        assert texts(manager.list_messages("s", "default")) == ["first", "one", "second", "two"]
        restored = make_agent(reopen(manager), model=ScriptedModel("three", stateful=True))
        assert restored.messages == []
        assert restored._model_state == {"response_id": "response-2"}
        restored("third")
        assert texts(manager.list_messages("s", "default")) == ["first", "one", "second", "two", "third", "three"]

    def test_metadata_of_the_answers_feeds_the_usage_view(
        self, manager: SQLiteSessionManager, raw: sqlite3.Connection
    ) -> None:
        agent = make_agent(manager, "hi")
        agent("hello")
        stored = "metadata" in agent.messages[1]  # SDKs before metadata on messages have nothing to store
        totals = raw.execute("SELECT total_tokens FROM token_usage").fetchall()
        assert totals == ([(15,)] if stored else [])


class ForgetEverything(ConversationManager):
    """Removes every message after each call, as a window can when a model's context is exceeded."""

    def apply_management(self, agent: Agent, **kwargs: Any) -> None:
        self.removed_message_count += len(agent.messages)
        agent.messages.clear()

    def reduce_context(self, agent: Agent, e: Exception | None = None, **kwargs: Any) -> None:
        self.apply_management(agent)


class TestConversationManagers:
    @pytest.mark.parametrize("make_conversation_manager", [NullConversationManager, SlidingWindowConversationManager])
    def test_that_keep_all_restore_all(self, manager: SQLiteSessionManager, make_conversation_manager: Any) -> None:
        make_agent(manager, "b", "d", conversation_manager=make_conversation_manager())("a")
        agent = make_agent(reopen(manager), conversation_manager=make_conversation_manager())
        assert texts(agent.messages) == ["a", "b"]

    def test_a_sliding_window_restores_its_window(self, manager: SQLiteSessionManager) -> None:
        agent = make_agent(manager, *"bdfh", conversation_manager=SlidingWindowConversationManager(window_size=4))
        for prompt in "aceg":
            agent(prompt)
        restored = make_agent(
            reopen(manager), "j", conversation_manager=SlidingWindowConversationManager(window_size=4)
        )
        assert restored.messages == agent.messages
        assert texts(restored.messages) == ["e", "f", "g", "h"]
        restored("i")
        assert texts(manager.list_messages("s", "default")) == list("abcdefghij")

    def test_summarizing_restores_its_summary(self, manager: SQLiteSessionManager) -> None:
        def summarizing() -> SummarizingConversationManager:
            return SummarizingConversationManager(
                summary_ratio=0.5,
                preserve_recent_messages=2,
                summarization_agent=Agent(model=ScriptedModel("the summary"), callback_handler=None),
            )

        agent = make_agent(manager, *"bdf", conversation_manager=summarizing())
        for prompt in "ace":
            agent(prompt)
        agent.conversation_manager.reduce_context(agent)
        manager.sync_agent(agent)
        restored = make_agent(reopen(manager), "h", conversation_manager=summarizing())
        assert restored.messages == agent.messages
        assert texts(restored.messages)[0] == "the summary"
        assert len(restored.messages) < 6
        restored("g")
        assert texts(manager.list_messages("s", "default")) == list("abcdefgh")

    def test_when_every_message_was_removed_numbering_goes_on(self, manager: SQLiteSessionManager) -> None:
        """The SDK's file manager starts at 0 again, and overwrites the history."""
        make_agent(manager, "b", conversation_manager=ForgetEverything())("a")
        agent = make_agent(reopen(manager), "d", conversation_manager=ForgetEverything())
        assert agent.messages == []
        agent("c")
        assert texts(manager.list_messages("s", "default")) == ["a", "b", "c", "d"]


class TestInterrupts:
    def test_are_answered_in_another_process(self, db_path: Path) -> None:
        script = """
import json, sys
from helpers import make_agent, texts, tool_use
from strands import tool
from strands.hooks import BeforeToolCallEvent
from strands_sqlite_session_manager import SQLiteSessionManager

@tool
def delete_files() -> str:
    \"\"\"Delete the files.\"\"\"
    return "deleted"

def ask(event):
    if event.interrupt("approval", reason="dangerous") != "yes":
        event.cancel_tool = "refused"

step, path = sys.argv[1:3]
answers = [[tool_use("delete_files", "1")]] if step == "ask" else ["All gone."]
agent = make_agent(SQLiteSessionManager("s", path), *answers, tools=[delete_files])
agent.hooks.add_callback(BeforeToolCallEvent, ask)
if step == "ask":
    result = agent("Delete the files.")
    print(json.dumps([result.stop_reason, [[i.id, i.name, i.reason] for i in result.interrupts]]))
else:
    result = agent([{"interruptResponse": {"interruptId": sys.argv[3], "response": "yes"}}])
    results = [b["toolResult"] for m in agent.messages for b in m["content"] if "toolResult" in b]
    print(json.dumps([result.stop_reason, results[0]["content"], texts(agent.messages)[-1]]))
"""
        stop_reason, ((interrupt_id, name, reason),) = json.loads(run_python(script, "ask", db_path))
        assert (stop_reason, name, reason) == ("interrupt", "approval", "dangerous")
        assert json.loads(run_python(script, "answer", db_path, interrupt_id)) == [
            "end_turn",
            [{"text": "deleted"}],
            "All gone.",
        ]


class TestRedaction:
    SECRET = "4111-1111-1111-1111"

    def _on_disk(self, db_path: Path) -> bool:
        """Look in another process: closing the file in this one would drop SQLite's locks."""
        files = [file for file in db_path.parent.iterdir() if not file.name.endswith("-shm")]
        code = "import sys; print(any(sys.argv[1].encode() in open(file, 'rb').read() for file in sys.argv[2:]))"
        done = subprocess.run([sys.executable, "-c", code, self.SECRET, *files], capture_output=True, check=True)
        return done.stdout.strip() == b"True"

    def test_of_a_guardrail_is_stored_and_leaves_nothing_behind(
        self, manager: SQLiteSessionManager, db_path: Path
    ) -> None:
        agent = make_agent(manager, *["ok"] * 20, Redaction())
        for number in range(20):
            agent(f"message {number} " + "filler " * 200)
        seen = []
        stream = agent.model.stream

        async def look_then_stream(*args: Any, **kwargs: Any) -> Any:
            seen.append(self._on_disk(db_path))
            async for event in stream(*args, **kwargs):
                yield event

        agent.model.stream = look_then_stream
        agent(f"My card is {self.SECRET}. " * 300)
        assert seen == [True]  # it was there, or the next line would prove nothing
        assert not self._on_disk(db_path)
        assert texts(make_agent(reopen(manager)).messages)[-2:] == ["[user input redacted]", "[blocked]"]
        assert texts(manager.list_messages("s", "default"))[-2:] == ["[user input redacted]", "[blocked]"]

    def test_by_hand_leaves_nothing_behind(self, manager: SQLiteSessionManager, db_path: Path) -> None:
        agent = make_agent(manager, "thanks")
        agent(f"My card is {self.SECRET}.")
        image = {"image": {"format": "png", "source": {"bytes": self.SECRET.encode() * 1000}}}
        manager.append_message({"role": "user", "content": [image]}, agent)
        manager.redact_latest_message({"role": "user", "content": [{"text": "[image]"}]}, agent)
        assert self._on_disk(db_path)
        first = manager.read_message("s", "default", 0)
        first.message = first.redact_message = {"role": "user", "content": [{"text": "[card]"}]}
        manager.update_message("s", "default", first)
        assert not self._on_disk(db_path)
        assert texts(manager.list_messages("s", "default")) == ["[card]", "thanks", "[image]"]

    @pytest.mark.skipif(
        "_held_records" not in inspect.getsource(RepositorySessionManager),
        reason="SDKs before 1.58 redact the latest record alone",
    )
    def test_reaches_earlier_records_of_the_same_message(self, manager: SQLiteSessionManager, db_path: Path) -> None:
        """A prompt that failed and is sent again is stored twice."""
        agent = make_agent(manager, RuntimeError("model is down"), Redaction())
        prompt = [{"role": "user", "content": [{"text": f"My card is {self.SECRET}."}]}]
        with pytest.raises(RuntimeError, match="model is down"):
            agent(prompt)
        agent(prompt)
        assert not self._on_disk(db_path)
        assert texts(manager.list_messages("s", "default"))[:2] == ["[user input redacted]"] * 2

    def test_while_another_connection_reads_is_done_and_logged(
        self, db_path: Path, raw: sqlite3.Connection, caplog: pytest.LogCaptureFixture
    ) -> None:
        with SQLiteSessionManager("s", db_path, busy_timeout=0.1) as manager:
            agent = make_agent(manager, "ok")
            agent(self.SECRET)
            raw.execute("BEGIN")
            raw.execute("SELECT * FROM messages").fetchall()
            manager.redact_latest_message({"role": "assistant", "content": [{"text": "[r]"}]}, agent)
            assert "redacted text stays in the write-ahead log" in caplog.text
            raw.execute("COMMIT")
            assert texts(manager.list_messages("s", "default")) == [self.SECRET, "[r]"]

    def test_deleted_sessions_leave_nothing_behind_either(self, manager: SQLiteSessionManager, db_path: Path) -> None:
        make_agent(manager, "ok")(self.SECRET)
        assert self._on_disk(db_path)
        manager.delete_session("s")
        assert not self._on_disk(db_path)

    def test_that_waits_for_a_reader_keeps_nobody_else_waiting(
        self, manager: SQLiteSessionManager, db_path: Path, raw: sqlite3.Connection
    ) -> None:
        agent = make_agent(manager, "ok")
        agent(self.SECRET)
        manager.append_message({"role": "user", "content": [{"text": self.SECRET}]}, agent)
        first = manager.read_message("s", "default", 0)
        first.message = first.redact_message = {"role": "user", "content": [{"text": "[r]"}]}
        raw.execute("BEGIN")
        raw.execute("SELECT * FROM messages").fetchall()
        with ThreadPoolExecutor(1) as executor, SQLiteSessionManager("t", db_path, busy_timeout=1) as other:
            redaction = executor.submit(manager.redact_latest_message, first.message, agent)
            while manager.read_message("s", "default", 2).redact_message is None:
                pass
            make_agent(other, *["ok"] * 20)("while the redaction waits")
            assert not redaction.done()
            raw.execute("COMMIT")
            redaction.result(30)
        manager.update_message("s", "default", first)
        assert not self._on_disk(db_path)

    def test_of_nothing_raises(self, manager: SQLiteSessionManager) -> None:
        agent = make_agent(manager)
        with pytest.raises(SessionException, match="No message to redact"):
            manager.redact_latest_message({"role": "user", "content": []}, agent)


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


def text_messages(*contents: str) -> list[Any]:
    return [text_message(0, text, ("user", "assistant")[n % 2]).message for n, text in enumerate(contents)]


class TestRaces:
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

    def test_an_agent_that_another_process_just_created_is_restored(
        self, manager: SQLiteSessionManager, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        repository = manager.session_repository
        create_agent = repository.create_agent

        def overtaken(session_id: str, session_agent: SessionAgent, messages: Any) -> None:
            theirs = SessionAgent("default", {"by": "other"}, session_agent.conversation_manager_state)
            create_agent(session_id, theirs, messages=[text_message(0, "theirs")])
            create_agent(session_id, session_agent, messages=messages)

        monkeypatch.setattr(repository, "create_agent", overtaken)
        agent = make_agent(manager, "answer", state={"by": "me"}, messages=text_messages("mine"))
        assert agent.state.get() == {"by": "other"}
        assert texts(agent.messages) == ["theirs"]
        agent("next")
        assert texts(repository.list_messages("s", "default")) == ["theirs", "next", "answer"]

    def test_a_session_that_another_process_just_created_is_opened(
        self, repository: SQLiteSessionRepository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        create_session = repository.create_session

        def overtaken(session: Session) -> Session:
            create_session(Session(session.session_id, SessionType.AGENT, "2020", "2020"))
            return create_session(session)

        monkeypatch.setattr(repository, "create_session", overtaken)
        assert SQLiteSessionManager("new", session_repository=repository).session.created_at == "2020"

    def test_whoever_was_overtaken_is_refused_until_the_agent_is_built_anew(
        self, manager: SQLiteSessionManager
    ) -> None:
        make_agent(manager, "b")("a")
        first, second = make_agent(reopen(manager), "d"), make_agent(reopen(manager), *"xyz")
        first("c")
        for _ in range(3):
            with pytest.raises(SessionConflictError, match="build the agent anew"):
                second("lost?")
        assert texts(manager.list_messages("s", "default")) == ["a", "b", "c", "d"]
        make_agent(reopen(manager), "f")("e")
        assert texts(manager.list_messages("s", "default")) == ["a", "b", "c", "d", "e", "f"]

    def test_whoever_was_overtaken_does_not_overwrite_the_state_either(self, manager: SQLiteSessionManager) -> None:
        """The SDK syncs the agent after a call that failed, too."""
        make_agent(manager, "b", state={"turns": 1})("a")
        first, second = make_agent(reopen(manager), "d"), make_agent(reopen(manager), "x")
        first.state.set("turns", 2)
        first("c")
        second.state.set("turns", 99)
        with pytest.raises(SessionConflictError):
            second("lost?")
        assert manager.read_agent("s", "default").state == {"turns": 2}
        with pytest.raises(SessionConflictError, match="was overtaken"):
            second._session_manager.sync_agent(second)

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
            list(executor.map(work, range(16)))
        for number in range(16):
            stored = manager.list_messages("s", f"agent-{number}")
            assert texts(stored)[::2] == [f"turn {turn}" for turn in range(10)]
            assert [message.message_id for message in stored] == list(range(20))

    def test_asyncio_tasks_share_one_manager(self, manager: SQLiteSessionManager) -> None:
        async def work(number: int) -> None:
            agent = make_agent(manager, "ok", agent_id=f"agent-{number}")
            async for _ in agent.stream_async("hello"):
                pass

        async def main() -> None:
            await asyncio.gather(*map(work, range(20)))

        asyncio.run(main())
        for number in range(20):
            assert texts(manager.list_messages("s", f"agent-{number}")) == ["hello", "ok"]


class TestFailedAppends:
    def test_leave_no_gap(self, db_path: Path, raw: sqlite3.Connection) -> None:
        with SQLiteSessionManager("s", db_path, busy_timeout=0.05) as manager:
            agent = make_agent(manager, "b", "d")
            agent("a")
            raw.execute("BEGIN IMMEDIATE")
            with pytest.raises(SessionException, match="database is locked"):
                agent("not stored")
            raw.execute("ROLLBACK")
            agent("c")
            stored = manager.list_messages("s", "default")
            assert texts(stored) == ["a", "b", "c", "d"]
            assert [message.message_id for message in stored] == [0, 1, 2, 3]

    def test_of_an_agent_that_was_not_restored_do_not_count_as_its_restoring(
        self, manager: SQLiteSessionManager
    ) -> None:
        stranger = make_agent(None)
        with pytest.raises(KeyError):
            manager.append_message(text_message(0).message, stranger)
        manager.initialize(stranger)
        manager.append_message(text_message(0).message, stranger)
        assert texts(manager.list_messages("s", "default")) == ["hello"]

    def test_for_a_value_that_json_cannot_hold_name_it(self, manager: SQLiteSessionManager) -> None:
        agent = make_agent(manager, "ok")
        with pytest.raises(SessionException, match=r"message\.content\[0\]\.text: a value of type set"):
            agent([{"text": {1}}])
        agent.messages.clear()
        agent("plain")
        assert texts(manager.list_messages("s", "default")) == ["plain", "ok"]


class TestBidirectionalAgents:
    @pytest.fixture
    def bidi(self) -> Any:
        for name in ("strands.bidi", "strands.experimental.bidi"):
            try:
                return importlib.import_module(name)
            except ImportError:
                continue
        pytest.skip("this SDK has no bidirectional agents")

    def test_are_restored(self, bidi: Any, manager: SQLiteSessionManager) -> None:
        class SilentModel(importlib.import_module(f"{bidi.__name__}.models").BidiModel):
            def __init__(self) -> None:
                self.config = {"audio": {}}

            def update_config(self, **model_config: Any) -> None: ...

            def get_config(self) -> Any:
                return {"model_id": "silent"}

            async def start(self, *args: Any, **kwargs: Any) -> None: ...

            async def stop(self) -> None: ...

            async def send(self, content: Any) -> None: ...

            async def receive(self) -> Any:
                await asyncio.Event().wait()
                yield

        async def talk(agent: Any) -> None:
            await agent.start()
            await agent.send("hello")
            await agent.stop()

        def build(manager: SQLiteSessionManager) -> Any:
            return bidi.BidiAgent(model=SilentModel(), agent_id="voice", session_manager=manager)

        agent = build(manager)
        asyncio.run(talk(agent))
        restored = build(reopen(manager))
        assert texts(restored.messages) == ["hello"]
        asyncio.run(talk(restored))
        assert texts(manager.list_messages("s", "voice")) == ["hello", "hello"]


class TestBeingARepositoryToo:
    def test_is_what_strands_own_managers_are(self, manager: SQLiteSessionManager) -> None:
        assert isinstance(manager, RepositorySessionManager)
        assert isinstance(manager, SessionRepository)

    def test_every_method_of_the_repository_is_offered_with_its_signature(self) -> None:
        names = [name for name in vars(SQLiteSessionRepository) if not name.startswith("_")]
        assert {name for name in vars(SessionRepository) if not name.startswith("_")} < set(names)
        for name in names:
            ours, theirs = getattr(SQLiteSessionManager, name), getattr(SQLiteSessionRepository, name)
            assert inspect.signature(ours) == inspect.signature(theirs)
            assert ours is not theirs

    def test_is_true(self, manager: SQLiteSessionManager) -> None:
        """`Agent` asks `if session_manager:`, so it must never become a container that can be empty."""
        assert manager
        assert not hasattr(manager, "__len__")


def test_base_class_still_has_the_private_name_that_we_rely_on(manager: SQLiteSessionManager) -> None:
    """`_latest_agent_message`: by agent id, None before the first message, then the last `SessionMessage`."""
    base = RepositorySessionManager("t", manager.session_repository)
    agent = make_agent(base, "answer")
    assert base._latest_agent_message == {"default": None}
    agent("question")
    assert base._latest_agent_message["default"].message_id == 1
    assert base._latest_agent_message["default"].message == agent.messages[-1]
