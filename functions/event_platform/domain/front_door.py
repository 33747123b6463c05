"""Allowances for wrong credentials, which bound their cost for us and for the PIMs that are asked.

Decisions alone. A credential that we check ourselves is checked first, and counted if it was wrong. One that
a PIM has to be asked about needs a place in the allowances of its address and of that PIM before, and gets it
back when it is right.
"""

import hashlib
import ipaddress
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from cachetools import TTLCache

from .errors import TooManyRequests

ADDRESS_BURST, ADDRESS_PER_SECOND = 50, 1.0
PIM_BURST, PIM_PER_SECOND = 200, 4.0
"""The number of wrong credentials at once, and of those a second from then on.

No address can use up what a PIM's callers share.
"""
PROVED_FOR_SECONDS = 86_400.0
WRONG_FOR_SECONDS = 60.0
FRESH_SECONDS = 10.0
"""The time for which a proved holder passes without a further check, and need not be remembered again."""
REMEMBERED = 10_000
_IPV6_SITE = 64
"""The network of IPv6 that one client has: it can take another address of it for each request."""

Monotonic = Callable[[], float]


class Allowances:
    """A token bucket for each key: `burst` at once, then `per_second`. One that is full again is forgotten.

    Kept as the time at which it will be full again (GCRA, ITU-T I.371).
    """

    def __init__(self, burst: int, per_second: float, monotonic: Monotonic) -> None:
        self._interval = 1 / per_second
        self._burst = burst * self._interval
        self._now = monotonic
        self._full_at: TTLCache[Hashable, float] = TTLCache(REMEMBERED, self._burst, monotonic)

    def wait(self, key: Hashable, count: int = 1) -> float:
        """Seconds until `count` of them, at most `burst`, can be taken; 0 when they can be now."""
        return max(0.0, self._full(key) + count * self._interval - self._burst - self._now())

    def take(self, key: Hashable, count: int = 1) -> None:
        """Takes as many, which `wait` has said to be there."""
        self._full_at[key] = self._full(key) + count * self._interval

    def refund(self, key: Hashable) -> None:
        """Undoes a `take` of one."""
        self._full_at[key] = self._full(key) - self._interval

    def _full(self, key: Hashable) -> float:
        now = self._now()
        return max(now, self._full_at.get(key, now))


@dataclass(frozen=True, slots=True)
class Admission:
    """A credential that a PIM may be asked about. Whoever never calls `proved` was wrong."""

    proved: Callable[[], None]
    must_queue: bool = False
    """True if the allowance of the address is used up, so that it asks that PIM few questions at a time."""


class FrontDoor:
    """Counts wrong credentials. Each instance of a function has its own, of bounded size."""

    def __init__(self, monotonic: Monotonic) -> None:
        self._monotonic = monotonic
        self._fresh: dict[Hashable, float] = {}  # who was proved a moment ago, and until when that counts
        self._addresses = Allowances(ADDRESS_BURST, ADDRESS_PER_SECOND, monotonic)
        self._pims = Allowances(PIM_BURST, PIM_PER_SECOND, monotonic)
        self._proved: TTLCache[Hashable, None] = TTLCache(REMEMBERED, PROVED_FOR_SECONDS, monotonic)
        self._wrong: TTLCache[bytes, None] = TTLCache(REMEMBERED, WRONG_FOR_SECONDS, monotonic)

    def count_wrong(self, address: str, credential: Hashable) -> None:
        """Counts a credential that we found to be wrong. Raises TooManyRequests when too many others were.

        The same one counts once in a minute: who is set up wrongly reads that in place of a request to wait.
        """
        digest = hashlib.sha256(repr((address, credential)).encode()).digest()  # a credential may have 32 KB
        if digest in self._wrong:
            return
        if (wait := self._addresses.wait(address)) > 0:
            raise _too_many("from this address", wait)
        self._addresses.take(address)
        self._wrong[digest] = None

    def is_exhausted(self, address: str) -> bool:
        """True if an address has been wrong so often that the next wrong credential is refused as such."""
        return self._addresses.wait(address) > 0

    def knows(self, holder: Hashable) -> bool:
        """True if a holder proved something within a day."""
        return self._fresh.get(holder, 0.0) > self._monotonic() or holder in self._proved

    def remember(self, *holders: Hashable) -> None:
        """Notes that holders proved something."""
        now = self._monotonic()
        if all(self._fresh.get(holder, 0.0) > now for holder in holders):
            return
        self._proved.update(dict.fromkeys(holders))
        if len(self._fresh) >= REMEMBERED:
            self._fresh.clear()
        self._fresh.update(dict.fromkeys(holders, now + FRESH_SECONDS))

    def admit_to(self, pim: str, entry: str, address: str, credential: Hashable) -> Admission:
        """Admits a credential that the PIM is asked about. Raises TooManyRequests.

        `entry` is the registry's that covers it: the PIMs of a pattern share an allowance until one of them
        has proved a caller, as strangers can make up their names. From an address that has proved something
        of a PIM every credential of that PIM is admitted, whatever strangers do there or elsewhere.
        """
        if self.knows(credential):
            return self._admission([], credential, (address, pim), pim)
        if self.knows((address, pim)):
            must_queue = self.is_exhausted(address)
            takes = [] if must_queue else [(self._addresses, address)]
            return self._admission(takes, credential, (address, pim), pim, must_queue=must_queue)
        pims_key = pim if self.knows(pim) else entry
        if (wait := self._addresses.wait(address)) > 0:
            raise _too_many("from this address", wait)
        if (wait := self._pims.wait(pims_key)) > 0:
            raise _too_many("for this PIM", wait)
        takes = [(self._addresses, address), (self._pims, pims_key)]
        return self._admission(takes, credential, (address, pim), pim)

    def _admission(
        self, takes: Sequence[tuple[Allowances, str]], *proves: Hashable, must_queue: bool = False
    ) -> Admission:
        for allowances, key in takes:
            allowances.take(key)

        def proved() -> None:
            for allowances, key in takes:
                allowances.refund(key)
            self.remember(*proves)

        return Admission(proved, must_queue)


def _too_many(whose: str, wait: float) -> TooManyRequests:
    return TooManyRequests(f"too many unknown or wrong credentials {whose}", math.ceil(wait))


@lru_cache(REMEMBERED)
def site_of(address: str) -> str:
    """Returns what counts as one address: of IPv6 the client's /64. Other text is returned as it is."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((int(parsed), _IPV6_SITE), strict=False))
    return str(parsed)


def client_of(peer: str, forwarded_for: str, proxies: int) -> str:
    """The client's address: the peer, or what the outermost of `proxies` trusted proxies saw.

    Each of them appends whom it heard from to X-Forwarded-For, so counting from its end nobody can lie. A
    request that has too few, or no address there, did not come through all of them: then it is the peer's.
    """
    if proxies == 0 or forwarded_for.count(",") < proxies - 1:
        return peer
    heard = forwarded_for.rsplit(",", proxies)[-proxies].strip()
    try:
        return str(ipaddress.ip_address(heard))
    except ValueError:
        return peer


def scheme_of(scheme: str, forwarded_proto: str, proxies: int) -> str:
    """The scheme that the client used: the connection's, or what the outermost of `proxies` trusted ones saw.

    Some proxies append to X-Forwarded-Proto, and most replace it, so there may be fewer values than proxies.
    """
    if proxies == 0:
        return scheme
    heard = forwarded_proto.rsplit(",", proxies)[-proxies:][0].strip().lower()
    return heard if heard in ("http", "https") else scheme
