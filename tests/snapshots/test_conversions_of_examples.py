"""The sessions of the examples, converted there and back."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from snapshot_helpers import restored  # isort: skip (skips all of this on an older SDK)

from strands.agent import conversation_manager

from helpers import ScriptedModel, make_agent
from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository
from strands_sqlite_session_manager.catalog import SessionCatalog
from strands_sqlite_session_manager.storage import SQLiteStorage
from strands_sqlite_session_manager.transfer import from_snapshots, to_snapshots

EXAMPLES = sorted((Path(__file__).parent.parent.parent / "examples").glob("0[1-5]*.py"))


def has(agent: Any) -> Any:
    """Return everything that makes up an agent, as a snapshot has it."""
    return agent.take_snapshot(preset="session").data


@pytest.mark.slow
@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_agents_have_what_they_had(script: Path, tmp_path: Path) -> None:
    """Each agent of each session, in the tables, in snapshots, and in the tables again; graphs and swarms too."""
    path = tmp_path / "kept.db"
    environment = {**os.environ, "STRANDS_SQLITE_DB_PATH": str(path), "PYTHONIOENCODING": "utf-8"}
    environment.pop("STRANDS_EXAMPLE_MODEL", None)
    subprocess.run([sys.executable, script], env=environment, check=True, capture_output=True, timeout=60)
    compared = 0
    with (
        SessionCatalog(path) as catalog,
        SQLiteSessionRepository(path) as source,
        SQLiteStorage(tmp_path / "snapshots.db") as storage,
        SQLiteSessionRepository(tmp_path / "back.db") as back,
    ):
        for session in catalog.list_sessions().sessions:
            if session.session_type == "SNAPSHOT":
                continue
            session_id = session.session_id
            to_snapshots(source, storage, session_id)
            from_snapshots(storage, back, session_id)
            for entry in catalog.list_agents(session_id):
                agent_id = entry.agent_id
                stored = source.read_agent(session_id, agent_id)
                assert stored is not None
                kind = getattr(conversation_manager, stored.conversation_manager_state.get("__name__", ""), None)

                def options(agent_id: str = agent_id, kind: Any = kind) -> Any:
                    manager = {"conversation_manager": kind()} if kind else {}
                    return {"agent_id": agent_id, "model": ScriptedModel(), **manager}

                with SQLiteSessionManager(session_id, path) as before:
                    expected = has(make_agent(before, **options()))
                with SQLiteSessionManager(session_id, tmp_path / "back.db") as after:
                    assert has(make_agent(after, **options())) == expected
                snapshot_options = {key: value for key, value in options().items() if key != "model"}
                assert has(restored(storage, session_id, **snapshot_options)) == expected
                compared += 1
            for multi_agent in catalog.list_multi_agents(session_id):
                state = source.read_multi_agent(session_id, multi_agent.multi_agent_id)
                assert back.read_multi_agent(session_id, multi_agent.multi_agent_id) == state
                compared += 1
    assert compared
