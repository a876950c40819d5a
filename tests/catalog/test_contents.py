"""What is in sessions and agents, told without reading their messages."""

import json
import sqlite3
from typing import Any

import pytest
from catalog_helpers import add_session
from strands.agent.conversation_manager import SlidingWindowConversationManager
from strands.types.session import Session, SessionAgent, SessionType

from helpers import FakeMultiAgent, make_agent, query_plans
from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository
from strands_sqlite_session_manager.catalog import NodeSummary, SessionCatalog, SessionContents


class TestContents:
    """`contents`."""

    def test_agents_with_their_last_message_and_graphs_with_their_kind(
        self, catalog: SessionCatalog, empty: SQLiteSessionRepository
    ) -> None:
        """Of each session that exists, also one that is empty."""
        add_session(empty, "s", messages=3)
        empty.create_agent("s", SessionAgent("b", {}, {}))
        empty.create_multi_agent("s", FakeMultiAgent("g", {"type": "graph"}))  # type: ignore[arg-type]
        empty.create_multi_agent("s", FakeMultiAgent("h", {}))  # type: ignore[arg-type]
        empty.create_session(Session("t", SessionType.AGENT))
        assert catalog.contents(["s", "t", "u"]) == {
            "s": SessionContents({"a": 2, "b": None}, {"g": "graph", "h": None}),
            "t": SessionContents({}, {}),
        }
        assert catalog.contents([]) == {}

    def test_reads_no_table_from_end_to_end(
        self,
        catalog: SessionCatalog,
        empty: SQLiteSessionRepository,
        raw: sqlite3.Connection,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Only keys of the sessions that are asked for."""
        add_session(empty, "s", messages=3)
        plans = query_plans(catalog, raw, monkeypatch)
        catalog.contents(["s"])
        catalog.revisions([("s", "a")])
        scans = [step for plan in plans for step in plan if step.startswith("SCAN") and "json_each" not in step]
        assert not [step for step in scans if step.split()[1] in ("sessions", "agents", "messages", "multi_agents")]


class TestDescribeAgent:
    """`describe_agent`."""

    def test_state_and_live_view(self, manager: SQLiteSessionManager, catalog: SessionCatalog) -> None:
        """What the agent keeps, and which of the messages it has."""
        answers = ["one", "two", "three"]
        agent = make_agent(
            manager, *answers, conversation_manager=SlidingWindowConversationManager(2), state={"name": "Ada"}
        )
        for question in answers:
            agent(question)
        found = catalog.describe_agent("s", "default")
        assert found is not None
        assert (found.last_message_id, found.live_view, found.damage) == (5, [[4]], None)
        assert found.state == {"name": "Ada"}
        assert found.conversation_manager_state["__name__"] == "SlidingWindowConversationManager"
        assert catalog.describe_agent("s", "x") is None

    @pytest.mark.parametrize(
        ("state", "view"),
        [
            ({}, [[0]]),
            ({"removed_message_count": 2}, [[2]]),
            ({"removed_message_count": 9}, [[3]]),
            ({"removed_message_count": "x", "summary_message": {"role": "user"}}, [{"message": {"role": "user"}}, [0]]),
        ],
    )
    def test_without_a_view_the_rule_of_the_sdk_holds(
        self,
        catalog: SessionCatalog,
        empty: SQLiteSessionRepository,
        raw: sqlite3.Connection,
        state: dict[str, Any],
        view: list[Any],
    ) -> None:
        """The conversation manager's offset, and its summary before that."""
        add_session(empty, "s", messages=3)
        raw.execute("UPDATE agents SET conversation_manager_state = ?", (json.dumps(state),))
        found = catalog.describe_agent("s", "a")
        assert found is not None
        assert found.live_view == view

    @pytest.mark.parametrize("column", ["state", "conversation_manager_state", "internal_state", "live_view"])
    def test_damage_is_told(
        self, catalog: SessionCatalog, empty: SQLiteSessionRepository, raw: sqlite3.Connection, column: str
    ) -> None:
        """Instead of what is stored."""
        add_session(empty, "s", messages=3)
        raw.execute(f"UPDATE agents SET {column} = '{{'")
        found = catalog.describe_agent("s", "a")
        assert found is not None
        assert "damaged" in str(found.damage)
        assert (found.state, found.live_view, found.last_message_id) == ({}, [[0]], 2)


class TestNodes:
    """The nodes of graphs and swarms in `list_multi_agents`."""

    def nodes(self, catalog: SessionCatalog, empty: SQLiteSessionRepository, **state: Any) -> list[NodeSummary]:
        empty.create_session(Session("s", SessionType.AGENT))
        empty.create_multi_agent("s", FakeMultiAgent("m", state))  # type: ignore[arg-type]
        (summary,) = catalog.list_multi_agents("s")
        return summary.nodes

    @pytest.mark.parametrize("order", ["execution_order", "node_history"])
    def test_come_in_the_order_of_their_turns(
        self, catalog: SessionCatalog, empty: SQLiteSessionRepository, order: str
    ) -> None:
        """Then those that are next, as graphs and swarms tell it."""
        result = {"status": "completed", "execution_time": 7, "accumulated_usage": {"totalTokens": 3}}
        nodes = self.nodes(
            catalog,
            empty,
            **{order: ["b", "a", "b"]},
            node_results={"a": {"status": "failed"}, "b": result},
            next_nodes_to_execute=["c"],
        )
        assert nodes == [
            NodeSummary("b", "completed", 7, 3),
            NodeSummary("a", "failed", None, None),
            NodeSummary("b", "completed", 7, 3),
            NodeSummary("c", "pending", None, None),
        ]

    def test_results_are_those_of_the_last_turns(self, catalog: SessionCatalog, empty: SQLiteSessionRepository) -> None:
        """Of earlier ones the SDK keeps none."""
        nodes = self.nodes(catalog, empty, node_history=["a", "b", "a"], node_results={"a": {"result": {"x": 1}}})
        assert [node.result for node in nodes] == [None, None, {"x": 1}]

    def test_what_the_sdk_keeps_is_told(self, catalog: SessionCatalog, empty: SQLiteSessionRepository) -> None:
        """Such as what a graph waits for."""
        self.nodes(catalog, empty, _internal_state={"interrupt_state": {}})
        assert catalog.list_multi_agents("s")[0].internal_state == {"interrupt_state": {}}

    def test_a_node_without_a_result_is_at_work(self, catalog: SessionCatalog, empty: SQLiteSessionRepository) -> None:
        """One that has a result and no turn is shown too."""
        nodes = self.nodes(catalog, empty, node_history=["a"], node_results={"x": {"status": "completed"}})
        assert [(node.node_id, node.status) for node in nodes] == [("a", "executing"), ("x", "completed")]

    def test_states_of_another_shape_have_none(self, catalog: SessionCatalog, empty: SQLiteSessionRepository) -> None:
        """Whatever somebody has stored there."""
        assert self.nodes(catalog, empty, node_history=7, node_results=[1], next_nodes_to_execute={}) == []
