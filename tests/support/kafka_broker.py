"""A real Kafka broker that somebody started for the tests: AEP_TEST_KAFKA is the path of what it says of
itself, as JSON (`listeners`, `username`, `password`, `files`, `forbidden_topic`)."""

import asyncio
import json
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from pydantic import SecretStr

from event_platform.domain.subscriptions import KafkaConfig, Sasl, Tls
from support.components import require
from support.kafka_server import PLACE, START_SECONDS

SERVER_NAME = "kafka.test"


@dataclass(frozen=True)
class KafkaBroker:
    """Where it listens, and who may write to what."""

    says: dict[str, Any]
    topic: str

    def bootstrap(self, listener: str) -> str:
        return self.says["listeners"][listener]["bootstrap"]

    @property
    def forbidden_topic(self) -> str:
        return self.says["forbidden_topic"]

    def pem(self, name: str) -> str:
        return Path(self.says["files"][name]).read_text()

    def tls(self, *, ca: str = "ca", server_name: str = SERVER_NAME) -> Tls:
        return Tls(server_name, self.pem(ca), self.pem("client_cert"), SecretStr(self.pem("client_key")))

    def config(
        self,
        listener: str = "sasl_plaintext",
        *,
        mechanism: str = "PLAIN",
        password: str | None = None,
        topic: str | None = None,
        broker: str | None = None,
        tls: Tls | None = None,
        **more: Any,
    ) -> KafkaConfig:
        """One that works, but for what is said."""
        sasl = Sasl(mechanism, self.says["username"], SecretStr(password or self.says["password"]))
        return KafkaConfig(broker or self.bootstrap(listener), topic or self.topic, sasl, tls, **more)

    @asynccontextmanager
    async def consumed(self) -> AsyncIterator[AIOKafkaConsumer]:
        """What comes to the topic from now on."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap("plaintext"))
        await consumer.start()
        try:
            partition = TopicPartition(self.topic, 0)
            consumer.assign([partition])
            await consumer.seek_to_end(partition)
            await consumer.position(partition)
            yield consumer
        finally:
            await consumer.stop()


@pytest.fixture(scope="session")
def kafka() -> KafkaBroker:
    """Has a topic of this process, as others test beside it. Without a broker: `require`."""
    place = os.environ.get(PLACE)
    require(f"a Kafka broker ({PLACE})", place)
    broker = KafkaBroker(json.loads(Path(str(place)).read_text()), f"events-{uuid.uuid4().hex[:8]}")
    asyncio.run(_create(broker.bootstrap("plaintext"), broker.topic))
    return broker


async def _create(bootstrap: str, topic: str) -> None:
    """Returns when the broker's metadata have the topic, which is a little later than it exists."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 1, 1)])
        async with asyncio.timeout(START_SECONDS):
            while (await admin.describe_topics([topic]))[0]["error_code"]:
                pass
    finally:
        await admin.close()
