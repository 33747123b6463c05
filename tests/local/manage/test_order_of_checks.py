"""The order of the checks of a call (contract/wire.md 2): route, identity, body, permission, existence."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import orjson
import pytest

from support.management import (
    CREATED,
    SID,
    Client,
    ManageApi,
    config,
    path_of,
    request,
    subscriber_body,
    subscription_body,
    without_permission,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROUTES = [
    ("/subscribers", {"GET", "POST"}),
    (f"/subscribers/{SID}", {"GET", "PATCH", "DELETE"}),
    (f"/subscribers/{SID}/subscriptions", {"GET", "POST"}),
    (f"/subscribers/{SID}/subscriptions/{SID}", {"GET", "PATCH", "DELETE"}),
    (f"/subscribers/{SID}/subscriptions/{SID}/suspend", {"POST"}),
    (f"/subscribers/{SID}/subscriptions/{SID}/resume", {"POST"}),
    ("/logs", {"GET"}),
]

METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE"}

WRITES = [
    ("POST", "/subscribers"),
    ("PATCH", f"/subscribers/{SID}"),
    ("POST", f"/subscribers/{SID}/subscriptions"),
    ("PATCH", f"/subscribers/{SID}/subscriptions/{SID}"),
]


@pytest.mark.parametrize("path", ["/", "/subscribers/", "/nothing", f"/subscribers/{SID}/", "/subscriptions"])
async def test_an_unknown_route_is_404_before_anything_else(world: ManageApi, path: str) -> None:
    answer = await request(world, "PUT", world.url + path, b"no json", {})
    assert answer.status == 404
    assert list(answer.body) == ["errors"]
    assert answer.body["errors"][0]["message"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [(method, path, allowed) for path, allowed in ROUTES for method in sorted(METHODS - allowed)],
)
async def test_a_wrong_method_is_405_with_what_is_allowed_before_the_identity(
    world: ManageApi, method: str, path: str, allowed: set[str]
) -> None:
    answer = await request(world, method, world.url + path, None, {})
    assert answer.status == 405
    assert set(answer.headers["Allow"].replace(" ", "").split(",")) - {"HEAD"} == allowed
    assert answer.body["errors"][0]["message"]


@pytest.mark.parametrize(
    ("method", "path"), [(method, path) for path, methods in ROUTES for method in sorted(methods)]
)
async def test_no_route_is_open_to_who_says_nothing(world: ManageApi, method: str, path: str) -> None:
    answer = await request(world, method, world.url + path, None, {})
    assert answer.status == 401


@pytest.mark.parametrize("missing", ["X-PIM-URL", "X-PIM-TOKEN", "X-PIM-CLIENT-ID"])
@pytest.mark.parametrize("blank", [None, "", " "], ids=["absent", "empty", "blank"])
async def test_a_missing_header_is_401_and_named(client: Client, missing: str, blank: str | None) -> None:
    headers = {name: value for name, value in client.identity().items() if name != missing}
    if blank is not None:
        headers[missing] = blank
    answer = await request(client.world, "GET", f"{client.url}/subscribers", None, headers)
    assert answer.status == 401
    assert missing in answer.message()


async def test_header_names_are_compared_without_case(client: Client) -> None:
    headers = {name.lower(): value for name, value in client.identity().items()}
    answer = await request(client.world, "GET", f"{client.url}/subscribers", None, headers)
    assert answer.status == 200


@pytest.mark.parametrize(
    "change",
    [{"token": "made-up"}, {"client_id": "shop"}, {"pim": "https://unknown.example.com"}, {"pim": "no url"}],
    ids=str,
)
async def test_who_is_not_proven_is_401(client: Client, change: dict[str, str]) -> None:
    answer = await replace(client, **change).call("GET", "/subscribers")
    assert answer.status == 401


@pytest.mark.parametrize(("method", "path"), WRITES)
@pytest.mark.parametrize(
    ("body", "media_type"),
    [(b"x" * 2_000_000, "application/json"), (b"{}", "text/plain"), (b"{", "application/json")],
    ids=["too large", "no json type", "no json"],
)
async def test_the_identity_is_checked_before_the_body(
    client: Client, method: str, path: str, body: bytes, media_type: str
) -> None:
    stranger = replace(client, token="made-up")
    answer = await stranger.send(method, path, body, content_type=media_type)
    assert answer.status == 401


@pytest.mark.parametrize(("method", "path"), WRITES)
async def test_a_body_over_256_kib_is_413(client: Client, method: str, path: str) -> None:
    too_large = b'{"name": "' + b"x" * (256 * 1024) + b'"}'
    assert (await client.send(method, path, too_large, content_type="application/json")).status == 413


async def test_a_body_over_256_kib_is_413_too_when_its_length_is_not_declared(client: Client) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b" " * 65536

    answer = await client.send("POST", "/subscribers", pieces(), content_type="application/json")
    assert answer.status == 413


async def test_a_body_of_just_256_kib_is_read(client: Client) -> None:
    text = orjson.dumps(subscriber_body())
    padded = text + b" " * (256 * 1024 - len(text))
    assert (await client.send("POST", "/subscribers", padded, content_type="application/json")).status == 201


@pytest.mark.parametrize(
    "values",
    [b"1," * 6000, b"{}," * 6000, b"[" * 100 + b"]" * 100 + b"," + (b"[" * 150 + b"]" * 150 + b",") * 40],
    ids=["numbers", "objects", "nested"],
)
async def test_a_body_of_too_many_values_is_413_before_it_is_parsed(client: Client, values: bytes) -> None:
    body = b'{"name": "ERP", "x": [' + values + b"1]}"
    answer = await client.send("POST", "/subscribers", body, content_type="application/json")
    assert (answer.status, answer.message()) == (413, "the body holds more than 5000 JSON values")


async def test_punctuation_within_texts_counts_as_no_value(client: Client) -> None:
    body = subscriber_body() | {"x": '\\",[{' * 10_000}
    assert (await client.call("POST", "/subscribers", body)).status == 201


@pytest.mark.parametrize("may_subscribe", [True, False])
async def test_a_text_that_is_too_long_is_refused_before_it_is_normalised(
    client: Client, may_subscribe: bool
) -> None:
    marks = "a" + "\u0315" * 25_000 + "\u0300" * 25_000  # many seconds to normalise (CPython gh-149079)
    body = subscriber_body(
        technical_email=f"{marks}@example.com", notification_webhook_url=f"https://{marks}"
    )
    async with AsyncExitStack() as stack:
        if not may_subscribe:
            client = stack.enter_context(without_permission(client))
        answer = await asyncio.wait_for(client.call("POST", "/subscribers", body), 10)
    assert answer.fields() == {"contact.technical_email", "contact.notification_webhook_url"}


@pytest.mark.parametrize(("method", "path"), WRITES)
@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonl"]
)
async def test_another_media_type_is_415_before_the_payload(
    client: Client, method: str, path: str, media_type: str
) -> None:
    assert (await client.send(method, path, b"{", content_type=media_type)).status == 415


async def test_no_media_type_is_415(client: Client) -> None:
    assert (await client.send("POST", "/subscribers", orjson.dumps(subscriber_body()))).status == 415


@pytest.mark.parametrize(
    "media_type", ["application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8"]
)
async def test_json_is_json_whatever_its_parameters_and_case(client: Client, media_type: str) -> None:
    body = orjson.dumps(subscriber_body())
    assert (await client.send("POST", "/subscribers", body, content_type=media_type)).status == 201


@pytest.mark.parametrize(("method", "path"), WRITES)
@pytest.mark.parametrize(
    "headers", [{}, {"content_type": "text/plain"}, {"content_type": "application/json"}]
)
async def test_an_empty_body_where_one_is_needed_is_400_never_415(
    client: Client, method: str, path: str, headers: dict[str, str]
) -> None:
    assert (await client.send(method, path, b"", **headers)).status == 400


@pytest.mark.parametrize(("method", "path"), WRITES)
@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b"7",
        b"\xff\xfe",
        b'{"name": NaN}',
        b'{"name": 9007199254740993}',
        b'{"name": "\\ud800"}',
        b'{"a":' * 300 + b"1" + b"}" * 300,
    ],
    ids=[
        "cut off",
        "array",
        "string",
        "null",
        "number",
        "not utf-8",
        "NaN",
        "large integer",
        "lone surrogate",
        "too deep",
    ],
)
async def test_what_is_no_json_object_is_400(client: Client, method: str, path: str, body: bytes) -> None:
    answer = await client.send(method, path, body, content_type="application/json")
    assert answer.status == 400
    assert answer.message()


BAD_PAYLOADS = [
    ("POST", "/subscribers", {"name": ""}),
    ("PATCH", f"/subscribers/{SID}", {"name": ""}),
    ("POST", f"/subscribers/{SID}/subscriptions", subscription_body(events=[])),
    ("PATCH", f"/subscribers/{SID}/subscriptions/{SID}", {"events": []}),
]

GOOD_PAYLOADS = [
    ("POST", "/subscribers", subscriber_body()),
    ("PATCH", f"/subscribers/{SID}", {"name": "Another"}),
    ("POST", f"/subscribers/{SID}/subscriptions", subscription_body()),
    ("PATCH", f"/subscribers/{SID}/subscriptions/{SID}", {"events": [CREATED]}),
    ("POST", f"/subscribers/{SID}/subscriptions/{SID}/resume", None),
]


@pytest.mark.parametrize(("method", "path", "body"), BAD_PAYLOADS)
async def test_the_payload_is_checked_before_the_permission(
    client: Client, method: str, path: str, body: Any
) -> None:
    with without_permission(client) as restricted:
        assert (await restricted.call(method, path, body)).status == 400


@pytest.mark.parametrize(("method", "path", "body"), GOOD_PAYLOADS)
async def test_the_permission_is_checked_before_existence(
    client: Client, method: str, path: str, body: Any
) -> None:
    with without_permission(client) as restricted:
        assert (await restricted.call(method, path, body)).status == 403


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        *GOOD_PAYLOADS[1:],
        ("GET", f"/subscribers/{SID}", None),
        ("DELETE", f"/subscribers/{SID}", None),
        ("GET", f"/subscribers/{SID}/subscriptions", None),
        ("GET", f"/subscribers/{SID}/subscriptions/{SID}", None),
        ("DELETE", f"/subscribers/{SID}/subscriptions/{SID}", None),
        ("POST", f"/subscribers/{SID}/subscriptions/{SID}/suspend", None),
        ("GET", "/subscribers/no-uuid", None),
        ("GET", "/subscribers/%00", None),
        ("GET", "/subscribers/%F0%9F%92%A9", None),
    ],
)
async def test_what_is_unknown_is_404(client: Client, method: str, path: str, body: Any) -> None:
    answer = await client.call(method, path, body)
    assert answer.status == 404
    assert list(answer.body) == ["errors"]


async def test_every_problem_is_listed_with_its_field(client: Client) -> None:
    body = {
        "name": 7,
        "contact": {
            "technical_email": "no address",
            "notification_channels": ["pigeon"],
            "notification_webhook_url": "ftp://127.0.0.1/",
            "notification_webhook_secret": "short",
        },
    }
    answer = await client.call("POST", "/subscribers", body)
    assert answer.fields() == {
        "name",
        "contact.technical_email",
        "contact.notification_channels.0",
        "contact.notification_webhook_url",
        "contact.notification_webhook_secret",
    }
    for error in answer.body["errors"]:
        assert error["message"].startswith(error["field"])


async def test_the_problems_of_fields_and_config_are_listed_together(client: Client) -> None:
    subscriber = await client.subscriber()
    body = {
        "events": ["nothing"],
        "type": "https",
        "config": {"url": "no url", "secret": {"primary": "short"}},
    }
    answer = await client.call("POST", f"{path_of(subscriber)}/subscriptions", body)
    assert answer.fields() == {"events.0", "config.url", "config.secret.primary"}


async def test_a_refusal_quotes_no_secret(client: Client) -> None:
    subscriber = await client.subscriber()
    value = "a-secret-that-ends-in-a-tab\t"
    body = subscription_body(config=config(secret={"primary": "tooshort-1234"}, headers={"X-Key": value}))
    answer = await client.call("POST", f"{path_of(subscriber)}/subscriptions", body)
    assert answer.fields() == {"config.secret.primary", "config.headers.X-Key"}
    assert "tooshort" not in answer.message()
    assert "ends-in-a-tab" not in answer.message()
