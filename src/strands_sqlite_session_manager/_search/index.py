"""The search index: FTS5 tables inside the database, and what keeps them true.

A write pays nothing for the index. What was added since the last search is indexed by the next one, in short
transactions between which writers get their turn. What was indexed and then changed or deleted is entered into the
plain table `search_stale` by triggers, in the same statement, and no search shows what is entered there. The triggers
touch plain tables alone, so neither a broken index nor an SQLite without FTS5 can make a write fail; that is why they
do not delete from the index themselves. The former text lies in the index until the next search, or
`erase_from_index`, takes it out, which makes the segment that it is in again (see `segments`).

* `search_state`: for each source (a table), the row up to which the triggers watch: its rowid, and what tells it from a
  row that a dump and restore, say, gave the same rowid. Then all is indexed again. The row always exists (a trigger
  sees to it), so rows that are added have higher rowids. `indexed_id`: up to where rows are indexed. `ticket` is the
  last ticket given; it only grows. `version` grows with each write into the index.
* `search_stale`: rowids to be indexed, or to be taken out where the row is gone. Whoever has done so deletes the entry
  only if its ticket is one of those that were given when it began, because the row may have changed since.
* `search_segments`: see `segments`.
* `search_messages`, `search_storage`: the FTS5 tables, with the rowids of their sources. Beside them,
  `search_messages_text` and `search_storage_text` hold the texts, which FTS5 needs for snippets and to take them out,
  and the segment that each is in.

Words match by their English stem, and without accents (tokenizers porter and unicode61). Of scripts without spaces, and
of Korean, which glues particles to its words, each character is a word of its own: zero-width spaces are put between
them. A run of them is then found as a phrase, wherever it stands, at any length. The trigram tokenizer would want a
second, larger index beside this one, and find nothing for the two characters that most Chinese words have.

Of very long texts, only the start is indexed. An index that makes SQLite fail is dropped and built again. Where it
cannot be brought up to date (a file that cannot be written, a lock that is held for too long), it is searched as it is,
and what is not in it is searched beside it. Without FTS5, a search reads everything there is: slow, but complete.
"""

import contextlib
import json
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from strands.types.exceptions import SessionException

from .._engine.database import Database, Parameters, Statement, impatient
from .._errors import DamagedDatabaseError, SessionConflictError
from . import segments, tables
from .segments import Segment, Texts
from .sources import Source
from .text import segment, word_count

logger = logging.getLogger(__name__)

# A segment is made again as a whole when a text is erased from it, and one transaction writes it. Beyond these, none is
# joined with others, unless there are more of them than this: FTS5 allows 2,000, and searches them one by one.
FULL_ROWS, FULL_WORDS, MOST_SEGMENTS = 1_000, 40_000, 1_800
Progress = Callable[[int, int], object]


class _State(NamedTuple):
    last_id: int
    indexed_id: int
    ticket: int
    version: int


class _Change:
    """What is to be done with some rows.

    Attributes:
        row_ids: Their rowids.
        removed: Their texts that are in the index.
        added: Their texts that are to be in it.
        words: About how many words the latter have.
    """

    def __init__(self) -> None:
        """Begin without any."""
        self.row_ids: list[int] = []
        self.removed: Texts = {}
        self.added: Texts = {}
        self.words = 0

    def add(self, row_id: int, texts: Iterable[str]) -> None:
        """Have the texts of a row indexed, if there is anything in them."""
        segmented = tuple(map(segment, texts))
        if any(segmented):
            self.added[row_id] = segmented
            self.words += sum(map(word_count, segmented))


class _OvertakenError(Exception):
    """Someone else wrote into the index meanwhile, or dropped it."""


def find(
    database: Database,
    source: Source,
    sql: str,
    parameters: Parameters,
    search_beside: Callable[[str], list[tuple[Any, ...]]],
    progress: Progress | None = None,
) -> list[tuple[Any, ...]]:
    """Bring the index up to date and search it.

    Args:
        database: Database to search.
        source: What is searched.
        sql: SELECT on the index.
        parameters: Its parameters.
        search_beside: Returns such rows too, of what is not in the index: those for which an SQL condition holds.
        progress: See `update`.

    Returns:
        The rows, in no order, those that were found beside the index first. A row may come twice.
    """
    if not tables.has_fts5(database):
        tables.warn_of_missing_fts5()
        return search_beside("TRUE")
    for _ in range(2):
        try:
            if _is_up_to_date(database, source, progress):
                return database.query(sql, parameters)
            if not database.query("SELECT 1 FROM search_state WHERE source = ?", (source.table,)):
                break
            # In this order, so that what someone else indexes in between is found twice, not never.
            return [*search_beside(source.not_indexed), *database.query(sql, parameters)]
        except DamagedDatabaseError as error:
            logger.warning("index=<%s>, error=<%s> | a broken search index", source.fts_table, error)
            if database.read_only:
                break
            with contextlib.suppress(SessionException):  # The next attempt fails too then.
                tables.drop(database, source)
    return search_beside("TRUE")


def backlog(database: Database, source: Source) -> int:
    """Return about how many rows are new since the index was brought up to date last, or all if there is none."""
    ((count,),) = database.query(
        f"""
        SELECT coalesce((SELECT max(rowid) FROM {source.table}), 0)
            - coalesce((SELECT indexed_id FROM search_state WHERE source = :source), 0)
        """,  # noqa: S608 (a constant)
        {"source": source.table},
    )
    return max(int(count), 0)


def _is_up_to_date(database: Database, source: Source, progress: Progress | None) -> bool:
    """Bring the index up to date if that is possible, and tell."""
    if database.read_only:
        return False
    try:
        # Longer than writers who take turns make each other wait.
        with impatient(0.5):
            update(database, source, progress)
    except DamagedDatabaseError:
        raise
    except SessionException as error:
        logger.info("index=<%s>, error=<%s> | searching what is new without the index", source.fts_table, error)
        return False
    return True


def rebuild(database: Database, source: Source, progress: Progress | None = None) -> None:
    """Drop the index and build it again.

    Args:
        database: Database to index.
        source: What is indexed.
        progress: See `update`.

    Raises:
        SessionException: If it cannot be built.
    """
    if not tables.has_fts5(database):
        raise SessionException(f"{database.path}: this SQLite lacks FTS5, so there is no search index to build")
    tables.drop(database, source)
    update(database, source, progress)


def update(database: Database, source: Source, progress: Progress | None = None) -> None:
    """Index what was added or changed since the last time, and take out what was deleted.

    Args:
        database: Database to index.
        source: What is indexed.
        progress: Called now and then with how many rows were indexed, and about how many are to be.

    Raises:
        SessionException: If this cannot be done.
    """
    # No more than there is now: writers that never rest keep no search waiting for ever.
    ((newest,),) = database.query(f"SELECT coalesce(max(rowid), 0) FROM {source.table}")  # noqa: S608 (constants only,
    # as in all of this module)
    while True:
        rows = database.query(
            f"""
            SELECT
                last_id = 0
                OR EXISTS (SELECT 1 FROM {source.table} WHERE rowid = last_id AND {source.identity} = last_row),
                indexed_id < :newest,
                EXISTS (SELECT 1 FROM search_stale WHERE search_stale.source = search_state.source)
            FROM search_state WHERE source = :source
            """,  # noqa: S608
            {"newest": newest, "source": source.table},
        )
        if not rows:
            tables.create(database, source)
            continue
        is_ours, has_new, has_stale = rows[0]
        if not is_ours:
            logger.debug("index=<%s> | rows were renumbered, building the index again", source.fts_table)
            tables.drop(database, source)
            continue
        if has_stale:
            refresh(database, source)
        with contextlib.suppress(_OvertakenError):
            if has_new:
                _index_new(database, source, newest, progress)
            return


def refresh(database: Database, source: Source) -> None:
    """Take out what was changed or deleted, and index again what there is of it.

    Each row once: one that changes in between is left to the next time. What is not indexed yet is left too.
    """
    last_id = -(2**63)
    while (state := _state(database, source)) and (rows := _stale_rows(database, source, state, last_id)):
        with contextlib.suppress(_OvertakenError):
            _refresh(database, source, state, segments.read(database, source), rows)
            last_id = rows[-1][0]


def _stale_rows(database: Database, source: Source, state: _State, last_id: int) -> list[tuple[Any, ...]]:
    """Return some rowids, segments and former texts, whether the rows are to be indexed, and what of."""
    return database.query(
        f"""
        SELECT
            search_stale.id, segment, {", ".join(f"indexed.{field}" for field in source.fields)},
            {source.table}.rowid IS NOT NULL, {source.columns}
        FROM search_stale LEFT JOIN {source.fts_table}_text AS indexed ON indexed.id = search_stale.id
        LEFT JOIN {source.table} ON {source.table}.rowid = search_stale.id AND search_stale.id <= :indexed_id
        WHERE source = :source AND search_stale.id > :last_id AND ticket <= :ticket
            AND NOT (segment IS NULL AND search_stale.id > :indexed_id AND search_stale.id <= :watched_id)
        ORDER BY search_stale.id LIMIT {FULL_ROWS}
        """,  # noqa: S608
        {
            "source": source.table,
            "last_id": last_id,
            "ticket": state.ticket,
            "indexed_id": state.indexed_id,
            "watched_id": state.last_id,
        },
    )


def _refresh(
    database: Database, source: Source, state: _State, layout: list[Segment], rows: list[tuple[Any, ...]]
) -> None:
    """Index rows again that `_stale_rows` returned, segment by segment."""
    width = len(source.fields)
    by_segment: dict[int | None, _Change] = defaultdict(_Change)
    for row_id, number, *rest in rows:
        change = by_segment[number]
        change.row_ids.append(row_id)
        if number is not None:
            change.removed[row_id] = tuple(rest[:width])
        if rest[width]:
            change.add(row_id, source.texts(*rest[width + 1 :]))
    # Last the rows that are in no segment yet: they may be joined with any.
    for number, change in sorted(by_segment.items(), key=lambda item: item[0] is None):
        former = [segment for segment in layout if segment.number == number]
        if number is None:
            former = _small_ones(layout, change)
        elif not former:
            _require_current(database, source, state)
            raise DamagedDatabaseError(f"{database.path}: segment {number} of {source.fts_table} is missing")
        state, layout = _write(database, source, state, layout, former, change)


def _index_new(database: Database, source: Source, newest: int, progress: Progress | None) -> None:
    """Index the rows that are not indexed yet, up to a rowid."""
    # First let the triggers watch them.
    database.execute(
        f"""
        UPDATE search_state SET (last_id, last_row, ticket, version) = (
            SELECT rowid, {source.identity}, ticket + 1, version + 1 FROM {source.table}
            WHERE rowid <= :newest ORDER BY rowid DESC LIMIT 1
        )
        WHERE source = :source AND last_id < (SELECT max(rowid) FROM {source.table} WHERE rowid <= :newest)
        """,  # noqa: S608
        {"source": source.table, "newest": newest},
    )
    layout: list[Segment] = []
    version = first_id = None
    while state := _state(database, source):
        if version != state.version:
            # After the state: what is written in between makes the write below fail.
            layout = segments.read(database, source)
        first_id = state.indexed_id if first_id is None else first_id
        rows = database.query(
            f"""
            SELECT rowid, {source.columns} FROM {source.table} WHERE rowid > :indexed_id AND rowid <= :last_id
            ORDER BY rowid LIMIT {FULL_ROWS}
            """,  # noqa: S608
            {"indexed_id": state.indexed_id, "last_id": min(state.last_id, newest)},
        )
        if not rows:
            return
        change = _Change()
        for row_id, *columns in rows:
            change.row_ids.append(row_id)
            change.add(row_id, source.texts(*columns))
            if change.words > FULL_WORDS:
                break
        state, layout = _write(database, source, state, layout, _small_ones(layout, change), change, is_new=True)
        version = state.version
        if progress is not None:
            progress(change.row_ids[-1] - first_id, newest - first_id)
        if len(layout) > MOST_SEGMENTS:
            state, layout = _write(database, source, state, layout, _by_size(layout)[:2], _Change())
            version = state.version


def _state(database: Database, source: Source) -> _State | None:
    rows = database.query(
        "SELECT last_id, indexed_id, ticket, version FROM search_state WHERE source = ?", (source.table,)
    )
    return _State(*rows[0]) if rows else None


def _require_current(database: Database, source: Source, state: _State) -> None:
    """Make sure that nobody wrote into the index since its state was read.

    Raises:
        _OvertakenError: If somebody did.
    """
    now = _state(database, source)
    if now is None or now.version != state.version:
        raise _OvertakenError


def _by_size(layout: list[Segment]) -> list[Segment]:
    return sorted(layout, key=lambda segment: segment.words)


def _small_ones(layout: list[Segment], change: _Change) -> list[Segment]:
    """Return the segments that new texts are to be joined with, so that there are few small ones."""
    rows, words, joined = len(change.added), change.words, []
    for small in _by_size(layout) if 0 < rows < FULL_ROWS and words < FULL_WORDS else ():
        if small.words > max(words, 100) or small.words + words > FULL_WORDS or small.rows + rows > FULL_ROWS:
            break
        joined.append(small)
        rows, words = rows + small.rows, words + small.words
    return joined


def _write(
    database: Database,
    source: Source,
    state: _State,
    layout: list[Segment],
    former: list[Segment],
    change: _Change,
    *,
    is_new: bool = False,
) -> tuple[_State, list[Segment]]:
    """Put one segment in the place of others, unless the index was written to meanwhile.

    Args:
        database: Database to index.
        source: What is indexed.
        state: State of the index, as it was before the rows were read.
        layout: Its segments.
        former: Those that go.
        change: What else is to be done. A row of it that has changed meanwhile is not indexed.
        is_new: Whether its rows are the next that were not indexed yet.

    Returns:
        State and segments then.

    Raises:
        _OvertakenError: If the index was written to.
    """
    # The number of the largest: the texts of the others have to be given it.
    number = max(former, key=lambda segment: segment.rows).number if former else segments.free_number(layout)
    while True:
        try:
            built = segments.build(database, source, number, former, change.removed, change.added)
        except DamagedDatabaseError:
            # Its pages may have been replaced between two looks at them.
            _require_current(database, source, state)
            raise
        after, statements = segments.replace(source, layout, former, built)
        guard = _guard(source, state, change, is_new)
        try:
            database.write_aside([guard, *_texts(source, state, former, number, change, is_new), *statements])
        except SessionConflictError:
            for row_id in _changed_since(database, source, state, change, is_new):
                del change.added[row_id]
            continue
        indexed_id = change.row_ids[-1] if is_new else state.indexed_id
        return state._replace(version=state.version + 1, indexed_id=indexed_id), after


def _changed_since(database: Database, source: Source, state: _State, change: _Change, is_new: bool) -> set[int]:
    """Return which rows were changed since they were read, after a write into the index that was refused.

    Raises:
        _OvertakenError: If the index was written to, or something must be taken out first.
        DamagedDatabaseError: If nothing tells why it was refused.
    """
    _require_current(database, source, state)
    rows = database.query("SELECT id FROM search_stale WHERE source = ? AND ticket > ?", (source.table, state.ticket))
    changed = {row_id for (row_id,) in rows} & change.added.keys()
    if changed:
        return changed
    left_over = f"""
        SELECT 1 FROM {source.fts_table}_text JOIN search_stale USING (id)
        WHERE source = ? AND {source.fts_table}_text.id > ?
        """  # noqa: S608
    if is_new and database.query(left_over, (source.table, state.indexed_id)):
        raise _OvertakenError
    raise DamagedDatabaseError(f"{database.path}: the search index {source.fts_table} disagrees with its segments")


def _guard(source: Source, state: _State, change: _Change, is_new: bool) -> Statement:
    """Return what fails if the index was written to, or a row that is to be indexed was changed."""
    # A row that was deleted may have had a rowid that a new one has now.
    left_over = f"OR EXISTS (SELECT 1 FROM {source.fts_table}_text WHERE id > :indexed_id)" if is_new else ""  # noqa: S608
    return (
        f"""
        INSERT INTO search_state (source, ticket, version)
        SELECT :source, 0, 0 FROM (SELECT 1 UNION ALL SELECT 2)
        WHERE NOT EXISTS (SELECT 1 FROM search_state WHERE source = :source AND version = :version)
            OR EXISTS (
                SELECT 1 FROM search_stale
                WHERE source = :source AND ticket > :ticket AND id IN (SELECT value FROM json_each(:added))
            )
            {left_over}
        """,  # noqa: S608
        {"source": source.table, "added": json.dumps(list(change.added)), **state._asdict()},
    )


def _texts(
    source: Source, state: _State, former: list[Segment], number: int, change: _Change, is_new: bool
) -> list[Statement]:
    """Return what enters the texts of rows, and what was done."""
    texts, marks = f"{source.fts_table}_text", ", ".join("?" * len(source.fields))
    replace = f"REPLACE INTO {texts} VALUES (?, ?, {marks})"  # noqa: S608
    removed = json.dumps(list(change.removed.keys() - change.added.keys()))
    key = {"source": source.table, "ticket": state.ticket, "row_ids": json.dumps(change.row_ids)}
    return [
        (f"DELETE FROM {texts} WHERE id IN (SELECT value FROM json_each(?))", (removed,)),  # noqa: S608
        (f"DELETE FROM {source.fts_table}_docsize WHERE id IN (SELECT value FROM json_each(?))", (removed,)),  # noqa: S608
        *(
            (f"UPDATE {texts} SET segment = ? WHERE segment = ?", (number, segment.number))  # noqa: S608
            for segment in former
            if segment.number != number
        ),
        *((replace, (row_id, number, *fields)) for row_id, fields in change.added.items()),
        (
            """
            DELETE FROM search_stale
            WHERE source = :source AND ticket <= :ticket AND id IN (SELECT value FROM json_each(:row_ids))
            """,
            key,
        ),
        (
            """
            UPDATE search_state SET version = version + 1, indexed_id = min(:indexed_id, last_id)
            WHERE source = :source
            """,
            # Those that come next, or those that there were already.
            {"source": source.table, "indexed_id": change.row_ids[-1] if is_new else state.indexed_id},
        ),
    ]
