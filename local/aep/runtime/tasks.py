"""Tasks that run until they are stopped: what else ends one is a fault of ours, and must not pass unseen."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class TaskCancelled(Exception):
    """Raised when something was cancelled that should run: what it had would wait for ever."""


class WatchedTasks:
    """Starts tasks; `on_fault` hears of one that ends by an error, or is cancelled before `stopping`."""

    def __init__(self, on_fault: Callable[[BaseException], None]) -> None:
        self.stopping = False
        self._on_fault = on_fault

    def start(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
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
        """What ended it that should not have."""
        if not ended.cancelled():
            return ended.exception()
        return None if self.stopping else TaskCancelled("cancelled, though nobody stops it")

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if (error := self.error_of(task)) is not None:
            self._on_fault(error)
