"""Sessions and messages at times that a test can name, for the tests of the catalog."""

from datetime import datetime, timedelta, timezone
from typing import Any

from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from strands_sqlite_session_manager import SQLiteSessionRepository
from strands_sqlite_session_manager.catalog import SessionPage

NOW = datetime(2026, 6, 1, tzinfo=timezone.utc)


def at(minutes: float) -> str:
    """Return a time so many minutes after `NOW`, as the tables hold it."""
    return (NOW + timedelta(minutes=minutes)).isoformat()


def add_session(repository: SQLiteSessionRepository, session_id: str, minutes: float = 0, messages: int = 0) -> None:
    """Create a session with the agent `a` and so many messages, all of the same time."""
    repository.create_session(Session(session_id, SessionType.AGENT, at(minutes), at(minutes)))
    repository.create_agent(session_id, SessionAgent("a", {}, {}, {}, at(minutes), at(minutes)))
    for number in range(messages):
        repository.create_message(session_id, "a", message(number, minutes))


def message(number: int, minutes: float = 0, **metadata: Any) -> SessionMessage:
    """Return a message, the even ones from the user."""
    content: Any = {"role": "assistant" if number % 2 else "user", "content": [{"text": f"text {number}"}]}
    if metadata:
        content["metadata"] = metadata
    return SessionMessage(content, number, None, at(minutes), at(minutes))


def ids(page: SessionPage) -> list[str]:
    """Return the ids of the sessions on a page."""
    return [session.session_id for session in page.sessions]
