"""The viewer follows agents that are at work in other processes."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from strands.types.session import Session, SessionAgent, SessionType
from viewer_helpers import add_conversation, events, get, serving

from helpers import FakeMultiAgent, make_agent, text_message
from strands_sqlite_session_manager import SessionCatalog, SQLiteSessionManager, SQLiteSessionRepository
from strands_sqlite_session_manager.viewer import create_app

# An agent that says something when it is told to, in a process of its own.
TALKER = """
import sys
sys.path.insert(0, sys.argv[2])
from helpers import make_agent
from strands_sqlite_session_manager import SQLiteSessionManager
agent = make_agent(SQLiteSessionManager("s", sys.argv[1]), *["Hello."] * 10)
for line in sys.stdin:
    agent(line.strip())
    print("said", flush=True)
"""


@pytest.fixture
def talk(db_path: Path) -> Any:
    """A function that makes an agent in another process hear something and answer."""
    with subprocess.Popen(
        [sys.executable, "-c", TALKER, str(db_path), str(Path(__file__).parent.parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def say(text: str) -> None:
            print(text, file=process.stdin, flush=True)
            assert process.stdout.readline() == "said\n"

        yield say
        process.stdin.close()


@pytest.mark.slow
def test_each_turn_of_another_process_is_told(db_path: Path, talk: Any) -> None:
    """The first event says how things are, and each that follows that something was stored."""
    talk("first")
    with serving(create_app(db_path)) as host:
        told = events(host, session="s", agent="default")
        seen = {next(told)}
        for text in ("second", "third"):
            talk(text)
            revision = next(told)
            assert revision not in seen
            seen.add(revision)
            while text not in get(host, "/session", id="s").text:
                next(told)
        told.close()


def test_the_page_knows_which_state_it_shows(db_path: Path) -> None:
    """A browser can tell that what an event speaks of is on the page already."""
    add_conversation(db_path, "s", "one")
    with serving(create_app(db_path)) as host:
        told = events(host, session="s", agent="default")
        assert f'data-revision="{next(told).replace("+", "&#43;")}"' in get(host, "/session", id="s").text.replace(
            "+", "&#43;"
        )
        told.close()


@pytest.mark.slow
def test_many_viewers_cost_one_query_a_tick(db_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many browsers follow however many conversations."""
    for name in "ab":
        add_conversation(db_path, name, "one")
    asked: list[int] = []
    revisions = SessionCatalog.revisions

    def counted(self: SessionCatalog, conversations: Any) -> Any:
        asked.append(len(list(conversations)))
        return revisions(self, conversations)

    app = create_app(db_path)
    with serving(app) as host, ThreadPoolExecutor(6) as pool:
        told = [events(host, session=name, agent="default") for name in "aabbab"]
        assert len(set(pool.map(next, told))) == 2
        monkeypatch.setattr(SessionCatalog, "revisions", counted)
        with SQLiteSessionRepository(db_path) as repository:
            repository.create_message("a", "default", text_message(1))
            repository.create_message("b", "default", text_message(1))
        assert all(pool.map(next, told))
        assert set(asked) == {2}
        for each in told:
            each.close()


@pytest.mark.slow
def test_nothing_is_told_while_nothing_changes(db_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ticks alone are no events; the end of the session is one."""
    add_conversation(db_path, "s", "one")
    looks = threading.Semaphore(0)
    revisions = SessionCatalog.revisions

    def counted(self: SessionCatalog, conversations: Any) -> Any:
        looks.release()
        return revisions(self, conversations)

    with serving(create_app(db_path)) as host, SessionCatalog(db_path) as catalog:
        told = events(host, session="s", agent="default")
        first = next(told)
        monkeypatch.setattr(SessionCatalog, "revisions", counted)
        assert all(looks.acquire(timeout=20) for _ in range(3))
        catalog.delete_session("s")
        assert first != ""
        assert next(told) == ""
        told.close()


@pytest.mark.slow
def test_nobody_looks_when_nobody_follows(db_path: Path) -> None:
    """The task ends with the last browser that goes."""
    add_conversation(db_path, "s", "one")
    app = create_app(db_path)
    with serving(app) as host:
        told = events(host, session="s", agent="default")
        next(told)
        assert app.state.follower.is_watching
        told.close()
        while app.state.follower.is_watching:
            get(host, "/static/icon.svg")


def test_what_does_not_exist_cannot_be_followed(db_path: Path) -> None:
    """The answer says so at once."""
    add_conversation(db_path, "s", "one")
    with serving(create_app(db_path)) as host:
        assert get(host, "/events", session="s", agent="x").status == 404
        assert get(host, "/events", session="x").status == 404
        assert get(host, "/events", session="", agent="x").status == 400


@pytest.mark.slow
@pytest.mark.file_only
@pytest.mark.skipif(os.name == "nt", reason="Windows deletes no file that is open")
def test_a_file_that_went_away_cannot_be_followed(db_path: Path) -> None:
    """What is still open is nobody's any more: the events end, and no more begin."""
    add_conversation(db_path, "s", "one")
    with serving(create_app(db_path)) as host:
        told = events(host, session="s", agent="default")
        next(told)
        db_path.rename(db_path.with_suffix(".moved"))
        assert list(told) == []
        assert get(host, "/events", session="s", agent="default").status == 503


@pytest.mark.parametrize("change", ["message", "state", "redaction", "message of another", "another", "graph"])
def test_revisions_change_with_what_is_stored(db_path: Path, change: str) -> None:
    """In the conversation and beside it; and with nothing else."""
    with SQLiteSessionManager("s", db_path) as manager, SessionCatalog(db_path) as catalog:
        agent = make_agent(manager, "Hello.", "Again.")
        agent("one")
        manager.create_agent("s", SessionAgent("other", {}, {}))
        key = ("s", "default")
        before = catalog.revisions([key, ("s", "x"), ("x", "default")])
        assert list(before) == [key]
        assert catalog.revisions([key]) == before
        if change == "message":
            agent("two")
        elif change == "state":
            agent.state.set("a", 1)
            manager.sync_agent(agent)
        elif change == "message of another":
            manager.create_message("s", "other", text_message(0))
        elif change == "another":
            manager.create_agent("s", SessionAgent("new", {}, {}))
        elif change == "graph":
            manager.create_multi_agent("s", FakeMultiAgent("g", {}))
        else:
            stored = manager.list_messages("s", "default")[-1]
            stored.redact_message = {"role": "assistant", "content": [{"text": "removed"}]}
            manager.update_message("s", "default", stored)
        assert catalog.revisions([key]) != before


def test_revisions_of_a_session_without_agents(db_path: Path) -> None:
    """They change with its graphs and swarms, and when its first agent comes."""
    key = ("s", None)
    with SQLiteSessionRepository(db_path) as repository, SessionCatalog(db_path) as catalog:
        repository.create_session(Session("s", SessionType.AGENT))
        repository.create_multi_agent("s", FakeMultiAgent("g", {}))
        seen = [catalog.revisions([key, ("x", None), ("s", "x")])]
        assert list(seen[0]) == [key]
        assert catalog.revisions([key]) == seen[0]
        repository.update_multi_agent("s", FakeMultiAgent("g", {"status": "completed"}))
        seen.append(catalog.revisions([key]))
        repository.create_agent("s", SessionAgent("a", {}, {}))
        seen.append(catalog.revisions([key]))
        assert len({revision for found in seen for revision in found.values()}) == 3


async def test_revisions_of_snapshots_of_a_graph(storage: Any, catalog: SessionCatalog) -> None:
    """A session of snapshots without an agent has some too."""
    key = "session/s/scopes/multiAgent/g/snapshots/snapshot_latest.json"
    await storage.write(key, b"{}")
    before = catalog.revisions([("s", None)])
    await storage.write(key, b"{ }")
    assert catalog.revisions([("s", None)])["s", None] > before["s", None]


def test_revisions_of_an_agent_without_messages(db_path: Path) -> None:
    """It has one too."""
    with SQLiteSessionRepository(db_path) as repository, SessionCatalog(db_path) as catalog:
        repository.create_session(Session("s", SessionType.AGENT))
        repository.create_agent("s", SessionAgent("a", {}, {}))
        assert catalog.revisions([("s", "a")])[("s", "a")]
