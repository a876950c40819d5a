"""What checks find."""

from dataclasses import dataclass
from typing import Any, Literal

RESTORE_OR_SALVAGE = (
    "move the file away, with its -wal and -shm, and restore a backup; or salvage what is left into a new file with "
    "the `.recover` command of sqlite3; writing to it may damage more"
)


@dataclass(frozen=True)
class Finding:
    """Something that `check` noticed.

    Attributes:
        severity: "error": something cannot be read, or is at risk. "warning": it may become an error, or a part of a
            conversation is missing. "info": good to know.
        kind: "unreadable", "integrity", "index", "schema", "foreign", "id", "orphan", "metadata", "json", "live_view",
            "snapshot", "gap", "tool_call", "clock", "log", "hard_link", "sqlite_version" or "network".
        message: What is wrong.
        advice: What to do.
        table: Table of the row, if it is about one.
        key: Primary key of that row; session and agent ids where it is about all messages of an agent.
        remedy: The SQL statements that `repair` runs, each with its parameters; none if it cannot repair this.
    """

    severity: Literal["error", "warning", "info"]
    kind: str
    message: str
    advice: str
    table: str | None = None
    key: tuple[Any, ...] | None = None
    remedy: tuple[tuple[str, tuple[Any, ...]], ...] = ()

    @property
    def repairable(self) -> bool:
        """Whether `repair` can repair it."""
        return bool(self.remedy)
