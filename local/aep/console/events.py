"""Kept events: the search, and what became of one, for each subscription of its PIM."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from event_platform.domain.errors import Conflict, InvalidRequest, NotFound, Problem
from event_platform.domain.events.entities import parse_entity
from event_platform.domain.events.event import Event, envelope
from event_platform.domain.kept_events import MAX_ACCEPTANCES, CourseStatus, KeptEvent, KeptQuery
from event_platform.domain.subscriptions import Subscription
from event_platform.manage.events import with_courses
from event_platform.manage.logs import since_of, until_of

from .app import Site
from .operations import time_of

PATH = "/console/events"
TEXT_CHARACTERS = 512
BODY_SHOWN = 64 * 1024
FOLDED_BYTES = 256 * 1024
"""The characters of a body that a page shows, and the size up to which its JSON is laid out."""
COURSES_SHOWN = 200
"""The deliveries of an event that a page shows."""
LOOKED_AT = 200
"""The subscriptions of a PIM for which a page says why an event did not match."""


def routes(site: Site) -> Sequence[Route]:
    page = _Page(site)
    return [
        Route(PATH, page.search, methods=["GET"]),
        Route(f"{PATH}/one", page.show, methods=["GET"]),
    ]


class _Page:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def search(self, request: Request) -> Response:
        fields = {name: value.strip()[:TEXT_CHARACTERS] for name, value in request.query_params.items()}
        context: dict[str, Any] = {"events": [], "older": None, "problem": "", "status": 200}
        try:
            query = query_of(fields)
            page = await self._site.records.kept(replace(query, courses_at_most=0))
        except (InvalidRequest, Conflict) as error:
            context |= {"problem": str(error), "status": 400}
        else:
            context |= {"events": page.events, "older": older_url(fields, page.below)}
        types = sorted(self._site.parts.manage.catalog.types)
        return self._site.page(
            request, "events.html", fields=fields, types=types, outcomes=list(CourseStatus), **context
        )

    async def show(self, request: Request) -> Response:
        """Shows each acceptance of an id: the body, and the timeline of each subscription."""
        event_id = request.query_params.get("id", "")
        query = KeptQuery(event_id=event_id, limit=MAX_ACCEPTANCES, courses_at_most=COURSES_SHOWN)
        page = await self._site.records.kept(query)
        found = await self._site.records.kept_with_data(page)
        if not found:
            raise NotFound("no event of that id is kept: see AEP_KEEP and AEP_KEEP_BYTES")
        shown: list[dict[str, Any]] = []
        for each in found:
            subscriptions = await self._subscriptions_of(each.kept.tenant)
            left_out = each.kept.deliveries - len(each.kept.courses)
            answer = await with_courses(each, judged(subscriptions, each.kept) if left_out else subscriptions)
            by_id = {every.id: every for every in subscriptions}
            shown.append(
                {
                    "kept": each.kept,
                    "body": body_of(each.event, self._site.parts.manage.public_url or ""),
                    "matched": [
                        (course, by_id.get(course["subscription_id"]))
                        for course in answer["subscriptions"]
                        if course["result"] == "matched"
                    ],
                    "others": [
                        (course, by_id.get(course["subscription_id"]))
                        for course in answer["subscriptions"]
                        if course["result"] != "matched"
                    ],
                    "left_out": left_out,
                    "is_cut": len(subscriptions) >= LOOKED_AT,
                }
            )
        return self._site.page(request, "event.html", event_id=event_id, shown=shown)

    async def _subscriptions_of(self, tenant: str) -> Sequence[Subscription]:
        return await self._site.records.subscriptions_of(tenant, LOOKED_AT)


def judged(subscriptions: Sequence[Subscription], event: KeptEvent) -> Sequence[Subscription]:
    """Returns those of the subscriptions, newest first, that are known to have a delivery or none.

    The deliveries that were read are those of the newest subscriptions; nothing is known of earlier ones.
    """
    matched = {course.subscription_id for course in event.courses}
    last = max((index for index, each in enumerate(subscriptions) if each.id in matched), default=-1)
    return subscriptions[: last + 1]


def query_of(fields: Mapping[str, str]) -> KeptQuery:
    """Returns the query of a URL. Raises InvalidRequest."""
    parsers: Mapping[str, Any] = {
        "entity": parse_entity,
        "outcome": CourseStatus,
        "below": _number,
    }
    parsed: dict[str, Any] = {}
    for name, parse in parsers.items():
        if fields.get(name):
            try:
                parsed[name] = parse(fields[name])
            except ValueError as error:
                raise InvalidRequest(Problem(name, str(error))) from None
    return KeptQuery(
        event_id=fields.get("id") or None,
        event_type=fields.get("type") or None,
        entity=parsed.get("entity"),
        subscription_id=fields.get("subscription") or None,
        outcome=parsed.get("outcome"),
        since=time_of(fields, "from", since_of),
        until=time_of(fields, "to", until_of),
        below=parsed.get("below"),
    )


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise ValueError("must be a number that a page gave")
    return int(text)


def older_url(fields: Mapping[str, str], below: int | None) -> str | None:
    """Returns the URL of the page that follows; None if this is the last one."""
    if below is None:
        return None
    kept = {name: value for name, value in fields.items() if value and name != "below"}
    return f"{PATH}?{urlencode({**kept, 'below': below})}"


def body_of(event: Event, public_url: str) -> dict[str, Any]:
    """Returns the body as it is delivered, but for the subscription's id; the end of a long one is cut."""
    sent = envelope(event, f"{public_url}/spec", with_identifier=True).addressed_to("SUBSCRIPTION")
    text = sent
    if len(sent) <= FOLDED_BYTES:
        try:
            text = orjson.dumps(orjson.loads(sent), option=orjson.OPT_INDENT_2)
        except orjson.JSONDecodeError:  # a number, or half of a character, that only JavaScript takes
            text = sent
    shown = text[:BODY_SHOWN].decode("utf-8", "replace")
    return {"text": shown, "bytes": len(sent), "is_cut": len(text) > BODY_SHOWN}
