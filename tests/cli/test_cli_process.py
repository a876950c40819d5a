"""The command line as a process: its pipes, signals, locale, and the extra that it needs."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("typer", reason="the command line needs the extra cli")

from command_line import left
from helpers import make_agent
from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository
from strands_sqlite_session_manager.catalog import SessionCatalog


def command(*arguments: str, module: bool = True, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *(["-m", "strands_sqlite_session_manager"] if module else []), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def wait_for_question(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    while "?" not in process.stderr.read(1):
        pass


@pytest.mark.slow
class TestProcess:
    @pytest.mark.skipif(os.name != "posix", reason="pipes and signals are those of Unix")
    def test_junk_in_a_pipe_makes_no_database(self, tmp_path: Path) -> None:
        os.mkfifo("pipe")
        for source in ("-", "pipe"):
            with command("import", source, "--db", "new.db", stdin=subprocess.PIPE) as process:
                # A named pipe is opened when the other side is.
                with process.stdin if source == "-" else Path("pipe").open("w") as junk:  # type: ignore[union-attr]
                    junk.write("junk\n" * 10)
                assert process.stderr is not None
                assert "a file of another format" in process.stderr.read()
            assert process.returncode == 1
        assert [path.name for path in tmp_path.iterdir()] == ["pipe"]

    @pytest.mark.skipif(os.name != "posix", reason="pipes and signals are those of Unix")
    def test_sessions_come_through_a_pipe(self, filled: Path) -> None:
        with command("export", "-") as source, command("import", "-", "--db", "new.db", stdin=source.stdout) as process:
            assert process.stdout is not None
            assert "Imported 2 sessions with 8 messages." in process.stdout.read()
        assert left(filled.with_name("new.db")) == ["s", "t"]

    @pytest.mark.skipif(os.name != "posix", reason="pipes and signals are those of Unix")
    def test_a_closed_pipe_is_quiet(self, filled: Path) -> None:
        with command("show", "s", "--raw") as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            assert process.stderr.read() == ""

    @pytest.mark.skipif(os.name != "posix", reason="pipes and signals are those of Unix")
    def test_an_interrupt_is_quiet(self, filled: Path) -> None:
        # A shell has what it starts in the background ignore the signal, and whatever that starts.
        heed = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
        with command("rm", "s", stdin=subprocess.PIPE, **heed) as process:
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
            assert "Deleted 1 session with" in process.communicate("y\n")[0]
        assert left(filled) == ["new", "t"]

    def test_undo_removes_what_it_asked_about(self, filled: Path) -> None:
        with command("undo", "s", stdin=subprocess.PIPE) as process:
            wait_for_question(process)
            with SessionCatalog(filled) as catalog:
                catalog.undo_turns("s", "default")
            complaint = process.communicate("y\n")[1]
        assert complaint.count("strands-sqlite: The conversation of agent default was changed since it was shown") == 1
        assert process.returncode == 1
        with SQLiteSessionRepository(filled) as repository:
            assert len(repository.list_messages("s", "default")) == 2

    @pytest.mark.skipif(os.name != "posix", reason="a shell of Unix closes the streams")
    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [("ls >&-", "the output is closed"), ("rm s <&-", "pass --yes"), ("import - <&-", "the input is closed")],
    )
    def test_closed_streams_are_named(self, filled: Path, arguments: str, complaint: str) -> None:
        shell = f"{sys.executable} -m strands_sqlite_session_manager {arguments}"
        done = subprocess.run(shell, shell=True, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("strands-sqlite: ")
        assert done.stderr.endswith(f"{complaint}\n")
        assert left(filled) == ["s", "t"]

    @pytest.mark.slow
    def test_json_is_utf_8_whatever_the_locale(self, tmp_path: Path) -> None:
        """Of all commands that print JSON, one after the other in one process, and of the one that reads it."""
        with SQLiteSessionManager("é😀", tmp_path / "sessions.db") as manager:
            make_agent(manager, "ü😀\ud800")("hi")
        environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
        code = (
            "from strands_sqlite_session_manager._cli.commands import app\n"
            "for arguments in (['ls', '--json'], ['show', 'é😀', '--raw'], ['export', '-']):\n"
            "    app(arguments, standalone_mode=False)\n"
            "    print('---', flush=True)\n"
        )
        with command("-c", code, module=False, env=environment, encoding="utf-8") as process:
            output, complaint = process.communicate()
        assert complaint == ""
        listed, shown, exported, _ = output.split("---\n")
        assert [session["session_id"] for session in json.loads(listed)["sessions"]] == ["é😀"]
        assert json.loads(shown.splitlines()[1])["message"]["content"] == [{"text": "ü😀\ud800"}]
        assert [json.loads(line) for line in exported.splitlines()]
        with command(
            "import", "-", "--db", "copy.db", env=environment, encoding="utf-8", stdin=subprocess.PIPE
        ) as process:
            assert process.communicate(exported)[0] == "Imported 1 session with 2 messages.\n"

    def test_without_the_extra_it_says_how_to_install_it(self, tmp_path: Path) -> None:
        (tmp_path / "typer.py").write_text("raise ModuleNotFoundError(name='typer')")
        with command("ls", env={**os.environ, "PYTHONPATH": str(tmp_path)}) as process:
            assert process.communicate()[1].count("pip install 'strands-sqlite-session-manager[cli]'") == 1
        assert process.returncode == 1
