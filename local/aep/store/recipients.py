"""Tenants' active subscriptions with all that fan-out needs of them, in memory and as a row of the file."""

import sqlite3
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import orjson

from event_platform.domain import filters
from event_platform.domain.errors import TooManyRequests
from event_platform.domain.events.catalog import BENCHMARK
from event_platform.domain.subscriptions import Owner, Recipient, Status, Subscription

from .replays import CATCHING_UP

MIB = 1024 * 1024
SNAPSHOTS_OF_OWNER, BYTES_OF_OWNER = 64, 32 * MIB
"""The snapshots that may wait for one owner's changes, and their size."""
TENANT_FACTOR = 4
"""The limit for all owners of a tenant together, in shares of one owner."""
RETRY_SECONDS = 5
RECIPIENTS_KEPT = 100_000
"""The subscriptions that are kept in memory, some 50 MB."""
RECIPIENTS_OF_A_LIST = 4
"""The subscriptions that a list takes as much memory as, beside its own."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """A subscription that was active, without its destination and secrets."""

    id: str
    owner: Owner
    source: str
    events: frozenset[str]
    filter: str | None
    send_product_identifier: bool
    epoch: int
    lanes: int
    status: Status = Status.ACTIVE


class Recipients:
    """Active subscriptions of a tenant at one moment, and the numbers of their rows by their ids.

    `predicates` has their filters that are compiled, `uncompiled` the others. `changed_by` is the client
    whose subscription was changed last.
    """

    def __init__(self, subscriptions: Iterable[tuple[int, _Kept]], changed_by: str = "") -> None:
        self.changed_by = changed_by
        self.all: list[_Kept] = []
        self.numbers: dict[str, int] = {}
        self.predicates: dict[str, filters.Predicate] = {}
        self.uncompiled: set[str] = set()
        for no, subscription in subscriptions:
            self.all.append(subscription)
            self.numbers[subscription.id] = no
            if subscription.filter is not None:
                self.uncompiled.add(subscription.filter)
        self.take_over_filters()

    def compile(self, subscriptions: Iterable[Recipient]) -> None:
        """Compiles their filters, before `predicates` is used for them."""
        if not self.uncompiled:
            return
        for each in subscriptions:
            if each.filter is not None and each.filter in self.uncompiled:
                self.predicates[each.filter] = filters.predicate_of(each.filter)
                self.uncompiled.remove(each.filter)

    def change_lanes(self, subscription: Subscription) -> None:
        """Notes the number of lanes of a subscription, if it is one of these."""
        if subscription.id in self.numbers:
            place = next(place for place, each in enumerate(self.all) if each.id == subscription.id)
            self.all[place] = replace(self.all[place], lanes=subscription.lanes)

    def take_over_filters(self) -> None:
        """Takes over what others have compiled, such as the list before this one."""
        for expression in [each for each in self.uncompiled if filters.is_compiled(each)]:
            self.predicates[expression] = filters.predicate_of(expression)
            self.uncompiled.remove(expression)


_NOBODY = Recipients(())


class ActiveRecipients:
    """The active subscriptions of each tenant, without those that catch up. Used in jobs of the writer only.

    Those of an event type are read when the first event of it comes, so that a tenant's other subscriptions
    cost nothing. Whoever changes a tenant's subscriptions outdates the tenant.
    """

    def __init__(self) -> None:
        self._lists: dict[str, dict[str | None, Recipients]] = {}
        """The lists of each tenant by event type; that of None has all."""
        self._outdated: dict[str, dict[str | None, Recipients]] = {}
        """Lists from before a change: the next ones take their compiled filters over."""
        self._changed_by: dict[str, str] = {}
        """The client who changed something last, of tenants of which all are not read since."""
        self._kept = 0

    def outdate(self, tenant: str, changed_by: str | None = None) -> None:
        """Has the tenant's subscriptions be read again, of which this client has changed some."""
        if (lists := self._lists.pop(tenant, None)) is not None:
            self._outdated.setdefault(tenant, {}).update(lists)
        if changed_by is not None:
            self._changed_by[tenant] = changed_by

    def change_lanes(self, subscription: Subscription) -> None:
        """Notes the number of lanes of a subscription, by which nothing else of its tenant has changed."""
        owner = subscription.owner
        if (lists := self._lists.get(owner.tenant)) is None:
            return
        if (whole := lists.pop(None, None)) is not None:  # events may wait for their fan-out by it
            self._outdated.setdefault(owner.tenant, {})[None] = whole
            self._changed_by[owner.tenant] = owner.client_id
        for each in lists.values():
            each.change_lanes(subscription)

    def forget(self) -> None:
        """Has all be read again."""
        self._lists.clear()
        self._outdated.clear()
        self._kept = 0

    def of(self, connection: sqlite3.Connection, tenant: str, event_type: str) -> Recipients:
        """Returns the subscriptions that may get an event of the type."""
        lists = self._lists.get(tenant)
        if lists is not None and (found := lists.get(event_type)) is not None:
            if found.uncompiled:
                found.take_over_filters()
            return found
        return self._keep(tenant, event_type, Recipients(_of_type(connection, tenant, event_type)))

    def whole(self, connection: sqlite3.Connection, tenant: str) -> Recipients:
        """Returns all of them."""
        found = self._lists.get(tenant, {}).get(None)
        if found is not None:
            return found
        found = Recipients(_active(connection, tenant), self._changed_by.pop(tenant, ""))
        return self._keep(tenant, None, found)

    def _keep(self, tenant: str, event_type: str | None, read: Recipients) -> Recipients:
        """Keeps a list, and forgets all others where it becomes too much with those that were outdated."""
        size = len(read.all) + RECIPIENTS_OF_A_LIST
        self._kept += size
        if self._kept > RECIPIENTS_KEPT:
            self.forget()
            self._kept = size
        found = self._lists.setdefault(tenant, {})[event_type] = read if read.all else _NOBODY
        if (outdated := self._outdated.get(tenant)) is not None:
            outdated.pop(event_type, None)
        return found


def put_snapshot(connection: sqlite3.Connection, tenant: str, recipients: Recipients) -> int:
    """Writes the recipients as a new row of `snapshots`; returns its number."""
    rows = [_to_row(recipients.numbers[each.id], each) for each in recipients.all]
    document = orjson.dumps(rows)
    number = connection.execute(
        "INSERT INTO snapshots (document, tenant, client_id, bytes) VALUES (?, ?, ?, ?)",
        (document.decode(), tenant, recipients.changed_by, len(document)),
    ).lastrowid
    assert number is not None  # noqa: S101 - an INSERT gives one
    return number


def snapshot(connection: sqlite3.Connection, number: int) -> Recipients:
    """Reads the recipients that `put_snapshot` wrote."""
    (document,) = connection.execute("SELECT document FROM snapshots WHERE no = ?", (number,)).fetchone()
    return Recipients(_from_row(*row) for row in orjson.loads(document))


def check_snapshots(connection: sqlite3.Connection, owner: Owner) -> None:
    """Raises TooManyRequests if so many snapshots wait for fan-out that an owner may make no other change.

    Each change between two accepted events makes one, for as long as the tenant's fan-out is late.
    """
    columns = "SELECT count(*), coalesce(sum(bytes), 0) FROM snapshots WHERE tenant = ?"
    of_owner = connection.execute(f"{columns} AND client_id = ?", (owner.tenant, owner.client_id)).fetchone()
    of_tenant = connection.execute(columns, (owner.tenant,)).fetchone()
    for (number, size), shares in ((of_owner, 1), (of_tenant, TENANT_FACTOR)):
        if number >= shares * SNAPSHOTS_OF_OWNER or size >= shares * BYTES_OF_OWNER:
            raise TooManyRequests(
                "events of the PIM wait to be matched with earlier versions of its subscriptions; change them"
                " later",
                RETRY_SECONDS,
            )


def delete_snapshot(connection: sqlite3.Connection, number: int) -> None:
    """Deletes a snapshot to which nothing refers any more."""
    connection.execute("DELETE FROM snapshots WHERE no = ?", (number,))


def _of_type(connection: sqlite3.Connection, tenant: str, event_type: str) -> Iterator[tuple[int, _Kept]]:
    named = orjson.dumps(event_type).decode()
    if event_type == BENCHMARK:  # one of the API says for whom it is, one of the PIM is as any other
        rows = _active(
            connection, tenant, "(document ->> '$.source' = 'benchmark' OR instr(events, ?))", named
        )
        return ((no, each) for no, each in rows if each.source == "benchmark" or event_type in each.events)
    rows = _active(connection, tenant, "instr(events, ?)", named)
    return ((no, each) for no, each in rows if each.source == "pim" and event_type in each.events)


def _active(
    connection: sqlite3.Connection, tenant: str, condition: str = "TRUE", *values: str
) -> Iterator[tuple[int, _Kept]]:
    rows = connection.execute(
        "SELECT no, document FROM subscriptions WHERE tenant = ? AND status = 'active'"  # noqa: S608
        f" AND no NOT IN ({CATCHING_UP}) AND {condition} ORDER BY no",
        (tenant, *values),
    )
    shared: dict[frozenset[str], frozenset[str]] = {}
    for no, document in rows:
        fields = orjson.loads(document)
        events = frozenset(fields["events"])
        yield (
            no,
            _Kept(
                fields["id"],
                Owner(tenant, sys.intern(fields["client_id"])),
                sys.intern(fields["source"]),
                shared.setdefault(events, events),
                fields.get("filter"),
                fields["send_product_identifier"],
                fields["epoch"],
                fields["lanes"],
            ),
        )


def _to_row(no: int, each: _Kept) -> tuple[object, ...]:
    owner = (each.owner.tenant, each.owner.client_id)
    texts = (each.id, owner, each.source, sorted(each.events), each.filter)
    return (no, *texts, each.send_product_identifier, each.epoch, each.lanes)


def _from_row(
    no: int,
    subscription_id: str,
    owner: tuple[str, str],
    source: str,
    events: list[str],
    expression: str | None,
    send_product_identifier: bool,
    epoch: int,
    lanes: int,
) -> tuple[int, _Kept]:
    return no, _Kept(
        subscription_id,
        Owner(*owner),
        source,
        frozenset(events),
        expression,
        send_product_identifier,
        epoch,
        lanes,
    )
