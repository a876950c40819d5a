"""What the documents and examples say is so: code blocks and scripts run, lists are complete, links lead somewhere."""

import ast
import inspect
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import strands

from helpers import texts
from strands_sqlite_session_manager import (
    SessionCatalog,
    SQLiteSessionManager,
    SQLiteSessionRepository,
    maintenance,
    transfer,
)

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "strands_sqlite_session_manager"
EXAMPLES = ROOT / "examples"
README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").glob("*.md"))
CONTRIBUTING = ROOT / ".github" / "CONTRIBUTING.md"
DOCUMENTS = [
    README,
    *PAGES,
    ROOT / "CHANGELOG.md",
    CONTRIBUTING,
    ROOT / ".github" / "SECURITY.md",
    EXAMPLES / "README.md",
    ROOT / "benchmarks" / "README.md",
    ROOT / "tests" / "stress" / "README.md",
]
HAS_STORAGE = find_spec("strands.storage") is not None
HAS_MEMORY = find_spec("strands.memory") is not None
HAS_SNAPSHOTS = HAS_STORAGE and find_spec("strands.session.snapshot_session_manager") is not None


def name_of(document: Path) -> str:
    return str(document.relative_to(ROOT))


def code_blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", document.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def prose(document: Path) -> str:
    """Return a document without its code blocks."""
    return re.sub(r"^```.*?^```$", "", document.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def section(document: Path, heading: str) -> str:
    return re.split(r"\n##? ", document.read_text("utf-8").split(f"\n## {heading}\n")[1])[0]


def tables(text: str) -> list[list[str]]:
    """Return the cells of the rows of all tables, without those of their heads."""
    rows = re.findall(r"^\| (.*) \|$", re.sub(r"^\|.*\|\n\|[-|]+\|$", "", text, flags=re.MULTILINE), re.MULTILINE)
    return [row.split(" | ") for row in rows]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def run_blocks(document: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[str], str] = str) -> dict[str, Any]:
    """Run the Python blocks of a document in order, as one script in the working directory, perhaps changed."""
    monkeypatch.syspath_prepend(EXAMPLES)
    from _model import make_model

    # Where the document names no model, the SDK would call Amazon Bedrock.
    agent_class = strands.Agent
    monkeypatch.setattr(
        strands, "Agent", lambda **options: agent_class(**{"model": make_model(), "callback_handler": None, **options})
    )
    namespace: dict[str, Any] = {}
    for block in code_blocks(document, "python"):
        if ("SQLiteStorage" in block and not HAS_STORAGE) or ("SnapshotSessionManager" in block and not HAS_SNAPSHOTS):
            continue
        exec(compile(change(block), str(document), "exec"), namespace)
    return namespace


def private_names(code: str) -> list[str]:
    """Return what a script uses of others' private names; `os._exit` is documented."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id == "self"):
            found.append(node.attr)
        elif isinstance(node, ast.ImportFrom):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            # The examples share two modules of their own, which their README describes.
            found += names if node.module not in ("_model", "_workspace") else []
        elif isinstance(node, ast.Import):
            found += [part for alias in node.names for part in alias.name.split(".")]
    return [name for name in found if name.startswith("_") and not name.endswith("__") and name != "_exit"]


class TestReadme:
    def test_python_blocks_do_what_they_say(self, monkeypatch: pytest.MonkeyPatch) -> None:
        namespace = run_blocks(README, monkeypatch)
        assert len(namespace["messages"]) == 0  # a new session in a new file
        assert Path("data/support.db").exists()
        with SQLiteSessionRepository("sessions.db") as repository:
            assert texts(repository.list_messages("user-42", "default"))[0] == "My name is Ada."

    def test_can_be_read_in_four_minutes(self) -> None:
        assert 700 <= len(README.read_text("utf-8").split()) <= 900

    def test_commands_are_those_that_ci_runs(self) -> None:
        install, example, test, install_cli = (block.strip() for block in code_blocks(README, "bash"))
        assert f'name = "{install.split()[-1]}"' in (ROOT / "pyproject.toml").read_text("utf-8")
        assert install_cli == install.replace(install.split()[-1], f"'{install.split()[-1]}[cli]'")
        ci = (ROOT / ".ci" / "run").read_text("utf-8")
        assert example in ci
        assert test in ci

    def test_options_are_those_of_the_manager(self) -> None:
        documented = [quoted(name)[0] for name, *_ in tables(section(README, "Options"))]
        parameters = list(inspect.signature(SQLiteSessionManager).parameters)
        assert sorted(documented) == sorted(parameters)

    def test_oldest_sdk_is_the_one_that_can_be_installed(self) -> None:
        (_, oldest), *_ = tables(section(README, "Versions of the SDK"))
        assert f'"strands-agents>={oldest}"' in (ROOT / "pyproject.toml").read_text("utf-8")
        assert f"`strands-agents` {oldest}" in README.read_text("utf-8")


class TestPages:
    """The pages in `docs`."""

    @pytest.mark.parametrize("page", [page for page in PAGES if page.stem != "cluster"], ids=lambda page: page.stem)
    def test_blocks_run(self, page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        if page.name == "memory.md" and not HAS_MEMORY:
            pytest.skip("it needs an SDK with memory")
        if page.stem == "snapshots" and not HAS_SNAPSHOTS:
            pytest.skip("it needs an SDK with SnapshotSessionManager")
        namespace = run_blocks(page, monkeypatch)
        for block in code_blocks(page, "sql"):
            with closing(sqlite3.connect("sessions.db")) as connection:
                assert isinstance(connection.execute(block).fetchall(), list)
        for block in code_blocks(page, "json"):
            assert json.loads(block)
        for value in namespace.values():
            if isinstance(value, SessionCatalog):
                value.close()

    def test_sql_of_the_storage_page_shows_the_conversation(self, monkeypatch: pytest.MonkeyPatch) -> None:
        page = ROOT / "docs" / "storage.md"
        run_blocks(page, monkeypatch)
        (conversation,) = (block for block in code_blocks(page, "sql") if "FROM conversation" in block)
        with closing(sqlite3.connect("sessions.db")) as connection:
            assert connection.execute(conversation).fetchone()[1:] == ("user", "My name is Ada.")

    def test_errors_page_ends_with_an_answer(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
    ) -> None:
        run_blocks(ROOT / "docs" / "errors.md", monkeypatch)
        assert "Your name is Ada." in capsys.readouterr().out

    def test_maintenance_page_takes_sessions_over(self, monkeypatch: pytest.MonkeyPatch) -> None:
        run_blocks(ROOT / "docs" / "maintenance.md", monkeypatch)
        assert Path("backup.db").exists()
        for db_path in ("sessions.db", "other.db"):
            with SQLiteSessionRepository(db_path) as repository:
                assert texts(repository.list_messages("user-7", "default"))[0] == "My name is Grace."

    @pytest.mark.file_only
    def test_tables_are_those_of_the_schema(self, repository: SQLiteSessionRepository, raw: sqlite3.Connection) -> None:
        documented = {
            quoted(name)[0]: {*quoted(key), *quoted(columns), "created_at", "updated_at"}
            for name, key, columns in tables(section(ROOT / "docs" / "storage.md", "Tables"))
        }
        names = [name for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        names = [name for name in names if not name.startswith(("search_", "memory_", "sqlite_"))]
        stored = {name: {row[1] for row in raw.execute(f"PRAGMA table_info({name})")} for name in names}
        assert documented == stored

    @pytest.mark.file_only
    def test_views_are_those_of_the_schema(self, repository: SQLiteSessionRepository, raw: sqlite3.Connection) -> None:
        documented = {
            quoted(name)[0]: quoted(columns) for name, columns in tables(section(ROOT / "docs" / "storage.md", "Views"))
        }
        names = [name for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'view'")]
        assert documented == {name: [row[1] for row in raw.execute(f"PRAGMA table_info({name})")] for name in names}

    def test_catalog_page_has_every_call(self) -> None:
        rows = tables(section(ROOT / "docs" / "catalog.md", "Catalog"))
        documented = [name for calls, _ in rows for name in quoted(calls)]
        calls = [name for name in vars(SessionCatalog) if not name.startswith("_") and name != "close"]
        assert sorted(documented) == sorted(calls)

    @pytest.mark.skipif(not HAS_MEMORY, reason="it needs an SDK with memory")
    def test_memory_page_has_every_call_and_argument(self) -> None:
        from strands_sqlite_session_manager import SQLiteMemoryStore

        page = ROOT / "docs" / "memory.md"
        functions = [name for name, value in vars(SQLiteMemoryStore).items() if inspect.isfunction(value)]
        calls = [name for name in functions if not name.startswith("_") and name != "get_tools"]
        documented = [name for names, _ in tables(section(page, "For people")) for name in quoted(names)]
        assert sorted(documented) == sorted(calls)
        arguments = [name for names, _ in tables(section(page, "In an agent")) for name in quoted(names)]
        assert sorted(arguments) == sorted(inspect.signature(SQLiteMemoryStore).parameters)

    @pytest.mark.parametrize(
        ("module", "heading"),
        [(maintenance, "The file as a whole"), (transfer, "Sessions in and out")],
        ids=["maintenance", "transfer"],
    )
    def test_maintenance_page_has_every_function(self, module: ModuleType, heading: str) -> None:
        rows = tables(section(ROOT / "docs" / "maintenance.md", heading))
        documented = [call.split("(")[0] for calls, _ in rows for call in quoted(calls)]
        functions = [name for name in module.__all__ if inspect.isfunction(getattr(module, name))]
        assert sorted(documented) == sorted(functions)

    def test_commands_are_those_of_the_command_line(self) -> None:
        typer = pytest.importorskip("typer", reason="the command line needs the extra cli")
        from strands_sqlite_session_manager._cli.commands import app

        commands = sorted(typer.main.get_command(app).commands)
        rows = tables(section(ROOT / "docs" / "maintenance.md", "Command line"))
        assert sorted(quoted(command)[0].split()[1] for command, _ in rows) == commands
        assert set(commands) <= set(quoted(prose(README).split("## Command line")[1]))


class TestContributing:
    def test_list_of_rooms_is_complete(self) -> None:
        documented = [quoted(name)[0] for name, _ in tables(section(CONTRIBUTING, "Rooms"))]
        modules = [path.relative_to(SOURCE) for path in SOURCE.rglob("*.py")]
        rooms = {f"{path.parent.as_posix()}/" for path in modules if path.parent.name}
        files = {path.as_posix() for path in modules if path.name != "__init__.py" or not path.parent.name}
        assert sorted(documented) == sorted(rooms | files)

    def test_steps_are_those_of_ci(self) -> None:
        ci = (ROOT / ".ci" / "run").read_text("utf-8")
        (steps,) = re.findall(r"^steps=\((.*)\)$", ci, re.MULTILINE)
        assert sorted(steps.split()) == sorted(re.findall(r"^step_(\S+)\(\)", ci, re.MULTILINE))
        documented = section(CONTRIBUTING, "More tests").split("The steps of")[1]
        assert sorted(quoted(name)[0] for name, _ in tables(documented)) == sorted(steps.split())


class TestEveryDocument:
    @pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
    def test_links_lead_somewhere(self, document: Path) -> None:
        for link in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
            if "://" in link:
                continue
            path, _, anchor = link.partition("#")
            target = (document.parent / path).resolve() if path else document
            assert target.exists(), link
            if anchor:
                headings = re.findall(r"^#+ (.+)$", prose(target), re.MULTILINE)
                slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
                assert anchor in slugs, link

    @pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
    def test_code_uses_no_private_names(self, document: Path) -> None:
        for block in code_blocks(document, "python"):
            assert private_names(block) == []

    @pytest.mark.parametrize("document", [README, *PAGES], ids=name_of)
    def test_has_no_blocks_that_nothing_checks(self, document: Path) -> None:
        fences = re.findall(r"^```(.*)$", document.read_text("utf-8"), re.MULTILINE)
        assert set(fences[::2]) <= {"python", "sql", "json", "text"} | ({"bash"} if document == README else set())
        assert set(fences[1::2]) <= {""}

    def test_every_page_is_reached_from_the_readme(self) -> None:
        for page in PAGES:
            assert f"({name_of(page)}" in README.read_text("utf-8")


class TestExamples:
    @pytest.mark.slow
    @pytest.mark.parametrize("script", sorted(EXAMPLES.glob("0*.py")), ids=lambda path: path.stem)
    def test_run_as_they_are(self, script: Path, tmp_path: Path) -> None:
        if script.name == "05_one_file.py" and not HAS_STORAGE:
            pytest.skip("it needs an SDK with storage")
        if script.name == "06_cluster.py":
            pytest.skip("it needs a cluster, and is run in the tests of those")
        if script.name == "07_memory.py" and not HAS_MEMORY:
            pytest.skip("it needs an SDK with memory")
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

    @pytest.mark.slow
    def test_that_of_clusters_says_what_it_needs(self) -> None:
        done = subprocess.run([sys.executable, EXAMPLES / "06_cluster.py"], capture_output=True, text=True, check=True)
        assert "This example needs an rqlite cluster" in done.stdout

    @pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
    def test_use_no_private_names(self, script: Path) -> None:
        assert private_names(script.read_text("utf-8")) == []

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
