"""The list of sessions, and searches of their messages."""

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from .._catalog.records import SessionContents, SessionEntry, Usage
from .._engine.database import BrokenText
from ..catalog import SessionCatalog
from .page import catalog_of, links_of, number_of, render

PAGE = 50
HITS = 50
MOST_HITS = 500
# Messages that a search reads one by one without asking: about a second.
MOST_READ = 50_000
# Tokens of longer sessions are added up on the page of usage only: their messages must be read for that.
SHORT = 500
# Characters of a tag that a link can filter by.
LONGEST_TAG = 1_000
_LAST = datetime.max.replace(tzinfo=timezone.utc)


def sessions_page(request: Request) -> Response:
    """Show the sessions, the last active first."""
    catalog, query = catalog_of(request), request.query_params
    limit = min(number_of(request, "limit") or PAGE, 500)
    filters: Any = {
        "prefix": query.get("prefix", "").strip() or None,
        "metadata": tag_of(query.get("tag", "")),
        "updated_after": day_of(query.get("since", "")),
        "updated_before": day_of(query.get("until", ""), end=True),
    }
    page = catalog.list_sessions(limit=limit, after=query.get("after") or None, **filters)
    contents = catalog.contents(entry.session_id for entry in page.sessions if has_page(entry))
    rows = [_row(catalog, entry, contents.get(entry.session_id)) for entry in page.sessions]
    given = {name: query.get(name, "").strip() for name in ("prefix", "tag", "since", "until")}
    links = links_of(request)
    return render(
        request,
        "sessions.html",
        rows=rows,
        given=given,
        is_filtered=any(given.values()),
        is_first="after" not in query,
        following=page.next and links.to("", **{**given, "limit": query.get("limit"), "after": page.next}),
        command=links.command(
            "ls",
            prefix=given["prefix"],
            metadata=given["tag"],
            since=filters["updated_after"],
            until=filters["updated_before"],
            limit=limit,
            after=query.get("after"),
        ),
    )


def has_page(entry: SessionEntry) -> bool:
    """Tell whether a link can lead to a session: in none can be bytes that are no UTF-8."""
    return not isinstance(entry.session_id, BrokenText)


def _row(catalog: SessionCatalog, entry: SessionEntry, contents: SessionContents | None) -> dict[str, Any]:
    """Return what the list tells of a session."""
    contents = contents or SessionContents({}, {})
    messages = sum(0 if last is None else last + 1 for last in contents.agents.values())
    usage: Usage | None = catalog.usage(entry.session_id) if 0 < messages <= SHORT else None
    kinds = sorted({kind or "multi-agent" for kind in contents.multi_agents.values()})
    kinds += ["snapshots"] if entry.session_type == "SNAPSHOT" else []
    return {
        "entry": entry,
        "has_page": has_page(entry),
        "agents": list(contents.agents),
        "messages": usage.message_count if usage else messages,
        "is_about": messages > SHORT,
        "tokens": usage.total_tokens if usage else None,
        "kind": ", ".join(kinds) or ("agents" if len(contents.agents) > 1 else "agent"),
        "tags": tags_of(entry.metadata),
    }


def search_page(request: Request) -> Response:
    """Show messages that have some words."""
    catalog, query = catalog_of(request), request.query_params
    limit = min(number_of(request, "limit") or HITS, MOST_HITS)
    words, session_id = query.get("q", "").strip(), query.get("session") or None
    options: Any = {
        "session_id": session_id,
        "agent_id": query.get("agent") or None,
        "role": query.get("role") or None,
        "since": day_of(query.get("since", "")),
        "until": day_of(query.get("until", ""), end=True),
    }
    # What is not in the index is read each time, because nothing is written. In one session, that is quick.
    backlog = 0 if session_id or not words or "anyway" in query else catalog.search_backlog()
    hits = [] if backlog > MOST_READ else catalog.search(words, limit=limit, **options)
    if session_id and not hits:
        catalog.list_agents(session_id)  # which raises if it does not exist
    links = links_of(request)
    asked = {name: query.get(name) for name in ("q", "session", "agent", "role", "since", "until", "anyway")}
    return render(
        request,
        "search.html",
        words=words,
        hits=hits,
        backlog=backlog if backlog > MOST_READ else 0,
        limit=limit,
        more=len(hits) == limit < MOST_HITS and links.to("search", **asked, limit=MOST_HITS),
        session_id=session_id or "",
        agent_id=options["agent_id"] or "",
        given={name: query.get(name, "") for name in ("role", "since", "until")},
        command=links.command(
            "search",
            *words.split(),
            session=session_id,
            role=query.get("role"),
            agent=options["agent_id"],
            since=options["since"],
            until=options["until"],
            limit=limit,
        ),
    )


def tags_of(metadata: Mapping[str, Any]) -> list[tuple[str, Any, str | None]]:
    """Return names and values of metadata, each with its `tag_text`; None where a link with that finds nothing."""
    tags = [(name, value, tag_text(name, value)) for name, value in metadata.items() if name != "title"]
    return [(name, value, tag if _is_link(tag, name, value) else None) for name, value, tag in tags]


def _is_link(tag: str, name: str, value: Any) -> bool:
    """Tell whether a link with a `tag_text` is not too long, and stands for the same name and value."""
    try:
        return len(tag) <= LONGEST_TAG and tag_of(tag) == {name: value}
    except ValueError:
        return False


def tag_text(name: str, value: Any) -> str:
    """Return a name and a value of metadata as the command line takes them."""
    return f"{name}={value}" if isinstance(value, str) else f"{name}:={json.dumps(value, ensure_ascii=False)}"


def tag_of(given: str) -> dict[str, Any] | None:
    """Return what a text of `tag_text` stands for; None if it is empty.

    Raises:
        ValueError: If it is no such text.
    """
    given = given.strip()
    if not given:
        return None
    name, equals, value = given.partition("=")
    if not equals or not name.rstrip(":"):
        raise ValueError(f"tag={given!r:.100}: must be NAME=VALUE")
    if not name.endswith(":"):
        return {name: value}
    try:
        return {name[:-1]: json.loads(value)}
    except (ValueError, RecursionError) as error:
        raise ValueError(f"tag={given!r:.100}: no JSON after the :=: {error}") from error


def day_of(given: str, *, end: bool = False) -> datetime | None:
    """Return the beginning of a day (of UTC), or its end; None if none is given.

    Raises:
        ValueError: If it is no day.
    """
    if not given.strip():
        return None
    try:
        day = datetime.strptime(given.strip(), "%Y-%m-%d").replace(tzinfo=timezone.utc)
        # The last day that there is has none after it.
        return min(day, _LAST - timedelta(days=1)) + timedelta(days=1) if end else day
    except ValueError as error:
        raise ValueError(f"{given!r:.100} is no day such as 2026-01-31") from error


ROUTES: dict[str, Callable[[Request], Response]] = {"/": sessions_page, "/search": search_page}
