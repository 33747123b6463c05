"""The routes by which apps and the platform read the catalogue: `/api/rest/v1/…`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from . import listing, searching
from .catalogue import Catalogue, Entity, Path
from .connections import Connections
from .errors import PimError
from .kinds import (
    ASSET,
    ASSET_FAMILY,
    ASSOCIATION_TYPE,
    ATTRIBUTE,
    ATTRIBUTE_GROUP,
    ATTRIBUTE_OPTION,
    CATEGORY,
    CHANNEL,
    CURRENCY,
    FAMILY,
    FAMILY_VARIANT,
    LOCALE,
    PRODUCT,
    PRODUCT_MODEL,
    RECORD,
    REFERENCE_ENTITY,
    Edition,
    Kind,
)
from .shapes import Item, item_of

ROOT = "/api/rest/v1"
PROXIED = "http://pim.internal:8080"
"""The base URL in links of a PIM that does not know of the proxy before it."""
THROTTLE_SECONDS = 1
"""The `Retry-After` of a 429 that `throttle` makes."""

_BY_UUID, _BY_IDENTIFIER = "/products-uuid", "/products"
_LISTS: Mapping[str, Kind] = {
    _BY_UUID: PRODUCT,
    _BY_IDENTIFIER: PRODUCT,
    "/product-models": PRODUCT_MODEL,
    "/families": FAMILY,
    "/families/{parent}/variants": FAMILY_VARIANT,
    "/attributes": ATTRIBUTE,
    "/attributes/{parent}/options": ATTRIBUTE_OPTION,
    "/attribute-groups": ATTRIBUTE_GROUP,
    "/categories": CATEGORY,
    "/channels": CHANNEL,
    "/locales": LOCALE,
    "/currencies": CURRENCY,
    "/association-types": ASSOCIATION_TYPE,
    "/asset-families": ASSET_FAMILY,
    "/asset-families/{parent}/assets": ASSET,
    "/reference-entities": REFERENCE_ENTITY,
    "/reference-entities/{parent}/records": RECORD,
}


@dataclass(slots=True)
class Outage:
    """The answer of the API to its next `calls` requests, or to all of them for None."""

    status: int
    retry_after: int | None = None
    calls: int | None = None


@dataclass(slots=True)
class Pim:
    """The simulated PIM with its connections, its catalogue and its settings."""

    connections: Connections
    catalogue: Catalogue
    edition: Edition = Edition.ENTERPRISE
    zone: tzinfo = UTC
    is_behind_proxy: bool = False
    throttle: int = 0
    """Each so many-th read is answered with 429; 0 for none."""
    outage: Outage | None = None
    calls: int = field(default=0, init=False)
    """The requests for entities so far."""

    def shown(self, entity: Entity) -> Item:
        """Returns an entity as the API and a webhook show it, without links."""
        return item_of(entity, zone=self.zone, edition=self.edition)

    def check_outage(self) -> None:
        """Raises PimError during an outage."""
        outage = self.outage
        if outage is None:
            return
        if outage.calls is not None:
            outage.calls -= 1
            if outage.calls <= 0:
                self.outage = None
        raise PimError(
            outage.status,
            "The PIM is not available, as ordered by /_sim/outage.",
            None if outage.retry_after is None else {"Retry-After": str(outage.retry_after)},
        )

    def check_throttle(self) -> None:
        """Raises PimError with 429 at each request that is the `throttle`-th."""
        self.calls += 1
        if self.throttle and self.calls % self.throttle == 0:
            raise PimError(429, "Too many requests", {"Retry-After": str(THROTTLE_SECONDS)})


def routes(edition: Edition) -> list[Route]:
    """Returns a route for each list of the edition, and one for an entity of each."""
    return [
        route
        for path, kind in _LISTS.items()
        if edition is not Edition.COMMUNITY or not kind.is_enterprise
        for route in (
            Route(f"{ROOT}{path}", _list(path, kind)),
            Route(f"{ROOT}{path}/{{key}}", _one(path, kind)),
        )
    ]


def pim_of(request: Request) -> Pim:
    return request.app.state.pim


def _list(path: str, kind: Kind) -> Callable[[Request], Any]:
    async def handle(request: Request) -> Response:
        pim = _checked(request, kind)
        parents = _parents(request, pim, kind)
        query = dict(request.query_params)
        pages = listing.pages_of(kind, query)
        now = pim.catalogue.now()
        matches = _matcher(pim, kind, query, now)

        def after(key: str | None) -> Any:
            return searching.found(pim.catalogue.after(kind, parents, key), matches, now)

        entities, count = pages.read(after)
        url = _url(request, pim, path)
        attributes = frozenset(query["attributes"].split(",")) if "attributes" in query else None
        items = [_linked(pim, entity, path, url, attributes) for entity in entities]
        return JSONResponse(pages.answer(url, entities, items, count))

    return handle


def _one(path: str, kind: Kind) -> Callable[[Request], Any]:
    async def handle(request: Request) -> Response:
        pim = _checked(request, kind)
        parents = _parents(request, pim, kind)
        key = request.path_params["key"]
        if path == _BY_IDENTIFIER:
            entity = pim.catalogue.by_identifier(key)
        else:
            entity = pim.catalogue.get(kind, *parents, key)
        if entity is None:
            raise _missing(kind, key)
        return JSONResponse(_item(pim, entity, path))

    return handle


def _checked(request: Request, kind: Kind) -> Pim:
    """Returns the PIM, when the caller may read the kind."""
    pim = pim_of(request)
    pim.check_outage()
    caller = pim.connections.caller(request.headers.get("authorization", ""))
    pim.check_throttle()
    if kind.scope not in caller.scopes:
        raise PimError(403, f"Access forbidden. You are not allowed to list {kind.plural}.")
    return pim


def _parents(request: Request, pim: Pim, kind: Kind) -> Path:
    """Returns the path of the entity whose list this is."""
    if kind.parent is None:
        return ()
    parent = request.path_params["parent"]
    if pim.catalogue.get(kind.parent, parent) is None:
        raise _missing(kind.parent, parent)
    return (parent,)


def _matcher(pim: Pim, kind: Kind, query: Mapping[str, str], now: datetime) -> searching.Predicate:
    if not query.get("search"):
        return searching.everything
    models = {entity.key: entity for entity in pim.catalogue.after(PRODUCT_MODEL, (), None)}
    return searching.parse(kind, query["search"], zone=pim.zone, models=models, now=now)


def _url(request: Request, pim: Pim, path: str) -> str:
    base = PROXIED if pim.is_behind_proxy else str(request.base_url).rstrip("/")
    parent = quote(request.path_params.get("parent", ""), safe="")
    return f"{base}{ROOT}{path.replace('{parent}', parent)}"


def _item(pim: Pim, entity: Entity, path: str, attributes: frozenset[str] | None = None) -> Item:
    item = item_of(entity, zone=pim.zone, edition=pim.edition, attributes=attributes)
    if path == _BY_UUID:
        del item["identifier"]  # it is among the values
    return item


def _linked(pim: Pim, entity: Entity, path: str, url: str, attributes: frozenset[str] | None) -> Item:
    key = entity.identifier if path == _BY_IDENTIFIER and entity.identifier else entity.key
    links = {"self": {"href": f"{url}/{quote(key, safe='')}"}}
    return {"_links": links, **_item(pim, entity, path, attributes)}


def _missing(kind: Kind, key: str) -> PimError:
    permission = " or you do not have permission to access it" if kind is PRODUCT else ""
    return PimError(404, f'{kind.words} "{key}" does not exist{permission}.')
