"""Sessions from one repository to another."""

import contextlib
import io
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest
from strands.session.repository_session_manager import RepositorySessionManager
from strands.session.session_repository import SessionRepository
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType
from transfer_helpers import EVERYTHING, LATER, LONG_AGO, NOTHING, content, files_in, rows

from helpers import text_message
from strands_sqlite_session_manager import (
    SessionConflictError,
    SQLiteSessionManager,
    SQLiteSessionRepository,
)
from strands_sqlite_session_manager.transfer import (
    RecordCounts,
    copy_session,
    export_file_sessions,
    export_jsonl,
    import_file_sessions,
    import_jsonl,
)


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


def without_multi_agent_times(tables: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {**tables, "multi_agents": [row[:3] for row in tables["multi_agents"]]}


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
        assert copied["sessions"] == [("full", "AGENT", "{}", None, LONG_AGO, LATER)]
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

    def test_takes_no_stash_of_a_session_whose_id_is_longer(self, target: Any, tmp_path: Path) -> None:
        """Even if it looks like the key of an agent's stash."""
        stashes = ["context/s/scopes/agent/a/t", "context/s/scopes/agent/a/scopes/agent/b/t"]
        with SQLiteSessionRepository(tmp_path / "source.db") as source:
            for session_id in ("s", "s/scopes/agent/a"):
                source.create_session(Session(session_id, SessionType.AGENT))
            with contextlib.closing(sqlite3.connect(tmp_path / "source.db", isolation_level=None)) as raw:
                raw.executemany("INSERT INTO storage (key, data) VALUES (?, x'00')", [(key,) for key in stashes])
            assert [copy_session(source, target, s).copied.storage for s in ("s", "s/scopes/agent/a")] == [1, 1]

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

    @pytest.mark.slow
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
