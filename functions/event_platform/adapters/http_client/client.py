"""Requests to any origin: one deadline, kept connections, and only addresses that the network lets pass."""

import asyncio
import errno
import ssl
from collections.abc import Hashable
from functools import cache

from ...domain.attempts.outcomes import Answer
from ..connections import OUR_FAULT
from ..guard import TrustedNetwork
from ..tls import client_context, restricted
from .connection import ClosedHere, Connection, Key
from .pool import Pool
from .requests import Headers, Target, request_to, target_of

_LOST = frozenset({errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE})


class HttpClient:
    """Follows no redirect, keeps no cookies, knows no proxy, unpacks nothing.

    `tls` replaces the default context, which trusts the system's authorities.
    """

    def __init__(self, network: TrustedNetwork, tls: ssl.SSLContext | None = None) -> None:
        self._network = network
        self._tls = restricted(tls) if tls is not None else default_tls()
        self._pool = Pool()
        self._connections: set[Connection] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False
        self._all_lost = asyncio.Event()

    async def exchange(
        self,
        method: str,
        url: str,
        headers: Headers,
        body: bytes | None,
        *,
        owner: Hashable,
        timeout: float,
    ) -> Answer:
        """The answer within `timeout` seconds in all: name, connection, TLS, sending, answer and body.

        A kept connection is used by requests of the same `owner` to the same origin only.

        Raises InvalidUrl, ValueError for headers, TimeoutError, NotHttp, EOFError, ClosedHere,
        AddressRefused, NameNotResolved, ResolverSilent, and the OSError that the connection ended with.
        """
        if self._loop is None:  # to ask for it is a call to the system
            self._loop = asyncio.get_running_loop()
        deadline = self._loop.time() + timeout
        target = target_of(method, url)
        head, content = request_to(target, headers, body)
        key = owner, target.origin
        kept = self._kept(key)
        if kept is not None:
            try:
                return await kept.exchange(head, content, deadline)
            except (EOFError, OSError) as error:
                # A kept connection that was already dead says nothing about the receiver. The request is sent
                # once more, on a fresh one, whose failure counts (RFC 9110 9.2.2, RFC 9112 9.3.1).
                if kept.has_answered or not _is_loss(error):
                    raise
        connection = await self._connected(key, target, deadline)
        return await connection.exchange(head, content, deadline)

    async def close(self) -> None:
        """Ends all connections, and exchanges with them. It cannot be used any more."""
        self._is_closed = True
        self._pool.close()
        for connection in tuple(self._connections):
            connection.close()
        if self._connections:
            await self._all_lost.wait()  # the loop closes their sockets when it comes round

    def _kept(self, key: Key) -> Connection | None:
        """A kept connection on which nothing came since its last answer."""
        while (kept := self._pool.take(key)) is not None and not kept.is_quiet():
            kept.drop()
        return kept

    async def _connected(self, key: Key, target: Target, deadline: float) -> Connection:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout_at(deadline):
            try:
                opened = await self._network.connect(target.host, target.port)
            except OSError as error:
                if error.errno in OUR_FAULT:
                    self._pool.give_way()
                raise
            _, connection = await loop.create_connection(
                lambda: Connection(key, self._pool.keep, self._lost),
                sock=opened,
                ssl=self._tls if target.is_tls else None,
                server_hostname=target.host.rstrip(".") if target.is_tls else None,
            )
        if self._is_closed:
            connection.drop()
            raise ClosedHere
        if connection.is_open:  # else it was lost already
            self._connections.add(connection)
        return connection

    def _lost(self, connection: Connection) -> None:
        self._pool.forget(connection)
        self._connections.discard(connection)
        if self._is_closed and not self._connections:
            self._all_lost.set()


@cache
def default_tls() -> ssl.SSLContext:
    """Made once: it takes 20 ms to read the system's authorities."""
    context = client_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _is_loss(error: EOFError | OSError) -> bool:
    return isinstance(error, EOFError) or error.errno in _LOST
