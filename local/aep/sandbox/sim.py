"""The simulated PIM: the API that the platform and its clients call, and the events that a PIM sends.

The HTTP side is the app of `create_app`; `events` makes catalog-true CloudEvents and `emit` sends them to a
platform's ingest.
"""

import asyncio
import base64
import binascii
import copy
import hmac
import random
import secrets
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import parse_qsl

import orjson
from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from event_platform.domain.events import catalog
from event_platform.domain.events.catalog import EventType
from event_platform.domain.events.facts import IDENTIFIER_TYPES
from event_platform.domain.timestamps import to_rfc3339
from event_platform.domain.validation_words import words_of

from ..runtime import unanswered
from . import ingest_requests
from .ingest_requests import CloudEvent, Format, Post

if TYPE_CHECKING:
    import aiohttp

TOKEN_LIFE = timedelta(seconds=3600)
REFRESH_LIFE = timedelta(days=14)
ENTITIES = 500
"""The number of entities of a type that the generated events are about, so that some recur as in a PIM."""
RETRY_PAUSES = (0.1, 0.3, 1.0, 2.0)
"""The seconds before an emitted request that got no answer, or a 5xx, is sent again."""

_M = TypeVar("_M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Client:
    """A connection of the PIM and the user that its tokens are made for."""

    client_id: str
    secret: str = field(repr=False)
    username: str
    password: str = field(repr=False)
    event_platform: bool = True  # the connection's permission


DEFAULT_CLIENT = Client("demo-client", "demo-secret", "demo-user", "demo-password")


class PimError(Exception):
    """Raised when the PIM refuses a request, with the status and message that Akeneo's PIM answers."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class _Grant:
    client_id: str
    expires_at: datetime


class Pim:
    """The PIM's memory: its clients, the tokens it gave out, and the outage that a test ordered."""

    def __init__(self, clients: Iterable[Client], now: Callable[[], datetime]) -> None:
        self.clients = {client.client_id: client for client in clients}
        self.outage: int | None = None
        self._now = now
        self._access: dict[str, _Grant] = {}
        self._refresh: dict[str, _Grant] = {}

    def authenticate(self, authorization: str) -> Client:
        """Returns the client of an HTTP Basic header."""
        client_id, secret = _basic_credentials(authorization)
        client = self.clients.get(client_id)
        if client is None or not _same(secret, client.secret):
            raise PimError(
                422, 'Parameter "client_id" is missing or does not match any client, or secret is invalid'
            )
        return client

    def grant(self, client: Client, form: dict[str, Any]) -> dict[str, Any]:
        """Returns the answer to a token request (contract/wire.md 1)."""
        match form.get("grant_type"):
            case "password":
                self._check_password(client, form.get("username"), form.get("password"))
            case "refresh_token":
                self._use_refresh_token(client, form.get("refresh_token"))
            case _:
                raise PimError(
                    422, 'Parameter "grant_type", "username" or "password" is missing, empty or invalid'
                )
        return self._new_tokens(client)

    def owner_of(self, authorization: str) -> Client:
        """Returns the client whose access token a Bearer header has."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise PimError(401, "Authentication is required")
        grant = self._access.get(token.strip())
        if grant is None or grant.client_id not in self.clients:
            raise PimError(401, "The access token provided is invalid.")
        if grant.expires_at <= self._now():
            raise PimError(401, "The access token provided has expired.")
        return self.clients[grant.client_id]

    def permit(self, client_id: str, *, event_platform: bool) -> Client:
        """Gives a client the permission to use the event platform, or takes it away."""
        client = self.clients.get(client_id)
        if client is None:
            raise PimError(404, f'Client "{client_id}" does not exist.')
        changed = Client(client_id, client.secret, client.username, client.password, event_platform)
        self.clients[client_id] = changed
        return changed

    def _check_password(self, client: Client, username: object, password: object) -> None:
        if not (isinstance(username, str) and isinstance(password, str) and username and password):
            raise PimError(
                422, 'Parameter "grant_type", "username" or "password" is missing, empty or invalid'
            )
        if not (_same(username, client.username) & _same(password, client.password)):
            raise PimError(422, "No user found for the given username and password")

    def _use_refresh_token(self, client: Client, token: object) -> None:
        grant = self._refresh.get(token) if isinstance(token, str) else None
        if grant is None or grant.client_id != client.client_id or grant.expires_at <= self._now():
            raise PimError(422, "Refresh token is invalid or has expired")
        del self._refresh[str(token)]  # good for one use; the access tokens before it stay good

    def _new_tokens(self, client: Client) -> dict[str, Any]:
        access, refresh = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        now = self._now()
        self._access[access] = _Grant(client.client_id, now + TOKEN_LIFE)
        self._refresh[refresh] = _Grant(client.client_id, now + REFRESH_LIFE)
        return {
            "access_token": access,
            "expires_in": int(TOKEN_LIFE.total_seconds()),
            "token_type": "bearer",
            "scope": None,
            "refresh_token": refresh,
        }


class _Permission(BaseModel):
    model_config = ConfigDict(extra="forbid")
    event_platform: StrictBool


class _Outage(BaseModel):
    model_config = ConfigDict(extra="forbid")
    status: Annotated[int, Field(ge=400, le=599)] | None = None


def create_app(
    clients: Iterable[Client] = (DEFAULT_CLIENT,), now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Starlette:
    """Returns the PIM as an ASGI app; `now` gives an aware UTC datetime."""
    app = Starlette(
        routes=[
            Route("/api/oauth/v1/token", _token, methods=["POST"]),
            Route("/api/rest/v1/token-info", _token_info),
            Route("/api/rest/v1/channels", _channels),
            Route("/_sim/clients/{client_id}", _put_client, methods=["PUT"]),
            Route("/_sim/outage", _post_outage, methods=["POST"]),
            Route("/health", _health),
        ],
        exception_handlers={PimError: _refused},
    )
    app.state.pim = Pim(clients, now)
    return app


async def _token(request: Request) -> Response:
    pim = _pim(request)
    form = await _form(request)
    client = pim.authenticate(request.headers.get("authorization", ""))
    return JSONResponse(pim.grant(client, form))


async def _token_info(request: Request) -> Response:
    client = _caller(request)
    return JSONResponse({"client_id": client.client_id, "event_platform": client.event_platform})


async def _channels(request: Request) -> Response:
    _caller(request)
    channel = {"code": "ecommerce", "locales": ["en_US"], "category_tree": "master"}
    return JSONResponse({"current_page": 1, "_embedded": {"items": [channel]}})


async def _put_client(request: Request) -> Response:
    wanted = await _model(request, _Permission)
    client = _pim(request).permit(request.path_params["client_id"], event_platform=wanted.event_platform)
    return JSONResponse({"client_id": client.client_id, "event_platform": client.event_platform})


async def _post_outage(request: Request) -> Response:
    outage = await _model(request, _Outage)
    _pim(request).outage = outage.status
    return JSONResponse({"status": outage.status})


async def _health(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _refused(_: Request, error: Exception) -> Response:
    code = error.code if isinstance(error, PimError) else 500
    return JSONResponse({"code": code, "message": str(error)}, code)


def _pim(request: Request) -> Pim:
    return request.app.state.pim


def _caller(request: Request) -> Client:
    pim = _pim(request)
    if pim.outage is not None:
        raise PimError(pim.outage, "The PIM is not available, as ordered by /_sim/outage.")
    return pim.owner_of(request.headers.get("authorization", ""))


async def _form(request: Request) -> dict[str, Any]:
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


def _basic_credentials(authorization: str) -> tuple[str, str]:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        name, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return name, secret


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())


def events(event_type: str, count: int, seed: int = 0) -> Iterator[CloudEvent]:
    """Does the same as `events_of`, for a type of the shipped catalog. Raises KeyError for an unknown one."""
    return events_of(catalog.load()[event_type], count, seed)


def events_of(known: EventType, count: int, seed: int = 0) -> Iterator[CloudEvent]:
    """Yields CloudEvents that fit the type, each made at the moment it is drawn: `time` is now.

    The same seed gives the same entities in the same order.
    """
    chooser = random.Random(f"{seed} {known.name}")  # noqa: S311 - variety, not secrecy
    return (_event(known, chooser.randrange(ENTITIES)) for _ in range(count))


def _event(known: EventType, entity: int) -> CloudEvent:
    return {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),  # never from the seed: a platform drops ids that it has seen before
        "source": "simulated-pim",
        "type": known.name,
        "time": to_rfc3339(datetime.now(UTC)),
        "datacontenttype": "application/json",
        "data": _data(known, entity),
    }


def _data(known: EventType, entity: int) -> dict[str, Any]:
    data = copy.deepcopy(known.example)
    for path in known.identity:
        holder = data
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = _variant(holder[path[-1]], entity)
    if isinstance(product := data.get("product"), dict):
        if ("product", "uuid") not in known.identity:
            product["uuid"] = _variant(product["uuid"], entity)
        if known.name in IDENTIFIER_TYPES:
            product["identifier"] = f"LMP-{entity:03}"
    return data


def _variant(example: str, entity: int) -> str:
    """Returns another value of the same kind: a UUID for a UUID, otherwise a code."""
    try:
        uuid.UUID(example)
    except ValueError:
        return f"{example}_{entity}"
    # RFC 9562 version 4 in form, as a PIM's are, but the same for the same entity
    return str(uuid.UUID(bytes=random.Random(f"{example} {entity}").randbytes(16), version=4))  # noqa: S311


@dataclass(slots=True)
class Emitted:
    """The counts of emitted events. `error` says what the first request that failed met."""

    accepted: int = 0
    failed: int = 0
    retried: int = 0  # requests that were sent again
    error: str | None = None


def ingest_url(platform: str) -> str:
    """Returns the URL of ingest of a platform, given by its base URL or by that of the ingest itself."""
    base = platform.rstrip("/")
    return base if base.endswith("/ingest") else f"{base}/ingest"


async def emit(
    to_send: Iterable[CloudEvent],
    *,
    to: str,
    key: str,
    rate: float,
    format: Format = Format.STRUCTURED,  # noqa: A002 - as CloudEvents name it
    batch: int = 20,
    pauses: Iterable[float] = RETRY_PAUSES,
    into: Emitted | None = None,
) -> Emitted:
    """Sends events to the ingest at `to`, `rate` a second whatever the answers, as a PIM does.

    `key` is the ingest key, or for `Format.EVENTS_API` and `RELAY` the secret that signs; their `to` is the
    whole URL. `batch` events go into a request of `Format.BATCH`, at most 10 of `EVENTS_API`. A request
    without an answer, or with a 5xx, is sent again with the same ids, except by the Events API; any other
    refusal is final. Counts go to `into` while it runs.
    """
    result = into if into is not None else Emitted()
    pauses = tuple(pauses) if format.is_sent_again else ()
    source = iter(to_send)
    loop = asyncio.get_running_loop()
    due = loop.time()
    url = to if format.place else ingest_url(to)
    import aiohttp  # here, as a server would keep it in memory for nothing

    timeout = aiohttp.ClientTimeout(total=format.patience)
    async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as sending:
        while group := list(islice(source, format.most_events(batch))):
            request = _send(session, url, ingest_requests.post(group, format, key), pauses, result)
            sending.create_task(request)
            due += len(group) / rate
            await asyncio.sleep(due - loop.time())
    return result


async def _send(
    session: "aiohttp.ClientSession", url: str, post: Post, pauses: tuple[float, ...], result: Emitted
) -> None:
    for pause in (*pauses, None):
        answered = await _post(session, url, post)
        if answered.is_final or pause is None:
            result.accepted += answered.accepted
            result.failed += post.events - answered.accepted
            result.error = result.error or answered.error
            return
        result.retried += 1
        await asyncio.sleep(pause)


@dataclass(frozen=True, slots=True)
class _Answered:
    """The number of accepted events, the error if there was one, and whether no further request makes
    sense.
    """

    accepted: int = 0
    error: str | None = None
    is_final: bool = True


async def _post(session: "aiohttp.ClientSession", url: str, post: Post) -> _Answered:
    import aiohttp

    try:
        async with session.post(url, headers=post.headers, data=post.body, allow_redirects=False) as answer:
            text = await answer.text(errors="replace")
    except (aiohttp.ClientError, TimeoutError) as error:
        is_final = isinstance(error, aiohttp.InvalidURL)
        return _Answered(error=f"no answer from {url}: {unanswered.why(error)}", is_final=is_final)
    error = f"{url} answered {answer.status}: {text[:300]}"
    if answer.status != post.success:
        return _Answered(error=error, is_final=answer.status < 500)
    accepted = _accepted(text, post.events)
    return _Answered(accepted, error if accepted < post.events else None)


def _accepted(text: str, events: int) -> int:
    """Returns the number of events that were accepted, by a successful answer; 0 when it is no platform's."""
    try:
        counts = orjson.loads(text)
    except orjson.JSONDecodeError:
        return 0
    if not isinstance(counts, dict):
        return 0
    return events - counts.get("skipped", 0) - counts.get("malformed", 0)
