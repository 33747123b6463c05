"""Traces of events from the log lines of the functions, in the form that kept events have on one machine.

ingest says which events it accepted, fanout which subscriptions matched each, deliver what came of each
attempt. Lines of one id are one event here: ids are unique for ten minutes only.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from event_platform.domain.attempts.outcomes import Kind
from event_platform.domain.events.entities import Entity
from event_platform.domain.kept_events import Course, CourseStatus, FailedAttempt, KeptEvent
from event_platform.domain.record.logs import Operation
from event_platform.domain.replays import is_catch_up
from event_platform.domain.timestamps import to_rfc3339

from .cloud_log import FILTER_AT_MOST, CloudLog, Line, quoted

T = TypeVar("T")

EVENTS_AT_MOST = 100
MATCHED = ("events.matched", "events.fanned_out")
LINES = ("events.accepted", *MATCHED, "deliveries.arrived", "delivery.attempted", "delivery.ended")
"""The log events that a trace reads."""
_LEFT_FOR_IDS = FILTER_AT_MOST // 2  # an id stands in a filter twice
_LATEST = 60_000
"""The most milliseconds between lines that share an entry: what a line says is not trusted further."""
_NOT_SAID = "its topic, or in a large request"
"""The way of an event that no line of ingest names: it names the first of a request."""


def traced(
    log: CloudLog, *, event_id: str | None, entity: Entity | None, since: datetime
) -> Sequence[KeptEvent]:
    """Returns the event of the id, or the newest of the entity; the newest first. Raises GoogleFailed."""
    ids = [event_id] if event_id is not None else _ids_of(log, str(entity), since)
    traces: dict[str, _Trace] = {name: _Trace() for name in ids}
    for some in _fitting(ids):
        for line in log.read(_filter_of_ids(some, since)):
            _note(line, traces)
    found = [trace.event(name, number) for number, (name, trace) in enumerate(traces.items()) if trace.lines]
    return sorted(found, key=lambda event: event.accepted_at, reverse=True)


def _ids_of(log: CloudLog, entity: str, since: datetime) -> Sequence[str]:
    """Returns the ids of the newest events of the entity, which fanout's lines name."""
    ids: dict[str, None] = {}
    wanted = _filter(MATCHED, since, f"jsonPayload.entities={quoted(entity)}")
    for line in log.read(wanted, newest_first=True):
        for name, about in zip(line.texts("event_ids"), line.texts("entities"), strict=False):
            if about == entity:
                ids[name] = None
        if len(ids) >= EVENTS_AT_MOST:
            break
    return list(ids)[:EVENTS_AT_MOST]


def _filter(events: Sequence[str], since: datetime, *wanted: str) -> str:
    named = " OR ".join(map(quoted, events))
    return "\n".join(
        [
            'resource.type="cloud_run_revision"',
            f"timestamp>={quoted(to_rfc3339(since.astimezone(UTC)))}",
            f"jsonPayload.event=({named})",
            *wanted,
        ]
    )


def _filter_of_ids(ids: Sequence[str], since: datetime) -> str:
    named = " OR ".join(map(quoted, ids))
    return _filter(LINES, since, f"(jsonPayload.event_ids=({named}) OR jsonPayload.event_id=({named}))")


def _fitting(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yields parts of which each fits into a filter."""
    part: list[str] = []
    size = 0
    for name in ids:
        length = len(quoted(name)) + len(" OR ")
        if part and size + length > _LEFT_FOR_IDS - 500:
            yield part
            part, size = [], 0
        part.append(name)
        size += length
    if part:
        yield part


@dataclass(slots=True)
class _Trace:
    """The lines of one event. `matched` are subscriptions with the time at which they first matched."""

    lines: int = 0
    first_at: datetime | None = None
    tenant: str = ""
    way: str = ""
    accepted_at: datetime | None = None
    type: str = ""
    entity: str = ""
    matched: dict[str, datetime] = field(default_factory=dict[str, datetime])
    deliveries: dict[tuple[str, str], list[Line]] = field(default_factory=dict[tuple[str, str], list[Line]])

    def event(self, event_id: str, number: int) -> KeptEvent:
        accepted_at = self.accepted_at or self.first_at or datetime.now(UTC)
        _, _, identity = self.entity.partition(":")
        courses = [*self._courses()]
        return KeptEvent(
            number,
            self.tenant,
            accepted_at,
            self.way or _NOT_SAID,
            event_id,
            self.type,
            "",
            (identity,) if identity else (),
            courses,
        )

    def _courses(self) -> Iterator[Course]:
        for (subscription_id, replay_id), lines in self.deliveries.items():
            yield _course(subscription_id, replay_id, self.matched.get(subscription_id), lines)
        tried = {subscription_id for subscription_id, _ in self.deliveries}
        for subscription_id, at in self.matched.items():
            if subscription_id not in tried:
                yield Course(subscription_id, CourseStatus.WAITING, matched_at=at)


def _note(line: Line, traces: Mapping[str, _Trace]) -> None:
    """Adds a line to the traces of the events that it names."""
    if line.event == "deliveries.arrived":
        for attempt in _attempts(line):
            _note(attempt, traces)
        return
    if line.event in ("delivery.attempted", "delivery.ended"):
        trace = traces.get(line.text("event_id"))
        if trace is not None:
            _count(trace, line.at)
            trace.type = trace.type or line.text("event_type")
            key = line.text("subscription_id"), line.text("replay_id")
            trace.deliveries.setdefault(key, []).append(line)
        return
    types, entities = line.texts("event_types"), line.texts("entities")
    subscriptions = line.lists("subscriptions")
    for position, name in enumerate(line.texts("event_ids")):
        trace = traces.get(name)
        if trace is None:
            continue
        at = _moment_of(line, position)
        _count(trace, at)
        trace.tenant = trace.tenant or _at(line.texts("tenants"), position, line.text("tenant"))
        if line.event == "events.accepted":
            trace.way = trace.way or line.text("way")
            continue
        accepted_at = _at(line.texts("accepted_at"), position, line.text("accepted_at"))
        trace.accepted_at = trace.accepted_at or _moment(accepted_at)
        trace.type = trace.type or _at(types, position, "")
        trace.entity = trace.entity or _at(entities, position, "")
        for each in _at(subscriptions, position, ()):
            trace.matched.setdefault(each, at)


def _attempts(line: Line) -> Iterator[Line]:
    """Yields a line for each delivery of an entry that they share."""
    subscriptions, milliseconds = line.texts("subscription_ids"), line.numbers("milliseconds")
    for position, name in enumerate(line.texts("event_ids")):
        own = {
            "event": "delivery.attempted",
            "event_id": name,
            "subscription_id": _at(subscriptions, position, ""),
            "milliseconds": _at(milliseconds, position, None),
        }
        yield Line(_moment_of(line, position), {**line.fields, **own})


def _moment_of(line: Line, position: int) -> datetime:
    """Returns the time of an item of a line's lists, which an entry for several lines says of each."""
    since, after = _moment(line.text("since")), _at(line.numbers("after"), position, None)
    return line.at if since is None or after is None else since + timedelta(milliseconds=min(after, _LATEST))


def _count(trace: _Trace, at: datetime) -> None:
    trace.lines += 1
    trace.first_at = trace.first_at or at


def _course(
    subscription_id: str, replay_id: str, matched_at: datetime | None, lines: Iterable[Line]
) -> Course:
    """The course of a delivery by its lines, the oldest first."""
    failed: list[FailedAttempt] = []
    is_replay = bool(replay_id) and not is_catch_up(replay_id)
    for line in lines:
        status, milliseconds = line.number("status"), round(line.number("milliseconds") or 0)
        code = None if status is None else int(status)
        reason, outcome = line.text("reason") or None, line.text("outcome")
        ended = line.event == "delivery.ended" or line.text("ended")
        if not ended and outcome != Kind.DELIVERED:
            failed.append(FailedAttempt(line.at, outcome, reason, code, milliseconds))
            continue
        dropped = line.text("operation") == Operation.DROPPED
        return Course(
            subscription_id,
            CourseStatus.ENDED if ended else CourseStatus.DELIVERED,
            is_replay,
            matched_at,
            failed,
            code,
            reason,
            f"dropped: {line.text('message')}" if dropped else line.text("message") or reason,
            milliseconds if line.event == "delivery.attempted" else None,
            line.at,
        )
    return Course(subscription_id, CourseStatus.WAITING, is_replay, matched_at, failed)


def _moment(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo is not None else None


def _at(items: Sequence[T], position: int, default: T) -> T:
    return items[position] if position < len(items) else default
