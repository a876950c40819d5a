"""Sessions of Strands agents in one SQLite file."""

from .repository import SessionConflictError, SQLiteSessionRepository
from .session_manager import SQLiteSessionManager

__all__ = ["SQLiteSessionManager", "SQLiteSessionRepository", "SessionConflictError"]
