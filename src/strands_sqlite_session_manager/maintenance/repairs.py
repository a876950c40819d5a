"""Repairs of what `check` finds."""

import logging
import os
from collections.abc import Callable

from .checks import check
from .findings import Finding
from .opening import opened

logger = logging.getLogger(__name__)


def repair(
    db_path: str | os.PathLike[str] | None = None,
    *,
    dry_run: bool = True,
    progress: Callable[[int, int], object] | None = None,
) -> list[Finding]:
    """Repair what can be repaired without losing anything that could be read, all in one transaction.

    * An index that disagrees with its table is built again. Do it first: the rows are checked, and can be repaired,
      when all indexes are sound.
    * A trigger, an index or a view of this library that is missing or was changed is made again.
    * The session or agent that a row belongs to, and that is missing, is created, without metadata and states. If it
      was deleted on purpose, without `PRAGMA foreign_keys = ON`, delete it again.
    * Metadata of a session or memory that is no JSON becomes `{}`. Its former text is in the finding.
    * A live view that is damaged is given up: the agent is restored by the SDK's rule, with the messages that its
      conversation manager has not removed.
    * A write-ahead log that has grown too large is emptied.

    Messages and states with damaged JSON stay as they are, because a person may still make sense of them; so does a
    file with damaged pages, because writing to it may damage more. `check` says what to do about them.

    Args:
        db_path: Path of the database.
        dry_run: Whether to change nothing, and only return what would be done.
        progress: As for `check`, which it begins with.

    Returns:
        The findings of `check` that were repaired, or would be, each with the SQL statement for it.

    Raises:
        SessionException: If there is no such file, or it cannot be written. Then nothing is changed.
    """
    planned = [finding for finding in check(db_path, progress=progress) if finding.repairable]
    if dry_run or not planned:
        return planned
    with opened(db_path) as database:
        # A checkpoint is no part of a transaction.
        database.transaction(
            [statement for finding in planned if finding.kind != "log" for statement in finding.remedy]
        )
        is_log_empty = database.truncate_log()
    repaired = [finding for finding in planned if finding.kind != "log" or is_log_empty]
    for finding in repaired:
        logger.info("kind=<%s>, table=<%s>, key=<%s> | repaired", finding.kind, finding.table, finding.key)
    return repaired
