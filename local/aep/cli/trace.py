"""`aep trace`: what became of an event, or of the events of an entity, for all clients."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from event_platform.domain.events.entities import Entity, parse_entity
from event_platform.domain.kept_events import Course, CourseStatus, KeptEvent, KeptQuery
from event_platform.domain.timestamps import to_rfc3339

from ..google.cloud_log import cloud_log_of
from ..google.tracing import traced
from ..output import echo, echo_json, fail
from ..store import kept_search, times
from .options import DEFAULT_DATA, AsJson, Data, Google, span
from .stores import open_store

LISTED = 100
ON_GOOGLE_SINCE = "1d"


def trace(
    event_id: Annotated[str | None, typer.Argument(metavar="[EVENT-ID]", help="The event's id.")] = None,
    entity: Annotated[
        str | None, typer.Option("--entity", metavar="ENTITY", help="As in product:SKU-1 or family:shoes.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Not older than that, as in 90s, 2h or 1d.")
    ] = None,
    google: Google = None,
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Show what became of an event or of an entity's events: who got them, each attempt, how it ended.

    Example: aep trace --entity product:SKU-1 --since 2h

    It shows what is kept (AEP_KEEP), of all PIMs and clients, oldest first; at most 100 events, the newest.
    With --google it reads the lines of the functions in Cloud Logging, of the last day or as far back as
    --since says. A product is found there by its UUID, or by its identifier if the PIM sends none.
    """
    if (event_id is None) == (entity is None):
        fail("name an event's id or an --entity, one of them")
    query_entity = None if entity is None else _entity(entity)
    if google is None:
        found = _kept(data, event_id, query_entity, since)
    else:
        found = _logged(google, event_id, query_entity, since)
    for event in reversed(found):
        if as_json:
            echo_json(_plain(event))
        else:
            for line in _lines(event):
                echo(line, hanging=4)


def _kept(data: Path, event_id: str | None, entity: Entity | None, since: str | None) -> Sequence[KeptEvent]:
    with open_store(data) as connection:
        now = times.now(connection)
        query = KeptQuery(event_id=event_id, entity=entity, since=_moment(since, now), limit=LISTED)
        search = kept_search.search_of_all(connection, query)
        found: list[KeptEvent] = []
        while not search.is_over(len(found)):
            found += search.step(connection, LISTED - len(found))
    if not found:
        fail("no such event is kept: AEP_KEEP and AEP_KEEP_BYTES say for how long they are", 1)
    return found


def _logged(
    project: str, event_id: str | None, entity: Entity | None, since: str | None
) -> Sequence[KeptEvent]:
    begins = datetime.now(UTC) - span("--since", since or ON_GOOGLE_SINCE)
    with cloud_log_of(project) as log:
        found = traced(log, event_id=event_id, entity=entity, since=begins)
    if not found:
        fail(
            f"no line of {project} names such an event since {to_rfc3339(begins)}: --since says how far back"
            " to look, and with AEP_LOG_LEVEL=warning there are none",
            1,
        )
    return found


def _entity(text: str) -> Entity:
    try:
        return parse_entity(text)
    except ValueError as error:
        fail(f"--entity {error}")


def _moment(since: str | None, now: datetime) -> datetime | None:
    if since is None:
        return None
    return now - span("--since", since)


def _lines(event: KeptEvent) -> Iterator[str]:
    """Yields the timeline of an event."""
    about = "" if event.entity is None else f" of {_printable(str(event.entity))}"
    yield f"{to_rfc3339(event.accepted_at)}  {event.type}{about}, id {event.id}"
    yield f"    accepted from {event.tenant} by {event.way}"
    if not event.courses:
        yield "    no subscription matched"
    for course in event.courses:
        yield from _lines_of_course(event, course)


def _lines_of_course(event: KeptEvent, course: Course) -> Iterator[str]:
    matched_at = to_rfc3339(course.matched_at or event.accepted_at)
    again = ", sent again by a replay" if course.is_replay else ""
    yield f"    {matched_at}  matched by {course.subscription_id or 'a subscription that is gone'}{again}"
    for attempt in course.attempts:
        what = " ".join(str(part) for part in (attempt.status, attempt.reason) if part is not None)
        yield f"      {to_rfc3339(attempt.at)}  {attempt.outcome}: {what} after {attempt.milliseconds} ms"
    if course.outcome is CourseStatus.WAITING:
        yield "      waits for its next attempt" if course.attempts else "      waits"
    elif course.ended_at is not None:
        shown = " ".join(str(part) for part in (course.status, course.message) if part is not None)
        took = "" if course.milliseconds is None else f" after {course.milliseconds} ms"
        yield f"      {to_rfc3339(course.ended_at)}  {course.outcome}: {shown or 'taken'}{took}"


def _plain(event: KeptEvent) -> Mapping[str, Any]:
    plain = asdict(event)
    del plain["number"]
    entity = None if event.entity is None else _printable(str(event.entity))
    return _shown({**plain, "identity": [_printable(part) for part in event.identity], "entity": entity})


def _shown(value: Any) -> Any:
    """Returns the value with times as texts."""
    if isinstance(value, datetime):
        return to_rfc3339(value)
    if isinstance(value, dict):
        return {name: _shown(each) for name, each in value.items()}
    return [_shown(each) for each in value] if isinstance(value, list) else value


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
