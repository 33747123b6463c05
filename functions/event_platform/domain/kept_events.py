"""Kept events, the courses of their deliveries, and what a reader may ask for (contract/wire.md 16)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from .events.entities import Entity, entity_of
from .events.event import Event

MAX_ACCEPTANCES = 10
"""The acceptances of one id that are shown: ids are unique for some minutes only."""


class CourseStatus(StrEnum):
    """The result of a delivery, or of an event that has none."""

    DELIVERED = "delivered"
    WAITING = "waiting"
    ENDED = "ended"
    UNMATCHED = "unmatched"


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """An attempt that was no success: its outcome, and what came back."""

    at: datetime
    outcome: str
    reason: str | None
    status: int | None
    milliseconds: int


@dataclass(frozen=True, slots=True)
class Course:
    """The course of one delivery. `matched_at` is None if that was at acceptance.

    `status`, `reason`, `message` and `milliseconds` are of its end. Of very many failed attempts some are
    left out. `subscription_id` is empty if that is not known any more.
    """

    subscription_id: str
    outcome: CourseStatus
    is_replay: bool = False
    matched_at: datetime | None = None
    attempts: Sequence[FailedAttempt] = ()
    status: int | None = None
    reason: str | None = None
    message: str | None = None
    milliseconds: int | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class KeptEvent:
    """An accepted event that is kept: without its data, which are read with `KeptEvents.event`.

    `number` orders events by their acceptance. `way` is the ingest format that it came in. `counts` are those
    of all its deliveries; None where `courses` has all of them.
    """

    number: int
    tenant: str
    accepted_at: datetime
    way: str
    id: str
    type: str
    time: str
    identity: tuple[str, ...]
    courses: Sequence[Course] = ()
    counts: Mapping[CourseStatus, int] | None = None

    @property
    def entity(self) -> Entity | None:
        return entity_of(self.type, self.identity)

    def count(self, outcome: CourseStatus) -> int:
        """Returns how many of its deliveries came to that."""
        if self.counts is not None:
            return self.counts.get(outcome, 0)
        return sum(course.outcome is outcome for course in self.courses)

    @property
    def deliveries(self) -> int:
        """The number of its deliveries."""
        return len(self.courses) if self.counts is None else sum(self.counts.values())


@dataclass(frozen=True, slots=True)
class KeptQuery:
    """The query of a reader: every filter that is set must fit. `since` is inclusive, `until` is not.

    Events are read from the newest back; with `below` from that number on. `courses_at_most` is the number of
    deliveries of an event that are read, those of the newest subscriptions; None stands for all.
    """

    event_id: str | None = None
    event_type: str | None = None
    entity: Entity | None = None
    subscription_id: str | None = None
    outcome: CourseStatus | None = None
    since: datetime | None = None
    until: datetime | None = None
    limit: int = 50
    below: int | None = None
    courses_at_most: int | None = None


@dataclass(frozen=True, slots=True)
class KeptPage:
    """Events, newest first. `below` is where the next page begins; None: there is nothing more."""

    events: Sequence[KeptEvent]
    below: int | None


@dataclass(frozen=True, slots=True)
class KeptWithData:
    """A kept event with its courses, and as it was accepted."""

    kept: KeptEvent
    event: Event
