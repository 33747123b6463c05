"""Commands on a terminal of 80 columns, and what it shows."""

import io
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pexpect

from support import processes

COLUMNS = 80


class OnTerminal:
    """`aep` on a terminal of its own. It is ended with the terminal."""

    def __init__(self, folder: Path, arguments: tuple[str, ...], settings: Mapping[str, str]) -> None:
        self._written = io.StringIO()
        self._child = pexpect.spawn(
            sys.executable,
            ["-m", "aep", *arguments],
            cwd=str(folder),
            env=processes.environment({"NO_COLOR": "1", "TERM": "xterm", **settings}),
            dimensions=(24, COLUMNS),
            encoding="utf-8",
            timeout=60,
        )
        self._child.logfile_read = self._written
        self.pid = int(self._child.pid or 0)

    @property
    def screen(self) -> str:
        """All that was written to the terminal so far."""
        return self._written.getvalue().replace("\r\n", "\n")

    def shows(self, text: str) -> str:
        """Waits for the text, wherever its lines break, after what was waited for before; the screen."""
        self._child.expect(r"\s+".join(map(re.escape, text.split())))
        return self.screen

    def interrupt(self) -> int:
        """Types Ctrl-C; the exit status."""
        self._child.sendcontrol("c")
        return self.wait()

    def wait(self) -> int:
        """The exit status, once it has ended by itself."""
        self._child.expect(pexpect.EOF)
        self._child.wait()
        return int(self._child.exitstatus or 0)

    def close(self) -> None:
        self._child.close(force=True)


class Terminals:
    """Opens terminals."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.opened: list[OnTerminal] = []

    def run(self, folder: Path, *arguments: str, settings: Mapping[str, str]) -> OnTerminal:
        opened = OnTerminal(folder, arguments, settings)
        self._stack.callback(opened.close)
        self.opened.append(opened)
        return opened

    def too_wide(self) -> list[str]:
        """The lines that do not fit."""
        return [line for each in self.opened for line in each.screen.splitlines() if len(line) > COLUMNS]


@contextmanager
def terminals() -> Iterator[Terminals]:
    """Terminals that are closed after the block."""
    with ExitStack() as stack:
        yield Terminals(stack)
