"""What is in a session, and in its agents."""

import pytest
from catalog_helpers import add_session, at, message
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionType

from helpers import FakeMultiAgent
from strands_sqlite_session_manager import SQLiteSessionRepository
from strands_sqlite_session_manager.catalog import SessionCatalog


class TestSession:
    def test_is_described_with_its_agents_teams_messages_and_tokens(
        self, catalog: SessionCatalog, empty: SQLiteSessionRepository
    ) -> None:
        add_session(empty, "s")
        usage = {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7, "cacheReadInputTokens": 1}
        empty.create_message("s", "a", message(0, 5))
        empty.create_message("s", "a", message(1, 6, usage=usage))
        empty.create_agent("s", SessionAgent("0", {}, {}))
        empty.create_multi_agent("s", FakeMultiAgent("graph", {}))
        catalog.set_metadata("s", {"title": "A talk"})
        summary = catalog.describe("s")
        assert summary is not None
        assert (summary.session_id, summary.session_type, summary.created_at) == ("s", "AGENT", at(0))
        assert summary.metadata == {"title": "A talk"}
        assert (summary.agents, summary.multi_agents, summary.message_count) == (["0", "a"], ["graph"], 2)
        totals = summary.usage
        assert (totals.input_tokens, totals.output_tokens, totals.total_tokens) == (3, 4, 7)
        assert (totals.cache_read_input_tokens, totals.cache_write_input_tokens, totals.message_count) == (1, 0, 2)

    def test_that_does_not_exist_is_none(self, catalog: SessionCatalog) -> None:
        assert catalog.describe("nobody") is None

    def test_lists_its_agents_with_their_messages_and_times(
        self, catalog: SessionCatalog, empty: SQLiteSessionRepository
    ) -> None:
        add_session(empty, "s", 1)
        empty.create_message("s", "a", message(0, 5))
        empty.create_agent("s", SessionAgent("b", {}, {}, {}, at(2), at(2)))
        first, second = catalog.list_agents("s")
        assert (first.agent_id, first.message_count, first.created_at, first.last_message_at) == ("a", 1, at(1), at(5))
        assert (second.agent_id, second.message_count, second.updated_at, second.last_message_at) == (
            "b",
            0,
            at(2),
            None,
        )
        empty.create_session(Session("empty", SessionType.AGENT))
        assert catalog.list_agents("empty") == []
        with pytest.raises(SessionException, match="Session nobody does not exist"):
            catalog.list_agents("nobody")
