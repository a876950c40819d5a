"""Sessions of snapshots in the catalog, beside those of the tables."""

import json
import re
import sqlite3
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from snapshot_helpers import restored, talking  # isort: skip (skips all of this on an older SDK)

from strands.multiagent import GraphBuilder
from strands.session import SnapshotSessionManager
from strands.types.exceptions import SessionException

from helpers import ScriptedModel, make_agent, texts
from strands_sqlite_session_manager import SessionConflictError, SQLiteSessionManager, maintenance
from strands_sqlite_session_manager._catalog import snapshot_changes
from strands_sqlite_session_manager._engine.holder import database_of
from strands_sqlite_session_manager.catalog import RecordCounts, SessionCatalog, Usage

ADA = ("I am Ada.", "Hello, Ada.")
BYE = ("Bye.", "Goodbye.")
LATEST = "session/{}/scopes/agent/a/snapshots/snapshot_latest.json"
TOMORROW = datetime.now(timezone.utc) + timedelta(days=1)


@pytest.fixture
def catalog(db_path: Path, storage: Any) -> Any:
    """A catalog of the database in which the snapshots lie."""
    with SessionCatalog(db_path) as catalog:
        yield catalog


class TestLists:
    def test_both_kinds_are_listed_by_activity(self, catalog: Any, storage: Any, db_path: Path) -> None:
        """A snapshot moves its session to the top as a message does, and the type tells the kinds apart."""
        talking(storage, "old", ADA)
        with SQLiteSessionManager("table", db_path) as manager:
            make_agent(manager, "Hello.")("Hi.")
        talking(storage, "new", ADA)
        sessions = catalog.list_sessions().sessions
        assert [(s.session_id, s.session_type) for s in sessions] == [
            ("new", "SNAPSHOT"),
            ("table", "AGENT"),
            ("old", "SNAPSHOT"),
        ]
        created = sessions[2].created_at
        talking(storage, "old", BYE)
        first = catalog.list_sessions(limit=1).sessions[0]
        assert (first.session_id, first.created_at) == ("old", created)
        assert first.updated_at > sessions[0].updated_at
        assert catalog.count_sessions() == 3

    async def test_other_keys_are_no_sessions(self, catalog: Any, storage: Any) -> None:
        """Memory, stash and keys that only look like it make no session."""
        for key in ("memory/facts/a.md", "context/s/scopes/agent/a/t", "session/notes.txt", "session", "sessions/x"):
            await storage.write(key, b"{}")
        assert catalog.list_sessions().sessions == []

    async def test_a_session_ends_with_its_last_snapshot(self, catalog: Any, storage: Any) -> None:
        """What the SDK deletes key by key is no session any more, and one whose id begins alike stays."""
        talking(storage, "s", ADA, always=True)
        talking(storage, "s2", ADA)
        await SnapshotSessionManager("s", storage=storage).delete_session()
        assert [s.session_id for s in catalog.list_sessions().sessions] == ["s2"]

    @pytest.mark.parametrize("session_id", ["scopes", "session", "agent"])
    async def test_an_id_may_be_a_word_of_the_keys(
        self, session_id: str, catalog: Any, storage: Any, raw: sqlite3.Connection
    ) -> None:
        """The session is listed, found, pruned, renamed, and hidden when it has expired."""
        talking(storage, session_id, ADA, BYE, always=True)
        assert [s.session_id for s in catalog.list_sessions().sessions] == [session_id]
        assert (catalog.describe(session_id).message_count, catalog.usage().message_count) == (4, 4)
        assert {found.session_id for found in catalog.search("Ada")} == {session_id}
        assert {found.session_id for found in catalog.search("Ada", session_id=session_id)} == {session_id}
        assert catalog.prune(keep_snapshots=1).snapshots == 1
        catalog.rename_session(session_id, "s")
        catalog.rename_session("s", session_id)
        assert catalog.fork_session(session_id, "s") == RecordCounts(1, 1, 4, 0)
        stash = f"context/{session_id}/scopes/agent/a/t_0"
        await storage.write(stash, b"{}")
        catalog.set_expiry(session_id, TOMORROW - timedelta(days=2))
        assert [await storage.read(key) for key in (LATEST.format(session_id), stash)] == [None, None]
        assert [s.session_id for s in catalog.list_sessions().sessions] == ["s"]
        assert catalog.prune().session_ids == [session_id]
        assert all(key.startswith("session/s/") for (key,) in raw.execute("SELECT key FROM storage"))
        talking(storage, session_id, ADA)
        await storage.delete(LATEST.format(session_id))
        assert [s.session_id for s in catalog.list_sessions().sessions] == ["s"]

    def test_metadata_is_kept_beside_snapshots(self, catalog: Any, storage: Any) -> None:
        """A session of snapshots is tagged and found by its tags, and the next turn leaves them."""
        talking(storage, "s", ADA)
        talking(storage, "t", ADA)
        catalog.set_metadata("s", {"team": "support"})
        talking(storage, "s", BYE)
        assert [s.session_id for s in catalog.list_sessions(metadata={"team": "support"}).sessions] == ["s"]

    def test_is_described_with_its_messages_and_tokens(self, catalog: Any, storage: Any) -> None:
        """Agents, number of messages and tokens are those of the latest snapshots."""
        agent = talking(storage, "s", ADA, BYE, always=True)
        summary = catalog.describe("s")
        assert (summary.agents, summary.multi_agents, summary.message_count) == (["a"], [], 4)
        taken = [m["metadata"]["usage"]["totalTokens"] for m in agent.messages if "metadata" in m]
        assert summary.usage.total_tokens == sum(taken)
        assert summary.usage.message_count == 4
        (listed,) = catalog.list_agents("s")
        assert (listed.agent_id, listed.message_count, listed.last_message_at) == ("a", 4, listed.updated_at)
        assert catalog.list_multi_agents("s") == []

    def test_graphs_are_listed(self, catalog: Any, storage: Any) -> None:
        """A graph's snapshot tells its status, and can be deleted."""
        builder = GraphBuilder()
        builder.add_node(make_agent(None, "done", name="one"), "one")
        builder.set_graph_id("g")
        builder.set_max_node_executions(9)
        builder.set_session_manager(SnapshotSessionManager("s", storage=storage))
        builder.build()("Write.")
        assert catalog.describe("s").multi_agents == ["g"]
        (graph,) = catalog.list_multi_agents("s")
        assert (graph.multi_agent_id, graph.kind, graph.status, graph.damage) == ("g", "graph", "completed", None)
        assert catalog.delete_multi_agent("s", "g") == RecordCounts(0, 0, 0, 1)
        assert catalog.describe("s") is None


class TestReading:
    def test_history_is_that_of_the_latest_snapshot(self, catalog: Any, storage: Any) -> None:
        """Pages go back from the end, and images are bytes."""
        agent = talking(storage, "s", ADA)
        agent.model = ScriptedModel("A cat.")
        agent([{"text": "What is it?"}, {"image": {"format": "png", "source": {"bytes": b"\x89PNG"}}}])
        shown = catalog.history("s", "a")
        assert [message.message_id for message in shown] == [3, 2, 1, 0]
        assert [message.message for message in shown[::-1]] == agent.messages
        assert [m.message_id for m in catalog.history("s", "a", limit=2, before=3)] == [2, 1]
        assert catalog.history("s", "a", before=0) == []

    def test_what_is_not_there_is_named(self, catalog: Any, storage: Any) -> None:
        """Another agent, and another snapshot."""
        talking(storage, "s", ADA)
        with pytest.raises(SessionException, match="Agent b in session s does not exist"):
            catalog.history("s", "b")
        with pytest.raises(SessionException, match="Snapshot x of agent a in session s does not exist"):
            catalog.history("s", "a", snapshot_id="x")

    @pytest.mark.parametrize(
        "damaged", [b'{"data": {"messages": [{}]}}', b'{"data": {"state": [1]}}', b'{"data": {"state": "x"}}', b"{"]
    )
    async def test_a_damaged_snapshot_takes_no_others_with_it(self, catalog: Any, storage: Any, damaged: bytes) -> None:
        """It is listed as damaged, history tells what is wrong, and everything else goes on."""
        agent = talking(storage, "s", ADA)
        past = await SnapshotSessionManager("s", storage=storage).save_snapshot(agent, is_latest=False)
        talking(storage, "t", ADA)
        await storage.write(LATEST.format("s"), damaged)
        with pytest.raises(SessionException, match="damaged snapshot"):
            catalog.diff_snapshots("s", "a", past)
        assert [(s.session_id, catalog.describe(s.session_id).message_count) for s in catalog.list_sessions().sessions]
        summary, (listed,) = catalog.describe("s"), catalog.list_agents("s")
        assert (summary.message_count, listed.message_count) == (0, 0)
        assert "damaged snapshot" in listed.damage == summary.damage
        with pytest.raises(SessionException, match="damaged snapshot"):
            catalog.history("s", "a")
        (shown,) = catalog.history("s", "a", with_damaged=True)
        assert "damaged snapshot" in shown.damage
        assert catalog.usage().message_count == 2
        assert {found.session_id for found in catalog.search("Ada")} == {"t"}

    @pytest.mark.parametrize("number", [float("nan"), float("inf")])
    def test_messages_count_beside_what_is_no_json_to_sqlite(self, catalog: Any, storage: Any, number: float) -> None:
        """As a tool returns it, and Python writes it."""
        talking(storage, "s", ADA, state={"number": number})
        assert catalog.contents(["s"])["s"].agents == {"a": 1}
        assert catalog.fork_session("s", "copy") == RecordCounts(1, 1, 2, 0)
        assert catalog.delete_session("s") == RecordCounts(1, 1, 2, 0)

    def test_usage_adds_up_both_kinds(self, catalog: Any, storage: Any, db_path: Path) -> None:
        """By session, agent and day."""
        agent = talking(storage, "s", ADA, BYE)
        tokens = sum(m["metadata"]["usage"]["totalTokens"] for m in agent.messages if "metadata" in m)
        with SQLiteSessionManager("t", db_path) as manager:
            make_agent(manager, "Hello.", agent_id="b")("Hi.")
        by_agent = catalog.usage(by="agent")
        assert list(by_agent) == [("s", "a"), ("t", "b")]
        assert (by_agent["s", "a"].total_tokens, by_agent["s", "a"].message_count) == (tokens, 4)
        total = catalog.usage()
        assert (total.message_count, total.total_tokens) == (6, tokens + by_agent["t", "b"].total_tokens)
        assert list(catalog.usage(by="day").values()) == [total]
        assert catalog.usage(since=TOMORROW) == Usage(0, 0, 0, 0, 0, 0)

    def test_search_finds_messages_of_both_kinds(self, catalog: Any, storage: Any, db_path: Path) -> None:
        """Each message for itself, in any form of the words, and what was undone or trimmed is not found."""
        talking(storage, "s", ("Where is my parcel?", "I have\nrefunded\nyour order."), ("Parcels!", "Order again."))
        with SQLiteSessionManager("t", db_path) as manager:
            make_agent(manager, "We refund it.", agent_id="a")("My orders?")
        found = catalog.search("refund orders")
        assert [(f.session_id, f.agent_id, f.message_id, f.role) for f in found] == [("s", "a", 1, "assistant")]
        assert "[refunded]" in found[0].snippet
        assert {(f.session_id, f.message_id) for f in catalog.search("refund")} == {("s", 1), ("t", 1)}
        assert {(f.session_id, f.message_id) for f in catalog.search("parcel", role="user")} == {("s", 0), ("s", 2)}
        assert catalog.search("parcel", role="assistant") == []
        assert catalog.search("parcel", session_id="t") == []
        assert catalog.search("parcel", agent_id="b") == []
        assert catalog.search("parcel", since=TOMORROW) == []
        assert catalog.search("parcel", metadata={"team": "x"}) == []
        assert len(catalog.search("parcel", limit=1)) == 1
        catalog.undo_turns("s", "a")
        assert {(f.session_id, f.message_id) for f in catalog.search("parcel")} == {("s", 0)}

    def test_search_finds_what_is_beyond_the_index(self, catalog: Any, storage: Any) -> None:
        """Of a long conversation, the end too."""
        filler = ("word " * 20_000, "again " * 20_000)
        talking(storage, "s", filler, ("Where is my parcel?", "There."))
        assert [f.message_id for f in catalog.search("parcel")] == [2]

    @pytest.mark.slow
    async def test_search_looks_through_few_of_those_that_are_longer_than_the_index(
        self, catalog: Any, storage: Any
    ) -> None:
        """The last stored to their end; any other is found by what is indexed of it, and then to its end too."""
        for number in range(30):
            content = [[{"text": text}] for text in ("Start.", "filler " * 15_000, f"The word {number}.", "The end.")]
            messages = [{"role": "user", "content": blocks} for blocks in content]
            messages[0]["content"] = [{"text": "Start. The end." if number == 3 else "Start."}]
            await storage.write(LATEST.format(f"s{number:02}"), json.dumps({"data": {"messages": messages}}).encode())
        last = [f"s{number}" for number in range(10, 30)]
        assert sorted({f.session_id for f in catalog.search("end", limit=100)}) == ["s03", *last]
        assert sorted(f.message_id for f in catalog.search("end", session_id="s03")) == [0, 3]
        assert [f.session_id for f in catalog.search("start", session_id="s05")] == ["s05"]
        assert [f.message_id for f in catalog.search("end", session_id="s05")] == [3]
        assert [f.session_id for f in catalog.search("word 29")] == ["s29"]
        assert len(catalog.search("start", limit=100)) == 30
        # What the search is not about does not take the place of what it is.
        for number in range(25):
            key = LATEST.format(f"t{number}").replace("/agent/a/", "/multiAgent/g/" if number % 2 else "/agent/b/")
            await storage.write(key, b'{"data": {"messages": []}}'.ljust(150_000))
        assert sorted({f.session_id for f in catalog.search("end", limit=100, agent_id="a")}) == ["s03", *last]

    @pytest.mark.file_only
    def test_stats_and_check_know_them(self, storage: Any, db_path: Path, raw: sqlite3.Connection) -> None:
        """A session's size is that of all its snapshots, and nothing is wrong."""
        talking(storage, "s", ADA, always=True)
        size = raw.execute("SELECT sum(length(data)) FROM storage").fetchone()[0]
        (largest,) = maintenance.stats(db_path).largest_sessions
        assert (largest.session_id, largest.messages) == ("s", 2)
        assert largest.size == size + len("{}")
        assert [finding for finding in maintenance.check(db_path) if finding.kind != "sqlite_version"] == []

    @pytest.mark.file_only
    async def test_check_names_each_damaged_one(
        self, catalog: Any, storage: Any, db_path: Path, raw: sqlite3.Connection
    ) -> None:
        """The latest, one of the past, and a graph's; what to do about the first is what it says."""
        talking(storage, "s", ADA, BYE, always=True)
        _, newest, oldest = (s.snapshot_id for s in catalog.list_snapshots("s", "a"))
        latest = LATEST.format("s")
        keys = [
            latest.replace("latest", newest).replace("snapshots/", "snapshots/immutable_history/"),
            latest,
            latest.replace("/agent/a/", "/multiAgent/g/"),
        ]
        for key in keys:
            await storage.write(key, b"{not json")
        await storage.write("memory/notes.json", b"{not json")  # Anybody's.
        damage = [finding for finding in maintenance.check(db_path) if finding.kind == "snapshot"]
        assert [(f.severity, f.table, f.key, f.repairable) for f in damage] == [
            ("error", "storage", (key,), False) for key in keys
        ]
        assert all("damaged snapshot" in finding.message for finding in damage)
        assert ["restore-snapshot" in finding.advice for finding in damage] == [False, True, False]
        catalog.restore_snapshot("s", "a", oldest)
        assert len(restored(storage, "s").messages) == 2
        raw.execute("DROP VIEW expired_keys")
        assert "unreadable" not in [finding.kind for finding in maintenance.check(db_path)]


class TestChanges:
    def test_delete_takes_all_of_it_from_the_disk(
        self, catalog: Any, storage: Any, db_path: Path, raw: sqlite3.Connection
    ) -> None:
        """All snapshots and the stash go, and those of a session whose id begins alike stay."""
        talking(storage, "s", ("The secret is 4711xyz.", "I see."), always=True)
        talking(storage, "s2", ADA)
        raw.execute("INSERT INTO storage VALUES ('context/s/scopes/agent/a/t_0', NULL, '2026', '2026', x'00')")
        assert catalog.search("4711xyz")
        assert catalog.delete_session("s") == RecordCounts(1, 1, 2, 0)
        assert [key for (key,) in raw.execute("SELECT key FROM storage")] == [LATEST.format("s2")]
        assert catalog.search("4711xyz") == []
        if isinstance(db_path, Path):
            for file in db_path.parent.glob("sessions.db*"):
                assert b"4711xyz" not in file.read_bytes()

    def test_delete_agent(self, catalog: Any, storage: Any, raw: sqlite3.Connection) -> None:
        """One agent's snapshots and stash go, the other's stay."""
        talking(storage, "s", ADA, always=True)
        talking(storage, "s", BYE, agent_id="ab")
        raw.execute("INSERT INTO storage VALUES ('context/s/scopes/agent/a/t_0', NULL, '2026', '2026', x'00')")
        assert catalog.delete_agent("s", "a") == RecordCounts(0, 1, 2, 0)
        assert catalog.describe("s").agents == ["ab"]
        assert raw.execute("SELECT count(*) FROM storage").fetchone() == (1,)
        with pytest.raises(SessionException, match="Agent a in session s does not exist"):
            catalog.delete_agent("s", "a")

    def test_rename(self, catalog: Any, storage: Any, db_path: Path) -> None:
        """The agent is restored under the new id, with tags and past; an id that is taken is refused."""
        agent = talking(storage, "s", ADA, always=True)
        talking(storage, "t", BYE)
        catalog.set_metadata("s", {"x": 1})
        with pytest.raises(SessionConflictError, match="Session t already exists"):
            catalog.rename_session("s", "t")
        catalog.rename_session("s", "new")
        assert restored(storage, "new").messages == agent.messages
        assert len(catalog.list_snapshots("new", "a")) == 2
        assert catalog.describe("new").metadata == {"x": 1}
        assert restored(storage, "s").messages == []

    def test_fork(self, catalog: Any, storage: Any) -> None:
        """The copy has all that the source has, and goes its own way."""
        agent = talking(storage, "s", ADA, BYE, always=True)
        catalog.set_metadata("s", {"x": 1})
        assert catalog.fork_session("s", "copy") == RecordCounts(1, 1, 4, 0)
        assert restored(storage, "copy").messages == agent.messages
        assert len(catalog.list_snapshots("copy", "a")) == 3
        assert catalog.describe("copy").metadata == {"x": 1}
        talking(storage, "copy", ("More.", "Yes."))
        assert len(restored(storage, "s").messages) == 4

    def test_fork_through_a_message(self, catalog: Any, storage: Any) -> None:
        """The copy ends there, and its past holds nothing of what came after."""
        agent = talking(storage, "s", ADA, BYE, always=True)
        assert catalog.fork_session("s", "copy", through={"a": 1}) == RecordCounts(1, 1, 2, 0)
        assert restored(storage, "copy").messages == agent.messages[:2]
        assert [s.snapshot_id for s in catalog.list_snapshots("copy", "a")] == [None]
        with pytest.raises(SessionException, match="Agent b"):
            catalog.fork_session("s", "other", through={"b": 1})

    @pytest.mark.parametrize("odd", ["a/b", "x/scopes/y", "a\\b", "..", ".", " "])
    def test_an_id_that_the_sdk_refuses(self, catalog: Any, storage: Any, db_path: Path, odd: str) -> None:
        """No agent could be built with what lay under it. Those of the tables can have it."""
        talking(storage, "s", ADA)
        for call in (catalog.rename_session, catalog.fork_session):
            with pytest.raises(ValueError, match=re.escape(repr(odd))):
                call("s", odd)
        assert [session.session_id for session in catalog.list_sessions().sessions] == ["s"]
        with SQLiteSessionManager("t", db_path) as manager:
            make_agent(manager, "Hello.")("Hi.")
        catalog.rename_session("t", odd)
        catalog.fork_session(odd, f"{odd}2")

    def test_prune_goes_by_activity(self, catalog: Any, storage: Any, db_path: Path, raw: sqlite3.Connection) -> None:
        """Old sessions of both kinds go, and are told with their messages and bytes."""
        talking(storage, "s", ADA)
        with SQLiteSessionManager("t", db_path) as manager:
            make_agent(manager, "Hello.")("Hi.")
        size = raw.execute("SELECT sum(length(data)) FROM storage").fetchone()[0]
        plan = catalog.prune(older_than=TOMORROW, dry_run=True)
        assert (plan.session_ids, plan.messages) == (["s", "t"], 4)
        assert plan.bytes > size
        assert catalog.prune(keep_last=1).session_ids == ["s"]
        assert raw.execute("SELECT count(*) FROM storage").fetchone() == (0,)

    def test_prune_of_snapshots(self, catalog: Any, storage: Any) -> None:
        """The newest of each agent stay, and the latest of all."""
        talking(storage, "s", ADA, BYE, ("More.", "Yes."), always=True)
        talking(storage, "s", ADA, always=True, agent_id="b")
        before = [s.snapshot_id for s in catalog.list_snapshots("s", "a")]
        plan = catalog.prune(keep_snapshots=1, dry_run=True)
        assert (plan.snapshots, plan.session_ids, plan.messages) == (2, [], 0)
        assert plan.bytes > 0
        assert catalog.prune(keep_snapshots=1, metadata={"x": 1}).snapshots == 0
        assert catalog.prune(keep_snapshots=1) == plan
        assert [s.snapshot_id for s in catalog.list_snapshots("s", "a")] == before[:2]
        assert len(catalog.list_snapshots("s", "b")) == 2

    @pytest.mark.parametrize(("name", "limit"), [("_BATCH", 2), ("BATCH_BYTES", 1)])
    def test_prune_of_snapshots_goes_in_small_batches(
        self, catalog: Any, storage: Any, monkeypatch: pytest.MonkeyPatch, name: str, limit: int
    ) -> None:
        """Of few snapshots and few bytes, so that writers get their turn."""
        talking(storage, "s", ADA, BYE, ("More.", "Yes."), always=True)
        monkeypatch.setattr(snapshot_changes, name, limit)
        deleted = []
        database = database_of(catalog)
        transaction = database.transaction
        monkeypatch.setattr(database, "transaction", lambda given: deleted.append(len(given)) or transaction(given))
        assert catalog.prune(keep_snapshots=0).snapshots == 3
        assert deleted == {"_BATCH": [2, 1], "BATCH_BYTES": [1, 1, 1]}[name]


class TestThePastAlone:
    @pytest.fixture
    async def past(self, catalog: Any, storage: Any) -> Any:
        """The ids of the snapshots of an agent that has no latest one, the newest first."""
        talking(storage, "s", ADA, BYE, always=True)
        await storage.delete(LATEST.format("s"))
        return [s.snapshot_id for s in catalog.list_snapshots("s", "a")]

    def test_is_listed(self, catalog: Any, past: Any) -> None:
        """Without messages, because an agent that is built has none."""
        (listed,) = catalog.list_agents("s")
        assert (listed.agent_id, listed.message_count, listed.last_message_at) == ("a", 0, None)
        assert listed.created_at == catalog.describe("s").created_at < listed.updated_at

    def test_what_needs_a_latest_snapshot_says_so(self, catalog: Any, past: Any) -> None:
        """And what to do. Nothing is made of a fork that would be empty."""
        for call in (
            lambda: catalog.history("s", "a"),
            lambda: catalog.undo_turns("s", "a"),
            lambda: catalog.fork_session("s", "copy", through=0),
            lambda: catalog.fork_session("s", "copy", through={"a": 0}),
        ):
            with pytest.raises(SessionException, match="Agent a in session s has no latest snapshot; `restore"):
                call()
        with pytest.raises(SessionException, match="Agent b in session s does not exist"):
            catalog.fork_session("s", "copy", through={"b": 0})
        assert catalog.describe("copy") is None
        assert catalog.fork_session("s", "copy").sessions == 1
        assert len(catalog.list_snapshots("copy", "a")) == len(past)
        catalog.restore_snapshot("s", "a", past[-1])
        assert catalog.fork_session("s", "cut", through=0) == RecordCounts(1, 1, 1, 0)

    async def test_one_of_several_is_left_out_of_a_fork_through_a_message(
        self, catalog: Any, storage: Any, past: Any
    ) -> None:
        talking(storage, "s", ADA, BYE, agent_id="b")
        assert catalog.fork_session("s", "cut", through=1) == RecordCounts(1, 1, 2, 0)

    def test_the_newest_is_not_pruned(self, catalog: Any, storage: Any, past: Any) -> None:
        """With it, the session would go, and all that is left of the agent."""
        talking(storage, "t", ADA, always=True)
        plan = catalog.prune(keep_snapshots=0, dry_run=True)
        assert (plan.snapshots, plan.session_ids) == (2, [])
        assert catalog.prune(keep_snapshots=0) == plan
        assert [s.snapshot_id for s in catalog.list_snapshots("s", "a")] == past[:1]
        assert [s.snapshot_id for s in catalog.list_snapshots("t", "a")] == [None]

    def test_is_deleted(self, catalog: Any, past: Any) -> None:
        """And counts as the agent that it is."""
        assert catalog.delete_agent("s", "a") == RecordCounts(0, 1, 0, 0)
        assert catalog.describe("s") is None


class TestBothKindsUnderOneId:
    def test_what_is_in_both_counts_once(self, catalog: Any, storage: Any, db_path: Path) -> None:
        """Whether it is forked or deleted, as it is described."""
        with SQLiteSessionManager("s", db_path) as manager:
            make_agent(manager, "Yes.", agent_id="a")("New?")
        talking(storage, "s", ADA, BYE)
        talking(storage, "s", BYE, agent_id="b")
        assert catalog.describe("s").message_count == 4
        assert catalog.fork_session("s", "copy") == RecordCounts(1, 2, 4, 0)
        assert catalog.prune(keep_last=1).messages == 4
        assert catalog.delete_session("copy") == RecordCounts(1, 2, 4, 0)

    def test_a_manager_of_the_tables_takes_up_the_session(self, catalog: Any, storage: Any, db_path: Path) -> None:
        """It begins with nothing, as it would without snapshots, keeps the tags, and the tables are what is shown."""
        talking(storage, "s", ADA)
        catalog.set_metadata("s", {"x": 1})
        with SQLiteSessionManager("s", db_path) as manager:
            agent = make_agent(manager, "Yes.", agent_id="a")
            assert agent.messages == []
            agent("New?")
        talking(storage, "s", BYE)
        summary = catalog.describe("s")
        assert (summary.session_type, summary.agents, summary.message_count) == ("AGENT", ["a"], 2)
        assert summary.metadata == {"x": 1}
        assert texts(m.message for m in catalog.history("s", "a")) == ["Yes.", "New?"]
        assert catalog.search("Ada") == []
        assert len(restored(storage, "s").messages) == 4
        assert [s.message_count for s in catalog.list_snapshots("s", "a")] == [4]

    def test_is_deleted_as_one(self, catalog: Any, storage: Any, db_path: Path, raw: sqlite3.Connection) -> None:
        """One id is one session."""
        with SQLiteSessionManager("s", db_path) as manager:
            make_agent(manager, "Yes.", agent_id="a")("New?")
        talking(storage, "s", ADA)
        assert catalog.delete_session("s") == RecordCounts(1, 1, 2, 0)
        assert raw.execute("SELECT count(*) FROM storage").fetchone() == (0,)
