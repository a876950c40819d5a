"""Opening and closing a catalog."""

from pathlib import Path
from typing import Any

import pytest
from strands.types.exceptions import SessionException

from strands_sqlite_session_manager import SQLiteSessionRepository
from strands_sqlite_session_manager.catalog import SessionCatalog


class TestConstructor:
    @pytest.mark.file_only
    def test_without_a_path_the_environment_names_it(self, monkeypatch: pytest.MonkeyPatch, db_path: Path) -> None:
        monkeypatch.setenv("STRANDS_SQLITE_DB_PATH", str(db_path))
        with SessionCatalog() as catalog:
            assert catalog.count_sessions() == 0
        assert db_path.exists()
        catalog.close()
        with pytest.raises(SessionException, match="used after it was closed"):
            catalog.count_sessions()

    def test_a_repository_that_is_passed_stays_open(self, empty: SQLiteSessionRepository) -> None:
        with SessionCatalog(session_repository=empty) as catalog:
            pass
        assert empty.read_session("s") is None
        assert catalog.count_sessions() == 0

    @pytest.mark.parametrize(
        "options", [{"db_path": "x.db"}, {"synchronous": "FULL"}, {"busy_timeout": 1}, {"read_only": True}]
    )
    def test_a_repository_and_options_beside_it_are_refused(
        self, empty: SQLiteSessionRepository, options: dict[str, Any]
    ) -> None:
        with pytest.raises(ValueError, match="session_repository was opened with its own options"):
            SessionCatalog(session_repository=empty, **options)
        assert not Path("x.db").exists()
