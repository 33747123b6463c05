"""The overview: the numbers of now and of the last hour, what is wrong, and the worst subscriptions."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from . import views
from .app import Site
from .streams import Update

NUMBERS_EVERY = 1.0
REST_EVERY = 10.0
"""The seconds between two updates of the figures, and of what has to be read from the file."""


def routes(site: Site) -> Sequence[Route]:
    page = _Overview(site)
    return [
        Route("/console", page.show, methods=["GET"]),
        Route("/console/live/overview", page.live, methods=["GET"]),
    ]


class _Overview:
    """The overview. What it reads from the file is read once in a while for all who look."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._rest: Mapping[str, Any] = {}
        self._read_at: float | None = None

    async def show(self, request: Request) -> Response:
        context = {**await self._tiles(), **await self._findings()}
        return self._site.page(request, "overview.html", **context)

    async def live(self, request: Request) -> Any:
        sessions, session = self._site.sessions, request.scope["session"]
        return self._site.streams.stream(self._updates(request), lambda: sessions.is_good(session))

    async def _updates(self, request: Request) -> AsyncIterator[Update]:
        clock = self._site.parts.clock
        numbers_at = rest_at = clock.monotonic()
        while True:
            now = clock.monotonic()
            if now - numbers_at >= NUMBERS_EVERY:
                numbers_at = now
                yield "tiles", self._site.render(request, "_tiles.html", **await self._tiles())
            elif now - rest_at >= REST_EVERY:
                rest_at = now
                yield "findings", self._site.render(request, "_findings.html", **await self._findings())
            else:
                yield "", ""

    async def _tiles(self) -> Mapping[str, Any]:
        parts = self._site.parts
        return views.tiles(self._site.samples, parts.meters, await parts.queue.look())

    async def _findings(self) -> Mapping[str, Any]:
        parts, now = self._site.parts, self._site.parts.clock.monotonic()
        if self._read_at is None or now - self._read_at >= REST_EVERY:
            self._read_at = now
            self._rest = await self._read()
        known = await self._site.records.pims()
        meters = parts.meters
        return {
            "remarks": views.remarks(
                problem=parts.problem(),
                by_status=self._rest["by_status"],
                meters=meters,
                oldest=self._rest["oldest"],
                silent=views.silent(meters, known, parts.clock.now()),
                refused=views.refused_now(meters.last_calls, known),
                lead=parts.clock.lead,
            ),
            "worst": self._rest["worst"],
            "subscriptions": sum(self._rest["by_status"].values()),
            "pims": len(known),
            "chart": views.chart_of(self._site.samples.minutes()),
        }

    async def _read(self) -> Mapping[str, Any]:
        records = self._site.records
        return {
            "by_status": await records.by_status(),
            "worst": await records.worst(),
            "oldest": await self._site.parts.queue.look(),
        }
