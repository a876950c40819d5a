"""A store in the SDK's `MemoryManager`, end to end: injection, tools, extraction, and loops that are thrown away."""

import asyncio
import inspect
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("strands.memory")

from strands.memory import ExtractionConfig, InvocationTrigger, MemoryManager

from helpers import ScriptedModel, make_agent, run_python, texts, tool_use
from strands_sqlite_session_manager import SQLiteSessionManager


def tool_results(agent: Any) -> list[str]:
    """The texts that tools returned."""
    blocks = [block for message in agent.messages for block in message["content"] if "toolResult" in block]
    return [block["toolResult"]["content"][0]["text"] for block in blocks]


class TestInAnAgent:
    def test_what_was_remembered_is_injected_and_not_stored_as_said(
        self, open_store: Callable[..., Any], db_path: Any
    ) -> None:
        """A new agent's model sees the memory with the question; the conversation in the database has none of it."""
        asyncio.run(open_store().add("Ada likes green tea."))
        with SQLiteSessionManager("s", db_path) as manager:
            agent = make_agent(manager, "Green tea.", memory_manager=MemoryManager(stores=[open_store()]))
            agent("What does Ada drink?")
            assert "Ada likes green tea." in str(agent.model.requests[0])
            assert texts(manager.list_messages("s", "default")) == ["What does Ada drink?", "Green tea."]

    def test_the_tools_add_and_find(self, store: Any) -> None:
        """What the model adds with a tool is found by another agent's search."""
        manager = MemoryManager(stores=[store], add_tool_config=True, injection=False)
        adding = tool_use("add_memory", "1", '{"entries": ["Ada lives in Paris.", "Ada lives in Paris."]}')
        make_agent(None, [adding], "Noted.", memory_manager=manager)("I live in Paris.")
        searching = tool_use("search_memory", "1", '{"query": "Where does Ada live?"}')
        agent = make_agent(None, [searching], "Paris.", memory_manager=MemoryManager(stores=[store], injection=False))
        agent("Where do I live?")
        (found,) = json.loads(tool_results(agent)[0])
        assert found["content"] == "Ada lives in Paris."
        assert asyncio.run(store.count()) == 1

    def test_facts_are_extracted_by_the_model_and_added_once(self, store: Any, open_store: Callable[..., Any]) -> None:
        """With `extraction=True`, facts come from a model, one by one, and a repeated one is the same memory."""
        facts = json.dumps([{"content": "Ada is a pilot."}])
        for _ in range(2):
            model = ScriptedModel("Hello, Ada.", facts)
            extracting = open_store(extraction=ExtractionConfig(trigger=InvocationTrigger()))
            make_agent(None, model=model, memory_manager=MemoryManager(stores=[extracting], injection=False))(
                "I am Ada, a pilot."
            )
        (memory,) = asyncio.run(store.list()).memories
        assert (memory.content, memory.times_added) == ("Ada is a pilot.", 2)

    @pytest.mark.parametrize("metadata", [{"order": 2**70}, ["drinks"], "drinks", float("nan")], ids=repr)
    def test_a_fact_with_odd_metadata_does_not_repeat_the_extraction(
        self, open_store: Callable[..., Any], metadata: Any
    ) -> None:
        """The SDK would ask the model about the same messages again, since one of their facts is not stored."""
        facts = json.dumps([{"content": "Ada likes tea.", "metadata": metadata}, {"content": "Ada likes jazz."}])
        store = open_store(extraction=ExtractionConfig(trigger=InvocationTrigger()))
        agent = make_agent(
            None,
            model=ScriptedModel("Hello.", facts, "Bye.", "[]"),
            memory_manager=MemoryManager(stores=[store], injection=False),
        )
        agent("I like tea and jazz.")
        agent("Bye.")
        assert "jazz" not in str(agent.model.requests[-1])
        memories = asyncio.run(store.list()).memories
        assert sorted((memory.content, memory.times_added) for memory in memories) == [
            ("Ada likes jazz.", 1),
            ("Ada likes tea.", 1),
        ]

    def test_a_store_that_is_not_writable_is_searched_alone(self, open_store: Callable[..., Any]) -> None:
        """The manager gives the model no tool to add to it, and adding by hand is refused."""
        asyncio.run(open_store().add("Ada likes tea."))
        store = open_store(writable=False)
        with pytest.raises(ValueError, match="no writable stores"):
            MemoryManager(stores=[store], add_tool_config=True)
        agent = make_agent(None, "Tea.", memory_manager=MemoryManager(stores=[store]))
        agent("What does Ada like?")
        assert "Ada likes tea." in str(agent.model.requests[0])
        for change in (
            lambda: store.add("x"),
            lambda: store.update(1, content="x"),
            lambda: store.delete(1),
            lambda: store.forget("x"),
            lambda: store.clear(),
            lambda: store.prune(),
            lambda: store.reindex(),
        ):
            with pytest.raises(ValueError, match="not writable"):
                asyncio.run(change())

    @pytest.mark.file_only
    def test_a_store_that_is_not_writable_leaves_the_file_as_it_is(
        self, open_store: Callable[..., Any], raw: Any
    ) -> None:
        """It takes no lock, and notes no use."""
        asyncio.run(open_store().add("Ada likes tea."))
        store = open_store(writable=False)
        raw.execute("BEGIN IMMEDIATE")
        assert [entry.content for entry in asyncio.run(store.search("tea"))] == ["Ada likes tea."]
        raw.execute("ROLLBACK")
        asyncio.run(store.search("tea"))
        assert raw.execute("SELECT used_at FROM memories").fetchall() == [(None,)]
        assert raw.execute("SELECT count(*) FROM search_state").fetchall() == [(0,)]


class TestForgetTool:
    def test_is_off_unless_asked_for(self, store: Any, open_store: Callable[..., Any]) -> None:
        """An agent gets no tool that deletes by default."""
        assert store.get_tools() == []
        for all_defaults in (True, {}):
            (tool,) = open_store(forget_tool_config=all_defaults).get_tools()
            assert tool.tool_name == "forget_memory"
        (tool,) = open_store(forget_tool_config={"name": "forget_fact", "description": "Forget."}).get_tools()
        assert (tool.tool_name, tool.tool_spec["description"]) == ("forget_fact", "Forget.")
        (tool,) = open_store("wishes", forget_tool_config=True).get_tools()
        assert "'wishes'" in tool.tool_spec["description"]
        for refused in ({"forget_tool_config": {}, "writable": False}, {"forget_tool_config": "forget_fact"}):
            with pytest.raises(ValueError, match="forget_tool_config"):
                open_store(**refused)

    def test_forgets_by_ids_that_a_search_gave_and_by_words(self, open_store: Callable[..., Any]) -> None:
        """The model searches, passes the id on, and what was forgotten is told; words delete what has all of them."""
        store = open_store(forget_tool_config=True)
        memory_id = asyncio.run(store.add("Ada likes green tea."))
        for fact in ("Ada likes coffee.", "Ada fears dogs.", "Ada fears cats."):
            asyncio.run(store.add(fact))
        agent = make_agent(
            None,
            [tool_use("search_memory", "1", '{"query": "tea"}')],
            [tool_use("forget_memory", "2", json.dumps({"memory_ids": [memory_id, 99]}))],
            [tool_use("forget_memory", "3", '{"query": "Ada fears dogs"}')],
            "Forgotten.",
            memory_manager=MemoryManager(stores=[store], injection=False),
        )
        agent("Forget my tea, and that I fear dogs.")
        searched, by_id, by_words = map(json.loads, tool_results(agent))
        assert searched[0]["metadata"]["memory_id"] == memory_id
        assert by_id == {"forgotten": [{"memory_id": memory_id, "content": "Ada likes green tea."}], "not_found": [99]}
        assert [memory["content"] for memory in by_words["forgotten"]] == ["Ada fears dogs."]
        left = [memory.content for memory in asyncio.run(store.list()).memories]
        assert left == ["Ada fears cats.", "Ada likes coffee."]

    def test_neither_ids_nor_words_is_an_error_that_the_model_sees(self, open_store: Callable[..., Any]) -> None:
        """A call without arguments deletes nothing."""
        store = open_store(forget_tool_config=True)
        asyncio.run(store.add("Ada likes tea."))
        forget = [tool_use("forget_memory", "1")]
        agent = make_agent(None, forget, "Sorry.", memory_manager=MemoryManager(stores=[store], injection=False))
        agent("Forget.")
        assert "query or memory_ids" in tool_results(agent)[0]
        assert asyncio.run(store.count()) == 1


class TestLoops:
    def test_a_store_is_used_from_loops_that_are_gone_and_from_threads(self, store: Any) -> None:
        """Each call may come on another loop: the SDK makes one for each turn of a synchronous agent."""
        asyncio.run(store.initialize())
        failures: list[BaseException] = []

        def add(number: int) -> None:
            try:
                for count in range(5):
                    asyncio.run(store.add(f"fact {number} {count}"))
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert asyncio.run(store.count()) == 20

    async def test_the_loop_does_not_wait_for_the_database(self, store: Any) -> None:
        """Every call of a store is a coroutine whose work happens in another thread."""
        names: set[str] = set()
        database = store._database
        for method in ("query", "execute", "transaction"):
            original = getattr(database, method)

            def recording(*arguments: Any, original: Any = original) -> Any:
                names.add(threading.current_thread().name)
                return original(*arguments)

            setattr(database, method, recording)
        memory_id = await store.add("Ada likes tea.")
        await store.search("tea")
        await store.get(memory_id)
        await store.list()
        await store.count()
        await store.update(memory_id, content="Ada likes coffee.")
        await store.prune(dry_run=True)
        await store.forget("tea")
        await store.delete(memory_id)
        await store.clear()
        await store.reindex()
        assert names
        assert threading.current_thread().name not in names
        public = [name for name in vars(type(store)) if not name.startswith("_") and name not in ("get_tools", "scope")]
        assert all(inspect.iscoroutinefunction(getattr(store, name)) for name in public)


WITHOUT_MEMORY = """
import sys
import strands
sys.modules["strands.memory"] = None
import strands_sqlite_session_manager
from strands_sqlite_session_manager import SQLiteSessionManager, SessionCatalog
try:
    from strands_sqlite_session_manager import SQLiteMemoryStore
except ImportError as error:
    print(error)
"""


@pytest.mark.slow
def test_an_sdk_without_memory_is_told_so_and_has_all_the_rest() -> None:
    """Only the store itself cannot be imported, and the error says what to do."""
    assert "pip install --upgrade strands-agents" in run_python(WITHOUT_MEMORY)
