"""Copies of conversations, whole or in part, and conversations taken back some turns."""

import sqlite3
from pathlib import Path

import pytest
from catalog_helpers import add_session, message
from strands import tool
from strands.agent.conversation_manager import SlidingWindowConversationManager
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionType

from helpers import make_agent, text_message, texts, tool_use
from strands_sqlite_session_manager import SessionConflictError, SQLiteSessionManager, SQLiteSessionRepository
from strands_sqlite_session_manager.catalog import SessionCatalog


class TestFork:
    def test_a_copy_is_equal_and_goes_its_own_way(self, catalog: SessionCatalog, db_path: Path) -> None:
        agent = make_agent(SQLiteSessionManager("s", db_path), "one", "two", state={"color": "red"})
        agent("first")
        agent("second")
        catalog.set_metadata("s", {"title": "A talk"})
        counts = catalog.fork_session("s", "t")
        assert (counts.sessions, counts.agents, counts.messages, counts.multi_agents) == (1, 1, 4, 0)
        copy = make_agent(SQLiteSessionManager("t", db_path), "three")
        assert (copy.messages, copy.state.get()) == (agent.messages, {"color": "red"})
        copy("third")
        assert (catalog.usage("s").message_count, catalog.usage("t").message_count) == (4, 6)
        assert [session.metadata for session in catalog.list_sessions().sessions] == [{"title": "A talk"}] * 2

    def test_copies_through_a_message_of_all_agents_or_of_one(
        self, catalog: SessionCatalog, empty: SQLiteSessionRepository
    ) -> None:
        add_session(empty, "s", messages=4)
        empty.create_agent("s", SessionAgent("b", {}, {}), messages=[message(n) for n in range(3)])
        catalog.fork_session("s", "t", through=1)
        assert [len(empty.list_messages("t", name)) for name in "ab"] == [2, 2]
        catalog.fork_session("s", "u", through={"b": 0})
        assert [len(empty.list_messages("u", name)) for name in "ab"] == [4, 1]

    @pytest.mark.parametrize(("through", "expected"), [(None, 4), (8, 3), (5, 6), (2, 3)])
    def test_an_agent_restores_what_it_can(
        self, catalog: SessionCatalog, db_path: Path, empty: SQLiteSessionRepository, through: int | None, expected: int
    ) -> None:
        """Of ten messages, the conversation manager had removed six."""
        empty.create_session(Session("s", SessionType.AGENT))
        manager_state = SlidingWindowConversationManager().get_state() | {"removed_message_count": 6}
        interrupts = {"interrupt_state": {"interrupts": {}, "context": {"at": "the end"}, "activated": True}}
        empty.create_agent(
            "s", SessionAgent("a", {}, manager_state, interrupts), messages=[message(n) for n in range(10)]
        )
        catalog.fork_session("s", "t", through=through)
        stored = empty.read_agent("t", "a")
        assert stored is not None
        assert stored._internal_state == (interrupts if through is None else {})
        if through is not None:
            agent = make_agent(SQLiteSessionManager("t", db_path), agent_id="a")
            assert len(agent.messages) == expected

    def test_a_summary_of_what_was_cut_is_left_out(
        self, catalog: SessionCatalog, empty: SQLiteSessionRepository
    ) -> None:
        empty.create_session(Session("s", SessionType.AGENT))
        state = {"removed_message_count": 2, "summary_message": text_message(0).message, "ratio": 0.1}
        empty.create_agent("s", SessionAgent("a", {}, state), messages=[message(n) for n in range(4)])
        catalog.fork_session("s", "t", through=0)
        catalog.fork_session("s", "u", through=2)
        cut, kept = empty.read_agent("t", "a"), empty.read_agent("u", "a")
        assert cut is not None
        assert cut.conversation_manager_state == {"removed_message_count": 0, "summary_message": None, "ratio": 0.1}
        assert kept is not None
        assert kept.conversation_manager_state == state

    def test_a_damaged_state_is_copied_as_it_is(
        self, catalog: SessionCatalog, empty: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        add_session(empty, "s", messages=2)
        raw.execute("UPDATE agents SET conversation_manager_state = '{'")
        catalog.fork_session("s", "t", through=0)
        states = raw.execute("SELECT conversation_manager_state FROM agents").fetchall()
        assert states == [("{",), ("{",)]

    def test_what_cannot_be_copied_is_refused_and_changes_nothing(
        self, catalog: SessionCatalog, empty: SQLiteSessionRepository
    ) -> None:
        add_session(empty, "s", messages=1)
        add_session(empty, "t")
        with pytest.raises(SessionException, match="Agent typo in session s does not exist"):
            catalog.fork_session("s", "u", through={"a": 0, "typo": 0})
        with pytest.raises(SessionConflictError, match="Session t already exists"):
            catalog.fork_session("s", "t")
        with pytest.raises(SessionException, match="Session nobody does not exist"):
            catalog.fork_session("nobody", "u")
        for through in (-1, {1: 1, "q": 1}):
            with pytest.raises(ValueError, match=r"through=-?1"):
                catalog.fork_session("s", "u", through=through)  # type: ignore[arg-type]
        assert catalog.count_sessions() == 2
        assert empty.list_messages("t", "a") == []


class TestUndo:
    def test_the_agent_goes_on_from_what_is_left(self, catalog: SessionCatalog, db_path: Path) -> None:
        agent = make_agent(SQLiteSessionManager("s", db_path), "one", "two", "three")
        for question in ("first", "second", "third"):
            agent(question)
        assert catalog.undo_turns("s", "default") == 2
        assert catalog.undo_turns("s", "default", 1) == 2
        again = make_agent(SQLiteSessionManager("s", db_path), "four")
        again("fourth")
        assert texts(again.messages) == ["first", "one", "fourth", "four"]
        assert [m.message_id for m in catalog.history("s", "default")] == [3, 2, 1, 0]

    def test_tool_results_do_not_begin_a_turn(self, catalog: SessionCatalog, db_path: Path) -> None:
        @tool
        def clock() -> str:
            """Tell the time."""
            return "noon"

        agent = make_agent(SQLiteSessionManager("s", db_path), "hi", [tool_use("clock", "t1")], "noon", tools=[clock])
        agent("hello")
        agent("what time is it?")
        assert len(catalog.history("s", "default")) == 6
        assert catalog.undo_turns("s", "default") == 4
        assert texts(m.message for m in catalog.history("s", "default")) == ["hi", "hello"]

    @pytest.mark.parametrize("damaged", ["{", "{}", "[]", "null", '{"role": "user"}', '{"role": "user", "content": 1}'])
    def test_a_damaged_message_begins_a_turn(
        self, catalog: SessionCatalog, empty: SQLiteSessionRepository, raw: sqlite3.Connection, damaged: str
    ) -> None:
        add_session(empty, "s", messages=4)
        raw.execute("UPDATE messages SET message = ? WHERE message_id = 2", (damaged,))
        assert catalog.undo_turns("s", "a") == 2
        assert [m.message_id for m in catalog.history("s", "a")] == [1, 0]

    def test_a_conversation_that_went_on_is_left_alone(
        self, catalog: SessionCatalog, empty: SQLiteSessionRepository
    ) -> None:
        add_session(empty, "s", messages=5)
        for dry_run in (True, False):
            assert catalog.undo_turns("s", "a", message_count=4, dry_run=dry_run) == 0
        assert len(catalog.history("s", "a")) == 5
        assert catalog.undo_turns("s", "a", message_count=5) == 1
        with pytest.raises(ValueError, match="message_count=-1"):
            catalog.undo_turns("s", "a", message_count=-1)

    def test_more_turns_than_there_are_means_all(self, catalog: SessionCatalog, empty: SQLiteSessionRepository) -> None:
        add_session(empty, "s", messages=4)
        assert catalog.undo_turns("s", "a", 0) == 0
        assert catalog.undo_turns("s", "a", 9) == 4
        assert catalog.undo_turns("s", "a") == 0
        with pytest.raises(SessionException, match="Agent b in session s does not exist"):
            catalog.undo_turns("s", "b")

    @pytest.mark.file_only
    def test_what_is_undone_is_erased(
        self, catalog: SessionCatalog, db_path: Path, empty: SQLiteSessionRepository
    ) -> None:
        add_session(empty, "s")
        empty.create_message("s", "a", text_message(0, "unmistakable words"))
        catalog.undo_turns("s", "a")
        files = [db_path, db_path.with_name("sessions.db-wal")]
        assert not any(b"unmistakable" in file.read_bytes() for file in files)

    def test_a_window_that_was_cut_is_restored_whole(
        self, catalog: SessionCatalog, db_path: Path, empty: SQLiteSessionRepository
    ) -> None:
        empty.create_session(Session("s", SessionType.AGENT))
        state = SlidingWindowConversationManager().get_state() | {"removed_message_count": 4}
        empty.create_agent("s", SessionAgent("a", {}, state), messages=[message(n) for n in range(6)])
        assert catalog.undo_turns("s", "a") == 2
        assert len(make_agent(SQLiteSessionManager("s", db_path), agent_id="a").messages) == 4
