"""A storage in many places at once: tasks, event loops, threads, forks, and what a lock or a kill leaves."""

import asyncio
import itertools
import os
import signal
import sqlite3
from asyncio import run
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("strands.storage")

from strands.types.exceptions import StorageError

from helpers import in_child
from strands_sqlite_session_manager.storage import SQLiteStorage


class TestConcurrency:
    @pytest.mark.file_only
    async def test_the_event_loop_goes_on_while_another_connection_holds_the_write_lock(
        self, storage: SQLiteStorage, raw: sqlite3.Connection
    ) -> None:
        await storage.write("k", b"old")
        raw.execute("BEGIN IMMEDIATE")
        writes = [
            asyncio.ensure_future(storage.write("k", b"new")),
            asyncio.ensure_future(storage.delete_prefix("other")),
        ]
        for _ in range(20):
            assert await storage.read("k") == b"old"
        assert not any(write.done() for write in writes)
        raw.execute("ROLLBACK")
        await asyncio.gather(*writes)
        assert await storage.read("k") == b"new"

    @pytest.mark.file_only
    async def test_a_lock_held_too_long_is_an_error(self, db_path: Path, raw: sqlite3.Connection) -> None:
        with SQLiteStorage(db_path, busy_timeout=0.05) as storage:
            raw.execute("BEGIN IMMEDIATE")
            with pytest.raises(StorageError, match=r"write 'k': .*sessions\.db: database is locked \(.*busy_timeout"):
                await storage.write("k", b"x")
            raw.execute("ROLLBACK")
            await storage.write("k", b"x")

    @pytest.mark.file_only
    async def test_a_write_that_is_cancelled_twice_does_not_land_after_the_next_one_either(
        self, storage: SQLiteStorage, raw: sqlite3.Connection
    ) -> None:
        raw.execute("BEGIN IMMEDIATE")
        first = asyncio.ensure_future(storage.write("k", b"old"))
        for _ in range(3):
            await asyncio.sleep(0)
            first.cancel()
        raw.execute("ROLLBACK")
        with pytest.raises(asyncio.CancelledError):
            await first
        await storage.write("k", b"new")
        assert await storage.read("k") == b"new"

    @pytest.mark.file_only
    async def test_a_cancelled_write_lands_before_the_next(
        self, storage: SQLiteStorage, raw: sqlite3.Connection
    ) -> None:
        raw.execute("BEGIN IMMEDIATE")
        first = asyncio.ensure_future(storage.write("k", b"first"))
        await storage.read("k")  # By now the first waits for the lock.
        first.cancel()
        await storage.read("k")
        assert not first.done()
        raw.execute("ROLLBACK")
        with pytest.raises(asyncio.CancelledError):
            await first
        assert await storage.read("k") == b"first"

    def test_one_event_loop_after_another(self, storage: SQLiteStorage) -> None:
        """As with synchronous calls of the SDK, each of which has a loop of its own."""
        view = storage.namespace("n")
        run(storage.write("n/k", b"1"))
        assert run(view.read("k")) == b"1"
        run(view.delete("k"))
        assert run(storage.list()) == []

    def test_many_threads_with_loops_of_their_own(self, storage: SQLiteStorage) -> None:
        async def work(thread: int) -> None:
            view = storage.namespace(f"{thread}")
            await asyncio.gather(*(view.write(f"{n:02}", b"%d" % thread) for n in range(20)))
            await asyncio.gather(*(view.delete(f"{n:02}") for n in range(10)))
            assert await view.list() == [f"{n:02}" for n in range(10, 20)]

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda thread: run(work(thread)), range(8)))
        assert len(run(storage.list())) == 80
        assert run(storage.read("7/19")) == b"7"

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
    @pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
    def test_a_forked_child_goes_on(self, storage: SQLiteStorage) -> None:
        run(storage.write("k", b"parent"))

        def work() -> None:
            assert run(storage.read("k")) == b"parent"
            run(storage.namespace("n").write("k", b"child"))

        in_child(work)
        assert run(storage.read("n/k")) == b"child"

    @pytest.mark.slow
    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
    @pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
    @pytest.mark.file_only
    def test_a_killed_process_leaves_the_old_bytes_or_the_new(self, storage: SQLiteStorage, db_path: Path) -> None:
        async def write_until_killed(going: int) -> None:
            for number in itertools.count():
                data = bytes([number % 256]) * 500_000
                await storage.write("one", data)
                await storage.write_many({"left": data, "right": data})
                os.write(going, b"!")

        for reads in range(15):
            going, child_going = os.pipe()
            child = os.fork()
            if child == 0:
                try:
                    run(write_until_killed(child_going))
                finally:
                    os._exit(1)
            os.close(child_going)
            with os.fdopen(going, "rb", buffering=0) as pipe:
                assert pipe.read(1) == b"!"
                for _ in range(reads):
                    assert len(set(run(storage.read("one")))) == 1
                os.kill(child, signal.SIGKILL)
                assert os.waitpid(child, 0)[1] == signal.SIGKILL
            one, left, right = (run(storage.read(key)) for key in ("one", "left", "right"))
            assert len(set(one)) == len(set(left)) == 1
            assert len(one) == 500_000
            assert left == right
        with closing(sqlite3.connect(db_path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
