"""Forks while other threads use a database."""

import logging
import multiprocessing
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from engine_helpers import needs_fork, needs_proc, open_descriptors
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionType

from helpers import in_child, make_agent, run_python, text_message, texts
from strands_sqlite_session_manager import (
    SQLiteSessionManager,
    SQLiteSessionRepository,
)
from strands_sqlite_session_manager._engine import fork as _fork
from strands_sqlite_session_manager._engine import pool as _pool_module
from strands_sqlite_session_manager._engine.holder import database_of


@needs_fork
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
class TestFork:
    def test_parent_and_child_write_and_read_on_connections_of_their_own(
        self, repository: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        repository.create_message("s", "a", text_message(0, "before the fork"))

        def work() -> None:
            repository.create_message("s", "a", text_message(1, "child"))
            assert texts(repository.list_messages("s", "a")) == ["before the fork", "child"]

        in_child(work)
        repository.create_message("s", "a", text_message(2, "parent"))
        assert texts(repository.list_messages("s", "a")) == ["before the fork", "child", "parent"]
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)

    @needs_proc
    def test_a_child_inherits_no_connection(self, repository: SQLiteSessionRepository, db_path: Path) -> None:
        """With one, SQLite would take the parent's file locks for the child's."""
        assert open_descriptors(db_path) > 0

        def work() -> None:
            assert open_descriptors(db_path) == 0

        in_child(work)

    def test_a_fork_waits_for_calls_that_run_and_calls_wait_for_the_fork(
        self, repository: SQLiteSessionRepository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A mutex that SQLite holds in another thread would stay locked in the child for ever."""
        monkeypatch.setattr(_fork, "SHUT", 30)
        order: list[str] = []
        running, release = threading.Event(), threading.Event()

        def slow(connection: sqlite3.Connection) -> None:
            running.set()
            release.wait(30)
            order.append("call")

        def fork() -> None:
            in_child(lambda: repository.create_message("s", "a", text_message(0, "child")))
            order.append("fork")

        with ThreadPoolExecutor(3) as executor:
            call = executor.submit(database_of(repository)._pool.run, slow)
            running.wait(30)
            forking = executor.submit(fork)
            while _pool_module._fork_gate._forking_thread is None:
                pass
            late = executor.submit(repository.read_message, "s", "a", 0)
            assert not forking.done()
            assert not late.done()
            release.set()
            for future in (call, forking, late):
                future.result(30)
        assert order == ["call", "fork"]
        assert texts(repository.list_messages("s", "a")) == ["child"]

    @pytest.mark.slow
    def test_the_garbage_collector_does_not_wait_for_a_fork(self, db_path: Path) -> None:
        """A hook of the fork may wait for a lock of the thread that it has interrupted, as that of `logging` does."""
        code = """
import gc, os, sys, threading

garbage = []

def collect_in_another_thread():
    def collect():
        garbage.clear()
        gc.collect()
    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    thread.join(10)
    print("waits" if thread.is_alive() else "collected")

os.register_at_fork(before=collect_in_another_thread)  # before the library's hook is, so it is called after that

from strands_sqlite_session_manager import SQLiteSessionRepository

garbage.append(SQLiteSessionRepository(":memory:"))
kept = SQLiteSessionRepository(sys.argv[1])
child = os.fork()
kept.read_session("s")
if child == 0:
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""
        assert run_python(code, db_path, timeout=60) == "collected\n0\n"

    def test_a_call_within_a_call_does_not_wait_for_a_fork_that_waits_for_it(
        self, repository: SQLiteSessionRepository
    ) -> None:
        """As when the garbage collector, inside a call, closes the connections of another pool."""
        running = threading.Event()
        others = [SQLiteSessionRepository(":memory:")]

        def drop_the_other(connection: sqlite3.Connection) -> None:
            running.set()
            while _pool_module._fork_gate._forking_thread is None:
                pass
            others.clear()

        with ThreadPoolExecutor(1) as executor:
            call = executor.submit(database_of(repository)._pool.run, drop_the_other)
            running.wait(30)
            in_child(lambda: None)
            call.result(30)

    def test_a_signal_does_not_cut_the_waiting_short(
        self, repository: SQLiteSessionRepository, capfd: pytest.CaptureFixture
    ) -> None:
        """The interpreter ignores what is raised before a fork, and forks."""
        running, release, order = threading.Event(), threading.Event(), []

        def slow(connection: sqlite3.Connection) -> None:
            running.set()
            release.wait(30)
            order.append("call")

        def interrupt(*_: object) -> None:
            threading.Timer(0.05, release.set).start()
            raise KeyboardInterrupt

        before = signal.signal(signal.SIGALRM, interrupt)
        unraisable, sys.unraisablehook = sys.unraisablehook, lambda unraisable: None
        try:
            with ThreadPoolExecutor(1) as executor:
                call = executor.submit(database_of(repository)._pool.run, slow)
                running.wait(30)
                signal.setitimer(signal.ITIMER_REAL, 0.05)
                in_child(lambda: None)
                order.append("fork")
                call.result(30)
        finally:
            signal.signal(signal.SIGALRM, before)
            sys.unraisablehook = unraisable
        assert order == ["call", "fork"]
        in_child(lambda: repository.create_message("s", "a", text_message(0)))

    def test_a_fork_in_the_middle_of_a_call_of_the_same_thread_does_not_wait_for_itself(
        self, repository: SQLiteSessionRepository
    ) -> None:
        """As a signal handler may."""
        database_of(repository)._pool.run(lambda connection: in_child(lambda: None))
        assert repository.read_session("s") is not None

    def test_a_child_is_not_held_up_by_a_thread_of_the_parent(self, repository: SQLiteSessionRepository) -> None:
        """A lock that another thread held at the fork would never be released in the child."""
        held, release = threading.Event(), threading.Event()

        def hold() -> None:
            database_of(repository)._pool._write_lock.acquire(1)
            with _pool_module._lock:
                held.set()
                release.wait(60)

        def work() -> None:
            repository.create_message("s", "a", text_message(0))
            SQLiteSessionManager("t", database_of(repository).path).close()

        with ThreadPoolExecutor(1) as executor:
            executor.submit(hold)
            held.wait(30)
            in_child(work)
            release.set()
        assert len(repository.list_messages("s", "a")) == 1

    def test_a_child_outlives_its_parents_connections(self, db_path: Path, raw: sqlite3.Connection) -> None:
        """A child that inherited its parent's file locks would write to a log that the parent has deleted."""
        raw.close()
        repository = SQLiteSessionRepository(db_path)
        repository.create_session(Session("s", SessionType.AGENT))
        repository.create_agent("s", SessionAgent("a", {}, {}))
        closed, written = multiprocessing.Pipe(), multiprocessing.Pipe()
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            repository.create_message("s", "a", text_message(0))
            written[0].send(True)
            closed[1].recv()
            for message_id in range(1, 5):
                repository.create_message("s", "a", text_message(message_id))
            os._exit(0)  # Like a crash: nothing is closed.
        assert written[1].recv()
        repository.close()
        closed[0].send(True)
        assert os.waitpid(child, 0)[1] == 0
        with SQLiteSessionRepository(db_path) as again:
            assert len(again.list_messages("s", "a")) == 5

    def test_in_memory_databases_are_copied(self) -> None:
        with SQLiteSessionManager("s", ":memory:") as manager:
            make_agent(manager, "hi")("hello")

            def work() -> None:
                assert texts(manager.list_messages("s", "default")) == ["hello", "hi"]
                manager.delete_session("s")

            in_child(work)
            assert texts(manager.list_messages("s", "default")) == ["hello", "hi"]

    @pytest.mark.slow
    def test_a_child_that_exits_normally_leaves_the_parents_connections_alone(self, db_path: Path) -> None:
        """Nothing is closed, nor complained about, when the child's interpreter shuts down."""
        printed = run_python(
            """
import os, sys
from strands_sqlite_session_manager import SQLiteSessionManager
manager = SQLiteSessionManager("s", sys.argv[1])
child = os.fork()
if child == 0:
    assert manager.read_session("s") is not None
    manager.close()
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
manager.delete_session("s")
print("parent goes on", os.path.exists(sys.argv[1] + "-wal"))
""",
            db_path,
        )
        assert printed == "parent goes on True\n"


@needs_fork
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
class TestForkBesideASlowCall:
    @pytest.fixture
    def other(self, tmp_path: Path) -> Iterator[SQLiteSessionRepository]:
        """A repository in another file."""
        with SQLiteSessionRepository(tmp_path / "other.db") as other:
            other.create_session(Session("s", SessionType.AGENT))
            other.create_agent("s", SessionAgent("a", {}, {}))
            yield other

    @pytest.fixture
    def release(self, repository: SQLiteSessionRepository) -> Iterator[threading.Event]:
        """Ends a call that is under way in another thread."""
        running, release, result = threading.Event(), threading.Event(), []

        def slow(connection: sqlite3.Connection) -> None:
            running.set()
            release.wait(60)
            result.extend(connection.execute("SELECT session_id FROM sessions").fetchall())

        with ThreadPoolExecutor(1) as executor:
            call = executor.submit(database_of(repository)._pool.run, slow)
            running.wait(30)
            yield release
            release.set()
            call.result(30)
        assert result == [("s",)]

    @pytest.fixture
    def hasty(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Forks that hardly wait."""
        monkeypatch.setattr(_fork, "SHUT", 0.01)
        monkeypatch.setattr(_fork, "PATIENCE", 0.01)

    @pytest.mark.slow
    @pytest.mark.usefixtures("release")
    @pytest.mark.parametrize("fork", ["os.fork", "pty.fork"])
    def test_the_child_refuses_what_was_in_use_and_uses_the_rest(
        self, repository: SQLiteSessionRepository, other: SQLiteSessionRepository, db_path: Path, fork: str
    ) -> None:
        def work() -> None:
            other.create_message("s", "a", text_message(0, "child"))
            for use in (lambda: repository.read_session("s"), lambda: SQLiteSessionManager("s", db_path)):
                with pytest.raises(SessionException, match=r"sessions\.db: another thread was using it when .* forked"):
                    use()
            in_child(lambda: other.create_message("s", "a", text_message(1, "grandchild")))

        in_child(work, pytest.importorskip("pty").fork if fork == "pty.fork" else None)
        assert texts(other.list_messages("s", "a")) == ["child", "grandchild"]
        assert repository.read_session("s") is not None

    @pytest.mark.usefixtures("release", "hasty")
    def test_says_what_was_in_use(self, caplog: pytest.LogCaptureFixture, db_path: Path) -> None:
        in_child(lambda: None)
        assert f"paths=<{db_path}> | forked while other threads used it" in caplog.text

    @pytest.mark.usefixtures("release", "hasty")
    def test_says_so_when_others_may_go_on(self, other: SQLiteSessionRepository) -> None:
        """A thread that has the lock of a logging handler may be waiting for the end of the fork."""
        went_on = []

        class Handler(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                reader = threading.Thread(target=other.read_session, args=("s",), daemon=True)
                reader.start()
                reader.join(10)
                went_on.append(not reader.is_alive())

        handler = Handler(logging.WARNING)
        logging.getLogger(_fork.__name__).addHandler(handler)
        try:
            in_child(lambda: None)
            assert went_on == [True]
        finally:
            logging.getLogger(_fork.__name__).removeHandler(handler)

    def test_others_go_on_while_it_waits(
        self,
        repository: SQLiteSessionRepository,
        other: SQLiteSessionRepository,
        release: threading.Event,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(_fork, "PATIENCE", 60)
        order = []

        def fork() -> None:
            in_child(lambda: repository.read_session("s"))
            order.append("fork")

        with ThreadPoolExecutor(1) as executor:
            forking = executor.submit(fork)
            while _pool_module._fork_gate._forking_thread is None:
                pass
            other.create_message("s", "a", text_message(0))
            repository.create_message("s", "a", text_message(0))
            order.append("appends")
            release.set()
            forking.result(30)
        assert order == ["appends", "fork"]

    @pytest.mark.usefixtures("release", "hasty")
    def test_databases_in_memory_too(self) -> None:
        with SQLiteSessionRepository(":memory:") as busy, SQLiteSessionRepository(":memory:") as idle:
            idle.create_session(Session("s", SessionType.AGENT))
            running, release = threading.Event(), threading.Event()

            def slow(connection: sqlite3.Connection) -> None:
                running.set()
                release.wait(60)

            def work() -> None:
                assert idle.read_session("s") is not None
                with pytest.raises(SessionException, match=":memory:: another thread was using it"):
                    busy.read_session("s")

            with ThreadPoolExecutor(1) as executor:
                call = executor.submit(database_of(busy)._pool.run, slow)
                running.wait(30)
                in_child(work)
                release.set()
                call.result(30)

    @pytest.mark.slow
    @pytest.mark.usefixtures("hasty")
    def test_a_child_never_hangs_in_sqlite(
        self, repository: SQLiteSessionRepository, other: SQLiteSessionRepository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A query of the parent may hold a lock of SQLite's memory at that moment, which the child has for ever."""
        monkeypatch.setattr(_fork, "ANSWER", 0.1)
        count = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(hex(randomblob(i))) FROM n"
        connections: list[sqlite3.Connection] = []

        def endless(connection: sqlite3.Connection) -> None:
            connections.append(connection)
            connection.execute(count).fetchall()

        def work() -> None:
            complaint = "SQLite when this process was forked"
            try:
                other.read_session("s")
            except SessionException as error:
                complaint = str(error)
            assert "SQLite when this process was forked" in complaint

        with ThreadPoolExecutor(1) as executor:
            call = executor.submit(database_of(repository)._pool.run, endless)
            while not connections:
                pass
            for _ in range(5):
                in_child(work)
            connections[0].interrupt()
            with pytest.raises(SessionException, match="interrupted"):
                call.result(30)

    @pytest.mark.usefixtures("release", "hasty")
    def test_a_child_in_which_sqlite_does_not_answer_says_so(
        self, other: SQLiteSessionRepository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_fork, "_use_sqlite", lambda uri: threading.Event().wait())
        monkeypatch.setattr(_fork, "ANSWER", 0.01)

        def work() -> None:
            threads = set()
            for _ in range(3):
                with pytest.raises(SessionException, match=r"other\.db: another thread was using SQLite when"):
                    other.read_session("s")
                threads.update(threading.enumerate())
            assert len(threads) == 2  # It is asked once.

        in_child(work)

    @pytest.mark.usefixtures("release", "hasty")
    def test_a_file_that_cannot_be_opened_is_no_answer(self, other: SQLiteSessionRepository, tmp_path: Path) -> None:
        def work() -> None:
            (tmp_path / "other.db").rename(tmp_path / "moved.db")
            with pytest.raises(SessionException, match="unable to open"):
                other.read_session("s")
            assert _pool_module._fork_gate._is_in_doubt
            (tmp_path / "moved.db").rename(tmp_path / "other.db")
            assert other.read_session("s") is not None
            assert not _pool_module._fork_gate._is_in_doubt

        in_child(work)
