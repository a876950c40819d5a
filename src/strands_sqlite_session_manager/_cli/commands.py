"""The command line, with all its commands."""

from . import changing, moving, reading
from .program import app

__all__ = ["app", "changing", "moving", "reading"]
