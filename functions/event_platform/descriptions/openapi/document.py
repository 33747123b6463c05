"""The document, put together from the table of operations for the routes that are served."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from starlette.routing import Route

from ...domain.attempts import signatures
from ...domain.attempts.broker_messages import TopicRules
from ...domain.events.catalog import Catalog
from ...domain.ingest_formats import events_api
from ...manage.logs import EXPLANATIONS
from . import examples, schemas
from .operations import OPERATIONS, Content, Operation

INFO = {
    "title": "Akeneo event platform",
    "version": "1",
    "summary": "Subscribe to what happens in a PIM and have each event delivered.",
    "description": "Checks come in this order: route (404), method (405, with `Allow`), credentials (401,"
    " 429), size and media type (413, 415), payload (400), permission (403), existence and state (404, 409)."
    " Every refusal has the same body. Unknown keys of a body are ignored. In the body of a POST, null and,"
    " for an object, [] are as an absent key; in that of a PATCH, null puts the default back, and [] for an"
    " object is {}. HEAD is answered wherever GET is.",
    "license": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
}

SECURITY_SCHEMES = {
    "pimUrl": {"type": "apiKey", "in": "header", "name": "X-PIM-URL", "description": "The PIM's base URL."},
    "pimToken": {
        "type": "apiKey",
        "in": "header",
        "name": "X-PIM-TOKEN",
        "description": "An access token of the PIM, as it is: without Bearer.",
    },
    "pimClientId": {
        "type": "apiKey",
        "in": "header",
        "name": "X-PIM-CLIENT-ID",
        "description": "The id of the connection or App that the token belongs to.",
    },
    "ingestKey": {"type": "http", "scheme": "bearer", "description": "The ingest key of the PIM."},
    "eventsApiSignature": {
        "type": "apiKey",
        "in": "header",
        "name": events_api.SIGNATURE_HEADER,
        "description": "Lower-case hex of HMAC-SHA256 over the timestamp, a dot and the raw body.",
    },
    "eventsApiTimestamp": {
        "type": "apiKey",
        "in": "header",
        "name": events_api.TIMESTAMP_HEADER,
        "description": f"Unix seconds; at most {events_api.MAX_AGE_SECONDS} s old.",
    },
    "relaySignature": {
        "type": "apiKey",
        "in": "header",
        "name": signatures.PRIMARY_HEADER,
        "description": "Lower-case hex of HMAC-SHA256 over the raw body, by the relay secret; or"
        f" {signatures.SECONDARY_HEADER}, the same.",
    },
}

PARAMETERS: dict[str, dict[str, Any]] = {
    "sid": {"schema": schemas.ID, "example": examples.SUBSCRIBER_ID, "description": "The subscriber's id."},
    "id": {
        "schema": schemas.ID,
        "example": examples.SUBSCRIPTION_ID,
        "description": "The subscription's id.",
    },
    "event_id": {
        "schema": schemas.text("Of an event.", minLength=1),
        "example": examples.EVENT_ID,
        "description": "The event's id, percent-encoded.",
    },
    "rid": {"schema": schemas.ID, "example": examples.REPLAY_ID, "description": "The replay's id."},
    "key": {
        "schema": schemas.text("The key of a PIM, as `aep pims list` shows it."),
        "example": "f3fe6b2a1d0c9e87",
        "description": "The key of the PIM.",
    },
    "name": {
        "schema": {"type": "string", "enum": list(EXPLANATIONS)},
        "example": "connection_refused",
        "description": "An entry's error_reason; of dropped deliveries, its operation.",
    },
    "type": {"schema": schemas.ref("EventType"), "example": examples.UPDATED},
}
"""The parameters of paths, by name."""

ANY_TIME = {
    400: "Not a valid HTTP request.",
    408: "The request did not arrive in time.",
    431: "More than 32 KiB of headers.",
    500: "An internal error; it was logged and nothing was changed.",
}
"""Answers that every operation can have, if it describes no other one of the status."""


def document(served: Iterable[Route], known: Catalog, topics: TopicRules) -> dict[str, Any]:
    """The OpenAPI document of the routes. Raises LookupError when one of them is not in the table."""
    table = {(operation.path, operation.method): operation for operation in OPERATIONS}
    paths: dict[str, dict[str, Any]] = {}
    for each in served:
        for method in sorted((each.methods or set()) - {"HEAD"}):
            paths.setdefault(each.path_format, {})[method.lower()] = _operation(
                table[each.path_format, method]
            )
    return {
        "openapi": "3.1.0",
        "info": INFO,
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": schemas.components(known, topics), "securitySchemes": SECURITY_SCHEMES},
    }


def _operation(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "description": operation.description,
        "parameters": _parameters(operation),
        "requestBody": {"required": operation.body_required, "content": _content(operation.body)}
        if operation.body
        else None,
        "responses": _responses(operation),
    }
    security = [{name: [] for name in operation.security}] if operation.security else []
    return {key: value for key, value in described.items() if value} | {"security": security}


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    in_path = [
        {"name": name, "in": "path", "required": True, **PARAMETERS[name]}
        for name in re.findall(r"{(\w+)}", operation.path)
    ]
    return (
        in_path
        + [{"name": name, "in": "query", "schema": schema} for name, schema in operation.query.items()]
        + [{"name": name, "in": "header", "schema": schema} for name, schema in operation.headers.items()]
    )


def _responses(operation: Operation) -> dict[str, Any]:
    refusals = {**ANY_TIME, **operation.refusals}
    return {
        str(operation.status): {"description": operation.summary, "content": _content([operation.answer])},
        **{str(status): _refusal(meaning) for status, meaning in sorted(refusals.items())},
    }


def _refusal(meaning: str) -> dict[str, Any]:
    return {"description": meaning, "content": _content([Content(schemas.ref("Errors"))])}


def _content(contents: Sequence[Content]) -> dict[str, Any]:
    return {
        content.media_type: {"schema": content.schema}
        | ({} if content.example is None else {"example": content.example})
        for content in contents
    }
