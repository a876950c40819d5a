"""What takes a storage, end to end: snapshots of agents, graphs and swarms, their stash, and memory."""

import inspect
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("strands.storage")

from strands import Agent

from helpers import ScriptedModel, make_agent, run_python, texts
from strands_sqlite_session_manager.storage import SQLiteStorage

CRASHING = """
import json, os, sys
from helpers import ScriptedModel, make_agent, texts, tool_use
from strands.multiagent import GraphBuilder, Swarm
from strands.session import SnapshotSessionManager
from strands_sqlite_session_manager.storage import SQLiteStorage

class DyingModel(ScriptedModel):
    async def stream(self, *args, **kwargs):
        os._exit(9)
        yield

path, what, dies = sys.argv[1], sys.argv[2], sys.argv[3] == "dies"
manager = SnapshotSessionManager("s", storage=SQLiteStorage(path), save_latest_on="message")
second = DyingModel() if dies else ScriptedModel("second done")
if what == "agent":
    agent = make_agent(manager, model=second)
    if dies:
        agent.model = ScriptedModel("Hello, Ada.")
        agent("My name is Ada.")
        agent.model = second
    agent("What is my name?")
    print(json.dumps(texts(agent.messages)))
    sys.exit()
if what == "graph":
    first = ScriptedModel("first done")
    builder = GraphBuilder()
    builder.add_node(make_agent(None, model=first, name="first"), "first")
    builder.add_node(make_agent(None, model=second, name="second"), "second")
    builder.add_edge("first", "second")
    builder.set_entry_point("first")
    builder.set_graph_id("g")
    team = builder.set_session_manager(manager).build()
else:
    hand_over = tool_use("handoff_to_agent", "1", '{"agent_name": "second", "message": "over to you"}')
    first = ScriptedModel([hand_over], "handed over")
    agents = [make_agent(None, model=model, name=name) for name, model in (("first", first), ("second", second))]
    team = Swarm(agents, id="g", session_manager=manager)
result = team("Write about SQLite.")
print(json.dumps([result.status.value, len(first.requests), len(second.requests)]))
"""


class TestEndToEnd:
    @pytest.fixture(autouse=True)
    def manager_class(self) -> Any:
        pytest.importorskip("strands.session.snapshot_session_manager")
        from strands.session import SnapshotSessionManager

        return SnapshotSessionManager

    @pytest.mark.parametrize(
        ("what", "expected"),
        [
            ("agent", ["My name is Ada.", "Hello, Ada.", "What is my name?", "What is my name?", "second done"]),
            pytest.param("graph", ["completed", 0, 1], marks=pytest.mark.slow),
            pytest.param("swarm", ["completed", 0, 1], marks=pytest.mark.slow),
        ],
    )
    @pytest.mark.slow
    def test_is_resumed_after_a_crash_where_it_stopped(self, db_path: Path, what: str, expected: list[Any]) -> None:
        with pytest.raises(AssertionError):  # The process died.
            run_python(CRASHING, db_path, what, "dies")
        assert json.loads(run_python(CRASHING, db_path, what, "lives")) == expected

    async def test_snapshots_are_listed_and_restored(self, db_path: Path, manager_class: Any) -> None:
        def build(*answers: str) -> tuple[Any, Agent]:
            manager = manager_class(
                "s", storage=SQLiteStorage(db_path), snapshot_trigger=lambda agent_data, **kwargs: True
            )
            return manager, make_agent(manager, *answers)

        _, agent = build("one", "two", "three")
        for question in ("1?", "2?", "3?"):
            await agent.invoke_async(question)
        manager, agent = build("else")
        assert texts(agent.messages) == ["1?", "one", "2?", "two", "3?", "three"]
        first, second, third = await manager.list_snapshot_ids(agent)
        assert await manager.list_snapshot_ids(agent, start_after=first) == [second, third]
        assert await manager.restore_snapshot(agent, snapshot_id=first)
        assert texts(agent.messages) == ["1?", "one"]
        await agent.invoke_async("or?")
        _, again = build()
        assert texts(again.messages) == ["1?", "one", "or?", "else"]
        assert await manager.restore_snapshot(again, snapshot_id=third)
        assert texts(again.messages)[-1] == "three"

    def test_an_agent_hands_its_storage_to_its_session(self, db_path: Path, manager_class: Any) -> None:
        if "storage" not in inspect.signature(Agent).parameters:
            pytest.skip("this SDK's agents have no storage")
        make_agent(manager_class("s"), "Hello, Ada.", storage=SQLiteStorage(db_path))("My name is Ada.")
        again = make_agent(manager_class("s"), storage=SQLiteStorage(db_path))
        assert texts(again.messages) == ["My name is Ada.", "Hello, Ada."]

    async def test_a_view_is_used_as_it_is(self, storage: SQLiteStorage, manager_class: Any) -> None:
        """As the SDK uses views of its own storages; others it gives a prefix."""
        await make_agent(manager_class("s", storage=storage.namespace("tenant")), "hello").invoke_async("hi")
        await make_agent(manager_class("s", storage=storage), "hello").invoke_async("hi")
        key = "s/scopes/agent/default/snapshots/snapshot_latest.json"
        assert await storage.list() == [f"session/{key}", f"tenant/{key}"]

    @pytest.mark.filterwarnings("ignore:context_window_limit is not set:UserWarning")
    async def test_a_session_is_deleted_with_its_stash(self, storage: SQLiteStorage, manager_class: Any) -> None:
        for session_id in ("s", "s2"):
            manager = manager_class(session_id)
            agent = Agent(
                model=ScriptedModel("hello"),
                callback_handler=None,
                context_manager="auto",
                session_manager=manager,
                storage=storage,
            )
            await agent.invoke_async("hi")
        before = await storage.list()
        assert {key.split("/")[0] for key in before} == {"context", "session"}
        assert all(key.split("/")[1] in ("s", "s2") for key in before)
        await manager_class("s", storage=storage).delete_session()
        assert await storage.list() == [key for key in before if key.split("/")[1] == "s2"] != []

    async def test_memory_is_kept_and_found(self, storage: SQLiteStorage) -> None:
        stores = pytest.importorskip("strands.vended_memory_stores.file_memory_store")
        store = stores.FileMemoryStore(name="facts", storage=storage)
        await store.add("# User preferences\nPrefers dark mode.")
        await store.add("# User preferences\nSpeaks Welsh.")
        assert await storage.list() == ["memory/facts/user-preferences.md"]
        again = stores.FileMemoryStore(name="facts", storage=storage)
        (entry,) = await again.search("welsh")
        assert entry.content == "# User preferences\nPrefers dark mode.\nSpeaks Welsh."
