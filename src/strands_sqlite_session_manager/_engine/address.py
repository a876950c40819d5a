"""URLs of rqlite clusters: `rqlite[s]://[user:password@]host[:port][,host[:port]…][?level=…&ca=…]`."""

import base64
import re
import urllib.parse
from typing import NamedTuple

DEFAULT_PORT = 4001
LEVELS = ("weak", "strong", "linearizable")

Node = tuple[str, int]


class Address(NamedTuple):
    """What a URL says.

    Attributes:
        nodes: Host and port of each node.
        credentials: Value of the header that names user and password, if any.
        ca: File of the certificates to trust, in the place of the system's; None for those.
        level: Consistency of reads (https://rqlite.io/docs/api/read-consistency/); None for the best there is.
        is_encrypted: Whether to use TLS.
    """

    nodes: tuple[Node, ...]
    credentials: str | None
    ca: str | None
    level: str | None
    is_encrypted: bool

    @property
    def name(self) -> str:
        """The URL without user, password and options."""
        nodes = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.nodes)
        return f"rqlite{'s' * self.is_encrypted}://{nodes}"


def parse_url(url: str) -> Address:
    """Return what a URL says.

    Raises:
        ValueError: If it is no such URL. The text of the error leaves out what may be a password.
    """
    scheme, _, rest = url.partition("://")
    rest, _, query = rest.partition("?")
    credentials, at, hosts = rest.rpartition("@")
    name = f"{scheme}://{hosts}"
    try:
        nodes = tuple(map(_node, hosts.rstrip("/").split(",")))
        options = dict(urllib.parse.parse_qsl(query, strict_parsing=True) if query else ())
    except ValueError as error:
        raise ValueError(f"db_path={name!r}: {error}; it is {scheme}://user:password@host:port,host:port") from None
    level, ca = options.pop("level", None), options.pop("ca", None)
    if options:
        raise ValueError(f"db_path={name!r}: unknown option {min(options)!r}; there are level and ca")
    if level not in (None, *LEVELS):
        raise ValueError(f"db_path={name!r}: level={level!r}; it is weak, strong or linearizable")
    if ca is not None and scheme == "rqlite":
        raise ValueError(f"db_path={name!r}: ca is for rqlites://")
    user, _, password = (urllib.parse.unquote(part) for part in credentials.partition(":"))
    header = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode() if at else None
    return Address(nodes, header, ca, level, scheme == "rqlites")


def _node(text: str) -> Node:
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^\[\]:/\s]+))(?::(\d{1,5}))?", text)
    if not match or not 0 < int(match[3] or DEFAULT_PORT) < 2**16:
        raise ValueError(f"{text!r} is no host and port")
    return match[1] or match[2], int(match[3] or DEFAULT_PORT)
