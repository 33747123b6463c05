"""Log lines on one machine: gathered for a moment and written together.

A write of its own for each line gives Python's lock away twice a delivery, for which the store's writer
waits; gathered lines cost a third of that.
"""

import asyncio
import contextlib
import threading
from collections import deque
from typing import BinaryIO

GATHERED_FOR_SECONDS = 0.05
GATHERED_BYTES = 64 * 1024


class GatheredLines:
    """A logger as structlog calls one: `debug` and `info` gather, everything graver is written at once.

    Lines keep their order. Outside of an event loop nothing is gathered. Lines that cannot be written, as
    into a pipe that nobody reads any more, are lost: the work that they tell of goes on.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lines: deque[bytes] = deque()  # to which threads may append without a lock
        self._size = 0
        self._is_gathering = False
        self._writing = threading.Lock()

    def info(self, line: bytes) -> None:
        self._lines.append(line)
        self._size += len(line)  # roughly: it only says when to write
        if self._size >= GATHERED_BYTES:
            self.flush()
        elif not self._is_gathering:
            self._gather()

    def error(self, line: bytes) -> None:
        self._lines.append(line)
        self.flush()

    def flush(self) -> None:
        """Writes what is gathered."""
        with self._writing:
            self._is_gathering, self._size = False, 0
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            if lines:
                with contextlib.suppress(OSError):
                    self._file.write(b"\n".join([*lines, b""]))
                    self._file.flush()

    def _gather(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
            return
        self._is_gathering = True
        loop.call_later(GATHERED_FOR_SECONDS, self.flush)

    debug = info
    warning = warn = exception = critical = fatal = error
