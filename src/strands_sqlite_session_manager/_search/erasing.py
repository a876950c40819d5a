"""Erasing: deleted and replaced text leaves the search index and the write-ahead log too."""

import contextlib
import logging

from strands.types.exceptions import SessionException

from .._engine.database import Database
from .._errors import DamagedDatabaseError
from .index import refresh
from .sources import Source
from .tables import create, drop, exists

logger = logging.getLogger(__name__)


def erase_former_content(database: Database, *sources: Source, wait: bool = True) -> None:
    """Make what was just deleted or replaced unreadable on disk. `secure_delete` has overwritten it in its table.

    Args:
        database: Database that it was deleted from.
        *sources: Whose text it was.
        wait: See `Database.truncate_log`.
    """
    for source in sources:
        erase_from_index(database, source)
    database.truncate_log(wait=wait)


def erase_from_index(database: Database, source: Source) -> None:
    """Take the text of rows that were changed or deleted out of the index, for good. Costs nothing if none were.

    Rows that are not indexed yet are left to the next search. An index that is broken is dropped, with all its text.

    Args:
        database: Database to erase from.
        source: Whose index.
    """
    try:
        if database.query("SELECT 1 FROM search_state WHERE source = ?", (source.table,)):
            refresh(database, source)
        elif exists(database, source):
            # A process was killed after giving up an index, all of whose text is there still.
            create(database, source)
    # What was to be erased is deleted all the same, so this is no failure of the call.
    except DamagedDatabaseError as error:
        logger.warning("index=<%s>, error=<%s> | dropping a broken search index", source.fts_table, error)
        with contextlib.suppress(SessionException):
            drop(database, source)
            create(database, source)
    except SessionException as error:
        logger.warning(
            "index=<%s>, error=<%s> | deleted or redacted text stays in the search index until the next deletion "
            "or redaction",
            source.fts_table,
            error,
        )
