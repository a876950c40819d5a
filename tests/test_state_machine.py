"""Any sequence of operations with any content, beside a model of plain dictionaries."""

import copy
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from helpers import FakeMultiAgent
from strands_sqlite_session_manager import SessionConflictError, SQLiteSessionRepository
from test_codec import identical, keys, objects, scalars

session_ids = st.sampled_from(["s", "S", "s/t", "🎉"])
agent_ids = st.sampled_from(["a", "b", "ß"])
message_ids = st.integers(0, 5) | st.just(2**63 - 1)
nested = st.lists(st.recursive(scalars, lambda inner: st.dictionaries(keys, inner, max_size=1), max_leaves=60))
messages = st.builds(lambda content: {"role": "user", "content": content}, st.lists(objects, max_size=3) | nested)
times = st.sampled_from(["2026-01-01T00:00:00.000001+00:00", "2026-02-01T00:00:00.000002+00:00"])


class RepositoryMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.repository = SQLiteSessionRepository(":memory:")
        self.sessions: dict[str, Session] = {}
        self.agents: dict[tuple[str, str], SessionAgent] = {}
        self.messages: dict[tuple[str, str], dict[int, SessionMessage]] = {}
        self.multi_agents: dict[tuple[str, str], dict[str, Any]] = {}

    def teardown(self) -> None:
        self.repository.close()

    def attempt(self, call: Any, expected: type[SessionException] | None) -> None:
        raised = None
        try:
            call()
        except SessionException as error:
            raised = error
        is_conflict = isinstance(raised, SessionConflictError)
        assert (raised is not None, is_conflict) == (expected is not None, expected is SessionConflictError)

    @rule(session_id=session_ids, time=times)
    def create_session(self, session_id: str, time: str) -> None:
        session = Session(session_id, SessionType.AGENT, time, time)
        exists = session_id in self.sessions
        self.attempt(lambda: self.repository.create_session(session), SessionConflictError if exists else None)
        self.sessions.setdefault(session_id, copy.copy(session))

    @rule(session_id=session_ids)
    def delete_session(self, session_id: str) -> None:
        exists = session_id in self.sessions
        self.attempt(lambda: self.repository.delete_session(session_id), None if exists else SessionException)
        self.sessions.pop(session_id, None)
        for table in (self.agents, self.messages, self.multi_agents):
            for key in [key for key in table if key[0] == session_id]:
                del table[key]

    @rule(session_id=session_ids, agent_id=agent_ids, states=st.tuples(objects, objects, objects), time=times)
    def create_agent(self, session_id: str, agent_id: str, states: Any, time: str) -> None:
        agent = SessionAgent(agent_id, *states, time, time)
        key = (session_id, agent_id)
        expected = SessionConflictError if key in self.agents else None
        if session_id not in self.sessions:
            expected = SessionException
        self.attempt(lambda: self.repository.create_agent(session_id, agent), expected)
        if expected is None:
            self.agents[key], self.messages[key] = agent, {}

    @rule(session_id=session_ids, agent_id=agent_ids, states=st.tuples(objects, objects, objects))
    def update_agent(self, session_id: str, agent_id: str, states: Any) -> None:
        agent = SessionAgent(agent_id, *states)
        stored = self.agents.get((session_id, agent_id))
        self.attempt(
            lambda: self.repository.update_agent(session_id, agent), SessionException if stored is None else None
        )
        if stored is not None:
            agent.created_at = stored.created_at
            self.agents[session_id, agent_id] = agent

    @rule(session_id=session_ids, agent_id=agent_ids, message_id=message_ids, message=messages, time=times)
    def create_message(self, session_id: str, agent_id: str, message_id: int, message: Any, time: str) -> None:
        session_message = SessionMessage(message, message_id, None, time, time)
        stored = self.messages.get((session_id, agent_id))
        expected = SessionException if stored is None else SessionConflictError if message_id in stored else None
        self.attempt(lambda: self.repository.create_message(session_id, agent_id, session_message), expected)
        if expected is None:
            stored[message_id] = session_message
            session = self.sessions[session_id]
            session.updated_at = max(session.updated_at, time)

    @rule(session_id=session_ids, agent_id=agent_ids, message_id=message_ids, message=messages, redaction=messages)
    def redact(self, session_id: str, agent_id: str, message_id: int, message: Any, redaction: Any) -> None:
        session_message = SessionMessage(message, message_id, redaction)
        stored = self.messages.get((session_id, agent_id), {})
        exists = message_id in stored
        self.attempt(
            lambda: self.repository.update_message(session_id, agent_id, session_message),
            None if exists else SessionException,
        )
        if exists:
            session_message.created_at = stored[message_id].created_at
            stored[message_id] = session_message

    @rule(session_id=session_ids, multi_agent_id=agent_ids, state=objects, update=st.booleans())
    def store_multi_agent(self, session_id: str, multi_agent_id: str, state: Any, update: bool) -> None:
        key = (session_id, multi_agent_id)
        source = FakeMultiAgent(multi_agent_id, state)
        exists = key in self.multi_agents
        if update:
            expected = None if exists else SessionException
            self.attempt(lambda: self.repository.update_multi_agent(session_id, source), expected)
        else:
            expected = SessionConflictError if exists else None if session_id in self.sessions else SessionException
            self.attempt(lambda: self.repository.create_multi_agent(session_id, source), expected)
        if expected is None:
            self.multi_agents[key] = state
            self.sessions[session_id].updated_at = None  # the database's own clock

    @rule(session_id=session_ids, agent_id=agent_ids, limit=st.none() | st.integers(0, 7), offset=st.integers(0, 7))
    def list_page(self, session_id: str, agent_id: str, limit: int | None, offset: int) -> None:
        stored = self.messages.get((session_id, agent_id))
        if stored is None:
            self.attempt(lambda: self.repository.list_messages(session_id, agent_id, limit, offset), SessionException)
            return
        expected = [stored[message_id] for message_id in sorted(stored)][offset:][:limit]
        read = self.repository.list_messages(session_id, agent_id, limit, offset)
        assert [message.message_id for message in read] == [message.message_id for message in expected]

    @invariant()
    def everything_is_as_in_the_model(self) -> None:
        for session_id, session in self.sessions.items():
            read = self.repository.read_session(session_id)
            if session.updated_at is None:
                session.updated_at = read.updated_at
            assert read == session
        for (session_id, agent_id), agent in self.agents.items():
            assert identical(vars(self.repository.read_agent(session_id, agent_id)), vars(agent))
            stored = self.messages[session_id, agent_id]
            listed = self.repository.list_messages(session_id, agent_id)
            assert [message.message_id for message in listed] == sorted(stored)
            for message in listed:
                assert identical(vars(message), vars(stored[message.message_id]))
                assert identical(
                    vars(self.repository.read_message(session_id, agent_id, message.message_id)), vars(message)
                )
            latest = self.repository.read_latest_message(session_id, agent_id)
            assert (latest.message_id if latest else None) == max(stored, default=None)
        for (session_id, multi_agent_id), state in self.multi_agents.items():
            assert identical(self.repository.read_multi_agent(session_id, multi_agent_id), state)


TestRepositoryMachine = RepositoryMachine.TestCase
TestRepositoryMachine.settings = settings(max_examples=8, stateful_step_count=20, deadline=None)
