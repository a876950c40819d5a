"""Sessions of Strands agents in one SQLite file."""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ._errors import SessionConflictError
from .repository import SQLiteSessionRepository
from .session_manager import SQLiteSessionManager

if TYPE_CHECKING:
    from .catalog import SessionCatalog
    from .memory import SQLiteMemoryStore
    from .storage import SQLiteStorage

__all__ = ["SQLiteSessionManager", "SQLiteSessionRepository", "SessionCatalog", "SessionConflictError"]
if find_spec("strands.storage"):
    __all__ += ["SQLiteStorage"]
if find_spec("strands.memory"):
    __all__ += ["SQLiteMemoryStore"]

# Imported when they are first used: an agent needs none of them, and older SDKs have no storage and no memory.
_LATER = {"SQLiteMemoryStore": ".memory", "SQLiteStorage": ".storage", "SessionCatalog": ".catalog"}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
