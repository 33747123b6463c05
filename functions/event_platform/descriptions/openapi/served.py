"""The route of the document, which is made when it is first asked for: few who start a server do."""

from collections.abc import Iterable

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ...domain.attempts.broker_messages import TopicRules
from ...domain.events.catalog import Catalog
from ...first_use import FirstUse
from ...http import kept_response

PATH = "/openapi.json"


def route(served: Iterable[Route], known: Catalog, topics: TopicRules) -> Route:
    """The route of the document, which describes the given routes and itself.

    Subscriptions get the types `known`, and may be to the Pub/Sub topics that `topics` allows.
    """

    text = b""

    async def description(request: Request) -> Response:
        await first_use.ready()
        return kept_response(request, text)

    own = Route(PATH, description, methods=["GET"])
    routes = [*served, own]

    def make() -> None:
        from .document import document  # its examples alone take 50 ms

        nonlocal text
        text = orjson.dumps(document(routes, known, topics))

    first_use = FirstUse(make)
    return own
