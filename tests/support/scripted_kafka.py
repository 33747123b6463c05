"""A Kafka broker that says what a test has it say, for what no real one does."""

import asyncio
import io
import struct
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from aiokafka.protocol.admin import (
    ApiVersionResponse_v0,
    SaslAuthenticateResponse_v0,
    SaslHandShakeResponse_v1,
)
from aiokafka.protocol.metadata import MetadataRequest_v5, MetadataResponse_v5
from aiokafka.protocol.produce import ProduceRequest_v3, ProduceResponse_v3
from aiokafka.protocol.transaction import InitProducerIdResponse_v0
from aiokafka.protocol.types import Int16, Int32, String


class Api(IntEnum):
    """The requests of Kafka that are answered."""

    PRODUCE = 0
    METADATA = 3
    SASL_HANDSHAKE = 17
    API_VERSIONS = 18
    INIT_PRODUCER_ID = 22
    SASL_AUTHENTICATE = 36


VERSIONS = {
    Api.PRODUCE: (3, 3),
    Api.METADATA: (1, 5),
    Api.SASL_HANDSHAKE: (1, 1),
    Api.INIT_PRODUCER_ID: (0, 0),
    Api.SASL_AUTHENTICATE: (0, 0),
}
Topic = tuple[int, str, bool, Sequence[Any]]
"""Error, name, whether it is internal, partitions: as Kafka's metadata has them."""


def a_topic(name: str, partitions: int = 1) -> Topic:
    return 0, name, False, [(0, number, 1, [1], [1], []) for number in range(partitions)]


@dataclass
class ScriptedBroker:
    """`topics` makes what metadata says from the names that were asked for; None stands for all."""

    topics: Callable[[list[str] | None], Sequence[Topic]]
    versions: Mapping[Api, tuple[int, int]] = field(default_factory=lambda: VERSIONS)
    asked: list[list[str] | None] = field(default_factory=list[list[str] | None])
    address: str = ""
    connections: int = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["ScriptedBroker"]:
        served: set[asyncio.Task[None]] = set()

        def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            served.add(asyncio.ensure_future(self._serve(reader, writer)))

        server = await asyncio.start_server(accepted, "127.0.0.1", 0)
        self.metadata = self._metadata
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for task in served:
                task.cancel()
            await asyncio.gather(*served, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            (size,) = struct.unpack(">i", await reader.readexactly(4))
            request = io.BytesIO(await reader.readexactly(size))
            key, version = Int16.decode(request), Int16.decode(request)
            correlation = Int32.decode(request)
            String("utf-8").decode(request)
            answer = Int32.encode(correlation) + self._answer(key, version, request)
            writer.write(struct.pack(">i", len(answer)) + answer)

    def _answer(self, key: int, version: int, request: io.BytesIO) -> bytes:
        match key:
            case Api.API_VERSIONS:
                known = [(int(api), *versions) for api, versions in self.versions.items()]
                return ApiVersionResponse_v0(0, known).encode()
            case Api.SASL_HANDSHAKE:
                return SaslHandShakeResponse_v1(0, ["PLAIN"]).encode()
            case Api.SASL_AUTHENTICATE:
                return SaslAuthenticateResponse_v0(0, None, b"").encode()
            case Api.METADATA:
                names = MetadataRequest_v5.decode(request).get_item("topics")
                self.asked.append(names)
                return self.metadata(names)
            case Api.INIT_PRODUCER_ID:
                return InitProducerIdResponse_v0(0, 0, 1, 0).encode()
            case Api.PRODUCE:
                return self._produced(request)
            case _:
                raise AssertionError(f"request {key} version {version}")

    def _metadata(self, names: list[str] | None) -> bytes:
        host, _, port = self.address.partition(":")
        brokers = [(1, host, int(port), None)]
        return MetadataResponse_v5(0, brokers, "cluster", 1, self.topics(names)).encode()

    def _produced(self, request: io.BytesIO) -> bytes:
        written = ProduceRequest_v3.decode(request).get_item("topics")
        return ProduceResponse_v3(
            [(topic, [(partition, 0, 0, -1) for partition, _ in parts]) for topic, parts in written], 0
        ).encode()
