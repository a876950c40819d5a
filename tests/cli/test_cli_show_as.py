"""Conversations in forms to take elsewhere: `show --as`."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from command_line import run
from nodes import raw_connection
from strands_sqlite_session_manager import SQLiteSessionRepository


def store(db_path: Path, *contents: list[Any]) -> None:
    """Store a conversation, the first message from the user."""
    with SQLiteSessionRepository(db_path) as repository:
        repository.create_session(Session("s", SessionType.AGENT))
        repository.create_agent("s", SessionAgent("a", {}, {}))
        for number, content in enumerate(contents):
            message: Any = {"role": "assistant" if number % 2 else "user", "content": content}
            repository.create_message("s", "a", SessionMessage(message, number))


ODD = [
    [{"text": "a\n```\nb\n`````"}, {"image": {"format": "png", "source": {"bytes": b"\x00\xff"}}}],
    [{"toolUse": {"toolUseId": "t", "name": "f", "input": {"x": math.inf, "y": "``````"}}}],
    [{"toolResult": {"toolUseId": "t", "status": "error", "content": [{"json": {"z": 1}}, {"text": "no"}]}}],
    [{"cachePoint": {"type": "default"}}],
]


def test_python_is_a_test_that_passes(db_path: Path) -> None:
    """With bytes, and numbers that Python has no literal for."""
    store(db_path, *ODD)
    namespace: dict[str, Any] = {}
    exec(compile(run("show", "s", "--db", db_path, "--as", "python").output, "test", "exec"), namespace)
    namespace["test_conversation"]()
    assert [message["content"] for message in namespace["MESSAGES"]] == ODD


def test_json_is_a_list_of_messages(db_path: Path) -> None:
    """Of those that `--limit` leaves."""
    store(db_path, *ODD)
    messages = json.loads(run("show", "s", "--db", db_path, "--as", "json", "--limit", 2).output)
    assert [message["content"] for message in messages] == ODD[2:]


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        (("--before", 3), [0, 1, 2]),
        (("--after", 1), [2, 3]),
        (("--after", -1, "-n", 1), [0]),
        (("--before", 3, "-n", 1), [2]),
    ],
)
def test_a_part_can_be_had(db_path: Path, options: tuple[Any, ...], numbers: list[int]) -> None:
    """Before a message the last ones, after a message the first ones."""
    store(db_path, *([{"text": str(number)}] for number in range(4)))
    messages = json.loads(run("show", "s", "--db", db_path, "--as", "json", *options).output)
    assert [int(message["content"][0]["text"]) for message in messages] == numbers
    lines = run("show", "s", "--db", db_path, "--raw", *options).output.splitlines()
    assert [json.loads(line)["message_id"] for line in lines] == numbers


def test_markdown_keeps_what_is_in_fences_there(db_path: Path) -> None:
    """A fence is longer than any run of backticks in it."""
    store(db_path, *ODD)
    output = run("show", "s", "--db", db_path, "--as", "markdown").output
    assert [line for line in output.splitlines() if line.startswith("## ")] == [
        "## 0: user",
        "## 1: assistant",
        "## 2: user",
        "## 3: assistant",
    ]
    assert "```````json" in output
    assert "Result of call `t`: error" in output


def test_damage_is_told(db_path: Path) -> None:
    """By the exit code; in Markdown in its place, elsewhere it is left out."""
    store(db_path, [{"text": "one"}], [{"text": "two"}])
    with raw_connection(db_path) as connection:
        connection.execute("UPDATE messages SET message = '{' WHERE message_id = 0")
    assert "damaged JSON" in run("show", "s", "--db", db_path, "--as", "markdown", code=1).output
    assert len(json.loads(run("show", "s", "--db", db_path, "--as", "json", code=1).output)) == 1


def test_one_agent_must_be_meant(db_path: Path) -> None:
    """Where there are several, it is to be named."""
    store(db_path, [{"text": "one"}])
    with SQLiteSessionRepository(db_path) as repository:
        repository.create_agent("s", SessionAgent("b", {}, {}))
    assert "name one with --agent" in run("show", "s", "--db", db_path, "--as", "json", code=2).output
    assert run("show", "s", "--db", db_path, "--as", "json", "--agent", "b").output == "[]\n"


@pytest.mark.parametrize("form", ["json", "markdown", "python"])
def test_what_does_not_exist_is_told(filled: Path, form: str) -> None:
    """As without the option."""
    assert "does not exist" in run("show", "nobody", "--db", filled, "--as", form, code=1).output
