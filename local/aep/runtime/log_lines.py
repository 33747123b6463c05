"""Log lines on one machine: gathered for a moment, and written by a thread that nobody waits for.

A write for each line would give Python's lock away twice a delivery, and the store's writer waits for that
lock; gathered lines cost a third. If the reader of our output stops reading, a write waits for as long as
that lasts, and nothing else may stop then (docs/decisions/0043).
"""

import asyncio
import atexit
import io
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TextIO

import structlog

from .stopping import LAST_WRITE_SECONDS

log = structlog.get_logger()

GATHERED_FOR_SECONDS = 0.05
GATHERED_BYTES = 64 * 1024
WAITING_BYTES = 1024 * 1024
"""The most bytes that wait for a reader; lines that come after them are dropped and counted."""


class GatheredLines:
    """A logger as structlog calls one: `debug` and `info` gather, everything graver is passed on at once.

    Lines keep their order. Outside of an event loop nothing is gathered. `write` must not block.
    """

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._lines: deque[bytes] = deque()  # to which threads may append without a lock
        self._size = 0
        self._is_gathering = False
        self._writing = threading.RLock()  # a finaliser that logs may run inside of it

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
        """Passes on the lines that are gathered."""
        with self._writing:
            self._is_gathering, self._size = False, 0
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            if lines:
                self._write(b"\n".join([*lines, b""]))

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


class BackgroundFile(io.RawIOBase):
    """A file whose `write` never blocks: a thread of its own writes to the file descriptor.

    At most WAITING_BYTES wait for it, or one write that is longer. When there is no room for more, everything
    is dropped until all that waits is written, and then the log says how many lines were dropped. What cannot
    be written, as into a pipe that has no reader any more, counts as dropped too.
    """

    def __init__(self, descriptor: int, name: str, *, after: "BackgroundFile | None" = None) -> None:
        """Starts the thread. `name` is the file's in the log. Writes wait a moment for those to `after`."""
        self._descriptor = descriptor
        self._name = name
        self._after = after
        self._waiting: deque[bytes] = deque()
        self._size = 0  # of what waits, with what is being written
        self._dropped = 0
        self._is_idle = True
        self._changed = threading.Condition()  # whose lock a finaliser may take once more
        self._thread: threading.Thread | None = None

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, lines: Any) -> int:
        """Has the bytes written after those that came before; returns their number."""
        data = bytes(lines)
        with self._changed:
            if self._size and (self._dropped or self._size + len(data) > WAITING_BYTES):
                self._dropped += data.count(b"\n")
            else:
                self._waiting.append(data)
                self._size += len(data)
                self._is_idle = False
                self._changed.notify_all()
                if self._thread is None:  # not before: a process with threads should not fork
                    self._thread = threading.Thread(target=self._run, name=f"to {self._name}", daemon=True)
                    self._thread.start()
        return len(data)

    def drain(self, seconds: float) -> bool:
        """Waits until all is written, for at most that many seconds; True if it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self._is_idle, seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._is_idle = True
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: self._waiting)
                data = self._waiting.popleft()
            if self._after is not None:
                self._after.drain(LAST_WRITE_SECONDS)
            is_written = self._write_all(data)
            dropped = 0
            with self._changed:
                self._size -= len(data)
                if not is_written:
                    self._dropped += data.count(b"\n")
                elif not self._waiting:
                    dropped, self._dropped = self._dropped, 0
            if dropped:
                log.error("log.lines_dropped", count=dropped, stream=self._name)

    def _write_all(self, data: bytes) -> bool:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # somebody who shares the file has made it non-blocking
                select.select([], [self._descriptor], [])
            except OSError:
                return False
        return True


def to_background() -> Callable[[bytes], object]:
    """Has threads write all output from now on; returns the function that writes to standard error.

    Leaves streams alone that are no files, as in tests. Lines that wait at the end of the process get
    LAST_WRITE_SECONDS; lines that the interpreter itself prints then wait for nobody either.
    """
    try:
        out, err = sys.stdout.fileno(), sys.stderr.fileno()
    except (OSError, ValueError):
        return _write_to(sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    error = BackgroundFile(err, "stderr")
    output = BackgroundFile(out, "stdout", after=error)  # who has read `ready` looks for lines before it
    sys.stderr, sys.stdout = as_text(error), as_text(output)

    def drain() -> None:
        error.drain(LAST_WRITE_SECONDS)
        output.drain(LAST_WRITE_SECONDS)

    atexit.register(drain)
    return error.write


def as_text(file: io.RawIOBase) -> TextIO:
    """Returns the file as a stream of text that passes each line on at once."""
    return io.TextIOWrapper(io.BufferedWriter(file), "utf-8", errors="backslashreplace", line_buffering=True)


def _write_to(stream: TextIO) -> Callable[[bytes], object]:
    def write(lines: bytes) -> None:
        stream.buffer.write(lines)
        stream.flush()

    return write
