"""Opening, sharing, threads, forks, permissions, closing, and what goes wrong with files."""

import contextlib
import gc
import multiprocessing
import os
import shutil
import signal
import sqlite3
import stat
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionType

from helpers import in_child, make_agent, run_python, text_message, texts
from strands_sqlite_session_manager import (
    SQLiteSessionManager,
    SQLiteSessionRepository,
)
from strands_sqlite_session_manager._engine import pool as _pool_module
from strands_sqlite_session_manager._engine.file import FileDatabase as Database
from strands_sqlite_session_manager._engine.holder import database_of

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors are counted in /proc")
needs_posix = pytest.mark.skipif(os.name != "posix", reason="file modes and owners are POSIX")


def open_descriptors(path: Path) -> int:
    links = [str(entry.readlink()) for entry in Path("/proc/self/fd").iterdir() if entry.exists()]
    return sum(link.startswith(str(path)) for link in links)


class TestPath:
    def test_defaults_to_sessions_db_in_the_working_directory(self, tmp_path: Path) -> None:
        with SQLiteSessionManager("s"):
            assert (tmp_path / "sessions.db").exists()

    def test_is_taken_from_the_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("STRANDS_SQLITE_DB_PATH", str(tmp_path / "from" / "env.db"))
        with SQLiteSessionManager("s"):
            assert (tmp_path / "from" / "env.db").exists()
        assert not (tmp_path / "sessions.db").exists()

    def test_an_empty_variable_counts_as_unset(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("STRANDS_SQLITE_DB_PATH", "")
        with SQLiteSessionManager("s"):
            assert (tmp_path / "sessions.db").exists()

    def test_a_tilde_is_the_home_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
        with SQLiteSessionManager("s", "~/data.db"):
            assert (tmp_path / "home" / "data.db").exists()

    @pytest.mark.parametrize("db_path", ["", "  ", "a\0b", "sqlite:///x.db", "file:x.db?mode=ro", b"x.db", 5])
    def test_what_is_no_path_is_refused(self, tmp_path: Path, db_path: Any) -> None:
        with pytest.raises(ValueError, match="db_path="):
            SQLiteSessionManager("s", db_path)
        assert not list(tmp_path.iterdir())

    def test_an_argument_goes_before_the_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("STRANDS_SQLITE_DB_PATH", str(tmp_path / "env.db"))
        with SQLiteSessionManager("s", str(tmp_path / "argument.db")):
            assert not (tmp_path / "env.db").exists()

    @pytest.mark.parametrize("name", ["a b.db", "q?x=1#y.db", "100%41.db", "ünï 漢.db", "x:y.db", "'.db", "-"])
    def test_may_hold_any_characters(self, tmp_path: Path, name: str) -> None:
        if os.name == "nt" and set(name) & set('?:"<>|*'):
            pytest.skip("Windows has no such file names")
        with SQLiteSessionManager("s", tmp_path / name):
            assert (tmp_path / name).stat().st_size

    def test_directories_are_made(self, tmp_path: Path) -> None:
        with SQLiteSessionManager("s", tmp_path / "x" / "y" / "z.db"):
            assert (tmp_path / "x" / "y" / "z.db").exists()

    @pytest.mark.parametrize("path", ["", "a\0b", b"bytes.db", 5])
    def test_that_cannot_be_one_is_refused(self, path: Any) -> None:
        with pytest.raises((ValueError, TypeError)):
            SQLiteSessionManager("s", path)

    def test_many_files_stay_apart(self, tmp_path: Path) -> None:
        managers = [SQLiteSessionManager("s", tmp_path / f"{number}.db") for number in range(20)]
        for number, manager in enumerate(managers):
            make_agent(manager, f"answer {number}")(f"question {number}")
        for number, manager in enumerate(managers):
            assert texts(manager.list_messages("s", "default")) == [f"question {number}", f"answer {number}"]


class TestOptions:
    @pytest.mark.parametrize(("synchronous", "level"), [("NORMAL", 1), ("FULL", 2)])
    def test_synchronous_is_set(self, db_path: Path, synchronous: Any, level: int) -> None:
        with SQLiteSessionRepository(db_path, synchronous=synchronous) as repository:
            assert database_of(repository).query("PRAGMA synchronous") == [(level,)]

    def test_the_log_is_shortened_after_a_burst(self, repository: SQLiteSessionRepository) -> None:
        assert database_of(repository).query("PRAGMA journal_size_limit") == [(16 * 1024 * 1024,)]

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("synchronous", "OFF"),
            ("synchronous", "normal; DROP TABLE sessions"),
            ("synchronous", None),
            ("busy_timeout", -1),
            ("busy_timeout", float("nan")),
            ("busy_timeout", 10**9),
            ("busy_timeout", "5"),
        ],
    )
    @pytest.mark.parametrize("build", [SQLiteSessionRepository, lambda **options: SQLiteSessionManager("s", **options)])
    def test_out_of_range_is_refused(self, build: Any, option: str, value: Any) -> None:
        with pytest.raises(ValueError, match=option):
            build(**{option: value})

    def test_misspelt_is_refused(self) -> None:
        with pytest.raises(TypeError, match="synchronus"):
            SQLiteSessionManager("s", synchronus="FULL")  # type: ignore[call-arg]


class TestInMemory:
    def test_is_private_and_works_from_any_thread(self) -> None:
        with SQLiteSessionManager("s", ":memory:") as one, SQLiteSessionManager("s", ":memory:") as other:
            make_agent(one, "hi")("hello")
            with ThreadPoolExecutor(8) as executor:
                read = list(executor.map(lambda _: texts(one.list_messages("s", "default")), range(50)))
            assert read == [["hello", "hi"]] * 50
            assert other.read_agent("s", "default") is None

    def test_takes_writes_from_many_threads(self) -> None:
        with SQLiteSessionRepository(":memory:") as repository:
            repository.create_session(Session("s", SessionType.AGENT))

            def work(number: int) -> int:
                agent_id = f"agent-{number}"
                repository.create_agent("s", SessionAgent(agent_id, {}, {}))
                for message_id in range(20):
                    repository.create_message("s", agent_id, text_message(message_id))
                    assert len(repository.list_messages("s", agent_id)) == message_id + 1
                return message_id + 1

            with ThreadPoolExecutor(8) as executor:
                assert list(executor.map(work, range(16))) == [20] * 16

    def test_outlives_an_error(self) -> None:
        """The connection that failed is closed, and must not be the last one."""
        with SQLiteSessionManager("s", ":memory:") as manager:
            database = database_of(manager.session_repository)
            with pytest.raises(SessionException, match="no such table"):
                database.query("SELECT * FROM nobody")
            assert manager.read_session("s") is not None

    def test_is_gone_with_its_object(self, opened: list[sqlite3.Connection]) -> None:
        SQLiteSessionManager("s", ":memory:")
        gc.collect()
        assert len(opened) == 2
        for connection in opened:
            with pytest.raises(sqlite3.ProgrammingError, match="closed"):
                connection.execute("SELECT 1")


class TestSharing:
    def test_a_thousand_agent_calls_open_at_most_two_connections(
        self, db_path: Path, opened: list[sqlite3.Connection]
    ) -> None:
        """Strands runs each call in a fresh thread, so that a connection for each thread would be 1,000."""
        with SQLiteSessionManager("s", db_path) as manager:
            agent = make_agent(manager, *["ok"] * 1000)
            threads = set()
            agent.hooks.add_callback(_after_invocation(), lambda _: threads.add(threading.get_ident()))
            for _ in range(1000):
                agent("go")
            assert threading.get_ident() not in threads
            assert len(manager.list_messages("s", "default")) == 2000
        assert len(opened) <= 2

    @needs_proc
    def test_unclosed_managers_share_their_descriptors(self, db_path: Path) -> None:
        managers = [SQLiteSessionManager(f"s{number}", db_path) for number in range(300)]
        threads = 4
        barrier = threading.Barrier(threads)

        def work(number: int) -> None:
            barrier.wait()
            for manager in managers[number::threads]:
                make_agent(manager, "ok")("go")

        with ThreadPoolExecutor(threads) as executor:
            list(executor.map(work, range(threads)))
        assert open_descriptors(db_path) <= 3 * (threads + 1)

    def test_short_lived_threads_reuse_connections(
        self, repository: SQLiteSessionRepository, opened: list[sqlite3.Connection]
    ) -> None:
        for message_id in range(200):
            thread = threading.Thread(target=repository.create_message, args=("s", "a", text_message(message_id)))
            thread.start()
            thread.join()
        assert len(repository.list_messages("s", "a")) == 200
        assert opened == []

    def test_last_holder_closes_the_connections(self, db_path: Path, opened: list[sqlite3.Connection]) -> None:
        one, other = SQLiteSessionRepository(db_path), SQLiteSessionRepository(str(db_path))
        assert len(opened) == 1
        one.close()
        other.create_session(Session("s", SessionType.AGENT))
        other.close()
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            opened[0].execute("SELECT 1")
        assert sorted(db_path.parent.iterdir()) == [db_path]  # the log was merged into the file

    def test_collected_holders_close_the_connections(self, db_path: Path, opened: list[sqlite3.Connection]) -> None:
        make_agent(SQLiteSessionManager("s", db_path), "ok")("go")
        gc.collect()
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            opened[0].execute("SELECT 1")

    def test_one_repository_serves_many_managers_and_stays_open(self, repository: SQLiteSessionRepository) -> None:
        for number in range(3):
            with SQLiteSessionManager(f"session-{number}", session_repository=repository) as manager:
                assert manager.session_repository is repository
                make_agent(manager, "ok")(f"hello {number}")
        assert texts(repository.list_messages("session-1", "default")) == ["hello 1", "ok"]

    @pytest.mark.parametrize("option", [{"db_path": "x.db"}, {"synchronous": "FULL"}, {"busy_timeout": 1}])
    def test_a_repository_and_options_exclude_each_other(
        self, repository: SQLiteSessionRepository, option: Any
    ) -> None:
        with pytest.raises(ValueError, match="its own options"):
            SQLiteSessionManager("s", session_repository=repository, **option)

    def test_settings_are_not_shared(self, db_path: Path) -> None:
        with (
            SQLiteSessionRepository(db_path) as normal,
            SQLiteSessionRepository(db_path, synchronous="FULL") as full,
            SQLiteSessionRepository(db_path, busy_timeout=0.01) as hasty,
        ):
            for repository, settings in ((normal, (1, 18)), (full, (2, 18)), (hasty, (1, 10))):
                read = database_of(repository).query
                assert (*read("PRAGMA synchronous"), *read("PRAGMA busy_timeout")) == tuple((n,) for n in settings)

    def test_a_burst_of_calls_leaves_few_connections(self, repository: SQLiteSessionRepository) -> None:
        barrier = threading.Barrier(40)
        with ThreadPoolExecutor(40) as executor:
            pool = database_of(repository)._pool
            for done in [executor.submit(pool.run, lambda connection: barrier.wait(30)) for _ in range(40)]:
                done.result()
        assert len(pool._idle) == _pool_module.MAX_IDLE

    def test_a_locked_file_does_not_hold_up_the_opening_of_another(self, db_path: Path, tmp_path: Path) -> None:
        with SQLiteSessionRepository(db_path):
            pass
        with closing(sqlite3.connect(db_path, isolation_level=None)) as other, ThreadPoolExecutor(1) as executor:
            other.execute("PRAGMA locking_mode = EXCLUSIVE")
            other.execute("BEGIN EXCLUSIVE")
            waiting = executor.submit(SQLiteSessionRepository, db_path, busy_timeout=30)
            while not any(pool.path == str(db_path) for pool in list(_pool_module._all_pools)):
                pass
            SQLiteSessionRepository(tmp_path / "other.db").close()
            assert not waiting.done()
            other.close()
            waiting.result(30).close()

    def test_a_file_put_in_anothers_place_is_opened_anew(self, db_path: Path, tmp_path: Path) -> None:
        """A manager built after a restore must not read, or write to, the file that was there before."""
        before = SQLiteSessionManager("before", db_path)
        with SQLiteSessionManager("restored", tmp_path / "backup.db"):
            pass
        try:
            for suffix in ("-wal", "-shm"):
                Path(f"{db_path}{suffix}").unlink(missing_ok=True)
            (tmp_path / "backup.db").replace(db_path)
        except PermissionError:
            pytest.skip("Windows does not replace open files")
        with SQLiteSessionManager("after", db_path) as after:
            assert after.read_session("restored") is not None
            assert after.read_session("before") is None
        before.close()


class TestClosing:
    @pytest.mark.parametrize("build", [SQLiteSessionRepository, lambda path: SQLiteSessionManager("s", path)])
    def test_twice_is_fine_and_use_afterwards_raises(self, build: Any, db_path: Path) -> None:
        with build(db_path) as store:
            pass
        store.close()
        for use in (
            lambda: store.read_session("s"),
            lambda: store.create_session(Session("t", SessionType.AGENT)),
            lambda: database_of(store).transaction([]) if hasattr(store, "_database") else store.delete_session("s"),
        ):
            with pytest.raises(SessionException, match=r"sessions\.db: used after it was closed"):
                use()

    def test_interpreter_exit_without_close_is_clean(self, db_path: Path) -> None:
        run_python(
            "import sys; from strands_sqlite_session_manager import SQLiteSessionManager as M;"
            "managers = [M('s', sys.argv[1]), M('t', ':memory:')]",
            db_path,
        )
        assert sorted(db_path.parent.iterdir()) == [db_path]


class TestTransaction:
    def test_is_done_completely_or_not_at_all(self, repository: SQLiteSessionRepository) -> None:
        insert = "INSERT INTO sessions (session_id) VALUES (?)"
        database = database_of(repository)
        assert database.transaction([(insert, ("x",)), (insert, ("y",)), ("DELETE FROM sessions", ())]) == [1, 1, 3]
        with pytest.raises(SessionException, match="UNIQUE") as caught:
            database.transaction([(insert, ("x",)), (insert, ("x",))])
        assert isinstance(caught.value.__cause__, sqlite3.IntegrityError)
        assert repository.read_session("x") is None
        database.transaction([(insert, ("x",))])

    def test_is_rolled_back_by_any_exception(self, repository: SQLiteSessionRepository) -> None:
        class Unusable:
            def __conform__(self, protocol: object) -> None:
                raise KeyboardInterrupt

        insert = "INSERT INTO sessions (session_id) VALUES (?)"
        with pytest.raises(KeyboardInterrupt):
            database_of(repository).transaction([(insert, ("x",)), (insert, (Unusable(),))])
        assert repository.read_session("x") is None
        repository.create_session(Session("x", SessionType.AGENT))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this platform has no interval timers")
def test_interrupts_leave_nothing_locked(repository: SQLiteSessionRepository, db_path: Path) -> None:
    """Ctrl-C, or a timeout by signal, wherever it strikes. In a process whose other locks may be left behind."""
    run_python(
        """
import random, signal, sys, warnings
from concurrent.futures import ThreadPoolExecutor
from helpers import text_message
from strands.types.session import Session, SessionType
from strands_sqlite_session_manager import SQLiteSessionRepository
from strands_sqlite_session_manager._engine import pool
from strands_sqlite_session_manager._engine.holder import database_of

# A connection that is interrupted on its way out of the pool is closed by the garbage collector, with a warning.
warnings.simplefilter("ignore", ResourceWarning)

class Interrupt(BaseException):
    pass

def interrupt(*_):
    raise Interrupt

repository = SQLiteSessionRepository(sys.argv[1])
scratch = SQLiteSessionRepository(":memory:")  # quick, so that more of the time is spent in Python
number = 0
signal.signal(signal.SIGALRM, interrupt)
for _ in range(1000):
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(20e-6, 1e-3))
        while True:
            number += 1
            store = repository if number % 5 == 0 else scratch
            store.create_session(Session(f"session-{number}", SessionType.AGENT))
            store.read_session(f"session-{number}")
    except Interrupt:
        pass
    signal.setitimer(signal.ITIMER_REAL, 0)
    # What another thread or a fork would wait for.
    assert not pool._fork_gate._inside
    for store in (repository, scratch):
        lock = database_of(store)._pool._write_lock
        assert "count=0" in repr(lock), lock
with ThreadPoolExecutor(1) as executor:
    executor.submit(repository.create_message, "s", "a", text_message(0)).result(30)
""",
        db_path,
    )
    assert texts(repository.list_messages("s", "a")) == ["hello"]


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
        self, repository: SQLiteSessionRepository
    ) -> None:
        """A mutex that SQLite holds in another thread would stay locked in the child for ever."""
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


@needs_posix
class TestPrivacy:
    @pytest.mark.parametrize("umask", [0o000, 0o022, 0o277, 0o777])
    def test_new_files_and_directories_are_the_owners_alone(self, tmp_path: Path, umask: int) -> None:
        path = tmp_path / "new" / "deep" / "sessions.db"
        before = os.umask(umask)
        try:
            with SQLiteSessionManager("s", path):
                modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()}
        finally:
            os.umask(before)
        assert modes == dict.fromkeys(("sessions.db", "sessions.db-wal", "sessions.db-shm"), 0o600)
        for directory in (path.parent, path.parent.parent):
            assert stat.S_IMODE(directory.stat().st_mode) == 0o700

    def test_modes_of_what_existed_are_kept(self, tmp_path: Path) -> None:
        directory = tmp_path / "shared"
        directory.mkdir()
        directory.chmod(0o750)
        (directory / "sessions.db").touch()
        (directory / "sessions.db").chmod(0o640)
        with SQLiteSessionManager("s", directory / "sessions.db"):
            pass
        assert stat.S_IMODE(directory.stat().st_mode) == 0o750
        assert stat.S_IMODE((directory / "sessions.db").stat().st_mode) == 0o640

    def test_ones_own_symbolic_link_is_followed(self, tmp_path: Path, opened: list[sqlite3.Connection]) -> None:
        (tmp_path / "link.db").symlink_to(tmp_path / "target.db")
        with SQLiteSessionManager("s", tmp_path / "link.db"), SQLiteSessionManager("s", tmp_path / "target.db"):
            assert len(opened) == 1
        assert (tmp_path / "target.db").exists()

    def test_another_users_symbolic_link_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        link = tmp_path / "link.db"
        link.symlink_to(tmp_path / "target.db")
        monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
        with pytest.raises(SessionException, match=r"link\.db: a symbolic link of another user"):
            SQLiteSessionManager("s", link)
        assert not (tmp_path / "target.db").exists()


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

    def test_a_lock_held_too_long_is_reported_and_then_forgotten(self, db_path: Path, raw: sqlite3.Connection) -> None:
        with SQLiteSessionRepository(db_path, busy_timeout=0.2) as repository:
            repository.create_session(Session("s", SessionType.AGENT))
            raw.execute("BEGIN IMMEDIATE")
            started = time.monotonic()
            with pytest.raises(SessionException, match=r"database is locked.*busy_timeout") as caught:
                repository.create_session(Session("t", SessionType.AGENT))
            assert 0.15 < time.monotonic() - started < 5
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


def test_pools_are_collected_with_their_last_holder(db_path: Path) -> None:
    database = Database(db_path, synchronous="NORMAL", busy_timeout=1)
    pool = weakref.ref(database._pool)
    del database
    gc.collect()
    assert pool() is None


def _after_invocation() -> Any:
    from strands.hooks import AfterInvocationEvent

    return AfterInvocationEvent
