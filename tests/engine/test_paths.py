"""Where the file is, options, and that it is private."""

import os
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest
from engine_helpers import needs_posix
from strands.types.exceptions import SessionException

from helpers import make_agent, texts
from strands_sqlite_session_manager import (
    SQLiteSessionManager,
    SQLiteSessionRepository,
    maintenance,
    transfer,
)
from strands_sqlite_session_manager._engine.holder import database_of


class TestPath:
    def test_defaults_to_sessions_db_in_the_working_directory(self, tmp_path: Path) -> None:
        with SQLiteSessionManager("s"):
            assert (tmp_path / "sessions.db").exists()

    def test_is_taken_from_the_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("STRANDS_SQLITE_DB_PATH", str(tmp_path / "from" / "env.db"))
        with SQLiteSessionManager("s"):
            assert (tmp_path / "from" / "env.db").exists()
        assert not (tmp_path / "sessions.db").exists()

    def test_an_empty_variable_counts_as_unset(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("STRANDS_SQLITE_DB_PATH", "")
        with SQLiteSessionManager("s"):
            assert (tmp_path / "sessions.db").exists()

    def test_a_tilde_is_the_home_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
        with SQLiteSessionManager("s", "~/data.db"):
            assert (tmp_path / "home" / "data.db").exists()

    @pytest.mark.parametrize("db_path", ["", "  ", "a\0b", "sqlite:///x.db", "file:x.db?mode=ro", b"x.db", 5])
    def test_what_is_no_path_is_refused(self, tmp_path: Path, db_path: Any) -> None:
        with pytest.raises(ValueError, match=r"db_path[=:]"):
            SQLiteSessionManager("s", db_path)
        assert not list(tmp_path.iterdir())

    def test_an_argument_goes_before_the_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("STRANDS_SQLITE_DB_PATH", str(tmp_path / "env.db"))
        with SQLiteSessionManager("s", str(tmp_path / "argument.db")):
            assert not (tmp_path / "env.db").exists()

    @pytest.mark.parametrize("name", ["a b.db", "q?x=1#y.db", "100%41.db", "ünï 漢.db", "x:y.db", "'.db", "-"])
    def test_may_hold_any_characters(self, tmp_path: Path, name: str) -> None:
        if os.name == "nt" and set(name) & set('?:"<>|*'):
            pytest.skip("Windows has no such file names")
        with SQLiteSessionManager("s", tmp_path / name):
            assert (tmp_path / name).stat().st_size

    def test_directories_are_made(self, tmp_path: Path) -> None:
        with SQLiteSessionManager("s", tmp_path / "x" / "y" / "z.db"):
            assert (tmp_path / "x" / "y" / "z.db").exists()

    @pytest.mark.parametrize("path", ["", "a\0b", b"bytes.db", 5])
    def test_that_cannot_be_one_is_refused(self, path: Any) -> None:
        with pytest.raises((ValueError, TypeError)):
            SQLiteSessionManager("s", path)

    def test_many_files_stay_apart(self, tmp_path: Path) -> None:
        managers = [SQLiteSessionManager("s", tmp_path / f"{number}.db") for number in range(20)]
        for number, manager in enumerate(managers):
            make_agent(manager, f"answer {number}")(f"question {number}")
        for number, manager in enumerate(managers):
            assert texts(manager.list_messages("s", "default")) == [f"question {number}", f"answer {number}"]


class TestOptions:
    @pytest.mark.parametrize(("synchronous", "level"), [("NORMAL", 1), ("FULL", 2)])
    def test_synchronous_is_set(self, db_path: Path, synchronous: Any, level: int) -> None:
        with SQLiteSessionRepository(db_path, synchronous=synchronous) as repository:
            assert database_of(repository).query("PRAGMA synchronous") == [(level,)]

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("synchronous", "OFF"),
            ("synchronous", "normal; DROP TABLE sessions"),
            ("synchronous", None),
            ("busy_timeout", -1),
            ("busy_timeout", float("nan")),
            ("busy_timeout", 10**9),
            ("busy_timeout", "5"),
        ],
    )
    @pytest.mark.parametrize("build", [SQLiteSessionRepository, lambda **options: SQLiteSessionManager("s", **options)])
    def test_out_of_range_is_refused(self, build: Any, option: str, value: Any) -> None:
        with pytest.raises(ValueError, match=option):
            build(**{option: value})

    def test_misspelt_is_refused(self) -> None:
        with pytest.raises(TypeError, match="synchronus"):
            SQLiteSessionManager("s", synchronus="FULL")  # type: ignore[call-arg]


@needs_posix
class TestPrivacy:
    @pytest.mark.parametrize("umask", [0o000, 0o022, 0o277, 0o777])
    def test_new_files_and_directories_are_the_owners_alone(self, tmp_path: Path, umask: int) -> None:
        path = tmp_path / "new" / "deep" / "sessions.db"
        before = os.umask(umask)
        try:
            with SQLiteSessionManager("s", path):
                modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()}
        finally:
            os.umask(before)
        assert modes == dict.fromkeys(("sessions.db", "sessions.db-wal", "sessions.db-shm"), 0o600)
        for directory in (path.parent, path.parent.parent):
            assert stat.S_IMODE(directory.stat().st_mode) == 0o700

    def test_modes_of_what_existed_are_kept(self, tmp_path: Path) -> None:
        directory = tmp_path / "shared"
        directory.mkdir()
        directory.chmod(0o750)
        (directory / "sessions.db").touch()
        (directory / "sessions.db").chmod(0o640)
        with SQLiteSessionManager("s", directory / "sessions.db"):
            pass
        assert stat.S_IMODE(directory.stat().st_mode) == 0o750
        assert stat.S_IMODE((directory / "sessions.db").stat().st_mode) == 0o640

    def test_ones_own_symbolic_link_is_followed(self, tmp_path: Path, opened: list[sqlite3.Connection]) -> None:
        (tmp_path / "link.db").symlink_to(tmp_path / "target.db")
        with SQLiteSessionManager("s", tmp_path / "link.db"), SQLiteSessionManager("s", tmp_path / "target.db"):
            assert len(opened) == 1
        assert (tmp_path / "target.db").exists()

    def test_another_users_symbolic_link_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        link = tmp_path / "link.db"
        link.symlink_to(tmp_path / "target.db")
        monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
        with pytest.raises(SessionException, match=r"link\.db: a symbolic link of another user"):
            SQLiteSessionManager("s", link)
        assert not (tmp_path / "target.db").exists()


class TestAPathThatCannotBeOne:
    @pytest.mark.parametrize("path", ["x.db/", "new/x.db/", "x/.", "y/..", "n" * 248, "new/" + "n" * 300])
    def test_is_refused_and_leaves_nothing_behind(self, tmp_path: Path, path: str) -> None:
        with pytest.raises(SessionException, match=r"names a directory|too long a name"):
            SQLiteSessionRepository(path)
        assert list(tmp_path.iterdir()) == []

    @needs_posix
    def test_has_a_directory_with_too_long_a_name(self, tmp_path: Path, repository: SQLiteSessionRepository) -> None:
        path = f"new/other/{'d' * 300}"
        with pytest.raises(SessionException, match="name too long"):
            SQLiteSessionRepository(f"{path}/x.db")
        with pytest.raises(SessionException, match="name too long"):
            transfer.export_file_sessions(repository, path)
        assert not (tmp_path / "new").exists()

    @needs_posix
    def test_is_one_that_sqlite_cannot_hold(self, tmp_path: Path) -> None:
        with pytest.raises(SessionException, match="too long a path"):
            SQLiteSessionRepository("/".join(["d" * 100] * 5) + "/x.db")
        assert list(tmp_path.iterdir()) == []

    def test_is_no_name_of_the_longest(self) -> None:
        with SQLiteSessionRepository("n" * 200) as repository:
            assert repository.read_session("s") is None


@needs_posix
@pytest.mark.parametrize("umask", [0o000, 0o027, 0o077, 0o277, 0o777])
def test_files_and_directories_are_for_the_owner_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with SQLiteSessionManager("s", "new/s.db") as manager:
            make_agent(manager, "hi")("hello")
            repository = manager.session_repository
            # The SDK writes these, which it cannot where the umask keeps their owner out of them, unless that is root.
            if not umask & 0o700 or os.geteuid() == 0:
                assert transfer.export_file_sessions(repository, "files/deeper").skipped == []
            transfer.export_jsonl(repository, "s.jsonl")
            maintenance.backup("backup.db", "new/s.db")
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert len(modes) >= 4
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
