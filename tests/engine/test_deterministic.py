"""Statements give the same on every replica: none that the library runs asks SQLite's clock, or for a random number."""

import io
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from strands.session.file_session_manager import FileSessionManager
from strands.types.session import Session, SessionAgent, SessionType

from helpers import FakeMultiAgent, Redaction, make_agent, text_message
from strands_sqlite_session_manager import SessionCatalog, SQLiteSessionManager, SQLiteSessionRepository
from strands_sqlite_session_manager._engine import schema
from strands_sqlite_session_manager._engine.file import FileDatabase
from strands_sqlite_session_manager._engine.holder import database_of
from strands_sqlite_session_manager.transfer import (
    copy_session,
    export_jsonl,
    import_file_sessions,
    import_jsonl,
)

CLOCK = "strftime('%Y-%m-%dT%H:%M:%f000+00:00', 'now')"


@pytest.fixture(autouse=True)
def _clock_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """The defaults and triggers of the schema fail where they would ask the clock, and what writes asks no view."""
    failing = "abs(-9223372036854775808)"
    migrations = [
        [step if "CREATE VIEW" in step else step.replace(CLOCK, failing) for step in migration]
        for migration in schema.MIGRATIONS
    ]
    assert CLOCK in str(schema.MIGRATIONS)
    assert "'now'" not in str([step for step in migrations[0] if "CREATE VIEW" not in step])
    assert "random" not in str(migrations).lower()
    monkeypatch.setattr(schema, "MIGRATIONS", tuple(migrations))
    execute, transaction = FileDatabase.execute, FileDatabase.transaction

    def checked(sql: str) -> str:
        assert "expired_" not in sql
        return sql

    monkeypatch.setattr(
        FileDatabase, "execute", lambda self, sql, parameters=(): execute(self, checked(sql), parameters)
    )
    monkeypatch.setattr(
        FileDatabase,
        "transaction",
        lambda self, statements: transaction(self, [(checked(sql), values) for sql, values in statements]),
    )


def test_the_clock_that_fails_does(db_path: Path) -> None:
    with SQLiteSessionRepository(db_path) as repository:
        database = database_of(repository)
        with pytest.raises(Exception, match="integer overflow"):
            database.execute("INSERT INTO sessions (session_id) VALUES ('s')")


def test_repository(db_path: Path) -> None:
    with SQLiteSessionRepository(db_path) as repository:
        repository.create_session(Session("s", SessionType.AGENT))
        agent, message = SessionAgent("a", {}, {}), text_message(0)
        repository.create_agent("s", agent, messages=[message])
        for _ in range(2):  # With the time that is stored already, and with another.
            repository.update_agent("s", agent)
            message.redact_message = message.message
            repository.update_message("s", "a", message)
            agent.updated_at = message.updated_at = "2020-01-01T00:00:00+00:00"
        repository.create_multi_agent("s", FakeMultiAgent("g", {}))
        repository.update_multi_agent("s", FakeMultiAgent("g", {"a": 1}))
        repository.delete_session("s")


def test_manager_and_catalog(db_path: Path) -> None:
    with SQLiteSessionManager("s", db_path) as manager, SessionCatalog(db_path) as catalog:
        agent = make_agent(manager, "one", Redaction(), "three", "four")
        for number in range(4):
            agent(f"question {number}")
            agent.state.set("number", number)
        catalog.search("question")
        agent.messages[0]["content"] = [{"text": "changed"}]
        manager.sync_agent(agent)
        manager.redact_latest_message({"role": "assistant", "content": [{"text": "[redacted]"}]}, agent)
        catalog.set_metadata("s", {"a": 1})
        catalog.update_metadata("s", b=2)
        catalog.fork_session("s", "fork", through=3)
        catalog.undo_turns("s", "default")
        catalog.rename_session("s", "renamed")
        catalog.search("question")
        catalog.reindex()
        catalog.delete_agent("fork", "default")
        for session_id in ("fork", "renamed"):
            catalog.set_expiry(session_id, timedelta(seconds=-1))
        database_of(manager).next_sweep = 0.0
        manager.session_repository.create_session(Session("fork", SessionType.AGENT))
        catalog.prune(older_than=timedelta(0))


def test_transfer(db_path: Path, tmp_path: Path) -> None:
    make_agent(FileSessionManager("s", storage_dir=str(tmp_path / "files")), "one")("question")
    with SQLiteSessionRepository(db_path) as source, SQLiteSessionRepository(tmp_path / "copy.db") as target:
        assert import_file_sessions(tmp_path / "files", source).skipped == []
        copy_session(source, target, "s")
        lines = io.StringIO()
        export_jsonl(source, lines)
        lines.seek(0)
        with SQLiteSessionRepository(tmp_path / "lines.db") as third:
            assert import_jsonl(lines, third).session_ids == ["s"]


async def test_storage(db_path: Path) -> None:
    storage_class: Any = pytest.importorskip(
        "strands_sqlite_session_manager.storage", exc_type=ImportError, reason="this SDK has no storage"
    ).SQLiteStorage
    with storage_class(db_path) as storage:
        for _ in range(2):
            await storage.write("a/b", b"text")
            await storage.write_many({"a/c": b"text", "d": b"more"})
        await storage.search("text")
        await storage.set_expiry("a/b", timedelta(days=1))
        await storage.delete_prefix("a")
        await storage.reindex()
        await storage.clear()


async def test_memory(db_path: Path) -> None:
    pytest.importorskip("strands.memory", reason="this SDK has no memory")
    from strands_sqlite_session_manager import SQLiteMemoryStore

    with SQLiteMemoryStore("facts", db_path, embedder=lambda texts: [[1.0]] * len(texts)) as store:
        ids = [await store.add(content) for content in ("tea", "tea", "coffee", "water")]
        await store.search("tea")
        await store.update(ids[0], content="green tea", metadata={"a": 1})
        await store.reindex()
        await store.forget("coffee")
        await store.delete(ids[0])
        await store.prune(keep_last=0)
        await store.clear()
    with SessionCatalog(db_path) as catalog:
        catalog.forget_user(metadata={"a": 1}, memory_scopes=["default"], storage_prefixes=["a"])
