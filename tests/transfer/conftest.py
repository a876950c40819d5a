"""Fixtures of the tests of this folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transfer_helpers import files_in, fill, rows

from strands_sqlite_session_manager import (
    SQLiteSessionRepository,
)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[SQLiteSessionRepository]:
    """A database with the session `full`, and oddities that only SQL can make."""
    with SQLiteSessionRepository(tmp_path / "source.db") as source:
        fill(source)
        yield source


@pytest.fixture
def target(tmp_path: Path) -> Iterator[SQLiteSessionRepository]:
    with SQLiteSessionRepository(tmp_path / "target.db") as target:
        yield target


@pytest.fixture
def source_rows(tmp_path: Path, source: SQLiteSessionRepository) -> dict[str, list[Any]]:
    return rows(tmp_path / "source.db")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The directory of a file manager, with the session `full`."""
    fill(files_in(tmp_path / "files", "full-other"))
    return tmp_path / "files"
