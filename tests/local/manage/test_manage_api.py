"""The management API against contract/wire.md 2 to 6 and 8.

The app is served over a socket, on the real SQLite store, and asks a simulated PIM over a socket. Each
test has a PIM of its own: they are paths of one server. Only the clock is a test's own.
"""

import asyncio
import itertools
import os
import re
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import aiohttp
import orjson
import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.routing import Mount

from aep.broker.queue import DurableQueue
from aep.sandbox import sim
from aep.serving import server
from aep.store.database import Database
from aep.store.logs import SqliteLogs
from aep.store.subscriptions import SqliteSubscriptions
from event_platform import manage
from event_platform.adapters.guard import GuardedNetwork, TrustedNetwork
from event_platform.adapters.https import HttpsPimGateway, HttpsSender
from event_platform.adapters.seal import AesGcmSeal
from event_platform.domain.events import catalog
from event_platform.domain.subscriptions import (
    Headers,
    HttpsConfig,
    Owner,
    Status,
    Subscriber,
    Subscription,
)
from event_platform.domain.tenants import Tenant
from event_platform.http import App
from event_platform.manage.identity import CallerVerifier
from support.clock import ManualClock
from support.dear_keys import a_certificate, a_dear_key, a_number, dsa_key, pem_of, rsa_key

pytestmark = pytest.mark.asyncio(loop_scope="module")

ERP = sim.Client("erp", "erp-secret", "erp-user", "erp-password")
SHOP = sim.Client("shop", "shop-secret", "shop-user", "shop-password")
STRICT_PIM = "https://pim.example.com"
STRICT_KEY = "the-platform-key-of-the-strict-pim"
REDACTED = "***redacted***"
UPDATED = "com.akeneo.pim.v1.product.updated"
CREATED = "com.akeneo.pim.v1.product.created"
DAY = 86400.0
PRIMARY = "primary-secret-of-the-subscription"
SECONDARY = "secondary-secret-of-the-subscription"
WEBHOOK = {
    "notification_webhook_url": "http://127.0.0.1:4/notify",
    "notification_webhook_secret": "secret-of-the-notifications",
}
SUBSCRIBER_KEYS = ["id", "name", "subject", "status", "contact", "created_at", "updated_at"]
SUBSCRIPTION_KEYS = [
    "id",
    "config",
    "events",
    "type",
    "source",
    "subject",
    "status",
    "subscriber_id",
    "created_at",
    "updated_at",
    "send_product_identifier",
]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: Any

    def fields(self) -> set[str]:
        """The fields that a 400 names."""
        assert self.status == 400, self
        return {error.get("field", "") for error in self.body["errors"]}

    def message(self) -> str:
        return " ".join(error["message"] for error in self.body["errors"])


class Registry:
    """The port `TenantRegistry`, which tests add to."""

    def __init__(self) -> None:
        self.entries: list[Tenant] = []

    async def tenants(self) -> list[Tenant]:
        return self.entries


class Labels(dict[tuple[str, str, str], str]):
    """The port `TopicLabels`, which tests write."""

    async def label(self, project_id: str, topic_id: str, name: str) -> str | None:
        return self.get((project_id, topic_id, name))


@dataclass
class World:
    session: aiohttp.ClientSession
    clock: ManualClock
    store: SqliteSubscriptions
    registry: Registry
    url: str
    strict_url: str  # of an app without the exceptions for development
    pims_url: str
    pims: sim.Pim
    labels: Labels


@dataclass
class Client:
    """Calls the API as a client of one PIM does."""

    world: World
    url: str
    pim: str
    token: str
    client_id: str

    @property
    def owner(self) -> Owner:
        return Owner(self.pim, self.client_id)

    def identity(self) -> dict[str, str]:
        return {"X-PIM-URL": self.pim, "X-PIM-TOKEN": self.token, "X-PIM-CLIENT-ID": self.client_id}

    async def send(self, method: str, path: str, data: Any = None, **headers: str) -> Answer:
        """A request with just these bytes and headers, beside the identity."""
        return await request(
            self.world,
            method,
            self.url + path,
            data,
            self.identity() | {name.replace("_", "-"): value for name, value in headers.items()},
        )

    async def call(self, method: str, path: str, body: Any = None) -> Answer:
        """A request with a JSON body, or with none."""
        if body is None:
            return await self.send(method, path)
        return await self.send(method, path, orjson.dumps(body), content_type="application/json")

    async def get(self, path: str) -> Any:
        answer = await self.call("GET", path)
        assert answer.status == 200, answer
        return answer.body

    async def changed(self, path: str, body: Any) -> Any:
        """The resource after a PATCH that has to succeed."""
        answer = await self.call("PATCH", path, body)
        assert answer.status == 200, answer
        return answer.body

    async def subscriber(self, **contact: Any) -> dict[str, Any]:
        answer = await self.call("POST", "/subscribers", subscriber_body(**contact))
        assert answer.status == 201, answer
        return answer.body

    async def subscription(self, subscriber: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
        body = subscription_body(**changes)
        answer = await self.call("POST", f"/subscribers/{subscriber['id']}/subscriptions", body)
        assert answer.status == 201, answer
        return answer.body

    async def stored(self, row: Mapping[str, Any]) -> HttpsConfig:
        """The config behind what is redacted."""
        config = (await self.world.store.subscription(self.owner, row["subscriber_id"], row["id"])).config
        assert isinstance(config, HttpsConfig)
        return config


async def request(world: World, method: str, url: str, data: Any, headers: Mapping[str, str]) -> Answer:
    async with world.session.request(
        method, url, data=data, headers=headers, skip_auto_headers=["Content-Type"], allow_redirects=False
    ) as response:
        text = await response.read()
        return Answer(response.status, response.headers, orjson.loads(text) if text else None)


def subscriber_body(**contact: Any) -> dict[str, Any]:
    return {"name": "ERP connector", "contact": {"technical_email": "ops@example.com", **contact}}


def config(**changes: Any) -> dict[str, Any]:
    """Loopback by number: the check of the host needs no look-up then."""
    return {"url": "http://127.0.0.1:4/hook", "secret": {"primary": PRIMARY}} | changes


PUBLIC = config(url="https://93.184.215.14/hook")


def subscription_body(**changes: Any) -> dict[str, Any]:
    return {"events": [UPDATED], "type": "https", "config": config()} | changes


def path_of(row: Mapping[str, Any]) -> str:
    """Where a resource that was answered stands."""
    if "subscriber_id" in row:
        return f"/subscribers/{row['subscriber_id']}/subscriptions/{row['id']}"
    return f"/subscribers/{row['id']}"


def without(row: dict[str, Any], path: str) -> dict[str, Any]:
    """A copy that lacks the key at a dotted path."""
    copy = orjson.loads(orjson.dumps(row))
    *parents, last = path.split(".")
    holder = copy
    for key in parents:
        holder = holder[key]
    del holder[last]
    return copy


def secret_values(headers: Headers) -> dict[str, str]:
    return {name: value.get_secret_value() for name, value in headers.items()}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    clock, registry, labels = ManualClock(), Registry(), Labels()
    database = Database(tmp_path_factory.mktemp("manage-api"))
    database.open()
    store = SqliteSubscriptions(database, AesGcmSeal(os.urandom(32)))
    guards = {True: GuardedNetwork(allow_loopback=True), False: GuardedNetwork()}
    gateway = HttpsPimGateway(guards[True], TrustedNetwork())
    sender = HttpsSender(guards[True])
    queue = DurableQueue(database, store, clock, schema_base="https://events.example.com/spec")

    def app(*, allow_http: bool) -> App:
        verifier = CallerVerifier(registry, gateway, clock, allow_http=allow_http)
        parts = manage.Manage(
            verifier,
            store,
            SqliteLogs(database),
            guards[allow_http],
            clock,
            queue,
            sender,
            allow_http,
            topic_labels=labels,
        )
        return App(manage.routes(parts))

    pim = sim.create_app([ERP, SHOP], clock.now)
    async with AsyncExitStack() as stack:
        pims = Starlette(routes=[Mount("/{name}", app=pim)])
        pims_url = await stack.enter_async_context(server.running(pims))
        url = await stack.enter_async_context(server.running(app(allow_http=True)))
        strict_url = await stack.enter_async_context(server.running(app(allow_http=False)))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield World(
            session,
            clock,
            store,
            registry,
            f"{url}/api/v1",
            f"{strict_url}/api/v1",
            pims_url,
            pim.state.pim,
            labels,
        )
    await gateway.close()
    await sender.close()
    await database.close()


_numbers = itertools.count(1)


@pytest.fixture
def pim(world: World) -> str:
    """The URL of a PIM that no other test has."""
    url = f"{world.pims_url}/pim-{next(_numbers)}"
    world.registry.entries.append(Tenant(url=url))
    return url


@pytest.fixture
def client(world: World, pim: str) -> Client:
    return client_of(world, pim, ERP)


@pytest.fixture
def other(world: World, pim: str) -> Client:
    """Another client of the same PIM."""
    return client_of(world, pim, SHOP)


@contextmanager
def without_permission(client: Client) -> Iterator[Client]:
    """The same client with a new token, after its connection lost the permission in the PIM."""
    lost = client.world.pims.permit("erp", event_platform=False)
    try:
        yield client_of(client.world, client.pim, lost)
    finally:
        client.world.pims.permit("erp", event_platform=True)


@pytest.fixture
def strict(world: World) -> Client:
    """A client of a platform that takes https and public addresses only."""
    name = f"pim-{next(_numbers)}.example.com"
    digest = sha256(STRICT_KEY.encode()).hexdigest()
    world.registry.entries.append(
        Tenant.model_validate(
            {
                "url": f"https://{name}",
                "auth": "platform-key",
                "clients": [{"client_id": "erp", "key_sha256": digest}],
            }
        )
    )
    return Client(world, world.strict_url, f"https://{name}", STRICT_KEY, "erp")


def client_of(world: World, pim: str, who: sim.Client) -> Client:
    token = world.pims.grant(
        who, {"grant_type": "password", "username": who.username, "password": who.password}
    )["access_token"]
    return Client(world, world.url, pim, token, who.client_id)


# Section 2: the order of checks


SID = "0190f3a0-0000-7000-8000-000000000001"
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
async def test_an_unknown_route_is_404_before_anything_else(world: World, path: str) -> None:
    answer = await request(world, "PUT", world.url + path, b"no json", {})
    assert answer.status == 404
    assert list(answer.body) == ["errors"]
    assert answer.body["errors"][0]["message"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [(method, path, allowed) for path, allowed in ROUTES for method in sorted(METHODS - allowed)],
)
async def test_a_wrong_method_is_405_with_what_is_allowed_before_the_identity(
    world: World, method: str, path: str, allowed: set[str]
) -> None:
    answer = await request(world, method, world.url + path, None, {})
    assert answer.status == 405
    assert set(answer.headers["Allow"].replace(" ", "").split(",")) - {"HEAD"} == allowed
    assert answer.body["errors"][0]["message"]


@pytest.mark.parametrize(
    ("method", "path"), [(method, path) for path, methods in ROUTES for method in sorted(methods)]
)
async def test_no_route_is_open_to_who_says_nothing(world: World, method: str, path: str) -> None:
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


# Section 3: subscribers


async def test_a_new_subscriber_is_answered_as_the_contract_has_it(client: Client) -> None:
    answer = await client.call("POST", "/subscribers", subscriber_body())
    assert answer.status == 201
    assert answer.headers["Content-Type"] == "application/json"
    now = client.world.clock.now().strftime("%Y-%m-%dT%H:%M:%S.000Z")
    assert list(answer.body) == SUBSCRIBER_KEYS
    assert uuid.UUID(answer.body["id"]).version == 7
    assert without(answer.body, "id") == {
        "name": "ERP connector",
        "subject": client.pim,
        "status": "active",
        "contact": {"technical_email": "ops@example.com", "notification_channels": ["email"]},
        "created_at": now,
        "updated_at": now,
    }


async def test_a_contact_with_a_webhook_shows_its_url_and_never_its_secret(client: Client) -> None:
    created = await client.subscriber(notification_channels=["webhook", "email", "webhook"], **WEBHOOK)
    assert list(created["contact"].items()) == [
        ("technical_email", "ops@example.com"),
        ("notification_channels", ["webhook", "email"]),
        ("notification_webhook_url", WEBHOOK["notification_webhook_url"]),
    ]
    for shown in (created, await client.get(path_of(created)), await client.get("/subscribers")):
        assert WEBHOOK["notification_webhook_secret"] not in str(shown)
    assert await client.get(path_of(created)) == created
    assert list(await client.get(path_of(created))) == SUBSCRIBER_KEYS


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"name", "contact"}),
        (without(subscriber_body(), "name"), {"name"}),
        (subscriber_body() | {"name": ""}, {"name"}),
        (subscriber_body() | {"name": " "}, {"name"}),
        (subscriber_body() | {"name": None}, {"name"}),
        (subscriber_body() | {"name": ["x"]}, {"name"}),
        (subscriber_body() | {"contact": "ops@example.com"}, {"contact"}),
        (subscriber_body() | {"contact": None}, {"contact"}),
        ({"name": "x", "contact": {}}, {"contact.technical_email"}),
        (subscriber_body(technical_email="ops"), {"contact.technical_email"}),
        (subscriber_body(technical_email=None), {"contact.technical_email"}),
        (subscriber_body(notification_channels="email"), {"contact.notification_channels"}),
        (subscriber_body(notification_channels=["sms"]), {"contact.notification_channels.0"}),
        (
            subscriber_body(notification_channels=["webhook"]),
            {"contact.notification_webhook_url", "contact.notification_webhook_secret"},
        ),
        (
            subscriber_body(**WEBHOOK | {"notification_webhook_secret": "x" * 15}),
            {"contact.notification_webhook_secret"},
        ),
        (
            subscriber_body(**WEBHOOK | {"notification_webhook_secret": "x" * 257}),
            {"contact.notification_webhook_secret"},
        ),
        (
            subscriber_body(**WEBHOOK | {"notification_webhook_secret": REDACTED}),
            {"contact.notification_webhook_secret"},
        ),
        (
            subscriber_body(**WEBHOOK | {"notification_webhook_url": "http://10.0.0.1/"}),
            {"contact.notification_webhook_url"},
        ),
        (
            subscriber_body(**WEBHOOK | {"notification_webhook_url": "http://u:p@127.0.0.1/"}),
            {"contact.notification_webhook_url"},
        ),
    ],
)
async def test_a_bad_subscriber_is_refused_by_field(client: Client, body: Any, fields: set[str]) -> None:
    answer = await client.call("POST", "/subscribers", body)
    assert answer.fields() == fields
    assert await client.get("/subscribers") == []


@pytest.mark.parametrize("length", [16, 256])
async def test_a_notification_secret_has_16_to_256_characters(client: Client, length: int) -> None:
    await client.subscriber(**WEBHOOK | {"notification_webhook_secret": "x" * length})


@pytest.mark.parametrize(
    "url",
    [
        "http://93.184.215.14/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://10.0.0.1/",
        "https://localhost/",
    ],
)
async def test_notifications_go_to_public_https_urls_only(strict: Client, url: str) -> None:
    body = subscriber_body(**WEBHOOK | {"notification_webhook_url": url})
    assert (await strict.call("POST", "/subscribers", body)).fields() == {"contact.notification_webhook_url"}
    body = subscriber_body(**WEBHOOK | {"notification_webhook_url": "https://93.184.215.14/"})
    assert (await strict.call("POST", "/subscribers", body)).status == 201


EMAIL = {"technical_email": "ops@example.com"}
URL = {"notification_webhook_url": WEBHOOK["notification_webhook_url"]}
SECRET = {"notification_webhook_secret": WEBHOOK["notification_webhook_secret"]}
ON_WEBHOOK: dict[str, Any] = {**EMAIL, "notification_channels": ["webhook"], **WEBHOOK}


@pytest.mark.parametrize(
    ("contact", "patch", "after"),
    [
        ({}, {}, {**EMAIL, "notification_channels": ["email"]}),
        (
            {},
            {"technical_email": "new@example.com"},
            {"technical_email": "new@example.com", "notification_channels": ["email"]},
        ),
        (
            ON_WEBHOOK,
            {"technical_email": "new@example.com"},
            {"technical_email": "new@example.com", "notification_channels": ["webhook"], **URL},
        ),
        (ON_WEBHOOK, {"notification_channels": []}, {**EMAIL, "notification_channels": ["email"], **URL}),
        (
            ON_WEBHOOK,
            {"notification_channels": ["email", "webhook", "email"]},
            {**EMAIL, "notification_channels": ["email", "webhook"], **URL},
        ),
        (
            WEBHOOK,
            {"notification_channels": ["webhook"]},
            {**EMAIL, "notification_channels": ["webhook"], **URL},
        ),
        (
            URL,
            {"notification_channels": ["webhook"], **SECRET},
            {**EMAIL, "notification_channels": ["webhook"], **URL},
        ),
        (
            ON_WEBHOOK,
            {"notification_webhook_url": "http://127.0.0.1:4/other"},
            {
                **EMAIL,
                "notification_channels": ["webhook"],
                "notification_webhook_url": "http://127.0.0.1:4/other",
            },
        ),
        (
            ON_WEBHOOK,
            {"notification_channels": ["email"], "notification_webhook_url": None},
            {**EMAIL, "notification_channels": ["email"]},
        ),
        (
            ON_WEBHOOK,
            {"notification_webhook_secret": REDACTED},
            {**EMAIL, "notification_channels": ["webhook"], **URL},
        ),
    ],
)
async def test_a_contact_is_merged_key_by_key(
    client: Client, contact: dict[str, Any], patch: dict[str, Any], after: dict[str, Any]
) -> None:
    created = await client.subscriber(**contact)
    changed = await client.changed(path_of(created), {"contact": patch})
    assert changed["contact"] == after
    assert changed["name"] == created["name"]
    assert await client.get(path_of(created)) == changed


@pytest.mark.parametrize(
    ("contact", "patch", "fields"),
    [
        (
            {},
            {"notification_channels": ["webhook"]},
            {"contact.notification_webhook_url", "contact.notification_webhook_secret"},
        ),
        (URL, {"notification_channels": ["webhook"]}, {"contact.notification_webhook_secret"}),
        (ON_WEBHOOK, {"notification_webhook_url": None}, {"contact.notification_webhook_url"}),
        (ON_WEBHOOK, {"notification_webhook_secret": None}, {"contact.notification_webhook_secret"}),
        ({}, {"notification_webhook_secret": REDACTED}, {"contact.notification_webhook_secret"}),
        ({}, {"technical_email": None}, {"contact.technical_email"}),
        ({}, {"technical_email": ""}, {"contact.technical_email"}),
        ({}, {"notification_channels": ["sms"]}, {"contact.notification_channels.0"}),
    ],
)
async def test_a_merge_that_ends_in_a_bad_contact_is_refused_and_changes_nothing(
    client: Client, contact: dict[str, Any], patch: dict[str, Any], fields: set[str]
) -> None:
    created = await client.subscriber(**contact)
    answer = await client.call("PATCH", path_of(created), {"name": "Changed", "contact": patch})
    assert answer.fields() == fields
    assert await client.get(path_of(created)) == created


async def test_a_subscriber_can_be_renamed_alone(client: Client) -> None:
    created = await client.subscriber(**ON_WEBHOOK)
    await client.world.clock.advance(1)
    changed = await client.changed(path_of(created), {"name": "Renamed"})
    assert changed == created | {"name": "Renamed", "updated_at": changed["updated_at"]}
    assert changed["updated_at"] > created["updated_at"]
    assert list(changed) == SUBSCRIBER_KEYS


READ_ONLY = {
    "id": SID,
    "status": "deleted",
    "subscriber_id": SID,
    "subject": "https://another.example.com",
    "created_at": "2001-01-01T00:00:00Z",
    "updated_at": None,
    "owner": {"client_id": "shop"},
    "unknown": [1, 2],
}


async def test_unknown_and_read_only_keys_of_a_subscriber_are_ignored(client: Client) -> None:
    created = (await client.call("POST", "/subscribers", READ_ONLY | subscriber_body(also="unknown"))).body
    assert created["id"] != SID
    assert (created["status"], created["subject"]) == ("active", client.pim)
    await client.world.clock.advance(1)
    assert await client.changed(path_of(created), READ_ONLY) == created


async def test_a_whole_subscriber_sent_back_changes_nothing(client: Client) -> None:
    created = await client.subscriber(**ON_WEBHOOK)
    await client.world.clock.advance(1)
    assert await client.changed(path_of(created), created) == created
    assert await client.get(path_of(created)) == created


# Section 4: subscriptions


async def test_a_new_subscription_is_answered_as_the_contract_has_it(client: Client) -> None:
    subscriber = await client.subscriber()
    answer = await client.call("POST", f"{path_of(subscriber)}/subscriptions", subscription_body())
    assert answer.status == 201
    now = client.world.clock.now().strftime("%Y-%m-%dT%H:%M:%S.000Z")
    assert list(answer.body) == SUBSCRIPTION_KEYS
    assert uuid.UUID(answer.body["id"]).version == 7
    assert without(answer.body, "id") == {
        "config": {"url": "http://127.0.0.1:4/hook", "secret": {"primary": REDACTED}},
        "events": [UPDATED],
        "type": "https",
        "source": "pim",
        "subject": client.pim,
        "status": "active",
        "subscriber_id": subscriber["id"],
        "created_at": now,
        "updated_at": now,
        "send_product_identifier": False,
    }
    assert await client.get(path_of(answer.body)) == answer.body


async def test_a_full_subscription_is_answered_with_everything_hidden_that_is_secret(client: Client) -> None:
    row = await client.subscription(
        await client.subscriber(),
        source="benchmark",
        subject=f"{client.pim}/",
        events=[CREATED, UPDATED, CREATED],
        config=config(
            secret={"primary": PRIMARY, "secondary": SECONDARY}, headers={"X-Key": "hidden", "x-other": ""}
        ),
        filter='user = "julia" or not scope in ["print"]',
        send_product_identifier=True,
        options={"send_product_identifier_in_changes": True, "unknown": 1},
    )
    assert list(row) == [*SUBSCRIPTION_KEYS[:-1], "filter", SUBSCRIPTION_KEYS[-1], "options"]
    assert row["filter"] == 'user = "julia" or not scope in ["print"]'
    assert list(row["config"]) == ["url", "secret", "headers"]
    assert row["config"] == {
        "url": "http://127.0.0.1:4/hook",
        "secret": {"primary": REDACTED, "secondary": REDACTED},
        "headers": {"X-Key": REDACTED, "x-other": REDACTED},
    }
    assert (row["events"], row["source"], row["subject"]) == (
        [CREATED, UPDATED],
        "benchmark",
        f"{client.pim}/",
    )
    assert row["send_product_identifier"] is True
    assert row["options"] == {"send_product_identifier_in_changes": True}
    stored = await client.stored(row)
    assert stored.primary_secret.get_secret_value() == PRIMARY
    assert stored.secondary_secret is not None
    assert stored.secondary_secret.get_secret_value() == SECONDARY
    assert secret_values(stored.headers) == {"X-Key": "hidden", "x-other": ""}


@pytest.mark.parametrize("secondary", [None, ""], ids=["null", "empty"])
async def test_a_secondary_secret_of_nothing_is_none(client: Client, secondary: str | None) -> None:
    secret = {"primary": PRIMARY, "secondary": secondary}
    row = await client.subscription(await client.subscriber(), config=config(secret=secret))
    assert row["config"]["secret"] == {"primary": REDACTED}
    assert (await client.stored(row)).secondary_secret is None


FILTER = 'user_type = "user" and not user in ["julia", "peter"]'


async def test_a_filter_is_changed_kept_and_removed_as_the_body_says(client: Client) -> None:
    row = await client.subscription(await client.subscriber(), filter=FILTER)
    assert (row["filter"], (await client.get(path_of(row)))["filter"]) == (FILTER, FILTER)
    assert (await client.changed(path_of(row), {"events": [CREATED]}))["filter"] == FILTER
    assert (await client.changed(path_of(row), {"filter": 'user = "x"'}))["filter"] == 'user = "x"'


@pytest.mark.parametrize("nothing", [None, ""], ids=["null", "empty"])
async def test_a_filter_of_nothing_is_none(client: Client, nothing: str | None) -> None:
    subscriber = await client.subscriber()
    assert "filter" not in await client.subscription(subscriber, filter=nothing)
    row = await client.subscription(subscriber, filter=FILTER)
    changed = await client.changed(path_of(row), {"filter": nothing})
    assert changed == without(row, "filter") | {"updated_at": changed["updated_at"]}
    assert await client.get(path_of(row)) == changed


async def test_a_wrong_filter_is_refused_with_the_place_and_changes_nothing(client: Client) -> None:
    subscriber = await client.subscriber()
    row = await client.subscription(subscriber, filter=FILTER)
    wrong = 'user = "julia" and locael = "fr_FR"'
    expected = [
        {
            "message": "filter: at character 20: unknown field 'locael'; did you mean 'locale'?"
            f"\n{wrong}\n                   ^",
            "field": "filter",
        }
    ]
    answers = [
        await client.call("PATCH", path_of(row), {"filter": wrong, "events": [CREATED]}),
        await client.call("POST", f"{path_of(subscriber)}/subscriptions", subscription_body(filter=wrong)),
    ]
    assert [(answer.status, answer.body["errors"]) for answer in answers] == [(400, expected)] * 2
    assert await client.get(path_of(row)) == row


@pytest.mark.parametrize("length", [16, 256])
async def test_a_signing_secret_has_16_to_256_characters(client: Client, length: int) -> None:
    secret = {"primary": "p" * length, "secondary": "s" * length}
    await client.subscription(await client.subscriber(), config=config(secret=secret))


BAD_SUBSCRIPTIONS: list[tuple[Any, set[str]]] = [
    ({}, {"events", "type", "config"}),
    (without(subscription_body(), "events"), {"events"}),
    (subscription_body(events=[]), {"events"}),
    (subscription_body(events=UPDATED), {"events"}),
    (subscription_body(events=[7]), {"events.0"}),
    (subscription_body(events=[UPDATED, "product.updated"]), {"events.1"}),
    (without(subscription_body(), "type"), {"type"}),
    (subscription_body(type="http"), {"type"}),
    (subscription_body(type=[]), {"type"}),
    (subscription_body(source="erp"), {"source"}),
    (subscription_body(subject="https://another.example.com"), {"subject"}),
    (subscription_body(subject=""), {"subject"}),
    (subscription_body(subject=7), {"subject"}),
    (subscription_body(send_product_identifier="true"), {"send_product_identifier"}),
    (subscription_body(filter=7), {"filter"}),
    (subscription_body(filter="x" * 501), {"filter"}),
    (subscription_body(filter=" "), {"filter"}),
    (subscription_body(filter='usr = "julia"', events=[]), {"filter", "events"}),
    (subscription_body(options=[1]), {"options"}),
    (
        subscription_body(options={"send_product_identifier_in_changes": 1}),
        {"options.send_product_identifier_in_changes"},
    ),
    (without(subscription_body(), "config"), {"config"}),
    (subscription_body(config=[]), {"config"}),
    (subscription_body(config={}), {"config.url", "config.secret"}),
    (subscription_body(config=config(url=7)), {"config.url"}),
    (subscription_body(config=config(url="")), {"config.url"}),
    (subscription_body(config=config(url="ftp://127.0.0.1/")), {"config.url"}),
    (subscription_body(config=config(url="http://127.0.0.1/#part")), {"config.url"}),
    (subscription_body(config=config(url="http://user:pass@127.0.0.1/")), {"config.url"}),
    (subscription_body(config=config(url="http://127.0.0.1:70000/")), {"config.url"}),
    (subscription_body(config=config(url="http://10.0.0.1/")), {"config.url"}),
    (subscription_body(config=config(url="http://169.254.169.254/latest")), {"config.url"}),
    (subscription_body(config=config(url="http://[::ffff:10.0.0.1]/")), {"config.url"}),
    (subscription_body(config=config(url="http://0x7f.1/")), {"config.url"}),
    (subscription_body(config=config(url="http://db.internal/")), {"config.url"}),
    (subscription_body(config=config(secret=PRIMARY)), {"config.secret"}),
    (subscription_body(config=config(secret={})), {"config.secret.primary"}),
    (subscription_body(config=config(secret={"primary": None})), {"config.secret.primary"}),
    (subscription_body(config=config(secret={"primary": ""})), {"config.secret.primary"}),
    (subscription_body(config=config(secret={"primary": "x" * 15})), {"config.secret.primary"}),
    (subscription_body(config=config(secret={"primary": "x" * 257})), {"config.secret.primary"}),
    (subscription_body(config=config(secret={"primary": REDACTED})), {"config.secret.primary"}),
    (
        subscription_body(config=config(secret={"primary": PRIMARY, "secondary": "short"})),
        {"config.secret.secondary"},
    ),
    (
        subscription_body(config=config(secret={"primary": PRIMARY, "secondary": REDACTED})),
        {"config.secret.secondary"},
    ),
    (subscription_body(config=config(headers={"X-Key": REDACTED})), {"config.headers.X-Key"}),
    (subscription_body(config=config(headers=["X-Key"])), {"config.headers"}),
]


@pytest.mark.parametrize(("body", "fields"), BAD_SUBSCRIPTIONS)
async def test_a_bad_subscription_is_refused_by_field(client: Client, body: Any, fields: set[str]) -> None:
    subscriber = await client.subscriber()
    answer = await client.call("POST", f"{path_of(subscriber)}/subscriptions", body)
    assert answer.fields() == fields
    assert await client.get(f"{path_of(subscriber)}/subscriptions") == []


@pytest.mark.parametrize(
    "url",
    [
        "http://93.184.215.14/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://10.0.0.1/",
        "https://localhost/",
    ],
)
async def test_deliveries_go_to_public_https_urls_only(strict: Client, url: str) -> None:
    subscriber = await strict.subscriber()
    path = f"{path_of(subscriber)}/subscriptions"
    body = subscription_body(config=config(url=url))
    assert (await strict.call("POST", path, body)).fields() == {"config.url"}
    row = await strict.subscription(subscriber, config=PUBLIC)
    assert (await strict.call("PATCH", path_of(row), {"config": config(url=url)})).fields() == {"config.url"}


async def test_an_unknown_event_type_is_refused_with_the_nearest_known_one(client: Client) -> None:
    subscriber = await client.subscriber()
    body = subscription_body(events=["com.akeneo.pim.v1.product.update"])
    answer = await client.call("POST", f"{path_of(subscriber)}/subscriptions", body)
    assert UPDATED in answer.message()


async def test_every_type_of_the_catalog_can_be_subscribed_to(client: Client) -> None:
    names = list(catalog.load().types)
    assert (await client.subscription(await client.subscriber(), events=names))["events"] == names


PEM_CONFIG = {"server_name": "k", "ca_pem": "x", "client_cert_pem": "x", "client_key_pem": "x"}
SASL = {"mechanism": "plain", "username": "u", "password": "p"}
KAFKA: dict[str, Any] = {"broker": "broker.example.com:9092", "topic": "events", "sasl_auth": SASL}
PUBSUB: dict[str, Any] = {"project_id": "my-project", "topic_id": "pim-events"}


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"type": "pubsub", "config": {}}, {"config.project_id", "config.topic_id"}),
        ({"type": "pubsub", "config": PUBSUB | {"project_id": "X"}}, {"config.project_id"}),
        ({"type": "pubsub", "config": PUBSUB | {"headers": {"Host": "x"}}}, {"config.headers.Host"}),
        ({"type": "kafka", "config": {}}, {"config.broker", "config.topic", "config.sasl_auth"}),
        ({"type": "kafka", "config": KAFKA | {"broker": "no-port"}}, {"config.broker"}),
        ({"type": "kafka", "config": KAFKA | {"broker": "b:70000"}}, {"config.broker"}),
        ({"type": "kafka", "config": KAFKA | {"topic": "a b"}}, {"config.topic"}),
        (
            {"type": "kafka", "config": KAFKA | {"sasl_auth": SASL | {"mechanism": "scram"}}},
            {"config.sasl_auth"},
        ),
        (
            {"type": "kafka", "config": KAFKA | {"sasl_auth": SASL | {"password": REDACTED}}},
            {"config.sasl_auth.password"},
        ),
        (
            {"type": "kafka", "config": KAFKA | {"tls": without(PEM_CONFIG, "ca_pem")}},
            {"config.tls.ca_pem", "config.tls.client_cert_pem", "config.tls.client_key_pem"},
        ),
        ({"type": "pubsub", "config": PUBSUB, "events": []}, {"events"}),
        ({"filter": 'user="julia"', "events": []}, {"events"}),
    ],
)
async def test_destinations_that_are_brokers_are_validated(
    client: Client, change: dict[str, Any], fields: set[str]
) -> None:
    subscriber = await client.subscriber()
    answer = await client.call("POST", f"{path_of(subscriber)}/subscriptions", subscription_body(**change))
    assert answer.fields() == fields
    assert "not delivered" not in answer.message()


async def test_a_change_keeps_what_it_does_not_name(client: Client) -> None:
    row = await client.subscription(
        await client.subscriber(), options={"send_product_identifier_in_changes": False}
    )
    await client.world.clock.advance(1)
    changed = await client.changed(path_of(row), {"events": [CREATED]})
    assert changed == row | {"events": [CREATED], "updated_at": changed["updated_at"]}
    assert changed["updated_at"] > row["updated_at"]
    changed = await client.changed(path_of(row), {"send_product_identifier": True, "source": "benchmark"})
    assert (changed["send_product_identifier"], changed["source"]) == (True, "benchmark")
    assert changed["events"] == [CREATED]
    assert changed["options"] == {"send_product_identifier_in_changes": False}
    assert "options" not in await client.changed(path_of(row), {"options": None})


FULL: dict[str, Any] = {
    "source": "benchmark",
    "filter": FILTER,
    "send_product_identifier": True,
    "options": {"send_product_identifier_in_changes": True},
}


async def test_null_is_as_absent_in_what_is_new_and_the_default_in_a_change(client: Client) -> None:
    subscriber = await client.subscriber()
    plain = await client.subscription(subscriber)
    own = dict.fromkeys(("id", "created_at", "updated_at"))
    nulls: dict[str, Any] = {**dict.fromkeys(FULL), "subject": None, "options": []}
    of_nulls = await client.subscription(subscriber, config=config(headers=[]), **nulls)
    assert of_nulls | own == plain | own
    for name in FULL:
        row = await client.subscription(subscriber, **FULL)
        changed = await client.changed(path_of(row), {name: None})
        assert {**changed, name: plain.get(name)} == {
            **row,
            name: plain.get(name),
            "updated_at": changed["updated_at"],
        }
        assert changed.get(name) == plain.get(name)
    row = await client.subscription(subscriber, **FULL)
    assert (await client.changed(path_of(row), {"options": []}))["options"] == {}
    assert (await client.changed(path_of(row), {"subject": None}))["subject"] == plain["subject"]
    for name in ("events", "type", "config"):
        answer = await client.call("PATCH", path_of(row), {name: None})
        assert answer.fields() == {name}
        assert "is required, it cannot be null" in answer.message()


async def test_null_in_a_contact_is_as_absent_or_the_default(client: Client) -> None:
    optional = ("notification_channels", "notification_webhook_url", "notification_webhook_secret")
    assert (await client.subscriber(**dict.fromkeys(optional)))["contact"] == subscriber_body()["contact"] | {
        "notification_channels": ["email"]
    }
    row = await client.subscriber(notification_channels=["webhook"], **WEBHOOK)
    changed = await client.changed(path_of(row), {"contact": dict.fromkeys(optional)})
    assert changed["contact"] == {
        "technical_email": row["contact"]["technical_email"],
        "notification_channels": ["email"],
    }
    assert await client.changed(path_of(row), {"contact": []}) == changed
    for patch, field in [({"name": None}, "name"), ({"contact": None}, "contact")]:
        assert (await client.call("PATCH", path_of(row), patch)).fields() == {field}


@pytest.mark.parametrize(
    "patch",
    [
        {},
        {"filter": None},
        {"filter": ""},
        {"subject": None},
        READ_ONLY | {"subject": None},
        {"type": "https"},
        {"events": [UPDATED, UPDATED]},
        {"config": config(secret={"primary": REDACTED, "secondary": REDACTED})},
    ],
    ids=str,
)
async def test_a_change_that_names_nothing_new_changes_nothing(client: Client, patch: dict[str, Any]) -> None:
    row = await client.subscription(await client.subscriber(), config=full_config())
    await client.world.clock.advance(1)
    assert await client.changed(path_of(row), patch) == row


def full_config(**changes: Any) -> dict[str, Any]:
    return (
        config(secret={"primary": PRIMARY, "secondary": SECONDARY}, headers={"X-Key": "hidden", "X-B": "2"})
        | changes
    )


async def test_a_whole_subscription_sent_back_changes_nothing(client: Client) -> None:
    row = await client.subscription(
        await client.subscriber(),
        config=full_config(),
        options={"send_product_identifier_in_changes": True},
        send_product_identifier=True,
    )
    before = await client.stored(row)
    await client.world.clock.advance(1)
    assert await client.changed(path_of(row), row) == row
    assert await client.get(path_of(row)) == row
    assert await client.stored(row) == before


async def test_a_key_of_8192_bits_is_taken_and_a_dearer_one_refused_at_once(client: Client) -> None:
    key = a_dear_key(8192)
    tls = {"server_name": "kafka.example.com", "ca_pem": a_certificate(key.public_key())}
    tls |= {"client_cert_pem": a_certificate(key.public_key()), "client_key_pem": pem_of(key)}
    sasl = {"mechanism": "plain", "username": "u", "password": "p"}
    kafka = {"broker": "93.184.215.14:9093", "topic": "events", "sasl_auth": sasl, "tls": tls}
    path = f"{path_of(await client.subscriber())}/subscriptions"
    body = subscription_body(type="kafka", config=kafka)
    started = time.thread_time()
    assert (await client.call("POST", path, body)).status == 201
    for wrong in (dsa_key(30_000), rsa_key(*(a_number(2000) for _ in range(8)))):
        tls["client_key_pem"] = wrong
        assert (await client.call("POST", path, body)).fields() == {"config.tls.client_key_pem"}
    assert time.thread_time() - started < 0.5


@pytest.mark.parametrize(
    ("patch", "after"),
    [
        (
            config(url="http://127.0.0.1:4/other", secret={"primary": REDACTED}),
            ("http://127.0.0.1:4/other", PRIMARY, None, {"X-Key": "hidden", "X-B": "2"}),
        ),
        (
            config(secret={"primary": REDACTED, "secondary": REDACTED}, headers={}),
            ("http://127.0.0.1:4/hook", PRIMARY, SECONDARY, {}),
        ),
        (
            config(secret={"primary": "a-new-primary-secret", "secondary": REDACTED}),
            ("http://127.0.0.1:4/hook", "a-new-primary-secret", SECONDARY, {"X-Key": "hidden", "X-B": "2"}),
        ),
        *(
            (
                config(secret={"primary": REDACTED}, headers=nothing),
                ("http://127.0.0.1:4/hook", PRIMARY, None, {}),
            )
            for nothing in (None, [])
        ),
        (
            config(secret={"primary": REDACTED}, headers={}),
            ("http://127.0.0.1:4/hook", PRIMARY, None, {}),
        ),
        (
            config(
                secret={"primary": REDACTED, "secondary": None}, headers={"X-New": "3", "X-Key": REDACTED}
            ),
            ("http://127.0.0.1:4/hook", PRIMARY, None, {"X-New": "3", "X-Key": "hidden"}),
        ),
        (
            config(
                secret={"primary": REDACTED, "secondary": "a-new-secondary-secret"},
                headers={"x-key": REDACTED},
            ),
            ("http://127.0.0.1:4/hook", PRIMARY, "a-new-secondary-secret", {"x-key": "hidden"}),
        ),
        (  # the signing secrets may go to another host, header values may not
            config(
                url="http://localhost:4/hook", secret={"primary": REDACTED, "secondary": REDACTED}, headers={}
            ),
            ("http://localhost:4/hook", PRIMARY, SECONDARY, {}),
        ),
        (
            config(url="http://localhost:4/hook", secret={"primary": REDACTED}, headers={"X-Key": "anew"}),
            ("http://localhost:4/hook", PRIMARY, None, {"X-Key": "anew"}),
        ),
    ],
)
async def test_a_config_is_replaced_but_for_what_is_redacted_and_headers_that_are_absent(
    client: Client, patch: dict[str, Any], after: tuple[str, str, str | None, dict[str, str]]
) -> None:
    row = await client.subscription(await client.subscriber(), config=full_config())
    changed = await client.changed(path_of(row), {"config": patch})
    url, primary, secondary, headers = after
    stored = await client.stored(row)
    assert (stored.url, stored.primary_secret.get_secret_value()) == (url, primary)
    assert (stored.secondary_secret and stored.secondary_secret.get_secret_value()) == secondary
    assert secret_values(stored.headers) == headers
    secrets = {"primary": REDACTED} | ({"secondary": REDACTED} if secondary else {})
    shown = {"headers": dict.fromkeys(headers, REDACTED)} if headers else {}
    assert changed["config"] == {"url": url, "secret": secrets} | shown


@pytest.mark.parametrize(
    ("before", "patch", "fields"),
    [
        (config(), {"url": "http://127.0.0.1:4/hook"}, {"config.secret"}),
        (config(), {"secret": {"primary": PRIMARY}}, {"config.url"}),
        (config(), config(secret={"secondary": SECONDARY}), {"config.secret.primary"}),
        (
            config(),
            config(secret={"primary": REDACTED, "secondary": REDACTED}),
            {"config.secret.secondary"},
        ),
        (config(), config(headers={"X-Key": REDACTED}), {"config.headers.X-Key"}),
        (full_config(), config(headers={"X-Other": REDACTED}), {"config.headers.X-Other"}),
        (
            full_config(),
            full_config(url="http://localhost:4/", headers={"X-Key": REDACTED}),
            {"config.headers.X-Key"},
        ),
        (full_config(), config(url="http://localhost:4/"), {"config.headers.X-Key", "config.headers.X-B"}),
        # Another process may listen at another port of the host, and who is between reads plain HTTP.
        (
            full_config(),
            config(url="http://127.0.0.1:8/hook", secret={"primary": REDACTED}),
            {"config.headers.X-Key", "config.headers.X-B"},
        ),
        (
            full_config(),
            config(url="https://127.0.0.1:4/hook", secret={"primary": REDACTED}, headers={"X-Key": REDACTED}),
            {"config.headers.X-Key"},
        ),
        (
            full_config(),
            config(url="http://[::1]:4/", headers={"X-Key": "anew", "X-B": REDACTED}),
            {"config.headers.X-B"},
        ),
    ],
)
async def test_a_config_that_leans_on_what_is_not_there_is_refused_and_changes_nothing(
    client: Client, before: dict[str, Any], patch: dict[str, Any], fields: set[str]
) -> None:
    row = await client.subscription(await client.subscriber(), config=before)
    stored = await client.stored(row)
    answer = await client.call("PATCH", path_of(row), {"config": patch, "events": [CREATED]})
    assert answer.fields() == fields
    assert await client.get(path_of(row)) == row
    assert await client.stored(row) == stored


async def test_a_host_in_other_letters_is_the_same_host(client: Client) -> None:
    headers = {"X-Key": "hidden"}
    row = await client.subscription(
        await client.subscriber(), config=config(url="http://localhost:4/", headers=headers)
    )
    patch = config(url="http://LOCALHOST:4/", secret={"primary": REDACTED})
    await client.changed(path_of(row), {"config": patch})
    assert secret_values((await client.stored(row)).headers) == headers


@pytest.mark.parametrize(
    ("patch", "fields"),
    [
        ({"events": []}, {"events"}),
        ({"events": None}, {"events"}),
        ({"type": None}, {"type"}),
        ({"config": None}, {"config"}),
        ({"subject": "https://another.example.com"}, {"subject"}),
        ({"type": "kafka"}, {"config"}),
        ({"type": "sqs", "config": {}}, {"type"}),
    ],
)
async def test_a_bad_change_of_a_subscription_is_refused_by_field(
    client: Client, patch: dict[str, Any], fields: set[str]
) -> None:
    row = await client.subscription(await client.subscriber())
    answer = await client.call("PATCH", path_of(row), patch)
    assert answer.fields() == fields
    assert await client.get(path_of(row)) == row


# Section 8: custom headers


@pytest.mark.parametrize(
    "headers",
    [
        {"X-1": "1", "X-2": "2", "X-3": "3", "X-4": "4", "X-5": "5"},
        {"a" * 128: "x"},
        {"X-Key": "x" * 256},
        {"X-Key": "".join(map(chr, range(0x20, 0x7F)))},
        {"x-akeneo-signatur": "x"},
        {"X-Akeneo": "x"},
        {"Accept": "x"},
    ],
)
async def test_good_custom_headers_are_taken(client: Client, headers: dict[str, str]) -> None:
    row = await client.subscription(await client.subscriber(), config=config(headers=headers))
    assert secret_values((await client.stored(row)).headers) == headers


REFUSED_NAMES = [
    "Content-Type",
    "User-Agent",
    "X-Correlation-ID",
    "Host",
    "Authorization",
    "Cookie",
    "X-AKENEO-SIGNATURE-PRIMARY",
    "x-akeneo-signature-anything",
    "Connection",
    "Keep-Alive",
    "Proxy-Authorization",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
    "Content-Length",
    "Expect",
]


@pytest.mark.parametrize(
    "headers",
    [
        *({name: "x"} for name in REFUSED_NAMES),
        *({name.swapcase(): "x"} for name in REFUSED_NAMES),
        {f"X-{number}": "x" for number in range(6)},
        {"": "x"},
        {"a" * 129: "x"},
        {"X Key": "x"},
        {"X_Key": "x"},
        {"X-Kéy": "x"},
        {"X-Key": "x" * 257},
        {"X-Key": "é"},
        {"X-Key": "a\r\nX-Injected: b"},
        {"X-Key": "a\n"},
        {"X-Key": "\x7f"},
        {"X-Key": 1},
        {"X-Key": None},
        {"X-Key": "1", "x-kEY": "2"},
    ],
    ids=str,
)
async def test_bad_custom_headers_are_refused(client: Client, headers: dict[str, Any]) -> None:
    subscriber = await client.subscriber()
    body = subscription_body(config=config(headers=headers))
    answer = await client.call("POST", f"{path_of(subscriber)}/subscriptions", body)
    assert all(name.startswith("config.headers") for name in answer.fields())


# Section 2: lists, deletion, revocation


async def test_lists_hold_what_is_not_deleted_oldest_first(client: Client) -> None:
    assert await client.get("/subscribers") == []
    rows = [await client.subscriber() for _ in range(3)]
    assert await client.get("/subscribers") == rows
    subscriptions = f"{path_of(rows[0])}/subscriptions"
    assert await client.get(subscriptions) == []
    listed = [await client.subscription(rows[0]) for _ in range(4)]
    suspended = (await client.call("POST", f"{path_of(listed[1])}/suspend")).body
    await client.call("DELETE", path_of(listed[2]))
    await set_status(client, listed[3], Status.REVOKED)
    assert await client.get(subscriptions) == [listed[0], suspended, listed[3] | {"status": "revoked"}]
    await client.call("DELETE", path_of(rows[1]))
    await set_status(client, rows[2], Status.REVOKED)
    assert await client.get("/subscribers") == [rows[0], rows[2] | {"status": "revoked"}]


async def set_status(client: Client, row: Mapping[str, Any], status: Status) -> None:
    """As the platform does it by itself: no call of the API revokes anything."""
    store = client.world.store
    if "subscriber_id" not in row:
        await store.change_subscriber(client.owner, row["id"], lambda before: replace(before, status=status))
        return

    def change(before: Subscription) -> Subscription:
        return replace(before, status=status)

    await store.change_subscription(client.owner, row["subscriber_id"], row["id"], change)


async def test_a_deleted_subscriber_takes_its_subscriptions_with_it(client: Client) -> None:
    subscriber = await client.subscriber()
    active, suspended = [await client.subscription(subscriber) for _ in range(2)]
    await client.call("POST", f"{path_of(suspended)}/suspend")
    await client.world.clock.advance(1)
    answer = await client.call("DELETE", path_of(subscriber))
    assert answer.status == 200
    assert list(answer.body) == SUBSCRIBER_KEYS
    assert answer.body == subscriber | {"status": "deleted", "updated_at": answer.body["updated_at"]}
    assert answer.body["updated_at"] > subscriber["updated_at"]
    for row in (active, suspended):
        assert (await client.get(path_of(row)))["status"] == "deleted"
    assert await client.get(f"{path_of(subscriber)}/subscriptions") == []


async def test_deleting_a_subscription_leaves_the_others(client: Client) -> None:
    subscriber = await client.subscriber()
    deleted, kept = [await client.subscription(subscriber) for _ in range(2)]
    answer = await client.call("DELETE", path_of(deleted))
    assert (answer.status, answer.body["status"]) == (200, "deleted")
    assert list(answer.body) == SUBSCRIPTION_KEYS
    assert await client.get(f"{path_of(subscriber)}/subscriptions") == [kept]
    assert await client.get(path_of(subscriber)) == subscriber


CHANGES: list[tuple[str, str, Any]] = [
    ("PATCH", "", {"events": [CREATED]}),
    ("PATCH", "", {}),
    ("POST", "/suspend", None),
    ("POST", "/resume", None),
]


async def test_what_is_deleted_is_shown_for_30_days_and_refuses_every_change(client: Client) -> None:
    subscriber = await client.subscriber()
    row = await client.subscription(subscriber)
    await client.call("DELETE", path_of(subscriber))

    async def statuses(calls: list[tuple[str, str, Any]]) -> set[int]:
        return {(await fresh.call(method, path, body)).status for method, path, body in calls}

    reads = [("GET", path_of(subscriber), None), ("GET", path_of(row), None)]
    changes = [
        ("DELETE", path_of(subscriber), None),
        ("PATCH", path_of(subscriber), {"name": "Renamed"}),
        ("POST", f"{path_of(subscriber)}/subscriptions", subscription_body()),
        ("DELETE", path_of(row), None),
        *((method, path_of(row) + path, body) for method, path, body in CHANGES),
    ]
    fresh = client
    assert await statuses(reads) == {200}
    assert await statuses(changes) == {409}
    await client.world.clock.advance(30 * DAY)
    fresh = client_of(client.world, client.pim, ERP)  # the token of then has ended
    assert await statuses(reads) == {200}
    assert await statuses(changes) == {409}
    await client.world.clock.advance(1)
    assert await statuses(reads) == {404}
    assert await statuses(changes) == {404}


async def test_what_is_revoked_can_be_deleted_and_nothing_else(client: Client) -> None:
    subscriber = await client.subscriber()
    row = await client.subscription(subscriber)
    for record in (row, subscriber):
        await set_status(client, record, Status.REVOKED)
    for method, path, body in CHANGES:
        assert (await client.call(method, path_of(row) + path, body)).status == 409
    assert (await client.call("PATCH", path_of(subscriber), {"name": "Renamed"})).status == 409
    subscriptions = f"{path_of(subscriber)}/subscriptions"
    assert (await client.call("POST", subscriptions, subscription_body())).status == 409
    for record in (row, subscriber):
        assert (await client.get(path_of(record)))["status"] == "revoked"
        answer = await client.call("DELETE", path_of(record))
        assert (answer.status, answer.body["status"]) == (200, "deleted")


async def test_another_client_of_the_pim_sees_nothing_of_it(client: Client, other: Client) -> None:
    subscriber = await client.subscriber()
    row = await client.subscription(subscriber)
    assert await other.get("/subscribers") == []
    own = await other.subscriber()
    crossed = f"{path_of(own)}/subscriptions/{row['id']}"
    for method, path, body in [
        ("GET", path_of(subscriber), None),
        ("PATCH", path_of(subscriber), {"name": "Mine"}),
        ("DELETE", path_of(subscriber), None),
        ("GET", f"{path_of(subscriber)}/subscriptions", None),
        ("POST", f"{path_of(subscriber)}/subscriptions", subscription_body()),
        ("GET", path_of(row), None),
        ("DELETE", path_of(row), None),
        ("GET", crossed, None),
        ("DELETE", crossed, None),
        *((method, path_of(row) + path, body) for method, path, body in CHANGES),
    ]:
        assert (await other.call(method, path, body)).status == 404, (method, path)
    assert await client.get(path_of(row)) == row
    assert await client.get(path_of(subscriber)) == subscriber


async def test_a_subscription_is_known_under_its_own_subscriber_only(client: Client) -> None:
    first, second = [await client.subscriber() for _ in range(2)]
    row = await client.subscription(first)
    for method, path, body in [("GET", "", None), ("DELETE", "", None), *CHANGES]:
        wrong = f"{path_of(second)}/subscriptions/{row['id']}{path}"
        assert (await client.call(method, wrong, body)).status == 404


# Section 5: suspend and resume


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (None, {}),
        (b"", {"content_type": "application/json"}),
        (b"", {"content_type": "text/plain"}),
        (b"{}", {"content_type": "application/json"}),
        (b"{}", {}),
        (b"<x/>", {"content_type": "application/xml"}),
    ],
    ids=["nothing", "json type", "text type", "{}", "{} without a type", "xml"],
)
async def test_suspend_and_resume_need_no_body_and_no_media_type(
    client: Client, body: bytes | None, headers: dict[str, str]
) -> None:
    row = await client.subscription(await client.subscriber())
    for action, status in [("suspend", "suspended"), ("resume", "active")]:
        answer = await client.send("POST", f"{path_of(row)}/{action}", body, **headers)
        assert (answer.status, answer.body["status"]) == (202, status)
        assert list(answer.body) == SUBSCRIPTION_KEYS
        assert (await client.get(path_of(row)))["status"] == status
    assert (await client.send("GET", path_of(row), body, **headers)).status == 200
    assert (await client.send("DELETE", path_of(row), body, **headers)).status == 200


@pytest.mark.parametrize("actions", [("suspend", "suspend"), ("resume", "resume")], ids=str)
async def test_suspending_or_resuming_twice_is_harmless(client: Client, actions: tuple[str, str]) -> None:
    row = await client.subscription(await client.subscriber())
    await client.call("POST", f"{path_of(row)}/{actions[0]}")
    first = await client.get(path_of(row))
    epoch = await epoch_of(client, row)
    await client.world.clock.advance(1)
    answer = await client.call("POST", f"{path_of(row)}/{actions[1]}")
    assert (answer.status, answer.body) == (202, first)
    assert await epoch_of(client, row) == epoch


async def epoch_of(client: Client, row: Mapping[str, Any]) -> int:
    return (await client.world.store.subscription(client.owner, row["subscriber_id"], row["id"])).epoch


async def test_a_suspended_subscription_can_be_changed_and_stays_suspended(client: Client) -> None:
    row = await client.subscription(await client.subscriber())
    await client.call("POST", f"{path_of(row)}/suspend")
    changed = await client.changed(path_of(row), {"events": [CREATED], "status": "active"})
    assert (changed["status"], changed["events"]) == ("suspended", [CREATED])


async def test_without_the_permission_one_may_read_suspend_and_delete(client: Client) -> None:
    subscriber = await client.subscriber()
    row = await client.subscription(subscriber)
    with without_permission(client) as restricted:
        for path in (
            "/subscribers",
            path_of(subscriber),
            f"{path_of(subscriber)}/subscriptions",
            path_of(row),
        ):
            assert (await restricted.call("GET", path)).status == 200
        assert (await restricted.call("POST", f"{path_of(row)}/suspend")).status == 202
        assert (await restricted.call("POST", f"{path_of(row)}/resume")).status == 403
        assert (await restricted.call("DELETE", path_of(row))).status == 200
        assert (await restricted.call("DELETE", path_of(subscriber))).status == 200


async def test_when_the_permission_is_gone_the_clients_subscriptions_are_suspended(
    client: Client, other: Client
) -> None:
    subscriber, second, others = (
        await client.subscriber(),
        await client.subscriber(),
        await other.subscriber(),
    )
    rows = [await client.subscription(subscriber), await client.subscription(second)]
    by_hand = await client.subscription(second)
    await client.call("POST", f"{path_of(by_hand)}/suspend")
    of_another = await other.subscription(others)
    with without_permission(client) as restricted:
        for _ in range(2):
            listed = (await restricted.call("GET", f"{path_of(subscriber)}/subscriptions")).body
            assert [row["status"] for row in listed] == ["suspended"]
    assert (await other.call("GET", path_of(of_another))).body["status"] == "active"
    log = (await client.call("GET", "/logs?operation=subscription_suspended_by_the_platform")).body["items"]
    assert {entry["subscription_id"] for entry in log} == {row["id"] for row in rows}
    assert {entry["error_message"] for entry in log} == {
        "the connection has no Event Platform permission in the PIM any more"
    }
    assert len(log) == 2


async def test_a_permission_that_is_taken_away_a_second_time_suspends_again(client: Client) -> None:
    row = await client.subscription(await client.subscriber())
    for _ in range(2):
        with without_permission(client) as restricted:
            assert (await restricted.call("GET", path_of(row))).body["status"] == "suspended"
        fresh = client_of(client.world, client.pim, ERP)
        assert (await fresh.call("POST", f"{path_of(row)}/resume")).status == 202


async def test_a_client_that_never_had_the_permission_is_looked_up_once_in_a_minute(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Owner] = []
    subscribers = client.world.store.subscribers

    async def counting(owner: Owner) -> Sequence[Subscriber]:
        asked.append(owner)
        return await subscribers(owner)

    with without_permission(client) as restricted:
        monkeypatch.setattr(client.world.store, "subscribers", counting)
        for _ in range(3):
            assert (await restricted.call("GET", "/logs")).status == 200
        assert len(asked) == 1
        await client.world.clock.advance(61)
        assert (await restricted.call("GET", "/logs")).status == 200
        assert len(asked) == 2


# Section 6: limits


async def statuses_of(count: int, create: Callable[[], Any]) -> list[int]:
    answers: list[Answer] = await asyncio.gather(*(create() for _ in range(count)))
    return sorted(answer.status for answer in answers)


async def test_a_pim_has_at_most_20_subscribers_of_all_its_clients(client: Client, other: Client) -> None:
    rows = [await client.subscriber() for _ in range(10)] + [await other.subscriber() for _ in range(10)]
    for caller in (client, other):
        assert (await caller.call("POST", "/subscribers", subscriber_body())).status == 409
    await client.call("DELETE", path_of(rows[0]))
    assert (await other.call("POST", "/subscribers", subscriber_body())).status == 201
    assert (await client.call("POST", "/subscribers", subscriber_body())).status == 409


async def test_a_subscriber_has_at_most_20_subscriptions(client: Client) -> None:
    subscriber, second = [await client.subscriber() for _ in range(2)]
    rows = [await client.subscription(subscriber) for _ in range(20)]
    path = f"{path_of(subscriber)}/subscriptions"
    assert (await client.call("POST", path, subscription_body())).status == 409
    await client.call("POST", f"{path_of(rows[0])}/suspend")
    assert (await client.call("POST", path, subscription_body())).status == 409
    await client.subscription(second)
    await client.call("DELETE", path_of(rows[0]))
    await client.subscription(subscriber)
    assert len(await client.get(path)) == 20


async def test_the_limit_of_subscribers_holds_under_50_creations_at_once(client: Client) -> None:
    found = await statuses_of(50, lambda: client.call("POST", "/subscribers", subscriber_body()))
    assert found == [201] * 20 + [409] * 30
    assert len(await client.get("/subscribers")) == 20


async def test_the_limit_of_subscriptions_holds_under_50_creations_at_once(client: Client) -> None:
    path = f"{path_of(await client.subscriber())}/subscriptions"
    found = await statuses_of(50, lambda: client.call("POST", path, subscription_body()))
    assert found == [201] * 20 + [409] * 30
    assert len(await client.get(path)) == 20


async def test_the_limit_of_one_pim_is_not_anothers(client: Client, strict: Client) -> None:
    for _ in range(20):
        await client.subscriber()
    await strict.subscriber()


# Section 2: X-PIM-URL and subject


async def test_a_pim_url_is_compared_without_slash_default_port_and_case(strict: Client) -> None:
    host = strict.pim.removeprefix("https://")
    spellings = [
        f"https://{host.upper()}",
        f"https://{host}/",
        f"https://{host}:443",
        f"HTTPS://{host}:443//",
    ]
    created = [await replace(strict, pim=spelling).subscriber() for spelling in spellings]
    assert [row["subject"] for row in created] == spellings
    assert await strict.get("/subscribers") == created
    for spelling in spellings:
        assert await replace(strict, pim=spelling).get(path_of(created[0])) == created[0]
        row = await strict.subscription(created[0], subject=spelling, config=PUBLIC)
        assert row["subject"] == spelling


async def test_a_subscription_without_a_subject_bears_the_url_of_its_creation(strict: Client) -> None:
    row = await replace(strict, pim=f"{strict.pim}/").subscription(await strict.subscriber(), config=PUBLIC)
    assert row["subject"] == f"{strict.pim}/"


@pytest.mark.parametrize("suffix", [":8443", "/path", "?query", "#part", ".example"])
async def test_a_pim_url_that_differs_otherwise_is_another_pim(strict: Client, suffix: str) -> None:
    assert (await replace(strict, pim=strict.pim + suffix).call("GET", "/subscribers")).status == 401


async def test_a_pim_url_of_http_is_another_pim(strict: Client) -> None:
    changed = replace(strict, pim=strict.pim.replace("https:", "http:"))
    assert (await changed.call("GET", "/subscribers")).status == 401


# Section 9: schemas


async def test_schemas_are_public_and_an_unknown_one_is_404(world: World) -> None:
    base = world.url.removesuffix("/api/v1")
    known = await request(world, "GET", f"{base}/spec/{UPDATED}.schema.json", None, {})
    url = f"{base}/spec/{UPDATED}.schema.json"
    assert (known.status, known.body) == (200, {**catalog.load()[UPDATED].schema, "$id": url})
    assert known.headers["Content-Type"] == "application/schema+json"
    assert known.headers["Cache-Control"] == "public, max-age=3600"
    unknown = await request(world, "GET", f"{base}/spec/com.akeneo.nothing.schema.json", None, {})
    assert unknown.status == 404
    assert unknown.body["errors"][0]["message"]


async def test_the_index_of_schemas_is_public_and_leads_to_each(world: World) -> None:
    base = world.url.removesuffix("/api/v1")
    index = await request(world, "GET", f"{base}/spec/", None, {})
    assert index.status == 200
    assert [each["type"] for each in index.body["types"]] == list(catalog.load().types)
    found = await request(world, "GET", index.body["types"][0]["schema"], None, {})
    assert (found.status, found.body["$id"]) == (200, index.body["types"][0]["schema"])


async def test_times_are_rfc_3339_in_utc(client: Client) -> None:
    row = await client.subscriber()
    for name in ("created_at", "updated_at"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", row[name])
