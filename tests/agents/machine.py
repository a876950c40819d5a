"""A state machine of agent lives: after every step, an agent that is built again is the one that is there."""

import copy
import shutil
import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from lives import everything, summary
from strands.agent.conversation_manager import (
    NullConversationManager,
    SlidingWindowConversationManager,
    SummarizingConversationManager,
)
from strands.agent.state import AgentState
from strands.types.exceptions import ContextWindowOverflowException, SessionException

from helpers import Redaction, make_agent
from strands_sqlite_session_manager import SessionCatalog, SessionConflictError, SQLiteSessionManager

MANAGERS = {
    "null": NullConversationManager,
    "window 1": lambda: SlidingWindowConversationManager(window_size=1),
    "window 3": lambda: SlidingWindowConversationManager(window_size=3),
    "window 4, first 2 pinned": lambda: _pinning(),
    "summaries": lambda: SummarizingConversationManager(preserve_recent_messages=2, summary_ratio=0.5),
}
TEXTS = st.sampled_from(["a", "b", "a long text " * 20, "", "\x00 é 漢字 \ud800"])


def _pinning() -> Any:
    try:
        return SlidingWindowConversationManager(window_size=4, pin_first=2)
    except TypeError:  # Older SDKs do not pin.
        return SlidingWindowConversationManager(window_size=4)


class AgentLives(RuleBasedStateMachine):
    """`log` is what the log must be: role and text of each message that the SDK told of."""

    @initialize(manager=st.sampled_from(sorted(MANAGERS)))
    def begin(self, manager: str) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.db_path = self.directory / "sessions.db"
        self.manager = manager
        self.log: list[str] = []
        self.is_stored = True
        self.number = 0
        self.agent = self.build()

    def build(self) -> Any:
        machine = self

        class Noting(SQLiteSessionManager):
            def append_message(self, message: Any, agent: Any, **kwargs: Any) -> None:
                if agent is machine.agent:
                    machine.log.append(summary(message))
                super().append_message(message, agent, **kwargs)

        self.agent: Any = getattr(self, "agent", None)
        return make_agent(Noting("s", self.db_path, busy_timeout=0), conversation_manager=MANAGERS[self.manager]())

    def ask(self, *answers: Any) -> None:
        self.number += 1
        self.agent.model.answers[:] = answers
        try:
            self.agent(f"question {self.number}")
            self.is_stored = True
        except SessionException:
            self.is_stored = False
            raise
        except Exception as error:
            cause: Any = error
            while cause is not None and not isinstance(cause, SessionException):
                cause = cause.__cause__ or getattr(cause, "original_exception", None)
            self.is_stored = cause is None

    @rule(answer=TEXTS)
    def turn(self, answer: str) -> None:
        self.ask(answer or "an answer")

    @rule()
    def turn_that_fails(self) -> None:
        self.ask(RuntimeError("the model is ill"))

    @rule(fails=st.booleans())
    def overflow(self, fails: bool) -> None:
        self.ask(ContextWindowOverflowException("full"), RuntimeError("ill") if fails else "a summary", "an answer")

    @rule()
    def redaction(self) -> None:
        self.ask(Redaction())
        for index in range(len(self.log) - 1, -1, -1):
            if self.log[index] == f"user: question {self.number}":
                self.log[index] = f"user: {Redaction().user}"

    @rule()
    def turn_while_the_file_is_locked(self) -> None:
        with closing(sqlite3.connect(self.db_path, isolation_level=None)) as blocker:
            blocker.execute("BEGIN IMMEDIATE")
            with suppress(SessionException):
                self.ask("an answer")
        self.is_stored = False

    @rule(key=st.sampled_from("ab"), value=st.integers() | TEXTS)
    def state(self, key: str, value: Any) -> None:
        self.agent.state.set(key, value)
        self.sync()

    @rule(value=st.dictionaries(st.sampled_from("ab"), st.integers(0, 2)))
    def another_state(self, value: Any) -> None:
        self.agent.state = AgentState(value)
        self.sync()

    def sync(self) -> None:
        self.agent._session_manager.sync_agent(self.agent)
        self.is_stored = True

    @precondition(lambda self: self.agent.messages)
    @rule(data=st.data())
    def edit(self, data: Any) -> None:
        messages = self.agent.messages
        index = data.draw(st.integers(0, len(messages) - 1))
        kind = data.draw(
            st.sampled_from(["clear", "delete", "change", "deep", "move", "copy", "double", "insert", "cut"])
        )
        if kind == "clear":
            messages.clear()
        elif kind == "delete":
            del messages[index]
        elif kind == "change":
            messages[index]["content"] = [{"text": data.draw(TEXTS) or "changed"}]
        elif kind == "deep":
            messages[index].setdefault("metadata", {}).setdefault("custom", {})["n"] = [data.draw(st.integers(0, 3))]
        elif kind == "move":
            messages.insert(data.draw(st.integers(0, len(messages) - 1)), messages.pop(index))
        elif kind == "copy":
            self.agent.messages = copy.deepcopy(messages)
        elif kind == "double":
            messages.append(messages[index])
        elif kind == "insert":
            role = data.draw(st.sampled_from(["user", "assistant"]))
            messages.insert(
                index, {"role": role, "content": [{"text": "by hand"}, {"image": {"source": {"bytes": b"x"}}}]}
            )
        else:
            self.agent.messages = messages[index:]
        self.sync()

    @rule()
    def restart(self) -> None:
        if self.is_stored:
            self.agent = self.build()

    @precondition(lambda self: self.is_stored)
    @rule()
    def crash_between_a_message_and_the_state(self) -> None:
        """What is stored then is a message more than the view was made for, and the agent has it."""
        message = {"role": "user", "content": [{"text": "last words"}], "tracking_id": f"t-{len(self.log)}"}
        self.agent.messages.append(message)
        self.agent._session_manager.append_message(message, self.agent)
        self.agent = self.build()

    @precondition(lambda self: self.is_stored)
    @rule(goes_on=st.booleans())
    def another_agent(self, goes_on: bool) -> None:
        """One that goes on makes this one refuse; the other is this machine's from then on."""
        former, self.agent = self.agent, self.build()
        if not goes_on:
            return
        self.ask("theirs")
        former.state.set("late", True)
        try:
            former._session_manager.sync_agent(former)
        except SessionConflictError:
            pass
        else:
            raise AssertionError("an agent that was overtaken stored its state")

    @precondition(lambda self: self.is_stored and self.log)
    @rule(turns=st.integers(1, 3))
    def undo(self, turns: int) -> None:
        """Of the live messages that are in the log, those that are left are left."""
        removed = SessionCatalog(self.db_path).undo_turns("s", "default", turns)
        del self.log[len(self.log) - removed :]
        self.agent = self.build()
        self.sync()

    @precondition(lambda self: self.is_stored)
    @rule()
    def fork(self) -> None:
        with SessionCatalog(self.db_path) as catalog:
            catalog.fork_session("s", "fork")
            manager = SQLiteSessionManager("fork", self.db_path)
            forked = make_agent(manager, conversation_manager=MANAGERS[self.manager]())
            assert everything(forked) == everything(self.agent)
            manager.close()
            catalog.delete_session("fork")

    @invariant()
    def comes_back_as_it_is(self) -> None:
        if not hasattr(self, "db_path") or not self.is_stored:
            return
        again = self.build()
        assert everything(again) == everything(self.agent)
        with closing(sqlite3.connect(self.db_path)) as connection:
            count, highest = connection.execute("SELECT count(*), max(message_id) FROM messages").fetchone()
        stored = [summary(row.to_message()) for row in again._session_manager.list_messages("s", "default")]
        assert stored == self.log
        assert count == len(self.log)
        assert highest == (len(self.log) - 1 if self.log else None)

    def teardown(self) -> None:
        if hasattr(self, "directory"):
            self.agent._session_manager.close()
            shutil.rmtree(self.directory, ignore_errors=True)
