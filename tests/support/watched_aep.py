"""Runs `aep` with a watchdog over its event loops: `python watched_aep.py REPORT ARGUMENT…`.

Each callback that takes too much CPU becomes a line of the file REPORT, also those of worker processes, but
not of those that replace one. TEST_ROUND_SECONDS is the interval in which workers are asked whether they run.
uvloop calls most callbacks through methods that can be overridden: tasks, timers and futures through
`call_soon` and its kin, protocols through the factory that it is given. What it does itself, such as a TLS
handshake, is not timed.
"""

import os
import sys
from collections.abc import Callable
from functools import cache, partial, wraps
from pathlib import Path
from typing import Any

import uvloop

sys.path.append(str(Path(__file__).parents[1]))  # of a program Python adds its own folder only

from aep.cli.main import main
from aep.workers import owner
from support import cpu_watchdog

_METHODS = ("connection_made", "data_received", "buffer_updated", "eof_received", "connection_lost")


class WatchedLoop(uvloop.Loop):
    """uvloop's loop that times what it calls. Overruns are written to the file `report`, a line each."""

    report = ""

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:
        return super().call_soon(_timed(callback), *args, context=context)

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> Any:
        return super().call_soon_threadsafe(_timed(callback), *args, context=context)

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> Any:
        return super().call_later(delay, _timed(callback), *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
        return super().call_at(when, _timed(callback), *args, context=context)

    async def create_connection(self, protocol_factory: Any, *args: Any, **options: Any) -> Any:
        return await super().create_connection(_timed_protocols(protocol_factory), *args, **options)

    async def create_server(self, protocol_factory: Any, *args: Any, **options: Any) -> Any:
        return await super().create_server(_timed_protocols(protocol_factory), *args, **options)


def _timed(callback: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        stopwatch = cpu_watchdog.Stopwatch()
        try:
            return callback(*args)
        finally:
            seconds = stopwatch.overrun()
            if seconds is not None:
                _report(cpu_watchdog.told(callback, seconds))

    return call


def _timed_protocols(factory: Callable[[], Any]) -> Callable[[], Any]:
    def make() -> Any:
        protocol = factory()
        protocol.__class__ = _timed_class(type(protocol))
        return protocol

    return make


@cache
def _timed_class(protocol: type) -> type:
    """The same class with timed methods: wrapped ones in each instance would be cycles of references."""

    def method(name: str) -> Callable[..., Any]:
        original = getattr(protocol, name)

        @wraps(original)
        def call(self: Any, *args: Any) -> Any:
            return _timed(partial(original, self))(*args)

        return call

    timed = {name: method(name) for name in _METHODS if hasattr(protocol, name)}
    return type(protocol.__name__, (protocol,), timed)


def _report(line: str) -> None:
    """Writes it to the end of the file at once, as several processes do so."""
    file = os.open(WatchedLoop.report, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(file, f"{line}\n".encode())
    os.close(file)


if __name__ == "__main__":
    cpu_watchdog.excuse_garbage_collection()
    WatchedLoop.report = sys.argv.pop(1)
    uvloop.new_event_loop = WatchedLoop
    if (seconds := os.environ.get("TEST_ROUND_SECONDS")) is not None:
        owner.ROUND_SECONDS, owner.START_ROUNDS = float(seconds), 10_000  # a start takes what it takes
    main()
