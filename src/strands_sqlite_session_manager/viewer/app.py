"""The application: its pages by their addresses, and who may see them."""

import os
from collections.abc import Callable, Collection
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from .._engine.holder import database_of
from .._wording import age, plural, size
from ..catalog import SessionCatalog
from . import conversation_pages, file_pages, session_pages, snapshot_pages, text
from .follow import Follower
from .page import message_page, page_of
from .security import HEADERS, Gate, SafeHeaders

HERE = Path(__file__).parent
# Seconds that a page waits for a lock.
BUSY_TIMEOUT = 5.0


def create_app(
    db_path: str | os.PathLike[str] | None = None, *, token: str | None = None, hosts: Collection[str] = ()
) -> Starlette:
    """Return an ASGI application that shows the sessions of a database, and changes nothing in it.

    Mount it under an application of your own, which decides who may see it:

    ```python
    app.mount("/sessions", create_app("sessions.db"))
    ```

    Args:
        db_path: Path of the database, or URL of a cluster. Defaults to the environment variable
            `STRANDS_SQLITE_DB_PATH`, else `sessions.db` in the working directory. It must exist.
        token: What a browser must have got in a link, `?token=…`, to see anything. It keeps it in a cookie. Defaults to
            letting in everyone whom the application around this one lets in.
        hosts: Names in the `Host` header that are accepted besides IP addresses and `localhost`, if there is a token.

    Returns:
        The application.

    Raises:
        SessionException: If the database cannot be opened, or belongs to another program or a newer version.
        ValueError: If the token is empty.
    """
    if token is not None and not token:
        raise ValueError("token='': an empty token would let everyone in; leave it out for that")
    catalog = SessionCatalog(db_path, read_only=True, busy_timeout=BUSY_TIMEOUT)
    path = database_of(catalog).path
    identity = _identity(path)
    middleware = [Middleware(SafeHeaders)]
    if token is not None:
        middleware.append(Middleware(Gate, token=token, hosts=hosts))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> Any:
        yield
        catalog.close()

    app = Starlette(
        routes=_routes(),
        middleware=middleware,
        exception_handlers={HTTPException: _failed, Exception: _broken},
        lifespan=lifespan,
    )
    app.state.catalog, app.state.follower = catalog, Follower(catalog, lambda: _identity(path) != identity)
    app.state.templates = _templates()
    return app


def _routes() -> list[BaseRoute]:
    return [
        *(
            Route(path, page_of(function))
            for pages in (session_pages, conversation_pages, snapshot_pages, file_pages)
            for path, function in pages.ROUTES.items()
        ),
        Route("/events", conversation_pages.events),
        Mount("/static", StaticFiles(directory=HERE / "static")),
    ]


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    functions: tuple[Callable[..., Any], ...] = (
        *(age, plural, size, text.clock, text.day, text.isolated),
        *(text.marked, text.pretty_json, text.short_json, text.sum_of_money),
    )
    templates.filters |= {function.__name__: function for function in functions}
    return templates


def _identity(path: str) -> tuple[int, int] | None:
    """Return what tells the file at a path from another; None of a cluster, and where there is no file."""
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 (for the type checker)
    titles = {404: "There is no such page", 503: "This cannot be done now"}
    title = titles.get(error.status_code, "This cannot be done here")
    response = message_page(request, title, error.detail, error.status_code)
    response.headers.update(error.headers or {})
    return response


def _broken(request: Request, error: Exception) -> Response:
    """Return the answer to a request that met a bug. It goes out past the middleware, so it has the headers itself."""
    return PlainTextResponse("This page is broken. The log of the server says why.", 500, headers=HEADERS)
