"""A cluster of three nodes on this machine: beside plain HTTP requests that do the same, and beside a file."""

import http.client
import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from contenders import OURS
from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from helpers import make_agent
from nodes import Cluster, running

HTTP, FILE = "plain HTTP requests", "this package on a file"
ALL = (HTTP, OURS, FILE)
CONTENT: Any = {"role": "user", "content": [{"text": "A sentence of about forty characters. " * 27}]}
CLIENTS, APPENDS = 8, 25


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


class Requests:
    """Sends to the first node what a program without this package would, with one connection."""

    def __init__(self, cluster: Cluster):
        self._connection = http.client.HTTPConnection("127.0.0.1", cluster.nodes[0].port)

    def run(self, target: str, sql: str, *parameters: Any) -> Any:
        body = json.dumps([[sql, *parameters]])
        self._connection.request("POST", target, body, {"Content-Type": "application/json"})
        result = json.loads(self._connection.getresponse().read())["results"][0]
        assert "error" not in result, result
        return result

    def create_message(self, session_id: str, agent_id: str, session_message: SessionMessage) -> None:
        self.run(
            "/db/execute?transaction",
            """
            INSERT INTO messages (session_id, agent_id, message_id, message, created_at, updated_at)
            VALUES (?, ?, ?, ?, ?, ?)
            """,
            *(session_id, agent_id, session_message.message_id, json.dumps(session_message.message)),
            *(session_message.created_at, session_message.updated_at),
        )

    def list_messages(self, session_id: str, agent_id: str) -> list[SessionMessage]:
        sql = "SELECT message, message_id, redact_message, created_at, updated_at FROM messages WHERE session_id = ?"
        rows = self.run("/db/query?level=strong", f"{sql} AND agent_id = ? ORDER BY message_id", session_id, agent_id)
        return [SessionMessage(json.loads(message), *rest) for message, *rest in rows["values"]]

    def close(self) -> None:
        self._connection.close()


_names = count()


@pytest.fixture
def session(contender: str, cluster: Cluster, tmp_path: Path) -> Iterator[tuple[Any, str]]:
    """A repository, and the id of a new session in it, with the agent `a`."""
    name = f"session-{next(_names)}"
    path = tmp_path / "sessions.db" if contender == FILE else cluster.url
    with SQLiteSessionRepository(path) as repository:
        repository.create_session(Session(name, SessionType.AGENT))
        repository.create_agent(name, SessionAgent("a", {}, {}))
        if contender == HTTP:
            with closing(Requests(cluster)) as requests:
                yield requests, name
        else:
            yield repository, name


@pytest.mark.work("cluster: append a text of 1 KB", ALL)
@pytest.mark.goal(1.5, times=HTTP)
def test_append(measure: Callable[..., Any], session: tuple[Any, str]) -> None:
    repository, name = session
    numbers = count()
    measure(
        lambda message: repository.create_message(name, "a", message),
        arguments=lambda: (SessionMessage(CONTENT, next(numbers)),),
        rounds=200,
    )


@pytest.mark.work("cluster: restore 1,000 texts", ALL)
@pytest.mark.goal(1.5, times=HTTP)
def test_restore(measure: Callable[..., Any], session: tuple[Any, str], contender: str, cluster: Cluster) -> None:
    repository, name = session
    for number in range(1000):
        repository.create_message(name, "a", SessionMessage(CONTENT, number))
    assert len(measure(lambda: repository.list_messages(name, "a"), rounds=30)) == 1000


@pytest.mark.work("cluster: a turn of an agent", (OURS, FILE))
def test_turn(measure: Callable[..., Any], contender: str, cluster: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "sessions.db" if contender == FILE else cluster.url
    with SQLiteSessionManager(f"turns-{next(_names)}", path) as manager:
        agent = make_agent(manager, *["An answer."] * 200)
        measure(lambda: agent("A question?"), rounds=50)


@pytest.mark.work(f"cluster: {CLIENTS} clients append {APPENDS} texts each", ALL)
@pytest.mark.goal(1.5, times=HTTP)
def test_clients(measure: Callable[..., Any], contender: str, cluster: Cluster, session: tuple[Any, str]) -> None:
    repository, name = session
    clients = [Requests(cluster) if contender == HTTP else repository for _ in range(CLIENTS)]
    numbers = count()

    def append(client: Any) -> None:
        for _ in range(APPENDS):
            client.create_message(name, "a", SessionMessage(CONTENT, next(numbers)))

    def run() -> None:
        threads = [threading.Thread(target=append, args=(client,)) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    measure(run, rounds=10)
    for client in clients:
        if contender == HTTP:
            client.close()
