"""What several tests of this folder need."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from strands.types.session import Session, SessionAgent, SessionType

from helpers import text_message, texts
from strands_sqlite_session_manager import (
    SQLiteSessionRepository,
)
from strands_sqlite_session_manager._engine import schema
from strands_sqlite_session_manager.maintenance import (
    Finding,
    check,
)

# What depends on the machine that the tests run on.
SURROUNDINGS = {"sqlite_version", "network"}


def found(db_path: Path) -> list[Finding]:
    return [finding for finding in check(db_path) if finding.kind not in SURROUNDINGS]


@contextmanager
def by_hand(db_path: Path) -> Iterator[sqlite3.Connection]:
    """A connection without the care that the library takes."""
    with closing(sqlite3.connect(db_path, isolation_level=None)) as connection:
        yield connection


def run_by_hand(db_path: Path, sql: str) -> None:
    with by_hand(db_path) as connection:
        connection.execute(sql)


def fill(db_path: Path, messages: int = 3, text: str = "hello") -> None:
    """Make a file with the session `s`, its agent `a` and messages, in use by nobody."""
    with SQLiteSessionRepository(db_path) as repository:
        repository.create_session(Session("s", SessionType.AGENT))
        repository.create_agent(
            "s", SessionAgent("a", {}, {}), messages=[text_message(n, text) for n in range(messages)]
        )


def stored(db_path: Path) -> list[str]:
    with SQLiteSessionRepository(db_path) as repository:
        return texts(repository.list_messages("s", "a"))


def content(db_path: Path) -> list[str]:
    with by_hand(db_path) as connection:
        return list(connection.iterdump())


@contextmanager
def used_by_another_process(db_path: Path, code: str) -> Iterator["subprocess.Popen[str]"]:
    """Another process that runs code on a `repository` when it has said `ready`."""
    script = f"""
import sys
from helpers import text_message
from strands.types.session import SessionAgent
from strands_sqlite_session_manager import SQLiteSessionRepository
repository = SQLiteSessionRepository(sys.argv[1])
{code}
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(db_path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def remove_from_index(db_path: Path) -> None:
    """Damage an index as a bug or a bad disk would: a row of the table is not in it."""
    with by_hand(db_path) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        rows = connection.execute("SELECT * FROM sqlite_master WHERE name = 'sessions_by_activity'").fetchall()
        connection.execute("DELETE FROM sqlite_master WHERE name = 'sessions_by_activity'")
    with by_hand(db_path) as connection:
        connection.execute("INSERT INTO sessions (session_id) VALUES ('unlisted')")
        connection.execute("PRAGMA writable_schema = ON")
        connection.executemany("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", rows)


def overwrite_page_of(db_path: Path, name: str) -> None:
    """Replace the first page of a table by noise."""
    with by_hand(db_path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    whole = db_path.read_bytes()
    db_path.write_bytes(whole[: (page - 1) * size] + b"\xa5" * size + whole[page * size :])


def next_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the present schema an older one."""
    step = ("CREATE TABLE invented (id INTEGER PRIMARY KEY) STRICT",)
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, step))


def make_old(db_path: Path) -> None:
    """A database as the first version of the schema had it."""
    with by_hand(db_path) as connection:
        connection.executescript((Path(__file__).parent.parent / "schemas" / "version_1.sql").read_text("utf-8"))
