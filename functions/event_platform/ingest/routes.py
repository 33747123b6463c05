"""The HTTP routes of ingest: authenticate, call one use case, answer (contract/ingest.md 1 to 4)."""

import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import SecretStr
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from ..bodies import Bodies, Share
from ..domain.attempts import signatures
from ..domain.errors import EventPlatformError, Unauthenticated, Unavailable
from ..domain.front_door import FrontDoor
from ..domain.ingest_formats import events_api, relay
from ..domain.limits import LineLimit
from ..domain.record.answers import AcceptedAnswer, RelayedAnswer, TakenAnswer
from ..domain.tenants import Tenant, Way, with_key
from ..http import (
    Direct,
    Handler,
    as_it_is,
    client_address,
    json_response,
    media_type,
    note_owner,
    only_once,
    read_body,
)
from ..reading import LARGE_BYTES
from .ingest import Taking
from .reading import check
from .refusals import Refusals
from .services import Ingest

BODY_LIMIT = 5 * 1024 * 1024
EVENTS_API_BODY_LIMIT = 20 * 1024 * 1024
"""The limit of the relay, too. A webhook holds up to ten whole products, and a PIM sends nothing twice."""
EVENTS_API_PATH = "/ingest/events-api/{key}"
RELAY_PATH = "/ingest/relay/{key:path}"
_RELAY_PATHS = re.compile(r"^/ingest/relay/?(?P<key>(?<=/).*|)$", re.DOTALL)
"""Any path below it, so that an unknown key gets a 401: a 404 would suspend the subscription there."""
REFUSED = (EventPlatformError, ClientDisconnect)
Check = Callable[[bytes | bytearray, Sequence[SecretStr]], None]
"""Raises Unauthenticated when none of the secrets signed the body."""
NOBODY = Tenant(url="https://nobody.invalid")
"""A tenant without secrets, in place of one that no entry has: nothing is signed by it."""


@dataclass(frozen=True, slots=True)
class SignedWay:
    """A way in whose requests are signed: which of a PIM's secrets they are signed with."""

    name: Way
    secrets_of: Callable[[Tenant], Sequence[SecretStr]]


EVENTS_API = SignedWay(Way.EVENTS_API, lambda tenant: tenant.events_api_secret)
RELAY = SignedWay(Way.RELAY, lambda tenant: tenant.relay_secret)


def routes(ingest: Ingest) -> Sequence[Route]:
    """The routes of ingest."""

    door = FrontDoor(ingest.clock.monotonic)
    lines = LineLimit(ingest.clock.monotonic)
    bodies = Bodies(ingest.clock.monotonic)
    taking = Taking(ingest, lines)
    refusals = Refusals(lines, ingest.observer)

    async def take_in(request: Request) -> Response:
        tenant: Tenant | None = None
        try:
            only_once(request.headers, "Authorization")
            presented = digest_of(request.headers.get("authorization", ""))
            tenant = tenant_of(presented, await ingest.registry.tenants())
            if tenant is None:
                door.count_wrong(client_address(request), presented)
                raise Unauthenticated("the bearer token is not the ingest key of any PIM here", "wrong_key")
            note_owner(request, tenant.name)
            as_it_is(request)
            with bodies.of(tenant.key) as share:
                body = await read_body(request, BODY_LIMIT, share)
                attributes = attributes_of(request)
                accepted = await taking.cloudevents(tenant, body, media_type(request), attributes)
        except REFUSED as error:
            refusals.count(Way.CLOUDEVENTS, tenant.name if tenant else "", request, error)
            raise
        answer: AcceptedAnswer = {"accepted": accepted}
        return json_response(answer, 202)

    async def take_webhook(request: Request) -> Response:
        only_once(request.headers, events_api.SIGNATURE_HEADER, events_api.TIMESTAMP_HEADER)
        call = events_api.call_of(request.headers, ingest.clock.now(), ingest.clock.wall())
        with share_of(request, EVENTS_API) as share:
            body, tenant = await verified(request, share, EVENTS_API, call.check, call.signature)
            taken = await taking.webhook(tenant, body)
        answer: TakenAnswer = {
            "accepted": len(taken.events),
            "skipped": sum(taken.skipped.values()),
            "malformed": taken.malformed,
        }
        return json_response(answer)

    async def take_relayed(request: Request) -> Response:
        only_once(request.headers, signatures.PRIMARY_HEADER, signatures.SECONDARY_HEADER)
        found = relay.signatures_of(request.headers)

        def signed_by(body: bytes | bytearray, secrets: Sequence[SecretStr]) -> None:
            relay.check(body, found, secrets)

        with share_of(request, RELAY) as share:
            body, tenant = await verified(request, share, RELAY, signed_by, *found)
            accepted = await taking.relayed(tenant, body)
        answer: RelayedAnswer = {"accepted": accepted, "skipped": 1 - accepted}
        return json_response(answer, 202)

    def share_of(request: Request, way: SignedWay) -> Share:
        """The share of a body that is signed, before its signature is known to be right."""
        key: str = request.path_params["key"]

        async def has_reserve() -> bool:
            return bool(way.secrets_of(await tenant_at(request)))

        is_known = door.knows((client_address(request), key))
        return bodies.unproved((way.name, key), has_reserve, is_known=is_known)

    async def verified(
        request: Request, share: Share, way: SignedWay, checks: Check, *signed: str
    ) -> tuple[bytes | bytearray, Tenant]:
        """The body, and the PIM that signed it.

        Raises Unauthenticated, TooManyRequests, TooLarge and Overloaded. Who signed rightly is never refused
        for what others did at its address, so a body is read first, and a wrong signature counted then. Large
        bodies for nobody are not read for who was wrong too often.
        """
        address, key = client_address(request), request.path_params["key"]
        if door.is_exhausted(address) and is_large(request) and not way.secrets_of(await tenant_at(request)):
            door.count_wrong(address, (key, *signed))
        # Before all that waits: the PIM may hang up.
        body = await read_body(request, EVENTS_API_BODY_LIMIT, share)
        tenant = await tenant_at(request)
        secrets = way.secrets_of(tenant)
        try:
            await check(checks, body, secrets)
        except Unauthenticated as error:
            door.count_wrong(address, (key, *signed))
            known = "wrong_signature" if secrets else "no_secret"
            error.reason = "unknown_key" if tenant is NOBODY else known
            raise
        door.remember((address, key))
        note_owner(request, tenant.name)
        share.prove(tenant.key)
        return body, tenant

    def signed_route(way: SignedWay, handler: Handler) -> Handler:
        """Counts what a handler refuses."""

        async def endpoint(request: Request) -> Response:
            try:
                return await handler(request)
            except REFUSED as error:
                refusals.count(way.name, await name_at(request), request, error)
                raise

        return endpoint

    async def name_at(request: Request) -> str:
        """The name of the PIM that a request is addressed to; empty if there is none or it is unknown."""
        try:
            tenant = await tenant_at(request)
        except Unavailable:
            return ""
        return "" if tenant is NOBODY else tenant.name

    async def tenant_at(request: Request) -> Tenant:
        return with_key(await ingest.registry.tenants(), request.path_params["key"]) or NOBODY

    return [
        Route("/ingest", Direct(take_in), methods=["POST"]),
        Route(EVENTS_API_PATH, signed_route(EVENTS_API, take_webhook), methods=["POST"]),
        _relay_route(signed_route(RELAY, take_relayed)),
    ]


def _relay_route(endpoint: Handler) -> Route:
    route = Route(RELAY_PATH, endpoint, methods=["POST"])
    route.path_regex = _RELAY_PATHS  # Starlette's own wants the slash, and no line break after it
    return route


def is_large(request: Request) -> bool:
    """True if a request says that its body is large, or does not say how large it is."""
    declared = request.headers.get("content-length", "")
    return not declared.isdecimal() or int(declared) > LARGE_BYTES


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


def tenant_of(presented: bytes, tenants: Sequence[Tenant]) -> Tenant | None:
    """The tenant whose ingest key has that SHA-256.

    Every key is compared, by its hash and in constant time, whichever fits.
    """
    found = [
        tenant
        for tenant in tenants
        for digest in tenant.ingest_key_digests
        if hmac.compare_digest(digest, presented)
    ]
    return found[0] if found else None
