"""Connections to others: looks names up and opens sockets, and refuses what is not public.

A stranger's URL is checked three times: by `check` when a subscription is made, on the addresses that a
lookup gives, and on the very address that a socket is opened for. The last is what counts: it leaves no
time in which a name could change its mind, and nothing in a URL gets around it.
"""

import asyncio
import errno
import ipaddress
import os
import re
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

import aiohappyeyeballs
from aiohappyeyeballs import AddrInfoType
from cachetools import TTLCache

from ..domain.addresses import IpAddress, IpNetwork, is_globally_routable
from . import descriptors
from .connections import most_specific
from .resolvers import MakeResolver, Resolver, local_names, public_names

CHECK_SECONDS = 2.0
KEPT_SECONDS = 10.0
"""The time for which the addresses of a name are used for further connections."""
_MAX_KEPT_NAMES = 1000
MAX_ADDRESSES = 32
"""The number of a name's addresses that are looked at; an answer may hold thousands."""
ADDRESSES_AT_ONCE = 4
"""The number of a name's addresses that are tried for one connection, so that it holds no more sockets."""
_NEXT_ADDRESS_SECONDS = 0.25  # after which the next address of a name is tried beside it (RFC 8305 5)
_UNSENT_MILLISECONDS = 10_000
_UNREAD_BYTES = 64 * 1024
"""Bytes that may come before we read. An event loop reads all of it at once, TLS in records of any size."""
_PROBED_PORT = 9  # any: nothing is sent

_PRIVATE_SUFFIXES = (
    "localhost",
    "local",
    "internal",
    "home.arpa",
)  # RFC 6761, 6762, 8375; ICANN for .internal
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_MAX_NAME_LENGTH = 253


class AddressRefused(ValueError, OSError):
    """Raised when a host is, or a name resolves to, an address that we don't connect to.

    A ValueError for who asks about a host, an OSError for who connects, as every address that can't be
    connected to.
    """


class TrustedNetwork:
    """Connects anywhere: for addresses that the operator wrote down."""

    def __init__(self, make_resolver: MakeResolver = local_names) -> None:
        self._make_resolver = make_resolver
        self._resolver: Resolver | None = None
        self._descriptors_below = descriptors.below_for_receivers(descriptors.limit())
        self._lookups: TTLCache[str, asyncio.Task[deque[str]]] = TTLCache(
            _MAX_KEPT_NAMES, KEPT_SECONDS, timer=time.monotonic
        )

    async def resolve(self, host: str) -> Sequence[str]:
        """The first 32 addresses of the name, looked up now. Raises NameNotResolved, ResolverSilent."""
        if self._resolver is None:  # not before, as it wants the running loop
            self._resolver = self._make_resolver()
        return (await self._resolver.resolve(host))[:MAX_ADDRESSES]

    async def connect(self, host: str, port: int) -> socket.socket:
        """A socket connected to one of four of the host's addresses, the first that takes it (RFC 8305).

        Raises AddressRefused, NameNotResolved, ResolverSilent, or the OSError that says most about the
        addresses.
        """
        literal = _literal(host)
        found = [host] if literal is not None else _some_of(await self._addresses(host))
        try:
            return await aiohappyeyeballs.start_connection(
                [_address_info(address, port) for address in found],
                happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS,
                socket_factory=self.open_socket,
            )
        except OSError as error:
            if error.errno is None and (number := most_specific(str(error))) is not None:
                raise OSError(number, os.strerror(number)) from error
            raise

    def open_socket(self, address: AddrInfoType) -> socket.socket:
        """A socket to connect to just this address with. Raises EMFILE when the rest is for others."""
        family, kind, protocol, _, _ = address
        opened = socket.socket(family, kind, protocol)
        if opened.fileno() >= self._descriptors_below:
            opened.close()
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # A receiver that neither reads nor hangs up must not keep a closed connection's bytes for ever.
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNSENT_MILLISECONDS)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _UNREAD_BYTES)
        return opened

    async def close(self) -> None:
        """Ends pending lookups."""
        self._lookups.clear()
        resolver, self._resolver = self._resolver, None
        if resolver is not None:
            await resolver.close()

    async def _addresses(self, host: str) -> Sequence[str]:
        """Returns the addresses, by one lookup for all who connect to the name meanwhile and soon after.

        Whoever asks may be cancelled, the lookup goes on for the others.
        """
        lookup = self._lookups.get(host)
        if lookup is None:
            lookup = self._lookups[host] = asyncio.create_task(self._addresses_of(host))
            lookup.add_done_callback(partial(self._forget_failed, host))
        found = await asyncio.shield(lookup)
        found.rotate(-1)
        return tuple(found)

    async def _addresses_of(self, host: str) -> deque[str]:
        return deque(await self.resolve(host))

    def _forget_failed(self, host: str, lookup: asyncio.Task[deque[str]]) -> None:
        failed = lookup.cancelled() or lookup.exception() is not None
        if failed and self._lookups.get(host) is lookup:
            del self._lookups[host]


class GuardedNetwork(TrustedNetwork):
    """The port `DestinationGuard`: connects to public addresses only, and not to this machine's own.

    A name with one bad address among its answers is refused as a whole.

    `allow_loopback` adds 127.0.0.0/8, ::1 and the name localhost, for work on one's own machine.
    `allow_networks` are further ones that the operator opens; names for private networks may then lead there.
    `refuse_networks` are those that he closes, though their numbers are public or in a network that he opens.
    """

    def __init__(
        self,
        *,
        allow_loopback: bool = False,
        allow_networks: Sequence[IpNetwork] = (),
        refuse_networks: Sequence[IpNetwork] = (),
        is_own: Callable[[IpAddress], bool] = lambda address: is_own_address(address),
        make_resolver: MakeResolver = public_names,
    ) -> None:
        super().__init__(make_resolver)
        self._allow_loopback = allow_loopback
        self._allow_networks = tuple(allow_networks)
        self._refuse_networks = tuple(refuse_networks)
        self._is_own = is_own

    async def check(self, host: str) -> None:
        """Raises AddressRefused, saying why. A name that does not resolve within 2 s passes."""
        literal = _literal(host)
        if literal is not None:
            if (why := self._refusal(literal)) is not None:
                raise AddressRefused(f"'{host}' {why}")
            return
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await self.resolve(host)
        except AddressRefused:
            raise
        except OSError:  # also TimeoutError
            return

    async def resolve(self, host: str) -> Sequence[str]:
        """Addresses of the name, now.

        Raises NameNotResolved, ResolverSilent, and AddressRefused if one of them is refused.
        """
        self._check_name(host)
        found = await super().resolve(host)
        for address in found:
            if (why := self._refusal(ipaddress.ip_address(address))) is not None:
                raise AddressRefused(f"'{host}' resolves to {address}, which {why}")
        return found

    def open_socket(self, address: AddrInfoType) -> socket.socket:
        """A socket to connect to just this address with. Raises AddressRefused."""
        if self._refusal(ipaddress.ip_address(address[4][0])) is not None:
            # without the address: only equal messages of several attempts stay one error in aiohappyeyeballs
            raise AddressRefused("the address is refused")
        return super().open_socket(address)

    def _refusal(self, address: IpAddress) -> str | None:
        """Returns why the address is refused, or None."""
        if any(address in network for network in self._refuse_networks):
            return "is in a network that this platform does not connect to"
        if self._allow_loopback and _is_plain_loopback(address):
            return None
        if any(address in network for network in self._allow_networks):
            return None
        if not is_globally_routable(address):
            return "is not publicly routable"
        return "is this platform's own address" if self._is_own(address) else None

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


def is_own_address(address: IpAddress) -> bool:
    """True if an interface of this machine has the address now. Sends nothing.

    What goes to one's own address comes from it. So no list of interfaces is kept that could be old.
    """
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(address), _PROBED_PORT))
        except OSError:  # no route to it
            return False
        return ipaddress.ip_address(probe.getsockname()[0]) == address


def _some_of(found: Sequence[str]) -> Sequence[str]:
    """Returns up to four addresses, in their order; the second is of the other family, if there is one."""
    is_ipv6 = ":" in found[0]
    other = next((address for address in found if (":" in address) != is_ipv6), None)
    if other is None:
        return found[:ADDRESSES_AT_ONCE]
    same = [address for address in found if address != other]
    return [same[0], other, *same[1 : ADDRESSES_AT_ONCE - 1]]


def _literal(host: str) -> IpAddress | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _address_info(address: str, port: int) -> AddrInfoType:
    if ":" in address:
        return socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port, 0, 0)
    return socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port)


def _is_plain_loopback(address: IpAddress) -> bool:
    """True for a loopback address, but not one inside an IPv6 address: `ipaddress` looks into
    ::ffff:127.0.0.1.
    """
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_loopback
    return address == ipaddress.IPv6Address(1)
