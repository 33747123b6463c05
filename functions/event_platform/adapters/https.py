"""HTTPS to strangers and to PIMs: one deadline, no redirects, a bounded answer, and only addresses that the
guard lets pass."""

import ssl
from typing import TypeAlias

from .. import USER_AGENT
from ..domain.attempts.outcomes import Answer, Reason, TransportFailure
from ..domain.errors import PimUnavailable
from ..domain.subscriptions import Owner
from ..domain.tenants import Tenant
from ..tracebacks import drop_tracebacks
from .connections import failure_of
from .guard import AddressRefused, GuardedNetwork, TrustedNetwork
from .http_client.answers import NotHttp
from .http_client.client import HttpClient
from .http_client.connection import ClosedHere
from .http_client.requests import Headers, InvalidUrl
from .resolvers import NameNotResolved

PIM_SECONDS = 3.0
_Failure: TypeAlias = InvalidUrl | NotHttp | EOFError | ClosedHere | OSError
"""An error that leaves an exchange without an answer."""
_FAILURES = (InvalidUrl, NotHttp, EOFError, ClosedHere, OSError)


class HttpsSender:
    """The port `Sender`. `tls` replaces the default context, which trusts the system's authorities."""

    def __init__(self, network: GuardedNetwork, *, tls: ssl.SSLContext | None = None) -> None:
        self._client = HttpClient(network, tls)

    async def post(
        self, url: str, headers: Headers, body: bytes, *, owner: Owner, timeout: float
    ) -> Answer | TransportFailure:
        try:
            return await self._client.exchange("POST", url, headers, body, owner=owner, timeout=timeout)
        except _FAILURES as error:
            return _failure(error, timeout)

    async def close(self) -> None:
        await self._client.close()


class HttpsPimGateway:
    """The port `PimGateway`. Only a PIM named by its exact URL may be in a private network."""

    def __init__(
        self, guarded: GuardedNetwork, trusted: TrustedNetwork, *, tls: ssl.SSLContext | None = None
    ) -> None:
        self._guarded = HttpClient(guarded, tls)
        self._trusted = HttpClient(trusted, tls)

    async def get(self, tenant: Tenant, pim_url: str, path: str, token: str) -> Answer:
        client = self._trusted if tenant.url is not None else self._guarded
        headers = [
            ("Authorization", f"Bearer {token}"),
            ("Accept", "application/json"),
            ("User-Agent", USER_AGENT),
        ]
        try:
            result = await client.exchange(
                "GET", pim_url + path, headers, None, owner=pim_url, timeout=PIM_SECONDS
            )
        except _FAILURES as error:
            detail = _failure(error, PIM_SECONDS).detail
            raise PimUnavailable(f"the PIM could not be asked: {detail or 'no answer came'}") from None
        if result.status == 429 or 300 <= result.status <= 399 or result.status >= 500:
            raise PimUnavailable(f"the PIM could not be asked: it answered {result.status}")
        return result

    async def close(self) -> None:
        await self._guarded.close()
        await self._trusted.close()


def _failure(error: _Failure, timeout: float) -> TransportFailure:
    """Returns the reason why no answer came, in our own words, as errors may quote URLs and answers.

    Raises what is no peer's doing.
    """
    failure = _in_our_words(error, timeout)
    drop_tracebacks(error)  # whose frames hold the body
    return failure


def _in_our_words(error: _Failure, timeout: float) -> TransportFailure:
    match error:
        case InvalidUrl():
            return TransportFailure(Reason.INVALID_DESTINATION_CONFIGURATION, str(error))
        case AddressRefused():
            reason = Reason.INVALID_DESTINATION_CONFIGURATION
            return TransportFailure(reason, "the host has no public address")
        case NameNotResolved():
            return TransportFailure(Reason.DNS_LOOKUP_FAILURE, "the host name does not resolve")
        case TimeoutError():
            return TransportFailure(Reason.DESTINATION_TIMEOUT, f"no complete answer within {timeout:g} s")
        case EOFError():
            return TransportFailure(Reason.UNEXPECTED_EOF, "closed before the answer was complete")
        case NotHttp():
            detail = "not an HTTP answer, or its headers are too large"
            return TransportFailure(Reason.DESTINATION_FAILURE, detail)
        case ClosedHere():
            return TransportFailure(Reason.CLIENT_CLOSED_CONNECTION, "closed on our side")
        case OSError():
            return failure_of(error)
