"""Sessions as a `FileSessionManager` keeps them, out."""

import contextlib
import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionType
from transfer_helpers import LONG_AGO, NOTHING, StateOf, content, files_in, fill, names, rows

from helpers import make_agent, texts
from strands_sqlite_session_manager import (
    SQLiteSessionManager,
)
from strands_sqlite_session_manager.transfer import (
    export_file_sessions,
)


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
