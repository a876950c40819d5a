"""Whatever an application did to an agent between two calls, it comes back as it was."""

import collections
import copy
import json
import logging
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from lives import Life, everything
from strands import Agent
from strands.agent.conversation_manager import (
    NullConversationManager,
)
from strands.agent.state import AgentState
from strands.types.exceptions import SessionException

from helpers import make_agent
from strands_sqlite_session_manager import SQLiteSessionManager

IMAGE = {"image": {"format": "png", "source": {"bytes": b"\0\xff"}}}


@pytest.fixture
def life(db_path: Path) -> Life:
    return Life(db_path, conversation_manager=NullConversationManager)


class TestEdits:
    """Of `agent.messages`, by the application, between two calls."""

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "edit",
        [
            lambda messages: messages.clear(),
            lambda messages: messages.__delitem__(slice(-2, None)),
            lambda messages: messages.__delitem__(slice(0, 2)),
            lambda messages: messages.__delitem__(2),
            lambda messages: messages.reverse(),
            lambda messages: messages.append(messages[0]),
            lambda messages: messages.insert(0, {"role": "user", "content": [{"text": "by hand"}]}),
            lambda messages: messages.append({"role": "user", "content": [{"text": "by hand"}]}),
            lambda messages: messages.insert(
                2, {"role": "user", "content": [{"image": {"source": {"bytes": b"\0\xff"}}}]}
            ),
            lambda messages: messages[1].update(content=[{"text": "another answer"}]),
            lambda messages: messages[1]["content"].append({"text": "and more"}),
            lambda messages: messages[1]["content"][0].update(text="changed"),
            lambda messages: messages[0].update(role="assistant"),
            lambda messages: messages[0].update(metadata={"custom": {"seen": [1, {"deep": True}]}}),
            lambda messages: messages[0].setdefault("metadata", {}).setdefault("custom", {}).update(deep={"a": [1]}),
            lambda messages: messages[0]["content"].__setitem__(
                0, {"toolResult": {"toolUseId": "1", "status": "success", "content": [{"json": {"a": [1, 2]}}]}}
            ),
            lambda messages: messages.__setitem__(slice(None), copy.deepcopy(messages)),
            lambda messages: messages.__setitem__(slice(None), copy.deepcopy(messages)[-2:]),
            lambda messages: messages.__setitem__(slice(None), [{"role": "user", "content": [{"text": "compact"}]}]),
            lambda messages: messages.__setitem__(1, copy.deepcopy(messages[1])),
            lambda messages: [message.pop("tracking_id", None) for message in messages],
        ],
    )
    def test_of_every_kind(self, life: Life, edit: Any) -> None:
        for number in range(3):
            life.ask(f"question {number}", f"answer {number}")
        edit(life.agent.messages)
        life.agent._session_manager.sync_agent(life.agent)
        life.restart()
        edit(life.agent.messages)
        life.ask("a question")
        life.restart()
        life.ask("another question")
        life.restart()

    def test_a_new_list(self, life: Life) -> None:
        life.ask("one")
        life.agent.messages = [*life.agent.messages[-1:], {"role": "user", "content": [{"text": "new"}]}]
        life.ask("two")
        life.restart()

    def test_deep_in_a_message(self, life: Life) -> None:
        life.ask([{"document": {"name": "d", "format": "txt", "source": {"bytes": b"one"}}}, {"text": "read"}])
        life.restart()
        for value in (b"two", b"", b"one"):
            life.agent.messages[0]["content"][0]["document"]["source"]["bytes"] = value
            life.agent._session_manager.sync_agent(life.agent)
            life.restart()

    def test_of_equal_messages(self, life: Life) -> None:
        for _ in range(3):
            life.ask("the same", "the same")
        del life.agent.messages[2:4]
        life.agent._session_manager.sync_agent(life.agent)
        life.restart()

    def test_not_a_number(self, life: Life) -> None:
        life.ask("one")
        life.agent.messages[0]["metadata"] = {"custom": {"score": float("inf")}}
        life.ask("two")
        life.restart()

    def test_without_a_json_form_are_named_and_nothing_is_lost(self, life: Life) -> None:
        life.ask("one")
        life.agent.messages[0]["metadata"] = {"custom": {"when": object()}}
        with pytest.raises(SessionException, match=r"messages\[0\]\.metadata\.custom\.when"):
            life.agent._session_manager.sync_agent(life.agent)
        del life.agent.messages[0]["metadata"]
        life.ask("two")
        life.restart()

    @pytest.mark.parametrize(
        "container", [collections.Counter(n=1), collections.OrderedDict(n=1), {"n": (1, {"n": 1})}, [{"n": [1]}]]
    )
    def test_in_containers_of_any_kind(self, life: Life, container: Any) -> None:
        life.ask("one")
        life.agent.messages[0]["metadata"] = {"custom": container}
        life.agent._session_manager.sync_agent(life.agent)
        if isinstance(container, list):
            container[0]["n"].append(2)
        elif isinstance(container["n"], tuple):
            container["n"][1]["n"] = 2
        else:
            container["n"] = 2
        life.ask("two")
        again = life.build()
        assert json.dumps(again.messages) == json.dumps(life.agent.messages)

    @pytest.mark.parametrize("message", [{"role": "user", "content": "text"}, {"content": []}, {"role": "user"}])
    def test_that_no_agent_could_be_built_with_are_refused(self, life: Life, message: Any) -> None:
        life.ask("one")
        life.agent.messages.append(message)
        with pytest.raises(SessionException, match=r"messages\[2\]: a message needs a role and a list as content"):
            life.agent._session_manager.sync_agent(life.agent)
        life.agent.messages.pop()
        life.restart()

    def test_of_a_message_that_is_there_twice(self, life: Life) -> None:
        question = {"role": "user", "content": [{"text": "again"}]}
        for answer in ("a", "b"):
            life.ask([question], answer)
        life.agent.messages[-1]["content"].append({"text": "!"})
        life.agent._session_manager.sync_agent(life.agent)
        assert life.live_view()[0] == [0, 2]
        life.restart()

    def test_that_are_no_messages_are_named(self, life: Life) -> None:
        life.ask("one")
        life.agent.messages.append("two")
        with pytest.raises(SessionException, match=r"messages\[2\]: a dictionary is needed, not str"):
            life.agent._session_manager.sync_agent(life.agent)

    def test_cleared_text_does_not_come_back(self, life: Life) -> None:
        life.ask("a secret")
        life.agent.messages.clear()
        life.ask("two")
        life.restart()
        assert "secret" not in str(life.agent.messages)


class TestState:
    def test_another_object(self, life: Life) -> None:
        life.ask("one")
        life.agent.state = AgentState({"a": 1})
        life.ask("two")
        life.restart()
        life.agent.state = AgentState({"a": 1})
        life.agent.state.set("b", 2)
        life.agent._session_manager.sync_agent(life.agent)
        life.restart()

    @pytest.mark.file_only
    def test_that_could_not_be_stored_is_stored_later(self, db_path: Path) -> None:
        with SQLiteSessionManager("s", db_path, busy_timeout=0.01) as manager:
            agent = make_agent(manager, "one")
            agent("one")
            agent.state.set("a", 1)
            blocker = sqlite3.connect(db_path, isolation_level=None)
            blocker.execute("BEGIN IMMEDIATE")
            with pytest.raises(SessionException, match="locked"):
                manager.sync_agent(agent)
            blocker.execute("ROLLBACK")
            blocker.close()
            manager.sync_agent(agent)
            assert make_agent(SQLiteSessionManager("s", db_path)).state.get() == {"a": 1}

    def test_of_a_loaded_snapshot(self, life: Life) -> None:
        if not hasattr(Agent, "take_snapshot"):
            pytest.skip("this SDK has no snapshots")
        life.agent.state.set("a", 1)
        life.ask("one")
        snapshot = life.agent.take_snapshot(preset="session")
        life.agent.state.set("a", 2)
        life.ask("two")
        life.agent.load_snapshot(snapshot)
        life.agent._session_manager.sync_agent(life.agent)
        life.restart()
        assert life.agent.state.get("a") == 1
        life.ask("three")
        life.restart()

    def test_given_to_an_agent_that_exists_is_dropped_with_a_warning(
        self, life: Life, caplog: pytest.LogCaptureFixture
    ) -> None:
        life.ask("one")
        with caplog.at_level(logging.WARNING):
            again = life.build(messages=[{"role": "user", "content": [{"text": "given"}]}], state={"a": 1})
        assert everything(again) == everything(life.agent)
        assert "are dropped" in caplog.text

    def test_is_not_complained_about_without_a_reason(self, life: Life, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING):
            life.ask("one")
            life.restart()
        assert caplog.records == []
