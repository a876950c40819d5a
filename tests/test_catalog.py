"""Everything across sessions: what an application shows, changes and deletes."""

import base64
import json
import sqlite3
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strands.agent.conversation_manager import SlidingWindowConversationManager
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from helpers import make_agent, text_message, texts, tool_use
from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository
from strands_sqlite_session_manager._errors import SessionConflictError
from strands_sqlite_session_manager.catalog import SessionCatalog, SessionPage

NOW = datetime(2026, 6, 1, tzinfo=timezone.utc)


def at(minutes: float) -> str:
    return (NOW + timedelta(minutes=minutes)).isoformat()


def add_session(repository: SQLiteSessionRepository, session_id: str, minutes: float = 0, messages: int = 0) -> None:
    repository.create_session(Session(session_id, SessionType.AGENT, at(minutes), at(minutes)))
    repository.create_agent(session_id, SessionAgent("a", {}, {}, {}, at(minutes), at(minutes)))
    for number in range(messages):
        repository.create_message(session_id, "a", message(number, minutes))


def message(number: int, minutes: float = 0, **metadata: Any) -> SessionMessage:
    content: Any = {"role": "assistant" if number % 2 else "user", "content": [{"text": f"text {number}"}]}
    if metadata:
        content["metadata"] = metadata
    return SessionMessage(content, number, None, at(minutes), at(minutes))


@pytest.fixture
def empty(db_path: Path) -> Iterator[SQLiteSessionRepository]:
    with SQLiteSessionRepository(db_path) as repository:
        yield repository


@pytest.fixture
def catalog(empty: SQLiteSessionRepository) -> SessionCatalog:
    return SessionCatalog(session_repository=empty)


def escaped(character: str) -> str:
    """A character as JSON may write it too."""
    return f"\\u{ord(character):04x}"


def ids(page: SessionPage) -> list[str]:
    return [session.session_id for session in page.sessions]


def all_pages(catalog: SessionCatalog, **options: Any) -> list[list[str]]:
    pages, after = [], None
    while True:
        page = catalog.list_sessions(after=after, **options)
        pages.append(ids(page))
        after = page.next
        if after is None:
            return pages


class TestListSessions:
    @pytest.fixture(autouse=True)
    def _five_sessions(self, empty: SQLiteSessionRepository) -> None:
        for number, name in enumerate(["b", "a", "d", "c", "e"]):
            add_session(empty, name, number)

    def test_last_active_first(self, catalog: SessionCatalog, empty: SQLiteSessionRepository) -> None:
        assert ids(catalog.list_sessions()) == ["e", "c", "d", "a", "b"]
        empty.create_message("b", "a", message(0, 10))
        assert ids(catalog.list_sessions()) == ["b", "e", "c", "d", "a"]
        assert catalog.list_sessions(limit=1).sessions[0].updated_at == at(10)

    @pytest.mark.parametrize(
        ("order", "expected"), [("updated", "ecdab"), ("created", "ecdab"), ("session_id", "abcde")]
    )
    def test_pages_follow_on_from_each_other(self, catalog: SessionCatalog, order: Any, expected: str) -> None:
        assert all_pages(catalog, limit=2, order=order) == [list(expected[:2]), list(expected[2:4]), [expected[4]]]
        assert all_pages(catalog, limit=5, order=order) == [list(expected)]

    def test_sessions_of_the_same_moment_are_neither_lost_nor_doubled(
        self, catalog: SessionCatalog, empty: SQLiteSessionRepository
    ) -> None:
        for number in range(7):
            add_session(empty, f"same {number}", 100)
        listed = [name for page in all_pages(catalog, limit=3) for name in page]
        assert len(listed) == len(set(listed)) == 12

    def test_pages_are_stable_while_others_write(self, catalog: SessionCatalog, empty: SQLiteSessionRepository) -> None:
        first = catalog.list_sessions(limit=2)
        add_session(empty, "new", 50)
        empty.create_message("e", "a", message(0, 60))
        catalog.delete_session("d")
        assert ids(catalog.list_sessions(after=first.next)) == ["a", "b"]

    def test_filters(self, catalog: SessionCatalog) -> None:
        assert ids(catalog.list_sessions(updated_after=NOW + timedelta(minutes=3))) == ["e", "c"]
        assert ids(catalog.list_sessions(updated_before=NOW + timedelta(minutes=3))) == ["d", "a", "b"]
        assert catalog.count_sessions(updated_before=NOW + timedelta(minutes=3)) == 3
        elsewhere = timezone(timedelta(hours=5))
        assert catalog.count_sessions(updated_after=(NOW + timedelta(minutes=3)).astimezone(elsewhere)) == 2
        assert catalog.count_sessions() == 5

    @pytest.mark.parametrize(
        ("wanted", "found"),
        [
            ({"user": "42"}, "ae"),
            ({"user": 42}, "b"),
            ({"user": 42.0}, "b"),
            ({"user": "42", "vip": True}, "e"),
            ({"vip": 1}, "c"),
            ({"tags": ["x", "y"]}, "d"),
            ({"tags": '["x","y"]'}, ""),
            ({"note": None}, "b"),
            ({'a"b$.c': "ü"}, "d"),
            ({"missing": None}, ""),
            ({}, "abcde"),
        ],
    )
    def test_metadata_matches_equal_values(self, catalog: SessionCatalog, wanted: Any, found: str) -> None:
        catalog.set_metadata("a", {"user": "42"})
        catalog.set_metadata("b", {"user": 42, "note": None})
        catalog.set_metadata("c", {"vip": 1})
        catalog.set_metadata("d", {"tags": ["x", "y"], 'a"b$.c': "ü"})
        catalog.set_metadata("e", {"user": "42", "vip": True})
        assert "".join(ids(catalog.list_sessions(metadata=wanted, order="session_id"))) == found
        assert catalog.count_sessions(metadata=wanted) == len(found)

    def test_metadata_that_sqlite_reads_differently_matches_nothing(self, catalog: SessionCatalog) -> None:
        """It ends a text at a NUL, and makes a float of an integer beyond 64 bits."""
        catalog.set_metadata("a", {"user": "42\0mallory", "number": 2**64 + 1, "lo\0ng": 1})
        catalog.set_metadata("b", {"number": 2**64 + 1})
        for wanted in ({"user": "42"}, {"number": float(2**64)}, {"lo": 1}):
            assert catalog.count_sessions(metadata=wanted) == 0
        # What stands beside a NUL is found, and so is what only looks like one.
        catalog.set_metadata("c", {"user": "43", "note": "a\0b", "pattern": r"\u0000"})
        for metadata in ({"user": "43"}, {"pattern": r"\u0000"}):
            assert ids(catalog.list_sessions(metadata=metadata)) == ["c"]
        for wanted in ({"user": "42\0mallory"}, {"user": ["\0"]}, {"number": 2**64 + 1}, {"number": -(2**63) - 1}):
            with pytest.raises(ValueError, match=r"metadata=.*: SQLite cannot find"):
                catalog.count_sessions(metadata=wanted)

    @pytest.mark.parametrize("text", ["", "5", "a/b", 'a"b', "a\\b", "ü", "\u2028", "\ud800", "\n", "a','b"])
    def test_text_is_found_however_it_is_written(
        self, catalog: SessionCatalog, raw: sqlite3.Connection, text: str
    ) -> None:
        in_escapes = "".join(map(escaped, text))
        for name, written in (("a", json.dumps({"x": text})), ("b", f'{{"x": "{in_escapes}"}}')):
            raw.execute("UPDATE sessions SET metadata = ? WHERE session_id = ?", (written, name))
        catalog.set_metadata("c", {"x": text})
        assert ids(catalog.list_sessions(metadata={"x": text}, order="session_id")) == ["a", "b", "c"]

    def test_damaged_metadata_is_named(self, catalog: SessionCatalog, raw: sqlite3.Connection) -> None:
        raw.execute("UPDATE sessions SET metadata = '{' WHERE session_id = 'c'")
        assert catalog.count_sessions(metadata={"user": 1}) == 0
        with pytest.raises(SessionException, match=r"sessions \('c',\): damaged JSON"):
            catalog.list_sessions()

    @pytest.mark.parametrize(
        "options",
        [
            {"order": "size"},
            {"limit": -1},
            {"after": "nonsense"},
            {"after": "WyJ4Il0="},
            {"after": "MTIz"},
            {"after": "WyJ1cGRhdGVkIiwgMSwgMl0="},
            {"updated_after": datetime(2026, 1, 1)},
            {"prefix": "a\0"},
            {"prefix": 0},
            {"metadata": [1]},
            {"after": base64.urlsafe_b64encode(b"[" * 50_000).decode()},
        ],
    )
    def test_bad_arguments(self, catalog: SessionCatalog, options: Any) -> None:
        with pytest.raises(ValueError, match=next(iter(options))):
            catalog.list_sessions(**options)

    def test_a_cursor_belongs_to_its_order(self, catalog: SessionCatalog) -> None:
        cursor = catalog.list_sessions(limit=1).next
        with pytest.raises(ValueError, match="order='updated'"):
            catalog.list_sessions(after=cursor, order="created")

    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=4)),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=2),
    )
    def test_any_prefix(self, names: list[str], prefix: str) -> None:
        names = [*names, prefix, prefix + "\U0010ffff", prefix + "\U0010ffff\U0010ffff", prefix + "x"]
        with SQLiteSessionRepository(":memory:") as repository:
            for name in set(names):
                repository.create_session(Session(name, SessionType.AGENT))
            listed = ids(SessionCatalog(session_repository=repository).list_sessions(prefix=prefix))
        assert sorted(listed) == sorted({name for name in names if name.startswith(prefix)})


class TestQueryPlans:
    """Lists walk an index; nothing is sorted and no message is read."""

    def test_lists(self, catalog: SessionCatalog, raw: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
        plans: list[list[str]] = []
        query = catalog._database.query

        def explain(sql: str, parameters: Any = ()) -> Any:
            plans.append([row[3] for row in raw.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)])
            return query(sql, parameters)

        for name in "st":
            catalog._database.execute("INSERT INTO sessions (session_id) VALUES (?)", (name,))
        cursor = catalog.list_sessions(limit=1).next
        monkeypatch.setattr(catalog._database, "query", explain)
        catalog.list_sessions()
        catalog.list_sessions(after=cursor)
        catalog.list_sessions(order="session_id", prefix="a")
        assert plans == [
            ["SCAN sessions USING INDEX sessions_by_activity"],
            ["SEARCH sessions USING INDEX sessions_by_activity ((updated_at,session_id)<(?,?))"],
            ["SEARCH sessions USING PRIMARY KEY (session_id>? AND session_id<?)"],
        ]

    def test_a_history_walks_the_key(self, catalog: SessionCatalog, raw: sqlite3.Connection) -> None:
        plan = raw.execute(
            "EXPLAIN QUERY PLAN SELECT message FROM messages WHERE session_id = 's' AND agent_id = 'a' "
            "AND message_id < 5 ORDER BY message_id DESC LIMIT 3"
        ).fetchall()
        assert "USE TEMP B-TREE" not in str(plan)


class TestDescribe:
    def test_a_session(self, catalog: SessionCatalog, empty: SQLiteSessionRepository) -> None:
        add_session(empty, "s")
        usage = {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7, "cacheReadInputTokens": 1}
        empty.create_message("s", "a", message(0, 5))
        empty.create_message("s", "a", message(1, 6, usage=usage))
        empty.create_agent("s", SessionAgent("0", {}, {}))
        empty.create_multi_agent("s", Graph())  # type: ignore[arg-type]
        catalog.set_metadata("s", {"title": "A talk"})
        summary = catalog.describe("s")
        assert summary is not None
        assert (summary.session_id, summary.session_type, summary.created_at) == ("s", "AGENT", at(0))
        assert summary.metadata == {"title": "A talk"}
        assert (summary.agents, summary.multi_agents, summary.message_count) == (["0", "a"], ["graph"], 2)
        totals = summary.usage
        assert (totals.input_tokens, totals.output_tokens, totals.total_tokens) == (3, 4, 7)
        assert (totals.cache_read_input_tokens, totals.cache_write_input_tokens, totals.message_count) == (1, 0, 2)

    def test_none(self, catalog: SessionCatalog) -> None:
        assert catalog.describe("nobody") is None

    def test_agents(self, catalog: SessionCatalog, empty: SQLiteSessionRepository) -> None:
        add_session(empty, "s", 1)
        empty.create_message("s", "a", message(0, 5))
        empty.create_agent("s", SessionAgent("b", {}, {}, {}, at(2), at(2)))
        first, second = catalog.list_agents("s")
        assert (first.agent_id, first.message_count, first.created_at, first.last_message_at) == ("a", 1, at(1), at(5))
        assert (second.agent_id, second.message_count, second.updated_at, second.last_message_at) == (
            "b",
            0,
            at(2),
            None,
        )
        empty.create_session(Session("empty", SessionType.AGENT))
        assert catalog.list_agents("empty") == []
        with pytest.raises(SessionException, match="Session nobody does not exist"):
            catalog.list_agents("nobody")


class Graph:
    id = "graph"

    def serialize_state(self) -> dict[str, Any]:
        return {"type": "graph"}


class TestMetadata:
    def test_set_and_update(self, catalog: SessionCatalog, empty: SQLiteSessionRepository) -> None:
        add_session(empty, "s")
        catalog.set_metadata("s", {"title": "one", "user": "42", "kept": {"deep": None}})
        catalog.update_metadata("s", title="two", user=None, session_id="a name like any other")
        summary = catalog.describe("s")
        assert summary is not None
        assert summary.metadata == {"title": "two", "kept": {"deep": None}, "session_id": "a name like any other"}
        catalog.set_metadata("s", {})
        assert catalog.list_sessions().sessions[0].metadata == {}

    def test_is_no_activity(self, catalog: SessionCatalog, empty: SQLiteSessionRepository) -> None:
        add_session(empty, "s")
        catalog.set_metadata("s", {"title": "one"})
        catalog.update_metadata("s", archived=True)
        assert catalog.list_sessions().sessions[0].updated_at == at(0)

    def test_is_a_dictionary(self, catalog: SessionCatalog, empty: SQLiteSessionRepository) -> None:
        add_session(empty, "s")
        with pytest.raises(ValueError, match="metadata=None: must be a dictionary"):
            catalog.set_metadata("s", None)  # type: ignore[arg-type]

    @pytest.mark.parametrize("change", ["set", "update"])
    def test_refusals(self, catalog: SessionCatalog, empty: SQLiteSessionRepository, change: str) -> None:
        add_session(empty, "s")

        def apply(session_id: str, value: Any) -> None:
            if change == "set":
                catalog.set_metadata(session_id, {"x": value})
            else:
                catalog.update_metadata(session_id, x=value)

        with pytest.raises(SessionException, match="Session nobody does not exist"):
            apply("nobody", 1)
        with pytest.raises(SessionException, match=r"metadata\.x: a value of type set"):
            apply("s", {1})
        assert catalog.list_sessions().sessions[0].metadata == {}

    def test_changes_of_many_threads_are_all_kept(
        self, catalog: SessionCatalog, empty: SQLiteSessionRepository
    ) -> None:
        add_session(empty, "s")
        together = threading.Barrier(8)

        def change(number: int) -> None:
            together.wait()
            for turn in range(10):
                catalog.update_metadata("s", **{f"{number}-{turn}": turn})

        threads = [threading.Thread(target=change, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(catalog.list_sessions().sessions[0].metadata) == 80


class TestHistory:
    def test_from_the_end(self, catalog: SessionCatalog, empty: SQLiteSessionRepository) -> None:
        add_session(empty, "s", messages=5)
        empty.update_message(
            "s", "a", SessionMessage(text_message(3, "secret").message, 3, text_message(3, "[x]").message)
        )
        page = catalog.history("s", "a", limit=2)
        assert [(m.message_id, m.is_redacted) for m in page] == [(4, False), (3, True)]
        assert texts(m.message for m in page) == ["text 4", "[x]"]
        assert [m.message_id for m in catalog.history("s", "a", before=page[-1].message_id)] == [2, 1, 0]
        assert catalog.history("s", "a", before=0) == []

    def test_the_highest_id_of_all(self, catalog: SessionCatalog, empty: SQLiteSessionRepository) -> None:
        add_session(empty, "s")
        empty.create_message("s", "a", message(2**63 - 1))
        assert [m.message_id for m in catalog.history("s", "a")] == [2**63 - 1]
        assert catalog.history("s", "a", before=2**63 - 1) == []

    def test_damaged_messages(
        self, catalog: SessionCatalog, empty: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        add_session(empty, "s", messages=3)
        raw.execute("UPDATE messages SET message = '{' WHERE message_id = 1")
        with pytest.raises(SessionException, match=r"messages \('s', 'a', 1\): damaged JSON"):
            catalog.history("s", "a")
        newest, damaged, oldest = catalog.history("s", "a", with_damaged=True)
        assert (newest.damage, oldest.damage) == (None, None)
        assert (damaged.message_id, damaged.message, damaged.is_redacted, damaged.created_at) == (1, {}, False, at(0))
        assert damaged.damage is not None
        assert damaged.damage.startswith("messages ('s', 'a', 1): damaged JSON")

    def test_of_nobody(self, catalog: SessionCatalog, empty: SQLiteSessionRepository) -> None:
        add_session(empty, "s")
        assert catalog.history("s", "a") == []
        with pytest.raises(SessionException, match="Agent b in session s does not exist"):
            catalog.history("s", "b")


class TestUsage:
    @pytest.fixture(autouse=True)
    def _messages(self, empty: SQLiteSessionRepository, raw: sqlite3.Connection) -> None:
        for session_id, day in (("s", 0), ("t", 1)):
            add_session(empty, session_id)
            for number in range(2):
                usage = {"inputTokens": 10, "outputTokens": 1, "totalTokens": 11, "cacheWriteInputTokens": 2}
                empty.create_message(
                    session_id, "a", message(number, day * 24 * 60, **({"usage": usage} if number else {}))
                )
        empty.create_message("t", "a", message(2, 24 * 60, usage="lots"))
        raw.execute(
            """INSERT INTO messages VALUES ('t', 'a', 9, '{"usage": damaged', NULL, NULL, ?, ?)""", (at(0), at(0))
        )

    def test_totals(self, catalog: SessionCatalog) -> None:
        total = catalog.usage()
        assert (total.input_tokens, total.output_tokens, total.total_tokens) == (20, 2, 22)
        assert (total.cache_read_input_tokens, total.cache_write_input_tokens, total.message_count) == (0, 4, 6)
        assert catalog.usage("s").total_tokens == 11
        assert catalog.usage("nobody").message_count == 0

    def test_groups(self, catalog: SessionCatalog) -> None:
        counts = {
            by: [(key, usage.total_tokens, usage.message_count) for key, usage in catalog.usage(by=by).items()]
            for by in ("session", "agent", "day")
        }
        assert counts["session"] == [("s", 11, 2), ("t", 11, 4)]
        assert counts["agent"] == [(("s", "a"), 11, 2), (("t", "a"), 11, 4)]
        assert counts["day"] == [("2026-06-01", 11, 3), ("2026-06-02", 11, 3)]

    @pytest.mark.parametrize(
        ("count", "total"), [("9223372036854775807", 2**63 - 1), ("1.5", 12), ('"many"', 11), ("null", 11), ("[]", 11)]
    )
    def test_counts_that_are_none(
        self, catalog: SessionCatalog, raw: sqlite3.Connection, count: str, total: int
    ) -> None:
        raw.execute(
            "UPDATE messages SET message = ? WHERE message_id = 0 AND session_id = 's'",
            (f'{{"role": "user", "content": [], "metadata": {{"usage": {{"totalTokens": {count}}}}}}}',),
        )
        summary = catalog.describe("s")
        assert summary is not None
        assert summary.usage == catalog.usage("s") == catalog.usage(by="session")["s"]
        assert (summary.usage.total_tokens, type(summary.usage.total_tokens)) == (total, int)

    def test_times(self, catalog: SessionCatalog) -> None:
        assert catalog.usage(since=NOW + timedelta(days=1)).message_count == 3
        assert catalog.usage(until=NOW + timedelta(days=1)).message_count == 3
        assert catalog.usage(since=NOW + timedelta(days=2), by="day") == {}
        with pytest.raises(ValueError, match="by='week'"):
            catalog.usage(by="week")  # type: ignore[arg-type]


class TestRename:
    def test_everything_goes_along(self, catalog: SessionCatalog, empty: SQLiteSessionRepository) -> None:
        add_session(empty, "s", messages=2)
        empty.create_multi_agent("s", Graph())  # type: ignore[arg-type]
        before, active = empty.list_messages("s", "a"), catalog.list_sessions().sessions[0].updated_at
        catalog.rename_session("s", "t")
        assert empty.read_session("s") is None
        assert empty.list_messages("t", "a") == before
        assert empty.read_multi_agent("t", "graph") == {"type": "graph"}
        assert catalog.list_sessions().sessions[0].updated_at == active

    def test_refusals(self, catalog: SessionCatalog, empty: SQLiteSessionRepository) -> None:
        add_session(empty, "s")
        add_session(empty, "t")
        with pytest.raises(SessionConflictError, match="Session t already exists"):
            catalog.rename_session("s", "t")
        with pytest.raises(SessionException, match="Session nobody does not exist"):
            catalog.rename_session("nobody", "u")
        with pytest.raises(ValueError, match="new=''"):
            catalog.rename_session("s", "")
        assert catalog.count_sessions() == 2


class TestFork:
    def test_a_copy_is_equal_and_apart(self, catalog: SessionCatalog, db_path: Path) -> None:
        agent = make_agent(SQLiteSessionManager("s", db_path), "one", "two", state={"color": "red"})
        agent("first")
        agent("second")
        catalog.set_metadata("s", {"title": "A talk"})
        counts = catalog.fork_session("s", "t")
        assert (counts.sessions, counts.agents, counts.messages, counts.multi_agents) == (1, 1, 4, 0)
        copy = make_agent(SQLiteSessionManager("t", db_path), "three")
        assert (copy.messages, copy.state.get()) == (agent.messages, {"color": "red"})
        copy("third")
        assert (catalog.usage("s").message_count, catalog.usage("t").message_count) == (4, 6)
        assert [session.metadata for session in catalog.list_sessions().sessions] == [{"title": "A talk"}] * 2

    def test_through_a_message(self, catalog: SessionCatalog, empty: SQLiteSessionRepository) -> None:
        add_session(empty, "s", messages=4)
        empty.create_agent("s", SessionAgent("b", {}, {}), messages=[message(n) for n in range(3)])
        catalog.fork_session("s", "t", through=1)
        assert [len(empty.list_messages("t", name)) for name in "ab"] == [2, 2]
        catalog.fork_session("s", "u", through={"b": 0})
        assert [len(empty.list_messages("u", name)) for name in "ab"] == [4, 1]

    @pytest.mark.parametrize(("through", "expected"), [(None, 4), (8, 3), (5, 6), (2, 3)])
    def test_an_agent_restores_what_it_can(
        self, catalog: SessionCatalog, db_path: Path, empty: SQLiteSessionRepository, through: int | None, expected: int
    ) -> None:
        """Of ten messages, the conversation manager had removed six."""
        empty.create_session(Session("s", SessionType.AGENT))
        manager_state = SlidingWindowConversationManager().get_state() | {"removed_message_count": 6}
        interrupts = {"interrupt_state": {"interrupts": {}, "context": {"at": "the end"}, "activated": True}}
        empty.create_agent(
            "s", SessionAgent("a", {}, manager_state, interrupts), messages=[message(n) for n in range(10)]
        )
        catalog.fork_session("s", "t", through=through)
        stored = empty.read_agent("t", "a")
        assert stored is not None
        assert stored._internal_state == (interrupts if through is None else {})
        if through is not None:
            agent = make_agent(SQLiteSessionManager("t", db_path), agent_id="a")
            assert len(agent.messages) == expected

    def test_a_summary_of_what_was_cut_is_left_out(
        self, catalog: SessionCatalog, empty: SQLiteSessionRepository
    ) -> None:
        empty.create_session(Session("s", SessionType.AGENT))
        state = {"removed_message_count": 2, "summary_message": text_message(0).message, "ratio": 0.1}
        empty.create_agent("s", SessionAgent("a", {}, state), messages=[message(n) for n in range(4)])
        catalog.fork_session("s", "t", through=0)
        catalog.fork_session("s", "u", through=2)
        cut, kept = empty.read_agent("t", "a"), empty.read_agent("u", "a")
        assert cut is not None
        assert cut.conversation_manager_state == {"removed_message_count": 0, "summary_message": None, "ratio": 0.1}
        assert kept is not None
        assert kept.conversation_manager_state == state

    def test_a_damaged_state_is_copied_as_it_is(
        self, catalog: SessionCatalog, empty: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        add_session(empty, "s", messages=2)
        raw.execute("UPDATE agents SET conversation_manager_state = '{'")
        catalog.fork_session("s", "t", through=0)
        states = raw.execute("SELECT conversation_manager_state FROM agents").fetchall()
        assert states == [("{",), ("{",)]

    def test_refusals(self, catalog: SessionCatalog, empty: SQLiteSessionRepository) -> None:
        add_session(empty, "s", messages=1)
        add_session(empty, "t")
        with pytest.raises(SessionException, match="Agent typo in session s does not exist"):
            catalog.fork_session("s", "u", through={"a": 0, "typo": 0})
        with pytest.raises(SessionConflictError, match="Session t already exists"):
            catalog.fork_session("s", "t")
        with pytest.raises(SessionException, match="Session nobody does not exist"):
            catalog.fork_session("nobody", "u")
        for through in (-1, {1: 1, "q": 1}):
            with pytest.raises(ValueError, match=r"through=-?1"):
                catalog.fork_session("s", "u", through=through)  # type: ignore[arg-type]
        assert catalog.count_sessions() == 2
        assert empty.list_messages("t", "a") == []


class TestUndo:
    def test_the_agent_goes_on_from_before(self, catalog: SessionCatalog, db_path: Path) -> None:
        agent = make_agent(SQLiteSessionManager("s", db_path), "one", "two", "three")
        for question in ("first", "second", "third"):
            agent(question)
        assert catalog.undo_turns("s", "default") == 2
        assert catalog.undo_turns("s", "default", 1) == 2
        again = make_agent(SQLiteSessionManager("s", db_path), "four")
        again("fourth")
        assert texts(again.messages) == ["first", "one", "fourth", "four"]
        assert [m.message_id for m in catalog.history("s", "default")] == [3, 2, 1, 0]

    def test_tool_results_do_not_begin_a_turn(self, catalog: SessionCatalog, db_path: Path) -> None:
        from strands import tool

        @tool
        def clock() -> str:
            """Tell the time."""
            return "noon"

        agent = make_agent(SQLiteSessionManager("s", db_path), "hi", [tool_use("clock", "t1")], "noon", tools=[clock])
        agent("hello")
        agent("what time is it?")
        assert len(catalog.history("s", "default")) == 6
        assert catalog.undo_turns("s", "default") == 4
        assert texts(m.message for m in catalog.history("s", "default")) == ["hi", "hello"]

    @pytest.mark.parametrize("damaged", ["{", "{}", "[]", "null", '{"role": "user"}', '{"role": "user", "content": 1}'])
    def test_a_damaged_message_begins_a_turn(
        self, catalog: SessionCatalog, empty: SQLiteSessionRepository, raw: sqlite3.Connection, damaged: str
    ) -> None:
        add_session(empty, "s", messages=4)
        raw.execute("UPDATE messages SET message = ? WHERE message_id = 2", (damaged,))
        assert catalog.undo_turns("s", "a") == 2
        assert [m.message_id for m in catalog.history("s", "a")] == [1, 0]

    def test_not_of_a_conversation_that_went_on(self, catalog: SessionCatalog, empty: SQLiteSessionRepository) -> None:
        add_session(empty, "s", messages=5)
        for dry_run in (True, False):
            assert catalog.undo_turns("s", "a", message_count=4, dry_run=dry_run) == 0
        assert len(catalog.history("s", "a")) == 5
        assert catalog.undo_turns("s", "a", message_count=5) == 1
        with pytest.raises(ValueError, match="message_count=-1"):
            catalog.undo_turns("s", "a", message_count=-1)

    def test_more_than_there_are(self, catalog: SessionCatalog, empty: SQLiteSessionRepository) -> None:
        add_session(empty, "s", messages=4)
        assert catalog.undo_turns("s", "a", 0) == 0
        assert catalog.undo_turns("s", "a", 9) == 4
        assert catalog.undo_turns("s", "a") == 0
        with pytest.raises(SessionException, match="Agent b in session s does not exist"):
            catalog.undo_turns("s", "b")

    def test_what_is_undone_is_erased(
        self, catalog: SessionCatalog, db_path: Path, empty: SQLiteSessionRepository
    ) -> None:
        add_session(empty, "s")
        empty.create_message("s", "a", text_message(0, "unmistakable words"))
        catalog.undo_turns("s", "a")
        files = [db_path, db_path.with_name("sessions.db-wal")]
        assert not any(b"unmistakable" in file.read_bytes() for file in files)

    def test_a_window_that_was_cut_is_restored_whole(
        self, catalog: SessionCatalog, db_path: Path, empty: SQLiteSessionRepository
    ) -> None:
        empty.create_session(Session("s", SessionType.AGENT))
        state = SlidingWindowConversationManager().get_state() | {"removed_message_count": 4}
        empty.create_agent("s", SessionAgent("a", {}, state), messages=[message(n) for n in range(6)])
        assert catalog.undo_turns("s", "a") == 2
        assert len(make_agent(SQLiteSessionManager("s", db_path), agent_id="a").messages) == 4


class TestDelete:
    def test_counts(self, catalog: SessionCatalog, empty: SQLiteSessionRepository) -> None:
        for name in "stu":
            add_session(empty, name, messages=3)
        empty.create_multi_agent("s", Graph())  # type: ignore[arg-type]
        one = catalog.delete_session("s")
        assert (one.sessions, one.agents, one.messages, one.multi_agents) == (1, 1, 3, 1)
        agent = catalog.delete_agent("t", "a")
        assert (agent.sessions, agent.agents, agent.messages, agent.multi_agents) == (0, 1, 3, 0)
        both = catalog.delete_sessions(["t", "u", "nobody"])
        assert (both.sessions, both.agents, both.messages, both.multi_agents) == (2, 1, 3, 0)
        assert catalog.delete_sessions([]).sessions == 0
        with pytest.raises(ValueError, match="session_ids='stu': must be several ids"):
            catalog.delete_sessions("stu")
        with pytest.raises(SessionException, match="Session s does not exist"):
            catalog.delete_session("s")
        with pytest.raises(SessionException, match="Agent a in session s does not exist"):
            catalog.delete_agent("s", "a")

    def test_messages_without_their_agent(
        self, catalog: SessionCatalog, empty: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        add_session(empty, "s", messages=3)
        raw.execute("PRAGMA foreign_keys = OFF")
        raw.execute("DELETE FROM agents")
        counts = catalog.delete_agent("s", "a")
        assert (counts.agents, counts.messages) == (0, 3)


class TestPrune:
    @pytest.fixture(autouse=True)
    def _ten_sessions(self, empty: SQLiteSessionRepository) -> None:
        for number in range(10):
            add_session(empty, f"s{number}", number, messages=2)

    def left(self, catalog: SessionCatalog) -> list[str]:
        return sorted(ids(catalog.list_sessions()))

    def test_older_than(self, catalog: SessionCatalog) -> None:
        result = catalog.prune(older_than=timedelta(minutes=6), now=NOW + timedelta(minutes=9))
        assert result.session_ids == ["s0", "s1", "s2"]
        assert (result.messages, result.bytes) == (6, 6 * len('{"role":"user","content":[{"text":"text 0"}]}') + 15)
        assert catalog.prune(older_than=NOW + timedelta(minutes=4)).session_ids == ["s3"]
        assert self.left(catalog) == ["s4", "s5", "s6", "s7", "s8", "s9"]

    def test_keep_last(self, catalog: SessionCatalog) -> None:
        assert catalog.prune(keep_last=7).session_ids == ["s0", "s1", "s2"]
        assert catalog.prune(keep_last=7).session_ids == []
        assert catalog.prune(keep_last=0).messages == 14

    def test_either_is_enough(self, catalog: SessionCatalog) -> None:
        assert catalog.prune(keep_last=9, older_than=NOW + timedelta(minutes=3)).session_ids == ["s0", "s1", "s2"]
        assert catalog.prune(keep_last=3, older_than=NOW).session_ids == ["s3", "s4", "s5", "s6"]

    def test_of_some(self, catalog: SessionCatalog) -> None:
        for number in (1, 3, 5):
            catalog.set_metadata(f"s{number}", {"user": "42"})
        result = catalog.prune(keep_last=1, metadata={"user": "42"})
        assert result.session_ids == ["s1", "s3"]
        assert catalog.count_sessions() == 8

    def test_only_what_was_planned(self, catalog: SessionCatalog, empty: SQLiteSessionRepository) -> None:
        planned = catalog.prune(keep_last=8, dry_run=True).session_ids
        assert planned == ["s0", "s1"]
        add_session(empty, "new", 100)
        empty.create_message("s1", "a", message(2, 100))
        assert catalog.prune(keep_last=8, session_ids=planned).session_ids == ["s0"]
        assert catalog.count_sessions() == 10
        assert catalog.prune(keep_last=0, session_ids=[]).session_ids == []

    def test_dry_run(self, catalog: SessionCatalog) -> None:
        planned = catalog.prune(keep_last=4, dry_run=True)
        assert catalog.count_sessions() == 10
        assert catalog.prune(keep_last=4) == planned

    def test_batches(self, catalog: SessionCatalog, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of at most three sessions and five messages each."""
        monkeypatch.setattr("strands_sqlite_session_manager._prune.BATCH_SESSIONS", 3)
        monkeypatch.setattr("strands_sqlite_session_manager._prune.BATCH_MESSAGES", 5)
        transactions = []
        transaction = catalog._database.transaction

        def counting(statements: Any) -> list[int]:
            transactions.append(transaction(statements))
            return transactions[-1]

        monkeypatch.setattr(catalog._database, "transaction", counting)
        assert len(catalog.prune(keep_last=2).session_ids) == 8
        assert [counts[3] for counts in transactions] == [2, 1, 2, 1, 2]

    def test_a_session_that_becomes_active_meanwhile_stays(
        self, catalog: SessionCatalog, empty: SQLiteSessionRepository, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        transaction = catalog._database.transaction

        def interrupted(statements: Any) -> list[int]:
            monkeypatch.undo()
            empty.create_message("s1", "a", message(2, 100))
            return transaction(statements)

        monkeypatch.setattr(catalog._database, "transaction", interrupted)
        assert catalog.prune(keep_last=5).session_ids == ["s0", "s2", "s3", "s4"]
        assert self.left(catalog) == ["s1", "s5", "s6", "s7", "s8", "s9"]
        assert len(empty.list_messages("s1", "a")) == 3

    def test_a_session_that_gets_other_metadata_meanwhile_stays(
        self, catalog: SessionCatalog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in (1, 2):
            catalog.set_metadata(f"s{number}", {"draft": True})
        transaction = catalog._database.transaction

        def interrupted(statements: Any) -> list[int]:
            monkeypatch.undo()
            catalog.set_metadata("s1", {})
            return transaction(statements)

        monkeypatch.setattr(catalog._database, "transaction", interrupted)
        assert catalog.prune(keep_last=0, metadata={"draft": True}).session_ids == ["s2"]
        assert catalog.describe("s1") is not None

    def test_a_session_with_a_newer_message_or_state_stays(
        self, catalog: SessionCatalog, raw: sqlite3.Connection
    ) -> None:
        """As after an import from files, where nothing keeps the time of a session's last activity."""
        raw.execute("UPDATE messages SET created_at = ? WHERE session_id = 's1'", (at(100),))
        raw.execute("INSERT INTO multi_agents (session_id, multi_agent_id, state) VALUES ('s0', 'm', '{}')")
        raw.execute("UPDATE multi_agents SET updated_at = ?", (at(100),))
        raw.execute("UPDATE sessions SET updated_at = ? WHERE session_id = 's0'", (at(0),))
        assert catalog.prune(older_than=NOW + timedelta(minutes=3)).session_ids == ["s2"]

    def test_impossible_ages(self, catalog: SessionCatalog) -> None:
        for age in (timedelta(minutes=-1), timedelta.max):
            with pytest.raises(ValueError, match="older_than="):
                catalog.prune(older_than=age)

    def test_the_argument_at_fault_is_named(self, catalog: SessionCatalog) -> None:
        with pytest.raises(ValueError, match="older_than=90: must be a timedelta, or a datetime"):
            catalog.prune(older_than=90)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"now=.*: must be a datetime with a time zone"):
            catalog.prune(older_than=timedelta(days=1), now=datetime(2026, 1, 1))

    def test_not_without_a_limit(self, catalog: SessionCatalog) -> None:
        with pytest.raises(ValueError, match="give older_than or keep_last"):
            catalog.prune()


class TestConstructor:
    def test_default_path(self, monkeypatch: pytest.MonkeyPatch, db_path: Path) -> None:
        monkeypatch.setenv("STRANDS_SQLITE_DB_PATH", str(db_path))
        with SessionCatalog() as catalog:
            assert catalog.count_sessions() == 0
        catalog.close()
        with pytest.raises(SessionException, match="used after it was closed"):
            catalog.count_sessions()

    def test_a_repository_of_somebody_else_stays_open(self, empty: SQLiteSessionRepository) -> None:
        with SessionCatalog(session_repository=empty) as catalog:
            pass
        assert empty.read_session("s") is None
        assert catalog.count_sessions() == 0
        with pytest.raises(ValueError, match="options of its own"):
            SessionCatalog("x.db", session_repository=empty)
