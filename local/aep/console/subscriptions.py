"""The table of subscriptions: filtered as one types, sorted, in pages."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from event_platform.domain.subscriptions import Status

from ..store.listing import MOST_PAGES, ON_A_PAGE, ListPage, ListQuery, Order
from .app import Site

TEXT_CHARACTERS = 200
PATH = "/console/subscriptions"
HEADINGS: Mapping[Order, str] = {
    Order.NEWEST: "newest first",
    Order.PIM: "by PIM",
    Order.STATUS: "suspended first",
    Order.FAILURE: "last failure first",
}


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


def query_of(parameters: Mapping[str, str]) -> ListQuery:
    """Returns the query of a URL. What is none of its values counts as absent."""
    page = parameters.get("page", "")
    status, order = parameters.get("status", ""), parameters.get("order", "")
    return ListQuery(
        text=parameters.get("q", "").strip()[:TEXT_CHARACTERS],
        status=Status(status) if status in SHOWN_STATUSES else None,
        tenant=parameters.get("pim") or None,
        order=Order(order) if order in set(Order) else Order.NEWEST,
        page=min(int(page), MOST_PAGES) if page.isdecimal() and len(page) < 6 else 0,
    )


SHOWN_STATUSES = (Status.ACTIVE, Status.SUSPENDED, Status.REVOKED)


def context_of(query: ListQuery, page: ListPage, orders: Mapping[Order, str] = HEADINGS) -> dict[str, Any]:
    """Returns the context of a page of the table, and the orders that a reader may choose."""
    first = query.page * ON_A_PAGE
    return {
        "query": query,
        "page": page,
        "first": first + 1,
        "last": first + len(page.rows),
        "before": None if query.page == 0 else url_of(query, query.page - 1),
        "after": url_of(query, query.page + 1) if page.has_more else None,
        "orders": orders,
        "statuses": SHOWN_STATUSES,
    }


def url_of(query: ListQuery, page: int) -> str:
    """Returns the URL of a page of a query."""
    parameters = {
        "q": query.text,
        "status": query.status or "",
        "pim": query.tenant or "",
        "order": "" if query.order is Order.NEWEST else query.order,
        "page": str(page or ""),
    }
    encoded = urlencode({name: value for name, value in parameters.items() if value})
    return f"{PATH}?{encoded}" if encoded else PATH
