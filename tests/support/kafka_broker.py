"""A real Kafka broker that somebody started for the tests: AEP_TEST_KAFKA is the path of what it says of
itself, as JSON (`listeners`, `username`, `password`, `files`, `topics`, `forbidden_topic`)."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from pydantic import SecretStr

from event_platform.domain.subscriptions import KafkaConfig, Sasl, Tls
from support.components import require
from support.kafka_server import PLACE

SERVER_NAME = "kafka.test"


@dataclass(frozen=True)
class KafkaBroker:
    """Where it listens, and who may write to what."""

    says: dict[str, Any]

    def bootstrap(self, listener: str) -> str:
        return self.says["listeners"][listener]["bootstrap"]

    @property
    def topic(self) -> str:
        return self.says["topics"][0]

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
    """Skips, or fails where CI is set, when there is none."""
    place = os.environ.get(PLACE)
    require(f"a Kafka broker ({PLACE})", place)
    return KafkaBroker(json.loads(Path(str(place)).read_text()))
