"""Agents that talk both ways at once, where the SDK has them."""

import asyncio
import importlib
from typing import Any

import pytest

from helpers import reopen, texts
from strands_sqlite_session_manager import SQLiteSessionManager


class TestBidirectionalAgents:
    @pytest.fixture
    def bidi(self) -> Any:
        for name in ("strands.bidi", "strands.experimental.bidi"):
            try:
                return importlib.import_module(name)
            except ImportError:
                continue
        pytest.skip("this SDK has no bidirectional agents")

    async def test_are_restored(self, bidi: Any, manager: SQLiteSessionManager) -> None:
        class SilentModel(importlib.import_module(f"{bidi.__name__}.models").BidiModel):
            def __init__(self) -> None:
                self.config = {"audio": {}}

            def update_config(self, **model_config: Any) -> None: ...

            def get_config(self) -> Any:
                return {"model_id": "silent"}

            async def start(self, *args: Any, **kwargs: Any) -> None: ...

            async def stop(self) -> None: ...

            async def send(self, content: Any) -> None: ...

            async def receive(self) -> Any:
                await asyncio.Event().wait()
                yield

        async def talk(agent: Any) -> None:
            await agent.start()
            await agent.send("hello")
            await agent.stop()

        def build(manager: SQLiteSessionManager) -> Any:
            return bidi.BidiAgent(model=SilentModel(), agent_id="voice", session_manager=manager)

        agent = build(manager)
        await talk(agent)
        restored = build(reopen(manager))
        assert texts(restored.messages) == ["hello"]
        await talk(restored)
        assert texts(manager.list_messages("s", "voice")) == ["hello", "hello"]
