"""Search of texts that are not in the index: in one that is made of them in memory, and thrown away."""

import contextlib
from typing import Literal

from .._engine.database import Database, open_scratch
from . import tables
from .segments import Texts, assume_rows
from .sources import Source
from .text import TOKENIZER, Scan, match_expression, segment

# Texts that are searched at once.
ROWS = 500


def search(
    database: Database,
    source: Source,
    texts: Texts,
    words: list[str],
    operator: Literal["AND", "OR"],
    *,
    are_all: bool = False,
) -> list[tuple[int, float, tuple[str, ...]]]:
    """Search texts of rows as the index would, or, without FTS5, for words as they are.

    Args:
        database: Database that they are from.
        source: What they are of.
        texts: The texts, not segmented.
        words: What to look for.
        operator: Whether a text must have all words, or one.
        are_all: Whether a word is rare that few of these texts have, instead of few of the whole table.

    Returns:
        Rowid, score, and the texts with `START` and `END` around what was found, of those that have it.
    """
    if not tables.has_fts5(database):
        return _scan(texts, words, operator)
    names, marks = ", ".join(source.fields), ", ".join("?" * len(source.fields))
    highlights = ", ".join(f"highlight(made, {field}, char(2), char(3))" for field in range(len(source.fields)))
    with contextlib.closing(open_scratch()) as scratch:
        scratch.execute(f"""CREATE VIRTUAL TABLE made USING fts5({names}, tokenize="{TOKENIZER}")""")
        scratch.write_aside(
            (f"INSERT INTO made (rowid, {names}) VALUES (?, {marks})", (row_id, *map(segment, fields)))  # noqa: S608 (constants only)
            for row_id, fields in texts.items()
        )
        if not are_all:
            # A word that half of these few texts have may be rare in all. The scores are to be those of the index.
            ((rows,),) = database.query(f"SELECT coalesce(max(rowid), 0) FROM {source.table}")  # noqa: S608
            assume_rows(scratch, rows)
        found = scratch.query(
            f"SELECT rowid, -rank, {highlights} FROM made WHERE made MATCH ?",  # noqa: S608
            (match_expression(words, operator),),
        )
    return [(row_id, score, tuple(highlighted)) for row_id, score, *highlighted in found]


def _scan(texts: Texts, words: list[str], operator: str) -> list[tuple[int, float, tuple[str, ...]]]:
    scan, enough = Scan(words), all if operator == "AND" else any
    found = []
    for row_id, fields in texts.items():
        counts = scan.count("\n".join(fields))
        if enough(counts):
            score = sum(counts) if operator == "AND" else sum(map(bool, counts))
            found.append((row_id, float(score), tuple(map(scan.highlighted, fields))))
    return found
