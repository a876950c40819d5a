"""Taking over the sessions of a `FileSessionManager`."""

import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from strands.types.session import SessionMessage

from contenders import FILES, OURS, make_repository
from strands_sqlite_session_manager import SQLiteSessionRepository
from strands_sqlite_session_manager.transfer import import_file_sessions
from test_messages import TEXT

COPY = "copying its files"


@pytest.mark.work("import a file session of 1,000 messages", (COPY, OURS))
@pytest.mark.goal(5, times=COPY)
def test_import(measure: Callable[..., Any], contender: str, tmp_path: Path) -> None:
    files = make_repository(FILES, tmp_path / "files")
    for number in range(1000):
        files.create_message("s", "a", SessionMessage(TEXT[0], number))
    numbers = count()

    def target() -> tuple[Path]:
        return (tmp_path / f"copy {next(numbers)}",)

    if contender == COPY:
        measure(lambda path: shutil.copytree(tmp_path / "files", path), arguments=target, rounds=10)
        return

    def import_into(path: Path) -> Any:
        with SQLiteSessionRepository(path) as repository:
            return import_file_sessions(tmp_path / "files", repository)

    assert measure(import_into, arguments=target, rounds=10).copied.messages == 1000
