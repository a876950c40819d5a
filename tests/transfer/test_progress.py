"""How far an import, an export, a pruning or a check is."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from strands.session.file_session_manager import FileSessionManager
from strands.types.session import Session, SessionAgent, SessionType

from helpers import text_message
from strands_sqlite_session_manager import SQLiteSessionRepository, maintenance
from strands_sqlite_session_manager.catalog import SessionCatalog
from strands_sqlite_session_manager.transfer import (
    copy_session,
    export_file_sessions,
    export_jsonl,
    import_file_sessions,
    import_jsonl,
)


class Calls(list[tuple[int, int]]):
    """What a callback was called with."""

    def __call__(self, done: int, total: int) -> None:
        self.append((done, total))


@pytest.fixture
def source(db_path: Path) -> SQLiteSessionRepository:
    """Three sessions with 100 messages each."""
    repository = SQLiteSessionRepository(db_path)
    for name in "abc":
        repository.create_session(Session(name, SessionType.AGENT))
        repository.create_agent(name, SessionAgent("a", {}, {}), messages=[text_message(n) for n in range(100)])
    return repository


EACH_SESSION = [(1, 3), (2, 3), (3, 3)]


def test_of_sessions(source: SQLiteSessionRepository, tmp_path: Path) -> None:
    calls = [Calls() for _ in range(5)]
    export_jsonl(source, tmp_path / "all.jsonl", progress=calls[0])
    export_jsonl(source, tmp_path / "chosen.jsonl", session_ids=["a", "c"], progress=calls[1])
    export_file_sessions(source, tmp_path / "files", progress=calls[2])
    with SQLiteSessionRepository(tmp_path / "other.db") as other:
        import_file_sessions(tmp_path / "files", other, progress=calls[3])
        import_jsonl(tmp_path / "all.jsonl", other, progress=calls[4])
    assert calls[0] == calls[2] == calls[3] == EACH_SESSION
    assert calls[1] == [(1, 2), (2, 2)]
    size = (tmp_path / "all.jsonl").stat().st_size
    assert [total for _, total in calls[4]] == [size] * 3
    assert 0 < calls[4][0][0] < calls[4][1][0] < calls[4][2][0] <= size


@pytest.mark.file_only
def test_of_messages(source: SQLiteSessionRepository, db_path: Path) -> None:
    checked, indexed, indexed_again = Calls(), Calls(), Calls()
    maintenance.check(db_path, progress=checked)
    assert checked == [(100, 300), (200, 300), (300, 300)]
    catalog = SessionCatalog.on(source)
    catalog.search("message", progress=indexed)
    catalog.reindex(progress=indexed_again)
    assert indexed == indexed_again
    assert indexed[-1] == (300, 300)


@pytest.mark.slow
def test_of_copies(source: SQLiteSessionRepository, tmp_path: Path) -> None:
    calls = [Calls() for _ in range(3)]
    source.create_agent("a", SessionAgent("b", {}, {}), messages=[text_message(n) for n in range(950)])
    with SQLiteSessionRepository(tmp_path / "other.db") as other:
        copy_session(source, other, "a", progress=calls[0])
    files = FileSessionManager("f", storage_dir=str(tmp_path / "files"))
    copy_session(source, files, "a", progress=calls[1])
    with SQLiteSessionRepository(tmp_path / "back.db") as back:
        copy_session(files, back, "a", progress=calls[2])
    assert calls[0] == [(500, 1050), (1000, 1050), (1050, 1050)]
    assert calls[1] == [(600, 1050), (1050, 1050)]
    assert calls[2] == [(500, 0), (1000, 0)]


@pytest.mark.file_only
def test_of_backups(source: SQLiteSessionRepository, db_path: Path, tmp_path: Path) -> None:
    with SQLiteSessionRepository(tmp_path / "present.db"):
        pass
    calls = [Calls() for _ in range(3)]
    maintenance.backup(tmp_path / "backup.db", db_path, progress=calls[0])
    maintenance.restore_backup(tmp_path / "backup.db", tmp_path / "new.db", progress=calls[1])
    maintenance.restore_backup(tmp_path / "backup.db", tmp_path / "present.db", overwrite=True, progress=calls[2])
    ((pages, total),) = calls[0]
    assert pages == total > 10
    assert calls[1] == calls[2] == calls[0]


@pytest.mark.file_only
def test_of_a_repair(source: SQLiteSessionRepository, db_path: Path) -> None:
    calls = Calls()
    maintenance.repair(db_path, progress=calls)
    assert calls[-1] == (300, 300)


async def test_of_indexing_a_storage(storage: Any) -> None:
    calls = Calls()
    await storage.write("key", b"data")
    await storage.reindex(progress=calls)
    assert calls[-1] == (1, 1)


def test_of_pruning(source: SQLiteSessionRepository) -> None:
    deleted = Calls()
    catalog = SessionCatalog.on(source)
    catalog.prune(older_than=timedelta(0), session_ids=["a", "b"], progress=deleted)
    assert deleted[-1] == (2, 2)
