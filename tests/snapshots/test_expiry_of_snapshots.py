"""Sessions of snapshots that expire, with their stash."""

import asyncio
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from snapshot_helpers import restored, talking  # isort: skip (skips all of this on an older SDK)

from strands.types.exceptions import SessionException

from helpers import ScriptedModel, texts
from strands_sqlite_session_manager._engine.holder import database_of
from strands_sqlite_session_manager.catalog import SessionCatalog

PAST = timedelta(seconds=-1)
ADA = ("I am Ada.", "Hello, Ada.")
BYE = ("Bye.", "Goodbye.")


@pytest.fixture
def expired(db_path: Path, storage: Any) -> Any:
    """A catalog in which the session `gone` of snapshots, with a stash, has expired, and `there` has not."""
    talking(storage, "gone", ADA, BYE, always=True)
    asyncio.run(storage.write("context/gone/scopes/agent/a/t_0", b"stash"))
    talking(storage, "there", ADA)
    with SessionCatalog(db_path) as catalog:
        catalog.set_expiry("gone", PAST)
        yield catalog


def keys(raw: Any, session_id: str = "gone") -> list[str]:
    """Return all keys of a session that are stored."""
    found = raw.execute("SELECT key FROM storage WHERE instr(key, ?)", (f"/{session_id}/",)).fetchall()
    return [key for (key,) in found]


async def test_it_is_hidden(expired: Any, storage: Any, raw: sqlite3.Connection) -> None:
    assert [session.session_id for session in expired.list_sessions().sessions] == ["there"]
    assert expired.describe("gone") is None
    assert expired.describe_agent("gone", "a") is None
    assert list(expired.contents(["gone", "there"])) == ["there"]
    assert list(expired.revisions([("gone", "a"), ("there", "a")])) == [("there", "a")]
    assert {hit.session_id for hit in expired.search("Ada")} == {"there"}
    assert list(expired.usage(by="session")) == ["there"]
    for call in (expired.list_snapshots, expired.history):
        with pytest.raises(SessionException, match="session gone does not exist"):
            call("gone", "a")
    assert await storage.list("session/gone/") == await storage.list("context/gone/") == []
    for key in keys(raw):
        assert await storage.read(key) is None
    assert [hit.key for hit in await storage.search("Ada stash")] == await storage.list("session/there/")


def test_it_is_not_restored_and_begins_anew(expired: Any, storage: Any, raw: sqlite3.Connection) -> None:
    """The first snapshot of the new one deletes the old ones, and does not expire."""
    assert restored(storage, "gone").messages == []
    talking(storage, "gone", BYE)
    assert texts(restored(storage, "gone").messages) == list(BYE)
    assert len(keys(raw)) == 1
    assert expired.describe("gone").expires_at is None


def test_an_agent_at_work_stores_all_that_it_has(storage: Any, db_path: Path) -> None:
    agent = talking(storage, "s", ADA, BYE)
    with SessionCatalog(db_path) as catalog:
        catalog.set_expiry("s", PAST)
        agent.model = ScriptedModel("You are welcome.")
        agent("Thanks.")
        assert texts(restored(storage, "s").messages) == [*ADA, *BYE, "Thanks.", "You are welcome."]
        assert catalog.describe("s").expires_at is None


def test_who_detects_conflicts_is_told(db_path: Path, storage: Any) -> None:
    """What the agent read is gone."""
    with type(storage)(db_path, detect_conflicts=True) as careful, SessionCatalog(db_path) as catalog:
        agent = talking(careful, "s", ADA)
        catalog.set_expiry("s", PAST)
        agent.model = ScriptedModel("Goodbye.")
        with pytest.raises(Exception, match="deleted by another writer"):
            agent("Bye.")


async def test_the_first_write_into_it_begins_anew(expired: Any, storage: Any, raw: sqlite3.Connection) -> None:
    """Of a stash too, which comes before the snapshot of its turn, and is still there after that."""
    stash = "context/gone/scopes/agent/a/t_1"
    await storage.write_many({"other": b"", stash: b"new"})
    assert keys(raw) == [stash]
    await asyncio.to_thread(talking, storage, "gone", BYE)
    assert await storage.read(stash) == b"new"


async def test_a_longer_id_is_another_session(expired: Any, storage: Any) -> None:
    """What begins like a stash of the one that has expired may be another's."""
    key = "context/gone/scopes/agent/x/scopes/agent/a/t_0"
    await storage.write(key, b"stash")
    assert await storage.read(key) == b"stash"
    assert await storage.list("context/") == [key]


@pytest.mark.file_only
async def test_text_of_one_that_was_begun_anew_leaves_the_disk(db_path: Path, storage: Any) -> None:
    await asyncio.to_thread(talking, storage, "gone", ("My pin is 4711xyz.", "Hello."))
    assert await storage.search("4711xyz")
    with SessionCatalog(db_path) as catalog:
        catalog.set_expiry("gone", PAST)
    await asyncio.to_thread(talking, storage, "gone", BYE)
    for file in db_path.parent.glob("sessions.db*"):
        assert b"4711xyz" not in file.read_bytes()


async def test_a_fork_keeps_the_ends_of_keys(db_path: Path, storage: Any, raw: sqlite3.Connection) -> None:
    """What has expired is not forked."""
    talking(storage, "s", ADA, BYE, always=True)
    older, newer = [key for key in keys(raw, "s") if "immutable" in key]
    for stash in ("t_0", "t_1"):
        await storage.write(f"context/s/scopes/agent/a/{stash}", b"stash")
    for key, when in ((older, PAST), (newer, timedelta(days=1))):
        await storage.set_expiry(key, when)
    await storage.set_expiry("context/s/scopes/agent/a/t_0", PAST)
    await storage.set_expiry("context/s/scopes/agent/a/t_1", timedelta(days=1))
    with SessionCatalog(db_path) as catalog:
        catalog.fork_session("s", "fork")
    forked = dict(raw.execute("SELECT key, expires_at IS NOT NULL FROM storage WHERE instr(key, '/fork/')").fetchall())
    assert forked == {
        "context/fork/scopes/agent/a/t_1": 1,
        newer.replace("/s/", "/fork/"): 1,
        "session/fork/scopes/agent/a/snapshots/snapshot_latest.json": 0,
    }


async def test_nothing_is_made_of_a_fork_where_all_keys_have_expired(db_path: Path, storage: Any) -> None:
    """It would be a session without a snapshot, which nothing ends."""
    talking(storage, "s", ADA, always=True)
    await storage.set_prefix_expiry("session/s/", PAST)
    await storage.write("context/s/scopes/agent/a/t_0", b"stash")
    with SessionCatalog(db_path) as catalog:
        with pytest.raises(SessionException, match="Session s does not exist"):
            catalog.fork_session("s", "fork")
        assert catalog.describe("fork") is None
    assert await storage.list("context/fork/") == []


@pytest.mark.parametrize("change", ["undo", "restore"])
async def test_what_was_the_latest_keeps_its_end(
    db_path: Path, storage: Any, raw: sqlite3.Connection, change: str
) -> None:
    """It would stay for ever otherwise, as a snapshot of the past."""
    talking(storage, "s", ADA, BYE, always=True)
    assert await storage.set_prefix_expiry("session/s/", timedelta(days=1)) == 3
    with SessionCatalog(db_path) as catalog:
        if change == "undo":
            catalog.undo_turns("s", "a")
        else:
            catalog.restore_snapshot("s", "a", catalog.list_snapshots("s", "a")[-1].snapshot_id or "")
    assert raw.execute("SELECT count(*), count(expires_at) FROM storage").fetchone() == (4, 4)


async def test_what_is_made_the_latest_keeps_its_end(db_path: Path, storage: Any, raw: sqlite3.Connection) -> None:
    talking(storage, "s", ADA, always=True)
    await storage.delete("session/s/scopes/agent/a/snapshots/snapshot_latest.json")
    assert await storage.set_prefix_expiry("session/s/", timedelta(days=1)) == 1
    with SessionCatalog(db_path) as catalog:
        catalog.restore_snapshot("s", "a", catalog.list_snapshots("s", "a")[-1].snapshot_id or "")
    assert raw.execute("SELECT count(*), count(expires_at) FROM storage").fetchone() == (2, 2)


async def test_pruning_keeps_the_last_of_whose_latest_has_expired(db_path: Path, storage: Any) -> None:
    """A dry run knows it too."""
    talking(storage, "s", ADA, BYE, always=True)
    await storage.set_expiry("session/s/scopes/agent/a/snapshots/snapshot_latest.json", PAST)
    with SessionCatalog(db_path) as catalog:
        plan = catalog.prune(keep_snapshots=0, dry_run=True)
        assert (plan.snapshots, plan.keys) == (1, 1)
        assert catalog.prune(keep_snapshots=0) == plan


async def test_an_older_snapshot_takes_the_place_of_a_latest_one_that_has_expired(
    db_path: Path, storage: Any, raw: sqlite3.Connection
) -> None:
    talking(storage, "s", ADA, always=True)
    (latest,) = [key for key in keys(raw, "s") if "latest" in key]
    await storage.set_expiry(latest, PAST)
    with SessionCatalog(db_path) as catalog:
        (snapshot,) = catalog.list_snapshots("s", "a")
        assert snapshot.snapshot_id is not None
        catalog.restore_snapshot("s", "a", snapshot.snapshot_id)
    assert texts(restored(storage, "s").messages) == list(ADA)


def test_it_is_deleted_step_by_step(expired: Any, storage: Any, raw: sqlite3.Connection) -> None:
    database_of(storage).next_sweep = 0.0
    assert len(keys(raw)) == 4
    for _ in range(3):
        talking(storage, "there", BYE)
    assert keys(raw) == []
    assert raw.execute("SELECT session_id FROM sessions").fetchall() == [("there",)]


def test_prune_deletes_it(expired: Any, raw: sqlite3.Connection) -> None:
    assert expired.prune(dry_run=True).session_ids == ["gone"]
    pruned = expired.prune()
    assert (pruned.session_ids, pruned.messages) == (["gone"], 4)
    assert keys(raw) == []


class TestKeys:
    """Keys that expire by themselves."""

    async def test_are_hidden_and_deleted(self, storage: Any, raw: sqlite3.Connection) -> None:
        for key in ("a/gone", "a/there", "ab"):
            await storage.write(key, b"tea")
        assert await storage.set_expiry("a/gone", PAST)
        assert not await storage.set_expiry("a/gone", None)
        assert not await storage.set_expiry("nothing", PAST)
        assert await storage.read("a/gone") is None
        assert await storage.list() == ["a/there", "ab"]
        assert sorted(hit.key for hit in await storage.search("tea")) == ["a/there", "ab"]
        database_of(storage).next_sweep = 0.0
        await storage.write("b", b"")
        assert raw.execute("SELECT count(*) FROM storage").fetchone() == (3,)

    async def test_of_a_prefix(self, storage: Any) -> None:
        for key in ("a/b", "a/c", "ab"):
            await storage.write(key, b"tea")
        view = storage.namespace("a")
        assert await view.set_prefix_expiry("", timedelta(days=1)) == 2
        assert await storage.set_prefix_expiry("a/", PAST) == 2
        assert await storage.list() == ["ab"]

    async def test_writing_again_puts_off_nothing_and_begins_anew_what_was_gone(
        self, storage: Any, raw: sqlite3.Connection
    ) -> None:
        for key, when in (("later", timedelta(days=1)), ("gone", PAST)):
            await storage.write(key, b"old")
            await storage.set_expiry(key, when)
            await storage.write(key, b"new")
            assert await storage.read(key) == b"new"
        stored = dict(raw.execute("SELECT key, expires_at IS NULL FROM storage").fetchall())
        assert stored == {"later": 0, "gone": 1}

    async def test_one_that_has_expired_is_no_conflict(self, db_path: Path, storage: Any) -> None:
        with type(storage)(db_path, detect_conflicts=True) as careful:
            await careful.write("k", b"old")
            await careful.set_expiry("k", PAST)
            assert await careful.read("k") is None
            await careful.write("k", b"new")
            assert await careful.read("k") == b"new"

    async def test_prune_counts_them(self, storage: Any, db_path: Path, raw: sqlite3.Connection) -> None:
        await storage.write("k", b"12345")
        await storage.write("stays", b"")
        await storage.set_expiry("k", PAST)
        # Which is not that of keys of no session.
        raw.execute(
            "INSERT INTO sessions (session_id, session_type, created_at, updated_at, expires_at)"
            " VALUES ('', 'AGENT', '2020', '2020', '2020')"
        )
        with SessionCatalog(db_path) as catalog:
            for dry_run in (True, False):
                pruned = catalog.prune(dry_run=dry_run)
                assert (pruned.keys, pruned.session_ids) == (1, [""])
        assert raw.execute("SELECT key FROM storage").fetchall() == [("stays",)]
