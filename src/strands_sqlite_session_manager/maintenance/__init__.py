"""The file as a whole: backups of it, what is wrong with it and what repairs it, and how large it is.

Functions take `db_path` as everywhere: None is the environment variable `STRANDS_SQLITE_DB_PATH`, else `sessions.db` in
the working directory. None of them creates a database where there is none, and all work while others use the file.
"""

from .backups import BackupResult, backup, restore_backup
from .checks import check
from .findings import Finding
from .repairs import repair
from .sizes import DatabaseStats, SessionStats, TableStats, VacuumResult, stats, vacuum

__all__ = [
    "BackupResult",
    "DatabaseStats",
    "Finding",
    "SessionStats",
    "TableStats",
    "VacuumResult",
    "backup",
    "check",
    "repair",
    "restore_backup",
    "stats",
    "vacuum",
]
