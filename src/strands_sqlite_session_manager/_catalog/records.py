"""What the catalog returns."""

from dataclasses import dataclass, field
from typing import Any

from strands.types.content import Message


@dataclass(frozen=True)
class SessionEntry:
    """A session in a list.

    Attributes:
        session_id: Its id.
        session_type: "AGENT" in the tables, or what a newer SDK calls it; "SNAPSHOT" if it is the SDK's
            `SnapshotSessionManager`'s alone.
        created_at: When it was created, in ISO 8601, UTC.
        updated_at: When it was last active: a message, or the state of a graph or swarm.
        expires_at: When it expires, see `set_expiry`; None if it does not.
        metadata: What `set_metadata` stored.
        damage: What is wrong with its row in the database; None if nothing is. Of damaged metadata, nothing is shown.
    """

    session_id: str
    session_type: str
    created_at: str
    updated_at: str
    expires_at: str | None
    metadata: dict[str, Any]
    damage: str | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class SessionPage:
    """A page of a list of sessions.

    Attributes:
        sessions: The sessions.
        next: Cursor for `after`, which leads to the next page; None on the last one.
    """

    sessions: list[SessionEntry]
    next: str | None


@dataclass(frozen=True)
class Usage:
    """Tokens that answers took, as far as the SDK stored them with the messages.

    Attributes:
        input_tokens: Tokens of requests.
        output_tokens: Tokens of answers.
        total_tokens: Both, as the model provider counts them.
        cache_read_input_tokens: Tokens of requests that came from the provider's cache.
        cache_write_input_tokens: Tokens of requests that were put there.
        message_count: All messages, also those without tokens.
    """

    input_tokens: int
    output_tokens: int
    total_tokens: int
    cache_read_input_tokens: int
    cache_write_input_tokens: int
    message_count: int


@dataclass(frozen=True)
class SessionSummary(SessionEntry):
    """A session and what is in it.

    Attributes:
        agents: Ids of its agents.
        multi_agents: Ids of its graphs and swarms.
        message_count: Number of its messages.
        usage: Tokens that they took.
        damage: As of a `SessionEntry`; or else, what is wrong with an agent's latest snapshot, which is not counted.
    """

    agents: list[str]
    multi_agents: list[str]
    message_count: int
    usage: Usage


@dataclass(frozen=True)
class SessionContents:
    """What is in a session.

    Attributes:
        agents: Its agents by their ids, each with the number of its last message; None if it has none.
        multi_agents: Its graphs and swarms by their ids, each with its kind; None if its state does not tell.
    """

    agents: dict[str, int | None]
    multi_agents: dict[str, str | None]


@dataclass(frozen=True)
class AgentSummary:
    """An agent of a session.

    Attributes:
        agent_id: Its id.
        message_count: Number of its messages.
        created_at: When it was created, in ISO 8601, UTC.
        updated_at: When its state was last stored.
        last_message_at: When its last message was created; None if it has none.
        damage: What is wrong with its latest snapshot, of which no messages are counted then; None if it is sound, or
            the agent is in the tables.
    """

    agent_id: str
    message_count: int
    created_at: str
    updated_at: str
    last_message_at: str | None
    damage: str | None = None


@dataclass(frozen=True)
class AgentDescription:
    """An agent, without its messages.

    Attributes:
        agent_id: Its id.
        last_message_id: Number of its last message; None if it has none.
        live_view: Which messages it has now, as in the column of that name: `[first, last]` for those of the log with
            these numbers and between them, `{"message_id": …, "message": …}` for one that was changed since,
            `{"message": …}` for one that is not in the log, and at the end `[first]` for all from there on.
        state: What the application keeps in `agent.state`.
        conversation_manager_state: What its conversation manager keeps.
        internal_state: What the SDK keeps: open interrupts, say.
        created_at: When it was created, in ISO 8601, UTC.
        updated_at: When its state was last stored.
        damage: What is wrong with its row in the database, of which nothing is shown then; None if it is sound.
    """

    agent_id: str
    last_message_id: int | None
    live_view: list[Any]
    state: dict[str, Any]
    conversation_manager_state: dict[str, Any]
    internal_state: dict[str, Any]
    created_at: str
    updated_at: str
    damage: str | None = None


@dataclass(frozen=True)
class NodeSummary:
    """A node of a graph or swarm, at one of its turns.

    Attributes:
        node_id: Its id.
        status: "completed", "failed", "interrupted", "executing" or "pending".
        execution_time: Milliseconds that it took; None if it has not ended.
        total_tokens: Tokens that it took.
        result: What it said, why it failed, or what a graph or swarm in it came to, as the SDK stores it. The SDK keeps
            that of its last turn only; None of all others.
    """

    node_id: str
    status: str
    execution_time: int | None
    total_tokens: int | None
    result: Any = None


@dataclass(frozen=True)
class MultiAgentSummary:
    """A graph or swarm of a session, as its last stored state tells.

    Attributes:
        multi_agent_id: Its id.
        kind: "graph", "swarm", or what a newer SDK calls it; None if the state does not tell.
        status: "pending", "executing", "completed", "failed" or "interrupted".
        current_task: What it was asked, as text or JSON.
        next_nodes: Ids of the nodes that come next.
        created_at: When it was created, in ISO 8601, UTC.
        updated_at: When its state was last stored.
        damage: What is wrong with the state in the database, of which nothing is shown then; None if it is sound.
        nodes: Its nodes in the order in which they had their turns, then those that come next.
        internal_state: What the SDK keeps: open interrupts, say.
    """

    multi_agent_id: str
    kind: str | None
    status: str | None
    current_task: Any
    next_nodes: list[str]
    created_at: str
    updated_at: str
    damage: str | None = None
    nodes: list[NodeSummary] = field(default_factory=list)
    internal_state: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class HistoryMessage:
    """A message as it may be shown.

    Attributes:
        message_id: Its number in the conversation.
        message: Role and content, with redactions applied.
        is_redacted: Whether the content replaces another.
        created_at: When it was created, in ISO 8601, UTC; in a snapshot, when that was stored.
        damage: What is wrong with a message that cannot be read, which is empty then; None with all others.
    """

    message_id: int
    message: Message
    is_redacted: bool
    created_at: str
    damage: str | None = None


@dataclass(frozen=True)
class SnapshotSummary:
    """A snapshot of an agent.

    Attributes:
        snapshot_id: Its id; None of the latest one, which the next write replaces.
        created_at: When it was taken, in ISO 8601, UTC.
        message_count: Number of its messages.
        size: Bytes that it takes.
        app_data: What the application stored with it.
        damage: What is wrong with it, of which nothing is shown then; None if it is sound.
    """

    snapshot_id: str | None
    created_at: str
    message_count: int
    size: int
    app_data: dict[str, Any]
    damage: str | None = None


@dataclass(frozen=True)
class SnapshotDiff:
    """What differs between two snapshots of an agent.

    Attributes:
        added: Messages that only the second has.
        removed: Messages that only the first has.
        changed: Messages that both have, as they are in the first and in the second.
        state_keys: Keys of the agent's state whose values differ.
        parts: What else differs: "conversation_manager_state", "interrupt_state", "system_prompt", and so on.
    """

    added: list[HistoryMessage]
    removed: list[HistoryMessage]
    changed: list[tuple[HistoryMessage, HistoryMessage]]
    state_keys: list[str]
    parts: list[str]


@dataclass(frozen=True)
class SearchResult:
    """A message that was found.

    Attributes:
        session_id: Id of its session.
        agent_id: Id of its agent.
        message_id: Its number in the conversation.
        role: "user" or "assistant".
        created_at: When it was created, in ISO 8601, UTC.
        score: How well it matches; more is better. Scores of different searches do not compare.
        snippet: The part of its text around the first hit, with [brackets] around hits.
        hits: Where each hit begins and ends in the snippet, between its brackets.
    """

    session_id: str
    agent_id: str
    message_id: int
    role: str
    created_at: str
    score: float
    snippet: str
    hits: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class RecordCounts:
    """How many records were copied or deleted.

    Attributes:
        sessions: Sessions.
        agents: Agents.
        messages: Messages.
        multi_agents: States of graphs and swarms.
        storage: Keys of snapshots and stash, where they were copied as they are. Of what is deleted or converted, the
            snapshots count as what is in them.
    """

    sessions: int
    agents: int
    messages: int
    multi_agents: int
    storage: int = 0


@dataclass(frozen=True)
class PruneResult:
    """What was pruned, or would be.

    Attributes:
        session_ids: Sessions: those that have expired, then the others, the least recently active first.
        messages: Number of their messages; of a session of snapshots, those of the latest.
        bytes: Size of the messages, with images and documents, of the snapshots, keys and memories.
        snapshots: Number of the immutable snapshots that went from sessions that stay.
        keys: Number of keys of `SQLiteStorage` that have expired by themselves.
        memories: Number of memories that have expired.
    """

    session_ids: list[str]
    messages: int
    bytes: int
    snapshots: int = 0
    keys: int = 0
    memories: int = 0


@dataclass(frozen=True)
class ForgetResult:
    """What was deleted of someone, or would be.

    Attributes:
        sessions: Number of sessions.
        agents: Number of their agents.
        messages: Number of these agents' messages.
        multi_agents: Number of states of graphs and swarms.
        storage_keys: Number of keys of `SQLiteStorage`: the sessions' snapshots and stash, and what was named.
        memories: Number of memories.
    """

    sessions: int
    agents: int
    messages: int
    multi_agents: int
    storage_keys: int
    memories: int
