"""Graphs and swarms: stored after each node, resumed after a crash, run again after they are done."""

import json
from pathlib import Path
from typing import Any

import pytest
from strands.multiagent import GraphBuilder, Swarm

from helpers import ScriptedModel, make_agent, run_python, tool_use
from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

CRASHING_GRAPH = """
import json, os, sys
from helpers import ScriptedModel, make_agent, texts
from strands import Agent
from strands.multiagent import GraphBuilder
from strands_sqlite_session_manager import SQLiteSessionManager

class DyingModel(ScriptedModel):
    async def stream(self, *args, **kwargs):
        os._exit(9)
        yield

path, dies = sys.argv[1], sys.argv[2] == "dies"
builder = GraphBuilder()
models = {}
for name in ("research", "write", "review"):
    models[name] = DyingModel() if dies and name == "write" else ScriptedModel(f"{name} done")
    builder.add_node(make_agent(None, model=models[name], name=name), name)
builder.add_edge("research", "write")
builder.add_edge("write", "review")
builder.set_entry_point("research")
builder.set_graph_id("article")
graph = builder.set_session_manager(SQLiteSessionManager("s", path)).build()
result = graph("Write about SQLite.")
print(json.dumps([result.status.value, {name: len(model.requests) for name, model in models.items()}]))
"""


class TestGraph:
    @pytest.mark.slow
    def test_is_resumed_after_a_crash_where_it_stopped(self, db_path: Path) -> None:
        with pytest.raises(AssertionError):  # the process died
            run_python(CRASHING_GRAPH, db_path, "dies")
        with SQLiteSessionManager("s", db_path) as manager:
            state = manager.read_multi_agent("s", "article")
            assert state["completed_nodes"] == ["research"]
            assert state["next_nodes_to_execute"] == ["write"]
        status, calls = json.loads(run_python(CRASHING_GRAPH, db_path, "lives"))
        assert (status, calls) == ("completed", {"research": 0, "write": 1, "review": 1})
        with SQLiteSessionManager("s", db_path) as manager:
            state = manager.read_multi_agent("s", "article")
            assert state["status"] == "completed"
            assert sorted(state["node_results"]) == ["research", "review", "write"]

    def test_that_was_done_starts_again(self, db_path: Path) -> None:
        for turn in range(2):
            models = {name: ScriptedModel(f"{name} {turn}") for name in ("research", "write")}
            builder = GraphBuilder()
            for name, model in models.items():
                builder.add_node(make_agent(None, model=model, name=name), name)
            builder.add_edge("research", "write")
            builder.set_entry_point("research")
            builder.set_graph_id("article")
            builder.set_max_node_executions(2)
            result = builder.set_session_manager(SQLiteSessionManager("s", db_path)).build()("Write about SQLite.")
            assert result.status.value == "completed"
            assert {name: len(model.requests) for name, model in models.items()} == {"research": 1, "write": 1}
            assert f"research {turn}" in str(models["write"].requests)

    def test_takes_images_as_its_task(self, db_path: Path) -> None:
        def build(*answers: str) -> Any:
            builder = GraphBuilder()
            builder.add_node(make_agent(None, *answers), "look")
            builder.set_graph_id("g")
            builder.set_max_node_executions(1)
            return builder.set_session_manager(SQLiteSessionManager("s", db_path)).build()

        build("a cat")([{"text": "What is it?"}, {"image": {"format": "png", "source": {"bytes": b"\x89PNG"}}}])
        assert build("a dog")("And now?").status.value == "completed"


class TestSwarm:
    def build(self, db_path: Path) -> Swarm:
        triage = make_agent(
            None,
            [tool_use("handoff_to_agent", "1", '{"agent_name": "expert", "message": "over to you"}')],
            "handed over",
            name="triage",
        )
        expert = make_agent(None, "solved", name="expert")
        return Swarm([triage, expert], id="support", session_manager=SQLiteSessionManager("s", db_path))

    def test_is_stored_with_its_handoffs(self, db_path: Path) -> None:
        result = self.build(db_path)("My disk is full.")
        assert [node.node_id for node in result.node_history] == ["triage", "expert"]
        with SQLiteSessionManager("s", db_path) as manager:
            state = manager.read_multi_agent("s", "support")
            assert (state["status"], state["node_history"]) == ("completed", ["triage", "expert"])
            assert manager.read_agent("s", "triage") is None  # a swarm's nodes keep no sessions of their own

    def test_of_one_session_is_used_again(self, db_path: Path) -> None:
        for _ in range(2):
            assert self.build(db_path)("My disk is full.").status.value == "completed"


class OvertakenRepository(SQLiteSessionRepository):
    """One where another process always creates the state of a graph a moment before this one does."""

    def create_multi_agent(self, *arguments: Any, **options: Any) -> None:
        super().create_multi_agent(*arguments, **options)
        super().create_multi_agent(*arguments, **options)


def test_a_graph_that_another_process_just_created_is_restored(db_path: Path) -> None:
    with OvertakenRepository(db_path) as repository:
        manager = SQLiteSessionManager("s", session_repository=repository)
        builder = GraphBuilder()
        builder.add_node(make_agent(None, "fine"), "only")
        builder.set_graph_id("g")
        builder.set_max_node_executions(1)
        graph = builder.set_session_manager(manager).build()
        assert graph("go").status.value == "completed"
        assert manager.read_multi_agent("s", "g")["status"] == "completed"
