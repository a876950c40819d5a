"""What the pages have in common: what they look at, how they are written, and what they say of what went wrong."""

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from strands.types.exceptions import SessionException

from .._engine.holder import database_of
from .._errors import MissingRecordError
from ..catalog import SessionCatalog
from . import text
from .links import Links


def page_of(function: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """Return a function for a page that says what is wrong with a request, or with the database."""

    def page(request: Request) -> Response:
        try:
            check_file(request)
            return function(request)
        except ValueError as error:
            return message_page(request, "This cannot be shown", str(error), 400)
        except MissingRecordError as error:
            return message_page(request, "This does not exist", str(error), 404)
        except SessionException as error:
            return message_page(request, "The database cannot be read", str(error), 503)

    return page


def check_file(request: Request) -> None:
    """Check that the file is the one that is open.

    Raises:
        SessionException: If it is not.
    """
    if request.app.state.follower.is_file_gone():
        path = database_of(catalog_of(request)).path
        raise SessionException(f"{path}: the file was removed or replaced; start the viewer again")


def catalog_of(request: Request) -> SessionCatalog:
    """Return the catalog of the application that a request is for."""
    catalog: SessionCatalog = request.app.state.catalog
    return catalog


def links_of(request: Request) -> Links:
    """Return what makes links in the page that a request is for."""
    return Links(request, database_of(catalog_of(request)).path)


def render(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """Return a page.

    Args:
        request: The request.
        template: Name of its template.
        status: Its status in HTTP.
        **values: What the template needs.
    """
    links = links_of(request)
    html = request.app.state.templates.get_template(template).render(
        to=links.to,
        command_for=links.command,
        db_path=database_of(catalog_of(request)).path,
        page=request.url.path.rsplit("/", 1)[-1],
        **values,
    )
    return HTMLResponse(text.safe_page(html), status)


def message_page(request: Request, title: str, message: str, status: int) -> Response:
    """Return a page that says what is wrong."""
    return render(request, "message.html", status, title=title, message=message)


def number_of(request: Request, name: str) -> int | None:
    """Return a number in the query; None if there is none.

    Raises:
        ValueError: If it is something else.
    """
    given = request.query_params.get(name, "").strip()
    if not given:
        return None
    if not (given.isascii() and given.isdecimal() and len(given) < 19):
        raise ValueError(f"{name}={given!r:.100}: must be a number")
    return int(given)
