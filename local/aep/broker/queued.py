"""Deliveries as the queue holds them: their rows in the file, and how these are put in and released."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from event_platform.domain.deliveries import Delivery
from event_platform.domain.events.event import Envelope

from ..store import bodies, bulk
from ..store.times import moment_of
from .budget import OwnerKey

SMALL_BODY = 16 * 1024
"""A larger body stays on disk when its delivery goes back to a lane; it is read for the next attempt."""
WITHOUT_BODY = 500
"""Bytes that a queued delivery takes in memory without its body, roughly."""


REPLAY_BITS = 16
"""The bits of a lane's number above which the number of a replay stands, whose lanes are its own."""
LANE_MASK = (1 << REPLAY_BITS) - 1


class LaneKey(NamedTuple):
    """An ordering key: one message of it is outstanding at a time."""

    subscription_no: int
    lane: int

    @property
    def replay_no(self) -> int:
        """The number of the replay that the lane belongs to; 0 if it belongs to none."""
        return self.lane >> REPLAY_BITS


def lanes_of_replay(replay_no: int) -> range:
    """Returns the lanes that belong to the replay."""
    return range(replay_no << REPLAY_BITS, (replay_no + 1) << REPLAY_BITS)


class Receipt(NamedTuple):
    """The place of a delivery in the queue; what `Delivery.receipt` holds."""

    key: LaneKey
    position: int
    event_no: int


Taken: TypeAlias = tuple[int, int, int, int, str, float, int | None, int]
"""A delivery that a receiver took: the numbers of its receipt, the id of its subscription, since when it has
waited (unix seconds), the status of the answer if there was one, and the milliseconds that it took. A plain
tuple, which travels between processes at the least cost."""


@dataclass(slots=True)
class Queued:
    """A delivery as the queue holds it; its body is put together when it leaves.

    Without `envelope` the body is on disk only. `is_kept` is the dispatcher's: the bytes count in its budget.
    `entered_at` is when a kept event that is sent again came into its lane.
    """

    receipt: Receipt
    owner: OwnerKey
    subscription_id: str
    event_id: str
    event_type: str
    accepted_at: float
    lanes: int
    epoch: int
    body_size: int
    envelope: Envelope | None = field(repr=False)
    attempts: int = 0
    failures: int = 0
    first_attempt_at: float | None = None
    nacks: int = 0
    replay_id: str | None = None
    entered_at: float | None = None
    is_kept: bool = False

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles it as a row, which travels between processes at less than half the cost of named fields."""
        receipt, envelope = self.receipt, self.envelope
        before, after = (
            (None, None) if envelope is None else (envelope.before_subject, envelope.after_subject)
        )
        row = (
            *receipt.key, receipt.position, receipt.event_no, self.subscription_id, self.event_id,
            self.event_type, self.accepted_at, self.lanes, self.epoch, before, after, self.body_size,
            self.attempts, self.failures, self.first_attempt_at, self.nacks, self.replay_id, self.entered_at,
        )  # fmt: skip
        return queued_of, (row, self.owner)

    def size(self) -> int:
        """Bytes that it takes in memory with its body, roughly."""
        return self.body_size + WITHOUT_BODY

    def size_now(self) -> int:
        """Bytes that it takes in memory now, roughly."""
        return WITHOUT_BODY if self.envelope is None else self.body_size + WITHOUT_BODY

    def delivery(self) -> Delivery:
        """Returns the delivery as `deliver` takes it; its body must have been read."""
        assert self.envelope is not None  # noqa: S101 - see above
        return Delivery(
            subscription_id=self.subscription_id,
            event_id=self.event_id,
            event_type=self.event_type,
            accepted_at=moment_of(self.accepted_at),
            lane=self.receipt.key.lane,
            lanes=self.lanes,
            epoch=self.epoch,
            body=self.envelope.addressed_to(self.subscription_id),
            attempts=self.attempts,
            failures=self.failures,
            first_attempt_at=None if self.first_attempt_at is None else moment_of(self.first_attempt_at),
            receipt=self.receipt,
            replay_id=self.replay_id,
            entered_at=None if self.entered_at is None else moment_of(self.entered_at),
        )


DELIVERY_COLUMNS = (
    "subscription_no, lane, position, event_no, lanes, epoch, attempts, failures, first_attempt_at,"
    " entered_at"
)
QUEUED = f"""
    SELECT d.subscription_no, d.lane, d.position, d.event_no, s.id, coalesce(e.id, k.id),
           coalesce(e.type, k.type), coalesce(e.accepted_at, k.accepted_at), d.lanes, d.epoch,
           CASE WHEN length(e.after_subject) <= :room THEN e.before_subject END,
           CASE WHEN length(e.after_subject) <= :room THEN e.after_subject END,
           coalesce(length(e.after_subject), length(k.data_json) + {bodies.AROUND_DATA}),
           d.attempts, d.failures, d.first_attempt_at, d.nacks,
           CASE WHEN d.lane > 65535 THEN (SELECT id FROM replays WHERE no = d.lane >> 16) END, d.entered_at,
           k.time, k.identifier,
           CASE WHEN length(k.data_json) + {bodies.AROUND_DATA} <= :room THEN k.data_json END
    FROM deliveries d
    JOIN subscriptions s ON s.no = d.subscription_no
    LEFT JOIN events e ON e.no = d.event_no
    LEFT JOIN kept k ON k.no = (d.event_no & ~1) AND e.no IS NULL
"""  # noqa: S608 - a constant


def insert_deliveries(connection: sqlite3.Connection, queued: Sequence[Queued]) -> None:
    rows = [
        (
            *entry.receipt.key,
            entry.receipt.position,
            entry.receipt.event_no,
            entry.lanes,
            entry.epoch,
            entry.attempts,
            entry.failures,
            entry.first_attempt_at,
            entry.entered_at,
        )
        for entry in queued
    ]
    bulk.insert(connection, f"deliveries ({DELIVERY_COLUMNS})", rows)


def queued_in_file(row: Sequence[Any], owner: OwnerKey, schema_base: str) -> Queued:
    """Reads a row of `QUEUED`. A body that would take long to make is read when the delivery leaves."""
    *known, time, identifier, data_json = row
    queued = queued_of(known, owner)
    if data_json is not None:
        about = (queued.event_id, queued.event_type, time, identifier, data_json)
        queued.envelope = bodies.quickly_made_of(queued.receipt.event_no, schema_base, *about)
    return queued


def queued_of(row: Sequence[Any], owner: OwnerKey) -> Queued:
    """Returns the delivery whose values these are, in the order in which it is pickled."""
    (
        subscription_no, lane, position, event_no, subscription_id, event_id, event_type, accepted_at,
        lanes, epoch, before, after, body_size, attempts, failures, first_attempt_at, nacks, replay_id,
        entered_at,
    ) = row  # fmt: skip
    return Queued(
        Receipt(LaneKey(subscription_no, lane), position, event_no),
        owner,
        subscription_id,
        event_id,
        event_type,
        accepted_at,
        lanes,
        epoch,
        body_size,
        None if after is None else Envelope(before, after),
        attempts,
        failures,
        first_attempt_at,
        nacks,
        replay_id,
        entered_at,
    )


def subscription_id_of(row: Sequence[Any]) -> str:
    """Returns the subscription's id in a row of `QUEUED`."""
    return row[4]


def receipt_of(delivery: Delivery) -> Receipt:
    """Returns the place of the delivery in this queue."""
    assert isinstance(delivery.receipt, Receipt)  # noqa: S101 - every delivery of this queue has one
    return delivery.receipt


def take_out(connection: sqlite3.Connection, keys: Sequence[tuple[int, ...]]) -> set[int]:
    """Deletes deliveries by subscription, lane and position; returns the positions that were there."""
    rows = bulk.rows(
        connection,
        "DELETE FROM deliveries WHERE (subscription_no, lane, position) IN {keys} RETURNING position",
        keys,
    )
    return {position for (position,) in rows}


def is_first(position: int, removed: set[int]) -> bool:
    """True once for each position that was removed: a second settlement of it finds nothing."""
    if position not in removed:
        return False
    removed.remove(position)
    return True
