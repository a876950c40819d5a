"""The tables as a person finds them: defaults, triggers, views, plans, migrations, and whose file it is."""

import re
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionType

from helpers import plan_of, text_message, texts
from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository
from strands_sqlite_session_manager._engine import schema as _schema
from strands_sqlite_session_manager._engine.holder import database_of

SCHEMAS = Path(__file__).parent.parent / "schemas"
OLD = "2020-01-01T00:00:00.000000+00:00"


def _age_everything(raw: sqlite3.Connection) -> None:
    for table in ("sessions", "agents", "messages", "multi_agents", "storage", "memories"):
        raw.execute(f"UPDATE {table} SET created_at = ?, updated_at = ?", (OLD, OLD))


class TestRowsWrittenByHand:
    def test_get_their_times_by_default_in_the_form_of_the_sdk(
        self, repository: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        raw.execute("INSERT INTO sessions (session_id) VALUES ('hand')")
        raw.execute("INSERT INTO agents (session_id, agent_id) VALUES ('hand', 'a')")
        raw.execute(
            "INSERT INTO messages (session_id, agent_id, message_id, message) VALUES ('hand', 'a', 0, ?)",
            ('{"role": "user", "content": [{"text": "by hand"}]}',),
        )
        raw.execute("INSERT INTO multi_agents (session_id, multi_agent_id, state) VALUES ('hand', 'g', '{}')")
        raw.execute("INSERT INTO storage (key, data) VALUES ('hand', x'00')")
        raw.execute("INSERT INTO memories (store, scope, content) VALUES ('hand', 'a', 'by hand')")
        for table in ("sessions", "agents", "messages", "multi_agents", "storage", "memories"):
            key = {"storage": "key", "memories": "store"}.get(table, "session_id")
            times = raw.execute(f"SELECT created_at, updated_at FROM {table} WHERE {key} = 'hand'").fetchone()
            for time in times:
                assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00", time)
                assert abs(datetime.now(timezone.utc) - datetime.fromisoformat(time)) < timedelta(minutes=1)
        assert repository.read_session("hand").session_type is SessionType.AGENT
        assert repository.read_agent("hand", "a").state == {}
        assert texts(repository.list_messages("hand", "a")) == ["by hand"]

    @pytest.mark.parametrize(
        "update",
        [
            "UPDATE sessions SET session_type = 'OTHER'",
            "UPDATE agents SET state = '{\"x\": 1}'",
            "UPDATE messages SET message = '{}'",
            "UPDATE multi_agents SET state = '{\"x\": 1}'",
            "UPDATE storage SET data = x'01'",
            "UPDATE memories SET content = 'other'",
        ],
    )
    def test_set_updated_at_when_an_update_leaves_it_alone(
        self, repository: SQLiteSessionRepository, raw: sqlite3.Connection, update: str
    ) -> None:
        repository.create_message("s", "a", text_message(0))
        raw.execute("INSERT INTO multi_agents (session_id, multi_agent_id, state) VALUES ('s', 'g', '{}')")
        raw.execute("INSERT INTO storage (key, data) VALUES ('k', x'00')")
        raw.execute("INSERT INTO memories (store, scope, content) VALUES ('f', 's', 'c')")
        _age_everything(raw)
        table = update.split()[1]
        raw.execute(update)
        created_at, updated_at = raw.execute(f"SELECT created_at, updated_at FROM {table}").fetchone()
        assert created_at == OLD
        assert updated_at > OLD
        raw.execute(f"UPDATE {table} SET updated_at = '2021'")
        assert raw.execute(f"SELECT updated_at FROM {table}").fetchone() == ("2021",)

    def test_cannot_be_orphans(self, repository: SQLiteSessionRepository, raw: sqlite3.Connection) -> None:
        for statement in (
            "INSERT INTO agents (session_id, agent_id) VALUES ('nobody', 'a')",
            "INSERT INTO messages (session_id, agent_id, message_id, message) VALUES ('s', 'nobody', 0, '{}')",
            "INSERT INTO multi_agents (session_id, multi_agent_id, state) VALUES ('nobody', 'g', '{}')",
        ):
            with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
                raw.execute(statement)

    def test_follow_their_session_when_it_is_renamed(
        self, repository: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        repository.create_message("s", "a", text_message(0))
        _age_everything(raw)
        raw.execute("UPDATE sessions SET session_id = 'renamed'")
        raw.execute("UPDATE agents SET agent_id = 'b'")
        (message,) = repository.list_messages("renamed", "b")
        assert message.message == text_message(0).message
        assert message.updated_at == repository.read_session("renamed").updated_at == OLD  # no activity


class TestLastActivity:
    def test_of_a_session_is_its_newest_message(
        self, repository: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        _age_everything(raw)
        message = text_message(0)
        repository.create_message("s", "a", message)
        assert repository.read_session("s").updated_at == message.created_at
        assert repository.read_session("s").created_at == OLD

    def test_of_a_session_may_be_its_graph_or_swarm(
        self, repository: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        """Their nodes' messages are not stored, so that nothing else would show that the session is in use."""
        _age_everything(raw)
        for statement in (
            "INSERT INTO multi_agents (session_id, multi_agent_id, state) VALUES ('s', 'g', '{}')",
            "UPDATE multi_agents SET state = '{\"x\": 1}'",
        ):
            raw.execute(statement)
            (updated_at,) = raw.execute("SELECT updated_at FROM multi_agents").fetchone()
            assert repository.read_session("s").updated_at == updated_at > OLD
            _age_everything(raw)

    def test_does_not_move_back(self, repository: SQLiteSessionRepository) -> None:
        """A session that is copied in with its old messages keeps its place in time."""
        before = repository.read_session("s").updated_at
        message = text_message(0)
        message.created_at = OLD
        repository.create_message("s", "a", message)
        assert repository.read_session("s").updated_at == before

    def test_of_other_sessions_is_not_touched(
        self, repository: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        repository.create_session(Session("other", SessionType.AGENT))
        _age_everything(raw)
        repository.create_message("s", "a", text_message(0))
        assert repository.read_session("other").updated_at == OLD


class TestViews:
    def test_conversation_shows_what_people_read(
        self, repository: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        repository.create_message("s", "a", text_message(0, "hello"))
        both = text_message(1, role="assistant")
        both.message["content"] = [{"text": "one"}, {"toolUse": {"toolUseId": "1"}}, {"text": "two"}]
        repository.create_message("s", "a", both)
        secret = text_message(2, "secret")
        secret.redact_message = {"role": "user", "content": [{"text": "[redacted]"}]}
        repository.create_message("s", "a", secret)
        tool = text_message(3)
        tool.message["content"] = [{"toolResult": {"toolUseId": "1", "content": []}}, {"image": {"source": b"x"}}]
        repository.create_message("s", "a", tool)
        cited = text_message(4, role="assistant")
        cited.message["content"] = [
            {"citationsContent": {"citations": [{"title": "source"}], "content": [{"text": "as they say"}]}},
            {"text": "or so"},
        ]
        repository.create_message("s", "a", cited)
        rows = raw.execute(
            "SELECT session_id, agent_id, message_id, role, text, redacted FROM conversation ORDER BY message_id"
        ).fetchall()
        assert rows == [
            ("s", "a", 0, "user", "hello", 0),
            ("s", "a", 1, "assistant", "one\ntwo", 0),
            ("s", "a", 2, "user", "[redacted]", 1),
            ("s", "a", 3, "user", None, 0),
            ("s", "a", 4, "assistant", "as they say\nor so", 0),
        ]
        created = raw.execute("SELECT created_at FROM conversation WHERE message_id = 1").fetchone()
        assert created == (both.created_at,)

    def test_token_usage_shows_what_messages_cost(
        self, repository: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        repository.create_message("s", "a", text_message(0))
        answer = text_message(1, role="assistant")
        answer.message["metadata"] = {
            "usage": {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15, "cacheReadInputTokens": 3}
        }
        repository.create_message("s", "a", answer)
        cursor = raw.execute("SELECT * FROM token_usage")
        names = [column[0] for column in cursor.description]
        assert [dict(zip(names, row, strict=True)) for row in cursor] == [
            {
                "session_id": "s",
                "agent_id": "a",
                "message_id": 1,
                "input_tokens": 10,
                "output_tokens": 5,
                "total_tokens": 15,
                "cache_read_input_tokens": 3,
                "cache_write_input_tokens": 0,
                "created_at": answer.created_at,
            }
        ]

    def test_go_on_past_a_damaged_row(self, repository: SQLiteSessionRepository, raw: sqlite3.Connection) -> None:
        for message_id, text in enumerate(("fine", "damaged", "odd", "also fine")):
            repository.create_message("s", "a", text_message(message_id, text))
        raw.execute("UPDATE messages SET message = '{' WHERE message_id = 1")
        raw.execute("""UPDATE messages SET message = '{"role": 5, "content": [1, "x"]}' WHERE message_id = 2""")
        shown = raw.execute("SELECT role, text FROM conversation ORDER BY message_id").fetchall()
        assert shown == [("user", "fine"), (None, None), (5, None), ("user", "also fine")]
        assert raw.execute("SELECT * FROM token_usage").fetchall() == []

    def test_numbers_that_json_lacks_do_not_break_them(
        self, repository: SQLiteSessionRepository, raw: sqlite3.Connection
    ) -> None:
        message = text_message(0)
        message.message["metadata"] = {"usage": {"inputTokens": 1}, "custom": {"score": float("nan")}}
        repository.create_message("s", "a", message)
        assert raw.execute("SELECT text FROM conversation").fetchall() == [("hello",)]
        assert raw.execute("SELECT input_tokens FROM token_usage").fetchall() == [(1,)]


class TestQueryPlans:
    """What is read in every turn never scans a table, and skipping never touches a message."""

    @pytest.fixture
    def plan(self, repository: SQLiteSessionRepository, raw: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch):
        plans: list[list[str]] = []
        database = database_of(repository)
        query = database.query

        def explain(sql: str, parameters: tuple) -> list[tuple]:
            plans.append(plan_of(raw, sql, parameters))
            return query(sql, parameters)

        monkeypatch.setattr(database, "query", explain)
        repository.create_message("s", "a", text_message(0))
        return plans

    def test_read_session(self, repository: SQLiteSessionRepository, plan: list[list[str]]) -> None:
        repository.read_session("s")
        assert plan == [["SEARCH sessions USING PRIMARY KEY (session_id=?)"]]

    def test_read_agent(self, repository: SQLiteSessionRepository, plan: list[list[str]]) -> None:
        repository.read_agent("s", "a")
        assert plan == [["SEARCH agents USING INDEX sqlite_autoindex_agents_1 (session_id=? AND agent_id=?)"]]

    def test_read_message(self, repository: SQLiteSessionRepository, plan: list[list[str]]) -> None:
        repository.read_message("s", "a", 0)
        (steps,) = plan
        assert steps == [
            "SEARCH messages USING INDEX sqlite_autoindex_messages_1 (session_id=? AND agent_id=? AND message_id=?)"
        ]

    def test_read_latest_message(self, repository: SQLiteSessionRepository, plan: list[list[str]]) -> None:
        repository.read_latest_message("s", "a")
        (steps,) = plan
        assert steps == ["SEARCH messages USING INDEX sqlite_autoindex_messages_1 (session_id=? AND agent_id=?)"]

    def test_list_messages(self, repository: SQLiteSessionRepository, plan: list[list[str]]) -> None:
        repository.list_messages("s", "a", limit=10, offset=0)
        (steps,) = plan
        search = "sqlite_autoindex_messages_1 (session_id=? AND agent_id=?"
        assert steps == [
            f"SEARCH messages USING INDEX {search} AND message_id>?)",
            "SCALAR SUBQUERY 2",
            f"SEARCH messages USING COVERING INDEX {search})",
        ]


class TestMigrations:
    def test_every_schema_version_has_a_fixture(self) -> None:
        """Whoever adds a version adds a file made by it: `sqlite3 sessions.db .dump`, and the two pragmas."""
        names = [path.name for path in sorted(SCHEMAS.glob("*.sql"))]
        assert names == [f"version_{number + 1}.sql" for number in range(len(_schema.MIGRATIONS))]

    @pytest.mark.parametrize("fixture", sorted(SCHEMAS.glob("*.sql")), ids=lambda path: path.stem)
    def test_a_file_of_an_older_version_opens_with_all_that_is_in_it(self, fixture: Path, db_path: Path) -> None:
        with closing(sqlite3.connect(db_path)) as connection:
            connection.executescript(fixture.read_text("utf-8"))
        with SQLiteSessionRepository(db_path) as repository:
            assert repository.read_session("user-42").created_at == "2026-01-31T12:00:00.000001+00:00"
            assert repository.read_agent("user-42", "default").state == {"color": "red"}
            messages = repository.list_messages("user-42", "default")
            assert texts(messages) == ["My name is Ada.", "Hello, Ada.", "[redacted]", ""]
            assert messages[3].message["content"][0]["image"]["source"]["bytes"] == b"\x89PNG\x00"
            assert repository.read_multi_agent("user-42", "graph") == {"type": "graph"}
            repository.create_message("user-42", "default", text_message(4))
        with closing(sqlite3.connect(db_path)) as connection:
            stored = connection.execute("SELECT * FROM storage").fetchall()
        times = ("2026-01-31T12:00:00.000010+00:00", "2026-01-31T12:00:00.000011+00:00")
        data = "# Name\nAda ✓".encode() + b"\0\xff"
        assert stored == [("memory/facts/name.md", None, *times, data)]
        self._assert_newest(db_path)

    def _assert_newest(self, db_path: Path) -> None:
        """Whether the tables are those of a new file."""
        with (
            closing(sqlite3.connect(":memory:", isolation_level=None)) as new,
            closing(sqlite3.connect(db_path)) as old,
        ):
            _schema.migrate(new, "new")
            question = "SELECT type, name, sql FROM sqlite_master ORDER BY name"
            assert [(t, n, sql and sql.split()) for t, n, sql in old.execute(question)] == [
                (t, n, sql and sql.split()) for t, n, sql in new.execute(question)
            ]
            for pragma in ("application_id", "user_version"):
                assert old.execute(f"PRAGMA {pragma}").fetchone() == new.execute(f"PRAGMA {pragma}").fetchone()

    def test_a_newer_version_of_the_library_upgrades_in_place(
        self, repository: SQLiteSessionRepository, db_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        repository.create_message("s", "a", text_message(0))
        repository.close()
        step = ("ALTER TABLE messages ADD COLUMN mood TEXT", "CREATE INDEX messages_mood ON messages (mood)")
        monkeypatch.setattr(_schema, "MIGRATIONS", (*_schema.MIGRATIONS, step))
        with SQLiteSessionRepository(db_path) as upgraded:
            assert texts(upgraded.list_messages("s", "a")) == ["hello"]
        with closing(sqlite3.connect(db_path)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (len(_schema.MIGRATIONS),)
            assert connection.execute("SELECT mood FROM messages").fetchall() == [(None,)]

    def test_a_migration_that_fails_leaves_the_file_as_it_was(
        self, repository: SQLiteSessionRepository, db_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        repository.close()
        step = ("ALTER TABLE messages ADD COLUMN mood TEXT", "CREATE TABLE messages (oops)")
        with monkeypatch.context() as patch:
            patch.setattr(_schema, "MIGRATIONS", (*_schema.MIGRATIONS, step))
            with pytest.raises(SessionException, match=r"sessions\.db.*already exists"):
                SQLiteSessionRepository(db_path)
        with SQLiteSessionRepository(db_path) as again:
            assert again.read_agent("s", "a") is not None
        self._assert_newest(db_path)


class TestWhoseFileItIs:
    def _refused(self, db_path: Path, complaint: str) -> None:
        before = db_path.read_bytes()
        for _ in range(2):
            with pytest.raises(SessionException, match=complaint) as caught:
                SQLiteSessionManager("s", db_path)
            assert str(db_path) in str(caught.value)
        assert db_path.read_bytes() == before
        assert sorted(db_path.parent.iterdir()) == [db_path]

    def test_an_empty_database_with_tables_of_litestream_is_ours(self, db_path: Path) -> None:
        with closing(sqlite3.connect(db_path)) as litestream:
            litestream.executescript(
                "CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY); CREATE TABLE _litestream_lock (id);"
            )
        with SQLiteSessionRepository(db_path) as repository:
            assert repository.read_session("s") is None

    def test_another_programs_database_is_refused_and_not_changed(self, db_path: Path) -> None:
        with closing(sqlite3.connect(db_path)) as connection:
            connection.execute("CREATE TABLE recipes (title)")
        self._refused(db_path, "a database of another program")

    @pytest.mark.parametrize("pragma", ["application_id", "user_version"])
    def test_an_empty_database_with_another_programs_mark_is_refused(self, db_path: Path, pragma: str) -> None:
        with closing(sqlite3.connect(db_path)) as connection:
            connection.execute(f"PRAGMA {pragma} = 7")
        self._refused(db_path, "a database of another program")

    def test_a_newer_version_is_refused_and_not_changed(
        self, repository: SQLiteSessionRepository, db_path: Path
    ) -> None:
        repository.close()
        with closing(sqlite3.connect(db_path)) as connection:
            connection.execute("PRAGMA user_version = 99")
        self._refused(db_path, "written by a newer version .* upgrade")

    def test_a_file_that_is_no_database_is_refused_and_not_changed(self, db_path: Path) -> None:
        db_path.write_text("Dear diary, " * 1000)
        self._refused(db_path, "file is not a database")

    def test_an_empty_file_becomes_a_database(self, db_path: Path) -> None:
        db_path.touch()
        with SQLiteSessionManager("s", db_path) as manager:
            assert manager.read_session("s") is not None

    def test_file_says_what_it_is(self, repository: SQLiteSessionRepository, raw: sqlite3.Connection) -> None:
        assert raw.execute("PRAGMA application_id").fetchone()[0].to_bytes(4, "big") == b"SASM"
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_deleting_an_agent_by_hand_deletes_its_messages(
    repository: SQLiteSessionRepository, raw: sqlite3.Connection
) -> None:
    repository.create_agent("s", SessionAgent("b", {}, {}))
    for agent_id in ("a", "b"):
        repository.create_message("s", agent_id, text_message(0))
    raw.execute("DELETE FROM agents WHERE agent_id = 'a'")
    assert repository.read_message("s", "a", 0) is None
    assert repository.read_message("s", "b", 0) is not None
