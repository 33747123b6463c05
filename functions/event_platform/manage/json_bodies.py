"""Reads the JSON body of a call, within its bounds."""

from typing import Any, cast

from starlette.requests import Request

from ..domain.errors import InvalidRequest, Problem, TooLarge, UnsupportedMediaType
from ..domain.events import json_form
from ..domain.record.redaction import Redaction
from ..http import as_it_is, media_type, read_body
from .payloads.values import FIRST_BODY

BODY_LIMIT = 256 * 1024
MAX_VALUES = 5_000
"""JSON values of a body. Together the two bound the work that a body makes; no valid one comes near."""


async def read_json(request: Request, *, or_empty: bool = False) -> Any:
    """The body as JSON; `or_empty`: none is {}. Raises TooLarge, UnsupportedMediaType, InvalidRequest."""
    body = await read_body(request, BODY_LIMIT)
    await FIRST_BODY.ready()
    if not body and or_empty:
        return {}
    if not body:
        raise InvalidRequest(Problem("", "the body is empty; a JSON object is needed"))
    as_it_is(request)
    if media_type(request) != "application/json":
        raise UnsupportedMediaType("the body must be application/json")
    return _value(request, body)


async def read_object(request: Request) -> dict[str, Any]:
    """The body of a call that needs none, of any media type: {} if it is no JSON object of some size."""
    try:
        body = await read_body(request, BODY_LIMIT)
        await FIRST_BODY.ready()
        value = _value(request, body)
    except (InvalidRequest, TooLarge):
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _value(request: Request, body: bytes | bytearray) -> Any:
    if json_form.has_more_values(body, MAX_VALUES):
        raise TooLarge(f"the body holds more than {MAX_VALUES} JSON values")
    try:
        value = json_form.parse(body)
    except json_form.MalformedJson as error:
        raise InvalidRequest(Problem("", error.said_of("the body"))) from error
    if json_form.has_lone_surrogates(value):
        raise InvalidRequest(Problem("", "the body holds half of a surrogate pair, which is no character"))
    request.state.redaction = Redaction(value)
    return value


def redaction_of(request: Request) -> Redaction:
    """The request's body as the log shows it, when it was JSON."""
    return getattr(request.state, "redaction", None) or Redaction(None)
