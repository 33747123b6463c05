"""Starts the processes of workers, and what runs in each of them."""

import asyncio
import contextlib
import io
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import structlog
import uvloop

from event_platform import telemetry
from event_platform.adapters.http_client.client import default_tls
from event_platform.ports import Clock
from event_platform.settings import Settings

from ..log_lines import LAST_WRITE_SECONDS, BackgroundFile, GatheredLines, as_text
from ..memory import MemoryUpkeep
from ..sending import Outgoing, dispatcher
from .channel import Channel
from .remote import RemoteStore

log = structlog.get_logger()


STDERR = 2
"""Its file descriptor."""
END_SECONDS = 1.0
"""From the end of its socket to that of a worker; then it is killed."""


@contextlib.contextmanager
def forked(number: int, settings: Settings, clock: Clock) -> Iterator[Sequence[socket.socket]]:
    """Runs so many workers during the block; gives the owner's ends of the sockets to them.

    By a fork, so that they share what is in memory and need no time to start: to be entered before there is
    a thread or an event loop. A worker ends with the owner's end of its socket, whatever ended the owner.
    """
    default_tls()  # is kept, so that it is in memory once
    pairs = [socket.socketpair() for _ in range(number)]
    pids: list[int] = []
    for _, workers in pairs:
        pid = os.fork()
        if pid == 0:
            for each in {end for pair in pairs for end in pair} - {workers}:
                each.close()
            os._exit(_run(workers, settings, clock))
        pids.append(pid)
    for _, workers in pairs:
        workers.close()
    try:
        yield [owners for owners, _ in pairs]
    finally:
        for owners, _ in pairs:
            owners.close()
        for pid in pids:
            _see_to_the_end(pid)


def _see_to_the_end(pid: int) -> None:
    deadline = time.monotonic() + END_SECONDS
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)


def _run(end: socket.socket, settings: Settings, clock: Clock) -> int:
    """The life of a worker; its exit status. The owner says when it ends, not the terminal or systemd."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_work(end, settings, clock))
    except BaseException:  # noqa: BLE001 - nothing of the owner's may run here
        alone = BackgroundFile(STDERR, "stderr")
        sys.stderr = as_text(alone)
        sys.excepthook(*sys.exc_info())  # pyright: ignore[reportArgumentType] - there is one
        alone.drain(LAST_WRITE_SECONDS)
        return 1


class _ToOwner(io.RawIOBase):
    """Standard error of a worker: the owner writes it, so that no line stands within another one."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self.alone = BackgroundFile(STDERR, "stderr")

    def writable(self) -> bool:
        return True

    def write(self, lines: Any) -> int:
        """From any thread. Without the owner nobody writes between, if there is anybody left to read it."""
        text = bytes(lines)
        if self._channel.is_over:
            self.alone.write(text)
        else:
            self._loop.call_soon_threadsafe(self._channel.tell, "log", text)
        return len(text)


async def _work(end: socket.socket, settings: Settings, clock: Clock) -> int:
    """The live side of the broker behind a socket, until told to stop or the owner has ended."""
    ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def end_with(status: int) -> None:
        if not ended.done():
            ended.set_result(status)

    def on_fault(error: BaseException) -> None:
        log.critical("worker.fault", exc_info=error)
        end_with(1)

    store = RemoteStore(on_end=lambda: end_with(0), on_fault=on_fault)
    to_owner = _ToOwner(store.channel)
    sys.stderr = as_text(to_owner)
    lines = GatheredLines(to_owner.write)
    telemetry.configure(settings.log_level, lines)
    outgoing = Outgoing(settings)
    live = dispatcher(settings, store, store, store, outgoing.senders, clock, on_fault=on_fault)

    memory = MemoryUpkeep(clock, on_fault=on_fault)
    memory.start()

    async def stop() -> None:
        await memory.stop()
        await live.stop()
        await outgoing.close()
        lines.flush()

    store.serve(live, stop)
    await store.channel.open(end)
    status = await ended
    await memory.stop()
    await live.stop(drain=0.0)  # when the owner has ended, nobody settles what is under way
    lines.flush()
    await asyncio.sleep(0)
    store.channel.close()
    to_owner.alone.drain(LAST_WRITE_SECONDS)
    return status
