"""Reads the body of a call of the control socket into a model."""

from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from event_platform.domain.errors import InvalidRequest, Problem
from event_platform.domain.validation_words import words_of
from event_platform.http import read_body

BODY_LIMIT = 4 * 1024 * 1024
"""The largest body: an entry of the registry with thousands of clients."""
Model = TypeVar("Model", bound=BaseModel)


async def read(request: Request, model: type[Model]) -> Model:
    """Raises TooLarge, and InvalidRequest that names the field."""
    body = await read_body(request, BODY_LIMIT)
    try:
        return model.model_validate_json(bytes(body))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InvalidRequest(Problem(".".join(map(str, first["loc"])), words_of(first))) from None
