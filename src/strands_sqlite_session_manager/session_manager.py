"""The session manager that an agent, graph or swarm is given."""

import contextlib
import logging
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn, cast

from strands import hooks
from strands.agent.state import AgentState
from strands.hooks import HookRegistry
from strands.session.repository_session_manager import RepositorySessionManager
from strands.types.content import Message
from strands.types.exceptions import SessionException
from strands.types.session import SessionAgent, SessionMessage

from ._arguments import checked_id
from ._codec import encode_content
from ._conversation import stored
from ._conversation.live_view import LiveView, add_tracking_ids
from ._conversation.tracking import Tracked, state_of
from ._engine.database import Synchronous
from ._engine.holder import DatabaseHolder
from ._errors import SessionConflictError, missing
from ._expiry import sweep
from .repository import SQLiteSessionRepository

if TYPE_CHECKING:
    from strands.multiagent.base import MultiAgentBase
    from strands.types.agent import LocalAgent

logger = logging.getLogger(__name__)


class SQLiteSessionManager(RepositorySessionManager, SQLiteSessionRepository):
    """Keeps one session of Strands agents, graphs and swarms in a SQLite file.

    ```python
    agent = Agent(session_manager=SQLiteSessionManager(session_id="user-42"))
    ```

    Building one costs next to nothing once the file is open in the process, so a web handler can build one for each
    request. The repository's methods are offered here too, as Strands' own managers do.
    """

    session_repository: SQLiteSessionRepository

    def __init__(
        self,
        session_id: str,
        db_path: str | os.PathLike[str] | None = None,
        *,
        session_repository: SQLiteSessionRepository | None = None,
        synchronous: Synchronous = "NORMAL",
        busy_timeout: float | None = None,
    ):
        """Open a session, creating it if it does not exist.

        Args:
            session_id: Id of the session: any text but the empty one, without NUL.
            db_path: Path of the database file. Defaults to the environment variable `STRANDS_SQLITE_DB_PATH`, else
                `sessions.db` in the working directory. ":memory:" is a private database that lives as long as this
                object.
            session_repository: Repository to use instead of opening one with the other options; it stays open when
                this is closed.
            synchronous: "NORMAL" survives the death of the process, and may lose the newest writes when the power
                fails; "FULL" survives that too, and waits for the disk at every write.
            busy_timeout: Seconds to wait for a lock, or for a cluster's leader, before raising. Defaults to 5 for a
                file, and to 30 for a cluster.

        Raises:
            SessionException: If the database cannot be opened, or belongs to another program or a newer version.
            ValueError: If an argument is out of its range.
        """
        DatabaseHolder.__init__(
            self, db_path, shared=session_repository, synchronous=synchronous, busy_timeout=busy_timeout
        )
        repository = session_repository or SQLiteSessionRepository.on(self)
        self._agents: dict[str, Tracked] = {}
        try:
            RepositorySessionManager.__init__(self, session_id, repository)
        except SessionConflictError:
            # Another process created it at the same moment.
            RepositorySessionManager.__init__(self, session_id, repository)

    def register_hooks(self, registry: HookRegistry, **kwargs: Any) -> None:
        """Register for the events of agents, graphs and swarms, as the SDK's `SessionManager` does, and for two more.

        Args:
            registry: Where to register.
            **kwargs: Passed on to the base class.
        """
        super().register_hooks(registry, **kwargs)
        # Newer SDKs tell when a bidirectional agent has replaced a message, and when it stops.
        if updated := getattr(hooks, "MessageUpdatedEvent", None):
            registry.add_callback(updated, self._replace_message)
        # An agent of the kind has imported them. To others, they would cost the time to import.
        if bidi := sys.modules.get("strands.bidi.hooks") or sys.modules.get("strands.experimental.bidi.hooks"):
            registry.add_callback(bidi.BidiAgentStopEvent, lambda event: self.sync_agent(event.agent))

    def initialize(self, agent: "LocalAgent", **kwargs: Any) -> None:
        """Restore an agent from the session, after storing it there if it is new.

        The agent gets the messages, state, interrupts, state of a server-side model and state of its conversation
        manager that the agent of this id had after its last call. Where no live view is stored (rows by other tools, or
        copied from other repositories), it gets the messages that the SDK's own managers would give it.

        Args:
            agent: Agent to restore.
            **kwargs: Ignored, for later versions of the SDK.

        Raises:
            SessionException: If the manager has an agent with this id already, what is stored of it is damaged, or the
                database cannot be used.
        """
        agent_id = checked_id("agent_id", agent.agent_id)
        if agent_id in self._agents:
            raise SessionException(
                "The `agent_id` of an agent must be unique in a session. This session manager has an agent "
                f"{agent_id} already: build a new manager for the same agent, or give another an id of its own"
            )
        conversation = stored.read(self._database, self.session_id, agent_id)
        is_new = conversation is None and self._create(agent)
        conversation = conversation or stored.read(self._database, self.session_id, agent_id)
        if conversation is None:
            raise missing("agents", self.session_id, agent_id, advice="it was deleted while it was created")
        if not is_new and (agent.messages or agent.state.get()):
            logger.warning(
                "agent_id=<%s>, session_id=<%s> | the session has this agent already, so the messages and state that "
                "were passed to it are dropped",
                agent_id,
                self.session_id,
            )
        self._agents[agent_id] = self._restore(agent, conversation, is_new)

    def _create(self, agent: "LocalAgent") -> bool:
        """Store a new agent, and return whether no other process was first."""
        # With its first messages at once. Stored one by one, another process could restore it in between.
        messages = [SessionMessage.from_message(message, index) for index, message in enumerate(agent.messages)]
        try:
            self.session_repository.create_agent(self.session_id, SessionAgent.from_agent(agent), messages=messages)
        except SessionConflictError:
            return False
        return True

    def _restore(self, agent: "LocalAgent", conversation: stored.StoredConversation, is_new: bool) -> Tracked:
        """Make an agent what is stored of it."""
        restored = conversation.agent
        key = (self.session_id, agent.agent_id)
        agent.state = AgentState(restored.state)
        try:
            restored.initialize_internal_state(agent)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SessionException(f"agents {key}: damaged internal_state in the database: {error!r}") from error
        prepended: list[Message] = []
        offset = 0
        if not is_new:
            prepended, offset = _restore_conversation_manager(agent, restored.conversation_manager_state, key)
        view = conversation.live
        if view is not None:
            messages = view.messages
        else:
            rows = self.session_repository.list_messages(*key, offset=offset)
            shown, ids = [row.to_message() for row in rows], [row.message_id for row in rows]
            add_tracking_ids(shown, ids, agent.agent_id)
            view = LiveView(shown, ids, [None] * len(rows))
            # Only now, since it changes them. It is the one private name of the base class that this package relies on.
            messages = self._fix_broken_tool_use(prepended + shown)
        # The messages of a conversation that a server keeps are not restored.
        if not getattr(getattr(agent, "model", None), "stateful", False):
            agent.messages = messages
        elif not is_new:
            agent.messages = []
        return Tracked(key, conversation, view, state_of(agent))

    def append_message(self, message: Message, agent: "LocalAgent", **kwargs: Any) -> None:
        """Store a message at the end of an agent's conversation.

        A message that cannot be stored, because of a lock say, is stored by the next call for this agent, before what
        that one stores and in the same transaction.

        Args:
            message: Message to store.
            agent: Agent that it belongs to.
            **kwargs: Ignored, for later versions of the SDK.

        Raises:
            SessionConflictError: If another writer has changed this conversation since the agent was built. The agent
                is refused from then on.
            SessionException: If the database cannot be used, or the message holds something that has no JSON form. In
                the latter case too, the agent is refused from then on.
        """
        self._tracked(agent).append(self._database, message, agent)
        sweep(self._database)

    def sync_agent(self, agent: "LocalAgent", **kwargs: Any) -> None:
        """Store what an agent is now: its state and which messages it has, if they have changed.

        The SDK calls it for every message and at the end of each call. Call it yourself after you changed
        `agent.messages` or `agent.state` between two calls.

        Args:
            agent: Agent to store.
            **kwargs: Ignored, for later versions of the SDK.

        Raises:
            SessionConflictError: If another writer has changed this conversation since the agent was built. The agent
                is refused from then on.
            SessionException: If the database cannot be used, or the agent has something that has no JSON form.
        """
        self._tracked(agent).sync(self._database, agent)

    def _tracked(self, agent: "LocalAgent") -> Tracked:
        tracked = self._agents.get(agent.agent_id)
        if tracked is None:
            raise SessionException(
                f"This session manager of session {self.session_id} did not restore an agent {agent.agent_id}: pass "
                "the manager to the agent when it is built, and do not change its agent_id"
            )
        return tracked

    def _replace_message(self, event: Any) -> None:
        """Store what a message has become, such as the transcript of what was said."""
        self._tracked(event.agent).replace(self._database, event.message)

    def redact_latest_message(self, redact_message: Message, agent: "LocalAgent", **kwargs: Any) -> None:
        """Replace the content of the last stored message of an agent; the former text is not kept anywhere.

        If an agent has another message at the end that is not stored, because a hook has put it there, the last stored
        one is redacted too. Role and tracking id stay.

        Args:
            redact_message: Message with the content to show instead.
            agent: Agent whose message to redact.
            **kwargs: Ignored, for later versions of the SDK.

        Raises:
            SessionException: If there is no message, or the database cannot be used.
        """
        self._tracked(agent).redact(self._database, redact_message, *encode_content(redact_message))

    def initialize_multi_agent(self, source: "MultiAgentBase", **kwargs: Any) -> None:
        """Restore a graph or swarm from the session, or store it there if it is new.

        Args:
            source: Graph or swarm to restore or store.
            **kwargs: Passed on to the repository.

        Raises:
            SessionException: If the database cannot be used, or the state holds something that has no JSON form.
        """
        repository = self.session_repository
        state = repository.read_multi_agent(self.session_id, source.id, **kwargs)
        if state is None:
            # Another process may do so at the same moment.
            with contextlib.suppress(SessionConflictError):
                repository.create_multi_agent(self.session_id, source, **kwargs)
                return
            state = repository.read_multi_agent(self.session_id, source.id, **kwargs)
        if state is not None and not self._is_stray_answer(source, state.get("current_task")):
            source.deserialize_state(state)

    def sync_multi_agent(self, source: "MultiAgentBase", **kwargs: Any) -> None:
        """Store the state of a graph or swarm. The last write wins.

        Args:
            source: Graph or swarm whose state to store.
            **kwargs: Passed on to the repository.

        Raises:
            SessionException: If the database cannot be used, or the state holds something that has no JSON form.
        """
        if not self._is_stray_answer(source, getattr(getattr(source, "state", None), "task", None)):
            self.session_repository.update_multi_agent(self.session_id, source, **kwargs)

    def _is_stray_answer(self, source: "MultiAgentBase", task: Any) -> bool:
        """Tell whether a graph or swarm took the answer to an interrupt for a new task.

        It does if nothing is to be answered, because it was answered already. It fails then, and whoever restored
        that state would resume the same task and fail for ever.
        """
        is_answer = isinstance(task, list) and any(
            isinstance(item, dict) and "interruptResponse" in item for item in task
        )
        if is_answer:
            logger.warning(
                "multi_agent_id=<%s>, session_id=<%s> | an answer to an interrupt that is not open is no task; the "
                "state of this run is not kept",
                source.id,
                self.session_id,
            )
        return is_answer

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs to open the same session. Agents are built again there."""
        return {**super().__getstate__(), "session_id": self.session_id}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the session again."""
        options = ("session_id", "db_path", "synchronous", "busy_timeout")
        SQLiteSessionManager.__init__(self, **{name: state[name] for name in options})

    def __deepcopy__(self, memo: dict[int, Any]) -> NoReturn:
        """Refuse.

        Raises:
            TypeError: Always. Two agents would store in one conversation.
        """
        raise TypeError(
            "an agent with a session manager cannot be copied, because both would write to the same conversation: fork "
            "the session (`SessionCatalog.fork_session`) and build an agent on the copy"
        )


def _restore_conversation_manager(
    agent: "LocalAgent", state: dict[str, Any], key: tuple[str, str]
) -> tuple[list[Message], int]:
    """Restore a conversation manager, and return what the SDK's rule says: messages to prepend, and an offset."""
    manager = getattr(agent, "conversation_manager", None)
    if manager is None:
        return [], 0
    own = manager.get_state()
    if state.get("__name__") != own.get("__name__"):
        logger.warning(
            "agent_id=<%s>, session_id=<%s>, stored=<%s>, present=<%s> | the agent has another conversation manager "
            "than before, which starts afresh",
            key[1],
            key[0],
            state.get("__name__"),
            own.get("__name__"),
        )
        summary, offset = state.get("summary_message"), state.get("removed_message_count")
        return [cast(Message, summary)] if isinstance(summary, dict) else [], offset if isinstance(offset, int) else 0
    if "removed_message_count" in own and type(state.get("removed_message_count")) is not int:
        raise SessionException(f"agents {key}: damaged conversation_manager_state: no removed_message_count")
    return manager.restore_from_session(state) or [], manager.removed_message_count
