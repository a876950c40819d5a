"""Session management: from creation to deletion, errors, several databases, concurrency and backups.

Run it from any directory with `python examples/04_session_management.py`.
"""

import multiprocessing
import sqlite3
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

from strands import Agent
from strands.types.exceptions import SessionException
from strands.types.session import Session, SessionType

from _model import make_model
from _workspace import ask, check, check_words, expect, section, text_of, workspace
from strands_sqlite_session_manager import (
    SessionCatalog,
    SessionConflictError,
    SQLiteSessionManager,
    SQLiteSessionRepository,
    maintenance,
)
from strands_sqlite_session_manager.transfer import copy_session


def new_agent(manager: SQLiteSessionManager, agent_id: str = "assistant") -> Agent:
    """Return an agent of the manager's session, with whatever is stored of it."""
    return Agent(model=make_model(), agent_id=agent_id, session_manager=manager, callback_handler=None)


def life_of_a_session(db_path: Path) -> None:
    """A session is created explicitly or by its first manager. Its deletion is always the program's decision."""
    section("1. A session from creation to deletion")
    with SQLiteSessionRepository(db_path) as repository:
        created = repository.create_session(Session(session_id="example-life", session_type=SessionType.AGENT))
        check(repository.read_session("example-life") == created, "the session is created")

        with SQLiteSessionManager("example-life", session_repository=repository) as manager:
            ask(new_agent(manager), "My name is Ada.")
        check(len(repository.list_messages("example-life", "assistant")) == 2, "the conversation is stored")
        session = repository.read_session("example-life")
        check(session is not None and session.updated_at > created.updated_at, "updated_at is the last activity")

        repository.delete_session("example-life")
        check(repository.read_session("example-life") is None, "the session is deleted")
        check(repository.read_agent("example-life", "assistant") is None, "and its agent with it")
    # The tables are plain SQL, for any tool to read.
    with closing(sqlite3.connect(db_path)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM messages WHERE session_id = 'example-life'").fetchone()
        check(count == 0, "and its messages with it")


def errors(db_path: Path, directory: Path) -> None:
    """Every error of the database is a SessionException that says what happened."""
    section("2. Errors, and recovering from them")
    with SQLiteSessionRepository(db_path) as repository:
        session = repository.create_session(Session(session_id="example-errors", session_type=SessionType.AGENT))
        with expect(SessionConflictError, "a session cannot be created twice"):
            repository.create_session(session)
        with expect(SessionException, "a session that does not exist cannot be deleted"):
            repository.delete_session("no-such-session")

        # Two agents with one id continue one conversation, as when two web requests arrive at once.
        first = new_agent(SQLiteSessionManager("example-errors", session_repository=repository))
        second = new_agent(SQLiteSessionManager("example-errors", session_repository=repository))
        ask(first, "My name is Ada.")
        with expect(SessionConflictError, "the second agent cannot overwrite what the first one stored"):
            second("What is my name?")
        # To recover, build the agent again: that restores what the other one stored.
        second = new_agent(SQLiteSessionManager("example-errors", session_repository=repository))
        check_words("Ada" in ask(second, "What is my name?"), "the agent that was built again goes on from there")

    # Another program holds the lock for longer than busy_timeout, which is short here to keep the example quick. The
    # default is 5 seconds.
    locked_path = directory / "locked.db"
    with (
        SQLiteSessionManager("locked", locked_path, busy_timeout=0.02) as manager,
        closing(sqlite3.connect(locked_path, isolation_level=None)) as other_program,
    ):
        agent = new_agent(manager)
        other_program.execute("BEGIN IMMEDIATE")
        with expect(SessionException, "a message cannot be stored while the database is locked"):
            agent("My name is Ada.")
        other_program.execute("ROLLBACK")
        check(manager.list_messages("locked", "assistant") == [], "nothing was stored in part")

    # To recover, build the agent again here too: the old one still has the prompt that failed in its memory.
    with SQLiteSessionManager("locked", locked_path) as manager:
        ask(new_agent(manager), "My name is Ada.")
        check(len(manager.list_messages("locked", "assistant")) == 2, "it is stored now that the lock is gone")


def databases_by_purpose(directory: Path) -> None:
    """Databases are independent: each can have its own settings, place, backups and retention."""
    section("3. Several databases for several purposes")
    with (
        # "FULL" waits for the disk at every write, so that not even a power failure loses one.
        SQLiteSessionManager("ticket-7", directory / "customers" / "sessions.db", synchronous="FULL") as customers,
        SQLiteSessionManager("ticket-7", directory / "experiments" / "sessions.db") as experiments,
        SQLiteSessionManager("ticket-7", ":memory:") as scratch,
    ):
        ask(new_agent(customers), "My order number is A-17.")
        check(customers.read_agent("ticket-7", "assistant") is not None, "the customers' database has the agent")
        check(experiments.read_agent("ticket-7", "assistant") is None, "the experiments' database does not")
        check(scratch.read_agent("ticket-7", "assistant") is None, "nor does the one in memory")


def moving_sessions(directory: Path) -> None:
    """No agent should be using a session while it is moved."""
    section("4. Moving a session from one database to another")
    old_path, new_path = directory / "old.db", directory / "new.db"
    with SQLiteSessionManager("moving", old_path) as manager:
        ask(new_agent(manager, "assistant"), "My name is Ada.")
        ask(new_agent(manager, "critic"), "My taste is plain.")
        before = [manager.list_messages("moving", agent_id) for agent_id in ("assistant", "critic")]

    with SQLiteSessionRepository(old_path) as source, SQLiteSessionRepository(new_path) as target:
        # The times go along, and the states of graphs and swarms. Interrupted, it may be called again.
        copied = copy_session(source, target, "moving").copied
        check((copied.agents, copied.messages) == (2, 4), "two agents and four messages have arrived")
        source.delete_session("moving")
        check(source.read_session("moving") is None, "the session is gone from the old database")
    with SQLiteSessionManager("moving", new_path) as manager:
        after = [manager.list_messages("moving", agent_id) for agent_id in ("assistant", "critic")]
        check(after == before, "the new database has the same messages, with the same times")
        check_words("Ada" in ask(new_agent(manager), "What is my name?"), "the conversation goes on there")


def cleaning_up(directory: Path) -> None:
    """A retention policy: sessions unused for 30 days are deleted."""
    section("5. Cleaning up old sessions")
    db_path = directory / "cleanup.db"
    now = datetime.now(timezone.utc)
    with SQLiteSessionRepository(db_path) as repository:
        for days in (90, 31, 29):
            then = (now - timedelta(days=days)).isoformat()
            repository.create_session(Session(f"unused-for-{days}-days", SessionType.AGENT, then, then))
        # Old, but used again today.
        then = (now - timedelta(days=90)).isoformat()
        repository.create_session(Session("old-but-in-use", SessionType.AGENT, then, then))
        new_agent(SQLiteSessionManager("old-but-in-use", session_repository=repository))("Good morning.")

        with SessionCatalog(db_path) as catalog:
            plan = catalog.prune(older_than=timedelta(days=30), dry_run=True)
            check(catalog.count_sessions() == 4, "a dry run deletes nothing")
            deleted = catalog.prune(older_than=timedelta(days=30)).session_ids
            check(deleted == plan.session_ids, f"deleted: {', '.join(deleted)}")
            check(deleted == ["unused-for-90-days", "unused-for-31-days"], "those are the right ones")
        check(repository.read_session("unused-for-29-days") is not None, "the one used 29 days ago is kept")
        check(repository.read_session("old-but-in-use") is not None, "the one used again today is kept")


def talk(db_path: Path, agent_id: str, turns: int) -> None:
    """Let an agent of the session "example-crowd" talk: this runs in threads and in processes of their own."""
    with SQLiteSessionManager("example-crowd", db_path) as manager:
        agent = new_agent(manager, agent_id)
        for turn in range(turns):
            agent(f"This is turn {turn} of {agent_id}.")


def concurrent_access(db_path: Path) -> None:
    """Threads and processes share a file without any setup. Writers wait for each other; readers never wait."""
    section("6. Concurrent access from threads and processes")
    threads = [f"thread-{number}" for number in range(6)]
    processes = [f"process-{number}" for number in range(2)]
    turns = 5
    with (
        ThreadPoolExecutor(len(threads)) as thread_pool,
        ProcessPoolExecutor(len(processes), mp_context=multiprocessing.get_context("spawn")) as process_pool,
    ):
        futures = [process_pool.submit(talk, db_path, agent_id, turns) for agent_id in processes]
        futures += [thread_pool.submit(talk, db_path, agent_id, turns) for agent_id in threads]
        for future in futures:
            future.result()  # Raises what the thread or process raised.

    with SQLiteSessionRepository(db_path) as repository:
        for agent_id in threads + processes:
            messages = repository.list_messages("example-crowd", agent_id)
            prompts = [text_of(message) for message in messages if message.message["role"] == "user"]
            check(
                prompts == [f"This is turn {turn} of {agent_id}." for turn in range(turns)],
                f"{agent_id}: all prompts are stored, in order",
            )


def backup_and_restore(directory: Path) -> None:
    """A backup is a database like any other: it can be checked, opened and read."""
    section("7. Backup and restore")
    live_path, backup_path = directory / "live.db", directory / "backup.db"
    with SQLiteSessionManager("backup", live_path) as manager:
        ask(new_agent(manager), "My name is Ada.")
        maintenance.backup(backup_path, live_path)  # The manager may stay open: the database may be in use.

    findings = maintenance.check(backup_path)
    check(not [finding for finding in findings if finding.severity == "error"], "the backup is sound")

    with SQLiteSessionRepository(live_path) as repository:
        repository.delete_session("backup")  # The mishap.

    # It is refused without `overwrite` where it would undo something newer: here, the deletion.
    maintenance.restore_backup(backup_path, live_path, overwrite=True)
    with SQLiteSessionManager("backup", live_path) as manager:
        agent = new_agent(manager)
        check(len(agent.messages) == 2, "the restored database has the conversation")
        check_words("Ada" in ask(agent, "What is my name?"), "the agent knows what it knew")


def main() -> None:
    """Run the sections. Those that need a database to themselves use one in the temporary directory."""
    with workspace("example-life", "example-errors", "example-crowd") as (directory, db_path):
        life_of_a_session(db_path)
        errors(db_path, directory)
        databases_by_purpose(directory)
        moving_sessions(directory)
        cleaning_up(directory)
        concurrent_access(db_path)
        backup_and_restore(directory)


if __name__ == "__main__":  # The new processes import this file too.
    main()
