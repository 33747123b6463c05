"""Child processes: how one is started, waited for, read and ended.

The demo, the emulators, the tests and the bench all start theirs here.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self, TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.05
END_SECONDS = 5.0
"""The time that a child has to end by itself."""
LAST_LINES = 8

Output = Path | int
"""The place where a child writes: a file, to which it appends, or a descriptor that is open here."""


class ChildFailed(Exception):
    """Raised when a child is not ready in time or ends before; `lines` are the last that it wrote."""

    def __init__(self, message: str, lines: Sequence[str]) -> None:
        super().__init__(message)
        self.lines = list(lines)
        self.add_note("\n".join(lines))


def environment(settings: Mapping[str, str], *, without: tuple[str, ...] = ()) -> dict[str, str]:
    """Returns the environment of this process, with these settings and no other AEP_ variables.

    What is set for a platform of the user's must not reach a child: it might send real e-mail. `without` are
    the beginnings of other variables that a child does not get.
    """
    left_out = ("AEP_", *without)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    return inherited | dict(settings)


def aep(*arguments: str) -> list[str]:
    """Returns the command that runs `aep` with these arguments, by this Python."""
    return [sys.executable, "-m", "aep", *arguments]


class Child:
    """A process with a group of its own. A block that it is used in ends it, with all that it started.

    It reads no input. What it writes goes to files, so that no pipe fills up.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        stdout: Output,
        stderr: Output,
        environment: Mapping[str, str],
    ) -> None:
        self.name = name
        self._stdout, self._stderr = _Written(stdout), _Written(stderr)
        with ExitStack() as stack:
            out, err = (
                stack.enter_context(each.open("ab")) if isinstance(each, Path) else each
                for each in (stdout, stderr)
            )
            self.process = subprocess.Popen(  # noqa: S603 - a command of ours
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment,
                start_new_session=True,  # an interrupt of the terminal is for whoever started it
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def status(self) -> int | None:
        """The exit status; None while it runs."""
        return self.process.poll()

    def stdout(self) -> str:
        """Returns what it wrote to the file of its standard output."""
        return self._stdout.text()

    def stderr(self) -> str:
        """Returns what it wrote to the file of its standard error."""
        return self._stderr.text()

    def last_lines(self) -> list[str]:
        """Returns the last lines of its standard error."""
        return self.stderr().splitlines()[-LAST_LINES:]

    def ready_url(self) -> str | None:
        """Returns the URL of the line `ready URL`, which a command of `aep` prints; None before it does."""
        line, newline, _ = self.stdout().partition("\n")
        word, _, url = line.partition(" ")
        return url if newline and word == "ready" else None

    def wait_until(
        self, is_ready: Callable[[], T | None], *, seconds: float, every: float = POLL_SECONDS
    ) -> T:
        """Returns what `is_ready` returns, once that is true. Raises ChildFailed."""
        deadline = time.monotonic() + seconds
        while not (result := is_ready()):
            self._check_start(deadline, seconds)
            time.sleep(every)
        return result

    async def until(self, is_ready: Callable[[], Awaitable[T | None]], *, seconds: float) -> T:
        """Does what `wait_until` does, while the event loop works on other things."""
        deadline = time.monotonic() + seconds
        while not (result := await is_ready()):
            self._check_start(deadline, seconds)
            await asyncio.sleep(POLL_SECONDS)
        return result

    def send(self, number: int) -> None:
        """Sends the signal to the process alone."""
        self.process.send_signal(number)

    def kill_group(self) -> None:
        """Kills the process and all that it started, as the loss of a machine does."""
        if self.status is None:
            self._kill_group()

    def end(self, *, seconds: float = END_SECONDS) -> None:
        """Ends the process by SIGTERM, and then, or after so many seconds, what is left of its group."""
        if self.status is not None:
            return  # its number may be another process's by now
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        self._kill_group()

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()

    def _check_start(self, deadline: float, seconds: float) -> None:
        wrong = None
        if (status := self.status) is not None:
            wrong = f"ended with status {status} before it was ready"
        elif time.monotonic() > deadline:
            wrong = f"was not ready within {seconds:g} s"
        if wrong is not None:
            raise ChildFailed(f"{self.name} {wrong}", self.last_lines())


async def end_all(children: Iterable[Child], *, seconds: float = END_SECONDS) -> None:
    """Ends the children at the same time, while the event loop works on other things."""
    await asyncio.gather(*(asyncio.to_thread(child.end, seconds=seconds) for child in children))


class _Written:
    """The part of a file that a child has written. It is empty for a descriptor."""

    def __init__(self, output: Output) -> None:
        self._file = output if isinstance(output, Path) else None
        self._before = self._file.stat().st_size if self._file is not None and self._file.exists() else 0

    def text(self) -> str:
        if self._file is None:
            return ""
        with self._file.open("rb") as file:
            file.seek(self._before)
            return file.read().decode(errors="replace")
