"""The calls that the owner of the file and a worker make to each other over their channel."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from event_platform.domain.deliveries import Settlement
from event_platform.domain.events.event import Envelope
from event_platform.domain.record.actions import Action
from event_platform.domain.subscriptions import Owner, Subscription
from event_platform.domain.suspension import Count, Series
from event_platform.settings import Settings

from ..broker.queued import LaneKey, Queued, Taken


class WorkerSide(Protocol):
    """The calls that a worker serves."""

    def configure(self, settings: Settings, /) -> Awaitable[None]:
        """Has the worker built by these settings; answered when it may be started."""
        ...

    def start(self) -> Awaitable[None]: ...

    def stop(self) -> Awaitable[None]: ...

    def answer(self) -> bool:
        """True if the worker is idle. An answer shows that its process runs."""
        ...

    def put(self, queued: Sequence[Queued], /) -> None: ...

    def read_more(self, keys: Sequence[LaneKey], /) -> None: ...

    def remember(self, subscriptions: Sequence[Subscription], /) -> None: ...

    def forget(self, ids: Sequence[str], /) -> None: ...

    def settled(self, number: int, /) -> None:
        """The deliveries that came with this number are removed."""
        ...

    def not_settled(self, number: int, error: BaseException, /) -> None: ...


class OwnerSide(Protocol):
    """The calls that the owner serves, for a worker has no file."""

    def lanes(self) -> Awaitable[Sequence[LaneKey]]: ...

    def waiting(self, key: LaneKey, after: int, limit: int, room: int, /) -> Awaitable[Sequence[Queued]]: ...

    def envelope(self, event_no: int, /) -> Awaitable[Envelope]: ...

    def settle(self, settlement: Settlement, /) -> Awaitable[None]: ...

    def nack(self, queued: Queued, /) -> Awaitable[None]: ...

    def dead_letter(self, queued: Queued, error: str, /) -> Awaitable[None]: ...

    def current(self, subscription_id: str, /) -> Awaitable[Subscription | None]: ...

    def change_pace(
        self, subscription_id: str, change: Callable[[Subscription], Subscription], /
    ) -> Awaitable[None]: ...

    def change_subscription(
        self,
        owner: Owner,
        subscriber_id: str,
        subscription_id: str,
        change: Callable[[Subscription], Subscription],
        action: Action,
        /,
    ) -> Awaitable[Subscription]: ...

    def add(self, counts: Mapping[Series, Mapping[int, Count]], /) -> Awaitable[None]: ...

    def since(self, series: Series, minute: int, /) -> Awaitable[Mapping[int, Count]]: ...

    def delivered(self, number: int, rows: Sequence[Taken], /) -> None:
        """Has deliveries removed that were taken; the worker is notified by the number."""
        ...

    def log(self, lines: bytes, /) -> None: ...
