"""Snapshots of the past: listed, compared, made the latest; and turns undone."""

from pathlib import Path
from typing import Any

import pytest

from snapshot_helpers import restored, talking  # isort: skip (skips all of this on an older SDK)

from strands import Agent
from strands.agent.conversation_manager import SummarizingConversationManager
from strands.session import SnapshotSessionManager
from strands.types.exceptions import SessionException

from helpers import Redaction, ScriptedModel, texts
from strands_sqlite_session_manager import SessionConflictError
from strands_sqlite_session_manager._catalog import snapshot_changes, snapshots
from strands_sqlite_session_manager._engine.holder import database_of
from strands_sqlite_session_manager.catalog import SessionCatalog

ADA = ("I am Ada.", "Hello, Ada.")
BYE = ("Bye.", "Goodbye.")
LATEST = "session/s/scopes/agent/a/snapshots/snapshot_latest.json"


@pytest.fixture
def catalog(db_path: Path, storage: Any) -> Any:
    """A catalog of the database in which the snapshots lie."""
    with SessionCatalog(db_path) as catalog:
        yield catalog


class TestList:
    async def test_the_latest_comes_first_then_the_newest(self, catalog: Any, storage: Any) -> None:
        """With the number of messages, bytes and what the application stored, by the ids that the SDK gives."""
        agent = talking(storage, "s", ADA, BYE, always=True)
        listed = catalog.list_snapshots("s", "a")
        assert [snapshot.message_count for snapshot in listed] == [4, 4, 2]
        manager = SnapshotSessionManager("s", storage=storage)
        ids = await manager.list_snapshot_ids(agent)
        assert [snapshot.snapshot_id for snapshot in listed] == [None, *ids[::-1]]
        assert listed[0].size == len(await storage.read(LATEST))
        assert listed[0].created_at >= listed[1].created_at > listed[2].created_at
        assert {(str(snapshot.app_data), snapshot.damage) for snapshot in listed} == {("{}", None)}

    def test_pages(self, catalog: Any, storage: Any) -> None:
        """Each begins where the one before it ended."""
        talking(storage, "s", ADA, BYE, always=True)
        latest, newest, oldest = catalog.list_snapshots("s", "a")
        assert catalog.list_snapshots("s", "a", limit=2) == [latest, newest]
        assert catalog.list_snapshots("s", "a", limit=2, before=newest.snapshot_id) == [oldest]
        assert catalog.list_snapshots("s", "a", before=oldest.snapshot_id) == []
        assert catalog.list_snapshots("s", "a", limit=0) == []

    async def test_a_damaged_one_says_so(self, catalog: Any, storage: Any) -> None:
        """And the others are shown."""
        talking(storage, "s", ADA, always=True)
        await storage.write(LATEST, b"\xff")
        listed = catalog.list_snapshots("s", "a")
        assert "damaged snapshot" in listed[0].damage
        assert [(s.message_count, s.damage is None) for s in listed] == [(0, False), (2, True)]

    def test_an_agent_that_is_not_there(self, catalog: Any) -> None:
        """Is named."""
        with pytest.raises(SessionException, match="Agent a in session s does not exist"):
            catalog.list_snapshots("s", "a")

    def test_history_of_one(self, catalog: Any, storage: Any) -> None:
        """Ends where the snapshot was taken."""
        talking(storage, "s", ADA, BYE, always=True)
        oldest = catalog.list_snapshots("s", "a")[-1].snapshot_id
        shown = catalog.history("s", "a", snapshot_id=oldest)
        assert texts(m.message for m in shown) == ["Hello, Ada.", "I am Ada."]


class TestDiff:
    def test_tells_messages_and_state(self, catalog: Any, storage: Any) -> None:
        """What was added, removed and changed between two, and from one to the latest."""
        talking(storage, "s", ADA, BYE, always=True)
        newest, oldest = (s.snapshot_id for s in catalog.list_snapshots("s", "a")[1:])
        diff = catalog.diff_snapshots("s", "a", oldest, newest)
        assert texts(m.message for m in diff.added) == ["Bye.", "Goodbye."]
        assert (diff.removed, diff.changed, diff.state_keys, diff.parts) == ([], [], [], [])
        back = catalog.diff_snapshots("s", "a", newest, oldest)
        assert texts(m.message for m in back.removed) == ["Bye.", "Goodbye."]
        agent = restored(storage, "s", system_prompt="Be brief.")
        agent.messages[0]["content"][0]["text"] = "I am Eve."
        agent.state.set("color", "red")
        agent.system_prompt = "Be kind."
        agent._session_manager.sync_agent(agent)
        diff = catalog.diff_snapshots("s", "a", newest)
        ((before, after),) = diff.changed
        assert texts([before.message, after.message]) == ["I am Ada.", "I am Eve."]
        assert (diff.added, diff.removed, diff.state_keys, diff.parts) == ([], [], ["color"], ["system_prompt"])


class TestRestore:
    def test_makes_it_the_latest_and_keeps_the_former(self, catalog: Any, storage: Any) -> None:
        """An agent goes on from there, and the way back is open."""
        agent = talking(storage, "s", ADA, BYE, always=True)
        oldest = catalog.list_snapshots("s", "a")[-1].snapshot_id
        former = catalog.restore_snapshot("s", "a", oldest)
        assert restored(storage, "s").messages == agent.messages[:2]
        listed = catalog.list_snapshots("s", "a")
        assert [s.message_count for s in listed] == [2, 4, 4, 2]
        assert listed[1].snapshot_id == former
        catalog.restore_snapshot("s", "a", former)
        assert restored(storage, "s").messages == agent.messages

    async def test_the_sdk_takes_the_id_of_the_former(self, catalog: Any, storage: Any) -> None:
        """It lists it as the newest, and restores it."""
        agent = talking(storage, "s", ADA, always=True)
        former = catalog.restore_snapshot("s", "a", catalog.list_snapshots("s", "a")[-1].snapshot_id)
        manager = SnapshotSessionManager("s", storage=storage)
        assert (await manager.list_snapshot_ids(agent))[-1] == former
        assert await manager.restore_snapshot(agent, snapshot_id=former)

    async def test_without_a_latest(self, catalog: Any, storage: Any) -> None:
        """A session of which only the past is left."""
        agent = talking(storage, "s", ADA, always=True)
        await storage.delete(LATEST)
        assert catalog.restore_snapshot("s", "a", catalog.list_snapshots("s", "a")[0].snapshot_id) is None
        assert restored(storage, "s").messages == agent.messages

    def test_a_turn_in_between_is_not_lost(self, catalog: Any, storage: Any) -> None:
        """What was read as the latest is not the latest any more: nothing is stored."""
        talking(storage, "s", ADA, always=True)
        former = snapshots.read(database_of(catalog), "s", "agent", "a")
        agent = talking(storage, "s", BYE)
        with pytest.raises(SessionConflictError, match="nothing was changed"):
            snapshot_changes.make_latest(database_of(catalog), former, former, b"{}")
        assert restored(storage, "s").messages == agent.messages
        assert len(catalog.list_snapshots("s", "a")) == 2


class TestUndo:
    def test_takes_the_last_turns_and_keeps_the_former(self, catalog: Any, storage: Any) -> None:
        """The agent goes on from what is left, and the former conversation is a snapshot of the past."""
        agent = talking(storage, "s", ADA, BYE, state={"color": "red"})
        assert catalog.undo_turns("s", "a", dry_run=True) == 2
        assert len(restored(storage, "s").messages) == 4
        assert catalog.undo_turns("s", "a") == 2
        after = restored(storage, "s")
        assert after.messages == agent.messages[:2]
        assert after.state.get() == {"color": "red"}
        former = catalog.list_snapshots("s", "a")[1].snapshot_id
        assert catalog.history("s", "a", snapshot_id=former)[0].message == agent.messages[3]
        assert catalog.undo_turns("s", "a", 5) == 2
        assert restored(storage, "s").messages == []
        assert catalog.undo_turns("s", "a") == 0

    def test_only_if_it_is_as_expected(self, catalog: Any, storage: Any) -> None:
        """Not if there are other messages by now, or the last is an answer."""
        talking(storage, "s", ADA)
        assert catalog.undo_turns("s", "a", message_count=3) == 0
        assert catalog.undo_turns("s", "a", only_unanswered=True) == 0
        assert catalog.undo_turns("s", "a", 0) == 0
        for wrong in ({"turns": -1}, {"message_count": -1}):
            with pytest.raises(ValueError, match="must be an int"):
                catalog.undo_turns("s", "a", **wrong)
        with pytest.raises(SessionException, match="Agent b"):
            catalog.undo_turns("s", "b")

    def test_a_question_that_failed_goes(self, catalog: Any, storage: Any) -> None:
        """With `only_unanswered`, so that it can be asked again."""
        talking(storage, "s", ADA)
        with pytest.raises(RuntimeError):
            talking(storage, "s", ("Bye.", RuntimeError("down")))  # type: ignore[arg-type]
        assert len(restored(storage, "s").messages) == 3
        assert catalog.undo_turns("s", "a", only_unanswered=True) == 1

    def test_a_summary_is_no_turn(self, catalog: Any, storage: Any) -> None:
        """It stays, with what is pinned before it: its manager knows of it, and what it stands for is gone already."""
        manager = SummarizingConversationManager(
            summary_ratio=0.8,
            preserve_recent_messages=2,
            summarization_agent=Agent(model=ScriptedModel("What was said."), callback_handler=None),
        )
        agent = talking(storage, "s", ADA, BYE, ("More.", "Yes."), conversation_manager=manager)
        manager.reduce_context(agent)
        agent._session_manager.sync_agent(agent)
        assert texts(agent.messages) == ["What was said.", "More.", "Yes."]
        assert catalog.undo_turns("s", "a", 4) == 2
        after = restored(storage, "s", conversation_manager=SummarizingConversationManager())
        assert after.messages == [after.conversation_manager.get_state()["summary_message"]]
        assert catalog.undo_turns("s", "a") == 0

    def test_redactions_are_shown_as_stored(self, catalog: Any, storage: Any) -> None:
        """The SDK stores what replaces the text alone."""
        talking(storage, "s", ("My number is 4711.", Redaction()))  # type: ignore[arg-type]
        assert texts(m.message for m in catalog.history("s", "a")) == ["[blocked]", "[user input redacted]"]
        assert catalog.search("4711") == []
