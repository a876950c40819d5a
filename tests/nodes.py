"""Real rqlite nodes on loopback, and plain requests to them."""

import base64
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
import urllib.parse
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

# Seconds until a node or a cluster is ready.
PATIENCE = 60


def program() -> str:
    """Return the path of rqlite's server, or skip the test."""
    path = os.environ.get("RQLITED") or shutil.which("rqlited")
    if path is None:
        pytest.skip("there is no rqlite server: RQLITED names none, and there is no rqlited on the PATH")
    return path


def wait_until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """Return what a condition returns as soon as that is true."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"not in {seconds} s: {what}"
        time.sleep(0.02)
    return result


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [item.getsockname()[1] for item in sockets]


class Node:
    """A node: a process that can be stopped, hung, killed and started again."""

    def __init__(self, directory: Path, number: int, ports: tuple[int, int], options: Sequence[str]):
        self.port = ports[0]
        self._directory = directory / f"node-{number}"
        self._command = [
            *(program(), "-node-id", str(number), "-http-addr", f"127.0.0.1:{ports[0]}"),
            *("-raft-addr", f"127.0.0.1:{ports[1]}", *options, str(self._directory)),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, without: str = "") -> None:
        """Start it, perhaps without one of its options."""
        command = [word for word in self._command if word != without]
        with self._directory.with_suffix(".log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it, as a power cut would."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    @property
    def is_running(self) -> bool:
        return self._process is not None


class Cluster:
    """Nodes that know each other."""

    def __init__(
        self, directory: Path, size: int = 3, *, options: Sequence[str] = ("-fk",), query: str = "", **login: Any
    ):
        """Start them.

        Args:
            directory: Where they keep their data.
            size: How many.
            options: Of the server.
            query: Options of the URL.
            login: `user` and `password`, and `context` with TLS.
        """
        directory.mkdir(parents=True, exist_ok=True)
        ports = free_ports(2 * size)
        together = (
            []
            if size == 1
            else ["-bootstrap-expect", str(size), "-join", ",".join(f"127.0.0.1:{port}" for port in ports[size:])]
        )
        self.nodes = [
            Node(directory, number, pair, [*options, *together])
            for number, pair in enumerate(zip(ports[:size], ports[size:], strict=True), 1)
        ]
        self._context = login.get("context")
        self._user, self._password = login.get("user"), login.get("password")
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)
        quoted = (urllib.parse.quote(part, safe="") for part in (self._user or "", self._password or ""))
        scheme = "rqlites" if self._context else "rqlite"
        self.path = f"{scheme}://{hosts}"
        self.url = f"{scheme}://{':'.join(quoted) + '@' if self._user else ''}{hosts}{query}"
        for node in self.nodes:
            node.start()
        try:
            self.wait()
        except BaseException:
            self.close()
            raise

    def wait(self) -> None:
        """Wait until all that run know the same leader."""
        for node in self.running:
            wait_until(lambda node=node: self._is_ready(node), f"node {node.port} is ready")

    def _is_ready(self, node: Node) -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.ask(node, "GET", "/readyz")[0] == 200
        return False

    @property
    def running(self) -> list[Node]:
        return [node for node in self.nodes if node.is_running]

    def leader(self) -> Node:
        """Return the node that leads."""

        def find() -> Node | None:
            for node in self.running:
                with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                    state = json.loads(self.ask(node, "GET", "/status?key=store")[1])
                    address = (state.get("leader") or state["store"]["leader"])["node_id"]
                    leader = self.nodes[int(address) - 1]
                    if leader.is_running:
                        return leader
            return None

        return wait_until(find, "there is a leader")

    def ask(self, node: Node, method: str, target: str, body: Any = None, seconds: float = 30) -> tuple[int, bytes]:
        """Send a request, and return status and body of the answer."""
        kind = http.client.HTTPSConnection if self._context else http.client.HTTPConnection
        options = {"context": self._context} if self._context else {}
        headers = {"Content-Type": "application/json"}
        if self._user:
            headers["Authorization"] = "Basic " + base64.b64encode(f"{self._user}:{self._password}".encode()).decode()
        with contextlib.closing(kind("127.0.0.1", node.port, timeout=seconds, **options)) as connection:
            connection.request(method, target, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, response.read()

    def run(self, statements: Iterable[Any], node: Node | None = None, how: str = "execute?transaction") -> list[Any]:
        """Run statements, and return the result of each."""
        status, answer = self.ask(node or self.running[0], "POST", f"/db/{how}", list(statements))
        assert status == 200, answer
        results = json.loads(answer)["results"]
        errors = [result["error"] for result in results if "error" in result]
        assert not errors, errors
        return results

    def query(
        self, sql: str, *parameters: Any, node: Node | None = None, level: str = "strong"
    ) -> list[tuple[Any, ...]]:
        (result,) = self.run([[sql, *parameters]], node, f"query?level={level}")
        return [tuple(row) for row in result.get("values", [])]

    def load(self, file: bytes) -> None:
        """Put a SQLite file in the place of the database."""
        leader = self.leader()
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", leader.port)) as connection:
            connection.request("POST", "/db/load", file, {"Content-Type": "application/octet-stream"})
            response = connection.getresponse()
            assert (response.status, b"error" in response.read()) == (200, False)

    def empty(self) -> None:
        """Make it a new database."""
        names = self.query(
            "SELECT type, name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite%'"
        )
        # Those of a virtual table go with it.
        virtual = [name for (name,) in self.query("SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE VIRTUAL%'")]
        order = ["agents", "multi_agents", "sessions"]
        statements = [f"DROP TABLE {name}" for name in virtual]
        for kind, name in sorted(names, key=lambda row: order.index(row[1]) if row[1] in order else -1):
            if name not in virtual and not any(
                name.startswith(f"{table}_") and not name.endswith("_text") for table in virtual
            ):
                statements.append(f"DROP {kind.upper()} {name}")
        self.run([*statements, "PRAGMA user_version = 0", "PRAGMA application_id = 0"])

    def contents(self, node: Node) -> dict[str, Any]:
        """Return all rows of all tables, as a node has them, whatever the others have."""
        columns = defaultdict(list)
        for table, column in self.query(
            "SELECT t.name, c.name FROM pragma_table_list AS t, pragma_table_info(t.name) AS c"
            " WHERE t.schema = 'main' AND t.type <> 'view' AND t.name NOT LIKE 'sqlite_stat%'",
            node=node,
            level="none",
        ):
            columns[table].append(f'hex("{column}")')
        statements = [f'SELECT {", ".join(digits)} FROM "{table}"' for table, digits in columns.items()]
        results = self.run(statements, node, "query?level=none") if statements else []
        return {
            table: sorted(map(tuple, result.get("values", []))) for table, result in zip(columns, results, strict=True)
        }

    def require_equal_nodes(self) -> None:
        """Make sure that all nodes that run have the same rows, as soon as they have heard of all."""
        first, *others = self.running

        def are_equal() -> bool:
            with contextlib.suppress(AssertionError):  # A table is dropped at this moment.
                expected = self.contents(first)
                return all(self.contents(node) == expected for node in others)
            return False

        wait_until(are_equal, "all nodes have the same rows")

    def close(self) -> None:
        for node in self.nodes:
            node.kill()


class Rows(list[tuple[Any, ...]]):
    """The rows of a result, which are asked for as those of a cursor."""

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self

    def fetchone(self) -> tuple[Any, ...] | None:
        return self[0] if self else None


class RawCluster:
    """Runs statements on a cluster as `sqlite3.Connection` does on a file, and past the library."""

    def __init__(self, url: str):
        self._connection = http.client.HTTPConnection(url.removeprefix("rqlite://").split(",")[0])

    def execute(self, sql: str, parameters: Any = ()) -> Rows:
        return self._run([[sql, *([parameters] if isinstance(parameters, dict) else parameters)]])

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> Rows:
        return self._run([[sql, *row] for row in rows])

    def _run(self, statements: list[list[Any]]) -> Rows:
        is_query = statements[0][0].split()[0].upper() in ("SELECT", "WITH", "EXPLAIN")
        target = "/db/query?level=strong" if is_query else "/db/execute?transaction"
        self._connection.request("POST", target, json.dumps(statements), {"Content-Type": "application/json"})
        results = json.loads(self._connection.getresponse().read())["results"]
        for result in results:
            if "error" in result:
                raise sqlite3.Error(result["error"])
        return Rows(map(tuple, results[0].get("values", [])))

    def close(self) -> None:
        self._connection.close()


def raw_connection(db_path: Any) -> contextlib.closing[Any]:
    """A plain connection to a database, in autocommit mode, for a `with` block."""
    is_cluster = isinstance(db_path, str) and db_path.startswith("rqlite://")
    return contextlib.closing(RawCluster(db_path) if is_cluster else sqlite3.connect(db_path, isolation_level=None))


@contextlib.contextmanager
def running(directory: Path, size: int = 3, **options: Any) -> Iterator[Cluster]:
    """A cluster for a `with` block."""
    cluster = Cluster(directory, size, **options)
    try:
        yield cluster
    finally:
        cluster.close()
