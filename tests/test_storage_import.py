"""What somebody with an SDK that has no storages sees."""

from helpers import run_python


def test_with_an_sdk_that_has_no_storages_only_this_module_fails_and_says_what_it_needs() -> None:
    shown = run_python(
        """
import sys
import strands_sqlite_session_manager
sys.modules["strands.storage"] = None  # As if the SDK had none, whichever it is.
try:
    import strands_sqlite_session_manager.storage
except ImportError as error:
    print(error)
"""
    )
    assert "SQLiteStorage needs strands-agents 1.48 or newer" in shown
    assert "pip install --upgrade strands-agents" in shown


def test_with_such_an_sdk_everything_else_can_be_imported() -> None:
    shown = run_python(
        """
import sys
import strands
sys.modules["strands.storage"] = None
from strands_sqlite_session_manager import *
print(SQLiteSessionManager.__name__, "SQLiteStorage" in globals())
"""
    )
    assert shown == "SQLiteSessionManager False\n"
