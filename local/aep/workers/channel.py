"""Calls between two of our processes over a socket; calls of one turn of the event loop travel together.

A frame is its length in four bytes and a pickled list of messages. Pickle may run anything that the sender
wants, which is safe here: the sockets have no name, so both ends are in processes that this program forked.
"""

import asyncio
import pickle
import socket
import traceback
from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any, Concatenate, ParamSpec, TypeVar, cast, overload

from event_platform.domain.errors import EventPlatformError

P = ParamSpec("P")
T = TypeVar("T")

_LENGTH_BYTES = 4
FULL_BYTES = 4 * 1024 * 1024
"""The most bytes that the other end has not taken yet. What can wait elsewhere then waits there."""
FRAME_BYTES = 1024 * 1024
"""The bytes of gathered messages that are sent at once: the other end reads a frame in one piece of work."""
WAITS_SECONDS = 0.01
"""The time for which a message waits at most for another one to travel with."""

_CALL, _ANSWER, _ERROR = range(3)


class Channel(asyncio.Protocol):
    """One end of a channel.

    `served` has the methods that the other end may call; `on_end` is called when that is gone. Messages are
    handled in their order: plain methods when they come, coroutines by a task that begins then. An answer
    comes after all messages that were sent before it. If something cannot be pickled, whoever waits for the
    answer gets the error; if nobody waits, `on_fault` is called: it is a fault of ours.
    """

    def __init__(
        self,
        served: object,
        *,
        on_end: Callable[[], None],
        on_fault: Callable[[BaseException], None],
        on_room: Callable[[], None] = lambda: None,
    ) -> None:
        self._served = served
        self._on_end = on_end
        self._on_fault = on_fault
        self._on_room = on_room
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.WriteTransport | None = None
        self._received = bytearray()
        self._gathered: list[tuple[Any, ...]] = []
        self._gathered_bytes = 0
        self._flushing: asyncio.Handle | None = None
        """The call that sends the gathered messages at the end of this turn of the event loop, or later."""
        self._flushes_soon = False
        self._is_paused = False
        self.is_over = False
        self.has_heard = False
        """True if something came from the other end since this was last set to False."""
        self._numbers = count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, end: socket.socket) -> None:
        """Begins the exchange on a connected socket."""
        await self._loop.create_connection(lambda: self, sock=end)
        self._flush()

    def close(self) -> None:
        """Sends the messages that are gathered, and closes the socket."""
        self._flush()
        self.is_over = True
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Closes the socket now: messages that are gathered or on their way to the other end are dropped."""
        self.is_over = True
        if self._transport is not None:
            self._transport.abort()

    @property
    def room(self) -> int:
        """Bytes that may be sent before there is too much on its way."""
        if self._is_paused:
            return 0
        sent = 0 if self._transport is None else self._transport.get_write_buffer_size()
        return FULL_BYTES - self._gathered_bytes - sent

    def send(self, method: Callable[Concatenate[Any, P], object], *arguments: P.args, **_: P.kwargs) -> None:
        """Has the other end call the method, which is one of the protocol that it serves."""
        self._send((_CALL, method.__name__, None, arguments))

    def send_now(
        self, method: Callable[Concatenate[Any, P], object], *arguments: P.args, **_: P.kwargs
    ) -> None:
        """Does the same as `send`, but not at the end of this turn of the event loop: that would be a turn
        more."""
        if not self.is_over:
            self._gathered.append((_CALL, method.__name__, None, arguments))
            self._flush()

    def send_with_next(
        self, method: Callable[Concatenate[Any, P], object], *arguments: P.args, **_: P.kwargs
    ) -> None:
        """Does the same as `send`, but the message waits a moment for another one: each wakes the process."""
        self._send((_CALL, method.__name__, None, arguments), waits=True)

    def send_large(
        self,
        size: int,
        method: Callable[Concatenate[Any, P], object],
        *arguments: P.args,
        **_: P.kwargs,
    ) -> None:
        """Does the same as `send` for arguments of roughly `size` bytes."""
        self._send((_CALL, method.__name__, None, arguments), size)

    @overload
    def call(
        self, method: Callable[Concatenate[Any, P], Awaitable[T]], *arguments: P.args, **_: P.kwargs
    ) -> "asyncio.Future[T]": ...

    @overload
    def call(
        self, method: Callable[Concatenate[Any, P], T], *arguments: P.args, **_: P.kwargs
    ) -> "asyncio.Future[T]": ...

    def call(
        self, method: Callable[Concatenate[Any, P], Any], *arguments: P.args, **_: P.kwargs
    ) -> "asyncio.Future[Any]":
        """Has the other end call the method.

        The future gets its result or exception, and is cancelled when that end is gone. Raises what the
        arguments raise when they cannot be pickled.
        """
        number, future = next(self._numbers), self._loop.create_future()
        if self.is_over:
            future.cancel()
        else:
            self._waiting[number] = future
            self._send((_CALL, method.__name__, number, arguments))
        return future

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's are of no class of asyncio's
        self._transport.set_write_buffer_limits(FULL_BYTES)

    def data_received(self, data: bytes) -> None:
        self.has_heard = True
        received = self._received
        received += data
        while len(received) >= _LENGTH_BYTES:
            end = _LENGTH_BYTES + int.from_bytes(received[:_LENGTH_BYTES])
            if len(received) < end:
                break
            with memoryview(received)[_LENGTH_BYTES:end] as frame:
                messages = pickle.loads(frame)  # noqa: S301 - of our own process, see above
            del received[:end]
            for message in messages:
                self._take(*message)

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._on_room()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_over = True
        for future in self._waiting.values():
            future.cancel()
        self._on_end()

    def _send(self, message: tuple[Any, ...], size: int = 0, *, waits: bool = False) -> None:
        if self.is_over:
            return
        if waits and self._flushing is None:
            self._flushing = self._loop.call_later(WAITS_SECONDS, self._flush)
        elif not waits and not self._flushes_soon:
            if self._flushing is not None:
                self._flushing.cancel()
            self._flushing = self._loop.call_soon(self._flush)
            self._flushes_soon = True
        self._gathered.append(message)
        self._gathered_bytes += size
        if self._gathered_bytes >= FRAME_BYTES and self._flushing is not None:
            self._flushing.cancel()
            self._flush()

    def _flush(self) -> None:
        self._flushing, self._flushes_soon = None, False
        if self._transport is None or self.is_over or not self._gathered:
            return
        messages, self._gathered, self._gathered_bytes = self._gathered, [], 0
        try:
            frame = _pickled(messages)
        except Exception:  # noqa: BLE001 - whatever it is, it comes again for the message that it is of
            frame = _pickled([sent for message in messages if (sent := self._sendable(message))])
        self._transport.writelines((len(frame).to_bytes(_LENGTH_BYTES), frame))
        if not self._is_paused:
            self._on_room()

    def _sendable(self, message: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Returns the message, or the error in its place when it cannot be pickled."""
        try:
            _pickled(message)
        except Exception as error:  # noqa: BLE001 - raised where the call was made, or a fault
            kind, *rest = message
            if kind == _CALL:
                method, number, _ = rest
                error.add_note(f"in the arguments of {method!r} to another process")
                self._refuse(number, error)
                return None
            number, result = rest
            instead = pickle.PicklingError(f"the answer cannot be sent to another process: {error!r}")
            for note in getattr(result, "__notes__", ()):
                instead.add_note(note)
            return (_ERROR, number, instead)
        return message

    def _refuse(self, number: int | None, error: Exception) -> None:
        if number is None:
            self._on_fault(error)
        elif not (future := self._waiting.pop(number)).cancelled():
            future.set_exception(error)

    def _take(self, kind: int, *rest: Any) -> None:
        if kind == _CALL:
            method, number, arguments = rest
            called = getattr(self._served, method)(*arguments)
            if hasattr(called, "__await__"):
                self._tasks.add(task := self._loop.create_task(self._answer(number, called)))
                task.add_done_callback(self._tasks.discard)
            elif number is not None:
                self._send((_ANSWER, number, called))
            return
        number, result = rest
        future = self._waiting.pop(number)
        if future.cancelled():  # nobody waits for it any more
            return
        if kind == _ANSWER:
            future.set_result(result)
        else:
            future.set_exception(result)

    async def _answer(self, number: int, called: Any) -> None:
        try:
            answer = (_ANSWER, number, await called)
        except Exception as error:  # noqa: BLE001 - raised at the other end, where it was called
            if not isinstance(error, EventPlatformError):
                error.add_note(traceback.format_exc())  # which does not travel
            answer = (_ERROR, number, error)
        self._send(answer)


def _pickled(messages: Any) -> bytes:
    return pickle.dumps(messages, pickle.HIGHEST_PROTOCOL)
