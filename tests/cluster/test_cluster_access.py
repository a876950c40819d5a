"""Who may use a cluster, over what, and what is not a cluster that can be used."""

import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from strands.types.exceptions import SessionException

from helpers import make_agent, texts
from nodes import Cluster, running
from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository
from strands_sqlite_session_manager._engine.database import open_database
from strands_sqlite_session_manager._engine.schema import IDENTITY

PASSWORD = "pa/ss@word:1%"


def test_user_and_password(tmp_path: Path) -> None:
    users = [
        {"username": "app", "password": PASSWORD, "perms": ["execute", "query", "ready", "status"]},
        {"username": "reader", "password": "r", "perms": ["query", "ready", "status"]},
    ]
    (tmp_path / "auth.json").write_text(json.dumps(users))
    options = ("-fk", "-auth", str(tmp_path / "auth.json"))
    with running(tmp_path / "c", 1, options=options, user="app", password=PASSWORD) as cluster:
        with SQLiteSessionManager("s", cluster.url) as manager:
            make_agent(manager, "answer")("question")
            assert texts(make_agent(SQLiteSessionManager("s", cluster.url)).messages) == ["question", "answer"]
        hosts = cluster.path.removeprefix("rqlite://")
        for login, complaint in (
            ("", "the password is wrong"),
            ("app:guess@", "the password is wrong"),
            ("reader:r@", "a permission .* is missing"),
        ):
            with pytest.raises(SessionException, match=complaint) as refused:
                SQLiteSessionManager("t", f"rqlite://{login}{hosts}")
            assert str(refused.value).startswith(cluster.path)
            assert "guess" not in str(refused.value)
        with SQLiteSessionRepository(f"rqlite://reader:r@{hosts}", read_only=True) as repository:
            assert repository.read_session("s")


def test_tls(tmp_path: Path) -> None:
    authority, other = trustme.CA(), trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    for name, blob in (("ca", authority.cert_pem), ("other", other.cert_pem), ("key", certificate.private_key_pem)):
        blob.write_to_path(tmp_path / f"{name}.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    context = ssl.create_default_context(cafile=tmp_path / "ca.pem")
    options = ("-fk", "-http-cert", str(tmp_path / "cert.pem"), "-http-key", str(tmp_path / "key.pem"))
    with running(tmp_path / "c", 1, options=options, query=f"?ca={tmp_path}/ca.pem", context=context) as cluster:
        assert cluster.url.startswith("rqlites://")
        with SQLiteSessionManager("s", cluster.url) as manager:
            make_agent(manager, "answer")("question")
            assert texts(make_agent(SQLiteSessionManager("s", cluster.url)).messages) == ["question", "answer"]
        for query in ("", f"?ca={tmp_path}/other.pem"):
            with pytest.raises(SessionException, match=r"the certificate of 127\.0\.0\.1:\d+ is not to be trusted"):
                SQLiteSessionManager("s", cluster.path + query)
        with pytest.raises(SessionException, match="HTTP request to an HTTPS server"):
            SQLiteSessionManager("s", cluster.path.replace("rqlites", "rqlite"), busy_timeout=0)


def test_tls_where_there_is_none(cluster: Cluster) -> None:
    with pytest.raises(SessionException, match="speaks no TLS"):
        SQLiteSessionManager("s", cluster.url.replace("rqlite", "rqlites"))


def test_a_node_without_foreign_keys_is_refused(tmp_path: Path) -> None:
    """Whichever of the URL it is: deleting what belongs to a session is each node's own work."""
    with running(tmp_path / "c") as cluster:
        SQLiteSessionManager("s", cluster.url).close()
        for node in cluster.nodes:
            node.kill()
            node.start(without="-fk")
            cluster.wait()
            with pytest.raises(SessionException, match=rf"the node 127\.0\.0\.1:{node.port} was started without -fk"):
                SQLiteSessionManager("s", cluster.url)
            node.kill()
            node.start()
            cluster.wait()
        with SQLiteSessionManager("s", cluster.url) as manager:
            make_agent(manager, "answer")("question")


@contextmanager
def server(answer: bytes | dict[str, Any], asked: list[str] | None = None, **headers: str) -> Iterator[str]:
    """An HTTP server that has one answer, or one result for each statement, and notes down what it is asked for."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            statements = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if asked is not None:
                asked.append(self.path)
            results = {"results": [answer] * len(statements)}
            body = answer if isinstance(answer, bytes) else json.dumps(results).encode()
            self.send_response(200)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        try:
            yield f"rqlite://127.0.0.1:{found.server_address[1]}"
        finally:
            found.shutdown()
            thread.join()


# What tells that a database is ours, and that foreign keys are on.
with closing(open_database(":memory:")) as _ours:
    OURS = {"types": ["integer"] * 4, "values": _ours.query(IDENTITY)}


def test_another_server_is_named() -> None:
    with (
        server(b"<html>It works!</html>") as url,
        pytest.raises(SessionException, match="is no rqlite server") as error,
    ):
        SQLiteSessionManager("s", url)
    assert "It works!" in str(error.value)


@pytest.mark.parametrize(
    ("version", "query", "level"),
    [
        ("v8.31.3", "", "strong"),
        ("8", "", "strong"),
        ("v8.32.0", "", "linearizable"),
        ("v9.0.1", "", "linearizable"),
        ("v9.0.1", "?level=strong", "strong"),
        ("v8.31.3", "?level=weak", "weak"),
    ],
)
def test_reads_are_never_stale_unless_asked_for(version: str, query: str, level: str) -> None:
    """An older server takes the level that it does not know for a weak one."""
    asked: list[str] = []
    with server(OURS, asked, X_Rqlite_Version=version) as url:
        with closing(open_database(url + query)) as database:
            database.query("SELECT 1")
        assert [path for path in asked if f"level={level}&" in path] == asked[1:]


def test_a_server_that_is_too_old_is_named() -> None:
    with server(OURS, X_Rqlite_Version="v7.21.4") as url, pytest.raises(SessionException, match="older than rqlite 8"):
        SQLiteSessionManager("s", url)
