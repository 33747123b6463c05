"""Trying an event: who gets it and why, and sending it."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import structlog
import uuid_utils
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from event_platform.domain.errors import Conflict, Forbidden, InvalidRequest, Problem, TooLarge
from event_platform.domain.events.event import Event
from event_platform.domain.ingest_formats.cloudevents import Context, read_value
from event_platform.domain.matching import checks
from event_platform.domain.words import counted

from .answers import read_form
from .app import Site
from .forms import json_of
from .pims import TEXT_CHARACTERS, like

log = structlog.get_logger()

PATH = "/console/try"
LOOKED_AT = 200
PIMS_OFFERED = 50
"""The PIMs that the form offers; of others a reader types a part of the URL."""
PIMS_NAMED = 3
FIRST = "com.akeneo.pim.v1.product.updated"
"""The type whose example is shown at first."""


def routes(site: Site) -> Sequence[Route]:
    page = _Page(site)
    return [Route(PATH, page.show, methods=["GET"]), Route(PATH, page.act, methods=["POST"])]


class _Page:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def show(self, request: Request) -> Response:
        return await self._page(request, request.query_params)

    async def _page(
        self, request: Request, fields: Mapping[str, str], problem: str = "", **more: Any
    ) -> Response:
        catalog = self._site.parts.manage.catalog
        pims = await self._pims()
        chosen = fields.get("type", "")
        if chosen not in catalog:
            chosen = FIRST
        event = {"type": chosen, "data": catalog[chosen].example}
        return self._site.page(
            request,
            "try.html",
            400 if problem else 200,
            **{
                "pims": pims[:PIMS_OFFERED],
                "pim": fields.get("pim") or (pims[0] if len(pims) == 1 else ""),
                "types": sorted(catalog.types),
                "chosen": chosen,
                "fields": fields,
                "event": fields.get("event") or orjson.dumps(event, option=orjson.OPT_INDENT_2).decode(),
                "problem": problem,
                "found": None,
                "sent": None,
                "is_cut": False,
                **more,
            },
        )

    async def act(self, request: Request) -> Response:
        fields = await read_form(request)
        try:
            pim = await self._pim(fields)
            event = self._event(pim, fields)
        except (InvalidRequest, Conflict, Forbidden, TooLarge) as error:
            return await self._page(request, fields, str(error))
        subscriptions = await self._site.records.subscriptions_of(pim, LOOKED_AT)
        found: list[dict[str, Any]] = []
        for each in subscriptions:
            answers = checks(event, each)
            matches = all(every.passes for every in answers)
            found.append({"subscription": each, "checks": answers, "matches": matches})
            await asyncio.sleep(0)
        found.sort(key=lambda each: not each["matches"])
        more: dict[str, Any] = {"found": found, "is_cut": len(subscriptions) >= LOOKED_AT}
        if fields.get("act") == "send":
            await self._site.parts.manage.intake.accept(pim, [event])
            log.info("console.event_sent", tenant=pim, event_id=event.id, type=event.type)
            more["sent"] = event.id
        return await self._page(request, fields, **more)

    async def _pims(self, text: str = "") -> list[str]:
        """Returns the names of the PIMs whose events come in, or of those that have the text."""
        known = await self._site.records.pims()
        return [each.name for each in like(known, text) if each.url is not None]

    async def _pim(self, fields: Mapping[str, str]) -> str:
        """Returns the PIM that was typed: its URL, or a part that only one has. Raises InvalidRequest."""
        text = fields.get("pim", "").strip().rstrip("/")[:TEXT_CHARACTERS]
        found = await self._pims(text) if text else []
        if text in found or len(found) == 1:
            return text if text in found else found[0]
        if not found:
            raise InvalidRequest(Problem("", "choose the PIM that the event is of: this one is not known"))
        few = ", ".join(found[:PIMS_NAMED])
        raise InvalidRequest(
            Problem("", f"{counted(len(found), 'PIM')} are like that, such as {few}: choose one")
        )

    def _event(self, pim: str, fields: Mapping[str, str]) -> Event:
        """Returns the event as ingest would read it. Its id may be left out. Raises what ingest does."""
        value = json_of(fields.get("event", ""), "the event")
        if not isinstance(value, dict):
            raise InvalidRequest(Problem("the event", "must be a JSON object"))
        context = Context(pim, self._site.parts.manage.catalog, self._site.parts.clock.now())
        return read_value({"id": str(uuid_utils.uuid7()), **value}, context)
