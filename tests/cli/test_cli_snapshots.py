"""Commands on sessions of snapshots."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("typer", reason="the command line needs the extra cli")

from snapshot_helpers import restored, talking  # isort: skip (skips all of this on an older SDK)

from command_line import left, run
from helpers import make_agent, texts
from strands_sqlite_session_manager import SQLiteSessionManager
from strands_sqlite_session_manager.storage import SQLiteStorage

ADA = ("I am Ada.", "Hello, Ada.")
BYE = ("Bye.", "Goodbye.")


@pytest.fixture
def two(storage: Any) -> Any:
    """The session `s` of two turns, with a snapshot of each."""
    talking(storage, "s", ADA, BYE, always=True, agent_id="default")
    return storage


def listed() -> list[Any]:
    """Return what `snapshots` prints."""
    return list(json.loads(run("snapshots", "s", "--json").stdout))


def test_ls_and_show_know_them(two: Any) -> None:
    """The kind is listed, and a snapshot of the past is shown."""
    assert run("ls").stdout.splitlines()[1].split()[-3:] == ["default", "4", "snapshot"]
    assert "Goodbye." in run("show", "s").stdout
    oldest = listed()[-1]["snapshot_id"]
    shown = run("show", "s", "--snapshot", oldest).stdout
    assert "Hello, Ada." in shown
    assert "Goodbye." not in shown
    assert (
        "Snapshot x of agent default in session s does not exist" in run("show", "s", "--snapshot", "x", code=1).stderr
    )


async def test_an_agent_of_the_past_alone_is_named(two: Any) -> None:
    """Also where its conversation would be, and it can be deleted."""
    await two.delete("session/s/scopes/agent/default/snapshots/snapshot_latest.json")
    assert run("ls").stdout.splitlines()[1].split()[-3:] == ["default", "0", "snapshot"]
    assert "Agent default in session s has no latest snapshot; `restore" in run("show", "s").stderr
    assert run("show", "s", "--agent", "b", code=1).stderr == "strands-sqlite: Agent b in session s does not exist\n"
    assert run("rm", "s", "--agent", "default", "--yes").stdout == "Deleted agent default with 0 messages.\n"


async def test_an_agent_of_the_past_alone_is_no_hindrance(two: Any) -> None:
    """To show the others, and to take the conversation of the only one that has one."""
    talking(two, "s", ADA, always=True, agent_id="past")
    await two.delete("session/s/scopes/agent/past/snapshots/snapshot_latest.json")
    assert "Goodbye." in run("show", "s").stdout
    assert len(json.loads(run("show", "s", "--as", "json").stdout)) == 4


def test_snapshots_are_listed(two: Any) -> None:
    """The latest first, with ids that the other commands take."""
    lines = run("snapshots", "s").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["latest", *(s["snapshot_id"] for s in listed()[1:])]
    newest = listed()[1]["snapshot_id"]
    older = run("snapshots", "s", "--limit", 1, "--before", newest).stdout.splitlines()
    assert [line.split() for line in older[1:]] == [line.split() for line in lines[3:]]
    assert "Agent x in session s does not exist" in run("snapshots", "s", "--agent", "x", code=1).stderr


async def test_a_damaged_one_is_named(two: Any) -> None:
    """With the exit code 1."""
    await two.write("session/s/scopes/agent/default/snapshots/snapshot_latest.json", b"{")
    assert "damaged snapshot" in run("snapshots", "s", code=1).stdout
    assert "damaged snapshot" in run("show", "s", code=1).stdout
    assert run("ls").stdout.splitlines()[1].split()[-3:] == ["default", "damaged", "snapshot"]


def test_diff_shows_what_differs(two: Any) -> None:
    """With the latest, or between two."""
    newest, oldest = (s["snapshot_id"] for s in listed()[1:])
    assert "no difference" in run("diff", "s", newest).stdout
    assert run("diff", "s", "latest", oldest).stdout.startswith("removed")
    shown = run("diff", "s", oldest).stdout
    assert shown.startswith("added")
    assert "Goodbye." in shown
    as_json = json.loads(run("diff", "s", newest, oldest, "--json").stdout)
    assert texts(m["message"] for m in as_json["removed"]) == ["Bye.", "Goodbye."]
    agent = restored(two, "s", agent_id="default", state={"color": "red"})
    agent.messages[0]["content"][0]["text"] = "I am Eve."
    agent.state.set("color", "blue")
    agent.system_prompt = "Be kind."
    agent._session_manager.sync_agent(agent)
    shown = run("diff", "s", newest).stdout
    assert "changed" in shown
    assert "I am Eve." in shown
    assert "state: color\nalso: system_prompt\n" in shown
    (pair,) = json.loads(run("diff", "s", newest, "--json").stdout)["changed"]
    assert texts([pair["before"]["message"], pair["after"]["message"]]) == ["I am Ada.", "I am Eve."]


def test_restore_asks_and_tells_the_way_back(two: Any) -> None:
    """The former latest is named."""
    oldest = listed()[-1]["snapshot_id"]
    asked = run("restore-snapshot", "s", oldest, "--dry-run").stdout
    assert asked == "Go on with 2 messages in the place of 4: nothing was changed.\n"
    assert "does not exist" in run("restore-snapshot", "s", "x", "--yes", code=1).stderr
    assert "does not exist" in run("restore-snapshot", "s", "x", "--dry-run", code=1).stderr
    told = run("restore-snapshot", "s", oldest, "--yes").stdout
    assert len(restored(two, "s", agent_id="default").messages) == 2
    assert told == f"Restored {oldest}. What was the latest is {listed()[1]['snapshot_id']}.\n"


@pytest.mark.parametrize("option", ["--dry-run", "--yes"])
def test_restore_is_refused_where_the_log_counts(two: Any, option: str) -> None:
    """Without asking first."""
    with SQLiteSessionManager("s") as manager:
        make_agent(manager, "Hello.")("Hi.")
    assert "has a log of messages" in run("restore-snapshot", "s", listed()[-1]["snapshot_id"], option, code=1).stderr


def test_prune_undo_fork_and_rm(two: Any) -> None:
    """What changes sessions works for these too."""
    assert "1 snapshot, " in run("prune", "--keep-snapshots", "1", "--dry-run").stdout
    assert "Deleted 0 sessions with 0 messages, 1 snapshot, " in run("prune", "--keep-snapshots", "1", "--yes").stdout
    assert len(listed()) == 2
    assert run("undo", "s", "--yes").stdout == "Removed 2 messages.\n"
    assert run("fork", "s", "t").stdout == "Copied 2 messages.\n"
    assert run("rename", "t", "u").stdout == "Renamed t to u.\n"
    assert run("rm", "s", "u", "--yes").stdout == "Deleted 2 sessions with 4 messages.\n"


def test_convert_goes_both_ways(two: Any) -> None:
    """Into the same file, another, or under another id; what has no place is told."""
    told = run("convert", "s", "--to", "messages", "--into", "log.db").stdout
    assert told == "Converted s: 1 agent with 4 messages.\n"
    assert "Goodbye." in run("show", "s", "--db", "log.db").stdout
    assert "there already: 1 agent." in run("convert", "s", "--to", "messages", "--into", "log.db").stdout
    refused = run("convert", "s", "--to", "snapshots", "--db", "log.db", code=1).stderr
    assert "in one database, an id is one session" in refused
    run("convert", "s", "--to", "snapshots", "--db", "log.db", "--as", "t")
    assert run("ls", "--db", "log.db").stdout.count("snapshot") == 1
    assert "does not exist" in run("convert", "x", "--to", "messages", code=1).stderr
    assert "name one session" in run("convert", "s", "t", "--to", "messages", "--as", "u", code=2).stderr


def test_convert_skips_what_went_on_in_the_target(two: Any) -> None:
    """The others are converted, also where the SDK takes no such id."""
    talking(two, "t", ADA, agent_id="default")
    with SQLiteSessionManager("a/b", "sessions.db") as manager:
        make_agent(manager, "Hello.")("Hi.")
    with SQLiteSessionManager("z", "sessions.db") as manager:
        make_agent(manager, "Hello.")("Hi.")
    done = run("convert", "a/b", "z", "--to", "snapshots", "--into", "back.db", code=1)
    assert done.stdout == "Converted z: 1 agent with 2 messages.\n"
    assert done.stderr.startswith("skipped a/b: ")
    run("convert", "s", "--to", "messages", "--into", "log.db")
    with SQLiteSessionManager("s", "log.db") as manager:
        make_agent(manager, "Yes.")("More?")
    talking(two, "s", ("Else?", "No."), agent_id="default")
    done = run("convert", "s", "t", "--to", "messages", "--into", "log.db", code=1)
    assert done.stdout == "Converted t: 1 agent with 2 messages.\n"
    assert done.stderr.startswith("skipped s: ")


def test_copy_skips_what_went_on_in_the_target(two: Any) -> None:
    """The others are copied, and the report counts keys beside the messages of the tables."""
    for session_id in ("r", "t"):
        talking(two, session_id, ADA, agent_id="default")
    with SQLiteSessionManager("u", "sessions.db") as manager:
        make_agent(manager, "Hello.")("Hi.")
    told = run("copy", "s", "--to", "copy.db").stdout
    assert told == "Copied 1 session with 0 messages and 3 keys of snapshots and stash.\n"
    with SQLiteStorage("copy.db") as copied:
        talking(copied, "s", ("More.", "Yes."), agent_id="default")
    done = run("copy", "--all", "--to", "copy.db", code=1)
    assert done.stdout == "Copied 3 sessions with 2 messages and 2 keys of snapshots and stash.\n"
    assert done.stderr.startswith("skipped s: ")
    assert "a different one, which is kept" in done.stderr
    assert left(Path("copy.db")) == ["r", "s", "t", "u"]
    told = run("copy", "t", "u", "--to", "copy.db").stdout
    assert told.splitlines()[1] == ("There already: 2 sessions with 2 messages and 1 key of snapshots and stash.")


def test_export_and_import_tell_of_keys(two: Any) -> None:
    """As a copy does."""
    told = "1 session with 0 messages and 3 keys of snapshots and stash.\n"
    assert run("export", "out.jsonl").stdout == f"Exported {told}"
    assert run("import", "out.jsonl", "--db", "copy.db").stdout == f"Imported {told}"
    assert run("import", "out.jsonl", "--db", "copy.db").stdout.endswith(f"There already: {told}")


@pytest.mark.parametrize("arguments", [("copy", "x"), ("convert", "x", "--to", "messages")])
def test_no_file_is_made_for_what_is_not_there(two: Any, arguments: Any) -> None:
    """The source is looked at before there is a new database."""
    option = "--into" if arguments[0] == "convert" else "--to"
    assert "Session x does not exist" in run(*arguments, option, "new.db", code=1).stderr
    assert not Path("new.db").exists()


def test_no_file_is_made_for_snapshots_of_what_is_not_there(two: Any) -> None:
    """Nor for a session that is one of snapshots already."""
    assert "is one of snapshots" in run("convert", "s", "--to", "snapshots", "--into", "new.db", code=1).stderr
    assert not Path("new.db").exists()
