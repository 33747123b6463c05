"""Subscriptions over the management API, with their configs and custom headers (contract/wire.md 4 and 8)."""

import time
import uuid
from typing import Any

import pytest

from event_platform.domain.events import catalog
from support.dear_keys import a_certificate, a_dear_key, a_number, dsa_key, pem_of, rsa_key
from support.management import (
    CREATED,
    PRIMARY,
    PUBLIC,
    READ_ONLY,
    REDACTED,
    SECONDARY,
    SUBSCRIPTION_KEYS,
    UPDATED,
    WEBHOOK,
    Client,
    config,
    path_of,
    secret_values,
    subscriber_body,
    subscription_body,
    without,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


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
