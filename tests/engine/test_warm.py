"""Files that stay open when the last manager that used them was collected, and not closed."""

import gc
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from engine_helpers import needs_fork
from strands.types.exceptions import SessionException

from helpers import in_child, make_agent, run_python, texts
from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository, maintenance
from strands_sqlite_session_manager._engine import pool as _pool_module
from strands_sqlite_session_manager._engine.holder import database_of


def is_closed(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("SELECT 1")
    except sqlite3.ProgrammingError:
        return True
    return False


@pytest.mark.slow
def test_a_manager_for_each_request_opens_the_file_once(db_path: Path, opened: list[sqlite3.Connection]) -> None:
    for number in range(5):
        agent = make_agent(SQLiteSessionManager("s", db_path), f"answer {number}")
        agent("question")
        assert len(agent.messages) == 2 * number + 2
        del agent
        gc.collect()
    assert len(opened) == 1
    assert not is_closed(opened[0])


@pytest.mark.slow
def test_so_does_one_in_a_cycle_of_garbage(db_path: Path, opened: list[sqlite3.Connection]) -> None:
    """As a manager is that an agent's callbacks refer to. The collector finalizes what is in it in any order."""
    for _ in range(3):
        manager = SQLiteSessionManager("s", db_path)
        manager.itself = manager  # type: ignore[attr-defined]
        database = database_of(manager)
        database.itself = database  # type: ignore[attr-defined]
        del manager, database
        gc.collect()
    assert len(opened) == 1


def test_one_connection_is_kept(db_path: Path, opened: list[sqlite3.Connection]) -> None:
    def use() -> None:
        repository = SQLiteSessionRepository(db_path)
        with ThreadPoolExecutor(8) as executor:
            list(executor.map(lambda _: repository.read_session("s"), range(100)))

    use()
    gc.collect()
    assert [is_closed(connection) for connection in opened].count(False) == 1


def test_closing_closes_what_a_collected_manager_left_open(db_path: Path, opened: list[sqlite3.Connection]) -> None:
    make_agent(SQLiteSessionManager("s", db_path), "ok")("go")
    gc.collect()
    with SQLiteSessionManager("s", db_path):
        pass
    assert all(map(is_closed, opened))
    assert sorted(db_path.parent.iterdir()) == [db_path]  # the log was merged into the file


def test_a_manager_that_is_in_use_is_not_closed_by_another(db_path: Path) -> None:
    held = SQLiteSessionManager("s", db_path)
    SQLiteSessionManager("t", db_path)
    gc.collect()
    SQLiteSessionManager("u", db_path).close()
    assert held.read_session("t") is not None
    held.close()


def test_few_files_are_kept_open(tmp_path: Path, opened: list[sqlite3.Connection]) -> None:
    for number in range(10):
        SQLiteSessionRepository(tmp_path / f"{number}.db")
    gc.collect()
    assert [is_closed(connection) for connection in opened].count(False) == _pool_module.MAX_WARM
    assert not any(map(is_closed, opened[-_pool_module.MAX_WARM :]))


def test_a_database_in_memory_is_gone(opened: list[sqlite3.Connection]) -> None:
    SQLiteSessionRepository(":memory:")
    gc.collect()
    assert all(map(is_closed, opened))


@pytest.mark.slow
def test_a_file_that_nobody_holds_is_not_in_use(db_path: Path, tmp_path: Path) -> None:
    SQLiteSessionManager("s", db_path)
    gc.collect()
    maintenance.backup(tmp_path / "copy.db", db_path)
    maintenance.restore_backup(tmp_path / "copy.db", db_path)
    with SQLiteSessionManager("t", db_path):
        gc.collect()
        with pytest.raises(Exception, match="in use"):
            maintenance.restore_backup(tmp_path / "copy.db", db_path)


@pytest.mark.slow
def test_it_is_closed_when_the_interpreter_exits(db_path: Path) -> None:
    code = """
import gc, sys
from strands_sqlite_session_manager import SQLiteSessionManager
SQLiteSessionManager("s", sys.argv[1])
gc.collect()
"""
    assert run_python(code, db_path) == ""
    assert sorted(db_path.parent.iterdir()) == [db_path]


@needs_fork
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_opens_the_file_for_itself(db_path: Path) -> None:
    make_agent(SQLiteSessionManager("s", db_path), "ok")("before the fork")
    gc.collect()
    in_child(lambda: make_agent(SQLiteSessionManager("s", db_path), "ok")("child"))
    with SQLiteSessionManager("s", db_path) as manager:
        assert texts(manager.list_messages("s", "default")) == ["before the fork", "ok", "child", "ok"]
        assert len(database_of(manager)._pool.holders) == 1  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_file_that_cannot_be_opened_takes_no_place(db_path: Path, tmp_path: Path) -> None:
    SQLiteSessionManager("s", db_path)
    gc.collect()
    kept = list(_pool_module._warm.values())
    for number in range(10):
        (tmp_path / f"{number}.db").write_bytes(b"no database" * 100)
        with pytest.raises(SessionException, match="not a database"):
            SQLiteSessionRepository(tmp_path / f"{number}.db")
    gc.collect()
    assert list(_pool_module._warm.values()) == kept
