"""The parts that both consoles share: cookies, forms, files, and the headers of every answer."""

import asyncio
from collections.abc import Mapping
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Send

from event_platform.domain import errors
from event_platform.http import OVER_TLS, read_body

from .pages import StaticFile

FORM_BYTES = 512 * 1024
FORM_FIELDS = 1_100
LONG_BYTES = 32 * 1024
"""The bytes of a form from which a thread reads it: escapes take 0.2 µs each."""
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'"
    " data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
IMMUTABLE = "public, max-age=31536000, immutable"


def completed(send: Send, *, is_https: bool) -> Send:
    """Returns a `send` that adds those of HEADERS that an answer does not set itself."""
    safe = {**HEADERS, **(OVER_TLS if is_https else {})}
    ours = [(name.lower().encode(), value.encode()) for name, value in safe.items()]

    async def complete(message: Message) -> None:
        if message["type"] == "http.response.start":
            named = {name for name, _ in message["headers"]}
            added = [header for header in ours if header[0] not in named]
            message["headers"] = [*message["headers"], *added]
        await send(message)

    return complete


def static_response(request: Request, files: Mapping[str, StaticFile]) -> Response:
    """Returns a file, whose URL names its content. Raises HTTPException."""
    file = files.get(request.path_params["name"])
    if file is None or file.digest != request.path_params["digest"]:
        raise HTTPException(404)
    packs = "gzip" in request.headers.get("accept-encoding", "")
    headers = {"Cache-Control": IMMUTABLE, "Vary": "Accept-Encoding"}
    if packs:
        headers["Content-Encoding"] = "gzip"
    return Response(file.packed if packs else file.body, media_type=file.media_type, headers=headers)


async def read_form(request: Request, limit: int = FORM_BYTES) -> Mapping[str, str]:
    """Returns the fields of a form; the last value of each. Reads the body once.

    Raises TooLarge, UnsupportedMediaType, InvalidRequest.
    """
    known: Mapping[str, str] | None = request.scope.get("form")
    if known is not None:
        return known
    if request.headers.get("content-type", "").partition(";")[0] != "application/x-www-form-urlencoded":
        raise errors.UnsupportedMediaType("a form must be sent as a form: application/x-www-form-urlencoded")
    body = await read_body(request, limit)
    is_long = len(body) > LONG_BYTES
    fields = await asyncio.to_thread(_fields_of, body) if is_long else _fields_of(body)
    request.scope["form"] = fields
    return fields


def _fields_of(body: bytes | bytearray) -> Mapping[str, str]:
    try:
        return dict(
            parse_qsl(
                bytes(body).decode(), keep_blank_values=True, max_num_fields=FORM_FIELDS, errors="strict"
            )
        )
    except ValueError as error:
        raise errors.InvalidRequest(errors.Problem("", "the form cannot be read")) from error
