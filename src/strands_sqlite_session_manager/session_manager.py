"""The session manager that an agent, graph or swarm is given."""

import contextlib
import os
from typing import TYPE_CHECKING, Any

from strands.session.repository_session_manager import RepositorySessionManager
from strands.types.content import Message
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from ._engine.database import Synchronous
from ._engine.holder import DatabaseHolder
from ._errors import REBUILD, SessionConflictError, record_name
from .repository import SQLiteSessionRepository

if TYPE_CHECKING:
    from strands.multiagent.base import MultiAgentBase
    from strands.types.agent import LocalAgent


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
        busy_timeout: float = 5.0,
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
            busy_timeout: Seconds to wait for a lock before raising.

        Raises:
            SessionException: If the database cannot be opened, or belongs to another program or a newer version.
            ValueError: If an argument is out of its range.
        """
        DatabaseHolder.__init__(
            self, db_path, shared=session_repository, synchronous=synchronous, busy_timeout=busy_timeout
        )
        repository = session_repository or SQLiteSessionRepository.sharing(self)
        self._overtaken_agent_ids: set[str] = set()
        if repository.read_session(session_id) is None:
            # The base class would create it too, but fails if another process does so at the same moment.
            with contextlib.suppress(SessionConflictError):
                repository.create_session(Session(session_id=session_id, session_type=SessionType.AGENT))
        RepositorySessionManager.__init__(self, session_id, repository)

    # `_latest_agent_message`, which three of the next methods use, is the one private name of the base class that this
    # package relies on: the last stored message of each agent, from which the next message's number follows.

    def initialize(self, agent: "LocalAgent", **kwargs: Any) -> None:
        """Restore an agent from the session, after storing it there if it is new.

        Args:
            agent: Agent to restore.
            **kwargs: Passed on to the base class.

        Raises:
            SessionException: If the manager has an agent with this id already, what is stored of it is damaged, or the
                database cannot be used.
            ValueError: If the agent's conversation manager is of another class than the stored one.
        """
        if agent.agent_id in self._latest_agent_message:
            raise SessionException(
                "The `agent_id` of an agent must be unique in a session. This session manager has an agent "
                f"{agent.agent_id} already: build a new manager for the same agent, or give another an id of its own"
            )
        if self.session_repository.read_agent(self.session_id, agent.agent_id) is None:
            # The base class would store the agent and then its first messages, one by one. Another process could
            # restore it in between, without them, or create it first, which would fail here.
            first_messages = [
                SessionMessage.from_message(message, index) for index, message in enumerate(agent.messages)
            ]
            with contextlib.suppress(SessionConflictError):
                self.session_repository.create_agent(
                    self.session_id, SessionAgent.from_agent(agent), messages=first_messages
                )
        try:
            super().initialize(agent, **kwargs)
        except BaseException:
            # The base class refuses an agent that it has seen. One that could not be restored may try again.
            self._latest_agent_message.pop(agent.agent_id, None)
            raise
        if self._latest_agent_message[agent.agent_id] is None:
            # The base class numbers on from the last message that it restored. When the conversation manager has
            # removed them all, it would start at 0 again.
            self._latest_agent_message[agent.agent_id] = self.session_repository.read_latest_message(
                self.session_id, agent.agent_id
            )

    def append_message(self, message: Message, agent: "LocalAgent", **kwargs: Any) -> None:
        """Store a message at the end of an agent's conversation.

        Args:
            message: Message to store.
            agent: Agent that it belongs to.
            **kwargs: Passed on to the base class.

        Raises:
            SessionConflictError: If somebody else has appended to this conversation since the agent was built.
            SessionException: If the database cannot be used or the message holds something that has no JSON form.
        """
        latest_message = self._latest_agent_message.get(agent.agent_id)
        try:
            super().append_message(message, agent, **kwargs)
        except BaseException as error:
            # The base class counts before it stores. Counting back keeps a failed append from leaving a gap, and an
            # agent that was overtaken from slipping in behind the other's messages.
            if agent.agent_id in self._latest_agent_message:
                self._latest_agent_message[agent.agent_id] = latest_message
            if isinstance(error, SessionConflictError):
                self._overtaken_agent_ids.add(agent.agent_id)
            raise

    def sync_agent(self, agent: "LocalAgent", **kwargs: Any) -> None:
        """Store an agent's state, if it has changed.

        Args:
            agent: Agent whose state to store.
            **kwargs: Passed on to the base class.

        Raises:
            SessionConflictError: If somebody else has appended to this conversation since the agent was built. The
                SDK syncs after a call that failed too, and would overwrite the state that belongs to their messages.
            SessionException: If the database cannot be used or the state holds something that has no JSON form.
        """
        if agent.agent_id in self._overtaken_agent_ids:
            raise SessionConflictError(
                f"{record_name('agents', self.session_id, agent.agent_id)} was overtaken by another writer, whose "
                f"messages and state are kept. To go on from them, {REBUILD}."
            )
        super().sync_agent(agent, **kwargs)

    def redact_latest_message(self, redact_message: Message, agent: "LocalAgent", **kwargs: Any) -> None:
        """Replace the last stored message of an agent; the former text is not kept anywhere.

        Args:
            redact_message: What to show instead.
            agent: Agent whose message to redact.
            **kwargs: Passed on to the base class.

        Raises:
            SessionException: If there is no message, or the database cannot be used.
        """
        latest_message = self._latest_agent_message[agent.agent_id]
        if latest_message is not None:
            # The agent redacts its own copy of the message before it calls; other callers may not have.
            latest_message.message = redact_message
        super().redact_latest_message(redact_message, agent, **kwargs)

    def initialize_multi_agent(self, source: "MultiAgentBase", **kwargs: Any) -> None:
        """Restore a graph or swarm from the session, or store it there if it is new.

        Args:
            source: Graph or swarm to restore or store.
            **kwargs: Passed on to the base class.

        Raises:
            SessionException: If the database cannot be used, or the state holds something that has no JSON form.
        """
        try:
            super().initialize_multi_agent(source, **kwargs)
        except SessionConflictError:
            # Another process stored it after the base class had looked for it, which finds it now.
            super().initialize_multi_agent(source, **kwargs)
