"""Addresses of the pages, and the commands that do the same.

An id may have any characters in it, slashes and dots too, which a path would not survive. So ids are in the query.
"""

import shlex
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from starlette.requests import Request


class Links:
    """Makes addresses of the pages of one application, wherever it is mounted."""

    def __init__(self, request: Request, db_path: str):
        """Take the place of a request.

        Args:
            request: The request.
            db_path: The database, for commands.
        """
        self._root = quote(request.scope.get("root_path", "").rstrip("/"))
        self._db_path = db_path

    def to(self, path: str, **query: Any) -> str:
        """Return the address of a page.

        Args:
            path: Its path, without the leading slash.
            **query: Its parameters; those that are None or "" are left out.
        """
        given = {name: value for name, value in query.items() if value not in (None, "")}
        # Half a surrogate pair, which JSON can hold, becomes a question mark.
        text = urlencode(given, errors="replace")
        return f"{self._root}/{path}{'?' if text else ''}{text}"

    def command(self, *words: Any, **options: Any) -> str:
        """Return the line for a shell that does the same as a page.

        Args:
            *words: Command and arguments.
            **options: Options; those that are None or "" are left out.
        """
        command, *arguments = map(str, words)
        line = []
        for name, value in {**options, "db": self._db_path}.items():
            if value not in (None, ""):
                line += [f"--{name}", value.isoformat() if isinstance(value, datetime) else str(value)]
        # What begins with a dash would be taken for an option.
        if any(word.startswith("-") for word in arguments):
            line, arguments = [], [*line, "--", *arguments]
        return " ".join(map(_quoted, ["strands-sqlite", command, *arguments, *line]))


def _quoted(word: str) -> str:
    """Return a word for a shell in which everything can be seen: bash and zsh take bytes between $' and '."""
    if word.isprintable():
        return shlex.quote(word)
    return "$'{}'".format(
        "".join(
            letter
            if letter.isprintable() and letter not in "\\'"
            else "".join(f"\\x{byte:02x}" for byte in letter.encode(errors="surrogatepass"))
            for letter in word
        )
    )
