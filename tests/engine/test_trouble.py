"""Locks, full disks, files that vanish or are damaged."""

import contextlib
import gc
import os
import shutil
import sqlite3
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path

import pytest
from engine_helpers import needs_fork, needs_posix
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionType

from helpers import in_child, make_agent, text_message, texts
from strands_sqlite_session_manager import (
    SQLiteSessionManager,
    SQLiteSessionRepository,
)
from strands_sqlite_session_manager._engine import pool as _pool_module
from strands_sqlite_session_manager._engine import schema
from strands_sqlite_session_manager._engine.holder import database_of


class TestTrouble:
    def test_a_call_that_failed_keeps_no_connection_open(self, db_path: Path, raw: sqlite3.Connection) -> None:
        """Until the garbage collector comes, because its error refers to itself, say."""
        repository = SQLiteSessionRepository(db_path, busy_timeout=0.05)
        pool = weakref.ref(database_of(repository)._pool)
        raw.execute("BEGIN IMMEDIATE")
        gc.disable()
        try:
            with contextlib.suppress(SessionException):
                repository.create_session(Session("t", SessionType.AGENT))
            repository.close()
            assert pool() is None
        finally:
            gc.enable()

    @pytest.mark.parametrize("write", ["one statement", "a transaction"])
    def test_a_writer_goes_on_when_a_lock_is_let_go(
        self, repository: SQLiteSessionRepository, raw: sqlite3.Connection, write: str
    ) -> None:
        """Also after SQLite itself has stopped waiting, and soon."""
        calls = {
            "one statement": lambda: repository.create_session(Session("new", SessionType.AGENT)),
            "a transaction": lambda: repository.create_agent("s", SessionAgent("new", {}, {})),
        }
        raw.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(1) as executor:
            waiting = executor.submit(calls[write])
            assert not wait([waiting], timeout=10 * _pool_module.LOCK_WAIT).done
            raw.execute("ROLLBACK")
            waiting.result(timeout=30)
        assert (repository.read_session("new") is not None) != (repository.read_agent("s", "new") is not None)

    def test_who_waits_to_make_the_tables_sees_that_they_are_made(self, tmp_path: Path) -> None:
        """Where many open a new file at once, they need not all have the lock, one after another."""
        path = tmp_path / "new.db"
        with closing(sqlite3.connect(path, isolation_level=None)) as other, ThreadPoolExecutor(1) as executor:
            other.execute("PRAGMA journal_mode = WAL")
            other.execute("BEGIN IMMEDIATE")
            waiting = executor.submit(SQLiteSessionRepository, path, busy_timeout=30)
            assert not wait([waiting], timeout=10 * _pool_module.LOCK_WAIT).done
            for version, statements in enumerate(schema.MIGRATIONS, 1):
                for statement in (*statements, *schema.marks(version)):
                    other.execute(statement)
            other.execute("COMMIT")
            other.execute("BEGIN IMMEDIATE")  # As the next of many does.
            waiting.result(timeout=60).close()

    def test_a_lock_held_too_long_is_reported_and_then_forgotten(
        self, db_path: Path, raw: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("strands_sqlite_session_manager._engine.file.DEFAULT_TIMEOUT", 600.0)
        with SQLiteSessionRepository(db_path, busy_timeout=0.2) as repository:
            repository.create_session(Session("s", SessionType.AGENT))
            raw.execute("BEGIN IMMEDIATE")
            started = time.monotonic()
            with pytest.raises(SessionException, match=r"database is locked.*busy_timeout") as caught:
                repository.create_session(Session("t", SessionType.AGENT))
            assert 0.15 < time.monotonic() - started < 60
            assert str(db_path) in str(caught.value)
            assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
            assert repository.read_session("s") is not None  # readers do not wait for a writer
            raw.execute("ROLLBACK")
            repository.create_session(Session("t", SessionType.AGENT))

    def test_a_thread_that_waits_too_long_for_another_is_told_so(self, db_path: Path) -> None:
        with SQLiteSessionRepository(db_path, busy_timeout=0.1) as repository:
            held, release = threading.Event(), threading.Event()

            def hold() -> None:
                database_of(repository)._pool._write_lock.acquire(1)
                held.set()
                release.wait(30)
                database_of(repository)._pool._write_lock.release()

            with ThreadPoolExecutor(1) as executor:
                executor.submit(hold)
                held.wait(30)
                with pytest.raises(SessionException, match="database is locked"):
                    repository.create_session(Session("t", SessionType.AGENT))
                release.set()
            repository.create_session(Session("t", SessionType.AGENT))

    def test_a_full_disk_loses_nothing_that_was_stored(
        self, repository: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        repository.create_message("s", "a", text_message(0, "stored"))
        (pages,) = raw.execute("PRAGMA page_count").fetchone()
        database_of(repository).query(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(SessionException, match=r"sessions\.db: database or disk is full \(free some space"):
            repository.create_message("s", "a", text_message(1, "x" * 100_000))
        assert texts(repository.list_messages("s", "a")) == ["stored"]
        repository.create_message("s", "a", text_message(1, "x" * 100_000))

    def test_a_directory_as_path(self, tmp_path: Path) -> None:
        with pytest.raises(SessionException, match=": not a file"):
            SQLiteSessionManager("s", tmp_path)

    @needs_posix
    def test_a_loop_of_symbolic_links(self, tmp_path: Path) -> None:
        (tmp_path / "loop.db").symlink_to(tmp_path / "loop.db")
        with pytest.raises(SessionException, match=r"loop\.db"):
            SQLiteSessionManager("s", tmp_path / "loop.db")

    def test_a_file_as_directory(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(SessionException, match=r"file/sessions\.db: cannot be opened") as caught:
            SQLiteSessionManager("s", tmp_path / "file" / "sessions.db")
        assert isinstance(caught.value.__cause__, OSError)

    def test_a_committed_deletion_does_not_fail_for_the_log(self, db_path: Path, raw: sqlite3.Connection) -> None:
        with SQLiteSessionRepository(db_path, busy_timeout=0.1) as repository:
            repository.create_session(Session("s", SessionType.AGENT))
            raw.execute("BEGIN")
            raw.execute("SELECT * FROM sessions").fetchall()
            repository.delete_session("s")
            raw.execute("COMMIT")
            assert repository.read_session("s") is None

    def test_a_damaged_page_is_reported(self, repository: SQLiteSessionRepository, db_path: Path) -> None:
        repository.create_message("s", "a", text_message(0))
        repository.close()
        content = db_path.read_bytes()
        db_path.write_bytes(content[:4096] + b"\xa5" * (len(content) - 4096))
        with pytest.raises(SessionException, match=r"sessions\.db: database disk image is malformed \("):
            SQLiteSessionManager("s", db_path)

    def test_a_file_deleted_under_a_running_process_is_not_made_anew_in_silence(
        self, repository: SQLiteSessionRepository, db_path: Path
    ) -> None:
        database_of(repository)._pool._idle.pop().close()
        db_path.unlink()
        with pytest.raises(SessionException, match="unable to open database file"):
            repository.read_session("s")
        assert not db_path.exists()

    @pytest.fixture
    def _look_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_pool_module, "SEEN", 0)

    @pytest.mark.usefixtures("_look_at_once")
    def test_nothing_is_written_into_a_file_that_is_no_longer_at_its_path(self, tmp_path: Path) -> None:
        """Though its connections are open, and SQLite would write on."""
        db_path = tmp_path / "data" / "s.db"
        with SQLiteSessionManager("s", db_path) as manager:
            manager.create_agent("s", SessionAgent("a", {}, {}))
            for message_id, put_another_there in enumerate((False, True)):
                manager.create_message("s", "a", text_message(2 * message_id, "stored"))
                (tmp_path / "data").rename(tmp_path / "moved")
                if put_another_there:
                    SQLiteSessionManager("s", db_path).close()
                with pytest.raises(
                    SessionException, match=r"s\.db: the file was deleted, moved or replaced .* nothing was"
                ):
                    manager.create_message("s", "a", text_message(2 * message_id + 1, "refused"))
                shutil.rmtree(tmp_path / "data", ignore_errors=True)
                (tmp_path / "moved").rename(tmp_path / "data")
            assert texts(manager.list_messages("s", "a")) == ["stored", "stored"]

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows deletes no file that is open")
    @needs_fork
    def test_a_file_that_lay_at_its_path_for_a_while_is_not_taken_for_it(self, tmp_path: Path) -> None:
        """A connection that was opened then would go on writing into that one."""
        with SQLiteSessionManager("s", tmp_path / "data" / "s.db") as manager:
            (tmp_path / "data").rename(tmp_path / "moved")
            SQLiteSessionManager("other", tmp_path / "data" / "s.db").close()
            in_child(lambda: None)  # A fork closes the connections.
            with pytest.raises(SessionException, match="deleted, moved or replaced"):
                manager.read_session("s")
            (tmp_path / "data").rename(tmp_path / "away")
            (tmp_path / "moved").rename(tmp_path / "data")
            manager.create_agent("s", SessionAgent("a", {}, {}))
        with SQLiteSessionManager("s", tmp_path / "data" / "s.db") as manager:
            assert manager.read_agent("s", "a") is not None

    @pytest.mark.usefixtures("_look_at_once")
    def test_a_deleted_file_takes_no_more_writes(self, repository: SQLiteSessionRepository, db_path: Path) -> None:
        db_path.unlink()
        with pytest.raises(SessionException, match="deleted"):
            repository.create_message("s", "a", text_message(0))
        assert not db_path.exists()

    @needs_fork
    def test_reading_leaves_a_file_that_needs_recovery_as_it_is(self, db_path: Path) -> None:
        def be_killed() -> None:
            agent = make_agent(SQLiteSessionManager("s", db_path), "hi")
            agent("hello")
            os._exit(0)

        in_child(be_killed)
        log = db_path.with_name(f"{db_path.name}-wal")
        before = db_path.read_bytes(), log.read_bytes()
        with SQLiteSessionRepository(db_path, read_only=True) as reader:
            assert texts(reader.list_messages("s", "default")) == ["hello", "hi"]
        assert (db_path.read_bytes(), log.read_bytes()) == before

    def test_a_file_can_be_read_where_nothing_can_be_made_beside_it(
        self, repository: SQLiteSessionRepository, db_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        repository.create_message("s", "a", text_message(0))
        repository.close()
        del repository
        gc.collect()
        monkeypatch.setattr(os, "access", lambda path, mode: False)  # Root may write anywhere.
        with SQLiteSessionRepository(db_path, read_only=True) as reader:
            assert texts(reader.list_messages("s", "a")) == ["hello"]
            assert [path.name for path in db_path.parent.iterdir()] == [db_path.name]
            with SQLiteSessionRepository(db_path) as writer:
                writer.create_message("s", "a", text_message(1))
            assert texts(reader.list_messages("s", "a")) == ["hello", "hello"]

    def test_a_file_system_without_a_write_ahead_log_is_used_with_a_warning(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """SQLite's unix-dotfile VFS locks by files and, like some network file systems, cannot share memory."""
        connect = sqlite3.connect
        monkeypatch.setattr(
            "strands_sqlite_session_manager._engine.connection.sqlite3.connect",
            lambda file, **options: connect(f"{file}&vfs=unix-dotfile", **options),
        )
        if os.name != "posix":
            pytest.skip("the VFS is of Unix")
        with pytest.warns(RuntimeWarning, match=r"s\.db: .* write-ahead log"):
            manager = SQLiteSessionManager("s", tmp_path / "s.db")
        make_agent(manager, "hi")("hello")
        assert texts(manager.list_messages("s", "default")) == ["hello", "hi"]
        manager.close()

    def test_a_read_only_copy_can_be_read(self, repository: SQLiteSessionRepository, tmp_path: Path) -> None:
        """As a backup on a read-only medium: here SQLite is told so, because root may write to any file."""
        repository.create_message("s", "a", text_message(0))
        with (
            closing(sqlite3.connect(tmp_path / "copy.db")) as copy,
            closing(sqlite3.connect(database_of(repository).path)) as source,
        ):
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
        connect = sqlite3.connect
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "strands_sqlite_session_manager._engine.connection.sqlite3.connect",
                lambda file, **options: connect(file.replace("mode=rw", "mode=ro"), **options),
            )
            with SQLiteSessionRepository(tmp_path / "copy.db") as read_only:
                assert texts(read_only.list_messages("s", "a")) == ["hello"]
                with pytest.raises(SessionException, match=r"copy\.db: attempt to write a readonly database \("):
                    read_only.create_message("s", "a", text_message(1))

    def test_switching_to_the_log_waits_for_others(self, db_path: Path) -> None:
        """SQLite itself does not wait there."""
        with closing(sqlite3.connect(db_path, isolation_level=None, check_same_thread=False)) as other:
            other.execute("BEGIN IMMEDIATE")
            timer = threading.Timer(0.2, other.execute, ["ROLLBACK"])
            timer.start()
            with SQLiteSessionManager("s", db_path) as manager:
                assert manager.read_session("s") is not None
            timer.join()
            other.execute("BEGIN IMMEDIATE")
        with closing(sqlite3.connect(db_path.with_name("t.db"), isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(SessionException, match=r"t\.db: database is locked"):
                SQLiteSessionManager("s", db_path.with_name("t.db"), busy_timeout=0.1)
