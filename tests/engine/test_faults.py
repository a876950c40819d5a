"""Files that cannot be used for a while: a clear error, nothing changed, and the same objects work again afterwards."""

import os
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from strands.types.exceptions import SessionException
from strands.types.session import SessionAgent

from helpers import in_child, text_message, texts
from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="permissions and mounts are those of Unix"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

NOBODY = 65534


def as_ordinary_user(work: Callable[[], None]) -> None:
    """Run something as a user whom permissions apply to: root may do anything."""
    if os.geteuid() != 0:
        work()
        return

    def give_up_privileges_and_work() -> None:
        os.setuid(NOBODY)
        work()

    in_child(give_up_privileges_and_work)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A directory that an ordinary user owns, and can reach."""
    directory = tmp_path / "data"
    directory.mkdir()
    if os.geteuid() == 0:
        os.chown(directory, NOBODY, NOBODY)
        for parent in (tmp_path, *tmp_path.parents):
            if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
                parent.chmod(parent.stat().st_mode | 0o011)
    yield directory
    directory.chmod(0o700)


@contextmanager
def mode(path: Path, permissions: int) -> Iterator[None]:
    before = path.stat().st_mode
    path.chmod(permissions)
    try:
        yield
    finally:
        path.chmod(before)


def reconnect(repository: SQLiteSessionRepository) -> None:
    """Make the next call open a connection, as after a fork or an error."""
    pool: Any = repository._database._pool
    pool.before_fork()


def filled(path: Path) -> SQLiteSessionRepository:
    manager = SQLiteSessionManager("s", path)
    manager.create_agent("s", SessionAgent("a", {}, {}))
    manager.create_message("s", "a", text_message(0))
    return manager.session_repository


@pytest.mark.parametrize(
    ("what", "permissions", "complaint"),
    [
        ("file", 0o000, "unable to open database file"),
        ("directory", 0o000, "unable to open database file"),
        ("directory", 0o555, "unable to open database file|readonly database"),
    ],
)
def test_without_permission(directory: Path, what: str, permissions: int, complaint: str) -> None:
    def work() -> None:
        path = directory / "sessions.db"
        repository = filled(path)
        reconnect(repository)
        with mode(path if what == "file" else directory, permissions):
            for _ in range(2):
                with pytest.raises(SessionException, match=complaint) as caught:
                    repository.create_message("s", "a", text_message(1))
                assert str(path) in str(caught.value)
            with pytest.raises(SessionException, match=r"sessions\.db"):
                SQLiteSessionManager("t", path)
        repository.create_message("s", "a", text_message(1))
        assert len(repository.list_messages("s", "a")) == 2

    as_ordinary_user(work)


def test_a_read_only_file(directory: Path) -> None:
    def work() -> None:
        repository = filled(directory / "sessions.db")
        reconnect(repository)
        with mode(directory / "sessions.db", 0o400):
            assert texts(repository.list_messages("s", "a")) == ["hello"]
            with pytest.raises(SessionException, match=r"sessions\.db: attempt to write a readonly database \(.*-wal"):
                repository.create_message("s", "a", text_message(1))
        for companion in directory.glob("sessions.db-*"):
            companion.chmod(0o600)  # SQLite made them as read-only as the file.
        repository.create_message("s", "a", text_message(1))

    as_ordinary_user(work)


def test_a_directory_that_cannot_be_made(directory: Path) -> None:
    def work() -> None:
        with mode(directory, 0o555), pytest.raises(SessionException, match=r"new/sessions\.db: cannot be opened"):
            SQLiteSessionManager("s", directory / "new" / "sessions.db")
        SQLiteSessionManager("s", directory / "new" / "sessions.db").close()

    as_ordinary_user(work)


def test_a_directory_that_went_away(tmp_path: Path) -> None:
    directory = tmp_path / "mounted"
    repository = filled(directory / "sessions.db")
    reconnect(repository)
    directory.rename(tmp_path / "unmounted")
    with pytest.raises(SessionException, match=r"mounted/sessions\.db: unable to open database file \(check"):
        repository.list_messages("s", "a")
    (tmp_path / "unmounted").rename(directory)
    assert texts(repository.list_messages("s", "a")) == ["hello"]


def test_a_truncated_file(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    repository = filled(path)
    for message_id in range(1, 50):
        repository.create_message("s", "a", text_message(message_id, "x" * 1000))
    reconnect(repository)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SessionException, match=r"sessions\.db: database disk image is malformed \(.*backup"):
        repository.list_messages("s", "a")
    assert path.stat().st_size == len(whole) // 2
    path.write_bytes(whole)
    assert len(repository.list_messages("s", "a")) == 50


def test_a_page_of_noise(tmp_path: Path) -> None:
    """In the messages only: what does not lie on the page stays readable, and nothing tries to mend the file."""
    path = tmp_path / "sessions.db"
    repository = filled(path)
    for message_id in range(1, 50):
        repository.create_message("s", "a", text_message(message_id, "x" * 1000))
    reconnect(repository)
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'messages'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    whole = path.read_bytes()
    damaged = whole[: (page - 1) * size] + b"\xa5" * size + whole[page * size :]
    path.write_bytes(damaged)
    for use in (
        lambda: repository.list_messages("s", "a"),
        lambda: repository.create_message("s", "a", text_message(50)),
        lambda: repository.delete_session("s"),
    ):
        with pytest.raises(SessionException, match=r"sessions\.db: database disk image is malformed \(.*backup"):
            use()
    assert repository.read_agent("s", "a") is not None
    reconnect(repository)
    assert path.read_bytes() == damaged
    path.write_bytes(whole)
    assert len(repository.list_messages("s", "a")) == 50
    repository.create_message("s", "a", text_message(50))


def test_an_exclusive_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As another program may hold it for maintenance: readers cannot get in either."""
    monkeypatch.setattr("strands_sqlite_session_manager._engine.file.DEFAULT_TIMEOUT", 600.0)
    path = tmp_path / "sessions.db"
    filled(path).close()
    with SQLiteSessionRepository(path, busy_timeout=0.2) as repository:
        reconnect(repository)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("PRAGMA locking_mode = EXCLUSIVE")
            other.execute("BEGIN EXCLUSIVE")
            started = time.monotonic()
            with pytest.raises(SessionException, match=r"sessions\.db: database is locked"):
                repository.list_messages("s", "a")
            with pytest.raises(SessionException, match=r"sessions\.db: database is locked"):
                SQLiteSessionManager("s", path, busy_timeout=0.2)
            assert time.monotonic() - started < 60
        assert texts(repository.list_messages("s", "a")) == ["hello"]


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """A file system of one megabyte, where this user may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this user may not mount")
    try:
        repository = filled(disk / "sessions.db")
        stored = 1

        def fill() -> None:
            nonlocal stored
            while True:
                repository.create_message("s", "a", text_message(stored, f"{stored} " + "x" * 20_000))
                stored += 1

        with pytest.raises(SessionException, match=r"sessions\.db: (database or disk is full|disk I/O error) \("):
            fill()
        assert stored > 5
        assert len(repository.list_messages("s", "a")) == stored
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        repository.create_message("s", "a", text_message(stored, "space again"))
        assert texts(repository.list_messages("s", "a"))[-1] == "space again"
        repository.close()
        with closing(sqlite3.connect(disk / "sessions.db")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
