"""Backups of a file in use."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from maintenance_helpers import by_hand, content, fill, found, make_old, next_version, stored, used_by_another_process
from strands.types.exceptions import SessionException
from strands.types.session import SessionAgent

from helpers import text_message
from strands_sqlite_session_manager import (
    SQLiteSessionRepository,
)
from strands_sqlite_session_manager.maintenance import (
    backup,
    check,
    repair,
    stats,
    vacuum,
)


class TestEveryFunction:
    @pytest.mark.parametrize(
        "use",
        [lambda: backup("copy.db"), check, repair, stats, vacuum],
        ids=["backup", "check", "repair", "stats", "vacuum"],
    )
    def test_makes_no_file_where_there_is_none(self, tmp_path: Path, use: Callable[[], object]) -> None:
        with pytest.raises(SessionException, match=r"sessions\.db: cannot be used"):
            use()
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        "use",
        [lambda path: backup("copy.db", path), repair, stats, vacuum],
        ids=["backup", "repair", "stats", "vacuum"],
    )
    def test_makes_no_database_of_an_empty_file(self, db_path: Path, use: Callable[[Path], object]) -> None:
        db_path.touch()
        with suppress(SessionException):
            assert use(db_path) == []
        assert db_path.read_bytes() == b""
        assert list(db_path.parent.iterdir()) == [db_path]

    def test_takes_the_path_from_the_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fill(tmp_path / "from_env.db")
        monkeypatch.setenv("STRANDS_SQLITE_DB_PATH", str(tmp_path / "from_env.db"))
        assert stats().path == str(tmp_path / "from_env.db")
        backup("copy.db")
        assert stored(tmp_path / "copy.db") == ["hello"] * 3


class TestBackup:
    def test_is_one_private_file_with_everything(self, db_path: Path, tmp_path: Path) -> None:
        fill(db_path)
        # The newest messages are in the log of a connection that stays open.
        with SQLiteSessionRepository(db_path) as repository:
            repository.create_message("s", "a", text_message(3, "newest"))
            copy = tmp_path / "copy.db"
            result = backup(copy, db_path)
        assert (result.path, result.size) == (str(copy), copy.stat().st_size)
        assert {path.name for path in tmp_path.iterdir()} == {"sessions.db", "copy.db"}
        if os.name == "posix":
            assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        assert found(copy) == []
        with by_hand(copy) as connection:
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert stored(copy) == ["hello"] * 3 + ["newest"]

    def test_leaves_a_database_of_an_older_version_as_it_is(
        self, db_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A program of that version may be using it."""
        make_old(db_path)
        next_version(monkeypatch)
        before = db_path.read_bytes()
        backup("copy.db", db_path)
        assert db_path.read_bytes() == before
        assert content(Path("copy.db")) == content(db_path)

    @pytest.mark.slow
    def test_is_of_one_moment_while_threads_and_a_process_write(self, db_path: Path, tmp_path: Path) -> None:
        """And comes to an end: no write makes it start anew."""
        fill(db_path, 1500, "x" * 8000)
        # Bursts, because SQLite lets a process that writes without a pause starve all others, backup or not.
        process_code = """
repository.create_agent("s", SessionAgent("process", {}, {}))
print("ready", flush=True)
for number, _ in enumerate(sys.stdin):
    for message_id in range(number * 20, number * 20 + 20):
        repository.create_message("s", "process", text_message(message_id))
    print("written", flush=True)
"""
        steps: list[tuple[int, int]] = []
        bursts: list[Future[None]] = []
        with (
            SQLiteSessionRepository(db_path) as repository,
            used_by_another_process(db_path, process_code) as process,
            ThreadPoolExecutor() as executor,
        ):
            assert process.stdin is not None
            assert process.stdout is not None
            for agent_id in "bc":
                repository.create_agent("s", SessionAgent(agent_id, {}, {}))

            def write(agent_id: str, first: int) -> None:
                for message_id in range(first, first + 20):
                    repository.create_message("s", agent_id, text_message(message_id))

            def progress(done: int, total: int) -> None:
                """See that all have written since the last step, and let them write during the next."""
                if steps:
                    assert process.stdout.readline() == "written\n"
                    for burst in bursts:
                        burst.result()
                bursts[:] = [executor.submit(write, agent_id, len(steps) * 20) for agent_id in "bc"]
                print(file=process.stdin, flush=True)
                repository.update_agent("s", SessionAgent("a", {"step": len(steps)}, {}))
                steps.append((done, total))
                assert len(steps) < 50, "the backup starts anew for ever"

            backup(tmp_path / "copy.db", db_path, progress=progress)
            assert process.stdout.readline() == "written\n"
        assert len(steps) > 2
        assert steps == sorted(steps)
        assert {total for _, total in steps} == {steps[-1][0]}
        assert found(tmp_path / "copy.db") == []
        with SQLiteSessionRepository(tmp_path / "copy.db") as copy:
            assert len(copy.list_messages("s", "a")) == 1500
            # Nothing that was written after the first step.
            assert [len(copy.list_messages("s", agent_id)) for agent_id in ("b", "c", "process")] == [0, 0, 0]
            agent = copy.read_agent("s", "a")
            assert agent is not None
            assert agent.state == {}

    def test_refuses_what_exists(self, db_path: Path, tmp_path: Path) -> None:
        fill(db_path)
        (tmp_path / "copy.db").write_text("precious")
        (tmp_path / "other.db-wal").write_text("of a file that was moved away")
        for name in ("copy.db", "other.db", "sessions.db"):
            with pytest.raises(SessionException, match=rf"{name}(-wal)?: exists already"):
                backup(tmp_path / name, db_path)
        assert (tmp_path / "copy.db").read_text() == "precious"
        assert not (tmp_path / "other.db").exists()

    def test_refuses_what_appears_meanwhile(self, db_path: Path, tmp_path: Path) -> None:
        fill(db_path)
        with pytest.raises(SessionException, match="exists already"):
            backup("copy.db", db_path, progress=lambda done, total: Path("copy.db").write_text("precious"))
        assert Path("copy.db").read_text() == "precious"
        assert {path.name for path in tmp_path.iterdir()} == {"sessions.db", "copy.db"}

    def test_leaves_nothing_when_progress_raises(self, db_path: Path, tmp_path: Path) -> None:
        fill(db_path)

        def interrupt(done: int, total: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            backup("copy.db", db_path, progress=interrupt)
        assert [path.name for path in tmp_path.iterdir()] == ["sessions.db"]
        assert stored(db_path) == ["hello"] * 3

    @pytest.mark.slow
    @pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="signals are those of Unix")
    def test_leaves_no_destination_when_killed(self, db_path: Path, tmp_path: Path) -> None:
        fill(db_path, 500, "x" * 20_000)
        code = """
import os, signal, sys
from strands_sqlite_session_manager.maintenance import backup
backup(sys.argv[2], sys.argv[1], progress=lambda done, total: os.kill(os.getpid(), signal.SIGKILL))
"""
        done = subprocess.run([sys.executable, "-c", code, db_path, tmp_path / "copy.db"], check=False)
        assert done.returncode == -signal.SIGKILL
        assert not (tmp_path / "copy.db").exists()
        backup(tmp_path / "copy.db", db_path)  # what is left over is in nobody's way
        assert len(stored(tmp_path / "copy.db")) == 500

    def test_names_a_directory_that_does_not_exist(self, db_path: Path, tmp_path: Path) -> None:
        fill(db_path)
        with pytest.raises(SessionException, match=r"copy\.db: cannot be written"):
            backup(tmp_path / "missing" / "copy.db", db_path)
        assert [path.name for path in tmp_path.iterdir()] == ["sessions.db"]

    @pytest.mark.skipif(not Path("/proc/self/mounts").exists(), reason="mounts are those of Linux")
    def test_leaves_nothing_on_a_disk_that_is_full(self, db_path: Path, tmp_path: Path) -> None:
        fill(db_path, 200, "x" * 20_000)
        disk = tmp_path / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            pytest.skip("this user may not mount")
        try:
            with pytest.raises(SessionException, match=r"disk/copy\.db: not written: .*(full|I/O error)"):
                backup(disk / "copy.db", db_path)
            assert list(disk.iterdir()) == []
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            with pytest.raises(SessionException, match=r"disk/copy\.db: cannot be written: .*Read-only"):
                backup(disk / "copy.db", db_path)
        finally:
            subprocess.run(["umount", str(disk)], check=True)
