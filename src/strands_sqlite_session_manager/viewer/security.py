"""Who may look at the pages, and what a browser may do with them."""

import hashlib
import hmac
import ipaddress
from collections.abc import Collection
from urllib.parse import parse_qsl, quote, unquote, urlencode

from markupsafe import Markup
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Nothing but our own files: no inline script or style, no other host, no frame.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Conversations are private: they are not to stay in the browser's cache.
    "Cache-Control": "no-store",
}


class SafeHeaders:
    """Adds `HEADERS` to each response that does not set them itself."""

    def __init__(self, app: ASGIApp):
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_safely if scope["type"] == "http" else send)


class Gate:
    """Lets in who has the token, once in a link and from then on in a cookie.

    The name in the `Host` header must be this machine's: a page of another site, whose name was made to lead here (DNS
    rebinding), would come with its own.
    """

    def __init__(self, app: ASGIApp, *, token: str, hosts: Collection[str] = ()):
        """Wrap an application.

        Args:
            app: The application.
            token: What the link has as `token`.
            hosts: Names in the `Host` header that are accepted besides IP addresses and `localhost`.
        """
        self._app = app
        self._token = token
        self._hosts = frozenset(host.lower() for host in hosts)
        # Cookies know no ports: two viewers on one machine must not take each other's.
        self._cookie = f"strands_viewer_{hashlib.sha256(token.encode()).hexdigest()[:12]}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http":
            answer = self._answer(Request(scope))
            if answer is not None:
                await answer(scope, receive, send)
                return
        elif scope["type"] != "lifespan":
            return
        await self._app(scope, receive, send)

    def _answer(self, request: Request) -> Response | None:
        """Return the answer to a request that is not passed on."""
        if not is_trusted_host(Headers(scope=request.scope).get("host", ""), self._hosts):
            return PlainTextResponse("The Host header names another machine.", 421)
        given = request.query_params.get("token")
        if given is not None and self._is_token(given):
            return self._welcome(request)
        if self._is_token(unquote(request.cookies.get(self._cookie, ""))):
            return None
        text = "Open the link that `strands-sqlite view` has printed: it has the token."
        fetch = [request.headers.get(f"sec-fetch-{name}") for name in ("site", "mode")]
        if request.method == "GET" and fetch == ["cross-site", "navigate"]:
            # Somebody may have clicked on a link in another site, to which the browser gives no cookie of ours.
            return _led_on(request, request.url.query, text, 403)
        return PlainTextResponse(text, 403)

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(errors="replace"), self._token.encode())

    def _welcome(self, request: Request) -> Response:
        """Return the way to the same page without the token, which is not to stay in the history."""
        given = parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
        query = urlencode([pair for pair in given if pair[0] != "token"])
        response = _led_on(request, query, "This browser is let in.", 200)
        response.set_cookie(self._cookie, quote(self._token), httponly=True, samesite="strict")
        return response


def _led_on(request: Request, query: str, text: str, status: int) -> Response:
    """Return a page that leads on to the path of a request.

    After a redirect, a browser that came from another site would still keep back the cookie. It gives it to who comes
    from a page of ours.
    """
    # What a proxy has taken off the path stands in the root path alone, or, with some servers, in both.
    root = request.scope.get("root_path", "").rstrip("/")
    # Only the path: what begins with two slashes would name another host.
    path = request.scope["path"]
    if path != root and not path.startswith(f"{root}/"):
        path = root + path
    path = quote("/" + path.lstrip("/"))
    page = Markup(
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="0;url={url}">'
        '<link rel="icon" href="{root}/static/icon.svg"><title>Sessions</title>'
        '<p>{text} <a href="{url}">Go on</a></p></html>'
    )
    return HTMLResponse(page.format(url=f"{path}?{query}" if query else path, text=text, root=quote(root)), status)


def is_trusted_host(header: str, hosts: Collection[str] = ()) -> bool:
    """Tell whether a `Host` header can only come from a link to this machine.

    An address needs no name server, which could lie.

    Args:
        header: The header, with or without a port.
        hosts: Names that are accepted besides.
    """
    name = header.rpartition(":")[0] if header.rpartition(":")[2].isdecimal() and ":" in header else header
    name = name.lower()
    if name == "localhost" or name in hosts:
        return True
    try:
        ipaddress.ip_address(name[1:-1] if name.startswith("[") and name.endswith("]") else name)
    except ValueError:
        return False
    return True
