"""Backups and restoring them, what is wrong with a file and what mends it, and how large it is."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from helpers import make_agent, text_message, texts
from strands_sqlite_session_manager import (
    SessionCatalog,
    SQLiteSessionManager,
    SQLiteSessionRepository,
)
from strands_sqlite_session_manager._engine import schema
from strands_sqlite_session_manager._engine.file import FileDatabase as Database
from strands_sqlite_session_manager._engine.holder import database_of
from strands_sqlite_session_manager.maintenance import (
    Finding,
    backup,
    backups,
    check,
    checks,
    repair,
    restore_backup,
    sizes,
    stats,
    vacuum,
)

# What depends on the machine that the tests run on.
SURROUNDINGS = {"sqlite_version", "network"}


def found(db_path: Path) -> list[Finding]:
    return [finding for finding in check(db_path) if finding.kind not in SURROUNDINGS]


def kinds(db_path: Path) -> list[str]:
    return [finding.kind for finding in found(db_path)]


@contextmanager
def by_hand(db_path: Path) -> Iterator[sqlite3.Connection]:
    """A connection without the care that the library takes."""
    with closing(sqlite3.connect(db_path, isolation_level=None)) as connection:
        yield connection


def run_by_hand(db_path: Path, sql: str) -> None:
    with by_hand(db_path) as connection:
        connection.execute(sql)


def fill(db_path: Path, messages: int = 3, text: str = "hello") -> None:
    """Make a file with the session `s`, its agent `a` and messages, in use by nobody."""
    with SQLiteSessionRepository(db_path) as repository:
        repository.create_session(Session("s", SessionType.AGENT))
        repository.create_agent(
            "s", SessionAgent("a", {}, {}), messages=[text_message(n, text) for n in range(messages)]
        )


def stored(db_path: Path) -> list[str]:
    with SQLiteSessionRepository(db_path) as repository:
        return texts(repository.list_messages("s", "a"))


def content(db_path: Path) -> list[str]:
    with by_hand(db_path) as connection:
        return list(connection.iterdump())


@contextmanager
def used_by_another_process(db_path: Path, code: str) -> Iterator["subprocess.Popen[str]"]:
    """Another process that runs code on a `repository` when it has said `ready`."""
    script = f"""
import sys
from helpers import text_message
from strands.types.session import SessionAgent
from strands_sqlite_session_manager import SQLiteSessionRepository
repository = SQLiteSessionRepository(sys.argv[1])
{code}
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(db_path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def remove_from_index(db_path: Path) -> None:
    """Damage an index as a bug or a bad disk would: a row of the table is not in it."""
    with by_hand(db_path) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        rows = connection.execute("SELECT * FROM sqlite_master WHERE name = 'sessions_by_activity'").fetchall()
        connection.execute("DELETE FROM sqlite_master WHERE name = 'sessions_by_activity'")
    with by_hand(db_path) as connection:
        connection.execute("INSERT INTO sessions (session_id) VALUES ('unlisted')")
        connection.execute("PRAGMA writable_schema = ON")
        connection.executemany("INSERT INTO sqlite_master VALUES (?, ?, ?, ?, ?)", rows)


def overwrite_page_of(db_path: Path, name: str) -> None:
    """Replace the first page of a table by noise."""
    with by_hand(db_path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    whole = db_path.read_bytes()
    db_path.write_bytes(whole[: (page - 1) * size] + b"\xa5" * size + whole[page * size :])


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


class TestRestore:
    def test_of_an_older_schema_keeps_what_others_store_before_it_is_migrated(
        self, db_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The copy is not repeated when the migration has to wait for them."""
        next_version(monkeypatch)
        with closing(sqlite3.connect(tmp_path / "old.db")) as old:
            old.executescript((Path(__file__).parent / "schemas" / "version_1.sql").read_text("utf-8"))
        fill(db_path)
        migrate, is_first = schema.migrate, iter([True])
        with closing(sqlite3.connect(db_path, isolation_level=None, check_same_thread=False)) as other:

            def migrate_late(connection: sqlite3.Connection, path: str) -> None:
                """Another process is first, and takes its time."""
                if connection.execute("PRAGMA user_version").fetchone() == (1,) and next(is_first, False):
                    other.execute("BEGIN IMMEDIATE")
                    other.execute("INSERT INTO sessions (session_id) VALUES ('acknowledged')")
                    threading.Timer(0.1, other.execute, ["COMMIT"]).start()
                migrate(connection, path)

            monkeypatch.setattr(schema, "migrate", migrate_late)
            restore_backup("old.db", db_path, overwrite=True)
            sessions = other.execute("SELECT session_id FROM sessions ORDER BY session_id").fetchall()
        assert sessions == [("acknowledged",), ("user-42",)]

    def test_makes_a_database_where_there_is_none(self, db_path: Path, tmp_path: Path) -> None:
        fill(db_path)
        backup("copy.db", db_path)
        before = Path("copy.db").read_bytes()
        db_path.unlink()
        restore_backup("copy.db", db_path)
        assert {path.name for path in tmp_path.iterdir()} == {"sessions.db", "copy.db"}
        assert stored(db_path) == ["hello"] * 3
        assert Path("copy.db").read_bytes() == before

    def test_replaces_what_has_not_changed_since(self, db_path: Path) -> None:
        fill(db_path)
        backup("copy.db", db_path)
        with by_hand(db_path) as connection:
            connection.execute("DELETE FROM messages WHERE message_id = 1")
        restore_backup("copy.db", db_path)
        assert stored(db_path) == ["hello"] * 3
        assert found(db_path) == []

    def test_refuses_to_lose_newer_rows(self, db_path: Path) -> None:
        fill(db_path)
        backup("copy.db", db_path)
        with SQLiteSessionRepository(db_path) as repository:
            # Moves no session's time, and must not be undone unawares.
            repository.update_message("s", "a", text_message(1, "redacted"))
        with pytest.raises(SessionException, match=r"sessions\.db: written to after the backup .* overwrite=True"):
            restore_backup("copy.db", db_path)
        assert stored(db_path) == ["hello", "redacted", "hello"]
        restore_backup("copy.db", db_path, overwrite=True)
        assert stored(db_path) == ["hello"] * 3

    @pytest.mark.parametrize(
        "change",
        [
            "INSERT INTO sessions (session_id, updated_at) VALUES ('imported', '2020-01-01T00:00:00+00:00')",
            "UPDATE sessions SET session_id = 'renamed'",
            "INSERT INTO storage (key, data, updated_at) VALUES ('k', x'00', '2020-01-01T00:00:00+00:00')",
        ],
    )
    def test_refuses_to_lose_what_the_backup_lacks(self, db_path: Path, change: str) -> None:
        """Though it tells no newer time."""
        fill(db_path)
        backup("saved.db", db_path)
        run_by_hand(db_path, change)
        before = content(db_path)
        with pytest.raises(SessionException, match="restore with overwrite=True"):
            restore_backup("saved.db", db_path)
        assert content(db_path) == before

    def test_refuses_a_file_that_this_process_uses(self, db_path: Path) -> None:
        fill(db_path)
        backup("copy.db", db_path)
        with SQLiteSessionRepository(db_path, busy_timeout=1) as repository:
            with pytest.raises(SessionException, match=r"sessions\.db: in use"):
                restore_backup("copy.db", db_path)
            # After a fork, it has no connection for a while.
            pool: Any = database_of(repository)._pool
            pool.before_fork()
            del pool
            with pytest.raises(SessionException, match=r"sessions\.db: in use"):
                restore_backup("copy.db", db_path)
        restore_backup("copy.db", db_path)

    def test_refuses_a_file_that_another_process_uses(self, db_path: Path) -> None:
        fill(db_path)
        backup("copy.db", db_path)
        with (
            used_by_another_process(db_path, 'print("ready", flush=True); sys.stdin.read()'),
            pytest.raises(SessionException, match=r"sessions\.db: in use"),
        ):
            restore_backup("copy.db", db_path)
        restore_backup("copy.db", db_path)

    def test_overwrites_under_those_who_use_the_file(self, db_path: Path) -> None:
        """A manager of this process and another process go on with the restored rows."""
        fill(db_path)
        backup("copy.db", db_path)
        process_code = """
print("ready", flush=True)
sys.stdin.readline()
print(len(repository.list_messages("s", "a")), flush=True)
repository.create_message("s", "a", text_message(3, "from the process"))
"""
        with SQLiteSessionManager("s", db_path) as manager, used_by_another_process(db_path, process_code) as process:
            manager.create_message("s", "a", text_message(3, "lost"))
            manager.create_session(Session("lost too", SessionType.AGENT))
            restore_backup("copy.db", db_path, overwrite=True)
            assert texts(manager.list_messages("s", "a")) == ["hello"] * 3
            assert manager.read_session("lost too") is None
            assert process.communicate("go\n", timeout=30)[0] == "3\n"
            manager.create_message("s", "a", text_message(4, "from the manager"))
        assert stored(db_path)[3:] == ["from the process", "from the manager"]
        assert found(db_path) == []

    def test_gives_up_when_another_holds_the_lock(self, db_path: Path) -> None:
        fill(db_path)
        backup("copy.db", db_path)
        before = content(db_path)
        with (
            closing(Database("copy.db", synchronous="NORMAL", busy_timeout=0.1, read_only=True)) as saved,
            closing(Database(db_path, synchronous="NORMAL", busy_timeout=0.1)) as database,
            by_hand(db_path) as connection,
        ):
            connection.execute("BEGIN IMMEDIATE")
            with pytest.raises(SessionException, match=r"sessions\.db: database is locked"):
                saved.copy_into(database)
        assert content(db_path) == before

    @pytest.mark.parametrize(
        ("damage", "complaint"),
        [
            (remove_from_index, "a damaged backup: .*index sessions_by_activity"),
            (lambda path: overwrite_page_of(path, "messages"), "a damaged backup|malformed"),
            (lambda path: path.write_text("no database" * 100), "not a database"),
            (lambda path: path.write_bytes(b""), "an empty file"),
            (lambda path: path.unlink(), "cannot be used"),
            (lambda path: run_by_hand(path, "PRAGMA user_version = 999"), "a newer version"),
            (lambda path: run_by_hand(path, "PRAGMA application_id = 7"), "another program"),
        ],
        ids=["index", "page", "text", "empty", "missing", "newer", "another program"],
    )
    def test_refuses_a_backup_that_is_none(self, db_path: Path, damage: Callable[[Path], Any], complaint: str) -> None:
        fill(db_path)
        copy = Path("copy.db").resolve()
        backup(copy, db_path)
        damage(copy)
        before = content(db_path), copy.exists() and copy.read_bytes()
        for target in (db_path, Path("new.db")):
            with pytest.raises(SessionException, match=rf"copy\.db: .*({complaint})"):
                restore_backup(copy, target, overwrite=True)
        assert (content(db_path), copy.exists() and copy.read_bytes()) == before
        assert not Path("new.db").exists()

    def test_refuses_a_log_that_was_left_behind(self, db_path: Path) -> None:
        """It would be taken for the new file's own, and damage it."""
        fill(db_path)
        backup("copy.db", db_path)
        Path("new.db-wal").write_bytes(b"old")
        with pytest.raises(SessionException, match=r"new\.db-wal: exists already; move it away"):
            restore_backup("copy.db", "new.db")
        assert not Path("new.db").exists()

    def test_mends_a_file_with_damaged_pages(self, db_path: Path) -> None:
        fill(db_path)
        backup("copy.db", db_path)
        overwrite_page_of(db_path, "messages")
        restore_backup("copy.db", db_path, overwrite=True)
        assert stored(db_path) == ["hello"] * 3
        assert found(db_path) == []

    def test_brings_an_old_backup_to_the_newest_schema(self, db_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """At once: those who have the file open do not look at its version again."""
        make_old(Path("old.db"))
        next_version(monkeypatch)
        fill(db_path)
        with SQLiteSessionRepository(db_path) as repository:
            restore_backup("old.db", db_path, overwrite=True)
            assert repository.read_agent("user-42", "default") is not None
            with by_hand(db_path) as connection:
                assert connection.execute("PRAGMA user_version").fetchone() == (len(schema.MIGRATIONS),)
        with by_hand(Path("old.db")) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (1,)
            assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)

    @pytest.mark.skipif(not hasattr(os, "geteuid"), reason="links are those of Unix")
    def test_does_not_follow_a_link_to_nowhere(self, db_path: Path, tmp_path: Path) -> None:
        fill(db_path)
        backup("copy.db", db_path)
        Path("link.db").symlink_to(tmp_path / "elsewhere.db")
        with pytest.raises(SessionException, match=r"link\.db: exists already"):
            restore_backup("copy.db", "link.db")
        assert not (tmp_path / "elsewhere.db").exists()

    def test_to_itself_is_refused(self, db_path: Path) -> None:
        fill(db_path)
        with pytest.raises(ValueError, match="to itself"):
            restore_backup(db_path, db_path, overwrite=True)


class TestCheck:
    def test_finds_nothing_wrong_in_a_sound_file(self, db_path: Path) -> None:
        """With everything that a row may hold, more rows than one batch, and the last call of a tool under way."""
        fill(db_path, 250)
        with SQLiteSessionRepository(db_path) as repository:
            image = {"image": {"format": "png", "source": {"bytes": b"\x00\xff"}}}
            repository.create_message("s", "a", SessionMessage({"role": "user", "content": [image]}, 250))
            redacted = text_message(251)
            redacted.redact_message = {"role": "user", "content": [{"text": "[redacted]"}]}
            repository.create_message("s", "a", redacted)
            for message_id, block in enumerate([CALL, RESULT, CALL], 252):
                repository.create_message("s", "a", SessionMessage({"role": "user", "content": [block]}, message_id))
        assert found(db_path) == []

    def test_changes_nothing(self, db_path: Path) -> None:
        fill(db_path)
        backup("copy.db", db_path)
        before = Path("copy.db").read_bytes()
        for path in (Path("copy.db"), db_path):
            check(path)
            stats(path)
        assert Path("copy.db").read_bytes() == before
        assert sorted(path.name for path in db_path.parent.iterdir()) == ["copy.db", "sessions.db"]

    def test_looks_at_every_batch(self, db_path: Path) -> None:
        fill(db_path, 350)
        with by_hand(db_path) as connection:
            connection.execute("UPDATE messages SET message = '{' WHERE message_id IN (0, 99, 100, 199, 349)")
        assert [finding.key for finding in found(db_path)] == [("s", "a", n) for n in (0, 99, 100, 199, 349)]

    def test_looks_at_what_is_shown_of_a_redacted_message(self, db_path: Path) -> None:
        fill(db_path, 0)
        redacted = SessionMessage({"role": "assistant", "content": [CALL]}, 0)
        redacted.redact_message = {"role": "assistant", "content": [{"text": "[redacted]"}]}
        with SQLiteSessionRepository(db_path) as repository:
            repository.create_message("s", "a", redacted)
            repository.create_message("s", "a", text_message(1))
        assert found(db_path) == []

    def test_finds_an_index_that_disagrees(self, db_path: Path) -> None:
        fill(db_path)
        remove_from_index(db_path)
        (finding,) = found(db_path)
        assert (finding.severity, finding.kind, finding.repairable) == ("error", "index", True)
        assert "sessions_by_activity" in finding.message

    def test_leaves_rows_until_the_structure_is_sound(self, db_path: Path) -> None:
        """A row that a damaged index does not lead to would make orphans of others, which are none."""
        make_orphans(db_path)
        remove_from_index(db_path)
        assert kinds(db_path) == ["index"]
        repair(db_path, dry_run=False)
        assert set(kinds(db_path)) == {"orphan"}

    def test_does_not_offer_an_index_anew_beside_other_damage(self, db_path: Path) -> None:
        fill(db_path)
        remove_from_index(db_path)
        with by_hand(db_path) as connection:
            connection.execute("PRAGMA ignore_check_constraints = ON")
            connection.execute("UPDATE messages SET message_id = -1 WHERE message_id = 2")
        findings = found(db_path)
        assert {finding.kind for finding in findings} == {"index", "integrity"}
        assert not any(finding.repairable for finding in findings)

    def test_finds_damaged_pages(self, db_path: Path) -> None:
        fill(db_path, 100, "x" * 1000)
        overwrite_page_of(db_path, "messages")
        findings = found(db_path)
        assert findings
        assert {finding.kind for finding in findings} <= {"integrity", "index", "unreadable"}
        assert all(finding.severity == "error" and "backup" in finding.advice for finding in findings)
        assert not any(finding.repairable for finding in findings)

    @pytest.mark.parametrize("text", [b"", b"no database" * 100, b"SQLite format 3\x00" + b"\xa5" * 5000])
    def test_finds_a_file_that_is_no_database(self, db_path: Path, text: bytes) -> None:
        db_path.write_bytes(text)
        assert kinds(db_path) == ["unreadable"]
        assert db_path.read_bytes() == text

    def test_finds_orphans(self, db_path: Path) -> None:
        make_orphans(db_path)
        assert [(finding.kind, finding.table, finding.key) for finding in found(db_path)] == [
            ("orphan", "agents", ("gone", "a")),
            ("orphan", "multi_agents", ("gone", "graph")),
            ("orphan", "messages", ("gone", "a")),
            ("orphan", "messages", ("s", "gone")),
        ]
        assert [finding.message for finding in found(db_path)][2:] == [
            "messages ('gone', 'a'): 1 message: their session does not exist",
            "messages ('s', 'gone'): 2 messages: their agent does not exist",
        ]
        with by_hand(db_path) as connection:
            assert connection.execute("PRAGMA foreign_key_check").fetchall()

    def test_knows_every_foreign_key(self, db_path: Path) -> None:
        fill(db_path)
        with by_hand(db_path) as connection:
            tables = connection.execute(
                "SELECT name FROM sqlite_master WHERE EXISTS (SELECT 1 FROM pragma_foreign_key_list(name))"
            ).fetchall()
        assert {name for (name,) in tables} == {table for table, *_ in checks._ORPHANS}

    @pytest.mark.parametrize(
        ("table", "column", "kind", "key"),
        [
            ("sessions", "metadata", "metadata", ("s",)),
            ("agents", "state", "json", ("s", "a")),
            ("agents", "conversation_manager_state", "json", ("s", "a")),
            ("agents", "internal_state", "json", ("s", "a")),
            ("multi_agents", "state", "json", ("s", "graph")),
            ("messages", "message", "json", ("s", "a", 1)),
            ("messages", "redact_message", "json", ("s", "a", 1)),
        ],
    )
    @pytest.mark.parametrize("text", [b"{", b"[1]", b"\xff", b'{"__encoded__": ["attachment", 0, 5]}'])
    def test_finds_what_the_repository_would_refuse(
        self, db_path: Path, table: str, column: str, kind: str, key: tuple[Any, ...], text: bytes
    ) -> None:
        fill(db_path)
        with by_hand(db_path) as connection:
            connection.execute(
                "INSERT INTO multi_agents (session_id, multi_agent_id, state) VALUES ('s', 'graph', '{}')"
            )
            condition = "WHERE message_id = 1" if table == "messages" else ""
            connection.execute(f"UPDATE {table} SET {column} = CAST(? AS TEXT) {condition}", (text,))
        (finding,) = found(db_path)
        assert (finding.severity, finding.kind, finding.table, finding.key) == ("error", kind, table, key)
        assert finding.message.startswith(f"{table} {key}: damaged ")
        assert finding.repairable == (kind == "metadata")

    def test_names_the_ways_out_of_a_damaged_message(self, db_path: Path) -> None:
        """Both work on a conversation with one."""
        fill(db_path)
        run_by_hand(db_path, "UPDATE messages SET message = '{' WHERE message_id = 1")
        (finding,) = found(db_path)
        assert "`strands-sqlite fork SESSION NEW --through N` copies what is before it" in finding.advice
        assert "`strands-sqlite undo SESSION --agent AGENT` removes the last turns" in finding.advice
        with SessionCatalog(db_path) as catalog:
            catalog.fork_session("s", "new", through=0)
            assert catalog.undo_turns("s", "a", 3) == 3
        assert found(db_path) == []

    def test_goes_on_when_a_key_cannot_be_read(self, db_path: Path) -> None:
        make_orphans(db_path)
        with by_hand(db_path) as connection:
            connection.execute("INSERT INTO sessions (session_id) VALUES (CAST(X'ff' AS TEXT))")
        assert set(kinds(db_path)) == {"orphan", "unreadable"}

    def test_finds_calls_without_results_and_gaps(self, db_path: Path) -> None:
        fill(db_path, 0)
        other_call = {"toolUse": {"name": "t", "toolUseId": "other", "input": {}}}
        contents = {
            2: [CALL, other_call],
            3: [RESULT],
            4: [CALL],
            6: [RESULT],
            9: [{"text": "…"}],
        }
        with SQLiteSessionRepository(db_path) as repository:
            for message_id, blocks in contents.items():
                repository.create_message("s", "a", SessionMessage({"role": "user", "content": blocks}, message_id))
        assert [(finding.severity, finding.kind, finding.key, finding.message) for finding in found(db_path)] == [
            ("warning", "gap", ("s", "a"), GAP.format("0 to 1 are")),
            ("warning", "gap", ("s", "a"), GAP.format("message 5 is")),
            ("warning", "gap", ("s", "a"), GAP.format("7 to 8 are")),
            ("info", "tool_call", ("s", "a", 2), "messages ('s', 'a', 2): calls of tools without results: other"),
        ]

    def test_finds_a_large_log(self, db_path: Path) -> None:
        fill(db_path)
        with grown_log(db_path):
            (finding,) = found(db_path)
            assert (finding.severity, finding.kind, finding.repairable) == ("warning", "log", True)

    @pytest.mark.parametrize(
        ("version", "affected"),
        [
            ((3, 37, 0), True),
            ((3, 44, 5), True),
            ((3, 44, 6), False),
            ((3, 45, 0), True),
            ((3, 50, 6), True),
            ((3, 50, 7), False),
            ((3, 51, 2), True),
            ((3, 51, 3), False),
            ((3, 52, 0), False),
        ],
    )
    def test_knows_the_versions_of_sqlite_with_a_bug(
        self, db_path: Path, version: tuple[int, ...], affected: bool
    ) -> None:
        assert checks._has_wal_reset_bug(version) == affected
        fill(db_path)
        here = checks._has_wal_reset_bug(sqlite3.sqlite_version_info)
        assert ("sqlite_version" in {finding.kind for finding in check(db_path)}) == here

    @pytest.mark.parametrize(
        ("path", "file_system"),
        [
            ("/home/ada/sessions.db", "ext4"),
            ("/home/ada/team share/x/sessions.db", "nfs4"),
            ("/home/ada/team shares.db", "ext4"),
            ("/mnt/sessions.db", "cifs"),
        ],
    )
    def test_reads_the_file_system_from_the_mounts(self, path: str, file_system: str) -> None:
        mounts = (
            "/dev/vda / ext4 rw 0 0\nserver:/x /home/ada/team\\040share nfs4 rw 0 0\n"
            "/dev/sda /mnt xfs rw 0 0\n//server/x /mnt cifs rw 0 0\nproc /proc proc rw 0 0\n"
        )
        assert checks._file_system(path, mounts) == file_system


class TestRepair:
    def test_dry_run_changes_nothing(self, db_path: Path) -> None:
        make_orphans(db_path)
        with by_hand(db_path) as connection:
            connection.execute("UPDATE sessions SET metadata = '{broken'")
            before = list(connection.iterdump())
        planned = repair(db_path)
        assert {finding.kind for finding in planned} == {"orphan", "metadata"}
        assert all(finding.remedy for finding in planned)
        assert content(db_path) == before

    def test_gives_orphans_what_they_belong_to_and_resets_metadata(self, db_path: Path) -> None:
        make_orphans(db_path)
        with by_hand(db_path) as connection:
            connection.execute("UPDATE sessions SET metadata = '{broken'")
        planned = repair(db_path)
        done = repair(db_path, dry_run=False)
        assert done == planned
        assert any("{broken" in finding.message for finding in done)
        assert found(db_path) == []
        assert stored(db_path) == ["hello"] * 3
        with by_hand(db_path) as connection:
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
            assert connection.execute("SELECT DISTINCT metadata FROM sessions").fetchall() == [("{}",)]
            assert connection.execute("SELECT count(*) FROM messages").fetchone() == (6,)
        with SQLiteSessionManager("s", db_path) as manager:
            assert texts(make_agent(manager, agent_id="gone").messages) == ["hello", "hello"]
        assert repair(db_path, dry_run=False) == []

    def test_makes_an_index_anew(self, db_path: Path) -> None:
        fill(db_path)
        remove_from_index(db_path)
        (done,) = repair(db_path, dry_run=False)
        assert done.kind == "index"
        assert found(db_path) == []

    def test_leaves_damaged_messages_and_pages_alone(self, db_path: Path) -> None:
        fill(db_path, 100, "x" * 1000)
        with by_hand(db_path) as connection:
            connection.execute('UPDATE messages SET message = \'{"role": "user", "cont\' WHERE message_id = 1')
        assert repair(db_path, dry_run=False) == []
        overwrite_page_of(db_path, "messages")
        damaged = db_path.read_bytes()
        assert repair(db_path, dry_run=False) == []
        assert db_path.read_bytes() == damaged

    def test_does_nothing_by_halves(self, db_path: Path) -> None:
        make_orphans(db_path)
        with by_hand(db_path) as connection:
            connection.execute("UPDATE sessions SET metadata = '{broken'")
            connection.execute(
                "CREATE TRIGGER no BEFORE UPDATE OF metadata ON sessions BEGIN SELECT RAISE(ABORT, 'not now'); END"
            )
        before = content(db_path)
        with pytest.raises(SessionException, match="not now"):
            repair(db_path, dry_run=False)
        assert content(db_path) == before

    def test_empties_a_large_log(self, db_path: Path) -> None:
        fill(db_path)
        with grown_log(db_path) as reader:
            assert [finding.kind for finding in repair(db_path)] == ["log"]
            reader.execute("COMMIT")
            assert [finding.kind for finding in repair(db_path, dry_run=False)] == ["log"]
            assert Path(f"{db_path}-wal").stat().st_size == 0


class TestStats:
    def test_counts_rows_and_bytes(self, db_path: Path) -> None:
        fill(db_path, 3, "ü" * 1000)
        with SQLiteSessionRepository(db_path) as repository:
            for number in range(12):
                repository.create_session(Session(f"small {number}", SessionType.AGENT))
            image = {"image": {"format": "png", "source": {"bytes": b"\x00" * 50_000}}}
            repository.create_session(Session("pictures", SessionType.AGENT))
            repository.create_agent("pictures", SessionAgent("a", {}, {}))
            repository.create_message("pictures", "a", SessionMessage({"role": "user", "content": [image]}, 0))
            sizes = stats(db_path)
            assert sizes.log_size == Path(f"{db_path}-wal").stat().st_size > 0
        rows = {table.name: table.rows for table in sizes.tables}
        assert rows["sessions"] == 14
        assert rows["messages"] == 4
        assert [table.size for table in sizes.tables] == sorted((table.size for table in sizes.tables), reverse=True)
        assert sizes.tables[0].name == "messages"
        assert sizes.tables[0].size > 50_000
        assert len(sizes.largest_sessions) == 10
        pictures, with_text = sizes.largest_sessions[:2]
        assert (pictures.session_id, pictures.messages) == ("pictures", 1)
        assert 50_000 < pictures.size < 50_500
        assert (with_text.session_id, with_text.messages) == ("s", 3)
        assert 6000 < with_text.size < 6500
        assert stats(db_path).file_size == db_path.stat().st_size

    def test_takes_any_name_of_a_table(self, db_path: Path) -> None:
        fill(db_path)
        run_by_hand(db_path, 'CREATE TABLE "a""b" ("c""d", updated_at)')
        run_by_hand(db_path, 'INSERT INTO "a""b" VALUES (\'text\', NULL)')
        assert {table.name: table.rows for table in stats(db_path).tables}['a"b'] == 1
        with closing(Database(db_path, synchronous="NORMAL", busy_timeout=1)) as database:
            assert sizes._size_of_values(database, 'a"b') == 4
            assert backups._last_change(database) > ""

    def test_can_do_without_dbstat(self, db_path: Path) -> None:
        fill(db_path, 3, "x" * 1000)
        with closing(Database(db_path, synchronous="NORMAL", busy_timeout=1)) as database:
            assert 3000 < sizes._size_of_values(database, "messages") < 4000
            assert sizes._size_of_values(database, "multi_agents") == 0


class TestVacuum:
    def test_gives_free_space_back(self, db_path: Path) -> None:
        fill(db_path, 500, "x" * 2000)
        with SQLiteSessionRepository(db_path) as repository:
            repository.create_session(Session("kept", SessionType.AGENT))
            repository.delete_session("s")
            assert stats(db_path).free_size > 900_000
            result = vacuum(db_path)
            assert result.size_before > 1_000_000
            assert result.size_after == db_path.stat().st_size < 200_000
            assert stats(db_path).free_size == 0
            assert repository.read_session("kept") is not None
        assert found(db_path) == []

    def test_keeps_the_rowids_that_the_search_index_refers_to(self, db_path: Path) -> None:
        fill(db_path, 300)
        rowids = "SELECT rowid, message_id FROM messages ORDER BY rowid"
        with by_hand(db_path) as connection:
            connection.execute("DELETE FROM messages WHERE message_id < 150 OR message_id % 3 = 0")
            connection.executemany("INSERT INTO storage (key, data) VALUES (?, X'00')", [("a",), ("b",), ("c",)])
            connection.execute("DELETE FROM storage WHERE key = 'a'")
            before = connection.execute(rowids).fetchall()
            assert before[0][0] > 1
        vacuum(db_path)
        with by_hand(db_path) as connection:
            assert connection.execute(rowids).fetchall() == before
            assert connection.execute("SELECT rowid, key FROM storage").fetchall() == [(2, "b"), (3, "c")]


CALL: dict[str, Any] = {"toolUse": {"name": "t", "toolUseId": "call", "input": {}}}
RESULT: dict[str, Any] = {"toolResult": {"toolUseId": "call", "status": "success", "content": [{"text": "done"}]}}
GAP = "messages ('s', 'a'): {} missing; the agent may remember less than it should"


def next_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the present schema an older one."""
    step = ("CREATE TABLE invented (id INTEGER PRIMARY KEY) STRICT",)
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, step))


def make_old(db_path: Path) -> None:
    """A database as the first version of the schema had it."""
    with by_hand(db_path) as connection:
        connection.executescript((Path(__file__).parent / "schemas" / "version_1.sql").read_text("utf-8"))


def make_orphans(db_path: Path) -> None:
    """What a deletion by hand leaves: an agent with a message, a graph, and messages without their agent."""
    fill(db_path)
    with SQLiteSessionRepository(db_path) as repository:
        repository.create_session(Session("gone", SessionType.AGENT))
        repository.create_agent("gone", SessionAgent("a", {}, {}), messages=[text_message(0)])
        repository.create_agent("s", SessionAgent("gone", {}, {}), messages=[text_message(0), text_message(1)])
    with by_hand(db_path) as connection:
        connection.execute(
            "INSERT INTO multi_agents (session_id, multi_agent_id, state) VALUES ('gone', 'graph', '{}')"
        )
        connection.execute("DELETE FROM sessions WHERE session_id = 'gone'")
        connection.execute("DELETE FROM agents WHERE agent_id = 'gone'")


@contextmanager
def grown_log(db_path: Path) -> Iterator[sqlite3.Connection]:
    """A log of more than 64 MiB that a reader, which is yielded, keeps from starting over."""
    with by_hand(db_path) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM sessions").fetchone()
        with by_hand(db_path) as writer:
            writer.execute("PRAGMA synchronous = OFF")
            writer.execute("UPDATE agents SET state = json_object('x', hex(zeroblob(35000000)))")
            yield reader
