"""What was forgotten is gone from the disk: rows, vectors, index and log."""

import asyncio
import struct
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.file_only

SECRET = "Ada keeps a xylophone in the attic"
# Numbers that no other vector has.
VECTOR = [0.123456789, 0.987654321]
PACKED = struct.pack("<2f", *(number / sum(x * x for x in VECTOR) ** 0.5 for number in VECTOR))


async def test_a_long_text_too(store: Any, db_path: Path) -> None:
    """One that takes many pages, in its table and in the index that keeps texts apart."""
    memory_id = await store.add(" ".join(f"xylophone{number}" for number in range(5_000)))
    for number in range(50):
        await store.add(f"Bob owns {number} boats")
    assert len(await store.search("xylophone77")) == 1
    await store.delete(memory_id)
    assert not is_on_disk(db_path)


@pytest.fixture
def indexed(open_store: Callable[..., Any]) -> Any:
    """A store with a secret, which a search has indexed, and its vector."""
    store = open_store(embedder=lambda texts: [VECTOR if text == SECRET else [1.0, 0.0] for text in texts])

    async def fill() -> None:
        for number in range(20):
            await store.add(f"Bob owns {number} boats")
        await store.add(SECRET, {"note": "xylophone"})
        assert len(await store.search("xylophones")) > 0

    asyncio.run(fill())
    return store


def is_on_disk(db_path: Path) -> bool:
    """Whether anything of the secret is in the file or its log."""
    contents = [path.read_bytes() for path in db_path.parent.glob(f"{db_path.name}*")]
    assert contents
    return any(part in content for content in contents for part in (b"xylophon", PACKED))


async def secret_id(store: Any) -> int:
    return next(memory.memory_id for memory in (await store.list()).memories if memory.content == SECRET)


@pytest.mark.slow
@pytest.mark.parametrize(
    "forget",
    [
        lambda store, memory_id: store.delete(memory_id),
        lambda store, memory_id: store.forget(memory_ids=[memory_id]),
        lambda store, memory_id: store.forget("xylophone attic"),
        lambda store, memory_id: store.update(memory_id, content="nothing", metadata={}),
        lambda store, memory_id: store.clear(),
        lambda store, memory_id: store.prune(keep_last=0),
        lambda store, memory_id: store.prune(older_than=timedelta(0)),
    ],
    ids=["delete", "forget ids", "forget words", "update", "clear", "prune by number", "prune by age"],
)
async def test_after_every_call_that_deletes_or_replaces(indexed: Any, db_path: Path, forget: Any) -> None:
    """When the call returns, and not only when somebody searches next."""
    assert is_on_disk(db_path)
    await forget(indexed, await secret_id(indexed))
    assert not is_on_disk(db_path)


async def test_after_the_forget_tool(open_store: Callable[..., Any], indexed: Any, db_path: Path) -> None:
    """What a model forgets is as gone as what a person deletes."""
    (tool,) = open_store(forget_tool_config=True).get_tools()
    async for _ in tool.stream(
        {"toolUseId": "1", "name": "forget_memory", "input": {"memory_ids": [await secret_id(indexed)]}}, {}
    ):
        pass
    assert not is_on_disk(db_path)


async def test_vectors_in_memory_go_with_the_next_search(open_store: Callable[..., Any], indexed: Any) -> None:
    """A store in another process keeps no vector of what was forgotten."""
    pytest.importorskip("numpy")
    await open_store().delete(await secret_id(indexed))
    await indexed.search("anything")
    kept = [row for block in indexed._embedding.vectors._blocks for row in block.matrix.tolist()]
    assert len(kept) == 20
    assert all(row == [1.0, 0.0] for row in kept)
