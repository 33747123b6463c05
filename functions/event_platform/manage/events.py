"""The use cases that read kept events, and what became of their deliveries (contract/wire.md 16)."""

import asyncio
import base64
import binascii
import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from ..domain import fields
from ..domain.errors import Conflict, NotFound, Problem
from ..domain.events.entities import parse_entity
from ..domain.kept_events import (
    MAX_ACCEPTANCES,
    CourseStatus,
    KeptEvent,
    KeptQuery,
    KeptWithData,
)
from ..domain.matching import checks
from ..domain.record import representations as show
from ..domain.record.answers import AcceptedEventAnswer, CourseAnswer, EventCoursesAnswer, EventPageAnswer
from ..domain.subscriptions import Subscription
from ..ports import KeptEvents
from .identity import Caller
from .logs import MAX_LIMIT, PAGING, limit_of, one_of, since_of, some_id, until_of
from .parameters import read_parameters
from .services import Manage
from .subscribers import check_permission

SECONDS_AT_ONCE = 0.005
"""The time for which the event loop works on one answer before it works on others."""


async def read_events(
    caller: Caller, parameters: Iterable[tuple[str, str]], *, manage: Manage
) -> EventPageAnswer:
    """Returns a page of the PIM's kept events, newest first.

    Raises InvalidRequest, Forbidden, Conflict (nothing is kept).
    """
    query, warnings = parse_query(parameters)
    check_permission(caller)
    page = await _kept(manage).page(caller.owner, replace(query, courses_at_most=0))
    answer: EventPageAnswer = {
        "items": [show.kept_event(event) for event in page.events],
        "next_cursor": None if page.below is None else _cursor(page.below, query),
    }
    if warnings:
        answer["warnings"] = [{"message": str(warning), "field": warning.field} for warning in warnings]
    return answer


async def read_event(caller: Caller, event_id: str, *, manage: Manage) -> EventCoursesAnswer:
    """Returns each acceptance of the id that is kept, newest first, and what became of it for the caller.

    Raises Forbidden, NotFound, Conflict (nothing is kept).
    """
    check_permission(caller)
    kept = _kept(manage)
    page = await kept.page(caller.owner, KeptQuery(event_id=event_id, limit=MAX_ACCEPTANCES))
    if not page.events:
        raise NotFound("no event of this PIM with that id is kept")
    subscriptions = await _subscriptions(caller, manage)
    found = await kept.with_data(page.events)
    return {"items": [await with_courses(each, subscriptions) for each in found]}


def _kept(manage: Manage) -> KeptEvents:
    if manage.kept is None:
        raise Conflict("this platform keeps no events")
    manage.kept.check_kept()
    return manage.kept


async def _subscriptions(caller: Caller, manage: Manage) -> list[Subscription]:
    records = manage.subscriptions
    return [
        subscription
        for subscriber in await records.subscribers(caller.owner)
        for subscription in await records.subscriptions(caller.owner, subscriber.id)
    ]


async def with_courses(found: KeptWithData, subscriptions: Sequence[Subscription]) -> AcceptedEventAnswer:
    """Returns the event with what became of it for each of the subscriptions, or why it did not match."""
    event = found.kept
    matched = {course.subscription_id for course in event.courses}
    shown: list[CourseAnswer] = [show.course(event, course) for course in event.courses]
    began = time.monotonic()
    for subscription in subscriptions:
        if subscription.id not in matched:
            shown.append(_not_matched(found, subscription))
            if time.monotonic() - began > SECONDS_AT_ONCE:
                await asyncio.sleep(0)
                began = time.monotonic()
    return show.kept_event_with_courses(event, shown)


def _not_matched(found: KeptWithData, subscription: Subscription) -> CourseAnswer:
    """Says why, by the subscription as it was at acceptance if it has not changed since."""
    event: KeptEvent = found.kept
    is_as_then = subscription.updated_at <= event.accepted_at
    if subscription.created_at > event.accepted_at:
        reasons = ["the subscription was created after the event was accepted"]
    else:
        reasons = [check.message for check in checks(found.event, subscription) if not check.passes]
    if not reasons:
        reasons = ["it would match now: the subscription has changed since, or was suspended then"]
    return {
        "subscription_id": subscription.id,
        "result": "not_matched",
        "reasons": reasons,
        "judged_by": "subscription_then" if is_as_then else "subscription_now",
    }


def parse_query(parameters: Iterable[tuple[str, str]]) -> tuple[KeptQuery, Sequence[Problem]]:
    """Returns the query that a URL asks for, and what was not done as it was asked. Raises InvalidRequest."""
    sent = read_parameters(parameters, _PARSERS, paging=PAGING)
    parsed = sent.parse(_PARSERS)
    limit: int = parsed.get("limit", KeptQuery().limit)
    query = KeptQuery(
        event_type=parsed.get("type"),
        entity=parsed.get("entity"),
        subscription_id=parsed.get("subscription_id"),
        outcome=parsed.get("outcome"),
        since=parsed.get("from"),
        until=parsed.get("to"),
        limit=min(limit, MAX_LIMIT),
        below=None,
    )
    below = None
    if "cursor" in parsed and not sent.problems:
        of_list, below = parsed["cursor"]
        if of_list != _list_of(query):
            sent.add_problem(sent.values["cursor"][0], "is of a list with other filters")
    warnings = sent.warnings(limit, MAX_LIMIT)
    return replace(query, below=below), warnings


def _list_of(query: KeptQuery) -> str:
    """Names what is listed. Times are no part of it: they may move from page to page."""
    chosen = (query.event_type, query.entity, query.subscription_id, query.outcome)
    return hashlib.sha256(repr(chosen).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _cursor(below: int, query: KeptQuery) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([_list_of(query), below])).decode().rstrip("=")


def _cursor_of(text: str) -> tuple[str, int]:
    wrong = "is none that this list gave"
    if len(text) > fields.MAX_CURSOR_LENGTH or not text.isascii():
        raise ValueError(wrong)
    try:
        found = orjson.loads(base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True))
    except (binascii.Error, orjson.JSONDecodeError):
        raise ValueError(wrong) from None
    match found:
        case [str(of_list), int(below)] if 0 < below < 1 << 62:
            return of_list, below
        case _:
            raise ValueError(wrong)


_PARSERS: Mapping[str, Any] = {
    "type": some_id,
    "entity": parse_entity,
    "subscription_id": some_id,
    "outcome": lambda text: CourseStatus(one_of(frozenset(CourseStatus), text)),
    "from": since_of,
    "to": until_of,
    "limit": limit_of,
    "cursor": _cursor_of,
}
