"""Sessions in and out: what arrives is what was there, nothing is overwritten, and whatever stopped can go on."""

import contextlib
import io
import json
import os
import re
import sqlite3
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from strands.multiagent import GraphBuilder
from strands.session.file_session_manager import FileSessionManager
from strands.session.repository_session_manager import RepositorySessionManager
from strands.session.session_repository import SessionRepository
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from helpers import Redaction, make_agent, run_python, text_message, texts
from strands_sqlite_session_manager import (
    SessionConflictError,
    SQLiteSessionManager,
    SQLiteSessionRepository,
)
from strands_sqlite_session_manager.transfer import (
    RecordCounts,
    Skipped,
    copy_session,
    export_file_sessions,
    export_jsonl,
    import_file_sessions,
    import_jsonl,
    json_lines,
)

LONG_AGO = "2020-01-02T03:04:05.678901+00:00"
LATER = "2021-01-02T03:04:05+00:00"
LAST = "2022-12-31T23:59:59.999999+00:00"
EVERYTHING = RecordCounts(sessions=1, agents=2, messages=8, multi_agents=1)
NOTHING = RecordCounts(0, 0, 0, 0)

CONTENTS: list[list[Any]] = [
    [{"text": 'é 漢字 🎉 \u0000 \u2028 \r\n "quoted" \\ \''}],
    [{"image": {"format": "png", "source": {"bytes": b"\x89PNG\x00\xff"}}}, {"text": "what is it?"}],
    [{"toolResult": {"toolUseId": "1", "content": [{"image": {"source": {"bytes": bytes(range(256))}}}]}}],
    [{"toolUse": {"toolUseId": "1", "name": "add", "input": {"a": float("nan"), "b": [float("-inf"), 1e100, 10**30]}}}],
    [{"reasoningContent": {"redactedContent": b""}}, {"json": {"__encoded__": ["bytes", "no"]}}],
    [],
]


# No times, or not to be compared as text with those that the SDK writes.
BAD_TIMES = [
    *("", "soon", "2020-01-01", "2020-01-01T00:00:00", "2020-01-01T00:00:00-12:00"),
    *("2020-01-01 00:00:00+00:00", "2020-13-01T00:00:00+00:00", "x+00:00"),
]
BAD_BYTES = {"content": [{"__bytes_encoded__": True, "data": "a"}]}


class StateOf:
    """Stands for a graph or swarm: an id and a state."""

    def __init__(self, multi_agent_id: str, state: dict[str, Any]) -> None:
        self.id = multi_agent_id
        self.state = state

    def serialize_state(self) -> dict[str, Any]:
        return self.state


class Contract(SessionRepository):
    """A repository of the contract and nothing else, as one on S3 or PostgreSQL is. May fail after a while."""

    def __init__(self, store: Any, dies_after: int = sys.maxsize) -> None:
        self.store = store
        self.left = dies_after

    def _pass(self, method: str, *args: Any, **kwargs: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise ConnectionError("the network is gone")
        return getattr(self.store, method)(*args, **kwargs)

    def create_session(self, *args: Any, **kwargs: Any) -> Any:
        return self._pass("create_session", *args, **kwargs)

    def read_session(self, *args: Any, **kwargs: Any) -> Any:
        return self._pass("read_session", *args, **kwargs)

    def create_agent(self, *args: Any, **kwargs: Any) -> Any:
        return self._pass("create_agent", *args, **kwargs)

    def read_agent(self, *args: Any, **kwargs: Any) -> Any:
        return self._pass("read_agent", *args, **kwargs)

    def update_agent(self, *args: Any, **kwargs: Any) -> Any:
        return self._pass("update_agent", *args, **kwargs)

    def create_message(self, *args: Any, **kwargs: Any) -> Any:
        return self._pass("create_message", *args, **kwargs)

    def read_message(self, *args: Any, **kwargs: Any) -> Any:
        return self._pass("read_message", *args, **kwargs)

    def update_message(self, *args: Any, **kwargs: Any) -> Any:
        return self._pass("update_message", *args, **kwargs)

    def list_messages(self, *args: Any, **kwargs: Any) -> Any:
        return self._pass("list_messages", *args, **kwargs)

    def create_multi_agent(self, *args: Any, **kwargs: Any) -> Any:
        return self._pass("create_multi_agent", *args, **kwargs)

    def read_multi_agent(self, *args: Any, **kwargs: Any) -> Any:
        return self._pass("read_multi_agent", *args, **kwargs)


def files_in(directory: Path, session_id: str = "other") -> FileSessionManager:
    """A file manager with a session of its own beside those of the test."""
    return FileSessionManager(session_id, storage_dir=str(directory))


def fill(store: Any, session_id: str = "full") -> None:
    """Store a session with all that a session can hold, the messages newer than the session."""
    store.create_session(Session(session_id, SessionType.AGENT, LONG_AGO, LATER))
    store.create_agent(
        session_id,
        SessionAgent(
            "a", {"color": "ré\u2028d", "n": [1, 2.5, None]}, {"window": 3}, {"model_state": {}}, LONG_AGO, LATER
        ),
    )
    for message_id, content in enumerate(CONTENTS):
        role = "user" if message_id % 2 == 0 else "assistant"
        message: Any = {"role": role, "content": content, "metadata": {"usage": {"inputTokens": 1}}}
        store.create_message(session_id, "a", SessionMessage(message, message_id, None, LAST, LAST))
    redacted: Any = {"role": "user", "content": [{"text": "[redacted]"}, {"image": {"source": {"bytes": b"\x00"}}}]}
    original: Any = {"role": "user", "content": [{"image": {"source": {"bytes": b"secret"}}}]}
    store.create_message(session_id, "a", SessionMessage(original, 6, redacted, LONG_AGO, LAST))
    # A gap, as an SDK that failed to store leaves it.
    store.create_message(session_id, "a", SessionMessage(original, 12, None, LONG_AGO, LAST))
    store.create_agent(session_id, SessionAgent("b", {}, {}, {}, LATER, LATER))
    store.create_multi_agent(session_id, StateOf("graph", {"status": "done ✓", "nodes": ["x"], "n": float("nan")}))


def content(directory: Path) -> dict[str, bytes]:
    """All files below a directory."""
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def content_without_activity(directory: Path) -> dict[str, Any]:
    """All files below a directory, those of sessions without the time of their last activity."""
    return {
        path: {**json.loads(data), "updated_at": None} if path.endswith("session.json") else data
        for path, data in content(directory).items()
    }


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def rows(path: Path) -> dict[str, list[Any]]:
    """All rows of all tables of sessions, seen from outside."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return {
            table: connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3").fetchall()
            for table in ("sessions", "agents", "messages", "multi_agents")
        }


def without_multi_agent_times(tables: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {**tables, "multi_agents": [row[:3] for row in tables["multi_agents"]]}


@pytest.fixture
def source(tmp_path: Path) -> Iterator[SQLiteSessionRepository]:
    """A database with the session `full`, and oddities that only SQL can make."""
    with SQLiteSessionRepository(tmp_path / "source.db") as source:
        fill(source)
        yield source


@pytest.fixture
def target(tmp_path: Path) -> Iterator[SQLiteSessionRepository]:
    with SQLiteSessionRepository(tmp_path / "target.db") as target:
        yield target


@pytest.fixture
def source_rows(tmp_path: Path, source: SQLiteSessionRepository) -> dict[str, list[Any]]:
    return rows(tmp_path / "source.db")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The directory of a file manager, with the session `full`."""
    fill(files_in(tmp_path / "files", "full-other"))
    return tmp_path / "files"


class TestCopy:
    def test_between_databases_has_the_same_rows_and_times(
        self, tmp_path: Path, source: SQLiteSessionRepository, target: SQLiteSessionRepository
    ) -> None:
        """Also the session's metadata and time of last activity, which its newer messages do not move."""
        with contextlib.closing(sqlite3.connect(tmp_path / "source.db", isolation_level=None)) as raw:
            raw.execute("""UPDATE sessions SET metadata = '{"name":"N"}', updated_at = ?""", (LATER,))
            raw.execute("UPDATE multi_agents SET created_at = ?, updated_at = ?", (LONG_AGO, LATER))
            raw.execute("UPDATE sessions SET updated_at = ?", (LATER,))
        before = rows(tmp_path / "source.db")
        result = copy_session(source, target, "full")
        assert (result.copied, result.already_there) == (EVERYTHING, NOTHING)
        assert rows(tmp_path / "target.db") == rows(tmp_path / "source.db") == before

    def test_between_managers_of_the_session(self, tmp_path: Path, source_rows: Any) -> None:
        with (
            SQLiteSessionManager("full", tmp_path / "source.db") as one,
            SQLiteSessionManager("full", tmp_path / "target.db") as other,
        ):
            result = copy_session(one, other, "full")
        assert (result.copied.messages, result.already_there.sessions) == (8, 1)
        assert rows(tmp_path / "target.db")["messages"] == source_rows["messages"]

    @pytest.mark.parametrize("is_bare", [False, True], ids=["file manager", "bare contract"])
    def test_from_another_repository_is_exact(
        self, tmp_path: Path, files: Path, target: SQLiteSessionRepository, source_rows: Any, is_bare: bool
    ) -> None:
        """The same rows as those of the same session that was stored here in the first place, the times too."""
        before = content(files)
        manager = files_in(files, "full-other")
        result = copy_session(
            Contract(manager) if is_bare else manager,
            target,
            "full",
            agent_ids=["a", "b"] if is_bare else None,
            multi_agent_ids=["graph"] if is_bare else None,
        )
        assert result.copied == EVERYTHING
        copied = rows(tmp_path / "target.db")
        assert copied["sessions"] == [("full", "AGENT", "{}", LONG_AGO, LATER)]
        assert copied["agents"] == source_rows["agents"]
        assert copied["messages"] == source_rows["messages"]
        assert [row[:3] for row in copied["multi_agents"]] == [row[:3] for row in source_rows["multi_agents"]]
        assert content(files) == before

    @pytest.mark.parametrize("is_bare", [False, True], ids=["file manager", "bare contract"])
    def test_into_another_repository_is_exact(
        self, tmp_path: Path, files: Path, source: SQLiteSessionRepository, is_bare: bool
    ) -> None:
        """The same bytes as those of the same session that was stored there in the first place."""
        manager = files_in(tmp_path / "out", "full-other")
        with contextlib.closing(sqlite3.connect(tmp_path / "source.db", isolation_level=None)) as raw:
            raw.execute("UPDATE sessions SET updated_at = ?", (LATER,))
        assert copy_session(source, Contract(manager) if is_bare else manager, "full").copied == EVERYTHING
        assert content(tmp_path / "out" / "session_full") == content(files / "session_full")

    def test_of_some_agents(self, tmp_path: Path, source: SQLiteSessionRepository, target: Any) -> None:
        result = copy_session(source, target, "full", agent_ids=["b", "b"], multi_agent_ids=[])
        assert result.copied == RecordCounts(1, 1, 0, 0)
        assert [row[1] for row in rows(tmp_path / "target.db")["agents"]] == ["b"]

    def test_asks_for_the_ids_where_the_source_cannot_tell(self, source: Any, target: Any) -> None:
        with pytest.raises(ValueError, match="Contract does not list its agents: name them in agent_ids"):
            copy_session(Contract(source), target, "full", multi_agent_ids=[])
        with pytest.raises(ValueError, match="name them in multi_agent_ids"):
            copy_session(Contract(source), target, "full", agent_ids=[])
        # A manager on such a repository is no wiser.
        with pytest.raises(ValueError, match="Contract does not list its agents"):
            copy_session(RepositorySessionManager("full", Contract(source)), target, "full")  # type: ignore[arg-type]

    @pytest.mark.parametrize("is_bare", [False, True], ids=["ours", "bare contract"])
    @pytest.mark.parametrize(
        ("session_id", "agent_ids", "multi_agent_ids", "name"),
        [
            ("nobody", [], [], "Session nobody"),
            ("full", ["a", "nobody"], [], "Agent nobody in session full"),
            ("full", [], ["nobody"], "MultiAgent state nobody in session full"),
        ],
    )
    def test_of_what_does_not_exist_raises(
        self, source: Any, target: Any, is_bare: bool, session_id: str, agent_ids: Any, multi_agent_ids: Any, name: str
    ) -> None:
        with pytest.raises(SessionException, match=f"^{name} does not exist$"):
            copy_session(
                Contract(source) if is_bare else source,
                Contract(target) if is_bare else target,
                session_id,
                agent_ids=agent_ids,
                multi_agent_ids=multi_agent_ids,
            )

    @pytest.mark.parametrize("target_kind", ["ours", "files", "bare"])
    def test_again_changes_nothing(self, tmp_path: Path, source: Any, target: Any, target_kind: str) -> None:
        """NaN, which is not equal to itself, is no conflict."""
        store = {"ours": target, "files": files_in(tmp_path / "out"), "bare": Contract(target)}[target_kind]
        copy_session(source, store, "full")
        before = content(tmp_path / "out"), rows(tmp_path / "target.db")
        result = copy_session(source, store, "full")
        assert (result.copied, result.already_there) == (NOTHING, EVERYTHING)
        assert (content(tmp_path / "out"), rows(tmp_path / "target.db")) == before

    def test_compares_what_is_there_after_adding_what_is_not(self, source: Any, target: Any) -> None:
        """Agent a is new in the target, and agent b, which comes after it, is there."""
        source.create_message("full", "b", text_message(0))
        copy_session(source, target, "full", agent_ids=["b"], multi_agent_ids=[])
        result = copy_session(source, target, "full")
        assert (result.copied, result.already_there) == (RecordCounts(0, 1, 8, 1), RecordCounts(1, 1, 1, 0))

    def test_into_itself_changes_nothing(self, tmp_path: Path, source: Any, source_rows: Any) -> None:
        assert copy_session(source, source, "full").copied == NOTHING
        assert rows(tmp_path / "source.db") == source_rows

    def test_goes_on_wherever_the_target_failed(self, tmp_path: Path, source: Any, files: Path) -> None:
        """The target dies after each number of calls in turn; the second copy completes the first."""
        with contextlib.closing(sqlite3.connect(tmp_path / "source.db", isolation_level=None)) as raw:
            raw.execute("UPDATE sessions SET updated_at = ?", (LATER,))
        expected = content(files / "session_full")
        for calls in range(100):
            directory = tmp_path / f"out-{calls}"
            manager = files_in(directory)
            try:
                copy_session(source, Contract(manager, dies_after=calls), "full")
            except ConnectionError:
                result = copy_session(source, manager, "full")
                assert result.copied.messages + result.already_there.messages == 8
                assert content(directory / "session_full") == expected
            else:
                break
        assert calls > 10

    def test_goes_on_wherever_the_source_failed(self, tmp_path: Path, files: Path, monkeypatch: Any) -> None:
        """Also between two batches of a conversation, of which the first was stored."""
        monkeypatch.setattr("strands_sqlite_session_manager.transfer.writer._BATCH", 3)
        monkeypatch.setattr("strands_sqlite_session_manager.transfer.copies._BATCH", 2)
        ids: Any = {"agent_ids": ["a", "b"], "multi_agent_ids": ["graph"]}
        manager = files_in(files, "full-other")
        with SQLiteSessionRepository(tmp_path / "whole.db") as whole:
            copy_session(manager, whole, "full", **ids)
        expected = without_multi_agent_times(rows(tmp_path / "whole.db"))
        stored = set()
        for calls in range(100):
            path = tmp_path / f"{calls}.db"
            with SQLiteSessionRepository(path) as target:
                try:
                    copy_session(Contract(manager, dies_after=calls), target, "full", **ids)
                except ConnectionError:
                    stored.add(len(rows(path)["messages"]))
                    copy_session(manager, target, "full", **ids)
                    stored_rows = without_multi_agent_times(rows(path))
                    # The last activity is that of the messages that came second.
                    assert stored_rows["sessions"][0][:-1] == expected["sessions"][0][:-1]
                    assert {**stored_rows, "sessions": expected["sessions"]} == expected
                else:
                    break
        assert len(stored) >= 3

    @pytest.mark.parametrize("is_bare", [False, True], ids=["ours", "bare contract"])
    @pytest.mark.parametrize(
        ("change", "name"),
        [
            ("UPDATE sessions SET session_type = 'OTHER'", "Session full"),
            ("UPDATE agents SET state = '{}' WHERE agent_id = 'a'", "Agent a in session full"),
            ("UPDATE messages SET message = redact_message WHERE message_id = 6", "Message 6 of agent a"),
            ("UPDATE messages SET redact_message = NULL WHERE message_id = 6", "Message 6 of agent a"),
            (
                "UPDATE messages SET attachments = zeroblob(length(attachments)) WHERE message_id = 1",
                "Message 1 of agent a",
            ),
            ("UPDATE multi_agents SET state = '{}'", "MultiAgent state graph in session full"),
        ],
    )
    def test_raises_where_the_target_holds_something_else_and_keeps_it(
        self, tmp_path: Path, source: Any, target: Any, is_bare: bool, change: str, name: str
    ) -> None:
        copy_session(source, target, "full")
        with contextlib.closing(sqlite3.connect(tmp_path / "target.db", isolation_level=None)) as raw:
            raw.execute(change)
        before = rows(tmp_path / "target.db")
        with pytest.raises(SessionConflictError, match=f"^{name}.*: the target holds a different one, which is kept"):
            copy_session(source, Contract(target) if is_bare else target, "full")
        assert rows(tmp_path / "target.db") == before

    def test_is_no_conflict_when_the_target_went_on(self, tmp_path: Path, source: Any, target: Any) -> None:
        copy_session(source, target, "full")
        target.create_message("full", "a", text_message(13))
        before = rows(tmp_path / "target.db")
        assert copy_session(source, target, "full").copied == NOTHING
        assert rows(tmp_path / "target.db") == before

    def test_again_moves_the_last_activity_forward_and_never_back(
        self, tmp_path: Path, source: Any, target: Any
    ) -> None:
        """A session that goes on in the source is not stale in the target, where it might be pruned."""
        copy_session(source, target, "full")
        ((*_, before),) = rows(tmp_path / "target.db")["sessions"]
        source.create_agent("full", SessionAgent("c", {}, {}))
        for number, time in enumerate((LONG_AGO, "9000-01-01T00:00:00+00:00")):
            message: Any = {"role": "user", "content": [{"text": "new"}]}
            source.create_message("full", "c", SessionMessage(message, number, None, time, time))
            assert copy_session(source, target, "full").copied.messages == 1
            assert rows(tmp_path / "target.db")["sessions"][0][-1] == max(before, time)

    def test_of_larger_sessions_keeps_the_last_activity_too(
        self, tmp_path: Path, source: Any, target: Any, monkeypatch: Any
    ) -> None:
        """Each of several batches has messages that are newer than the session."""
        monkeypatch.setattr("strands_sqlite_session_manager.transfer.writer._BATCH", 3)
        with contextlib.closing(sqlite3.connect(tmp_path / "source.db", isolation_level=None)) as raw:
            raw.execute("UPDATE sessions SET updated_at = ?", (LATER,))
        copy_session(source, target, "full")
        assert rows(tmp_path / "target.db")["sessions"] == rows(tmp_path / "source.db")["sessions"]

    def test_again_after_the_target_was_tagged_keeps_the_tags(self, tmp_path: Path, files: Path, target: Any) -> None:
        """Other stores have no metadata to compare them with."""
        copy_session(files_in(files), target, "full")
        with contextlib.closing(sqlite3.connect(tmp_path / "target.db", isolation_level=None)) as raw:
            raw.execute("""UPDATE sessions SET metadata = '{"tags":["mine"]}'""")
        assert copy_session(files_in(files), target, "full").already_there == EVERYTHING
        report = import_file_sessions(files, target, session_ids=["full"])
        assert (report.already_there, report.skipped) == (EVERYTHING, [])
        assert rows(tmp_path / "target.db")["sessions"][0][2] == '{"tags":["mine"]}'

    def test_raises_where_the_databases_have_different_metadata(self, tmp_path: Path, source: Any, target: Any) -> None:
        copy_session(source, target, "full")
        with contextlib.closing(sqlite3.connect(tmp_path / "target.db", isolation_level=None)) as raw:
            raw.execute("""UPDATE sessions SET metadata = '{"tags":["mine"]}'""")
        with pytest.raises(SessionConflictError, match=r"^Session full"):
            copy_session(source, target, "full")
        export_jsonl(source, tmp_path / "out")
        assert [skipped.what for skipped in import_jsonl(tmp_path / "out", target).skipped] == ["full"]

    def test_appears_in_a_database_whole(self, tmp_path: Path, source: Any, target: Any) -> None:
        """A small session is one transaction: when its last record cannot be stored, nothing is."""
        with contextlib.closing(sqlite3.connect(tmp_path / "source.db", isolation_level=None)) as raw:
            raw.execute("UPDATE multi_agents SET state = 'damaged'")
        with pytest.raises(SessionException, match="damaged"):
            copy_session(Contract(source), target, "full", agent_ids=["a", "b"], multi_agent_ids=["graph"])
        assert rows(tmp_path / "target.db")["sessions"] == []

    def test_of_a_file_that_names_another_session_raises(self, tmp_path: Path, files: Path, target: Any) -> None:
        """A directory that was copied by hand would otherwise be stored under the first one's name."""
        (files / "session_full").rename(files / "session_copied")
        with pytest.raises(SessionException, match="'copied' says that it is 'full'"):
            copy_session(files_in(files), target, "copied")
        assert rows(tmp_path / "target.db")["sessions"] == []


class TestFileImport:
    def test_and_export_have_the_same_bytes(self, tmp_path: Path, files: Path, target: Any) -> None:
        fill(files_in(files), "zweite é")
        before = content(files)
        report = import_file_sessions(files, target)
        assert report.session_ids == ["full", "full-other", "other", "zweite é"]
        assert (report.copied, report.already_there, report.skipped) == (RecordCounts(4, 4, 16, 2), NOTHING, [])
        exported = export_file_sessions(target, tmp_path / "out")
        assert (exported.session_ids, exported.copied, exported.skipped) == (report.session_ids, report.copied, [])
        assert content(tmp_path / "out") == content(files) == before
        # Nothing but the sessions is left there.
        assert names(tmp_path / "out") == names(files)

    def test_of_what_agents_and_graphs_stored(self, tmp_path: Path, target: Any) -> None:
        """Through the SDK's own manager, with a guardrail's redaction; the agent goes on from here."""
        directory = tmp_path / "files"
        agent = make_agent(files_in(directory, "s"), "Hello, Ada.", Redaction(), agent_id="helper")
        agent("I am Ada.")
        agent("My password is 1234.")
        builder = GraphBuilder()
        builder.add_node(make_agent(None, "done", name="node"), "node")
        builder.set_graph_id("g").set_max_node_executions(1)
        builder.set_session_manager(files_in(directory, "of-graph")).build()("Begin.")
        assert import_file_sessions(str(directory), target).skipped == []
        export_file_sessions(target, str(tmp_path / "out"))
        assert content(tmp_path / "out") == content(directory)
        restored = make_agent(SQLiteSessionManager("s", session_repository=target), "You are Ada.", agent_id="helper")
        assert texts(restored.messages) == ["I am Ada.", "Hello, Ada.", "[user input redacted]", "[blocked]"]
        assert target.read_multi_agent("of-graph", "g")["status"] == "completed"

    def test_of_a_session_that_an_sdk_without_newer_fields_wrote(self, files: Path, target: Any) -> None:
        """Early SDKs had no internal state, and made no directory for graphs and swarms."""
        session = files / "session_full"
        path = session / "agents" / "agent_b" / "agent.json"
        path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "_internal_state"}))
        for name in ("multi_agent_graph/multi_agent.json", "multi_agent_graph", ""):
            path = session / "multi_agents" / name
            path.unlink() if path.is_file() else path.rmdir()
        report = import_file_sessions(files, target)
        assert (report.copied, report.skipped) == (RecordCounts(2, 2, 8, 0), [])

    def test_of_some_sessions(self, files: Path, target: Any) -> None:
        report = import_file_sessions(files, target, session_ids=["other", "full-other", "../files/session_full"])
        assert report.session_ids == ["full-other"]
        assert [skipped.what for skipped in report.skipped] == ["other", "../files/session_full"]
        assert report.skipped[0].reason == f"no such session in {files}"

    def test_again_takes_only_what_is_new(self, tmp_path: Path, files: Path, target: Any) -> None:
        import_file_sessions(files, target)
        before = rows(tmp_path / "target.db")
        report = import_file_sessions(files, target)
        assert (report.session_ids, report.copied) == ([], NOTHING)
        assert (report.already_there, report.skipped) == (RecordCounts(2, 2, 8, 1), [])
        assert rows(tmp_path / "target.db") == before
        manager = files_in(files, "full-other")
        manager.create_message("full", "b", text_message(0))
        manager.create_agent("full", SessionAgent("c", {}, {}))
        report = import_file_sessions(files, target)
        assert (report.session_ids, report.copied) == (["full"], RecordCounts(0, 1, 1, 0))

    def test_keeps_what_the_database_holds_differently_and_goes_on(
        self, tmp_path: Path, files: Path, target: Any
    ) -> None:
        import_file_sessions(files, target)
        with contextlib.closing(sqlite3.connect(tmp_path / "target.db", isolation_level=None)) as raw:
            raw.execute("UPDATE messages SET attachments = x'00' WHERE message_id = 3")
            raw.execute("DELETE FROM messages WHERE message_id = 0")
        files_in(files, "new").create_agent("full", SessionAgent("c", {}, {}))
        before = rows(tmp_path / "target.db")["messages"]
        report = import_file_sessions(files, target)
        assert [skipped.what for skipped in report.skipped] == [str(files / "session_full" / "agents" / "agent_a")]
        assert "Message 3 of agent a in session full: the target holds a different one" in report.skipped[0].reason
        assert report.session_ids == ["full", "new"]
        assert rows(tmp_path / "target.db")["messages"] == before

    @pytest.mark.parametrize(
        ("damaged", "text", "reason"),
        [
            ("messages/message_3.json", "", "Expecting value"),
            ("messages/message_3.json", '{"message": {"role"', "Expecting"),
            ("messages/message_3.json", "[]", "not a JSON object"),
            ("messages/message_3.json", "[" * 200_000, "recursion"),
            ("messages/message_3.json", "{}", "no created_at in it"),
            ("messages/message_3.json", "\udcff", "'utf-8' codec can't decode"),
            ("messages/message_99.json", {"message_id": 3}, "the record of message_id 99 says that it is 3"),
            ("messages/message_99.json", {"message_id": 99, "message": {}}, "a role and a list as content"),
            ("messages/message_99.json", {"message_id": 99, "created_at": None}, "created_at=None: must be a time"),
            ("messages/message_99.json", {"message_id": 99, "updated_at": "soon"}, "updated_at='soon': must be a time"),
            ("messages/message_99.json", {"message_id": 99, "message": BAD_BYTES}, "padding|base64"),
            ("messages/message_03.json", "{}", "no number of a message in its name"),
            ("messages/message_x.json", "{}", "no number of a message in its name"),
            ("agent.json", "{", "Expecting property name"),
            ("agent.json", None, "No such file"),
        ],
    )
    def test_reports_damaged_files_and_stores_an_agent_whole_or_not_at_all(
        self, tmp_path: Path, files: Path, target: Any, damaged: str, text: Any, reason: str
    ) -> None:
        path = files / "session_full" / "agents" / "agent_a" / damaged
        if isinstance(text, dict):
            text = json.dumps({**json.loads((path.parent / "message_0.json").read_text(encoding="utf-8")), **text})
        if text is None:
            path.unlink()
        else:
            path.write_bytes(text.encode(errors="surrogateescape"))
        report = import_file_sessions(files, target)
        assert [skipped.what for skipped in report.skipped] == [str(path)]
        assert re.search(reason, report.skipped[0].reason), report.skipped
        stored = rows(tmp_path / "target.db")
        assert [row[1] for row in stored["agents"]] == ["b"]
        assert (stored["messages"], len(stored["multi_agents"])) == ([], 1)

    def test_that_was_mended_is_completed(self, tmp_path: Path, files: Path, target: Any) -> None:
        path = files / "session_full" / "agents" / "agent_a" / "messages" / "message_3.json"
        whole = path.read_bytes()
        path.write_bytes(whole[:20])
        assert len(import_file_sessions(files, target).skipped) == 1
        path.write_bytes(whole)
        report = import_file_sessions(files, target)
        assert (report.copied, report.skipped) == (RecordCounts(0, 1, 8, 0), [])
        export_file_sessions(target, tmp_path / "out")
        assert content_without_activity(tmp_path / "out") == content_without_activity(files)

    @pytest.mark.parametrize("text", ["{", None])
    def test_skips_a_session_whose_own_file_is_damaged(self, files: Path, target: Any, text: str | None) -> None:
        path = files / "session_full" / "session.json"
        path.unlink() if text is None else path.write_text(text)
        report = import_file_sessions(files, target)
        assert [skipped.what for skipped in report.skipped] == [str(path)]
        assert report.session_ids == ["full-other"]

    @pytest.mark.parametrize("time", BAD_TIMES)
    def test_skips_a_session_whose_time_cannot_be_compared(
        self, tmp_path: Path, files: Path, target: Any, time: str
    ) -> None:
        """It would be pruned too early, or never."""
        path = files / "session_full" / "session.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "updated_at": time}))
        report = import_file_sessions(files, target)
        assert [skipped.what for skipped in report.skipped] == [str(path)]
        assert report.skipped[0].reason.startswith(f"updated_at={time!r}: must be a time in UTC such as 2026-")
        assert report.session_ids == ["full-other"]

    def test_takes_the_time_of_a_graph_from_its_file(self, tmp_path: Path, files: Path, target: Any) -> None:
        graph = files / "session_full" / "multi_agents" / "multi_agent_graph" / "multi_agent.json"
        os.utime(graph, (datetime.fromisoformat(LONG_AGO).timestamp(),) * 2)
        import_file_sessions(files, target)
        imported = rows(tmp_path / "target.db")
        assert imported["multi_agents"][0][3:] == (LONG_AGO, LONG_AGO)
        assert imported["sessions"][0] == ("full", "AGENT", "{}", LONG_AGO, LATER)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes are those of Unix")
    def test_does_not_wait_for_a_pipe(self, files: Path) -> None:
        path = files / "session_full" / "agents" / "agent_a" / "messages" / "message_0.json"
        path.unlink()
        os.mkfifo(path)
        code = """
import sys
from strands_sqlite_session_manager import SQLiteSessionRepository
from strands_sqlite_session_manager.transfer import import_file_sessions
print(*import_file_sessions(sys.argv[1], SQLiteSessionRepository()).skipped)
"""
        assert run_python(code, files, timeout=20) == f"{Skipped(str(path), 'not a regular file')}\n"

    def test_skips_a_damaged_state_of_a_graph(self, files: Path, target: Any) -> None:
        path = files / "session_full" / "multi_agents" / "multi_agent_graph" / "multi_agent.json"
        path.write_text("[]")
        (files / "session_notes.txt").write_text("no session")
        report = import_file_sessions(files, target)
        assert report.skipped == [Skipped(str(path), "not a JSON object")]
        assert report.copied == RecordCounts(2, 2, 8, 0)

    def test_reports_directories_that_are_none(self, files: Path, target: Any) -> None:
        messages = files / "session_full" / "agents" / "agent_b" / "messages"
        messages.rmdir()
        (files / "session_full-other" / "agents").rmdir()
        (files / "session_full-other" / "agents").write_text("")
        skipped = {s.what: s.reason for s in import_file_sessions(files, target).skipped}
        assert set(skipped) == {str(messages), str(files / "session_full-other" / "agents")}
        assert "No such file" in skipped[str(messages)]

    def test_reports_fields_that_the_sdk_does_not_know(self, files: Path, target: Any) -> None:
        path = files / "session_full" / "session.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "title": "mine"}))
        report = import_file_sessions(files, target)
        assert [(s.what, "'title'" in s.reason) for s in report.skipped] == [(str(path), True)]
        assert "full" in report.session_ids

    @pytest.mark.skipif(sys.platform == "win32", reason="needs a privilege")
    def test_does_not_follow_a_symbolic_link(self, tmp_path: Path, files: Path, target: Any) -> None:
        path = files / "session_full" / "agents" / "agent_b" / "agent.json"
        path.rename(tmp_path / "elsewhere.json")
        path.symlink_to(tmp_path / "elsewhere.json")
        report = import_file_sessions(files, target)
        assert report.skipped == [Skipped(str(path), "a symbolic link, which is not followed")]

    @pytest.mark.skipif(sys.platform == "win32", reason="needs a privilege")
    @pytest.mark.parametrize(
        "link",
        [
            *("", "agents", "agents/agent_a", "agents/agent_a/messages"),
            *("multi_agents", "multi_agents/multi_agent_graph"),
        ],
    )
    def test_does_not_follow_a_directory_that_is_a_symbolic_link(
        self, tmp_path: Path, files: Path, target: Any, link: str
    ) -> None:
        """It may lead to another user's session."""
        path = files / "session_full" / link
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere", target_is_directory=True)
        report = import_file_sessions(files, target)
        reason = "a symbolic link, which is not followed"
        skipped = path / "multi_agent.json" if link.endswith("graph") else path
        assert [(s.what, s.reason) for s in report.skipped] in ([(str(path), reason)], [(str(skipped), reason)])
        stored = rows(tmp_path / "target.db")
        assert len(stored["sessions"]) == (1 if link == "" else 2)
        assert len(stored["messages"]) == (8 if link.startswith("multi_agents") else 0)
        assert len(stored["multi_agents"]) == (0 if link in ("", "agents") or link.startswith("multi") else 1)

    @pytest.mark.skipif(sys.platform == "win32", reason="needs a privilege")
    def test_follows_a_symbolic_link_to_the_whole_directory(self, tmp_path: Path, files: Path, target: Any) -> None:
        """That one is named by the caller."""
        (tmp_path / "link").symlink_to(files, target_is_directory=True)
        assert import_file_sessions(tmp_path / "link", target).skipped == []

    def test_of_no_directory_raises(self, tmp_path: Path, target: Any) -> None:
        with pytest.raises(SessionException, match="nowhere: no such directory"):
            import_file_sessions(tmp_path / "nowhere", target)
        assert not (tmp_path / "nowhere").exists()

    def test_does_not_take_a_broken_database_for_a_bad_session(self, files: Path, target: Any) -> None:
        target.close()
        with pytest.raises(SessionException, match="used after it was closed"):
            import_file_sessions(files, target)

    def test_that_was_killed_goes_on(self, tmp_path: Path, files: Path, target: Any) -> None:
        """The process dies between the agents of a session."""
        code = """
import os, sys
from strands_sqlite_session_manager import SQLiteSessionRepository
from strands_sqlite_session_manager.transfer import file_sessions
from strands_sqlite_session_manager.transfer import import_file_sessions

def dying(path):
    if path.parent.name == "agent_b":
        os._exit(9)
    return message_paths(path)

message_paths = file_sessions.message_paths
file_sessions.message_paths = dying
import_file_sessions(sys.argv[1], SQLiteSessionRepository(sys.argv[2]))
"""
        with pytest.raises(AssertionError):
            run_python(code, files, tmp_path / "target.db")
        assert len(rows(tmp_path / "target.db")["messages"]) == 8
        assert import_file_sessions(files, target).copied == RecordCounts(1, 1, 0, 1)
        export_file_sessions(target, tmp_path / "out")
        assert content_without_activity(tmp_path / "out") == content_without_activity(files)


class TestFileExport:
    def test_never_touches_a_session_that_is_there(self, tmp_path: Path, source: Any) -> None:
        manager = files_in(tmp_path / "out", "full")
        manager.create_agent("full", SessionAgent("a", {"mine": True}, {}))
        before = content(tmp_path / "out")
        report = export_file_sessions(source, tmp_path / "out")
        assert (report.session_ids, report.copied) == ([], NOTHING)
        assert [skipped.what for skipped in report.skipped] == ["full"]
        assert "exists already" in report.skipped[0].reason
        assert content(tmp_path / "out") == before

    def test_skips_what_files_cannot_hold_and_leaves_nothing_of_it(self, tmp_path: Path, source: Any) -> None:
        for session_id in ("a/b", "x" * 300, "with surrogate", "with bytes", "with damage", "any"):
            source.create_session(Session(session_id, SessionType.AGENT, LONG_AGO))
        source.create_agent("with surrogate", SessionAgent("a", {"x": "\ud800"}, {}))
        source.create_multi_agent("with bytes", StateOf("g", {"x": b"bytes"}))
        source.create_agent("with damage", SessionAgent("a", {}, {}))
        with contextlib.closing(sqlite3.connect(tmp_path / "source.db", isolation_level=None)) as raw:
            raw.execute("UPDATE agents SET state = '?' WHERE session_id = 'with damage'")
        report = export_file_sessions(source, tmp_path / "out", session_ids=[
            "a/b", "x" * 300, "with surrogate", "with bytes", "with damage", "nobody", "any", "full"
        ])  # fmt: skip
        reasons = {skipped.what: skipped.reason for skipped in report.skipped}
        assert set(reasons) == {"a/b", "x" * 300, "with surrogate", "with bytes", "with damage", "nobody"}
        assert "path separators" in reasons["a/b"]
        assert "surrogates not allowed" in reasons["with surrogate"]
        assert "bytes is not JSON serializable" in reasons["with bytes"]
        assert "damaged JSON" in reasons["with damage"]
        assert reasons["nobody"] == "Session nobody does not exist"
        assert report.session_ids == ["any", "full"]
        assert names(tmp_path / "out") == ["session_any", "session_full"]
        # The name that the writing manager has meanwhile is nobody's.
        assert json.loads((tmp_path / "out" / "session_any" / "session.json").read_text())["created_at"] == LONG_AGO

    def test_leaves_the_database_as_it_is(self, tmp_path: Path, source: Any, source_rows: Any) -> None:
        export_file_sessions(source, tmp_path / "out")
        assert rows(tmp_path / "source.db") == source_rows

    def test_reports_metadata_for_which_files_have_no_place(self, tmp_path: Path, source: Any) -> None:
        fill(source, "tagged")
        with contextlib.closing(sqlite3.connect(tmp_path / "source.db", isolation_level=None)) as raw:
            raw.execute("""UPDATE sessions SET metadata = '{"tags":["mine"]}' WHERE session_id = 'tagged'""")
        report = export_file_sessions(source, tmp_path / "out")
        assert report.session_ids == ["full", "tagged"]
        assert (report.skipped, report.without_metadata) == ([], ["tagged"])

    @pytest.mark.skipif(os.name != "posix", reason="has other permissions")
    def test_is_private_in_a_directory_that_others_can_read(self, tmp_path: Path, source: Any) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out").chmod(0o755)
        before = os.umask(0)
        try:
            export_file_sessions(source, tmp_path / "out")
        finally:
            os.umask(before)
        for path in (tmp_path / "out").rglob("*"):
            assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
        assert (tmp_path / "out").stat().st_mode & 0o777 == 0o755

    def test_into_what_is_no_directory_raises(self, tmp_path: Path, source: Any) -> None:
        (tmp_path / "out").write_text("")
        with pytest.raises(SessionException, match="cannot be created"):
            export_file_sessions(source, tmp_path / "out")

    def test_is_what_the_file_manager_goes_on_from(self, tmp_path: Path, target: Any) -> None:
        make_agent(SQLiteSessionManager("s", session_repository=target), "Hello.", agent_id="helper")("Hi.")
        export_file_sessions(target, tmp_path / "out")
        agent = make_agent(files_in(tmp_path / "out", "s"), "Again.", agent_id="helper")
        agent("And now?")
        assert texts(agent.messages) == ["Hi.", "Hello.", "And now?", "Again."]


ODD_ROWS = """
    UPDATE messages SET message = '{"role": "user", "content": []}' WHERE message_id = 0;
    UPDATE messages SET message = '{"role":"user","content":[],"x":1,"x":2}' WHERE message_id = 1;
    UPDATE messages SET message = 'damaged " \\' || char(10, 13, 8232), attachments = x'' WHERE message_id = 2;
    UPDATE messages SET message = '[1]', redact_message = 'null' WHERE message_id = 3;
    UPDATE messages SET message = '{"role":"user","content":[NaN,1e400,-0.0,1E5]}' WHERE message_id = 4;
    UPDATE messages SET message = '{"x":"' || char(92) || 'ud800"}' WHERE message_id = 5;
    UPDATE sessions SET metadata = '{"name":"Größe"}', session_type = 'NEW';
    UPDATE agents SET state = '', internal_state = '5';
    UPDATE multi_agents SET state = '{"deep":' || replace(hex(zeroblob(450)), '0', '[') ||
        replace(hex(zeroblob(450)), '0', ']') || '}';
    UPDATE sessions SET updated_at = '2019-01-01T00:00:00.000000+00:00';
    INSERT INTO sessions (session_id) VALUES ('empty ''"' || char(10));
"""


class TestJsonLines:
    def test_have_the_same_rows_when_they_are_read_back(
        self, tmp_path: Path, source: Any, source_rows: Any, target: Any
    ) -> None:
        counts = export_jsonl(source, tmp_path / "out.jsonl")
        report = import_jsonl(tmp_path / "out.jsonl", target)
        assert counts == report.copied == EVERYTHING
        assert (report.session_ids, report.already_there, report.skipped) == (["full"], NOTHING, [])
        assert rows(tmp_path / "target.db") == source_rows == rows(tmp_path / "source.db")

    def test_have_the_same_rows_however_odd_they_are(self, tmp_path: Path, source: Any, target: Any) -> None:
        with contextlib.closing(sqlite3.connect(tmp_path / "source.db")) as raw:
            raw.executescript(ODD_ROWS)
        before = rows(tmp_path / "source.db")
        file = io.StringIO()
        export_jsonl(source, file)
        file.seek(0)
        assert import_jsonl(file, target).session_ids == ["empty '\"\n", "full"]
        assert rows(tmp_path / "target.db") == before
        again = io.StringIO()
        export_jsonl(target, again)
        assert again.getvalue() == file.getvalue()

    def test_are_as_documented(self, tmp_path: Path, source: Any) -> None:
        export_jsonl(source, tmp_path / "out.jsonl")
        header, *lines, end = (tmp_path / "out.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
        assert json.loads(end) == {"record": "end", "sessions": 1, "agents": 2, "messages": 8, "multi_agents": 1}
        assert json.loads(header) == {"format": "strands-sqlite-session-manager", "version": 1}
        records = [json.loads(line) for line in lines]
        kinds = [record["record"] for record in records]
        assert kinds == ["session", "agent", *["message"] * 8, "agent", "multi_agent"]
        assert records[0]["metadata"] == {}
        assert list(records[2]) == [
            *("record", "session_id", "agent_id", "message_id", "message"),
            *("redact_message", "attachments", "created_at", "updated_at"),
        ]
        assert records[2]["message"]["content"] == CONTENTS[0]
        assert (records[2]["redact_message"], records[2]["attachments"]) == (None, None)
        assert records[3]["attachments"] == "iVBORwD/"
        assert "漢字" in lines[2]

    def test_of_some_sessions(self, tmp_path: Path, source: Any) -> None:
        fill(source, "second")
        assert export_jsonl(source, tmp_path / "one", session_ids=["second", "second"]) == EVERYTHING
        assert '"full"' not in (tmp_path / "one").read_text(encoding="utf-8")
        with pytest.raises(SessionException, match="Session nobody does not exist"):
            export_jsonl(source, tmp_path / "two", session_ids=["second", "nobody"])
        assert not (tmp_path / "two").exists()

    def test_file_is_private_and_replaces_none(self, tmp_path: Path, source: Any) -> None:
        export_jsonl(source, str(tmp_path / "out"))
        if os.name == "posix":
            assert (tmp_path / "out").stat().st_mode & 0o777 == 0o600
        before = (tmp_path / "out").read_bytes()
        with pytest.raises(SessionException, match="exists already; choose another path"):
            export_jsonl(source, tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == before
        with pytest.raises(SessionException, match="cannot be written: No such file"):
            export_jsonl(source, tmp_path / "nowhere" / "out")

    def test_file_appears_when_it_is_complete(self, tmp_path: Path, source: Any) -> None:
        """The process dies while it writes: what it leaves is private, and not where the whole file belongs."""
        code = """
import os, sys
from strands_sqlite_session_manager import SQLiteSessionRepository
from strands_sqlite_session_manager.transfer import json_lines
from strands_sqlite_session_manager.transfer import export_jsonl

def dying(table, row):
    if table == "multi_agents":
        os._exit(9)
    return line(table, row)

line = json_lines._line
json_lines._line = dying
export_jsonl(SQLiteSessionRepository(sys.argv[1]), sys.argv[2])
"""
        (tmp_path / "out").mkdir()
        with pytest.raises(AssertionError):
            run_python(code, tmp_path / "source.db", tmp_path / "out" / "a.jsonl")
        (left,) = (tmp_path / "out").iterdir()
        assert re.fullmatch(r"a\.jsonl\..+\.partial", left.name)
        if os.name == "posix":
            assert left.stat().st_mode & 0o777 == 0o600
        export_jsonl(source, tmp_path / "out" / "a.jsonl")
        assert names(tmp_path / "out") == sorted(["a.jsonl", left.name])

    def test_file_does_not_replace_one_that_came_meanwhile(self, tmp_path: Path, source: Any, monkeypatch: Any) -> None:
        (tmp_path / "out").mkdir()
        path = tmp_path / "out" / "a.jsonl"

        def writing(*args: Any) -> str:
            path.write_text("mine")
            return line(*args)

        line = json_lines._line
        monkeypatch.setattr(json_lines, "_line", writing)
        with pytest.raises(SessionException, match="exists already; choose another path"):
            export_jsonl(source, path)
        assert (names(tmp_path / "out"), path.read_text()) == (["a.jsonl"], "mine")

    @pytest.mark.parametrize("is_path", [False, True], ids=["text file", "path"])
    def test_that_end_too_early_are_stored_and_raise(
        self, tmp_path: Path, source: Any, source_rows: Any, target: Any, is_path: bool
    ) -> None:
        """The file is cut at the end of a line, after each in turn: nothing else shows it."""
        export_jsonl(source, tmp_path / "out")
        lines = (tmp_path / "out").read_text(encoding="utf-8").split("\n")
        for end in range(1, len(lines) - 1):
            text = "\n".join([*lines[:end], ""])
            (tmp_path / "cut").write_bytes(text.encode())
            with pytest.raises(SessionException, match=f"^line {end}: the file ends too early; what is in it was"):
                import_jsonl(tmp_path / "cut" if is_path else io.StringIO(text), target)
            assert sum(map(len, rows(tmp_path / "target.db").values())) == end - 1
        assert rows(tmp_path / "target.db") == source_rows
        import_jsonl(tmp_path / "out", target)

    def test_with_something_below_the_end_raise(
        self, tmp_path: Path, source: Any, source_rows: Any, target: Any
    ) -> None:
        """As two files that were put into one."""
        export_jsonl(source, tmp_path / "out")
        text = (tmp_path / "out").read_text(encoding="utf-8")
        with pytest.raises(SessionException, match=r"^line 15: below the line that ends the file"):
            import_jsonl(io.StringIO(text + text), target)
        assert rows(tmp_path / "target.db") == source_rows

    @pytest.mark.parametrize("ending", ["\n", "\n\r\n  \n"])
    def test_may_end_with_blank_lines(
        self, tmp_path: Path, source: Any, source_rows: Any, target: Any, ending: str
    ) -> None:
        """As some editors leave a file."""
        file = io.StringIO()
        export_jsonl(source, file)
        import_jsonl(io.StringIO(file.getvalue() + ending), target)
        assert rows(tmp_path / "target.db") == source_rows

    def test_file_that_was_begun_is_removed(self, tmp_path: Path, source: Any) -> None:
        """Also the one beside it, in which it is written."""
        (tmp_path / "out").mkdir()
        with contextlib.closing(sqlite3.connect(tmp_path / "source.db", isolation_level=None)) as raw:
            raw.execute("UPDATE messages SET message = CAST(x'FF' AS TEXT) WHERE message_id = 4")
        with pytest.raises(SessionException, match="UTF-8"):
            export_jsonl(source, tmp_path / "out" / "a.jsonl")
        assert names(tmp_path / "out") == []

    def test_again_change_nothing(self, tmp_path: Path, source: Any, target: Any) -> None:
        export_jsonl(source, tmp_path / "out")
        import_jsonl(tmp_path / "out", target)
        before = rows(tmp_path / "target.db")
        report = import_jsonl(tmp_path / "out", target)
        assert (report.session_ids, report.copied, report.already_there) == ([], NOTHING, EVERYTHING)
        assert rows(tmp_path / "target.db") == before

    def test_skip_a_session_that_differs_and_go_on(self, tmp_path: Path, source: Any, target: Any) -> None:
        fill(source, "second")
        export_jsonl(source, tmp_path / "out")
        copy_session(source, target, "full")
        with contextlib.closing(sqlite3.connect(tmp_path / "target.db", isolation_level=None)) as raw:
            raw.execute("UPDATE messages SET attachments = x'00' WHERE message_id = 3")
            raw.execute("DELETE FROM messages WHERE message_id = 0")
        before = rows(tmp_path / "target.db")["messages"]
        report = import_jsonl(tmp_path / "out", target)
        assert [skipped.what for skipped in report.skipped] == ["full"]
        assert report.skipped[0].reason.startswith("line 7: Message 3 of agent a in session full: the target holds")
        assert report.session_ids == ["second"]
        stored = rows(tmp_path / "target.db")["messages"]
        assert [row for row in stored if row[0] == "full"] == before

    def test_go_on_after_the_batches_that_are_there(
        self, tmp_path: Path, source: Any, source_rows: Any, target: Any, monkeypatch: Any
    ) -> None:
        """The file is cut after each line in turn; then the whole one completes what is there, times too."""
        monkeypatch.setattr("strands_sqlite_session_manager.transfer.writer._BATCH", 3)
        export_jsonl(source, tmp_path / "out")
        lines = (tmp_path / "out").read_text(encoding="utf-8").split("\n")
        for end in range(2, len(lines) - 2):
            cut = io.StringIO("\n".join([*lines[:end], lines[end][:10]]))
            with pytest.raises(SessionException, match=f"line {end + 1}: "):
                import_jsonl(cut, target)
            assert len(rows(tmp_path / "target.db")["messages"]) == max(0, min(8, (end - 1) // 3 * 3 - 2))
            assert import_jsonl(tmp_path / "out", target).skipped == []
            assert rows(tmp_path / "target.db") == source_rows
            target.delete_session("full")

    def test_store_a_small_session_whole_or_not_at_all(self, tmp_path: Path, source: Any, target: Any) -> None:
        fill(source, "second")
        export_jsonl(source, tmp_path / "out")
        lines = (tmp_path / "out").read_text(encoding="utf-8").split("\n")
        with pytest.raises(SessionException, match="line 25: "):
            import_jsonl(io.StringIO("\n".join(lines[:25])[:-10]), target)
        assert [row[0] for row in rows(tmp_path / "target.db")["sessions"]] == ["full"]

    def test_of_large_messages_are_stored_in_batches(self, tmp_path: Path, monkeypatch: Any, target: Any) -> None:
        monkeypatch.setattr("strands_sqlite_session_manager.transfer.writer._BATCH_SIZE", 1000)
        with SQLiteSessionRepository(tmp_path / "source.db") as source:
            source.create_session(Session("s", SessionType.AGENT))
            source.create_agent("s", SessionAgent("a", {}, {}))
            for number in range(4):
                source.create_message("s", "a", text_message(number, "x" * 600))
            export_jsonl(source, tmp_path / "out")
        lines = (tmp_path / "out").read_text().split("\n")
        with pytest.raises(SessionException, match="line 7"):
            import_jsonl(io.StringIO("\n".join(lines[:7])[:-10]), target)
        assert len(rows(tmp_path / "target.db")["messages"]) == 2

    @pytest.mark.parametrize(
        ("line", "problem"),
        [
            ("", "Expecting value"),
            ("{", "Expecting property name"),
            ("[]", "not a JSON object"),
            ("{}", "no field 'record'"),
            ('{"record": "novelty"}', "no such record: 'novelty'"),
            ('{"record": []}', "unhashable"),
            ({"message_id": "1"}, "message_id='1': must be an int"),
            ({"message_id": -1}, "message_id=-1: must be an int"),
            ({"agent_id": ""}, "agent_id='': an id is a non-empty string"),
            ({"agent_id": "b"}, "not below the line of its agent 'b'"),
            ({"session_id": "b"}, "not below the line of its session 'b'"),
            ({"message": None}, "message: not an object"),
            ({"message": "text"}, "message: not an object"),
            ({"message_text": "{}"}, "unknown fields: message"),
            ({"message_text": 5}, "5: not a text"),
            ({"message": {"x": "\ud800"}}, "a lone surrogate"),
            ({"message": {"x": float("nan")}}, "not JSON compliant"),
            ({"attachments": "?"}, "base64|padding"),
            ({"attachments": 5}, "argument should be"),
            ({"created_at": None}, "created_at=None: must be a time in UTC such as 2026-"),
            *(({"updated_at": time}, f"updated_at={re.escape(repr(time))}: must be a time") for time in BAD_TIMES),
            ({"novelty": 1}, "unknown fields: novelty"),
            ("[" * 200_000, "recursion"),
            ("\udcff", "not UTF-8"),
        ],
    )
    @pytest.mark.parametrize("is_path", [False, True], ids=["text file", "path"])
    def test_with_a_bad_line_raise_with_its_number(
        self, tmp_path: Path, source: Any, target: Any, line: Any, problem: str, is_path: bool
    ) -> None:
        export_jsonl(source, tmp_path / "out")
        lines = (tmp_path / "out").read_text(encoding="utf-8").split("\n")
        if isinstance(line, dict):
            line = json.dumps({**json.loads(lines[4]), **line})
        lines[4] = line
        (tmp_path / "bad").write_bytes("\n".join(lines).encode(errors="surrogateescape"))
        with pytest.raises(SessionException, match=f"^line 5: .*({problem}).*; correct or remove it and import again"):
            import_jsonl(tmp_path / "bad" if is_path else io.StringIO("\n".join(lines)), target)
        assert rows(tmp_path / "target.db")["sessions"] == []

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("", "this is a file of another format"),
            ("hello", "this is a file of another format"),
            ('{"record": "session"}', "this is a file of another format"),
            ('{"format": "strands-sqlite-session-manager", "version": 2}', "version 2 .* upgrade the package"),
            ('{"format": "strands-sqlite-session-manager"}', "version None .* upgrade the package"),
        ],
    )
    def test_of_another_format_or_a_newer_version_raise(self, target: Any, text: str, problem: str) -> None:
        with pytest.raises(SessionException, match=f"^line 1: .*{problem}"):
            import_jsonl(io.StringIO(text), target)

    @pytest.mark.parametrize("is_path", [False, True], ids=["text file", "path"])
    def test_with_a_byte_order_mark_and_windows_line_ends_are_read(
        self, tmp_path: Path, source: Any, source_rows: Any, target: Any, is_path: bool
    ) -> None:
        export_jsonl(source, tmp_path / "out")
        data = (tmp_path / "out").read_bytes()
        (tmp_path / "edited").write_bytes(b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n"))
        with (tmp_path / "edited").open(encoding="utf-8") as file:
            import_jsonl(tmp_path / "edited" if is_path else file, target)
        assert rows(tmp_path / "target.db") == source_rows

    def test_from_a_file_that_cannot_be_read_raise(self, tmp_path: Path, target: Any) -> None:
        with pytest.raises(SessionException, match="nowhere: cannot be read: No such file"):
            import_jsonl(tmp_path / "nowhere", target)
        with pytest.raises(SessionException, match="not UTF-8"):
            import_jsonl(io.TextIOWrapper(io.BytesIO(b"\xff"), encoding="utf-8"), target)

    def test_are_not_looked_for_in_the_database_itself(self, tmp_path: Path, target: Any) -> None:
        """Closing the file would drop SQLite's locks on it."""
        with pytest.raises(ValueError, match="is the target database itself"):
            import_jsonl(str(tmp_path / "target.db"), target)

    def test_with_a_record_twice_store_nothing_of_the_session(self, tmp_path: Path, source: Any, target: Any) -> None:
        export_jsonl(source, tmp_path / "out")
        lines = (tmp_path / "out").read_text(encoding="utf-8").split("\n")
        report = import_jsonl(io.StringIO("\n".join([*lines[:5], *lines[4:]])), target)
        assert [skipped.what for skipped in report.skipped] == ["full"]
        assert "a record of it came twice" in report.skipped[0].reason
        assert (report.session_ids, rows(tmp_path / "target.db")["sessions"]) == ([], [])


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("agent_ids", lambda s, t, path: copy_session(s, t, "full", agent_ids="ab")),
        ("multi_agent_ids", lambda s, t, path: copy_session(s, t, "full", multi_agent_ids="ab")),
        ("session_ids", lambda s, t, path: import_file_sessions(path, t, session_ids="ab")),
        ("session_ids", lambda s, t, path: export_file_sessions(s, path / "out", session_ids="ab")),
        ("session_ids", lambda s, t, path: export_jsonl(s, path / "out", session_ids="ab")),
    ],
)
def test_one_string_is_not_taken_for_several_ids(
    tmp_path: Path, source: Any, target: Any, name: str, call: Any
) -> None:
    """Its characters would be."""
    with pytest.raises(ValueError, match=f"^{name}='ab': must be several ids, not one string"):
        call(source, target, tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("target", lambda path: import_file_sessions(path, "x.db")),  # type: ignore[arg-type]
        ("target", lambda path: import_jsonl(io.StringIO(), "x.db")),  # type: ignore[arg-type]
        ("source", lambda path: export_file_sessions("x.db", path / "out")),  # type: ignore[arg-type]
        ("source", lambda path: export_jsonl("x.db", path / "out")),  # type: ignore[arg-type]
    ],
)
def test_a_path_is_not_taken_for_a_repository(tmp_path: Path, name: str, call: Any) -> None:
    with pytest.raises(ValueError, match=f"^{name}='x.db': must be a SQLiteSessionRepository, not a manager"):
        call(tmp_path)
    assert list(tmp_path.iterdir()) == []
