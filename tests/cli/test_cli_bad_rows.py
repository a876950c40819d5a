"""Rows that somebody has put into the file by hand: each is told of, and takes no others with it."""

import json
import sqlite3
from pathlib import Path

import pytest

pytest.importorskip("typer", reason="the command line needs the extra cli")

from command_line import run

# Python's JSON decoder may take it, but nothing that calls itself for each level.
NESTED = '{"a":' * 980 + "1" + "}" * 980
REFERENCE = '{"image":{"source":{"bytes":{"__encoded__":["attachment",0,1000]}}}}'
NOT_UTF8 = "CAST(x'7b62ff' AS TEXT)"
MESSAGE = "UPDATE messages SET message = {} WHERE session_id = 't' AND message_id = 1"

# Of each, the statement, whether `show t` ends with exit code 1, how many errors there are, and whether a directory can
# hold the session.
BAD_ROWS = {
    "nested message": (MESSAGE.format(f"""'{{"role":"user","content":[{NESTED}]}}'"""), 1, 1, False),
    "overlapping references": (
        f"""
        UPDATE messages SET
            message = '{{"role":"user","content":[{",".join([REFERENCE] * 2000)}]}}', attachments = zeroblob(1000)
        WHERE session_id = 't' AND message_id = 1
        """,
        *(1, 1, False),
    ),
    "message no UTF-8": (MESSAGE.format(NOT_UTF8), 1, 1, False),
    "nested metadata": (f"UPDATE sessions SET metadata = '{NESTED}' WHERE session_id = 't'", 0, 1, True),
    "metadata no UTF-8": (f"UPDATE sessions SET metadata = {NOT_UTF8} WHERE session_id = 't'", 0, 1, True),
    "nested state": (f"UPDATE agents SET state = '{NESTED}' WHERE session_id = 't'", 0, 1, False),
    "state no UTF-8": (
        f"INSERT INTO multi_agents (session_id, multi_agent_id, state) VALUES ('t', 'graph', {NOT_UTF8})",
        *(1, 1, False),
    ),
    "times no UTF-8": (
        f"UPDATE sessions SET created_at = {NOT_UTF8}, updated_at = {NOT_UTF8} WHERE session_id = 't'",
        *(0, 0, False),
    ),
    "agent's id no UTF-8": (f"INSERT INTO agents (session_id, agent_id) VALUES ('t', {NOT_UTF8})", 1, 1, False),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD_ROWS)
def test_in_a_session_leave_the_others_alone(name: str, filled: Path, raw: sqlite3.Connection) -> None:
    statement, shown, errors, is_exported = BAD_ROWS[name]
    raw.execute(statement)
    listed = json.loads(run("ls", "--json").stdout)["sessions"]
    counts = {session["session_id"]: [agent["message_count"] for agent in session["agents"]] for session in listed}
    assert {session_id: sum(of_agents) for session_id, of_agents in counts.items()} == {"s": 4, "t": 4}
    assert ("damaged" in run("ls").stdout) == any(session["damage"] for session in listed)
    run("show", "s")
    run("show", "t", code=shown)
    assert "I am Ada." in run("show", "t", "--raw", code=shown if "state" not in name else 0).stdout
    assert {hit["session_id"] for hit in json.loads(run("search", "ada", "--json").stdout)} == {"s", "t"}
    assert {total["session"] for total in json.loads(run("usage", "--by", "session", "--json").stdout)} == {"s", "t"}
    found = json.loads(run("check", "--json", code=1 if errors else 0).stdout)
    assert sum(finding["severity"] == "error" for finding in found) == errors
    result = run("export", "files", code=0 if is_exported else 1)
    assert ("skipped t: " in result.stderr) != is_exported
    assert (filled.parent / "files" / "session_s").is_dir()
    run("export", "all.jsonl")
    assert {session["session_id"] for session in exported(filled.with_name("all.jsonl"), "session")} == {"s", "t"}
    assert len(exported(filled.with_name("all.jsonl"), "message")) == 8
    assert "s\n" in run("prune", "--keep-last", "0", "--dry-run").stdout


@pytest.mark.slow
@pytest.mark.parametrize("session_id", ["CAST(x'62ff' AS TEXT)", "''", "'b' || char(0)"])
def test_that_are_sessions_without_a_proper_id_leave_the_others_alone(
    session_id: str, filled: Path, raw: sqlite3.Connection
) -> None:
    raw.execute(f"INSERT INTO sessions (session_id) VALUES ({session_id})")
    pages = [json.loads(run("ls", "-n", "1", "--json").stdout)]
    while pages[-1]["next"]:
        pages.append(json.loads(run("ls", "-n", "1", "--json", "--after", pages[-1]["next"]).stdout))
    sessions = [session for page in pages for session in page["sessions"]]
    assert sorted(session["session_id"] for session in sessions if not session["damage"]) == ["s", "t"]
    assert len(sessions) == 3
    assert "an id is a non-empty string" in run("check", code=1).stdout
    assert "skipped" in run("export", "files", code=1).stderr
    assert sorted(path.name for path in (filled.parent / "files").glob("session_*")) == ["session_s", "session_t"]
    run("export", "all.jsonl")
    assert len(exported(filled.with_name("all.jsonl"), "session")) == 3
    assert "line" in run("import", "all.jsonl", "--db", "new.db", code=1).stderr
    assert "s\nt\n" in run("prune", "--keep-last", "0", "--dry-run").stdout


def exported(path: Path, record: str) -> list[dict[str, object]]:
    """The records of a kind in a file."""
    records = map(json.loads, path.read_text("utf-8").splitlines()[1:])
    return [found for found in records if found["record"] == record]


def test_metadata_that_is_damaged_is_not_printed_as_none(filled: Path, raw: sqlite3.Connection) -> None:
    raw.execute("UPDATE sessions SET metadata = '{' WHERE session_id = 's'")
    assert "sessions ('s',): damaged JSON" in run("tag", "s", code=1).stderr
    assert run("tag", "t").stdout == "{}\n"


def test_a_damaged_graph_can_be_removed(filled: Path, raw: sqlite3.Connection) -> None:
    raw.execute("INSERT INTO multi_agents (session_id, multi_agent_id, state) VALUES ('s', 'graph', '{')")
    run("rm", "s", "--multi-agent", "graph", "--yes")
    run("show", "s")
