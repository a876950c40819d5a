"""One file for everything: a session in snapshots, a memory, and a search through all conversations.

Run it from any directory with `python examples/05_one_file.py`. It needs strands-agents 1.54 or newer.
"""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

from strands import Agent
from strands.session import SnapshotSessionManager
from strands.vended_memory_stores.file_memory_store import FileMemoryStore

from _model import make_model
from _workspace import ask, check, check_words, section, workspace
from strands_sqlite_session_manager import SessionCatalog, SQLiteSessionManager, SQLiteStorage


def snapshots(db_path: Path) -> None:
    """The SDK's snapshots keep an agent as it was at several times."""
    section("1. A session in snapshots, with time travel")
    storage = SQLiteStorage(db_path)
    # Every turn leaves a snapshot that stays, beside the latest.
    manager = SnapshotSessionManager("example-snapshots", storage=storage, snapshot_trigger=lambda **_: True)
    agent = Agent(model=make_model(), session_manager=manager, callback_handler=None)
    ask(agent, "My name is Ada.")
    ask(agent, "My name is Grace.")

    manager = SnapshotSessionManager("example-snapshots", storage=storage)
    agent = Agent(model=make_model(), session_manager=manager, callback_handler=None)
    check_words("Grace" in ask(agent, "What is my name?"), "a new agent goes on from the latest")

    check(len(agent.messages) == 6, "with the whole conversation")
    first, *_ = asyncio.run(manager.list_snapshot_ids(agent))
    asyncio.run(manager.restore_snapshot(agent, snapshot_id=first))
    check(len(agent.messages) == 2, "the first snapshot is of the first turn")
    check_words("Ada" in ask(agent, "What is my name?"), "back then, the name was another")


def memory(db_path: Path) -> None:
    """The SDK's file memory store writes Markdown: into the same file here."""
    section("2. A memory")

    async def remember_and_search() -> None:
        store = FileMemoryStore(name="notes", storage=SQLiteStorage(db_path))
        await store.add("# Orders\nGrace prefers deliveries in the morning.")
        await store.add("# Tea\nAda takes no sugar.")
        found = await store.search("sugar")
        check(len(found) == 1 and "Ada" in found[0].content, "a search finds what it was told")
        check(await SQLiteStorage(db_path).list("memory/notes/") != [], "each note is a key")

    asyncio.run(remember_and_search())


def search(db_path: Path) -> None:
    """Messages of all sessions are found by their words, in any form of them and with or without accents."""
    section("3. A search through conversations")
    said = {"example-café": "I am writing about the cafés of Zürich.", "example-tea": "I drink tea."}
    for session_id, text in said.items():
        with SQLiteSessionManager(session_id, db_path) as manager:
            ask(Agent(model=make_model(), session_manager=manager, callback_handler=None), text)
    with SessionCatalog(db_path) as catalog:
        hits = catalog.search("writes cafe zurich")
        for hit in hits:
            print(f"  {hit.session_id}, {hit.role}: {hit.snippet}")
        check(all("[Zürich]" in hit.snippet for hit in hits), "what was found is marked")
        check({hit.session_id for hit in hits} == {"example-café"}, "the right session is found")
        check(catalog.search('"not" a (valid* query') == [], "any text is a safe query")


def one_file(db_path: Path) -> None:
    """What the three have written is in one file, to be backed up, checked and deleted as one."""
    section("4. One file")
    with closing(sqlite3.connect(db_path)) as connection:
        (keys,) = connection.execute("SELECT count(*) FROM storage").fetchone()
        (messages,) = connection.execute("SELECT count(*) FROM messages").fetchone()
    check(keys >= 5 and messages >= 4, f"{keys} keys and {messages} messages, in {db_path.name}")


def main() -> None:
    """Run the sections."""
    with workspace("example-café", "example-tea") as (_, db_path):
        snapshots(db_path)
        memory(db_path)
        search(db_path)
        one_file(db_path)


if __name__ == "__main__":
    main()
