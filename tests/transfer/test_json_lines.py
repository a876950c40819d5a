"""Sessions as JSON Lines, out and in."""

import contextlib
import io
import json
import os
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionType
from transfer_helpers import BAD_TIMES, CONTENTS, EVERYTHING, NOTHING, fill, names, rows

from helpers import run_python, text_message
from strands_sqlite_session_manager import (
    SQLiteSessionRepository,
)
from strands_sqlite_session_manager.transfer import (
    copy_session,
    export_jsonl,
    import_jsonl,
    json_lines,
)

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
        assert json.loads(end) == {
            "record": "end",
            "sessions": 1,
            "agents": 2,
            "messages": 8,
            "multi_agents": 1,
            "storage": 0,
        }
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

    @pytest.mark.slow
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

line = json_lines.line_of
json_lines.line_of = dying
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

        line = json_lines.line_of
        monkeypatch.setattr(json_lines, "line_of", writing)
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
            raw.execute("DROP VIEW conversation")
            raw.execute("ALTER TABLE messages RENAME COLUMN attachments TO gone")
        with pytest.raises(SessionException, match="no such column"):
            export_jsonl(source, tmp_path / "out" / "a.jsonl")
        assert names(tmp_path / "out") == []

    def test_references_to_more_bytes_than_there_are_are_refused(self, tmp_path: Path, target: Any) -> None:
        """A file of some megabytes could fill the memory of whoever reads what it brought."""
        time = "2026-01-01T00:00:00+00:00"
        times = {"created_at": time, "updated_at": time}
        reference = {"image": {"source": {"bytes": {"__encoded__": ["attachment", 0, 3]}}}}
        lines = [
            {"format": "strands-sqlite-session-manager", "version": 1},
            {"record": "session", "session_id": "s", "session_type": "AGENT", "metadata": {}, **times},
            {"record": "agent", "session_id": "s", "agent_id": "a", "state": {}, "conversation_manager_state": {}}
            | {"internal_state": {}, "live_view": None, **times},
            {"record": "message", "session_id": "s", "agent_id": "a", "message_id": 0, "redact_message": None}
            | {"message": {"role": "user", "content": [reference] * 2}, "attachments": "AAAA", **times},
        ]
        (tmp_path / "bomb").write_text("\n".join(map(json.dumps, lines)))
        with pytest.raises(SessionException, match=r"line 4: .* more attachments than there are bytes"):
            import_jsonl(tmp_path / "bomb", target)
        assert target.read_session("s") is None

    def test_a_text_that_is_no_utf8_comes_back_the_same(self, tmp_path: Path, source: Any, target: Any) -> None:
        with contextlib.closing(sqlite3.connect(tmp_path / "source.db", isolation_level=None)) as raw:
            raw.execute("UPDATE messages SET message = CAST(x'7B22C3FF' AS TEXT) WHERE message_id = 4")
            hexed = "SELECT hex(CAST(message AS BLOB)) FROM messages ORDER BY session_id, agent_id, message_id"
            before = raw.execute(hexed).fetchall()
        export_jsonl(source, tmp_path / "out")
        for _ in range(2):
            assert import_jsonl(tmp_path / "out", target).skipped == []
        with contextlib.closing(sqlite3.connect(tmp_path / "target.db")) as raw:
            assert raw.execute(hexed).fetchall() == before

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

    @pytest.mark.slow
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
