"""What imports and exports report, and errors that name a record."""

from collections import Counter
from dataclasses import dataclass

from .._catalog.records import RecordCounts
from .._errors import SessionConflictError, record_name
from .rows import TABLES, Row


@dataclass(frozen=True)
class Skipped:
    """Something that was not taken over.

    Attributes:
        what: Path of a file or directory, or id of a session.
        reason: Why, and what to do about it.
    """

    what: str
    reason: str


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes:
        session_ids: Sessions of which something was stored.
        copied: Number of records stored.
        already_there: Number of records that the database held already.
        skipped: What was left out, and why.
    """

    session_ids: list[str]
    copied: RecordCounts
    already_there: RecordCounts
    skipped: list[Skipped]


def counts(records: Counter[str]) -> RecordCounts:
    """Return how many records there are of each table."""
    return RecordCounts(*(records[table] for table in TABLES))


def conflict(table: str, key: Row) -> SessionConflictError:
    """Return the error for a record that the target holds differently."""
    return SessionConflictError(
        f"{record_name(table, *key)}: the target holds a different one, which is kept; to replace it, delete its "
        "session in the target first"
    )
