"""Work that must not keep an event loop waiting."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

_Result = TypeVar("_Result")


async def to_its_end(operation: Callable[[], _Result]) -> _Result:
    """Run an operation that writes in a thread, to its end, even if the caller is cancelled.

    A thread cannot be stopped, and left alone it might write after the caller's next write.

    Args:
        operation: What to run.

    Returns:
        What it returns.
    """
    work = asyncio.ensure_future(asyncio.to_thread(operation))
    cancelled = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancelled = error
    result = work.result()
    if cancelled is not None:
        raise cancelled
    return result
