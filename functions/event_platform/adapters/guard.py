"""Where we may connect to: looks names up and opens sockets, and refuses what is not public.

A stranger's URL is checked three times: by `check` when a subscription is made, on the addresses that a
lookup gives, and on the very address that a socket is opened for. The last is what counts: it leaves no
time in which a name could change its mind, and nothing in a URL gets around it.
"""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Callable, Sequence

import pycares
from aiohttp import AddrInfoType
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import AsyncResolver

from ..domain.addresses import IpAddress, IpNetwork, is_globally_routable

CHECK_SECONDS = 2.0
_LOOKUP_SECONDS = 1.0  # of the first try; the second waits longer, and both end before a delivery's deadline
_LOOKUP_TRIES = 2
_UNSENT_MILLISECONDS = 10_000

_PRIVATE_SUFFIXES = (
    "localhost",
    "local",
    "internal",
    "home.arpa",
)  # RFC 6761, 6762, 8375; ICANN for .internal
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_MAX_NAME_LENGTH = 253

MakeResolver = Callable[[], AbstractResolver]


class AddressRefused(ValueError, OSError):
    """Raised when a host is, or a name resolves to, an address that we don't connect to.

    A ValueError for who asks about a host, an OSError for the HTTP client, which then treats it as it
    does every address that can't be connected to.
    """


def public_names(nameservers: Sequence[str] | None = None) -> AbstractResolver:
    """Lookups by c-ares of full names only: a search list could turn a stranger's name into one of ours."""
    return AsyncResolver(
        nameservers=nameservers,
        timeout=_LOOKUP_SECONDS,
        tries=_LOOKUP_TRIES,
        flags=pycares.ARES_FLAG_NOSEARCH,
    )


def local_names(nameservers: Sequence[str] | None = None) -> AbstractResolver:
    """Lookups by c-ares as the machine is set up, search list included."""
    return AsyncResolver(nameservers=nameservers, timeout=_LOOKUP_SECONDS, tries=_LOOKUP_TRIES)


class TrustedNetwork(AbstractResolver):
    """Connects anywhere: for addresses that the operator wrote down."""

    def __init__(self, make_resolver: MakeResolver = local_names) -> None:
        self._make_resolver = make_resolver
        self._resolver: AbstractResolver | None = None

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Every address of the name. Raises OSError when it does not resolve."""
        if self._resolver is None:  # not before, as it wants the running loop
            self._resolver = self._make_resolver()
        return await self._resolver.resolve(host, port, family)

    def open_socket(self, address: AddrInfoType) -> socket.socket:
        """A socket to connect to just this address with."""
        family, kind, protocol, _, _ = address
        opened = socket.socket(family, kind, protocol)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # A receiver that neither reads nor hangs up must not keep a closed connection's bytes for ever.
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNSENT_MILLISECONDS)
        return opened

    async def close(self) -> None:
        """Ends pending lookups."""
        resolver, self._resolver = self._resolver, None
        if resolver is not None:
            await resolver.close()


class GuardedNetwork(TrustedNetwork):
    """The port `DestinationGuard`: connects to public addresses only.

    A name with one bad address among its answers is refused as a whole.

    `allow_loopback` adds 127.0.0.0/8, ::1 and the name localhost, for work on one's own machine.
    `allow_networks` are further ones that the operator opens; names for private networks may then lead there.
    """

    def __init__(
        self,
        *,
        allow_loopback: bool = False,
        allow_networks: Sequence[IpNetwork] = (),
        make_resolver: MakeResolver = public_names,
    ) -> None:
        super().__init__(make_resolver)
        self._allow_loopback = allow_loopback
        self._allow_networks = tuple(allow_networks)

    async def check(self, host: str) -> None:
        """Raises AddressRefused, saying why. A name that does not resolve within 2 s passes."""
        literal = _literal(host)
        if literal is not None:
            if not self._permits(literal):
                raise AddressRefused(f"'{host}' is not publicly routable")
            return
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await self.resolve(host)
        except AddressRefused:
            raise
        except OSError:  # also TimeoutError
            return

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Every address of the name. Raises AddressRefused if one is refused, OSError if there is none."""
        self._check_name(host)
        found = await super().resolve(host, port, family)
        for answer in found:
            if not self._permits(ipaddress.ip_address(answer["host"])):
                raise AddressRefused(f"'{host}' resolves to {answer['host']}, which is not publicly routable")
        return found

    def open_socket(self, address: AddrInfoType) -> socket.socket:
        """A socket to connect to just this address with. Raises AddressRefused."""
        if not self._permits(ipaddress.ip_address(address[4][0])):
            # without the address: only equal messages of several attempts stay one error in aiohttp
            raise AddressRefused("the address is not publicly routable")
        return super().open_socket(address)

    def _permits(self, address: IpAddress) -> bool:
        return (
            is_globally_routable(address)
            or (self._allow_loopback and _is_plain_loopback(address))
            or any(address in network for network in self._allow_networks)
        )

    def _check_name(self, host: str) -> None:
        name = host.lower()
        if self._allow_loopback and name == "localhost":
            return
        labels = name.split(".")
        if len(name) > _MAX_NAME_LENGTH or not all(map(_LABEL.fullmatch, labels)):
            raise AddressRefused(f"'{host}' is not a host name")
        # inet_aton reads "2130706433", "0x7f.1" and "0177.0.0.1" as IPv4 (and WHATWG's URL parser does too)
        if _NUMBER.fullmatch(labels[-1]):
            raise AddressRefused(f"'{host}' is not an address in its usual form")
        if self._allow_networks:
            return
        if len(labels) == 1 or name.endswith(tuple(f".{suffix}" for suffix in _PRIVATE_SUFFIXES)):
            raise AddressRefused(f"'{host}' is a name for private networks")


def _literal(host: str) -> IpAddress | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_plain_loopback(address: IpAddress) -> bool:
    """Not an IPv6 address that hides one: newer versions of `ipaddress` look into ::ffff:127.0.0.1."""
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_loopback
    return address == ipaddress.IPv6Address(1)
