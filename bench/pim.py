"""A worker: a PIM of which so many products have changed, cheap beside the platform that asks it.

It has the routes that a feed of products needs, and pages of 100. A round's list is shown once; after that
nothing has changed any more.

Order: "pages", how many it has shown.
"""

import asyncio
import sys
import uuid
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, quote

import orjson
from aiohttp import web

from .workers import hear, say

PAGE = 100
ROUTE = "/api/rest/v1/products-uuid"
CREATED = "2020-01-01T00:00:00+00:00"


class Pim:
    """The PIM. `pages` are those that were shown of the list of changes."""

    def __init__(self, products: int) -> None:
        self._last = max(0, -(-products // PAGE) - 1)
        self._products = products
        self._updated = datetime.now(UTC).isoformat(timespec="seconds")
        self.pages = 0

    async def token(self, request: web.Request) -> web.Response:
        return self._answer({"access_token": "a-token", "expires_in": 3600})

    async def attributes(self, request: web.Request) -> web.Response:
        item = {"code": "sku", "type": "pim_catalog_identifier"}
        return self._answer({"_links": {}, "_embedded": {"items": [item]}})

    async def products(self, request: web.Request) -> web.Response:
        query = {name: values[0] for name, values in parse_qs(request.query_string).items()}
        is_list = "search" in query
        if is_list and self.pages > self._last:
            return self._answer({"_links": {}, "_embedded": {"items": []}})
        page = int(query.get("search_after", "0"))
        first = page * PAGE
        items = [self._item(number) for number in range(first, min(first + PAGE, self._products))]
        links: dict[str, Any] = {"self": {"href": f"http://localhost{ROUTE}"}}
        if is_list:
            self.pages = page + 1
        if page < self._last:
            search = f"&search={quote(query['search'])}" if is_list else ""
            links["next"] = {"href": f"http://localhost{ROUTE}?limit={PAGE}{search}&search_after={page + 1}"}
        return self._answer({"_links": links, "_embedded": {"items": items}})

    def _item(self, number: int) -> dict[str, Any]:
        return {
            "_links": {"self": {"href": f"http://localhost{ROUTE}/{number}"}},
            "uuid": str(uuid.UUID(int=number + 1, version=4)),
            "enabled": True,
            "family": "lamps",
            "categories": ["indoor", "sale"],
            "groups": [],
            "parent": None,
            "values": {"sku": [{"locale": None, "scope": None, "data": f"sku-{number}"}]},
            "created": CREATED,
            "updated": self._updated,
            "associations": {"PACK": {"products": [], "product_models": [], "groups": []}},
            "quantified_associations": {},
        }

    @staticmethod
    def _answer(value: Any) -> web.Response:
        return web.Response(body=orjson.dumps(value), content_type="application/json")


async def main() -> None:
    pim = Pim(hear()["products"])
    app = web.Application()
    app.router.add_post("/api/oauth/v1/token", pim.token)
    app.router.add_get("/api/rest/v1/attributes", pim.attributes)
    app.router.add_get(ROUTE, pim.products)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    say({"url": f"http://127.0.0.1:{runner.addresses[0][1]}"})
    while await asyncio.to_thread(hear) == "pages":
        say(pim.pages)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
