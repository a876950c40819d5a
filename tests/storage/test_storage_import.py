"""What a user of an older SDK, which has no storages, sees."""

import pytest

from helpers import run_python


@pytest.fixture(scope="module")
def shown() -> list[str]:
    """What a process prints that imports the package, and then the storage, with such an SDK."""
    return run_python(
        """
import sys
import strands
sys.modules["strands.storage"] = None  # As if the SDK had none, whichever it is.
from strands_sqlite_session_manager import *
print(SQLiteSessionManager.__name__, "SQLiteStorage" in globals())
try:
    import strands_sqlite_session_manager.storage
except ImportError as error:
    print(error)
"""
    ).splitlines()


@pytest.mark.slow
def test_everything_but_the_storage_can_be_imported(shown: list[str]) -> None:
    assert shown[0] == "SQLiteSessionManager False"


def test_importing_the_storage_fails_and_says_what_it_needs(shown: list[str]) -> None:
    assert "SQLiteStorage needs strands-agents 1.48 or newer" in shown[1]
    assert "pip install --upgrade strands-agents" in shown[1]
