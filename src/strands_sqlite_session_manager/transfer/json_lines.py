"""Sessions as JSON Lines: UTF-8 text of one JSON object a line, the same rows when they are read back.

The first line says what the file is:

    {"format": "strands-sqlite-session-manager", "version": 1}

Each other line is a record, whose fields are the columns of its table. The records of a session follow one another:
the session, each agent and its messages in their order, then the multi-agent states, then what `SQLiteStorage` has of
the session: its snapshots and its stash.

    {"record": "session", "session_id": …, "session_type": …, "metadata": {…},
     "expires_at": … or null, "created_at": …, "updated_at": …}
    {"record": "agent", "session_id": …, "agent_id": …, "state": {…}, "conversation_manager_state": {…},
     "internal_state": {…}, "live_view": […] or null, "created_at": …, "updated_at": …}
    {"record": "message", "session_id": …, "agent_id": …, "message_id": 0, "message": {…},
     "redact_message": {…} or null, "attachments": "<base64>" or null, "created_at": …, "updated_at": …}
    {"record": "multi_agent", "session_id": …, "multi_agent_id": …, "state": {…}, "created_at": …, "updated_at": …}
    {"record": "storage", "key": …, "data": "<base64>", "expires_at": … or null, "created_at": …, "updated_at": …}

(Broken here to fit; a record is one line.) The last line tells how many there are, and that the file is whole. The
numbers are for people; they need no correction when a line is removed.

    {"record": "end", "sessions": 1, "agents": 2, "messages": 8, "multi_agents": 1, "storage": 0}

Times are UTC in ISO 8601, as Python's `datetime.now(timezone.utc).isoformat()` writes them. `attachments` are the bytes
of images and documents, to which `{"__encoded__": ["attachment", offset, length]}` in a message refers; `_codec.py`
lists the other such marks. A column whose text is not what Python's `json` makes of its value, when it was edited
by hand say, or is damaged, is a string under another name: `message_text` in place of `message`. Bytes in it that are
no UTF-8 are written as lone surrogates, as Python's `surrogateescape` does.
"""

import contextlib
import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

from strands.types.exceptions import SessionException

from .._arguments import checked_ids
from .._catalog.records import RecordCounts
from .._engine.holder import database_of
from .._engine.path import new_file
from .._errors import SessionConflictError, missing
from ..repository import SQLiteSessionRepository
from .json_records import line_of, record_of, row_of
from .reports import ImportReport, Progress, Skipped, counts, with_progress
from .rows import COLUMNS, Row, agent_ids, checked_repository, exists, multi_agent_ids, read_rows, storage_prefixes
from .rows import session_ids as all_session_ids
from .writer import RowWriter

logger = logging.getLogger(__name__)

_FORMAT = "strands-sqlite-session-manager"
_VERSION = 1
# Characters that are looked through for a line break, at the start of a file that may be anything.
_LONGEST_HEADER = 1000


def export_jsonl(
    source: SQLiteSessionRepository,
    file: TextIO | str | os.PathLike[str],
    *,
    session_ids: Iterable[str] | None = None,
    progress: Progress | None = None,
) -> RecordCounts:
    """Write sessions as JSON Lines, a page at a time, so that any number fits into memory.

    A session that is written to at the same time is exported as far as it has come. For one moment of a database in
    use, export a backup of it.

    Args:
        source: Where to read.
        file: Path of a new file, or a text file that is open for writing, as UTF-8. A new file is made for its owner
            only, and appears when it is complete and on disk. If the process is killed, a file `….partial` may be left
            over beside it, to be deleted.
        session_ids: Sessions to export. Defaults to all.
        progress: Called with how many sessions are written, and how many there are.

    Returns:
        Number of records written.

    Raises:
        SessionException: If the file exists already or cannot be written, or a session does not exist.
        ValueError: If an id cannot be one.
    """
    checked_repository("source", source)
    chosen = with_progress(
        all_session_ids(source) if session_ids is None else _existing(source, session_ids), source, progress
    )
    if not isinstance(file, (str, os.PathLike)):
        return _write(source, file, chosen)
    with new_file(Path(file), _refuse_existing) as partial:
        try:
            with partial.open("w", encoding="utf-8", newline="\n") as lines:
                return _write(source, lines, chosen)
        except OSError as error:
            raise SessionException(f"{file}: cannot be written: {error.strerror}") from error


def _refuse_existing(path: Path) -> None:
    if os.path.lexists(path):
        raise SessionException(f"{path}: exists already; choose another path")


def _existing(source: SQLiteSessionRepository, session_ids: Iterable[str]) -> list[str]:
    chosen = checked_ids("session_ids", session_ids)
    for session_id in chosen:
        if not exists(source, session_id):
            raise missing("sessions", session_id)
    return chosen


def _write(source: SQLiteSessionRepository, lines: TextIO, session_ids: Iterable[str]) -> RecordCounts:
    written = dict.fromkeys(COLUMNS, 0)
    lines.write(f'{{"format": "{_FORMAT}", "version": {_VERSION}}}\n')
    for session_id in session_ids:
        rows = read_rows(source, session_id, agent_ids(source, session_id), multi_agent_ids(source, session_id))
        for table, row in rows:
            lines.write(line_of(table, row))
            written[table] += 1
        logger.debug("session_id=<%s> | exported session", session_id)
    lines.write(f"{json.dumps({'record': 'end', **written}, separators=(',', ':'))}\n")
    return counts(Counter(written))


def import_jsonl(
    file: TextIO | str | os.PathLike[str], target: SQLiteSessionRepository, *, progress: Progress | None = None
) -> ImportReport:
    """Store the sessions of a JSON Lines file, a batch at a time, so that any number fits into memory.

    A session of up to 1,000 records (and 16 MiB) is stored completely or not at all; a larger one in batches of that
    size. When the import ends half-way, run it again: it goes on after what is there.

    Nothing is overwritten. A record that the database holds already must be equal, but for its times; otherwise the
    rest of its session is skipped and reported, and what the database holds of it stays.

    Args:
        file: Path of the file, or a text file that is open for reading, as UTF-8.
        target: Where to store.
        progress: Called now and then with how many characters are read, and how many bytes a file has (0 if it is
            none).

    Returns:
        What was stored and what was skipped.

    Raises:
        SessionException: If the file cannot be read, is of another format or of a newer version, or has a bad line,
            which is named by its number. The sessions above that line are stored, but for the last of them, of
            which only full batches are. If there is no last line that says that the file is whole, everything that is
            there is stored first.
    """
    checked_repository("target", target)
    if not isinstance(file, (str, os.PathLike)):
        try:
            read_header(file)
            return import_records(file, target, 0, progress)
        except UnicodeDecodeError as error:
            raise SessionException(f"the file is not UTF-8: {error}") from error
    # Opened and closed as a plain file, it would lose the locks that SQLite has on it.
    if Path(file).resolve() == Path(database_of(target).path).resolve():
        raise ValueError(f"file={file!r}: is the target database itself")
    try:
        # What is no UTF-8 is found when its line is parsed.
        with Path(file).open(encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
            read_header(lines)
            return import_records(lines, target, os.fstat(lines.fileno()).st_size, progress)
    except OSError as error:
        raise SessionException(f"{file}: cannot be read: {error.strerror}") from error


def import_records(
    lines: TextIO, target: SQLiteSessionRepository, size: int, progress: Progress | None
) -> ImportReport:
    """Store the sessions of a JSON Lines file of which the first line was read; see `import_jsonl`.

    Args:
        lines: The other lines.
        target: Where to store.
        size: Bytes that there are; 0 if that is not known.
        progress: Called now and then with how many characters are read, and the size.
    """
    return _Import(target).run(lines, size, progress)


class _Import:
    """The state of an import between two lines."""

    def __init__(self, target: SQLiteSessionRepository):
        self._writer = RowWriter(target)
        self._session_id: str | None = None
        self._agent_id: str | None = None
        self._is_skipped = False
        self._copied_before = 0
        self._session_ids: list[str] = []
        self._skipped: list[Skipped] = []

    def run(self, lines: TextIO, size: int, progress: Progress | None) -> ImportReport:
        number, is_whole, read = 1, False, 0
        for number, line in enumerate(lines, 2):
            read += len(line)
            if progress is not None and number % 100 == 0:
                progress(read, size)
            if is_whole and not line.strip():
                continue  # As some editors end a file.
            with _bad_line(number):
                if is_whole:
                    raise ValueError("below the line that ends the file")
                record = record_of(line)
                is_whole = record["record"] == "end"
                if not is_whole:
                    table, row = row_of(record)
                    self._check_order(table, row)
            if is_whole:
                self._finish_session()
            else:
                self._add(number, table, row)
        if not is_whole:
            self._finish_session()
            raise SessionException(
                f"line {number}: the file ends too early; what is in it was imported; get the whole file, or export "
                "again, and import that"
            )
        return ImportReport(
            self._session_ids, counts(self._writer.copied), counts(self._writer.already_there), self._skipped
        )

    def _check_order(self, table: str, row: Row) -> None:
        """Make sure that a record follows what it belongs to, without which it could not be stored."""
        if table == "storage":
            if self._session_id is None or not row[0].startswith(storage_prefixes(self._session_id)):
                raise ValueError(f"not below the line of its session: the key {row[0]!r}")
            return
        if table != "sessions" and row[0] != self._session_id:
            raise ValueError(f"not below the line of its session {row[0]!r}")
        if table == "messages" and row[1] != self._agent_id:
            raise ValueError(f"not below the line of its agent {row[1]!r}")

    def _add(self, number: int, table: str, row: Row) -> None:
        if table == "sessions":
            self._finish_session()
            self._session_id, self._agent_id, self._is_skipped = row[0], None, False
        elif table == "agents":
            self._agent_id = row[1]
        if self._is_skipped:
            return
        try:
            self._writer.add(table, row)
            self._writer.flush_if_full()
        except SessionConflictError as error:
            self._skip(row[0], f"line {number}: {error}")

    def _skip(self, session_id: str, reason: str) -> None:
        self._writer.discard()
        self._is_skipped = True
        self._skipped.append(Skipped(session_id, reason))

    def _finish_session(self) -> None:
        if self._session_id is None:
            return
        try:
            self._writer.flush()
        except SessionConflictError as error:
            self._skip(self._session_id, str(error))
        copied = sum(self._writer.copied.values())
        if copied > self._copied_before:
            self._session_ids.append(self._session_id)
            logger.debug("session_id=<%s> | imported session", self._session_id)
        self._copied_before = copied


@contextlib.contextmanager
def _bad_line(number: int) -> Iterator[None]:
    """Name the line that is bad."""
    try:
        yield
    except KeyError as error:
        raise SessionException(f"line {number}: no field {error}; correct or remove it and import again") from error
    except (ValueError, TypeError, RecursionError, SessionException) as error:
        raise SessionException(f"line {number}: {error}; correct or remove it and import again") from error


def read_header(lines: TextIO) -> None:
    """Read the first line of a JSON Lines file.

    Raises:
        SessionException: If it is of another format, or of a newer version.
    """
    line = lines.readline(_LONGEST_HEADER).removeprefix(
        "\ufeff"
    )  # Editors on Windows put a byte order mark at the start.
    try:
        header = json.loads(line)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise SessionException(f'line 1: not {{"format": "{_FORMAT}", …}}; this is a file of another format')
    version = header.get("version")
    if version != _VERSION:
        raise SessionException(
            f"line 1: version {version!r} of the format, of which only {_VERSION} is known; upgrade the package"
        )
