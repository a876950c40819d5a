"""Undo and forks of conversations whose agents do not have all messages of the log."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strands.agent.conversation_manager import (
    NullConversationManager,
    SlidingWindowConversationManager,
    SummarizingConversationManager,
)
from strands.types.exceptions import ContextWindowOverflowException

from helpers import make_agent, text_message, texts, tool_use
from strands_sqlite_session_manager import SessionCatalog, SQLiteSessionManager, SQLiteSessionRepository
from strands_sqlite_session_manager._engine.holder import database_of


def build(db_path: Path, *answers: Any, session_id: str = "s", manager: Any = NullConversationManager) -> Any:
    return make_agent(SQLiteSessionManager(session_id, db_path), *answers, conversation_manager=manager())


def turns(agent: Any, count: int) -> None:
    agent.model.answers[:] = [f"a{number}" for number in range(count)]
    for number in range(count):
        agent(f"q{number}")


def window() -> SlidingWindowConversationManager:
    return SlidingWindowConversationManager(window_size=4)


class TestUndo:
    def test_leaves_what_is_left_of_a_window(self, db_path: Path) -> None:
        turns(build(db_path, manager=window), 6)
        SessionCatalog(db_path).undo_turns("s", "default")
        assert texts(build(db_path, manager=window).messages) == ["q4", "a4"]

    def test_of_all_that_a_window_has_brings_back_what_it_had_removed(self, db_path: Path) -> None:
        turns(build(db_path, manager=window), 6)
        SessionCatalog(db_path).undo_turns("s", "default", 2)
        agent = build(db_path, manager=window)
        assert texts(agent.messages) == ["q0", "a0", "q1", "a1", "q2", "a2", "q3", "a3"]
        assert agent.conversation_manager.removed_message_count == 0

    def test_does_not_bring_back_what_was_cleared(self, db_path: Path) -> None:
        """Users take the return of a text that they cleared for a privacy fault."""
        agent = build(db_path)
        turns(agent, 3)
        agent.messages.clear()
        agent._session_manager.sync_agent(agent)
        SessionCatalog(db_path).undo_turns("s", "default")
        assert build(db_path).messages == []

    def test_does_not_bring_back_what_was_cleared_behind_a_window(self, db_path: Path) -> None:
        agent = build(db_path, manager=window)
        turns(agent, 4)
        agent.messages.clear()
        turns(agent, 1)
        SessionCatalog(db_path).undo_turns("s", "default")
        assert build(db_path, manager=window).messages == []

    def test_takes_what_was_added_by_hand_with_the_turn_that_it_came_behind(self, db_path: Path) -> None:
        agent = build(db_path)
        by_hand = [{"role": "user", "content": [{"text": f"by hand {number}"}]} for number in range(2)]
        agent.messages.append(by_hand[0])
        turns(agent, 2)
        agent.messages.append(by_hand[1])
        agent._session_manager.sync_agent(agent)
        SessionCatalog(db_path).undo_turns("s", "default")
        assert texts(build(db_path).messages) == ["by hand 0", "q0", "a0"]

    def test_keeps_a_summary_while_something_that_it_came_with_is_left(self, db_path: Path) -> None:
        def summaries() -> SummarizingConversationManager:
            return SummarizingConversationManager(preserve_recent_messages=2, summary_ratio=0.5)

        agent = build(db_path, manager=summaries)
        turns(agent, 4)
        agent.model.answers[:] = [ContextWindowOverflowException("full"), "a summary", "a4"]
        agent("q4")
        live = texts(agent.messages)
        assert live[0] == "a summary"
        if len(agent._session_manager.list_messages("s", "default")) > 10:
            pytest.skip("this SDK has the agent itself write its summary, as a turn")
        catalog = SessionCatalog(db_path)
        catalog.undo_turns("s", "default")
        assert texts(build(db_path, manager=summaries).messages) == live[:-2]
        catalog.undo_turns("s", "default", 9)
        assert build(db_path, manager=summaries).messages == []

    def test_of_an_agent_without_a_view_follows_the_sdk(self, db_path: Path) -> None:
        with SQLiteSessionManager("s", db_path) as manager:
            make_agent(manager, conversation_manager=window())
            for number in range(6):
                manager.create_message(
                    "s", "default", text_message(number, str(number), ("user", "assistant")[number % 2])
                )
        SessionCatalog(db_path).undo_turns("s", "default")
        assert texts(build(db_path, manager=window).messages) == ["0", "1", "2", "3"]

    @pytest.mark.file_only
    def test_leaves_damage_as_it_is(self, db_path: Path) -> None:
        turns(build(db_path), 2)
        with sqlite3.connect(db_path) as connection:
            connection.execute("UPDATE agents SET live_view = '{', conversation_manager_state = '{'")
        SessionCatalog(db_path).undo_turns("s", "default")
        with connection:
            assert connection.execute("SELECT live_view FROM agents").fetchone() == ("{",)
            assert connection.execute("SELECT count(*) FROM messages").fetchone() == (2,)
        connection.close()


class TestUnansweredTurns:
    """Can be removed, to be asked again."""

    def unanswered(self, db_path: Path) -> int:
        return SessionCatalog(db_path).undo_turns("s", "default", only_unanswered=True)

    def test_are_those_of_a_model_that_failed(self, db_path: Path) -> None:
        agent = build(db_path, "a", RuntimeError("ill"))
        agent("one")
        with pytest.raises(Exception, match="ill"):
            agent("two")
        assert self.unanswered(db_path) == 1
        assert self.unanswered(db_path) == 0
        assert texts(build(db_path).messages) == ["one", "a"]

    @pytest.mark.parametrize("has_result", [False, True])
    def test_are_those_that_end_with_a_tool(self, db_path: Path, has_result: bool) -> None:
        agent = build(db_path, "a")
        agent("one")
        manager = agent._session_manager
        contents = [("user", [{"text": "two"}]), ("assistant", [tool_use("t", "1")])]
        if has_result:
            contents.append(("user", [{"toolResult": {"toolUseId": "1", "status": "success", "content": []}}]))
        for role, content in contents:
            agent.messages.append({"role": role, "content": content})
            manager.append_message(agent.messages[-1], agent)
        assert self.unanswered(db_path) == len(contents)
        assert texts(build(db_path).messages) == ["one", "a"]

    def test_are_none_of_those_that_were_answered(self, db_path: Path) -> None:
        turns(build(db_path), 2)
        assert self.unanswered(db_path) == 0


class TestFork:
    @pytest.mark.parametrize(
        ("through", "expected"),
        [
            (11, ["q4", "a4", "q5", "a5"]),
            (10, ["q4", "a4", "q5"]),
            (8, ["q4"]),
            (7, ["q0", "a0", "q1", "a1", "q2", "a2", "q3", "a3"]),
            (0, ["q0"]),
        ],
    )
    def test_has_what_is_left_of_a_window_or_all_that_is_left(
        self, db_path: Path, through: int, expected: list[str]
    ) -> None:
        turns(build(db_path, manager=window), 6)
        SessionCatalog(db_path).fork_session("s", "fork", through=through)
        assert texts(build(db_path, session_id="fork", manager=window).messages) == expected

    def test_that_is_whole_has_the_same_view(self, db_path: Path) -> None:
        agent = build(db_path)
        turns(agent, 3)
        agent.messages[1]["content"] = [{"text": "changed"}]
        del agent.messages[3]
        agent._session_manager.sync_agent(agent)
        SessionCatalog(db_path).fork_session("s", "fork")
        assert build(db_path, session_id="fork").messages == agent.messages


ITEMS = st.one_of(
    st.tuples(st.integers(0, 9), st.integers(0, 4)).map(lambda pair: [pair[0], pair[0] + pair[1]]),
    st.integers(0, 12).map(lambda number: {"message_id": number, "message": {"role": "user", "content": []}}),
    st.just({"message": {"role": "user", "content": [{"text": "by hand"}]}}),
)


def numbers(item: Any) -> list[int]:
    """The messages of the log that an item of a view refers to."""
    if isinstance(item, list):
        return list(range(item[0], item[1] + 1 if len(item) == 2 else 15))
    return [item["message_id"]] if "message_id" in item else []


@pytest.mark.slow
@given(
    items=st.lists(ITEMS, max_size=6), start=st.integers(0, 14), removed=st.integers(0, 15), last=st.integers(-1, 14)
)
def test_any_view_is_cut_as_in_python(items: list[Any], start: int, removed: int, last: int) -> None:
    """What is live and still in the log stays; what is not in the log goes with what it came behind."""
    view = [*items, [start]]
    with SQLiteSessionRepository(":memory:") as repository, SessionCatalog(session_repository=repository) as catalog:
        with SQLiteSessionManager("s", session_repository=repository) as manager:
            make_agent(manager)
        for number in range(15):
            repository.create_message("s", "default", text_message(number))
        database = database_of(repository)
        state = json.dumps({"removed_message_count": removed})
        database.execute("UPDATE agents SET live_view = ?, conversation_manager_state = ?", (json.dumps(view), state))
        catalog.undo_turns("s", "default", 14 - last)
        ((text,),) = database.query("SELECT live_view FROM agents")
    if last == 14:
        expected: Any = view
    else:
        expected, has_lost = [], False
        for item in view:
            if isinstance(item, list):
                first, end = item[0], item[1] if len(item) == 2 else 99
            else:
                first = end = item.get("message_id")
            if first is None:
                expected += [] if has_lost else [item]
                continue
            has_lost |= end > last
            if first <= last:
                expected.append([first, min(end, last)] if isinstance(item, list) else item)
        covered = {number for item in view for number in numbers(item)}
        is_left_out_by_the_manager = removed == len(set(range(15)) - covered) > 0
        if is_left_out_by_the_manager and not any(numbers(item) for item in expected):
            expected = None
        else:
            expected.append([last + 1])
    assert (None if text is None else json.loads(text)) == expected
