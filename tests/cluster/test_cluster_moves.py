"""Sessions go from a file to a cluster and back as they are, and what only a file can do says what does it instead."""

import io
from pathlib import Path
from typing import Any

import pytest

from command_line import run
from helpers import FakeMultiAgent, make_agent
from nodes import Cluster, raw_connection
from strands_sqlite_session_manager import SessionCatalog, SQLiteSessionManager, SQLiteSessionRepository, maintenance
from strands_sqlite_session_manager.transfer import copy_session, export_jsonl, import_jsonl
from strands_sqlite_session_manager.transfer.rows import TABLES


def fill(url: Any) -> None:
    """Store the sessions `s` and `t`."""
    for session_id in "st":
        with SQLiteSessionManager(session_id, url) as manager, SessionCatalog(url) as catalog:
            agent = make_agent(manager, *(f"answer {number} x'00'" for number in range(4)))
            for number in range(4):
                agent(f"question {number}")
            image = {"image": {"format": "png", "source": {"bytes": b"\\0\\xff" * 100}}}
            agent.messages[2:4] = [{"role": "user", "content": [{"text": "edited"}, image]}]
            agent.state.set("color", "red")
            manager.sync_agent(agent)
            manager.create_multi_agent(session_id, FakeMultiAgent("g", {"a": [1.0, 2**70]}))
            catalog.set_metadata(session_id, {"user": session_id})


def rows(url: Any) -> dict[str, list[Any]]:
    with raw_connection(url) as connection:
        return {table: sorted(map(repr, connection.execute(f"SELECT * FROM {table}"))) for table in TABLES}


def lines_of(url: Any) -> str:
    """What is stored, in a form that is the same for both engines."""
    with SQLiteSessionRepository(url) as repository:
        found = io.StringIO()
        export_jsonl(repository, found)
    return found.getvalue()


def test_copies_are_exact_and_can_be_run_again(cluster: Cluster, tmp_path: Path) -> None:
    fill(tmp_path / "a.db")
    for source, target in ((tmp_path / "a.db", cluster.url), (cluster.url, tmp_path / "b.db")):
        with SQLiteSessionRepository(source) as here, SQLiteSessionRepository(target) as there:
            for session_id in "st":
                assert copy_session(here, there, session_id).copied.messages == 8
                assert copy_session(here, there, session_id).already_there.messages == 8
        assert lines_of(target) == lines_of(source)
    assert rows(tmp_path / "b.db") == rows(tmp_path / "a.db")
    with SQLiteSessionManager("s", cluster.url) as manager, SQLiteSessionManager("s", tmp_path / "a.db") as other:
        agent, expected = make_agent(manager), make_agent(other)
        assert agent.messages == expected.messages
        assert agent.state.get() == {"color": "red"}


def test_json_lines_too(cluster: Cluster, tmp_path: Path) -> None:
    fill(cluster.url)
    lines = io.StringIO()
    with SQLiteSessionRepository(cluster.url) as source, SQLiteSessionRepository(tmp_path / "a.db") as target:
        export_jsonl(source, lines)
        lines.seek(0)
        assert import_jsonl(lines, target).copied.messages == 16
    assert lines_of(tmp_path / "a.db") == lines_of(cluster.url)


class TestCommands:
    def test_copy_there_and_back(self, cluster: Cluster, tmp_path: Path) -> None:
        fill(tmp_path / "a.db")
        said = run("copy", "--all", "--to", cluster.url, "--db", tmp_path / "a.db").stdout
        assert said == "Copied 2 sessions with 16 messages.\n"
        said = run("copy", "s", "--to", cluster.url, "--db", tmp_path / "a.db").stdout
        assert said == "Copied 0 sessions with 0 messages.\nThere already: 1 session with 8 messages.\n"
        said = run("copy", "t", "--to", tmp_path / "b.db", "--db", cluster.url).stdout
        assert said == "Copied 1 session with 8 messages.\n"
        assert SessionCatalog(tmp_path / "b.db").count_sessions() == 1

    def test_copy_refuses_what_differs(self, cluster: Cluster, tmp_path: Path) -> None:
        fill(tmp_path / "a.db")
        run("copy", "--all", "--to", cluster.url, "--db", tmp_path / "a.db")
        with SQLiteSessionManager("s", cluster.url) as manager:
            make_agent(manager, "answer")("and more")
        done = run("copy", "--all", "--to", cluster.url, "--db", tmp_path / "a.db", code=1)
        assert done.stderr.startswith("skipped s: Agent default in session s")
        assert "There already: 1 session with 8 messages." in done.stdout

    @pytest.mark.parametrize("arguments", [[], ["s", "--all"]])
    def test_copy_wants_to_know_what(self, arguments: list[str], tmp_path: Path, cluster: Cluster) -> None:
        assert "name sessions, or pass --all" in run("copy", *arguments, "--to", cluster.url, code=2).stderr

    def test_that_look_work_as_on_a_file(self, cluster: Cluster) -> None:
        fill(cluster.url)
        for arguments, expected in (
            (["ls"], "user=s"),
            (["show", "s"], "question 3"),
            (["search", "question", "--json"], "[question]"),
            (["stats"], cluster.path),
            (["check"], "nothing found"),
            (["usage"], "120"),
            (["rm", "s", "t", "--yes"], "Deleted 2 sessions with 16 messages."),
        ):
            assert expected in run(*arguments, "--db", cluster.url).stdout

    @pytest.mark.parametrize(
        ("arguments", "instead"), [(["backup", "x.db"], "/db/backup"), (["vacuum"], "VACUUM as a statement")]
    )
    def test_that_only_a_file_has_say_what_to_use(self, cluster: Cluster, arguments: list[str], instead: str) -> None:
        SQLiteSessionRepository(cluster.url).close()
        said = run(*arguments, "--db", cluster.url, code=1).stderr
        assert "a cluster, which is looked after with rqlite's own tools" in said
        assert instead in said

    def test_restore_says_what_to_use(self, cluster: Cluster, tmp_path: Path) -> None:
        fill(tmp_path / "a.db")
        said = run("restore", tmp_path / "a.db", "--db", cluster.url, "--yes", code=1).stderr
        assert "/db/load" in said


class TestMaintenance:
    def test_check_tells_of_rows_and_repair_mends_them(self, cluster: Cluster) -> None:
        fill(cluster.url)
        with raw_connection(cluster.url) as connection:
            connection.execute("UPDATE sessions SET metadata = '{broken' WHERE session_id = 's'")
            connection.execute("UPDATE messages SET message = '{broken' WHERE session_id = 't' AND message_id = 1")
        assert sorted(finding.kind for finding in maintenance.check(cluster.url)) == ["json", "metadata"]
        assert [finding.kind for finding in maintenance.repair(cluster.url, dry_run=False)] == ["metadata"]
        assert [finding.kind for finding in maintenance.check(cluster.url)] == ["json"]

    def test_stats_leave_out_what_only_a_file_has(self, cluster: Cluster) -> None:
        fill(cluster.url)
        sizes = maintenance.stats(cluster.url)
        assert (sizes.path, sizes.file_size, sizes.log_size, sizes.free_size) == (cluster.path, None, None, None)
        assert [session.messages for session in sizes.largest_sessions] == [8, 8]
        assert {table.name: table.rows for table in sizes.tables}["messages"] == 16
