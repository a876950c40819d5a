"""A store in many places at once: tasks, cancelled calls, processes, forks, and what a kill leaves."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from strands.types.exceptions import SessionException

from helpers import in_child


def test_what_was_begun_is_stored_when_the_loop_ends(store: Any) -> None:
    """The SDK may not wait for its writes, and more of them wait for a thread than there are."""
    tasks = []

    async def begin() -> None:
        tasks.extend(asyncio.ensure_future(store.add(f"fact {number}")) for number in range(100))
        await asyncio.sleep(0)

    asyncio.run(begin())
    assert len(tasks) == 100
    assert asyncio.run(store.count()) == 100


class TestTasks:
    async def test_many_adds_of_the_same_text_make_one_memory(self, store: Any) -> None:
        """Each is counted, and all get the same id."""
        ids = await asyncio.gather(*(store.add("Ada likes tea") for _ in range(50)))
        assert len(set(ids)) == 1
        assert (await store.get(ids[0])).times_added == 50

    @pytest.mark.slow
    async def test_searches_go_on_while_others_add_and_forget(self, store: Any) -> None:
        """None fails, and none finds what was never there or is gone."""

        async def come_and_go(number: int) -> None:
            for _ in range(5):
                memory_id = await store.add(f"tea {number}")
                assert f"tea {number}" in [entry.content for entry in await store.search(f"tea {number}")]
                await store.delete(memory_id)
                assert f"tea {number}" not in [entry.content for entry in await store.search(f"tea {number}")]

        await asyncio.gather(*(come_and_go(number) for number in range(100, 108)))
        assert await store.count() == 0

    @pytest.mark.file_only
    async def test_a_cancelled_add_lands_before_what_comes_after_it(self, store: Any, raw: sqlite3.Connection) -> None:
        """A thread cannot be stopped, so the call ends when its work does."""
        raw.execute("BEGIN IMMEDIATE")
        adding = asyncio.ensure_future(store.add("Ada likes tea"))
        await store.count()  # By now it waits for the lock.
        adding.cancel()
        await store.count()
        assert not adding.done()
        raw.execute("ROLLBACK")
        with pytest.raises(asyncio.CancelledError):
            await adding
        assert await store.clear() == 1

    @pytest.mark.file_only
    async def test_a_lock_held_too_long_is_an_error_of_writes_alone(
        self, open_store: Callable[..., Any], raw: sqlite3.Connection
    ) -> None:
        """Nothing was stored then; reading goes on."""
        store = open_store(busy_timeout=0.05)
        raw.execute("BEGIN IMMEDIATE")
        with pytest.raises(SessionException, match=r"sessions\.db: database is locked"):
            await store.add("Ada likes tea")
        assert await store.count() == 0
        assert await store.search("tea") == []
        raw.execute("ROLLBACK")


ADDING = """
import asyncio, sys
from strands_sqlite_session_manager import SQLiteMemoryStore

async def add(store):
    for number in range(int(sys.argv[3])):
        await store.add(f"{sys.argv[2]} fact {number}")
        await store.add("a fact of all")
        if number % 5 == 0:
            await store.search(f"fact {number}")
        print(number, flush=True)

with SQLiteMemoryStore("facts", sys.argv[1]) as store:
    asyncio.run(add(store))
"""


def start(db_path: Any, name: str, number: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", ADDING, str(db_path), name, str(number)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


class TestProcesses:
    @pytest.mark.slow
    def test_several_add_and_search_at_once(self, store: Any, db_path: Any) -> None:
        """Nothing is lost or doubled, and all is found afterwards."""
        processes = [start(db_path, name, 30) for name in ("one", "two", "three")]
        for process in processes:
            process.communicate(timeout=120)
            assert process.returncode == 0
        assert asyncio.run(store.count()) == 91
        memories = asyncio.run(store.list(limit=100)).memories
        assert [memory.times_added for memory in memories if memory.content == "a fact of all"] == [90]
        found = asyncio.run(store.search("two", {"max_search_results": 100}))
        assert {entry.content for entry in found} == {f"two fact {number}" for number in range(30)}

    @pytest.mark.slow
    @pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this platform has no SIGKILL")
    def test_one_that_is_killed_loses_nothing_that_it_was_told_is_stored(self, store: Any, db_path: Any) -> None:
        """Whenever it happens: the file is sound, all that was acknowledged is there and found."""
        for round_number in range(5):
            process = start(db_path, f"round{round_number}", 1000)
            assert process.stdout is not None
            for _ in range(3 + 7 * round_number):
                acknowledged = int(process.stdout.readline())
            process.kill()
            process.communicate(timeout=30)
            wanted = {f"round{round_number} fact {number}" for number in range(acknowledged + 1)}
            found = asyncio.run(store.search(f"round{round_number}", {"max_search_results": 1000}))
            assert wanted <= {entry.content for entry in found}
        if isinstance(db_path, Path):
            from strands_sqlite_session_manager import maintenance

            errors = [finding for finding in maintenance.check(db_path) if finding.severity == "error"]
            assert errors == []

    @pytest.mark.file_only
    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
    def test_a_forked_child_goes_on(self, store: Any) -> None:
        """With connections of its own; the parent sees what it added."""
        asyncio.run(store.add("of the parent"))
        asyncio.run(store.search("parent"))

        def child() -> None:
            assert len(asyncio.run(store.search("parent"))) == 1
            asyncio.run(store.add("of the child"))

        in_child(child)
        assert [entry.content for entry in asyncio.run(store.search("child"))] == ["of the child"]
