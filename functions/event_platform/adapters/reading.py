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
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar, cast

import structlog

from ..domain.errors import EventPlatformError, Overloaded, TooLarge
from ..domain.events.catalog import Catalog

log = structlog.get_logger()

SECONDS = 20.0
"""The time that the reading of one body may take; the largest takes about one second."""
ANSWER_SECONDS = 5.0
"""The time that an idle process has to show that it runs; otherwise it is replaced before it gets a body."""
ROUNDS = 20
"""The parts of such a time. When we stood still ourselves, that is one of them, however long it was."""
REST_SECONDS = 15.0
"""The time without work after which the process ends; another start takes half a second."""
MEMORY_BYTES = 1024 * 1024 * 1024
"""Address space of the process; a body of 20 MiB may become 500 MB of values."""
NICENESS = 5
"""The process gets a quarter of what another gets of a busy core: who waits for it has sent a large body."""
RETRY_SECONDS = 5

_LENGTHS = struct.Struct("!QQ")
_LENGTH = struct.Struct("!Q")

T = TypeVar("T")
Body = bytes | bytearray


class ReadingProcess:
    """Runs pure functions of a catalog and a body in a process of their own, one at a time.

    Owners take turns: each has one body there or waiting for it. `on_replaced` is called when the process
    hung and was killed.
    """

    def __init__(self, catalog: Catalog, on_replaced: Callable[[], None] = lambda: None) -> None:
        self._catalog = catalog
        self._on_replaced = on_replaced
        self._child: _Child | None = None
        self._lock = asyncio.Lock()
        self._locks: dict[str, tuple[asyncio.Lock, int]] = {}
        self._rest: asyncio.TimerHandle | None = None

    async def run(self, owner: str, function: Callable[..., T], body: Body, *arguments: object) -> T:
        """The function's result. Raises what it raises, and Overloaded if the process fails."""
        async with self._lock_of(owner), self._lock:
            if self._rest is not None:
                self._rest.cancel()
            try:
                await self._end_if_hung()
                call = pickle.dumps((function, arguments))
                ok, result = await _within(SECONDS, self._exchange(call, body))
            except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
                self._end()
                if isinstance(error, TimeoutError):
                    self._on_replaced()
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
    async def _lock_of(self, owner: str) -> AsyncGenerator[None, None]:
        lock, waiting = self._locks.get(owner, (asyncio.Lock(), 0))
        self._locks[owner] = lock, waiting + 1
        try:
            async with lock:
                yield
        finally:
            _, waiting = self._locks[owner]
            if waiting == 1:
                del self._locks[owner]
            else:
                self._locks[owner] = lock, waiting - 1

    async def _end_if_hung(self) -> None:
        """Kills a process that does not answer, so that the body goes to a new one."""
        child = self._child
        if child is None or child.process.returncode is not None:
            return
        try:
            await _within(ANSWER_SECONDS, child.exchange(b"", b""))
        except TimeoutError:
            log.error("reading.replaced", pid=child.process.pid, silent_seconds=ANSWER_SECONDS)
            self._end()
            self._on_replaced()
        except (OSError, asyncio.IncompleteReadError):  # it has just ended
            self._end()

    async def _exchange(self, call: bytes, body: Body) -> tuple[bool, Any]:
        return await (await self._started()).exchange(call, body)

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


async def _within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """Returns the result of the work. Raises TimeoutError if it takes longer."""
    task = asyncio.ensure_future(work)
    try:
        for _ in range(ROUNDS):
            await asyncio.wait({task}, timeout=seconds / ROUNDS)
            if task.done():
                return task.result()
        raise TimeoutError
    finally:
        task.cancel()
        del task  # else this frame, which its error has, and the task would keep each other


@dataclass(frozen=True, slots=True)
class _Child:
    process: asyncio.subprocess.Process
    input: asyncio.StreamWriter
    output: asyncio.StreamReader

    async def exchange(self, call: bytes, body: Body) -> tuple[bool, Any]:
        """Returns whether a call returned or raised, and what. An empty call returns None."""
        self.write(call, body)
        await self.input.drain()
        (length,) = _LENGTH.unpack(await self.output.readexactly(_LENGTH.size))
        return pickle.loads(await self.output.readexactly(length))  # noqa: S301 - of our own process

    def write(self, call: bytes, body: Body) -> None:
        self.input.write(_LENGTHS.pack(len(call), len(body)) + call)
        self.input.write(body)


def main(source: BinaryIO, target: BinaryIO) -> None:
    """Runs the process: answers calls until its input ends."""
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    catalog: Catalog | None = None
    while lengths := source.read(_LENGTHS.size):
        call_length, body_length = _LENGTHS.unpack(lengths)
        answer: tuple[bool, Any] = True, None
        call: Any = None
        if call_length:
            call = pickle.loads(source.read(call_length))  # noqa: S301 - of the process that started us
        body = source.read(body_length)
        if catalog is None:
            catalog = call
            continue
        if call is not None:
            function, arguments = call
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
