"""What an agent remembers across sessions: added, found by words and meaning, corrected, forgotten.

Run it from any directory with `python examples/07_memory.py`. It needs strands-agents 1.45 or newer.
"""

import asyncio
from datetime import timedelta
from pathlib import Path

from strands import Agent
from strands.memory import MemoryManager

from _model import make_model
from _workspace import ask, check, check_words, section, workspace
from strands_sqlite_session_manager import SessionCatalog, SQLiteMemoryStore, SQLiteSessionManager

# Words that mean much the same. A real embedder is a model, called over the network or on this machine.
MEANINGS = ("drink tea coffee", "pet cat dog", "live city Vienna", "work job pilot")


def embed(texts: list[str]) -> list[list[float]]:
    """Return a vector for each text: how many of its words belong to each meaning."""
    return [[0.1 + sum(word in text for word in meaning.split()) for meaning in MEANINGS] for text in texts]


def in_an_agent(db_path: Path) -> None:
    """The SDK's memory manager gives the model tools, and puts what it finds beside the question."""
    section("1. In an agent")

    def agent(session_id: str) -> Agent:
        store = SQLiteMemoryStore("facts", db_path, scope="example-ada", forget_tool_config=True)
        return Agent(
            model=make_model(),
            memory_manager=MemoryManager(stores=[store], add_tool_config=True),
            session_manager=SQLiteSessionManager(session_id, db_path),
            callback_handler=None,
        )

    ask(agent("example-monday"), "Please add memory ['My favourite drink is green tea.', 'My desk is by the window.']")
    answer = ask(agent("example-tuesday"), "What is my favourite drink?")
    check_words("green tea" in answer, "an agent in another session remembers")
    ask(agent("example-wednesday"), "Please forget memory [] 'desk window'")
    store = SQLiteMemoryStore("facts", db_path, scope="example-ada")
    left = [memory.content for memory in asyncio.run(store.list()).memories]
    check_words(left == ["My favourite drink is green tea."], "what the user wants forgotten is gone")


async def by_words_and_meaning(db_path: Path) -> None:
    """Without an embedder, words count; with one, both rankings are joined."""
    section("2. By words, and by meaning")
    plain = SQLiteMemoryStore("notes", db_path, scope="example-bob")
    for fact in ("Bob has a cat called Miso.", "Bob travels to Vienna in May.", "Bob likes coffee."):
        await plain.add(fact, {"source": "example"})
    found = await plain.search("Where is Bob travelling?")
    check(found[0].content == "Bob travels to Vienna in May.", "a question finds a statement, in any form of its words")
    check(await plain.search("Bob", {"metadata": {"source": "chat"}}) == [], "metadata narrows a search down")
    check(await plain.search("any pets?") == [], "by words alone, other words find nothing")

    store = SQLiteMemoryStore("notes", db_path, scope="example-bob", embedder=embed, embedding_model="meanings-1")
    check(await store.reindex() == 3, "an embedder that came later embeds what is there")
    found = await store.search("any pets?")
    check(found[0].content == "Bob has a cat called Miso.", "by meaning, a pet is a cat")


async def for_people(db_path: Path) -> None:
    """What people need: to see, correct and delete what is remembered of them."""
    section("3. For people")
    store = SQLiteMemoryStore("notes", db_path, scope="example-bob")
    for memory in (await store.list()).memories:
        print(f"  {memory.memory_id}: {memory.content}")
    (wrong,) = [memory for memory in (await store.list()).memories if "Vienna" in memory.content]
    await store.update(wrong.memory_id, content="Bob travels to Graz in May.")
    check((await store.search("Graz"))[0].content == "Bob travels to Graz in May.", "a correction is found")
    check(await store.search("Vienna") == [], "and what it corrects is not")
    first, again = [await store.add("Bob likes coffee.") for _ in range(2)]
    check(first == again and await store.count() == 3, "the same text is one memory")
    check(await SQLiteMemoryStore("notes", db_path, scope="example-ada").count() == 0, "nobody else sees it")
    check(len(await store.forget("cat Miso")) == 1, "forgetting takes words that a memory has")
    check(await store.prune(unused_for=timedelta(days=90)) == 0, "pruning takes what nobody has asked for in long")


def a_whole_user(db_path: Path) -> None:
    """Everything of a user goes at once."""
    section("4. A whole user")
    with SessionCatalog(db_path) as catalog:
        for session in ("example-monday", "example-tuesday", "example-wednesday"):
            catalog.update_metadata(session, user="ada")
        report = catalog.forget_user(metadata={"user": "ada"}, memory_scopes=["example-ada"])
        check(report.sessions == 3, f"{report.messages} messages of {report.sessions} sessions are gone")
        check(not catalog.list_sessions(metadata={"user": "ada"}).sessions, "none of the sessions is left")
    check(asyncio.run(SQLiteMemoryStore("facts", db_path, scope="example-ada").count()) == 0, "nor any memory")


def main() -> None:
    """Run the sections."""
    with workspace("example-monday", "example-tuesday", "example-wednesday", "example-kept") as (_, db_path):
        for store, scope in (("facts", "example-ada"), ("notes", "example-bob")):
            asyncio.run(SQLiteMemoryStore(store, db_path, scope=scope).clear())  # Of an earlier run.
        SQLiteSessionManager("example-kept", db_path).close()
        in_an_agent(db_path)
        asyncio.run(by_words_and_meaning(db_path))
        asyncio.run(for_people(db_path))
        a_whole_user(db_path)


if __name__ == "__main__":
    main()
