"""Fixtures of the tests of this folder."""

import pytest

from strands_sqlite_session_manager import SQLiteSessionRepository
from strands_sqlite_session_manager._search import index as _search
from strands_sqlite_session_manager.catalog import SessionCatalog


@pytest.fixture
def catalog(repository: SQLiteSessionRepository) -> SessionCatalog:
    return SessionCatalog(session_repository=repository)


@pytest.fixture
def without_fts5(monkeypatch: pytest.MonkeyPatch) -> None:
    """An SQLite that has no module fts5, as far as the library can tell."""
    monkeypatch.setattr(_search, "has_fts5", lambda database: False)
    monkeypatch.setattr(_search, "_has_warned", True)
