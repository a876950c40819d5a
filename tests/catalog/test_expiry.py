"""Sessions that expire: hidden at once, and deleted step by step."""

import io
import sqlite3
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from catalog_helpers import add_session, ids
from strands.session.file_session_manager import FileSessionManager
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionType

from helpers import FakeMultiAgent, make_agent, text_message, texts
from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository, _expiry
from strands_sqlite_session_manager._engine.holder import database_of
from strands_sqlite_session_manager.catalog import SessionCatalog, SessionSummary, Usage
from strands_sqlite_session_manager.transfer import copy_session, export_file_sessions, export_jsonl, import_jsonl

# SQLite's clock counts milliseconds.
PAST = timedelta(seconds=-1)
TOMORROW = datetime.now(timezone.utc) + timedelta(days=1)


@pytest.fixture
def expired(catalog: SessionCatalog, empty: SQLiteSessionRepository) -> SessionCatalog:
    """A catalog in which the session `gone` has expired, and `there` has not."""
    for session_id in ("gone", "there"):
        add_session(empty, session_id, messages=2)
        empty.create_multi_agent(session_id, FakeMultiAgent("g", {}))
    catalog.update_metadata("gone", user="42")
    catalog.set_expiry("gone", PAST)
    catalog.set_expiry("there", TOMORROW)
    return catalog


class TestSetting:
    def test_is_told(self, expired: SessionCatalog) -> None:
        (entry,) = expired.list_sessions().sessions
        assert entry.expires_at == described(expired, "there").expires_at == TOMORROW.isoformat()
        expired.set_expiry("there", None)
        assert expired.list_sessions().sessions[0].expires_at is None

    def test_is_no_activity(self, catalog: SessionCatalog, empty: SQLiteSessionRepository) -> None:
        add_session(empty, "s")
        before = catalog.list_sessions().sessions[0].updated_at
        catalog.set_expiry("s", timedelta(days=1))
        assert catalog.list_sessions().sessions[0].updated_at == before

    def test_a_span_counts_from_now(self, catalog: SessionCatalog, empty: SQLiteSessionRepository) -> None:
        add_session(empty, "s")
        earliest = datetime.now(timezone.utc) + timedelta(days=30)
        catalog.set_expiry("s", timedelta(days=30))
        expires_at = catalog.list_sessions().sessions[0].expires_at
        assert expires_at is not None
        assert earliest <= datetime.fromisoformat(expires_at) < earliest + timedelta(minutes=10)

    @pytest.mark.parametrize("bad", [datetime(2026, 1, 1), "30d", 30, timedelta.max])
    def test_refuses_what_is_no_time(self, catalog: SessionCatalog, empty: SQLiteSessionRepository, bad: Any) -> None:
        add_session(empty, "s")
        with pytest.raises(ValueError, match="expires_at="):
            catalog.set_expiry("s", bad)

    @pytest.mark.parametrize("session_id", ["gone", "nobody"])
    def test_of_what_is_not_there_raises(self, expired: SessionCatalog, session_id: str) -> None:
        """Nobody brings back what has expired: part of it may be deleted."""
        with pytest.raises(SessionException, match=f"Session {session_id} does not exist"):
            expired.set_expiry(session_id, None)


READS: dict[str, Any] = {
    "list": lambda c: ids(c.list_sessions()) == ["there"],
    "list by age": lambda c: ids(c.list_sessions(order="created")) == ["there"],
    "list by prefix": lambda c: ids(c.list_sessions(prefix="g")) == [],
    "count": lambda c: c.count_sessions() == 1,
    "describe": lambda c: c.describe("gone") is None,
    "contents": lambda c: list(c.contents(["gone", "there"])) == ["there"],
    "describe_agent": lambda c: c.describe_agent("gone", "a") is None,
    "revisions": lambda c: list(c.revisions([("gone", "a"), ("there", "a")])) == [("there", "a")],
    "search": lambda c: {hit.session_id for hit in c.search("text")} == {"there"},
    "search in it": lambda c: c.search("text", session_id="gone") == [],
    "usage": lambda c: list(c.usage(by="session")) == ["there"],
    "usage of it": lambda c: c.usage("gone") == Usage(0, 0, 0, 0, 0, 0),
}

RAISES: dict[str, Any] = {
    "list_agents": lambda c: c.list_agents("gone"),
    "list_multi_agents": lambda c: c.list_multi_agents("gone"),
    "history": lambda c: c.history("gone", "a"),
    "undo": lambda c: c.undo_turns("gone", "a"),
    "fork": lambda c: c.fork_session("gone", "copy"),
    "rename": lambda c: c.rename_session("gone", "new"),
    "set_metadata": lambda c: c.set_metadata("gone", {}),
    "update_metadata": lambda c: c.update_metadata("gone", a=1),
    "list_snapshots": lambda c: c.list_snapshots("gone", "a"),
    "export": lambda c: export_jsonl(SQLiteSessionRepository.on(c), io.StringIO(), session_ids=["gone"]),
}


class TestHiding:
    @pytest.mark.parametrize("read", READS.values(), ids=READS)
    def test_the_catalog_does_not_find_it(self, expired: SessionCatalog, read: Any) -> None:
        assert read(expired)

    @pytest.mark.parametrize("call", RAISES.values(), ids=RAISES)
    def test_what_names_it_raises(self, expired: SessionCatalog, call: Any) -> None:
        with pytest.raises(SessionException, match=r"gone does not exist|'gone'.*does not exist"):
            call(expired)

    def test_the_repository_does_not_find_it(self, expired: SessionCatalog, empty: SQLiteSessionRepository) -> None:
        assert empty.read_session("gone") is None
        assert empty.read_agent("gone", "a") is None
        assert empty.read_message("gone", "a", 0) is None
        assert empty.read_latest_message("gone", "a") is None
        assert empty.read_multi_agent("gone", "g") is None
        with pytest.raises(SessionException, match="Agent a in session gone does not exist"):
            empty.list_messages("gone", "a")

    def test_a_reader_that_may_not_write_does_not_find_it(self, expired: SessionCatalog, db_path: Path) -> None:
        with SessionCatalog(db_path, read_only=True) as catalog:
            assert ids(catalog.list_sessions()) == ["there"]
            assert {hit.session_id for hit in catalog.search("text")} == {"there"}

    def test_exports_and_copies_of_all_leave_it_out(
        self, expired: SessionCatalog, empty: SQLiteSessionRepository, tmp_path: Path
    ) -> None:
        export_jsonl(empty, lines := io.StringIO())
        assert '"gone"' not in lines.getvalue()
        assert export_file_sessions(empty, tmp_path / "files").session_ids == ["there"]


class TestWriting:
    def test_a_new_session_can_have_its_id(
        self, expired: SessionCatalog, empty: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        """It begins with nothing of the old one, and does not expire."""
        empty.create_session(Session("gone", SessionType.AGENT))
        (count,) = raw.execute("SELECT count(*) FROM messages WHERE session_id = 'gone'").fetchone()
        assert count == 0
        summary = described(expired, "gone")
        assert (summary.agents, summary.metadata, summary.expires_at) == ([], {}, None)

    def test_a_manager_begins_anew(self, db_path: Path, catalog: SessionCatalog) -> None:
        with SQLiteSessionManager("s", db_path) as manager:
            make_agent(manager, "Hello, Ada.")("I am Ada.")
        catalog.set_expiry("s", PAST)
        with SQLiteSessionManager("s", db_path) as manager:
            agent = make_agent(manager, "Who are you?")
            assert agent.messages == []
            agent("Hello.")
        assert texts(catalog_messages(catalog, "s")) == ["Hello.", "Who are you?"]

    @pytest.mark.parametrize("new", ["rename", "fork", "copy", "import"])
    def test_another_session_can_take_its_id(
        self, expired: SessionCatalog, empty: SQLiteSessionRepository, new: str, tmp_path: Path
    ) -> None:
        if new == "rename":
            expired.rename_session("there", "gone")
        elif new == "fork":
            expired.fork_session("there", "gone")
        else:
            with SQLiteSessionRepository(tmp_path / "other.db") as other:
                add_session(other, "gone", messages=2)
                if new == "copy":
                    copy_session(other, empty, "gone")
                else:
                    export_jsonl(other, lines := io.StringIO())
                    import_jsonl(io.StringIO(lines.getvalue()), empty)
        assert len(expired.history("gone", "a")) == 2
        assert described(expired, "gone").metadata == {}

    def test_an_agent_at_work_is_told(self, db_path: Path, catalog: SessionCatalog) -> None:
        """Nothing is stored where nobody would find it, before and after it was deleted."""
        with SQLiteSessionManager("s", db_path) as manager:
            agent = make_agent(manager, "Hello.", "Again.", "Once more.")
            agent("I am Ada.")
            catalog.set_expiry("s", PAST)
            with pytest.raises(SessionException, match=r"Agent default in session s does not exist; .*has expired"):
                agent("Are you there?")
            agent.state.set("a", 1)
            with pytest.raises(SessionException, match="Agent default in session s does not exist"):
                manager.sync_agent(agent)
            catalog.prune()
            with pytest.raises(SessionException, match="Agent default in session s does not exist"):
                manager.sync_agent(agent)

    @pytest.mark.parametrize(
        "write",
        [
            lambda r: r.create_agent("gone", SessionAgent("b", {}, {})),
            lambda r: r.create_message("gone", "a", text_message(2)),
            lambda r: r.update_agent("gone", SessionAgent("a", {"x": 1}, {})),
            lambda r: r.create_multi_agent("gone", FakeMultiAgent("h", {})),
            lambda r: r.update_multi_agent("gone", FakeMultiAgent("g", {})),
            lambda r: r.update_message("gone", "a", text_message(1, "edited")),
        ],
        ids=["agent", "message", "update of an agent", "graph", "update of a graph", "update of a message"],
    )
    def test_nothing_is_written_into_it(
        self, expired: SessionCatalog, empty: SQLiteSessionRepository, write: Any
    ) -> None:
        with pytest.raises(SessionException, match=r"gone does not exist"):
            write(empty)

    def test_forks_copies_and_lines_keep_the_end(
        self, expired: SessionCatalog, empty: SQLiteSessionRepository, tmp_path: Path
    ) -> None:
        expired.fork_session("there", "fork")
        export_jsonl(empty, lines := io.StringIO(), session_ids=["there"])
        with SQLiteSessionRepository(tmp_path / "a.db") as copies, SQLiteSessionRepository(tmp_path / "b.db") as read:
            copy_session(empty, copies, "there")
            import_jsonl(io.StringIO(lines.getvalue()), read)
            for catalog, name in (
                (expired, "fork"),
                (SessionCatalog(session_repository=copies), "there"),
                (SessionCatalog(session_repository=read), "there"),
            ):
                assert described(catalog, name).expires_at == TOMORROW.isoformat()

    def test_a_copy_can_be_repeated_when_the_end_was_put_off(
        self, expired: SessionCatalog, empty: SQLiteSessionRepository, tmp_path: Path
    ) -> None:
        """What came since is copied. When a session ends is no content of it."""
        with SQLiteSessionRepository(tmp_path / "a.db") as copies:
            copy_session(empty, copies, "there")
            empty.create_message("there", "a", text_message(2))
            expired.set_expiry("there", timedelta(days=30))
            assert copy_session(empty, copies, "there").copied.messages == 1

    def test_files_that_have_no_place_for_it_are_reported(
        self, expired: SessionCatalog, empty: SQLiteSessionRepository, tmp_path: Path
    ) -> None:
        assert export_file_sessions(empty, tmp_path / "files").without_metadata == ["there"]
        assert FileSessionManager("there", storage_dir=str(tmp_path / "files")).read_session("there") is not None


def described(catalog: SessionCatalog, session_id: str) -> SessionSummary:
    """Return what a session is."""
    summary = catalog.describe(session_id)
    assert summary is not None
    return summary


def catalog_messages(catalog: SessionCatalog, session_id: str) -> list[Any]:
    """Return the messages of the agent `default`, the oldest first."""
    return [shown.message for shown in reversed(catalog.history(session_id, "default"))]


def left(raw: Any, session_id: str = "gone") -> dict[str, int]:
    """Return how many rows of a session there are."""
    tables = ("sessions", "agents", "messages", "multi_agents")
    return {
        table: raw.execute(f"SELECT count(*) FROM {table} WHERE session_id = ?", (session_id,)).fetchone()[0]
        for table in tables
    }


def _sizes(raw: Any) -> tuple[int, int]:
    """Return how many rows there are, and how many bytes of blobs."""
    counts = [raw.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in ("messages", "agents", "storage")]
    sums = [
        raw.execute(f"SELECT coalesce(sum(length({column})), 0) FROM {table}").fetchone()[0]
        for table, column in (("messages", "attachments"), ("storage", "data"))
    ]
    return sum(counts), sum(sums)


NOTHING = {"sessions": 0, "agents": 0, "messages": 0, "multi_agents": 0}


class TestSweeping:
    def test_those_who_write_later_delete_it_in_small_steps(
        self,
        expired: SessionCatalog,
        empty: SQLiteSessionRepository,
        raw: sqlite3.Connection,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        add_session(empty, "long", messages=5)
        expired.set_expiry("long", PAST)
        monkeypatch.setattr(_expiry, "_STEP", tuple(sql.replace("LIMIT 200", "LIMIT 3") for sql in _expiry._STEP))
        database_of(empty).next_sweep = 0.0
        counts = []
        for number in range(2, 6):
            empty.create_message("there", "a", text_message(number))
            counts.append(left(raw)["messages"] + left(raw, "long")["messages"])
        assert counts == [4, 1, 0, 0]
        assert left(raw) == left(raw, "long") == NOTHING
        assert left(raw, "there") == {"sessions": 1, "agents": 1, "messages": 6, "multi_agents": 1}

    @pytest.mark.parametrize("writer", ["a new session", "a manager's agent"])
    def test_every_writer_does(
        self, expired: SessionCatalog, db_path: Path, raw: sqlite3.Connection, writer: str
    ) -> None:
        with SQLiteSessionManager("new", db_path) as manager:
            if writer == "a manager's agent":
                database_of(manager).next_sweep = 0.0
                make_agent(manager, "Hello.")("I am Ada.")
        assert left(raw) == NOTHING

    def test_nobody_looks_again_within_a_minute(
        self, expired: SessionCatalog, empty: SQLiteSessionRepository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = [1000.0]
        monkeypatch.setattr(_expiry.time, "monotonic", lambda: clock[0])
        looks: list[str] = []
        query = database_of(empty).query
        monkeypatch.setattr(
            database_of(empty), "query", lambda sql, parameters=(): looks.append(sql) or query(sql, parameters)
        )
        database_of(empty).next_sweep = 0.0
        for number in range(2, 7):
            empty.create_message("there", "a", text_message(number))
        # The first deletes, and the second finds that there is nothing left.
        assert looks.count(_expiry._SOMETHING) == 2
        clock[0] += 61
        empty.create_message("there", "a", text_message(7))
        assert looks.count(_expiry._SOMETHING) == 3

    @pytest.mark.file_only
    def test_its_text_leaves_the_disk(
        self, catalog: SessionCatalog, empty: SQLiteSessionRepository, db_path: Path
    ) -> None:
        add_session(empty, "there")
        add_session(empty, "gone")
        empty.create_message("gone", "a", text_message(0, "The secret is 4711xyz."))
        assert catalog.search("4711xyz")
        catalog.set_expiry("gone", PAST)
        database_of(empty).next_sweep = 0.0
        empty.create_message("there", "a", text_message(0))
        for file in db_path.parent.glob("sessions.db*"):
            assert b"4711xyz" not in file.read_bytes()

    def test_a_failure_of_it_is_no_failure_of_the_write(
        self,
        expired: SessionCatalog,
        empty: SQLiteSessionRepository,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(_expiry, "_STEP", ("DELETE FROM no_such_table WHERE :now",))
        database_of(empty).next_sweep = 0.0
        empty.create_message("there", "a", text_message(2))
        assert empty.read_message("there", "a", 2) is not None
        assert "what has expired is hidden, and is removed later" in caplog.text

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "fill",
        [
            lambda raw: raw.execute(
                "INSERT INTO messages (session_id, agent_id, message_id, message, attachments, created_at, updated_at) "
                "WITH RECURSIVE n(n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM n WHERE n < 20) "
                "SELECT 'gone', 'a', n, '{}', zeroblob(500000), '2026-01-01', '2026-01-01' FROM n"
            ),
            lambda raw: raw.execute(
                "INSERT INTO storage (key, data, created_at, updated_at) "
                "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 500) "
                "SELECT 'context/gone/scopes/agent/a/t_' || n, zeroblob(9), '2026-01-01', '2026-01-01' FROM n"
            ),
            lambda raw: raw.execute(
                "INSERT INTO storage (key, data, created_at, updated_at) "
                "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 20) "
                "SELECT 'session/gone/scopes/agent/a/snapshots/immutable_history/snapshot_' || n || '.json', "
                "zeroblob(500000), '2026-01-01', '2026-01-01' FROM n"
            ),
            lambda raw: raw.execute(
                "INSERT INTO agents (session_id, agent_id, created_at, updated_at) "
                "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 500) "
                "SELECT 'gone', 'a' || n, '2026-01-01', '2026-01-01' FROM n"
            ),
        ],
        ids=["images", "stash", "snapshots", "agents"],
    )
    def test_a_step_is_small_whatever_it_is_full_of(
        self, expired: SessionCatalog, empty: SQLiteSessionRepository, raw: sqlite3.Connection, fill: Any
    ) -> None:
        """In rows and bytes, so that it keeps no writer waiting. From the first one on, all clocks agree."""
        fill(raw)
        before, steps = _sizes(raw), 0
        while _expiry.remove_some(database_of(empty)):
            after, steps = _sizes(raw), steps + 1
            assert before[0] - after[0] <= 5 * 200
            assert before[1] - after[1] <= 2 * 2_500_000
            if left(raw)["sessions"]:
                assert raw.execute("SELECT expires_at FROM sessions WHERE session_id = 'gone'").fetchone() == ("0",)
            before = after
        assert steps > 2
        assert left(raw) == NOTHING
        assert raw.execute("SELECT count(*) FROM storage").fetchone() == (0,)

    def test_what_is_read_of_another_does_not_depend_on_how_much_has_expired(
        self, expired: SessionCatalog, empty: SQLiteSessionRepository, raw: sqlite3.Connection, monkeypatch: Any
    ) -> None:
        """Each is looked up by its key."""
        statements: list[tuple[str, Any]] = []
        database = database_of(expired)
        query = database.query
        monkeypatch.setattr(
            database, "query", lambda sql, parameters=(): statements.append((sql, parameters)) or query(sql, parameters)
        )
        expired.describe("there")
        expired.describe_agent("there", "a")
        expired.list_agents("there")
        expired.list_multi_agents("there")
        expired.history("there", "a")
        expired.revisions([("there", "a")])
        expired.list_snapshots("there", "a")
        with SQLiteSessionRepository.on(expired) as repository:
            repository.read_session("there")
            repository.read_agent("there", "a")
            repository.list_messages("there", "a")
        asked = [statement for statement in statements if "expired_" in statement[0]]
        assert len(asked) > 8
        for sql, parameters in asked:
            plan = [step for *_, step in raw.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)]
            assert not any("_by_expiry" in step for step in plan), (sql, plan)

    @pytest.mark.file_only
    def test_a_key_that_is_no_text_goes_too(self, expired: SessionCatalog, raw: sqlite3.Connection) -> None:
        raw.execute("INSERT INTO storage (key, data, expires_at) VALUES (CAST(x'618041' AS TEXT), x'00', '2026-01-01')")
        assert expired.prune().keys == 1
        assert raw.execute("SELECT count(*) FROM storage").fetchone() == (0,)

    def test_prune_deletes_memories_too(self, expired: SessionCatalog, raw: sqlite3.Connection) -> None:
        raw.execute(
            "INSERT INTO memories (store, scope, content, expires_at, created_at, updated_at) "
            "VALUES ('f', 'u', 'a', '2026-01-01', '', ''), ('f', 'u', 'b', NULL, '', '')"
        )
        assert expired.prune(dry_run=True).memories == expired.prune().memories == 1
        assert raw.execute("SELECT content FROM memories").fetchall() == [("b",)]

    def test_prune_deletes_all_of_it(self, expired: SessionCatalog, raw: sqlite3.Connection) -> None:
        planned = expired.prune(dry_run=True)
        assert (planned.session_ids, planned.messages) == (["gone"], 2)
        assert left(raw)["messages"] == 2
        assert expired.prune() == planned
        assert left(raw) == NOTHING

    def test_a_dry_run_counts_keys_of_sessions_that_go_once(
        self, expired: SessionCatalog, raw: sqlite3.Connection
    ) -> None:
        """Also where they, or a snapshot of a session that stays, have expired by themselves."""
        for key, expires_at in (
            ("context/gone/scopes/agent/a/t_0", "2026-01-01"),
            ("session/gone/scopes/agent/b/snapshots/snapshot_latest.json", "2026-01-01"),
            ("session/left/scopes/agent/a/snapshots/snapshot_latest.json", None),
            ("session/left/scopes/agent/a/snapshots/immutable_history/snapshot_1.json", None),
            ("session/left/scopes/agent/a/snapshots/immutable_history/snapshot_2.json", "2026-01-01"),
        ):
            raw.execute("INSERT INTO storage VALUES (?, ?, '2025-01-01', '2025-01-01', x'7b7d')", (key, expires_at))
        planned = expired.prune(keep_snapshots=0, dry_run=True)
        assert (planned.session_ids, planned.keys, planned.snapshots) == (["gone"], 1, 1)
        assert expired.prune(keep_snapshots=0) == planned

    def test_prune_with_a_limit_counts_only_what_is_there(
        self, expired: SessionCatalog, empty: SQLiteSessionRepository
    ) -> None:
        """What has expired takes no place among the last active."""
        add_session(empty, "older", minutes=1)
        assert expired.prune(keep_last=2, dry_run=True).session_ids == ["gone"]
        assert expired.prune(keep_last=1).session_ids == ["gone", "older"]
