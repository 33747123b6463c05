"""A tenant's active subscriptions with all that fan-out needs of them, in memory and as a row of the file."""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import orjson

from event_platform.domain import filters
from event_platform.domain.errors import TooManyRequests
from event_platform.domain.events.catalog import BENCHMARK
from event_platform.domain.subscriptions import Owner, Recipient, Status

MIB = 1024 * 1024
SNAPSHOTS_OF_OWNER, BYTES_OF_OWNER = 64, 32 * MIB
"""The snapshots that may wait for one owner's changes, and their size."""
TENANT_FACTOR = 4
"""The limit for all owners of a tenant together, in shares of one owner."""
RETRY_SECONDS = 5


class Recipients:
    """The active subscriptions of a tenant at one moment, and the numbers of their rows by their ids.

    `predicates` has their filters that are compiled, `uncompiled` the others. `changed_by` is the client
    whose subscription was changed last.
    """

    def __init__(self, subscriptions: Iterable[tuple[int, Recipient]], changed_by: str = "") -> None:
        self.changed_by = changed_by
        self.all: list[Recipient] = []
        self.numbers: dict[str, int] = {}
        self.predicates: dict[str, filters.Predicate] = {}
        self.uncompiled: set[str] = set()
        self._by_type: dict[str, list[Recipient]] = {}
        for no, subscription in subscriptions:
            self.all.append(subscription)
            self.numbers[subscription.id] = no
            for name in subscription.events if subscription.source == "pim" else (BENCHMARK,):
                self._by_type.setdefault(name, []).append(subscription)
            if subscription.filter is not None:
                self._add_filter(subscription.filter)

    def of(self, event_type: str) -> Sequence[Recipient]:
        """Returns the subscriptions that may get an event of the type."""
        return self._by_type.get(event_type, ())

    def compile(self, subscriptions: Iterable[Recipient]) -> None:
        """Compiles their filters, before `predicates` is used for them."""
        if not self.uncompiled:
            return
        for each in subscriptions:
            if each.filter is not None and each.filter in self.uncompiled:
                self.predicates[each.filter] = filters.predicate_of(each.filter)
                self.uncompiled.remove(each.filter)

    def _add_filter(self, expression: str) -> None:
        """Takes the predicate over from another list, such as the one before this, or leaves it for later."""
        if filters.is_compiled(expression):
            self.predicates[expression] = filters.predicate_of(expression)
        else:
            self.uncompiled.add(expression)


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


def _to_row(no: int, each: Recipient) -> tuple[object, ...]:
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
) -> tuple[int, Recipient]:
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
