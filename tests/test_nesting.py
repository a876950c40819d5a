"""Nesting: what can be stored can be read, shown and exported; what is deeper is refused at every door."""

import contextlib
import io
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from strands.session.file_session_manager import FileSessionManager
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from helpers import FakeMultiAgent, make_agent, reopen
from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository, maintenance, transfer
from strands_sqlite_session_manager.catalog import SessionCatalog

# Rows that are damaged by hand.
pytestmark = pytest.mark.file_only

LEVELS = 200


def nested(levels: int) -> dict[str, Any]:
    value: Any = {"a": 1}
    for _ in range(levels - 1):
        value = {"a": value}
    return dict(value)


def message(levels: int) -> Any:
    return {"role": "user", "content": [{"json": nested(levels - 3)}]}


def store_copy(repository: SQLiteSessionRepository, levels: int) -> None:
    files = FileSessionManager("f", storage_dir="files")
    files.create_agent("f", SessionAgent("b", {}, {}))
    files.create_message("f", "b", SessionMessage(message(levels), 0))
    transfer.copy_session(files, repository, "f")


def import_files(repository: SQLiteSessionRepository, levels: int) -> None:
    files = FileSessionManager("i", storage_dir="files")
    files.create_agent("i", SessionAgent("b", nested(levels), {}))
    report = transfer.import_file_sessions("files", repository)
    if report.skipped:
        raise SessionException(report.skipped[0].reason)


def import_lines(repository: SQLiteSessionRepository, levels: int, **fields: Any) -> None:
    times = {"created_at": "2026-01-01T00:00:00+00:00", "updated_at": "2026-01-01T00:00:00+00:00"}
    records = [
        {"format": "strands-sqlite-session-manager", "version": 1},
        {"record": "session", "session_id": "j", "session_type": "AGENT", "metadata": {}, **times},
        {"record": "agent", "session_id": "j", "agent_id": "b", "state": {}, "conversation_manager_state": {}}
        | {"internal_state": {}, "live_view": None, **times},
        {"record": "message", "session_id": "j", "agent_id": "b", "message_id": 0, "message": message(levels)}
        | {"redact_message": None, "attachments": None, **times},
        {"record": "end"},
    ]
    for record in records:
        record.update({name: value for name, value in fields.items() if name in record})
    transfer.import_jsonl(io.StringIO("\n".join(map(json.dumps, records))), repository)


DOORS: dict[str, Callable[[SQLiteSessionRepository, int], object]] = {
    "message": lambda r, levels: r.create_message("s", "a", SessionMessage(message(levels), 0)),
    "first message": lambda r, levels: r.create_agent(
        "s", SessionAgent("b", {}, {}), messages=[SessionMessage(message(levels), 0)]
    ),
    "state": lambda r, levels: r.update_agent("s", SessionAgent("a", nested(levels), {})),
    "state of a graph": lambda r, levels: r.create_multi_agent("s", FakeMultiAgent("g", nested(levels))),  # type: ignore[arg-type]
    "metadata": lambda r, levels: SessionCatalog(session_repository=r).set_metadata("s", nested(levels)),
    "more metadata": lambda r, levels: SessionCatalog(session_repository=r).update_metadata("s", x=nested(levels - 1)),
    "copy": store_copy,
    "directory": import_files,
    "JSON Lines: message": import_lines,
    "JSON Lines: state": lambda r, levels: import_lines(r, 3, state=nested(levels)),
    "JSON Lines: metadata": lambda r, levels: import_lines(r, 3, metadata=nested(levels)),
    "JSON Lines: live view": lambda r, levels: import_lines(r, 3, live_view=[{"message": message(levels)}, [0]]),
}


@pytest.mark.parametrize("door", DOORS)
def test_is_refused_at_every_door(door: str, repository: SQLiteSessionRepository, db_path: Path) -> None:
    enter = DOORS[door]
    with pytest.raises(SessionException, match=f"nested too deeply: more than {LEVELS} levels"):
        enter(repository, LEVELS + 1)
    if "directory" not in door and "copy" not in door:
        enter(repository, LEVELS)
        assert not [finding for finding in maintenance.check(db_path) if finding.severity == "error"]


def test_of_the_deepest_can_be_read_in_every_way(db_path: Path) -> None:
    pytest.importorskip("typer", reason="the command line needs the extra cli")
    from typer.testing import CliRunner

    from strands_sqlite_session_manager._cli.commands import app

    with SQLiteSessionRepository(db_path) as repository:
        repository.create_session(Session("s", SessionType.AGENT))
        repository.create_agent(
            "s", SessionAgent("a", nested(LEVELS), {}), messages=[SessionMessage(message(LEVELS), 0)]
        )
        SessionCatalog(session_repository=repository).set_metadata("s", nested(LEVELS))
        assert transfer.export_file_sessions(repository, "files").skipped == []
        transfer.export_jsonl(repository, "s.jsonl")
        with SQLiteSessionRepository("other.db") as other:
            transfer.import_jsonl("s.jsonl", other)
            assert other.read_message("s", "a", 0) is not None
    for arguments in (["ls", "--json"], ["show", "s"], ["show", "s", "--raw"], ["search", "x"], ["tag", "s"]):
        assert CliRunner().invoke(app, arguments).exit_code == 0


def test_of_an_edited_message_is_that_of_the_message_alone(manager: SQLiteSessionManager) -> None:
    """The view that holds it is a list of objects, two levels more."""
    agent = make_agent(manager, "hi")
    agent("hello")
    agent.messages[0]["content"] = message(LEVELS)["content"]
    manager.sync_agent(agent)
    assert make_agent(reopen(manager)).messages[0]["content"] == message(LEVELS)["content"]


@pytest.mark.parametrize("levels", [500, 980, 100_000])
def test_that_somebody_has_put_there_is_told_of(levels: int, manager: SQLiteSessionManager, db_path: Path) -> None:
    """How much of it Python can copy depends on its version; beyond that, the error is one of ours."""
    make_agent(manager, "hi")("hello")
    text = '{"role":"user","content":[{"json":' + "[" * (levels - 3) + "]" * (levels - 3) + "}]}"
    with contextlib.closing(sqlite3.connect(db_path, isolation_level=None)) as raw:
        raw.execute("UPDATE messages SET message = ? WHERE message_id = 0", (text,))
    restored = None
    try:
        restored = make_agent(reopen(manager))
    except SessionException as error:
        assert "nested too deeply" in str(error) or "messages ('s', 'default', 0): damaged JSON" in str(error)  # noqa: PT017
    assert levels < 980 or restored is None
    report = transfer.export_file_sessions(SQLiteSessionRepository(db_path), "files")
    assert report.session_ids or "essage" in report.skipped[0].reason
    (found,) = [finding for finding in maintenance.check(db_path) if finding.severity == "error"]
    assert found.key == ("s", "default", 0)
