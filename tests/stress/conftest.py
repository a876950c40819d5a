"""Every test here is under stress, and prints its figures."""

import multiprocessing
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.stress)


@pytest.fixture
def report(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture) -> Any:
    """Print a line of figures, also when output is captured."""

    def write(**figures: Any) -> None:
        with capsys.disabled():
            print(f"\n  {request.node.name}: " + ", ".join(f"{k} {v}" for k, v in figures.items()), flush=True)

    return write


@pytest.fixture(scope="session")
def processes() -> Any:
    """Starts processes from a small one that has imported everything and holds no connection."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["helpers", "strands_sqlite_session_manager", "strands.multiagent"])
    return context
