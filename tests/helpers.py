"""A scripted model, and small things that several tests need."""

import copy
import os
import signal
import sqlite3
import subprocess
import sys
import traceback
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from strands import Agent
from strands.models import Model
from strands.types.session import SessionMessage

from strands_sqlite_session_manager import SQLiteSessionManager
from strands_sqlite_session_manager._engine.holder import DatabaseHolder, database_of


@dataclass
class Redaction:
    """A guardrail's intervention: what replaces the user's message, and what is answered."""

    user: str = "[user input redacted]"
    assistant: str = "[blocked]"


class ScriptedModel(Model):
    """Gives the answers that it was given, in turn: a text, a list of content blocks, a redaction or an error."""

    def __init__(self, *answers: Any, stateful: bool = False) -> None:
        self.answers = list(answers)
        self.requests: list[list[dict[str, Any]]] = []
        self._stateful = stateful

    @property
    def stateful(self) -> bool:
        return self._stateful

    def update_config(self, **model_config: Any) -> None:
        pass

    def get_config(self) -> dict[str, Any]:
        return {}

    async def structured_output(self, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        raise NotImplementedError
        yield

    async def stream(self, messages: Any, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        self.requests.append(copy.deepcopy(messages))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if self._stateful:
            kwargs["model_state"]["response_id"] = f"response-{len(self.requests)}"
        yield {"messageStart": {"role": "assistant"}}
        if isinstance(answer, Redaction):
            yield {"redactContent": {"redactUserContentMessage": answer.user}}
            answer = answer.assistant
        stop_reason = "end_turn"
        for block in [{"text": answer}] if isinstance(answer, str) else answer:
            if "toolUse" in block:
                stop_reason = "tool_use"
                use = block["toolUse"]
                yield {"contentBlockStart": {"start": {"toolUse": {k: use[k] for k in ("name", "toolUseId")}}}}
                yield {"contentBlockDelta": {"delta": {"toolUse": {"input": use["input"]}}}}
            elif "text" in block:
                yield {"contentBlockStart": {"start": {}}}
                yield {"contentBlockDelta": {"delta": {"text": block["text"]}}}
            else:
                yield {"contentBlockStart": {"start": {}}}
                yield {"contentBlockDelta": {"delta": block}}
            yield {"contentBlockStop": {}}
        yield {"messageStop": {"stopReason": stop_reason}}
        usage = {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15}
        yield {"metadata": {"usage": usage, "metrics": {"latencyMs": 1}}}


def tool_use(name: str, tool_use_id: str, arguments: str = "{}") -> dict[str, Any]:
    return {"toolUse": {"name": name, "toolUseId": tool_use_id, "input": arguments}}


def make_agent(session_manager: Any, *answers: Any, **options: Any) -> Agent:
    """An agent with a scripted model that prints nothing."""
    options.setdefault("model", ScriptedModel(*answers))
    return Agent(session_manager=session_manager, callback_handler=None, **options)


def texts(messages: Any) -> list[str]:
    """The text of each message of an agent, or of a list of stored messages."""
    contents = (m.to_message() if isinstance(m, SessionMessage) else m for m in messages)
    return ["".join(block.get("text", "") for block in message["content"]) for message in contents]


def text_message(message_id: int, text: str = "hello", role: str = "user") -> SessionMessage:
    return SessionMessage({"role": role, "content": [{"text": text}]}, message_id)


class FakeMultiAgent:
    """Stands for a graph or swarm: an id and a state."""

    def __init__(self, multi_agent_id: str, state: dict[str, Any]) -> None:
        self.id = multi_agent_id
        self.state = state

    def serialize_state(self) -> dict[str, Any]:
        return self.state


def reopen(manager: SQLiteSessionManager) -> SQLiteSessionManager:
    """Return what a new process would build: nothing is shared with the manager but the file."""
    return SQLiteSessionManager(manager.session_id, database_of(manager).path)


_EXPIRY_OF_ONE = {
    "SEARCH sessions USING PRIMARY KEY (session_id=?)",
    "SEARCH storage USING INDEX sqlite_autoindex_storage_1 (key=?)",
}


def plan_of(raw: sqlite3.Connection, sql: str, parameters: Any = ()) -> list[str]:
    """Return the steps of SQLite's plan for a query, without those that look for what has expired, by key or index."""
    steps: list[tuple[int, int, int, str]] = raw.execute(f"EXPLAIN QUERY PLAN {sql}", parameters).fetchall()
    left_out: set[int] = set()
    for number, _, _, step in steps:
        within = {number}
        for child, parent, _, _ in steps:
            if parent in within:
                within.add(child)
        parts = [part for child, _, _, part in steps if child in within]
        in_index = step.startswith("LIST SUBQUERY") and any("_by_expiry" in part for part in parts)
        searches = {part for part in parts if "SUBQUERY" not in part}
        if in_index or (step.startswith("CORRELATED") and searches <= _EXPIRY_OF_ONE):
            assert not any(part.startswith("SCAN") for part in parts)
            left_out |= within
    return [step for number, _, _, step in steps if number not in left_out]


def query_plans(holder: DatabaseHolder, raw: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Return a list to which each query from now on adds the steps of SQLite's plan for it."""
    plans: list[list[str]] = []
    database = database_of(holder)
    query = database.query

    def explain(sql: str, parameters: Any = ()) -> Any:
        plans.append(plan_of(raw, sql, parameters))
        return query(sql, parameters)

    monkeypatch.setattr(database, "query", explain)
    return plans


def run_python(code: str, *arguments: object, timeout: float = 50) -> str:
    """Run code, which may import this module, in a new process, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error::ResourceWarning", "-c", code, *map(str, arguments)],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "ResourceWarning" not in done.stderr, done.stderr
    return done.stdout


def in_child(work: Callable[[], object], fork: Callable[[], tuple[int, object]] | None = None) -> None:
    """Run something in a forked child, which must not fail or hang."""
    child = fork()[0] if fork else os.fork()
    if child == 0:
        signal.alarm(30)
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def resident_kib() -> int:
    """The memory of this process, as Linux counts it."""
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0])
