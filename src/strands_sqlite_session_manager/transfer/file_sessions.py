"""Sessions of Strands' `FileSessionManager`, in and out."""

import contextlib
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from strands.session.file_session_manager import (
    AGENT_PREFIX,
    MULTI_AGENT_PREFIX,
    SESSION_PREFIX,
    FileSessionManager,
)
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage

from .._arguments import checked_ids
from .._catalog.records import RecordCounts
from .._codec import message_row
from .._engine.path import make_private_directory
from .._errors import SessionConflictError
from ..repository import SQLiteSessionRepository
from .copies import CopyResult, copy_session
from .reports import ImportReport, Progress, Skipped, counts, with_progress
from .rows import (
    Record,
    Row,
    agent_row,
    checked_repository,
    checked_timestamp,
    has_metadata,
    multi_agent_row,
    named,
    session_row,
)
from .rows import session_ids as all_session_ids
from .session_files import UnreadableError, directory_ids, message_paths, read_json, refuse_link, session_path
from .writer import RowWriter

logger = logging.getLogger(__name__)

# What early SDKs did not write, and the SDK fills in.
_OPTIONAL_FIELDS = {"_internal_state", "redact_message"}


@dataclass(frozen=True)
class ExportReport:
    """What an export did.

    Attributes:
        session_ids: Sessions written.
        copied: Number of records written.
        skipped: Sessions left out, and why.
        without_metadata: Sessions written without their metadata, or the time at which they expire, for which such
            files have no place.
        inexact: Sessions with an agent that `FileSessionManager` restores with other messages than it had, see
            `CopyResult`.
    """

    session_ids: list[str]
    copied: RecordCounts
    skipped: list[Skipped]
    without_metadata: list[str]
    inexact: list[str]


def import_file_sessions(
    storage_dir: str | os.PathLike[str],
    target: SQLiteSessionRepository,
    *,
    session_ids: Iterable[str] | None = None,
    progress: Progress | None = None,
) -> ImportReport:
    """Store the sessions of a directory of Strands' `FileSessionManager`.

    Each agent is stored with all of its messages or, when one of its files is damaged, not at all; the rest of its
    session is stored. Correct the file and run the import again, which stores what is new. An agent is held in memory
    as a whole, as it is when the SDK restores it. Symbolic links below `storage_dir` are not followed.

    A session keeps the `updated_at` of its file, so that an export has the same bytes. `FileSessionManager` leaves that
    at the time of the session's creation; the next message here moves it on.

    Args:
        storage_dir: The `storage_dir` of the `FileSessionManager`. Nothing in it is changed.
        target: Where to store.
        session_ids: Sessions to import. Defaults to all.
        progress: Called with how many sessions are done, and how many there are.

    Returns:
        What was stored, and what was skipped: files that cannot be read, with all that needs them; what the database
        holds differently, which it keeps; and fields that it has no place for.

    Raises:
        SessionException: If there is no such directory, or the database cannot be used.
        ValueError: If an id cannot be one.
    """
    checked_repository("target", target)
    chosen = None if session_ids is None else checked_ids("session_ids", session_ids)
    directory = Path(storage_dir)
    if not directory.is_dir():
        raise SessionException(f"{directory}: no such directory")
    file_import = _FileImport(target)
    found = dict.fromkeys(directory_ids(directory, SESSION_PREFIX))
    for session_id in with_progress(list(found) if chosen is None else chosen, target, progress):
        if session_id in found:
            file_import.import_session(session_path(directory, session_id), session_id)
        else:
            file_import.skipped.append(Skipped(session_id, f"no such session in {directory}"))
    return file_import.report()


class _FileImport:
    """The state of an import between two files."""

    def __init__(self, target: SQLiteSessionRepository):
        self._writer = RowWriter(target)
        self._session_ids: list[str] = []
        self.skipped: list[Skipped] = []

    def report(self) -> ImportReport:
        writer = self._writer
        return ImportReport(self._session_ids, counts(writer.copied), counts(writer.already_there), self.skipped)

    def import_session(self, path: Path, session_id: str) -> None:
        copied_before = sum(self._writer.copied.values())
        with self._skipping(path):
            refuse_link(path)
            self._add([self._session(path / "session.json", session_id)])
            refuse_link(path / "agents")
            for agent_id in directory_ids(path / "agents", AGENT_PREFIX):
                agent_path = path / "agents" / f"{AGENT_PREFIX}{agent_id}"
                with self._skipping(agent_path):
                    refuse_link(agent_path)
                    self._add([*self._agent(agent_path, session_id, agent_id)])
            refuse_link(path / "multi_agents")
            for multi_agent_id in directory_ids(path / "multi_agents", MULTI_AGENT_PREFIX):
                multi_agent_path = path / "multi_agents" / f"{MULTI_AGENT_PREFIX}{multi_agent_id}" / "multi_agent.json"
                with self._skipping(multi_agent_path):
                    refuse_link(multi_agent_path.parent)
                    self._add([self._multi_agent(multi_agent_path, session_id, multi_agent_id)])
        if sum(self._writer.copied.values()) > copied_before:
            self._session_ids.append(session_id)
            logger.debug("session_id=<%s> | imported session", session_id)

    @contextlib.contextmanager
    def _skipping(self, path: Path) -> Iterator[None]:
        """Report what cannot be read, or is not as the database holds it, and go on."""
        try:
            yield
        except UnreadableError as error:
            self.skipped.append(Skipped(str(error.path), error.reason))
        except SessionConflictError as error:
            self._writer.discard()
            self.skipped.append(Skipped(str(path), str(error)))

    def _add(self, rows: list[tuple[str, Row]]) -> None:
        """Store rows at once."""
        for table, row in rows:
            self._writer.add(table, row)
        self._writer.flush()

    def _session(self, path: Path, session_id: str) -> tuple[str, Row]:
        def row(data: dict[str, Any]) -> Row:
            return session_row(named("session_id", session_id, self._record(Session, data, path)))

        return "sessions", read_json(path, row)

    def _agent(self, path: Path, session_id: str, agent_id: str) -> Iterator[tuple[str, Row]]:
        agent_path = path / "agent.json"

        def row(data: dict[str, Any]) -> Row:
            return agent_row(session_id, named("agent_id", agent_id, self._record(SessionAgent, data, agent_path)))

        yield "agents", read_json(agent_path, row)
        for message_id, message_path in message_paths(path / "messages"):
            yield "messages", self._message(message_path, session_id, agent_id, message_id)

    def _message(self, path: Path, session_id: str, agent_id: str, message_id: int) -> Row:
        def row(data: dict[str, Any]) -> Row:
            message = named("message_id", message_id, self._record(SessionMessage, data, path))
            return message_row(session_id, agent_id, message)

        return read_json(path, row)

    def _multi_agent(self, path: Path, session_id: str, multi_agent_id: str) -> tuple[str, Row]:
        def row(state: dict[str, Any]) -> Row:
            written = datetime.fromtimestamp(path.stat().st_mtime, timezone.utc)
            return multi_agent_row(session_id, multi_agent_id, state, written)

        return "multi_agents", read_json(path, row)

    def _record(self, record_type: type[Record], data: dict[str, Any], path: Path) -> Record:
        """Return the record of a file, after reporting what it cannot hold."""
        names = {field.name for field in fields(record_type)}
        for name in sorted(names - data.keys() - _OPTIONAL_FIELDS):
            # Of times, the SDK would make up the present ones.
            raise ValueError(f"no {name} in it")
        record = record_type.from_dict(data)
        for name in ("created_at", "updated_at"):
            checked_timestamp(name, getattr(record, name))
        for name in data.keys() - names:
            reason = f"the SDK that is installed does not know the field {name!r}; the rest of the file was read"
            self.skipped.append(Skipped(str(path), reason))
        return record


def export_file_sessions(
    source: SQLiteSessionRepository,
    storage_dir: str | os.PathLike[str],
    *,
    session_ids: Iterable[str] | None = None,
    progress: Progress | None = None,
) -> ExportReport:
    """Write sessions into a directory of Strands' `FileSessionManager`.

    The SDK's own manager writes them, into a directory beside, which then takes its place: a session appears whole.
    Only its owner may read it. Such files have no place for a session's metadata and expiry, which is reported.

    Args:
        source: Where to read.
        storage_dir: The `storage_dir` of the `FileSessionManager`. It is created if it does not exist.
        session_ids: Sessions to export. Defaults to all.
        progress: Called with how many sessions are done, and how many there are.

    Returns:
        What was written, and what was skipped: sessions that the directory holds already, and those that files cannot
        hold, because of a "/" in an id, say.

    Raises:
        SessionException: If the directory cannot be created.
        ValueError: If an id cannot be one.
    """
    checked_repository("source", source)
    chosen = all_session_ids(source) if session_ids is None else checked_ids("session_ids", session_ids)
    try:
        make_private_directory(Path(storage_dir))
    except OSError as error:
        raise SessionException(f"{storage_dir}: cannot be created: {error.strerror}") from error
    exported, copied, skipped, without_metadata, inexact = [], Counter[str](), [], [], []
    for session_id in with_progress(chosen, source, progress):
        try:
            result = _export_session(source, session_id, storage_dir)
        except (SessionException, OSError, ValueError, TypeError) as error:
            # TypeError: bytes where the SDK's files have none, in the state of a graph or swarm.
            skipped.append(Skipped(session_id, str(error)))
            continue
        exported.append(session_id)
        if has_metadata(source, session_id):
            without_metadata.append(session_id)
        if result.inexact:
            inexact.append(session_id)
        copied.update(asdict(result.copied))
        logger.debug("session_id=<%s> | exported session", session_id)
    return ExportReport(exported, counts(copied), skipped, without_metadata, inexact)


def _export_session(
    source: SQLiteSessionRepository, session_id: str, storage_dir: str | os.PathLike[str]
) -> CopyResult:
    final = session_path(storage_dir, session_id)
    if os.path.lexists(final):
        raise SessionException(f"{final} exists already; move it away, or export to another directory")
    with tempfile.TemporaryDirectory(prefix=".strands_export_", dir=storage_dir) as temporary:
        files = FileSessionManager("any", storage_dir=temporary)
        # A session manager creates its session, with the present time.
        files.delete_session("any")
        result = copy_session(source, files, session_id)
        written = session_path(temporary, session_id)
        _make_private(written)
        # Fails if another process has put a session there.
        written.rename(final)
    return result


def _make_private(directory: Path) -> None:
    """Let only the owner read what is below a directory. Old SDKs let everybody, and the directory above may too."""
    for path in (directory, *directory.rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
