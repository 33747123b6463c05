"""The AsyncAPI 3 document of what is delivered, made from the catalog, and its route.

https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from functools import lru_cache
from typing import Any, TypeAlias

import orjson
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..domain.attempts.delivery_headers import CORRELATION_ID, DELIVERY_HEADERS, DeliveryHeader
from ..domain.attempts.https_requests import request_headers
from ..domain.events.catalog import Catalog, EventType, schema_url
from ..domain.events.event import SOURCE, envelope, example_of
from ..domain.events.facts import IDENTIFIER_TYPES
from ..domain.subscriptions import HttpsConfig
from ..http import CACHED, base_url, kept_response

PATH = "/asyncapi.json"
EXAMPLE_SECRET = "a secret of 16 to 256 characters"  # noqa: S105 - that of the examples' signatures
_SUBSCRIPTION_ID = "0199c1a1-02f4-7d8b-8e6f-5a4b3c2d1e0f"
_EVENT_ID = "7b9f2a6e-4c1d-4b8e-9f3a-2d5c6e7f8a9b"
_TIME = "2026-01-31T12:00:00Z"
_BASES_REMEMBERED = 4

Part: TypeAlias = dict[str, Any]


def route(known: Catalog, public_url: str | None) -> Route:
    """The route of the document; without `public_url` its URLs begin as the request's does. Public."""

    @lru_cache(_BASES_REMEMBERED)
    def text(base: str) -> bytes:
        return orjson.dumps(document(known, f"{base}/spec"))

    async def description(request: Request) -> Response:
        if public_url is not None:
            return kept_response(request, text(public_url), CACHED)
        return Response(text(base_url(request)), headers=CACHED, media_type="application/json")

    return Route(PATH, description, methods=["GET"])


def document(known: Catalog, schema_base: str) -> Part:
    """The document of these types, whose schemas are served under `schema_base`."""
    types = known.types.values()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Akeneo event platform: deliveries",
            "version": "1",
            "description": "What an endpoint gets from its subscription: one signed CloudEvent a request, at"
            " least once. How to subscribe is described by the OpenAPI document at /openapi.json.",
            "license": {"name": "Apache License 2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "endpoint": {
                "host": "{host}",
                "protocol": "https",
                "description": "The endpoint of a subscription: its config.url.",
                "variables": {"host": {"description": "Host and port of config.url."}},
            }
        },
        "channels": {
            "deliveries": {
                "address": "{path}",
                "title": "Deliveries of a subscription",
                "description": "The types that the subscription lists in events; test events of a benchmark"
                " when its source is benchmark.",
                "parameters": {"path": {"description": "Path and query of config.url."}},
                "servers": [_ref("servers", "endpoint")],
                "messages": {each.name: _ref("components/messages", each.name) for each in types},
            }
        },
        "operations": {
            "deliver": {
                "action": "send",
                "channel": _ref("channels", "deliveries"),
                "title": "Deliver an event",
                "description": "Answer any 2xx within 5 s. A 429 lowers the rate; a 404 or a redirect ends"
                " the delivery; all else is tried again after 5, 10 and 20 minutes.",
                "bindings": {"http": {"method": "POST", "bindingVersion": "0.3.0"}},
            }
        },
        "components": {
            "schemas": {
                "CloudEvent": _cloud_event(),
                "DeliveryHeaders": _headers(),
                **{each.name: _data(each, schema_base) for each in types},
            },
            "messageTraits": {
                "delivery": {
                    "contentType": "application/json",
                    "headers": _ref("components/schemas", "DeliveryHeaders"),
                    "correlationId": {
                        "description": "The event's id, the same for every attempt and subscription.",
                        "location": f"$message.header#/{CORRELATION_ID.name}",
                    },
                }
            },
            "messages": {each.name: _message(each, schema_base) for each in types},
        },
    }


def _ref(under: str, name: str) -> Part:
    return {"$ref": f"#/{under}/{name}"}


def _message(event_type: EventType, schema_base: str) -> Part:
    event = example_of(event_type, event_id=_EVENT_ID, time=_TIME)
    body = envelope(event, schema_base, with_identifier=True).addressed_to(_SUBSCRIPTION_ID)
    secret = SecretStr(EXAMPLE_SECRET)
    headers = request_headers(event.id, body, HttpsConfig("https://erp.example.com/events", secret, secret))
    return {
        "name": event_type.name,
        "title": event_type.name,
        "summary": event_type.trigger,
        "description": _description(event_type),
        "traits": [_ref("components/messageTraits", "delivery")],
        "payload": {
            "allOf": [
                _ref("components/schemas", "CloudEvent"),
                {
                    "type": "object",
                    "properties": {
                        "type": {"const": event_type.name},
                        "dataschema": {"const": schema_url(schema_base, event_type.name)},
                        "data": _ref("components/schemas", event_type.name),
                    },
                },
            ]
        },
        "examples": [{"name": "delivery", "headers": dict(headers), "payload": orjson.loads(body)}],
    }


def _description(event_type: EventType) -> str:
    ordered = " and ".join(f"`{'.'.join(path)}`" for path in event_type.identity)
    sentences = [
        f"Events of the same {ordered} come in order." if ordered else "These events have no order.",
        f"Certainty of the payload: {event_type.certainty}.",
    ]
    if event_type.name in IDENTIFIER_TYPES:
        sentences.insert(0, "`data.product.identifier` is there only with `send_product_identifier`.")
    return " ".join(sentences)


def _data(event_type: EventType, schema_base: str) -> Part:
    """The schema itself, so that the document stands alone. AsyncAPI resolves references in its own document,
    so one that has some is referred to where it is served."""
    url = schema_url(schema_base, event_type.name)
    schema = {key: value for key, value in event_type.schema_at(url).items() if key != "$schema"}
    return {"$ref": url} if b'"$ref"' in orjson.dumps(schema) else schema


def _cloud_event() -> Part:
    """The envelope (contract/wire.md 9)."""
    properties: Part = {
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "description": "The same for every attempt and every subscription."},
        "source": {"const": SOURCE},
        "type": {"type": "string", "description": "The event type."},
        "subject": {"type": "string", "format": "uuid", "description": "The subscription's id."},
        "datacontenttype": {"const": "application/json"},
        "dataschema": {"type": "string", "format": "uri", "description": "Serves the JSON Schema of data."},
        "time": {"type": "string", "format": "date-time", "description": "When it happened in the PIM."},
        "data": {"type": "object"},
    }
    return {
        "type": "object",
        "description": "A CloudEvent 1.0 in JSON, structured mode.",
        "properties": properties,
        "required": list(properties),
    }


def _headers() -> Part:
    """The headers of a delivery (contract/wire.md 10)."""
    return {
        "type": "object",
        "description": "Then follow the subscription's custom headers, at most 5.",
        "properties": {header.name: _header(header) for header in DELIVERY_HEADERS},
        "required": [header.name for header in DELIVERY_HEADERS if not header.is_optional],
    }


def _header(header: DeliveryHeader) -> Part:
    if header.fixed is not None:
        return {"const": header.fixed}
    pattern = {"pattern": header.pattern} if header.pattern is not None else {}
    return {"type": "string", **pattern, "description": header.description}
