"""A process that reads large bodies, so that the event loop goes on meanwhile.

A thread would not do: parsers of JSON keep the interpreter's lock. The process starts on first use and ends
after a rest, so that its memory comes back. A function's name and its arguments go there by pickle, and its
result comes back: nobody else can write into these pipes.
"""

import asyncio
import os
import pickle
import resource
import struct
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar, cast

import structlog

from ..domain.catalog import Catalog
from ..domain.errors import EventPlatformError, Overloaded, TooLarge

log = structlog.get_logger()

SECONDS = 20.0
"""The time that the reading of one body may take; the largest takes about one second."""
REST_SECONDS = 15.0
"""The time without work after which the process ends; another start takes half a second."""
MEMORY_BYTES = 1024 * 1024 * 1024
"""Address space of the process; a body of 20 MiB may become 500 MB of values."""
RETRY_SECONDS = 5

_LENGTHS = struct.Struct("!QQ")
_LENGTH = struct.Struct("!Q")

T = TypeVar("T")
Body = bytes | bytearray


class ReadingProcess:
    """Runs pure functions of a catalog and a body in a process of their own, one at a time.

    Owners take turns: each has one body there or waiting for it.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._child: _Child | None = None
        self._turn = asyncio.Lock()
        self._turns: dict[str, tuple[asyncio.Lock, int]] = {}
        self._rest: asyncio.TimerHandle | None = None

    async def run(self, owner: str, function: Callable[..., T], body: Body, *arguments: object) -> T:
        """The function's result. Raises what it raises, and Overloaded if the process fails."""
        async with self._turn_of(owner), self._turn:
            if self._rest is not None:
                self._rest.cancel()
            try:
                async with asyncio.timeout(SECONDS):
                    child = await self._started()
                    ok, result = await child.exchange(pickle.dumps((function, arguments)), body)
            except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
                self._end()
                log.error("reading.failed", owner=owner, bytes=len(body), error=type(error).__name__)
                raise Overloaded(
                    "the body could not be read now; send it again later", RETRY_SECONDS
                ) from error
            except BaseException:  # what answers an abandoned call must not be taken for the next one's
                self._end()
                raise
            self._rest = asyncio.get_running_loop().call_later(REST_SECONDS, self._end)
        if ok:
            return result
        try:
            raise result
        finally:
            del result  # else this frame, which has the body, and the error would keep each other

    async def close(self) -> None:
        """Ends the process."""
        if self._rest is not None:
            self._rest.cancel()
        child = self._child
        self._end()
        if child is not None:
            await child.process.wait()

    @asynccontextmanager
    async def _turn_of(self, owner: str) -> AsyncGenerator[None, None]:
        lock, waiting = self._turns.get(owner, (asyncio.Lock(), 0))
        self._turns[owner] = lock, waiting + 1
        try:
            async with lock:
                yield
        finally:
            _, waiting = self._turns[owner]
            if waiting == 1:
                del self._turns[owner]
            else:
                self._turns[owner] = lock, waiting - 1

    async def _started(self) -> "_Child":
        if self._child is None or self._child.process.returncode is not None:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                __name__,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={"PYTHONPATH": os.pathsep.join(sys.path)},  # and no secret of ours
                start_new_session=True,  # so that Ctrl-C does not end it before us
            )
            input_ = cast("asyncio.StreamWriter", process.stdin)
            self._child = _Child(process, input_, cast("asyncio.StreamReader", process.stdout))
            self._child.write(pickle.dumps(self._catalog), b"")
        return self._child

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None and child.process.returncode is None:
            with suppress(ProcessLookupError):
                child.process.kill()


@dataclass(frozen=True, slots=True)
class _Child:
    process: asyncio.subprocess.Process
    input: asyncio.StreamWriter
    output: asyncio.StreamReader

    async def exchange(self, call: bytes, body: Body) -> tuple[bool, Any]:
        """Returns whether a call returned or raised, and what."""
        self.write(call, body)
        await self.input.drain()
        (length,) = _LENGTH.unpack(await self.output.readexactly(_LENGTH.size))
        return pickle.loads(await self.output.readexactly(length))  # noqa: S301 - of our own process

    def write(self, call: bytes, body: Body) -> None:
        self.input.write(_LENGTHS.pack(len(call), len(body)) + call)
        self.input.write(body)


def main(source: BinaryIO, target: BinaryIO) -> None:
    """Runs the process: answers calls until its input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    catalog: Catalog | None = None
    while lengths := source.read(_LENGTHS.size):
        call_length, body_length = _LENGTHS.unpack(lengths)
        call = pickle.loads(source.read(call_length))  # noqa: S301 - written by the process that started us
        body = source.read(body_length)
        if catalog is None:
            catalog = call
            continue
        function, arguments = call
        answer: tuple[bool, Any]
        try:
            answer = True, function(catalog, body, *arguments)
        except EventPlatformError as error:
            answer = False, error
        except MemoryError:
            answer = (
                False,
                TooLarge("the body holds more values than can be read; send fewer events"),
            )
        written = pickle.dumps(answer)
        target.write(_LENGTH.pack(len(written)))
        target.write(written)
        target.flush()
        del call, body, answer, written


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
