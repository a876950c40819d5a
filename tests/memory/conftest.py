"""A store of memories, where the SDK has them."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest


@pytest.fixture
def open_store(db_path: Any) -> Iterator[Callable[..., Any]]:
    """Opens stores of the database, with the name `facts` unless another is given, and closes them."""
    pytest.importorskip("strands.memory", reason="it needs an SDK with memory")
    from strands_sqlite_session_manager import SQLiteMemoryStore

    with ExitStack() as stores:
        yield lambda name="facts", **options: stores.enter_context(SQLiteMemoryStore(name, db_path, **options))


@pytest.fixture
def store(open_store: Callable[..., Any]) -> Any:
    """A store of memories."""
    return open_store()


@pytest.fixture
def remember(store: Any) -> Callable[..., list[int]]:
    """Adds memories to the store, and returns their ids."""

    def add(*contents: str) -> list[int]:
        async def add_all() -> list[int]:
            return [await store.add(content) for content in contents]

        return asyncio.run(add_all())

    return add
