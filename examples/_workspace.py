"""What all examples share: where the database is, and how they show and check what they claim."""

import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from strands import Agent
from strands.types.session import SessionMessage

from _model import is_scripted
from strands_sqlite_session_manager import SQLiteSessionRepository


@contextlib.contextmanager
def workspace(*session_ids: str) -> Iterator[tuple[Path, Path]]:
    """Yield a temporary directory and the path of the example's database.

    The database is in that directory, unless `STRANDS_SQLITE_DB_PATH` names another one, which stays.

    Args:
        *session_ids: Sessions that an earlier run may have left in that one. They are deleted first.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # Not every terminal has a check mark.
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        db_path = Path(os.environ.get("STRANDS_SQLITE_DB_PATH") or directory / "sessions.db")
        with SQLiteSessionRepository(db_path) as repository:
            for session_id in session_ids:
                if repository.read_session(session_id):
                    repository.delete_session(session_id)
        yield directory, db_path


def section(title: str) -> None:
    """Print the title of a section."""
    print(f"\n{title}\n{'-' * len(title)}", flush=True)  # Before a process that the section starts prints anything.


def ask(agent: Agent, prompt: str) -> str:
    """Say something to an agent, print both sides and return the answer."""
    answer = str(agent(prompt)).strip()
    print(f"  > {prompt}\n  < {answer}")
    return answer


def text_of(message: SessionMessage) -> str:
    """Return the text of a stored message."""
    return "\n".join(block["text"] for block in message.to_message()["content"] if "text" in block).strip()


def check(condition: bool, claim: str) -> None:
    """Print a claim that holds, or raise. Unlike `assert`, it is not removed by `python -O`."""
    if not condition:
        raise AssertionError(claim)
    print(f"  ✓ {claim}")


@contextlib.contextmanager
def expect(error_type: type[Exception], claim: str) -> Iterator[None]:
    """Check that an error is raised, and print it."""
    try:
        yield
    except error_type as error:
        print(f"  ✓ {claim}: {error}")
    else:
        raise AssertionError(claim)


def check_words(condition: bool, claim: str) -> None:
    """Check what depends on the words of the model, which are certain only if it is the scripted one."""
    if is_scripted():
        check(condition, claim)
    else:
        print(f"  - not checked with a real model: {claim}")
