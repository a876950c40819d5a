"""The command line, with all its commands."""

from . import reading, viewing, changing, moving  # noqa: I001 (the order in which the help lists the commands)
from .program import app

__all__ = ["app", "changing", "moving", "reading", "viewing"]
