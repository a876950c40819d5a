"""What our storage does beyond Strands' own: several keys at once, erasing, and its errors."""

import math
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

pytest.importorskip("strands.storage")

from strands.storage import InMemoryStorage
from strands.types.exceptions import SessionException, StorageError
from strands.types.session import Session, SessionType

from helpers import plan_of
from strands_sqlite_session_manager import SQLiteSessionRepository
from strands_sqlite_session_manager._engine.holder import database_of
from strands_sqlite_session_manager.storage import SQLiteStorage


class TestOurs:
    @pytest.mark.parametrize("data", ["text", 5, None, [1, 2]])
    async def test_what_is_no_bytes_is_refused(self, storage: SQLiteStorage, data: Any) -> None:
        for write in (storage.write("k", data), storage.write_many({"other": b"x", "k": data})):
            with pytest.raises(StorageError, match="'k': the data must be bytes, not"):
                await write
        assert await storage.list() == []

    async def test_a_key_may_lie_below_another(self, storage: SQLiteStorage) -> None:
        """As files they could not."""
        await storage.write_many({"k": b"1", "k/sub": b"2"})
        assert (await storage.read("k"), await storage.read("k/sub")) == (b"1", b"2")

    async def test_several_keys_in_one_call(self, storage: SQLiteStorage) -> None:
        view = storage.namespace("a")
        await view.write_many({f"{n}": b"x" for n in range(5)})
        await storage.write_many({"ab": b"x", "b": b"x"})
        assert await view.delete_many(["0", "/1/", "nothing"]) == 2
        assert await storage.list() == ["a/2", "a/3", "a/4", "ab", "b"]
        assert await view.delete_prefix("4") == 1
        assert await storage.delete_prefix("a/") == 2
        assert await storage.delete_prefix("a/") == 0
        assert await storage.list() == ["ab", "b"]

    @pytest.mark.parametrize("bad", ["", "../x", "a\0"])
    async def test_several_keys_of_which_one_is_bad_change_nothing(self, storage: SQLiteStorage, bad: str) -> None:
        await storage.write("k", b"1")
        for work in (storage.write_many({"k": b"2", bad: b"x"}), storage.delete_many(["k", bad])):
            with pytest.raises(StorageError):
                await work
        assert await storage.read("k") == b"1"

    @pytest.mark.file_only
    async def test_several_keys_of_which_one_fails_change_nothing(
        self, storage: SQLiteStorage, raw: sqlite3.Connection
    ) -> None:
        await storage.write("k", b"1")
        for event, row in (("INSERT", "NEW"), ("DELETE", "OLD")):
            raw.execute(
                f"CREATE TRIGGER refuse_{event} BEFORE {event} ON storage WHEN {row}.key = 'z' "
                "BEGIN SELECT raise(ABORT, 'no'); END"
            )
        with pytest.raises(StorageError, match=r"write 2 keys: .*sessions\.db: no"):
            await storage.write_many({"k": b"2", "z": b"2"})
        assert await storage.list() == ["k"]
        raw.execute("DROP TRIGGER refuse_INSERT")
        await storage.write("z", b"1")
        for work in (storage.delete_many(["k", "z"]), storage.delete_prefix(""), storage.clear()):
            with pytest.raises(StorageError, match=r"delete .*keys.*: .*sessions\.db: no"):
                await work
        assert (await storage.read("k"), await storage.read("z")) == (b"1", b"1")

    async def test_clearing_keeps_sessions_and_what_others_have(self, storage: SQLiteStorage, db_path: Path) -> None:
        with SQLiteSessionRepository(db_path) as repository:
            repository.create_session(Session("s", SessionType.AGENT))
            await storage.write_many({"a/x": b"", "ab": b""})
            await storage.namespace("a").clear()
            assert await storage.list() == ["ab"]
            await storage.clear()
            assert await storage.list() == []
            assert repository.read_session("s") is not None

    async def test_times_are_of_first_and_last_write(self, storage: SQLiteStorage, raw: sqlite3.Connection) -> None:
        await storage.write("k", b"1")
        raw.execute("UPDATE storage SET created_at = '2020', updated_at = '2020'")
        await storage.write("k", b"2")
        ((created_at, updated_at),) = raw.execute("SELECT created_at, updated_at FROM storage")
        assert created_at == "2020"
        assert updated_at > "2025"

    @pytest.mark.file_only
    async def test_shares_connections_with_the_sessions(self, db_path: Path, opened: list[sqlite3.Connection]) -> None:
        with SQLiteSessionRepository(db_path), SQLiteStorage(db_path) as storage:
            for _ in range(5):
                await storage.namespace("a").write("k", b"")
            assert len(opened) == 1

    async def test_use_after_close_raises(self, db_path: Path) -> None:
        with SQLiteStorage(db_path) as storage:
            view = storage.namespace("a")
        storage.close()
        for closed in (storage, view):
            with pytest.raises(StorageError, match=r"read 'k': .*: used after it was closed"):
                await closed.read("k")

    def test_only_memory_says_that_it_is_gone_with_the_process(self, db_path: Path) -> None:
        """Strands then puts the stash into its snapshots, which may be in a file."""
        sdk = pytest.importorskip("strands.storage.storage")
        if not hasattr(sdk, "_EPHEMERAL"):
            pytest.skip("this SDK makes no difference")
        with SQLiteStorage(":memory:") as memory, SQLiteStorage(db_path) as file:
            assert memory.namespace("a")._ephemeral is InMemoryStorage()._ephemeral
            assert not hasattr(file, "_ephemeral")

    def test_what_cannot_be_opened_raises_an_error_of_the_sdk(self, tmp_path: Path) -> None:
        (tmp_path / "diary").write_text("Dear diary, " * 1000)
        with pytest.raises(StorageError, match="diary: file is not a database") as caught:
            SQLiteStorage(tmp_path / "diary")
        assert isinstance(caught.value.__cause__, SessionException)
        with pytest.raises(ValueError, match="busy_timeout"):
            SQLiteStorage(busy_timeout=-1)


# Ends of the ranges of one, two, three and four bytes in UTF-8, and the neighbours of the surrogates.
edges = st.sampled_from("a\x01\x7f\x80\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010fffe\U0010ffff")
letters = edges | st.characters(exclude_categories=["Cs"], exclude_characters="\0\\./")


class TestListingAndDeleting:
    @pytest.mark.slow
    @given(keys=st.sets(st.text(letters, min_size=1, max_size=4)), prefix=st.text(letters, max_size=3))
    @example(keys={"\U0010ffff", "\U0010ffffa", "a"}, prefix="\U0010ffff")
    @example(keys={"a\U0010ffff", "a\U0010ffff\U0010ffff", "b"}, prefix="a\U0010ffff")
    @example(keys={"\ud7ff", "\ud7ffa", "\ue000"}, prefix="\ud7ff")
    async def test_any_prefix_finds_what_python_finds(self, keys: set[str], prefix: str) -> None:
        expected = sorted(key for key in keys if key.startswith(prefix))
        with SQLiteStorage(":memory:") as storage:
            view = storage.namespace("n")
            for where in (storage, view):
                await where.write_many(dict.fromkeys(keys, b""))
                found = [key for key in await where.list(prefix) if not key.startswith("n/")]
                assert found == expected
            assert await view.delete_prefix(prefix) == len(expected)
            assert await view.list() == sorted(keys.difference(expected))

    @pytest.mark.file_only
    async def test_what_is_deleted_is_erased(self, storage: SQLiteStorage, db_path: Path) -> None:
        pytest.importorskip("strands.storage.search")
        deletions = [
            lambda: storage.delete_many(["a/1"]),
            lambda: storage.delete_prefix("a/"),
            lambda: storage.clear(),
        ]
        for delete in deletions:
            await storage.write("a/1", b"the zanzibarsecret is here")
            assert len(await storage.search("zanzibarsecret")) == 1
            await delete()
            files = [db_path, db_path.with_name(f"{db_path.name}-wal")]
            assert not any(b"zanzibarsecret" in file.read_bytes() for file in files)

    @pytest.mark.file_only
    async def test_one_deletion_takes_one_text_out_of_the_index(
        self, storage: SQLiteStorage, raw: sqlite3.Connection, db_path: Path
    ) -> None:
        """Strands deletes key by key. Only the log, which others may be reading, is left to the next deletion."""
        pytest.importorskip("strands.storage.search")
        for key in ("a", "b"):
            await storage.write(key, f"zanzibarsecret {key}".encode())
            await storage.search("x")
        await storage.delete("a")
        assert raw.execute("SELECT content FROM search_storage_text").fetchall() == [("zanzibarsecret b",)]
        raw.execute("INSERT INTO search_storage (search_storage, rank) VALUES ('integrity-check', 1)")
        await storage.delete_many(["b"])
        assert raw.execute("SELECT count(*) FROM search_storage_idx").fetchone() == (0,)
        assert b"zanzibarsecret" not in db_path.read_bytes()

    async def test_deletes_only_what_is_meant(self, storage: SQLiteStorage) -> None:
        await storage.write_many({"a": b"", "b": b""})
        with pytest.raises(StorageError, match="several keys are needed"):
            await storage.delete_many("ab")
        with pytest.raises(StorageError, match=r"call clear\(\)"):
            await storage.delete_prefix("/")
        assert await storage.list() == ["a", "b"]
        assert await storage.delete_prefix("") == 2

    @pytest.mark.parametrize("prefix", ["session/", "", "\U0010ffff"])
    @pytest.mark.file_only
    async def test_lists_and_deletions_of_a_prefix_walk_the_index_of_the_keys_alone(
        self, storage: SQLiteStorage, raw: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch, prefix: str
    ) -> None:
        asked: list[tuple[str, Any]] = []
        database = database_of(storage)
        database.next_sweep = math.inf
        monkeypatch.setattr(database, "query", lambda sql, parameters: asked.append((sql, parameters)) or [])
        monkeypatch.setattr(database, "transaction", lambda statements: asked.extend(statements) or [])
        await storage.list(prefix)
        await storage.delete_prefix(prefix)
        plans = [plan_of(raw, sql, parameters) for sql, parameters in asked]
        assert plans == [
            ["SEARCH storage USING COVERING INDEX sqlite_autoindex_storage_1 (key>? AND key<?)"],
            ["SEARCH storage USING COVERING INDEX sqlite_autoindex_storage_1 (key>? AND key<?)"],
        ]
