"""How large a file is, and how it gives free space back."""

from contextlib import closing
from pathlib import Path

from maintenance_helpers import by_hand, fill, found, run_by_hand
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from strands_sqlite_session_manager import (
    SQLiteSessionRepository,
)
from strands_sqlite_session_manager._engine.file import FileDatabase as Database
from strands_sqlite_session_manager.maintenance import (
    backups,
    sizes,
    stats,
    vacuum,
)


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
