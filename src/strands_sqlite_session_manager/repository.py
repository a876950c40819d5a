"""The Strands `SessionRepository` contract on SQLite."""

import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from strands.session.session_repository import SessionRepository
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from ._arguments import checked_id, checked_number, now
from ._codec import decode, decode_message, encode, encode_agent, encode_message, message_row
from ._conversation.stored import forget_copies
from ._engine.database import Synchronous
from ._engine.holder import DatabaseHolder
from ._errors import (
    IF_GONE,
    REBUILD,
    MissingParentError,
    SessionConflictError,
    TooLargeError,
    missing,
    naming_too_large,
    record_name,
    require_stored,
)
from ._expiry import make_way, sweep

if TYPE_CHECKING:
    from strands.multiagent.base import MultiAgentBase

logger = logging.getLogger(__name__)

_SESSION_TYPES = {session_type.value: session_type for session_type in SessionType}

_INSERT_SESSION = "INSERT INTO sessions (session_id, session_type, created_at, updated_at) VALUES (?, ?, ?, ?)"
_INSERT_OVER_SNAPSHOTS = f"""
    {_INSERT_SESSION} ON CONFLICT (session_id) DO UPDATE
    SET session_type = excluded.session_type, updated_at = max(updated_at, excluded.updated_at)
    WHERE session_type = 'SNAPSHOT'
    """  # noqa: S608 (constants only)

_INSERT_MESSAGE = """
    INSERT INTO messages (
        session_id, agent_id, message_id, message, redact_message, attachments, created_at, updated_at
    ) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
    """

_IS_MESSAGE = "session_id = :session_id AND agent_id = :agent_id AND message_id = :message_id"
_UPDATE_MESSAGE = f"""
    UPDATE messages
    SET
        message = :message,
        redact_message = :redact_message,
        attachments = :attachments,
        updated_at = coalesce(nullif(:updated_at, updated_at), :now)
    WHERE {_IS_MESSAGE}
    """  # noqa: S608 (constants only)

# What `decode_message` takes.
_SELECT_MESSAGES = """
    SELECT message_id, message, redact_message, attachments, created_at, updated_at
    FROM messages
    WHERE session_id = :session_id AND agent_id = :agent_id
        AND NOT EXISTS (SELECT 1 FROM expired_sessions WHERE expired_id = session_id)
    """


class SQLiteSessionRepository(DatabaseHolder, SessionRepository):
    """Sessions, agents, messages and multi-agent states in one SQLite file.

    Safe to share between managers, threads and asyncio tasks; a forked child goes on with connections of its own. Each
    method is one SQL statement, so it is done completely or not at all, and done when it returns.

    ```
    sessions ─┬─ agents ── messages
              └─ multi_agents
    ```

    All methods raise `SessionException` if the database cannot be used (locked for too long, full disk, damaged, …),
    with the file's path, and `ValueError` for an id that is not a non-empty string without NUL which UTF-8 can hold.
    """

    def __init__(
        self,
        db_path: str | os.PathLike[str] | None = None,
        *,
        synchronous: Synchronous = "NORMAL",
        busy_timeout: float | None = None,
        read_only: bool = False,
    ):
        """Open the database, creating file, directories and tables if they do not exist.

        Args:
            db_path: Path of the file. Defaults to the environment variable `STRANDS_SQLITE_DB_PATH`, else
                `sessions.db` in the working directory. ":memory:" is a private database that lives as long as this
                object.
            synchronous: "NORMAL" survives the death of the process, and may lose the newest writes when the power
                fails; "FULL" survives that too, and waits for the disk at every write
                (https://sqlite.org/pragma.html#pragma_synchronous). A cluster's nodes always wait.
            busy_timeout: Seconds to wait for a lock, or for a cluster's leader, before raising. Defaults to 5 for a
                file, and to 30 for a cluster.
            read_only: Whether to leave the file exactly as it is, its schema version too. It must exist then, and what
                would write raises.

        Raises:
            SessionException: If the database cannot be opened, or belongs to another program or a newer version.
            ValueError: If an argument is out of its range.
        """
        super().__init__(db_path, synchronous=synchronous, busy_timeout=busy_timeout, read_only=read_only)

    def create_session(self, session: Session, **kwargs: Any) -> Session:
        """Create a session.

        Args:
            session: Session to store.
            **kwargs: Ignored, for later versions of the contract.

        Returns:
            The same session.

        Raises:
            SessionConflictError: If it exists already.
        """
        session_id = checked_id("session_id", session.session_id)
        parameters = (session_id, session.session_type, session.created_at, session.updated_at)
        try:
            count = self._database.execute(_INSERT_SESSION, parameters)
        except SessionConflictError as error:
            # For the contract, neither a session of nothing but snapshots exists, nor one that has expired.
            make_way(self._database, session_id)
            count = self._database.execute(_INSERT_OVER_SNAPSHOTS, parameters)
            if not count:
                raise SessionConflictError(f"{record_name('sessions', session_id)} already exists") from error
        require_stored((count,), record_name("sessions", session_id))
        sweep(self._database)
        logger.debug("session_id=<%s> | created session", session_id)
        return session

    def read_session(self, session_id: str, **kwargs: Any) -> Session | None:
        """Read a session.

        Args:
            session_id: Id of the session.
            **kwargs: Ignored, for later versions of the contract.

        Returns:
            The session, or None if there is none.
        """
        rows = self._database.query(
            """
            SELECT session_type, created_at, updated_at FROM sessions
            WHERE session_id = ? AND session_type <> 'SNAPSHOT'
                AND NOT EXISTS (SELECT 1 FROM expired_sessions WHERE expired_id = session_id)
            """,
            (checked_id("session_id", session_id),),
        )
        if not rows:
            return None
        session_type, created_at, updated_at = rows[0]
        # A type that only a newer SDK knows stays text, as in the SDK's own managers.
        return Session(session_id, _SESSION_TYPES.get(session_type, session_type), created_at, updated_at)

    def delete_session(self, session_id: str, **kwargs: Any) -> None:
        """Delete a session with its agents, messages and multi-agent states.

        What is deleted is overwritten on disk: when this returns, it is neither in the file nor in its `-wal`, unless
        another connection was using the file at that moment, which is logged.

        Args:
            session_id: Id of the session.
            **kwargs: Ignored, for later versions of the contract.

        Raises:
            SessionException: If it does not exist.
        """
        deleted = self._database.execute(
            "DELETE FROM sessions WHERE session_id = ?", (checked_id("session_id", session_id),)
        )
        if not deleted:
            raise missing("sessions", session_id)
        self._erase_former_content()
        logger.debug("session_id=<%s> | deleted session", session_id)

    def create_agent(
        self,
        session_id: str,
        session_agent: SessionAgent,
        *,
        messages: Sequence[SessionMessage] = (),
        **kwargs: Any,
    ) -> None:
        """Create an agent in a session, and its first messages, all at once.

        Args:
            session_id: Id of the session.
            session_agent: Agent to store.
            messages: Messages that it begins with.
            **kwargs: Ignored, for later versions of the contract.

        Raises:
            SessionConflictError: If the agent exists already, or two messages have one id. Nothing is stored then.
            SessionException: If the session does not exist, or something to store has no JSON form.
        """
        agent_id = checked_id("agent_id", session_agent.agent_id)
        insert_agent = """
            INSERT INTO agents (
                session_id, agent_id, state, conversation_manager_state, internal_state, created_at, updated_at
            ) VALUES (?, ?, ?, ?, ?, ?, ?)
            """
        agent_parameters = (
            checked_id("session_id", session_id),
            agent_id,
            *encode_agent(session_agent),
            session_agent.created_at,
            session_agent.updated_at,
        )
        first_messages = [(_INSERT_MESSAGE, message_row(session_id, agent_id, m)) for m in messages]
        try:
            with naming_too_large(f"{record_name('agents', session_id, agent_id)}, or one of its messages"):
                counts = self._database.transaction([(insert_agent, agent_parameters), *first_messages])
        except MissingParentError as error:
            raise missing("sessions", session_id) from error
        except SessionConflictError as error:
            raise SessionConflictError(
                f"Agent {agent_id} already exists in session {session_id}, or two of its messages have one id"
            ) from error
        require_stored(counts, record_name("agents", session_id, agent_id))

    def read_agent(self, session_id: str, agent_id: str, **kwargs: Any) -> SessionAgent | None:
        """Read an agent.

        Args:
            session_id: Id of the session.
            agent_id: Id of the agent.
            **kwargs: Ignored, for later versions of the contract.

        Returns:
            The agent, or None if there is none.

        Raises:
            SessionException: If the stored state is damaged.
        """
        key = (checked_id("session_id", session_id), checked_id("agent_id", agent_id))
        rows = self._database.query(
            """
            SELECT state, conversation_manager_state, internal_state, created_at, updated_at
            FROM agents WHERE session_id = ? AND agent_id = ?
                AND NOT EXISTS (SELECT 1 FROM expired_sessions WHERE expired_id = session_id)
            """,
            key,
        )
        if not rows:
            return None
        state, conversation_manager_state, internal_state, created_at, updated_at = rows[0]
        return SessionAgent(
            agent_id=agent_id,
            state=decode(state, "agents", key),
            conversation_manager_state=decode(conversation_manager_state, "agents", key),
            _internal_state=decode(internal_state, "agents", key),
            created_at=created_at,
            updated_at=updated_at,
        )

    def update_agent(self, session_id: str, session_agent: SessionAgent, **kwargs: Any) -> None:
        """Update an agent. The time of its creation is kept.

        Args:
            session_id: Id of the session.
            session_agent: Agent to store.
            **kwargs: Ignored, for later versions of the contract.

        Raises:
            SessionException: If it does not exist, or its state holds something that has no JSON form.
        """
        key = (checked_id("session_id", session_id), checked_id("agent_id", session_agent.agent_id))
        # A time that is stored already is not that of this update. The triggers that set it are for changes by hand: a
        # statement that asks the clock is not the same on each replica.
        with naming_too_large(record_name("agents", *key)):
            updated = self._database.execute(
                """
                UPDATE agents SET state = ?, conversation_manager_state = ?, internal_state = ?,
                    updated_at = coalesce(nullif(?, updated_at), ?)
                WHERE session_id = ? AND agent_id = ?
                """,
                (*encode_agent(session_agent), session_agent.updated_at, now(), *key),
            )
        if not updated:
            raise missing("agents", *key, advice=IF_GONE)

    def create_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any) -> None:
        """Append a message to an agent's conversation.

        Args:
            session_id: Id of the session.
            agent_id: Id of the agent.
            session_message: Message to store.
            **kwargs: Ignored, for later versions of the contract.

        Raises:
            SessionConflictError: If a message with this id exists already. It is kept.
            SessionException: If the agent does not exist, or the message holds something that has no JSON form.
        """
        parameters = message_row(session_id, agent_id, session_message)
        try:
            count = self._database.execute(_INSERT_MESSAGE, parameters)
        except MissingParentError as error:
            raise missing("agents", session_id, agent_id, advice=IF_GONE) from error
        except TooLargeError as error:
            raise TooLargeError(f"{record_name('messages', *parameters[:3])}: too large: {error}") from error
        except SessionConflictError as error:
            raise SessionConflictError(
                f"{record_name('messages', session_id, agent_id, session_message.message_id)} already exists: another "
                f"writer was first, and its message is kept. To go on from it, {REBUILD}."
            ) from error
        if not count:  # Nearly never, hence the name only here.
            require_stored((count,), record_name("messages", *parameters[:3]))
        sweep(self._database)

    def read_message(self, session_id: str, agent_id: str, message_id: int, **kwargs: Any) -> SessionMessage | None:
        """Read a message.

        Args:
            session_id: Id of the session.
            agent_id: Id of the agent.
            message_id: Number of the message, from 0.
            **kwargs: Ignored, for later versions of the contract.

        Returns:
            The message, or None if there is none.

        Raises:
            SessionException: If the stored message is damaged.
            ValueError: If the message id is not an int from 0 to 2**63 - 1.
        """
        rows = self._database.query(
            f"{_SELECT_MESSAGES} AND message_id = :message_id",
            {**_agent_key(session_id, agent_id), "message_id": checked_number("message_id", message_id)},
        )
        return decode_message(rows[0], session_id, agent_id) if rows else None

    def update_message(self, session_id: str, agent_id: str, session_message: SessionMessage, **kwargs: Any) -> None:
        """Replace a message: its content and its redaction. The time of its creation is kept.

        What is replaced is overwritten on disk: when this returns, it is neither in the file nor in its `-wal`, unless
        another connection was using the file at that moment, which is logged. To leave nothing of a message, put the
        redacted content into both `message` and `redact_message`, as `SQLiteSessionManager.redact_latest_message` does.

        Args:
            session_id: Id of the session.
            agent_id: Id of the agent.
            session_message: Message to store.
            **kwargs: Ignored, for later versions of the contract.

        Raises:
            SessionException: If it does not exist, or holds something that has no JSON form.
        """
        message, redact_message, attachments = encode_message(session_message)
        message_id = checked_number("message_id", session_message.message_id)
        parameters = {
            **_agent_key(session_id, agent_id),
            "message_id": message_id,
            "message": message,
            "redact_message": redact_message,
            "attachments": attachments,
            "updated_at": session_message.updated_at,
            "now": now(),
        }
        statements = [(_UPDATE_MESSAGE, parameters)]
        if redact_message is not None:
            # An agent may have a changed copy of it.
            statements.append((forget_copies(_IS_MESSAGE), parameters))
        with naming_too_large(record_name("messages", session_id, agent_id, message_id)):
            updated = self._database.transaction(statements)[0]
        if not updated:
            raise missing("messages", session_id, agent_id, message_id)
        self._erase_former_content()

    def list_messages(
        self, session_id: str, agent_id: str, limit: int | None = None, offset: int = 0, **kwargs: Any
    ) -> list[SessionMessage]:
        """List an agent's messages in the order of their ids.

        Args:
            session_id: Id of the session.
            agent_id: Id of the agent.
            limit: Number of messages at the most. Defaults to all.
            offset: Number of messages to leave out at the start.
            **kwargs: Ignored, for later versions of the contract.

        Returns:
            The messages.

        Raises:
            SessionException: If the agent does not exist, or a stored message is damaged.
            ValueError: If limit or offset is not an int from 0 to 2**63 - 1.
        """
        key = _agent_key(session_id, agent_id)
        # The inner query walks the key's index alone; an OFFSET in the outer one would read each message it skips.
        rows = self._database.query(
            f"""
            {_SELECT_MESSAGES} AND message_id >= (
                SELECT message_id FROM messages WHERE session_id = :session_id AND agent_id = :agent_id
                ORDER BY message_id LIMIT 1 OFFSET :offset
            )
            ORDER BY message_id LIMIT :limit
            """,  # noqa: S608 (constants only)
            {
                **key,
                "offset": checked_number("offset", offset),
                "limit": -1 if limit is None else checked_number("limit", limit),
            },
        )
        if not rows and not self._database.query(
            """
            SELECT 1 FROM agents
            WHERE session_id = :session_id AND agent_id = :agent_id
                AND NOT EXISTS (SELECT 1 FROM expired_sessions WHERE expired_id = session_id)
            """,
            key,
        ):
            raise missing("agents", session_id, agent_id)
        return [decode_message(row, session_id, agent_id) for row in rows]

    def read_latest_message(self, session_id: str, agent_id: str) -> SessionMessage | None:
        """Read the message with an agent's highest message id.

        Args:
            session_id: Id of the session.
            agent_id: Id of the agent.

        Returns:
            The message, or None if there is none.

        Raises:
            SessionException: If the stored message is damaged.
        """
        rows = self._database.query(
            f"{_SELECT_MESSAGES} ORDER BY message_id DESC LIMIT 1", _agent_key(session_id, agent_id)
        )
        return decode_message(rows[0], session_id, agent_id) if rows else None

    def create_multi_agent(self, session_id: str, multi_agent: "MultiAgentBase", **kwargs: Any) -> None:
        """Create the state of a graph or swarm in a session.

        Args:
            session_id: Id of the session.
            multi_agent: Graph or swarm whose state to store.
            **kwargs: Ignored, for later versions of the contract.

        Raises:
            SessionConflictError: If it exists already.
            SessionException: If the session does not exist, or the state holds something that has no JSON form.
        """
        multi_agent_id = checked_id("multi_agent_id", multi_agent.id)
        try:
            with naming_too_large(record_name("multi_agents", session_id, multi_agent_id)):
                count = self._database.execute(
                    """
                    INSERT INTO multi_agents (session_id, multi_agent_id, state, created_at, updated_at)
                    VALUES (:session_id, :multi_agent_id, :state, :now, :now)
                    """,
                    {
                        "session_id": checked_id("session_id", session_id),
                        "multi_agent_id": multi_agent_id,
                        "state": encode(multi_agent.serialize_state(), "state"),
                        "now": now(),
                    },
                )
        except MissingParentError as error:
            raise missing("sessions", session_id) from error
        except SessionConflictError as error:
            raise SessionConflictError(
                f"{record_name('multi_agents', session_id, multi_agent_id)} already exists"
            ) from error
        require_stored((count,), record_name("multi_agents", session_id, multi_agent_id))

    def read_multi_agent(self, session_id: str, multi_agent_id: str, **kwargs: Any) -> dict[str, Any] | None:
        """Read the state of a graph or swarm.

        Args:
            session_id: Id of the session.
            multi_agent_id: Id of the graph or swarm.
            **kwargs: Ignored, for later versions of the contract.

        Returns:
            The state, or None if there is none.

        Raises:
            SessionException: If the stored state is damaged.
        """
        key = (checked_id("session_id", session_id), checked_id("multi_agent_id", multi_agent_id))
        rows = self._database.query(
            """
            SELECT state FROM multi_agents
            WHERE session_id = ? AND multi_agent_id = ?
                AND NOT EXISTS (SELECT 1 FROM expired_sessions WHERE expired_id = session_id)
            """,
            key,
        )
        return decode(rows[0][0], "multi_agents", key) if rows else None

    def update_multi_agent(self, session_id: str, multi_agent: "MultiAgentBase", **kwargs: Any) -> None:
        """Update the state of a graph or swarm.

        Args:
            session_id: Id of the session.
            multi_agent: Graph or swarm whose state to store.
            **kwargs: Ignored, for later versions of the contract.

        Raises:
            SessionException: If it does not exist, or the state holds something that has no JSON form.
        """
        multi_agent_id = checked_id("multi_agent_id", multi_agent.id)
        with naming_too_large(record_name("multi_agents", session_id, multi_agent_id)):
            updated = self._database.execute(
                "UPDATE multi_agents SET state = ?, updated_at = ? WHERE session_id = ? AND multi_agent_id = ?",
                (
                    encode(multi_agent.serialize_state(), "state"),
                    now(),
                    checked_id("session_id", session_id),
                    multi_agent_id,
                ),
            )
        if not updated:
            raise missing("multi_agents", session_id, multi_agent_id)

    def _erase_former_content(self) -> None:
        # Only here: most programs never delete.
        from ._search.erasing import erase_former_content
        from ._search.sources import MESSAGES, STORAGE

        erase_former_content(self._database, MESSAGES, STORAGE)


def _agent_key(session_id: str, agent_id: str) -> dict[str, Any]:
    return {"session_id": checked_id("session_id", session_id), "agent_id": checked_id("agent_id", agent_id)}
