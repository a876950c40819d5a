"""Sessions of the SDK's `SnapshotSessionManager` in a storage of ours."""

from typing import Any

import pytest

pytest.importorskip("strands.session.snapshot_session_manager", reason="an SDK without SnapshotSessionManager")

from strands import Agent
from strands.session import SnapshotSessionManager

from helpers import ScriptedModel


def talking(storage: Any, session_id: str, /, *turns: tuple[str, str], always: bool = False, **options: Any) -> Agent:
    """Return an agent of a snapshot session after some turns, each a question and its answer.

    Args:
        storage: Where the snapshots lie.
        session_id: Id of the session.
        *turns: What is said.
        always: Whether to keep a snapshot of each turn.
        **options: The agent's.
    """
    trigger = (lambda **_: True) if always else None
    manager = SnapshotSessionManager(session_id, storage=storage, snapshot_trigger=trigger)
    model = ScriptedModel(*(answer for _, answer in turns))
    options.setdefault("agent_id", "a")
    agent = Agent(model=model, session_manager=manager, callback_handler=None, **options)
    for question, _ in turns:
        agent(question)
    return agent


def restored(storage: Any, session_id: str, /, **options: Any) -> Agent:
    """Return what a new process would build."""
    return talking(storage, session_id, **options)
