"""Waiting for what happens in another thread or process, without a fixed sleep."""

import asyncio
import time
from collections.abc import Callable


async def eventually(happened: Callable[[], object], *, within: float = 60.0) -> None:
    """Returns as soon as `happened()` is true; fails after `within` seconds."""
    deadline = time.monotonic() + within
    while not happened():
        if time.monotonic() > deadline:
            raise AssertionError("it did not happen in time")
        await asyncio.sleep(0.002)
