"""A tenant's active subscriptions in memory: those of an event type alone, up to date, and not too many."""

import gc
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from aep.store import recipients
from aep.store.migrations import prepare
from aep.store.recipients import ActiveRecipients, Recipients
from aep.store.subscriptions import put_subscription
from event_platform.adapters.seal import AesGcmSeal
from event_platform.domain.events.catalog import BENCHMARK
from event_platform.domain.subscriptions import Owner, Subscription, suspend
from support.clock import START
from support.records import CATEGORY, OWNER, PIM, UPDATED, a_subscriber, a_subscription

SEAL = AesGcmSeal(bytes(32))


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        prepare(connection)
        yield connection


def put(connection: sqlite3.Connection, tenant: str = PIM, **more: Any) -> Subscription:
    subscription = a_subscription(a_subscriber(Owner(tenant, OWNER.client_id)), **more)
    put_subscription(connection, SEAL, subscription)
    return subscription


def ids(found: Recipients) -> list[str]:
    return [each.id for each in found.all]


def test_those_of_an_event_type_are_found(connection: sqlite3.Connection) -> None:
    quoted = 'com.example."quoted"\\ü'
    both = put(connection, events=[UPDATED, CATEGORY])
    one = put(connection, events=[UPDATED])
    put(connection, events=[UPDATED + ".delta"])
    put(connection, "https://other.example.com", events=[UPDATED])
    odd = put(connection, events=[quoted])
    test = put(connection, events=[], source="benchmark")
    active = ActiveRecipients()
    assert ids(active.of(connection, PIM, UPDATED)) == [both.id, one.id]
    assert ids(active.of(connection, PIM, CATEGORY)) == [both.id]
    assert ids(active.of(connection, PIM, quoted)) == [odd.id]
    assert ids(active.of(connection, PIM, BENCHMARK)) == [test.id]
    assert ids(active.of(connection, PIM, "unknown")) == []
    assert len(active.whole(connection, PIM).all) == 5


def test_the_other_subscriptions_of_the_tenant_are_not_read(connection: sqlite3.Connection) -> None:
    """A PIM may have 400 of them."""
    one = put(connection, events=[UPDATED])
    put(connection, events=[CATEGORY])
    damage = "UPDATE subscriptions SET document = json_remove(document, '$.source') WHERE id <> ?"
    connection.execute(damage, (one.id,))
    active = ActiveRecipients()
    assert ids(active.of(connection, PIM, UPDATED)) == [one.id]
    with pytest.raises(KeyError, match="source"):
        active.whole(connection, PIM)


def test_what_was_outdated_is_read_again(connection: sqlite3.Connection) -> None:
    first = put(connection)
    active = ActiveRecipients()
    assert active.of(connection, PIM, UPDATED) is active.of(connection, PIM, UPDATED)
    put_subscription(connection, SEAL, suspend(first, START))
    second = put(connection)
    active.outdate(PIM, "shop")
    assert ids(active.of(connection, PIM, UPDATED)) == [second.id]
    assert (active.whole(connection, PIM).changed_by, ids(active.whole(connection, PIM))) == (
        "shop",
        [second.id],
    )


def test_other_lanes_have_nothing_read_again_but_for_snapshots(connection: sqlite3.Connection) -> None:
    """The number of lanes changes by itself and often, that of all subscriptions of a tenant."""
    subscription = put(connection, lanes=16)
    active = ActiveRecipients()
    of_type, whole = active.of(connection, PIM, UPDATED), active.whole(connection, PIM)
    changed = replace(subscription, lanes=64)
    active.change_lanes(changed)
    put_subscription(connection, SEAL, changed)
    assert active.of(connection, PIM, UPDATED) is of_type
    assert [each.lanes for each in of_type.all] == [64]
    assert [each.lanes for each in whole.all] == [16], "events that wait go to the lanes of before"
    assert [each.lanes for each in active.whole(connection, PIM).all] == [64]


def test_compiled_filters_are_taken_over_from_the_list_before(connection: sqlite3.Connection) -> None:
    put(connection, filter='not user = "somebody"')
    active = ActiveRecipients()
    before = active.of(connection, PIM, UPDATED)
    before.compile(before.all)
    active.outdate(PIM)
    del before
    after = active.of(connection, PIM, UPDATED)
    assert (list(after.predicates), after.uncompiled) == (['not user = "somebody"'], set())


def test_no_more_are_kept_than_there_is_room_for(
    connection: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipients, "RECIPIENTS_KEPT", 10 * (2 + recipients.RECIPIENTS_OF_A_LIST))
    tenants = [f"https://pim-{number}.example.com" for number in range(40)]
    for tenant in tenants:
        put(connection, tenant)
        put(connection, tenant)

    def lists_in_memory() -> int:
        return sum(isinstance(each, Recipients) for each in gc.get_objects())

    active, before = ActiveRecipients(), lists_in_memory()
    for tenant in tenants:
        assert len(active.of(connection, tenant, UPDATED).all) == 2
        assert lists_in_memory() - before <= 10
    for number in range(40):
        active.outdate(tenants[0])
        assert len(active.of(connection, tenants[0], UPDATED).all) == 2, number
    assert lists_in_memory() - before <= 10
