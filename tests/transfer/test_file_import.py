"""Sessions of a `FileSessionManager`, in."""

import contextlib
import json
import os
import re
import sqlite3
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from strands.multiagent import GraphBuilder
from strands.types.exceptions import SessionException
from strands.types.session import SessionAgent
from transfer_helpers import BAD_TIMES, LATER, LONG_AGO, NOTHING, content, files_in, fill, names, rows

from helpers import Redaction, make_agent, run_python, text_message, texts
from strands_sqlite_session_manager import (
    SQLiteSessionManager,
)
from strands_sqlite_session_manager.transfer import (
    RecordCounts,
    Skipped,
    export_file_sessions,
    import_file_sessions,
)

BAD_BYTES = {"content": [{"__bytes_encoded__": True, "data": "a"}]}


def content_without_activity(directory: Path) -> dict[str, Any]:
    """All files below a directory, those of sessions without the time of their last activity."""
    return {
        path: {**json.loads(data), "updated_at": None} if path.endswith("session.json") else data
        for path, data in content(directory).items()
    }


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

    @pytest.mark.slow
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
        assert imported["sessions"][0] == ("full", "AGENT", "{}", None, LONG_AGO, LATER)

    @pytest.mark.slow
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

    @pytest.mark.slow
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
