"""What the SDK's `SnapshotSessionManager` expects of a storage: the same of ours as of the SDK's own."""

from pathlib import Path
from typing import Any

import pytest

from snapshot_helpers import restored, talking  # isort: skip (skips all of this on an older SDK)

from strands.agent.conversation_manager import SlidingWindowConversationManager
from strands.session import SnapshotSessionManager
from strands.storage import LocalFileStorage
from strands.types.exceptions import SnapshotException

from helpers import Redaction, ScriptedModel, make_agent, texts
from strands_sqlite_session_manager.storage import SQLiteStorage

ADA = ("I am Ada.", "Hello, Ada.")
BYE = ("Bye.", "Goodbye.")
LATEST = "session/s/scopes/agent/a/snapshots/snapshot_latest.json"

MAKERS = {
    "LocalFileStorage": lambda path: LocalFileStorage(str(path / "files")),
    "SQLiteStorage": lambda path: SQLiteStorage(path / "sessions.db"),
    "detect_conflicts": lambda path: SQLiteStorage(path / "sessions.db", detect_conflicts=True),
}


@pytest.fixture(params=MAKERS)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Each of the storages."""
    return MAKERS[request.param](tmp_path)


class TestSnapshotSessionManager:
    def test_an_agent_comes_back(self, storage: Any) -> None:
        """With messages, bytes, state and system prompt."""
        agent = talking(storage, "s", ADA, state={"color": "red"}, system_prompt="Be brief.")
        agent.model = ScriptedModel("A cat.")
        agent([{"text": "What is it?"}, {"image": {"format": "png", "source": {"bytes": b"\x89PNG"}}}])
        again = restored(storage, "s")
        assert (again.messages, again.state.get()) == (agent.messages, {"color": "red"})
        assert again.system_prompt == "Be brief."
        assert restored(storage, "t").messages == []

    @pytest.mark.parametrize(("strategy", "kept"), [("message", 3), ("invocation", 3), ("trigger", 0)])
    def test_what_is_stored_of_a_turn_that_fails(self, storage: Any, strategy: Any, kept: int) -> None:
        """By the strategy: with "trigger", nothing without a trigger."""
        manager = SnapshotSessionManager("s", storage=storage, save_latest_on=strategy)
        agent = make_agent(manager, "Hello.", RuntimeError("down"), agent_id="a")
        agent("Hi.")
        with pytest.raises(RuntimeError):
            agent("Again.")
        assert len(restored(storage, "s").messages) == kept

    def test_a_window_is_stored_after_it_was_applied(self, storage: Any) -> None:
        """With each message stored too."""
        manager = SnapshotSessionManager("s", storage=storage, save_latest_on="message")
        window = SlidingWindowConversationManager(window_size=2)
        agent = make_agent(manager, "1", "2", "3", agent_id="a", conversation_manager=window)
        for question in "abc":
            agent(question)
        assert texts(restored(storage, "s", conversation_manager=SlidingWindowConversationManager()).messages) == [
            "c",
            "3",
        ]

    async def test_ids_of_the_past_come_in_pages(self, storage: Any) -> None:
        """The oldest first, none of them the latest."""
        agent = talking(storage, "s", ADA, BYE, ("More.", "Yes."), always=True)
        manager = SnapshotSessionManager("s", storage=storage)
        ids = await manager.list_snapshot_ids(agent)
        assert ids == sorted(ids)
        assert len(ids) == 3
        assert await manager.list_snapshot_ids(agent, limit=1, start_after=ids[0]) == [ids[1]]
        assert await manager.list_snapshot_ids(agent, start_after=ids[2]) == []

    async def test_goes_back_to_the_past_and_to_the_latest(self, storage: Any) -> None:
        """By id; what does not exist changes nothing."""
        agent = talking(storage, "s", ADA, BYE, always=True)
        manager = SnapshotSessionManager("s", storage=storage)
        oldest, _ = await manager.list_snapshot_ids(agent)
        assert await manager.restore_snapshot(agent, snapshot_id=oldest)
        assert texts(agent.messages) == [*ADA]
        assert not await manager.restore_snapshot(agent, snapshot_id="00000000-0000-7000-8000-000000000000")
        assert await manager.restore_snapshot(agent)
        assert texts(agent.messages) == [*ADA, *BYE]

    async def test_a_snapshot_by_hand_leaves_the_latest(self, storage: Any) -> None:
        """And its id leads back to it."""
        agent = talking(storage, "s", ADA)
        manager = SnapshotSessionManager("s", storage=storage)
        before = await storage.read(LATEST)
        agent.state.set("color", "red")
        snapshot_id = await manager.save_snapshot(agent, is_latest=False)
        assert await storage.read(LATEST) == before
        again = restored(storage, "s")
        assert again.state.get("color") is None
        assert await manager.restore_snapshot(again, snapshot_id=snapshot_id)
        assert again.state.get("color") == "red"

    async def test_a_redaction_is_stored_at_once(self, storage: Any) -> None:
        """The former text is in no snapshot, also where only a trigger stores."""
        manager = SnapshotSessionManager("s", storage=storage, save_latest_on="trigger")
        make_agent(manager, Redaction(), agent_id="a")("My number is 4711.")
        assert b"redacted" in await storage.read(LATEST)
        assert b"4711" not in await storage.read(LATEST)

    @pytest.mark.parametrize("data", [b"\xff", b"{", b"[]", b'{"schema_version": "9.9", "created_at": "", "data": {}}'])
    async def test_a_damaged_snapshot_is_named(self, storage: Any, data: bytes) -> None:
        """With the SDK's own error."""
        await storage.write(LATEST, data)
        with pytest.raises(SnapshotException):
            restored(storage, "s")

    async def test_a_session_is_deleted_alone(self, storage: Any) -> None:
        """With its stash; others stay, also one whose id begins alike."""
        talking(storage, "s", ADA, always=True)
        other = talking(storage, "s2", BYE)
        await storage.write("context/s/scopes/agent/a/t_0", b"1")
        await SnapshotSessionManager("s", storage=storage).delete_session()
        assert await storage.list("") == [LATEST.replace("/s/", "/s2/")]
        assert restored(storage, "s2").messages == other.messages

    async def test_views_keep_their_prefix(self, storage: Any) -> None:
        """Without `session/` before it, and apart from each other."""
        one, other = storage.namespace("one"), storage.namespace("other")
        talking(one, "s", ADA)
        assert await storage.list("") == ["one/s/scopes/agent/a/snapshots/snapshot_latest.json"]
        assert restored(other, "s").messages == []

    async def test_a_server_side_model_keeps_its_state(self, storage: Any) -> None:
        """And not the messages, which its server has."""
        model = ScriptedModel("Hello.", stateful=True)
        make_agent(SnapshotSessionManager("s", storage=storage), agent_id="a", model=model)("Hi.")
        again = make_agent(
            SnapshotSessionManager("s", storage=storage), agent_id="a", model=ScriptedModel(stateful=True)
        )
        assert again.messages == []
        assert again.take_snapshot(preset="session").data["model_state"] == {"response_id": "response-1"}
