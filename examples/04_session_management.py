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
from strands_sqlite_session_manager import SessionConflictError, SQLiteSessionManager, SQLiteSessionRepository


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
        # To recover, build the agent anew: that restores what the other one stored.
        second = new_agent(SQLiteSessionManager("example-errors", session_repository=repository))
        check_words("Ada" in ask(second, "What is my name?"), "the agent that was built anew goes on from there")

    # Another program holds the lock for longer than busy_timeout: here a short one, to have it over with. The default
    # is 5 seconds.
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
        check(manager.list_messages("locked", "assistant") == [], "nothing was stored by halves")

    # To recover, build the agent anew here too: the old one still has the prompt that failed in its memory.
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


def move_session(session_id: str, source_path: Path, target_path: Path) -> None:
    """Move a session with its agents and messages, times included, to another database.

    The source is deleted only when everything has arrived. A copy that fails halfway leaves an incomplete session in
    the target, to be deleted before the next try. The states of graphs and swarms are not moved: the repository takes
    those from a living graph or swarm only.
    """
    with closing(sqlite3.connect(source_path)) as connection:
        rows = connection.execute("SELECT agent_id FROM agents WHERE session_id = ?", (session_id,)).fetchall()
    with SQLiteSessionRepository(source_path) as source, SQLiteSessionRepository(target_path) as target:
        session = source.read_session(session_id)
        if session is None:
            raise SessionException(f"Session {session_id} does not exist")
        target.create_session(session)
        for (agent_id,) in rows:
            agent = source.read_agent(session_id, agent_id)
            if agent is None:
                raise SessionException(f"Agent {agent_id} was deleted while session {session_id} was being moved")
            target.create_agent(session_id, agent, messages=source.list_messages(session_id, agent_id))
        source.delete_session(session_id)


def moving_sessions(directory: Path) -> None:
    """Nobody should be talking in a session while it is moved."""
    section("4. Moving a session from one database to another")
    old_path, new_path = directory / "old.db", directory / "new.db"
    with SQLiteSessionManager("moving", old_path) as manager:
        ask(new_agent(manager, "assistant"), "My name is Ada.")
        ask(new_agent(manager, "critic"), "My taste is plain.")
        before = [manager.list_messages("moving", agent_id) for agent_id in ("assistant", "critic")]

    move_session("moving", old_path, new_path)

    with SQLiteSessionRepository(old_path) as repository:
        check(repository.read_session("moving") is None, "the session is gone from the old database")
    with SQLiteSessionManager("moving", new_path) as manager:
        after = [manager.list_messages("moving", agent_id) for agent_id in ("assistant", "critic")]
        check(after == before, "the new database has the same messages, with the same times")
        check_words("Ada" in ask(new_agent(manager), "What is my name?"), "the conversation goes on there")


def delete_unused_since(db_path: Path, cutoff: datetime) -> list[str]:
    """Delete the sessions whose last activity was before a time, and return their ids."""
    with closing(sqlite3.connect(db_path)) as connection:
        # The times are ISO 8601 in UTC, so the order of the texts is the order of the times.
        rows = connection.execute(
            "SELECT session_id FROM sessions WHERE updated_at < ? ORDER BY updated_at",
            (cutoff.astimezone(timezone.utc).isoformat(),),
        ).fetchall()
    with SQLiteSessionRepository(db_path) as repository:
        for (session_id,) in rows:
            repository.delete_session(session_id)
    return [session_id for (session_id,) in rows]


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

        deleted = delete_unused_since(db_path, now - timedelta(days=30))
        check(deleted == ["unused-for-90-days", "unused-for-31-days"], f"deleted: {', '.join(deleted)}")
        check(repository.read_session("unused-for-29-days") is not None, "the one used 29 days ago is kept")
        check(repository.read_session("old-but-in-use") is not None, "the one used again today is kept")


def talk(db_path: Path, agent_id: str, turns: int) -> None:
    """Let an agent of the session "example-crowd" talk: this runs in threads and in processes of their own."""
    with SQLiteSessionManager("example-crowd", db_path) as manager:
        agent = new_agent(manager, agent_id)
        for turn in range(turns):
            agent(f"This is turn {turn} of {agent_id}.")


def concurrent_access(db_path: Path) -> None:
    """Threads and processes share a file without further ado. Writers wait for each other; readers wait for nobody."""
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


def copy_database(source_path: Path, target_path: Path) -> None:
    """Copy a database, consistent even while others write to it.

    SQLite does the copying. Copying the file itself would miss what is still in the write-ahead log beside it, and
    opening it with anything but SQLite can drop its locks.
    """
    # Readable by this user only. SQLite itself would make a new file as readable as the umask allows.
    target_path.touch(mode=0o600)
    with closing(sqlite3.connect(source_path)) as source, closing(sqlite3.connect(target_path)) as target:
        source.backup(target)


def backup_and_restore(directory: Path) -> None:
    """A backup is a database like any other: it can be checked, opened and read."""
    section("7. Backup and restore")
    live_path, backup_path = directory / "live.db", directory / "backup.db"
    with SQLiteSessionManager("backup", live_path) as manager:
        ask(new_agent(manager), "My name is Ada.")
        copy_database(live_path, backup_path)  # The manager may stay open: this is a backup of a database in use.

    with closing(sqlite3.connect(backup_path)) as connection:
        (verdict,) = connection.execute("PRAGMA integrity_check").fetchone()
        check(verdict == "ok", "the backup is sound")

    with SQLiteSessionRepository(live_path) as repository:
        repository.delete_session("backup")  # The mishap.

    restored_path = directory / "restored.db"
    copy_database(backup_path, restored_path)
    with SQLiteSessionManager("backup", restored_path) as manager:
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
