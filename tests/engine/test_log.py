"""The write-ahead log: emptied behind deletions and when it is large, whoever reads from it."""

import logging
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from strands.types.session import Session, SessionAgent, SessionType

from helpers import run_python, text_message
from strands_sqlite_session_manager import SQLiteSessionRepository, maintenance
from strands_sqlite_session_manager._engine import log as _log
from strands_sqlite_session_manager._engine import pool as _pool
from strands_sqlite_session_manager._engine.holder import database_of
from strands_sqlite_session_manager.catalog import SessionCatalog

# So long that no call may wait for it.
PATIENT = 600.0


@pytest.fixture
def patient(db_path: Path) -> Iterator[SQLiteSessionRepository]:
    """A repository that would wait for a lock for very long."""
    with SQLiteSessionRepository(db_path, busy_timeout=PATIENT) as repository:
        for number in range(20):
            repository.create_session(Session(f"s{number}", SessionType.AGENT))
            repository.create_agent(f"s{number}", SessionAgent("a", {}, {}))
            repository.create_message(f"s{number}", "a", text_message(0, f"xylophone {number}"))
        yield repository


@pytest.fixture
def reader(patient: SQLiteSessionRepository, db_path: Path) -> Iterator[sqlite3.Connection]:
    """Somebody who keeps reading, as Litestream or a database browser does."""
    with closing(sqlite3.connect(db_path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM messages").fetchall()
        yield reader


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long each wait for the log was."""
    waits: list[float] = []
    sleep = time.sleep

    def noted(seconds: float) -> None:
        waits.append(seconds)
        sleep(seconds)

    monkeypatch.setattr(_pool.time, "sleep", noted)
    return waits


def log_of(db_path: Path) -> Path:
    return db_path.with_name(f"{db_path.name}-wal")


def size_of_log(db_path: Path) -> int:
    return log_of(db_path).stat().st_size if log_of(db_path).exists() else 0


class TestBehindADeletion:
    def test_nobody_waits_long_for_a_reader_who_stays(
        self,
        patient: SQLiteSessionRepository,
        reader: sqlite3.Connection,
        sleeps: list[float],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        started = time.monotonic()
        patient.delete_session("s0")
        assert time.monotonic() - started < PATIENT / 10
        assert 0 < sum(sleeps) < 0.25
        sleeps.clear()
        # It is known by now that somebody stays.
        for number in range(1, 10):
            patient.delete_session(f"s{number}")
        SessionCatalog.on(patient).undo_turns("s11", "a")
        assert sleeps == []
        (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert "stays in its write-ahead log for now" in record.getMessage()

    def test_a_later_write_empties_it(
        self, patient: SQLiteSessionRepository, reader: sqlite3.Connection, db_path: Path
    ) -> None:
        patient.delete_session("s0")
        reader.execute("COMMIT")
        assert size_of_log(db_path) > 0
        count = 0
        while database_of(patient)._pool.log.is_owed:  # type: ignore[attr-defined]
            count += 1
            patient.create_message("s1", "a", text_message(count))
        assert size_of_log(db_path) == 0

    def test_writes_do_not_try_each_time(
        self, patient: SQLiteSessionRepository, reader: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        patient.delete_session("s0")
        attempts = []
        empty = _log.WriteAheadLog.empty

        def counted(log: _log.WriteAheadLog, *arguments: object) -> bool:
            attempts.append(arguments)
            return empty(log, *arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(_log.WriteAheadLog, "empty", counted)
        monkeypatch.setattr(_log, "_PAUSE", 1000)
        database_of(patient)._pool.log.next_attempt = 0  # type: ignore[attr-defined]
        for number in range(1, 50):
            patient.create_message("s1", "a", text_message(number))
        assert len(attempts) == 1

    def test_it_is_emptied_when_the_database_is_closed(
        self, patient: SQLiteSessionRepository, reader: sqlite3.Connection, db_path: Path
    ) -> None:
        with SQLiteSessionRepository(db_path):  # so that the last connection is not the one that is closed
            patient.delete_session("s0")
            reader.execute("COMMIT")
            patient.close()
            assert size_of_log(db_path) == 0

    def test_a_write_that_is_stored_does_not_fail_for_it(
        self, patient: SQLiteSessionRepository, reader: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(log: _log.WriteAheadLog, *arguments: object) -> bool:
            raise sqlite3.OperationalError("disk I/O error")

        patient.delete_session("s0")
        monkeypatch.setattr(_log.WriteAheadLog, "empty", fail)
        database_of(patient)._pool.log.next_attempt = 0  # type: ignore[attr-defined]
        patient.create_message("s1", "a", text_message(1))
        assert len(patient.list_messages("s1", "a")) == 2

    def test_a_backup_is_such_a_reader(self, patient: SQLiteSessionRepository, tmp_path: Path, db_path: Path) -> None:
        """As it copies page by page, a deletion in the middle of it neither waits nor fails."""
        deleted = threading.Event()

        def delete(copied: int, total: int) -> None:
            if not deleted.is_set():
                patient.delete_session("s0")
                deleted.set()

        started = time.monotonic()
        maintenance.backup(tmp_path / "copy.db", db_path, progress=delete)
        assert time.monotonic() - started < PATIENT / 10
        assert deleted.is_set()
        with SQLiteSessionRepository(tmp_path / "copy.db") as copy:
            assert copy.read_session("s0") is not None
        patient.delete_session("s1")
        assert size_of_log(db_path) == 0

    @pytest.mark.slow
    def test_nor_does_anyone_wait_who_is_in_another_process(
        self, patient: SQLiteSessionRepository, reader: sqlite3.Connection, db_path: Path
    ) -> None:
        code = f"""
import sys, time
from strands_sqlite_session_manager import SQLiteSessionRepository
with SQLiteSessionRepository(sys.argv[1], busy_timeout={PATIENT}) as repository:
    started = time.monotonic()
    repository.delete_session("s0")
    print(time.monotonic() - started)
"""
        assert float(run_python(code, db_path)) < PATIENT / 10


class TestALargeLog:
    def test_is_given_back_to_the_file_system(
        self, patient: SQLiteSessionRepository, reader: sqlite3.Connection, db_path: Path
    ) -> None:
        patient.create_message("s0", "a", text_message(1, "x" * 20_000_000))
        assert size_of_log(db_path) > 16_000_000
        reader.execute("COMMIT")
        number = 1
        while size_of_log(db_path) > 16_000_000:
            number += 1
            patient.create_message("s0", "a", text_message(number))
        assert size_of_log(db_path) < 1_000_000

    def test_is_cut_by_nobody_else(self, patient: SQLiteSessionRepository) -> None:
        """SQLite's own limit would cut off what a program that replicates the log has not read."""
        assert database_of(patient).query("PRAGMA journal_size_limit") == [(-1,)]


def test_litestreams_log_is_left_alone(patient: SQLiteSessionRepository, db_path: Path) -> None:
    """It copies the log at its own pace. Its tables may be made while the file is open."""
    with closing(sqlite3.connect(db_path)) as litestream:
        litestream.execute("CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER)")
        patient.create_message("s0", "a", text_message(1, "x" * 20_000_000))
        size = size_of_log(db_path)
        patient.delete_session("s0")
        patient.create_message("s1", "a", text_message(1))
        assert not database_of(patient)._pool.log.is_owed  # type: ignore[attr-defined]
        assert size_of_log(db_path) >= size > 16_000_000
