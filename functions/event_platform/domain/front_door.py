"""How often strangers may be wrong: what unproved credentials may cost us, and the PIMs that are asked.

Decisions alone: a credential that was proved passes for a day, everything else needs a place in the allowance
of its address, and of the PIM that it has us ask. What turns out to be right gets its place back.
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
"""How many wrong ones there may be at once, and how many a second from then on.

No address can use up what a PIM's callers share.
"""
PROVED_FOR_SECONDS = 86_400.0
WRONG_FOR_SECONDS = 60.0
FRESH_SECONDS = 10.0
"""The time for which a proved holder passes without a further check, and need not be remembered again."""
REMEMBERED = 10_000
_IPV6_SITE = 64
"""What one client has of IPv6: it may take another address of these for each request."""

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

    def give_back(self, key: Hashable) -> None:
        """Undoes a `take` of one."""
        self._full_at[key] = self._full(key) - self._interval

    def _full(self, key: Hashable) -> float:
        now = self._now()
        return max(now, self._full_at.get(key, now))


@dataclass(frozen=True, slots=True)
class Admission:
    """A credential that may be looked at now. Who never says that it is `proved` was wrong."""

    proved: Callable[[], None]
    is_known: bool = False
    """True if its holder proved something before."""


_FRESH = Admission(lambda: None, is_known=True)
"""The admission of a holder who proved something a moment ago: most calls of a busy PIM."""


class FrontDoor:
    """Admits credentials to be looked at. Each instance of a function has its own, of bounded size."""

    def __init__(self, monotonic: Monotonic) -> None:
        self._monotonic = monotonic
        self._fresh: dict[Hashable, float] = {}  # who was proved a moment ago, and until when that counts
        self._addresses = Allowances(ADDRESS_BURST, ADDRESS_PER_SECOND, monotonic)
        self._pims = Allowances(PIM_BURST, PIM_PER_SECOND, monotonic)
        self._proved: TTLCache[Hashable, None] = TTLCache(REMEMBERED, PROVED_FOR_SECONDS, monotonic)
        self._wrong: TTLCache[bytes, None] = TTLCache(REMEMBERED, WRONG_FOR_SECONDS, monotonic)

    def admit(self, address: str, credential: Hashable, *, holder: Hashable = None) -> Admission:
        """Of a credential that we check ourselves. Raises TooManyRequests when too many others were wrong.

        The same one counts once in a minute: who is set up wrongly is to read that, not to be told to wait.
        `holder` is who is remembered where no two credentials are the same, as with signatures.
        """
        holder = credential if holder is None else holder
        if self._fresh.get(holder, 0.0) > self._monotonic():
            return _FRESH
        if holder in self._proved:
            return self._admission([], holder, is_known=True)
        digest = hashlib.sha256(repr((address, credential)).encode()).digest()  # a credential may have 32 KB
        if digest in self._wrong:
            return self._admission([], holder)
        admission = self._admission([(self._addresses, address)], holder)
        self._wrong[digest] = None
        return admission

    def admit_to(self, pim: str, entry: str, address: str, credential: Hashable) -> Admission:
        """Of a credential that the PIM is asked about. Raises TooManyRequests as above.

        `entry` is the registry's that covers it: the PIMs of a pattern share an allowance until one of them
        has proved a caller, as strangers can make up their names. Who has proved something of a PIM does not
        depend on what strangers try there.
        """
        if credential in self._proved:
            return self._admission([], credential, (address, pim), pim)
        takes = [(self._addresses, address)]
        if (address, pim) not in self._proved:
            takes.append((self._pims, pim if pim in self._proved else entry))
        return self._admission(takes, credential, (address, pim), pim)

    def _admission(
        self, takes: Sequence[tuple[Allowances, str]], *proves: Hashable, is_known: bool = False
    ) -> Admission:
        for allowances, key in takes:
            if (wait := allowances.wait(key)) > 0:
                whose = "from this address" if allowances is self._addresses else "for this PIM"
                raise TooManyRequests(f"too many unknown or wrong credentials {whose}", math.ceil(wait))
        for allowances, key in takes:
            allowances.take(key)

        def proved() -> None:
            for allowances, key in takes:
                allowances.give_back(key)
            self._proved.update(dict.fromkeys(proves))
            if len(self._fresh) >= REMEMBERED:
                self._fresh.clear()
            self._fresh.update(dict.fromkeys(proves, self._monotonic() + FRESH_SECONDS))

        return Admission(proved, is_known)


@lru_cache(REMEMBERED)
def site_of(address: str) -> str:
    """What counts as one address: of IPv6 the /64 that one client has. Text that is no address, as it is."""
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
