"""The subscriptions and the log of a project, as its operator's commands show them for all clients.

The wheel does not bring Google's packages, so they are imported when a command needs them.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

import orjson

from event_platform import data_model
from event_platform.adapters.seal import KeylessSeal
from event_platform.documents import rate_of_document, subscription_of
from event_platform.domain.errors import NotFound
from event_platform.domain.pace.rates import Limits
from event_platform.domain.record.logs import LogEntry, LogQuery, LogType, Operation
from event_platform.domain.replays import Replay
from event_platform.domain.subscriptions import Owner, Status, Subscriber, Subscription
from event_platform.domain.suspension import HOUR_MINUTES, Count, first_minute, series_before, series_of

from ..errors import GoogleFailed
from ..store.overview import State
from .connection import firestore_of

if TYPE_CHECKING:
    from google.cloud.firestore_v1 import AsyncQuery
    from google.cloud.firestore_v1.base_document import DocumentSnapshot

    from event_platform.adapters.firestore.client import Firestore

PAGE = 500
SUBSCRIPTIONS_AT_MOST = 20_000
RETRIES_AT_MOST = 20_000
ENDS_AT_MOST = 1_000
"""The entries of one subscription whose ends are counted."""
AT_ONCE = 16
_LOOKED_BACK = timedelta(hours=1, minutes=1)
_SHOWN = sorted(status for status in Status if status is not Status.DELETED)

T = TypeVar("T")
R = TypeVar("R")


async def states(project: str, limits: Limits, now: datetime) -> Sequence[State]:
    """Returns all but the deleted subscriptions, oldest first.

    `queued` is None: Pub/Sub does not say how much of a topic is whose. `last_failure` is not stored. Raises
    StoreUnavailable, NoGooglePackages, GoogleFailed.
    """
    async with firestore_of(project) as firestore:
        records = await listed(firestore)
        return await states_of(firestore, records, records.subscriptions, limits, now)


async def listed(firestore: "Firestore") -> "Records":
    """Returns all but the deleted subscriptions, without their numbers.

    Raises StoreUnavailable, GoogleFailed, and what Google refuses.
    """
    subscriptions = await _all(firestore, data_model.SUBSCRIPTIONS, _record)
    names = dict(await _all(firestore, data_model.SUBSCRIBERS, _name))
    retries = await _retries(firestore)
    return Records(sorted(subscriptions, key=lambda each: each.id), names, retries)


async def states_of(
    firestore: "Firestore", records: "Records", some: Sequence[Subscription], limits: Limits, now: datetime
) -> Sequence[State]:
    """Returns the states of some of the records, in their order. Raises what `listed` raises."""

    async def state(subscription: Subscription) -> State:
        return await _state(
            firestore,
            await _at_its_pace(firestore, subscription),
            records.names.get(subscription.subscriber_id, ""),
            records.retries.get(subscription.id, Retries()),
            limits,
            now,
        )

    return await _each(some, state)


async def one(
    firestore: "Firestore", subscription_id: str, retries: "Retries", limits: Limits, now: datetime
) -> "One":
    """Returns a subscription that is not deleted. Raises NotFound and what `listed` raises.

    `retries` are of its record: Firestore has no index by which those of one subscription could be found.
    """
    from event_platform.adapters.clock import SystemClock
    from event_platform.adapters.firestore.replays import FirestoreReplays
    from event_platform.adapters.firestore.subscriptions import FirestoreSubscriptions
    from event_platform.adapters.firestore.success_counts import FirestoreSuccessCounts

    found = await firestore.read(firestore.document(data_model.SUBSCRIPTIONS, subscription_id))
    if not found.exists or found.get("status") not in _SHOWN:
        raise NotFound(f"there is no subscription {subscription_id}, or it was deleted")
    subscription = await _at_its_pace(firestore, _record(found))
    clock = SystemClock()
    subscriptions = FirestoreSubscriptions(firestore, KeylessSeal(), clock)
    subscriber = await subscriptions.subscriber(subscription.owner, subscription.subscriber_id)
    state = await _state(firestore, subscription, subscriber.name, retries, limits, now)
    series, first = series_of(subscription), first_minute(now)
    counts = FirestoreSuccessCounts(firestore)
    minutes = {minute: Count() for minute in range(first, first + HOUR_MINUTES)}
    for each in (series, *series_before(series)):
        for minute, count in (await counts.since(each, first)).items():
            if minute in minutes:
                minutes[minute].add(count)
    replays = await FirestoreReplays(firestore, subscriptions, clock).replays(subscription.id)
    return One(subscription, subscriber, state, minutes, replays)


async def latest(
    project: str, *, subscription_id: str | None, log_type: LogType | None, limit: int
) -> Sequence[LogEntry]:
    """Returns the newest entries of a subscription, or of all clients that have subscribers, oldest first.

    Raises NotFound, StoreUnavailable, NoGooglePackages, GoogleFailed.
    """
    query = LogQuery(log_type=log_type, subscription_id=subscription_id, limit=limit)
    async with firestore_of(project) as firestore:
        return (await entries(firestore, query))[::-1]


async def entries(firestore: "Firestore", query: LogQuery) -> Sequence[LogEntry]:
    """Returns entries of a subscription, or of all clients that have subscribers, newest first.

    Raises NotFound and what `listed` raises.
    """
    from event_platform.adapters.clock import SystemClock
    from event_platform.adapters.firestore.logs import FirestoreLogs

    logs = FirestoreLogs(firestore, SystemClock())
    if query.subscription_id is not None:
        found = await firestore.read(firestore.document(data_model.SUBSCRIPTIONS, query.subscription_id))
        if not found.exists:
            project: str = firestore.client.project
            raise NotFound(
                f"no subscription {query.subscription_id}: `aep status --google {project}` lists them"
            )
        owners = [_owner(found)]
    else:
        clients = await _all(firestore, data_model.SUBSCRIBERS, _owner, shown_only=False)
        owners = list(dict.fromkeys(clients))
    every = [
        entry for some in await _each(owners, lambda owner: logs.entries(owner, query)) for entry in some
    ]
    return sorted(every, key=lambda entry: (entry.at, entry.id), reverse=True)[: query.limit]


@dataclass(slots=True)
class Retries:
    """The deliveries of a subscription that wait for a retry, and when the oldest was accepted."""

    number: int = 0
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Records:
    """Subscriptions, oldest first, with the names of subscribers and the retries by subscription."""

    subscriptions: Sequence[Subscription]
    names: Mapping[str, str]
    retries: Mapping[str, Retries]


@dataclass(frozen=True, slots=True)
class One:
    """A subscription with what its page shows; `minutes` are the attempts of the last hour by minute."""

    subscription: Subscription
    subscriber: Subscriber
    state: State
    minutes: Mapping[int, Count]
    replays: Sequence[Replay]


async def _state(
    firestore: "Firestore",
    subscription: Subscription,
    name: str,
    retries: Retries,
    limits: Limits,
    now: datetime,
) -> State:
    from event_platform.adapters.clock import SystemClock
    from event_platform.adapters.firestore.logs import FirestoreLogs
    from event_platform.adapters.firestore.success_counts import FirestoreSuccessCounts

    series, minute = series_of(subscription), first_minute(now)
    counts = FirestoreSuccessCounts(firestore)
    judged = _sum((await counts.since(series, minute)).values())
    is_new = now - subscription.updated_at < _LOOKED_BACK
    before = [await counts.since(each, minute) for each in series_before(series)] if is_new else []
    every = _sum([judged, *(count for minutes in before for count in minutes.values())])
    query = LogQuery(log_type=LogType.ERROR, subscription_id=subscription.id, limit=ENDS_AT_MOST)
    entries = await FirestoreLogs(firestore, SystemClock()).entries(subscription.owner, query)
    ends = [each for each in entries if each.operation in (Operation.FAILED, Operation.DROPPED)]
    given_up = next((each for each in ends if each.operation == Operation.FAILED), None)
    return State(
        id=subscription.id,
        subscriber_id=subscription.subscriber_id,
        subscriber_name=name,
        tenant=subscription.owner.tenant,
        client_id=subscription.owner.client_id,
        destination=subscription.config.destination,
        events=subscription.events,
        status=subscription.status,
        rate=round(subscription.current_rate.at(now, limits), 1),
        lanes=subscription.lanes,
        attempts=judged.succeeded + judged.failed,
        success_rate=round(judged.succeeded / (judged.succeeded + judged.failed), 3)
        if judged.succeeded + judged.failed
        else None,
        delivered=every.succeeded,
        failed=every.failed,
        queued=None,
        retries=retries.number,
        waiting_since=retries.since,
        ended=sum(each.occurrences for each in ends),
        last_error=None if given_up is None else given_up.error_message,
        last_error_at=None if given_up is None else given_up.at,
        last_failure=None,
        last_failure_at=None,
    )


async def _at_its_pace(firestore: "Firestore", subscription: Subscription) -> Subscription:
    """Returns the subscription with the rate that it has now, which has a document of its own."""
    if subscription.rate is None:
        return subscription
    pace = await firestore.read(firestore.document(data_model.PACES, subscription.id))
    return replace(subscription, rate=rate_of_document(pace.to_dict() or {})) if pace.exists else subscription


def _sum(counts: Iterable[Count]) -> Count:
    total = Count()
    for count in counts:
        total.add(count)
    return total


async def _all(
    firestore: "Firestore",
    collection: str,
    of: "Callable[[DocumentSnapshot], T]",
    *,
    shown_only: bool = True,
) -> Sequence[T]:
    """Returns what `of` makes of each document. Raises GoogleFailed if there are too many."""
    from google.cloud.firestore_v1 import AsyncQuery

    found: list[T] = []
    number = 0
    async for page in _pages(firestore, AsyncQuery(firestore.client.collection(collection))):
        number += len(page)
        if number > SUBSCRIPTIONS_AT_MOST:
            raise GoogleFailed(f"there are more than {SUBSCRIPTIONS_AT_MOST:,} {collection} in the project")
        found += [of(each) for each in page if not shown_only or each.get("status") in _SHOWN]
    return found


async def _retries(firestore: "Firestore") -> Mapping[str, Retries]:
    """Counts retries by subscription; the first ones, where there are very many."""
    from google.cloud.firestore_v1 import AsyncQuery

    retries = AsyncQuery(firestore.client.collection(data_model.RETRIES))
    found: defaultdict[str, Retries] = defaultdict(Retries)
    number = 0
    async for page in _pages(firestore, retries.select(["subscription_id", "accepted_at"])):
        for each in page:
            of_one, accepted_at = found[each.get("subscription_id")], each.get("accepted_at")
            of_one.number += 1
            of_one.since = min(of_one.since or accepted_at, accepted_at)
        number += len(page)
        if number >= RETRIES_AT_MOST:
            break
    return found


async def _pages(firestore: "Firestore", query: "AsyncQuery") -> "AsyncIterator[Sequence[DocumentSnapshot]]":
    """Yields the documents in the order of their ids: a query has to end soon."""
    asked = query = query.order_by("__name__").limit(PAGE)
    while page := await firestore.query(asked):
        yield page
        asked = query.start_after(page[-1])


def _record(snapshot: "DocumentSnapshot") -> Subscription:
    return subscription_of(orjson.loads(snapshot.get("document")), KeylessSeal())


def _name(snapshot: "DocumentSnapshot") -> tuple[str, str]:
    return snapshot.id, orjson.loads(snapshot.get("document"))["name"]


def _owner(snapshot: "DocumentSnapshot") -> Owner:
    return Owner(snapshot.get("tenant"), snapshot.get("client_id"))


async def _each(items: Sequence[T], work: Callable[[T], Awaitable[R]]) -> list[R]:
    """Returns the results in the order of the items; some are worked on at once."""
    free = asyncio.Semaphore(AT_ONCE)

    async def one(item: T) -> R:
        async with free:
            return await work(item)

    return await asyncio.gather(*map(one, items))
