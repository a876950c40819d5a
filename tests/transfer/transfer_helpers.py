"""What several tests of this folder need."""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

from strands.session.file_session_manager import FileSessionManager
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from strands_sqlite_session_manager.transfer import (
    RecordCounts,
)

LONG_AGO = "2020-01-02T03:04:05.678901+00:00"


LATER = "2021-01-02T03:04:05+00:00"


LAST = "2022-12-31T23:59:59.999999+00:00"


EVERYTHING = RecordCounts(sessions=1, agents=2, messages=8, multi_agents=1)


NOTHING = RecordCounts(0, 0, 0, 0)


CONTENTS: list[list[Any]] = [
    [{"text": 'é 漢字 🎉 \u0000 \u2028 \r\n "quoted" \\ \''}],
    [{"image": {"format": "png", "source": {"bytes": b"\x89PNG\x00\xff"}}}, {"text": "what is it?"}],
    [{"toolResult": {"toolUseId": "1", "content": [{"image": {"source": {"bytes": bytes(range(256))}}}]}}],
    [{"toolUse": {"toolUseId": "1", "name": "add", "input": {"a": float("nan"), "b": [float("-inf"), 1e100, 10**30]}}}],
    [{"reasoningContent": {"redactedContent": b""}}, {"json": {"__encoded__": ["bytes", "no"]}}],
    [],
]


# No times, or not to be compared as text with those that the SDK writes.
BAD_TIMES = [
    *("", "soon", "2020-01-01", "2020-01-01T00:00:00", "2020-01-01T00:00:00-12:00"),
    *("2020-01-01 00:00:00+00:00", "2020-13-01T00:00:00+00:00", "x+00:00"),
]


class StateOf:
    """Stands for a graph or swarm: an id and a state."""

    def __init__(self, multi_agent_id: str, state: dict[str, Any]) -> None:
        self.id = multi_agent_id
        self.state = state

    def serialize_state(self) -> dict[str, Any]:
        return self.state


def files_in(directory: Path, session_id: str = "other") -> FileSessionManager:
    """A file manager with a session of its own beside those of the test."""
    return FileSessionManager(session_id, storage_dir=str(directory))


def fill(store: Any, session_id: str = "full") -> None:
    """Store a session with all that a session can hold, the messages newer than the session."""
    store.create_session(Session(session_id, SessionType.AGENT, LONG_AGO, LATER))
    store.create_agent(
        session_id,
        SessionAgent(
            "a", {"color": "ré\u2028d", "n": [1, 2.5, None]}, {"window": 3}, {"model_state": {}}, LONG_AGO, LATER
        ),
    )
    for message_id, content in enumerate(CONTENTS):
        role = "user" if message_id % 2 == 0 else "assistant"
        message: Any = {"role": role, "content": content, "metadata": {"usage": {"inputTokens": 1}}}
        store.create_message(session_id, "a", SessionMessage(message, message_id, None, LAST, LAST))
    redacted: Any = {"role": "user", "content": [{"text": "[redacted]"}, {"image": {"source": {"bytes": b"\x00"}}}]}
    original: Any = {"role": "user", "content": [{"image": {"source": {"bytes": b"secret"}}}]}
    store.create_message(session_id, "a", SessionMessage(original, 6, redacted, LONG_AGO, LAST))
    # A gap, as an SDK that failed to store leaves it.
    store.create_message(session_id, "a", SessionMessage(original, 12, None, LONG_AGO, LAST))
    store.create_agent(session_id, SessionAgent("b", {}, {}, {}, LATER, LATER))
    store.create_multi_agent(session_id, StateOf("graph", {"status": "done ✓", "nodes": ["x"], "n": float("nan")}))


def content(directory: Path) -> dict[str, bytes]:
    """All files below a directory."""
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def rows(path: Path) -> dict[str, list[Any]]:
    """All rows of all tables of sessions, seen from outside."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return {
            table: connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3").fetchall()
            for table in ("sessions", "agents", "messages", "multi_agents")
        }
