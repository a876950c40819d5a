"""The command line, with all its commands."""

# In the order in which the help lists the commands.
from . import reading, viewing, time_travel, changing, moving, memories  # noqa: I001
from .program import app

__all__ = ["app", "changing", "memories", "moving", "reading", "time_travel", "viewing"]
