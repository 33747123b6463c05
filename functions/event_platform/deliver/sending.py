"""The senders by type of destination."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ..domain.attempts.broker_messages import attributes_of, record_headers, record_key
from ..domain.attempts.outcomes import Published, Refusal, TransportFailure
from ..domain.deliveries import Delivery
from ..domain.events.catalog import Catalog
from ..domain.subscriptions import KafkaConfig, Owner, PubSubConfig
from ..ports import RecordSender, Sender, TopicSender


@dataclass(frozen=True, slots=True)
class Senders:
    """One for each type; Kafka's is made when it is first needed.

    `known` says what names the entity of an event: the key of its record.
    """

    https: Sender
    pubsub: TopicSender
    kafka: Callable[[], Awaitable[RecordSender]]
    known: Catalog

    async def to_broker(
        self, delivery: Delivery, config: PubSubConfig | KafkaConfig, *, owner: Owner, timeout: float
    ) -> Published | Refusal | TransportFailure:
        """The body as it is, unsigned (contract/wire.md 10b)."""
        kind, body, replay_id = delivery.event_type, delivery.body, delivery.shown_replay_id
        if isinstance(config, PubSubConfig):
            attributes = attributes_of(kind, config, replay_id)
            return await self.pubsub.publish(config, attributes, body, timeout=timeout)
        key = record_key(kind, delivery.event_id, body, self.known)
        headers = record_headers(kind, config, replay_id)
        kafka = await self.kafka()
        return await kafka.append(config, key, headers, body, owner=owner, timeout=timeout)
