"""Many PIMs with many subscriptions, written straight into a data folder before a platform runs on it."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import uuid_utils
from pydantic import SecretStr

from aep.store import keys, opening, tenants
from aep.store.migrations import prepare
from aep.store.subscriptions import put_subscriber, put_subscription
from event_platform.domain.pace.rates import LANES_AT_MOST
from event_platform.domain.subscriptions import (
    SUBSCRIPTIONS_PER_SUBSCRIBER,
    Contact,
    HttpsConfig,
    Owner,
    Subscriber,
    Subscription,
)
from event_platform.domain.tenants import Tenant
from event_platform.ports import Seal

from .events import TYPE
from .platform import CLIENT, SECRET

IDLE_TYPES = tuple(f"com.akeneo.pim.v1.category.{change}" for change in ("created", "updated", "deleted"))
"""The types of subscriptions that get nothing."""
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def url_of(number: int) -> str:
    """Returns the URL of a PIM."""
    return f"https://pim-{number}.example.com"


def key_of(number: int) -> str:
    """Returns the ingest key of a PIM."""
    return f"the-ingest-key-of-pim-{number}"


def put_pims(
    folder: Path, endpoints: Sequence[str], *, pims: int, each: int, busy: int = 1, first: int = 0
) -> list[str]:
    """Writes so many PIMs, `each` with as many subscriptions, into the store of a data folder.

    The first `busy` subscriptions of a PIM get the events that the bench sends, at endpoints that take turns.
    `first` is the number of the first PIM. Returns the PIMs' ingest keys.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    seal = keys.load(folder, None)
    with closing(opening.connect(folder / opening.FILE)) as connection:
        prepare(connection)
        connection.execute("BEGIN")
        for number in range(first, first + pims):
            url, key = url_of(number), SecretStr(key_of(number))
            tenants.put(connection, Tenant(url=url, ingest_key=(key,)), seal)
            urls = [endpoints[(number * busy + place) % len(endpoints)] for place in range(each)]
            _put_subscriptions(connection, seal, Owner(url, CLIENT), urls, busy)
        connection.execute("COMMIT")
    return [key_of(number) for number in range(first, first + pims)]


def _put_subscriptions(
    connection: sqlite3.Connection, seal: Seal, owner: Owner, urls: Sequence[str], busy: int
) -> None:
    for first in range(0, len(urls), SUBSCRIPTIONS_PER_SUBSCRIBER):
        subscriber = Subscriber(
            _id(), owner, "Bench", owner.tenant, Contact("bench@example.com"), BEGIN, BEGIN
        )
        put_subscriber(connection, seal, subscriber)
        for subscription in _subscriptions(subscriber, urls, first, busy):
            put_subscription(connection, seal, subscription)


def _subscriptions(
    subscriber: Subscriber, urls: Sequence[str], first: int, busy: int
) -> Iterator[Subscription]:
    for number, url in enumerate(urls[first : first + SUBSCRIPTIONS_PER_SUBSCRIBER], first):
        events = (TYPE,) if number < busy else (IDLE_TYPES[number % len(IDLE_TYPES)],)
        yield Subscription(
            id=_id(),
            subscriber_id=subscriber.id,
            owner=subscriber.owner,
            source="pim",
            subject=subscriber.subject,
            events=events,
            config=HttpsConfig(url, SecretStr(SECRET)),
            lanes=LANES_AT_MOST,  # else the first delivery changes it, as the bench lifts the rate
            created_at=BEGIN,
            updated_at=BEGIN,
        )


def _id() -> str:
    return str(uuid_utils.uuid7())
