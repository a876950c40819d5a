"""Copies of agents that do not have all messages of the log."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from strands.agent.conversation_manager import (
    NullConversationManager,
    SlidingWindowConversationManager,
    SummarizingConversationManager,
)
from strands.session.file_session_manager import FileSessionManager
from strands.types.exceptions import ContextWindowOverflowException, SessionException

from helpers import make_agent
from nodes import raw_connection
from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository
from strands_sqlite_session_manager.maintenance import check, repair
from strands_sqlite_session_manager.transfer import (
    copy_session,
    export_file_sessions,
    export_jsonl,
    import_jsonl,
)


def edited(db_path: Path) -> Any:
    """An agent with a changed, an added and a removed message."""
    agent = make_agent(SQLiteSessionManager("s", db_path), *"abc", conversation_manager=NullConversationManager())
    for number in range(3):
        agent(f"q{number}")
    agent.messages[1]["content"] = [{"text": "changed"}, {"image": {"format": "png", "source": {"bytes": b"\0"}}}]
    del agent.messages[3]
    agent.messages.insert(0, {"role": "user", "content": [{"text": "by hand"}]})
    agent._session_manager.sync_agent(agent)
    return agent


def views(db_path: Path) -> list[Any]:
    with raw_connection(db_path) as connection:
        return connection.execute("SELECT live_view FROM agents").fetchall()


def test_to_another_database_is_exact_and_can_be_run_again(db_path: Path, tmp_path: Path) -> None:
    agent = edited(db_path)
    with SQLiteSessionRepository(tmp_path / "copy.db") as target:
        for _ in range(2):
            assert copy_session(agent._session_manager, target, "s").inexact == []
    assert views(tmp_path / "copy.db") == views(db_path)
    again = make_agent(SQLiteSessionManager("s", tmp_path / "copy.db"), conversation_manager=NullConversationManager())
    assert again.messages == agent.messages


def test_as_json_lines_is_exact(db_path: Path, tmp_path: Path) -> None:
    edited(db_path)
    with SQLiteSessionRepository(db_path) as source, SQLiteSessionRepository(tmp_path / "copy.db") as target:
        export_jsonl(source, tmp_path / "out.jsonl")
        import_jsonl(tmp_path / "out.jsonl", target)
        export_jsonl(target, tmp_path / "again.jsonl")
    assert views(tmp_path / "copy.db") == views(db_path)
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "out.jsonl").read_bytes()


@pytest.mark.parametrize("damage", [[], [[1, 2]], [["a"]], {}, 1, "x", [{"message": {}}, [0]]])
def test_from_json_lines_with_a_damaged_view_are_refused_by_the_line(
    db_path: Path, tmp_path: Path, damage: Any
) -> None:
    edited(db_path)
    with SQLiteSessionRepository(db_path) as source, SQLiteSessionRepository(tmp_path / "copy.db") as target:
        export_jsonl(source, tmp_path / "out.jsonl")
        lines = (tmp_path / "out.jsonl").read_text("utf-8").split("\n")
        lines[2] = json.dumps({**json.loads(lines[2]), "live_view": damage})
        (tmp_path / "out.jsonl").write_text("\n".join(lines), "utf-8")
        with pytest.raises(SessionException, match=r"^line 3: .*live_view"):
            import_jsonl(tmp_path / "out.jsonl", target)


class TestOtherRepositories:
    """Can leave out the first messages of the log, and that is all."""

    @pytest.mark.parametrize("size", [2, 4])
    def test_get_a_window_exactly(self, db_path: Path, tmp_path: Path, size: int) -> None:
        def window() -> Any:
            return SlidingWindowConversationManager(window_size=size)

        agent = make_agent(SQLiteSessionManager("s", db_path), *"abc", conversation_manager=window())
        for number in range(3):
            agent(f"q{number}")
        report = export_file_sessions(agent._session_manager, tmp_path / "files")
        assert report.inexact == []
        files = FileSessionManager("s", storage_dir=str(tmp_path / "files"))
        assert make_agent(files, conversation_manager=window()).messages == agent.messages

    def test_get_a_summary_exactly(self, db_path: Path, tmp_path: Path) -> None:
        def summaries() -> Any:
            return SummarizingConversationManager(preserve_recent_messages=2, summary_ratio=0.5)

        agent = make_agent(SQLiteSessionManager("s", db_path), *"abcd", conversation_manager=summaries())
        for number in range(4):
            agent(f"q{number}")
        agent.model.answers[:] = [ContextWindowOverflowException("full"), "a summary", "e"]
        agent("q4")
        if len(agent._session_manager.list_messages("s", "default")) > 10:
            pytest.skip("this SDK has the agent itself write its summary, as a turn")
        assert export_file_sessions(agent._session_manager, tmp_path / "files").inexact == []
        files = FileSessionManager("s", storage_dir=str(tmp_path / "files"))
        assert make_agent(files, conversation_manager=summaries()).messages == agent.messages

    def test_are_told_of_what_they_cannot_express(self, db_path: Path, tmp_path: Path) -> None:
        agent = edited(db_path)
        before = copy.deepcopy(agent.messages)
        result = copy_session(agent._session_manager, FileSessionManager("s", storage_dir=str(tmp_path / "one")), "s")
        assert result.inexact == ["default"]
        assert export_file_sessions(agent._session_manager, tmp_path / "files").inexact == ["s"]
        files = FileSessionManager("s", storage_dir=str(tmp_path / "files"))
        restored = make_agent(files, conversation_manager=NullConversationManager()).messages
        # Nothing is lost of what is in the log as it is.
        assert len(restored) == 6
        assert [message for message in before if message in restored] == [before[1], *before[3:]]


class TestADamagedView:
    @pytest.mark.file_only
    def test_is_found_and_given_up_by_a_repair(self, db_path: Path) -> None:
        edited(db_path)
        with raw_connection(db_path) as connection:
            connection.execute("UPDATE agents SET live_view = '[[1,2]]'")
        (finding,) = [finding for finding in check(db_path) if finding.kind == "live_view"]
        assert (finding.severity, finding.key, finding.repairable) == ("error", ("s", "default"), True)
        with pytest.raises(SessionException, match="damaged live_view in the database; `repair`"):
            make_agent(SQLiteSessionManager("s", db_path))
        repair(db_path, dry_run=False)
        assert [finding for finding in check(db_path) if finding.severity == "error"] == []
        agent = make_agent(SQLiteSessionManager("s", db_path), conversation_manager=NullConversationManager())
        assert len(agent.messages) == 6
