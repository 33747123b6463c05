"""Publishing and intake on Google's Pub/Sub emulator."""

from collections.abc import AsyncIterator

import pytest

from event_platform.adapters.pubsub.intake import PubSubIntake
from event_platform.adapters.pubsub.publisher import PubSubPublisher
from event_platform.domain.errors import PublishFailed
from event_platform.domain.events import catalog
from event_platform.domain.messages.message import Message
from event_platform.domain.messages.queue_messages import EVENTS_TOPIC
from support.clock import ManualClock
from support.pubsub_project import Project
from support.records import PIM, accepted_of, an_event

TOPIC = EVENTS_TOPIC


@pytest.fixture
async def pubsub(pubsub_host: str, project: str) -> AsyncIterator[Project]:
    opened = Project(pubsub_host, project)
    await opened.create_topic(TOPIC)
    yield opened
    await opened.close()


async def test_what_is_published_can_be_pulled(pubsub: Project) -> None:
    publisher = PubSubPublisher(pubsub.name, pubsub.client)
    await publisher.publish(
        TOPIC, [Message(b"\0\xff", {"a": "ü", "empty": ""}, "s/1"), Message(b"", {"b": "1"})]
    )
    pulled = {message.data: message for message in await pubsub.pull(TOPIC, 2)}
    assert dict(pulled[b"\0\xff"].attributes) == {"a": "ü", "empty": ""}
    assert pulled[b"\0\xff"].ordering_key == "s/1"
    assert dict(pulled[b""].attributes) == {"b": "1"}
    assert pulled[b""].ordering_key == ""


async def test_messages_of_a_key_keep_their_order(pubsub: Project) -> None:
    publisher = PubSubPublisher(pubsub.name, pubsub.client)
    sent = [Message(str(number).encode(), ordering_key=f"s/{number % 3}") for number in range(1500)]
    await publisher.publish(TOPIC, sent[:700])
    await publisher.publish(TOPIC, sent[700:])
    by_key: dict[str, list[bytes]] = {}
    for message in await pubsub.pull(TOPIC, 1500):
        by_key.setdefault(message.ordering_key, []).append(message.data)
    assert by_key == {
        f"s/{key}": [str(number).encode() for number in range(1500) if number % 3 == key] for key in range(3)
    }


async def test_a_topic_that_is_not_there_is_a_failed_publish(pubsub: Project) -> None:
    publisher = PubSubPublisher(pubsub.name, pubsub.client)
    told = f"there is no topic projects/{pubsub.name}/topics/missing"
    with pytest.raises(PublishFailed, match=told) as raised:
        await publisher.publish("missing", [Message(b"1"), Message(b"2", ordering_key="a")])
    assert raised.value.failed == (0, 1)


async def test_the_client_is_made_at_the_first_publish(
    pubsub: Project, pubsub_host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", pubsub_host)
    publisher = PubSubPublisher(pubsub.name)
    await publisher.publish(TOPIC, [Message(b"1")])
    await publisher.close()
    assert [message.data for message in await pubsub.pull(TOPIC, 1)] == [b"1"]


async def test_what_is_accepted_arrives_once(pubsub: Project) -> None:
    intake = PubSubIntake(PubSubPublisher(pubsub.name, pubsub.client), ManualClock())
    first, second = an_event(1), an_event(2)
    await intake.accept(PIM, [first, first])
    await intake.accept(PIM, [first, second])
    pulled = [
        accepted_of(Message(message.data, dict(message.attributes)), catalog.load())
        for message in await pubsub.pull(TOPIC, 2)
    ]
    assert sorted([list(accepted.events) for accepted in pulled], key=str) == [[first], [second]]
    assert {accepted.tenant for accepted in pulled} == {PIM}
