"""A whole client over sockets: the platform, a simulated PIM and a receiver as real processes."""

import itertools
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson
import pytest

from support import one_pim
from support.processes import (
    Client,
    SimulatedPim,
    delivered,
    http,
    received,
    send_events,
    server,
    signature,
)

UPDATED = "com.akeneo.pim.v1.product.updated"
CREATED = "com.akeneo.pim.v1.product.created"
PRIMARY = "primary-secret-of-the-subscription"
KEYED_PIM = "https://keyed.example.com"
KEYS = {"shop": "the-platform-key-of-the-shop", "erp": "the-platform-key-of-the-erp"}

UUID = "fc24e6c3-933c-4a93-8a81-e5c703d134d5"
# Written so that each byte of it changes: spaces, a float, index keys, escapes, an identifier to leave out.
DATA_AS_SENT = (
    f'{{ "product": {{"uuid": "{UUID}", "identifier": "LMP-1", "weight": 1.0, "10": "b", "9": "a"}},'
    ' "author": {"identifier": "J\\u00e9r\\u00f4me <\\/>", "type": "user"} }'
)
DATA_AS_DELIVERED = (
    f'{{"product":{{"9":"a","10":"b","uuid":"{UUID}","weight":1}},'
    '"author":{"identifier":"Jérôme </>","type":"user"}}'
)


@dataclass(frozen=True)
class Running:
    pim: SimulatedPim
    inbox: str
    platform: str


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("whole-client")
    clients = [
        {"client_id": name, "key_sha256": sha256(key.encode()).hexdigest()} for name, key in KEYS.items()
    ]
    keyed = {"url": KEYED_PIM, "auth": "platform-key", "clients": clients}
    with server(folder, "inbox", "--quiet") as inbox, one_pim.serve_simulated(folder, keyed) as (serve, pim):
        yield Running(pim, inbox.url, serve.url)


@pytest.fixture(scope="module")
def client(world: Running) -> Client:
    return world.pim.client(world.platform)


@pytest.fixture
def subscriber(client: Client) -> Iterator[str]:
    created = new_subscriber(client)
    yield f"/subscribers/{created['id']}"
    client.call("DELETE", f"/subscribers/{created['id']}")


_paths = (f"/hooks/{number}" for number in itertools.count())


@dataclass(frozen=True)
class Subscribed:
    """A subscription of the test: where it stands, its id, and the path of the inbox that is its own."""

    path: str
    id: str
    hook: str


def new_subscriber(client: Client) -> dict[str, Any]:
    body = {"name": "Whole client", "contact": {"technical_email": "ops@example.com"}}
    return client.call("POST", "/subscribers", body, expect=201)


def config(world: Running, hook: str, **changes: Any) -> dict[str, Any]:
    return {"url": world.inbox + hook, "secret": {"primary": PRIMARY}} | changes


def subscribe(
    world: Running,
    client: Client,
    subscriber: str,
    *,
    configured: dict[str, Any] | None = None,
    **changes: Any,
) -> Subscribed:
    """A subscription to a path of its own; `configured` changes its config, `changes` the rest."""
    hook = next(_paths)
    own = config(world, hook, **(configured or {}))
    body = {"events": [UPDATED], "type": "https", "config": own} | changes
    created = client.call("POST", f"{subscriber}/subscriptions", body, expect=201)
    return Subscribed(f"{subscriber}/subscriptions/{created['id']}", created["id"], hook)


def event(event_type: str = UPDATED) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "type": event_type,
        "time": "2026-01-31T12:00:00Z",
        "data": orjson.loads(DATA_AS_SENT),
    }


def emit(world: Running, event_type: str = UPDATED) -> str:
    """One event into the platform; its id."""
    sent = event(event_type)
    assert send_events(world.platform, one_pim.INGEST_KEY, sent) == 202
    return sent["id"]


def check_delivery(
    world: Running, subscription: Subscribed, primary: str, secondary: str | None = None
) -> Any:
    """Emits an event and checks the signatures of its delivery over the raw body."""
    arrived = delivered(world.inbox, subscription.hook, emit(world))
    body = arrived["body"].encode()
    assert arrived["headers"]["x-akeneo-signature-primary"] == signature(primary, body)
    expected = None if secondary is None else signature(secondary, body)
    assert arrived["headers"].get("x-akeneo-signature-secondary") == expected
    return arrived


@pytest.mark.parametrize("mode", ["structured", "batch", "binary"])
def test_an_event_of_each_mode_is_delivered_signed_and_byte_for_byte_as_javascript_writes_it(
    world: Running, client: Client, subscriber: str, mode: str
) -> None:
    subscription = subscribe(world, client, subscriber, configured={"headers": {"X-Shop": "eu-1"}})
    event_id, time = str(uuid.uuid4()), "2026-01-31T13:00:00.120+01:00"
    structured = (
        f'{{ "specversion": "1.0", "data": {DATA_AS_SENT}, "time": "{time}", "source": "the-pim",'
        f' "type": "{UPDATED}", "id": "{event_id}" }}'
    )
    headers, body = {
        "structured": ({"Content-Type": "application/cloudevents+json"}, structured),
        "batch": ({"Content-Type": "application/cloudevents-batch+json"}, f"[{structured}]"),
        "binary": (
            {
                "Content-Type": "application/json",
                "ce-specversion": "1.0",
                "ce-id": event_id,
                "ce-source": "the-pim",
                "ce-type": UPDATED,
                "ce-time": time,
            },
            DATA_AS_SENT,
        ),
    }[mode]
    answer = http().post(
        f"{world.platform}/ingest",
        data=body.encode(),
        headers=headers | {"Authorization": f"Bearer {one_pim.INGEST_KEY}"},
        timeout=10,
    )
    assert (answer.status_code, answer.json()) == (202, {"accepted": 1})

    arrived = delivered(world.inbox, subscription.hook, event_id)
    expected = (
        f'{{"specversion":"1.0","id":"{event_id}","source":"akeneo-event-platform","type":"{UPDATED}",'
        f'"subject":"{subscription.id}","datacontenttype":"application/json",'
        f'"dataschema":"{world.platform}/spec/{UPDATED}.schema.json","time":"2026-01-31T12:00:00.120Z",'
        f'"data":{DATA_AS_DELIVERED}}}'
    ).encode()
    assert arrived["body"].encode() == expected
    names = ("content-type", "user-agent", "x-correlation-id", "x-akeneo-signature-algorithm", "x-shop")
    assert [arrived["headers"][name] for name in names] == [
        "application/json",
        "akeneo/event-platform",
        event_id,
        "HmacSHA256",
        "eu-1",
    ]
    assert arrived["headers"]["x-akeneo-signature-primary"] == signature(PRIMARY, expected)
    assert "x-akeneo-signature-secondary" not in arrived["headers"]


def test_the_dataschema_of_a_delivery_is_served_to_anybody(
    world: Running, client: Client, subscriber: str
) -> None:
    subscription = subscribe(world, client, subscriber)
    arrived = check_delivery(world, subscription, PRIMARY)
    schema = http().get(orjson.loads(arrived["body"])["dataschema"], timeout=10)
    assert schema.status_code == 200
    assert "product" in schema.json()["properties"]


def test_the_identifier_is_delivered_where_it_is_asked_for(
    world: Running, client: Client, subscriber: str
) -> None:
    asking = subscribe(world, client, subscriber, send_product_identifier=True)
    other = subscribe(world, client, subscriber)
    event_id = emit(world)
    products = [
        orjson.loads(delivered(world.inbox, subscription.hook, event_id)["body"])["data"]["product"]
        for subscription in (asking, other)
    ]
    assert products[0]["identifier"] == "LMP-1"
    assert "identifier" not in products[1]


def test_a_row_sent_back_with_redacted_secrets_still_signs_with_the_old_ones(
    world: Running, client: Client, subscriber: str
) -> None:
    secrets = {"primary": PRIMARY, "secondary": "secondary-secret-of-old"}
    subscription = subscribe(world, client, subscriber, configured={"secret": secrets})
    row = client.call("GET", subscription.path, expect=200)
    assert row["config"]["secret"] == {"primary": "***redacted***", "secondary": "***redacted***"}
    row["config"]["headers"] = {"X-Stage": "patched"}
    client.call("PATCH", subscription.path, row, expect=200)
    arrived = check_delivery(world, subscription, *secrets.values())
    assert arrived["headers"]["x-stage"] == "patched"


def test_new_secrets_sign_what_comes_after_the_change(
    world: Running, client: Client, subscriber: str
) -> None:
    subscription = subscribe(world, client, subscriber)
    check_delivery(world, subscription, PRIMARY)
    secrets = {"primary": "another-primary-secret", "secondary": "and-a-secondary-secret"}
    change = {"config": config(world, subscription.hook, secret=secrets)}
    client.call("PATCH", subscription.path, change, expect=200)
    check_delivery(world, subscription, *secrets.values())


def test_a_new_subscription_and_each_change_of_it_are_in_force_when_the_call_is_answered(
    world: Running, client: Client, subscriber: str
) -> None:
    """As docs/first-subscription.md says it of one machine: the event right after the answer has it."""
    subscription = subscribe(world, client, subscriber)
    delivered(world.inbox, subscription.hook, emit(world))
    for stage in ("first", "second", "third"):
        change = {"config": config(world, subscription.hook, headers={"X-Stage": stage})}
        client.call("PATCH", subscription.path, change, expect=200)
        arrived = delivered(world.inbox, subscription.hook, emit(world))
        assert arrived["headers"]["x-stage"] == stage
    client.call("PATCH", subscription.path, {"events": [CREATED]}, expect=200)
    unwanted, wanted = emit(world), emit(world, CREATED)
    delivered(world.inbox, subscription.hook, wanted)
    assert unwanted not in {each["id"] for each in received(world.inbox, subscription.hook)}


def test_nothing_arrives_while_suspended_and_what_came_then_is_not_kept(
    world: Running, client: Client, subscriber: str
) -> None:
    subscription, control = (subscribe(world, client, subscriber) for _ in range(2))
    assert client.call("POST", f"{subscription.path}/suspend", expect=202)["status"] == "suspended"
    passed_by = emit(world)
    delivered(world.inbox, control.hook, passed_by)
    assert client.call("POST", f"{subscription.path}/resume", expect=202)["status"] == "active"
    afterwards = emit(world)
    delivered(world.inbox, subscription.hook, afterwards)
    assert [arrived["id"] for arrived in received(world.inbox, subscription.hook)] == [afterwards]


def test_nothing_arrives_after_deletion(world: Running, client: Client, subscriber: str) -> None:
    subscription, control = (subscribe(world, client, subscriber) for _ in range(2))
    assert client.call("DELETE", subscription.path, expect=200)["status"] == "deleted"
    delivered(world.inbox, control.hook, emit(world))
    delivered(world.inbox, control.hook, emit(world))
    assert received(world.inbox, subscription.hook) == []
    assert client.call("GET", subscription.path, expect=200)["status"] == "deleted"
    client.call("POST", f"{subscription.path}/resume", expect=409)


def test_deleting_the_subscriber_ends_its_subscriptions(world: Running, client: Client) -> None:
    subscriber = f"/subscribers/{new_subscriber(client)['id']}"
    kept = f"/subscribers/{new_subscriber(client)['id']}"
    subscription, control = subscribe(world, client, subscriber), subscribe(world, client, kept)
    client.call("DELETE", subscriber, expect=200)
    delivered(world.inbox, control.hook, emit(world))
    assert received(world.inbox, subscription.hook) == []
    assert client.call("GET", subscription.path, expect=200)["status"] == "deleted"
    client.call("DELETE", kept, expect=200)


def test_only_the_types_that_are_named_arrive(world: Running, client: Client, subscriber: str) -> None:
    subscription, control = (
        subscribe(world, client, subscriber, events=events) for events in ([UPDATED], [UPDATED, CREATED])
    )
    created, updated = emit(world, CREATED), emit(world)
    delivered(world.inbox, control.hook, created)
    delivered(world.inbox, subscription.hook, updated)
    assert [arrived["type"] for arrived in received(world.inbox, subscription.hook)] == [UPDATED]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"token": "made-up"}, "a token that the PIM does not know"),
        ({"client_id": "another-client"}, "another client's id"),
        ({"pim": "https://unknown.example.com"}, "a PIM that is not configured"),
        ({"pim": KEYED_PIM}, "another PIM's token"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_caller_that_is_not_proven_is_401(
    world: Running, client: Client, change: dict[str, str], reason: str
) -> None:
    caller = Client(world.platform, client.pim, client.token, client.client_id)
    for name, value in change.items():
        setattr(caller, name, value)
    answer = caller.call("GET", "/subscribers")
    assert answer.status_code == 401, reason
    assert answer.json()["errors"][0]["message"]


def test_another_clients_resources_are_404(world: Running, client: Client) -> None:
    shop, erp = (Client(world.platform, KEYED_PIM, key, name) for name, key in KEYS.items())
    subscriber = f"/subscribers/{new_subscriber(shop)['id']}"
    subscription = subscribe(world, shop, subscriber)
    for stranger in (erp, client):
        assert stranger.call("GET", subscriber).status_code == 404
        assert stranger.call("PATCH", subscriber, {"name": "mine"}).status_code == 404
        assert stranger.call("DELETE", subscriber).status_code == 404
        assert stranger.call("GET", f"{subscriber}/subscriptions").status_code == 404
        assert stranger.call("GET", subscription.path).status_code == 404
        assert stranger.call("POST", f"{subscription.path}/suspend").status_code == 404
        assert stranger.call("DELETE", subscription.path).status_code == 404
    assert erp.call("GET", "/subscribers", expect=200) == []
    assert shop.call("GET", subscription.path, expect=200)["status"] == "active"


def test_a_pims_events_reach_that_pims_subscriptions_only(
    world: Running, client: Client, subscriber: str
) -> None:
    shop = Client(world.platform, KEYED_PIM, KEYS["shop"], "shop")
    elsewhere = subscribe(world, shop, f"/subscribers/{new_subscriber(shop)['id']}")
    here = subscribe(world, client, subscriber)
    delivered(world.inbox, here.hook, emit(world))
    delivered(world.inbox, here.hook, emit(world))
    assert received(world.inbox, elsewhere.hook) == []


def test_a_pim_that_is_down_is_503_and_not_remembered(world: Running) -> None:
    newcomer = world.pim.client(world.platform)
    with world.pim.outage(503):
        answer = newcomer.call("GET", "/subscribers")
        assert answer.status_code == 503
        assert answer.json()["errors"][0]["message"]
    newcomer.call("GET", "/subscribers", expect=200)


def test_without_the_permission_one_may_read_suspend_and_delete_but_not_subscribe(
    world: Running, client: Client, subscriber: str
) -> None:
    subscription = subscribe(world, client, subscriber)
    with world.pim.without_permission():
        restricted = world.pim.client(world.platform)
        new = {"name": "Another", "contact": {"technical_email": "ops@example.com"}}
        wanted = {"events": [UPDATED], "type": "https", "config": config(world, "/never")}
        for method, path, body in [
            ("POST", "/subscribers", new),
            ("PATCH", subscriber, {"name": "Renamed"}),
            ("POST", f"{subscriber}/subscriptions", wanted),
            ("PATCH", subscription.path, {"events": [CREATED]}),
            ("POST", f"{subscription.path}/resume", None),
        ]:
            restricted.call(method, path, body, expect=403)
        for path in ("/subscribers", subscriber, f"{subscriber}/subscriptions", subscription.path):
            restricted.call("GET", path, expect=200)
        restricted.call("POST", f"{subscription.path}/suspend", expect=202)
        restricted.call("DELETE", subscription.path, expect=200)
        restricted.call("DELETE", subscriber, expect=200)


@pytest.mark.parametrize(
    ("path", "status"),
    [("/api/v1/subscribers/", 404), ("/api/v1", 404), ("/api/v2/subscribers", 404), ("/health", 200)],
)
def test_a_route_exists_exactly_as_it_is_written(world: Running, path: str, status: int) -> None:
    answer = http().get(world.platform + path, timeout=10, allow_redirects=False)
    assert answer.status_code == status


def test_a_wrong_ingest_key_is_401_and_stores_nothing(
    world: Running, client: Client, subscriber: str
) -> None:
    subscription = subscribe(world, client, subscriber)
    refused = event()
    assert send_events(world.platform, "another-key", refused) == 401
    delivered(world.inbox, subscription.hook, emit(world))
    assert refused["id"] not in [arrived["id"] for arrived in received(world.inbox, subscription.hook)]
