"""Work that must not keep an event loop waiting."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future
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
    # Not `asyncio.to_thread`, which is a task: a loop that ends cancels those that still wait for a thread.
    work = asyncio.get_running_loop().run_in_executor(None, contextvars.copy_context().run, operation)
    cancelled = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled from work.exception()
    return work.result()


async def in_own_thread(operation: Callable[[], _Result]) -> _Result:
    """Run an operation of somebody else's, which may never end, in a thread that nobody waits for.

    `asyncio.to_thread` has few threads, and the interpreter waits for them when it ends.

    Args:
        operation: What to run.

    Returns:
        What it returns.
    """
    future: Future[_Result] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(operation())
        except StopIteration as error:
            # A future refuses it.
            future.set_exception(RuntimeError(f"StopIteration: {error}"))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True).start()
    return await asyncio.wrap_future(future)
