"""What the two HTTP functions share: reading a JSON body within its limit, and the table of errors."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .domain import errors, front_door

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
    errors.PimUnavailable: 503,
    errors.StoreUnavailable: 503,
    errors.PublishFailed: 503,
}
"""The error table (wire contract 2)."""

CACHED: Mapping[str, str] = {"Cache-Control": "public, max-age=3600"}
"""Of descriptions, which change with a release or with the operator's settings."""

SAFE: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
"""Of every answer that does not say otherwise, as OWASP's REST Security Cheat Sheet has it."""
OVER_TLS: Mapping[str, str] = {"Strict-Transport-Security": "max-age=31536000"}
"""Of answers over TLS of our own; elsewhere a browser must ignore it (RFC 6797 7.2)."""

ExceptionHandler = Callable[[Request, Exception], Awaitable[Response]]


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response in UTF-8; `content` is plain data."""
    return Response(orjson.dumps(content), status, headers, media_type="application/json")


def error_response(
    status: int, *problems: errors.Problem, headers: Mapping[str, str] | None = None
) -> Response:
    """The error body of the contract; where a problem has a field, it is named in a key of its own too."""
    entries = [
        {"message": str(problem)} | ({"field": problem.field} if problem.field else {})
        for problem in problems
    ]
    return json_response({"errors": entries}, status, headers)


def media_type(request: Request) -> str:
    """The content type without parameters, in lower case; empty when there is none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def as_it_is(request: Request) -> None:
    """Raises UnsupportedMediaType when the body is packed: nothing is ever unpacked (RFC 9110 15.5.16)."""
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise errors.UnsupportedMediaType("the body must come as it is, without Content-Encoding")


def base_url(request: Request) -> str:
    """Where the client reached us, without a slash at the end."""
    return str(request.base_url).rstrip("/")


def only_once(headers: Headers, *names: str) -> None:
    """Raises Unauthenticated when a header that proves who calls is there twice and says two things."""
    for name in names:
        if len(set(headers.getlist(name))) > 1:
            raise errors.Unauthenticated(f"the header {name} was sent more than once, with different values")


def client_address(request: Request) -> str:
    """Whose allowance a request counts against, as `FrontOf` found it out."""
    return front_door.site_of(request.client.host if request.client else "")


class FrontOf:
    """An ASGI app that stands before `app`: finds out who the client is, and completes the answers' headers.

    `proxies` is the number of proxies in front of us that append to X-Forwarded-For.
    """

    def __init__(self, app: ASGIApp, proxies: int) -> None:
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._proxies and scope.get("client"):
            heard = ",".join(Headers(scope=scope).getlist("x-forwarded-for"))
            host, port = scope["client"]
            scope["client"] = (front_door.client_of(host, heard, self._proxies), port)
        safe = {**SAFE, **OVER_TLS} if scope["scheme"] == "https" else SAFE

        async def complete(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in safe.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, complete)


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body. Raises TooLarge as soon as it is known to have more than `limit` bytes."""
    too_large = errors.TooLarge(f"the body is larger than {limit // 1024} KiB")
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_large
    return bytes(body)


async def healthy(request: Request) -> Response:
    """The answer to /health: requests are taken."""
    return json_response({"status": "ok"})


async def _on_platform_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, errors.EventPlatformError)  # noqa: S101 - registered for that type below
    status = STATUS_OF[type(error)]
    if status == 503:
        log.warning("request.unavailable", path=request.url.path, error=str(error))
    if isinstance(error, errors.InvalidRequest):
        return error_response(status, *error.problems)
    headers = {"Retry-After": str(error.retry_after)} if isinstance(error, errors.TooManyRequests) else None
    return error_response(status, errors.Problem("", str(error)), headers=headers)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for that type below
    message = {
        404: f"no such route: {request.url.path}",
        405: f"{request.method} is not allowed here",
    }.get(error.status_code, error.detail)
    return error_response(error.status_code, errors.Problem("", message), headers=error.headers)


async def _on_disconnect(request: Request, error: Exception) -> Response:
    # Nobody reads this: the client went away, or was too slow, while its body was awaited.
    return error_response(400, errors.Problem("", "the body did not arrive"))


async def _on_fault(request: Request, error: Exception) -> Response:
    # Starlette raises the error again after this answer, and the server logs it with its traceback.
    return error_response(500, errors.Problem("", "an internal error; it was logged and nothing was changed"))


EXCEPTION_HANDLERS: Mapping[Any, ExceptionHandler] = {
    errors.EventPlatformError: _on_platform_error,
    HTTPException: _on_http_exception,
    ClientDisconnect: _on_disconnect,
    Exception: _on_fault,
}
"""For `Starlette(exception_handlers=…)`: every error of ours becomes the contract's answer."""
