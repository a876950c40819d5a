"""Sessions under another id, and sessions and agents that go."""

import sqlite3

import pytest
from catalog_helpers import add_session
from strands.types.exceptions import SessionException

from helpers import FakeMultiAgent
from strands_sqlite_session_manager import SessionConflictError, SQLiteSessionRepository
from strands_sqlite_session_manager.catalog import SessionCatalog


class TestRename:
    def test_everything_in_the_session_goes_along(
        self, catalog: SessionCatalog, empty: SQLiteSessionRepository
    ) -> None:
        add_session(empty, "s", messages=2)
        empty.create_multi_agent("s", FakeMultiAgent("graph", {"type": "graph"}))
        before, active = empty.list_messages("s", "a"), catalog.list_sessions().sessions[0].updated_at
        catalog.rename_session("s", "t")
        assert empty.read_session("s") is None
        assert empty.list_messages("t", "a") == before
        assert empty.read_multi_agent("t", "graph") == {"type": "graph"}
        assert catalog.list_sessions().sessions[0].updated_at == active

    def test_what_cannot_be_renamed_is_refused(self, catalog: SessionCatalog, empty: SQLiteSessionRepository) -> None:
        add_session(empty, "s")
        add_session(empty, "t")
        with pytest.raises(SessionConflictError, match="Session t already exists"):
            catalog.rename_session("s", "t")
        with pytest.raises(SessionException, match="Session nobody does not exist"):
            catalog.rename_session("nobody", "u")
        with pytest.raises(ValueError, match="new=''"):
            catalog.rename_session("s", "")
        assert catalog.count_sessions() == 2


class TestDelete:
    def test_tells_how_many_records_went(self, catalog: SessionCatalog, empty: SQLiteSessionRepository) -> None:
        for name in "stu":
            add_session(empty, name, messages=3)
        empty.create_multi_agent("s", FakeMultiAgent("graph", {}))
        one = catalog.delete_session("s")
        assert (one.sessions, one.agents, one.messages, one.multi_agents) == (1, 1, 3, 1)
        agent = catalog.delete_agent("t", "a")
        assert (agent.sessions, agent.agents, agent.messages, agent.multi_agents) == (0, 1, 3, 0)
        both = catalog.delete_sessions(["t", "u", "nobody"])
        assert (both.sessions, both.agents, both.messages, both.multi_agents) == (2, 1, 3, 0)
        assert catalog.delete_sessions([]).sessions == 0
        with pytest.raises(ValueError, match="session_ids='stu': must be several ids"):
            catalog.delete_sessions("stu")
        with pytest.raises(SessionException, match="Session s does not exist"):
            catalog.delete_session("s")
        with pytest.raises(SessionException, match="Agent a in session s does not exist"):
            catalog.delete_agent("s", "a")

    @pytest.mark.file_only
    def test_messages_that_lost_their_agent_go_too(
        self, catalog: SessionCatalog, empty: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        add_session(empty, "s", messages=3)
        raw.execute("PRAGMA foreign_keys = OFF")
        raw.execute("DELETE FROM agents")
        counts = catalog.delete_agent("s", "a")
        assert (counts.agents, counts.messages) == (0, 3)
