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

    def __repr__(self) -> str:
        """Return the name: a report of an error may show variables."""
        return self.name


def parse_url(url: str) -> Address:
    """Return what a URL says.

    Raises:
        ValueError: If it is no such URL. The error quotes nothing of it, because any part may be of a password.
    """
    scheme, _, rest = url.partition("://")
    rest, _, query = rest.partition("?")
    credentials, at, hosts = rest.rpartition("@")
    try:
        nodes = tuple(map(_node, hosts.rstrip("/").split(",")))
        options = dict(urllib.parse.parse_qsl(query, strict_parsing=True) if query else ())
        if len(options) != query.count("=") or not options.keys() <= {"level", "ca"}:
            raise ValueError("the options are level and ca, each once")
        if options.get("level", "weak") not in LEVELS:
            raise ValueError(f"the level is {', '.join(LEVELS[:-1])} or {LEVELS[-1]}")
        if "ca" in options and scheme == "rqlite":
            raise ValueError("ca is for rqlites://")
    except ValueError as error:
        reason = "an option is no name=value" if "bad query field" in str(error) else error
        raise ValueError(
            f"db_path: {reason}; the URL of a cluster is {scheme}://user:password@host:port,host:port?level=…, in "
            "which user and password are percent-encoded"
        ) from None
    user, _, password = (urllib.parse.unquote(part) for part in credentials.partition(":"))
    header = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode() if at else None
    return Address(nodes, header, options.get("ca"), options.get("level"), scheme == "rqlites")


def _node(text: str) -> Node:
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^\[\]:/\s]+))(?::(\d{1,5}))?", text)
    if not match or not 0 < int(match[3] or DEFAULT_PORT) < 2**16:
        raise ValueError("a node is no host and port")
    return match[1] or match[2], int(match[3] or DEFAULT_PORT)
