"""Bytes under keys: the SDK's protocol beside its own storages, and what takes a storage, end to end.

Each `run` has an event loop of its own, as each synchronous call of the SDK has.
"""

import asyncio
import inspect
import itertools
import json
import os
import signal
import sqlite3
from asyncio import run
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

pytest.importorskip("strands.storage")

from strands import Agent
from strands.storage import InMemoryStorage, LocalFileStorage, Storage
from strands.types.exceptions import SessionException, StorageError
from strands.types.session import Session, SessionType

from helpers import ScriptedModel, in_child, make_agent, run_python, texts
from strands_sqlite_session_manager import SQLiteSessionRepository
from strands_sqlite_session_manager.storage import SQLiteStorage


@pytest.fixture
def storage(db_path: Path) -> Iterator[SQLiteStorage]:
    with SQLiteStorage(db_path) as storage:
        yield storage


class TestContract:
    """Ours beside the SDK's."""

    @pytest.fixture(params=["InMemoryStorage", "LocalFileStorage", "SQLiteStorage", "in memory"])
    def storage(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
        if request.param == "InMemoryStorage":
            yield InMemoryStorage()
        elif request.param == "LocalFileStorage":
            yield LocalFileStorage(str(tmp_path / "files"))
        else:
            with SQLiteStorage(tmp_path / "s.db" if request.param == "SQLiteStorage" else ":memory:") as storage:
                yield storage

    def test_is_a_storage(self, storage: Any) -> None:
        assert isinstance(storage, Storage)

    @pytest.mark.parametrize("data", [b"", b"text", bytes(range(256)), b"\0" * 200_000], ids=len)
    def test_bytes_come_back_as_they_were(self, storage: Any, data: bytes) -> None:
        run(storage.write("a/b.bin", data))
        assert run(storage.read("a/b.bin")) == data
        assert type(run(storage.read("a/b.bin"))) is bytes

    def test_a_write_replaces_what_was_there(self, storage: Any) -> None:
        for data in (b"first", b"second and longer", b"3"):
            run(storage.write("k", data))
            assert run(storage.read("k")) == data
        assert run(storage.list("")) == ["k"]

    def test_what_is_not_there_is_none_and_deleting_it_is_fine(self, storage: Any) -> None:
        assert run(storage.read("k")) is None
        run(storage.delete("k"))
        run(storage.write("k", b""))
        run(storage.delete("k"))
        assert run(storage.read("k")) is None
        assert run(storage.list("")) == []

    @pytest.mark.parametrize(
        ("prefix", "expected"),
        [
            ("", ["B", "a", "a-", "a0", "ab/1", "ab/2", "é", "😀"]),
            ("a", ["a", "a-", "a0", "ab/1", "ab/2"]),
            ("ab/", ["ab/1", "ab/2"]),
            ("/ab//", ["ab/1", "ab/2"]),
            ("ab/2", ["ab/2"]),
            ("b", []),
            ("%", []),
            ("*", []),
        ],
    )
    def test_lists_are_of_a_prefix_and_in_order(self, storage: Any, prefix: str, expected: list[str]) -> None:
        for key in ("😀", "a0", "ab/2", "B", "é", "a", "ab/1", "a-"):
            run(storage.write(key, b""))
        assert run(storage.list(prefix)) == expected

    def test_slashes_too_many_make_no_other_key(self, storage: Any) -> None:
        run(storage.write("//a///b/", b"x"))
        assert run(storage.read("a/b")) == b"x"
        assert run(storage.list("//a//")) == ["a/b"]
        run(storage.delete("/a/b"))
        assert run(storage.list("")) == []

    @pytest.mark.parametrize("key", ["", "/", "..", "a/../b", "../a", "a/..", "a\\b", "a\0b", "a\ud800b"])
    def test_bad_keys_are_refused(self, storage: Any, key: str) -> None:
        lenient = isinstance(storage, InMemoryStorage) and key in ("a\0b", "a\ud800b")
        if lenient:
            pytest.skip("the dictionary holds it")
        with pytest.raises(StorageError):
            run(storage.write(key, b"x"))
        assert run(storage.list("")) == []

    @pytest.mark.parametrize("prefix", ["..", "a/../", "a\\"])
    def test_bad_prefixes_are_refused(self, storage: Any, prefix: str) -> None:
        with pytest.raises(StorageError):
            run(storage.list(prefix))
        with pytest.raises(StorageError):
            storage.namespace(prefix)

    def test_a_namespace_sees_its_own_keys_only(self, storage: Any) -> None:
        view = storage.namespace("/a//b/")
        run(view.write("c/d", b"1"))
        run(storage.write("a/bb", b"2"))
        assert run(storage.list("")) == ["a/b/c/d", "a/bb"]
        assert run(view.list("")) == run(view.list("/c")) == ["c/d"]
        assert run(view.read("a/b/c/d")) is None
        assert run(view.namespace("c").read("d")) == run(storage.namespace("a").namespace("b/c").read("d")) == b"1"
        assert run(view.namespace("").list("")) == ["c/d"]
        with pytest.raises(StorageError):
            run(view.read(".."))
        run(view.delete("/c/d/"))
        assert run(storage.list("")) == ["a/bb"]

    def test_a_search_ranks_by_words_and_keeps_to_its_namespace(self, storage: Any) -> None:
        pytest.importorskip("strands.storage.search")
        run(storage.write("other/dark-memory.md", b"mode"))
        view = storage.namespace("memory/agent")
        run(view.write("theme.md", b"the user wants dark mode"))
        run(view.write("night.md", b"dark outside"))
        run(view.write("noise.md", b"\xff\xfe\0"))
        found = run(view.search("What about the dark mode of memory?"))
        assert [result.key for result in found] == ["theme.md", "night.md"]
        assert found[0].score > found[1].score > 0
        assert found[1].data == b"dark outside"
        found = run(storage.search("mode"))
        assert {result.key for result in found} == {"memory/agent/theme.md", "other/dark-memory.md"}
        assert run(view.search("the")) == []

    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("lego", ["brand"]),
            ("python", ["brand"]),
            ("20", ["degrees"]),
            ("name", ["table"]),
            ("item", ["list"]),
            ("bar", ["arrow"]),
            ("coffee—tea", ["coffee", "tea"]),
            ("“coffee”…", ["coffee"]),
            ("咖啡，茶", ["cha", "kafei"]),
            ("5€+tea", ["tea"]),
        ],
    )
    def test_symbols_and_punctuation_part_words(self, storage: Any, query: str, expected: list[str]) -> None:
        pytest.importorskip("strands.storage.search")
        items = {
            "brand": "Lego® in Python™",
            "degrees": "it is 20°C",
            "table": "│name│age│",
            "list": "●item one",
            "arrow": "foo↓bar",
            "coffee": "coffee",
            "tea": "tea",
            "kafei": "咖啡",
            "cha": "茶",
        }
        for key, text in items.items():
            run(storage.write(key, text.encode()))
        assert sorted(result.key for result in run(storage.search(query))) == expected

    def test_data_is_as_it_was_when_written(self, storage: Any) -> None:
        async def change_while_writing() -> None:
            data = bytearray(b"before")
            work = asyncio.ensure_future(storage.write("k", data))
            await asyncio.sleep(0)
            data[:] = b"after!"
            await work

        run(change_while_writing())
        assert run(storage.read("k")) == b"before"


class TestOurs:
    @pytest.mark.parametrize("data", ["text", 5, None, [1, 2]])
    def test_what_is_no_bytes_is_refused(self, storage: SQLiteStorage, data: Any) -> None:
        for write in (storage.write("k", data), storage.write_many({"other": b"x", "k": data})):
            with pytest.raises(StorageError, match="'k': the data must be bytes, not"):
                run(write)
        assert run(storage.list()) == []

    def test_a_key_may_lie_below_another(self, storage: SQLiteStorage) -> None:
        """As files they could not."""
        run(storage.write_many({"k": b"1", "k/sub": b"2"}))
        assert (run(storage.read("k")), run(storage.read("k/sub"))) == (b"1", b"2")

    def test_several_keys_in_one_call(self, storage: SQLiteStorage) -> None:
        view = storage.namespace("a")
        run(view.write_many({f"{n}": b"x" for n in range(5)}))
        run(storage.write_many({"ab": b"x", "b": b"x"}))
        assert run(view.delete_many(["0", "/1/", "nothing"])) == 2
        assert run(storage.list()) == ["a/2", "a/3", "a/4", "ab", "b"]
        assert run(view.delete_prefix("4")) == 1
        assert run(storage.delete_prefix("a/")) == 2
        assert run(storage.delete_prefix("a/")) == 0
        assert run(storage.list()) == ["ab", "b"]

    @pytest.mark.parametrize("bad", ["", "../x", "a\0"])
    def test_several_keys_of_which_one_is_bad_change_nothing(self, storage: SQLiteStorage, bad: str) -> None:
        run(storage.write("k", b"1"))
        for work in (storage.write_many({"k": b"2", bad: b"x"}), storage.delete_many(["k", bad])):
            with pytest.raises(StorageError):
                run(work)
        assert run(storage.read("k")) == b"1"

    def test_several_keys_of_which_one_fails_change_nothing(
        self, storage: SQLiteStorage, raw: sqlite3.Connection
    ) -> None:
        run(storage.write("k", b"1"))
        for event, row in (("INSERT", "NEW"), ("DELETE", "OLD")):
            raw.execute(
                f"CREATE TRIGGER refuse_{event} BEFORE {event} ON storage WHEN {row}.key = 'z' "
                "BEGIN SELECT raise(ABORT, 'no'); END"
            )
        with pytest.raises(StorageError, match=r"write 2 keys: .*sessions\.db: no"):
            run(storage.write_many({"k": b"2", "z": b"2"}))
        assert run(storage.list()) == ["k"]
        raw.execute("DROP TRIGGER refuse_INSERT")
        run(storage.write("z", b"1"))
        for work in (storage.delete_many(["k", "z"]), storage.delete_prefix(""), storage.clear()):
            with pytest.raises(StorageError, match=r"delete .*keys.*: .*sessions\.db: no"):
                run(work)
        assert (run(storage.read("k")), run(storage.read("z"))) == (b"1", b"1")

    def test_clearing_keeps_the_sessions_and_what_others_have(self, storage: SQLiteStorage, db_path: Path) -> None:
        with SQLiteSessionRepository(db_path) as repository:
            repository.create_session(Session("s", SessionType.AGENT))
            run(storage.write_many({"a/x": b"", "ab": b""}))
            run(storage.namespace("a").clear())
            assert run(storage.list()) == ["ab"]
            run(storage.clear())
            assert run(storage.list()) == []
            assert repository.read_session("s") is not None

    def test_times_are_of_the_first_and_the_last_write(self, storage: SQLiteStorage, raw: sqlite3.Connection) -> None:
        run(storage.write("k", b"1"))
        raw.execute("UPDATE storage SET created_at = '2020', updated_at = '2020'")
        run(storage.write("k", b"2"))
        ((created_at, updated_at),) = raw.execute("SELECT created_at, updated_at FROM storage")
        assert created_at == "2020"
        assert updated_at > "2025"

    def test_shares_the_connections_of_the_sessions(self, db_path: Path, opened: list[sqlite3.Connection]) -> None:
        with SQLiteSessionRepository(db_path), SQLiteStorage(db_path) as storage:
            for _ in range(5):
                run(storage.namespace("a").write("k", b""))
            assert len(opened) == 1

    def test_use_after_close_raises(self, db_path: Path) -> None:
        with SQLiteStorage(db_path) as storage:
            view = storage.namespace("a")
        storage.close()
        for closed in (storage, view):
            with pytest.raises(StorageError, match=r"read 'k': .*sessions\.db: used after it was closed"):
                run(closed.read("k"))

    def test_only_memory_says_that_it_is_gone_with_the_process(self, db_path: Path) -> None:
        """Strands then puts the stash into its snapshots, which may be in a file."""
        sdk = pytest.importorskip("strands.storage.storage")
        if not hasattr(sdk, "_EPHEMERAL"):
            pytest.skip("this SDK makes no difference")
        with SQLiteStorage(":memory:") as memory, SQLiteStorage(db_path) as file:
            assert memory.namespace("a")._ephemeral is InMemoryStorage()._ephemeral
            assert not hasattr(file, "_ephemeral")

    def test_errors_are_the_sdks(self, tmp_path: Path) -> None:
        (tmp_path / "diary").write_text("Dear diary, " * 1000)
        with pytest.raises(StorageError, match="diary: file is not a database") as caught:
            SQLiteStorage(tmp_path / "diary")
        assert isinstance(caught.value.__cause__, SessionException)
        with pytest.raises(ValueError, match="busy_timeout"):
            SQLiteStorage(busy_timeout=-1)


# Ends of the ranges of one, two, three and four bytes in UTF-8, and the neighbours of the surrogates.
edges = st.sampled_from("a\x01\x7f\x80\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010fffe\U0010ffff")
letters = edges | st.characters(exclude_categories=["Cs"], exclude_characters="\0\\./")


class TestListing:
    @given(keys=st.sets(st.text(letters, min_size=1, max_size=4)), prefix=st.text(letters, max_size=3))
    @example(keys={"\U0010ffff", "\U0010ffffa", "a"}, prefix="\U0010ffff")
    @example(keys={"a\U0010ffff", "a\U0010ffff\U0010ffff", "b"}, prefix="a\U0010ffff")
    @example(keys={"\ud7ff", "\ud7ffa", "\ue000"}, prefix="\ud7ff")
    def test_any_prefix_finds_what_python_finds(self, keys: set[str], prefix: str) -> None:
        expected = sorted(key for key in keys if key.startswith(prefix))
        with SQLiteStorage(":memory:") as storage:
            view = storage.namespace("n")
            for where in (storage, view):
                run(where.write_many(dict.fromkeys(keys, b"")))
                found = [key for key in run(where.list(prefix)) if not key.startswith("n/")]
                assert found == expected
            assert run(view.delete_prefix(prefix)) == len(expected)
            assert run(view.list()) == sorted(keys.difference(expected))

    def test_what_is_deleted_is_erased(self, storage: SQLiteStorage, db_path: Path) -> None:
        pytest.importorskip("strands.storage.search")
        deletions = [
            lambda: storage.delete_many(["a/1"]),
            lambda: storage.delete_prefix("a/"),
            lambda: storage.clear(),
        ]
        for delete in deletions:
            run(storage.write("a/1", b"the zanzibarsecret is here"))
            assert len(run(storage.search("zanzibarsecret"))) == 1
            run(delete())
            files = [db_path, db_path.with_name(f"{db_path.name}-wal")]
            assert not any(b"zanzibarsecret" in file.read_bytes() for file in files)

    def test_one_deletion_does_not_wait_for_the_whole_index(
        self, storage: SQLiteStorage, raw: sqlite3.Connection, db_path: Path
    ) -> None:
        """Strands deletes key by key. What is left in the file goes with the next keys that are deleted together."""
        pytest.importorskip("strands.storage.search")
        for key in ("a", "b"):
            run(storage.write(key, f"zanzibarsecret {key}".encode()))
            run(storage.search("x"))
        run(storage.delete("a"))
        segments = "SELECT count(DISTINCT segid) FROM search_storage_idx"
        assert raw.execute("SELECT c0 FROM search_storage_content").fetchall() == [("b",)]
        assert raw.execute(segments).fetchone() == (3,)
        run(storage.write("c", b"not indexed yet"))
        run(storage.delete_many(["c"]))
        assert b"zanzibarsecret a" not in db_path.read_bytes()
        assert raw.execute(segments).fetchone() == (1,)
        run(storage.delete_many(["b"]))
        assert raw.execute(segments).fetchone() == (0,)
        assert b"zanzibarsecret" not in db_path.read_bytes()

    def test_deletes_only_what_is_meant(self, storage: SQLiteStorage) -> None:
        run(storage.write_many({"a": b"", "b": b""}))
        with pytest.raises(StorageError, match="several keys are needed"):
            run(storage.delete_many("ab"))
        with pytest.raises(StorageError, match=r"call clear\(\)"):
            run(storage.delete_prefix("/"))
        assert run(storage.list()) == ["a", "b"]
        assert run(storage.delete_prefix("")) == 2

    @pytest.mark.parametrize("prefix", ["session/", "", "\U0010ffff"])
    def test_walks_the_index_of_the_keys_alone(
        self, storage: SQLiteStorage, raw: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch, prefix: str
    ) -> None:
        asked: list[tuple[str, Any]] = []
        monkeypatch.setattr(storage._database, "query", lambda sql, parameters: asked.append((sql, parameters)) or [])
        monkeypatch.setattr(storage._database, "transaction", lambda statements: asked.extend(statements) or [])
        run(storage.list(prefix))
        run(storage.delete_prefix(prefix))
        plans = [[row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)] for sql, parameters in asked]
        assert plans == [
            ["SEARCH storage USING COVERING INDEX sqlite_autoindex_storage_1 (key>? AND key<?)"],
            ["SEARCH storage USING COVERING INDEX sqlite_autoindex_storage_1 (key>? AND key<?)"],
        ]


class TestConcurrency:
    def test_the_event_loop_goes_on_while_another_connection_holds_the_write_lock(
        self, storage: SQLiteStorage, raw: sqlite3.Connection
    ) -> None:
        async def work() -> None:
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

        run(work())

    def test_a_lock_held_too_long_is_an_error(self, db_path: Path, raw: sqlite3.Connection) -> None:
        with SQLiteStorage(db_path, busy_timeout=0.05) as storage:
            raw.execute("BEGIN IMMEDIATE")
            with pytest.raises(StorageError, match=r"write 'k': .*sessions\.db: database is locked \(.*busy_timeout"):
                run(storage.write("k", b"x"))
            raw.execute("ROLLBACK")
            run(storage.write("k", b"x"))

    def test_not_even_one_that_is_cancelled_twice_lands_after_the_next_one(
        self, storage: SQLiteStorage, raw: sqlite3.Connection
    ) -> None:
        async def write_under_a_lock() -> None:
            raw.execute("BEGIN IMMEDIATE")
            first = asyncio.ensure_future(storage.write("k", b"old"))
            for _ in range(3):
                await asyncio.sleep(0)
                first.cancel()
            raw.execute("ROLLBACK")
            with pytest.raises(asyncio.CancelledError):
                await first
            await storage.write("k", b"new")

        run(write_under_a_lock())
        assert run(storage.read("k")) == b"new"

    def test_a_cancelled_write_lands_before_the_next_one(self, storage: SQLiteStorage, raw: sqlite3.Connection) -> None:
        async def work() -> None:
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

        run(work())

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

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
    @pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
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


CRASHING = """
import json, os, sys
from helpers import ScriptedModel, make_agent, texts, tool_use
from strands.multiagent import GraphBuilder, Swarm
from strands.session import SnapshotSessionManager
from strands_sqlite_session_manager.storage import SQLiteStorage

class DyingModel(ScriptedModel):
    async def stream(self, *args, **kwargs):
        os._exit(9)
        yield

path, what, dies = sys.argv[1], sys.argv[2], sys.argv[3] == "dies"
manager = SnapshotSessionManager("s", storage=SQLiteStorage(path), save_latest_on="message")
second = DyingModel() if dies else ScriptedModel("second done")
if what == "agent":
    agent = make_agent(manager, model=second)
    if dies:
        agent.model = ScriptedModel("Hello, Ada.")
        agent("My name is Ada.")
        agent.model = second
    agent("What is my name?")
    print(json.dumps(texts(agent.messages)))
    sys.exit()
if what == "graph":
    first = ScriptedModel("first done")
    builder = GraphBuilder()
    builder.add_node(make_agent(None, model=first, name="first"), "first")
    builder.add_node(make_agent(None, model=second, name="second"), "second")
    builder.add_edge("first", "second")
    builder.set_entry_point("first")
    builder.set_graph_id("g")
    team = builder.set_session_manager(manager).build()
else:
    hand_over = tool_use("handoff_to_agent", "1", '{"agent_name": "second", "message": "over to you"}')
    first = ScriptedModel([hand_over], "handed over")
    agents = [make_agent(None, model=model, name=name) for name, model in (("first", first), ("second", second))]
    team = Swarm(agents, id="g", session_manager=manager)
result = team("Write about SQLite.")
print(json.dumps([result.status.value, len(first.requests), len(second.requests)]))
"""


class TestEndToEnd:
    @pytest.fixture(autouse=True)
    def manager_class(self) -> Any:
        pytest.importorskip("strands.session.snapshot_session_manager")
        from strands.session import SnapshotSessionManager

        return SnapshotSessionManager

    @pytest.mark.parametrize(
        ("what", "expected"),
        [
            ("agent", ["My name is Ada.", "Hello, Ada.", "What is my name?", "What is my name?", "second done"]),
            ("graph", ["completed", 0, 1]),
            ("swarm", ["completed", 0, 1]),
        ],
    )
    def test_is_resumed_after_a_crash_where_it_stopped(self, db_path: Path, what: str, expected: list[Any]) -> None:
        with pytest.raises(AssertionError):  # The process died.
            run_python(CRASHING, db_path, what, "dies")
        assert json.loads(run_python(CRASHING, db_path, what, "lives")) == expected

    def test_snapshots_are_listed_and_restored(self, db_path: Path, manager_class: Any) -> None:
        def build(*answers: str) -> tuple[Any, Agent]:
            manager = manager_class(
                "s", storage=SQLiteStorage(db_path), snapshot_trigger=lambda agent_data, **kwargs: True
            )
            return manager, make_agent(manager, *answers)

        _, agent = build("one", "two", "three")
        for question in ("1?", "2?", "3?"):
            agent(question)
        manager, agent = build("else")
        assert texts(agent.messages) == ["1?", "one", "2?", "two", "3?", "three"]
        first, second, third = run(manager.list_snapshot_ids(agent))
        assert run(manager.list_snapshot_ids(agent, start_after=first)) == [second, third]
        assert run(manager.restore_snapshot(agent, snapshot_id=first))
        assert texts(agent.messages) == ["1?", "one"]
        agent("or?")
        _, again = build()
        assert texts(again.messages) == ["1?", "one", "or?", "else"]
        assert run(manager.restore_snapshot(again, snapshot_id=third))
        assert texts(again.messages)[-1] == "three"

    def test_an_agent_hands_its_storage_to_its_session(self, db_path: Path, manager_class: Any) -> None:
        if "storage" not in inspect.signature(Agent).parameters:
            pytest.skip("this SDK's agents have no storage")
        make_agent(manager_class("s"), "Hello, Ada.", storage=SQLiteStorage(db_path))("My name is Ada.")
        again = make_agent(manager_class("s"), storage=SQLiteStorage(db_path))
        assert texts(again.messages) == ["My name is Ada.", "Hello, Ada."]

    def test_a_view_is_used_as_it_is(self, storage: SQLiteStorage, manager_class: Any) -> None:
        """As the SDK uses views of its own storages; others it gives a prefix."""
        make_agent(manager_class("s", storage=storage.namespace("tenant")), "hello")("hi")
        make_agent(manager_class("s", storage=storage), "hello")("hi")
        key = "s/scopes/agent/default/snapshots/snapshot_latest.json"
        assert run(storage.list()) == [f"session/{key}", f"tenant/{key}"]

    @pytest.mark.filterwarnings("ignore:context_window_limit is not set:UserWarning")
    def test_a_session_is_deleted_with_its_stash(self, storage: SQLiteStorage, manager_class: Any) -> None:
        for session_id in ("s", "s2"):
            manager = manager_class(session_id)
            agent = Agent(
                model=ScriptedModel("hello"),
                callback_handler=None,
                context_manager="auto",
                session_manager=manager,
                storage=storage,
            )
            agent("hi")
        before = run(storage.list())
        assert {key.split("/")[0] for key in before} == {"context", "session"}
        assert all(key.split("/")[1] in ("s", "s2") for key in before)
        run(manager_class("s", storage=storage).delete_session())
        assert run(storage.list()) == [key for key in before if key.split("/")[1] == "s2"] != []

    def test_memory_is_kept_and_found(self, storage: SQLiteStorage) -> None:
        stores = pytest.importorskip("strands.vended_memory_stores.file_memory_store")
        store = stores.FileMemoryStore(name="facts", storage=storage)
        run(store.add("# User preferences\nPrefers dark mode."))
        run(store.add("# User preferences\nSpeaks Welsh."))
        assert run(storage.list()) == ["memory/facts/user-preferences.md"]
        again = stores.FileMemoryStore(name="facts", storage=storage)
        (entry,) = run(again.search("welsh"))
        assert entry.content == "# User preferences\nPrefers dark mode.\nSpeaks Welsh."
