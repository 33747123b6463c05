"""The parts that the two HTTP functions share: reading a JSON body within its limit, the table of errors."""

import time
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from typing import Any

import orjson
import structlog
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import Message, Receive, Scope, Send

from . import __version__
from .bodies import Share
from .budget import MIB, Budget
from .direct import Direct
from .domain import errors, front_door
from .domain.line_limit import LineLimit
from .domain.record.answers import ErrorAnswer, ErrorsAnswer, HealthAnswer
from .domain.subscriptions import Owner
from .tracebacks import drop_tracebacks

log = structlog.get_logger()

STATUS_OF: Mapping[type[errors.EventPlatformError], int] = {
    errors.InvalidRequest: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.TooLarge: 413,
    errors.UnsupportedMediaType: 415,
    errors.TooManyRequests: 429,
    errors.Overloaded: 503,
    errors.PimUnavailable: 503,
    errors.StoreUnavailable: 503,
    errors.OutOfSockets: 503,
    errors.NoResolver: 503,
    errors.PublishFailed: 503,
}
"""The error table (contract/wire.md 2)."""

CACHED: Mapping[str, str] = {"Cache-Control": "public, max-age=3600"}
"""The headers of descriptions, which change with a release or with the operator's settings."""

SAFE: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
"""The headers of every answer that sets no others, as OWASP's REST Security Cheat Sheet has it."""
OVER_TLS: Mapping[str, str] = {"Strict-Transport-Security": "max-age=31536000"}
"""The header of answers over TLS of our own; elsewhere a browser must ignore it (RFC 6797 7.2)."""
PIECE_BYTES = 32 * 1024
"""The bytes of an answer that are handed to the server at a time."""
ANSWERS_BYTES, RESERVE_OF_ANSWERS_BYTES = 48 * MIB, 16 * MIB
"""The bytes of all larger answers that are being sent."""
LARGEST_ANSWER_BYTES = 4 * MIB
"""The bytes that a caller may have whatever others do. A page of the log has up to 2.4 MB."""
ANSWERS_RETRY_SECONDS = 5
MESSAGE_CHARACTERS, FIELD_CHARACTERS = 1000, 256
"""The length of each problem that an answer or the log shows: it may quote a path or a key of any length."""
_OWNER = "event_platform.owner"
_STRANGERS = ""
_FAULT = errors.Problem("", "an internal error; it was logged and nothing was changed")


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


_SAFE = _raw(SAFE)
_SAFE_OVER_TLS = _raw({**SAFE, **OVER_TLS})

Answered = Callable[[Scope, int], None]
"""Called for each answer: the request's scope, where Starlette noted the `endpoint`, and the status."""


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response in UTF-8; `content` is plain data."""
    return Response(orjson.dumps(content), status, headers, media_type="application/json")


def error_response(
    status: int, *problems: errors.Problem, headers: Mapping[str, str] | None = None
) -> Response:
    """The error body of the contract; where a problem has a field, it is named in a key of its own too."""
    answer: ErrorsAnswer = {"errors": [_error(problem) for problem in problems]}
    return json_response(answer, status, headers)


def _error(problem: errors.Problem) -> ErrorAnswer:
    answer: ErrorAnswer = {"message": _cut(str(problem), MESSAGE_CHARACTERS)}
    if problem.field:
        answer["field"] = _cut(problem.field, FIELD_CHARACTERS)
    return answer


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[: characters - 3]}..."


def media_type(request: Request) -> str:
    """The content type without parameters, in lower case; empty when there is none."""
    return media_type_of(request.headers.get("content-type", ""))


def media_type_of(content_type: str) -> str:
    """The content type without parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def as_it_is(request: Request) -> None:
    """Raises UnsupportedMediaType when the body is packed: nothing is ever unpacked (RFC 9110 15.5.16)."""
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise errors.UnsupportedMediaType("the body must come as it is, without Content-Encoding")


def base_url(request: Request) -> str:
    """Returns the URL at which the client reached us, without a slash at the end."""
    return str(request.base_url.replace(scheme=request.app.scheme_of(request))).rstrip("/")


def only_once(headers: Headers, *names: str) -> None:
    """Raises Unauthenticated when a header that proves who calls is there twice and says two things."""
    for name in names:
        if len(set(headers.getlist(name))) > 1:
            raise errors.Unauthenticated(f"the header {name} was sent more than once, with different values")


def client_address(request: Request) -> str:
    """Returns the address against whose allowance a request counts."""
    return front_door.site_of(request.app.client_of(request))


def note_owner(request: Request, owner: Owner | str) -> None:
    """Notes whose request it is, once that is proved: its answer takes the owner's room.

    `owner` is a client, or the PIM itself by its URL.

    Raises Overloaded if the answers that the owner did not read yet fill that room.
    """
    request.scope[_OWNER] = owner
    request.app.check_room(owner)


def kept_response(request: Request, body: bytes, headers: Mapping[str, str] | None = None) -> Response:
    """A response of JSON that is kept in memory for all callers anyway, so that it takes nobody's room."""
    request.scope[_OWNER] = None
    return Response(body, headers=headers, media_type="application/json")


class App:
    """Our routes as an ASGI app: answers errors, completes the answers' headers, knows who the client is.

    It stands in place of Starlette's own, which wraps a request and its answer six times. `proxies` is the
    number of proxies in front of us, whose X-Forwarded-For and X-Forwarded-Proto are trusted. A fault of our
    own is answered 500 and raised, so that the server logs it with its traceback.
    """

    def __init__(self, routes: Sequence[Route], proxies: int = 0, answered: Answered | None = None) -> None:
        self.routes = routes
        self._router = Router(routes, redirect_slashes=False)
        self._direct = {
            (method, route.path): route.endpoint
            for route in routes
            if isinstance(route.endpoint, Direct)
            for method in route.methods or ()
        }
        self._proxies = proxies
        self._answered = answered
        self.lines = LineLimit(time.monotonic)
        self._answers = Budget(ANSWERS_BYTES, RESERVE_OF_ANSWERS_BYTES, LARGEST_ANSWER_BYTES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self  # so the router raises what has no route, as HTTPException
        if scope["type"] != "http":
            await self._router(scope, receive, send)
            return
        started = False
        room: tuple[Owner | str, int] | None = None

        def complete(message: Message) -> Awaitable[None]:
            nonlocal started, room
            if message["type"] == "http.response.start":
                named = dict(message["headers"])
                if (size := int(named.get(b"content-length", 0))) > PIECE_BYTES and scope["method"] != "HEAD":
                    room = self._take_room(scope, size)
                started = True
                message["headers"] = _completed(message["headers"], named, scope.get("scheme", "http"))
                if self._answered is not None:
                    self._answered(scope, message["status"])
            elif len(message.get("body", b"")) > PIECE_BYTES:
                return _send_in_pieces(message, send)
            return send(message)

        try:
            direct = self._direct.get((scope["method"], scope["path"]))
            if direct is None:
                await self._router.app(scope, receive, complete)
            else:
                scope["endpoint"] = direct
                await direct(scope, receive, complete)
        except (errors.EventPlatformError, HTTPException, ClientDisconnect) as error:
            if started:
                raise
            drop_tracebacks(error)
            await _answer_to(error, Request(scope))(scope, receive, complete)
        except Exception:
            if not started:
                await error_response(500, _FAULT)(scope, receive, complete)
            raise
        finally:
            if room is not None:
                self._answers.release(*room)

    def direct_routes(self) -> Mapping[tuple[bytes, bytes], Direct]:
        """Returns the routes that may have a short way, by method and path."""
        return {(method.encode(), path.encode()): direct for (method, path), direct in self._direct.items()}

    def count_answer(self, direct: Direct, status: int) -> None:
        """Counts an answer that was given on the short way."""
        if self._answered is not None:
            self._answered({"endpoint": direct}, status)

    def has_room(self, owner: Owner | str) -> bool:
        """True if an owner has room for another answer."""
        return self._answers.has_room(owner, 1)

    def check_room(self, owner: Owner | str) -> None:
        """Raises Overloaded if an owner has no room for another answer."""
        if not self.has_room(owner):
            raise self._no_room(owner)

    def _take_room(self, scope: Scope, size: int) -> tuple[Owner | str, int] | None:
        """Takes room for a large answer. Raises Overloaded if there is none for the answer to a GET.

        What may have changed something is answered in any case.
        """
        owner = scope.get(_OWNER, _STRANGERS)
        if owner is None:
            return None
        size = min(size, LARGEST_ANSWER_BYTES)
        if scope["method"] == "GET" and not self._answers.has_room(owner, size):
            raise self._no_room(owner)
        self._answers.take_anyway(owner, size)
        return owner, size

    def _no_room(self, owner: Owner | str) -> errors.Overloaded:
        if refused := self.lines.count(("answers.refused", owner)):
            named = owner._asdict() if isinstance(owner, Owner) else {"tenant": owner}
            log.warning("answers.refused", **named, refused=refused, held_bytes=self._answers.in_use)
        return errors.Overloaded(
            "too many large answers were not read yet; read them, or ask for less at a time",
            ANSWERS_RETRY_SECONDS,
        )

    def client_of(self, request: Request) -> str:
        """The address that sent a request, behind the proxies; empty where the server knows no peer."""
        if request.client is None:
            return ""
        heard = ",".join(request.headers.getlist("x-forwarded-for")) if self._proxies else ""
        return front_door.client_of(request.client.host, heard, self._proxies)

    def scheme_of(self, request: Request) -> str:
        """The scheme of the URL that the client called: https where a proxy in front ends TLS."""
        heard = ",".join(request.headers.getlist("x-forwarded-proto")) if self._proxies else ""
        return front_door.scheme_of(request.url.scheme, heard, self._proxies)


def _completed(
    headers: Sequence[tuple[bytes, bytes]], named: Container[bytes], scheme: str
) -> list[tuple[bytes, bytes]]:
    """Headers of an answer, with those of `SAFE` that are not among its names."""
    safe = _SAFE_OVER_TLS if scheme == "https" else _SAFE
    return [*headers, *[header for header in safe if header[0] not in named]]


def json_headers(length: int, scheme: str) -> Sequence[tuple[bytes, bytes]]:
    """The headers of an answer of JSON that goes the short way: those that every other one has."""
    headers = [(b"content-length", b"%d" % length), (b"content-type", b"application/json")]
    return _completed(headers, (), scheme)


async def _send_in_pieces(message: Message, send: Send) -> None:
    """Sends a large part of an answer so that little of it waits with the server for a client to read it."""
    body = memoryview(message["body"])
    for start in range(0, len(body), PIECE_BYTES):
        piece = bytes(body[start : start + PIECE_BYTES])
        is_last = start + PIECE_BYTES >= len(body)
        await send({**message, "body": piece, "more_body": not is_last or message.get("more_body", False)})


async def read_body(request: Request, limit: int, share: Share | None = None) -> bytes | bytearray:
    """The whole body; `share` counts its bytes, and has to last for as long as they are used.

    Raises TooLarge as soon as the body is known to have more than `limit` bytes, and Overloaded.
    """
    too_large = errors.TooLarge(f"the body is larger than {limit // 1024} KiB")
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    body: bytes | bytearray = b""
    async for chunk in request.stream():
        if not chunk:  # the last one
            continue
        if len(body) + len(chunk) > limit:
            raise too_large
        if share is not None and not share.take(len(chunk)):
            await share.grow(len(chunk))
        if not body:
            body = chunk  # which is all of nearly every body
        else:
            body = bytearray(body) if isinstance(body, bytes) else body
            body += chunk
    return body


def health_route(*, archive: str | None = None, commit: str | None = None) -> Route:
    """Returns the route of /health, which says that requests are taken, and what runs.

    `archive` is the name of the source archive that was deployed, `commit` what the program was built from.
    """
    health: HealthAnswer = {"status": "ok", "version": __version__}
    if archive:
        health["archive"] = archive
    if commit:
        health["commit"] = commit
    body = orjson.dumps(health)

    async def healthy(request: Request) -> Response:
        return Response(body, media_type="application/json")

    return Route("/health", healthy, methods=["GET"])


def _answer_to(
    error: errors.EventPlatformError | HTTPException | ClientDisconnect, request: Request
) -> Response:
    if isinstance(error, errors.EventPlatformError):
        return _answer_to_ours(error, request)
    if isinstance(error, HTTPException):
        message = {
            404: f"no such route: {request.url.path}",
            405: f"{request.method} is not allowed here",
        }.get(error.status_code, error.detail)
        return error_response(error.status_code, errors.Problem("", message), headers=error.headers)
    # Nobody reads this: the client went away, or was too slow, while its body was awaited.
    return error_response(400, errors.Problem("", "the body did not arrive"))


def _log_unavailable(error: errors.Unavailable, request: Request) -> None:
    """Logs once a minute for each route: while a part is away, every request would bring such a line."""
    if times := request.app.lines.count((type(error), request.scope.get("endpoint"))):
        path = _cut(request.url.path, FIELD_CHARACTERS)
        text = _cut(str(error), MESSAGE_CHARACTERS)
        cause = None if error.__cause__ is None else _cut(repr(error.__cause__), MESSAGE_CHARACTERS)
        log.warning("request.unavailable", path=path, error=text, cause=cause, times=times)


def _answer_to_ours(error: errors.EventPlatformError, request: Request) -> Response:
    status = STATUS_OF[type(error)]
    if isinstance(error, errors.Unavailable):
        _log_unavailable(error, request)
    if isinstance(error, errors.InvalidRequest):
        return error_response(status, *error.problems)
    must_wait = isinstance(error, errors.TooManyRequests | errors.Overloaded)
    headers = {"Retry-After": str(error.retry_after)} if must_wait else None
    return error_response(status, errors.Problem("", str(error)), headers=headers)
