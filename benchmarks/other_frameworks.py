"""The embedded session stores of other frameworks, each used as its own documentation shows and with its defaults.

None of them checks for conflicts, keeps files private, or erases what it deletes. What else they do differently:

* OpenAI Agents' `SQLiteSession`: a message is JSON in one table; an event loop waits for a thread at each call.
* LangGraph's `SqliteSaver`: a checkpoint holds the whole conversation, and one is written after each message.
* agno's `SqliteDb`: a session is a row, and each run, a question with its answer, another; through SQLAlchemy.
* ADK's `SqliteSessionService`: a message is an event; each call opens the file anew.
"""

import asyncio
import uuid
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from contenders import OURS
from strands_sqlite_session_manager import SQLiteSessionRepository
from strands_sqlite_session_manager.catalog import SessionCatalog

OPENAI, LANGGRAPH, AGNO, ADK = "OpenAI Agents SQLiteSession", "LangGraph SqliteSaver", "agno SqliteDb", "ADK SQLite"
MODULES = {OPENAI: "agents", LANGGRAPH: "langgraph.checkpoint.sqlite", AGNO: "agno.db.sqlite", ADK: "google.adk"}


def is_installed(contender: str) -> bool:
    """Tell whether a contender is there."""
    if contender not in MODULES:
        return True
    try:
        spec = find_spec(MODULES[contender])
    except ModuleNotFoundError:
        return False
    # A folder of this name, of tests say, is no package.
    return spec is not None and spec.origin is not None


class Store:
    """One conversation in a file. A subclass does what a framework does for each message."""

    def __init__(self, path: Path, session_id: str = "s"):
        """Open the file, making it if it does not exist."""
        self.path, self.session_id = path, session_id

    def append(self, role: str, text: str) -> None:
        """Store a message."""
        raise NotImplementedError

    def restore(self, last: int | None = None) -> int:
        """Read all messages, or the last ones, as the framework's agent gets them, and return how many."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the file, where a framework has something to close."""


class Ours(Store):
    """This package."""

    def __init__(self, path: Path, session_id: str = "s"):
        """Open the file."""
        super().__init__(path, session_id)
        self._repository = SQLiteSessionRepository(path)
        self._catalog = SessionCatalog.on(self._repository)
        self._count: int | None = None
        if self._repository.read_agent(session_id, "a") is None:
            self._repository.create_session(Session(session_id, SessionType.AGENT))
            self._repository.create_agent(session_id, SessionAgent("a", {}, {}))

    def append(self, role: str, text: str) -> None:
        """Store a message."""
        number = self.restore() if self._count is None else self._count
        self._count = number + 1
        message: Any = {"role": role, "content": [{"text": text}]}
        self._repository.create_message(self.session_id, "a", SessionMessage(message, number))

    def restore(self, last: int | None = None) -> int:
        """Read messages."""
        if last is not None:
            return len(self._catalog.history(self.session_id, "a", limit=last))
        self._count = len(self._repository.list_messages(self.session_id, "a"))
        return self._count

    def close(self) -> None:
        """Close."""
        self._repository.close()


class Looped(Store):
    """A store whose calls are coroutines, run in one event loop, as a server does."""

    def __init__(self, path: Path, session_id: str = "s"):
        """Make a loop."""
        super().__init__(path, session_id)
        self._loop = asyncio.new_event_loop()

    def run(self, work: Any) -> Any:
        """Run a coroutine to its end."""
        return self._loop.run_until_complete(work)

    def close(self) -> None:
        """Close the loop."""
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


class OpenAIAgents(Looped):
    """OpenAI Agents."""

    def __init__(self, path: Path, session_id: str = "s"):
        """Open the file."""
        from agents import SQLiteSession  # type: ignore[import-not-found,unused-ignore]

        super().__init__(path, session_id)
        self._session = SQLiteSession(session_id, path)

    def append(self, role: str, text: str) -> None:
        """Store a message."""
        self.run(self._session.add_items([{"role": role, "content": text}]))

    def restore(self, last: int | None = None) -> int:
        """Read messages."""
        return len(self.run(self._session.get_items(limit=last)))

    def close(self) -> None:
        """Close."""
        self._session.close()
        super().close()


class LangGraph(Store):
    """LangGraph."""

    def __init__(self, path: Path, session_id: str = "s"):
        """Open the file."""
        from langgraph.checkpoint.sqlite import SqliteSaver  # type: ignore[import-not-found,unused-ignore]

        super().__init__(path, session_id)
        self._opened = SqliteSaver.from_conn_string(str(path))
        self._saver = self._opened.__enter__()
        self._config: Any = {"configurable": {"thread_id": session_id, "checkpoint_ns": ""}}
        found = self._saver.get_tuple(self._config)
        self._messages: list[Any] = found.checkpoint["channel_values"]["messages"] if found else []
        self._config = found.config if found else self._config

    def append(self, role: str, text: str) -> None:
        """Store a message."""
        from langchain_core.messages import (  # type: ignore[import-not-found,unused-ignore]
            AIMessage,
            HumanMessage,
        )
        from langgraph.checkpoint.base import empty_checkpoint  # type: ignore[import-not-found,unused-ignore]

        self._messages = [*self._messages, (HumanMessage if role == "user" else AIMessage)(text)]
        version = len(self._messages)
        checkpoint = empty_checkpoint()
        checkpoint["channel_values"] = {"messages": self._messages}
        checkpoint["channel_versions"] = {"messages": version}
        metadata: Any = {"source": "loop", "step": version, "parents": {}}
        self._config = self._saver.put(self._config, checkpoint, metadata, {"messages": version})

    def restore(self, last: int | None = None) -> int:
        """Read messages: all of them, whatever is wanted."""
        found = self._saver.get_tuple({"configurable": {"thread_id": self.session_id, "checkpoint_ns": ""}})
        return len(found.checkpoint["channel_values"]["messages"][-last if last else 0 :])

    def close(self) -> None:
        """Close."""
        self._opened.__exit__(None, None, None)


class Agno(Store):
    """agno."""

    def __init__(self, path: Path, session_id: str = "s"):
        """Open the file."""
        from agno.db.sqlite import SqliteDb  # type: ignore[import-not-found,unused-ignore]
        from agno.session import AgentSession  # type: ignore[import-not-found,unused-ignore]

        super().__init__(path, session_id)
        self._db = SqliteDb(db_file=str(path))
        self._session = self._read()
        if self._session is None:
            self._session = AgentSession(session_id=session_id, agent_id="a", user_id="u", runs=[])
            self._db.upsert_session(self._session)

    def _read(self, runs_limit: int | None = None) -> Any:
        from agno.db.base import SessionType  # type: ignore[import-not-found,unused-ignore]

        return self._db.get_session(self.session_id, SessionType.AGENT, runs_limit=runs_limit)

    def append(self, role: str, text: str) -> None:
        """Store a message, as a run of its own."""
        from agno.models.message import Message  # type: ignore[import-not-found,unused-ignore]
        from agno.run.agent import RunOutput  # type: ignore[import-not-found,unused-ignore]

        run = RunOutput(
            run_id=str(uuid.uuid4()),
            agent_id="a",
            session_id=self.session_id,
            messages=[Message(role=role, content=text)],
        )
        # As its agent does at the end of a run.
        self._session.upsert_run(run)
        self._db.upsert_run(run, session_id=self.session_id, run_index=len(self._session.runs) - 1)
        self._db.upsert_session(self._session)

    def restore(self, last: int | None = None) -> int:
        """Read messages."""
        session = self._read(last)
        return sum(len(run.messages or ()) for run in session.runs or ())


class Adk(Looped):
    """Google's ADK."""

    def __init__(self, path: Path, session_id: str = "s"):
        """Open the file."""
        from google.adk.sessions.sqlite_session_service import (  # type: ignore[import-not-found,unused-ignore]
            SqliteSessionService,
        )

        super().__init__(path, session_id)
        self._service = SqliteSessionService(str(path))
        self._key = {"app_name": "app", "user_id": "u", "session_id": session_id}
        self._session = self.run(self._service.get_session(**self._key)) or self.run(
            self._service.create_session(**self._key)
        )

    def append(self, role: str, text: str) -> None:
        """Store a message."""
        from google.adk.events import Event  # type: ignore[import-not-found,unused-ignore]
        from google.genai.types import Content, Part  # type: ignore[import-not-found,unused-ignore]

        content = Content(role="user" if role == "user" else "model", parts=[Part(text=text)])
        event = Event(author=role, invocation_id="i", content=content)
        self.run(self._service.append_event(self._session, event))

    def restore(self, last: int | None = None) -> int:
        """Read messages."""
        from google.adk.sessions.base_session_service import (  # type: ignore[import-not-found,unused-ignore]
            GetSessionConfig,
        )

        config = GetSessionConfig(num_recent_events=last) if last else None
        return len(self.run(self._service.get_session(**self._key, config=config)).events)


STORES: dict[str, type[Store]] = {OURS: Ours, OPENAI: OpenAIAgents, LANGGRAPH: LangGraph, AGNO: Agno, ADK: Adk}
