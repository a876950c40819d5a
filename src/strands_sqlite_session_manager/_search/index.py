r"""The search index: FTS5 tables inside the database, and what keeps them true.

A write pays nothing for the index. What was added since the last search is indexed by the next one, in short
transactions between which writers get their turn. What was indexed and then changed or deleted is entered into the
plain table `search_stale` by triggers, in the same statement, and no search shows what is entered there. The triggers
touch plain tables alone, so neither a broken index nor an SQLite without FTS5 can make a write fail; that is why they
do not delete from the index themselves. The former text lies in the file until the next search, or `erase_removed`,
takes it out.

* `search_state`: for each source (a table), the row up to which rows are indexed or entered as stale: its rowid, and
  what tells it from a row that a dump and restore, say, gave the same rowid. Then all is indexed anew. The row always
  exists (a trigger sees to it), so rows that are added have higher rowids. `unmerged` is a ticket, or 0: whether words
  of texts that were taken out are still in the index.
* `search_stale`: rowids to be indexed, or to be taken out where the row is gone. Whoever has done so deletes the entry
  only if its ticket is still the one it read, because the row may have changed meanwhile.
* `search_messages`, `search_storage`: the FTS5 tables, with the rowids of their sources.

Words match by their English stem, and without accents (tokenizers porter and unicode61). Of scripts without spaces, and
of Korean, which glues particles to its words, each character is a word of its own: zero-width spaces are put between
them. A run of them is then found as a phrase, wherever it stands, at any length. The trigram tokenizer would want a
second, larger index beside this one, and find nothing for the two characters that most Chinese words have.

The index holds the texts too: FTS5 needs them to delete (until 3.43), and to show snippets. Of very long texts, only
the start is indexed. To erase what is gone from it, `erase_removed` merges the whole index: half a second for 100,000
messages. FTS5's own `secure-delete`, from SQLite 3.42 on, takes as long for a dozen that are deleted.

An index that makes SQLite fail is dropped and built anew. Where this cannot be done (no FTS5, a file that cannot be
written, a lock that somebody holds for too long), a search reads everything there is instead: slow, but complete.
"""

import contextlib
import json
import logging
import re
import sqlite3
import time
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from strands.types.exceptions import SessionException

from ._database import Database, Parameters, SessionConflictError

logger = logging.getLogger(__name__)

# What one transaction does at the most, so that it holds the write lock for less than 50 ms.
QUEUED_ROWS, INDEXED_ROWS, INDEXED_BYTES, MERGED_PAGES, EMPTIED_ROWS = 2000, 200, 50_000, 32, 100
# Seconds between two transactions. Writers of other processes do not queue but look now and then, and must find the
# file free. Measured: twice as many of their appends get through, and the longest takes 75-95 ms, not 75-220.
PAUSE = 0.001
# To take a text out of the index takes longer than to put it in, by this factor.
REMOVAL = 5
# What is indexed of one text: it goes into one transaction.
LONGEST_TEXT = 100_000
LONGEST_DATA = 4 * LONGEST_TEXT

# What counts of a query. Of scripts without spaces, each character makes SQLite go through a list of its own.
LONGEST_QUERY, MOST_WORDS = 1_000, 100

# Around what was found, until it is shown: characters that no text needs, and blanks where one has them.
START, END = "\2", "\3"
_WITHOUT_CONTROLS = {0: " ", ord(START): " ", ord(END): " "}

# Thai to Myanmar, Khmer, Chinese, Japanese, Korean; and symbols and emoji, which are words too, but not parts of those
# beside them ("20°C").
_SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f"
    "\U00020000-\U0003ffff\u00a6\u00a9\u00ae\u00b0\u0482\u2100-\u2bff\ufe0f\ufffd\U0001f000-\U0001faff"
)
_AROUND_SPACELESS = re.compile(f"(?=[{_SPACELESS}])|(?<=[{_SPACELESS}])")
_SEPARATOR = "\u200b"

# Marks are parts of words: in Thai and Hindi they are vowels.
_TOKENIZER = """porter unicode61 remove_diacritics 2 categories 'L* M* N* Co So'"""
_IS_WORD = ("L", "M", "N", "Co", "So")

# What SQLite says of a broken index, and, without FTS5, of one that it can only empty.
_BROKEN = (
    "no such module",
    "malformed",
    "SQL logic error",
    "fts5: corrupt",
    "fts5: missing",
    "invalid fts5 file format",
    "vtable constructor failed",
    "no such table: search_messages",
    "no such table: search_storage",
    "no such column",
)

# Tables that an FTS5 table consists of, with these after its name.
_PARTS = ("data", "idx", "content", "docsize", "config")

_NOT_STALE = """
    NOT EXISTS (SELECT 1 FROM search_stale WHERE search_stale.source = '{0}' AND search_stale.id = search_{0}.rowid)
    """


class Source(NamedTuple):
    """A table whose texts are indexed.

    Attributes:
        table: Its name.
        columns: What `texts` takes.
        fields: Columns of the index.
        texts: Returns the text for each of the fields.
        indexed: SQL for the texts that are in the index.
        identity: SQL for what tells a row from others that may get its rowid.
    """

    table: str
    columns: str
    fields: str
    texts: Callable[..., tuple[str, ...]]
    indexed: str
    identity: str

    @property
    def fts_table(self) -> str:
        """Name of the FTS5 table."""
        return f"search_{self.table}"

    @property
    def not_stale(self) -> str:
        """Condition for a row of the index that may be shown."""
        return _NOT_STALE.format(self.table)


def message_text(message: bytes) -> str:
    """Return what is searched of a message: the start of its text as the view `conversation` shows it."""
    try:
        content = json.loads(message.decode(errors="replace"))["content"]
        return "\n".join(_block_texts(content))[:LONGEST_TEXT]
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return ""  # What somebody has damaged by hand is not found, instead of failing every search.


def _block_texts(content: Iterable[Any]) -> Iterator[str]:
    for block in content:
        if isinstance(block.get("text"), str):
            yield block["text"]
        cited = block.get("citationsContent")
        if isinstance(cited, dict) and isinstance(cited.get("content"), list):
            yield from _block_texts(part for part in cited["content"] if isinstance(part, dict))


def storage_texts(key: str, data: bytes) -> tuple[str, str]:
    """Return the key without its extension, as Strands' own search takes it, and the start of what is text in the data.

    Data with a NUL is an image or the like, and has none. Bytes that are not UTF-8 become blanks, so that they are no
    part of the words beside them.
    """
    data = data[:LONGEST_DATA]
    text = "" if b"\0" in data else data.decode(errors="replace").replace("\ufffd", " ")
    return re.sub(r"(?<=[^/])\.[^./]*$", "", key), text[:LONGEST_TEXT]


MESSAGES = Source(
    "messages",
    # As bytes: of text that is not UTF-8, Python's sqlite3 makes an error.
    "CAST(coalesce(redact_message, message) AS BLOB)",
    "text",
    lambda text: (message_text(text),),
    "c0",
    "message_id || created_at",
)
STORAGE = Source(
    "storage",
    # In SQLite 3.40 and others, a part of an empty BLOB is NULL.
    f"key, coalesce(substr(data, 1, {LONGEST_DATA}), x'')",
    "name, content",
    storage_texts,
    "c0 || c1",
    "key",
)


def separated(text: str) -> str:
    """Return a text as it is indexed, with the words of scripts without spaces told apart."""
    text = text[:LONGEST_TEXT].translate(_WITHOUT_CONTROLS)
    if text.isascii():
        return text
    # SQLite cannot hold lone surrogates.
    text = unicodedata.normalize("NFC", text.encode(errors="replace").decode())
    return _AROUND_SPACELESS.sub(_SEPARATOR, text)


def snippet(highlighted: str) -> str:
    """Return the part of an indexed text around the first hit, with [brackets] around hits.

    FTS5 has a function `snippet`, which takes minutes for a text that is one word over and over.

    Args:
        highlighted: The text with `START` and `END` around hits.
    """
    text = highlighted.replace(_SEPARATOR, "")
    hit = text.find(START)
    start, end = max(hit - 40, 0), hit + 120
    if start:
        start = text.find(" ", start, hit) + 1 or start  # Not in the middle of a word, if there are words.
    part = text[start:end]
    if part.rfind(START) > part.rfind(END):
        part += END
    part = part.replace(START, "[").replace(END, "]")
    return ("…" if start else "") + part + ("…" if end < len(text) else "")


def after(highlighted: str, prefix: str) -> str:
    """Return what comes after a prefix in an indexed text with `START` and `END` around hits."""
    rest = iter(highlighted)
    for expected in separated(prefix):
        for character in rest:
            if character == expected:
                break
    return "".join(rest)


def words(query: str) -> list[str]:
    """Return the words of a query, each once: what stands between blanks, if there is anything to be found in it."""
    return [
        word
        for word in dict.fromkeys(query[:LONGEST_QUERY].split())
        if any(unicodedata.category(character).startswith(_IS_WORD) for character in word)
    ][:MOST_WORDS]


def parted(query: str) -> str:
    """Return a query with blanks for its punctuation: "dark-mode" is two words."""
    # Not for what cannot be seen, such as the joiners inside of words and emoji.
    return "".join(c if unicodedata.category(c).startswith((*_IS_WORD, "C")) else " " for c in query[:LONGEST_QUERY])


def match_expression(words: Iterable[str], operator: str) -> str:
    """Return an FTS5 query: quoted, so that nothing in the words is an operator. "dark-mode" is a phrase of two."""
    return f" {operator} ".join('"' + separated(word).replace('"', " ") + '"' for word in words)


def find(database: Database, source: Source, sql: str, parameters: Parameters) -> list[tuple[Any, ...]] | None:
    """Bring the index up to date and search it.

    Args:
        database: Database to search.
        source: What is searched.
        sql: SELECT on the index.
        parameters: Its parameters.

    Returns:
        Its rows; None if there is no index that could be used.
    """
    if not _has_fts5(database):
        _warn_of_missing_fts5()
        return None
    for _ in range(2):
        epoch = None
        try:
            epoch = _epoch(database, source)
            update(database, source)
            return database.query(sql, parameters)
        except SessionException as error:
            if not _means_broken(error):
                logger.warning("index=<%s>, error=<%s> | searching without the index", source.fts_table, error)
                return None
            logger.warning("index=<%s>, error=<%s> | building a broken index anew", source.fts_table, error)
            with contextlib.suppress(SessionException):  # The next attempt fails too then.
                _forget(database, source, epoch)
    return None


def _means_broken(error: SessionException) -> bool:
    return any(text in str(error.__cause__) for text in _BROKEN)


def rebuild(database: Database, source: Source) -> None:
    """Drop the index and build it anew.

    Raises:
        SessionException: If it cannot be built.
    """
    if not _has_fts5(database):
        raise SessionException(f"{database.path}: this SQLite lacks FTS5, so there is no search index to build")
    _forget(database, source, _epoch(database, source))
    update(database, source)


def erase_removed(database: Database, source: Source = MESSAGES, *, merge: bool = True) -> None:
    """Take the text of rows that were changed or deleted out of the index, for good. Costs nothing if none were.

    What is still to be indexed is left to the next search. To be called before `Database.truncate_log`. An index that
    is broken is dropped, with all that is in it.

    Args:
        database: Database to erase from.
        source: Whose index.
        merge: Whether to merge the index. The text's words stay in the file until this is done.
    """
    epoch = None
    try:
        epoch = _epoch(database, source)
        if epoch is None:
            # Somebody was killed after giving up an index, all of whose text is there still.
            if _exists(database, source):
                _create(database, source)
            return
        _refresh(database, source, only_indexed=True)
        tickets = database.query("SELECT unmerged FROM search_state WHERE source = ? AND unmerged", (source.table,))
        if tickets and merge:
            _merge_all(database, source)
            database.execute(
                "UPDATE search_state SET unmerged = 0 WHERE source = ? AND unmerged = ?", (source.table, *tickets[0])
            )
    except SessionException as error:
        # What was to be erased is deleted all the same, so this is no failure of the call.
        if not _means_broken(error):
            logger.warning(
                "index=<%s>, error=<%s> | deleted or redacted text stays in the search index until the next deletion "
                "or redaction",
                source.fts_table,
                error,
            )
            return
        logger.warning("index=<%s>, error=<%s> | dropping a broken search index", source.fts_table, error)
        with contextlib.suppress(SessionException):
            _forget(database, source, epoch)
            _create(database, source)


def update(database: Database, source: Source) -> None:
    """Index what was added or changed since the last time, and take out what was deleted.

    Raises:
        SessionException: If this cannot be done.
    """
    state = database.query(
        f"""
        SELECT
            last_id = 0 OR EXISTS (SELECT 1 FROM {source.table} WHERE rowid = last_id AND {source.identity} = last_row),
            EXISTS (SELECT 1 FROM {source.table} WHERE rowid > last_id)
            OR EXISTS (SELECT 1 FROM search_stale WHERE search_stale.source = search_state.source),
            epoch
        FROM search_state WHERE source = ?
        """,  # noqa: S608 (constants only, as in all of this module)
        (source.table,),
    )
    if not state:
        _create(database, source)
    else:
        is_ours, has_work, epoch = state[0]
        if not is_ours:
            logger.debug("index=<%s> | rows were renumbered, building the index anew", source.fts_table)
            _forget(database, source, epoch)
            _create(database, source)
        elif not has_work:
            return
    # No more than there is now: writers that never rest keep no search waiting for ever.
    ((newest,),) = database.query(f"SELECT max(rowid) FROM {source.table}")  # noqa: S608
    queued = QUEUED_ROWS
    while queued == QUEUED_ROWS:
        queued = _queue_new(database, source, newest)
        # All that is queued, before there is more: `_forget` deletes the queue at once.
        _refresh(database, source)


def _queue_new(database: Database, source: Source, newest: int | None) -> int:
    """Enter some of the rows that are not indexed yet as stale, up to the rowid `newest`, and return how many."""
    new = f"""
        SELECT rowid FROM {source.table}
        WHERE rowid > (SELECT last_id FROM search_state WHERE source = ?1) AND rowid <= ?2
        ORDER BY rowid LIMIT {QUEUED_ROWS}
        """  # noqa: S608
    queued, _ = database.transaction(
        [
            (
                f"""
                INSERT INTO search_stale (source, id, ticket) SELECT ?1, rowid, random() FROM ({new}) WHERE TRUE
                ON CONFLICT (source, id) DO UPDATE SET ticket = excluded.ticket
                """,  # noqa: S608
                (source.table, newest),
            ),
            (
                f"""
                UPDATE search_state SET (last_id, last_row) = (
                    SELECT rowid, {source.identity} FROM {source.table} WHERE rowid = (SELECT max(rowid) FROM ({new}))
                )
                WHERE source = ?1 AND EXISTS ({new})
                """,  # noqa: S608
                (source.table, newest),
            ),
        ]
    )
    return queued


def _refresh(database: Database, source: Source, *, only_indexed: bool = False) -> None:
    """Index the stale rows anew, each once: what changes meanwhile is left to the next time.

    Args:
        database: Database to index.
        source: What is indexed.
        only_indexed: Leave out rows that are not in the index yet.
    """
    # A row above `last_id` has the rowid of one that is gone. It is not indexed before it is queued, because until then
    # the triggers do not tell when it changes.
    statement = f"""
        SELECT
            search_stale.id, ticket, {source.table}.rowid IS NOT NULL,
            coalesce(length(CAST({source.indexed} AS BLOB)), 0), {source.columns}
        FROM search_stale {"CROSS" if only_indexed else "LEFT"} JOIN {source.fts_table}_content AS indexed
            ON indexed.id = search_stale.id
        LEFT JOIN {source.table} ON {source.table}.rowid = search_stale.id
            AND search_stale.id <= (SELECT last_id FROM search_state WHERE search_state.source = search_stale.source)
        WHERE source = ? AND search_stale.id > ? ORDER BY search_stale.id LIMIT {INDEXED_ROWS}
        """  # noqa: S608
    last_id = -(2**63)
    while rows := database.query(statement, (source.table, last_id)):
        last_id = rows[-1][0]
        _index(database, source, rows)


def _index(database: Database, source: Source, rows: list[tuple[Any, ...]]) -> None:
    """Index rows anew, in as many transactions as their texts are long."""
    statements: list[tuple[str, Parameters]] = []
    size = 0
    for row_id, ticket, exists, former, *columns in rows:
        texts = [separated(text) for text in source.texts(*columns)] if exists else []
        # A Latin word takes about as many bytes as a character of a script without spaces with its separator.
        added = sum(len(text.encode()) for text in texts) + REMOVAL * former
        if statements and size + added > INDEXED_BYTES:
            _write(database, source, statements)
            statements, size = [], 0
        key = (source.table, row_id, ticket)
        statements += [
            _replace(source, texts, key) if exists else _remove(source, key),
            ("DELETE FROM search_stale WHERE source = ? AND id = ? AND ticket = ?", key),
        ]
        if former:
            # In the same transaction, so that whoever erases next merges, whoever took the text out.
            statements.append(("UPDATE search_state SET unmerged = random() | 1 WHERE source = ?", (source.table,)))
        size += added
    _write(database, source, statements)


def _write(database: Database, source: Source, statements: list[tuple[str, Parameters]]) -> None:
    database.transaction(statements)
    time.sleep(PAUSE)
    # By itself, FTS5 would merge now and then, and for longer.
    _merge(database, source, MERGED_PAGES)


def _replace(source: Source, texts: list[str], key: tuple[str, int, int]) -> tuple[str, Parameters]:
    return (
        f"""
        INSERT OR REPLACE INTO {source.fts_table} (rowid, {source.fields})
        SELECT id, {", ".join("?" * len(texts))} FROM search_stale WHERE source = ? AND id = ? AND ticket = ?
        """,  # noqa: S608
        (*texts, *key),
    )


def _remove(source: Source, key: tuple[str, int, int]) -> tuple[str, Parameters]:
    return (
        f"""
        DELETE FROM {source.fts_table}
        WHERE rowid = (SELECT id FROM search_stale WHERE source = ? AND id = ? AND ticket = ?)
        """,  # noqa: S608
        key,
    )


def _merge(database: Database, source: Source, pages: int) -> None:
    database.execute(f"INSERT INTO {source.fts_table} ({source.fts_table}, rank) VALUES ('merge', ?)", (pages,))  # noqa: S608
    time.sleep(PAUSE)


def _merge_all(database: Database, source: Source) -> None:
    """Merge all segments of the index into one, which drops what was deleted from them, step by step."""
    structure = f"SELECT block FROM {source.fts_table}_data WHERE id = 10"  # noqa: S608
    pages = -MERGED_PAGES  # A negative number marks all segments to be merged.
    before = None
    while (now := database.query(structure)) != before:
        before = now
        _merge(database, source, pages)
        pages = MERGED_PAGES


def _epoch(database: Database, source: Source) -> int | None:
    rows = database.query("SELECT epoch FROM search_state WHERE source = ?", (source.table,))
    return rows[0][0] if rows else None


def _exists(database: Database, source: Source) -> bool:
    return bool(database.query("SELECT 1 FROM sqlite_master WHERE name = ? AND type = 'table'", (source.fts_table,)))


def _forget(database: Database, source: Source, epoch: int | None) -> None:
    """Give up an index, unless somebody else has done so and built another."""
    database.transaction(
        [
            ("DELETE FROM search_state WHERE source = ? AND epoch = ?", (source.table, epoch)),
            (
                """
                DELETE FROM search_stale
                WHERE source = ?1 AND NOT EXISTS (SELECT 1 FROM search_state WHERE search_state.source = ?1)
                """,
                (source.table,),
            ),
        ]
    )


def _create(database: Database, source: Source) -> None:
    """Make an empty index in the place of one that is given up, unless somebody else just did."""
    index = source.fts_table
    statements: list[tuple[str, Parameters]] = [
        # Fails if somebody else was first.
        ("INSERT INTO search_state (source, epoch) VALUES (?, random())", (source.table,)),
        ("DELETE FROM search_stale WHERE source = ?", (source.table,)),
    ]
    if _exists(database, source):
        _empty(database, source)
        statements += _drop(index)
    # Without its FTS5 table, which somebody has dropped by force.
    statements += [(f"DROP TABLE IF EXISTS {index}_{part}", ()) for part in _PARTS]
    statements += [
        (f'CREATE VIRTUAL TABLE {index} USING fts5({source.fields}, tokenize="{_TOKENIZER}")', ()),
        # Merges are asked for, in steps of known size.
        (f"INSERT INTO {index} ({index}, rank) VALUES ('automerge', 0)", ()),  # noqa: S608
        (f"INSERT INTO {index} ({index}, rank) VALUES ('crisismerge', 1999)", ()),  # noqa: S608
    ]
    with contextlib.suppress(SessionConflictError):
        database.transaction(statements)


def _empty(database: Database, source: Source) -> None:
    """Empty the tables that an index consists of in small steps, because dropping a large index takes seconds."""
    for part in ("data", "content", "docsize"):
        table = f"{source.fts_table}_{part}"
        # What is missing or forbidden (SQLite's defensive mode) is left to the dropping of the whole.
        with contextlib.suppress(SessionException):
            while database.execute(
                f"""
                DELETE FROM {table} WHERE id IN (SELECT id FROM {table} LIMIT {EMPTIED_ROWS})
                AND NOT EXISTS (SELECT 1 FROM search_state WHERE source = ?)
                """,  # noqa: S608
                (source.table,),
            ):
                time.sleep(PAUSE)


def _drop(index: str) -> list[tuple[str, Parameters]]:
    """Return what drops an FTS5 table. It must look sound at first sight, or FTS5 refuses."""
    return [
        (f"CREATE TABLE IF NOT EXISTS {index}_data (id INTEGER PRIMARY KEY, block BLOB)", ()),
        (f"CREATE TABLE IF NOT EXISTS {index}_config (k PRIMARY KEY, v) WITHOUT ROWID", ()),
        (f"REPLACE INTO {index}_data VALUES (1, x''), (10, zeroblob(7))", ()),  # noqa: S608
        (f"REPLACE INTO {index}_config VALUES ('version', 4)", ()),  # noqa: S608
        (f"DROP TABLE {index}", ()),
    ]


def _has_fts5(database: Database) -> bool:
    return bool(database.query("SELECT 1 FROM pragma_module_list WHERE name = 'fts5'"))


_has_warned = False


def _warn_of_missing_fts5() -> None:
    global _has_warned
    if not _has_warned:
        _has_warned = True
        warnings.warn(
            f"this SQLite ({sqlite3.sqlite_version}) lacks FTS5, so each search reads everything; most builds have it",
            RuntimeWarning,
            stacklevel=2,
        )


# Latin letters without their accents, one for one.
_WITHOUT_ACCENTS = {
    code: unicodedata.normalize("NFD", chr(code))[0]
    for code in (*range(0xC0, 0x250), *range(0x1E00, 0x1F00))
    if unicodedata.normalize("NFD", chr(code))[0].isascii()
}


class Scan:
    """A search without the index: for words as they are, or as the start of longer ones."""

    def __init__(self, words: Iterable[str]):
        """Prepare to look for words."""
        self._patterns = [
            re.compile(("" if re.match(f"[{_SPACELESS}]", word) else rf"(?<![^\W{_SPACELESS}])") + re.escape(word))
            for word in map(_folded, words)
        ]

    def count(self, text: str) -> list[int]:
        """Return how often each word is in a text."""
        text = _folded(text)
        return [len(pattern.findall(text)) for pattern in self._patterns]

    def highlighted(self, text: str) -> str:
        """Return a text with `START` and `END` around the words."""
        text = unicodedata.normalize("NFC", text.translate(_WITHOUT_CONTROLS))
        parts = []
        last = 0
        for start, end in sorted(hit.span() for pattern in self._patterns for hit in pattern.finditer(_folded(text))):
            if start >= last:
                parts += [text[last:start], START, text[start:end], END]
                last = end
        return "".join((*parts, text[last:]))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text).translate(_WITHOUT_ACCENTS).lower()
