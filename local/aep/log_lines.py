"""Log lines on one machine: gathered for a moment and written together.

A write of its own for each line gives Python's lock away twice a delivery, for which the store's writer
waits; gathered lines cost a third of that.
"""

import asyncio
import threading
from typing import BinaryIO

GATHERED_FOR_SECONDS = 0.05
GATHERED_BYTES = 64 * 1024


class GatheredLines:
    """A logger as structlog calls one: `debug` and `info` gather, everything graver is written at once.

    Lines keep their order. Outside of an event loop nothing is gathered.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lines: list[bytes] = []
        self._size = 0
        self._lock = threading.Lock()

    def info(self, line: bytes) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.error(line)
            return
        with self._lock:
            self._keep(line)
            is_first, is_full = len(self._lines) == 1, self._size >= GATHERED_BYTES
        if is_full:
            self.flush()
        elif is_first:
            loop.call_later(GATHERED_FOR_SECONDS, self.flush)

    def error(self, line: bytes) -> None:
        with self._lock:
            self._keep(line)
        self.flush()

    def flush(self) -> None:
        """Writes what is gathered."""
        with self._lock:
            lines, self._lines, self._size = self._lines, [], 0
            if lines:
                self._file.write(b"\n".join([*lines, b""]))
                self._file.flush()

    def _keep(self, line: bytes) -> None:
        self._lines.append(line)
        self._size += len(line)

    debug = info
    warning = warn = exception = critical = fatal = error
