"""Writes that callers share, so that a document is not written more often than Firestore bears."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from cachetools import LRUCache

from ...ports import Clock

SECONDS_BETWEEN_WRITES = 1.0
"""The writes a second that one document takes for long: https://cloud.google.com/firestore/quotas#soft_limits"""

T = TypeVar("T")


class SharedWrite(Generic[T]):
    """Writes what came while the write before was under way, or within the second that it began.

    There is no timer without somebody who waits: an instance has no CPU between its requests.
    """

    def __init__(
        self, clock: Clock, write: Callable[[Sequence[T]], Awaitable[None]], *, seconds: float
    ) -> None:
        self._clock = clock
        self._write = write
        self._seconds = seconds
        self._items: list[T] = []
        self._next: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()
        self._begun = -math.inf

    async def add(self, item: T) -> None:
        """Returns when a write with the item is durable. Raises what that write raised."""
        if self._next is None:
            self._next = asyncio.create_task(self._run())
        self._items.append(item)
        await asyncio.shield(self._next)  # the others' write goes on when one caller is broken off

    async def _run(self) -> None:
        async with self._one_at_a_time:
            wait = self._begun + self._seconds - self._clock.monotonic()
            if wait > 0:
                await self._clock.sleep(wait)
            items, self._items, self._next = self._items, [], None
            self._begun = self._clock.monotonic()
            await self._write(items)


class SharedWrites(Generic[T]):
    """A shared write for each of many documents; those used last are remembered, `most` of them."""

    def __init__(self, clock: Clock, most: int, *, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._writes: LRUCache[str, SharedWrite[T]] = LRUCache(most)

    async def add(
        self, name: str, item: T, writer: Callable[[], Callable[[Sequence[T]], Awaitable[None]]]
    ) -> None:
        """Adds to the write of that name, for which `writer` makes the function that writes, if it is new."""
        write = self._writes.get(name)
        if write is None:
            write = self._writes[name] = SharedWrite(self._clock, writer(), seconds=self._seconds)
        await write.add(item)
