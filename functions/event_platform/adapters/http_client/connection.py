"""One connection to an origin, for one exchange after the other."""

import asyncio
import math
import select
import ssl
from collections.abc import Callable, Hashable
from typing import cast

from ...domain.attempts.outcomes import Answer
from ..connections import expiry
from .answers import AnswerReader, NotHttp

Key = tuple[Hashable, str]
"""The owner of a connection, and the origin that it leads to: both of the requests that may use it."""
PIECE_BYTES = 64 * 1024
"""A larger body is written in pieces of this size, as the receiver takes them. A transport would keep all of
it, and a second copy of it over TLS."""
REMEMBERED_BYTES = 512
"""The largest answer that a connection remembers, to know it when it comes again."""
_NOTHING = memoryview(b"")


class ClosedHere(Exception):
    """Raised when this side closed the connection under an exchange."""


class Connection(asyncio.Protocol):
    """A connection. Its end ends its exchange, and bytes that nobody asked for end it.

    It is always dropped without a goodbye: a receiver that does not read must hold nothing up. What goes
    wrong in a method that the loop calls ends the exchange, too: the loop then calls `connection_lost`.
    """

    def __init__(
        self, key: Key, on_idle: "Callable[[Connection], None]", on_lost: "Callable[[Connection], None]"
    ) -> None:
        """Calls `on_idle` after an exchange that leaves it fit for another one, `on_lost` at its end."""
        self.key = key
        self.is_open = False
        self.has_answered = False
        """True if a byte of the answer to the last request came."""
        self._on_idle = on_idle
        self._on_lost = on_lost
        self.loop = asyncio.get_running_loop()
        self.expires_at = expiry(self.loop.time())
        """The time by the loop's clock from which it is not kept any more."""
        self._transport: asyncio.Transport
        self._readable = select.poll()
        self._waiter: asyncio.Future[Answer] | None = None
        self._reader: AnswerReader | None = None
        """The reader of the answer, once a part of it came."""
        self._is_reusable = False
        self._last: tuple[bytes, Answer] | None = None
        """The last answer that came in one short piece and left the connection fit for another exchange."""
        self._deadline = self._fires_at = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._end: Exception = EOFError()
        self._unsent = _NOTHING
        self._is_paused = False

    async def exchange(self, head: bytes, body: bytes, deadline: float) -> Answer:
        """Sends a request and returns its answer. The connection stays open when it is fit for another one.

        Raises TimeoutError at `deadline` (by the loop's clock), NotHttp, EOFError, ClosedHere, and the
        OSError that the connection ended with.
        """
        self.has_answered = self._is_reusable = False
        if not self.is_open:  # since it was made, or kept
            raise self._end
        self._waiter = waiter = self.loop.create_future()
        self._deadline = deadline
        if self._timer is None or deadline < self._fires_at:
            self._set_timer()
        try:
            if len(body) <= PIECE_BYTES:
                self._transport.writelines((head, body))  # what is not taken yet waits in the transport
            else:
                self._transport.write(head)
                self._unsent = memoryview(body)
                self._write_pieces()
            return await waiter
        finally:
            is_sent = not self._unsent and self._transport.get_write_buffer_size() == 0
            self._unsent = _NOTHING
            self._waiter = None
            if self._reader is not None:
                self._is_reusable = self._reader.is_reusable
                self._reader.release()
                self._reader = None
            if not (self._is_reusable and is_sent):
                self.drop()
            elif self.is_open:
                self._on_idle(self)

    def is_quiet(self) -> bool:
        """True if it can be used: it is open, and no bytes wait in the socket that the loop has not read yet.

        They are no answer to the next request, and after that is sent nothing tells them from one.
        """
        return self.is_open and not self._readable.poll(0)

    def close(self) -> None:
        """Ends an exchange that is under way with ClosedHere."""
        self._fail(ClosedHere())
        self.drop()

    def drop(self) -> None:
        """Ends it at once, with all that is unsent."""
        self.is_open = False
        self._transport.abort()

    # What the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are of no class of asyncio's
        self._readable.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        self._transport.set_write_buffer_limits(PIECE_BYTES)
        self.is_open = True

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._write_pieces()

    def data_received(self, data: bytes) -> None:
        waiter = self._waiter
        if waiter is None or waiter.done():
            self.drop()
            return
        self.has_answered = True
        reader, last = self._reader, self._last
        if reader is None:
            if last is not None and data == last[0]:  # as most receivers answer each time
                self._is_reusable = True
                waiter.set_result(last[1])
                return
            reader = self._reader = AnswerReader()
        try:
            reader.feed(data)
        except NotHttp as error:
            self._fail(error)
            return
        if reader.answer is not None:
            if reader.is_reusable and reader.received == len(data) <= REMEMBERED_BYTES:
                self._last = data, reader.answer
            waiter.set_result(reader.answer)

    def eof_received(self) -> None:
        if self._waiter is not None:
            reader = self._reader = self._reader or AnswerReader()
            try:
                if not self._has_ended():
                    raise EOFError
                reader.end()
            except EOFError as error:
                self._fail(error)
            else:
                if reader.answer is not None and not self._waiter.done():
                    self._waiter.set_result(reader.answer)
        self.drop()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._end = exc or self._end
        self._fail(self._end)
        self._on_lost(self)

    def _write_pieces(self) -> None:
        while self._unsent and self.is_open and not self._is_paused:
            self._transport.write(self._unsent[:PIECE_BYTES])
            self._unsent = self._unsent[PIECE_BYTES:]

    def _has_ended(self) -> bool:
        """True if the peer ended it as its protocol wants: TLS has a message for that, else it was cut off.

        uvloop does not call `eof_received` then, asyncio does (RFC 9112 9.8).
        """
        tls = self._transport.get_extra_info("ssl_object")
        try:
            return tls is None or tls.read(1) == b""
        except ssl.SSLError:
            return False

    def _fail(self, error: Exception) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    def _set_timer(self) -> None:
        """Has the exchange end at its deadline. The timer of one exchange serves those after it, too."""
        if self._timer is not None:
            self._timer.cancel()
        self._fires_at = self._deadline
        self._timer = self.loop.call_at(self._fires_at, self._expire)

    def _expire(self) -> None:
        self._timer = None
        if self._waiter is None:
            return
        if self._deadline > self._fires_at:  # it was set for an exchange before
            self._set_timer()
        else:
            self._fail(TimeoutError())
