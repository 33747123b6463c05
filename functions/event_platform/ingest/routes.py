"""The HTTP routes of ingest: authenticate, read, accept, answer (ingest.md 1 to 4)."""

import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import structlog
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..bodies import Bodies, Share
from ..domain import events_api, relay, signatures
from ..domain.catalog import Catalog
from ..domain.errors import Unauthenticated
from ..domain.events import Event
from ..domain.front_door import Admission, FrontDoor
from ..domain.limits import LineLimit
from ..domain.tenants import Tenant, with_key
from ..http import Direct, as_it_is, client_address, json_response, media_type, only_once, read_body
from ..ports import Clock, Intake, Reader, TenantRegistry
from ..reading import Reading
from .reading import check, read_cloudevents, read_relayed, read_webhook

log = structlog.get_logger()

BODY_LIMIT = 5 * 1024 * 1024
EVENTS_API_BODY_LIMIT = 20 * 1024 * 1024
"""A request holds up to ten whole products, and the PIM sends nothing twice (ingest.md 3)."""
EVENTS_API_PATH = "/ingest/events-api/{key}"
RELAY_PATH = "/ingest/relay/{key:path}"
_RELAY_PATHS = re.compile(r"^/ingest/relay/?(?P<key>(?<=/).*|)$", re.DOTALL)
"""Whatever follows or is missing: who does not fit gets a 401; a 404 would suspend the subscription there."""
NOBODY = Tenant(url="https://nobody.invalid")
"""In place of a tenant that no entry has: without secrets, so that nothing is signed by it."""


@dataclass(frozen=True, slots=True)
class Ingest:
    """What ingest works with."""

    registry: TenantRegistry
    intake: Intake
    catalog: Catalog
    clock: Clock
    reader: Reader


def routes(ingest: Ingest) -> Sequence[Route]:
    """The routes of ingest."""

    door = FrontDoor(ingest.clock.monotonic)
    lines = LineLimit(ingest.clock.monotonic)
    bodies = Bodies(ingest.clock.monotonic)
    reading = Reading(ingest.catalog, ingest.reader)

    async def take_in(request: Request) -> Response:
        only_once(request.headers, "Authorization")
        presented = digest_of(request.headers.get("authorization", ""))
        tenants = await ingest.registry.tenants()
        admission = door.admit(client_address(request), presented)
        tenant = tenant_of(presented, tenants)
        admission.proved()
        as_it_is(request)
        with bodies.of(tenant.key) as share:
            body = await read_body(request, BODY_LIMIT, share)
            about = (tenant.name, ingest.clock.now(), media_type(request), attributes_of(request))
            events = await reading.run(tenant.key, read_cloudevents, body, *about)
            await accept(tenant, events)
        return json_response({"accepted": len(events)}, 202)

    async def take_webhook(request: Request) -> Response:
        only_once(request.headers, events_api.SIGNATURE_HEADER, events_api.TIMESTAMP_HEADER)
        call = events_api.call_of(request.headers, ingest.clock.now())
        admission = admission_of(request, call.signature)
        with share_of(request, admission, lambda tenant: tenant.events_api_secret) as share:
            # Before all that waits: the PIM may hang up.
            body = await read_body(request, EVENTS_API_BODY_LIMIT, share)
            tenant = await tenant_at(request)
            await check(call.check, body, tenant.events_api_secret)
            admission.proved()
            share.prove(tenant.key)
            taken = await reading.run(tenant.key, read_webhook, body, tenant.redacted())
            await accept(tenant, taken.events)
        if left_out := taken.left_out():
            warn("events.skipped", tenant, **left_out)
        skipped = sum(taken.skipped.values())
        answer = {"accepted": len(taken.events), "skipped": skipped, "malformed": taken.malformed}
        return json_response(answer)

    async def take_relayed(request: Request) -> Response:
        only_once(request.headers, signatures.PRIMARY_HEADER, signatures.SECONDARY_HEADER)
        found = relay.signatures_of(request.headers)
        admission = admission_of(request, *found)
        with share_of(request, admission, lambda tenant: tenant.relay_secret) as share:
            body = await read_body(request, BODY_LIMIT, share)
            tenant = await tenant_at(request)
            await check(relay.check, body, found, tenant.relay_secret)
            admission.proved()
            share.prove(tenant.key)
            relayed = await reading.run(tenant.key, read_relayed, body, ingest.clock.now())
            events = [] if relayed.event is None else [relayed.event]
            if relayed.warnings:
                name = "relay.differs" if events else "relay.skipped"
                warn(name, tenant, event_id=relayed.event_id, reasons=relayed.warnings)
            await accept(tenant, events, relayed=True)
        return json_response({"accepted": len(events), "skipped": 1 - len(events)}, 202)

    def share_of(
        request: Request, admission: Admission, secrets_of: Callable[[Tenant], Sequence[SecretStr]]
    ) -> AbstractContextManager[Share]:
        """The share of a PIM that has proved itself from this address, or else one of all strangers."""
        key: str = request.path_params["key"]
        if admission.is_known:
            return bodies.of(key)

        async def has_reserve() -> bool:
            return bool(secrets_of(await tenant_at(request)))

        return bodies.unproved((request.scope["endpoint"], key), has_reserve)

    def warn(name: str, tenant: Tenant, **fields: object) -> None:
        if times := lines.count((name, tenant.name)):
            log.warning(name, tenant=tenant.name, times=times, **fields)

    async def accept(tenant: Tenant, events: Sequence[Event], *, relayed: bool = False) -> None:
        if events:
            await ingest.intake.accept(tenant.name, events, relayed=relayed)
            log.info("events.accepted", tenant=tenant.name, events=len(events))

    def admission_of(request: Request, *found: str) -> Admission:
        """Of signatures: what they prove is that this address has that PIM's secret."""
        address, key = client_address(request), request.path_params["key"]
        return door.admit(address, (key, *found), holder=(address, key))

    async def tenant_at(request: Request) -> Tenant:
        return with_key(await ingest.registry.tenants(), request.path_params["key"]) or NOBODY

    return [
        Route("/ingest", Direct(take_in), methods=["POST"]),
        Route(EVENTS_API_PATH, take_webhook, methods=["POST"]),
        _relay_route(take_relayed),
    ]


def _relay_route(endpoint: Callable[[Request], Awaitable[Response]]) -> Route:
    route = Route(RELAY_PATH, endpoint, methods=["POST"])
    route.path_regex = _RELAY_PATHS  # Starlette's own wants the slash, and no line break after it
    return route


def attributes_of(request: Request) -> dict[str, str]:
    """The headers of a CloudEvent in binary mode, which are its attributes."""
    return {
        name.decode(): value.decode("latin-1")
        for name, value in request.scope["headers"]
        if name[:3] == b"ce-"
    }


def digest_of(authorization: str) -> bytes:
    """SHA-256 of the ingest key that the header Authorization presents. Raises Unauthenticated."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("the header Authorization must be 'Bearer ' and the ingest key of a PIM")
    return hashlib.sha256(token.strip().encode("latin-1")).digest()  # as headers are decoded


def tenant_of(presented: bytes, tenants: Sequence[Tenant]) -> Tenant:
    """The tenant whose ingest key has that SHA-256. Raises Unauthenticated.

    Every key is compared, by its hash and in constant time, whichever fits.
    """
    found = [
        tenant
        for tenant in tenants
        for digest in tenant.ingest_key_digests
        if hmac.compare_digest(digest, presented)
    ]
    if not found:
        raise Unauthenticated("the bearer token is not the ingest key of any PIM here")
    return found[0]
