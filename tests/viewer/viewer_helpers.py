"""A server of the viewer in a thread, and a database that looks like work, for the tests of its pages."""

import asyncio
import http.client
import importlib.util
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlencode

import uvicorn
from starlette.types import ASGIApp
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from strands_sqlite_session_manager import SQLiteSessionRepository

DESK = Path(__file__).parent.parent.parent / ".github" / "pictures" / "support_desk.py"


def fill_desk(db_path: Path) -> None:
    """Make the database of the README's pictures."""
    spec = importlib.util.spec_from_file_location("support_desk", DESK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.fill(db_path)


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve an application, and yield the address of its host."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@dataclass
class Answer:
    """What a server has answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


@contextmanager
def opened(app: Any) -> Iterator[Any]:
    """Yield an application that is asked in this process, without a server, and close its database in the end."""
    yield app
    app.state.catalog.close()


def get(
    host: str | ASGIApp, path: str, headers: dict[str, str] | None = None, method: str = "GET", **query: Any
) -> Answer:
    """Ask a server for a page, or an application itself."""
    if not isinstance(host, str):
        return asyncio.run(_ask(host, f"{path}?{urlencode(query)}" if query else path, headers or {}, method))
    connection = http.client.HTTPConnection(host, timeout=20)
    try:
        connection.request(method, f"{path}?{urlencode(query)}" if query else path, headers=headers or {})
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, response.read())
    finally:
        connection.close()


async def _ask(app: ASGIApp, path: str, headers: dict[str, str], method: str) -> Answer:
    raw_path, _, query = path.partition("?")
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    names = {"host": "127.0.0.1", **{name.lower(): value for name, value in headers.items()}}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(raw_path),
        "raw_path": raw_path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in names.items()],
        "server": ("127.0.0.1", 80),
    }
    await app(scope, receive, send)
    start, *bodies = sent
    found = {name.decode(): value.decode() for name, value in start["headers"]}
    return Answer(start["status"], found, b"".join(message.get("body", b"") for message in bodies))


def add_conversation(db_path: Any, session_id: str, *contents: Any, agent_id: str = "default", **states: Any) -> None:
    """Store a conversation: a text or a list of blocks a message, the first from the user."""
    with SQLiteSessionRepository(db_path) as repository:
        repository.create_session(Session(session_id, SessionType.AGENT))
        agent = SessionAgent(agent_id, states.get("state", {}), states.get("manager", {}), states.get("internal", {}))
        repository.create_agent(session_id, agent)
        for number, content in enumerate(contents):
            blocks = [{"text": content}] if isinstance(content, str) else content
            message: Any = {"role": "assistant" if number % 2 else "user", "content": blocks}
            repository.create_message(session_id, agent_id, SessionMessage(message, number))


def events(host: str, **query: Any) -> Iterator[Any]:
    """Yield the data of the events that a server sends."""
    connection = http.client.HTTPConnection(host, timeout=20)
    try:
        connection.request("GET", f"/events?{urlencode(query)}")
        response = connection.getresponse()
        assert response.getheader("content-type", "").startswith("text/event-stream")
        while line := response.readline():
            if line.startswith(b"data: "):
                yield json.loads(line[6:])
    finally:
        connection.close()
