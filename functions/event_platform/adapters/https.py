"""HTTPS to strangers and to PIMs, with aiohttp: one deadline, no redirects, a bounded answer, and
only addresses that the guard lets pass."""

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache

import aiohttp
from aiohttp import AddrInfoType
from aiohttp.client import ClientTimeout
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError
from aiohttp.streams import StreamReader
from aiohttp.tracing import Trace
from yarl import URL

from ..domain.errors import PimUnavailable
from ..domain.outcomes import Answer, Reason, TransportFailure
from ..domain.tenants import Tenant
from ..domain.urls import check_endpoint_url
from .connections import OUR_FAULT, REASON_OF_ERRNO, certificate_problem, most_telling, words
from .guard import AddressRefused, GuardedNetwork, TrustedNetwork

MAX_ANSWER_BYTES = 64 * 1024
PIM_SECONDS = 3.0
_KEEP_ALIVE_SECONDS = (
    15.0  # below the idle timeouts of the usual servers, so that few reused connections are dead
)
_NAME_CACHE_SECONDS = 10
_WITHOUT_AUTOMATIC_HEADERS = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")

Headers = Sequence[tuple[str, str]]

_LOST = frozenset({errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE})


class HttpsSender:
    """The port `Sender`. `tls` replaces the default context, which trusts the system's authorities."""

    def __init__(self, network: GuardedNetwork, *, tls: ssl.SSLContext | None = None) -> None:
        self._client = _Client(network, tls)

    async def post(
        self, url: str, headers: Headers, body: bytes, *, timeout: float
    ) -> Answer | TransportFailure:
        return await self._client.exchange("POST", url, headers, body, timeout=timeout)

    async def close(self) -> None:
        await self._client.close()


class HttpsPimGateway:
    """The port `PimGateway`. Only a PIM named by its exact URL may be in a private network."""

    def __init__(
        self, guarded: GuardedNetwork, trusted: TrustedNetwork, *, tls: ssl.SSLContext | None = None
    ) -> None:
        self._guarded = _Client(guarded, tls)
        self._trusted = _Client(trusted, tls)

    async def get(self, tenant: Tenant, pim_url: str, path: str, token: str) -> Answer:
        client = self._trusted if tenant.url is not None else self._guarded
        headers = [("Authorization", f"Bearer {token}"), ("Accept", "application/json")]
        result = await client.exchange("GET", pim_url + path, headers, None, timeout=PIM_SECONDS)
        if isinstance(result, TransportFailure):
            raise PimUnavailable(f"the PIM could not be asked: {result.reason}")
        if result.status == 429 or 300 <= result.status <= 399 or result.status >= 500:
            raise PimUnavailable(f"the PIM could not be asked: it answered {result.status}")
        return result

    async def close(self) -> None:
        await self._guarded.close()
        await self._trusted.close()


@dataclass(slots=True)
class _Exchange:
    """What the connector tells about the connection that an exchange got."""

    reused: bool = True  # until a socket is opened for it
    answered: bool = False
    transport: asyncio.Transport | None = None
    protocol: ResponseHandler | None = None


_current: ContextVar[_Exchange] = ContextVar("_current")


class _Connector(aiohttp.TCPConnector):
    """Pools connections by origin, without limits: the queue in front of us bounds what is under way."""

    def __init__(self, network: TrustedNetwork, tls: ssl.SSLContext | None) -> None:
        self._network = network
        super().__init__(
            resolver=network,
            socket_factory=self._open_socket,
            ssl=True if tls is None else tls,
            limit=0,
            ttl_dns_cache=_NAME_CACHE_SECONDS,
            keepalive_timeout=_KEEP_ALIVE_SECONDS,
        )

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> Connection:
        connection = await super().connect(req, traces, timeout)
        exchange = _current.get()
        exchange.transport, exchange.protocol = connection.transport, connection.protocol
        if not exchange.reused and exchange.protocol is not None and exchange.protocol.closed is not None:
            exchange.protocol.closed.add_done_callback(_take_exception)
        return connection

    def _open_socket(self, address: AddrInfoType) -> socket.socket:
        opened = self._network.open_socket(address)
        _current.get().reused = False
        return opened


class _Client:
    """One session's worth of connections. The session is made on first use, as it wants the running loop."""

    def __init__(self, network: TrustedNetwork, tls: ssl.SSLContext | None) -> None:
        self._network = network
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None

    async def exchange(
        self, method: str, url: str, headers: Headers, body: bytes | None, *, timeout: float
    ) -> Answer | TransportFailure:
        try:
            target = _target(url)
        except ValueError as error:
            return TransportFailure(Reason.INVALID_DESTINATION_CONFIGURATION, f"the URL {error}")
        try:
            # aiohttp's own total timeout is rounded up to whole seconds from 5 s on
            async with asyncio.timeout(timeout):
                return await self._until_the_connection_lives(method, target, headers, body)
        except TimeoutError:
            return TransportFailure(Reason.DESTINATION_TIMEOUT, f"no complete answer within {timeout:g} s")

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _until_the_connection_lives(
        self, method: str, target: URL, headers: Headers, body: bytes | None
    ) -> Answer | TransportFailure:
        """Sends again when a kept connection was already dead, which says nothing about the receiver.

        Each round uses up a kept connection, so a fresh one follows; its failure counts (RFC 9112 9.3.1).
        """
        while True:
            result = await self._once(method, target, headers, body)
            if result is not None:
                return result

    async def _once(
        self, method: str, target: URL, headers: Headers, body: bytes | None
    ) -> Answer | TransportFailure | None:
        exchange = _Exchange()
        token = _current.set(exchange)
        complete = False
        try:
            async with self._opened().request(
                method, target, headers=headers, data=body, allow_redirects=False
            ) as response:
                exchange.answered = True
                body_read = await _body_of(response.content, exchange.protocol)
                answer = Answer(response.status, _headers_of(response), body_read)
            complete = True
            return answer
        except (aiohttp.ClientError, HttpProcessingError) as error:
            return None if _was_dead_already(exchange, error) else _failure(error)
        finally:
            _current.reset(token)
            _let_go(exchange, complete)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=_Connector(self._network, self._tls),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                skip_auto_headers=_WITHOUT_AUTOMATIC_HEADERS,
                timeout=ClientTimeout(total=None, sock_connect=None),
            )
        return self._session


@lru_cache(maxsize=4096)
def _target(url: str) -> URL:
    """The URL, to be sent as it was given. Raises ValueError when there is no sending to it."""
    check_endpoint_url(url, allow_http=True)
    return URL(url, encoded=True)


def _headers_of(response: aiohttp.ClientResponse) -> dict[str, str]:
    """Names in lower case, repeated ones joined (RFC 9110 5.3), in characters that every log can hold."""
    headers: dict[str, str] = {}
    for name, value in response.headers.items():
        text = value if value.isascii() else value.encode(errors="surrogateescape").decode(errors="replace")
        lower = name.lower()
        headers[lower] = f"{headers[lower]}, {text}" if lower in headers else text
    return headers


async def _body_of(content: StreamReader, protocol: ResponseHandler | None) -> bytes:
    """What came of the body, at most MAX_ANSWER_BYTES."""
    body = bytearray()
    try:
        with _ending_with(protocol, content):
            while len(body) < MAX_ANSWER_BYTES and (chunk := await content.readany()):
                body += chunk
    except aiohttp.ClientPayloadError as error:
        why = protocol.exception() if protocol is not None else None
        raise (error if why is None else why) from None  # the protocol knows more: a reset, or garbage
    return bytes(body[:MAX_ANSWER_BYTES])


@contextmanager
def _ending_with(protocol: ResponseHandler | None, content: StreamReader) -> Iterator[None]:
    """Ends the wait for a body with its connection: aiohttp forgets to, when a chunk's frame is garbage."""
    closed = None if content.is_eof() or protocol is None else protocol.closed
    if closed is None:
        yield
        return

    def end(_: asyncio.Future[None]) -> None:
        if not content.is_eof() and content.exception() is None:
            content.set_exception(aiohttp.ClientPayloadError())

    closed.add_done_callback(end)
    try:
        yield
    finally:
        closed.remove_done_callback(end)


def _take_exception(closed: asyncio.Future[None]) -> None:
    """Else asyncio would log that nobody asked why a kept connection ended."""
    if not closed.cancelled():
        closed.exception()


def _let_go(exchange: _Exchange, complete: bool) -> None:
    """Drops a connection that isn't kept, and what is unsent on it, without waiting for the receiver."""
    transport = exchange.transport
    if transport is not None and (not complete or transport.is_closing()):
        transport.abort()
    exchange.transport = exchange.protocol = (
        None  # the pool's timers keep the context, and with it the exchange
    )


def _was_dead_already(exchange: _Exchange, error: Exception) -> bool:
    """Whether a kept connection was lost before a byte of the answer came."""
    if not exchange.reused or exchange.transport is None or exchange.answered:
        return False
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return isinstance(error.message, str)  # else it is the beginning of an answer
    return isinstance(error, aiohttp.ClientConnectionResetError) or (
        isinstance(error, aiohttp.ClientOSError) and error.errno in _LOST
    )


def _failure(error: aiohttp.ClientError | HttpProcessingError) -> TransportFailure:
    """The reason of a failure. What aiohttp says may quote the URL, so `detail` is in our own words."""
    match error:
        case aiohttp.ClientConnectorError(os_error=AddressRefused()):
            return TransportFailure(
                Reason.INVALID_DESTINATION_CONFIGURATION, "the host has no public address"
            )
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return TransportFailure(Reason.INVALID_DESTINATION_CONFIGURATION, "the URL can't be sent to")
        case aiohttp.ClientConnectorDNSError():
            return TransportFailure(Reason.DNS_LOOKUP_FAILURE, "the host name does not resolve")
        case aiohttp.ClientConnectorCertificateError():
            return TransportFailure(Reason.INVALID_CERTIFICATE, certificate_problem(error.certificate_error))
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
            return TransportFailure(Reason.UNEXPECTED_EOF, "closed before the answer was complete")
        case aiohttp.ClientResponseError() | HttpProcessingError():
            return TransportFailure(
                Reason.DESTINATION_FAILURE, "not an HTTP answer, or its headers are too large"
            )
        case OSError():
            return _connection_failure(error)
        case aiohttp.ClientConnectionError():
            return TransportFailure(Reason.CLIENT_CLOSED_CONNECTION, "closed on our side")
        case _:
            return TransportFailure(Reason.DESTINATION_FAILURE, type(error).__name__)


def _connection_failure(error: OSError) -> TransportFailure:
    """Raises what is no receiver's doing: this process is out of sockets or memory."""
    connecting = isinstance(error, aiohttp.ClientConnectorError)
    cause = error.os_error if connecting else error.__cause__
    if isinstance(cause, ssl.SSLError):  # its errno counts from 1 by OpenSSL's own rules
        return TransportFailure(Reason.INVALID_TLS_HANDSHAKE, words(cause.reason))
    if connecting and isinstance(cause, ConnectionResetError) and cause.errno is None:
        # asyncio's word for a peer that hangs up while TLS is negotiated
        return TransportFailure(Reason.INVALID_TLS_HANDSHAKE, "closed during the TLS handshake")
    if isinstance(error, aiohttp.ClientConnectionResetError):  # has no errno: found out while writing
        return TransportFailure(Reason.CONNECTION_RESET, "connection reset")
    number = error.errno or most_telling(str(cause))
    if number in OUR_FAULT:
        raise error
    reason = REASON_OF_ERRNO.get(number, Reason.DESTINATION_FAILURE)
    return TransportFailure(reason, os.strerror(number).lower() if number else "connection failed")
