"""Starts the processes of workers, and has the program that runs in each of them."""

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

from ..broker.live import Outgoing, dispatcher
from ..runtime import log_text
from ..runtime.log_lines import BackgroundFile, GatheredLines, as_text
from ..runtime.memory import MemoryUpkeep, collect_garbage_rarely, configure_malloc
from ..runtime.stopping import LAST_WRITE_SECONDS
from ..store.steady_clock import SteadyClock
from .channel import Channel
from .remote import RemoteStore
from .sides import OwnerSide

log = structlog.get_logger()


STDERR = 2
"""The file descriptor of standard error."""
END_SECONDS = 1.0
"""The seconds from the end of its socket until a worker is killed."""


class WorkerProcess:
    """A worker's process, as the owner has it."""

    def __init__(self, pid: int, end: socket.socket) -> None:
        self.pid = pid
        self.end = end
        self._is_reaped = False  # else nobody else can have its number

    def kill(self) -> None:
        """Kills the process, even if it is stopped."""
        if not self._is_reaped:
            os.kill(self.pid, signal.SIGKILL)

    def reap(self) -> bool:
        """True if the process has ended. Never waits."""
        if not self._is_reaped:
            self._is_reaped = os.waitpid(self.pid, os.WNOHANG) != (0, 0)
        return self._is_reaped

    def end_soon(self) -> None:
        """Closes the socket, by which the process ends, and kills the process when that takes too long."""
        self.end.close()
        deadline = time.monotonic() + END_SECONDS
        while not self.reap():
            if time.monotonic() > deadline:
                self.kill()
            time.sleep(0.005)


class WorkerProcesses:
    """The workers of this process: those that were forked, and those that replaced one of them."""

    def __init__(self, clock: SteadyClock, started: Sequence[WorkerProcess] = ()) -> None:
        self._clock = clock
        self.started = started
        self._running = list(started)

    def start_another(self) -> WorkerProcess:
        """Starts a worker by executing its program: a process with threads must not fork. Raises OSError."""
        asyncio.get_running_loop().call_later(END_SECONDS, self._reap)
        owners, workers = socket.socketpair()
        with workers:
            shared = [workers.fileno(), self._clock.descriptor]
            for descriptor in shared:
                os.set_inheritable(descriptor, True)
            command = [sys.executable, "-P", "-m", __name__, *map(str, shared)]
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
            pid = os.posix_spawn(sys.executable, command, environment)
        self._running.append(process := WorkerProcess(pid, owners))
        return process

    def _reap(self) -> None:
        self._running = [each for each in self._running if not each.reap()]

    def end(self) -> None:
        """Ends the workers that run."""
        for each in self._running:
            each.end.close()  # all at once
        for each in self._running:
            each.end_soon()


@contextlib.contextmanager
def forked(number: int, clock: SteadyClock) -> Iterator[WorkerProcesses]:
    """Runs so many workers during the block, and those that replace them; all share the time of the clock.

    They are forked, so that they share memory and start at once: enter this before there is a thread or an
    event loop. A worker ends when the owner's end of its socket is closed, however the owner ended.
    """
    default_tls()  # is kept, so that it is in memory once
    pairs = [socket.socketpair() for _ in range(number)]
    started: list[WorkerProcess] = []
    for owners, workers in pairs:
        pid = os.fork()
        if pid == 0:
            for each in {end for pair in pairs for end in pair} - {workers}:
                each.close()
            os._exit(_run(workers, clock))
        started.append(WorkerProcess(pid, owners))
    for _, workers in pairs:
        workers.close()
    processes = WorkerProcesses(clock, started)
    try:
        yield processes
    finally:
        processes.end()


def _run(end: socket.socket, clock: Clock) -> int:
    """Runs a worker; returns its exit status. The owner says when it ends, not the terminal or systemd."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_work(end, clock))
    except BaseException:  # noqa: BLE001 - nothing of the owner's may run here
        alone = BackgroundFile(STDERR, "stderr")
        sys.stderr = as_text(alone)
        sys.excepthook(*sys.exc_info())  # pyright: ignore[reportArgumentType] - there is one
        alone.drain(LAST_WRITE_SECONDS)
        return 1


class _ToOwner(io.RawIOBase):
    """Standard error of a worker. The owner writes it, so that no line is inside another one."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self.alone = BackgroundFile(STDERR, "stderr")

    def writable(self) -> bool:
        return True

    def write(self, lines: Any) -> int:
        """Has the owner write the lines; writes them itself if the owner has ended. For any thread."""
        text = bytes(lines)
        if self._channel.is_over:
            self.alone.write(text)
        else:
            self._loop.call_soon_threadsafe(self._send_log, text)
        return len(text)

    def _send_log(self, text: bytes) -> None:
        self._channel.send(OwnerSide.log, text)


async def _work(end: socket.socket, clock: Clock) -> int:
    """Serves the live side of the broker behind a socket, until the owner stops it or has ended."""
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
    await store.channel.open(end)
    await asyncio.wait({store.settings, ended}, return_when=asyncio.FIRST_COMPLETED)
    if ended.done():
        return ended.result()
    settings = store.settings.result()
    lines = GatheredLines(to_owner.write)
    telemetry.configure(settings.log_level, lines, log_text.renderer(settings.log_format))
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
    status = await ended
    await memory.stop()
    await live.stop(drain=0.0)  # when the owner has ended, nobody settles what is under way
    lines.flush()
    await asyncio.sleep(0)
    store.channel.close()
    to_owner.alone.drain(LAST_WRITE_SECONDS)
    return status


if __name__ == "__main__":
    collect_garbage_rarely()
    configure_malloc()
    socket_number, clock_number = map(int, sys.argv[1:])
    sys.exit(_run(socket.socket(fileno=socket_number), SteadyClock(descriptor=clock_number)))
