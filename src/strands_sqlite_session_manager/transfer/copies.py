"""A session from one Strands repository to another."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, cast

from strands.session.file_session_manager import (
    AGENT_PREFIX,
    MULTI_AGENT_PREFIX,
    FileSessionManager,
)
from strands.session.repository_session_manager import RepositorySessionManager
from strands.session.session_repository import SessionRepository
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage

from .._arguments import checked_ids
from .._catalog.records import RecordCounts
from .._codec import encode, message_row
from .._conversation.live_view import nearest_offset
from .._errors import missing, record_name
from ..repository import SQLiteSessionRepository
from . import rows
from .reports import Progress, conflict, counts
from .rows import Record, Row, agent_row, multi_agent_row, named, session_row
from .session_files import directory_ids, session_path
from .writer import RowWriter

if TYPE_CHECKING:
    from strands.multiagent.base import MultiAgentBase

logger = logging.getLogger(__name__)

# Messages that are asked for at once.
_BATCH = 500


@dataclass(frozen=True)
class CopyResult:
    """What a copy did.

    Attributes:
        copied: Number of records stored.
        already_there: Number of records that the target held already.
        inexact: Agents that the target restores with other messages than the source: it can only leave out the first
            ones, but a message was pinned, edited or summarised.
    """

    copied: RecordCounts
    already_there: RecordCounts
    inexact: list[str] = field(default_factory=list)


def copy_session(
    source: SessionRepository,
    target: SessionRepository,
    session_id: str,
    *,
    agent_ids: Iterable[str] | None = None,
    multi_agent_ids: Iterable[str] | None = None,
    progress: Progress | None = None,
) -> CopyResult:
    """Copy a session, a batch at a time, so that any size fits into memory.

    Into a session database, up to 1,000 records (and 16 MiB) go at once, completely or not at all; other targets take
    one record after the other.

    Args:
        source: Where to read: any Strands repository.
        target: Where to store: any Strands repository. A manager of this very session has created it already, with the
            present time, which is kept; a repository, or a manager of another session, gives it the source's.
        session_id: Id of the session.
        agent_ids: Agents to copy. Defaults to all, where the source can tell: ours and `FileSessionManager`.
        multi_agent_ids: Graphs and swarms whose state to copy. Defaults likewise.
        progress: Called now and then with how many messages are done, and how many the source says that there are (0 if
            it does not).

    Returns:
        Numbers of records that were copied and that were there already.

    Raises:
        SessionConflictError: If the target holds a different record, which it keeps. What was copied before it stays.
        SessionException: If a record does not exist in the source, cannot be read, or cannot be stored.
        ValueError: If the source cannot tell which agents or multi-agents there are, or an id cannot be one.
    """
    source, target = repository_of(source), repository_of(target)
    agents = agents_in(source, session_id) if agent_ids is None else checked_ids("agent_ids", agent_ids)
    multi_agents = (
        multi_agents_in(source, session_id)
        if multi_agent_ids is None
        else checked_ids("multi_agent_ids", multi_agent_ids)
    )
    tell = _teller(source, session_id, progress)
    if not isinstance(target, SQLiteSessionRepository):
        copier = _RecordCopier(source, target, session_id, tell)
        copier.copy(agents, multi_agents)
        copied, already_there, inexact = copier.copied, copier.already_there, copier.inexact
    else:
        inexact = []
        writer = RowWriter(target)
        for table, row in _source_rows(source, session_id, agents, multi_agents):
            writer.add(table, row)
            writer.flush_if_full()
            tell(table == "messages")
        writer.flush()
        copied, already_there = writer.copied, writer.already_there
    logger.debug("session_id=<%s> | copied session", session_id)
    return CopyResult(counts(copied), counts(already_there), inexact)


def _teller(source: SessionRepository, session_id: str, progress: Progress | None) -> Callable[[int], object]:
    """Return what is to be called with each number of messages that are done."""
    if progress is None:
        return lambda _: None
    total = rows.message_count(source, session_id) if isinstance(source, SQLiteSessionRepository) else 0
    done = 0

    def tell(count: int) -> None:
        nonlocal done
        before, done = done, done + count
        if done // _BATCH > before // _BATCH or (done > before and done == total):
            progress(done, total)

    return tell


def repository_of(store: SessionRepository) -> SessionRepository:
    """Return what a session manager that offers the repository's methods stores in: itself, or its repository."""
    return store.session_repository if isinstance(store, RepositorySessionManager) else store


def agents_in(source: SessionRepository, session_id: str) -> list[str]:
    """Return the ids of a session's agents.

    Raises:
        ValueError: If the source cannot tell.
    """
    if isinstance(source, SQLiteSessionRepository):
        return rows.agent_ids(source, session_id)
    if isinstance(source, FileSessionManager):
        return directory_ids(session_path(source.storage_dir, session_id) / "agents", AGENT_PREFIX)
    raise ValueError(f"{type(source).__name__} does not list its agents: name them in agent_ids")


def multi_agents_in(source: SessionRepository, session_id: str) -> list[str]:
    """Return the ids of a session's graphs and swarms.

    Raises:
        ValueError: If the source cannot tell.
    """
    if isinstance(source, SQLiteSessionRepository):
        return rows.multi_agent_ids(source, session_id)
    if isinstance(source, FileSessionManager):
        return directory_ids(session_path(source.storage_dir, session_id) / "multi_agents", MULTI_AGENT_PREFIX)
    raise ValueError(
        f"{type(source).__name__} does not list its graphs and swarms: name them in multi_agent_ids, [] for none"
    )


def session_of(source: SessionRepository, session_id: str) -> Session:
    """Return a session.

    Raises:
        SessionException: If it does not exist.
    """
    session = source.read_session(session_id)
    if session is None and isinstance(source, SQLiteSessionRepository) and rows.exists(source, session_id):
        raise SessionException(
            f"Session {session_id} is one of snapshots, not of messages; `strands-sqlite convert --to messages`, or "
            "from_snapshots, makes it one of these"
        )
    if session is None:
        raise missing("sessions", session_id)
    return named("session_id", session_id, session)


def agent_of(source: SessionRepository, session_id: str, agent_id: str) -> SessionAgent:
    """Return an agent.

    Raises:
        SessionException: If it does not exist.
    """
    agent = source.read_agent(session_id, agent_id)
    if agent is None:
        raise missing("agents", session_id, agent_id)
    return named("agent_id", agent_id, agent)


def multi_agent_of(source: SessionRepository, session_id: str, multi_agent_id: str) -> dict[str, Any]:
    """Return the state of a graph or swarm.

    Raises:
        SessionException: If it does not exist.
    """
    state = source.read_multi_agent(session_id, multi_agent_id)
    if state is None:
        raise missing("multi_agents", session_id, multi_agent_id)
    return state


def message_batches(source: SessionRepository, session_id: str, agent_id: str) -> Iterator[list[SessionMessage]]:
    """Yield the messages of an agent, some at a time."""
    offset = 0
    while messages := source.list_messages(session_id, agent_id, limit=_BATCH, offset=offset):
        yield messages
        offset += len(messages)


def _source_rows(
    source: SessionRepository, session_id: str, agent_ids: list[str], multi_agent_ids: list[str]
) -> Iterator[tuple[str, Row]]:
    """Yield the rows of a session, or those that its records would be."""
    if isinstance(source, SQLiteSessionRepository):
        # As they are, with what the contract has no place for.
        if not rows.exists(source, session_id):
            raise missing("sessions", session_id)
        for agent_id in sorted(set(agent_ids) - set(rows.agent_ids(source, session_id))):
            raise missing("agents", session_id, agent_id)
        for multi_agent_id in sorted(set(multi_agent_ids) - set(rows.multi_agent_ids(source, session_id))):
            raise missing("multi_agents", session_id, multi_agent_id)
        yield from rows.read_rows(source, session_id, agent_ids, multi_agent_ids)
        return
    yield "sessions", session_row(session_of(source, session_id))
    for agent_id in agent_ids:
        yield "agents", agent_row(session_id, agent_of(source, session_id, agent_id))
        for messages in message_batches(source, session_id, agent_id):
            for message in messages:
                yield "messages", message_row(session_id, agent_id, message)
    for multi_agent_id in multi_agent_ids:
        state = multi_agent_of(source, session_id, multi_agent_id)
        yield "multi_agents", multi_agent_row(session_id, multi_agent_id, state, datetime.now(timezone.utc))


class _MultiAgentState:
    """What a repository needs of a graph or swarm: an id and a state."""

    def __init__(self, multi_agent_id: str, state: dict[str, Any]):
        self.id = multi_agent_id
        self._state = state

    def serialize_state(self) -> dict[str, Any]:
        return self._state


class _RecordCopier:
    """Copies with nothing but the methods that all repositories have."""

    def __init__(
        self, source: SessionRepository, target: SessionRepository, session_id: str, tell: Callable[[int], object]
    ):
        self._tell = tell
        self._source = source
        self._target = target
        self._session_id = session_id
        self.copied: Counter[str] = Counter()
        self.already_there: Counter[str] = Counter()
        self.inexact: list[str] = []

    def copy(self, agent_ids: list[str], multi_agent_ids: list[str]) -> None:
        session = session_of(self._source, self._session_id)
        stored = self._target.read_session(self._session_id)
        is_same = _is_same(session, stored, session_row)
        self._store("sessions", (self._session_id,), is_same, lambda: self._target.create_session(session))
        for agent_id in agent_ids:
            self._copy_agent(agent_id)
        for multi_agent_id in multi_agent_ids:
            self._copy_multi_agent(multi_agent_id)

    def _copy_agent(self, agent_id: str) -> None:
        session_id = self._session_id
        agent = self._with_nearest_offset(agent_of(self._source, session_id, agent_id))
        is_same = _is_same(agent, self._target.read_agent(session_id, agent_id), lambda a: agent_row(session_id, a))
        self._store("agents", (session_id, agent_id), is_same, lambda: self._target.create_agent(session_id, agent))
        offset, has_more = 0, True
        for messages in message_batches(self._source, session_id, agent_id):
            # Compared by position, since an interrupted copy has left the first of them.
            stored: list[SessionMessage] = []
            if has_more:
                stored = self._target.list_messages(session_id, agent_id, limit=len(messages), offset=offset)
                has_more = len(stored) == len(messages)
            for message, other in zip_longest(messages, stored):
                self._copy_message(agent_id, message, other)
            offset += len(messages)
            self._tell(len(messages))

    def _with_nearest_offset(self, agent: SessionAgent) -> SessionAgent:
        """Return an agent with what comes closest to its live view in the terms of other repositories."""
        if not isinstance(self._source, SQLiteSessionRepository):
            return agent
        items = rows.live_view(self._source, self._session_id, agent.agent_id)
        state = agent.conversation_manager_state
        if items is None:
            return agent
        last_id = rows.last_id(self._source, self._session_id, agent.agent_id)
        summary = state.get("summary_message")
        first, is_exact = nearest_offset(items, last_id, summary)
        if summary is not None and not is_exact:
            # Without the summary, which the agent does not have any more.
            is_exact = nearest_offset(items, last_id, None)[1]
            state = {**state, "summary_message": None} if is_exact else state
        if "removed_message_count" not in state:
            # A conversation manager that does not count leaves out nothing.
            if not is_exact or first > 0:
                self.inexact.append(agent.agent_id)
            return agent
        if not is_exact:
            self.inexact.append(agent.agent_id)
        offset = rows.count_before(self._source, self._session_id, agent.agent_id, first)
        return replace(agent, conversation_manager_state={**state, "removed_message_count": offset})

    def _copy_message(self, agent_id: str, message: SessionMessage, stored: SessionMessage | None) -> None:
        session_id = self._session_id
        self._store(
            "messages",
            (session_id, agent_id, message.message_id),
            _is_same(message, stored, lambda m: message_row(session_id, agent_id, m)),
            lambda: self._target.create_message(session_id, agent_id, message),
        )

    def _copy_multi_agent(self, multi_agent_id: str) -> None:
        session_id = self._session_id
        state = multi_agent_of(self._source, session_id, multi_agent_id)
        stored = self._target.read_multi_agent(session_id, multi_agent_id)
        is_same = None if stored is None else stored == state or encode(stored, "state") == encode(state, "state")
        multi_agent = cast("MultiAgentBase", _MultiAgentState(multi_agent_id, state))
        self._store(
            "multi_agents",
            (session_id, multi_agent_id),
            is_same,
            lambda: self._target.create_multi_agent(session_id, multi_agent),
        )

    def _store(self, table: str, key: Row, is_same: bool | None, create: Callable[[], object]) -> None:
        """Create a record, unless the target holds it."""
        if is_same is None:
            try:
                create()
            except RecursionError as error:
                raise SessionException(f"{record_name(table, *key)}: nested too deeply for the target") from error
            self.copied[table] += 1
        elif is_same:
            self.already_there[table] += 1
        else:
            raise conflict(table, key)


def _is_same(record: Record, stored: Record | None, to_row: Callable[[Record], Row]) -> bool | None:
    """Tell whether a target holds a record as it is, but for its times; None if it holds none."""
    if stored is None:
        return None
    stored = replace(stored, created_at=record.created_at, updated_at=record.updated_at)
    # NaN is not equal to itself, and a tuple not to the list that it is stored as; their rows are.
    return stored == record or to_row(stored) == to_row(record)
