"""`SQLiteStorage(detect_conflicts=True)`: no turn of a snapshot session is lost silently."""

import asyncio
import pickle
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from snapshot_helpers import restored, talking  # isort: skip (skips all of this on an older SDK)

from strands.session import SnapshotSessionManager
from strands.types.exceptions import StorageError

from helpers import ScriptedModel, run_python, texts
from strands_sqlite_session_manager import SessionConflictError
from strands_sqlite_session_manager.catalog import SessionCatalog
from strands_sqlite_session_manager.storage import SQLiteStorage

ADA = ("I am Ada.", "Hello, Ada.")


@pytest.fixture
def storage(db_path: Path) -> Any:
    """A storage that detects conflicts."""
    with SQLiteStorage(db_path, detect_conflicts=True) as storage:
        yield storage


OTHER_PROCESS = """
import sys
from snapshot_helpers import talking
from strands_sqlite_session_manager.storage import SQLiteStorage
talking(SQLiteStorage(sys.argv[1], detect_conflicts=True), "s", ("From elsewhere.", "I see."))
"""


class TestConflicts:
    @pytest.mark.slow
    def test_a_turn_of_another_process_is_kept(self, storage: Any, db_path: Path) -> None:
        """The agent that is behind is refused, each time, until it is built again with a storage of its own."""
        agent = talking(storage, "s", ADA)
        run_python(OTHER_PROCESS, db_path)
        agent.model = ScriptedModel("Lost.", "Lost again.", "Found.")
        for _ in range(2):
            with pytest.raises(SessionConflictError, match="written or deleted by another writer") as raised:
                agent("Me too.")
            assert isinstance(raised.value, StorageError)
        with SQLiteStorage(db_path, detect_conflicts=True) as fresh:
            again = restored(fresh, "s")
            assert texts(again.messages) == [*ADA, "From elsewhere.", "I see."]
            again.model = ScriptedModel("Found.")
            again("Me too.")
        assert len(restored(storage, "s").messages) == 6

    def test_two_that_begin_a_session_at_once(self, storage: Any, db_path: Path) -> None:
        """The first to store wins."""
        first, second = restored(storage, "s"), restored(SQLiteStorage(db_path, detect_conflicts=True), "s")
        first.model, second.model = ScriptedModel("one"), ScriptedModel("two")
        second("Two.")
        with pytest.raises(SessionConflictError):
            first("One.")
        assert texts(restored(storage, "s").messages) == ["Two.", "two"]

    async def test_a_session_that_was_deleted_does_not_come_back(self, storage: Any, db_path: Path) -> None:
        """Nor does what was deleted here get in the way of a new beginning."""
        agent = talking(storage, "s", ADA)
        with SQLiteStorage(db_path) as other:
            await SnapshotSessionManager("s", storage=other).delete_session()
        agent.model = ScriptedModel("Back.")
        with pytest.raises(SessionConflictError):
            await agent.invoke_async("Am I here?")
        assert await storage.list("") == []
        await storage.read("k")
        await storage.write("k", b"1")
        await storage.delete("k")
        await storage.write("k", b"2")
        await storage.delete_prefix("k")
        await storage.write("k", b"3")
        assert await storage.read("k") == b"3"

    @pytest.mark.parametrize("end", ["deleted", "expired"])
    def test_nor_does_its_past(self, storage: Any, db_path: Path, end: str) -> None:
        """Which the SDK stores before the latest snapshot. That of a turn that was refused otherwise is kept."""
        agents = [talking(storage, name, ADA, always=True) for name in ("s", "t")]
        with SessionCatalog(db_path) as catalog:
            if end == "deleted":
                catalog.delete_session("s")
            else:
                catalog.set_expiry("s", timedelta(seconds=-1))
            catalog.undo_turns("t", "a")
            for agent in agents:
                agent.model = ScriptedModel("Back.")
                with pytest.raises(SessionConflictError, match=r"snapshot_latest\.json' was written or deleted"):
                    agent("Am I here?")
            assert catalog.describe("s") is None
            assert [snapshot.message_count for snapshot in catalog.list_snapshots("t", "a")] == [0, 4, 2, 2]

    def test_own_turns_are_no_conflict(self, storage: Any) -> None:
        """Of an agent that stores each message and keeps the past."""
        agent = talking(storage, "s", ADA, ("Bye.", "Goodbye."), always=True)
        assert restored(storage, "s").messages == agent.messages

    async def test_what_it_wrote_with_others_is_no_conflict(self, storage: Any, db_path: Path) -> None:
        """But what another writer stored since then is one."""
        await storage.read("k")
        await storage.write_many({"k": b"1", "not read": b"1"})
        await storage.write("k", b"2")
        await storage.write_many({"k": b"3"})
        with SQLiteStorage(db_path) as other:
            await other.write("k", b"4")
            await other.write("not read", b"4")
        with pytest.raises(SessionConflictError):
            await storage.write("k", b"5")
        await storage.write("not read", b"5")

    async def test_own_calls_at_once_are_no_conflict(self, storage: Any) -> None:
        """One that reads while another writes, or writes too, is not another writer."""
        await storage.read("k")
        calls = [storage.read("k") if n % 3 else storage.write("k", b"%d" % n) for n in range(60)]
        await asyncio.gather(*calls)
        await storage.write("k", b"last")
        assert await storage.read("k") == b"last"

    async def test_what_was_not_read_is_written(self, storage: Any, db_path: Path) -> None:
        """As without; and each view knows what it has read itself."""
        view = storage.namespace("n")
        with SQLiteStorage(db_path) as other:
            await other.write("n/k", b"1")
            await view.write("k", b"2")
            await view.read("k")
            await other.write("n/k", b"3")
            await storage.write("n/k", b"4")
        with pytest.raises(SessionConflictError):
            await view.write("k", b"5")
        assert await storage.read("n/k") == b"4"

    async def test_is_pickled_with_it(self, storage: Any, db_path: Path) -> None:
        """Another process detects conflicts too."""
        if not isinstance(db_path, Path):
            pytest.skip("a cluster's address has a password")
        with pickle.loads(pickle.dumps(storage)) as copy:
            await copy.read("k")
            await storage.write("k", b"1")
            with pytest.raises(SessionConflictError):
                await copy.write("k", b"2")

    async def test_without_it_the_last_write_wins(self, db_path: Path) -> None:
        """As with the SDK's own storages."""
        with SQLiteStorage(db_path) as one, SQLiteStorage(db_path) as other:
            await one.read("k")
            await other.write("k", b"1")
            await one.write("k", b"2")
            assert await other.read("k") == b"2"
