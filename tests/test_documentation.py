"""What the documents and examples say is so: every code block is run, every script too."""

import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import strands
from strands.session.file_session_manager import FileSessionManager

from helpers import make_agent, texts
from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
HAS_STORAGE = find_spec("strands.storage") is not None


def code_blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", document.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def run_blocks(document: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run the Python blocks of a document in order, as one script in the working directory."""
    monkeypatch.syspath_prepend(EXAMPLES)
    from _model import make_model

    # Where the document names no model, the SDK would call Amazon Bedrock.
    agent_class = strands.Agent
    monkeypatch.setattr(
        strands, "Agent", lambda **options: agent_class(**{"model": make_model(), "callback_handler": None, **options})
    )
    namespace: dict[str, Any] = {}
    for block in code_blocks(document, "python"):
        if "SQLiteStorage" in block and not HAS_STORAGE:
            continue
        exec(compile(block, str(document), "exec"), namespace)
    return namespace


class TestReadme:
    README = ROOT / "README.md"

    @pytest.fixture
    def namespace(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
        """What the README's Python leaves behind."""
        make_agent(FileSessionManager("user-7", storage_dir="old-sessions"), "hello")("I come from files.")
        return run_blocks(self.README, monkeypatch)

    def test_python_blocks_do_what_they_say(self, capsys: pytest.CaptureFixture, namespace: dict[str, Any]) -> None:
        assert "Your name is Ada." in capsys.readouterr().out
        assert len(namespace["messages"]) == 0  # a new session in a new file
        assert Path("data/support.db").exists()
        with SQLiteSessionRepository("sessions.db") as repository:
            assert texts(repository.list_messages("user-42", "default"))[0] == "My name is Ada."
            assert texts(repository.list_messages("user-7", "default")) == ["I come from files.", "hello"]

    def test_sql_blocks_show_the_conversation(self, namespace: dict[str, Any]) -> None:
        conversation, usage = code_blocks(self.README, "sql")
        with closing(sqlite3.connect("sessions.db")) as connection:
            shown = connection.execute(conversation).fetchall()
            assert shown[0][1:] == ("user", "My name is Ada.")
            assert isinstance(connection.execute(usage).fetchall(), list)

    def test_commands_are_those_that_ci_runs(self) -> None:
        install, example, test, install_cli = (block.strip() for block in code_blocks(self.README, "bash"))
        assert f'name = "{install.split()[-1]}"' in (ROOT / "pyproject.toml").read_text("utf-8")
        assert install_cli == install.replace(install.split()[-1], f"'{install.split()[-1]}[cli]'")
        ci = (ROOT / ".ci" / "run").read_text("utf-8")
        assert example in ci
        assert test in ci

    def test_has_no_blocks_of_another_kind(self) -> None:
        languages = re.findall(r"^```(\w+)$", self.README.read_text("utf-8"), re.MULTILINE)
        assert set(languages) == {"python", "sql", "bash"}

    def test_tables_are_those_of_the_schema(self, repository: SQLiteSessionRepository, raw: sqlite3.Connection) -> None:
        section = self.README.read_text("utf-8").split("## What is stored")[1].split("\n## ")[0]
        documented = {
            row[0]: {*row[1].split(", "), *row[2].split(", "), "created_at", "updated_at"}
            for row in re.findall(r"^\| (\w+) \| ([\w, ]+) \| ([\w, ]+) \|$", section.replace("`", ""), re.MULTILINE)
            if row[0] != "table"
        }
        names = [name for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        names = [name for name in names if not name.startswith("search_")]
        stored = {name: {row[1] for row in raw.execute(f"PRAGMA table_info({name})")} for name in names}
        assert documented == stored


class TestExamples:
    @pytest.mark.parametrize("script", sorted(EXAMPLES.glob("0*.py")), ids=lambda path: path.stem)
    def test_run_as_they_are(self, script: Path, tmp_path: Path) -> None:
        if script.name == "05_one_file.py" and not HAS_STORAGE:
            pytest.skip("it needs an SDK with storage")
        environment = {**os.environ, "STRANDS_SQLITE_DB_PATH": str(tmp_path / "kept.db")}
        environment.pop("STRANDS_EXAMPLE_MODEL", None)
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error::ResourceWarning", script],
            capture_output=True,
            encoding="utf-8",
            env={**environment, "PYTHONIOENCODING": "utf-8"},
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "ResourceWarning" not in done.stderr
        assert done.stdout.count("✓") >= 10
        with closing(sqlite3.connect(tmp_path / "kept.db")) as connection:
            assert connection.execute("SELECT count(*) FROM sessions").fetchone() > (0,)

    def test_blocks_of_their_readme_run(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
        run_blocks(EXAMPLES / "README.md", monkeypatch)
        assert "Your name is Ada." in capsys.readouterr().out
        with SQLiteSessionManager("user-42", "backup.db") as backup:
            assert backup.list_messages("user-42", "default")

    def test_readme_names_every_script(self) -> None:
        for script in EXAMPLES.glob("*.py"):
            assert f"({script.name})" in (EXAMPLES / "README.md").read_text("utf-8")

    def test_unknown_models_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.syspath_prepend(EXAMPLES)
        from _model import make_model

        monkeypatch.setenv("STRANDS_EXAMPLE_MODEL", "gpt")
        with pytest.raises(ValueError, match="STRANDS_EXAMPLE_MODEL='gpt'"):
            make_model()
