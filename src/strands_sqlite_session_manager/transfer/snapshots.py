"""Sessions between message logs and the SDK's `SnapshotSessionManager`, both ways."""

import asyncio
import json
import logging
from collections.abc import Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar, cast

from strands.session.repository_session_manager import RepositorySessionManager
from strands.session.session_repository import SessionRepository
from strands.types.content import Message
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from .._arguments import checked_id, checked_ids, now
from .._catalog import snapshots
from .._catalog.records import RecordCounts
from .._catalog.snapshot_changes import encode
from .._codec import encode_agent, message_row
from .._conversation import stored
from .._conversation.live_view import LiveView, add_tracking_ids
from .._engine.holder import DatabaseHolder, database_of
from .._engine.path import IN_MEMORY
from .._engine.schema import STASH_OF_SESSION
from .._errors import SessionConflictError, missing
from ..repository import SQLiteSessionRepository
from . import copies
from .merging import MergedLog
from .reports import counts
from .rows import SELECT_ONE, checked_timestamp, has_metadata, multi_agent_row
from .writer import RowWriter

if TYPE_CHECKING:
    from strands.storage.storage import Storage

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")
_SCHEMA_VERSION = "1.0"


@dataclass(frozen=True)
class ConversionReport:
    """What a conversion did.

    Attributes:
        converted: Number of records stored: messages are those that an agent has in a snapshot, and those of the log in
            the tables.
        already_there: Number of records that the target held already.
        left_out: What has no place on the other side, in words: "12 messages of agent a that it does not have any
            more", say.
    """

    converted: RecordCounts
    already_there: RecordCounts
    left_out: list[str]


def to_snapshots(
    source: SessionRepository,
    storage: "Storage",
    session_id: str,
    *,
    new_id: str | None = None,
    agent_ids: Iterable[str] | None = None,
    multi_agent_ids: Iterable[str] | None = None,
) -> ConversionReport:
    """Store a session as the latest snapshots of its agents, graphs and swarms.

    An agent that is built with a `SnapshotSessionManager` has the messages, state, interrupts and conversation manager
    that it has with the session manager of the source. What it does not have any more stays in the source alone.

    Args:
        source: Where to read: any Strands repository. It is left as it is.
        storage: Where to store: any Strands storage. As the SDK does, keys get the prefix `session/`, unless the
            storage is a view of a namespace.
        session_id: Id of the session.
        new_id: Id of the session of snapshots. Defaults to the same.
        agent_ids: Agents to convert. Defaults to all, where the source can tell: ours and `FileSessionManager`.
        multi_agent_ids: Graphs and swarms to convert. Defaults likewise.

    Returns:
        What was converted, and what has no place in a snapshot.

    Raises:
        SessionConflictError: If there is another snapshot, which is kept. What was stored before it stays.
        SessionException: If a record does not exist in the source, or cannot be read or stored.
        ValueError: If the snapshots would lie under the session's own id in its own database, the source cannot tell
            what there is, or an id cannot be one, with a slash in it for example.
    """
    source = copies.repository_of(source)
    new_id = checked_id("session_id", session_id) if new_id is None else checked_id("new_id", new_id)
    if new_id == session_id and _is_same_database(source, storage):
        raise ValueError(
            f"session_id={session_id!r}: in one database, an id is one session: name another storage, or a new_id"
        )
    copies.session_of(source, session_id)
    agents = copies.agents_in(source, session_id) if agent_ids is None else checked_ids("agent_ids", agent_ids)
    others = (
        copies.multi_agents_in(source, session_id)
        if multi_agent_ids is None
        else checked_ids("multi_agent_ids", multi_agent_ids)
    )
    snapshots.require_usable(new_id, [*agents, *others])
    writer = _SnapshotWriter(storage, new_id)
    left_out: list[str] = []
    for agent_id in agents:
        agent, messages, left = _restored(source, session_id, agent_id)
        data: dict[str, Any] = {"messages": messages, "state": agent.state}
        if agent.conversation_manager_state:
            data["conversation_manager_state"] = agent.conversation_manager_state
        data.update({key: item for key, item in agent._internal_state.items() if key in _INTERNAL})
        writer.write("agent", agent_id, data, agent.updated_at, len(messages))
        if left:
            left_out.append(f"{left} messages of agent {agent_id} that it does not have any more")
        # The SDK has no name for these in a snapshot.
        unknown = sorted(key for key, item in agent._internal_state.items() if item and key not in _INTERNAL)
        left_out += [f"{key} of agent {agent_id}" for key in unknown]
    for multi_agent_id in others:
        state = copies.multi_agent_of(source, session_id, multi_agent_id)
        data = {"orchestrator_id": multi_agent_id, "state": state}
        writer.write("multiAgent", multi_agent_id, data, now(), 0)
    if isinstance(source, SQLiteSessionRepository):
        left_out += _with_stash(source, session_id, writer)
        if has_metadata(source, session_id):
            left_out.append("the metadata of the session, or when it expires")
    logger.debug("session_id=<%s>, new_session_id=<%s> | converted session to snapshots", session_id, new_id)
    return ConversionReport(writer.converted(), writer.already_there(), left_out)


# Parts of an agent's internal state, which have the same names in a snapshot.
_INTERNAL = ("interrupt_state", "model_state")
# Parts of a snapshot that have a place in the tables, or are told of otherwise.
_PARTS = {"messages", "state", "conversation_manager_state", "system_prompt", "stash", *_INTERNAL}


def _is_same_database(source: SessionRepository, storage: object) -> bool:
    if not isinstance(source, SQLiteSessionRepository) or not isinstance(storage, DatabaseHolder):
        return False
    one, other = database_of(source), database_of(storage)
    # All those in memory have the same path.
    return one is other or one.path == other.path != IN_MEMORY


def _restored(source: SessionRepository, session_id: str, agent_id: str) -> tuple[SessionAgent, list[Message], int]:
    """Return an agent, the messages that it has when it is built, and how many the log has beside these."""
    agent = copies.agent_of(source, session_id, agent_id)
    log = [m for batch in copies.message_batches(source, session_id, agent_id) for m in batch]
    if isinstance(source, SQLiteSessionRepository):
        conversation = stored.read(database_of(source), session_id, agent_id)
        if conversation is None:
            raise missing("agents", session_id, agent_id)
        agent = conversation.agent
        if conversation.live is not None:
            shown_ids = set(conversation.live.ids)
            return agent, conversation.live.messages, sum(m.message_id not in shown_ids for m in log)
    # The SDK's rule: all messages but the first ones, behind what the conversation manager puts before them.
    state = agent.conversation_manager_state
    offset, summary = state.get("removed_message_count") or 0, state.get("summary_message")
    shown = [message.to_message() for message in log[offset:]]
    if isinstance(source, SQLiteSessionRepository):
        add_tracking_ids(shown, [message.message_id for message in log[offset:]], agent_id)
    messages = [cast(Message, summary), *shown] if isinstance(summary, dict) else shown
    # It uses nothing of the object.
    fixed = RepositorySessionManager._fix_broken_tool_use(cast(Any, None), messages)
    return agent, fixed, min(offset, len(log))


def _with_stash(source: SQLiteSessionRepository, session_id: str, writer: "_SnapshotWriter") -> list[str]:
    """Copy what the session's context managers have put aside, and tell what cannot be."""
    prefix = _stash_prefix(session_id)
    rows = database_of(source).query(
        f"""
        SELECT key, data FROM sessions CROSS JOIN storage ON {STASH_OF_SESSION}
        WHERE session_id = ? AND NOT EXISTS (SELECT 1 FROM expired_keys WHERE expired_key = key)
        ORDER BY key
        """,  # noqa: S608 (constants only)
        (session_id,),
    )
    if not rows:
        return []
    if writer.is_view:
        return [f"the stash of the session: {len(rows)} keys under {prefix}, which no view of a namespace can hold"]
    for key, data in rows:
        writer.write_stash(_stash_prefix(writer.session_id) + key[len(prefix) :], data)
    return []


def _stash_prefix(session_id: str) -> str:
    """Return what the keys of a session's stash begin with."""
    return f"context/{session_id}/scopes/agent/"


def _is_view(storage: "Storage") -> bool:
    """Tell whether a storage is a view of a namespace. As in the SDK, it is used as it is."""
    from strands.storage import storage as sdk

    return getattr(storage, "_namespaced", None) is sdk._NAMESPACED


class _SnapshotWriter:
    """Writes snapshots, and never over another one."""

    def __init__(self, storage: "Storage", session_id: str):
        self.session_id = session_id
        self._storage = storage
        self.is_view = _is_view(storage)
        self._done: dict[bool, list[tuple[str, int]]] = {True: [], False: []}

    def write(self, scope: snapshots.Scope, name: str, data: dict[str, Any], time: str, messages: int) -> None:
        """Store a latest snapshot, unless it is there.

        Raises:
            SessionConflictError: If there is another one.
            SessionException: If it cannot be stored.
        """
        content = {
            "scope": scope,
            "schema_version": _SCHEMA_VERSION,
            "created_at": time.replace("+00:00", "Z"),
            "data": data,
            "app_data": {},
        }
        key = snapshots.key_of(self.session_id, scope, name)
        try:
            encoded = encode(content)
        except (TypeError, ValueError, RecursionError) as error:
            raise SessionException(f"{key}: has no JSON form: {error}") from error
        key = key.removeprefix("session/") if self.is_view else key
        is_new = self._write_key(key, encoded)
        self._done[is_new].append((scope, messages))

    def write_stash(self, key: str, data: bytes) -> None:
        """Store what was put aside under a key, unless it is there."""
        self._done[self._write_key(key, data)].append(("stash", 0))

    def _write_key(self, key: str, data: bytes) -> bool:
        """Store a key, and return whether it was not there."""
        there = run(self._storage.read(key))
        if there is None:
            run(self._storage.write(key, data))
            return True
        if _without_time(there) != _without_time(data):
            raise SessionConflictError(
                f"{key}: the target holds something else, which is kept; to replace it, delete its session there first"
            )
        return False

    def converted(self) -> RecordCounts:
        """Return how many records were stored."""
        return self._counts(True)

    def already_there(self) -> RecordCounts:
        """Return how many records were there."""
        return self._counts(False)

    def _counts(self, is_new: bool) -> RecordCounts:
        scopes = [scope for scope, _ in self._done[is_new]]
        messages = sum(count for _, count in self._done[is_new])
        counts = (scopes.count(scope) for scope in ("multiAgent", "stash"))
        return RecordCounts(int(bool(scopes)), scopes.count("agent"), messages, *counts)


def _without_time(data: bytes) -> Any:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return data
    return {**content, "created_at": None} if isinstance(content, dict) else content


def run(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Run a storage's coroutine to its end, also for a caller in an event loop, which waits.

    Raises:
        SessionException: If the storage cannot do it.
    """
    from strands.types.exceptions import StorageError

    try:
        with ThreadPoolExecutor(1) as executor:
            return executor.submit(asyncio.run, work).result()
    except StorageError as error:
        raise SessionException(str(error)) from error


def from_snapshots(
    storage: "Storage", target: SQLiteSessionRepository, session_id: str, *, new_id: str | None = None
) -> ConversionReport:
    """Store a session of snapshots in the tables.

    An agent that is built with a `SQLiteSessionManager` has what its latest snapshot has; if there are only some of the
    past, what the newest of these has. Its log has, in addition, what the immutable snapshots tell of messages that it
    does not have any more. All have the time of the first snapshot that they are in. The stash goes along if it lies in
    the storage too, and from a database of ours, so do metadata and expiry.

    Args:
        storage: Where to read: any Strands storage. It is left as it is.
        target: Where to store.
        session_id: Id of the session.
        new_id: Id of the session in the tables. Defaults to the same.

    Returns:
        What was converted, and what has no place in the tables.

    Raises:
        SessionConflictError: If the target holds a different record, which it keeps. What was stored before it stays.
        SessionException: If the session does not exist, a snapshot is damaged, or something cannot be stored.
        ValueError: If the target is no session database, or an id cannot be one.
    """
    repository = copies.repository_of(target)
    if not isinstance(repository, SQLiteSessionRepository):
        raise ValueError(f"target={target!r}: must be a SQLiteSessionRepository; copy_session leads on from there")
    new_id = checked_id("session_id", session_id) if new_id is None else checked_id("new_id", new_id)
    found = snapshots_in(storage, session_id)
    session = Session(new_id, SessionType.AGENT, min(s.created_at for s in found), max(s.created_at for s in found))
    kept = _kept_of(storage, session_id)
    there = database_of(repository).query(SELECT_ONE["sessions"], (new_id,))
    is_new = repository.read_session(new_id) is None
    writer = RowWriter(repository)
    left_out: list[str] = []
    if not there:
        writer.add("sessions", (new_id, session.session_type, *kept, session.created_at, session.updated_at))
    elif is_new:  # One of snapshots, which keeps what it has.
        repository.create_session(session)
    if there and kept not in (("{}", None), there[0][2:4]):
        left_out.append("the metadata of the session, or when it expires, which the target has otherwise")
    for agent_id in sorted({s.name for s in found if s.scope == "agent"}):
        left_out += _add_agent(writer, new_id, storage, [s for s in found if (s.scope, s.name) == ("agent", agent_id)])
    for snapshot in found:
        if snapshot.scope == "multiAgent" and snapshot.snapshot_id is None:
            state = snapshots.decode(snapshot)["data"]["state"]
            time = datetime.fromisoformat(snapshot.created_at)
            writer.add("multi_agents", multi_agent_row(new_id, snapshot.name, state, time))
    left_out += _add_stash(writer, new_id, storage, session_id, found)
    writer.flush()
    logger.debug("session_id=<%s>, new_session_id=<%s> | converted session to messages", session_id, new_id)
    converted = replace(counts(writer.copied), sessions=int(is_new))
    return ConversionReport(converted, replace(counts(writer.already_there), sessions=int(not is_new)), left_out)


def _kept_of(storage: "Storage", session_id: str) -> tuple[Any, ...]:
    """Return metadata and expiry of a session of snapshots. Only in a database of ours, it can have some."""
    if isinstance(storage, DatabaseHolder) and not _is_view(storage):
        for row in database_of(storage).query(SELECT_ONE["sessions"], (session_id,)):
            return row[2:4]
    return ("{}", None)


def _add_stash(
    writer: RowWriter, new_id: str, storage: "Storage", session_id: str, found: list[snapshots.Snapshot]
) -> list[str]:
    """Add the keys of a session's stash to a writer, and return what is not in the storage of its snapshots."""
    prefix, with_stash, time = _stash_prefix(session_id), set(), now()
    for key in run(storage.list(prefix)):
        name = key[len(prefix) :]
        data = None if "/scopes/agent/" in name else run(storage.read(key))  # Of a session with a longer id.
        if data is not None:
            writer.add("storage", (_stash_prefix(new_id) + name, data, None, time, time))
            writer.flush_if_full()
            with_stash.add(name.split("/")[0])
    return [
        f"the stash of agent {snapshot.name}, which is not in the storage of the snapshots"
        for snapshot in found
        if snapshot.snapshot_id is None
        and snapshot.name not in with_stash
        and _stash_location(snapshots.decode(snapshot)["data"]) == "external"
    ]


def _stash_location(data: dict[str, Any]) -> Any:
    """Return where the data of a snapshot says that the stash of its agent is: "external" or "inline", or None."""
    return (data.get("stash") or {}).get("location")


def snapshots_in(storage: "Storage", session_id: str) -> list[snapshots.Snapshot]:
    """Return all snapshots of a session, those of an agent in the order of their time, the latest last.

    Those of the past come without their data, because hundreds may not fit into memory.

    Raises:
        SessionException: If there are none, or one is damaged.
    """
    if found := run(_read(storage, session_id)):
        return found
    raise missing("sessions", session_id, advice="the storage has no snapshots of it")


async def _read(storage: "Storage", session_id: str) -> list[snapshots.Snapshot]:
    start = "" if _is_view(storage) else "session/"
    found = []
    for key in await storage.list(f"{start}{session_id}/scopes/"):
        data = await storage.read(key)
        if data is None:
            continue
        full = key if start else f"session/{key}"
        for snapshot in snapshots.parsed([(full, "", "", data)]):
            time = _checked_time(snapshot)
            kept = data if snapshot.snapshot_id is None else b""
            found.append(snapshot._replace(created_at=time, updated_at=time, data=kept))
    # An id begins with its time.
    return sorted(found, key=lambda s: (s.scope, s.name, s.snapshot_id is None, s.snapshot_id or ""))


def _content(storage: "Storage", snapshot: snapshots.Snapshot) -> dict[str, Any]:
    """Return what is in a snapshot that `snapshots_in` has found."""
    if snapshot.snapshot_id is None:
        return snapshots.decode(snapshot)
    data = run(storage.read(snapshot.key.removeprefix("session/") if _is_view(storage) else snapshot.key))
    if data is None:
        raise SessionConflictError(f"{snapshot.key} was deleted meanwhile; its agent was not stored, so try again")
    return snapshots.decode(snapshot._replace(data=data))


def _checked_time(snapshot: snapshots.Snapshot) -> str:
    """Return when a snapshot was taken, if all parts of it that the tables have a place for are what they should be."""
    content = snapshots.decode(snapshot)
    data = content["data"]
    parts = {name: data.get(name) for name in ("state", "conversation_manager_state", "stash", *_INTERNAL)}
    try:
        for name, expected in (("scope", snapshot.scope), ("schema_version", _SCHEMA_VERSION)):
            if content.get(name, expected) != expected:
                raise ValueError(f"{name} is {content[name]!r}, not {expected!r}")
        for name, part in parts.items():
            # A graph or swarm is nothing but its state.
            if not isinstance(part, dict) and (part is not None or (snapshot.scope, name) == ("multiAgent", "state")):
                raise ValueError(f"{name} is no object")
        if not isinstance((parts["conversation_manager_state"] or {}).get("summary_message") or {}, dict):
            raise ValueError("summary_message is no object")
        if not isinstance(data.get("messages", []), list):
            raise ValueError("messages is no list")
        time = content.get("created_at") or now()
        return checked_timestamp("created_at", time).replace("Z", "+00:00")
    except ValueError as error:
        raise SessionException(f"{snapshot.key}: a damaged snapshot, or of a newer SDK: {error}") from error


def _add_agent(writer: RowWriter, session_id: str, storage: "Storage", found: list[snapshots.Snapshot]) -> list[str]:
    """Add the rows of an agent to a writer, and return what is left out."""
    log = MergedLog()
    has_app_data = False
    data: dict[str, Any] = {}
    for newest in found:
        content = _content(storage, newest)
        data = content["data"]
        has_app_data |= bool(content.get("app_data"))
        summary = (data.get("conversation_manager_state") or {}).get("summary_message")
        log.add(data.get("messages", []), summary, newest.created_at)
    key = (session_id, newest.name)
    numbers = range(len(log.messages))
    view = LiveView(log.messages, numbers, [None] * len(numbers)).of(data.get("messages", []))
    agent = SessionAgent(
        newest.name,
        data.get("state") or {},
        data.get("conversation_manager_state") or {},
        {name: data[name] for name in _INTERNAL if data.get(name) is not None},
        found[0].created_at,
        newest.created_at,
    )
    live_view = view.to_json(len(numbers) - 1 if numbers else None)
    writer.add("agents", (*key, *encode_agent(agent), live_view, agent.created_at, agent.updated_at))
    for number, (message, time) in enumerate(zip(log.messages, log.times, strict=True)):
        writer.add("messages", message_row(*key, SessionMessage(message, number, None, time, time)))
        writer.flush_if_full()
    left_out = [f"the system prompt of agent {newest.name}"] if data.get("system_prompt") else []
    if _stash_location(data) == "inline":
        left_out.append(f"the stash of agent {newest.name}, which is inside the snapshot")
    left_out += [f"{name} of agent {newest.name}" for name in sorted(data.keys() - _PARTS) if data[name]]
    if has_app_data:
        left_out.append(f"the app data of the snapshots of agent {newest.name}")
    return left_out
