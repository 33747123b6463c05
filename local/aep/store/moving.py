"""Takes records out of a store, and adds those of another one to it, in one transaction."""

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

from event_platform.documents import subscriber_of, subscription_of, tenant_of
from event_platform.domain.paced import with_pace_of
from event_platform.domain.subscriptions import SUBSCRIBERS_PER_PIM, SUBSCRIPTIONS_PER_SUBSCRIBER
from event_platform.ports import Seal

from ..errors import MoveRefused, WrongKey
from . import feeds, keys, tenants
from .export_file import Records, records_of
from .reseal import RESEALS
from .subscriptions import put_subscriber, put_subscription
from .topic_claims import claim_if_free

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Waiting:
    """The numbers of records that do not move: accepted events, and deliveries in lanes, for a retry or as
    dead letters.
    """

    accepted: int
    queued: int
    retries: int
    dead_letters: int
    has_kept_events: int
    """1 if there are kept events, which do not move either."""

    @property
    def total(self) -> int:
        return self.accepted + self.queued + self.retries + self.dead_letters


def take_out(connection: sqlite3.Connection, seal: Seal) -> tuple[Records, Waiting]:
    """Returns the records of the store at one moment, and the numbers of those that do not move.

    Raises WrongKey.
    """
    connection.execute("BEGIN")
    keys.check(connection, seal)
    documents = {
        table: [
            orjson.loads(text)
            for (text,) in connection.execute(f"SELECT document FROM {table}")  # noqa: S608 - a constant
        ]
        for table in RESEALS
    }
    states = {each["tenant"]: feeds.states(connection, each["tenant"]) for each in documents["feeds"]}
    (waiting,) = connection.execute(
        "SELECT (SELECT count(*) FROM accepted), (SELECT count(*) FROM deliveries),"
        " (SELECT count(*) FROM retries), (SELECT count(*) FROM dead_letters)"
        " + (SELECT count(*) FROM dead_events), EXISTS (SELECT 1 FROM kept)"
    )
    connection.execute("ROLLBACK")
    return records_of(documents, states, seal), Waiting(*waiting)


def bring_in(connection: sqlite3.Connection, seal: Seal, records: Records) -> int:
    """Adds the records that are not here yet, all or none; returns their number.

    Raises MoveRefused when a record is here with other content, or there would be too many; WrongKey when the
    store was sealed with none of the keys.
    """
    connection.execute("BEGIN IMMEDIATE")
    keys.check(connection, seal)
    new = 0
    for tenant in records.tenants:
        there = _there(
            connection, "SELECT document FROM tenants WHERE name = ?", tenant.name, seal, tenant_of
        )
        if there is None:
            tenants.put(connection, tenant, seal)
            new += 1
        elif there != tenant:
            raise _differs(f"the PIM {tenant.name}")
    for subscriber in records.subscribers:
        there = _there(
            connection, "SELECT document FROM subscribers WHERE id = ?", subscriber.id, seal, subscriber_of
        )
        if there is None:
            put_subscriber(connection, seal, subscriber)
            new += 1
        elif there != subscriber:
            raise _differs(f"subscriber {subscriber.id}")
    for subscription in records.subscriptions:
        there = _there(
            connection,
            "SELECT document FROM subscriptions WHERE id = ?",
            subscription.id,
            seal,
            subscription_of,
        )
        if there is None:
            put_subscription(connection, seal, subscription)
            claim_if_free(connection, subscription)
            new += 1
        elif with_pace_of(there, subscription) != subscription:
            raise _differs(f"subscription {subscription.id}")
    for feed in records.feeds:  # one that is there stays as it is: it may be the one that ran here before
        if feeds.feed_of_tenant(connection, feed.tenant, seal) is None:
            feeds.put(connection, feed, seal)
            new += 1
    _check_limits(connection)
    connection.execute("COMMIT")
    return new


def _there(
    connection: sqlite3.Connection,
    query: str,
    key: str,
    seal: Seal,
    record_of: Callable[[Mapping[str, Any], Seal], R],
) -> R | None:
    row = connection.execute(query, (key,)).fetchone()
    if row is None:
        return None
    try:
        return record_of(orjson.loads(row[0]), seal)
    except ValueError as error:
        raise WrongKey(f"{key} in the store was sealed with another key: put it behind the others") from error


def _differs(what: str) -> MoveRefused:
    return MoveRefused(f"{what} is there already and differs: import into a new folder, or remove it there")


def _check_limits(connection: sqlite3.Connection) -> None:
    for table, group, limit in (
        ("subscribers", "tenant", SUBSCRIBERS_PER_PIM),
        ("subscriptions", "subscriber_id", SUBSCRIPTIONS_PER_SUBSCRIBER),
    ):
        beyond: Iterable[tuple[str, int]] = connection.execute(
            f"SELECT {group}, count(*) FROM {table} WHERE status <> 'deleted'"  # noqa: S608 - constants
            f" GROUP BY {group} HAVING count(*) > ?",
            (limit,),
        )
        for whose, number in beyond:
            raise MoveRefused(f"{whose} would have {number} {table}; at most {limit} are allowed")
