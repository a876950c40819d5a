"""The page of a session, what one can take from it, and how it follows an agent that is at work."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from strands.types.exceptions import SessionException

from .._catalog import message_search, writing
from .._catalog.records import AgentDescription, HistoryMessage, MultiAgentSummary
from .._engine.database import BrokenText
from .._engine.holder import database_of
from ..catalog import SessionCatalog
from . import text
from .blocks import SHOWN_IMAGES, blocks_of, find_bytes, json_block, node_blocks
from .conversation import LiveMessages, Shown, shown_messages
from .page import catalog_of, check_file, links_of, number_of, render
from .session_pages import tags_of

PAGE = 50
LONGEST_PAGE = 500
# Messages at the most that are copied at once.
LONGEST_COPY = 10_000


def session_page(request: Request) -> Response:
    """Show a conversation of a session: its end, or what is before, after or around a message."""
    catalog, session_id = catalog_of(request), request.query_params.get("id", "")
    if not session_id:
        raise HTTPException(404, "No session is named.")
    if "go" in request.query_params:
        return _to_message(request, session_id)
    # Before anything else is read: what comes in between is then told of.
    revision = catalog.revisions([(session_id, None)]).get((session_id, None), "")
    contents = catalog.contents([session_id]).get(session_id)
    # The id itself comes before all that begin with it.
    page = catalog.list_sessions(limit=1, prefix=session_id, order="session_id").sessions if contents else []
    if contents is None or not page:
        raise HTTPException(404, f"Session {session_id} does not exist.")
    # Somebody may have put an id there that cannot be one.
    agents = {name: last for name, last in contents.agents.items() if not isinstance(name, BrokenText)}
    agent_id = request.query_params.get("agent") or next(iter(agents), None)
    if agent_id is not None and agent_id not in agents:
        raise HTTPException(404, f"Agent {agent_id} in session {session_id} does not exist.")
    return render(
        request,
        "session.html",
        entry=page[0],
        tags=tags_of(page[0].metadata),
        agents=agents,
        unreadable=[name for name in contents.agents if name not in agents],
        session_id=session_id,
        agent_id=agent_id,
        snapshot_id=request.query_params.get("snapshot") or None,
        revision=revision,
        conversation=None if agent_id is None else _conversation(request, session_id, agent_id),
        # After the revisions, too.
        multi_agents=[_flow(summary) for summary in catalog.list_multi_agents(session_id)]
        if contents.multi_agents
        else [],
    )


def _flow(summary: MultiAgentSummary) -> dict[str, Any]:
    """Return what the page shows of a graph or swarm."""
    task = summary.current_task
    # A text, or blocks of content.
    content = [{"text": task}] if isinstance(task, str) else task
    return {
        "summary": summary,
        "task": [] if task is None else blocks_of(content, lambda place: None),
        "results": [[] if node.result is None else node_blocks(node.result) for node in summary.nodes],
        "interrupts": _interrupts(summary.internal_state.get("interrupt_state")),
    }


def _to_message(request: Request, session_id: str) -> Response:
    """Return where the form leads that asks for a message: a form itself leads to no place on a page."""
    query, at = request.query_params, number_of(request, "at") or 0
    page = links_of(request).to(
        "session", id=session_id, agent=query.get("agent"), snapshot=query.get("snapshot"), at=at
    )
    return RedirectResponse(f"{page}#m-{at}", 303)


def _conversation(request: Request, session_id: str, agent_id: str) -> dict[str, Any]:
    """Return what the page shows of an agent."""
    links, catalog = links_of(request), catalog_of(request)
    # Before anything else is read: what comes in between is then told of.
    revision = catalog.revisions([(session_id, agent_id)]).get((session_id, agent_id), "")
    snapshot_id = request.query_params.get("snapshot") or None
    agent = _described(catalog, session_id, agent_id, snapshot_id)
    limit = min(number_of(request, "limit") or PAGE, LONGEST_PAGE)
    at = number_of(request, "at")
    # A page that follows says where it begins: it may have more messages than it reads again.
    given = number_of(request, "first")
    messages = _piece(request, session_id, agent_id, limit, at if given is None else None, snapshot_id)
    first = given if given is not None else messages[0].message_id if messages else None
    last = messages[-1].message_id if messages else None
    is_end = agent.last_message_id is None or (last is not None and last >= agent.last_message_id)
    total = 0 if agent.last_message_id is None else agent.last_message_id + 1
    live = LiveMessages(agent)

    def href(message_id: int, place: str) -> str:
        query = {"session": session_id, "agent": agent_id, "snapshot": snapshot_id}
        return links.to("attachment", **query, message=message_id, place=place)

    shown = shown_messages(messages, live, href, is_end)
    _mark_found(request, messages, shown, at)
    return {
        "agent": agent,
        "revision": revision,
        "messages": shown,
        "first": first,
        "last": last,
        "at": at,
        "total": total,
        "can_copy_all": (first != 0 or not is_end) and 0 < total <= LONGEST_COPY,
        # For the command that shows the same. What an agent says later is to be in it where the page follows too.
        "window": {
            "limit": len(messages) if messages and messages[0].message_id else limit,
            "before": None if is_end or last is None else last + 1,
        },
        "has_older": bool(first),
        "is_end": is_end,
        "live_count": live.count(agent.last_message_id),
        **_side(agent),
    }


def _mark_found(request: Request, messages: list[HistoryMessage], shown: list[Shown], at: int | None) -> None:
    """Show what a search has found in the message to which its link leads: the page may have another part of it."""
    content = next((message.message.get("content") for message in messages if message.message_id == at), None)
    target = next((message for message in shown if message.message_id == at), None)
    words = request.query_params.get("q", "")
    if content is None or target is None or not words:
        return
    found = message_search.found_in(database_of(catalog_of(request)), content, words)
    if found is not None and (found[0].startswith("…") or found[0].endswith("…")):
        target.found = found


def _side(agent: AgentDescription) -> dict[str, Any]:
    """Return what stands beside the conversation."""
    manager = agent.conversation_manager_state
    return {
        "manager": str(manager.get("__name__", "")),
        "interrupts": _interrupts(agent.internal_state.get("interrupt_state")),
        "state": json_block(agent.state) if agent.state else None,
        "others": {
            "Conversation manager": json_block(manager),
            "What the SDK keeps": json_block(agent.internal_state),
        },
    }


def _described(catalog: SessionCatalog, session_id: str, agent_id: str, snapshot_id: str | None) -> AgentDescription:
    agent = catalog.describe_agent(session_id, agent_id, snapshot_id=snapshot_id)
    if agent is None and snapshot_id is not None:
        raise HTTPException(404, f"Agent {agent_id} in session {session_id} has no snapshot {snapshot_id}.")
    if agent is None:
        raise HTTPException(404, f"Agent {agent_id} in session {session_id} does not exist.")
    return agent


def agent_text(request: Request) -> Response:
    """Return all that is stored of an agent beside its log, as JSON: the page shows the beginning of long values."""
    query = request.query_params
    key = (query.get("session", ""), query.get("agent", ""))
    agent = _described(catalog_of(request), *key, query.get("snapshot") or None)
    return PlainTextResponse(text.pretty_json(dataclasses.asdict(agent)).encode(errors="backslashreplace"))


def multi_agent_text(request: Request) -> Response:
    """Return all that the page is about of a graph or swarm, as JSON."""
    session_id, multi_agent_id = request.query_params.get("session", ""), request.query_params.get("id", "")
    for summary in catalog_of(request).list_multi_agents(session_id):
        if summary.multi_agent_id == multi_agent_id:
            return PlainTextResponse(text.pretty_json(dataclasses.asdict(summary)).encode(errors="backslashreplace"))
    raise HTTPException(404, f"Graph or swarm {multi_agent_id} in session {session_id} does not exist.")


def _piece(
    request: Request, session_id: str, agent_id: str, limit: int, at: int | None, snapshot_id: str | None
) -> list[HistoryMessage]:
    """Return the messages of the page, the oldest first."""
    before, after = number_of(request, "before"), number_of(request, "after")
    read = partial(catalog_of(request).history, session_id, agent_id, snapshot_id=snapshot_id, with_damaged=True)
    if at is None:
        return read(limit=limit, before=before, after=after)[::-1]
    # Some before it, and the rest from there on.
    earlier = read(limit=limit // 2, before=at)
    later = read(limit=limit - len(earlier), after=at - 1)
    return [*earlier[::-1], *later[::-1]]


def _interrupts(state: Any) -> list[dict[str, Any]]:
    """Return the interrupts that the SDK keeps of an agent, a graph or a swarm."""
    found = state.get("interrupts") if isinstance(state, dict) else None
    items = [item for item in found.values() if isinstance(item, dict)] if isinstance(found, dict) else []
    return [
        {
            "name": item.get("name"),
            "reason": json_block(item.get("reason")),
            "response": None if item.get("response") is None else json_block(item["response"]),
        }
        for item in items
    ]


def _one(request: Request) -> HistoryMessage:
    """Return the message that the query names."""
    query, message_id = request.query_params, number_of(request, "message")
    if message_id is None:
        raise ValueError("message: must be a number")
    found = catalog_of(request).history(
        query.get("session", ""),
        query.get("agent", ""),
        limit=1,
        before=message_id + 1,
        after=message_id - 1,
        snapshot_id=query.get("snapshot") or None,
        with_damaged=True,
    )
    if not found or found[0].message_id != message_id:
        raise HTTPException(404, f"Message {message_id} does not exist.")
    return found[0]


def attachment(request: Request) -> Response:
    """Return an image to show, or another file to save: never anything that the browser would run."""
    message = _one(request)
    found = find_bytes(message.message.get("content"), request.query_params.get("place", ""))
    if found is None:
        raise HTTPException(404, "There is no such file in this message.")
    kind, block, content = found
    file_format = str(block.get("format", "")).lower()
    headers = {"Content-Security-Policy": "default-src 'none'; sandbox; frame-ancestors 'none'"}
    if kind == "image" and file_format in SHOWN_IMAGES:
        return Response(content, media_type=SHOWN_IMAGES[file_format], headers=headers)
    name = str(block.get("name") or f"{kind}-{message.message_id}")
    ending = "".join(letter for letter in file_format if letter.isascii() and letter.isalnum())
    encoded = quote(f"{name}.{ending}" if ending else name, safe="", errors="replace")
    headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{encoded}"
    return Response(content, media_type="application/octet-stream", headers=headers)


def copy(request: Request) -> Response:
    """Return messages as a text to copy: one, those from `first` to `last`, or all."""
    query = request.query_params
    form = query.get("as", "json")
    if form not in writing.FORMS:
        raise ValueError(f"as={form!r:.100}: must be one of {', '.join(writing.FORMS)}")
    if number_of(request, "message") is not None:
        messages = [_one(request)]
    else:
        first, last = number_of(request, "first"), number_of(request, "last")
        messages = catalog_of(request).history(
            query.get("session", ""),
            query.get("agent", ""),
            limit=LONGEST_COPY + 1,
            before=None if last is None else last + 1,
            after=None if first is None else first - 1,
            snapshot_id=query.get("snapshot") or None,
            with_damaged=True,
        )[::-1]
    if len(messages) > LONGEST_COPY:
        raise ValueError(f"More than {LONGEST_COPY:,} messages at once are left to `strands-sqlite show --as`")
    name = f"{query.get('session')}, agent {query.get('agent')}"
    content = writing.FORMS[form](messages, name).encode(errors="backslashreplace")
    return PlainTextResponse(content)


async def events(request: Request) -> Response:
    """Tell the page of a session when something on it has changed, for as long as it is open."""
    query = request.query_params
    key = (query.get("session", ""), query.get("agent") or None)
    try:
        await run_in_threadpool(check_file, request)
        is_there = await run_in_threadpool(catalog_of(request).revisions, [key])
    except ValueError as error:
        return PlainTextResponse(str(error), 400)
    except SessionException as error:
        return PlainTextResponse(str(error), 503)
    if not is_there:
        return PlainTextResponse("There is no such session or agent.", 404)
    return StreamingResponse(
        request.app.state.follower.events(key, request.is_disconnected), media_type="text/event-stream"
    )


ROUTES: dict[str, Callable[[Request], Response]] = {
    "/session": session_page,
    "/agent": agent_text,
    "/multi-agent": multi_agent_text,
    "/attachment": attachment,
    "/copy": copy,
}
