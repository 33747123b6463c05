"""Pub/Sub topics that two clients name: what the API answers, and how a client proves that one is its own."""

import itertools
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from aep.store import migrations, moving, opening, schema
from aep.store.database import Database
from aep.store.export_file import Records
from aep.store.subscriptions import SqliteSubscriptions, put_subscription
from contract.suites.subscriptions import anything
from event_platform.adapters.seal import AesGcmSeal
from event_platform.domain.errors import TopicHeld
from event_platform.domain.subscriptions import Owner, PubSubConfig, Status
from event_platform.domain.topic_claims import LOST, PROOF_LABEL
from support.management import Answer, Client, path_of, subscription_body
from support.records import a_subscriber, a_subscription

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROJECT = "their-project"
_numbers = itertools.count(1)


@pytest.fixture
def topic() -> str:
    """A topic that no other test names."""
    return f"pim-events-{next(_numbers)}"


def a_body(topic: str) -> dict[str, Any]:
    return subscription_body(type="pubsub", config={"project_id": PROJECT, "topic_id": topic})


async def post(client: Client, subscriber: dict[str, Any], topic: str) -> Answer:
    return await client.call("POST", f"{path_of(subscriber)}/subscriptions", a_body(topic))


def label(client: Client, topic: str, value: str) -> None:
    client.world.labels[PROJECT, topic, PROOF_LABEL] = value


async def test_the_first_client_is_asked_for_no_proof(client: Client, topic: str) -> None:
    subscriber = await client.subscriber()
    for _ in range(2):
        answer = await post(client, subscriber, topic)
        assert (answer.status, answer.body["status"]) == (201, "active")


async def test_the_second_is_told_how_to_prove_it_and_then_takes_it(
    client: Client, other: Client, topic: str
) -> None:
    first = (await post(client, await client.subscriber(), topic)).body
    subscriber = await other.subscriber()
    refused = await post(other, subscriber, topic)
    assert refused.fields() == {"config.topic_id"}
    for part in (PROOF_LABEL, subscriber["id"], "roles/pubsub.viewer"):
        assert part in refused.message()
    assert first["id"] not in str(refused.body)
    (entry,) = (await other.get("/logs?operation=request_refused"))["items"]
    assert entry["error_message"] == refused.message()

    label(other, topic, subscriber["id"])
    taken = await post(other, subscriber, topic)
    assert (taken.status, taken.body["status"]) == (201, "active")
    assert (await client.get(path_of(first)))["status"] == "suspended"
    (entry,) = (await client.get("/logs?operation=subscription_suspended_by_the_platform"))["items"]
    assert (entry["subscription_id"], entry["error_message"]) == (first["id"], LOST.reason)


@pytest.mark.parametrize("value", ["", "something else", "the first one's", "a deleted one's"])
async def test_another_label_proves_nothing(client: Client, other: Client, topic: str, value: str) -> None:
    first = (await post(client, await client.subscriber(), topic)).body
    deleted = await other.subscriber()
    await other.call("DELETE", path_of(deleted))
    label(client, topic, {"the first one's": first["id"], "a deleted one's": deleted["id"]}.get(value, value))
    refused = await post(other, await other.subscriber(), topic)
    assert refused.fields() == {"config.topic_id"}
    assert (await client.get(path_of(first)))["status"] == "active"


async def test_a_patch_takes_it_by_a_label_that_names_any_of_ones_subscriptions(
    client: Client, other: Client, topic: str
) -> None:
    first = (await post(client, await client.subscriber(), topic)).body
    subscriber = await other.subscriber()
    named, changed = [await other.subscription(subscriber) for _ in range(2)]
    body = {key: a_body(topic)[key] for key in ("type", "config")}
    refused = await other.call("PATCH", path_of(changed), body)
    assert refused.fields() == {"config.topic_id"}
    label(other, topic, named["id"])
    assert (await other.changed(path_of(changed), body))["type"] == "pubsub"
    assert (await client.get(path_of(first)))["status"] == "suspended"


async def test_who_lost_it_resumes_with_a_proof_of_its_own_or_when_it_is_free(
    client: Client, other: Client, topic: str
) -> None:
    first = (await post(client, await client.subscriber(), topic)).body
    subscriber = await other.subscriber()
    label(other, topic, subscriber["id"])
    second = (await post(other, subscriber, topic)).body

    refused = await client.call("POST", f"{path_of(first)}/resume")
    assert refused.status == 409
    assert "config.topic_id" in refused.message()
    label(client, topic, first["id"])
    assert (await client.call("POST", f"{path_of(first)}/resume")).status == 202
    assert (await other.get(path_of(second)))["status"] == "suspended"

    assert (await other.call("POST", f"{path_of(second)}/resume")).status == 409
    await client.call("DELETE", path_of(first))
    assert (await other.call("POST", f"{path_of(second)}/resume")).status == 202


async def test_clients_of_other_pims_are_others_too_and_other_topics_are_free(
    client: Client, other: Client, topic: str
) -> None:
    await post(client, await client.subscriber(), topic)
    subscriber = await other.subscriber()
    assert (await post(other, subscriber, f"{topic}-more")).status == 201


async def test_of_a_folder_from_before_the_first_active_client_holds_each_topic(tmp_path: Path) -> None:
    """Nothing is suspended by the upgrade, and who named a topic before is not shut out by a newcomer."""
    seal, topic = AesGcmSeal(b"\x01" * 32), PubSubConfig("example.com:their-project", "pim-events")
    owners = [Owner(f"https://pim-{number}.example.com", "erp") for number in range(4)]
    statuses = [Status.DELETED, Status.SUSPENDED, Status.ACTIVE, Status.ACTIVE]
    before = [
        a_subscription(a_subscriber(owner), config=topic, status=status)
        for owner, status in zip(owners, statuses, strict=True)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[: schema.MIGRATIONS.index(schema._VERSION_7)])
        older = Database(tmp_path)
        older.open()
        for subscription in before:
            await older.write(lambda connection, each=subscription: put_subscription(connection, seal, each))
        await older.close()
    upgraded = Database(tmp_path)
    upgraded.open()
    store = SqliteSubscriptions(upgraded, seal)
    assert [await store.current(each.id) for each in before] == before
    newcomer = a_subscriber(Owner("https://new.example.com", "erp"))
    holder = a_subscriber(owners[2])
    for subscriber in (newcomer, holder):
        await store.add_subscriber(subscriber, limit=20)
    with pytest.raises(TopicHeld):
        await store.add_subscription(a_subscription(newcomer, config=topic), anything, limit=20)
    await store.add_subscription(a_subscription(holder, config=topic), anything, limit=20)
    await upgraded.close()


async def test_what_is_imported_holds_its_topics_as_far_as_they_are_free(tmp_path: Path) -> None:
    seal, topic = AesGcmSeal(b"\x01" * 32), PubSubConfig("their-project", "pim-events")
    subscribers = [a_subscriber(Owner(f"https://pim-{number}.example.com", "erp")) for number in range(3)]
    imported = [a_subscription(subscriber, config=topic) for subscriber in subscribers[:2]]
    with closing(opening.connect(tmp_path / opening.FILE)) as connection:
        migrations.prepare(connection)
        records = Records(tenants=[], subscribers=subscribers, subscriptions=imported)
        moving.bring_in(connection, seal, records)
    opened = Database(tmp_path)
    opened.open()
    store = SqliteSubscriptions(opened, seal)
    assert [await store.current(each.id) for each in imported] == imported
    await store.add_subscription(a_subscription(subscribers[0], config=topic), anything, limit=20)
    with pytest.raises(TopicHeld):
        await store.add_subscription(a_subscription(subscribers[2], config=topic), anything, limit=20)
    await opened.close()
