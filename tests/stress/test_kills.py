"""Processes that are killed at random moments lose nothing that they had reported.

A writer reports each operation before it starts and after it returned. The parent kills it with SIGKILL, carries out
the reported operations on a dictionary, and compares that with the file. Of the one operation that was under way, all
or nothing may be there.
"""

import copy
import itertools
import json
import os
import random
import shutil
import signal
import sqlite3
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from strands.types.session import Session, SessionAgent, SessionType

from helpers import text_message
from strands_sqlite_session_manager import SQLiteSessionRepository
from strands_sqlite_session_manager._engine import schema as _schema

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this platform has no SIGKILL")

KILLS = 150
OPENING_KILLS = 60
MIGRATION_KILLS = 40
SESSIONS = tuple(f"session-{number}" for number in range(4))
OPERATIONS = ("append", "append", "append", "redact", "update_agent", "update_multi_agent", "delete")


class State:
    """Stands for a graph whose state is a number."""

    id = "graph"

    def __init__(self, number: int) -> None:
        self.number = number

    def serialize_state(self) -> dict[str, Any]:
        return {"number": self.number}


def content_of(number: int) -> dict[str, Any]:
    """A message whose size and bytes follow from its number."""
    message = text_message(0, f"message {number} " + "é" * (number * 37 % 3000)).message
    if number % 5 == 0:
        message["content"].append({"image": {"format": "png", "source": {"bytes": bytes([number % 256]) * 20_000}}})
    return message


def apply(model: dict[str, Any], operation: str, session_id: str, number: int) -> None:
    """What an operation does to the dictionary that stands for the file."""
    session = model.setdefault(session_id, {"messages": [], "agent": 0, "graph": None})
    if operation == "append":
        session["messages"].append(number)
    elif operation == "redact" and session["messages"]:
        session["messages"][-1] = -number
    elif operation == "update_agent":
        session["agent"] = number
    elif operation == "update_multi_agent":
        session["graph"] = number
    elif operation == "delete":
        del model[session_id]


def perform(
    repository: SQLiteSessionRepository, model: dict[str, Any], operation: str, session_id: str, number: int
) -> None:
    """The same on the file. `model` is what was there before."""
    session = model.get(session_id)
    if session is None:
        repository.create_session(Session(session_id, SessionType.AGENT))
        repository.create_agent(session_id, SessionAgent("a", {"number": 0}, {}))
        session = {"messages": [], "agent": 0, "graph": None}
    stored = session["messages"]
    if operation == "append":
        message = text_message(len(stored))
        message.message = content_of(number)
        repository.create_message(session_id, "a", message)
    elif operation == "redact" and stored:
        message = text_message(len(stored) - 1)
        message.message = message.redact_message = content_of(-number)
        repository.update_message(session_id, "a", message)
    elif operation == "update_agent":
        repository.update_agent(session_id, SessionAgent("a", {"number": number}, {}))
    elif operation == "update_multi_agent":
        (repository.create_multi_agent if session["graph"] is None else repository.update_multi_agent)(
            session_id, State(number)
        )
    elif operation == "delete":
        repository.delete_session(session_id)


def write_until_killed(path: str, seed: int, model: dict[str, Any], log_path: str, opened: Any) -> None:
    chance = random.Random(seed)
    log = os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with SQLiteSessionRepository(path) as repository:
        opened.set()
        for number in itertools.count(1 + seed * 100_000):
            session_id = chance.choice(SESSIONS)
            operation = chance.choice(OPERATIONS) if session_id in model else "append"
            line = json.dumps([operation, session_id, number])
            os.write(log, f"? {line}\n".encode())
            perform(repository, model, operation, session_id, number)
            os.write(log, f"! {line}\n".encode())
            apply(model, operation, session_id, number)


def read_all(path: Path) -> dict[str, Any]:
    """What is in the file, as `apply` would have it."""
    found: dict[str, Any] = {}
    with SQLiteSessionRepository(path) as repository:
        for session_id in SESSIONS:
            agent = repository.read_agent(session_id, "a")
            if agent is None:
                continue
            graph = repository.read_multi_agent(session_id, "graph")
            messages = []
            for message in repository.list_messages(session_id, "a"):
                written = int(message.message["content"][0]["text"].split()[1])
                assert message.message == content_of(written)
                assert message.redact_message == (message.message if written < 0 else None)
                messages.append(written)
            found[session_id] = {
                "messages": messages,
                "agent": agent.state["number"],
                "graph": graph and graph["number"],
            }
    return found


def integrity(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


def kill_after(process: Any, seconds: float) -> None:
    process.join(seconds)
    process.kill()
    process.join()


def test_writers(db_path: Path, tmp_path: Path, processes: Any, report: Any) -> None:
    chance = random.Random(1)
    model: dict[str, Any] = {}
    operations = unreported = 0
    for kill in range(KILLS):
        log_path, opened = tmp_path / f"{kill}.log", processes.Event()
        writer = processes.Process(
            target=write_until_killed, args=(str(db_path), kill, model, str(log_path), opened), daemon=True
        )
        writer.start()
        opened.wait(30)
        kill_after(writer, chance.uniform(0.001, 0.1))
        assert writer.exitcode == -signal.SIGKILL
        under_way = None
        for line in log_path.read_text().splitlines(keepends=True) if log_path.exists() else []:
            if not line.endswith("\n"):
                break
            under_way = json.loads(line[2:])
            if line[0] == "!":
                apply(model, *under_way)
                under_way = None
                operations += 1
        found = read_all(db_path)  # the library first: it must be able to open what a crash has left
        assert integrity(db_path) == "ok"
        if found != model:
            assert under_way is not None
            unreported += 1
            possible = copy.deepcopy(model)
            if under_way[1] not in model:
                # A session, its agent and the first message are three calls.
                possible[under_way[1]] = {"messages": [], "agent": 0, "graph": None}
            if found != possible:
                apply(possible, *under_way)
            model = possible
        assert found == model
        with SQLiteSessionRepository(db_path) as repository:
            for session_id in SESSIONS:
                if session_id not in model and repository.read_session(session_id):
                    repository.delete_session(session_id)
    assert operations > KILLS
    report(kills=KILLS, reported_operations=operations, done_but_not_reported=unreported)


def open_new(path: str, opening: Any) -> None:
    opening.set()
    with SQLiteSessionRepository(path) as repository:
        repository.create_session(Session("s", SessionType.AGENT))
        Path(f"{path}.done").touch()
        threading.Event().wait()


def test_first_opening_of_a_new_file(tmp_path: Path, processes: Any, report: Any) -> None:
    chance = random.Random(2)
    finished = 0
    for kill in range(OPENING_KILLS):
        path, opening = tmp_path / str(kill) / "sessions.db", processes.Event()
        opener = processes.Process(target=open_new, args=(str(path), opening), daemon=True)
        opener.start()
        opening.wait(30)
        kill_after(opener, chance.uniform(0, 0.02))
        done = Path(f"{path}.done").exists()
        finished += done
        with SQLiteSessionRepository(path) as repository:
            assert repository.read_session("s") is not None or not done
            repository.create_session(Session("t", SessionType.AGENT))
        assert integrity(path) == "ok"
    report(kills=OPENING_KILLS, after_the_first_write=finished)


# Slow enough to be killed in the middle, on a file with some messages.
NEWER = (
    ("ALTER TABLE messages ADD COLUMN mood TEXT", "UPDATE messages SET mood = hex(message)"),
    ("CREATE INDEX messages_mood ON messages (mood)", "UPDATE messages SET mood = lower(mood)"),
)


def migrate(path: str, opening: Any) -> None:
    _schema.MIGRATIONS = (*_schema.MIGRATIONS, *NEWER)
    opening.set()
    SQLiteSessionRepository(path)


def test_migrations(tmp_path: Path, processes: Any, report: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(3)
    versions: Counter[int] = Counter()
    with SQLiteSessionRepository(tmp_path / "old.db") as repository:
        repository.create_session(Session("s", SessionType.AGENT))
        messages = [text_message(number, f"message {number} " * 20) for number in range(1000)]
        repository.create_agent("s", SessionAgent("a", {}, {}), messages=messages)
    for kill in range(MIGRATION_KILLS):
        path, opening = tmp_path / f"{kill}.db", processes.Event()
        shutil.copy(tmp_path / "old.db", path)
        migrator = processes.Process(target=migrate, args=(str(path), opening), daemon=True)
        migrator.start()
        opening.wait(30)
        kill_after(migrator, chance.uniform(0, 0.06))
        copy_path = tmp_path / "copy.db"  # looked at in a copy, so that the library is the first to open the file
        for suffix in ("", "-wal"):
            Path(f"{copy_path}{suffix}").unlink(missing_ok=True)
            if Path(f"{path}{suffix}").exists():
                shutil.copy(f"{path}{suffix}", f"{copy_path}{suffix}")
        with closing(sqlite3.connect(copy_path)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            columns = {row[1] for row in connection.execute("PRAGMA table_info(messages)")}
            indexed = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'messages_mood'").fetchone()
        assert ("mood" in columns) == (version > len(_schema.MIGRATIONS))
        assert bool(indexed) == (version > len(_schema.MIGRATIONS) + 1)
        versions[version] += 1
        with monkeypatch.context() as patch:
            patch.setattr(_schema, "MIGRATIONS", (*_schema.MIGRATIONS, *NEWER))
            with SQLiteSessionRepository(path) as repository:
                assert repository.list_messages("s", "a") == messages
        assert integrity(path) == "ok"
    assert sum(versions.values()) == MIGRATION_KILLS
    report(kills=MIGRATION_KILLS, versions_found=dict(sorted(versions.items())))
