"""Fixtures of the tests of this folder."""

import pytest

from strands_sqlite_session_manager import SQLiteSessionRepository
from strands_sqlite_session_manager._search import tables
from strands_sqlite_session_manager.catalog import SessionCatalog


@pytest.fixture
def catalog(repository: SQLiteSessionRepository) -> SessionCatalog:
    return SessionCatalog(session_repository=repository)


@pytest.fixture
def without_fts5(monkeypatch: pytest.MonkeyPatch) -> None:
    """An SQLite that has no module fts5, as far as the library can tell."""
    monkeypatch.setattr(tables, "has_fts5", lambda database: False)
    monkeypatch.setattr(tables, "_has_warned", True)
