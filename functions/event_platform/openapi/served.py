"""The route of the document, which is made when it is first asked for: few who start a server do."""

import asyncio
from collections.abc import Iterable
from functools import cache

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..domain.broker_messages import TopicRules
from ..domain.catalog import Catalog

PATH = "/openapi.json"


def route(served: Iterable[Route], known: Catalog, topics: TopicRules) -> Route:
    """The route of the document, which describes the given routes and itself.

    Subscriptions get the types `known`, and may be to the Pub/Sub topics that `topics` allows.
    """

    async def description(request: Request) -> Response:
        return Response(await asyncio.to_thread(text), media_type="application/json")

    own = Route(PATH, description, methods=["GET"])
    routes = [*served, own]

    @cache
    def text() -> bytes:
        from .document import document  # its examples alone take 50 ms, which a thread shares with the loop

        return orjson.dumps(document(routes, known, topics))

    return own
