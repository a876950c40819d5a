"""The files of Strands' `FileSessionManager`: where they lie, and what is in them."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from strands.session.file_session_manager import MESSAGE_PREFIX, SESSION_PREFIX
from strands.types.exceptions import SessionException

_Result = TypeVar("_Result")


class UnreadableError(SessionException):
    """A file or directory that cannot be read as what it should be."""

    def __init__(self, path: Path, reason: str):
        """Name what cannot be read, and why."""
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


def refuse_link(path: Path) -> None:
    """Raise if a path is a symbolic link. Newer SDKs refuse it too: it may lead to another user's session."""
    try:
        is_link = path.is_symlink()
    except OSError as error:
        raise UnreadableError(path, str(error.strerror)) from error
    if is_link:
        raise UnreadableError(path, "a symbolic link, which is not followed")


def read_json(path: Path, build: Callable[[dict[str, Any]], _Result]) -> _Result:
    """Return what is built of the object in a JSON file."""
    refuse_link(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError("not a regular file")  # To open a pipe would wait for a writer.
        with path.open(encoding="utf-8") as file:
            data = json.load(file)
        if not isinstance(data, dict):
            raise ValueError("not a JSON object")
        return build(data)
    except OSError as error:
        raise UnreadableError(path, str(error.strerror)) from error
    except (ValueError, TypeError, AttributeError, RecursionError, SessionException) as error:
        raise UnreadableError(path, str(error)) from error


def session_path(storage_dir: str | os.PathLike[str], session_id: str) -> Path:
    """Return the directory of a session."""
    return Path(storage_dir) / f"{SESSION_PREFIX}{session_id}"


def directory_ids(directory: Path, prefix: str) -> list[str]:
    """Return the ids of the directories with a prefix. A directory that does not exist has none."""
    try:
        with os.scandir(directory) as entries:
            names = [entry.name for entry in entries if entry.name.startswith(prefix) and entry.is_dir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UnreadableError(directory, str(error.strerror)) from error
    return sorted(name[len(prefix) :] for name in names)


def message_paths(directory: Path) -> list[tuple[int, Path]]:
    """Return the numbers and paths of an agent's messages in their order."""
    refuse_link(directory)
    paths = []
    try:
        with os.scandir(directory) as entries:
            names = [entry.name for entry in entries]
    except OSError as error:
        raise UnreadableError(directory, str(error.strerror)) from error
    for name in names:
        if name.startswith(MESSAGE_PREFIX) and name.endswith(".json"):
            number = name[len(MESSAGE_PREFIX) : -len(".json")]
            if not number.isdecimal() or str(int(number)) != number:
                raise UnreadableError(directory / name, "no number of a message in its name")
            paths.append((int(number), directory / name))
    return sorted(paths)
