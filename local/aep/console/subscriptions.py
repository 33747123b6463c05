"""The table of subscriptions: filtered as one types, sorted, in pages."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from event_platform.domain.subscriptions import Status

from ..store.listing import MOST_PAGES, ON_A_PAGE, ListPage, ListQuery, Sort
from .app import Site
from .views import page_number

TEXT_CHARACTERS = 200
PATH = "/console/subscriptions"


@dataclass(frozen=True, slots=True)
class Heading:
    """The heading of a column: its words, whether it is of numbers, and a second line."""

    words: str
    is_number: bool = False
    note: str = ""


HEADINGS: Mapping[Sort, Heading] = {
    Sort.DESTINATION: Heading("Destination"),
    Sort.PIM: Heading("PIM and client"),
    Sort.SUBSCRIBER: Heading("Subscriber"),
    Sort.TYPES: Heading("Types"),
    Sort.STATUS: Heading("Status"),
    Sort.RATE: Heading("Rate", is_number=True),
    Sort.LANES: Heading("Lanes", is_number=True),
    Sort.DELIVERED: Heading("Delivered", is_number=True, note="last hour"),
    Sort.FAILED: Heading("Failed", is_number=True, note="last hour"),
    Sort.WAITING: Heading("Waiting", is_number=True),
    Sort.FAILURE: Heading("Last failure"),
}
LOWEST_FIRST = frozenset({Sort.DESTINATION, Sort.PIM, Sort.SUBSCRIBER, Sort.STATUS})
"""The columns that are sorted from their lowest value at first; the others from the highest."""


def routes(site: Site) -> Sequence[Route]:
    async def show(request: Request) -> Response:
        query = query_of(request.query_params)
        context = context_of(query, await site.records.listed(query))
        return site.page(
            request, "_subscriptions.html" if is_part(request) else "subscriptions.html", **context
        )

    return [Route(PATH, show, methods=["GET"])]


def is_part(request: Request) -> bool:
    """True if only the table is asked for: a page that the browser's back shows again is whole."""
    return "hx-request" in request.headers and "hx-history-restore-request" not in request.headers


def query_of(parameters: Mapping[str, str], sorts: Container[Sort] = frozenset(Sort)) -> ListQuery:
    """Returns the query of a URL. What is none of its values counts as absent."""
    status = parameters.get("status", "")
    sort = next((each for each in Sort if each == parameters.get("sort") and each in sorts), None)
    return ListQuery(
        text=parameters.get("q", "").strip()[:TEXT_CHARACTERS],
        status=Status(status) if status in SHOWN_STATUSES else None,
        tenant=parameters.get("pim") or None,
        sort=sort,
        ascending=(sort in LOWEST_FIRST) != (parameters.get("turned") == "yes"),
        page=min(page_number(parameters.get("page", "")), MOST_PAGES),
    )


SHOWN_STATUSES = (Status.ACTIVE, Status.SUSPENDED, Status.REVOKED)


def context_of(query: ListQuery, page: ListPage, sorts: Container[Sort] = frozenset(Sort)) -> dict[str, Any]:
    """Returns the context of a page of the table, whose columns of `sorts` a reader may sort by."""
    first = query.page * ON_A_PAGE
    return {
        "query": query,
        "page": page,
        "first": first + 1,
        "last": first + len(page.rows),
        "before": None if query.page == 0 else url_of(query, query.page - 1),
        "after": url_of(query, query.page + 1) if page.has_more else None,
        "headings": [_heading(query, sort, sort in sorts) for sort in Sort],
        "turned": _is_turned(query),
        "newest": url_of(replace(query, sort=None), 0),
        "statuses": SHOWN_STATUSES,
    }


def _heading(query: ListQuery, sort: Sort, may_sort: bool) -> dict[str, Any]:
    """Returns a heading with the URL that sorts by it, or the other way round if the list is so already."""
    is_sorted = query.sort is sort
    ascending = not query.ascending if is_sorted else sort in LOWEST_FIRST
    order = "ascending" if query.ascending else "descending"
    return {
        "heading": HEADINGS[sort],
        "url": url_of(replace(query, sort=sort, ascending=ascending), 0) if may_sort else None,
        "order": order if is_sorted else "",
    }


def _is_turned(query: ListQuery) -> bool:
    return query.sort is not None and query.ascending != (query.sort in LOWEST_FIRST)


def url_of(query: ListQuery, page: int) -> str:
    """Returns the URL of a page of a query."""
    parameters = {
        "q": query.text,
        "status": query.status or "",
        "pim": query.tenant or "",
        "sort": query.sort or "",
        "turned": "yes" if _is_turned(query) else "",
        "page": str(page or ""),
    }
    encoded = urlencode({name: value for name, value in parameters.items() if value})
    return f"{PATH}?{encoded}" if encoded else PATH
