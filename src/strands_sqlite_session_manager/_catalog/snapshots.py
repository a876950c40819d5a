"""Snapshots of the SDK's `SnapshotSessionManager`: where they lie in `storage`, and what is in them.

The layout is the SDK's own, the same in its TypeScript SDK:

```
session/<session_id>/scopes/agent/<agent_id>/snapshots/snapshot_latest.json
session/<session_id>/scopes/agent/<agent_id>/snapshots/immutable_history/snapshot_<snapshot_id>.json
session/<session_id>/scopes/multiAgent/<multi_agent_id>/snapshots/snapshot_latest.json
```

Triggers keep a row of `sessions` for each such session, of the type SNAPSHOT. Where an agent is both in the tables and
in snapshots, because its session was converted, the catalog shows the tables.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple, cast

from strands.types.content import Message
from strands.types.exceptions import SessionException
from strands.types.session import decode_bytes_values

from .._arguments import BEGINS_WITH
from .._engine.database import Database, Statement
from .._engine.schema import SNAPSHOTS_OF_SESSION
from .records import AgentDescription, AgentSummary, HistoryMessage, Usage

SESSION_TYPE = "SNAPSHOT"

Scope = Literal["agent", "multiAgent"]

_KEY = re.compile(
    r"session/(?P<session_id>.+?)/scopes/(?P<scope>agent|multiAgent)/(?P<name>[^/]+)/snapshots/"
    r"(?:snapshot_latest|immutable_history/snapshot_(?P<snapshot_id>[\w-]+))\.json",
    re.DOTALL,
)
LATEST = "/snapshots/snapshot_latest.json"
# A condition on `storage`.
IS_LATEST = f"substr(key, -{len(LATEST)}) = '{LATEST}'"
# Of a row of `storage`: none if it is not the latest snapshot of an agent, or one that is damaged. In order of price.
MESSAGE_COUNT = f"""
    CASE
        WHEN NOT {IS_LATEST} OR NOT instr(key, '/scopes/agent/') OR NOT json_valid(CAST(data AS TEXT)) THEN 0
        ELSE coalesce(json_array_length(CAST(data AS TEXT), '$.data.messages'), 0)
    END
    """


def _not_in(table: str, column: str, scope: Scope) -> str:
    part = f"/scopes/{scope}/"
    before = f"length(sessions.session_id) + {len(f'session/{part}')}"
    return f"""
    NOT EXISTS (
        SELECT 1 FROM {table}
        WHERE {table}.session_id = sessions.session_id
            AND {column} = substr(key, {before} + 1, length(key) - ({before}) - {len(LATEST)})
            AND substr(key, length(sessions.session_id) + 9, {len(part)}) = '{part}'
    )
    """  # noqa: S608 (constants only, as below)


# Within a query of `sessions`, a condition on latest snapshots: not of what is in the tables too.
NOT_IN_TABLES = f"""
    {_not_in("agents", "agent_id", "agent")} AND {_not_in("multi_agents", "multi_agent_id", "multiAgent")}
    """
BEGINS_WITH_KEY = BEGINS_WITH.format(column="key")
SELECT_ROW = "SELECT key, created_at, updated_at, data FROM storage"
# Blobs that are read at once.
_PAGE = 50


class Snapshot(NamedTuple):
    """A row of `storage` that is a snapshot.

    Attributes:
        key: Its key.
        session_id: Id of its session.
        scope: "agent", or "multiAgent" for a graph or swarm.
        name: Id of the agent, graph or swarm.
        snapshot_id: Its id; None of the latest one.
        created_at: When the key was first written.
        updated_at: When it was last written.
        data: Its bytes.
    """

    key: str
    session_id: str
    scope: str
    name: str
    snapshot_id: str | None
    created_at: str
    updated_at: str
    data: bytes


def prefix_of(session_id: str, scope: Scope | None = None, name: str | None = None) -> str:
    """Return what the keys of a session begin with, or of an agent, graph or swarm of it."""
    return f"session/{session_id}/scopes/" + (f"{scope}/{name}/" if scope else "")


def key_of(session_id: str, scope: Scope, name: str, snapshot_id: str | None = None) -> str:
    """Return the key of a snapshot; without an id, of the latest."""
    file = "snapshot_latest" if snapshot_id is None else f"immutable_history/snapshot_{snapshot_id}"
    return f"{prefix_of(session_id, scope, name)}snapshots/{file}.json"


def read(
    database: Database, session_id: str, scope: Scope, name: str, snapshot_id: str | None = None
) -> Snapshot | None:
    """Read a snapshot; without an id, the latest."""
    return next(under(database, key_of(session_id, scope, name, snapshot_id)), None)


def under(database: Database, key: str) -> Iterator[Snapshot]:
    """Yield the snapshot under a key, if there is one."""
    select = f"{SELECT_ROW} WHERE key = ? AND NOT EXISTS (SELECT 1 FROM expired_keys WHERE expired_key = key)"  # noqa: S608
    yield from parsed(database.query(select, (key,)))


def latest(database: Database, session_id: str | None = None) -> Iterator[Snapshot]:
    """Yield the latest snapshots of a session, or of all, in the order of their keys."""
    prefix = "session/" if session_id is None else prefix_of(session_id)
    last = ""
    while rows := database.query(
        f"""
        {SELECT_ROW} WHERE {BEGINS_WITH_KEY} AND key > ? AND {IS_LATEST}
            AND NOT EXISTS (SELECT 1 FROM expired_keys WHERE expired_key = key)
        ORDER BY key LIMIT {_PAGE}
        """,  # noqa: S608
        (prefix, prefix, last),
    ):
        yield from parsed(rows)
        last = rows[-1][0]


def names(database: Database, session_id: str, scope: Scope) -> list[str]:
    """Return the ids of the agents, or of the graphs and swarms, of which there is a snapshot, in their order."""
    prefix = f"{prefix_of(session_id)}{scope}/"
    select = f"""
        SELECT key FROM storage
        WHERE {BEGINS_WITH_KEY} AND NOT EXISTS (SELECT 1 FROM expired_keys WHERE expired_key = key)
        """  # noqa: S608
    found: set[str] = set()
    for (key,) in database.query(select, (prefix, prefix)):
        name = key[len(prefix) :].partition("/")[0]
        # Of the many keys of one, the first is enough.
        if name not in found and _KEY.fullmatch(key):
            found.add(name)
    return sorted(found)


def require_usable(session_id: str, names: Iterable[str] = ()) -> None:
    """Make sure that the SDK can build something with snapshots under these ids.

    Raises:
        ValueError: If it takes one of them for none.
    """
    refused = [name for name in (session_id, *names) if name == ".." or "/" in name or "\\" in name]
    if not session_id.strip() or session_id == ".":
        refused.append(session_id)
    if refused:
        raise ValueError(
            f"{refused[0]!r}: the SDK takes no such id for snapshots, so nothing could be built with them; give the "
            "session another id, or leave the agent, graph or swarm out"
        )


def require_usable_for(database: Database, source: str, new: str) -> None:
    """Make sure that the snapshots of a session, if it has any, can have another session id.

    Raises:
        ValueError: If the SDK takes it for none.
    """
    prefix = prefix_of(source)
    if database.query(f"SELECT 1 FROM storage WHERE {BEGINS_WITH_KEY} LIMIT 1", (prefix, prefix)):  # noqa: S608
        require_usable(new)


def parsed(rows: Iterable[tuple[Any, ...]]) -> Iterator[Snapshot]:
    for key, created_at, updated_at, data in rows:
        match = _KEY.fullmatch(key)
        if match is not None:
            session_id, scope, name, snapshot_id = match.groups()
            yield Snapshot(key, session_id, scope, name, snapshot_id, created_at, updated_at, data)


def decode(snapshot: Snapshot) -> dict[str, Any]:
    """Return what is in a snapshot.

    Raises:
        SessionException: If it is damaged.
    """
    try:
        content = decode_bytes_values(json.loads(snapshot.data))
        if not isinstance(content["data"], dict) or not isinstance(content.get("app_data", {}), dict):
            raise TypeError("data and app_data are no objects")
        states = (content["data"].get(name) or {} for name in ("state", "conversation_manager_state"))
        if not all(isinstance(state, dict) for state in states):
            raise TypeError("a state is no object")
        messages = content["data"].get("messages", [])
        if not all(isinstance(message["content"], list) and message["role"] for message in messages):
            raise TypeError("a message has no content")
    except (ValueError, TypeError, LookupError, RecursionError, AttributeError) as error:
        raise SessionException(f"storage {snapshot.key!r}: a damaged snapshot in the database: {error!r}") from error
    return dict(content)


def messages_of(snapshot: Snapshot) -> list[Any]:
    """Return the messages of a snapshot of an agent.

    Raises:
        SessionException: If it is damaged.
    """
    return list(decode(snapshot)["data"].get("messages", []))


def readable_messages(snapshot: Snapshot) -> list[Any]:
    """Return the messages of a snapshot; none if it is damaged, so that one takes no others with it."""
    try:
        return messages_of(snapshot)
    except SessionException:
        return []


def in_tables(database: Database, session_ids: Iterable[str] | None = None) -> set[tuple[str, str]]:
    """Return session id and agent id of the agents that are in the tables too, which count there.

    Args:
        database: Database to look at.
        session_ids: Ids of the sessions to look at. Defaults to all.
    """
    # Two statements in one would keep SQLite from its index.
    of_sessions = "session_id IN (SELECT value FROM json_each(?))"
    rows = database.query(
        f"""
        SELECT session_id, agent_id FROM agents
        WHERE {"TRUE" if session_ids is None else of_sessions} AND EXISTS (
            SELECT 1 FROM storage
            WHERE key = 'session/' || session_id || '/scopes/agent/' || agent_id || '/snapshots/snapshot_latest.json'
        )
        """,  # noqa: S608 (constants only)
        () if session_ids is None else (json.dumps(list(session_ids)),),
    )
    return set(rows)


def of_agents(database: Database, session_id: str | None = None) -> Iterator[Snapshot]:
    """Yield the latest snapshots of agents that are not in the tables: of a session, or of all."""
    others = None
    for snapshot in latest(database, session_id):
        # Asked when it is known that there are any.
        others = in_tables(database, session_id and [session_id]) if others is None else others
        if snapshot.scope == "agent" and (snapshot.session_id, snapshot.name) not in others:
            yield snapshot


def counts(database: Database, session_ids: Iterable[str]) -> tuple[int, int, int]:
    """Return how many agents, messages, and graphs and swarms of some sessions are in latest snapshots alone."""
    found = _latest_of(database, session_ids, NOT_IN_TABLES)
    agents = [count for match, count, _ in found if match["scope"] == "agent"]
    return len(agents), sum(agents), len(found) - len(agents)


def agent_summaries(database: Database, session_id: str) -> list[AgentSummary]:
    """Return what snapshots tell of the agents of a session, of which those count that are not in the tables too."""
    summaries = {}
    for snapshot in of_agents(database, session_id):
        try:
            count, damage = len(messages_of(snapshot)), None
        except SessionException as error:
            count, damage = 0, str(error)
        times = (snapshot.created_at, snapshot.updated_at, snapshot.updated_at if count else None)
        summaries[snapshot.name] = AgentSummary(snapshot.name, count, *times, damage)
    for name in names(database, session_id, "agent"):
        if name not in summaries:
            # Where only the past is left, an agent that is built has no messages.
            prefix = prefix_of(session_id, "agent", name)
            select = f"SELECT min(created_at), max(updated_at) FROM storage WHERE {BEGINS_WITH_KEY}"  # noqa: S608
            ((first, last),) = database.query(select, (prefix, prefix))
            summaries[name] = AgentSummary(name, 0, first, last, None)
    return list(summaries.values())


def describe(
    database: Database, session_id: str, agent_id: str, snapshot_id: str | None = None
) -> AgentDescription | None:
    """Describe an agent by a snapshot, without an id by the latest; see `SessionCatalog.describe_agent`."""
    snapshot = read(database, session_id, "agent", agent_id, snapshot_id)
    if snapshot is None:
        return None
    times = (snapshot.created_at, snapshot.updated_at)
    try:
        data = decode(snapshot)["data"]
    except SessionException as error:
        return AgentDescription(agent_id, None, [[0]], {}, {}, {}, *times, str(error))
    state, manager_state = (
        found if isinstance(found, dict) else {} for found in map(data.get, ("state", "conversation_manager_state"))
    )
    others = {name: data[name] for name in ("interrupt_state", "model_state", "system_prompt") if data.get(name)}
    last_message_id = len(data["messages"]) - 1 if data.get("messages") else None
    return AgentDescription(agent_id, last_message_id, [[0]], state, manager_state, others, *times)


def contents(database: Database, session_ids: Iterable[str]) -> list[tuple[str, str, str, Any]]:
    """Return what the latest snapshots of some sessions are of; see `SessionCatalog.contents`.

    Returns:
        Session id, scope, name, and the number of the last message of an agent, or the kind of a graph or swarm; None
        if there is none.
    """
    found = []
    for match, count, kind in _latest_of(database, session_ids, "TRUE"):
        value = kind if match["scope"] == "multiAgent" else (count - 1 if count else None)
        found.append((match["session_id"], match["scope"], match["name"], value))
    return found


def _latest_of(
    database: Database, session_ids: Iterable[str], condition: str
) -> list[tuple[re.Match[str], int, str | None]]:
    """Return the latest snapshots of some sessions: their keys, numbers of messages, and kinds of graphs and swarms."""
    rows = database.query(
        f"""
        SELECT key, json_valid(CAST(data AS TEXT)), {MESSAGE_COUNT}, CASE
            WHEN instr(key, '/scopes/multiAgent/') AND json_valid(CAST(data AS TEXT))
            THEN json_extract(CAST(data AS TEXT), '$.data.state.type')
        END
        FROM sessions CROSS JOIN storage ON {SNAPSHOTS_OF_SESSION}
        WHERE session_id IN (SELECT value FROM json_each(?)) AND {IS_LATEST} AND {condition}
            AND NOT EXISTS (SELECT 1 FROM expired_keys WHERE expired_key = key)
        ORDER BY key
        """,  # noqa: S608
        (json.dumps(list(session_ids)),),
    )
    found = []
    for key, is_json, count, kind in rows:
        match = _KEY.fullmatch(key)
        if match is not None:
            if not is_json:
                # It may be Python's, with a NaN in it.
                count = sum(len(readable_messages(snapshot)) for snapshot in under(database, key))
            found.append((match, count, kind))
    return found


def revisions(database: Database, conversations: list[tuple[str, str | None]]) -> dict[tuple[str, str | None], str]:
    """Return what tells that a conversation has changed; see `SessionCatalog.revisions`."""
    keys = {key_of(key[0], "agent", key[1]): key for key in conversations if key[1] is not None}
    rows = database.query(
        """
        SELECT storage.key, storage.updated_at || coalesce(' ' || sessions.updated_at, '')
        FROM json_each(?) AS wanted
        CROSS JOIN storage ON storage.key = wanted.key
        LEFT JOIN sessions ON sessions.session_id = wanted.value
        WHERE NOT EXISTS (SELECT 1 FROM expired_keys WHERE expired_key = storage.key)
        """,
        (json.dumps({key: session_id for key, (session_id, _) in keys.items()}),),
    )
    return {keys[key]: revision for key, revision in rows}


def history(
    snapshot: Snapshot, limit: int, first: int, last: int, from_first: bool, with_damaged: bool
) -> list[HistoryMessage]:
    """Return messages of a snapshot, the newest first.

    A snapshot does not tell when a message was created, so all have the time of the snapshot.

    Args:
        snapshot: The snapshot.
        limit: Number of messages at the most.
        first: Number of the first that may be among them.
        last: Number of the last.
        from_first: Whether to take the first ones of these, not the last.
        with_damaged: Whether to return one message that tells of a damaged snapshot.

    Raises:
        SessionException: If it is damaged and `with_damaged` is False.
    """
    try:
        numbered = list(enumerate(messages_of(snapshot)))[first : last + 1]
    except SessionException as error:
        if not with_damaged:
            raise
        return [HistoryMessage(0, cast(Message, {}), False, snapshot.updated_at, str(error))]
    chosen = numbered[:limit] if from_first else numbered[max(0, len(numbered) - limit) :]
    return [HistoryMessage(number, message, False, snapshot.updated_at) for number, message in chosen[::-1]]


def delete_statements(scope: Scope, session_id: str, name: str) -> list[Statement]:
    """Return what deletes all snapshots of an agent, graph or swarm, and an agent's stash."""
    # As in the triggers: a session's id may look like a longer part of another's prefix.
    delete = f"""
        DELETE FROM storage WHERE {BEGINS_WITH_KEY} AND NOT instr(substr(key, length(?)), '/scopes/{scope}/')
        """  # noqa: S608
    prefixes = (prefix_of(session_id, scope, name), f"context/{session_id}/scopes/{scope}/{name}/")
    return [(delete, (prefix,) * 3) for prefix in prefixes]


def usage_of(message: dict[str, Any]) -> Usage:
    """Return the tokens that a message took."""
    metadata = message.get("metadata")
    usage = metadata.get("usage") if isinstance(metadata, dict) else None
    counts = [
        usage.get(name) if isinstance(usage, dict) else None
        for name in ("inputTokens", "outputTokens", "totalTokens", "cacheReadInputTokens", "cacheWriteInputTokens")
    ]
    return Usage(*(count if isinstance(count, int) else 0 for count in counts), message_count=1)  # type: ignore[misc]


def usage(
    database: Database, session_id: str | None, since: str | None, until: str | None
) -> Iterator[tuple[Snapshot, Usage]]:
    """Yield the tokens of each message in the latest snapshots of a time; see `SessionCatalog.usage`."""
    for snapshot in of_agents(database, session_id):
        if (since is None or snapshot.updated_at >= since) and (until is None or snapshot.updated_at < until):
            for message in readable_messages(snapshot):
                yield snapshot, usage_of(message)


def multi_agent_states(database: Database, session_id: str) -> list[tuple[str, str, str, str]]:
    """Return the columns `multi_agent_id`, `state`, `created_at` and `updated_at` that snapshots stand for.

    Of a damaged one, the state is what it is, which is no JSON object.
    """
    states = []
    for snapshot in latest(database, session_id):
        if snapshot.scope == "multiAgent":
            try:
                state = json.dumps(json.loads(snapshot.data)["data"]["state"])
            except (ValueError, TypeError, LookupError, RecursionError):
                state = snapshot.data.decode(errors="replace")
            states.append((snapshot.name, state, snapshot.created_at, snapshot.updated_at))
    return states
