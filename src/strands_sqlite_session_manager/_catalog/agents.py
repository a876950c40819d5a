"""An agent, without its messages."""

import json
from typing import Any

from strands.types.exceptions import SessionException

from .._codec import decode
from .._conversation.live_view import parse
from .._engine.database import Database
from .records import AgentDescription


def describe(database: Database, session_id: str, agent_id: str) -> AgentDescription | None:
    """Describe an agent; see `SessionCatalog.describe_agent`."""
    key = (session_id, agent_id)
    rows = database.query(
        """
        SELECT
            (SELECT max(message_id) FROM messages WHERE session_id = :session_id AND agent_id = :agent_id),
            created_at, updated_at, live_view, state, conversation_manager_state, internal_state
        FROM agents
        WHERE session_id = :session_id AND agent_id = :agent_id
            AND NOT EXISTS (SELECT 1 FROM expired_sessions WHERE expired_id = session_id)
        """,
        {"session_id": session_id, "agent_id": agent_id},
    )
    if not rows:
        return None
    last_message_id, created_at, updated_at, live_view, *states = rows[0]
    try:
        state, manager_state, internal_state = (decode(text, "agents", key) for text in states)
        items = _items_without_view(database, key, manager_state) if live_view is None else parse(live_view, key)
    except SessionException as error:
        return AgentDescription(agent_id, last_message_id, [[0]], {}, {}, {}, created_at, updated_at, str(error))
    return AgentDescription(
        agent_id, last_message_id, items, state, manager_state, internal_state, created_at, updated_at
    )


def revisions(database: Database, conversations: list[tuple[str, str | None]]) -> dict[tuple[str, str | None], str]:
    """Return what tells that a conversation has changed; see `SessionCatalog.revisions`."""
    rows = database.query(
        """
        SELECT agents.session_id, agents.agent_id, agents.updated_at || coalesce(
            (
                SELECT ' ' || message_id || ' ' || messages.updated_at FROM messages
                WHERE messages.session_id = agents.session_id AND messages.agent_id = agents.agent_id
                ORDER BY message_id DESC LIMIT 1
            ),
            ''
        ) || (
            SELECT ' ' || count(*) FROM agents AS others WHERE others.session_id = agents.session_id
        ) || (
            SELECT ' ' || updated_at FROM sessions WHERE sessions.session_id = agents.session_id
        )
        FROM json_each(:conversations) AS wanted
        CROSS JOIN agents ON agents.session_id = json_extract(wanted.value, '$[0]')
            AND agents.agent_id = json_extract(wanted.value, '$[1]')
        WHERE NOT EXISTS (SELECT 1 FROM expired_sessions WHERE expired_id = agents.session_id)
        UNION ALL
        SELECT session_id, NULL, updated_at || (
            SELECT ' ' || count(*) FROM agents WHERE agents.session_id = sessions.session_id
        )
        FROM json_each(:conversations) AS wanted
        CROSS JOIN sessions ON session_id = json_extract(wanted.value, '$[0]')
        WHERE json_extract(wanted.value, '$[1]') IS NULL
            AND NOT EXISTS (SELECT 1 FROM expired_sessions WHERE expired_id = session_id)
        """,
        {"conversations": json.dumps(conversations)},
    )
    return {(session_id, agent_id): revision for session_id, agent_id, revision in rows}


def _items_without_view(database: Database, key: tuple[str, str], manager_state: dict[str, Any]) -> list[Any]:
    """Return the live view of an agent that none is stored of, by the SDK's rule."""
    removed, summary = manager_state.get("removed_message_count"), manager_state.get("summary_message")
    first = 0
    if isinstance(removed, int) and 0 < removed < 2**63:
        rows = database.query(
            """
            SELECT coalesce(
                (
                    SELECT message_id FROM messages WHERE session_id = :session_id AND agent_id = :agent_id
                    ORDER BY message_id LIMIT 1 OFFSET :removed
                ),
                (SELECT max(message_id) + 1 FROM messages WHERE session_id = :session_id AND agent_id = :agent_id),
                0
            )
            """,
            {"session_id": key[0], "agent_id": key[1], "removed": removed},
        )
        first = rows[0][0]
    return [{"message": summary}, [first]] if isinstance(summary, dict) else [[first]]
