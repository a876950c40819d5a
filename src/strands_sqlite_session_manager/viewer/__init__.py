"""Web pages to look at the sessions of a database with. Nothing can be changed from them.

They need the extra `viewer`. `strands-sqlite view` serves them on this machine; `create_app` returns them as an ASGI
application to mount under one's own.
"""

from .app import create_app

__all__ = ["create_app"]
