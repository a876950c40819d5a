"""Replication by Litestream, the real program, while agents write and delete: it restores what was there."""

import os
import shutil
import sqlite3
import subprocess
import sysconfig
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from helpers import text_message
from strands_sqlite_session_manager import SQLiteSessionRepository
from strands_sqlite_session_manager.catalog import SessionCatalog

# Those that are there: the one of the extra `test`, and others, such as 0.3, by the variable.
_INSTALLED = shutil.which("litestream", path=sysconfig.get_path("scripts"))
PROGRAMS = [path for path in (_INSTALLED, *os.environ.get("LITESTREAM_PROGRAMS", "").split(os.pathsep)) if path]

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not PROGRAMS, reason="Litestream is not installed")]


@pytest.fixture(params=PROGRAMS)
def litestream(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def replicating(litestream: str, db_path: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Litestream at work, started first, on a file that does not exist yet or is empty."""
    configuration = tmp_path / "litestream.yml"
    configuration.write_text(
        f"dbs:\n  - path: {db_path}\n    monitor-interval: 20ms\n    checkpoint-interval: 500ms\n"
        f"    replicas:\n      - path: {tmp_path / 'replica'}\n        sync-interval: 50ms\n"
    )
    db_path.touch(mode=0o600)
    process = subprocess.Popen(
        [litestream, "replicate", "-config", str(configuration)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "replicating to" in line or "initialized db" in line:
            break
    # Shown if the test fails.
    drain = threading.Thread(target=lambda: print(process.stdout.read()), daemon=True)  # type: ignore[union-attr]
    drain.start()
    yield process
    process.kill()
    process.wait()
    drain.join()
    process.stdout.close()


def rows(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """All rows of our tables."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        names = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '%litestream%' ORDER BY name"
        ).fetchall()
        return {name: sorted(connection.execute(f"SELECT * FROM {name}").fetchall(), key=repr) for (name,) in names}


def work(repository: SQLiteSessionRepository, name: str, rounds: int) -> None:
    """Append, redact, undo and delete."""
    catalog = SessionCatalog.on(repository)
    for number in range(rounds):
        session_id = f"{name}-{number}"
        repository.create_session(Session(session_id, SessionType.AGENT))
        repository.create_agent(session_id, SessionAgent("a", {}, {}))
        for message_id in range(20):
            repository.create_message(session_id, "a", text_message(message_id, f"xylophone {message_id} " * 1000))
        redacted: SessionMessage = text_message(3, "[redacted]")
        redacted.redact_message = redacted.message
        repository.update_message(session_id, "a", redacted)
        catalog.undo_turns(session_id, "a")
        if number % 2:
            repository.delete_session(session_id)


@pytest.mark.usefixtures("replicating")
def test_what_litestream_restores_is_what_was_there(litestream: str, db_path: Path, tmp_path: Path) -> None:
    with SQLiteSessionRepository(db_path, busy_timeout=30) as repository:
        threads = [threading.Thread(target=work, args=(repository, f"t{number}", 100)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # A large log too, which is emptied elsewhere.
        repository.create_message("t0-0", "a", text_message(1000, "x" * 20_000_000))
        repository.delete_session("t1-0")
        for number in range(50):
            repository.create_message("t0-0", "a", text_message(1001 + number, "behind it"))
        with SessionCatalog(db_path) as catalog:
            assert catalog.search("xylophone", limit=1)
        expected = rows(db_path)
        assert len(expected["sessions"]) == 4 * 50 - 1
        # It follows by and by.
        deadline = time.monotonic() + 60
        restored: dict[str, list[tuple[object, ...]]] = {}
        while restored != expected and time.monotonic() < deadline:
            restored = restore(litestream, tmp_path)
    assert {table: len(found) for table, found in restored.items()} == {
        table: len(found) for table, found in expected.items()
    }
    assert restored == expected


def restore(litestream: str, tmp_path: Path) -> dict[str, list[tuple[object, ...]]]:
    """What is in the replica now."""
    copy = tmp_path / "restored.db"
    copy.unlink(missing_ok=True)
    subprocess.run(
        [litestream, "restore", "-o", str(copy), f"file://{tmp_path / 'replica'}"],
        capture_output=True,
        timeout=60,
        check=True,
    )
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    return rows(copy)
