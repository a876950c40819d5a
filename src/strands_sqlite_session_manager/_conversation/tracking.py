"""What a session manager knows of what is stored of an agent, and what is still to be stored."""

from typing import TYPE_CHECKING, Any

from strands import Agent
from strands.types.content import Message
from strands.types.exceptions import SessionException
from strands.types.session import SessionAgent, SessionMessage

from .._arguments import now
from .._codec import encode, encode_agent, message_row
from .._engine.database import Database
from .._errors import REBUILD, SessionConflictError, UnknownOutcomeError, record_name
from . import stored
from .live_view import LiveView

if TYPE_CHECKING:
    from strands.types.agent import LocalAgent

State = tuple[object, object]


class Tracked:
    """An agent of a session manager."""

    def __init__(self, key: tuple[str, str], conversation: stored.StoredConversation, view: LiveView, state: State):
        """Begin with what was restored.

        Args:
            key: Ids of session and agent.
            conversation: What is stored.
            view: The messages that are stored of the agent.
            state: Of the agent, as it was restored; see `state_of`.
        """
        self._key = key
        self._last_id = conversation.last_id
        self._updated_at = conversation.agent.updated_at
        # Columns of the agent as they were stored last.
        self._live_view = conversation.live_view
        self._columns = conversation.columns
        self._state = state
        # With the rows that are to be stored.
        self.view = view
        # Rows that are to be stored: a lock was held for too long, say.
        self._pending: list[tuple[Any, ...]] = []
        # Redactions that are to be stored: of which messages, their tracking id, content and bytes.
        self._redactions: list[tuple[list[int], str | None, str, bytes | None]] = []
        # Times of updates of the agent of which a cluster did not tell whether they were done.
        self._attempts: set[str] = set()
        # Why nothing of this agent is stored any more.
        self._refusal: SessionException | None = None

    def append(self, database: Database, message: Message, agent: "LocalAgent") -> None:
        """Store a message at the end of the log, after those that could not be stored before.

        Raises:
            SessionException: If it cannot be stored, see `SQLiteSessionManager.append_message`.
        """
        self._check()
        is_in_view = self.view.has_outside_log(message)
        message_id = (-1 if self._last_id is None else self._last_id) + len(self._pending) + 1
        try:
            self._pending.append(message_row(*self._key, SessionMessage.from_message(message, message_id)))
        except SessionException as error:
            self._refusal = SessionException(
                f"{record_name('messages', *self._key, message_id)} cannot be stored: {error}. Nothing of this agent "
                f"is stored behind it: {REBUILD}."
            )
            raise self._refusal from error
        self.view.append(message, message_id)
        if is_in_view:
            # It would be there twice until the view is stored.
            self.sync(database, agent)
        else:
            self._store(database, None)

    def sync(self, database: Database, agent: "LocalAgent") -> None:
        """Store what an agent is now, if it has changed, after messages that could not be stored before.

        Raises:
            SessionException: If it cannot be stored, see `SQLiteSessionManager.sync_agent`.
        """
        self._check()
        view, live_view = self.view, self._live_view
        if live_view is None or not view.is_of(agent.messages):
            view = view.of(agent.messages)
            live_view = view.to_json(self._pending[-1][2] if self._pending else self._last_id)
        state = state_of(agent)
        columns = self._columns_of(agent, state)
        if live_view == self._live_view and columns == self._columns:
            self._store(database, None)
        else:
            self._store(database, {**columns, "live_view": live_view})
            self._columns, self._live_view, self._state = columns, live_view, state
        self.view = view

    def redact(self, database: Database, redact_message: Message, content: str, attachments: bytes | None) -> None:
        """Replace the content of a message, by default of the last one, wherever it is stored.

        Args:
            database: Where it is stored.
            redact_message: The message, with its new content.
            content: JSON of that.
            attachments: Bytes in it.

        Raises:
            SessionException: If there is no message, or it cannot be stored.
        """
        self._check()
        self._store(database, None)
        message_ids = self.view.ids_of(redact_message)
        if not message_ids:
            if self._last_id is None:
                raise SessionException("No message to redact.")
            message_ids = [self._last_id]
        self._redactions.append((message_ids, self.view.tracking_id(message_ids), content, attachments))
        self.view.replace_content(message_ids, redact_message["content"])
        self._store(database, None)

    def replace(self, database: Database, message: Message) -> None:
        """Put a message in the place of the last one with its tracking id."""
        self._check()
        self._store(database, None)
        row = message_row(*self._key, SessionMessage.from_message(message, 0))
        stored.replace(database, row, message["tracking_id"])
        for message_id in self.view.ids_of(message)[-1:]:
            self.view.replace(message, message_id)

    def _check(self) -> None:
        if self._refusal is not None:
            raise type(self._refusal)(str(self._refusal)) from self._refusal

    def _store(self, database: Database, columns: dict[str, str] | None) -> None:
        """Store the pending messages and columns of the agent, all or nothing, after pending redactions."""
        time = ""
        try:
            if self._attempts:
                self._settle(database)
            while self._redactions:
                time = now(other_than=self._updated_at)
                message_ids, tracking_id, content, attachments = self._redactions[0]
                self._updated_at = stored.redact(
                    database, *self._key, message_ids, tracking_id, content, attachments, self._updated_at, time
                )
                del self._redactions[0]
            if not self._pending and columns is None:
                return
            time = now(other_than=self._updated_at)
            self._updated_at = stored.store(
                database, *self._key, self._last_id, self._updated_at, time, self._pending, columns
            )
        except SessionConflictError as error:
            self._refusal = error
            raise
        except BaseException as error:
            # Also an interruption: what was sent to a cluster may have been done.
            if isinstance(error, UnknownOutcomeError) or not isinstance(error, SessionException):
                self._attempts.add(time)
            raise
        if self._pending:
            self._last_id = self._pending[-1][2]
            self._pending = []

    def _settle(self, database: Database) -> None:
        """Find out which writes were done of those that a cluster did not answer."""
        updated_at, count = stored.outcome(database, *self._key, self._pending)
        if updated_at in self._attempts:
            self._updated_at = updated_at
        if count:
            self._last_id = self._pending[count - 1][2]
            del self._pending[:count]
        self._attempts.clear()

    def _columns_of(self, agent: "LocalAgent", state: State) -> dict[str, str]:
        """Return the columns for what an agent is now, but for its messages."""
        if state != self._state or not isinstance(agent, Agent):
            return columns_of(SessionAgent.from_agent(agent))
        return {
            "state": self._columns["state"],
            "conversation_manager_state": encode(agent.conversation_manager.get_state(), "conversation_manager_state"),
            "internal_state": encode(internal_state(agent), "internal_state"),
        }


def state_of(agent: "LocalAgent") -> State:
    """Return what differs after `agent.state` was changed. To get all of it, and compare that, is to copy it."""
    return agent.state, getattr(agent.state, "_get_version", object)()


def columns_of(session_agent: SessionAgent) -> dict[str, str]:
    """Return the columns of an agent, but for its messages."""
    names = ("state", "conversation_manager_state", "internal_state")
    return dict(zip(names, encode_agent(session_agent), strict=True))


def internal_state(agent: Agent) -> dict[str, Any]:
    """Return what `SessionAgent.from_agent` stores besides, without a copy of the state."""
    state = {"interrupt_state": agent._interrupt_state.to_dict()}
    # Older SDKs have no models that keep the conversation.
    return {**state, "model_state": agent._model_state} if hasattr(agent, "_model_state") else state
