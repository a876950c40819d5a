"""Graphs and swarms that were interrupted, and answers that come twice."""

import json
from pathlib import Path
from typing import Any

import pytest
from strands import Agent, hooks
from strands.hooks import HookProvider
from strands.multiagent import GraphBuilder, Swarm

from helpers import ScriptedModel
from nodes import raw_connection
from strands_sqlite_session_manager import SessionCatalog, SQLiteSessionManager

pytestmark = [
    pytest.mark.filterwarnings("ignore:graph has no max_node_executions:UserWarning"),
    pytest.mark.skipif(
        not hasattr(getattr(hooks, "BeforeNodeCallEvent", None), "interrupt"), reason="this SDK cannot interrupt graphs"
    ),
]


class Ask(HookProvider):
    """Asks before a node runs."""

    def register_hooks(self, registry: Any, **kwargs: Any) -> None:
        registry.add_callback(hooks.BeforeNodeCallEvent, self.ask)

    def ask(self, event: Any) -> None:
        if event.node_id == "b":
            event.interrupt("approve", reason="ok?")


def member(name: str) -> Agent:
    return Agent(name=name, model=ScriptedModel(*["done"] * 5), callback_handler=None)


def graph(db_path: Path) -> Any:
    builder = GraphBuilder()
    for name in "ab":
        builder.add_node(member(name), name)
    builder.add_edge("a", "b")
    builder.set_entry_point("a")
    builder.set_session_manager(SQLiteSessionManager("s", db_path))
    builder.set_hook_providers([Ask()])
    builder.set_graph_id("g")
    return builder.build()


def swarm(db_path: Path) -> Any:
    return Swarm([member("b")], session_manager=SQLiteSessionManager("s", db_path), hooks=[Ask()], id="g")


def stored(db_path: Path) -> Any:
    with raw_connection(db_path) as connection:
        ((text,),) = connection.execute("SELECT state FROM multi_agents").fetchall()
    return json.loads(text)


@pytest.mark.slow
@pytest.mark.parametrize("build", [graph, swarm])
def test_a_second_answer_leaves_what_is_stored_and_the_next_task_works(db_path: Path, build: Any) -> None:
    """It used to leave a graph that failed at every task from then on."""
    result = build(db_path)("a task")
    assert result.status.value == "interrupted"
    answers = [{"interruptResponse": {"interruptId": one.id, "response": "yes"}} for one in result.interrupts]
    assert build(db_path)(answers).status.value == "completed"
    before = stored(db_path)
    try:
        status = build(db_path)(answers).status.value
    except ValueError:
        status = "failed"
    assert status != "completed"
    assert stored(db_path) == before
    assert build(db_path)("another task").status.value == "interrupted"


def test_a_graph_that_was_stored_so_by_something_else_begins_again(db_path: Path) -> None:
    graph(db_path)
    poisoned = {
        **stored(db_path),
        "status": "failed",
        "next_nodes_to_execute": ["a"],
        "current_task": [{"interruptResponse": {"interruptId": "1", "response": "yes"}}],
    }
    with raw_connection(db_path) as connection:
        connection.execute("UPDATE multi_agents SET state = ?", (json.dumps(poisoned),))
    assert graph(db_path)("a task").status.value == "interrupted"


def test_the_catalog_tells_of_them_and_deletes_them(db_path: Path) -> None:
    graph(db_path)("a task")
    catalog = SessionCatalog(db_path)
    (summary,) = catalog.list_multi_agents("s")
    assert (summary.multi_agent_id, summary.kind, summary.status) == ("g", "graph", "interrupted")
    assert (summary.current_task, summary.next_nodes) == ("a task", ["b"])
    assert catalog.delete_multi_agent("s", "g").multi_agents == 1
    assert catalog.list_multi_agents("s") == []
    for call in (lambda: catalog.delete_multi_agent("s", "g"), lambda: catalog.list_multi_agents("nobody")):
        with pytest.raises(Exception, match="does not exist"):
            call()
