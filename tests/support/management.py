"""The management API over a socket, on the real SQLite store, as clients of simulated PIMs call it.

Each test has a PIM of its own: they are paths of one server. Only the clock is a test's own.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from aep.sandbox.pim import connections
from aep.store.database import Database
from aep.store.subscriptions import SqliteSubscriptions
from event_platform.domain.subscriptions import Headers, HttpsConfig, Owner
from event_platform.domain.tenants import Tenant
from support.clock import ManualClock

ERP = connections.Client("erp", "erp-secret", "erp-user", "erp-password")

SHOP = connections.Client("shop", "shop-secret", "shop-user", "shop-password")

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
class ManageApi:
    session: aiohttp.ClientSession
    clock: ManualClock
    store: SqliteSubscriptions
    database: Database
    registry: Registry
    url: str
    strict_url: str  # of an app without the exceptions for development
    pims_url: str
    pims: connections.Connections
    labels: Labels


@dataclass
class Client:
    """Calls the API as a client of one PIM does."""

    world: ManageApi
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


async def request(world: ManageApi, method: str, url: str, data: Any, headers: Mapping[str, str]) -> Answer:
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


@contextmanager
def without_permission(client: Client) -> Iterator[Client]:
    """The same client with a new token, after its connection lost the permission in the PIM."""
    lost = client.world.pims.permit("erp", event_platform=False)
    try:
        yield client_of(client.world, client.pim, lost)
    finally:
        client.world.pims.permit("erp", event_platform=True)


def client_of(world: ManageApi, pim: str, who: connections.Client) -> Client:
    token = world.pims.grant(
        who, {"grant_type": "password", "username": who.username, "password": who.password}
    )["access_token"]
    return Client(world, world.url, pim, token, who.client_id)


SID = "0190f3a0-0000-7000-8000-000000000001"

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
