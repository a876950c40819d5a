"""What callers of Strands' own repositories rely on, run against the SDK's `FileSessionManager` and ours.

Where ours differs on purpose, a test named `test_ours_…` or `test_stricter_…` says how.
"""

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from strands.session.file_session_manager import FileSessionManager
from strands.session.session_repository import SessionRepository
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionType

from helpers import FakeMultiAgent, text_message, texts
from strands_sqlite_session_manager import SessionConflictError, SQLiteSessionManager, SQLiteSessionRepository

ON_A_CLUSTER = [pytest.param(name, marks=pytest.mark.cluster) for name in ("rqlite-repository", "rqlite-manager")]


@pytest.fixture(params=["file", "sqlite-repository", "sqlite-manager", *ON_A_CLUSTER])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A repository with the session `s` and its agent `a`."""
    db_path = request.getfixturevalue("cluster").url if "rqlite" in request.param else tmp_path / "sessions.db"
    if request.param == "file":
        store: Any = FileSessionManager("other", storage_dir=str(tmp_path / "files"))
    elif "repository" in request.param:
        store = SQLiteSessionRepository(db_path)
    else:
        store = SQLiteSessionManager("other", db_path)
    store.create_session(Session("s", SessionType.AGENT))
    store.create_agent("s", SessionAgent("a", {"color": "red"}, {"removed_message_count": 0}))
    yield store
    if request.param != "file":
        store.close()


@pytest.fixture
def ours(repository: SQLiteSessionRepository) -> SQLiteSessionRepository:
    return repository


def test_is_a_session_repository(store: Any) -> None:
    assert isinstance(store, SessionRepository)


class TestSession:
    def test_is_read_as_it_was_created(self, store: Any) -> None:
        session = Session("new", SessionType.AGENT)
        assert store.create_session(session) is session
        assert store.read_session("new") == session

    def test_that_does_not_exist_reads_as_none(self, store: Any) -> None:
        assert store.read_session("nobody") is None

    def test_that_exists_is_not_created_again(self, store: Any) -> None:
        with pytest.raises(SessionException, match="already exists"):
            store.create_session(Session("s", SessionType.AGENT))

    def test_is_deleted_with_all_that_is_in_it(self, store: Any) -> None:
        store.create_message("s", "a", text_message(0))
        store.create_multi_agent("s", FakeMultiAgent("g", {}))
        store.delete_session("s")
        assert store.read_session("s") is None
        assert store.read_agent("s", "a") is None
        assert store.read_message("s", "a", 0) is None
        assert store.read_multi_agent("s", "g") is None

    def test_that_does_not_exist_is_not_deleted(self, store: Any) -> None:
        with pytest.raises(SessionException, match="does not exist"):
            store.delete_session("nobody")

    def test_can_be_created_again_after_it_was_deleted(self, store: Any) -> None:
        store.delete_session("s")
        store.create_session(Session("s", SessionType.AGENT))
        assert store.read_agent("s", "a") is None


class TestAgent:
    def test_is_read_as_it_was_created(self, store: Any) -> None:
        agent = SessionAgent("b", {"x": [1, {"y": None}]}, {"window": 3}, {"interrupt_state": {}})
        store.create_agent("s", agent)
        assert store.read_agent("s", "b") == agent

    @pytest.mark.parametrize(("session_id", "agent_id"), [("s", "nobody"), ("nobody", "a")])
    def test_that_does_not_exist_reads_as_none(self, store: Any, session_id: str, agent_id: str) -> None:
        assert store.read_agent(session_id, agent_id) is None

    def test_update_replaces_the_states_and_keeps_the_time_of_creation(self, store: Any) -> None:
        created_at = store.read_agent("s", "a").created_at
        update = SessionAgent("a", {"color": "blue"}, {"removed_message_count": 2}, {"model_state": {}})
        store.update_agent("s", copy.deepcopy(update))
        stored = store.read_agent("s", "a")
        assert (stored.state, stored.conversation_manager_state, stored._internal_state) == (
            {"color": "blue"},
            {"removed_message_count": 2},
            {"model_state": {}},
        )
        assert stored.created_at == created_at
        assert stored.updated_at == update.updated_at

    @pytest.mark.parametrize(("session_id", "agent_id"), [("s", "nobody"), ("nobody", "a")])
    def test_that_does_not_exist_is_not_updated(self, store: Any, session_id: str, agent_id: str) -> None:
        with pytest.raises(SessionException, match="does not exist"):
            store.update_agent(session_id, SessionAgent(agent_id, {}, {}))
        assert store.read_agent(session_id, agent_id) is None


class TestMessage:
    @pytest.mark.parametrize(
        "content",
        [
            [{"text": "hello"}],
            [{"text": 'é 漢字 🎉 \u0000 \u2028 "quoted" \\ \''}],
            [],
            [{"toolUse": {"toolUseId": "1", "name": "add", "input": {"a": 1, "b": 2.5, "c": None, "d": True}}}],
            [{"toolResult": {"toolUseId": "1", "status": "success", "content": [{"json": {"n": 10**30}}]}}],
            [{"image": {"format": "png", "source": {"bytes": b"\x89PNG\x00\xff"}}}, {"text": "what is it?"}],
            [{"document": {"name": n, "format": "pdf", "source": {"bytes": n.encode() * 9}}} for n in ("x", "y", "")],
            [{"toolResult": {"toolUseId": "1", "content": [{"image": {"source": {"bytes": bytes(range(256))}}}]}}],
            [{"reasoningContent": {"redactedContent": b""}}],
        ],
    )
    def test_is_read_as_it_was_created(self, store: Any, content: Any) -> None:
        message = text_message(0)
        message.message["content"] = content
        store.create_message("s", "a", copy.deepcopy(message))
        assert store.read_message("s", "a", 0) == message
        assert store.list_messages("s", "a") == [message]

    def test_keeps_metadata_and_keys_of_newer_sdks(self, store: Any) -> None:
        message = text_message(0)
        message.message.update(tracking_id="t", metadata={"usage": {"inputTokens": 1}}, novelty=["x"])
        store.create_message("s", "a", message)
        assert store.read_message("s", "a", 0).message == message.message

    @pytest.mark.parametrize(
        ("session_id", "agent_id", "message_id"), [("s", "a", 7), ("s", "nobody", 0), ("nobody", "a", 0)]
    )
    def test_that_does_not_exist_reads_as_none(
        self, store: Any, session_id: str, agent_id: str, message_id: int
    ) -> None:
        assert store.read_message(session_id, agent_id, message_id) is None

    def test_update_replaces_it_and_keeps_the_time_of_creation(self, store: Any) -> None:
        store.create_message("s", "a", text_message(0, "secret"))
        created_at = store.read_message("s", "a", 0).created_at
        update = text_message(0, "secret")
        update.redact_message = {"role": "user", "content": [{"text": "[redacted]"}]}
        store.update_message("s", "a", copy.deepcopy(update))
        stored = store.read_message("s", "a", 0)
        assert stored.message == update.message
        assert stored.redact_message == update.redact_message
        assert stored.to_message() == update.redact_message
        assert stored.created_at == created_at
        assert stored.updated_at == update.updated_at

    def test_update_can_add_and_remove_bytes(self, store: Any) -> None:
        store.create_message("s", "a", text_message(0))
        update = text_message(0)
        update.message["content"] = [{"image": {"source": {"bytes": b"one"}}}]
        update.redact_message = {"role": "user", "content": [{"image": {"source": {"bytes": b"two"}}}]}
        store.update_message("s", "a", copy.deepcopy(update))
        assert store.read_message("s", "a", 0).message == update.message
        assert store.read_message("s", "a", 0).redact_message == update.redact_message
        store.update_message("s", "a", text_message(0, "plain"))
        assert texts(store.list_messages("s", "a")) == ["plain"]

    @pytest.mark.parametrize(
        ("session_id", "agent_id", "message_id"), [("s", "a", 7), ("s", "nobody", 0), ("nobody", "a", 0)]
    )
    def test_that_does_not_exist_is_not_updated(
        self, store: Any, session_id: str, agent_id: str, message_id: int
    ) -> None:
        with pytest.raises(SessionException, match="does not exist"):
            store.update_message(session_id, agent_id, text_message(message_id))
        assert store.read_message(session_id, agent_id, message_id) is None

    @pytest.mark.parametrize("message_id", ["0", None, 1.5])
    def test_id_that_is_no_int_is_refused(self, store: Any, message_id: Any) -> None:
        with pytest.raises(ValueError, match="message"):
            store.read_message("s", "a", message_id)


class TestListMessages:
    @pytest.fixture
    def full(self, store: Any) -> Any:
        for message_id in (11, 3, 5, 0, 1, 2, 10, 4):  # with a gap, and not in order
            store.create_message("s", "a", text_message(message_id, str(message_id)))
        return store

    @pytest.mark.slow
    @pytest.mark.parametrize("limit", [None, 0, 1, 3, 8, 100])
    @pytest.mark.parametrize("offset", [0, 1, 5, 7, 8, 100])
    def test_pages_are_positions_in_the_order_of_the_ids(self, full: Any, limit: int | None, offset: int) -> None:
        in_order = ["0", "1", "2", "3", "4", "5", "10", "11"]
        end = None if limit is None else offset + limit
        assert texts(full.list_messages("s", "a", limit, offset)) == in_order[offset:end]
        assert texts(full.list_messages("s", "a", limit=limit, offset=offset)) == in_order[offset:end]

    def test_of_an_agent_without_messages_is_empty(self, store: Any) -> None:
        assert store.list_messages("s", "a") == []

    @pytest.mark.parametrize(("session_id", "agent_id"), [("s", "nobody"), ("nobody", "a")])
    def test_of_an_agent_that_does_not_exist_raises(self, store: Any, session_id: str, agent_id: str) -> None:
        with pytest.raises(SessionException):
            store.list_messages(session_id, agent_id)

    def test_agents_and_sessions_do_not_mix(self, full: Any) -> None:
        full.create_session(Session("t", SessionType.AGENT))
        for session_id, agent_id in (("s", "b"), ("t", "a")):
            full.create_agent(session_id, SessionAgent(agent_id, {}, {}))
            full.create_message(session_id, agent_id, text_message(0, session_id + agent_id))
        assert texts(full.list_messages("s", "b")) == ["sb"]
        assert texts(full.list_messages("t", "a")) == ["ta"]
        assert len(full.list_messages("s", "a")) == 8

    @pytest.mark.parametrize("offset", [0, 7, 8, 9, 12, 13])
    def test_pages_end_where_the_messages_of_the_next_agent_begin(self, full: Any, offset: int) -> None:
        full.create_session(Session("t", SessionType.AGENT))
        for session_id, agent_id in (("s", "b"), ("s", "0"), ("t", "a")):  # after it, before it, in the next session
            full.create_agent(session_id, SessionAgent(agent_id, {}, {}))
            for message_id in range(20, 24):
                full.create_message(session_id, agent_id, text_message(message_id, session_id + agent_id))
        assert len(full.list_messages("s", "a", offset=offset)) == max(0, 8 - offset)
        for session_id, agent_id in (("s", "b"), ("s", "0"), ("t", "a")):
            page = full.list_messages(session_id, agent_id, limit=2, offset=offset)
            assert texts(page) == [session_id + agent_id] * min(2, max(0, 4 - offset))


class TestMultiAgent:
    STATE = {  # noqa: RUF012
        "type": "graph",
        "current_task": [{"image": {"source": {"bytes": {"__bytes_encoded__": True, "data": "aGk="}}}}],
        "node_results": {"writer": {"status": "completed"}},
    }

    def test_is_read_as_it_was_created(self, store: Any) -> None:
        store.create_multi_agent("s", FakeMultiAgent("g", self.STATE))
        assert store.read_multi_agent("s", "g") == self.STATE

    @pytest.mark.parametrize(("session_id", "multi_agent_id"), [("s", "nobody"), ("nobody", "g")])
    def test_that_does_not_exist_reads_as_none(self, store: Any, session_id: str, multi_agent_id: str) -> None:
        assert store.read_multi_agent(session_id, multi_agent_id) is None

    def test_update_replaces_the_state(self, store: Any) -> None:
        store.create_multi_agent("s", FakeMultiAgent("g", self.STATE))
        store.update_multi_agent("s", FakeMultiAgent("g", {"type": "swarm"}))
        assert store.read_multi_agent("s", "g") == {"type": "swarm"}

    def test_that_does_not_exist_is_not_updated(self, store: Any) -> None:
        with pytest.raises(SessionException, match="does not exist"):
            store.update_multi_agent("s", FakeMultiAgent("nobody", {}))
        assert store.read_multi_agent("s", "nobody") is None

    def test_may_have_the_id_of_an_agent(self, store: Any) -> None:
        store.create_multi_agent("s", FakeMultiAgent("a", {"type": "graph"}))
        assert store.read_agent("s", "a").state == {"color": "red"}


class TestWhereOursDiffers:
    """The file manager overwrites, creates orphans or mixes up in these cases; ours raises, or changes nothing."""

    def test_stricter_a_message_is_never_overwritten(self, ours: SQLiteSessionRepository) -> None:
        ours.create_message("s", "a", text_message(0, "first"))
        with pytest.raises(SessionConflictError, match=r"Message 0 of agent a in session s already exists.*build"):
            ours.create_message("s", "a", text_message(0, "second"))
        assert texts(ours.list_messages("s", "a")) == ["first"]

    def test_stricter_an_agent_is_never_overwritten(self, ours: SQLiteSessionRepository) -> None:
        with pytest.raises(SessionConflictError, match="Agent a already exists in session s"):
            ours.create_agent("s", SessionAgent("a", {"lost": True}, {}))
        assert ours.read_agent("s", "a").state == {}

    def test_ours_creates_an_agent_with_its_first_messages_at_once(self, ours: SQLiteSessionRepository) -> None:
        """So that no other process restores it without them."""
        ours.create_agent("s", SessionAgent("b", {}, {}), messages=[text_message(n, str(n)) for n in range(3)])
        assert texts(ours.list_messages("s", "b")) == ["0", "1", "2"]
        with pytest.raises(SessionConflictError, match="Agent a already exists"):
            ours.create_agent("s", SessionAgent("a", {}, {}), messages=[text_message(0), text_message(1)])
        assert ours.list_messages("s", "a") == []
        with pytest.raises(SessionConflictError, match="two of its messages have one id"):
            ours.create_agent("s", SessionAgent("c", {}, {}), messages=[text_message(0), text_message(0)])
        with pytest.raises(SessionException, match="Session nobody does not exist"):
            ours.create_agent("nobody", SessionAgent("c", {}, {}), messages=[text_message(0)])
        unstorable = text_message(1)
        unstorable.message["content"] = [{1}]
        with pytest.raises(SessionException, match=r"message\.content\[0\]"):
            ours.create_agent("s", SessionAgent("c", {}, {}), messages=[text_message(0), unstorable])
        assert ours.read_agent("s", "c") is None

    def test_stricter_a_multi_agent_state_is_never_overwritten(self, ours: SQLiteSessionRepository) -> None:
        ours.create_multi_agent("s", FakeMultiAgent("g", {"kept": True}))
        with pytest.raises(SessionConflictError, match="MultiAgent state g in session s already exists"):
            ours.create_multi_agent("s", FakeMultiAgent("g", {}))
        assert ours.read_multi_agent("s", "g") == {"kept": True}

    def test_stricter_nothing_is_created_under_what_does_not_exist(self, ours: SQLiteSessionRepository) -> None:
        with pytest.raises(SessionException, match="Session nobody does not exist"):
            ours.create_agent("nobody", SessionAgent("a", {}, {}))
        with pytest.raises(SessionException, match="Session nobody does not exist"):
            ours.create_multi_agent("nobody", FakeMultiAgent("g", {}))
        with pytest.raises(SessionException, match="Agent nobody in session s does not exist"):
            ours.create_message("s", "nobody", text_message(0))

    def test_stricter_pages_are_not_counted_from_the_end(self, ours: SQLiteSessionRepository) -> None:
        with pytest.raises(ValueError, match="offset=-1"):
            ours.list_messages("s", "a", offset=-1)
        with pytest.raises(ValueError, match="limit=-1"):
            ours.list_messages("s", "a", limit=-1)

    def test_ours_leaves_the_callers_objects_alone(self, ours: SQLiteSessionRepository) -> None:
        """The file manager writes the stored time of creation into the object that it is given."""
        ours.create_message("s", "a", text_message(0))
        message = text_message(0)
        message.message["content"] = [{"image": {"source": {"bytes": b"x"}}}]
        agent = SessionAgent("a", {"t": (1, 2)}, {})
        before = copy.deepcopy((message, agent))
        ours.update_message("s", "a", message)
        ours.update_agent("s", agent)
        assert (message, agent) == before

    def test_ours_takes_ids_that_are_no_file_names(self, ours: SQLiteSessionRepository) -> None:
        for session_id in ("a/b", "../x", "..", "🎉", "x" * 10_000, "'; DROP TABLE sessions; --", " ", "S", "ß"):
            ours.create_session(Session(session_id, SessionType.AGENT))
            ours.create_agent(session_id, SessionAgent(session_id, {}, {}))
            assert ours.read_session(session_id).session_id == session_id
            assert ours.read_agent(session_id, session_id).agent_id == session_id
        assert ours.read_session("s").session_id == "s"

    @pytest.mark.parametrize("bad_id", ["", "a\0b", "\ud800", None, 5, b"s"])
    def test_stricter_ids_that_cannot_be_ids_are_refused(self, ours: SQLiteSessionRepository, bad_id: Any) -> None:
        message = text_message(0)
        state = FakeMultiAgent(bad_id, {})
        agent = SessionAgent(bad_id, {}, {})
        for call in (
            lambda: ours.create_session(Session(bad_id, SessionType.AGENT)),
            lambda: ours.read_session(bad_id),
            lambda: ours.delete_session(bad_id),
            lambda: ours.create_agent(bad_id, SessionAgent("a", {}, {})),
            lambda: ours.create_agent("s", agent),
            lambda: ours.read_agent(bad_id, "a"),
            lambda: ours.read_agent("s", bad_id),
            lambda: ours.update_agent(bad_id, SessionAgent("a", {}, {})),
            lambda: ours.update_agent("s", agent),
            lambda: ours.create_message(bad_id, "a", message),
            lambda: ours.create_message("s", bad_id, message),
            lambda: ours.read_message(bad_id, "a", 0),
            lambda: ours.read_message("s", bad_id, 0),
            lambda: ours.update_message(bad_id, "a", message),
            lambda: ours.update_message("s", bad_id, message),
            lambda: ours.list_messages(bad_id, "a"),
            lambda: ours.list_messages("s", bad_id),
            lambda: ours.read_latest_message(bad_id, "a"),
            lambda: ours.read_latest_message("s", bad_id),
            lambda: ours.create_multi_agent(bad_id, FakeMultiAgent("g", {})),
            lambda: ours.create_multi_agent("s", state),
            lambda: ours.read_multi_agent(bad_id, "g"),
            lambda: ours.read_multi_agent("s", bad_id),
            lambda: ours.update_multi_agent(bad_id, FakeMultiAgent("g", {})),
            lambda: ours.update_multi_agent("s", state),
        ):
            with pytest.raises(ValueError, match=re.escape(repr(bad_id))):
                call()

    @pytest.mark.parametrize("message_id", [-1, 2**63, True])
    def test_stricter_message_ids_that_cannot_be_counted_to_are_refused(
        self, ours: SQLiteSessionRepository, message_id: Any
    ) -> None:
        for call in (
            lambda: ours.create_message("s", "a", text_message(message_id)),
            lambda: ours.read_message("s", "a", message_id),
            lambda: ours.update_message("s", "a", text_message(message_id)),
        ):
            with pytest.raises(ValueError, match="message_id"):
                call()
