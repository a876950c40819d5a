"""The command line, with all its commands."""

from . import reading, time_travel, changing, moving, memories  # noqa: I001 (the order in which the help lists the commands)
from .program import app

__all__ = ["app", "changing", "memories", "moving", "reading", "time_travel"]
