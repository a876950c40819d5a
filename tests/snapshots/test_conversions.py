"""Sessions from message logs to snapshots and back: what a built agent has is the same."""

import json
import re
import tracemalloc
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from snapshot_helpers import restored, talking  # isort: skip (skips all of this on an older SDK)

from strands import tool
from strands.agent.conversation_manager import SlidingWindowConversationManager, SummarizingConversationManager
from strands.multiagent import GraphBuilder
from strands.session import FileSessionManager, SnapshotSessionManager
from strands.storage import InMemoryStorage, LocalFileStorage
from strands.types.exceptions import SessionException, StorageError
from strands.types.session import Session, SessionAgent, SessionType

from helpers import ScriptedModel, make_agent, texts, tool_use
from strands_sqlite_session_manager import SessionConflictError, SQLiteSessionManager, SQLiteSessionRepository
from strands_sqlite_session_manager._catalog.snapshot_changes import new_snapshot_id
from strands_sqlite_session_manager.catalog import RecordCounts, SessionCatalog
from strands_sqlite_session_manager.storage import SQLiteStorage
from strands_sqlite_session_manager.transfer import (
    copy_session,
    export_file_sessions,
    export_jsonl,
    from_snapshots,
    import_jsonl,
    to_snapshots,
)

ADA = ("I am Ada.", "Hello, Ada.")
BYE = ("Bye.", "Goodbye.")
TURNS = (ADA, BYE, ("More.", "Yes."), ("Again.", "Yes."), ("And?", "No."))
PICTURE = {"image": {"format": "png", "source": {"bytes": b"\x89PNG"}}}


def what_it_has(agent: Any) -> Any:
    """Return everything that makes up an agent, as a snapshot has it."""
    return agent.take_snapshot(preset="session").data


def window() -> Any:
    """Return a conversation manager that keeps four messages."""
    return SlidingWindowConversationManager(window_size=4)


def summaries() -> Any:
    """Return a conversation manager that has the older half summarised."""
    return SummarizingConversationManager(preserve_recent_messages=2, summary_ratio=0.5)


@pytest.fixture
def other(tmp_path: Path) -> Any:
    """A storage in another file."""
    with SQLiteStorage(tmp_path / "snapshots.db") as other:
        yield other


@pytest.fixture
def back(tmp_path: Path) -> Any:
    """A repository in a third file."""
    with SQLiteSessionRepository(tmp_path / "back.db") as back:
        yield back


def said(db_path: Path, *turns: tuple[Any, str], **options: Any) -> Any:
    """Return an agent of the tables after some turns."""
    with SQLiteSessionManager("s", db_path) as manager:
        agent = make_agent(manager, *(answer for _, answer in turns), agent_id="a", **options)
        for question, _ in turns:
            agent(question)
    return agent


def rebuilt(db_path: Any, **options: Any) -> Any:
    """Return an agent as a new process would build it from the tables."""
    with SQLiteSessionManager("s", db_path) as manager:
        return make_agent(manager, agent_id="a", **options)


class TestThereAndBack:
    def check(self, db_path: Path, other: Any, back: Any, tmp_path: Path, manager: Any = lambda: None) -> Any:
        """Convert there and back, each twice, and compare what agents have."""
        make = manager

        def options() -> Any:
            return {"conversation_manager": made} if (made := make()) else {}

        before = what_it_has(rebuilt(db_path, **options()))
        with SQLiteSessionRepository(db_path) as source:
            report = to_snapshots(source, other, "s")
            again = to_snapshots(source, other, "s")
        assert (again.already_there, again.converted) == (report.converted, RecordCounts(0, 0, 0, 0))
        assert what_it_has(restored(other, "s", **options())) == before
        there = from_snapshots(other, back, "s")
        again_back = from_snapshots(other, back, "s")
        assert (again_back.converted.agents, again_back.converted.messages) == (0, 0)
        assert again_back.already_there.messages == there.converted.messages
        assert what_it_has(rebuilt(tmp_path / "back.db", **options())) == before
        return report

    def test_of_a_plain_conversation(self, db_path: Path, other: Any, back: Any, tmp_path: Path) -> None:
        """Messages with images, tracking ids and metadata, and the state."""
        said(db_path, ADA, ([{"text": "Look."}, PICTURE], "A cat."), state={"color": "red"})
        report = self.check(db_path, other, back, tmp_path)
        assert report.converted == RecordCounts(1, 1, 4, 0)
        assert report.left_out == []

    def test_of_a_window(self, db_path: Path, other: Any, back: Any, tmp_path: Path) -> None:
        """What the agent does not have any more is told, and stays in the source."""
        said(db_path, *TURNS, conversation_manager=window())
        report = self.check(db_path, other, back, tmp_path, window)
        assert report.converted == RecordCounts(1, 1, 4, 0)
        assert report.left_out == ["6 messages of agent a that it does not have any more"]

    def test_of_a_summary(self, db_path: Path, other: Any, back: Any, tmp_path: Path) -> None:
        """The summary, which is in no row of the log, and the messages that it has left."""
        with SQLiteSessionManager("s", db_path) as manager:
            answers = [*(answer for _, answer in TURNS), "Summary of what was said."]
            agent = make_agent(manager, *answers, agent_id="a", conversation_manager=summaries())
            for question, _ in TURNS:
                agent(question)
            agent.conversation_manager.reduce_context(agent)
            manager.sync_agent(agent)
        assert texts(rebuilt(db_path, conversation_manager=summaries()).messages)[0] == "Summary of what was said."
        report = self.check(db_path, other, back, tmp_path, summaries)
        assert report.converted.messages == len(agent.messages)

    def test_of_edited_messages(self, db_path: Path, other: Any, back: Any, tmp_path: Path) -> None:
        """The live view is what counts: changed, removed and added messages."""
        with SQLiteSessionManager("s", db_path) as manager:
            agent = make_agent(manager, "Hello, Ada.", "Goodbye.", agent_id="a")
            agent("I am Ada.")
            agent("Bye.")
            agent.messages[0]["content"][0]["text"] = "I am Eve."
            del agent.messages[1]
            agent.messages.insert(0, {"role": "user", "content": [{"text": "Summary."}]})
            manager.sync_agent(agent)
        report = self.check(db_path, other, back, tmp_path)
        assert report.converted.messages == 4
        assert report.left_out == ["1 messages of agent a that it does not have any more"]
        assert texts(restored(other, "s").messages) == ["Summary.", "I am Eve.", "Bye.", "Goodbye."]

    def test_of_an_interrupt(self, db_path: Path, other: Any, back: Any, tmp_path: Path) -> None:
        """The agent goes on where it was interrupted, in snapshots and back."""

        @tool(context=True)
        def pay(tool_context: Any) -> str:
            """Pay."""
            return f"paid: {tool_context.interrupt('approve')}"

        with SQLiteSessionManager("s", db_path) as manager:
            agent = make_agent(manager, [tool_use("pay", "1")], agent_id="a", tools=[pay])
            (interrupt,) = agent("Pay it.").interrupts
        self.check(db_path, other, back, tmp_path)
        answer: Any = [{"interruptResponse": {"interruptId": interrupt.id, "response": "yes"}}]
        for resumed in (
            restored(other, "s", tools=[pay]),
            make_agent(SQLiteSessionManager("s", tmp_path / "back.db"), agent_id="a", tools=[pay]),
        ):
            resumed.model = ScriptedModel("Done.")
            assert resumed(answer).stop_reason == "end_turn"
            assert "paid: yes" in str(resumed.messages)

    def test_of_a_graph(self, db_path: Path, other: Any, back: Any) -> None:
        """Its state is the same, and it is not run again."""

        def graph(session_manager: Any) -> Any:
            builder = GraphBuilder()
            builder.add_node(make_agent(None, "done", name="one"), "one")
            builder.set_graph_id("g")
            builder.set_max_node_executions(9)
            return builder.set_session_manager(session_manager).build()

        with SQLiteSessionManager("s", db_path) as manager:
            graph(manager)("Write.")
            state = manager.read_multi_agent("s", "g")
            assert to_snapshots(manager, other, "s").converted.multi_agents == 1
        assert from_snapshots(other, back, "s").converted.multi_agents == 1
        assert back.read_multi_agent("s", "g") == state
        again = graph(SnapshotSessionManager("s", storage=other))
        again("Write.")
        assert again.serialize_state()["status"] == "completed"


class TestToSnapshots:
    def test_from_files(self, tmp_path: Path, other: Any) -> None:
        """Of a `FileSessionManager`, by the SDK's own rule, with its summary."""
        files = FileSessionManager("s", storage_dir=str(tmp_path / "files"))
        agent = make_agent(files, *(answer for _, answer in TURNS), agent_id="a", conversation_manager=window())
        for question, _ in TURNS:
            agent(question)
        report = to_snapshots(files, other, "s")
        before = make_agent(
            FileSessionManager("s", storage_dir=str(tmp_path / "files")), agent_id="a", conversation_manager=window()
        )
        assert what_it_has(restored(other, "s", conversation_manager=window())) == what_it_has(before)
        assert report.left_out == ["6 messages of agent a that it does not have any more"]

    @pytest.mark.parametrize("make", [InMemoryStorage, LocalFileStorage], ids=lambda make: make.__name__)
    def test_into_other_storages(self, db_path: Path, make: Any) -> None:
        """Any of the SDK's, and views of them, also within an event loop."""
        agent = said(db_path, ADA)
        storage = make()
        with SQLiteSessionRepository(db_path) as source:
            to_snapshots(source, storage, "s", new_id="t")
        assert restored(storage, "t").messages == agent.messages

    async def test_into_a_view(self, db_path: Path, other: Any) -> None:
        """Its prefix is used as it is, as the SDK does."""
        agent = said(db_path, ADA)
        view = other.namespace("tenant")
        with SQLiteSessionRepository(db_path) as source:
            to_snapshots(source, view, "s")
        assert await other.list("") == ["tenant/s/scopes/agent/a/snapshots/snapshot_latest.json"]
        assert restored(view, "s").messages == agent.messages

    def test_nothing_is_overwritten(self, db_path: Path, other: Any) -> None:
        """A snapshot that went on is kept, and the error says what to do."""
        said(db_path, ADA)
        with SQLiteSessionRepository(db_path) as source:
            to_snapshots(source, other, "s")
            agent = talking(other, "s", BYE)
            with pytest.raises(SessionConflictError, match="the target holds something else"):
                to_snapshots(source, other, "s")
        assert restored(other, "s").messages == agent.messages

    def test_in_one_database_an_id_is_one_session(self, db_path: Path, storage: Any) -> None:
        """Another id is needed there."""
        agent = said(db_path, ADA)
        with SQLiteSessionRepository(db_path) as source:
            with pytest.raises(ValueError, match="in one database"):
                to_snapshots(source, storage, "s")
            to_snapshots(source, storage, "s", new_id="t")
        assert restored(storage, "t").messages == agent.messages

    @pytest.mark.file_only
    @pytest.mark.parametrize("odd", ["a/b", "a\\b", "..", ".", " "])
    async def test_an_id_that_the_sdk_refuses_is_named(self, back: Any, other: Any, odd: str) -> None:
        """No agent could be built with what was stored under it. The SDK takes some for an agent alone."""
        for session_id, agent_id in ((odd, "a"), ("s", odd)):
            back.create_session(Session(session_id, SessionType.AGENT))
            back.create_agent(session_id, SessionAgent(agent_id, {}, {}))
            try:
                make_agent(SnapshotSessionManager(session_id, storage=InMemoryStorage()), "x", agent_id=agent_id)("y")
            except (ValueError, StorageError):
                with pytest.raises(ValueError, match=re.escape(repr(odd))):
                    to_snapshots(back, other, session_id)
                assert await other.list("") == []
            else:
                assert to_snapshots(back, other, session_id).converted.agents == 1
        assert to_snapshots(back, other, odd, new_id="t").converted.agents == 1

    def test_two_in_memory_are_two(self) -> None:
        """Though their paths are the same."""
        with SQLiteSessionRepository(":memory:") as source, SQLiteStorage(":memory:") as target:
            with SQLiteSessionManager("s", session_repository=source) as manager:
                agent = make_agent(manager, "Hello, Ada.", agent_id="a")
                agent("I am Ada.")
            to_snapshots(source, target, "s")
            assert restored(target, "s").messages == agent.messages

    async def test_a_stash_goes_along(self, db_path: Path, storage: Any, other: Any) -> None:
        """With its keys; a view has no place for it, and metadata none at all."""
        said(db_path, ADA)
        await storage.write("context/s/scopes/agent/a/t_0", b"[1]")
        SessionCatalog(db_path).set_metadata("s", {"x": 1})
        with SQLiteSessionRepository(db_path) as source:
            report = to_snapshots(source, other, "s", new_id="t")
            to_view = to_snapshots(source, other.namespace("n"), "s")
        assert await other.read("context/t/scopes/agent/a/t_0") == b"[1]"
        assert report.left_out == ["the metadata of the session, or when it expires"]
        assert "the stash of the session: 1 keys" in to_view.left_out[0]

    def test_what_is_not_there_is_named(self, back: Any, other: Any) -> None:
        """Sessions and agents."""
        with pytest.raises(SessionException, match="Session s does not exist"):
            to_snapshots(back, other, "s")
        with pytest.raises(SessionException, match="Session s does not exist"):
            from_snapshots(other, back, "s")


class TestFromSnapshots:
    def test_the_past_completes_the_log(self, other: Any, back: Any, tmp_path: Path) -> None:
        """Messages that left the window are in the log, once each and in order; the agent has what it had."""
        agent = talking(other, "s", *TURNS, always=True, conversation_manager=window())
        report = from_snapshots(other, back, "s")
        assert texts(back.list_messages("s", "a")) == [text for turn in TURNS for text in turn]
        assert report.converted == RecordCounts(1, 1, 10, 0)
        assert what_it_has(rebuilt(tmp_path / "back.db", conversation_manager=window())) == what_it_has(agent)

    @pytest.mark.file_only
    async def test_the_past_is_read_one_snapshot_at_a_time(self, other: Any, back: Any, tmp_path: Path) -> None:
        """Hundreds may not fit into memory. Of an agent that has nothing else, and in a view of a namespace."""
        view = other.namespace("tenant")
        agent = talking(view, "s", ("x" * 500_000, "Long."), ("y", "z"), always=True)
        for _ in range(10):
            await agent._session_manager.save_snapshot(agent, is_latest=False)
        await view.delete("s/scopes/agent/a/snapshots/snapshot_latest.json")
        tracemalloc.start()
        try:
            from_snapshots(view, back, "s")
            assert tracemalloc.get_traced_memory()[1] < 4_000_000
        finally:
            tracemalloc.stop()
        assert what_it_has(rebuilt(tmp_path / "back.db")) == what_it_has(agent)

    def test_a_past_that_was_restored(self, db_path: Path, storage: Any, back: Any, tmp_path: Path) -> None:
        """The log has both ways on; the agent has the one that it took."""
        talking(storage, "s", ADA, BYE, always=True)
        with SessionCatalog(db_path) as catalog:
            catalog.restore_snapshot("s", "a", catalog.list_snapshots("s", "a")[-1].snapshot_id)
        agent = talking(storage, "s", ("More.", "Yes."))
        from_snapshots(storage, back, "s")
        assert texts(back.list_messages("s", "a")) == [*ADA, *BYE, "More.", "Yes."]
        assert what_it_has(rebuilt(tmp_path / "back.db")) == what_it_has(agent)

    def test_within_one_database(self, db_path: Path, storage: Any) -> None:
        """The session becomes one of the tables, with its tags, and the snapshots stay."""
        agent = talking(storage, "s", ADA)
        with SessionCatalog(db_path) as catalog, SQLiteSessionRepository(db_path) as target:
            catalog.set_metadata("s", {"x": 1})
            from_snapshots(storage, target, "s")
            summary = catalog.describe("s")
            assert (summary.session_type, summary.message_count, summary.metadata) == ("AGENT", 2, {"x": 1})
            assert len(catalog.list_snapshots("s", "a")) == 1
        assert what_it_has(rebuilt(db_path)) == what_it_has(agent)

    def test_a_log_counts_more_than_a_snapshot_that_is_restored(self, db_path: Path, storage: Any) -> None:
        """Nothing is restored where no agent would go on from it."""
        talking(storage, "s", ADA, BYE, always=True)
        with SessionCatalog(db_path) as catalog, SQLiteSessionRepository(db_path) as target:
            from_snapshots(storage, target, "s")
            before = catalog.list_snapshots("s", "a")
            with pytest.raises(SessionException, match="Agent a in session s has a log of messages, which counts"):
                catalog.restore_snapshot("s", "a", str(before[-1].snapshot_id))
            assert catalog.list_snapshots("s", "a") == before

    def test_nothing_is_overwritten(self, other: Any, back: Any, tmp_path: Path) -> None:
        """An agent that is there already is kept."""
        talking(other, "s", ADA)
        said(tmp_path / "back.db", BYE)
        with pytest.raises(SessionConflictError, match="the target holds a different one"):
            from_snapshots(other, back, "s")
        assert texts(back.list_messages("s", "a")) == [*BYE]

    async def test_what_has_no_place_is_told(self, other: Any, back: Any) -> None:
        """The system prompt and what the application stored."""
        agent = talking(other, "s", ADA, system_prompt="Be brief.")
        past = agent.take_snapshot(preset="session", app_data={"x": 1})
        latest = agent.take_snapshot(preset="session", include=["system_prompt"])
        for name, snapshot in ((f"immutable_history/snapshot_{new_snapshot_id()}", past), ("snapshot_latest", latest)):
            key = f"session/s/scopes/agent/a/snapshots/{name}.json"
            await other.write(key, json.dumps(snapshot.to_dict()).encode())
        left_out = from_snapshots(other, back, "s").left_out
        assert left_out == ["the system prompt of agent a", "the app data of the snapshots of agent a"]

    async def test_parts_that_only_a_newer_sdk_knows_are_told(self, other: Any, back: Any, tmp_path: Path) -> None:
        """Both ways. What is empty is nothing."""
        content = talking(other, "s", ADA).take_snapshot(preset="session").to_dict()
        content["data"] |= {"plugins": {"x": 1}, "empty": {}, "interrupt_state": None}
        await other.write("session/s/scopes/agent/a/snapshots/snapshot_latest.json", json.dumps(content).encode())
        assert from_snapshots(other, back, "s").left_out == ["plugins of agent a"]
        assert texts(rebuilt(tmp_path / "back.db").messages) == [*ADA]
        agent = back.read_agent("s", "a")
        agent._internal_state["plugins"] = {"x": 1}
        back.update_agent("s", agent)
        assert to_snapshots(back, other, "s", new_id="t").left_out == ["plugins of agent a"]

    @pytest.mark.parametrize("new_id", ["s", "t"])
    async def test_stash_metadata_and_expiry_go_along(
        self, db_path: Path, storage: Any, back: Any, tmp_path: Path, new_id: str
    ) -> None:
        """Under the new id, in another file or the same, without what belongs to a session with a longer id."""
        talking(storage, "s", ADA)
        with SQLiteSessionRepository(db_path) as repository:
            repository.create_session(Session("s/scopes/agent/a", SessionType.AGENT))
        await storage.write("context/s/scopes/agent/a/t_0", b"[1]")
        await storage.write("context/s/scopes/agent/a/scopes/agent/a/t_0", b"[2]")
        with SessionCatalog(db_path) as catalog:
            catalog.set_metadata("s", {"x": 1})
            catalog.set_expiry("s", timedelta(days=30))
            before = catalog.describe("s")
        same = SQLiteSessionRepository(db_path)
        for target in (back, same):
            for copied in (1, 0):
                report = from_snapshots(storage, target, "s", new_id=new_id)
                assert report.left_out == []
                is_there = target is same and new_id == "s"
                assert report.converted.storage == (0 if is_there else copied)
                after = SessionCatalog(session_repository=target).describe(new_id)
                assert (after.metadata, after.expires_at) == ({"x": 1}, before.expires_at)
        same.close()
        with SQLiteStorage(tmp_path / "back.db") as stored:
            for target_storage in (stored, storage):
                keys = await target_storage.list(f"context/{new_id}/")
                assert f"context/{new_id}/scopes/agent/a/t_0" in keys
                assert await target_storage.read(f"context/{new_id}/scopes/agent/a/t_0") == b"[1]"
            assert await stored.list("context/") == [f"context/{new_id}/scopes/agent/a/t_0"]

    async def test_a_stash_is_never_replaced(self, other: Any, back: Any, tmp_path: Path) -> None:
        """Nor are the tags that the target has, which is told."""
        talking(other, "s", ADA)
        await other.write("context/s/scopes/agent/a/t_0", b"[1]")
        SessionCatalog(tmp_path / "snapshots.db").set_metadata("s", {"x": 1})
        from_snapshots(other, back, "s")
        SessionCatalog(session_repository=back).set_metadata("s", {"x": 2})
        left_out = ["the metadata of the session, or when it expires, which the target has otherwise"]
        assert from_snapshots(other, back, "s").left_out == left_out
        with SQLiteStorage(tmp_path / "back.db") as stored:
            await stored.write("context/s/scopes/agent/a/t_0", b"[2]")
            with pytest.raises(SessionConflictError, match="the target holds a different one"):
                from_snapshots(other, back, "s")
            assert await stored.read("context/s/scopes/agent/a/t_0") == b"[2]"

    @pytest.mark.parametrize("make", [LocalFileStorage, None], ids=["files", "view"])
    async def test_a_stash_of_other_storages(
        self, make: Any, other: Any, back: Any, tmp_path: Path, monkeypatch: Any
    ) -> None:
        """It goes along where it lies beside the snapshots, else it is told."""
        pytest.importorskip("strands._context_manager.context_manager", reason="this SDK has no context manager")
        monkeypatch.setattr(ScriptedModel, "get_config", lambda _: {"context_window_limit": 20_000})
        storage = make() if make else other.namespace("tenant")
        agent = talking(storage, "s", ADA, storage=storage, context_manager="auto")
        refs = await storage.list("context/s/scopes/agent/a/")
        assert len(refs) == len(agent.messages)
        report = from_snapshots(storage, back, "s")
        assert (report.left_out, report.converted.storage) == ([], len(refs))
        with SQLiteStorage(tmp_path / "back.db") as stored:
            assert await stored.list("context/") == refs
        talking(storage, "t", ADA, storage=LocalFileStorage("elsewhere"), context_manager="auto")
        assert from_snapshots(storage, back, "t").left_out == [
            "the stash of agent a, which is not in the storage of the snapshots"
        ]

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("scope", "changes"),
        [
            ("agent", {"created_at": "garbage"}),
            ("agent", {"created_at": 5}),
            ("agent", {"created_at": "2026-01-31"}),
            ("agent", {"data": {"messages": {}}}),
            *(
                ("agent", {"data": {"messages": [], name: [1]}})
                for name in ("state", "conversation_manager_state", "interrupt_state", "model_state", "stash")
            ),
            ("agent", {"data": {"messages": [], "conversation_manager_state": {"summary_message": [1]}}}),
            ("agent", {"schema_version": "2.0"}),
            ("agent", {"scope": "multiAgent"}),
            ("multiAgent", {"created_at": "garbage"}),
            ("multiAgent", {"data": {"state": [1]}}),
        ],
    )
    async def test_an_odd_snapshot_is_named_before_anything_is_stored(
        self, other: Any, back: Any, scope: str, changes: Any
    ) -> None:
        """Of an agent, a graph or a swarm: times and parts that are nothing that the SDK writes."""
        talking(other, "s", ADA)
        key = f"session/s/scopes/{scope}/z/snapshots/snapshot_latest.json"
        content = {"created_at": "2026-01-31T12:00:00.000Z", "data": {"state": {}}, **changes}
        await other.write(key, json.dumps(content).encode())
        with pytest.raises(SessionException, match=re.escape(key)):
            from_snapshots(other, back, "s")
        assert SessionCatalog(session_repository=back).count_sessions() == 0

    def test_leads_on_to_other_repositories(self, other: Any, back: Any, tmp_path: Path) -> None:
        """Only a session database is a target, and `copy_session` goes on from there."""
        agent = talking(other, "s", ADA)
        files = FileSessionManager("s", storage_dir=str(tmp_path / "files"))
        with pytest.raises(ValueError, match="must be a SQLiteSessionRepository"):
            from_snapshots(other, files, "s")  # type: ignore[arg-type]
        from_snapshots(other, back, "s")
        copy_session(back, files, "s")
        assert isinstance(files.read_agent("s", "a"), SessionAgent)
        files = FileSessionManager("s", storage_dir=str(tmp_path / "files"))
        assert make_agent(files, agent_id="a").messages == agent.messages


class TestOtherTransfers:
    """What moves sessions of messages moves those of snapshots too, as they are."""

    async def keys(self, storage: Any) -> Any:
        """Return all that a storage has."""
        return {key: await storage.read(key) for key in await storage.list("")}

    async def test_copies_between_databases(self, db_path: Path, storage: Any, other: Any, tmp_path: Path) -> None:
        """With past, stash and tags, and again for what is new."""
        talking(storage, "s", ADA, BYE, always=True)
        await storage.write("context/s/scopes/agent/a/t_0", b"[1]")
        SessionCatalog(db_path).set_metadata("s", {"x": 1})
        with (
            SQLiteSessionRepository(db_path) as source,
            SQLiteSessionRepository(tmp_path / "snapshots.db") as target,
            SessionCatalog(tmp_path / "snapshots.db") as catalog,
        ):
            copy_session(source, target, "s")
            assert await self.keys(other) == await self.keys(storage)
            assert catalog.list_sessions().sessions == SessionCatalog(db_path).list_sessions().sessions
            copy_session(source, target, "s")
            agent = talking(storage, "s", ("More.", "Yes."))
            with pytest.raises(SessionConflictError, match="a different one, which is kept"):
                copy_session(source, target, "s")
            assert len(restored(other, "s").messages) == len(agent.messages) - 2

    async def test_json_lines(self, db_path: Path, storage: Any, other: Any, tmp_path: Path) -> None:
        """The same bytes when they are read back, and a key of another session is refused."""
        talking(storage, "s", ADA, BYE, always=True)
        said(db_path, ADA).state.get()
        with (
            SQLiteSessionRepository(db_path) as source,
            SQLiteSessionRepository(tmp_path / "snapshots.db") as target,
        ):
            export_jsonl(source, "sessions.jsonl")
            import_jsonl("sessions.jsonl", target)
            assert await self.keys(other) == await self.keys(storage)
            text = Path("sessions.jsonl").read_text("utf-8").replace("session/s/scopes", "session/t/scopes")
            Path("others.jsonl").write_text(text, "utf-8")
            with pytest.raises(SessionException, match="not below the line of its session"):
                import_jsonl("others.jsonl", target)

    def test_files_have_no_place_for_them(self, db_path: Path, storage: Any, tmp_path: Path) -> None:
        """They are skipped, with what to do."""
        talking(storage, "s", ADA)
        with SQLiteSessionRepository(db_path) as source:
            (skipped,) = export_file_sessions(source, tmp_path / "files").skipped
        assert "from_snapshots" in skipped.reason
