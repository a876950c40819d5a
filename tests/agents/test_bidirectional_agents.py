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

    async def test_have_their_transcripts_and_state_stored(self, bidi: Any, manager: SQLiteSessionManager) -> None:
        """The SDK stores a transcript when it begins, and tells what it has become when it ends."""
        events = importlib.import_module(f"{bidi.__name__}.types")
        if not hasattr(events, "BidiTranscriptStartEvent"):
            pytest.skip("this SDK appends transcripts when they are whole")
        ended = asyncio.Event()

        class TalkingModel(importlib.import_module(f"{bidi.__name__}.models").BidiModel):
            def __init__(self) -> None:
                self.config = {"audio": {}}

            def update_config(self, **model_config: Any) -> None: ...

            def get_config(self) -> Any:
                return {"model_id": "talking"}

            async def start(self, *args: Any, **kwargs: Any) -> None: ...

            async def stop(self) -> None: ...

            async def send(self, content: Any) -> None: ...

            async def receive(self) -> Any:
                yield events.BidiTranscriptStartEvent("assistant", "1")
                yield events.BidiTranscriptDeltaEvent("Hello, ", "assistant", "1")
                yield events.BidiTranscriptDeltaEvent("Ada.", "assistant", "1")
                yield events.BidiTranscriptStopEvent("assistant", "1")
                ended.set()
                await asyncio.Event().wait()

        def build(manager: SQLiteSessionManager) -> Any:
            return bidi.BidiAgent(model=TalkingModel(), agent_id="voice", session_manager=manager)

        async def listen() -> None:
            async for _ in agent.receive():
                pass

        agent = build(manager)
        await agent.start()
        listening = asyncio.create_task(listen())
        await agent.send("Hi, I am Ada.")
        await asyncio.wait_for(ended.wait(), 10)
        agent.state.set("mood", "good")
        await agent.stop()
        listening.cancel()
        assert "Hello, Ada." in str(manager.list_messages("s", "voice"))
        restored = build(reopen(manager))
        assert restored.messages == agent.messages
        assert restored.state.get() == {"mood": "good"}
