"""Recognises an outage of our own network: most of many unrelated origins fail at once."""

import math
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..subscriptions import Owner

ORIGINS_AT_LEAST = 20
ORIGINS_OF_AN_OWNER = 7
"""The hosts of one owner that count among these 20, so that at least three owners must have tried."""
WITHIN_SECONDS = 60.0
CONNECTS_WITHIN_SECONDS = 60.0
"""Seconds after its first attempt in which a new instance may have no network yet."""
LOGGED_EVERY_SECONDS = 60.0

K = TypeVar("K", bound=Hashable)


@dataclass(slots=True)
class _Group:
    members: int = 0
    failing: int = 0

    @property
    def fails(self) -> bool:
        return 2 * self.failing > self.members


class _Groups(Generic[K]):
    """Groups by their keys, and how many of them fail: those in which most members do.

    `counted` is the number of members, at most `counted_of_each` of each group.
    """

    def __init__(self, counted_of_each: int = 0) -> None:
        self._groups: dict[K, _Group] = {}
        self._counted_of_each = counted_of_each
        self.counted = 0
        self.failing = 0

    def __len__(self) -> int:
        return len(self._groups)

    @property
    def most_fail(self) -> bool:
        return 2 * self.failing > len(self._groups)

    def change(self, key: K, members: int, failing: int) -> tuple[int, int]:
        """Adds to the numbers of one group; returns what it adds to those of groups and of failing groups."""
        groups_before, failing_before = len(self._groups), self.failing
        group = self._groups.setdefault(key, _Group())
        self.failing -= group.fails
        self.counted -= min(group.members, self._counted_of_each)
        group.members += members
        group.failing += failing
        self.failing += group.fails
        self.counted += min(group.members, self._counted_of_each)
        if group.members == 0:
            del self._groups[key]
        return len(self._groups) - groups_before, self.failing - failing_before


class Egress:
    """The results of each owner's latest attempt of the last minute at each host.

    Times are monotonic seconds. Each instance holds its own record: the network that fails is its own.
    """

    def __init__(self, *, network_comes_later: bool = False) -> None:
        """`network_comes_later`: a new instance may not be able to connect anywhere yet."""
        self._connected_at = math.inf if network_comes_later else -math.inf
        self._first_began: float | None = None
        self._latest: OrderedDict[tuple[Owner, str], tuple[float, bool]] = OrderedDict()  # the oldest first
        self._hosts: _Groups[str] = _Groups()
        self._owners: _Groups[Owner] = _Groups(ORIGINS_OF_AN_OWNER)
        self._pims: _Groups[str] = _Groups()
        self._logged_at: dict[str, float] = {}
        self._old_from = -math.inf
        """Up to this time nothing is older than a minute."""

    @property
    def origins(self) -> int:
        """The number of hosts that were tried within the last minute, as of the last call."""
        return len(self._hosts)

    @property
    def failing(self) -> int:
        """The number of them that failed for most of the owners that tried them."""
        return self._hosts.failing

    def had_no_network(self, began: float, ended: float, *, connected: bool) -> bool:
        """True if an attempt may have failed because this instance had no network yet.

        It did not connect, and it began before any attempt that connected had ended, not later than 60 s
        after the first attempt.
        """
        if began >= self._connected_at:
            return False
        if self._first_began is None:
            self._first_began = began
        if connected:
            self._connected_at = min(self._connected_at, ended)
        return not connected and began - self._first_began <= CONNECTS_WITHIN_SECONDS

    def observe(self, owner: Owner, host: str, now: float, *, failed: bool) -> None:
        """An attempt of this owner's at `host` got an answer, or failed in transport."""
        self._forget_old(now)
        tried = owner, host
        before = self._latest.pop(tried, None)
        self._latest[tried] = (now, failed)
        if before is None:
            self._change(owner, host, 1, failed)
        elif before[1] != failed:
            self._change(owner, host, 0, failed - before[1])

    def is_failing(self, now: float) -> bool:
        """True if most of at least 20 hosts failed within the last minute, and for most PIMs.

        A PIM fails when most of its owners do, and an owner when most of its hosts do. An owner counts with 7
        hosts at most. So nobody's dead hosts speak for others, however many hosts and clients he makes.
        """
        self._forget_old(now)
        return (
            len(self._hosts) >= ORIGINS_AT_LEAST
            and self._owners.counted >= ORIGINS_AT_LEAST
            and self._hosts.most_fail
            and self._pims.most_fail
        )

    def should_log(self, now: float) -> bool:
        """True once a minute, for those who ask while it fails."""
        return self.is_due("failing", now)

    def is_due(self, line: str, now: float) -> bool:
        """True if this line was not logged within the last minute. It is then."""
        logged_at = self._logged_at.get(line)
        if logged_at is not None and now - logged_at < LOGGED_EVERY_SECONDS:
            return False
        self._logged_at[line] = now
        return True

    def _forget_old(self, now: float) -> None:
        if now <= self._old_from:
            return
        self._old_from = now
        while self._latest:
            self._old_from = next(iter(self._latest.values()))[0] + WITHIN_SECONDS
            if now <= self._old_from:
                return
            (owner, host), (_, failed) = self._latest.popitem(last=False)
            self._change(owner, host, -1, -failed)

    def _change(self, owner: Owner, host: str, tried: int, failing: int) -> None:
        self._hosts.change(host, tried, failing)
        self._pims.change(owner.tenant, *self._owners.change(owner, tried, failing))
