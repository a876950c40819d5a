"""Tables, triggers, indexes and views that are missing, changed, or were put there by somebody else."""

import os
import warnings
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from maintenance_helpers import by_hand, fill, found, stored
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionType

from helpers import FakeMultiAgent, text_message
from strands_sqlite_session_manager import SQLiteSessionRepository
from strands_sqlite_session_manager._engine.holder import database_of
from strands_sqlite_session_manager.catalog import SessionCatalog
from strands_sqlite_session_manager.maintenance import backup, repair, restore_backup

KEEPS_REDACTED_TEXT = "CREATE TRIGGER spy AFTER UPDATE ON messages BEGIN INSERT INTO kept VALUES (OLD.message); END"
SWALLOWS = "CREATE TRIGGER swallow BEFORE INSERT ON messages BEGIN SELECT raise(IGNORE); END"
DELETES = (
    "CREATE TRIGGER sweep AFTER INSERT ON sessions BEGIN DELETE FROM sessions WHERE session_id <> NEW.session_id; END"
)
FOREIGN = {
    "a trigger that keeps what is redacted": KEEPS_REDACTED_TEXT,
    "a trigger that swallows appends": SWALLOWS,
    "a trigger that deletes others": DELETES,
    "a unique index": "CREATE UNIQUE INDEX one_time ON messages (created_at, session_id, agent_id, message_id)",
    "a trigger on a view": "CREATE TRIGGER v INSTEAD OF INSERT ON conversation BEGIN SELECT 1; END",
    "a view in the place of the index": "CREATE VIEW search_storage AS SELECT 1",
}


def change(db_path: Path, *statements: str) -> None:
    with by_hand(db_path) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (message TEXT)")
        for statement in statements:
            connection.execute(statement)


def names_of(db_path: Path, kind: str) -> list[str]:
    with by_hand(db_path) as connection:
        rows = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = ? AND name NOT LIKE 'sqlite%' ORDER BY name", (kind,)
        )
        return [name for (name,) in rows]


@pytest.fixture(autouse=True)
def _filled(db_path: Path) -> None:
    fill(db_path)
    with SessionCatalog(db_path) as catalog:
        catalog.search("hello")


@pytest.mark.parametrize("kind", ["trigger", "index", "view"])
def test_what_is_missing_is_found_and_made_again(db_path: Path, kind: str) -> None:
    names = [name for name in names_of(db_path, kind) if not name.startswith("search_messages_text")]
    assert names
    with by_hand(db_path) as connection:
        schema = connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()
        for name in names:
            connection.execute(f"DROP {kind} {name}")
    assert sorted((finding.kind, finding.message) for finding in found(db_path)) == [
        ("schema", f"the {kind} {name} is missing") for name in names
    ]
    repair(db_path, dry_run=False)
    assert found(db_path) == []
    with by_hand(db_path) as connection:
        assert connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall() == schema


@pytest.mark.parametrize(
    "statements",
    [
        (
            "DROP TRIGGER messages_touch_session",
            "CREATE TRIGGER messages_touch_session AFTER INSERT ON messages BEGIN SELECT 1; END",
        ),
        ("DROP INDEX sessions_by_activity", "CREATE INDEX sessions_by_activity ON sessions (session_id)"),
        ("DROP VIEW token_usage", "CREATE VIEW token_usage AS SELECT 1"),
    ],
    ids=["trigger", "index", "view"],
)
def test_what_was_changed_is_found_and_made_again(db_path: Path, statements: tuple[str, ...]) -> None:
    change(db_path, *statements)
    (finding,) = found(db_path)
    assert (finding.severity, finding.kind, finding.repairable) == ("error", "schema", True)
    assert "is not as this library makes it" in finding.message
    repair(db_path, dry_run=False)
    assert found(db_path) == []


def test_an_index_that_missed_changes_is_built_again(db_path: Path) -> None:
    change(db_path, "DROP TRIGGER messages_search_delete", "DELETE FROM messages WHERE message_id = 2")
    repair(db_path, dry_run=False)
    with SessionCatalog(db_path) as catalog:
        assert sorted(hit.message_id for hit in catalog.search("hello")) == [0, 1]


@pytest.mark.parametrize("planted", FOREIGN.values(), ids=FOREIGN.keys())
def test_what_was_planted_is_found_and_not_restored(db_path: Path, planted: str, tmp_path: Path) -> None:
    change(db_path, planted)
    (finding,) = found(db_path)
    assert (finding.severity, finding.kind, finding.repairable) == ("error", "foreign", False)
    assert "DROP" in finding.advice
    backup("copy.db", db_path)
    target = tmp_path / "target.db"
    fill(target, 1)
    with pytest.raises(SessionException, match=r"copy\.db: a damaged backup: the .* nothing was restored"):
        restore_backup("copy.db", target, overwrite=True)
    assert stored(target) == ["hello"]


@pytest.mark.parametrize("table", ["agents", "messages", "storage"])
def test_a_file_without_a_table_is_not_restored(db_path: Path, tmp_path: Path, table: str) -> None:
    backup("copy.db", db_path)
    with by_hand(Path("copy.db")) as connection:
        connection.execute(f"DROP TABLE {table}")
    with pytest.raises(SessionException, match=r"copy\.db: tables of sessions are missing"):
        restore_backup("copy.db", db_path, overwrite=True)
    assert stored(db_path) == ["hello"] * 3
    (finding,) = found(Path("copy.db"))
    assert finding.kind == "unreadable"


def test_a_view_in_a_tables_place_hangs_nothing(db_path: Path) -> None:
    with by_hand(db_path) as connection:
        connection.execute("DROP TABLE sessions")
        connection.execute(
            "CREATE VIEW sessions AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT 1 FROM n) SELECT i FROM n"
        )
    with pytest.raises(SessionException, match="tables of sessions are missing, or are none"):
        SessionCatalog(db_path)


def test_what_a_person_adds_for_himself_is_fine(db_path: Path) -> None:
    change(
        db_path,
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, note TEXT UNIQUE)",
        "CREATE INDEX by_note ON notes (note)",
        "CREATE VIEW latest AS SELECT max(message_id) FROM messages",
        "CREATE TRIGGER noted AFTER INSERT ON notes BEGIN UPDATE notes SET note = 'x'; END",
        "CREATE INDEX by_time ON messages (created_at)",
        "ALTER TABLE sessions ADD COLUMN customer TEXT",
        "CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER)",
    )
    assert found(db_path) == []
    with SQLiteSessionRepository(db_path) as repository:
        repository.create_message("s", "a", text_message(3))


@pytest.mark.parametrize("write", ["create_message", "create_agent", "create_session", "create_multi_agent"])
def test_a_write_that_is_swallowed_is_not_acknowledged(db_path: Path, write: str) -> None:
    table = {"create_message": "messages", "create_agent": "agents", "create_session": "sessions"}
    planted = SWALLOWS.replace("messages", table.get(write, "multi_agents"))
    change(db_path, planted)
    arguments = {
        "create_message": ("s", "a", text_message(3)),
        "create_agent": ("s", SessionAgent("b", {}, {})),
        "create_session": (Session("t", SessionType.AGENT),),
        "create_multi_agent": ("s", FakeMultiAgent("g", {})),
    }
    with SQLiteSessionRepository(db_path) as repository, pytest.raises(SessionException, match="was not stored"):
        getattr(repository, write)(*arguments[write])


def test_times_in_the_future_are_named(db_path: Path) -> None:
    later = (datetime.now(timezone.utc) + timedelta(days=400)).isoformat()
    with by_hand(db_path) as connection:
        connection.execute("UPDATE messages SET created_at = ? WHERE message_id = 1", (later,))
    (finding,) = found(db_path)
    assert (finding.severity, finding.kind) == ("info", "clock")
    assert later in finding.message


def test_a_turn_of_a_machine_with_a_slow_clock_is_not_lost_by_a_restore(db_path: Path) -> None:
    backup("copy.db", db_path)
    late = text_message(3, "by a slow clock")
    late.created_at = late.updated_at = "2001-01-01T00:00:00+00:00"
    with SQLiteSessionRepository(db_path) as repository:
        repository.create_message("s", "a", late)
    with pytest.raises(SessionException, match="written to after the backup was made"):
        restore_backup("copy.db", db_path)
    assert stored(db_path)[-1] == "by a slow clock"


@pytest.mark.skipif(not hasattr(os, "link"), reason="this platform has no hard links")
def test_two_names_of_one_file_are_warned_of(db_path: Path, tmp_path: Path) -> None:
    os.link(db_path, tmp_path / "second.db")
    with pytest.warns(RuntimeWarning, match=r"sessions\.db: has 2 names"):
        SQLiteSessionRepository(db_path).close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert "hard_link" in [finding.kind for finding in found(db_path)]


def test_functions_that_do_more_than_compute_are_not_called_by_the_schema(db_path: Path) -> None:
    with SQLiteSessionRepository(db_path) as repository:
        assert database_of(repository).query("PRAGMA trusted_schema") == [(0,)]
