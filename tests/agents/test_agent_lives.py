"""Whatever happened to an agent, it comes back as it was, and the log beside it is whole."""

import copy
import logging
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from lives import Life, everything
from strands import tool
from strands.agent.conversation_manager import (
    NullConversationManager,
    SlidingWindowConversationManager,
    SummarizingConversationManager,
)
from strands.models import Model
from strands.types.content import Message
from strands.types.exceptions import ContextWindowOverflowException, SessionException

from helpers import ScriptedModel, make_agent, tool_use
from strands_sqlite_session_manager import SessionCatalog, SessionConflictError, SQLiteSessionManager

# Of newer SDKs.
HAS_MODEL_STATE = hasattr(Model, "stateful")


def window(size: int, **options: Any) -> Any:
    if size == 0 and not HAS_MODEL_STATE:
        pytest.skip("this SDK keeps at least one message")
    try:
        SlidingWindowConversationManager(**options)
    except TypeError:
        pytest.skip(f"this SDK's window has no {', '.join(options)}")
    return lambda: SlidingWindowConversationManager(window_size=size, **options)


@pytest.fixture
def life(db_path: Path) -> Life:
    return Life(db_path, conversation_manager=NullConversationManager)


class TestConversationManagers:
    @pytest.mark.slow
    @pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5])
    def test_a_window(self, db_path: Path, size: int) -> None:
        life = Life(db_path, conversation_manager=window(size))
        for number in range(6):
            life.ask(f"question {number}")
            life.compare()
        life.restart()
        for number in range(3):
            life.ask(f"more {number}")
            life.compare()

    def test_pinned_first_messages(self, db_path: Path) -> None:
        life = Life(db_path, conversation_manager=window(4, pin_first=2))
        for number in range(6):
            life.ask(f"question {number}")
            life.restart()
        assert [message["content"][0]["text"] for message in life.agent.messages][:2] == ["question 0", "an answer"]

    def test_a_message_pinned_in_the_middle(self, db_path: Path) -> None:
        life = Life(db_path, conversation_manager=window(4, pin_first=0))
        for number in range(8):
            life.ask(f"question {number}")
            if number == 1:
                life.agent.messages[2].setdefault("metadata", {}).setdefault("custom", {})["pinned"] = True
                life.agent._session_manager.sync_agent(life.agent)
            life.compare()

    def test_a_window_on_each_model_call(self, db_path: Path) -> None:
        life = Life(db_path, conversation_manager=window(2, per_turn=True))
        for number in range(5):
            life.ask(f"question {number}")
            life.restart()

    def test_summaries(self, db_path: Path) -> None:
        life = Life(db_path, conversation_manager=lambda: SummarizingConversationManager(preserve_recent_messages=2))
        for number in range(4):
            life.ask(f"question {number}")
        life.ask("too much", ContextWindowOverflowException("full"), "a summary", "an answer")
        assert any("a summary" in str(message) for message in life.agent.messages)
        life.restart()
        for number in range(3):
            life.ask(f"more {number}")
        life.ask("too much again", ContextWindowOverflowException("full"), "a second summary", "an answer")
        life.restart()

    def test_a_summary_that_fails_on_an_overflow(self, db_path: Path) -> None:
        life = Life(db_path, conversation_manager=lambda: SummarizingConversationManager(preserve_recent_messages=2))
        for number in range(4):
            life.ask(f"question {number}")
        for _ in range(2):
            with pytest.raises(Exception, match="no summary today"):
                life.ask("too much", ContextWindowOverflowException("full"), RuntimeError("no summary today"))
            life.restart()
        life.ask("and on")
        life.restart()

    def test_summaries_ahead_of_time_that_fail(self, db_path: Path) -> None:
        try:
            SummarizingConversationManager(proactive_compression=True)
        except TypeError:
            pytest.skip("this SDK does not summarise ahead of time")

        def summarizing() -> SummarizingConversationManager:
            return SummarizingConversationManager(
                preserve_recent_messages=2, proactive_compression={"compression_threshold": 0.0001}
            )

        class Small(ScriptedModel):
            def get_config(self) -> dict[str, Any]:
                return {"context_window_limit": 1000}

        life = Life(db_path, conversation_manager=summarizing, model=Small)
        summarize = SummarizingConversationManager._generate_summary
        failures = []

        def fail(*_: Any) -> Any:
            failures.append(1)
            raise RuntimeError("no summary today")

        try:
            SummarizingConversationManager._generate_summary = fail
            for number in range(5):
                life.ask(f"question {number}")
                life.compare()
        finally:
            SummarizingConversationManager._generate_summary = summarize
        assert failures
        life.restart()
        assert len(life.agent.messages) == 10

    def test_of_the_users_own_that_keep_state_of_their_own(self, db_path: Path) -> None:
        class Counting(SlidingWindowConversationManager):
            count = 0

            def apply_management(self, agent: Any, **kwargs: Any) -> None:
                self.count += 1
                super().apply_management(agent, **kwargs)

            def get_state(self) -> dict[str, Any]:
                return {**super().get_state(), "count": self.count}

            def restore_from_session(self, state: dict[str, Any]) -> Any:
                self.count = state["count"]
                return super().restore_from_session(state)

        life = Life(db_path, conversation_manager=lambda: Counting(window_size=4))
        for number in range(4):
            life.ask(f"question {number}")
            life.restart()
        assert life.agent.conversation_manager.count == 4

    @pytest.mark.parametrize("error", [KeyError("mine"), TypeError("mine"), ValueError("mine")])
    def test_of_the_users_own_that_fail_are_not_reported_as_damage(self, db_path: Path, error: Exception) -> None:
        class Failing(SlidingWindowConversationManager):
            def restore_from_session(self, state: dict[str, Any]) -> Any:
                raise error

        life = Life(db_path, conversation_manager=Failing)
        life.ask("a question")
        with pytest.raises(type(error), match="mine"):
            life.build()

    def test_of_another_class_after_a_deploy(self, db_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        life = Life(db_path, conversation_manager=window(4))
        for number in range(4):
            life.ask(f"question {number}")
        live = copy.deepcopy(life.agent.messages)
        with caplog.at_level(logging.WARNING):
            life.agent = life.build(conversation_manager=SummarizingConversationManager)
        assert "another conversation manager" in caplog.text
        assert life.agent.messages == live
        assert life.agent.conversation_manager.removed_message_count == 0
        life.options["conversation_manager"] = SummarizingConversationManager
        life.ask("a question")
        life.restart()

    def test_that_served_another_agent_before(self, db_path: Path) -> None:
        """The count of removed messages that it brings along is not this agent's."""
        used = SlidingWindowConversationManager(window_size=2)
        used.removed_message_count = 5
        messages = [{"role": "user", "content": [{"text": "given"}]}]
        life = Life(db_path, conversation_manager=used, messages=messages)
        assert [message["content"] for message in life.agent.messages] == [[{"text": "given"}]]
        life.ask("a question")
        assert everything(
            make_agent(SQLiteSessionManager("s", db_path), conversation_manager=window(2)())
        ) == everything(life.agent)


class TestTools:
    @staticmethod
    @tool
    def shout(text: str) -> str:
        """Shout."""
        return text.upper() * 1000

    def test_a_result_truncated_on_overflow(self, db_path: Path) -> None:
        life = Life(db_path, conversation_manager=window(40), tools=lambda: [self.shout])
        call = [tool_use("shout", "1", '{"text": "hey"}')]
        life.ask("shout", call, ContextWindowOverflowException("full"), "an answer")
        assert "truncated" in str(life.agent.messages) or "too large" in str(life.agent.messages)
        life.restart()
        assert "HEY" * 1000 in str(SessionCatalog(db_path).history("s", "default"))

    def test_a_call_that_was_never_answered_and_then_a_window(self, db_path: Path) -> None:
        life = Life(db_path, conversation_manager=window(4), tools=lambda: [self.shout])
        life.ask("one")
        life.agent._session_manager.append_message(
            {"role": "assistant", "content": [{"toolUse": {"name": "shout", "toolUseId": "9", "input": {}}}]},
            life.agent,
        )
        life.agent = life.build()
        for number in range(5):
            life.ask(f"question {number}")
            life.restart()

    @pytest.mark.file_only
    def test_a_result_that_could_not_be_stored_is_stored_before_what_follows(self, db_path: Path) -> None:
        """A restored agent would believe that the tool was interrupted, and charge the card again."""
        blocker = sqlite3.connect(db_path.with_name("sessions.db"), isolation_level=None, check_same_thread=False)

        @tool
        def charge() -> str:
            """Charge the card."""
            blocker.execute("BEGIN IMMEDIATE")
            return "charged"

        with SQLiteSessionManager("s", db_path, busy_timeout=0.05) as manager:
            agent = make_agent(manager, [tool_use("charge", "1")], "done", tools=[charge])
            with pytest.raises(Exception, match="database is locked"):
                agent("charge my card")
            blocker.execute("ROLLBACK")
            blocker.close()
            agent("and then?")
            again = make_agent(SQLiteSessionManager("s", db_path), tools=[charge])
            assert everything(again) == everything(agent)
            assert "charged" in str(again.messages[2]["content"])


class TestOthers:
    def test_who_went_on_are_not_overwritten_by_a_state_alone(self, life: Life) -> None:
        life.ask("one")
        other = life.build("theirs")
        life.agent.state.set("by", "me")
        other.state.set("by", "them")
        other("two")
        with pytest.raises(SessionConflictError, match="overtaken"):
            life.agent._session_manager.sync_agent(life.agent)
        assert everything(life.build()) == everything(other)

    def test_who_stored_only_a_state_are_not_overwritten(self, life: Life) -> None:
        life.ask("one")
        other = life.build()
        other.state.set("by", "them")
        other._session_manager.sync_agent(other)
        life.agent.state.set("by", "me")
        with pytest.raises(SessionConflictError):
            life.agent._session_manager.sync_agent(life.agent)
        assert life.build().state.get("by") == "them"

    def test_who_undid_turns_and_went_on_as_far_again_are_noticed(self, life: Life, db_path: Path) -> None:
        life.ask("one")
        life.ask("two")
        SessionCatalog(db_path).undo_turns("s", "default")
        other = life.build("theirs")
        other("another two")
        life.log[:] = life.stored_log()
        with pytest.raises(Exception, match="overtaken"):
            life.ask("three")
        life.log[:] = life.stored_log()
        assert everything(life.build()) == everything(other)

    def test_who_deleted_the_agent_are_told(self, life: Life, db_path: Path) -> None:
        life.ask("one")
        SessionCatalog(db_path).delete_agent("s", "default")
        with pytest.raises(Exception, match="Agent default in session s does not exist; if it was deleted"):
            life.ask("two")

    def test_two_agents_of_one_session(self, db_path: Path) -> None:
        manager = SQLiteSessionManager("s", db_path)
        agents = [make_agent(manager, *["hi"] * 3, agent_id=name, conversation_manager=window(2)()) for name in "ab"]
        for number in range(3):
            for agent in agents:
                agent(f"{agent.agent_id} {number}")
        again = SQLiteSessionManager("s", db_path)
        for agent in agents:
            built = make_agent(again, agent_id=agent.agent_id, conversation_manager=window(2)())
            assert everything(built) == everything(agent)


class TestView:
    def test_is_small(self, db_path: Path) -> None:
        messages = [{"role": "user", "content": [{"text": f"given {number}"}]} for number in range(50)]
        life = Life(db_path, messages=lambda: copy.deepcopy(messages), conversation_manager=window(10))
        assert len(str(messages)) > 1000
        for number in range(5):
            life.ask(f"question {number}")
        assert life.live_view() == [[50]]
        life.options.pop("messages")
        again = life.build()
        assert again.messages == life.agent.messages

    @pytest.mark.file_only
    def test_does_not_change_with_an_append(self, life: Life, db_path: Path) -> None:
        life.ask("one")
        with sqlite3.connect(db_path) as connection:
            before = connection.execute("SELECT updated_at FROM agents").fetchone()
            life.ask("two")
            assert connection.execute("SELECT updated_at FROM agents").fetchone() == before
        connection.close()
        assert life.live_view() == [[0]]

    @pytest.mark.file_only
    def test_of_a_long_log_reads_what_it_needs(self, db_path: Path) -> None:
        life = Life(db_path, conversation_manager=window(4))
        for number in range(4):
            life.ask(f"question {number}")
        with sqlite3.connect(db_path) as connection:
            connection.execute("UPDATE messages SET message = 'damaged' WHERE message_id < 4")
        connection.close()
        assert everything(life.build()) == everything(life.agent)

    @pytest.mark.file_only
    def test_that_is_damaged_is_named(self, life: Life, db_path: Path) -> None:
        life.ask("one")
        for damage in (
            "{",
            "[]",
            "[[0], [1,2]]",
            '[["a"]]',
            '[{"message": 1}, [0]]',
            "{}",
            '[{"x": 1},[0]]',
            "[[0,1]]",
        ):
            with sqlite3.connect(db_path) as connection:
                connection.execute("UPDATE agents SET live_view = ?", (damage,))
            connection.close()
            with pytest.raises(SessionException, match=r"agents \('s', 'default'\): damaged"):
                life.build()


class TestRedaction:
    @pytest.mark.file_only
    def test_of_a_question_behind_which_a_hook_has_put_an_answer(self, life: Life, db_path: Path) -> None:
        """The SDK redacts the last message that it has. Stored is the question."""
        life.ask("one")
        agent, manager = life.agent, life.agent._session_manager
        question = {"role": "user", "content": [{"text": "my secret"}], "tracking_id": "t-1"}
        agent.messages.append(question)
        manager.append_message(question, agent)
        agent.messages.append({"role": "assistant", "content": [{"text": "Sure: "}]})
        agent.messages[-1]["content"] = [{"text": "[redacted]"}]
        manager.redact_latest_message(agent.messages[-1], agent)
        row = manager.read_latest_message("s", "default")
        assert (row.to_message()["role"], row.to_message()["tracking_id"]) == ("user", "t-1")
        assert row.message == row.redact_message
        manager.sync_agent(agent)
        life.log[-1] = "user: [redacted]"
        life.restart()
        assert b"my secret" not in db_path.read_bytes()

    @pytest.mark.file_only
    def test_reaches_changed_copies_and_earlier_rows(self, life: Life, db_path: Path) -> None:
        agent, manager = life.agent, life.agent._session_manager
        question = {"role": "user", "content": [{"text": "my secret"}], "tracking_id": "t-1"}
        for _ in range(2):  # Asked again after a failure.
            agent.messages.append(question)
            manager.append_message(question, agent)
        agent.messages[0] = {**copy.deepcopy(question), "metadata": {"custom": {"pinned": True}}}
        manager.sync_agent(agent)
        assert b"my secret" in db_path.read_bytes() + db_path.with_name("sessions.db-wal").read_bytes()
        agent.messages[-1]["content"] = [{"text": "[redacted]"}]
        manager.redact_latest_message(agent.messages[-1], agent)
        manager.sync_agent(agent)
        assert "my secret" not in str(agent.messages)
        assert b"my secret" not in db_path.read_bytes() + db_path.with_name("sessions.db-wal").read_bytes()
        life.log[:] = ["user: [redacted]"] * 2
        life.restart()
        assert life.agent.messages[0]["metadata"] == {"custom": {"pinned": True}}

    @pytest.mark.file_only
    def test_of_a_message_with_bytes_beside_its_content(self, life: Life, db_path: Path) -> None:
        agent, manager = life.agent, life.agent._session_manager
        message = {
            "role": "user",
            "content": [{"text": "my secret"}, {"document": {"source": {"bytes": b"its bytes"}}}],
            "metadata": {"custom": {"signature": b"kept"}},
            "tracking_id": "t-1",
        }
        agent.messages.append(message)
        manager.append_message(message, agent)
        message["content"] = [{"text": "[redacted]"}]
        manager.redact_latest_message(message, agent)
        manager.sync_agent(agent)
        assert everything(life.build()) == everything(agent)
        on_disk = db_path.read_bytes() + db_path.with_name("sessions.db-wal").read_bytes()
        assert b"my secret" not in on_disk
        assert b"its bytes" not in on_disk

    @pytest.mark.file_only
    def test_that_meets_a_lock_is_made_up_for(self, db_path: Path) -> None:
        with SQLiteSessionManager("s", db_path, busy_timeout=0.01) as manager:
            agent = make_agent(manager, "an answer")
            agent("my secret")
            question = agent.messages[0]
            blocker = sqlite3.connect(db_path, isolation_level=None)
            blocker.execute("BEGIN IMMEDIATE")
            question["content"] = [{"text": "[redacted]"}]
            with pytest.raises(SessionException, match="locked"):
                manager.redact_latest_message(question, agent)
            blocker.execute("ROLLBACK")
            blocker.close()
            manager.sync_agent(agent)
            assert b"my secret" not in db_path.read_bytes() + db_path.with_name("sessions.db-wal").read_bytes()

    def test_by_an_agent_that_was_overtaken_spares_the_messages_of_others(self, life: Life, db_path: Path) -> None:
        if "tracking_id" not in Message.__annotations__:
            pytest.skip("messages of this SDK cannot be told apart")
        life.ask("mine")
        SessionCatalog(db_path).undo_turns("s", "default")
        other = life.build("their answer")
        other("theirs")
        redacted = {**life.agent.messages[0], "content": [{"text": "[redacted]"}]}
        with pytest.raises(SessionConflictError):
            life.agent._session_manager.redact_latest_message(redacted, life.agent)
        assert everything(life.build()) == everything(other)

    @pytest.mark.file_only
    def test_through_the_repository_reaches_copies_too(self, life: Life, db_path: Path) -> None:
        life.ask("my secret")
        life.agent.messages[0]["metadata"] = {"custom": {"pinned": True}}
        manager = life.agent._session_manager
        manager.sync_agent(life.agent)
        row = manager.read_message("s", "default", 0)
        row.message = row.redact_message = {"role": "user", "content": [{"text": "[redacted]"}]}
        manager.update_message("s", "default", row)
        assert "my secret" not in str(life.build().messages)
        assert b"my secret" not in db_path.read_bytes() + db_path.with_name("sessions.db-wal").read_bytes()


def test_a_model_that_keeps_the_conversation(db_path: Path) -> None:
    if not HAS_MODEL_STATE:
        pytest.skip("this SDK has no server-side conversations")
    life = Life(db_path, model=lambda: ScriptedModel(stateful=True))
    for number in range(3):
        life.ask(f"question {number}")
        life.restart()
