"""What follows from handing a delivery to Pub/Sub or Kafka (contract/wire.md 10b, 11 and 13)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from event_platform.deliver import Judge, Senders, deliver
from event_platform.domain.attempts.broker_messages import record_key
from event_platform.domain.attempts.egress import Egress
from event_platform.domain.attempts.outcomes import Kind, Published, Reason, Refusal, TransportFailure
from event_platform.domain.attempts.retries import KAFKA_DELAYS
from event_platform.domain.deliveries import DeliverPolicy, Delivery, Settlement
from event_platform.domain.events import catalog, json_form
from event_platform.domain.events.event import envelope
from event_platform.domain.record.logs import DeliveryEnd, Operation
from event_platform.domain.subscriptions import Config, KafkaConfig, Owner, PubSubConfig, Subscription
from support.clock import START, ManualClock
from support.records import (
    KAFKA_CONFIG,
    OWNER,
    PUBSUB_CONFIG,
    UPDATED,
    a_subscriber,
    a_subscription,
    an_event,
)
from support.senders import Unused

POLICY = DeliverPolicy([timedelta(minutes=minutes) for minutes in (5, 10, 20)], timedelta(days=3), timeout=5)
ENTITY = "00000000-0000-4000-8000-000000000001"
BODY = envelope(an_event(), "https://events.example.com/spec", with_identifier=False).addressed_to("s")
Result = Published | Refusal | TransportFailure


@dataclass
class Brokers:
    """The ports `TopicSender` and `RecordSender`: give the result, and keep what they were handed."""

    result: Result
    published: list[tuple[PubSubConfig, Mapping[str, str], bytes, float]] = field(default_factory=list)
    appended: list[tuple[KafkaConfig, bytes, Sequence[tuple[str, bytes]], bytes, float]] = field(
        default_factory=list
    )

    async def publish(
        self, config: PubSubConfig, attributes: Mapping[str, str], body: bytes, *, timeout: float
    ) -> Result:
        self.published.append((config, attributes, body, timeout))
        return self.result

    async def append(
        self,
        config: KafkaConfig,
        key: bytes,
        headers: Sequence[tuple[str, bytes]],
        body: bytes,
        *,
        owner: Owner,
        timeout: float,
    ) -> Result:
        assert owner == OWNER
        self.appended.append((config, key, headers, body, timeout))
        return self.result

    async def kafka(self) -> "Brokers":
        return self

    async def current(self, subscription_id: str) -> Subscription | None:
        return self.subscription

    subscription: Subscription | None = None


class NoEndpoint(Unused):
    async def post(self, *_: object, **__: object) -> None:
        raise AssertionError("nothing goes to an endpoint here")


async def handled(config: Config, result: Result, *, failures: int = 0) -> tuple[Settlement, Brokers]:
    brokers = Brokers(result, subscription=a_subscription(a_subscriber(), config=config))
    assert brokers.subscription is not None
    delivery = Delivery(
        subscription_id=brokers.subscription.id,
        event_id="event-1",
        event_type=UPDATED,
        accepted_at=START,
        lane=3,
        lanes=16,
        epoch=0,
        body=BODY,
        attempts=failures,
        failures=failures,
        first_attempt_at=START if failures else None,
    )
    settlement = await deliver(
        delivery,
        subscriptions=brokers,
        senders=Senders(NoEndpoint(), brokers, brokers.kafka, catalog.load()),  # pyright: ignore[reportArgumentType]
        clock=ManualClock(),
        policy=POLICY,
        egress=Egress(),
    )
    return settlement, brokers


async def test_pubsub_gets_the_body_as_it_is_with_the_type_and_custom_headers_as_attributes() -> None:
    settlement, brokers = await handled(PUBSUB_CONFIG, Published())
    attributes = {"type": UPDATED, "X-Stage": "a header value of tests"}
    assert brokers.published == [(PUBSUB_CONFIG, attributes, BODY, 5)]
    assert settlement.outcome is not None
    assert settlement.outcome.kind is Kind.DELIVERED
    assert (settlement.end, settlement.retry_at, settlement.pace) == (None, None, None)


async def test_kafka_gets_the_entity_as_key_and_the_type_as_record_header() -> None:
    _, brokers = await handled(KAFKA_CONFIG, Published())
    headers = [("type", UPDATED.encode()), ("X-Stage", b"a header value of tests")]
    assert brokers.appended == [(KAFKA_CONFIG, ENTITY.encode(), headers, BODY, 5)]


@pytest.mark.parametrize(
    ("event_type", "data", "key"),
    [
        ("product.deleted", {"product": {"uuid": "a-uuid"}}, b"a-uuid"),
        (
            "reference-entity-record.updated",
            {"reference_entity_record": {"code": "starck", "reference_entity": {"code": "designer"}}},
            b"designer/starck",
        ),
        ("category.updated", {"category": {"code": "\ud800"}}, b"\xed\xa0\x80"),
        ("product.updated", {"product": {}}, b"event-1"),
        ("of.nobody", {"product": {"uuid": "a-uuid"}}, b"event-1"),
    ],
)
def test_the_key_is_the_entity_or_else_the_event(
    event_type: str, data: dict[str, object], key: bytes
) -> None:
    body = json_form.stringify({"data": data})
    assert record_key(f"com.akeneo.pim.v1.{event_type}", "event-1", body, catalog.load()) == key


@pytest.mark.parametrize("config", [PUBSUB_CONFIG, KAFKA_CONFIG], ids=lambda config: config.type)
@pytest.mark.parametrize(
    "result",
    [
        Refusal(Reason.TOPIC_NOT_FOUND, "no topic"),
        Refusal(Reason.DESTINATION_NOT_FOUND, "no project"),
        Refusal(Reason.PUBLISH_REJECTED, "not allowed", forbidden=True),
    ],
)
async def test_what_is_not_there_or_forbidden_suspends_at_once(config: Config, result: Refusal) -> None:
    settlement, _ = await handled(config, result)
    assert settlement.end == DeliveryEnd(Operation.FAILED, result.detail, START, result.reason)
    assert settlement.suspension is not None
    assert settlement.suspension.reason == result.detail


@pytest.mark.parametrize(
    "result",
    [
        Refusal(Reason.AUTHENTICATION_FAILED, "wrong password"),
        Refusal(Reason.PUBLISH_REJECTED, "too large"),
        TransportFailure(Reason.CONNECTION_REFUSED, "connection refused"),
        TransportFailure(Reason.DESTINATION_TIMEOUT, "no answer"),
    ],
)
async def test_what_may_pass_is_tried_again_by_each_types_own_delays(result: Result) -> None:
    for config, first in ((PUBSUB_CONFIG, timedelta(minutes=5)), (KAFKA_CONFIG, timedelta(seconds=5))):
        settlement, _ = await handled(config, result)
        assert settlement.retry_at == START + first
        assert (settlement.end, settlement.suspension, settlement.pace) == (None, None, None)


async def test_kafka_is_tried_for_35_minutes_at_growing_distances() -> None:
    refused = Refusal(Reason.PUBLISH_REJECTED, "too large")
    waits: list[float] = []
    failures = 0
    while True:
        settlement, _ = await handled(KAFKA_CONFIG, refused, failures=failures)
        if settlement.retry_at is None:
            break
        waits.append((settlement.retry_at - START).total_seconds())
        failures = settlement.delivery.failures
    assert waits[:8] == [5, 10, 20, 40, 80, 160, 320, 600]
    assert max(waits) == 600
    assert sum(waits) == 35 * 60
    assert settlement.end is not None
    assert len(KAFKA_DELAYS) == len(waits)


async def test_attempts_at_brokers_are_counted_and_their_success_rate_is_not_judged() -> None:
    counted: list[object] = []

    class Counts:
        async def add(self, counts: object) -> None:
            counted.append(counts)

    clock, unused, brokers = ManualClock(), Unused(), (PUBSUB_CONFIG, KAFKA_CONFIG)
    judge = Judge(Counts(), unused, Egress(), clock)  # pyright: ignore[reportArgumentType]
    for config in brokers:
        settlement, _ = await handled(config, Refusal(Reason.AUTHENTICATION_FAILED))
        assert settlement.succeeded is False
        await judge.settled(settlement)
    await judge.stop()
    assert len(counted) == len(brokers)


async def test_a_configuration_that_cannot_work_ends_the_delivery_and_suspends_nobody() -> None:
    wrong = TransportFailure(Reason.INVALID_DESTINATION_CONFIGURATION, "a broker has no public address")
    settlement, _ = await handled(KAFKA_CONFIG, wrong)
    assert settlement.end is not None
    assert settlement.suspension is None


async def test_a_refusal_says_nothing_about_our_network_and_a_broken_connection_does() -> None:
    for result, failing in (
        (Refusal(Reason.PUBLISH_REJECTED), 0),
        (TransportFailure(Reason.CONNECTION_RESET), 20),
    ):
        egress = Egress()
        for number in range(20):
            config = replace(KAFKA_CONFIG, broker=f"kafka-{number}.example.com:9093")
            brokers = Brokers(result, subscription=a_subscription(a_subscriber(), config=config))
            assert brokers.subscription is not None
            await deliver(
                Delivery(brokers.subscription.id, "e", UPDATED, START, 0, 16, 0, BODY),
                subscriptions=brokers,
                senders=Senders(NoEndpoint(), brokers, brokers.kafka, catalog.load()),  # pyright: ignore[reportArgumentType]
                clock=ManualClock(),
                policy=POLICY,
                egress=egress,
            )
        assert egress.failing == failing
