"""The route `/metrics`, and the counts of answers (docs/metrics.md)."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Scope

from event_platform.domain.errors import StoreUnavailable
from event_platform.first_use import FirstUse

from ..runtime.meters import OTHER, Meters
from ..store.figures import Figures

if TYPE_CHECKING:
    from .metrics_page import Page

log = structlog.get_logger()

Measure = Callable[[], Figures]
"""A function that measures the files of the store and their disk; called in a thread."""
Look = Callable[[], Awaitable[float]]
"""A function that updates the meters from the file.

Returns the age in seconds of the oldest event that waits.
"""


def route(meters: Meters, look: Look, measure: Measure) -> Route:
    """Returns the route GET /metrics. The library of the page is imported by the first scrape."""
    page: Page | None = None

    def load() -> None:
        from .metrics_page import Page

        nonlocal page
        page = Page(meters)

    first = FirstUse(load)

    async def answer(request: Request) -> Response:
        await first.ready()
        assert page is not None  # noqa: S101 - it is loaded
        try:
            page.oldest = await look()
        except StoreUnavailable as error:  # the rest is known, and wanted just then
            page.oldest = None
            log.warning("metrics.store_unavailable", error=str(error))
        if page.is_old():
            page.figures = await asyncio.to_thread(measure)
        return Response(page.text(), headers={"content-type": page.media_type, "cache-control": "no-store"})

    return Route("/metrics", answer, methods=["GET"])


class CountedAnswers:
    """Counts answers by the route's template and the status, so that no path of a stranger becomes a
    label.
    """

    def __init__(self, routes: Iterable[Route], meters: Meters) -> None:
        self._templates: Mapping[object, str] = {each.endpoint: each.path for each in routes}
        self._meters = meters

    def __call__(self, scope: Scope, status: int) -> None:
        self._meters.answered(self._templates.get(scope.get("endpoint"), OTHER), status)
