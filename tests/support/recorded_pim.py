"""A PIM of any version and edition, made from Akeneo's public API reference and not from our feed.

The items are those of `recorded_shapes.json`: the members that https://api.akeneo.com documents for a
version, with values of our own. Lists, links and errors are as its pages on pagination and response codes
say.
It shares no code with the simulated PIM of `aep sim`.
"""

import base64
import json
import re
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode
from zoneinfo import ZoneInfo

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from aep.serving import server

SHAPES: Mapping[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parent / "recorded_shapes.json").read_text()
)
VERSIONS = ("4.0", "5.0", "6.0", "7.0", "SaaS")
EDITIONS = ("community", "enterprise")
CLIENT, SECRET, USERNAME, PASSWORD = "1_recorded", "recorded-secret", "feed_0042", "recorded-password"
BY_PAGE = ("attributes", "attribute-groups", "families", "categories")
BY_CURSOR = ("products-uuid", "products", "product-models")
BELOW = {"assets": "asset-families", "records": "reference-entities"}
PARENT = "rooms"
FIXED_LIMIT = 100
ROOT = "/api/rest/v1/"
LOCAL = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
ISO_8601 = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|\+00:00)"

Answer = Callable[[Request], Response]


@dataclass
class Recorded:
    """An entity of the PIM."""

    key: str
    created: datetime
    updated: datetime
    revision: int = 1
    model: str | None = None
    is_named: bool = True
    """False for a product of version 7 without an identifier."""

    @property
    def uuid(self) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_OID, self.key))


class RecordedPim:
    """The PIM. `now` gives an aware datetime, and its dates are shown in `zone`."""

    def __init__(self, version: str, edition: str, now: Callable[[], datetime]) -> None:
        self.version, self.edition = version, edition
        self.now = now
        self.zone: tzinfo = UTC if version == "SaaS" else ZoneInfo("Europe/Paris")
        self.entities: dict[str, dict[str, Recorded]] = {name: {} for name in SHAPES}
        self.requests: list[str] = []
        self.troubles: dict[int, Answer] = {}
        """The answers to reads in place of their own, by how many reads come before."""
        self.broken: set[str] = set()
        """The lists that always fail."""
        self.hidden: set[str] = set()
        """The lists whose single entities a proxy answers for, with 404."""
        self.is_closed = False
        """True if the connection gets no token."""
        self._token = self._refresh_token = ""
        self._number = 0
        self._reads = 0
        self.app = Starlette(
            routes=[
                Route("/api/oauth/v1/token", self._grant, methods=["POST"]),
                Route(ROOT + "{path:path}", self._read),
            ]
        )

    @property
    def lists(self) -> list[str]:
        """The resources of this version and edition that can be listed."""
        named = [*BY_PAGE, "product-models", "products"]
        if self._has("7.0"):
            named.append("products-uuid")
        if self.edition == "enterprise":
            named += [*BELOW, *BELOW.values()]
        return named

    def add(self, resource: str, key: str) -> Recorded:
        now = self.now().replace(microsecond=0)
        entity = self.entities[_kept_as(resource)][key] = Recorded(key, now, now)
        return entity

    def change(self, resource: str, key: str) -> Recorded:
        entity = self.entities[_kept_as(resource)][key]
        entity.updated = self.now().replace(microsecond=0)
        entity.revision += 1
        return entity

    def trouble(self, answer: Answer, *, after: int = 0, times: int = 1, every: int = 0) -> None:
        """Answers so many reads so, after the next `after` ones; or each read that is the `every`-th."""
        if every:
            after, times = every - 1, 200
        for number in range(times):
            self.troubles[self._reads + after + number * (every or 1)] = answer

    def revoke(self) -> None:
        """Makes the token invalid."""
        self._token = ""

    async def _grant(self, request: Request) -> Response:
        self.requests.append(request.url.path)
        pair = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        wanted = json.loads(await request.body())
        good = (
            {"grant_type": "password", "username": USERNAME, "password": PASSWORD},
            {"grant_type": "refresh_token", "refresh_token": self._refresh_token},
        )
        if self.is_closed or request.headers.get("authorization") != f"Basic {pair}" or wanted not in good:
            return self.error(422, 'Parameter "client_id" is missing or does not match any client')
        self._number += 1
        self._token = f"NzFiYTM4ZTEwMjcw{self._number}"
        self._refresh_token = f"MTU3ODIzNzE0{self._number}"
        return self.json(
            {
                "access_token": self._token,
                "expires_in": 3600,
                "token_type": "bearer",
                "scope": None,
                "refresh_token": self._refresh_token,
            }
        )

    async def _read(self, request: Request) -> Response:
        url = request.url
        self.requests.append(f"{url.path}?{url.query}" if url.query else url.path)
        number, self._reads = self._reads, self._reads + 1
        if (answer := self.troubles.pop(number, None)) is not None:
            return answer(request)
        if not self._token or request.headers.get("authorization") != f"Bearer {self._token}":
            return self.error(401, "The access token provided is invalid.")
        path = request.path_params["path"]
        for resource in self.lists:
            parent = f"{BELOW[resource]}/{PARENT}/" if resource in BELOW else ""
            if path == f"{parent}{resource}":
                if resource in self.broken:
                    return self.text("<h1>Internal Server Error</h1>", 500, "text/html")
                return self.page(request, resource, path)
            if path.startswith(f"{parent}{resource}/"):
                if resource in self.hidden:
                    return self.text("<h1>404 Not Found</h1>", 404, "text/html")
                key = unquote(path.removeprefix(f"{parent}{resource}/"))
                return self.one(request, resource, f"{parent}{resource}", key)
        return self.error(404, f'No route found for "GET {url.path}"')

    def one(self, request: Request, resource: str, path: str, key: str) -> Response:
        """Returns an entity by itself."""
        entities = self.entities[_kept_as(resource)].values()
        by_uuid = resource == "products-uuid"
        found = [each for each in entities if key == (each.uuid if by_uuid else each.key)]
        if not found:
            return self.error(404, f'Resource "{key}" does not exist.')
        return self.json(self._item(request, path, resource, found[0]))

    def page(self, request: Request, resource: str, path: str, **changed: Any) -> Response:
        """Returns a page of a list; `changed` replaces its links."""
        query = dict(request.query_params)
        is_below = resource in BELOW or resource in BELOW.values()
        limit = FIXED_LIMIT if is_below else int(query.get("limit", "10"))
        if limit > FIXED_LIMIT:
            return self.error(422, "You cannot request more than 100 items.")
        try:
            found = self._found(resource, query.get("search"))
        except ValueError as error:
            return self.error(422, str(error))
        by_cursor = is_below or query.get("pagination_type") == "search_after"
        if by_cursor:
            after = query.get("search_after", "")
            entities = [each for each in found if self._cursor(each, resource) > after][:limit]
        else:
            first = (int(query.get("page", "1")) - 1) * limit
            entities = found[first : first + limit]
        links = self._links(request, query, path, resource, entities, limit if by_cursor else -limit)
        body: dict[str, Any] = {"_links": {**links, **changed}}
        if not by_cursor:
            body["current_page"] = int(query.get("page", "1"))
            if query.get("with_count") == "true":
                body["items_count"] = len(found)
        body["_embedded"] = {"items": [self._item(request, path, resource, each) for each in entities]}
        return self.json(body)

    def _links(
        self,
        request: Request,
        query: Mapping[str, str],
        path: str,
        resource: str,
        entities: list[Recorded],
        limit: int,
    ) -> dict[str, Any]:
        def link(**more: str) -> dict[str, str]:
            kept = {name: value for name, value in query.items() if name not in ("page", "search_after")}
            if resource in BELOW or resource in BELOW.values():
                kept.pop("limit", None)
            asked = urlencode({**more, **kept})
            return {"href": f"{request.base_url}api/rest/v1/{path}" + (f"?{asked}" if asked else "")}

        number = int(query.get("page", "1"))
        is_full = len(entities) == abs(limit)
        if limit > 0:
            self_link = link(**({"search_after": query["search_after"]} if "search_after" in query else {}))
            further = {"next": link(search_after=self._cursor(entities[-1], resource))} if is_full else {}
            return {"self": self_link, "first": link(), **further}
        previous = {"previous": link(page=str(number - 1))} if number > 1 else {}
        further = {"next": link(page=str(number + 1))} if is_full else {}
        return {"self": link(page=str(number)), "first": link(page="1"), **previous, **further}

    def _found(self, resource: str, search: str | None) -> list[Recorded]:
        ordered = sorted(
            self.entities[_kept_as(resource)].values(), key=lambda each: self._cursor(each, resource)
        )
        if search is None:
            return ordered
        name, criteria = next(iter(json.loads(search).items()))
        (criterion,) = criteria
        is_filtered = resource != "categories" or self._has("6.0")
        if name != "updated" or criterion["operator"] != ">" or not is_filtered:
            operator = criterion["operator"]
            raise ValueError(
                f'Filter on property "{name}" is not supported or does not support operator "{operator}"'
            )
        least = self._date(resource, criterion["value"])
        changed_models = {
            key for key, each in self.entities["product-models"].items() if each.updated > least
        }
        return [each for each in ordered if each.updated > least or each.model in changed_models]

    def _date(self, resource: str, value: str) -> datetime:
        is_local = resource in BY_CURSOR
        pattern = (
            r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d" if is_local else r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|\+00:00)"
        )
        if re.fullmatch(pattern, value) is None:
            raise ValueError(f'Property "updated" expects another format as data, "{value}" given.')
        moment = datetime.fromisoformat(value)
        return moment.replace(tzinfo=self.zone) if is_local else moment

    def _item(self, request: Request, path: str, resource: str, entity: Recorded) -> dict[str, Any]:
        shapes = [each for each in SHAPES[resource] if self._has(each["from"])]
        shape = shapes[-1]["item"] | (
            shapes[-1].get("enterprise", {}) if self.edition == "enterprise" else {}
        )
        text = json.dumps(shape)
        replaced = {
            "key": entity.key,
            "uuid": entity.uuid,
            "revision": str(entity.revision),
            "created": entity.created.astimezone(self.zone).isoformat(),
            "updated": entity.updated.astimezone(self.zone).isoformat(),
        }
        for name, value in replaced.items():
            text = text.replace("{" + name + "}", json.dumps(value)[1:-1])
        item = json.loads(text)
        if resource == "attributes" and entity.key == "ean":
            item["type"] = "pim_catalog_identifier"
            item |= {"is_main_identifier": True} if "is_main_identifier" in item else {}
        if resource in BY_CURSOR and not entity.is_named:
            item["values"] = {}
            item |= {"identifier": None} if "identifier" in item else {}
        known_as = entity.uuid if resource == "products-uuid" else entity.key
        href = f"{request.base_url}api/rest/v1/{path}/{quote(known_as, safe='')}"
        return {"_links": {"self": {"href": href}}, **item}

    def _cursor(self, entity: Recorded, resource: str) -> str:
        return entity.uuid if resource == "products-uuid" else entity.key.lower()

    def _has(self, version: str) -> bool:
        return VERSIONS.index(self.version) >= VERSIONS.index(version)

    def json(self, value: Any, status: int = 200, **headers: str) -> Response:
        """Returns JSON as PHP writes it."""
        text = json.dumps(value, separators=(",", ":")).replace("/", "\\/")
        return self.text(text, status, "application/json", **headers)

    def error(self, status: int, message: str, **headers: str) -> Response:
        return self.json({"code": status, "message": message}, status, **headers)

    def text(self, text: str, status: int, media_type: str, **headers: str) -> Response:
        date = format_datetime(self.now().astimezone(UTC), usegmt=True)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Response(text, status, {"Date": date, **named}, media_type)


def _kept_as(resource: str) -> str:
    return "products" if resource == "products-uuid" else resource


@asynccontextmanager
async def serving(pim: RecordedPim) -> AsyncIterator[str]:
    """Serves the PIM on a free port; yields its URL."""
    async with server.running(pim.app, dates_itself=True) as url:
        yield url


def filled(version: str, edition: str, now: Callable[[], datetime]) -> RecordedPim:
    """Returns a PIM with a few entities of each kind, which are a month old."""
    pim = RecordedPim(version, edition, lambda: now() - timedelta(days=30))
    for parent in BELOW.values():
        pim.add(parent, PARENT)
    pim.add("attributes", "ean")
    for resource in (*BY_PAGE, "products", "product-models", *BELOW):
        for key in _keys(resource):
            pim.add(resource, key)
    pim.now = now
    return pim


def _keys(resource: str) -> Iterator[str]:
    return (f"{resource.replace('-', '_')}_{number:03}" for number in range(3))
