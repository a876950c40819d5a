"""What imports and exports report, and errors that name a record."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass, fields

from .._catalog.records import RecordCounts
from .._engine.holder import database_of
from .._errors import SessionConflictError, record_name
from ..repository import SQLiteSessionRepository
from .rows import Row

# Called with what is done, and what there is to do.
Progress = Callable[[int, int], object]


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
    return RecordCounts(*(records[field.name] for field in fields(RecordCounts)))


def conflict(table: str, key: Row) -> SessionConflictError:
    """Return the error for a record that the target holds differently."""
    return SessionConflictError(
        f"{record_name(table, *key)}: the target holds a different one, which is kept; to replace it, delete its "
        "session in the target first"
    )


def with_progress(
    session_ids: Iterable[str], source: SQLiteSessionRepository, progress: Progress | None
) -> Iterator[str]:
    """Yield sessions, and tell how many are done after each.

    Args:
        session_ids: The sessions: a list, or all of the source.
        source: Where they are.
        progress: Called with how many are done, and how many there are.
    """
    if progress is None:
        yield from session_ids
        return
    if isinstance(session_ids, Sized):
        total = len(session_ids)
    else:
        ((total,),) = database_of(source).query("SELECT count(*) FROM sessions")
    for done, session_id in enumerate(session_ids, 1):
        yield session_id
        progress(done, total)
