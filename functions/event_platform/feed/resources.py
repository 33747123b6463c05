"""The resources of the PIM's REST API: their routes, their pages, and the entities that they are about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import orjson

from ..domain.feeds import NAMED_BY_WEBHOOKS, Feed, ResourceName

API = "/api/rest/v1/"
PAGE_LIMIT = 100
"""The most items that a PIM puts into a page. It answers 422 to more."""
UUID_ROUTE, IDENTIFIER_ROUTE = "products-uuid", "products"


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource of the REST API.

    `routes` are asked for in turn until the PIM has one. A resource with `parents` has a list for each item
    of that route. `has_cursor` says that its pages follow a cursor and not a number, and `takes_local_time`
    that its filter is in the time of the PIM's server.
    """

    name: ResourceName
    entity: str
    routes: tuple[str, ...]
    parents: str | None = None
    has_cursor: bool = False
    takes_local_time: bool = False

    @property
    def has_webhook(self) -> bool:
        """True if the Events API tells of it, too."""
        return self.name in NAMED_BY_WEBHOOKS

    def type_of(self, action: str) -> str:
        """The event type of an action, such as `created`."""
        return f"com.akeneo.pim.v1.{self.entity.replace('_', '-')}.{action}"

    def data_of(self, identity: Sequence[str], identifier: str | None) -> dict[str, Any]:
        """The entity as events have it."""
        match self.name:
            case ResourceName.PRODUCTS:
                return {"uuid": identity[0]} | ({"identifier": identifier} if identifier else {})
            case ResourceName.ASSETS:
                return {"asset_family": {"code": identity[0]}, "code": identity[1]}
            case ResourceName.RECORDS:
                return {"reference_entity": {"code": identity[0]}, "code": identity[1]}
            case _:
                return {"code": identity[0]}

    def list_path(self, route: str, parent: str | None) -> str:
        """The path of its list, below the API's own."""
        return route if parent is None else f"{self.parents}/{quote(parent, safe='')}/{route}"

    def first_page(
        self, route: str, parent: str | None, *, limit: int, updated_after: str | None, attribute: str | None
    ) -> str:
        """Path and query of the first page, below the API's own path."""
        query: dict[str, str] = {"limit": str(limit)}
        if self.parents is None:
            query |= {"pagination_type": "search_after"} if self.has_cursor else {"with_count": "true"}
        if updated_after is not None:
            search = {"updated": [{"operator": ">", "value": updated_after}]}
            query["search"] = orjson.dumps(search).decode()
        if attribute is not None and self.takes_local_time:
            query["attributes"] = attribute
        return f"{self.list_path(route, parent)}?{urlencode(query)}"

    def item_path(self, route: str, known_as: str, parent: str | None) -> str:
        """The path of one item."""
        return f"{self.list_path(route, parent)}/{quote(known_as, safe='')}"


RESOURCES: Mapping[ResourceName, Resource] = {
    each.name: each
    for each in (
        Resource(
            ResourceName.PRODUCTS,
            "product",
            (UUID_ROUTE, IDENTIFIER_ROUTE),
            has_cursor=True,
            takes_local_time=True,
        ),
        Resource(
            ResourceName.PRODUCT_MODELS,
            "product_model",
            ("product-models",),
            has_cursor=True,
            takes_local_time=True,
        ),
        Resource(ResourceName.ATTRIBUTES, "attribute", ("attributes",)),
        Resource(ResourceName.ATTRIBUTE_GROUPS, "attribute_group", ("attribute-groups",)),
        Resource(ResourceName.FAMILIES, "family", ("families",)),
        Resource(ResourceName.CATEGORIES, "category", ("categories",)),
        Resource(ResourceName.ASSETS, "asset", ("assets",), parents="asset-families", has_cursor=True),
        Resource(
            ResourceName.RECORDS,
            "reference_entity_record",
            ("records",),
            parents="reference-entities",
            has_cursor=True,
        ),
    )
}


def event_types(feed: Feed) -> Sequence[str]:
    """The event types that a feed makes."""
    actions = ("created", "updated", "deleted")
    return [RESOURCES[name].type_of(action) for name in feed.names for action in actions]
