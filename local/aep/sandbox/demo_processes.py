"""The processes that the demo starts; the demo ends when one of them does."""

import asyncio
import contextlib
import os
import sys
from collections import deque
from collections.abc import Callable, Mapping

STOP_SECONDS = 4


class DemoFailed(Exception):
    """Raised when a step did not end as it must; `lines` are the last lines of the child concerned."""

    def __init__(self, message: str, lines: list[str] | None = None) -> None:
        super().__init__(message)
        self.lines = lines or []


class Children:
    """The processes that the demo started. Leaving the block stops every one of them."""

    def __init__(self) -> None:
        self._children: list[_Child] = []

    async def __aenter__(self) -> "Children":
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(child.stop() for child in self._children))

    async def start(self, command: str, *arguments: str, settings: Mapping[str, str] | None = None) -> str:
        """Starts `aep COMMAND …`; returns the URL of its ready line."""
        # what is set for a platform of the user's must not reach this one: it might send real e-mail
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AEP_")}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "aep", command, *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment | dict(settings or {}),
            limit=2**20,
        )
        child = _Child(command, process)
        self._children.append(child)
        return await child.ready()

    def check(self) -> None:
        """Raises DemoFailed when a child has ended by itself."""
        for child in self._children:
            if (status := child.process.returncode) is not None:
                raise DemoFailed(f"aep {child.name} ended with status {status}", list(child.last))

    def last_words(self) -> list[str]:
        """Returns the last lines of standard error of the child started last, which is the platform."""
        return list(self._children[-1].last) if self._children else []


class _Child:
    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.process = process
        self.last: deque[str] = deque(maxlen=8)
        self._url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        # both pipes are read to their end, or a child that talks would stand still
        self._readers = [
            asyncio.create_task(self._read(process.stdout, self._on_output)),
            asyncio.create_task(self._read(process.stderr, self.last.append)),
        ]

    async def ready(self) -> str:
        """Returns the URL. Raises DemoFailed when the process ended, or was not ready within 12 s."""
        ended = asyncio.create_task(self.process.wait())
        await asyncio.wait({self._url, ended}, timeout=12, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if self._url.done():
            return self._url.result()
        if self.process.returncode is not None:
            await asyncio.wait(self._readers, timeout=1)
            message = f"aep {self.name} ended with status {self.process.returncode} before it was ready"
            raise DemoFailed(message, list(self.last))
        raise DemoFailed(f"aep {self.name} was not ready within 12 s", list(self.last))

    async def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), STOP_SECONDS)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()
        await asyncio.gather(*self._readers)

    async def _read(self, stream: asyncio.StreamReader | None, take: Callable[[str], None]) -> None:
        assert stream is not None  # noqa: S101 - it was asked for as a pipe
        async for line in stream:
            take(line.decode("utf-8", "replace").rstrip())

    def _on_output(self, line: str) -> None:
        word, _, url = line.partition(" ")
        if word == "ready" and not self._url.done():
            self._url.set_result(url.strip())
