"""Backups put in the place of a database."""

import os
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from maintenance_helpers import (
    by_hand,
    content,
    fill,
    found,
    make_old,
    next_version,
    overwrite_page_of,
    remove_from_index,
    run_by_hand,
    stored,
    used_by_another_process,
)
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionType

from helpers import text_message, texts
from strands_sqlite_session_manager import (
    SQLiteSessionManager,
    SQLiteSessionRepository,
)
from strands_sqlite_session_manager._engine import schema
from strands_sqlite_session_manager._engine.file import FileDatabase as Database
from strands_sqlite_session_manager._engine.holder import database_of
from strands_sqlite_session_manager.maintenance import (
    backup,
    restore_backup,
)


class TestRestore:
    def test_of_an_older_schema_keeps_what_others_store_before_it_is_migrated(
        self, db_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The copy is not repeated when the migration has to wait for them."""
        next_version(monkeypatch)
        with closing(sqlite3.connect(tmp_path / "old.db")) as old:
            old.executescript((Path(__file__).parent.parent / "schemas" / "version_1.sql").read_text("utf-8"))
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

    @pytest.mark.slow
    def test_refuses_a_file_that_another_process_uses(self, db_path: Path) -> None:
        fill(db_path)
        backup("copy.db", db_path)
        with (
            used_by_another_process(db_path, 'print("ready", flush=True); sys.stdin.read()'),
            pytest.raises(SessionException, match=r"sessions\.db: in use"),
        ):
            restore_backup("copy.db", db_path)
        restore_backup("copy.db", db_path)

    @pytest.mark.slow
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
