"""The routes that anybody may call: what errors of the log mean, and the schemas of events."""

from collections.abc import Sequence

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..domain.errors import NotFound
from ..domain.events.catalog import Catalog, schema_url
from ..domain.record.answers import EventTypesAnswer, ExplanationAnswer, ListedTypeAnswer
from ..http import CACHED, base_url, json_response
from . import logs


class PublicRoutes:
    """Serves the JSON Schemas of `data`, where `dataschema` points, and their index (contract/wire.md 9)."""

    def __init__(self, catalog: Catalog, public_url: str | None) -> None:
        self._catalog = catalog
        self._public_url = public_url

    def routes(self) -> Sequence[Route]:
        return [
            Route(logs.DOCUMENTATION, self.explanation, methods=["GET"]),
            Route("/spec/", self.index, methods=["GET"]),
            Route("/spec/{type}.schema.json", self.schema, methods=["GET"]),
        ]

    def schema_base(self, request: Request) -> str:
        """The URL under which the schemas are served."""
        return f"{self._public_url or base_url(request)}/spec"

    async def explanation(self, request: Request) -> Response:
        """Answers what an error of the log means, where its `documentation_url` points."""
        name = request.path_params["name"]
        if name not in logs.EXPLANATIONS:
            raise NotFound(f"unknown error {name[:64]!r}")
        answer: ExplanationAnswer = {"error": name, "explanation": logs.EXPLANATIONS[name]}
        return json_response(answer)

    async def schema(self, request: Request) -> Response:
        name = request.path_params["type"]
        if name not in self._catalog:
            raise NotFound(f"unknown event type {name!r}")
        content = self._catalog[name].schema_at(self._url_of(request, name))
        return Response(orjson.dumps(content), headers=CACHED, media_type="application/schema+json")

    async def index(self, request: Request) -> Response:
        types: list[ListedTypeAnswer] = [
            {
                "type": each.name,
                "trigger": each.trigger,
                "certainty": each.certainty,
                "schema": self._url_of(request, each.name),
            }
            for each in self._catalog.types.values()
        ]
        answer: EventTypesAnswer = {"types": types}
        return json_response(answer, headers=CACHED)

    def _url_of(self, request: Request, name: str) -> str:
        return schema_url(self.schema_base(request), name)
