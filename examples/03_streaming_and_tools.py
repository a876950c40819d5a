"""Streaming and tools: what is stored while an agent streams, calls tools and keeps state.

Run it from any directory with `python examples/03_streaming_and_tools.py`.
"""

import asyncio
import contextlib
import threading
from pathlib import Path
from typing import Any

from strands import Agent, ToolContext, tool

from _model import make_model
from _workspace import ask, check, check_words, section, text_of, workspace
from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

SESSION_IDS = ("example-streaming", "example-tools", "example-async", "example-notes", "example-parallel")


def streaming(db_path: Path) -> None:
    """Streaming changes nothing about what is stored: whole messages."""
    section("1. Streaming with a callback handler")
    pieces: list[str] = []

    def print_piece(**event: Any) -> None:
        if "data" in event:
            pieces.append(event["data"])
            print(event["data"], end="|", flush=True)

    with SQLiteSessionManager("example-streaming", db_path) as manager:
        agent = Agent(model=make_model(), session_manager=manager, callback_handler=print_piece)
        print("  ", end="")
        agent("Tell me about the sea, in one sentence.")
        print()
        stored = manager.list_messages("example-streaming", agent.agent_id)
        check(len(pieces) > 1, "the answer came in pieces")
        check("".join(pieces).strip() == text_of(stored[-1]), "the stored answer is the pieces put together")


@tool
def multiply(a: int, b: int) -> int:
    """Multiply two numbers.

    Args:
        a: One number.
        b: The other one.
    """
    return a * b


def tools(db_path: Path) -> None:
    """The call and its result are messages like any others, so they are stored and restored with them."""
    section("2. Tools")
    with SQLiteSessionManager("example-tools", db_path) as manager:
        agent = Agent(model=make_model(), tools=[multiply], session_manager=manager, callback_handler=None)
        check_words("391" in ask(agent, "Please multiply 17 and 23 with the tool."), "the answer is the tool's")
        kinds = [
            kind
            for message in manager.list_messages("example-tools", agent.agent_id)
            for block in message.message["content"]
            for kind in block
        ]
        check_words(kinds == ["text", "toolUse", "toolResult", "text"], "prompt, call, result and answer are stored")


async def async_streaming(db_path: Path) -> None:
    """The prompt is stored before the model is asked, so a crash while it streams does not lose it."""
    section("3. Async streaming")
    with SQLiteSessionManager("example-async", db_path) as manager, SQLiteSessionRepository(db_path) as reader:
        agent = Agent(model=make_model(), session_manager=manager, callback_handler=None)
        stored_meanwhile = None
        print("  ", end="")
        async for event in agent.stream_async("Tell me about the moon, in one sentence."):
            if "data" in event:
                print(event["data"], end="|", flush=True)
                stored_meanwhile = stored_meanwhile or reader.list_messages("example-async", agent.agent_id)
        print()
        roles = [message.message["role"] for message in stored_meanwhile or []]
        check(roles == ["user"], "the prompt was stored when the first piece came")
        roles = [message.message["role"] for message in reader.list_messages("example-async", agent.agent_id)]
        check(roles == ["user", "assistant"], "the answer was stored when the last piece had come")


@tool(context=True)
def add_note(text: str, tool_context: ToolContext) -> str:
    """Keep a note for the user.

    Args:
        text: What to note.
        tool_context: Given by the SDK; the model does not see it.
    """
    state = tool_context.agent.state
    # `get` returns a copy. Only `set` changes the state.
    notes = [*(state.get("notes") or []), text]
    state.set("notes", notes)
    return f"Notes so far: {len(notes)}"


def tool_with_state(db_path: Path) -> None:
    """`agent.state` is stored with the agent: whatever has a JSON form."""
    section("4. A tool with state that survives a restart")
    for note in ("buy milk", "call Grace"):
        # Manager and agent are built again for each note, as after a restart.
        with SQLiteSessionManager("example-notes", db_path) as manager:
            agent = Agent(model=make_model(), tools=[add_note], session_manager=manager, callback_handler=None)
            ask(agent, f"Please add note '{note}' with the tool.")

    with SQLiteSessionManager("example-notes", db_path) as manager:
        agent = Agent(model=make_model(), tools=[add_note], session_manager=manager, callback_handler=None)
        print(f"  notes: {agent.state.get('notes')}")
        check_words(agent.state.get("notes") == ["buy milk", "call Grace"], "both notes are there")


POPULATIONS = {"Oslo": 730_000, "Lima": 10_300_000}


def tools_in_parallel(db_path: Path) -> None:
    """A model may ask for several calls in one message. The SDK runs them at once and answers with one message."""
    section("5. Tools that run in parallel")
    both_running = threading.Barrier(2, timeout=2)

    @tool
    def population(city: str) -> str:
        """Look up how many people live in a city.

        Args:
            city: Name of the city.
        """
        # The barrier opens when two calls wait at it, so it proves that they run at the same time.
        with contextlib.suppress(threading.BrokenBarrierError):
            both_running.wait()
        return f"{city}: {POPULATIONS.get(city, 'unknown')}"

    with SQLiteSessionManager("example-parallel", db_path) as manager:
        agent = Agent(model=make_model(), tools=[population], session_manager=manager, callback_handler=None)
        ask(agent, "Please tell me the population of 'Oslo' and the population of 'Lima'.")
        check_words(not both_running.broken, "the two calls ran at the same time")
        stored = manager.list_messages("example-parallel", agent.agent_id)
        called = [block["toolUse"]["toolUseId"] for m in stored for block in m.message["content"] if "toolUse" in block]
        returned = [
            block["toolResult"]["toolUseId"] for m in stored for block in m.message["content"] if "toolResult" in block
        ]
        check(sorted(called) == sorted(returned), "each stored call has its stored result")
        check_words(len(stored) == 4 and len(called) == 2, "both calls are in one message, both results in another")


def main() -> None:
    """Run the sections, each in a session of its own."""
    with workspace(*SESSION_IDS) as (_, db_path):
        streaming(db_path)
        tools(db_path)
        asyncio.run(async_streaming(db_path))
        tool_with_state(db_path)
        tools_in_parallel(db_path)


if __name__ == "__main__":
    main()
