"""Fixtures: the viewer at work."""

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("uvicorn", reason="the viewer needs the extra viewer")
pytest.importorskip("markdown_it", reason="the viewer needs the extra viewer")

from viewer_helpers import fill_desk, serving

from strands_sqlite_session_manager.viewer import create_app


@pytest.fixture(scope="session")
def desk_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that looks like work. No test changes it."""
    path = tmp_path_factory.mktemp("desk") / "desk.db"
    fill_desk(path)
    return path


@pytest.fixture(scope="session")
def desk(desk_path: Path) -> Iterator[str]:
    """The viewer of that database."""
    with serving(create_app(desk_path)) as host:
        yield host
