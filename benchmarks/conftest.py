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
from contenders import OURS, SQLALCHEMY
from rich.console import Console
from rich.table import Table

from strands_sqlite_session_manager import SQLiteSessionRepository

# A run fails when a goal is missed by this factor: smaller misses may be the machine's.
TOLERANCE = 2


class Goal(NamedTuple):
    """What a work is to take: at most so much, or so many times what a contender takes, or so much more than it."""

    at_most: float
    times: str | None = None
    more_than: str | None = None

    @property
    def reference(self) -> str | None:
        return self.times or self.more_than


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
        theirs = self.measured[goal.reference] if goal.reference else ours
        if not ours or len(ours) != len(theirs):
            return None
        if goal.times:
            return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
        if goal.more_than:
            return statistics.median(a - b for a, b in zip(ours, theirs, strict=True))
        return statistics.median(ours)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--short", action="store_true", help="fewer rounds and smaller files, one turn")
    parser.addoption("--turns", type=int, help="how often to take turns; the default is 5, and 1 with --short")
    parser.addoption("--picture", type=Path, metavar="FILE", help="draw the comparison into an SVG file")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[WORKS] = {}
    config.addinivalue_line("markers", "work(title, contenders, unit='s'): what is measured, and for whom")
    config.addinivalue_line("markers", "goal(at_most, times=None, more_than=None): see `Goal`")


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
    return contender != SQLALCHEMY or find_spec("strands_session_sql") is not None


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


def pytest_sessionfinish(session: pytest.Session) -> None:
    works = session.config.stash[WORKS].values()
    if any(_missed(work, goal) > TOLERANCE for work in works for goal in work.goals):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    picture = session.config.option.picture
    if picture:
        _draw(list(works), picture)


def _missed(work: Work, goal: Goal) -> float:
    reached = work.reached(goal)
    return 0 if reached is None else reached / goal.at_most


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    table = Table(title="medians; of several turns, the middle one")
    for column in ("work", "this package", "compared with", "takes", "ratio", "goal", ""):
        table.add_column(column, justify="left" if column in ("work", "compared with", "") else "right")
    for work in config.stash[WORKS].values():
        ours = work.measured[OURS]
        if not ours:
            continue
        compared = [goal.reference for goal in work.goals]
        rows: list[tuple[str | None, Goal | None]] = [(goal.reference, goal) for goal in work.goals]
        rows += [(name, None) for name in work.measured if name not in (*compared, OURS) and work.measured[name]]
        for number, (reference, goal) in enumerate(rows):
            first = (work.title, _text(statistics.median(ours), work.unit)) if number == 0 else ("", "")
            table.add_row(*first, *_comparison(work, reference, goal), end_section=number == len(rows) - 1)
    Console(file=terminalreporter._tw._file, width=140).print(table)


def _comparison(work: Work, reference: str | None, goal: Goal | None) -> tuple[str, str, str, str, str]:
    if goal is None:
        goal = Goal(math.inf, times=reference)
    reached = work.reached(goal)
    assert reached is not None
    theirs = _text(statistics.median(work.measured[reference]), work.unit) if reference else ""
    show = (lambda value: f"{value:.2f} ×") if goal.times else (lambda value: _text(value, work.unit))
    sign = "+ " if goal.more_than else ""
    limit = "" if goal.at_most == math.inf else f"≤ {sign}{show(goal.at_most)}"
    verdict = "" if not limit else "reached" if reached <= goal.at_most else f"missed by {reached / goal.at_most:.2f} ×"
    return reference or "", theirs, sign + show(reached), limit, verdict


def _text(value: float, unit: str) -> str:
    if unit != "s":
        return f"{value:.2f} {unit}"
    for factor, name in ((1, "s"), (1e3, "ms")):
        if abs(value) * factor >= 1:
            return f"{value * factor:.2f} {name}"
    return f"{value * 1e6:.1f} µs"


def _draw(works: list[Work], picture: Path) -> None:
    """Draw the works that rivals do too, as times the floor or, without one, as times ours."""
    from matplotlib import pyplot

    works = [work for work in works if len(work.measured) > 2][::-1]
    contenders = list(dict.fromkeys(name for work in works for name in work.measured))
    colours = dict(zip(contenders, ("#9a9a9a", "#0b6e4f", "#d98c00", "#b3475c"), strict=False))
    figure, axes = pyplot.subplots(figsize=(9, 0.9 * len(works) + 1), layout="constrained")
    for row, work in enumerate(works):
        names = [name for name in contenders if work.measured[name]]
        for place, name in enumerate(names):
            value = statistics.median(work.measured[name])
            height = 0.8 / len(names)
            y = row + 0.4 - (place + 0.5) * height
            axes.barh(y, value * 1e6, height * 0.9, color=colours[name], label=name if row == len(works) - 1 else None)
            axes.annotate(
                _text(value, work.unit),
                (value * 1e6, y),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                size=8,
            )
    axes.set_xscale("log")
    axes.set_xlabel("microseconds, each step ten times as long; shorter is better")
    axes.set_yticks(range(len(works)), [work.title for work in works])
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.15)
    axes.legend(loc="upper right", frameon=False, fontsize=8)
    figure.savefig(picture, metadata={"Date": None})


@pytest.fixture(scope="session")
def many_sessions(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A million messages of an agent `a` in 50,000 sessions, of which a hundred are active at any time."""
    sessions = 5_000 if request.config.option.short else 50_000
    keys = (
        (f"session-{first + session}", message_id)
        for first in range(0, sessions, 100)
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
            message = json.dumps({"role": "user", "content": [{"text": "A sentence of about forty characters. " * 5}]})
            connection.executemany(
                "INSERT INTO messages (session_id, agent_id, message_id, message) VALUES (?, 'a', ?, ?)",
                ((session_id, message_id, message) for session_id, message_id in keys),
            )
        yield repository
