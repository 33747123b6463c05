"""Subscribers over the management API (contract/wire.md 3)."""

import uuid
from typing import Any

import pytest

from support.management import (
    READ_ONLY,
    REDACTED,
    SID,
    SUBSCRIBER_KEYS,
    WEBHOOK,
    Client,
    path_of,
    subscriber_body,
    without,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


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
