"""`/openapi.json`: that it is OpenAPI, and that it describes what is served."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Route

from aep.wiring import Platform
from event_platform.descriptions.openapi.document import document as document_of
from event_platform.descriptions.openapi.operations import OPERATIONS
from event_platform.domain.attempts.broker_messages import TopicRules
from event_platform.domain.events import catalog
from event_platform.settings import Settings
from support import one_pim
from support.one_pim import INGEST_KEY
from support.processes import Client, http

JSON = "application/json"


@dataclass(frozen=True)
class Described:
    platform: str
    client: Client
    document: dict[str, Any]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Described]:
    folder = tmp_path_factory.mktemp("openapi")
    with one_pim.serve_simulated(folder, settings={"PUBSUB_EMULATOR_HOST": "unused"}) as (serve, pim):
        answer = http().get(f"{serve.url}/openapi.json", timeout=10)
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, JSON)
        yield Described(serve.url, pim.client(serve.url), answer.json())


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, method and operation of all that is described."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def validator(document: Mapping[str, Any], schema: Mapping[str, Any]) -> jsonschema_rs.Draft202012Validator:
    """Of a schema that stands in the document."""
    return jsonschema_rs.Draft202012Validator(
        {**schema, "components": document["components"]}, validate_formats=True
    )


def examples(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], Any]]:
    """Where each example stands, with its schema."""
    for name, schema in document["components"]["schemas"].items():
        for example in schema.get("examples", []):
            yield name, schema, example
    for path, method, operation in operations(document):
        where = f"{method} {path}"
        bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
        for parameter in operation.get("parameters", []):
            if "example" in parameter:
                yield f"{where} {parameter['name']}", parameter["schema"], parameter["example"]
        for body in bodies:
            for media_type, content in body.get("content", {}).items():
                if "example" in content:
                    yield f"{where} {media_type}", content["schema"], content["example"]


def content_of(world: Described, path: str, method: str, where: str) -> dict[str, Any]:
    """The JSON content of a request body, or of the response of a status."""
    operation = world.document["paths"][path][method.lower()]
    described = operation["requestBody"] if where == "request" else operation["responses"][where]
    return described["content"][JSON]


# The document itself


def test_it_is_openapi_3_1(world: Described) -> None:
    OpenAPIV31SpecValidator(world.document).validate()
    assert world.document["openapi"].startswith("3.1.")


def test_every_example_fits_its_schema(world: Described) -> None:
    found = list(examples(world.document))
    assert len(found) > 25
    wrong = {
        where: [error.message for error in validator(world.document, schema).iter_errors(example)]
        for where, schema, example in found
        if not validator(world.document, schema).is_valid(example)
    }
    assert wrong == {}


def test_every_json_body_has_an_example_or_is_any_object(world: Described) -> None:
    for path, method, operation in operations(world.document):
        success = next(response for status, response in operation["responses"].items() if status < "300")
        for body in filter(None, (operation.get("requestBody"), success)):
            for media_type, content in body["content"].items():
                assert "example" in content or content["schema"] in (
                    {"type": "object"},
                    {"type": "string"},
                ), (method, path, media_type)


def test_every_example_of_a_resource_shows_all_that_is_described(world: Described) -> None:
    schemas = world.document["components"]["schemas"]
    for name, path in [
        ("Subscriber", "/api/v1/subscribers/{sid}"),
        ("Subscription", "/api/v1/subscribers/{sid}/subscriptions/{id}"),
    ]:
        shown = content_of(world, path, "GET", "200")["example"]
        assert list(shown) == list(schemas[name]["properties"])
    contact = content_of(world, "/api/v1/subscribers/{sid}", "GET", "200")["example"]["contact"]
    assert list(contact) == list(schemas["Contact"]["properties"])


def test_every_schema_is_used_and_every_description_says_something(world: Described) -> None:
    text = orjson.dumps(world.document).decode()
    for name in world.document["components"]["schemas"]:
        assert f'"#/components/schemas/{name}"' in text, name
    assert '"description":""' not in text


def test_operation_ids_are_unique(world: Described) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(world.document)]
    assert len(set(ids)) == len(ids)


# Against what is served


async def test_every_route_is_described_and_every_description_is_served(tmp_path: Path) -> None:
    platform = Platform(
        Settings(dev=True), tmp_path, base_url="http://127.0.0.1", on_fault=lambda error: None
    )
    routes = platform.app.routes
    served = {
        (route.path_format, method)
        for route in routes
        for method in (route.methods or ())
        if method != "HEAD"
    }
    assert {(operation.path, operation.method) for operation in OPERATIONS} == served
    assert {
        (path, method) for path, method, _ in operations(document_of(routes, catalog.load(), TopicRules()))
    } == served


def test_the_document_holds_what_that_process_serves_only() -> None:
    document = document_of(
        [Route("/health", lambda request: None, methods=["GET"])], catalog.load(), TopicRules()
    )
    assert list(document["paths"]) == ["/health"]


def test_a_route_that_nobody_described_is_an_error() -> None:
    with pytest.raises(LookupError):
        document_of([Route("/secret", lambda request: None, methods=["GET"])], catalog.load(), TopicRules())


def test_the_running_platform_describes_its_routes(world: Described) -> None:
    described = {(path, method) for path, method, _ in operations(world.document)}
    assert described == {(operation.path, operation.method) for operation in OPERATIONS}


def test_a_method_that_is_not_described_is_405_with_those_that_are(world: Described) -> None:
    for path, methods in world.document["paths"].items():
        described = {method.upper() for method in methods}
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"} - described:
            answer = http().request(method, world.platform + path, timeout=10)
            assert answer.status_code == 405, (method, path)
            assert set(answer.headers["Allow"].split(", ")) - {"HEAD"} == described
            assert validator(world.document, {"$ref": "#/components/schemas/Errors"}).is_valid(answer.json())


def test_what_needs_credentials_says_so(world: Described) -> None:
    for path, method, operation in operations(world.document):
        answer = http().request(method, world.platform + path, timeout=10)
        assert (answer.status_code == 401) == bool(operation["security"]), (method, path)


def test_the_security_schemes_are_those_of_the_platform(world: Described) -> None:
    schemes = world.document["components"]["securitySchemes"]
    names = [schemes[name]["name"] for name in ("pimUrl", "pimToken", "pimClientId")]
    values = (world.client.pim, world.client.token, world.client.client_id)
    subscribers = f"{world.platform}/api/v1/subscribers"
    assert http().get(subscribers, headers=dict(zip(names, values, strict=True)), timeout=10).ok
    assert (schemes["ingestKey"]["type"], schemes["ingestKey"]["scheme"]) == ("http", "bearer")


def test_the_examples_are_accepted_and_answered_as_described(world: Described) -> None:
    """Each body as it stands there, but for its host, which nobody can look up, and the redaction mark."""

    def call(method: str, path: str, status: int, ids: Mapping[str, str]) -> dict[str, Any]:
        operation = world.document["paths"][path][method.lower()]
        body = None
        if "requestBody" in operation:
            text = orjson.dumps(content_of(world, path, method, "request")["example"]).decode()
            body = orjson.loads(text.replace("https://erp.example.com", "http://127.0.0.1:4"))
        answer = world.client.call(method, path.removeprefix("/api/v1").format(**ids), body, expect=status)
        content = content_of(world, path, method, str(status))
        validator(world.document, content["schema"]).validate(answer)
        return answer

    subscribers = "/api/v1/subscribers"
    subscriber = subscribers + "/{sid}"
    subscription = subscriber + "/subscriptions/{id}"
    sid = call("POST", subscribers, 201, {})["id"]
    call("PATCH", subscriber, 200, {"sid": sid})
    made = call("POST", f"{subscriber}/subscriptions", 201, {"sid": sid})
    ids = {"sid": sid, "id": made["id"]}
    changed = call("PATCH", subscription, 200, ids)
    assert changed["config"]["secret"]["secondary"] == "***redacted***"
    for method, path, status in [
        ("GET", subscribers, 200),
        ("GET", subscriber, 200),
        ("GET", f"{subscriber}/subscriptions", 200),
        ("GET", subscription, 200),
        ("POST", f"{subscription}/suspend", 202),
        ("POST", f"{subscription}/resume", 202),
        ("DELETE", subscription, 200),
        ("DELETE", subscriber, 200),
    ]:
        call(method, path, status, ids)


@pytest.mark.parametrize(
    "media_type", ["application/cloudevents+json", "application/cloudevents-batch+json", JSON]
)
def test_the_example_of_each_mode_of_ingest_is_accepted(world: Described, media_type: str) -> None:
    content = world.document["paths"]["/ingest"]["post"]["requestBody"]["content"][media_type]
    headers = {"Authorization": f"Bearer {INGEST_KEY}", "Content-Type": media_type}
    answer = http().post(
        f"{world.platform}/ingest", orjson.dumps(content["example"]), headers=headers, timeout=10
    )
    assert (answer.status_code, answer.json()) == (202, {"accepted": 1})


def test_binary_mode_takes_the_headers_that_are_described(world: Described) -> None:
    ingest = world.document["paths"]["/ingest"]["post"]
    event = ingest["requestBody"]["content"]["application/cloudevents+json"]["example"]
    attributes = event | {"pimurl": world.client.pim}
    headers = {
        parameter["name"]: attributes[parameter["name"].removeprefix("ce-")]
        for parameter in ingest["parameters"]
    }
    assert set(headers) == {"ce-specversion", "ce-id", "ce-type", "ce-time", "ce-pimurl"}
    answer = http().post(
        f"{world.platform}/ingest",
        orjson.dumps(event["data"]),
        headers=headers | {"Authorization": f"Bearer {INGEST_KEY}", "Content-Type": JSON},
        timeout=10,
    )
    assert (answer.status_code, answer.json()) == (202, {"accepted": 1})


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("pubsub", {"project_id": "my-project", "topic_id": "events"}),
        (
            "kafka",
            {
                "broker": "kafka.example.com:9092",
                "topic": "events",
                "sasl_auth": {"mechanism": "plain", "username": "aep", "password": "aep"},
            },
        ),
    ],
)
def test_destinations_that_are_brokers_fit_their_schemas(
    world: Described, kind: str, config: dict[str, Any]
) -> None:
    path = "/api/v1/subscribers/{sid}/subscriptions"
    body = {"events": ["com.akeneo.pim.v1.product.updated"], "type": kind, "config": config}
    validator(world.document, content_of(world, path, "POST", "request")["schema"]).validate(body)
    subscriber = {"name": "Brokers", "contact": {"technical_email": "ops@example.com"}}
    sid = world.client.call("POST", "/subscribers", subscriber, expect=201)["id"]
    created = world.client.call("POST", f"/subscribers/{sid}/subscriptions", body, expect=201)
    validator(world.document, content_of(world, path, "POST", "201")["schema"]).validate(created)


@pytest.mark.parametrize(
    ("topics", "said"),
    [
        (TopicRules(account="aep@p.iam.gserviceaccount.com"), "to aep@p.iam.gserviceaccount.com."),
        (TopicRules(), "to the platform's account, which its operator names."),
        (TopicRules(missing="the operator has to set it up"), "Refused here: the operator has to set it up."),
    ],
)
def test_it_says_which_account_publishes_to_topics(topics: TopicRules, said: str) -> None:
    document = document_of([], catalog.load(), topics)
    assert said in document["components"]["schemas"]["PubSubConfig"]["description"]


def test_the_redaction_mark_is_for_changes(world: Described) -> None:
    secrets = {"primary": "***redacted***", "secondary": "***redacted***"}
    config = {"url": "https://93.184.215.14/", "secret": secrets, "headers": {"X-Key": "***redacted***"}}
    schemas = {"HttpsConfigChange": True, "HttpsConfig": False}
    assert {
        name: validator(world.document, {"$ref": f"#/components/schemas/{name}"}).is_valid(config)
        for name in schemas
    } == schemas


def test_every_documented_schema_of_an_event_is_served(world: Described) -> None:
    for name in world.document["components"]["schemas"]["EventType"]["enum"]:
        answer = http().get(f"{world.platform}/spec/{name}.schema.json", timeout=10)
        assert answer.status_code == 200
        assert answer.json()["$id"] == answer.url
