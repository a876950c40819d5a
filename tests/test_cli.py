"""The command line as a person and a script use it."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from importlib import metadata
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from strands.session.file_session_manager import FileSessionManager
from strands.types.session import SessionAgent, SessionMessage

pytest.importorskip("typer", reason="the command line needs the extra cli")

from rich.console import Console
from typer.testing import CliRunner, Result

from helpers import make_agent, text_message, texts, tool_use
from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository
from strands_sqlite_session_manager._cli.display import sessions_table, size
from strands_sqlite_session_manager.catalog import SessionCatalog
from strands_sqlite_session_manager._cli.commands import app

README = Path(__file__).parent.parent / "README.md"
COMMANDS = {command.name: command for command in app.registered_commands}
READING = ["ls", "show", "search", "stats", "usage", "check", "export", "backup"]
DESTRUCTIVE = {
    "rm": ["s"],
    "prune": ["--keep-last", "0"],
    "undo": ["s"],
    "restore": ["backup.db", "--overwrite"],
    "repair": [],
}
ARGUMENTS = {"show": ["s"], "search": ["s"], "export": ["out.jsonl"], "backup": ["copy.db"]}

Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    def run(*arguments: object, code: int = 0, answer: str | None = None) -> Result:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=answer)
        assert result.exit_code == code, result.output
        return result

    return run


@pytest.fixture
def filled(db_path: Path) -> Path:
    """Sessions `s` and `t` in ./sessions.db."""
    usage = {"usage": {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15}}  # as newer SDKs store it
    for session_id in "st":
        with SQLiteSessionManager(session_id, db_path) as manager:
            manager.create_agent(session_id, SessionAgent("default", {}, {}))
            for number, text in enumerate(("I am Ada.", "Hello, Ada.", "Bye.", "Goodbye.")):
                message: Any = {"role": "assistant" if number % 2 else "user", "content": [{"text": text}]}
                if number % 2:
                    message["metadata"] = usage
                manager.create_message(session_id, "default", SessionMessage(message, number))
    return db_path


def left(db_path: Path) -> list[str]:
    with SessionCatalog(db_path) as catalog:
        return sorted(session.session_id for session in catalog.list_sessions().sessions)


class TestDocumentation:
    @pytest.mark.parametrize("name", COMMANDS)
    def test_every_command_has_help_with_an_example_and_a_line_in_the_readme(self, name: str, run: Run) -> None:
        shown = run(name, "--help").output
        assert f"Example: strands-sqlite {name}" in shown
        assert len(shown.split("Example:")[0].split("\n\n")[1]) > 20
        assert re.search(rf"^strands-sqlite {name}\b", README.read_text("utf-8"), re.MULTILINE)

    @pytest.mark.parametrize("name", COMMANDS)
    def test_every_option_is_explained(self, name: str) -> None:
        import typer

        command: Any = next(
            command
            for key, command in typer.main.get_command(app).commands.items()
            if key == name  # type: ignore[attr-defined]
        )
        assert [parameter.name for parameter in command.params if not getattr(parameter, "help", None)] == []

    def test_examples_can_be_parsed(self) -> None:
        import shlex

        import typer

        group: Any = typer.main.get_command(app)
        for name, command in COMMANDS.items():
            assert command.callback is not None
            example = re.search(r"Example: strands-sqlite (.*)", command.callback.__doc__ or "")
            assert example is not None
            arguments = shlex.split(example[1])
            group.commands[name].make_context(name, arguments[1:])


class TestReading:
    def test_ls(self, run: Run, filled: Path) -> None:
        lines = run("ls").stdout.splitlines()
        assert [line.split()[0] for line in lines] == ["session", "t", "s"]
        assert re.search(r"just now +default +4", lines[1])
        assert [line.split()[0] for line in run("ls", "--prefix", "s").stdout.splitlines()[1:]] == ["s"]
        SessionCatalog(filled).set_metadata("s", {"user": "42"})
        assert [line.split()[0] for line in run("ls", "--metadata", "user=42").stdout.splitlines()[1:]] == ["s"]

    def test_ls_in_pages(self, run: Run, filled: Path) -> None:
        first = run("ls", "-n", "1")
        assert "There are more" in first.stderr
        page = json.loads(run("ls", "-n", "1", "--json").stdout)
        rest = json.loads(run("ls", "--after", page["next"], "--json").stdout)
        assert [session["session_id"] for session in page["sessions"] + rest["sessions"]] == ["t", "s"]
        assert rest["next"] is None

    def test_show(self, run: Run, db_path: Path) -> None:
        content: list[list[dict[str, Any]]] = [
            [
                {"text": "What is this? [bold]not markup[/bold]"},
                {"image": {"format": "png", "source": {"bytes": b"x" * 2500}}},
            ],
            [
                {"reasoningContent": {"reasoningText": {"text": "Let me see."}}},
                tool_use("look", "t1", {"at": "it" * 99}),
            ],  # type: ignore[list-item]
            [
                {
                    "toolResult": {
                        "toolUseId": "t1",
                        "status": "error",
                        "content": [{"json": {"why": "dark"}}, {"text": "sorry"}],
                    }
                }
            ],
            [{"document": {"name": "a.pdf", "format": "pdf", "source": {"s3Location": {"uri": "s3://x"}}}}, {"new": 1}],
        ]
        with SQLiteSessionManager("s", db_path) as manager:
            manager.create_agent("s", SessionAgent("a", {}, {}))
            for number, blocks in enumerate(content):
                role = "assistant" if number % 2 else "user"
                manager.create_message("s", "a", SessionMessage({"role": role, "content": blocks}, number))  # type: ignore[typeddict-item]
            hidden = text_message(4, "[hidden]").message
            manager.create_message("s", "a", SessionMessage(hidden, 4, hidden))
        shown = run("show", "s").stdout
        for expected in (
            "agent a",
            "What is this? [bold]not markup[/bold]",
            "[image, png, 2.5 KB]",
            "(thinking: Let me see.)",
            '→ look({"at": "itit',
            "characters))",
            '← error: {"why": "dark"}; sorry',
            "[document a.pdf, pdf,",
            "[new: 1]",
            "redacted\n[hidden]",
        ):
            assert expected in shown, expected
        assert run("show", "s", "--agent", "a", "-n", "1").stdout.count("\n\n") == 1
        rows = [json.loads(line) for line in run("show", "s", "--raw").stdout.splitlines()]
        assert [row["message"]["content"] for row in rows[2:4]] == content[2:4]

    def test_text_cannot_command_the_terminal(self, run: Run, db_path: Path) -> None:
        with SQLiteSessionManager("s\x1b]0;title\x07", db_path) as manager:
            make_agent(manager, "\x1b[2Jgone \ud800 \N{SNOWMAN}")("hi")
        shown = run("show", "s\x1b]0;title\x07").stdout + run("ls").stdout + run("stats").stdout
        assert "\x1b" not in shown
        assert "gone \N{REPLACEMENT CHARACTER} \N{SNOWMAN}" in shown
        assert (
            json.loads(run("show", "s\x1b]0;title\x07", "--raw").stdout.splitlines()[1])["message"]["role"]
            == "assistant"
        )

    @pytest.mark.parametrize(
        "value",
        ["null", '"x"', "[1]", "{}", '{"source": "x"}', '{"reasoningText": "x"}', '{"content": 1}', '{"content": [1]}'],
    )
    @pytest.mark.parametrize(
        "kind", ["text", "citationsContent", "toolUse", "toolResult", "image", "reasoningContent", "other"]
    )
    def test_shows_whatever_is_stored(self, run: Run, filled: Path, raw: Any, kind: str, value: str) -> None:
        message = f'{{"role":"user","content":[{{"{kind}":{value}}},"x",null,{{}}]}}'
        raw.execute("UPDATE messages SET message = ?, created_at = '[/x]\x1b[2J'", (message,))
        raw.execute("UPDATE sessions SET updated_at = '[/x]\x1b[2J'")
        assert "\x1b" not in run("show", "s").stdout + run("ls").stdout

    def test_show_of_an_answer_with_citations(self, run: Run, db_path: Path) -> None:
        """The SDK stores these instead of texts."""
        cited = {"citations": [{"title": "a.pdf"}], "content": [{"text": "It is "}, {"text": "noon."}]}
        with SQLiteSessionManager("s", db_path) as manager:
            manager.create_agent("s", SessionAgent("a", {}, {}))
            message: Any = {"role": "assistant", "content": [{"citationsContent": cited}]}
            manager.create_message("s", "a", SessionMessage(message, 0))
        assert run("show", "s").stdout.endswith("\nIt is noon.\n[1 citation]\n")

    def test_show_goes_on_after_a_damaged_message(self, run: Run, filled: Path, raw: Any) -> None:
        raw.execute("UPDATE messages SET message = '{' WHERE session_id = 's' AND message_id = 1")
        shown = run("show", "s", code=1).stdout
        assert "I am Ada." in shown
        assert "Goodbye." in shown
        assert re.search(r"^damaged  1  .*\nmessages \('s', 'default', 1\): damaged JSON", shown, re.MULTILINE)
        rows = [json.loads(line) for line in run("show", "s", "--raw", code=1).stdout.splitlines()]
        assert [bool(row["damage"]) for row in rows] == [False, True, False, False]

    def test_nothing_is_cut_or_wrapped_for_a_program(self, run: Run, db_path: Path) -> None:
        long_id, long_text = "s" * 200, "word " * 100 + "end"
        with SQLiteSessionManager(long_id, db_path) as manager:
            make_agent(manager, long_text)("hi")
        assert run("ls").stdout.splitlines()[1].startswith(long_id)
        assert long_text in run("show", long_id).stdout.splitlines()
        assert long_id in run("stats").stdout
        assert max(map(len, run("usage").stdout.splitlines())) < 100

    def test_a_narrow_terminal_shows_whole_ids(self, filled: Path) -> None:
        with SessionCatalog(filled) as catalog:
            catalog.rename_session("s", "0123456789" * 5)
            page = catalog.list_sessions(prefix="0")
            agents = {"0123456789" * 5: catalog.list_agents("0123456789" * 5)}
        terminal = Console(width=40, file=StringIO())
        terminal.print(sessions_table(page.sessions, agents, datetime.now(timezone.utc)))
        assert isinstance(terminal.file, StringIO)
        first_column = (line.split(" ")[0] for line in terminal.file.getvalue().splitlines())
        assert "".join(part for part in first_column if part.isdigit()) == "0123456789" * 5

    def test_a_time_of_the_future_is_a_date(self, run: Run, filled: Path, raw: Any) -> None:
        raw.execute("UPDATE sessions SET updated_at = '2999-01-31T12:00:00+00:00'")
        assert re.search(r"^s +2999-01-31 +default", run("ls").stdout, re.MULTILINE)

    def test_json_cannot_command_the_terminal(self, run: Run, filled: Path) -> None:
        names = ["C1 \x9b2J", "bidi \u202e", "\u2028", "\U000e0001", "\x7f", "ü ☃ 😀"]
        SessionCatalog(filled).set_metadata("s", {"names": names})
        with SQLiteSessionManager("t", filled) as manager:
            manager.create_message("t", "default", text_message(4, "".join(names)))
        for arguments in (["tag", "s"], ["show", "t", "--raw", "-n", "1"]):
            shown = run(*arguments).stdout
            assert shown.replace("\n", "").isprintable()
            assert "ü ☃ 😀" in shown
            assert "\x9b2J" in json.dumps(json.loads(shown), ensure_ascii=False)

    def test_names_are_no_markup(self, run: Run, filled: Path, raw: Any) -> None:
        raw.execute('CREATE TABLE "[/foo]" (x)')
        assert "[/foo]" in run("stats").stdout

    @pytest.mark.parametrize(
        ("number", "text"),
        [(999, "999 B"), (1000, "1.0 KB"), (999_949, "999.9 KB"), (999_960, "1.0 MB"), (10**16, "10,000.0 TB")],
    )
    def test_sizes(self, number: int, text: str) -> None:
        assert size(number) == text

    def test_reading_changes_nothing(self, run: Run, filled: Path, tmp_path: Path) -> None:
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

    def test_search(self, run: Run, filled: Path) -> None:
        found = json.loads(run("search", "ada", "--role", "user", "--json").stdout)
        assert sorted((hit["session_id"], hit["message_id"]) for hit in found) == [("s", 0), ("t", 0)]
        shown = run("search", "goodbye", "--session", "s").stdout
        assert re.search(r"^s +default +3 +assistant", shown)
        assert "[Goodbye]." in shown
        assert run("search", "nowhere").stdout == "nothing found\n"

    def test_usage(self, run: Run, filled: Path) -> None:
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

    def test_null_is_not_the_empty_text(self, run: Run, filled: Path) -> None:
        SessionCatalog(filled).set_metadata("s", {"draft": None})
        SessionCatalog(filled).set_metadata("t", {"draft": ""})
        for wanted, found in (("draft:=null", "s"), ("draft=", "t"), ('draft:=""', "t")):
            page = json.loads(run("ls", "--metadata", wanted, "--json").stdout)
            assert [session["session_id"] for session in page["sessions"]] == [found]

    def test_errors_are_one_line(self, run: Run, filled: Path) -> None:
        assert run("show", "a\nb\u2028c", code=1).stderr == "strands-sqlite: Session a b c does not exist\n"
        assert run("ls", "--db", "", code=1).stderr.startswith("strands-sqlite: db_path='': a path is")
        assert "not a cursor" in run("ls", "--after", "W1tb" * 50_000, code=1).stderr
        assert "no JSON" in run("tag", "s", "x:=" + "[" * 100_000, code=2).stderr

    def test_version(self, run: Run) -> None:
        assert run("--version").stdout == f"{metadata.version('strands-sqlite-session-manager')}\n"

    def test_stats_and_check(self, run: Run, filled: Path) -> None:
        assert json.loads(run("stats", "--json").stdout)["largest_sessions"][0]["messages"] == 4
        assert "largest sessions" in run("stats").stdout
        assert all(finding["severity"] != "error" for finding in json.loads(run("check", "--json").stdout))

    def test_check_fails_when_there_are_errors(self, run: Run, filled: Path, raw: Any) -> None:
        raw.execute("UPDATE messages SET message = '{' WHERE session_id = 's' AND message_id = 1")
        assert "error: " in run("check", code=1).stdout

    @pytest.mark.parametrize("name", [*READING, "rm", "prune", "fork", "rename", "undo", "tag", "repair", "vacuum"])
    def test_nothing_makes_a_file_that_is_not_there(self, name: str, run: Run, tmp_path: Path) -> None:
        more = (
            ARGUMENTS.get(name)
            or DESTRUCTIVE.get(name)
            or {"fork": ["s", "t"], "rename": ["s", "t"], "tag": ["s"]}.get(name, [])
        )
        result = run(name, *more, "--db", "missing.db", code=1)
        assert result.stdout == ""
        assert re.fullmatch(r"strands-sqlite: .*missing\.db.*\n", result.stderr)
        assert list(tmp_path.iterdir()) == []

    def test_the_environment_names_the_database(self, run: Run, filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        filled.rename(filled.with_name("elsewhere.db"))
        monkeypatch.setenv("STRANDS_SQLITE_DB_PATH", str(filled.with_name("elsewhere.db")))
        assert len(run("ls").stdout.splitlines()) == 3


class TestChanging:
    @pytest.mark.parametrize("name", DESTRUCTIVE)
    def test_asks_before_it_destroys(self, name: str, run: Run, filled: Path, raw: Any) -> None:
        run("backup", "backup.db")
        raw.execute("PRAGMA foreign_keys = OFF")
        raw.execute("INSERT INTO agents (session_id, agent_id) VALUES ('nobody', 'x')")
        before = list(raw.iterdump())
        arguments = DESTRUCTIVE[name]
        assert "nothing was changed" in run(name, *arguments, "--dry-run").stdout
        assert "Aborted" in run(name, *arguments, code=1, answer="n\n").output
        assert "give --yes\n" in run(name, *arguments, code=1, answer="").stderr
        assert list(raw.iterdump()) == before
        run(name, *arguments, "--yes")
        assert list(raw.iterdump()) != before

    def test_rm(self, run: Run, filled: Path) -> None:
        assert "Session x does not exist" in run("rm", "s", "x", "--yes", code=1).stderr
        assert run("rm", "s", answer="y\n").stdout.endswith("Deleted 1 session with 4 messages.\n")
        assert left(filled) == ["t"]

    def test_prune(self, run: Run, filled: Path) -> None:
        assert run("prune", "--keep-last", "1", "--dry-run").stdout.splitlines()[0] == "s"
        assert "Deleted 0 sessions" in run("prune", "--older-than", "30d", "--yes").stdout
        assert "Deleted 1 session," in run("prune", "--keep-last", "1", "--yes").stdout
        assert left(filled) == ["t"]
        assert "give --older-than or --keep-last" in run("prune", code=2).stderr

    def test_fork_rename_undo(self, run: Run, filled: Path) -> None:
        assert run("fork", "s", "u", "--through", "1").stdout == "Copied 2 messages.\n"
        assert run("rename", "u", "v").stdout == "Renamed u to v.\n"
        assert left(filled) == ["s", "t", "v"]
        assert run("undo", "s", "--yes").stdout == "Removed 2 messages.\n"
        assert "Session t already exists" in run("rename", "s", "t", code=1).stderr
        with SQLiteSessionRepository(filled) as repository:
            assert texts(repository.list_messages("s", "default")) == ["I am Ada.", "Hello, Ada."]

    def test_tag(self, run: Run, filled: Path) -> None:
        assert json.loads(run("tag", "s", "title=Lost = parcel", "n:=[1]", "x=").stdout) == {
            "title": "Lost = parcel",
            "n": [1],
        }
        assert json.loads(run("tag", "s", "title=", "n:=0", "ready:=false").stdout) == {"n": 0, "ready": False}
        run("tag", "s", "n:=[1]", "ready=")
        assert json.loads(run("tag", "s").stdout) == {"n": [1]}
        run("tag", "s", "nonsense", code=2)
        run("tag", "s", "n:=nonsense", code=2)
        assert "Session x does not exist" in run("tag", "x", "a=b", code=1).stderr

    def test_export_and_import(self, run: Run, filled: Path, tmp_path: Path) -> None:
        assert run("export", "out.jsonl").stdout == "Exported 2 sessions with 8 messages.\n"
        assert run("import", "out.jsonl", "--db", "copy.db").stdout == "Imported 2 sessions with 8 messages.\n"
        assert run("export", "-", "--db", "copy.db").stdout == (tmp_path / "out.jsonl").read_text("utf-8")
        assert (
            run("import", "out.jsonl", "--db", "copy.db").stdout
            == "Imported 0 sessions with 0 messages.\nThere already: 2 sessions with 8 messages.\n"
        )
        assert "all.json is neither" in run("export", "all.json", code=2).stderr
        assert not (tmp_path / "all.json").exists()
        assert run("export", "files", "s").stdout == "Exported 1 session with 4 messages.\n"
        assert len(FileSessionManager("s", storage_dir="files").list_messages("s", "default")) == 4
        assert run("import", "files", "--db", "again.db").stdout == "Imported 1 session with 4 messages.\n"
        assert "no such file" in run("import", "nowhere", "--db", "none.db", code=1).stderr
        assert not (tmp_path / "none.db").exists()

    def test_backup_and_restore(self, run: Run, filled: Path) -> None:
        run("backup", "backup.db")
        assert "backup.db" in run("backup", "backup.db", code=1).stderr
        run("rm", "s", "--yes")
        run("tag", "t", "x=1")
        run("fork", "t", "new")
        refused = run("restore", "backup.db", "--yes", code=1).stderr
        assert "restore with --overwrite\n" in refused
        restored = run("restore", "backup.db", "--yes", "--overwrite").stdout
        assert restored == "Restored sessions.db from backup.db.\n"
        assert left(filled) == ["s", "t"]
        run("restore", "backup.db", "--yes", "--db", "new.db")
        assert left(filled.with_name("new.db")) == ["s", "t"]
        assert "no such file" in run("restore", "nowhere.db", "--yes", code=1).stderr

    def test_repair_and_vacuum(self, run: Run, filled: Path, raw: Any) -> None:
        raw.execute("UPDATE sessions SET metadata = '{' WHERE session_id = 's'")
        assert "Repaired 1 finding." in run("repair", "--yes").stdout
        assert "Repair" not in run("repair").stdout
        assert " now." in run("vacuum").stdout

    def test_repair_fails_when_errors_are_left(self, run: Run, filled: Path, raw: Any) -> None:
        raw.execute("UPDATE messages SET message = '{' WHERE session_id = 's' AND message_id = 1")
        result = run("repair", code=1)
        assert "error: messages ('s', 'default', 1): damaged JSON" in result.stdout
        assert "1 error left" in result.stderr
        raw.execute("UPDATE sessions SET metadata = '{'")
        assert "1 error left" in run("repair", "--dry-run", code=1).stderr
        result = run("repair", "--yes", code=1)
        assert "Repaired 2 findings." in result.stdout
        assert "1 error left" in result.stderr

    def test_repair_of_what_is_no_database(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "sessions.db").write_bytes(b"x" * 5000)
        result = run("repair", "--yes", code=1)
        assert "error: " in result.stdout
        assert "1 error left" in result.stderr


def command(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "strands_sqlite_session_manager", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def wait_for_question(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    while "?" not in process.stderr.read(1):
        pass


class TestProcess:
    @pytest.mark.skipif(os.name != "posix", reason="pipes and signals are those of Unix")
    def test_a_closed_pipe_is_quiet(self, filled: Path) -> None:
        with command("show", "s", "--raw") as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            assert process.stderr.read() == ""

    @pytest.mark.skipif(os.name != "posix", reason="pipes and signals are those of Unix")
    def test_an_interrupt_is_quiet(self, filled: Path) -> None:
        with command("rm", "s", stdin=subprocess.PIPE) as process:
            wait_for_question(process)
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            assert "Traceback" not in process.stderr.read()
        assert process.returncode not in (0, None)
        assert left(filled) == ["s", "t"]

    def test_prune_deletes_what_it_asked_about(self, filled: Path) -> None:
        with command("prune", "--keep-last", "1", stdin=subprocess.PIPE) as process:
            wait_for_question(process)
            with SessionCatalog(filled) as catalog:
                catalog.fork_session("s", "new")
            assert "Deleted 1 session," in process.communicate("y\n")[0]
        assert left(filled) == ["new", "t"]

    def test_undo_removes_what_it_asked_about(self, filled: Path) -> None:
        with command("undo", "s", stdin=subprocess.PIPE) as process:
            wait_for_question(process)
            with SessionCatalog(filled) as catalog:
                catalog.undo_turns("s", "default")
            complaint = process.communicate("y\n")[1]
        assert complaint.count("strands-sqlite: The conversation of agent default was changed meanwhile") == 1
        assert process.returncode == 1
        with SQLiteSessionRepository(filled) as repository:
            assert len(repository.list_messages("s", "default")) == 2

    @pytest.mark.skipif(os.name != "posix", reason="a shell of Unix closes the streams")
    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [("ls >&-", "the output is closed"), ("rm s <&-", "give --yes"), ("import - <&-", "the input is closed")],
    )
    def test_closed_streams_are_named(self, filled: Path, arguments: str, complaint: str) -> None:
        shell = f"{sys.executable} -m strands_sqlite_session_manager {arguments}"
        done = subprocess.run(shell, shell=True, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("strands-sqlite: ")
        assert done.stderr.endswith(f"{complaint}\n")
        assert left(filled) == ["s", "t"]

    def test_json_is_utf_8_whatever_the_locale(self, tmp_path: Path) -> None:
        with SQLiteSessionManager("é😀", tmp_path / "sessions.db") as manager:
            make_agent(manager, "ü😀\ud800")("hi")
        environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
        for arguments in (["ls", "--json"], ["show", "é😀", "--raw"], ["export", "-"]):
            with command(*arguments, env=environment, encoding="utf-8") as process:
                output, complaint = process.communicate()
            assert complaint == ""
            assert [json.loads(line) for line in ([output] if arguments[0] == "ls" else output.splitlines())]
        with command(
            "import", "-", "--db", "copy.db", env=environment, encoding="utf-8", stdin=subprocess.PIPE
        ) as process:
            assert process.communicate(output)[0] == "Imported 1 session with 2 messages.\n"

    def test_without_the_extra_it_says_how_to_install_it(self, tmp_path: Path) -> None:
        (tmp_path / "typer.py").write_text("raise ModuleNotFoundError(name='typer')")
        with command("ls", env={**os.environ, "PYTHONPATH": str(tmp_path)}) as process:
            assert process.communicate()[1].count("pip install 'strands-sqlite-session-manager[cli]'") == 1
        assert process.returncode == 1
