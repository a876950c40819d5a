"""A process that lives long: the log, the memory and the file stay within bounds."""

import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from helpers import resident_kib, run_python, text_message
from strands_sqlite_session_manager import SQLiteSessionRepository

APPENDS, SESSIONS, AT_A_TIME, DELETED_AT = 1_000_000, 1_000, 20, 300
MIB = 1024 * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_million_appends(db_path: Path, report: Any) -> None:
    log_path = Path(f"{db_path}-wal")
    largest_log, memory = 0, []
    done = threading.Event()

    def come_and_go() -> None:
        """A reader that holds a snapshot for a while, again and again."""
        with closing(sqlite3.connect(db_path, isolation_level=None)) as connection:
            while not done.wait(0.1):
                connection.execute("BEGIN")
                connection.execute("SELECT max(updated_at) FROM sessions").fetchone()
                done.wait(0.03)
                connection.execute("COMMIT")

    with SQLiteSessionRepository(db_path, busy_timeout=30) as repository:

        def start(session_id: str) -> None:
            repository.create_session(Session(session_id, SessionType.AGENT))
            repository.create_agent(session_id, SessionAgent("a", {}, {}))

        lengths = {f"session-{number}": number * DELETED_AT // SESSIONS for number in range(SESSIONS)}
        for session_id in lengths:
            start(session_id)
        reader = threading.Thread(target=come_and_go)
        reader.start()
        try:
            for number in range(APPENDS):
                session_id = f"session-{number // AT_A_TIME % SESSIONS}"
                repository.create_message(session_id, "a", text_message(lengths[session_id], "x" * 600))
                lengths[session_id] += 1
                if lengths[session_id] == DELETED_AT:
                    repository.delete_session(session_id)
                    start(session_id)
                    lengths[session_id] = 0
                if number % 100 == 0:
                    largest_log = max(largest_log, log_path.stat().st_size)
                if number % (APPENDS // 5) == APPENDS // 5 - 1:
                    memory.append(round(resident_kib() / 1024))
        finally:
            done.set()
            reader.join()

    with closing(sqlite3.connect(db_path, isolation_level=None)) as connection:
        (live,) = connection.execute(
            "SELECT sum(length(session_id) + length(agent_id) + length(message) + length(created_at)"
            " + length(updated_at)) FROM messages"
        ).fetchone()
        before = db_path.stat().st_size
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    after = db_path.stat().st_size
    report(
        appends=APPENDS,
        largest_log=f"{largest_log / MIB:.1f} MiB",
        resident_mib=memory,
        file=f"{before / MIB:.0f} MiB, vacuumed {after / MIB:.0f} MiB",
        of_live_data=f"{after / live:.2f}",
    )
    assert largest_log < 64 * MIB
    assert memory[-1] < memory[0] + 20
    assert after < 1.3 * live


# In a process of its own: the greatest memory that it ever had counts.
THROUGH_JSON_LINES = """
import sys
from pathlib import Path
from strands_sqlite_session_manager import SQLiteSessionRepository
from strands_sqlite_session_manager.transfer import export_jsonl, import_jsonl

def greatest_kib():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

source, lines, target = sys.argv[1:]
before = greatest_kib()
export_jsonl(SQLiteSessionRepository(source), lines)
assert import_jsonl(lines, SQLiteSessionRepository(target)).copied.messages == 400
print(greatest_kib() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_json_lines_of_any_size(tmp_path: Path, report: Any) -> None:
    """200 MB of images through a process that has room for a part of them."""
    image: Any = {"role": "user", "content": [{"image": {"format": "png", "source": {"bytes": os.urandom(500_000)}}}]}
    with SQLiteSessionRepository(tmp_path / "source.db") as source:
        source.create_session(Session("s", SessionType.AGENT))
        source.create_agent("s", SessionAgent("a", {}, {}))
        for number in range(400):
            source.create_message("s", "a", SessionMessage(image, number))
    more = int(run_python(THROUGH_JSON_LINES, tmp_path / "source.db", tmp_path / "lines", tmp_path / "target.db"))
    report(more_memory=f"{more // 1024} MiB")
    assert more < 70_000
