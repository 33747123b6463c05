"""The REST API of PIMs over aiohttp: one deadline, no redirects, and answers read as they come."""

import asyncio
import importlib
import os
import socket
import ssl
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from .. import USER_AGENT
from ..domain.errors import PimUnavailable, TooLarge
from ..ports import PimAnswer
from .resolvers import NameNotResolved, Resolver, ResolverSilent, local_names
from .tls import client_context

if TYPE_CHECKING:
    import aiohttp

CALL_SECONDS = 60.0
CONNECT_SECONDS = 10.0
PIECE_BYTES = 8 * 1024
"""The most bytes that are read before others have their turn in the event loop."""
MAX_BYTES = 32 * 1024 * 1024
MAX_OTHER_BYTES = 64 * 1024
"""The most that is read of an answer that is no page."""
_RETRY_AFTER_DIGITS = 6


class HttpsPimRest:
    """The port `PimRest`. `tls` replaces the default context, which trusts the system's authorities.

    Nothing is loaded before the first call, as most platforms have no feed.
    """

    def __init__(
        self, *, tls: ssl.SSLContext | None = None, seconds: float = CALL_SECONDS, most_bytes: int = MAX_BYTES
    ) -> None:
        self._tls = tls
        self._seconds = seconds
        self._most_bytes = most_bytes
        self._session: aiohttp.ClientSession | None = None
        self._names: Resolver | None = None

    async def call(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        read: Callable[[bytes], None] | None,
    ) -> PimAnswer:
        """Returns the answer as the port says."""
        session = self._session or await self._opened()
        import aiohttp
        import yarl

        try:
            async with asyncio.timeout(self._seconds):
                async with session.request(
                    method,
                    yarl.URL(url, encoded=True),  # links of the PIM are followed as they are
                    headers={**headers, "Accept-Encoding": "identity", "User-Agent": USER_AGENT},
                    data=body or None,
                    allow_redirects=False,
                ) as response:
                    if response.status == 200 and read is not None:
                        await self._read(response, read)
                        text = b""
                    else:
                        text = await response.content.read(MAX_OTHER_BYTES)
                    return PimAnswer(
                        response.status,
                        _date(response.headers.get("Date")),
                        _seconds(response.headers.get("Retry-After")),
                        text,
                    )
        except TimeoutError as error:
            raise PimUnavailable(f"the PIM gave no complete answer within {self._seconds:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise PimUnavailable(f"the PIM could not be asked: {_words(error)}") from error

    async def _opened(self) -> "aiohttp.ClientSession":
        context = await asyncio.to_thread(_loaded, self._tls)
        return self._session or self._open(context)

    def _open(self, context: ssl.SSLContext) -> "aiohttp.ClientSession":
        import aiohttp

        names = self._names = local_names()
        connector = aiohttp.TCPConnector(ssl=context, resolver=_resolver(names), limit=0, limit_per_host=4)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            read_bufsize=8 * PIECE_BYTES,
        )
        return self._session

    async def _read(self, response: "aiohttp.ClientResponse", read: Callable[[bytes], None]) -> None:
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise PimUnavailable("the PIM's answer is packed, though that was not asked for")
        size = 0
        async for piece in response.content.iter_chunked(PIECE_BYTES):
            size += len(piece)
            if size > self._most_bytes:
                raise TooLarge(f"the answer has more than {self._most_bytes // 1024**2} MiB")
            read(piece)
            await asyncio.sleep(0)  # what has arrived is read without a turn for anybody else

    async def close(self) -> None:
        """Ends all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
        names, self._names = self._names, None
        if names is not None:
            await names.close()


def _loaded(tls: ssl.SSLContext | None) -> ssl.SSLContext:
    """Imports the libraries, and returns the context: 0.1 s of CPU that the event loop must not spend."""
    for name in ("aiohttp", "yarl"):
        importlib.import_module(name)
    return tls or client_context()


def _resolver(names: Resolver) -> Any:
    from aiohttp.abc import AbstractResolver, ResolveResult

    class _Names(AbstractResolver):
        """Looks names up as deliveries do."""

        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            return [
                ResolveResult(
                    hostname=host,
                    host=address,
                    port=port,
                    family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                    proto=0,
                    flags=socket.AI_NUMERICHOST,
                )
                for address in await names.resolve(host)
            ]

        async def close(self) -> None:
            """Does nothing: whoever made the resolver closes it."""

    return _Names()


def _words(error: Exception) -> str:
    """Our words for a failure, as errors may quote URLs and answers."""
    import aiohttp

    cause = error.__cause__ or error
    if isinstance(cause, NameNotResolved):
        return "its host name does not resolve"
    if isinstance(cause, ResolverSilent):
        return "no nameserver answers"
    if isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError):
        return "its certificate is not one that this machine trusts"
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return "the TLS handshake failed"
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError):
        return "the connection ended before the answer was complete"
    if isinstance(error, OSError) and isinstance(error.errno, int):
        return os.strerror(error.errno).lower()
    return "its answer is no HTTP"


def _date(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _seconds(text: str | None) -> float | None:
    """The seconds of Retry-After, which may be a date instead."""
    if text is None:
        return None
    if text.isascii() and text.isdecimal() and len(text) <= _RETRY_AFTER_DIGITS:
        return float(text)
    until = _date(text)
    return None if until is None else max(0.0, (until - datetime.now(UTC)).total_seconds())
