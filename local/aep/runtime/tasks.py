"""Tasks that run until they are stopped. If one ends otherwise, that is a fault of ours and is reported."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from event_platform.ports import Clock


async def wait_at_most(event: asyncio.Event, clock: Clock, seconds: float) -> bool:
    """Waits for the event, at most so many seconds of the clock. True if these are over."""
    waits: list[asyncio.Task[object]] = [
        asyncio.create_task(event.wait()),
        asyncio.create_task(clock.sleep(seconds)),
    ]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        return waits[1].done()
    finally:
        for wait in waits:
            wait.cancel()


class TaskCancelled(Exception):
    """Raised when a task that should keep running was cancelled; its work would never finish."""


class WatchedTasks:
    """Starts tasks; calls `on_fault` for one that ends by an error, or is cancelled before `stopping`."""

    def __init__(self, on_fault: Callable[[BaseException], None]) -> None:
        self.stopping = False
        self._on_fault = on_fault
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        if self._loop is None:  # to ask for it is a call to the system
            self._loop = asyncio.get_running_loop()
        task = self._loop.create_task(work)
        task.add_done_callback(self._ended)
        return task

    async def stop(self, *tasks: "asyncio.Task[None] | None") -> None:
        """Cancels the tasks and waits for their end. From now on no cancellation is a fault."""
        self.stopping = True
        running = [task for task in tasks if task is not None]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def error_of(self, ended: "asyncio.Future[Any]") -> BaseException | None:
        """Returns the error that ended the task, or TaskCancelled; None if it ended as it should."""
        if not ended.cancelled():
            return ended.exception()
        return None if self.stopping else TaskCancelled("cancelled, though nobody stops it")

    async def cancel(self, task: "asyncio.Task[None]") -> None:
        """Cancels one task, which is no fault, and waits for its end."""
        task.remove_done_callback(self._ended)
        task.cancel()
        await asyncio.wait([task])

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if (error := self.error_of(task)) is not None:
            self._on_fault(error)
