"""Collects what is measured, compares it with the goals, and prints and draws it."""

import json
import math
import sqlite3
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from rich.console import Console
from rich.table import Table

import other_frameworks
from contenders import FILES, FLOOR, OURS, SQLALCHEMY
from strands_sqlite_session_manager import SQLiteSessionRepository

# A run fails when a goal is missed by this factor: smaller misses may be the machine's. Machines differ by more in how
# long something takes than in how it compares with something else.
TOLERANCE = 2
TOLERANCE_OF_TIMES = 5
# Which goals failed is remembered under this name, and the exit code that says so is none of pytest's.
FAILED, EXIT_CODE_FAILED = "goals/failed", 10

COLOURS = {FLOOR: "#9a9a9a", OURS: "#0b6e4f", FILES: "#d98c00", SQLALCHEMY: "#b3475c"}


class Goal(NamedTuple):
    """What a work is to take: at most so much, or so many times what a contender takes."""

    at_most: float
    times: str | None = None
    # The factor by which it may be missed; None for the usual one. Where the README says why a goal is missed.
    tolerance: float | None = None

    def is_failed(self, reached: float) -> bool:
        """Return whether it is missed by so much that the run fails."""
        usual = TOLERANCE if self.times else TOLERANCE_OF_TIMES
        return reached > self.at_most * (self.tolerance or usual)


class Work(NamedTuple):
    """A thing to be measured."""

    title: str
    unit: str
    goals: list[Goal]
    # Measurements of each contender, one for each turn.
    measured: dict[str, list[float]]

    def reached(self, goal: Goal) -> float | None:
        """Return what is to be at most the goal's: the median over the turns, each compared with its own turn."""
        ours = self.measured[OURS]
        if goal.times:
            ours = [a / b for a, b in zip(ours, self.measured[goal.times], strict=False)]
        return statistics.median(ours) if ours else None

    def is_failed(self) -> bool:
        """Return whether a goal is missed by so much that the run fails."""
        return any((reached := self.reached(goal)) is not None and goal.is_failed(reached) for goal in self.goals)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--short", action="store_true", help="fewer rounds and smaller files, one turn")
    parser.addoption("--turns", type=int, help="how often to take turns; the default is 5, and 1 with --short")
    parser.addoption("--again", action="store_true", help="only what was too far from its goal the last time")
    parser.addoption("--picture", type=Path, metavar="FILE", help="draw the comparison into an SVG file")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[WORKS] = {}
    config.addinivalue_line("markers", "work(title, contenders, unit='s'): what is measured, and for whom")
    config.addinivalue_line("markers", "goal(at_most, times=None, tolerance=None): see `Goal`")


WORKS = pytest.StashKey[dict[str, Work]]()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test for each contender in turn, and that several times: the speed of a shared machine drifts."""
    marker = metafunc.definition.get_closest_marker("work")
    if marker is None:
        return
    title, contenders, unit = marker.args[0], marker.args[1], marker.kwargs.get("unit", "s")
    goals = [Goal(*goal.args, **goal.kwargs) for goal in metafunc.definition.iter_markers("goal")]
    metafunc.config.stash[WORKS][title] = Work(title, unit, goals[::-1], defaultdict(list))
    turns = metafunc.config.option.turns or (1 if metafunc.config.option.short else 5)
    cases = [(turn, contender) for turn in range(turns) for contender in contenders if _installed(contender)]
    metafunc.fixturenames.append("turn")  # Which no test needs to know, but `parametrize` wants to be asked for.
    metafunc.parametrize(("turn", "contender"), cases)


def _installed(contender: str) -> bool:
    return other_frameworks.is_installed(contender) and (
        contender != SQLALCHEMY or find_spec("strands_session_sql") is not None
    )


@pytest.fixture
def short(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.option.short)


@pytest.fixture
def record(request: pytest.FixtureRequest, contender: str) -> Callable[[float], None]:
    """Note down what was measured."""
    title = request.node.get_closest_marker("work").args[0]
    return request.config.stash[WORKS][title].measured[contender].append


@pytest.fixture
def measure(benchmark: Any, short: bool, record: Callable[[float], None]) -> Callable[..., Any]:
    """Time a function; its median is noted down."""

    def run(function: Callable[..., Any], *, rounds: int, arguments: Callable[[], tuple[Any, ...]] = tuple) -> Any:
        """Run it so many times, a tenth of them in short, with arguments that are made anew each time, untimed."""
        rounds = max(5, rounds // 10) if short else rounds
        result = benchmark.pedantic(function, setup=lambda: (arguments(), {}), rounds=rounds, warmup_rounds=3)
        record(benchmark.stats["median"])
        return result

    return run


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.option.again:
        failed = config.cache.get(FAILED, []) if config.cache else []
        items[:] = [item for item in items for work in item.iter_markers("work") if work.args[0] in failed]


def pytest_sessionfinish(session: pytest.Session) -> None:
    works = session.config.stash[WORKS].values()
    failed = [work.title for work in works if work.is_failed()]
    if session.config.cache:
        session.config.cache.set(FAILED, failed)
    if failed and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = EXIT_CODE_FAILED
    picture = session.config.option.picture
    if picture:
        _draw(list(works), picture)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    table = Table(title="medians, and of several turns their median")
    for column in ("work", "this package", "compared with", "takes", "ratio", "goal", ""):
        table.add_column(column, justify="right" if column in ("this package", "takes", "ratio", "goal") else "left")
    for work in config.stash[WORKS].values():
        if not work.measured[OURS]:
            continue
        compared = {goal.times for goal in work.goals}
        others = [name for name, values in work.measured.items() if values and name not in (*compared, OURS)]
        cells = (work.title, _text(statistics.median(work.measured[OURS]), work.unit))
        for goal in [*work.goals, *(Goal(math.inf, times=name) for name in others)]:
            table.add_row(*cells, *_comparison(work, goal))
            cells = ("", "")
        table.add_section()
    Console(file=terminalreporter._tw._file, width=140).print(table)
    for work in config.stash[WORKS].values():
        if work.is_failed():
            terminalreporter.line(f"failed, because it is too far from its goal: {work.title}", red=True)


def _comparison(work: Work, goal: Goal) -> tuple[str, str, str, str, str]:
    reached = work.reached(goal)
    if reached is None:
        return (goal.times or "", "", "", "", "not measured")
    theirs = _text(statistics.median(work.measured[goal.times]), work.unit) if goal.times else ""
    name = goal.times or ""
    unit = "×" if goal.times else work.unit
    if goal.at_most == math.inf:
        return name, theirs, _text(reached, unit), "", ""
    verdict = "reached" if reached <= goal.at_most else f"{reached / goal.at_most:.2f} × the goal"
    return name, theirs, _text(reached, unit), f"≤ {_text(goal.at_most, unit)}", verdict


def _text(value: float, unit: str) -> str:
    if unit != "s":
        return f"{value:.2f} {unit}"
    for factor, name in ((1, "s"), (1e3, "ms")):
        if abs(value) * factor >= 1:
            return f"{value * factor:.2f} {name}"
    return f"{value * 1e6:.1f} µs"


def _draw(works: list[Work], picture: Path) -> None:
    """Draw the works that the SDK's own session manager does too: dots, because bars mean nothing on this scale."""
    from matplotlib import pyplot

    works = [work for work in works if work.measured.get(FILES)][::-1]
    figure, axes = pyplot.subplots(figsize=(9, 0.75 * len(works) + 1), layout="constrained")
    for row, work in enumerate(works):
        for place, (name, colour) in enumerate(COLOURS.items()):
            if work.measured.get(name):
                value = statistics.median(work.measured[name])
                y = row + 0.3 - 0.2 * place
                axes.plot(value * 1e6, y, "o", color=colour, label=name if row == len(works) - 1 else None)
                axes.annotate(
                    _text(value, work.unit), (value * 1e6, y), (7, 0), textcoords="offset points", va="center", size=8
                )
        axes.axhline(row - 0.5, color="#dddddd", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel("microseconds, each step ten times as long")
    axes.set_yticks(range(len(works)), [work.title for work in works])
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_ylim(-0.5, len(works) - 0.5)
    axes.margins(x=0.12)
    figure.legend(loc="outside upper center", ncols=len(COLOURS), frameon=False)
    figure.savefig(picture, metadata={"Date": None})


@pytest.fixture(scope="session")
def many_sessions(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """100,000 sessions with an agent `a`; the first half have 20 messages each, 100 of them active at any time."""
    sessions = 10_000 if request.config.option.short else 100_000
    keys = (
        (f"session-{first + session}", message_id)
        for first in range(0, sessions // 2, 100)
        for message_id in range(20)
        for session in range(100)
    )
    with filled(tmp_path_factory.mktemp("many"), sessions, keys) as repository:
        yield repository


@pytest.fixture(scope="session")
def long_conversation(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A million messages of one agent."""
    messages = 100_000 if request.config.option.short else 1_000_000
    with filled(tmp_path_factory.mktemp("long"), 1, (("session-0", n) for n in range(messages))) as repository:
        yield repository


@contextmanager
def filled(directory: Path, sessions: int, keys: Iterable[tuple[str, int]]) -> Iterator[SQLiteSessionRepository]:
    """Return a repository with sessions, their agents `a` and messages, which plain SQL inserts: it is quicker."""
    with SQLiteSessionRepository(directory / "sessions.db") as repository:
        with closing(sqlite3.connect(directory / "sessions.db")) as connection, connection:
            names = [(f"session-{session}",) for session in range(sessions)]
            connection.executemany("INSERT INTO sessions (session_id) VALUES (?)", names)
            connection.executemany("INSERT INTO agents (session_id, agent_id) VALUES (?, 'a')", names)
            content = [{"text": "A sentence of about forty characters. " * 5}]
            usage = {"usage": {"inputTokens": 812, "outputTokens": 64, "totalTokens": 876}}
            texts = (
                json.dumps({"role": "user", "content": content}),
                json.dumps({"role": "assistant", "content": content, "metadata": usage}),
            )
            connection.executemany(
                "INSERT INTO messages (session_id, agent_id, message_id, message) VALUES (?, 'a', ?, ?)",
                ((session_id, message_id, texts[message_id % 2]) for session_id, message_id in keys),
            )
        yield repository
