"""The engine for an rqlite cluster: the statements of a file's database over HTTP.

rqlite replicates statements by Raft (https://rqlite.io/docs/api/), so they give the same on every node: the tables are
made without the clock, and times come as parameters. What JSON has no place for goes as hexadecimal digits.

An answer that was lost does not tell whether the write was stored. So each is one transaction that first inserts a
token of its own into the table `cluster_writes`, and then notes how many rows each statement changed. Sent again, to
any node, it fails where the token is there already, and the numbers are read from there. Tokens are kept for the next
50,000 writes.
"""

import base64
import contextlib
import http.client
import itertools
import json
import math
import os
import re
import secrets
import selectors
import ssl
import time
import weakref
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from strands.types.exceptions import SessionException

from .._errors import UnknownOutcomeError
from . import schema
from .address import Address, Node, parse_url
from .connection import session_error
from .database import BrokenText, Database, Parameters, Statement, Synchronous, checked_options

# Seconds for which a call is tried again: a new leader is elected within 2 to 6.
DEFAULT_TIMEOUT = 30.0
# Seconds until a node that has not answered is asked whether it hangs.
PATIENCE = 4.0
# Seconds that a node waits for the leader at the most, for a statement that is passed on to that.
MOST_PATIENCE = 600.0
# Seconds between attempts.
PAUSE = 0.05
MAX_IDLE = 16
_KEPT_TOKENS = 50_000

# Before 8.32, a server takes this level for a weak one without a word.
_FIRST_LINEARIZABLE = (8, 32)

_TOKENS = """
    CREATE TABLE cluster_writes (
        number INTEGER PRIMARY KEY, token TEXT NOT NULL UNIQUE, changes TEXT NOT NULL DEFAULT ''
    ) STRICT
    """
# The file of a single machine, which somebody has loaded into the cluster, lacks it.
_HAS_TOKENS = "SELECT 1 FROM sqlite_master WHERE name = 'cluster_writes'"
_TOKEN_TAKEN = "UNIQUE constraint failed: cluster_writes.token"  # noqa: S105 (no password)
# What a node says when it did not even begin.
_NOT_BEGUN = ("not leader", "leader not found", "connection refused", "no such host")
# Newer servers take such a text for bytes.
_LIKE_BYTES = re.compile(r"[xX]'[0-9a-fA-F]*'", re.ASCII)


class _Nodes:
    """The nodes of a cluster, and the connections to them that are kept for the next call."""

    def __init__(self, address: Address):
        self.address = address
        self.path = address.name
        self.first = 0  # Where calls begin: behind the node that failed last.
        self.versions: dict[Node, tuple[int, int]] = {}
        self._tls = None
        if address.is_encrypted:
            try:
                self._tls = ssl.create_default_context(cafile=address.ca)
            except OSError as error:
                raise SessionException(f"{self.path}: the certificates {address.ca} cannot be read: {error}") from error
        # Of the process that made them: a forked child makes its own. `append` and `pop` are atomic.
        self._idle: dict[Node, deque[tuple[int, http.client.HTTPConnection]]] = {n: deque() for n in address.nodes}
        weakref.finalize(self, _close_all, self._idle)

    def look_at_all(self) -> None:
        """Look at all nodes that answer at once: each does what belongs to a deletion by itself, or does not.

        Raises:
            SessionException: If one cannot be used.
        """
        for node in self.address.nodes:
            with contextlib.suppress(OSError, http.client.HTTPException, UnicodeError):
                self.put_back(node, self.connection(node, 1.0))

    def connection(self, node: Node, seconds: float) -> http.client.HTTPConnection:
        """Return a connection to a node, for one call.

        Args:
            node: The node.
            seconds: How long to wait for it, here and later.

        Raises:
            OSError: If it cannot be reached.
            http.client.HTTPException: If it cannot answer yet.
            UnicodeError: If its name is none.
            SessionException: If it cannot be used.
        """
        while self._idle[node]:
            try:
                process_id, connection = self._idle[node].pop()
            except IndexError:  # Another thread was first.
                break
            if process_id == os.getpid() and connection.sock is not None:
                connection.sock.settimeout(seconds)
                return connection
            connection.close()
        if self._tls is not None:
            connection = http.client.HTTPSConnection(*node, timeout=seconds, context=self._tls)
        else:
            connection = http.client.HTTPConnection(*node, timeout=seconds)
        try:
            self._look_at(node, connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def put_back(self, node: Node, connection: http.client.HTTPConnection) -> None:
        """Keep a connection for the next call."""
        if len(self._idle[node]) < MAX_IDLE:
            self._idle[node].append((os.getpid(), connection))
        else:
            connection.close()

    def send(self, node: Node, connection: http.client.HTTPConnection, target: str, body: bytes) -> None:
        """Send a request."""
        headers = {"Content-Type": "application/json"}
        if self.address.credentials is not None:
            headers["Authorization"] = self.address.credentials
        connection.request("POST", target, body, headers)

    def wait(self, node: Node, connection: http.client.HTTPConnection, seconds: float) -> None:
        """Wait for an answer, for as long as the node has others answered by the leader.

        Raises:
            OSError: If it has not.
        """
        with selectors.DefaultSelector() as selector:
            selector.register(connection.sock, selectors.EVENT_READ)
            while not selector.select(seconds):
                with contextlib.closing(self.connection(node, seconds)) as other:
                    # Not through Raft: there, a slow query keeps all others waiting.
                    self.send(node, other, "/db/query?level=weak", b'["SELECT 1"]')
                    if "error" in self.answer(node, other):
                        raise TimeoutError("timed out")

    def answer(self, node: Node, connection: http.client.HTTPConnection) -> dict[str, Any]:
        """Receive an answer.

        Raises:
            OSError: If there is none.
            http.client.HTTPException: If it is none.
            SessionException: If it is one that no other attempt would change.
        """
        response = connection.getresponse()
        self.versions[node] = _version(response.headers.get("X-Rqlite-Version"))
        text = response.read()
        if response.status in (401, 403):
            raise SessionException(
                f"{self.path}: the cluster refuses the user: the password is wrong, or a permission (execute and query "
                "are needed) is missing; compare the URL with the cluster's -auth file"
            )
        answer = {"error": text[:200].decode(errors="replace").strip() or f"HTTP status {response.status}"}
        if response.status == 400:  # As for a number that JSON does not have.
            raise SessionException(f"{self.path}: {answer['error']}")
        if response.status == 200:
            with contextlib.suppress(ValueError):
                parsed = json.loads(text)
                if isinstance(parsed, dict) and ("error" in parsed or isinstance(parsed.get("results"), list)):
                    return parsed
        return answer

    def _look_at(self, node: Node, connection: http.client.HTTPConnection) -> None:
        """Make sure, before a node is used, that it is one, and does what a file would do."""
        name = f"{self.path}: the node {node[0]}:{node[1]}"
        try:
            self.send(node, connection, "/db/query?level=none", b'["PRAGMA foreign_keys"]')
            answer = self.answer(node, connection)
        except ssl.SSLCertVerificationError as error:
            raise SessionException(
                f"{self.path}: the certificate of {node[0]}:{node[1]} is not to be trusted: {error.verify_message}; "
                "that of its authority can be given as ?ca=FILE"
            ) from error
        except ssl.SSLError as error:
            raise SessionException(
                f"{name} speaks no TLS that this Python knows ({error.reason}); without TLS, the URL begins with rqlite://"
            ) from error
        if self.versions[node] == (0, 0):
            raise SessionException(f"{name} is no rqlite server: it answers {str(answer)[:100]}")
        values = [value for result in answer.get("results", ()) for row in result.get("values", ()) for value in row]
        if not values:  # It is starting, say.
            raise http.client.HTTPException(str(answer)[:200])
        if not values[0]:
            raise SessionException(
                f"{name} was started without -fk, so it would keep what belongs to deleted sessions; start it with "
                "-fk, on an empty directory if it has been in use"
            )
        if self.versions[node] < (8, 0):
            raise SessionException(f"{name} is older than rqlite 8; upgrade it")


def _close_all(idle: dict[Node, "deque[tuple[int, http.client.HTTPConnection]]"]) -> None:
    for connections in idle.values():
        while connections:
            connections.pop()[1].close()


def _version(text: str | None) -> tuple[int, int]:
    """Return the first two numbers of a version; zeros where there are none, as in a server that was built by hand."""
    match = re.match(r"v?(\d+)(?:\.(\d+))?", text or "")
    return (int(match[1]), int(match[2] or 0)) if match else (0, 0)


# So that all holders of one address share their connections.
_shared: "weakref.WeakValueDictionary[Address, _Nodes]" = weakref.WeakValueDictionary()


class ClusterDatabase(Database):
    """An rqlite cluster. See `Database` for what its calls do."""

    def __init__(
        self,
        url: str,
        *,
        synchronous: Synchronous = "NORMAL",
        busy_timeout: float | None = None,
        read_only: bool = False,
    ):
        """Connect, and create the tables if they do not exist. See `open_database`."""
        self._timeout = checked_options(synchronous, busy_timeout, DEFAULT_TIMEOUT)
        address = parse_url(url)
        self.location = url
        self.path = address.name
        self.read_only = read_only
        nodes, is_new = _shared.get(address), False
        if nodes is None:
            nodes, is_new = _Nodes(address), True
            _shared[address] = nodes
        self._nodes: _Nodes | None = nodes
        try:
            if is_new:
                nodes.look_at_all()
            self._migrate()
        except BaseException:
            self.close()
            raise

    def query(self, sql: str, parameters: Parameters = ()) -> list[tuple[Any, ...]]:
        """See `Database.query`."""
        (result,), _ = self._ask("query", [self._json_statement((sql, parameters))])
        self._raise_for(result)
        return _rows(result)

    def execute(self, sql: str, parameters: Parameters = ()) -> int:
        """See `Database.execute`."""
        return self.transaction([(sql, parameters)])[0]

    def transaction(self, statements: Iterable[Statement]) -> list[int]:
        """See `Database.transaction`."""
        if self.read_only:
            raise SessionException(f"{self.path}: opened with read_only=True")
        token = secrets.token_hex(16)
        note = ["UPDATE cluster_writes SET changes = changes || changes() || ' ' WHERE token = ?", token]
        request: list[list[Any]] = [["INSERT INTO cluster_writes (token) VALUES (?)", token]]
        for statement in statements:
            request += [self._json_statement(statement), note]
        request.append(
            ["DELETE FROM cluster_writes WHERE number <= (SELECT max(number) FROM cluster_writes) - ?", _KEPT_TOKENS]
        )
        results, is_repeated = self._ask("execute", request)
        if is_repeated and results[0].get("error") == _TOKEN_TAKEN:
            ask_counts = [["SELECT changes FROM cluster_writes WHERE token = ?", token]]
            ((changes,),) = _rows(self._ask("query", ask_counts, level="strong")[0][0])
            return [int(count) for count in changes.split()]
        for result in results:
            self._raise_for(result)
        return [result.get("rows_affected", 0) for result in results[1:-1:2]]

    def write_aside(self, statements: Iterable[Statement]) -> None:
        """See `Database.write_aside`. A node's connections that read are others than the one that writes."""
        self.transaction(statements)

    def truncate_log(self, *, wait: bool = True) -> bool:
        """Leave it to rqlite, which keeps former statements in its Raft log until it makes a snapshot."""
        return True

    def close(self) -> None:
        """Let go of the connections; the last holder's closes them. Closing twice is fine."""
        self._nodes = None

    def _migrate(self) -> None:
        """Bring the tables to the newest schema, each version in a transaction of its own."""
        failed: tuple[Any, ...] = ()
        while True:
            (identity, tokens), _ = self._ask("query", [[schema.IDENTITY], [_HAS_TOKENS]])
            self._raise_for(identity)
            version = schema.checked_version(_rows(identity)[0], self.path)
            if self.read_only and version == 0:
                raise SessionException(f"{self.path}: an empty database, without the tables of sessions")
            step = [] if _rows(tokens) else [_TOKENS]
            if version < len(schema.MIGRATIONS):
                step += [*schema.without_clock(schema.MIGRATIONS[version]), *schema.marks(version + 1)]
            if self.read_only or not step:
                return
            results, _ = self._ask("execute", [[statement] for statement in step])
            for result in results:
                # Another process was first, or an answer was lost. Not, if there is as much to do as before.
                if "already exists" not in result.get("error", "") or failed == (version, step):
                    self._raise_for(result)
            failed = (version, step)

    def _json_statement(self, statement: Statement) -> list[Any]:
        try:
            return _json_statement(statement)
        except (OverflowError, ValueError) as error:
            raise session_error(error, self.path) from error

    def _raise_for(self, result: dict[str, Any]) -> None:
        if "error" in result:
            raise session_error(Exception(result["error"]), self.path)

    def _ask(
        self, what: str, statements: list[list[Any]], level: str | None = None
    ) -> tuple[list[dict[str, Any]], bool]:
        """Have a node run statements; others too, until one answers.

        Args:
            what: "query", or "execute" for a transaction.
            statements: The statements, as JSON has them.
            level: Consistency of a query, in the place of that of the URL.

        Returns:
            The result of each, up to one that failed; and whether an earlier attempt may have been done too.

        Raises:
            SessionException: If none answers in time.
        """
        nodes = self._nodes
        if nodes is None:
            raise SessionException(f"{self.path}: used after it was closed")
        body = json.dumps(statements, ensure_ascii=False, separators=(",", ":")).encode()
        deadline = time.monotonic() + self._timeout
        may_be_stored, index, forwarding = False, nodes.first, PATIENCE
        cause: Exception | None
        while True:
            node = nodes.address.nodes[index]
            seconds = max(1.0, min(PATIENCE, deadline - time.monotonic()))
            is_sent = False
            try:
                connection = nodes.connection(node, seconds)
                is_sent = True
                answer = _exchange(
                    nodes, node, connection, _target(what, nodes, node, level, forwarding), body, seconds
                )
            except (OSError, http.client.HTTPException, UnicodeError) as error:
                failure, cause = f"{error or type(error).__name__}", error
                may_be_stored |= is_sent
            else:
                if "error" not in answer:
                    return answer["results"], may_be_stored
                failure, cause = answer["error"], None
                may_be_stored |= not any(known in failure for known in _NOT_BEGUN)
            forwarding = min(2 * forwarding, MOST_PATIENCE)
            # Others who failed at this node have left it too; do not come back to it together.
            index = (index + 1) % len(nodes.address.nodes)
            nodes.first = index
            if time.monotonic() >= deadline:
                failure = f"{node[0]}:{node[1]}: {failure}"
                raise self._no_answer(failure, what == "execute" and may_be_stored) from cause
            time.sleep(PAUSE)

    def _no_answer(self, failure: str, may_be_stored: bool) -> SessionException:
        kind = UnknownOutcomeError if may_be_stored else SessionException
        stored = "whether it was stored is not known" if may_be_stored else "nothing was stored"
        return kind(
            f"{self.path}: no node answered within busy_timeout ({self._timeout:g} s), so {stored}; the last one said: "
            f"{failure}. Check that more than half of the nodes run and reach each other"
        )


def _exchange(
    nodes: _Nodes, node: Node, connection: http.client.HTTPConnection, target: str, body: bytes, seconds: float
) -> dict[str, Any]:
    """Send a request and receive its answer, on a connection that is kept if that went well."""
    try:
        nodes.send(node, connection, target, body)
        nodes.wait(node, connection, seconds)
        answer = nodes.answer(node, connection)
    except BaseException:
        connection.close()
        raise
    nodes.put_back(node, connection)
    return answer


def _target(what: str, nodes: _Nodes, node: Node, level: str | None, forwarding: float) -> str:
    """Return the path of a request.

    Args:
        what: "query" or "execute".
        nodes: The nodes.
        node: The one that is asked.
        level: Consistency of a query, in the place of that of the URL.
        forwarding: Seconds that the node waits for the leader, if it is another one. After that it may hang, or the
            statement takes long: then the leader itself, when it is asked, takes the time.
    """
    wait = f"timeout={math.ceil(forwarding)}s"
    if what == "execute":
        return f"/db/execute?transaction&{wait}"
    best = "linearizable" if nodes.versions[node] >= _FIRST_LINEARIZABLE else "strong"
    return f"/db/query?level={level or nodes.address.level or best}&{wait}"


# A text in the SQL, or where a parameter goes.
_PARAMETER = re.compile(r"'(?:[^']|'')*'|\?|:(\w+)")


def _json_statement(statement: Statement) -> list[Any]:
    """Return a statement as JSON has it."""
    sql, parameters = statement
    if isinstance(parameters, Mapping):
        marked: Mapping[Any, tuple[str, Any]] = {name: _json_value(value) for name, value in parameters.items()}
        values: list[Any] = [{name: value for name, (_, value) in marked.items()}] if marked else []
    else:
        marked = dict(enumerate(map(_json_value, parameters)))
        values = [value for _, value in marked.values()]
    if all(mark == "?" for mark, _ in marked.values()):
        return [sql, *values]
    numbers = itertools.count()

    def mark(found: re.Match[str]) -> str:
        text = found[0]
        place = next(numbers) if text == "?" else found[1]
        return text if place is None or place not in marked else marked[place][0].replace("?", text)

    return [_PARAMETER.sub(mark, sql), *values]


def _json_value(value: Any) -> tuple[str, Any]:
    """Return what stands for a parameter in the SQL, and the value that JSON has for it.

    Raises:
        OverflowError: If SQLite has no such number.
        ValueError: If a text is no UTF-8, which the nodes cannot tell each other.
    """
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "unhex(?)", bytes(value).hex()
    if isinstance(value, BrokenText):
        raise ValueError(f"{value.raw[:50]!r}: no UTF-8, which a cluster cannot hold")
    if isinstance(value, str) and _LIKE_BYTES.fullmatch(value):
        return "CAST(unhex(?) AS TEXT)", value.encode().hex()
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise OverflowError("Python int too large to convert to SQLite INTEGER")
    return "?", value


def _rows(result: dict[str, Any]) -> list[tuple[Any, ...]]:
    rows = result.get("values", [])
    binary = [index for index, kind in enumerate(result.get("types", [])) if kind == "blob"]
    for row in rows if binary else ():
        for index in binary:
            if row[index] is not None:
                row[index] = base64.b64decode(row[index])
    return list(map(tuple, rows))
