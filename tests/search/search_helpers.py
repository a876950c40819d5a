"""What several tests of this folder need."""

import sqlite3
from pathlib import Path
from typing import Any

from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from helpers import run_python, text_message
from strands_sqlite_session_manager import SQLiteSessionRepository
from strands_sqlite_session_manager._catalog.records import SearchResult


def add(repository: SQLiteSessionRepository, *texts: str, session_id: str = "s", first: int = 0) -> None:
    for number, text in enumerate(texts, first):
        repository.create_message(session_id, "a", text_message(number, text, "assistant" if number % 2 else "user"))


def add_session(repository: SQLiteSessionRepository, session_id: str, *texts: str) -> None:
    repository.create_session(Session(session_id, SessionType.AGENT))
    repository.create_agent(session_id, SessionAgent("a", {}, {}))
    add(repository, *texts, session_id=session_id)


def ids(results: list[SearchResult]) -> list[int]:
    return sorted(result.message_id for result in results)


def epoch(raw: sqlite3.Connection, source: str = "messages") -> list[Any]:
    """What changes when an index is built anew."""
    # Tickets begin at a random number, and a few thousand of them are given here at the most.
    return raw.execute("SELECT ticket / 1000000 FROM search_state WHERE source = ?", (source,)).fetchall()


def redacted(number: int, text: str = "[redacted]") -> SessionMessage:
    message = text_message(number, text)
    message.redact_message = message.message
    return message


def bytes_on_disk(db_path: Path) -> bytes:
    # From another process: closing a file drops this process's locks on it.
    code = "import sys, pathlib; [sys.stdout.write(pathlib.Path(p).read_bytes().hex()) for p in sys.argv[1:]]"
    files = [db_path, db_path.with_name(db_path.name + "-wal")]
    return bytes.fromhex(run_python(code, *(path for path in files if path.exists())))
