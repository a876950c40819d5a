"""Sessions of Strands agents in one SQLite file."""

from ._database import SessionConflictError
from .repository import SQLiteSessionRepository
from .session_manager import SQLiteSessionManager

__all__ = ["SQLiteSessionManager", "SQLiteSessionRepository", "SessionConflictError"]
