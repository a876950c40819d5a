"""Redacted and deleted text, which is nowhere on the disk afterwards."""

import inspect
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from strands.session.repository_session_manager import RepositorySessionManager
from strands.types.exceptions import SessionException

from helpers import Redaction, make_agent, reopen, texts
from strands_sqlite_session_manager import SQLiteSessionManager


class TestRedaction:
    SECRET = "4111-1111-1111-1111"

    def _on_disk(self, db_path: Path) -> bool:
        """Look in another process: closing the file in this one would drop SQLite's locks."""
        files = [file for file in db_path.parent.iterdir() if not file.name.endswith("-shm")]
        code = "import sys; print(any(sys.argv[1].encode() in open(file, 'rb').read() for file in sys.argv[2:]))"
        done = subprocess.run([sys.executable, "-c", code, self.SECRET, *files], capture_output=True, check=True)
        return done.stdout.strip() == b"True"

    @pytest.mark.file_only
    def test_of_a_guardrail_is_stored_and_leaves_nothing_behind(
        self, manager: SQLiteSessionManager, db_path: Path
    ) -> None:
        agent = make_agent(manager, *["ok"] * 20, Redaction())
        for number in range(20):
            agent(f"message {number} " + "filler " * 200)
        seen = []
        stream = agent.model.stream

        async def look_then_stream(*args: Any, **kwargs: Any) -> Any:
            seen.append(self._on_disk(db_path))
            async for event in stream(*args, **kwargs):
                yield event

        agent.model.stream = look_then_stream
        agent(f"My card is {self.SECRET}. " * 300)
        assert seen == [True]  # it was there, or the next line would prove nothing
        assert not self._on_disk(db_path)
        assert texts(make_agent(reopen(manager)).messages)[-2:] == ["[user input redacted]", "[blocked]"]
        assert texts(manager.list_messages("s", "default"))[-2:] == ["[user input redacted]", "[blocked]"]

    @pytest.mark.file_only
    def test_by_hand_leaves_nothing_behind(self, manager: SQLiteSessionManager, db_path: Path) -> None:
        agent = make_agent(manager, "thanks")
        agent(f"My card is {self.SECRET}.")
        image = {"image": {"format": "png", "source": {"bytes": self.SECRET.encode() * 1000}}}
        manager.append_message({"role": "user", "content": [image]}, agent)
        manager.redact_latest_message({"role": "user", "content": [{"text": "[image]"}]}, agent)
        assert self._on_disk(db_path)
        first = manager.read_message("s", "default", 0)
        first.message = first.redact_message = {"role": "user", "content": [{"text": "[card]"}]}
        manager.update_message("s", "default", first)
        assert not self._on_disk(db_path)
        assert texts(manager.list_messages("s", "default")) == ["[card]", "thanks", "[image]"]

    @pytest.mark.skipif(
        "_held_records" not in inspect.getsource(RepositorySessionManager),
        reason="SDKs before 1.58 redact the latest record alone",
    )
    @pytest.mark.file_only
    def test_reaches_earlier_records_of_the_same_message(self, manager: SQLiteSessionManager, db_path: Path) -> None:
        """A prompt that failed and is sent again is stored twice."""
        agent = make_agent(manager, RuntimeError("model is down"), Redaction())
        prompt = [{"role": "user", "content": [{"text": f"My card is {self.SECRET}."}]}]
        with pytest.raises(RuntimeError, match="model is down"):
            agent(prompt)
        agent(prompt)
        assert not self._on_disk(db_path)
        assert texts(manager.list_messages("s", "default"))[:2] == ["[user input redacted]"] * 2

    @pytest.mark.file_only
    def test_while_another_connection_reads_is_done_and_what_it_leaves_is_logged(
        self, db_path: Path, raw: sqlite3.Connection, caplog: pytest.LogCaptureFixture
    ) -> None:
        with SQLiteSessionManager("s", db_path, busy_timeout=0.1) as manager:
            agent = make_agent(manager, "ok")
            agent(self.SECRET)
            raw.execute("BEGIN")
            raw.execute("SELECT * FROM messages").fetchall()
            manager.redact_latest_message({"role": "assistant", "content": [{"text": "[r]"}]}, agent)
            assert "redacted text stays in its write-ahead log" in caplog.text
            raw.execute("COMMIT")
            assert texts(manager.list_messages("s", "default")) == [self.SECRET, "[r]"]

    @pytest.mark.file_only
    def test_of_a_session_that_is_deleted_leaves_nothing_behind_either(
        self, manager: SQLiteSessionManager, db_path: Path
    ) -> None:
        make_agent(manager, "ok")(self.SECRET)
        assert self._on_disk(db_path)
        manager.delete_session("s")
        assert not self._on_disk(db_path)

    @pytest.mark.file_only
    def test_that_waits_for_a_reader_keeps_nobody_else_waiting(
        self, manager: SQLiteSessionManager, db_path: Path, raw: sqlite3.Connection
    ) -> None:
        agent = make_agent(manager, "ok")
        agent(self.SECRET)
        manager.append_message({"role": "user", "content": [{"text": self.SECRET}]}, agent)
        first = manager.read_message("s", "default", 0)
        first.message = first.redact_message = {"role": "user", "content": [{"text": "[r]"}]}
        raw.execute("BEGIN")
        raw.execute("SELECT * FROM messages").fetchall()
        with ThreadPoolExecutor(1) as executor, SQLiteSessionManager("t", db_path, busy_timeout=1) as other:
            redaction = executor.submit(manager.redact_latest_message, first.message, agent)
            while not redaction.done() and manager.read_message("s", "default", 2).redact_message is None:
                pass
            make_agent(other, *["ok"] * 20)("while the redaction waits")
            assert not redaction.done()
            raw.execute("COMMIT")
            redaction.result(30)
        manager.update_message("s", "default", first)
        assert not self._on_disk(db_path)

    def test_of_nothing_raises(self, manager: SQLiteSessionManager) -> None:
        agent = make_agent(manager)
        with pytest.raises(SessionException, match="No message to redact"):
            manager.redact_latest_message({"role": "user", "content": []}, agent)
