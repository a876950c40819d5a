"""All exceptions of this package, and the texts of records that do not exist.

```
SessionException            the SDK's own: the database cannot be used, a value cannot be stored, a record is missing
├─ SessionConflictError     another writer was first
├─ MissingRecordError       a record to read, update or delete does not exist
├─ MissingParentError       the session or agent that a record belongs to does not exist
├─ TooLargeError            a value is larger than SQLite takes
├─ UnknownOutcomeError      a cluster has not answered, and may have stored something
├─ DatabaseLockedError      another connection held the lock for longer than the busy timeout
└─ DamagedDatabaseError     SQLite finds a page, a table or an index other than it should be
```

The engines map what SQLite reports to these, so that no other room reads its texts. `SQLiteStorage` raises the SDK's
`StorageError` instead.
"""

import contextlib
from collections.abc import Iterable, Iterator

from strands.types.exceptions import SessionException

# What to do after an error that leaves an agent in memory behind what is stored.
REBUILD = "build the agent again, with a new session manager"
# What may have become of a record that was there.
IF_GONE = f"if it was deleted or renamed, or has expired, {REBUILD}"


class SessionConflictError(SessionException):
    """Another writer stored a record with this id first, and theirs is kept.

    To go on from it, build the agent again, with a new session manager.
    """


class MissingRecordError(SessionException):
    """A record to read, update or delete does not exist."""


class MissingParentError(SessionException):
    """The session or agent that a new record belongs to does not exist."""


class TooLargeError(SessionException):
    """A value is larger than SQLite takes. Nothing was stored."""


class UnknownOutcomeError(SessionException):
    """No node of a cluster has answered in time. Whether the write was stored is not known."""


class DatabaseLockedError(SessionException):
    """Another connection held a lock for longer than `busy_timeout`. Nothing was stored."""


class DamagedDatabaseError(SessionException):
    """SQLite finds a page, a table or an index of the database other than it should be."""


_NAMES = {
    "sessions": "Session {}",
    "agents": "Agent {1} in session {0}",
    "messages": "Message {2} of agent {1} in session {0}",
    "multi_agents": "MultiAgent state {1} in session {0}",
    "storage": "Key {}",
    "snapshots": "Snapshot {2} of agent {1} in session {0}",
    "memories": "Memory {2} in scope {1} of store {0}",
}


def record_name(table: str, *key: object) -> str:
    """Return what a person calls a record.

    Args:
        table: Table of the record, or "snapshots".
        *key: Its primary key; more values are ignored.
    """
    return _NAMES[table].format(*key)


def missing(table: str, *key: object, advice: str = "") -> MissingRecordError:
    """Return the error for a record that does not exist.

    Args:
        table: Table of the record.
        *key: Its primary key.
        advice: What to do about it.
    """
    return MissingRecordError(f"{record_name(table, *key)} does not exist{advice and f'; {advice}'}")


@contextlib.contextmanager
def naming_too_large(name: str) -> Iterator[None]:
    """Name what is too large for SQLite, which does not.

    Args:
        name: What a person calls what is to be stored.
    """
    try:
        yield
    except TooLargeError as error:
        raise TooLargeError(f"{name}: too large: {error}") from error


def require_stored(counts: Iterable[int], name: str) -> None:
    """Make sure that each of some INSERTs has inserted its row: a trigger that somebody added may have kept it from it.

    Args:
        counts: How many rows each has changed.
        name: What a person calls what was to be stored.

    Raises:
        SessionException: If one is missing.
    """
    if not all(counts):
        raise SessionException(
            f"{name} was not stored: a trigger in the database keeps rows from being stored; `strands-sqlite check` "
            "names what does not belong there"
        )
