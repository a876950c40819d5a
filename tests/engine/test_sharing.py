"""Databases in memory, shared connections, closing, transactions, interrupts."""

import gc
import signal
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from engine_helpers import needs_proc, open_descriptors
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionType

from helpers import make_agent, run_python, text_message, texts
from strands_sqlite_session_manager import (
    SQLiteSessionManager,
    SQLiteSessionRepository,
)
from strands_sqlite_session_manager._engine import pool as _pool_module
from strands_sqlite_session_manager._engine.holder import database_of


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
    @pytest.mark.slow
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

    @pytest.mark.slow
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
            while not _pool_module.is_held(str(db_path)):
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

    @pytest.mark.slow
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


@pytest.mark.slow
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


def _after_invocation() -> Any:
    from strands.hooks import AfterInvocationEvent

    return AfterInvocationEvent
