"""Loads what takes long when it is used first, such as the import of a library that few need.

It is loaded in a thread, once, so that no event loop stands still for it, and no start waits for it.
"""

import asyncio
import threading
from collections.abc import Callable


class FirstUse:
    """Calls `load` once, whoever asks first; it must be safe to call while the event loop runs."""

    def __init__(self, load: Callable[[], object]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._is_loaded = False

    def load(self) -> None:
        """Loads in this thread, or waits for the thread that is at it."""
        with self._lock:
            if not self._is_loaded:
                self._load()
                self._is_loaded = True

    async def ready(self) -> None:
        """Returns when it is loaded, while the event loop goes on."""
        if not self._is_loaded:
            await asyncio.to_thread(self.load)
