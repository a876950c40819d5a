"""Values that are larger than SQLite takes: what names them."""

import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from helpers import FakeMultiAgent, make_agent, text_message
from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository
from strands_sqlite_session_manager._engine import connection as engine_connection
from strands_sqlite_session_manager.catalog import SessionCatalog
from strands_sqlite_session_manager.transfer import copy_session

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="this Python cannot lower the limit")

LARGE = "x" * 200_000
LIMIT = "too large: .*1,000,000,000 bytes"


@pytest.fixture(autouse=True)
def _low_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """All connections that the library opens take 100,000 bytes."""
    connect = engine_connection.sqlite3.connect

    def limited(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection = connect(*args, **kwargs)
        connection.setlimit(0, 100_000)  # SQLITE_LIMIT_LENGTH
        return connection

    monkeypatch.setattr("strands_sqlite_session_manager._engine.connection.sqlite3.connect", limited)


def test_a_message(repository: SQLiteSessionRepository) -> None:
    with pytest.raises(SessionException, match=f"^Message 0 of agent a in session s: {LIMIT}"):
        repository.create_message("s", "a", text_message(0, LARGE))
    repository.create_message("s", "a", text_message(0))
    with pytest.raises(SessionException, match=f"^Message 0 of agent a in session s: {LIMIT}"):
        repository.update_message("s", "a", text_message(0, LARGE))
    attachment = SessionMessage({"role": "user", "content": [{"image": {"source": {"bytes": bytes(200_000)}}}]}, 1)
    with pytest.raises(SessionException, match=f"^Message 1 of agent a in session s: {LIMIT}"):
        repository.create_message("s", "a", attachment)
    assert len(repository.list_messages("s", "a")) == 1


def test_a_message_of_an_agent(repository: SQLiteSessionRepository) -> None:
    agent = make_agent(SQLiteSessionManager("m", session_repository=repository), "hi")
    with pytest.raises(SessionException, match=f"Agent default in session m: message 0: {LIMIT}"):
        agent(LARGE)


def test_a_state(repository: SQLiteSessionRepository) -> None:
    with pytest.raises(SessionException, match=f"^Agent a in session s: {LIMIT}"):
        repository.update_agent("s", SessionAgent("a", {"large": LARGE}, {}))
    with pytest.raises(SessionException, match=f"^Agent b in session s, or one of its messages: {LIMIT}"):
        repository.create_agent("s", SessionAgent("b", {}, {}), messages=[text_message(0, LARGE)])
    with pytest.raises(SessionException, match=f"^MultiAgent state g in session s: {LIMIT}"):
        repository.create_multi_agent("s", FakeMultiAgent("g", {"large": LARGE}))  # type: ignore[arg-type]
    repository.create_multi_agent("s", FakeMultiAgent("g", {}))  # type: ignore[arg-type]
    with pytest.raises(SessionException, match=f"^MultiAgent state g in session s: {LIMIT}"):
        repository.update_multi_agent("s", FakeMultiAgent("g", {"large": LARGE}))  # type: ignore[arg-type]


def test_metadata(repository: SQLiteSessionRepository) -> None:
    catalog = SessionCatalog(session_repository=repository)
    with pytest.raises(SessionException, match=f"^Metadata of session s: {LIMIT}"):
        catalog.set_metadata("s", {"large": LARGE})
    with pytest.raises(SessionException, match=f"^Metadata of session s: {LIMIT}"):
        catalog.update_metadata("s", large=LARGE)


def test_a_record_that_is_copied(empty: SQLiteSessionRepository, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as without_limit:
        without_limit.setattr(engine_connection.sqlite3, "connect", sqlite3.dbapi2.connect)
        source = SQLiteSessionRepository(tmp_path / "source.db")
        source.create_session(Session("s", SessionType.AGENT))
        messages = [text_message(0), text_message(1, LARGE), text_message(2)]
        source.create_agent("s", SessionAgent("a", {}, {}), messages=messages)
    with pytest.raises(SessionException, match=f"^Message 1 of agent a in session s: {LIMIT}"):
        copy_session(source, empty, "s")
    assert empty.read_session("s") is None


async def test_data_of_a_storage(storage: Any) -> None:
    with pytest.raises(Exception, match=r"write 'key': .*1,000,000,000 bytes"):
        await storage.write("key", LARGE.encode())
    with pytest.raises(Exception, match=f"write 2 keys: 'b': {LIMIT}"):
        await storage.write_many({"a": b"small", "b": LARGE.encode()})
    assert await storage.list() == []
