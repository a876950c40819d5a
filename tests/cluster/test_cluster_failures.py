"""Nodes die, hang and lose answers: nothing is lost, nothing is there twice, and no agent is told otherwise."""

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from proxy import Proxy
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionType

from helpers import make_agent, text_message, texts
from nodes import Cluster, running
from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository
from strands_sqlite_session_manager._engine.database import open_database
from strands_sqlite_session_manager._errors import UnknownOutcomeError

AGENTS, TURNS = 6, 15


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Cluster]:
    """Three nodes for this test alone."""
    with running(tmp_path / "cluster") as cluster:
        yield cluster


class Talk:
    """Agents in threads of their own, each with a session of its own."""

    def __init__(self, url: str, turns: int = TURNS):
        self._url = url
        self._turns = turns
        self.said = [0] * AGENTS
        self.errors: list[Exception] = []
        self._threads = [threading.Thread(target=self._talk, args=(number,)) for number in range(AGENTS)]
        for thread in self._threads:
            thread.start()

    def _talk(self, number: int) -> None:
        try:
            with SQLiteSessionManager(f"session-{number}", self._url) as manager:
                agent = make_agent(manager, *(f"answer {turn}" for turn in range(self._turns)))
                for turn in range(self._turns):
                    agent(f"question {turn}")
                    agent.state.set("turn", turn)
                    self.said[number] += 1
        except Exception as error:
            self.errors.append(error)

    def wait_for(self, turns: int) -> None:
        deadline = time.monotonic() + 60
        while min(self.said) < turns and not self.errors:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def end(self) -> None:
        """Wait for the agents, and compare what is stored with what they have said."""
        for thread in self._threads:
            thread.join(120)
        assert not self.errors
        expected = [text for turn in range(self._turns) for text in (f"question {turn}", f"answer {turn}")]
        for number in range(AGENTS):
            with SQLiteSessionManager(f"session-{number}", self._url) as manager:
                assert texts(make_agent(manager).messages) == expected
                log = manager.list_messages(f"session-{number}", "default")
                assert [(row.message_id, *texts([row])) for row in log] == list(enumerate(expected))


class TestNodes:
    @pytest.mark.parametrize("whose", ["leader", "follower"])
    def test_one_is_killed_and_comes_back(self, own: Cluster, whose: str) -> None:
        talk = Talk(own.url)
        talk.wait_for(TURNS // 3)
        leader = own.leader()
        node = leader if whose == "leader" else next(node for node in own.nodes if node is not leader)
        node.kill()
        talk.wait_for(2 * TURNS // 3)
        node.start()
        talk.end()
        own.wait()
        own.require_equal_nodes()

    def test_the_leader_hangs_and_goes_on(self, own: Cluster) -> None:
        talk = Talk(own.url)
        talk.wait_for(TURNS // 3)
        leader = own.leader()
        leader.signal(signal.SIGSTOP)
        try:
            talk.wait_for(2 * TURNS // 3)
        finally:
            leader.signal(signal.SIGCONT)
        talk.end()
        own.wait()
        own.require_equal_nodes()

    def test_one_is_down_all_the_time(self, own: Cluster) -> None:
        own.nodes[0].kill()
        own.wait()
        Talk(own.url, turns=3).end()

    def test_all_are_killed_and_started_again(self, own: Cluster) -> None:
        Talk(own.url, turns=2).end()
        for node in own.nodes:
            node.kill()
        for node in own.nodes:
            node.start()
        # Not before the cluster is ready: it is for the library to wait.
        with SQLiteSessionManager("session-0", own.url) as manager:
            agent = make_agent(manager, "answer 2")
            assert texts(agent.messages) == ["question 0", "answer 0", "question 1", "answer 1"]
            agent("question 2")
        own.wait()
        own.require_equal_nodes()

    def test_most_are_down(self, own: Cluster) -> None:
        with SQLiteSessionRepository(own.url, busy_timeout=1) as repository:
            repository.create_session(Session("s", SessionType.AGENT))
            for node in own.nodes[1:]:
                node.kill()
            with pytest.raises(SessionException, match=r"no node answered within busy_timeout \(1 s\)") as failed:
                repository.create_session(Session("t", SessionType.AGENT))
            assert "more than half of the nodes" in str(failed.value)
            with pytest.raises(SessionException, match="no node answered within busy_timeout"):
                repository.read_session("s")
            for node in own.nodes[1:]:
                node.start()
            own.wait()
            assert repository.read_session("s")


class Losing:
    """A cluster behind proxies that lose answers."""

    def __init__(self, cluster: Cluster, loses: Callable[[bytes], bool]):
        self.proxies = [Proxy(node.port, loses) for node in cluster.nodes]
        self.url = "rqlite://" + ",".join(f"127.0.0.1:{proxy.port}" for proxy in self.proxies)

    @property
    def lost(self) -> int:
        return sum(proxy.lost for proxy in self.proxies)

    def close(self) -> None:
        for proxy in self.proxies:
            proxy.close()


class TestLostAnswers:
    def test_of_one_in_ten_requests(self, cluster: Cluster) -> None:
        chance = random.Random(0)
        with closing(Losing(cluster, lambda _: chance.random() < 0.1)) as losing:
            Talk(losing.url, turns=10).end()
            assert losing.lost > 10

    def test_of_each_write_are_asked_for_again(self, cluster: Cluster) -> None:
        """No false conflict, no second row, and the numbers of rows are those of the write."""
        answered: set[bytes] = set()

        def loses(request: bytes) -> bool:
            body = request.partition(b"\r\n\r\n")[2]
            is_first = b"/db/execute" in request and body not in answered
            answered.add(body)
            return is_first

        with closing(Losing(cluster, loses)) as losing, SQLiteSessionRepository(losing.url) as repository:
            repository.create_session(Session("s", SessionType.AGENT))
            repository.create_agent("s", SessionAgent("a", {}, {}), messages=[text_message(0), text_message(1)])
            repository.create_message("s", "a", text_message(2))
            with pytest.raises(SessionException, match="already exists"):
                repository.create_message("s", "a", text_message(2))
            with closing(open_database(losing.url)) as database:
                assert database.transaction(
                    [
                        ("UPDATE sessions SET updated_at = 'later'", ()),
                        ("UPDATE messages SET updated_at = 'later'", ()),
                        ("UPDATE messages SET updated_at = 'never' WHERE message_id = 99", ()),
                    ]
                ) == [1, 3, 0]
            repository.delete_session("s")
            assert losing.lost >= 6

    def test_that_never_come_leave_it_unknown_and_the_agent_finds_out(self, cluster: Cluster) -> None:
        is_losing = threading.Event()
        with closing(Losing(cluster, lambda request: is_losing.is_set() and b"/db/execute" in request)) as losing:
            manager = SQLiteSessionManager("s", losing.url, busy_timeout=0.3)
            agent = make_agent(manager, "one", "two", "three")
            agent("first")
            is_losing.set()
            with pytest.raises(UnknownOutcomeError, match="whether it was stored is not known"):
                agent("second")
            is_losing.clear()
            agent.messages[:] = [message for message in agent.messages if texts([message]) != [""]]
            agent("third")
            stored = texts(manager.list_messages("s", "default"))
            assert stored[:3] == ["first", "one", "second"]
            assert stored.count("second") == 1
            again = make_agent(SQLiteSessionManager("s", cluster.url))
            assert texts(again.messages) == texts(agent.messages)
            manager.close()


def test_an_interrupted_agent_finds_out_too(cluster: Cluster) -> None:
    """The write is done, but nobody waits for its answer any more."""
    make_agent(SQLiteSessionManager("s", cluster.url), "one")("first")
    is_armed = threading.Event()

    def interrupt(request: bytes) -> bool:
        if is_armed.is_set() and b"/db/execute" in request:
            is_armed.clear()
            signal.raise_signal(signal.SIGUSR1)
        return False

    # What Ctrl-C does, but not ignored by a process in the background.
    signal.signal(signal.SIGUSR1, signal.default_int_handler)
    with closing(Losing(cluster, interrupt)) as losing:
        manager = SQLiteSessionManager("s", losing.url)
        agent = make_agent(manager, "two", "three")
        agent.messages.append({"role": "user", "content": [{"text": "second"}]})
        is_armed.set()
        with pytest.raises(KeyboardInterrupt):
            manager.append_message(agent.messages[-1], agent)
        manager.sync_agent(agent)
        agent("third")
        stored = texts(manager.list_messages("s", "default"))
        assert stored == ["first", "one", "second", "third", "two"]
        manager.close()


def test_busy_timeout_is_kept_when_all_hang(own: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strands_sqlite_session_manager._engine.rqlite.DEFAULT_TIMEOUT", 600.0)
    with SQLiteSessionRepository(own.url, busy_timeout=0.5) as repository:
        for node in own.nodes:
            node.signal(signal.SIGSTOP)
        started = time.monotonic()
        with pytest.raises(SessionException, match="no node answered"):
            repository.read_session("s")
        assert time.monotonic() - started < 60
        for node in own.nodes:
            node.signal(signal.SIGCONT)


def test_the_answer_of_a_read_is_never_stale(own: Cluster) -> None:
    """What was acknowledged is read by whoever asks next, whichever node that asks, and after a change of leaders."""
    with ExitStack() as stack:
        repositories = [
            stack.enter_context(SQLiteSessionRepository(f"rqlite://{','.join(nodes)}"))
            for nodes in _rotations([f"127.0.0.1:{node.port}" for node in own.nodes])
        ]
        repositories[0].create_session(Session("s", SessionType.AGENT))
        repositories[0].create_agent("s", SessionAgent("a", {}, {}))
        for number in range(60):
            if number == 30:
                own.leader().kill()
            repositories[number % 3].create_message("s", "a", text_message(number))
            assert repositories[(number + 1) % 3].read_message("s", "a", number) is not None


def _rotations(items: list[Any]) -> list[list[Any]]:
    return [items[number:] + items[:number] for number in range(len(items))]
