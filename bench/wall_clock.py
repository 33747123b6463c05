"""A wall clock that can be moved while a process runs: a library that is loaded before the C library.

Its monotonic clock is the machine's, as when somebody sets a machine's clock. Linux only.
"""

import mmap
import shutil
import struct
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
_NANOSECONDS = struct.Struct("=q")


def is_available() -> bool:
    """True if this machine can do it: Linux and a C compiler (`cc`)."""
    return sys.platform == "linux" and shutil.which("cc") is not None


class MovableWallClock:
    """The wall clock of all processes that are started with `environment`; see `is_available`."""

    def __init__(self, folder: Path) -> None:
        """Compiles the library into the folder. Raises CalledProcessError."""
        library, offset = folder / "wall_clock.so", folder / "wall_clock_offset"
        command = ["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
        subprocess.run(command, check=True, timeout=60)  # noqa: S603 - constant
        offset.write_bytes(bytes(_NANOSECONDS.size))
        with offset.open("r+b") as file:
            self._offset = mmap.mmap(file.fileno(), _NANOSECONDS.size)
        self.environment: dict[str, str] = {
            "LD_PRELOAD": str(library),
            "WALL_CLOCK_OFFSET": str(offset),
        }

    def move(self, seconds: float) -> None:
        """Moves the clock on, or back, from where it is now."""
        (now,) = _NANOSECONDS.unpack(self._offset)
        self._offset[:] = _NANOSECONDS.pack(now + round(seconds * 1e9))
