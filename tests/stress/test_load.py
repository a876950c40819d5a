"""Many writers: processes, threads, forks, tasks. Nothing fails, nothing is lost, and nobody waits for long."""

import asyncio
import multiprocessing
import os
import sqlite3
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from strands.types.session import Session, SessionAgent, SessionType

from helpers import make_agent, resident_kib, text_message, texts
from strands_sqlite_session_manager import (
    SessionCatalog,
    SessionConflictError,
    SQLiteSessionManager,
    SQLiteSessionRepository,
)
from strands_sqlite_session_manager._engine.holder import database_of

SECONDS = 20


def within(limit: float, measure: Callable[[], float]) -> bool:
    """Tell whether a wait stays under its limit, in one of three rounds.

    A shared machine stands still for a moment now and then. What is slow by itself is slow in each round.
    """
    return any(measure() < limit for _ in range(3))


def fill(repository: SQLiteSessionRepository, session_id: str, until: float) -> tuple[int, float]:
    """Append to a session of one's own until a time; return how often, and the longest wait."""
    repository.create_session(Session(session_id, SessionType.AGENT))
    repository.create_agent(session_id, SessionAgent("a", {}, {}))
    count, longest = 0, 0.0
    while (started := time.monotonic()) < until:
        repository.create_message(session_id, "a", text_message(count, f"{session_id} {count} " + "x" * 1000))
        longest = max(longest, time.monotonic() - started)
        count += 1
    return count, longest


def fill_in_threads(path: str, synchronous: Any, name: str, threads: int, until: float) -> dict[str, tuple[int, float]]:
    with SQLiteSessionRepository(path, synchronous=synchronous, busy_timeout=30) as repository:
        session_ids = [f"{name}-{thread}" for thread in range(threads)]
        with ThreadPoolExecutor(threads) as executor:
            results = executor.map(lambda session_id: fill(repository, session_id, until), session_ids)
            return dict(zip(session_ids, results, strict=True))


def restore_until(path: str, until: float) -> int:
    """Restore whatever sessions there are; each conversation must be whole and in order."""
    reads = 0
    with SQLiteSessionRepository(path) as repository:
        while time.monotonic() < until:
            for process in range(8):
                session_id = f"process-{process}-0"
                if repository.read_agent(session_id, "a") is None:
                    continue
                messages = repository.list_messages(session_id, "a")[-200:]
                numbers = [message.message_id for message in messages]
                assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True
                reads += 1
    return reads


@pytest.mark.parametrize("synchronous", ["NORMAL", "FULL"])
def test_many_processes(db_path: Path, processes: Any, report: Any, synchronous: str) -> None:
    with SQLiteSessionRepository(db_path):
        pass
    with ProcessPoolExecutor(10, mp_context=processes) as executor:
        until = time.monotonic() + SECONDS
        writers = [
            executor.submit(fill_in_threads, str(db_path), synchronous, f"process-{number}", 4, until)
            for number in range(8)
        ]
        readers = [executor.submit(restore_until, str(db_path), until) for _ in range(2)]
        written = {session_id: result for writer in writers for session_id, result in writer.result().items()}
        reads = sum(reader.result() for reader in readers)
    assert len(written) == 32
    with closing(sqlite3.connect(db_path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        stored = dict(connection.execute("SELECT session_id, count(*) FROM messages GROUP BY session_id"))
    assert stored == {session_id: count for session_id, (count, _) in written.items() if count}
    with SQLiteSessionRepository(db_path) as repository:
        for session_id, (count, _) in written.items():
            assert [text.split()[:2] for text in texts(repository.list_messages(session_id, "a"))] == [
                [session_id, str(number)] for number in range(count)
            ]
    assert reads > 0
    longest = max(wait for _, wait in written.values())
    report(appends=sum(stored.values()), reads=reads, longest_wait=f"{longest * 1000:.0f} ms")


@pytest.mark.parametrize("synchronous", ["NORMAL", "FULL"])
def test_fairness_among_threads(db_path: Path, report: Any, synchronous: Any) -> None:
    """No thread comes near the default `busy_timeout`, however many append at once; without a lock of ours, some do."""
    threads, appends = 64, 100

    def longest_wait() -> float:
        waits: list[float] = []
        with SQLiteSessionRepository(db_path, synchronous=synchronous, busy_timeout=30) as repository:
            repository.create_session(session := Session(uuid4().hex, SessionType.AGENT))
            start = threading.Barrier(threads)

            def work(number: int) -> None:
                repository.create_agent(session.session_id, SessionAgent(f"a{number}", {}, {}))
                start.wait()
                for message_id in range(appends):
                    message = text_message(message_id, "x" * 1000)
                    started = time.monotonic()
                    repository.create_message(session.session_id, f"a{number}", message)
                    waits.append(time.monotonic() - started)

            with ThreadPoolExecutor(threads) as executor:
                list(executor.map(work, range(threads)))
        assert len(waits) == threads * appends
        waits.sort()
        report(
            median=f"{waits[len(waits) // 2] * 1000:.1f} ms",
            longest=f"{waits[-1] * 1000:.0f} ms",
            appends_per_second=round(len(waits) * threads / sum(waits)),
        )
        return waits[-1]

    assert within(2.5, longest_wait)


def storm(path: str, name: str, threads: int, barrier: Any) -> list[str]:
    """Open the file from several threads at once, each through to a first committed message."""
    make_agent(None, "ok")("warm up")  # The SDK's metrics client is not safe to be made by two threads at once.

    def work(number: int) -> str:
        barrier.wait(60)
        agent = make_agent(SQLiteSessionManager(f"{name}-{number}", path), "ok")
        agent("hello")
        return agent.session_id

    with ThreadPoolExecutor(threads) as executor:
        return list(executor.map(work, range(threads)))


def test_opening_storm(tmp_path: Path, processes: Any, report: Any) -> None:
    count, threads, rounds = 16, 10, 10
    slowest = 0.0
    with processes.Manager() as shared, ProcessPoolExecutor(count, mp_context=processes) as executor:
        for number in range(rounds):
            path = tmp_path / f"{number}.db"
            barrier = shared.Barrier(count * threads)
            started = time.monotonic()
            storms = [executor.submit(storm, str(path), f"p{process}", threads, barrier) for process in range(count)]
            assert sum(len(done.result()) for done in storms) == count * threads
            slowest = max(slowest, time.monotonic() - started)
            with closing(sqlite3.connect(path)) as connection:
                assert connection.execute("SELECT count(*) FROM messages").fetchone() == (2 * count * threads,)
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    report(rounds=rounds, openers=count * threads, slowest_round=f"{slowest:.1f} s")


def test_one_session_many_writers(db_path: Path, report: Any) -> None:
    writers, message_count = 16, 200
    managers = [SQLiteSessionManager("s", db_path) for _ in range(writers)]
    managers[0].create_agent("s", SessionAgent("a", {}, {}))
    outcomes: Counter[str] = Counter()
    winners: dict[int, str] = {}

    together = threading.Barrier(writers)

    def work(number: int) -> None:
        for message_id in range(message_count):
            together.wait(60)
            try:
                managers[number].create_message("s", "a", text_message(message_id, f"writer {number}"))
            except SessionConflictError:
                outcomes["refused"] += 1
            else:
                outcomes["stored"] += 1
                assert winners.setdefault(message_id, f"writer {number}") == f"writer {number}"

    with ThreadPoolExecutor(writers) as executor:
        list(executor.map(work, range(writers)))
    assert outcomes == {"stored": message_count, "refused": (writers - 1) * message_count}
    assert texts(managers[0].list_messages("s", "a")) == [winners[number] for number in range(message_count)]
    assert len(set(winners.values())) > 1
    report(**outcomes)


def test_one_agent_in_many_places(db_path: Path, report: Any) -> None:
    """The same through `append_message`, as agents do it; who was overtaken goes on after building the agent anew."""
    writers, rounds = 16, 25
    outcomes: Counter[str] = Counter()
    winners: list[str] = []
    together = threading.Barrier(writers)

    def work(number: int) -> None:
        for turn in range(rounds):
            with SQLiteSessionManager("s", db_path) as manager:
                agent = make_agent(manager, agent_id="a")
                assert texts(agent.messages) == winners[:turn]
                together.wait(60)
                text = f"turn {turn} of writer {number}"
                try:
                    manager.append_message({"role": "user", "content": [{"text": text}]}, agent)
                except SessionConflictError:
                    outcomes["refused"] += 1
                else:
                    outcomes["stored"] += 1
                    winners.append(text)
                together.wait(60)

    with ThreadPoolExecutor(writers) as executor:
        list(executor.map(work, range(writers)))
    assert outcomes == {"stored": rounds, "refused": (writers - 1) * rounds}
    with SQLiteSessionManager("s", db_path) as manager:
        assert texts(manager.list_messages("s", "a")) == winners
    report(**outcomes)


def append_until(path: str, started: Any, stop: Any, results: Any) -> None:
    """Append now and then, and tell how long the longest append took."""
    with SQLiteSessionRepository(path) as repository:
        repository.create_session(Session("writer", SessionType.AGENT))
        repository.create_agent("writer", SessionAgent("a", {}, {}))
        count, longest = 0, 0.0
        while not stop.wait(0.001):
            before = time.monotonic()
            repository.create_message("writer", "a", text_message(count))
            longest = max(longest, time.monotonic() - before)
            count += 1
            started.set()
        results.put((count, longest))


def beside_a_writer(path: Path, processes: Any, report: Any, work: Callable[[], Any]) -> tuple[Any, float]:
    """Do some work while another process appends; return its result and how long the longest append took."""
    started, stop, results = processes.Event(), processes.Event(), processes.Queue()
    writer = processes.Process(target=append_until, args=(str(path), started, stop, results))
    writer.start()
    assert started.wait(60)
    before = time.monotonic()
    result = work()
    seconds = time.monotonic() - before
    stop.set()
    appends, longest = results.get(timeout=60)
    writer.join(60)
    with SessionCatalog(path) as catalog:
        assert catalog.describe("writer").message_count == appends
        assert catalog.delete_session("writer")
    report(seconds=f"{seconds:.1f}", appends=appends, longest=f"{longest * 1000:.0f} ms")
    return result, longest


def fill_sessions(raw: sqlite3.Connection, sessions: int) -> None:
    """Make sessions with an agent and 20 messages each."""
    raw.execute("BEGIN")
    for session in range(sessions):
        raw.execute("INSERT INTO sessions (session_id) VALUES (?)", (f"s{session}",))
        raw.execute("INSERT INTO agents (session_id, agent_id) VALUES (?, 'a')", (f"s{session}",))
        raw.executemany(
            "INSERT INTO messages (session_id, agent_id, message_id, message) VALUES (?, 'a', ?, ?)",
            (
                (f"s{session}", n, f'{{"role":"user","content":[{{"text":"hello {session * 20 + n}"}}]}}')
                for n in range(20)
            ),
        )
    raw.execute("COMMIT")


def test_pruning_beside_a_writer(db_path: Path, report: Any, processes: Any, raw: sqlite3.Connection) -> None:
    """100,000 messages go, in small batches: a writer of another process must not wait for more than some of them."""
    sessions = 5000

    def longest_append() -> float:
        fill_sessions(raw, sessions)
        pruned, longest = beside_a_writer(db_path, processes, report, lambda: catalog.prune(keep_last=1))
        assert (len(pruned.session_ids), pruned.messages) == (sessions, sessions * 20)
        return longest

    with SessionCatalog(db_path) as catalog:
        assert within(0.25, longest_append)


def test_indexing_beside_a_writer(db_path: Path, report: Any, processes: Any, raw: sqlite3.Connection) -> None:
    """100,000 messages are indexed for search, in small batches too."""

    def longest_append() -> float:
        _, longest = beside_a_writer(db_path, processes, report, catalog.reindex)
        assert [(hit.session_id, hit.message_id) for hit in catalog.search("hello 77777")] == [("s3888", 17)]
        return longest

    with SessionCatalog(db_path) as catalog:
        fill_sessions(raw, 5000)
        assert within(0.25, longest_append)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors and memory are read from /proc")
def test_threads_that_come_and_go(db_path: Path, report: Any, opened: list[sqlite3.Connection]) -> None:
    at_once, rounds = 10, 500
    figures = []
    with SQLiteSessionRepository(db_path) as repository:
        repository.create_session(Session("s", SessionType.AGENT))
        for number in range(at_once):
            repository.create_agent("s", SessionAgent(f"a{number}", {}, {}))
        tracemalloc.start()
        for turn in range(rounds):
            threads = [
                threading.Thread(target=repository.create_message, args=("s", f"a{number}", text_message(turn)))
                for number in range(at_once)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            if turn % 100 == 99:
                descriptors = len(list(Path("/proc/self/fd").iterdir()))
                figures.append((descriptors, tracemalloc.get_traced_memory()[0] // 1024, resident_kib()))
        tracemalloc.stop()
        assert len(repository.list_messages("s", "a0")) == rounds
    report(threads=at_once * rounds, connections=len(opened), descriptors_and_traced_and_resident_kib=figures)
    assert len(opened) < 2 * at_once
    assert len({descriptors for descriptors, _, _ in figures[1:]}) == 1
    assert figures[-1][1] < figures[1][1] + 200
    assert figures[-1][2] < figures[1][2] + 5_000


def append_in_child(path: str, name: str, count: int) -> int:
    with SQLiteSessionRepository(path) as repository:
        repository.create_agent("s", SessionAgent(name, {}, {}))
        for message_id in range(count):
            repository.create_message("s", name, text_message(message_id, name))
        return len(repository.list_messages("s", name))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forks_while_threads_write(db_path: Path, report: Any) -> None:
    children, threads, per_child = 20, 4, 50
    repository = SQLiteSessionRepository(db_path, busy_timeout=30)
    repository.create_session(Session("s", SessionType.AGENT))
    stop = threading.Event()

    def write(number: int) -> int:
        name = f"thread-{number}"
        repository.create_agent("s", SessionAgent(name, {}, {}))
        count = 0
        while not stop.is_set():
            repository.create_message("s", name, text_message(count, name))
            count += 1
        return count

    def child(number: int) -> None:
        name = f"child-{number}"
        repository.create_agent("s", SessionAgent(name, {}, {}))
        for message_id in range(per_child):
            repository.create_message("s", name, text_message(message_id, name))
        os._exit(0 if len(repository.list_messages("s", name)) == per_child else 1)

    with ThreadPoolExecutor(threads) as executor:
        written = [executor.submit(write, number) for number in range(threads)]
        context = multiprocessing.get_context("fork")
        running = [context.Process(target=child, args=(number,), daemon=True) for number in range(children)]
        for process in running:
            process.start()
        for process in running:
            process.join(60)
        stop.set()
        counts = [future.result() for future in written]
    assert [process.exitcode for process in running] == [0] * children
    for number, count in enumerate(counts):
        assert texts(repository.list_messages("s", f"thread-{number}")) == [f"thread-{number}"] * count
    for number in range(children):
        assert len(repository.list_messages("s", f"child-{number}")) == per_child
    repository.close()
    with closing(sqlite3.connect(db_path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    report(children=children, appends_in_children=children * per_child, appends_in_parent=sum(counts))


@pytest.mark.parametrize("method", [m for m in ("fork", "spawn") if m in multiprocessing.get_all_start_methods()])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_process_pools(db_path: Path, report: Any, method: str) -> None:
    with SQLiteSessionRepository(db_path) as repository:
        repository.create_session(Session("s", SessionType.AGENT))
        names = [f"task-{number}" for number in range(8)]
        with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context(method)) as executor:
            counts = list(executor.map(append_in_child, [str(db_path)] * 8, names, [100] * 8))
        assert counts == [100] * 8
        append_in_child(str(db_path), "parent", 100)
        assert all(texts(repository.list_messages("s", name)) == [name] * 100 for name in [*names, "parent"])
    report(tasks=len(names))


def test_asyncio(db_path: Path, report: Any) -> None:
    agents = 200

    async def longest_stall() -> float:
        with SQLiteSessionManager(uuid4().hex, db_path) as manager:
            storage = Stopwatch(manager)
            team = [make_agent(manager, "one", "two", agent_id=f"a{number}") for number in range(agents)]

            async def talk(agent: Any) -> None:
                for prompt in ("first", "second"):
                    async for _ in agent.stream_async(prompt):
                        pass

            started = time.monotonic()
            await asyncio.gather(*map(talk, team))
            for number in range(agents):
                messages = manager.list_messages(manager.session_id, f"a{number}")
                assert texts(messages) == ["first", "one", "second", "two"]
            assert storage.calls >= 8 * agents
        report(
            agents=agents,
            longest_stall=f"{storage.longest * 1000:.1f} ms",
            seconds=f"{time.monotonic() - started:.1f}",
        )
        return storage.longest

    assert within(1, lambda: asyncio.run(longest_stall()))


class Stopwatch:
    """Times the calls that a manager makes to its database."""

    def __init__(self, manager: SQLiteSessionManager) -> None:
        self.longest, self.calls = 0.0, 0
        database = database_of(manager)
        for name in ("query", "execute", "transaction"):
            setattr(database, name, self._timed(getattr(database, name)))

    def _timed(self, call: Any) -> Any:
        def timed(*arguments: Any, **options: Any) -> Any:
            started = time.perf_counter()
            self.calls += 1
            try:
                return call(*arguments, **options)
            finally:
                self.longest = max(self.longest, time.perf_counter() - started)

        return timed


def test_a_message_of_100_mb(db_path: Path, report: Any) -> None:
    with SQLiteSessionRepository(db_path) as repository:
        repository.create_session(Session("s", SessionType.AGENT))
        repository.create_agent("s", SessionAgent("a", {}, {}))
        for message_id, content in enumerate(
            ({"text": "é" * 50_000_000}, {"image": {"format": "png", "source": {"bytes": os.urandom(100_000_000)}}})
        ):
            message = text_message(message_id)
            message.message["content"] = [content]
            started = time.monotonic()
            repository.create_message("s", "a", message)
            written = time.monotonic()
            assert repository.read_message("s", "a", message_id) == message
            report(
                kind=next(iter(content)),
                write=f"{(written - started) * 1000:.0f} ms",
                read=f"{(time.monotonic() - written) * 1000:.0f} ms",
            )
        repository.create_message("s", "a", text_message(2, "and on"))
        assert texts(repository.list_messages("s", "a", offset=2)) == ["and on"]
