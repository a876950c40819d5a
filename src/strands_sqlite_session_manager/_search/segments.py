"""Segments: the parts of a search index, each made in memory and written into the tables of FTS5 as it is.

FTS5 keeps an index as segments, sorted runs of words on pages of their own; the comment at the top of SQLite's
`fts5_index.c` describes them. Left to itself, it takes a deleted text out of its pages only when it merges all of them,
which costs as much as the index is large. Here, each text is in one segment alone. To erase it, this one is read, made
again without it by an FTS5 table in memory, and put back: what that costs does not depend on the size of the index. The
FTS5 table in the file is written to in no other way, and searched as any other.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from .._engine.database import Database, Statement, open_scratch
from .._errors import DamagedDatabaseError
from .sources import Source
from .text import TOKENIZER

# Rowids of two records in FTS5's table of pages. Those of pages have the segment's number above the lower bits.
_AVERAGES, _STRUCTURE, _PAGE_BITS = 1, 10, 37

Texts = dict[int, tuple[str, ...]]  # by the rowid of what they are of


class Segment(NamedTuple):
    """A row of the table `search_segments`.

    Attributes:
        number: Its number in the tables of FTS5.
        first_page: Number of its first page with words.
        last_page: Number of its last one.
        totals: FTS5's record of averages, for this segment alone: number of texts, then of the words in each column.
    """

    number: int
    first_page: int
    last_page: int
    totals: bytes

    @property
    def rows(self) -> int:
        """How many texts it has."""
        return _numbers(self.totals)[0]

    @property
    def words(self) -> int:
        """How many words they have."""
        return sum(_numbers(self.totals)[1:])

    @property
    def ids(self) -> tuple[int, int]:
        """Of the rowids of its pages, the first and the one after the last."""
        return self.number << _PAGE_BITS, (self.number + 1) << _PAGE_BITS


class Built(NamedTuple):
    """A segment in memory.

    Attributes:
        segment: Its row.
        pages: Its pages, by their rowids.
        terms: The first word of a page, and the page, as in FTS5's table of them.
        sizes: Rowids of the texts that were added, and how many words they have, as in FTS5's table of them.
    """

    segment: Segment
    pages: list[tuple[int, bytes]]
    terms: list[tuple[bytes, int]]
    sizes: list[tuple[int, bytes]]


def read(database: Database, source: Source) -> list[Segment]:
    """Return the segments of an index.

    Raises:
        DamagedDatabaseError: If a row is none.
    """
    rows = database.query(
        "SELECT number, first_page, last_page, totals FROM search_segments WHERE source = ?", (source.table,)
    )
    found = [Segment(*row) for row in rows]
    if any(len(_numbers(segment.totals)) != 1 + len(source.fields) for segment in found):
        raise DamagedDatabaseError(f"{database.path}: damaged search_segments of {source.table}")
    return found


def build(
    database: Database, source: Source, number: int, former: Sequence[Segment], removed: Texts, added: Texts
) -> Built | None:
    """Make a segment out of others, without some texts of theirs and with others.

    Args:
        database: Database with the former segments.
        source: What is indexed.
        number: Number of the new segment.
        former: Segments to join.
        removed: Texts to take out, as they were added.
        added: Texts to add.

    Returns:
        The segment; None if nothing would be in it.

    Raises:
        DamagedDatabaseError: If the former ones are not what FTS5 makes.
    """
    if not added and len(removed) == sum(segment.rows for segment in former):
        return None
    names, marks = ", ".join(source.fields), ", ".join("?" * len(source.fields))
    # One string each for all rows, so that its statement is found at once.
    delete = f"INSERT INTO made (made, rowid, {names}) VALUES ('delete', ?, {marks})"  # noqa: S608 (constants only)
    insert = f"INSERT INTO made (rowid, {names}) VALUES (?, {marks})"  # noqa: S608
    with contextlib.closing(open_scratch()) as scratch:
        scratch.execute(f"""CREATE VIRTUAL TABLE made USING fts5({names}, content='', tokenize="{TOKENIZER}")""")
        if former:
            # Before FTS5 has a look at them.
            scratch.write_aside(_copies(database, source, former))
        scratch.write_aside(
            [
                *((delete, (row_id, *texts)) for row_id, texts in removed.items()),
                *((insert, (row_id, *texts)) for row_id, texts in added.items()),
            ]
        )
        # Makes one segment of all, without what was deleted.
        scratch.execute("INSERT INTO made (made) VALUES ('optimize')")
        return _extract(scratch, number)


def replace(
    source: Source, layout: Sequence[Segment], former: Sequence[Segment], built: Built | None
) -> tuple[list[Segment], list[Statement]]:
    """Return what puts a segment in the place of others.

    Args:
        source: Whose index it is.
        layout: All segments of the index now.
        former: Those that go.
        built: The one that comes, if any.

    Returns:
        All segments then, and the statements for it. The texts themselves are not part of it.
    """
    index = source.fts_table
    after = [segment for segment in layout if segment not in former]
    statements: list[Statement] = []
    for segment in former:
        statements += [
            ("DELETE FROM search_segments WHERE source = ? AND number = ?", (source.table, segment.number)),
            (f"DELETE FROM {index}_data WHERE id >= ? AND id < ?", segment.ids),  # noqa: S608 (constants only, as below)
            (f"DELETE FROM {index}_idx WHERE segid = ?", (segment.number,)),  # noqa: S608
        ]
    if built is not None:
        after.append(built.segment)
        number = built.segment.number
        data, idx, docsize = (
            f"REPLACE INTO {index}_{table} VALUES ({marks})"  # noqa: S608
            for table, marks in (("data", "?, ?"), ("idx", "?, ?, ?"), ("docsize", "?, ?"))
        )
        statements += [
            ("INSERT INTO search_segments VALUES (?, ?, ?, ?, ?)", (source.table, *built.segment)),
            *((data, page) for page in built.pages),
            *((idx, (number, *term)) for term in built.terms),
            *((docsize, size) for size in built.sizes),
        ]
    records = ((_STRUCTURE, _structure(after)), (_AVERAGES, _averages(after)))
    statements += [(f"REPLACE INTO {index}_data VALUES (?, ?)", record) for record in records]  # noqa: S608
    return after, statements


def free_number(layout: Iterable[Segment]) -> int:
    """Return a number that no segment has."""
    taken = {segment.number for segment in layout}
    return next(number for number in range(1, len(taken) + 2) if number not in taken)


def _copies(database: Database, source: Source, segments: Sequence[Segment]) -> Iterator[Statement]:
    """Return what copies segments into memory, as numbers 1, 2 and so on."""
    copies = []
    for number, segment in enumerate(segments, 1):
        copies.append(segment._replace(number=number))
        for row_id, page in database.query(
            f"SELECT id - ?, block FROM {source.fts_table}_data WHERE id >= ? AND id < ?",  # noqa: S608
            (segment.ids[0], *segment.ids),
        ):
            yield "INSERT INTO made_data VALUES (?, ?)", (copies[-1].ids[0] + row_id, page)
        for term, page_number in database.query(
            # The column has no type, and an engine may return its bytes as text.
            f"SELECT hex(term), pgno FROM {source.fts_table}_idx WHERE segid = ?",  # noqa: S608
            (segment.number,),
        ):
            yield "INSERT INTO made_idx VALUES (?, ?, ?)", (number, bytes.fromhex(term), page_number)
    yield "REPLACE INTO made_data VALUES (?, ?)", (_STRUCTURE, _structure(copies))
    yield "REPLACE INTO made_data VALUES (?, ?)", (_AVERAGES, _averages(copies))


def _extract(scratch: Database, number: int) -> Built | None:
    """Return the one segment that there is in memory, under another number."""
    records = dict(scratch.query("SELECT id, block FROM made_data WHERE id IN (?, ?)", (_AVERAGES, _STRUCTURE)))
    # A cookie; how many levels, segments and writes; for each level, two numbers and its segments.
    numbers = _numbers(records[_STRUCTURE][4:])
    levels, segments = numbers[:2]
    if segments == 0:
        return None
    if segments != 1 or len(numbers) != 3 + 2 * levels + 3:
        raise DamagedDatabaseError(f"{scratch.path}: FTS5 made {segments} segments, not one")
    former = Segment(numbers[-3], numbers[-2], numbers[-1], records[_AVERAGES])
    segment = former._replace(number=number)
    return Built(
        segment,
        scratch.query(
            "SELECT id + ?, block FROM made_data WHERE id >= ?", (segment.ids[0] - former.ids[0], former.ids[0])
        ),
        scratch.query("SELECT term, pgno FROM made_idx"),
        scratch.query("SELECT id, sz FROM made_docsize"),
    )


def _structure(segments: Sequence[Segment]) -> bytes:
    """Return FTS5's record of which segments there are: all on one level."""
    numbers = (1, len(segments), 0, 0, len(segments)) if segments else (0, 0, 0)
    return bytes(4) + _record(numbers) + b"".join(_record(segment[:3]) for segment in segments)


def _averages(segments: Sequence[Segment]) -> bytes:
    """Return FTS5's record of averages for several segments."""
    return _record(tuple(map(sum, zip(*(_numbers(segment.totals) for segment in segments), strict=True))))


# Each of the segments, of which there may be many, is asked for again and again.
@lru_cache(10_000)
def _numbers(record: bytes) -> tuple[int, ...]:
    """Return the numbers in a record (https://sqlite.org/fileformat2.html#varint), each of less than 57 bits."""
    numbers, number = [], 0
    for byte in record:
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            numbers.append(number)
            number = 0
    return tuple(numbers)


@lru_cache(10_000)
def _record(numbers: tuple[int, ...]) -> bytes:
    """Return a record of numbers."""
    record = bytearray()
    for number in numbers:
        encoded = [number & 0x7F]
        while number := number >> 7:
            encoded.append(number & 0x7F | 0x80)
        record += bytes(reversed(encoded))
    return bytes(record)


def assume_rows(scratch: Database, rows: int) -> None:
    """Have an index in memory rank as if it were a part of a larger one."""
    ((record,),) = scratch.query("SELECT block FROM made_data WHERE id = ?", (_AVERAGES,))
    own, *words = _numbers(record)
    factor = max(rows, own) // max(own, 1)
    scratch.execute(
        "REPLACE INTO made_data VALUES (?, ?)",
        (_AVERAGES, _record((own * factor, *(count * factor for count in words)))),
    )
