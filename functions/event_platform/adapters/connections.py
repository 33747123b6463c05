"""Rules for connections of all protocols: how long they are kept, and the log's words for a failure."""

import errno
import os
import random
import re
import ssl
from collections.abc import Mapping

from ..domain.attempts.outcomes import Reason, TransportFailure
from ..domain.errors import NoResolver, OutOfSockets
from .resolvers import ResolverSilent
from .tls_words import tls_words

REASON_OF_ERRNO: Mapping[int | None, Reason] = {
    errno.ECONNREFUSED: Reason.CONNECTION_REFUSED,
    errno.ECONNRESET: Reason.CONNECTION_RESET,
    errno.ECONNABORTED: Reason.CONNECTION_RESET,
    errno.EPIPE: Reason.CONNECTION_RESET,
    errno.ENETUNREACH: Reason.NETWORK_UNREACHABLE,
    errno.EHOSTUNREACH: Reason.NETWORK_UNREACHABLE,
    errno.ENETDOWN: Reason.NETWORK_UNREACHABLE,
    errno.EHOSTDOWN: Reason.NETWORK_UNREACHABLE,
    errno.EADDRNOTAVAIL: Reason.NETWORK_UNREACHABLE,  # no address of that family on this machine
    errno.EAFNOSUPPORT: Reason.NETWORK_UNREACHABLE,
    errno.EACCES: Reason.NETWORK_UNREACHABLE,  # a firewall on this machine
    errno.EPERM: Reason.NETWORK_UNREACHABLE,
    errno.ETIMEDOUT: Reason.DESTINATION_TIMEOUT,
}
MAX_AGE_SECONDS = 300.0
"""A connection that is used all the time ends at this age, so that a name that moved is followed."""
_ERRNO_IN_TEXT = re.compile(r"\[Errno (\d+)\]")
OUR_FAULT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
"""The errors of a process that is out of sockets or memory."""


def expiry(opened_at: float) -> float:
    """Returns when a connection is too old to be kept. It differs for those that are opened together."""
    return opened_at + MAX_AGE_SECONDS * random.uniform(0.8, 1.0)  # noqa: S311 - no secret


def most_specific(summary: str) -> int | None:
    """The errno in aiohappyeyeballs' summary of a host's several addresses that failed in different ways.

    That there is no route to one of them, often by IPv6, says less than what another one did. If we could not
    try one of them, nothing is known of the host.
    """
    numbers = [int(number) for number in _ERRNO_IN_TEXT.findall(summary)]
    if (ours := next((each for each in numbers if each in OUR_FAULT), None)) is not None:
        return ours
    specific = [each for each in numbers if REASON_OF_ERRNO.get(each) is not Reason.NETWORK_UNREACHABLE]
    return next(iter(specific + numbers), None)


def failure_of(error: OSError) -> TransportFailure:
    """Returns what a connection failed of. Raises CannotConnect where that is no peer's doing."""
    match error:
        case ResolverSilent():
            raise NoResolver("names cannot be looked up: no nameserver answers") from error
        case ssl.SSLCertVerificationError():
            return TransportFailure(Reason.INVALID_CERTIFICATE, tls_words(error))
        case ssl.SSLError():  # its errno counts from 1 by OpenSSL's own rules
            return TransportFailure(Reason.INVALID_TLS_HANDSHAKE, tls_words(error))
        case ConnectionResetError(errno=None):  # asyncio's word for a peer that hangs up during TLS
            return TransportFailure(Reason.INVALID_TLS_HANDSHAKE, "closed during the TLS handshake")
    if error.errno in OUR_FAULT:
        raise OutOfSockets(
            f"no connection could be opened: {os.strerror(error.errno or 0).lower()}"
        ) from error
    reason = REASON_OF_ERRNO.get(error.errno, Reason.DESTINATION_FAILURE)
    return TransportFailure(reason, os.strerror(error.errno).lower() if error.errno else "connection failed")
