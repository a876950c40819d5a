"""What is compared: repositories of sessions, and the bare `sqlite3` that none of them can do without."""

import json
import sqlite3
from pathlib import Path
from typing import Any

from strands.session.file_session_manager import FileSessionManager
from strands.session.session_repository import SessionRepository
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from strands_sqlite_session_manager import SQLiteSessionRepository

_to_json = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode
_from_json = json.JSONDecoder().decode


class Floor:
    """The same bytes in tables with the same columns and keys: one open connection, one statement, cached JSON coders.

    It lacks all that costs time beside: foreign keys, triggers, checks of ids and of damaged rows, bytes in messages,
    sharing a file among threads and forks, errors that name the file.
    """

    def __init__(self, path: Path, synchronous: str = "NORMAL"):
        self._connection = connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute(
            """
            CREATE TABLE IF NOT EXISTS agents (
                session_id TEXT NOT NULL, agent_id TEXT NOT NULL, state TEXT NOT NULL,
                conversation_manager_state TEXT NOT NULL, internal_state TEXT NOT NULL,
                created_at TEXT NOT NULL, updated_at TEXT NOT NULL,
                PRIMARY KEY (session_id, agent_id)
            )
            """
        )
        connection.execute(
            """
            CREATE TABLE IF NOT EXISTS messages (
                session_id TEXT NOT NULL, agent_id TEXT NOT NULL, message_id INTEGER NOT NULL,
                message TEXT NOT NULL, redact_message TEXT, attachments BLOB,
                created_at TEXT NOT NULL, updated_at TEXT NOT NULL,
                PRIMARY KEY (session_id, agent_id, message_id)
            )
            """
        )

    def create_session(self, session: Session) -> None:
        """Do nothing: nothing refers to sessions here."""

    def create_agent(self, session_id: str, agent: SessionAgent) -> None:
        self._connection.execute(
            """
            INSERT INTO agents (
                session_id, agent_id, state, conversation_manager_state, internal_state, created_at, updated_at
            ) VALUES (?, ?, ?, ?, ?, ?, ?)
            """,
            (session_id, agent.agent_id, *_states(agent), agent.created_at, agent.updated_at),
        )

    def read_agent(self, session_id: str, agent_id: str) -> SessionAgent | None:
        row = self._connection.execute(
            """
            SELECT state, conversation_manager_state, internal_state, created_at, updated_at
            FROM agents WHERE session_id = ? AND agent_id = ?
            """,
            (session_id, agent_id),
        ).fetchone()
        if row is None:
            return None
        *states, created_at, updated_at = row
        return SessionAgent(agent_id, *map(_from_json, states), created_at, updated_at)

    def update_agent(self, session_id: str, agent: SessionAgent) -> None:
        self._connection.execute(
            """
            UPDATE agents SET state = ?, conversation_manager_state = ?, internal_state = ?, updated_at = ?
            WHERE session_id = ? AND agent_id = ?
            """,
            (*_states(agent), agent.updated_at, session_id, agent.agent_id),
        )

    def create_message(self, session_id: str, agent_id: str, message: SessionMessage) -> None:
        self._connection.execute(
            "INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                session_id,
                agent_id,
                message.message_id,
                _to_json(message.message),
                None if message.redact_message is None else _to_json(message.redact_message),
                None,
                message.created_at,
                message.updated_at,
            ),
        )

    def list_messages(self, session_id: str, agent_id: str) -> list[SessionMessage]:
        rows = self._connection.execute(
            """
            SELECT message_id, message, redact_message, created_at, updated_at
            FROM messages WHERE session_id = ? AND agent_id = ? ORDER BY message_id
            """,
            (session_id, agent_id),
        )
        return [
            SessionMessage(
                _from_json(message),
                message_id,
                None if redact_message is None else _from_json(redact_message),
                created_at,
                updated_at,
            )
            for message_id, message, redact_message, created_at, updated_at in rows
        ]

    def close(self) -> None:
        self._connection.close()


class FloorOnOurTables(Floor):
    """The same statements on this package's tables: what its foreign keys, triggers and index cost in SQLite itself.

    What this package takes beyond that goes into its Python.
    """

    def __init__(self, path: Path):
        with SQLiteSessionRepository(path):  # Makes the tables.
            super().__init__(path)
        self._connection.execute("PRAGMA foreign_keys = ON")
        self._connection.execute("PRAGMA secure_delete = ON")

    def create_session(self, session: Session) -> None:
        self._connection.execute("INSERT INTO sessions (session_id) VALUES (?)", (session.session_id,))


def _states(agent: SessionAgent) -> tuple[str, str, str]:
    return (
        _to_json(agent.state),
        _to_json(agent.conversation_manager_state),
        _to_json(agent._internal_state),
    )


class Nothing(SessionRepository):
    """Stores nothing: what a turn of an agent takes without any storage."""

    def create_session(self, session: Session, **kwargs: Any) -> Session:
        return session

    def read_session(self, session_id: str, **kwargs: Any) -> Session | None:
        return None

    def create_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        pass

    def read_agent(self, session_id: str, agent_id: str, **kwargs: Any) -> SessionAgent | None:
        return None

    def update_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        pass

    def create_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any) -> None:
        pass

    def read_message(self, session_id: str, agent_id: str, message_id: int, **kwargs: Any) -> SessionMessage | None:
        return None

    def update_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any) -> None:
        pass

    def list_messages(
        self, session_id: str, agent_id: str, limit: int | None = None, offset: int = 0, **kwargs: Any
    ) -> list[SessionMessage]:
        return []


class BareRepository(Nothing):
    """Stores what an agent needs in a turn, and restores it, as `Floor` does."""

    def __init__(self, directory: Path):
        self._floor = floor = Floor(directory / "floor.db")
        self.create_agent = floor.create_agent
        self.update_agent = floor.update_agent
        self.create_message = floor.create_message
        self.read_agent = floor.read_agent

    def read_session(self, session_id: str, **kwargs: Any) -> Session:
        return Session(session_id, SessionType.AGENT)

    def list_messages(
        self, session_id: str, agent_id: str, limit: int | None = None, offset: int = 0, **kwargs: Any
    ) -> list[SessionMessage]:
        return self._floor.list_messages(session_id, agent_id)


FLOOR = "bare sqlite3"
FLOOR_ON_OUR_TABLES = "bare sqlite3, these tables"
OURS = "this package"
FILES = "FileSessionManager"
SQLALCHEMY = "strands-session-sql"


def make_repository(contender: str, directory: Path, synchronous: Any = "NORMAL") -> Any:
    """Return a repository in a directory of its own, with the session `s` and its agent `a`."""
    repository: Any
    if contender == FLOOR:
        repository = Floor(directory / "floor.db", synchronous)
    elif contender == FLOOR_ON_OUR_TABLES:
        repository = FloorOnOurTables(directory / "sessions.db")
    elif contender == OURS:
        repository = SQLiteSessionRepository(directory / "sessions.db", synchronous=synchronous)
    elif contender == FILES:
        repository = FileSessionManager("s", storage_dir=str(directory))
    else:
        from strands_session_sql import SQLSessionManager

        repository = SQLSessionManager("s", url=f"sqlite:///{directory / 'sqlalchemy.db'}")
    if contender in (FLOOR, FLOOR_ON_OUR_TABLES, OURS):  # The others are managers, which make their session themselves.
        repository.create_session(Session("s", SessionType.AGENT))
    repository.create_agent("s", SessionAgent("a", {}, {}))
    return repository
