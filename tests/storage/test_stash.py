"""What a context manager puts aside lives and dies with its session."""

import sqlite3
import warnings
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from strands.types.session import Session, SessionAgent, SessionType

pytest.importorskip("strands.storage", reason="this SDK has no storage")

from helpers import ScriptedModel, make_agent, tool_use
from strands_sqlite_session_manager import SessionCatalog, SQLiteSessionManager, SQLiteStorage

IDS = ["s", "S", "s/scopes/agent/a", "s2", "s%", "s_", "日本", "it's", 's"']


@pytest.fixture
async def stash(db_path: Path) -> Any:
    """Sessions with two agents each, and something put aside for each."""
    with SQLiteSessionManager("s", db_path) as manager:
        for session_id in IDS:
            if session_id != "s":
                manager.create_session(Session(session_id, SessionType.AGENT))
            for agent_id in ("a", "ab"):
                manager.create_agent(session_id, SessionAgent(agent_id, {}, {}))
    with SQLiteStorage(db_path) as storage:
        for session_id in IDS:
            for agent_id in ("a", "ab"):
                key = f"context/{session_id}/scopes/agent/{agent_id}/t_0"
                await storage.write(key, b"secret of " + session_id.encode())
        await storage.write("memory/s/scopes/agent/a/t_0", b"kept")
        yield storage


async def owners(storage: Any) -> list[str]:
    """The sessions that something is put aside for, each as often as that."""
    found = []
    for key in await storage.list("context/"):
        found.append((await storage.read(key)).decode().removeprefix("secret of "))
    return sorted(found)


def all_but(session_id: str) -> list[str]:
    return sorted([other for other in IDS if other != session_id] * 2)


def on_disk(db_path: Path) -> bytes:
    log = db_path.with_name(f"{db_path.name}-wal")
    return db_path.read_bytes() + (log.read_bytes() if log.exists() else b"")


@pytest.mark.parametrize("session_id", IDS)
async def test_is_deleted_with_its_session_alone(db_path: Path, stash: Any, session_id: str) -> None:
    SessionCatalog(db_path).delete_session(session_id)
    assert await owners(stash) == all_but(session_id)
    assert await stash.read("memory/s/scopes/agent/a/t_0") == b"kept"


@pytest.mark.file_only
async def test_is_deleted_by_whatever_deletes_the_session(db_path: Path, stash: Any) -> None:
    with SQLiteSessionManager("s", db_path) as manager:
        manager.delete_session("s")
    with closing(sqlite3.connect(db_path)) as connection, connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("DELETE FROM sessions WHERE session_id = 's2'")
    assert await owners(stash) == sorted([other for other in IDS if other not in ("s", "s2")] * 2)
    SessionCatalog(db_path).prune(older_than=timedelta(0))
    assert await owners(stash) == []
    assert b"secret of" not in on_disk(db_path)


async def test_is_deleted_with_its_agent(db_path: Path, stash: Any) -> None:
    SessionCatalog(db_path).delete_agent("s", "a")
    keys = await stash.list("context/s/scopes/agent/")
    assert "context/s/scopes/agent/a/t_0" not in keys
    assert "context/s/scopes/agent/ab/t_0" in keys
    assert "context/s/scopes/agent/a/scopes/agent/a/t_0" in keys  # of another session


async def test_follows_its_session_when_it_is_renamed_or_forked(db_path: Path, stash: Any) -> None:
    catalog = SessionCatalog(db_path)
    catalog.fork_session("s", "forked")
    catalog.rename_session("s", "renamed")
    for session_id in ("forked", "renamed"):
        assert await stash.list(f"context/{session_id}/") == [
            f"context/{session_id}/scopes/agent/{agent_id}/t_0" for agent_id in ("a", "ab")
        ]
    assert len(await owners(stash)) == 2 * len(IDS) + 2


@pytest.mark.file_only
async def test_of_messages_that_are_undone_or_redacted_goes_with_them(db_path: Path) -> None:
    with SQLiteSessionManager("s", db_path) as manager, SQLiteStorage(db_path) as storage:
        agent = make_agent(manager, agent_id="a")
        result = {"toolResult": {"toolUseId": "call", "status": "success", "content": [{"text": "a result"}]}}
        contents = [[{"text": "keep"}], [{"text": "go"}], [tool_use("t", "call")], [result], [{"text": "redact"}]]
        for number, content in enumerate(contents):
            role = "assistant" if number == 2 else "user"
            agent.messages.append({"role": role, "content": content, "tracking_id": f"t{number}"})
            manager.append_message(agent.messages[-1], agent)
        manager.sync_agent(agent)
        scope = storage.namespace("context/s/scopes/agent/a")
        for reference in ("t0_0", "t1_0", "call_0", "call_1", "t4_0", "t40_0", "call2_0"):
            await scope.write(reference, b"put aside " + reference.encode())
        agent.messages[-1]["content"] = [{"text": "[redacted]"}]
        manager.redact_latest_message(agent.messages[-1], agent)
        assert "t4_0" not in await scope.list()
        assert b"put aside t4_0" not in on_disk(db_path)
        SessionCatalog(db_path).undo_turns("s", "a", 2)
        assert await scope.list() == ["call2_0", "t0_0", "t40_0"]


async def test_of_a_real_agent_is_in_the_same_file_without_a_warning(db_path: Path) -> None:
    """A result that is too long is cut, comes back cut, and its whole text goes with the session."""
    context = pytest.importorskip("strands._context_manager.context_manager", reason="this SDK has no context manager")
    from strands import tool

    @tool
    def read() -> str:
        """Read."""
        return "A sentence of a long document. " * 4000

    class Small(ScriptedModel):
        def get_config(self) -> dict[str, Any]:
            return {"context_window_limit": 20_000}

    def build() -> Any:
        return make_agent(
            SQLiteSessionManager("s", db_path),
            model=Small([tool_use("read", "1")], "done", "again"),
            tools=[read],
            storage=SQLiteStorage(db_path),
            context_manager=context.ContextManager(),
        )

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        agent = build()
    await agent.invoke_async("read it")
    await agent.invoke_async("and again")
    assert len(str(agent.messages)) < 100_000
    assert build().messages == agent.messages
    with SQLiteStorage(db_path) as storage:
        assert await storage.list("context/s/") != []
        SessionCatalog(db_path).delete_session("s")
        assert await storage.list("context/s/") == []
