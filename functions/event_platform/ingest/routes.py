"""The HTTP route of ingest: authenticate, read, accept, answer (ingest.md 1 and 2)."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..domain.catalog import Catalog
from ..domain.errors import Unauthenticated
from ..domain.tenants import Tenant
from ..http import json_response, media_type, read_body
from ..ports import Clock, Intake, TenantRegistry
from .cloudevents import Context, read

log = structlog.get_logger()

BODY_LIMIT = 5 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Ingest:
    """What ingest works with."""

    registry: TenantRegistry
    intake: Intake
    catalog: Catalog
    clock: Clock


def routes(ingest: Ingest) -> Sequence[Route]:
    """The routes of ingest."""

    async def take_in(request: Request) -> Response:
        tenant = tenant_of(request.headers.get("authorization", ""), await ingest.registry.tenants())
        body = await read_body(request, BODY_LIMIT)
        context = Context(tenant.url or "", ingest.catalog, ingest.clock.now())
        events = read(media_type(request), request.headers, body, context)
        await ingest.intake.accept(context.tenant, events)
        log.info("events.accepted", tenant=context.tenant, events=len(events))
        return json_response({"accepted": len(events)}, 202)

    return [Route("/ingest", take_in, methods=["POST"])]


def tenant_of(authorization: str, tenants: Sequence[Tenant]) -> Tenant:
    """The tenant whose ingest key is the bearer token. Raises Unauthenticated.

    The keys are compared by their hashes, so the time that it takes tells nothing about a key.
    """
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        presented = _digest(token.strip())
        for tenant in tenants:
            if any(_digest(key.get_secret_value()) == presented for key in tenant.ingest_key):
                return tenant
    raise Unauthenticated("the header Authorization must be 'Bearer ' and the ingest key of a PIM")


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
