"""The AsyncAPI document: valid by AsyncAPI's own schema, and true to what is delivered."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson
import pytest

from event_platform.descriptions import asyncapi
from event_platform.domain.attempts import signatures
from event_platform.domain.events import catalog, json_form
from event_platform.domain.events.own_event_types import extended
from event_platform.http import App
from support import asgi
from support.records import ORDER, ORDER_TYPE

SPEC = "https://events.example.com/spec"
DOCUMENT = asyncapi.document(catalog.load(), SPEC)
ASYNCAPI = jsonschema_rs.Draft7Validator(
    orjson.loads((Path(__file__).parents[1] / "schemas" / "asyncapi-3.0.0.json").read_bytes()), offline=True
)
NAMES = list(catalog.load().types)


def validator(part: dict[str, Any], document: dict[str, Any] = DOCUMENT) -> jsonschema_rs.Draft7Validator:
    """Of a schema that refers to the document's components."""
    return jsonschema_rs.Draft7Validator(
        {**part, "components": document["components"]}, validate_formats=True, offline=True
    )


def references(part: Any) -> list[str]:
    if isinstance(part, list):
        return [found for each in part for found in references(each)]
    if not isinstance(part, dict):
        return []
    own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
    return own + [found for each in part.values() for found in references(each)]


def resolved(document: dict[str, Any], reference: str) -> Any:
    found: Any = document
    for key in reference.removeprefix("#/").split("/"):
        found = found[key]
    return found


def test_it_is_asyncapi_3() -> None:
    assert [error.message for error in ASYNCAPI.iter_errors(DOCUMENT)] == []
    assert DOCUMENT["asyncapi"] == "3.0.0"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda document: document.pop("info"),
        lambda document: document["operations"]["deliver"].update(action="shout"),
        lambda document: document["components"]["messages"][NAMES[0]].update(unknown=1),
        lambda document: document["operations"]["deliver"]["bindings"]["http"].update(method="SHOUT"),
    ],
)
def test_the_validator_refuses_what_is_none(spoil: Callable[[dict[str, Any]], Any]) -> None:
    document = copy.deepcopy(DOCUMENT)
    spoil(document)
    assert not ASYNCAPI.is_valid(document)


def test_every_reference_leads_to_something() -> None:
    found = references(DOCUMENT)
    assert len(found) > len(NAMES) * 3
    for reference in found:
        assert resolved(DOCUMENT, reference)


def test_the_channel_has_a_message_for_each_type() -> None:
    messages = DOCUMENT["channels"]["deliveries"]["messages"]
    assert list(messages) == NAMES
    for name, message in messages.items():
        assert resolved(DOCUMENT, message["$ref"])["name"] == name


@pytest.mark.parametrize("name", NAMES)
def test_the_example_of_a_message_is_what_is_described(name: str) -> None:
    message = DOCUMENT["components"]["messages"][name]
    (example,) = message["examples"]
    headers = DOCUMENT["components"]["schemas"]["DeliveryHeaders"]
    assert [error.message for error in validator(message["payload"]).iter_errors(example["payload"])] == []
    assert [error.message for error in validator(headers).iter_errors(example["headers"])] == []
    assert example["payload"]["data"] == catalog.load()[name].example


@pytest.mark.parametrize("name", NAMES)
def test_the_signature_in_an_example_is_that_of_its_payload(name: str) -> None:
    (example,) = DOCUMENT["components"]["messages"][name]["examples"]
    body = json_form.stringify(example["payload"])
    signature = example["headers"][signatures.PRIMARY_HEADER]
    assert signatures.verify(body, asyncapi.EXAMPLE_SECRET, signature)


def test_another_types_data_do_not_fit_a_message() -> None:
    product = validator(DOCUMENT["components"]["messages"]["com.akeneo.pim.v1.product.created"]["payload"])
    (example,) = DOCUMENT["components"]["messages"]["com.akeneo.pim.v1.family.created"]["examples"]
    assert not product.is_valid(example["payload"])


def test_an_own_type_is_described_and_its_inner_references_are_left_to_its_own_schema() -> None:
    document = asyncapi.document(extended(catalog.load(), orjson.dumps([ORDER_TYPE])), SPEC)
    assert ASYNCAPI.is_valid(document)
    assert ORDER in document["channels"]["deliveries"]["messages"]
    assert document["components"]["schemas"][ORDER] == {"$ref": f"{SPEC}/{ORDER}.schema.json"}


@pytest.mark.parametrize(("proxies", "base"), [(1, "https://test"), (0, "http://test")])
async def test_urls_have_the_scheme_that_a_trusted_proxy_names(proxies: int, base: str) -> None:
    app = App([asyncapi.route(catalog.load(), None)], proxies)
    described = await asgi.get(app, "/asyncapi.json", (b"x-forwarded-proto", b"https"))
    assert described == orjson.dumps(asyncapi.document(catalog.load(), f"{base}/spec"))
