"""What goes into a cluster comes out as it was, on every node."""

import itertools
import os
import pickle
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionAgent, SessionMessage, SessionType

from helpers import in_child, make_agent, run_python, text_message, texts
from nodes import Cluster
from strands_sqlite_session_manager import SessionCatalog, SQLiteSessionManager, SQLiteSessionRepository, maintenance
from strands_sqlite_session_manager._engine.database import BrokenText, open_database

# Newer servers take a text like the first for bytes.
ODD_TEXTS = [
    "x'41'",
    "X''",
    "?",
    ":session_id",
    "'; DROP TABLE sessions; --",
    "é" * 300,
    "\U0001f600",
    "\u2028",
    " ",
    "%_",
]


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_odd_texts_are_ids_and_values_like_any_other(cluster: Cluster, text: str) -> None:
    with SQLiteSessionRepository(cluster.url) as repository, SessionCatalog(cluster.url) as catalog:
        repository.create_session(Session(text, SessionType.AGENT))
        repository.create_agent(text, SessionAgent(text, {text: text}, {}))
        repository.create_message(text, text, text_message(0, text))
        assert repository.read_session(text)
        assert repository.read_agent(text, text).state == {text: text}  # type: ignore[union-attr]
        assert texts(repository.list_messages(text, text)) == [text]
        catalog.set_metadata(text, {"tag": text})
        assert [session.session_id for session in catalog.list_sessions(metadata={"tag": text}).sessions] == [text]
        catalog.rename_session(text, "renamed")
        assert catalog.delete_sessions(["renamed"]).messages == 1


def test_values_of_all_types(cluster: Cluster) -> None:
    values: list[Any] = [None, 0, -1, 2**63 - 1, -(2**63), 1.5, 1e300, True, "", "a\0b", "\ud7ff"]
    with closing(open_database(cluster.url)) as database:
        for value in values:
            assert database.query("SELECT ?", (value,)) == database.query("SELECT :x", {"x": value}) == [(value,)]
        with pytest.raises(SessionException, match="too large"):
            database.query("SELECT ?", (2**63,))
        for data in (b"", b"\0\xff", b"x'41'"):
            database.execute(
                "INSERT INTO storage (key, data, created_at, updated_at) VALUES (:key, :data, '', '')",
                {"key": "k", "data": data},
            )
            assert database.query("SELECT data, length(data) FROM storage") == [(data, len(data))]
            assert database.execute("DELETE FROM storage WHERE data = ?", (data,)) == 1
        assert database.execute("DELETE FROM storage") == 0


def test_large_values_take_the_time_they_take(cluster: Cluster) -> None:
    data = os.urandom(20_000_000)
    message = {"role": "user", "content": [{"document": {"format": "pdf", "name": "d", "source": {"bytes": data}}}]}
    with SQLiteSessionRepository(cluster.url) as repository:
        repository.create_session(Session("s", SessionType.AGENT))
        repository.create_agent("s", SessionAgent("a", {}, {}))
        repository.create_message("s", "a", SessionMessage(message, 0))  # type: ignore[arg-type]
        assert repository.read_message("s", "a", 0).message == message  # type: ignore[union-attr]
        manager = SQLiteSessionManager("s", session_repository=repository)
        assert make_agent(manager, agent_id="a").messages[0]["content"] == message["content"]


def test_text_that_is_no_utf8_is_refused(cluster: Cluster) -> None:
    with closing(open_database(cluster.url)) as database, pytest.raises(SessionException, match="no UTF-8"):
        database.execute("INSERT INTO storage VALUES (CAST(? AS TEXT), '', '', x'')", (BrokenText(b"\xff"),))


def test_every_node_answers_with_what_was_just_stored(cluster: Cluster) -> None:
    urls = [f"rqlite://127.0.0.1:{node.port}" for node in cluster.nodes]
    agents = []
    for url in urls:
        manager = SQLiteSessionManager("s", url)
        agent = make_agent(manager, f"answer {len(agents)}")
        agent(f"question {len(agents)}")
        agents.append(agent)
    expected = [text for number in range(3) for text in (f"question {number}", f"answer {number}")]
    assert texts(agents[-1].messages) == expected


class TestConnections:
    def test_are_shared_and_closed_with_the_last_holder(self, cluster: Cluster) -> None:
        output = run_python(
            """
import os, sys
from strands_sqlite_session_manager import SQLiteSessionManager, SessionCatalog

def sockets():
    targets = []
    for name in os.listdir("/proc/self/fd"):
        try:
            targets.append(os.readlink(f"/proc/self/fd/{name}"))
        except OSError:  # The one that lists them.
            pass
    return sum(target.startswith("socket:") for target in targets)

before = sockets()
managers = [SQLiteSessionManager(f"s{number}", sys.argv[1]) for number in range(20)]
print(sockets() - before)
for manager in managers[1:]:
    manager.close()
print(sockets() - before)
managers[0].close()
managers[0].close()
print(sockets() - before)
kept = SessionCatalog(sys.argv[1])  # Left to the end of the process.
""",
            cluster.url,
        )
        assert output.split() == ["3", "3", "0"]  # One for each node.

    def test_a_forked_child_makes_its_own(self, cluster: Cluster) -> None:
        with SQLiteSessionRepository(cluster.url) as repository:
            repository.create_session(Session("parent", SessionType.AGENT))
            for number in range(3):
                in_child(lambda number=number: repository.create_session(Session(f"child-{number}", SessionType.AGENT)))
                repository.create_session(Session(f"parent-{number}", SessionType.AGENT))
            assert SessionCatalog(session_repository=repository).count_sessions() == 7

    def test_of_many_threads_are_as_many_as_calls_at_once(self, cluster: Cluster) -> None:
        with SQLiteSessionRepository(cluster.url) as repository:
            numbers = itertools.count()

            def create() -> None:
                for _ in range(10):
                    repository.create_session(Session(f"s{next(numbers)}", SessionType.AGENT))

            threads = [threading.Thread(target=create) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert SessionCatalog(session_repository=repository).count_sessions() == 80

    def test_use_after_close_raises(self, cluster: Cluster) -> None:
        repository = SQLiteSessionRepository(cluster.url)
        repository.close()
        with pytest.raises(SessionException, match=r"rqlite://.*: used after it was closed"):
            repository.read_session("s")

    def test_are_made_again_where_a_manager_is_unpickled(self, cluster: Cluster) -> None:
        manager = SQLiteSessionManager("s", cluster.url)
        make_agent(manager, "answer")("question")
        again = pickle.loads(pickle.dumps(manager))
        assert texts(make_agent(again).messages) == ["question", "answer"]


class TestOpening:
    def test_two_processes_that_migrate_at_once(self, cluster: Cluster) -> None:
        code = """
import sys
from strands_sqlite_session_manager import SQLiteSessionManager
print(SQLiteSessionManager(sys.argv[2], sys.argv[1]).session_id)
"""
        outputs: list[str] = []
        threads = [
            threading.Thread(target=lambda n=n: outputs.append(run_python(code, cluster.url, f"s{n}")))
            for n in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(map(str.strip, outputs)) == ["s0", "s1", "s2", "s3"]

    def test_for_reading_changes_nothing(self, cluster: Cluster) -> None:
        with pytest.raises(SessionException, match="an empty database, without the tables of sessions"):
            SQLiteSessionRepository(cluster.url, read_only=True)
        with SQLiteSessionRepository(cluster.url) as repository:
            repository.create_session(Session("s", SessionType.AGENT))
        before = cluster.contents(cluster.leader())
        with (
            SQLiteSessionRepository(cluster.url, read_only=True) as repository,
            SessionCatalog(session_repository=repository) as catalog,
        ):
            assert repository.read_session("s")
            assert catalog.search("nothing") == []
            with pytest.raises(SessionException, match="opened with read_only=True"):
                repository.delete_session("s")
        assert cluster.contents(cluster.leader()) == before

    def test_of_another_programs_database_is_refused(self, cluster: Cluster) -> None:
        cluster.run(["CREATE TABLE theirs (x)"])
        with pytest.raises(SessionException, match=r"rqlite://.*: a database of another program"):
            SQLiteSessionRepository(cluster.url)

    def test_of_a_newer_schema_is_refused(self, cluster: Cluster) -> None:
        SQLiteSessionRepository(cluster.url).close()
        cluster.run(["PRAGMA user_version = 99"])
        with pytest.raises(SessionException, match="written by a newer version"):
            SQLiteSessionRepository(cluster.url)

    def test_of_a_file_that_was_loaded_into_it(self, cluster: Cluster, tmp_path: Path) -> None:
        """As `rqlite` does with `.restore`. A file has no table of tokens."""
        with SQLiteSessionManager("s", tmp_path / "f.db") as manager:
            make_agent(manager, "answer")("question")
        backup = maintenance.backup(tmp_path / "copy.db", tmp_path / "f.db").path
        cluster.load(Path(backup).read_bytes())
        with SQLiteSessionManager("s", cluster.url) as manager:
            agent = make_agent(manager, "and more")
            agent("more")
            assert texts(agent.messages) == ["question", "answer", "more", "and more"]
        (tmp_path / "back.db").write_bytes(cluster.ask(cluster.leader(), "GET", "/db/backup")[1])
        assert [finding for finding in maintenance.check(tmp_path / "back.db") if finding.severity == "error"] == []

    def test_a_backup_of_it_is_a_file_of_ours(self, cluster: Cluster, tmp_path: Path) -> None:
        with SQLiteSessionManager("s", cluster.url) as manager:
            make_agent(manager, "answer")("question")
        (tmp_path / "f.db").write_bytes(cluster.ask(cluster.leader(), "GET", "/db/backup")[1])
        with SQLiteSessionManager("s", tmp_path / "f.db") as manager:
            agent = make_agent(manager, "and more")
            agent("more")
            assert texts(agent.messages) == ["question", "answer", "more", "and more"]
        assert [finding for finding in maintenance.check(tmp_path / "f.db") if finding.severity == "error"] == []
        maintenance.restore_backup(tmp_path / "f.db", tmp_path / "restored.db")
        with SQLiteSessionManager("s", tmp_path / "restored.db") as manager:
            assert texts(make_agent(manager).messages) == texts(agent.messages)


def test_the_schema_asks_no_clock(cluster: Cluster) -> None:
    """But for views, which only what reads may ask."""
    SQLiteSessionRepository(cluster.url).close()
    statements = [sql for (sql,) in cluster.query("SELECT sql FROM sqlite_master WHERE type <> 'view' AND sql <> ''")]
    assert len(statements) > 20
    assert not [sql for sql in statements if "now" in sql or "random" in sql.lower()]


def test_marks_in_texts_are_none(cluster: Cluster) -> None:
    with closing(open_database(cluster.url)) as database:
        assert database.query("SELECT '?', ':a', 'it''s ?', hex(?)", (b"A",)) == [("?", ":a", "it's ?", "41")]
        assert database.query("SELECT ':a', :a", {"a": "x'41'"}) == [(":a", "x'41'")]


def test_a_slow_query_takes_its_time(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than a node is waited for that hangs."""
    monkeypatch.setattr("strands_sqlite_session_manager._engine.rqlite.PATIENCE", 0.2)
    count = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < :limit) SELECT count(*) FROM n"
    with closing(open_database(cluster.url)) as database:
        started, limit = time.monotonic(), 2_000_000
        while time.monotonic() - started < 2.5:
            started, limit = time.monotonic(), 2 * limit
            assert database.query(count, {"limit": limit}) == [(limit,)]


def test_tables_without_a_version_are_refused_at_once(cluster: Cluster) -> None:
    SQLiteSessionRepository(cluster.url).close()
    cluster.run(["PRAGMA user_version = 0"])
    with pytest.raises(SessionException, match="already exists"):
        SQLiteSessionRepository(cluster.url)


def test_old_tokens_go(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strands_sqlite_session_manager._engine.rqlite._KEPT_TOKENS", 10)
    with SQLiteSessionRepository(cluster.url) as repository:
        for number in range(30):
            repository.create_session(Session(f"s{number}", SessionType.AGENT))
    assert cluster.query("SELECT count(*) FROM cluster_writes") == [(10,)]
