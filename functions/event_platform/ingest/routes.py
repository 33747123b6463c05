"""The HTTP routes of ingest: authenticate, call one use case, answer (contract/ingest.md 1 to 4)."""

import re
from collections.abc import Sequence
from functools import partial

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from ..direct import Direct, Handler
from ..domain.attempts import signatures
from ..domain.errors import EventPlatformError
from ..domain.ingest_formats import events_api, relay
from ..domain.line_limit import LineLimit
from ..domain.record.answers import RelayedAnswer, TakenAnswer
from ..domain.tenants import Tenant, Way
from ..http import as_it_is, json_response, media_type, note_owner, only_once, read_body
from .credentials import EVENTS_API, RELAY, Credentials, SignedWay
from .ingest import Taking
from .refusals import Refusals
from .services import Ingest
from .short_way import IngestShortWay, accepted_answer

BODY_LIMIT = 5 * 1024 * 1024
EVENTS_API_PATH = "/ingest/events-api/{key}"
RELAY_PATH = "/ingest/relay/{key:path}"
_RELAY_PATHS = re.compile(r"^/ingest/relay/?(?P<key>(?<=/).*|)$", re.DOTALL)
"""Any path below it, so that an unknown key gets a 401: a 404 would suspend the subscription there."""
REFUSED = (EventPlatformError, ClientDisconnect)


def routes(ingest: Ingest) -> Sequence[Route]:
    """The routes of ingest."""
    return IngestApi(ingest).routes()


class IngestApi:
    """Answers the calls of one process, which counts by itself what it refuses."""

    def __init__(self, ingest: Ingest) -> None:
        self._clock = ingest.clock
        self._credentials = Credentials(ingest.registry, ingest.clock)
        lines = LineLimit(ingest.clock.monotonic)
        self._taking = Taking(ingest, lines)
        self._refusals = Refusals(lines, ingest.observer)
        at_once = ingest.at_once
        self._short_way = at_once and IngestShortWay(self._credentials, self._taking, at_once)

    def routes(self) -> Sequence[Route]:
        relay_route = Route(RELAY_PATH, self._signed(RELAY, self.take_relayed), methods=["POST"])
        relay_route.path_regex = _RELAY_PATHS  # Starlette's own wants the slash, and no line break after it
        return [
            Route("/ingest", Direct(self.take_in, self._short_way), methods=["POST"]),
            Route(EVENTS_API_PATH, self._signed(EVENTS_API, self.take_webhook), methods=["POST"]),
            relay_route,
        ]

    async def take_in(self, request: Request) -> Response:
        tenant: Tenant | None = None
        try:
            only_once(request.headers, "Authorization")
            tenant = await self._credentials.holder_of_key(request)
            note_owner(request, tenant.name)
            as_it_is(request)
            with self._credentials.share_of(tenant) as share:
                body = await read_body(request, BODY_LIMIT, share)
                attributes = attributes_of(request)
                accepted = await self._taking.cloudevents(tenant, body, media_type(request), attributes)
        except REFUSED as error:
            self._refusals.count(Way.CLOUDEVENTS, tenant.name if tenant else "", request, error)
            raise
        return Response(accepted_answer(accepted), 202, media_type="application/json")

    async def take_webhook(self, request: Request) -> Response:
        only_once(request.headers, events_api.SIGNATURE_HEADER, events_api.TIMESTAMP_HEADER)
        call = events_api.call_of(request.headers, self._clock.now(), self._clock.wall())
        with self._credentials.unproved_share(request, EVENTS_API) as share:
            body, tenant = await self._credentials.signed_body(
                request, share, EVENTS_API, call.check, call.signature
            )
            taken = await self._taking.webhook(tenant, body)
        answer: TakenAnswer = {
            "accepted": len(taken.events),
            "skipped": sum(taken.skipped.values()),
            "malformed": taken.malformed,
        }
        return json_response(answer)

    async def take_relayed(self, request: Request) -> Response:
        only_once(request.headers, signatures.PRIMARY_HEADER, signatures.SECONDARY_HEADER)
        found = relay.signatures_of(request.headers)
        with self._credentials.unproved_share(request, RELAY) as share:
            body, tenant = await self._credentials.signed_body(
                request, share, RELAY, partial(relay.check, found), *found
            )
            accepted = await self._taking.relayed(tenant, body)
        answer: RelayedAnswer = {"accepted": accepted, "skipped": 1 - accepted}
        return json_response(answer, 202)

    def _signed(self, way: SignedWay, handler: Handler) -> Handler:
        """Returns an endpoint that counts what the handler refuses."""

        async def endpoint(request: Request) -> Response:
            try:
                return await handler(request)
            except REFUSED as error:
                tenant = await self._credentials.addressed_name(request)
                self._refusals.count(way.name, tenant, request, error)
                raise

        return endpoint


def attributes_of(request: Request) -> dict[str, str]:
    """The headers of a CloudEvent in binary mode, which are its attributes."""
    return {
        name.decode(): value.decode("latin-1")
        for name, value in request.scope["headers"]
        if name[:3] == b"ce-"
    }
