"""Basic usage: a conversation that survives the process, and where it is kept.

Run it from any directory with `python examples/01_basic_usage.py`.
"""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from strands import Agent

from _model import make_model
from _workspace import ask, check, check_words, section, text_of, workspace
from strands_sqlite_session_manager import SQLiteSessionManager, SQLiteSessionRepository

SESSION_ID = "example-basic"


def own_database_path(db_path: Path) -> None:
    """The file, its directory and its tables are created if they do not exist."""
    section("1. A manager with its own database path")
    with SQLiteSessionManager(session_id=SESSION_ID, db_path=db_path) as manager:
        check(db_path.is_file(), "the database file exists")
        check(manager.read_session(SESSION_ID) is not None, "the session exists")


def persisted_as_it_goes(db_path: Path) -> None:
    """Each message is stored the moment it is added; there is no save() to forget."""
    section("2. A conversation, persisted as it goes")
    # A second, independent reader shows that the messages are in the file, not only in the agent.
    with SQLiteSessionManager(SESSION_ID, db_path) as manager, SQLiteSessionRepository(db_path) as reader:
        agent = Agent(model=make_model(), session_manager=manager, callback_handler=None)
        ask(agent, "My name is Ada.")
        check(len(reader.list_messages(SESSION_ID, agent.agent_id)) == 2, "the first exchange is stored")
        answer = ask(agent, "My favourite colour is green.")
        messages = reader.list_messages(SESSION_ID, agent.agent_id)
        check(len(messages) == 4, "the second exchange is stored")
        check(text_of(messages[-1]) == answer, "the last stored message is the last answer")


def continue_conversation(db_path: Path, prompt: str) -> tuple[int, int, str]:
    """Build the agent from the database and ask it: this runs in a process of its own."""
    with SQLiteSessionManager(SESSION_ID, db_path) as manager:
        agent = Agent(model=make_model(), session_manager=manager, callback_handler=None)
        restored = len(agent.messages)
        return os.getpid(), restored, str(agent(prompt)).strip()


def resumed_in_a_new_process(db_path: Path) -> None:
    """The same session id and agent id are all that it takes."""
    section("3. The same conversation, resumed in a new process")
    with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pid, restored, answer = pool.submit(continue_conversation, db_path, "What is my name?").result()
    print(f"  > What is my name?\n  < {answer}")
    check(pid != os.getpid(), "another process answered")
    check(restored == 4, "it had restored the four messages")
    check_words("Ada" in answer, "it knew the name")
    with SQLiteSessionManager(SESSION_ID, db_path) as manager:
        messages = manager.list_messages(SESSION_ID, "default")  # The id of an agent that is given none.
        check(len(messages) == 6, "its question and answer were added to the conversation")


def configured_by_environment(directory: Path) -> None:
    """Without a path, the environment variable decides; without that, it is `sessions.db` in the working directory."""
    section("4. Configuration by STRANDS_SQLITE_DB_PATH")
    before = os.environ.get("STRANDS_SQLITE_DB_PATH")
    os.environ["STRANDS_SQLITE_DB_PATH"] = str(directory / "configured.db")
    try:
        with SQLiteSessionManager("basic-configured"):
            check((directory / "configured.db").is_file(), "the database is where the variable says")
        with SQLiteSessionManager("basic-configured", directory / "given.db"):
            check((directory / "given.db").is_file(), "a path that is passed comes before the variable")
    finally:
        if before is None:
            del os.environ["STRANDS_SQLITE_DB_PATH"]
        else:
            os.environ["STRANDS_SQLITE_DB_PATH"] = before


def in_memory() -> None:
    """For tests, and for conversations that should leave nothing behind."""
    section("5. An in-memory database for a throw-away session")
    with SQLiteSessionManager("basic-throw-away", ":memory:") as manager:
        agent = Agent(model=make_model(), session_manager=manager, callback_handler=None)
        ask(agent, "My name is Grace.")
        check(len(manager.list_messages("basic-throw-away", agent.agent_id)) == 2, "the exchange is stored")
    with SQLiteSessionManager("basic-throw-away", ":memory:") as manager:
        check(manager.read_agent("basic-throw-away", "default") is None, "it is gone with the manager that kept it")
    # Several managers can share one such database: through a repository.
    with SQLiteSessionRepository(":memory:") as repository:
        first = SQLiteSessionManager("basic-throw-away", session_repository=repository)
        ask(Agent(model=make_model(), session_manager=first, callback_handler=None), "My name is Grace.")
        second = SQLiteSessionManager("basic-throw-away", session_repository=repository)
        agent = Agent(model=make_model(), session_manager=second, callback_handler=None)
        check(len(agent.messages) == 2, "a second manager on the same repository restores the conversation")


def main() -> None:
    """Run the sections in order: each goes on from the one before."""
    with workspace(SESSION_ID) as (directory, db_path):
        own_database_path(db_path)
        persisted_as_it_goes(db_path)
        resumed_in_a_new_process(db_path)
        configured_by_environment(directory)
        in_memory()


if __name__ == "__main__":  # The new process imports this file too.
    main()
