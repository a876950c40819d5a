"""Commands that change or delete: they ask first, and do what they asked about."""

import json
from pathlib import Path
from typing import Any

import pytest
from strands.session.file_session_manager import FileSessionManager

pytest.importorskip("typer", reason="the command line needs the extra cli")

from command_line import left, run
from helpers import FakeMultiAgent, make_agent, text_message, texts
from strands_sqlite_session_manager import SessionCatalog, SQLiteSessionManager, SQLiteSessionRepository

DESTRUCTIVE = {
    "rm": ["s"],
    "prune": ["--keep-last", "0"],
    "undo": ["s"],
    "restore": ["backup.db", "--overwrite"],
    "repair": [],
}


class TestChanging:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", DESTRUCTIVE)
    def test_asks_before_it_destroys(self, name: str, filled: Path, raw: Any) -> None:
        run("backup", "backup.db")
        raw.execute("PRAGMA foreign_keys = OFF")
        raw.execute("INSERT INTO agents (session_id, agent_id) VALUES ('nobody', 'x')")
        before = list(raw.iterdump())
        arguments = DESTRUCTIVE[name]
        assert "nothing was changed" in run(name, *arguments, "--dry-run").stdout
        assert "Aborted" in run(name, *arguments, code=1, answer="n\n").output
        assert "pass --yes\n" in run(name, *arguments, code=1, answer="").stderr
        assert list(raw.iterdump()) == before
        run(name, *arguments, "--yes")
        assert list(raw.iterdump()) != before

    def test_rm_deletes_all_or_nothing(self, filled: Path) -> None:
        assert "Session x does not exist" in run("rm", "s", "x", "--yes", code=1).stderr
        assert run("rm", "s", answer="y\n").stdout.endswith("Deleted 1 session with 4 messages.\n")
        assert left(filled) == ["t"]

    def test_prune_deletes_what_is_old_or_too_much(self, filled: Path) -> None:
        assert run("prune", "--keep-last", "1", "--dry-run").stdout.splitlines()[0] == "s"
        assert "Deleted 0 sessions" in run("prune", "--older-than", "30d", "--yes").stdout
        assert "Deleted 1 session with" in run("prune", "--keep-last", "1", "--yes").stdout
        assert left(filled) == ["t"]
        assert "Deleted 0 sessions" in run("prune", "--yes").stdout

    def test_fork_rename_and_undo_tell_what_they_did(self, filled: Path) -> None:
        assert run("fork", "s", "u", "--through", "1").stdout == "Copied 2 messages.\n"
        assert run("rename", "u", "v").stdout == "Renamed u to v.\n"
        assert left(filled) == ["s", "t", "v"]
        assert run("undo", "s", "--yes").stdout == "Removed 2 messages.\n"
        assert "Session t already exists" in run("rename", "s", "t", code=1).stderr
        with SQLiteSessionRepository(filled) as repository:
            assert texts(repository.list_messages("s", "default")) == ["I am Ada.", "Hello, Ada."]

    def test_tag_sets_removes_and_shows_metadata(self, filled: Path) -> None:
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

    def test_what_is_exported_can_be_imported_once(self, filled: Path, tmp_path: Path) -> None:
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

    def test_a_backup_is_restored_over_a_database_only_when_told_to(self, filled: Path) -> None:
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

    def test_repair_and_vacuum_tell_what_they_did(self, filled: Path, raw: Any) -> None:
        raw.execute("UPDATE sessions SET metadata = '{' WHERE session_id = 's'")
        assert "Repaired 1 finding." in run("repair", "--yes").stdout
        assert "Repair" not in run("repair").stdout
        assert " now." in run("vacuum").stdout

    def test_repair_fails_when_errors_are_left(self, filled: Path, raw: Any) -> None:
        raw.execute("UPDATE messages SET message = '{' WHERE session_id = 's' AND message_id = 1")
        result = run("repair", code=1)
        assert "error: messages ('s', 'default', 1): damaged JSON" in result.stdout
        assert "1 error left" in result.stderr
        raw.execute("UPDATE sessions SET metadata = '{'")
        assert "1 error left" in run("repair", "--dry-run", code=1).stderr
        result = run("repair", "--yes", code=1)
        assert "Repaired 2 findings." in result.stdout
        assert "1 error left" in result.stderr

    def test_repair_of_what_is_no_database_fails(self, tmp_path: Path) -> None:
        (tmp_path / "sessions.db").write_bytes(b"x" * 5000)
        result = run("repair", "--yes", code=1)
        assert "error: " in result.stdout
        assert "1 error left" in result.stderr

    def test_expire_tells_and_hides(self, filled: Path) -> None:
        assert run("expire", "s").stdout == "Session s does not expire.\n"
        assert run("expire", "s", "30d").stdout.startswith("Session s expires at 20")
        assert run("expire", "s").stdout.startswith("Session s expires at 20")
        assert run("expire", "s", "never").stdout == "Session s does not expire.\n"
        assert run("expire", "s", "2020-01-31").stdout == "Session s has expired.\n"
        assert "Session s does not exist" in run("expire", "s", code=1).stderr
        assert "neither an age" in run("expire", "t", "soon", code=2).stderr
        assert "Deleted 1 session with" in run("prune", "--yes").stdout
        assert left(filled) == ["t"]


class TestParts:
    """Of a session."""

    @pytest.fixture
    def parts(self, db_path: Path) -> Path:
        with SQLiteSessionManager("s", db_path) as manager:
            make_agent(manager, "a", agent_id="one")("q")
            make_agent(manager, "a", agent_id="two")("q")
            manager.create_multi_agent("s", FakeMultiAgent("g", {"type": "graph", "status": "completed"}))
        return db_path

    def test_are_deleted_alone(self, parts: Path) -> None:
        assert "agent one with 2 messages" in run("rm", "s", "--agent", "one", "--dry-run", "--db", str(parts)).output
        deleted = run("rm", "s", "--agent", "one", "--yes", "--db", str(parts)).output
        assert deleted == "Deleted agent one with 2 messages.\n"
        assert run("rm", "s", "--multi-agent", "g", "--yes", "--db", str(parts)).output == "Deleted the state of g.\n"
        with SessionCatalog(parts) as catalog:
            assert [agent.agent_id for agent in catalog.list_agents("s")] == ["two"]
            assert catalog.list_multi_agents("s") == []

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (["s", "--agent", "x"], "Agent x in session s does not exist"),
            (["s", "--multi-agent", "x"], "MultiAgent state x in session s does not exist"),
            (["x", "--agent", "one"], "Session x does not exist"),
        ],
    )
    def test_that_do_not_exist_are_named(self, parts: Path, arguments: list[str], complaint: str) -> None:
        assert complaint in run("rm", *arguments, "--yes", "--db", str(parts), code=1).stderr

    def test_are_of_one_session(self, parts: Path) -> None:
        assert "name one session" in run("rm", "s", "t", "--agent", "one", "--yes", "--db", str(parts), code=2).stderr

    def test_graphs_are_shown(self, parts: Path) -> None:
        assert "graph g  completed" in run("show", "s", "--db", str(parts)).output

    def test_only_a_turn_without_an_answer_is_undone_if_so_asked(self, parts: Path) -> None:
        options = ("--agent", "one", "--unanswered", "--yes", "--db", str(parts))
        assert run("undo", "s", *options).output == "Removed 0 messages.\n"
        with SQLiteSessionManager("s", parts) as manager:
            manager.create_message("s", "one", text_message(2, "no answer"))
        assert run("undo", "s", *options).output == "Removed 1 message.\n"


@pytest.mark.parametrize("content", ["junk", '{"format": "other"}', ""])
def test_a_junk_file_makes_no_database(tmp_path: Path, content: str) -> None:
    (tmp_path / "junk.jsonl").write_text(content)
    assert "line 1" in run("import", tmp_path / "junk.jsonl", "--db", tmp_path / "new.db", code=1).output
    (tmp_path / "empty").mkdir()
    assert "without sessions" in run("import", tmp_path / "empty", "--db", tmp_path / "new.db", code=1).output
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".jsonl") == ["empty"]


def test_reindex_builds_the_index_again(db_path: Path, raw: Any) -> None:
    with SQLiteSessionManager("s", db_path) as manager:
        make_agent(manager, "hi")("hello there")
    run("search", "hello", "--db", db_path)
    raw.execute("DELETE FROM search_messages_docsize")
    raw.execute("DELETE FROM search_messages_data WHERE id > 10")
    run("reindex", "--db", db_path)
    assert "[hello] there" in run("search", "hello", "--db", db_path).output
