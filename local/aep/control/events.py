"""The routes by which the operator has events accepted, as if a PIM had sent them."""

from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from event_platform.domain.errors import InvalidRequest, Problem
from event_platform.domain.line_limit import LineLimit
from event_platform.http import json_response
from event_platform.ingest import Ingest
from event_platform.ingest.ingest import Taking

from . import bodies

AT_ONCE = 1000
BATCH = "application/cloudevents-batch+json"


class Triggered(BaseModel):
    """CloudEvents, and the URL of the PIM that is to have sent them."""

    model_config = ConfigDict(extra="forbid")

    pim: str
    events: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=AT_ONCE)]


def routes(ingest: Ingest, *, keeps: bool) -> Sequence[Route]:
    """Returns the routes. `keeps`: accepted events are kept, so that commands can look them up."""
    taking = Taking(ingest, LineLimit(ingest.clock.monotonic))

    async def show_pims(_: Request) -> Response:
        urls = [tenant.url for tenant in await ingest.registry.tenants() if tenant.url is not None]
        return json_response({"pims": urls, "keeps": keeps})

    async def take(request: Request) -> Response:
        wanted = await bodies.read(request, Triggered)
        tenants = await ingest.registry.tenants()
        tenant = next((each for each in tenants if each.url == wanted.pim), None)
        if tenant is None:
            raise InvalidRequest(Problem("pim", "is no PIM of this platform"))
        accepted = await taking.cloudevents(tenant, orjson.dumps(wanted.events), BATCH, {})
        return json_response({"accepted": accepted}, 202)

    return [Route("/events", show_pims), Route("/events", take, methods=["POST"])]
