"""Pages about the database as a whole: tokens and money, and its health."""

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal, get_args

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from .. import maintenance
from .._catalog.records import Usage
from .._engine.holder import database_of
from .page import catalog_of, links_of, render
from .session_pages import day_of

# Rows at the most; those with the most tokens, where they are no days.
ROWS = 200
DAYS = 30
# Bytes of a file that is read as a whole without asking: about a second.
MOST_READ = 100_000_000
# Seconds that a page waits for another one that reads the whole database.
PATIENCE = 5.0
By = Literal["day", "session", "agent"]

_reading = threading.Lock()


@contextmanager
def _alone() -> Iterator[None]:
    """Let one page at a time read the whole database: several would leave nothing of the machine to the agents.

    Raises:
        HTTPException: If another one takes long.
    """
    if not _reading.acquire(timeout=PATIENCE):
        raise HTTPException(503, "Another page is reading the whole database. Try again when it is there.")
    try:
        yield
    finally:
        _reading.release()


def _is_large(request: Request) -> bool:
    """Tell whether to ask before the whole database is read. A cluster does not tell its size."""
    try:
        return Path(database_of(catalog_of(request)).path).stat().st_size > MOST_READ
    except OSError:
        return True


def usage_page(request: Request) -> Response:
    """Show what answers cost."""
    query = request.query_params
    by: Any = query.get("by", "day")
    if by not in get_args(By):
        raise ValueError(f"by={by!r:.100}: must be one of {', '.join(get_args(By))}")
    session_id = query.get("session") or None
    # The last days, unless a form was sent in which somebody may have emptied the field.
    start = (datetime.now(timezone.utc) - timedelta(days=DAYS)).date().isoformat()
    since = query.get("since", "" if session_id else start)
    until = query.get("until", "")
    prices = (_price_of(query.get("input", "")), _price_of(query.get("output", "")))
    options = {"since": day_of(since), "until": day_of(until, end=True)}
    # The form tells `by`, a mere click on "Usage" does not.
    is_asking = not session_id and "by" not in query and _is_large(request)
    totals: Mapping[Any, Usage] = {}
    if not is_asking:
        with nullcontext() if session_id else _alone():
            totals = catalog_of(request).usage(session_id, **options, by=by)
    if session_id and not totals:
        catalog_of(request).list_agents(session_id)  # which raises if it does not exist
    shown = _largest(totals) if by != "day" else dict(list(totals.items())[-ROWS:])
    return render(
        request,
        "usage.html",
        by=by,
        is_asking=is_asking,
        choices=get_args(By),
        session_id=session_id or "",
        since=since,
        until=until,
        prices=[query.get(name, "").strip() for name in ("input", "output")],
        rows=[(key, usage, _money(usage, prices)) for key, usage in shown.items()],
        total=(_sum(totals), _money(_sum(totals), prices)),
        highest=max((usage.total_tokens for usage in shown.values()), default=0),
        left_out=len(totals) - len(shown),
        command=links_of(request).command("usage", *filter(None, [session_id]), by=by, **options),
    )


def _largest(totals: Mapping[Any, Usage]) -> dict[Any, Usage]:
    return dict(sorted(totals.items(), key=lambda item: -item[1].total_tokens)[:ROWS])


def _sum(totals: Mapping[Any, Usage]) -> Usage:
    names = list(Usage.__dataclass_fields__)
    return Usage(*(sum(getattr(usage, name) for usage in totals.values()) for name in names))


def _price_of(given: str) -> float | None:
    """Return a price; None if none is given."""
    if not given.strip():
        return None
    try:
        price = float(given)
    except ValueError:
        price = math.nan
    if not 0 <= price < 1e9:
        raise ValueError(f"{given!r:.100} is no price such as 0.25")
    return price


def _money(usage: Usage, prices: tuple[float | None, float | None]) -> float | None:
    """Return what tokens cost at prices for a million of input and of output; None without prices."""
    if prices == (None, None):
        return None
    return (usage.input_tokens * (prices[0] or 0) + usage.output_tokens * (prices[1] or 0)) / 1_000_000


def health_page(request: Request) -> Response:
    """Show how large the database is, and what is wrong with it: what would take long only on demand."""
    db_path = database_of(catalog_of(request)).location
    links, query = links_of(request), request.query_params
    stats, findings = None, None
    with _alone():
        if "sizes" in query or not _is_large(request):
            stats = maintenance.stats(db_path)
        if "check" in query:
            findings = maintenance.check(db_path)
    return render(
        request,
        "health.html",
        stats=stats,
        findings=findings,
        commands=(links.command("stats"), links.command("check")),
    )


ROUTES: dict[str, Callable[[Request], Response]] = {"/usage": usage_page, "/health": health_page}
