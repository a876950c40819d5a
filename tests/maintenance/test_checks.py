"""What is wrong with a file, and what repairs it."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from maintenance_helpers import by_hand, content, fill, found, overwrite_page_of, remove_from_index, run_by_hand, stored
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from helpers import make_agent, text_message, texts
from strands_sqlite_session_manager import (
    SessionCatalog,
    SQLiteSessionManager,
    SQLiteSessionRepository,
)
from strands_sqlite_session_manager.maintenance import (
    backup,
    check,
    checks,
    repair,
    stats,
)


def kinds(db_path: Path) -> list[str]:
    return [finding.kind for finding in found(db_path)]


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

    def test_finds_vectors_that_no_search_can_use(self, db_path: Path) -> None:
        """A repair deletes them, and no others."""
        fill(db_path)
        with by_hand(db_path) as connection:
            connection.execute("INSERT INTO memories (store, scope, content) VALUES ('f', 'u', 'a'), ('f', 'u', 'b')")
            for memory_id, vector in ((1, b"four"), (2, b"too long"), (3, b"gone")):
                connection.execute(
                    "INSERT INTO memory_vectors (memory_id, store, scope, model, dimensions, vector) "
                    "VALUES (?, 'f', 'u', 'm', 1, ?)",
                    (memory_id, vector),
                )
        (finding,) = found(db_path)
        assert (finding.kind, finding.table, finding.repairable) == ("vector", "memory_vectors", True)
        assert "2 damaged" in finding.message
        repair(db_path, dry_run=False)
        assert found(db_path) == []
        with by_hand(db_path) as connection:
            assert connection.execute("SELECT memory_id FROM memory_vectors").fetchall() == [(1,)]

    def test_what_is_left_of_a_session_that_has_expired_is_no_orphan(self, db_path: Path) -> None:
        """It goes anyway, and keeps nothing else from being repaired."""
        make_orphans(db_path)
        with by_hand(db_path) as connection:
            connection.execute("UPDATE sessions SET expires_at = '2026-01-01' WHERE session_id = 's'")
        assert {finding.key for finding in found(db_path)} == {("gone", "a"), ("gone", "graph")}
        repair(db_path, dry_run=False)
        assert found(db_path) == []

    def test_knows_every_foreign_key(self, db_path: Path) -> None:
        fill(db_path)
        with by_hand(db_path) as connection:
            tables = connection.execute(
                "SELECT name FROM sqlite_master WHERE EXISTS (SELECT 1 FROM pragma_foreign_key_list(name))"
            ).fetchall()
        assert {name for (name,) in tables} == {table for table, *_ in checks._ORPHANS}

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("table", "column", "kind", "key"),
        [
            ("sessions", "metadata", "metadata", ("s",)),
            ("memories", "metadata", "metadata", (1,)),
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
            connection.execute("INSERT INTO memories (store, scope, content) VALUES ('facts', 'user', 'tea')")
            condition = "WHERE message_id = 1" if table == "messages" else ""
            connection.execute(f"UPDATE {table} SET {column} = CAST(? AS TEXT) {condition}", (text,))
        (finding,) = found(db_path)
        assert (finding.severity, finding.kind, finding.table, finding.key) == ("error", kind, table, key)
        assert finding.message.startswith(f"{table} {key}: damaged ")
        assert finding.repairable == (kind == "metadata")
        if finding.repairable:
            repair(db_path, dry_run=False)
            assert found(db_path) == []

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

    def test_goes_on_after_ids_that_cannot_be_ones(self, db_path: Path) -> None:
        make_orphans(db_path)
        before = kinds(db_path)
        with by_hand(db_path) as connection:
            for session_id in ("CAST(X'41ff' AS TEXT)", "''", "'a' || char(0)"):
                connection.execute(f"INSERT INTO sessions (session_id) VALUES ({session_id})")
            connection.execute("INSERT INTO agents (session_id, agent_id) VALUES ('gone too', CAST(X'ff' AS TEXT))")
            connection.execute("UPDATE sessions SET metadata = '{' WHERE session_id = CAST(X'41ff' AS TEXT)")
        names = {finding.key for finding in found(db_path) if finding.kind == "id"}
        assert names == {("",), ("A\udcff",), ("a\0",), ("gone too", "\udcff")}
        assert len(kinds(db_path)) == len(before) + 6
        # What belongs to such an id is repaired too.
        repair(db_path, dry_run=False)
        assert set(kinds(db_path)) == {"id"}

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

    @pytest.mark.slow
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
        assert [finding.message for finding in done] == [finding.message for finding in planned]
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

    @pytest.mark.slow
    def test_empties_a_large_log(self, db_path: Path) -> None:
        fill(db_path)
        with grown_log(db_path) as reader:
            assert [finding.kind for finding in repair(db_path)] == ["log"]
            reader.execute("COMMIT")
            assert [finding.kind for finding in repair(db_path, dry_run=False)] == ["log"]
            assert Path(f"{db_path}-wal").stat().st_size == 0


CALL: dict[str, Any] = {"toolUse": {"name": "t", "toolUseId": "call", "input": {}}}


RESULT: dict[str, Any] = {"toolResult": {"toolUseId": "call", "status": "success", "content": [{"text": "done"}]}}


GAP = "messages ('s', 'a'): {} missing; the agent may remember less than it should"


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
