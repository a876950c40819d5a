"""Commands that read: what they find, and that they leave everything as it is."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("typer", reason="the command line needs the extra cli")

from command_line import run
from strands_sqlite_session_manager.catalog import SessionCatalog


class TestReading:
    def test_ls_lists_the_last_active_first_and_what_a_filter_lets_through(self, filled: Path) -> None:
        lines = run("ls").stdout.splitlines()
        assert [line.split()[0] for line in lines] == ["session", "t", "s"]
        assert re.search(r"just now +default +4", lines[1])
        assert [line.split()[0] for line in run("ls", "--prefix", "s").stdout.splitlines()[1:]] == ["s"]
        SessionCatalog(filled).set_metadata("s", {"user": "42"})
        assert [line.split()[0] for line in run("ls", "--metadata", "user=42").stdout.splitlines()[1:]] == ["s"]

    def test_ls_shows_a_time_at_the_end_of_all_times_as_it_is(self, filled: Path, raw: Any) -> None:
        time = "9999-12-31T23:59:59-05:00"
        raw.execute("UPDATE sessions SET updated_at = ? WHERE session_id = 's'", (time,))
        assert run("ls").stdout.splitlines()[1].split()[:2] == ["s", time]

    def test_ls_goes_on_page_by_page(self, filled: Path) -> None:
        first = run("ls", "-n", "1")
        assert "There are more" in first.stderr
        page = json.loads(run("ls", "-n", "1", "--json").stdout)
        rest = json.loads(run("ls", "--after", page["next"], "--json").stdout)
        assert [session["session_id"] for session in page["sessions"] + rest["sessions"]] == ["t", "s"]
        assert rest["next"] is None

    def test_reading_changes_nothing(self, filled: Path, tmp_path: Path) -> None:
        run("backup", "backup.db")
        (tmp_path / "empty.db").touch()
        for path in (tmp_path / "backup.db", tmp_path / "empty.db"):
            before = path.read_bytes()
            for arguments in (
                ["ls"],
                ["show", "s"],
                ["usage"],
                ["stats"],
                ["tag", "s"],
                ["rm", "s", "--dry-run"],
                ["undo", "s", "--dry-run"],
                ["prune", "--keep-last", "0", "--dry-run"],
                ["export", "-"],
            ):
                run(*arguments, "--db", path, code=0 if before else 1)
                assert path.read_bytes() == before, arguments
        assert sorted(path.name for path in tmp_path.glob("*.db*")) == ["backup.db", "empty.db", "sessions.db"]

    def test_search_shows_where_the_words_are(self, filled: Path) -> None:
        found = json.loads(run("search", "ada", "--role", "user", "--json").stdout)
        assert sorted((hit["session_id"], hit["message_id"]) for hit in found) == [("s", 0), ("t", 0)]
        shown = run("search", "goodbye", "--session", "s").stdout
        assert re.search(r"^s +default +3 +assistant", shown)
        assert "[Goodbye]." in shown
        assert run("search", "nowhere").stdout == "nothing found\n"

    def test_usage_adds_up_tokens_by_session_agent_or_day(self, filled: Path) -> None:
        assert json.loads(run("usage", "--by", "session", "--json").stdout)[0] == {
            "session": "s",
            "input_tokens": 20,
            "output_tokens": 10,
            "total_tokens": 30,
            "cache_read_input_tokens": 0,
            "cache_write_input_tokens": 0,
            "message_count": 4,
        }
        assert "█" in run("usage", "s").stdout
        assert "s / default" in run("usage", "--by", "agent").stdout
        assert json.loads(run("usage", "--until", "1d", "--json").stdout) == []
        run("usage", "--by", "week", code=2)
        run("usage", "--since", "yesterday", code=2)

    def test_null_is_not_the_empty_text(self, filled: Path) -> None:
        SessionCatalog(filled).set_metadata("s", {"draft": None})
        SessionCatalog(filled).set_metadata("t", {"draft": ""})
        for wanted, found in (("draft:=null", "s"), ("draft=", "t"), ('draft:=""', "t")):
            page = json.loads(run("ls", "--metadata", wanted, "--json").stdout)
            assert [session["session_id"] for session in page["sessions"]] == [found]

    def test_errors_are_one_line(self, filled: Path) -> None:
        assert run("show", "a\nb\u2028c", code=1).stderr == "strands-sqlite: Session a b c does not exist\n"
        assert run("ls", "--db", "", code=1).stderr.startswith("strands-sqlite: db_path='': a path is")
        assert "not a cursor" in run("ls", "--after", "W1tb" * 50_000, code=1).stderr
        assert "no JSON" in run("tag", "s", "x:=" + "[" * 100_000, code=2).stderr

    def test_stats_and_check_have_figures_and_findings(self, filled: Path) -> None:
        assert json.loads(run("stats", "--json").stdout)["largest_sessions"][0]["messages"] == 4
        assert "largest sessions" in run("stats").stdout
        assert all(finding["severity"] != "error" for finding in json.loads(run("check", "--json").stdout))

    def test_check_fails_when_there_are_errors(self, filled: Path, raw: Any) -> None:
        raw.execute("UPDATE messages SET message = '{' WHERE session_id = 's' AND message_id = 1")
        assert "error: " in run("check", code=1).stdout

    @pytest.mark.parametrize(
        "arguments",
        [
            *(["ls"], ["show", "s"], ["search", "s"], ["stats"], ["usage"], ["check"]),
            *(["export", "out.jsonl"], ["backup", "copy.db"], ["fork", "s", "t"], ["rename", "s", "t"], ["tag", "s"]),
            *(["rm", "s"], ["prune", "--keep-last", "0"], ["undo", "s"], ["repair"], ["vacuum"]),
        ],
        ids=lambda arguments: arguments[0],
    )
    def test_nothing_makes_a_file_that_is_not_there(self, arguments: list[str], tmp_path: Path) -> None:
        result = run(*arguments, "--db", "missing.db", code=1)
        assert result.stdout == ""
        assert re.fullmatch(r"strands-sqlite: .*missing\.db.*\n", result.stderr)
        assert list(tmp_path.iterdir()) == []

    def test_without_db_the_environment_names_the_database(self, filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        filled.rename(filled.with_name("elsewhere.db"))
        monkeypatch.setenv("STRANDS_SQLITE_DB_PATH", str(filled.with_name("elsewhere.db")))
        assert len(run("ls").stdout.splitlines()) == 3
