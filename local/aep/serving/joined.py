"""Head and body of an answer in one write."""

import asyncio


class Joined:
    """A transport for one answer, whose first write leaves with the second one.

    An answer is a head and, nearly always at once, its body. Each write is a call to the system and a packet.
    """

    __slots__ = ("_first", "_has_begun", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._first: bytes | None = None
        self._has_begun = False

    def write(self, data: bytes) -> None:
        if self._first is not None:
            first, self._first = self._first, None
            self._transport.writelines((first, data))
        elif self._has_begun:
            self._transport.write(data)
        else:
            self._has_begun, self._first = True, data
            self._loop.call_soon(self._flush)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._first is not None and not self._transport.is_closing():
            self._transport.write(self._first)
        self._first = None
