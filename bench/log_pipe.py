"""The log of a platform through a pipe, whose reader can stop reading."""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PIPE_BYTES = 4096
"""The least that a pipe holds, so that it is full soon."""


class LogPipe:
    """Copies what is written to the descriptor `writing` into a file, until all of its writers have ended."""

    def __init__(self, file: Path) -> None:
        self._reading, self.writing = os.pipe()
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            fcntl.fcntl(self.writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._file = file
        self._goes_on = threading.Event()
        self._goes_on.set()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @contextmanager
    def unread(self) -> Iterator[None]:
        """Stops reading during the block."""
        self._goes_on.clear()
        try:
            yield
        finally:
            self._goes_on.set()

    def close(self) -> None:
        """Waits until all is read."""
        os.close(self.writing)
        self._thread.join()
        os.close(self._reading)

    def _read(self) -> None:
        with self._file.open("wb", buffering=0) as file:
            while piece := os.read(self._reading, 1 << 16):
                file.write(piece)
                self._goes_on.wait()
