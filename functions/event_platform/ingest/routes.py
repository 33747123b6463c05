"""The HTTP route of ingest: authenticate, read, accept, answer (ingest.md 1 and 2)."""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..domain.catalog import Catalog
from ..domain.cloudevents import Context, read
from ..domain.errors import Unauthenticated
from ..domain.tenants import Tenant
from ..http import json_response, media_type, read_body
from ..ports import Clock, Intake, TenantRegistry

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

    Every key is compared, by its hash and in constant time, whichever fits.
    """
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("the header Authorization must be 'Bearer ' and the ingest key of a PIM")
    presented = hashlib.sha256(token.strip().encode("latin-1")).digest()  # as headers are decoded
    found = [
        tenant
        for tenant in tenants
        for digest in tenant.ingest_key_digests
        if hmac.compare_digest(digest, presented)
    ]
    if not found:
        raise Unauthenticated("the bearer token is not the ingest key of any PIM here")
    return found[0]
