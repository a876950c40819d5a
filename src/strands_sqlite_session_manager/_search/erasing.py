"""Erasing: deleted and replaced text leaves the search index and the write-ahead log too."""

import contextlib
import logging

from strands.types.exceptions import SessionException

from .._engine.database import Database
from .._errors import DamagedDatabaseError
from .index import MERGED_PAGES, create, drop, exists, merge, refresh
from .sources import Source

logger = logging.getLogger(__name__)


def erase_former_content(database: Database, *sources: Source, wait: bool = True) -> None:
    """Make what was just deleted or replaced unreadable on disk. `secure_delete` has overwritten it in its table.

    Args:
        database: Database that it was deleted from.
        *sources: Whose text it was.
        wait: Whether to merge the index and to wait for the log; otherwise what takes longer is left to the next time.
    """
    for source in sources:
        erase_from_index(database, source, merge_all=wait)
    database.truncate_log(wait=wait)


def erase_from_index(database: Database, source: Source, *, merge_all: bool = True) -> None:
    """Take the text of rows that were changed or deleted out of the index, for good. Costs nothing if none were.

    Rows that are not indexed yet are left to the next search. An index that is broken is dropped, with all its text.

    Args:
        database: Database to erase from.
        source: Whose index.
        merge_all: Whether to merge the index. The text's words stay in the file until this is done.
    """
    try:
        if not database.query("SELECT 1 FROM search_state WHERE source = ?", (source.table,)):
            # A process was killed after giving up an index, all of whose text is there still.
            if exists(database, source):
                create(database, source)
            return
        refresh(database, source, only_indexed=True)
        tickets = database.query("SELECT unmerged FROM search_state WHERE source = ? AND unmerged", (source.table,))
        if tickets and merge_all:
            _merge_all(database, source)
            database.execute(
                "UPDATE search_state SET unmerged = 0 WHERE source = ? AND unmerged = ?", (source.table, *tickets[0])
            )
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


def _merge_all(database: Database, source: Source) -> None:
    """Merge all segments of the index into one, which drops what was deleted from them, step by step."""
    structure = f"SELECT block FROM {source.fts_table}_data WHERE id = 10"  # noqa: S608
    pages = -MERGED_PAGES  # A negative number marks all segments to be merged.
    before = None
    while (now := database.query(structure)) != before:
        before = now
        merge(database, source, pages)
        pages = MERGED_PAGES
