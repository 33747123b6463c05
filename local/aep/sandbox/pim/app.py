"""The simulated PIM as an ASGI app: tokens, the REST API, an App's OAuth, and the switches of `/_sim/…`."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, tzinfo
from email.utils import format_datetime
from typing import Annotated, Any, TypeVar
from urllib.parse import parse_qsl

import orjson
from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from event_platform.domain.events import catalog
from event_platform.domain.validation_words import words_of

from . import rest
from .catalogue import SEEDED, Catalogue, CatalogueIsFull
from .connections import DEFAULT_CLIENT, Client, Connections
from .errors import OAuthError, PimError
from .kinds import Edition
from .rest import Outage, Pim, pim_of
from .scopes import COMMUNITY_READS, READS, readable
from .shapes import Item

MOST_CHANGES = 1_000
"""The most events in a request to `/_sim/changes`."""

_M = TypeVar("_M", bound=BaseModel)


class _Permission(BaseModel):
    model_config = ConfigDict(extra="forbid")
    event_platform: StrictBool | None = None
    scopes: list[str] | None = None


class _Outage(BaseModel):
    model_config = ConfigDict(extra="forbid")
    status: Annotated[int, Field(ge=400, le=599)] | None = None
    retry_after: Annotated[int, Field(ge=0)] | None = None
    calls: Annotated[int, Field(ge=1)] | None = None


class _Event(BaseModel):
    type: str
    data: dict[str, Any]


class _Changes(BaseModel):
    model_config = ConfigDict(extra="forbid")
    events: Annotated[list[_Event], Field(max_length=MOST_CHANGES)]


def create_app(
    clients: Iterable[Client] = (DEFAULT_CLIENT,),
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    *,
    edition: Edition = Edition.ENTERPRISE,
    zone: tzinfo = UTC,
    is_behind_proxy: bool = False,
    throttle: int = 0,
    products: int = SEEDED,
) -> Starlette:
    """Returns the PIM as an ASGI app; `now` gives an aware UTC datetime. Its parts are in `app.state.pim`."""
    app = Starlette(
        routes=[
            Route("/api/oauth/v1/token", _token, methods=["POST"]),
            Route("/connect/apps/v1/authorize", _authorize),
            Route("/connect/apps/v1/oauth2/token", _exchange, methods=["POST"]),
            Route(f"{rest.ROOT}/token-info", _token_info),
            *rest.routes(edition),
            Route("/_sim/clients/{client_id}", _put_client, methods=["PUT"]),
            Route("/_sim/outage", _post_outage, methods=["POST"]),
            Route("/_sim/changes", _post_changes, methods=["POST"]),
            Route("/health", _health),
        ],
        middleware=[Middleware(_OwnDate, now=now)],
        exception_handlers={
            PimError: _refused,
            OAuthError: _refused_by_oauth,
            CatalogueIsFull: _refused_as_full,
            HTTPException: _refused_by_router,
        },
    )
    reads = COMMUNITY_READS if edition is Edition.COMMUNITY else READS
    app.state.pim = Pim(
        connections=Connections(clients, now, reads),
        catalogue=Catalogue(now, products=products),
        edition=edition,
        zone=zone,
        is_behind_proxy=is_behind_proxy,
        throttle=throttle,
    )
    return app


class _OwnDate:
    """Gives each answer the header `Date` of the PIM's clock."""

    def __init__(self, app: ASGIApp, now: Callable[[], datetime]) -> None:
        self._app = app
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Date"] = format_datetime(self._now(), usegmt=True)
            await send(message)

        await self._app(scope, receive, send_dated)


async def _token(request: Request) -> Response:
    connections = pim_of(request).connections
    form = await _form(request)
    client = connections.authenticate(request.headers.get("authorization", ""))
    return JSONResponse(connections.grant(client, form))


async def _authorize(request: Request) -> Response:
    target = pim_of(request).connections.authorize(request.query_params)
    return RedirectResponse(target, 302)


async def _exchange(request: Request) -> Response:
    return JSONResponse(pim_of(request).connections.exchange(await _form(request)))


async def _token_info(request: Request) -> Response:
    pim = pim_of(request)
    pim.check_outage()
    client = pim.connections.caller(request.headers.get("authorization", "")).client
    return JSONResponse(_permissions(client))


async def _put_client(request: Request) -> Response:
    wanted = await _model(request, _Permission)
    client = pim_of(request).connections.permit(
        request.path_params["client_id"],
        event_platform=wanted.event_platform,
        scopes=None if wanted.scopes is None else readable(wanted.scopes),
    )
    return JSONResponse(_permissions(client))


async def _post_outage(request: Request) -> Response:
    wanted = await _model(request, _Outage)
    outage = None if wanted.status is None else Outage(wanted.status, wanted.retry_after, wanted.calls)
    pim_of(request).outage = outage
    return JSONResponse({"status": wanted.status})


async def _post_changes(request: Request) -> Response:
    """Makes the changes that events are about; answers each entity as a webhook shows it, or null."""
    pim, wanted = pim_of(request), await _model(request, _Changes)
    types = catalog.load().types
    for number, event in enumerate(wanted.events):
        known = types.get(event.type)  # a type of the operator's own changes nothing here
        if known is not None and (problems := known.problems_of(event.data)):
            raise PimError(422, f"events[{number}]: {problems[0]}")
    resources: list[Item | None] = []
    for event in wanted.events:
        entity = pim.catalogue.apply(event.type, event.data)
        resources.append(None if entity is None else pim.shown(entity))
    return JSONResponse({"resources": resources})


async def _health(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


def _permissions(client: Client) -> dict[str, Any]:
    return {"client_id": client.client_id, "event_platform": client.event_platform}


async def _refused(_: Request, error: Exception) -> Response:
    if not isinstance(error, PimError):
        raise error
    return JSONResponse({"code": error.code, "message": str(error)}, error.code, error.headers)


async def _refused_by_oauth(_: Request, error: Exception) -> Response:
    if not isinstance(error, OAuthError):
        raise error
    return JSONResponse({"error": error.error, "error_description": str(error)}, 400)


async def _refused_as_full(_: Request, error: Exception) -> Response:
    return JSONResponse({"code": 422, "message": str(error)}, 422)


async def _refused_by_router(request: Request, error: Exception) -> Response:
    """Answers for a route or method that the PIM does not have."""
    if not isinstance(error, HTTPException):
        raise error
    message = f'No route found for "{request.method} {request.url.path}"'
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        message = f"{message}: Method Not Allowed (Allow: {allowed})"
    return JSONResponse({"code": error.status_code, "message": message}, error.status_code, error.headers)


async def _form(request: Request) -> Mapping[str, Any]:
    """Returns the fields of a token request, which may be JSON or a URL-encoded form."""
    body = await request.body()
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return dict(parse_qsl(body.decode("utf-8", "replace")))
    return _json_object(body)


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise PimError(400, "Invalid json message received") from None
    if not isinstance(value, dict):
        raise PimError(400, "Invalid json message received")
    return value


async def _model(request: Request, model: type[_M]) -> _M:
    try:
        return model.model_validate(_json_object(await request.body()))
    except ValidationError as error:
        first = error.errors()[0]
        raise PimError(422, f'Property "{".".join(map(str, first["loc"]))}": {words_of(first)}') from None
