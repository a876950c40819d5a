"""The command that shows the sessions in a browser."""

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import HTTPCookieProcessor, build_opener

import pytest

from command_line import run
from nodes import wait_until

pytest.importorskip("uvicorn", reason="the viewer needs the extra viewer")


@contextlib.contextmanager
def viewing(db_path: Path, *options: str, browser: str = "true") -> Iterator[tuple[str, Any]]:
    """Run the command, and yield the link that it prints."""
    command = [sys.executable, "-m", "strands_sqlite_session_manager", "view", "--db", str(db_path), "--port", "0"]
    with subprocess.Popen(
        [*command, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "BROWSER": browser},
    ) as process:
        try:
            assert process.stdout is not None
            link = process.stdout.readline().strip()
            assert link, process.stderr
            yield link, process
        finally:
            process.kill()


@pytest.mark.slow
def test_prints_a_link_that_opens_the_sessions(filled: Path) -> None:
    """Its token is another one each time, and without it there is nothing to see."""
    with viewing(filled, "--no-browser") as (link, _), viewing(filled) as (other, _):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{32}", link)
        assert link.split("token=")[1] != other.split("token=")[1]
        opener = build_opener(HTTPCookieProcessor())
        opener.open(link, timeout=20).close()
        with opener.open(link.split("?")[0], timeout=20) as page:
            assert "<h1>Sessions</h1>" in page.read().decode()
        with opener.open(link.split("?")[0] + "session?id=s", timeout=20) as page:
            assert "I am Ada." in page.read().decode()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="a program that only a shell runs")
def test_a_browser_that_keeps_its_caller_waits_for_no_one(filled: Path, tmp_path: Path) -> None:
    """Such as w3m, which asks the server for the page before it returns."""
    seen = tmp_path / "seen"
    program = tmp_path / "browser"
    program.write_text(
        f"#!{sys.executable}\nimport sys, http.client, urllib.parse\n"
        "link = urllib.parse.urlsplit(sys.argv[1])\n"
        "connection = http.client.HTTPConnection(link.netloc, timeout=20)\n"
        "connection.request('GET', f'{link.path}?{link.query}')\n"
        f"open({str(seen)!r}, 'w').write(str(connection.getresponse().status))\n"
    )
    program.chmod(0o700)
    with viewing(filled, browser=f"{program} %s"):
        wait_until(lambda: seen.exists() and seen.read_text() == "200", "the browser was let in")


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="there is no SIGINT for one process")
def test_ends_with_ctrl_c_while_a_browser_follows(filled: Path) -> None:
    """At once, and without a traceback."""
    with viewing(filled, "--no-browser") as (link, process):
        host, token = re.fullmatch(r"http://([^/]*)/\?token=(.*)", link).groups()  # type: ignore[union-attr]
        connection = http.client.HTTPConnection(host, timeout=20)
        connection.request("GET", f"/?token={token}")
        response = connection.getresponse()
        response.read()
        cookie = (response.getheader("set-cookie") or "").split(";")[0]
        connection.request("GET", "/events?session=s&agent=default", headers={"Cookie": cookie})
        assert connection.getresponse().readline() == b"event: changed\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) in (0, 130, -signal.SIGINT)
        assert process.stderr.read() == ""
        connection.close()


@pytest.mark.slow
def test_warns_where_others_can_reach_it(filled: Path) -> None:
    """The link is one for this machine all the same."""
    with viewing(filled, "--no-browser", "--host", "0.0.0.0") as (link, process):
        assert link.startswith("http://127.0.0.1:")
        assert "Others can reach 0.0.0.0" in process.stderr.readline()


def test_a_port_that_is_taken_is_told(filled: Path) -> None:
    """With what to do."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        result = run("view", "--db", filled, "--port", listener.getsockname()[1], "--no-browser", code=1)
    assert "choose another with --port" in result.output


def test_an_address_of_another_machine_is_told(filled: Path) -> None:
    """No port would help. This one is kept for documentation, so nobody has it."""
    result = run("view", "--db", filled, "--host", "192.0.2.1", "--port", "0", "--no-browser", code=1)
    assert "name an address of this machine" in result.output


def test_a_database_that_is_none_is_told(tmp_path: Path) -> None:
    """And none is made."""
    assert "no such file" in run("view", "--db", tmp_path / "x.db", "--no-browser", code=1).output
    assert not any(tmp_path.iterdir())


def test_a_missing_package_is_told(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = run("view", "--db", filled, "--no-browser", code=1)
    assert "pip install 'strands-sqlite-session-manager[viewer]'" in result.output
