"""The commands for memories: what they show, delete, export and import."""

import json
import math
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("typer", reason="the command line needs the extra cli")

from command_line import run
from strands_sqlite_session_manager._codec import encode
from strands_sqlite_session_manager._engine.holder import DatabaseHolder, database_of
from strands_sqlite_session_manager._memory import records
from strands_sqlite_session_manager._memory.records import Place

HERE = ("--store", "facts", "--scope", "user-42")
NOW = "2026-01-31T12:00:00+00:00"


@pytest.fixture(autouse=True)
def _memories(db_path: Path) -> None:
    """Three memories of a user, one of another, and one in another store."""
    with DatabaseHolder(db_path) as holder:
        for store, scope, content in (
            ("facts", "user-42", "Ada likes green tea."),
            ("facts", "user-42", "Ada lives\nin Paris."),
            ("facts", "user-42", "Ada fears dogs."),
            ("facts", "user-43", "Bob likes green tea."),
            ("wishes", "user-42", "Ada wants a boat."),
        ):
            records.add(database_of(holder), Place(store, scope), content, '{"n":1}', None, NOW)


def contents(output: str) -> list[str]:
    return [memory["content"] for memory in json.loads(output)]


class TestReading:
    def test_ls_shows_stores_and_scopes_or_the_memories_of_one(self) -> None:
        """Without a store it tells what there is; with one, only the memories of the scope."""
        lines = [line.split() for line in run("memories", "ls").stdout.splitlines()]
        assert [line[:3] for line in lines[1:]] == [
            ["facts", "user-42", "3"],
            ["facts", "user-43", "1"],
            ["wishes", "user-42", "1"],
        ]
        assert [row["memories"] for row in json.loads(run("memories", "ls", "--json").stdout)] == [3, 1, 1]
        of_one = json.loads(run("memories", "ls", "--scope", "user-42", "--json").stdout)
        assert [(row["store"], row["memories"]) for row in of_one] == [("facts", 3), ("wishes", 1)]
        shown = run("memories", "ls", *HERE).stdout
        assert "Ada lives in Paris." in shown
        assert "Bob" not in shown
        assert "boat" not in shown
        first = json.loads(run("memories", "ls", *HERE, "-n", "2", "--json").stdout)
        second = json.loads(run("memories", "ls", *HERE, "--after", first["next"], "--json").stdout)
        ids = [memory["memory_id"] for memory in first["memories"] + second["memories"]]
        assert ids == [3, 2, 1]

    def test_ls_of_no_scope_lists_nobodys(self, db_path: Path) -> None:
        """A script's variable may be empty, and is not to show another scope then."""
        with DatabaseHolder(db_path) as holder:
            records.add(database_of(holder), Place("facts", "default"), "Eve's", None, None, NOW)
        of_none = json.loads(run("memories", "ls", "--store", "facts", "--scope", "", "--json").stdout)
        of_default = json.loads(run("memories", "ls", "--store", "facts", "--json").stdout)
        assert [len(page["memories"]) for page in (of_none, of_default)] == [0, 1]

    def test_search_finds_in_a_scope(self, db_path: Path) -> None:
        """One of the words is enough, and nobody else's memories are found."""
        assert contents(run("memories", "search", "who", "drinks", "tea", *HERE, "--json").stdout) == [
            "Ada likes green tea."
        ]
        assert (
            "Bob likes green tea." in run("memories", "search", "tea", "--store", "facts", "--scope", "user-43").stdout
        )
        assert contents(run("memories", "search", "tea", "--store", "facts", "--json").stdout) == []
        assert len(contents(run("memories", "search", "ada", *HERE, "--limit", str(2**70), "--json").stdout)) == 3

    def test_show_prints_all_of_one_and_what_is_damaged(self, raw: Any) -> None:
        """Damaged metadata is named, and the exit code is 1."""
        assert json.loads(run("memories", "show", "1", *HERE, "--json").stdout)["metadata"] == {"n": 1}
        assert "Ada likes green tea." in run("memories", "show", "1", *HERE).stdout
        error = run("memories", "show", "4", *HERE, code=1).stderr
        assert "Memory 4 in scope user-42 of store facts does not exist" in error
        raw.execute("UPDATE memories SET metadata = '{' WHERE memory_id = 1")
        assert "damaged JSON" in run("memories", "show", "1", *HERE, code=1).stdout


class TestChanging:
    def test_rm_asks_and_deletes_what_it_showed(self, raw: Any) -> None:
        """Only memories of the scope that is named; one that is not there keeps all from being deleted."""
        assert "does not exist" in run("memories", "rm", "1", "4", *HERE, "--yes", code=1).stderr
        assert "nothing was changed" in run("memories", "rm", "1", *HERE, "--dry-run").stdout
        assert "Aborted" in run("memories", "rm", "1", *HERE, code=1, answer="n\n").output
        assert raw.execute("SELECT count(*) FROM memories").fetchone() == (5,)
        shown = run("memories", "rm", "1", "3", *HERE, answer="y\n").stdout
        assert "Ada fears dogs." in shown
        assert shown.endswith("Deleted 2 memories.\n")
        assert raw.execute("SELECT count(*) FROM memories").fetchone() == (3,)

    def test_rm_and_import_print_json_for_scripts(self, raw: Any) -> None:
        would = json.loads(run("memories", "rm", "3", *HERE, "--dry-run", "--json").stdout)
        assert [memory["content"] for memory in would] == ["Ada fears dogs."]
        run("memories", "export", "memories.jsonl")
        assert json.loads(run("memories", "rm", "3", *HERE, "--yes", "--json").stdout) == would
        assert raw.execute("SELECT count(*) FROM memories").fetchone() == (4,)
        imported = run("memories", "import", "memories.jsonl", "--json").stdout
        assert json.loads(imported) == {"imported": 1, "there_already": 4}

    def test_rm_leaves_nothing_on_disk(self, db_path: Path) -> None:
        """What was deleted is in no page, index or log."""
        run("memories", "search", "dogs", *HERE)
        run("memories", "rm", "3", *HERE, "--yes")
        assert not any(b"fears" in path.read_bytes() for path in db_path.parent.glob("sessions.db*"))


class TestMoving:
    def test_what_is_exported_can_be_imported_once(self, tmp_path: Path) -> None:
        """All columns but ids and vectors come back; a second import changes nothing."""
        odd = encode({"n": math.inf, "big": 2**70, "bytes": b"x", "nul": "\0", "half": "\ud83d"}, "metadata")
        with DatabaseHolder("sessions.db") as holder:
            database_of(holder).execute("UPDATE memories SET metadata = ? WHERE memory_id = 1", (odd,))
        assert run("memories", "export", "memories.jsonl").stdout == "Exported 5 memories.\n"
        assert run("memories", "import", "memories.jsonl", "--db", "copy.db").stdout == "Imported 5 memories.\n"
        assert run("memories", "import", "memories.jsonl", "--db", "copy.db").stdout == (
            "Imported 0 memories.\nThere already: 5 memories.\n"
        )
        exported = (tmp_path / "memories.jsonl").read_text("utf-8")
        assert run("memories", "export", "-", "--db", "copy.db").stdout == exported
        columns = "store, scope, content, metadata, times_added, created_at, updated_at, used_at, expires_at"
        rows = []
        for path in ("sessions.db", "copy.db"):
            with closing(sqlite3.connect(path)) as connection:
                rows.append(connection.execute(f"SELECT {columns} FROM memories ORDER BY memory_id").fetchall())
        assert rows[0] == rows[1]
        assert (tmp_path / "memories.jsonl").stat().st_mode & 0o077 == 0

    def test_times_of_other_programs_are_read(self, tmp_path: Path, raw: Any) -> None:
        """JavaScript ends them with "Z", for one."""
        run("memories", "export", "memories.jsonl")
        text = (tmp_path / "memories.jsonl").read_text("utf-8").replace("12:00:00+00:00", "12:00:00.000Z")
        assert text.count("Z") == 10
        (tmp_path / "memories.jsonl").write_text(text, "utf-8")
        raw.execute("DELETE FROM memories")
        assert run("memories", "import", "memories.jsonl").stdout == "Imported 5 memories.\n"
        assert {*raw.execute("SELECT created_at, updated_at FROM memories")} == {(NOW, NOW)}

    def test_what_has_expired_is_not_exported(self, raw: Any) -> None:
        raw.execute("UPDATE memories SET expires_at = '2026-01-31T12:00:00+00:00' WHERE memory_id > 2")
        assert run("memories", "export", "memories.jsonl").stdout == "Exported 2 memories.\n"

    def test_what_has_expired_is_in_nobodys_way(self, raw: Any) -> None:
        """Although it still has the text."""
        run("memories", "export", "memories.jsonl")
        raw.execute("UPDATE memories SET expires_at = '2026-01-31T12:00:00+00:00' WHERE memory_id > 2")
        assert run("memories", "import", "memories.jsonl").stdout == (
            "Imported 3 memories.\nThere already: 2 memories.\n"
        )
        assert raw.execute("SELECT count(*) FROM memories").fetchone() == (5,)

    def test_export_takes_a_store_and_a_scope(self) -> None:
        """Each narrows it down."""

        def exported(*options: str) -> list[str]:
            lines = [json.loads(line) for line in run("memories", "export", "-", *options).stdout.splitlines()]
            assert lines[-1] == {"memories": len(lines) - 2}
            return [line["content"] for line in lines[1:-1]]

        assert len(exported()) == 5
        assert len(exported("--scope", "user-42")) == 4
        assert exported("--store", "wishes") == ["Ada wants a boat."]
        assert exported("--store", "facts", "--scope", "user-43") == ["Bob likes green tea."]

    def test_a_damaged_memory_is_named_and_takes_no_others_with_it(self, raw: Any) -> None:
        """It is left out, and the exit code is 1."""
        raw.execute("UPDATE memories SET metadata = '[1]' WHERE memory_id = 2")
        result = run("memories", "export", "-", code=1)
        assert len(result.stdout.splitlines()) == 6
        assert "skipped memory 2" in result.stderr

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("change", "told"),
        [
            (lambda lines: lines[:-1], "cut off"),
            (lambda lines: lines[1:], "line 1: not a file of memories"),
            (lambda lines: [*lines, "", *lines], "line 9: below the line that ends the file"),
            (lambda lines: [*lines[:2], *lines[3:]], "line 6: the file should have 5 memories and has 4"),
            (lambda lines: [], "line 1: not JSON"),
            (lambda lines: [lines[0], "{", *lines[1:]], "line 2: not JSON"),
            (lambda lines: [lines[0], "[]", *lines[1:]], "line 2: not a memory"),
            (lambda lines: [lines[0], '{"store": "s"}', *lines[1:]], "line 2: not a memory: no field 'scope'"),
            (lambda lines: [line.replace(NOW, "yesterday") for line in lines], "not a memory: created_at='yesterday'"),
            (lambda lines: [line.replace(f'"{NOW}"', "5") for line in lines], "not a memory: created_at=5"),
            (
                lambda lines: [line.replace('{"n":1}', '{"n":{"__encoded__":["float","x"]}}') for line in lines],
                "line 2: not a memory: metadata: could not convert",
            ),
        ],
    )
    def test_what_is_no_such_file_is_refused(self, tmp_path: Path, change: Any, told: str) -> None:
        """The error names the line."""
        run("memories", "export", "memories.jsonl")
        lines = (tmp_path / "memories.jsonl").read_text("utf-8").splitlines()
        (tmp_path / "changed.jsonl").write_text("\n".join(change(lines)), "utf-8")
        assert told in run("memories", "import", "changed.jsonl", "--db", "copy.db", code=1).stderr

    def test_export_overwrites_nothing(self, tmp_path: Path) -> None:
        """A file that is there stays."""
        (tmp_path / "memories.jsonl").write_text("mine", "utf-8")
        assert "exists already" in run("memories", "export", "memories.jsonl", code=1).stderr
        assert (tmp_path / "memories.jsonl").read_text("utf-8") == "mine"
