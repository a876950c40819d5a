"""The command that shows the sessions in a browser."""

import errno
import ipaddress
import secrets
import signal
import socket
import threading
import webbrowser
from types import FrameType
from typing import Annotated, Any

import typer
from strands.types.exceptions import SessionException

from .program import Database, command, path_of_existing

# Numbers of the same ports all over again, so that bookmarks lead somewhere.
PORT = 8377


@command("view")
def view(
    db: Database = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at. The default is for this machine alone.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 is any that is free.")] = PORT,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Whether to open a browser.")] = True,
) -> None:
    """Show the sessions in a browser, until you press Ctrl-C. Nothing can be changed there.

    Example: strands-sqlite view --db sessions.db
    """
    try:
        import uvicorn  # noqa: F401 (to name it if it is missing)

        from ..viewer import create_app
    except ModuleNotFoundError as error:
        raise SessionException(
            f"the package {error.name} is missing; run: pip install 'strands-sqlite-session-manager[viewer]'"
        ) from error
    token = secrets.token_urlsafe(24)
    # What a browser may call this machine besides its addresses.
    app = create_app(path_of_existing(db), token=token, hosts=[host, socket.gethostname()])

    with _listening(host, port) as listener:
        link = f"http://{_name(listener)}/?token={token}"
        if not _is_loopback(listener.getsockname()[0]):
            typer.echo(
                f"Others can reach {host}: whoever gets the link can read everything, and nothing is encrypted.",
                err=True,
            )
        print(f"{link}\nCtrl-C ends it.", flush=True)
        if browser:
            # It waits in the backlog until the server runs. Some browsers keep their caller until they end.
            threading.Thread(target=_open, args=(link,), daemon=True).start()
        _serve(app, listener)


def _serve(app: Any, listener: socket.socket) -> None:
    """Serve the pages until Ctrl-C."""
    import uvicorn

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            # They would keep it alive for as long as a browser follows a conversation.
            app.state.follower.stop()
            super().handle_exit(sig, frame)

    if hasattr(signal, "SIGPIPE"):  # A browser may close a connection at any time.
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=2)).run(sockets=[listener])


def _open(link: str) -> None:
    """Open a browser. Without one, the link is there to be copied."""
    try:
        webbrowser.open(link)
    except Exception as error:
        typer.echo(f"No browser could be opened: {error}", err=True)


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            if hasattr(socket, "AF_UNIX"):  # Elsewhere, it would let two programs listen at one port.
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen()
        except OSError:
            listener.close()
            raise
        return listener
    except OSError as error:
        # No such name, or an address of another machine.
        is_foreign = isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL
        advice = "name an address of this machine" if is_foreign else "choose another with --port, or any with --port 0"
        raise SessionException(f"cannot listen at {host!r}, port {port}: {error.strerror}; {advice}") from error


def _name(listener: socket.socket) -> str:
    """Return the address and port that a browser on this machine takes."""
    address, port = listener.getsockname()[:2]
    anywhere: dict[Any, str] = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (compared, not bound)
    address = anywhere.get(address, address)
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback
