"""Agents that are built, killed and built again, and the manager that restores them."""

import json
import sqlite3
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
from strands.agent.state import AgentState
from strands.models import Model
from strands.session.repository_session_manager import RepositorySessionManager
from strands.session.session_repository import SessionRepository
from strands.types.exceptions import SessionException
from strands.types.session import SessionAgent

from helpers import ScriptedModel, make_agent, reopen, run_python, text_message, texts, tool_use
from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository
from strands_sqlite_session_manager._conversation.tracking import internal_state, state_of


class TestRestoring:
    def test_in_a_new_process_brings_everything_back(self, db_path: Path) -> None:
        run_python(
            """
import os, sys
from helpers import make_agent
from strands_sqlite_session_manager import SQLiteSessionManager
manager = SQLiteSessionManager("user-42", sys.argv[1])
agent = make_agent(manager, "Hello, Ada.", state={"visits": 1})
agent("My name is Ada.")
agent.state.set("visits", 2)
manager.sync_agent(agent)
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
    @pytest.mark.slow
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


class TestFailedAppends:
    @pytest.mark.file_only
    def test_are_made_up_for_by_the_next_one(self, db_path: Path, raw: sqlite3.Connection) -> None:
        """Nothing is stored behind a gap, and the question that failed is where the agent has it."""
        with SQLiteSessionManager("s", db_path, busy_timeout=0.05) as manager:
            agent = make_agent(manager, "b", "d")
            agent("a")
            raw.execute("BEGIN IMMEDIATE")
            with pytest.raises(SessionException, match="database is locked"):
                agent("not stored at once")
            assert len(manager.list_messages("s", "default")) == 2
            raw.execute("ROLLBACK")
            agent("c")
            stored = manager.list_messages("s", "default")
            assert texts(stored) == ["a", "b", "not stored at once", "c", "d"]
            assert [message.message_id for message in stored] == [0, 1, 2, 3, 4]
            assert make_agent(reopen(manager)).messages == agent.messages

    def test_of_an_agent_that_was_not_restored_do_not_count_as_its_restoring(
        self, manager: SQLiteSessionManager
    ) -> None:
        stranger = make_agent(None)
        with pytest.raises(SessionException, match="did not restore an agent default: pass the manager to"):
            manager.append_message(text_message(0).message, stranger)
        manager.initialize(stranger)
        manager.append_message(text_message(0).message, stranger)
        assert texts(manager.list_messages("s", "default")) == ["hello"]

    def test_for_a_value_that_json_cannot_hold_refuse_the_agent_until_it_is_built_again(
        self, manager: SQLiteSessionManager
    ) -> None:
        agent = make_agent(manager, "ok")
        complaint = r"Message 0 of agent default in session s cannot be stored: message\.content\[0\]\.text: a value"
        with pytest.raises(SessionException, match=complaint):
            agent([{"text": {1}}])
        agent.messages.clear()
        with pytest.raises(SessionException, match=complaint):
            agent("plain")
        assert manager.list_messages("s", "default") == []
        make_agent(reopen(manager), "ok")("plain")
        assert texts(manager.list_messages("s", "default")) == ["plain", "ok"]


class TestBeingARepositoryToo:
    def test_is_what_strands_own_managers_are(self, manager: SQLiteSessionManager) -> None:
        assert isinstance(manager, RepositorySessionManager)
        assert isinstance(manager, SessionRepository)

    def test_is_our_repository_whose_methods_nothing_hides(self, manager: SQLiteSessionManager) -> None:
        assert isinstance(manager, SQLiteSessionRepository)
        names = [name for name in vars(SQLiteSessionRepository) if not name.startswith("_")]
        assert {name for name in vars(SessionRepository) if not name.startswith("_")} < set(names)
        for name in names:
            assert getattr(SQLiteSessionManager, name) is getattr(SQLiteSessionRepository, name)

    def test_reads_and_writes_what_its_repository_does(self, repository: SQLiteSessionRepository) -> None:
        manager = SQLiteSessionManager("other", session_repository=repository)
        manager.create_message("s", "a", text_message(0))
        assert texts(repository.list_messages("s", "a")) == ["hello"]
        manager.close()
        assert texts(repository.list_messages("s", "a")) == ["hello"]  # What was passed stays open.

    @pytest.mark.parametrize("options", [{"db_path": "x.db"}, {"synchronous": "FULL"}, {"busy_timeout": 1}])
    def test_a_repository_and_options_beside_it_are_refused(
        self, repository: SQLiteSessionRepository, options: dict[str, Any]
    ) -> None:
        with pytest.raises(ValueError, match="session_repository was opened with its own options"):
            SQLiteSessionManager("s", session_repository=repository, **options)

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


class TestPrivateNamesOfTheSdk:
    """Noticed here if a new SDK changes them."""

    def test_the_internal_state_is_what_the_sdk_would_store(self) -> None:
        agent = make_agent(None)
        assert internal_state(agent) == SessionAgent.from_agent(agent)._internal_state

    def test_a_change_of_the_state_is_noticed(self) -> None:
        agent = make_agent(None)
        versions = [state_of(agent)]
        agent.state.set("a", 1)
        versions.append(state_of(agent))
        agent.state.delete("a")
        versions.append(state_of(agent))
        agent.state = AgentState({})
        versions.append(state_of(agent))
        assert all(versions.count(version) == 1 for version in versions)

    def test_broken_tool_calls_of_rows_by_other_tools_are_repaired_by_the_sdk(self) -> None:
        assert callable(RepositorySessionManager._fix_broken_tool_use)
