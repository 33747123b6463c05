"""aiokafka's producer, with connections of ours: every broker's address passes the guard, whoever names it,
what a broker says is bounded, and the last connection that failed is remembered.

Written against aiokafka's insides, so its minor version is fixed.
"""

import asyncio
import ssl
import struct
from collections.abc import Callable
from typing import Any

from aiokafka import AIOKafkaProducer, errors
from aiokafka.client import AIOKafkaClient, CloseReason, ConnectionGroup
from aiokafka.cluster import ClusterMetadata
from aiokafka.conn import AIOKafkaConnection, ScramAuthenticator
from aiokafka.protocol.metadata import MetadataRequest

from .guard import GuardedNetwork

MAX_FRAME_BYTES = 4 * 1024 * 1024
"""Of one answer; what is asked for is short."""
MAX_SCRAM_ITERATIONS = 16_384
"""As many as Kafka lets a user have, whose default is 4,096; each one is work that a broker has us do."""
UNKNOWN_TOPIC_SECONDS = 1.0
"""How long brokers must say that there is no such topic: one that was just made is not known to all."""
_STOP_SECONDS = 5.0
_BACKOFF_SECONDS = 0.1
_NOT_KAFKA = (ValueError, LookupError, AssertionError, struct.error)
"""What aiokafka raises on an answer that is no answer."""


class NotKafka(errors.KafkaError):
    """Raised when what answers does not speak Kafka's protocol, or more than we read of it."""


class _GuardedLoop:
    """The event loop as a connection sees it: connects to addresses that the guard lets pass."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, network: GuardedNetwork, server_name: str | None
    ) -> None:
        self._loop = loop
        self._network = network
        self._server_name = server_name
        self.transport: asyncio.Transport | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def create_connection(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int, *, ssl: ssl.SSLContext | None
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """As the loop's own, by the addresses that were checked."""
        opened = await self._network.connect(host, port)
        name = self._server_name if ssl is not None else None
        self.transport, protocol = await self._loop.create_connection(
            factory, sock=opened, ssl=ssl, server_hostname=name
        )
        return self.transport, protocol


class _Scram(ScramAuthenticator):
    def create_salted_password(self, salt: bytes, iterations: int) -> None:
        if iterations > MAX_SCRAM_ITERATIONS:
            raise ValueError("too many iterations")
        super().create_salted_password(salt, iterations)


class _Connection(AIOKafkaConnection):
    def __init__(
        self, network: GuardedNetwork, server_name: str | None, host: str, port: int, **options: Any
    ) -> None:
        super().__init__(host, port, **options)
        loop: Any = _GuardedLoop(self._loop, network, server_name)
        self._loop = loop

    def authenticator_scram(self) -> ScramAuthenticator:
        return _Scram(
            loop=self._loop,
            sasl_plain_password=self._sasl_plain_password,
            sasl_plain_username=self._sasl_plain_username,
            sasl_mechanism=self._sasl_mechanism,
        )

    @staticmethod
    async def _read(self_ref: Callable[[], "_Connection | None"]) -> None:
        """As aiokafka's, of answers that are not too long; holds no reference while it waits."""
        connection = self_ref()
        if connection is None or connection._reader is None:
            return
        reader = connection._reader
        del connection
        while True:
            (size,) = struct.unpack(">i", await reader.readexactly(4))
            if not 0 <= size <= MAX_FRAME_BYTES:
                raise NotKafka("an answer of a length that is no answer's")
            answer = await reader.readexactly(size)
            connection = self_ref()
            if connection is None:
                return
            connection._handle_frame(answer)
            del connection

    def abort(self) -> None:
        """Closes it without waiting for what the broker does."""
        self.close(reason=CloseReason.SHUTDOWN)
        if self._loop.transport is not None:
            self._loop.transport.abort()


class _Cluster(ClusterMetadata):
    """Keeps what the last answer said of topics that have no partitions."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.errors_of_topics: dict[str, int] = {}

    def update_metadata(self, metadata: Any) -> None:
        self.errors_of_topics = {topic[1]: topic[0] for topic in metadata.topics if topic[0]}
        super().update_metadata(metadata)


class _Client(AIOKafkaClient):
    """`connection_error` is why the last connection failed; None since one was made."""

    def __init__(self, network: GuardedNetwork, server_name: str | None, **options: Any) -> None:
        super().__init__(**options)
        self.cluster = _Cluster(metadata_max_age_ms=self._metadata_max_age_ms)
        self.connection_error: Exception | None = None
        self._network = network
        self._server_name = server_name

    async def bootstrap(self) -> None:
        ((host, port, _),) = self.hosts
        connection = await self._connect(host, port)
        try:
            self.cluster.update_metadata(await connection.send(MetadataRequest([])))
        finally:
            connection.abort()
        if not self.cluster.brokers():
            raise NotKafka("a cluster without brokers")
        self._sync_task = asyncio.create_task(self._md_synchronizer())

    async def close(self) -> None:
        if self._sync_task is not None:
            self._sync_task.cancel()
            await asyncio.wait([self._sync_task])
            self._sync_task = None
        for connection in self._conns.values():
            connection.abort()
        if self._md_update_fut is not None and not self._md_update_fut.done():
            self._md_update_fut.set_result(False)  # who waits for it would wait for ever

    async def _get_conn(
        self, node_id: Any, *, group: int = ConnectionGroup.DEFAULT, no_hint: bool = False
    ) -> _Connection | None:
        async with self._get_conn_lock:
            connection = self._conns.get((node_id, group))
            if connection is not None and connection.connected():
                return connection
            broker = self.cluster.broker_metadata(node_id)
            try:
                if broker is None:
                    raise errors.StaleMetadata(f"no broker {node_id}")
                connection = await self._connect(broker.host, broker.port, self._on_connection_closed)
            except (OSError, errors.KafkaError):
                await asyncio.sleep(_BACKOFF_SECONDS)  # aiokafka's loops would ask again at once
                self.force_metadata_update()
                return None
            self._conns[node_id, group] = connection
            return connection

    async def _wait_on_metadata(self, topic: str) -> set[int]:
        partitions = self.cluster.partitions_for_topic(topic)
        if partitions is not None:
            return partitions
        self.add_topic(topic)
        unknown_since: float | None = None
        while True:
            updated = await self.force_metadata_update()
            partitions = self.cluster.partitions_for_topic(topic)
            if partitions is not None:
                return partitions
            error = errors.for_code(self.cluster.errors_of_topics.get(topic, 0)) if updated else None
            if error is errors.UnknownTopicOrPartitionError:
                unknown_since = unknown_since or self._loop.time()
                if self._loop.time() - unknown_since >= UNKNOWN_TOPIC_SECONDS:
                    raise errors.UnknownTopicOrPartitionError(topic)
            elif error in (errors.TopicAuthorizationFailedError, errors.InvalidTopicError):
                raise error(topic)
            await asyncio.sleep(_BACKOFF_SECONDS)

    async def _connect(
        self, host: str, port: int, on_close: Callable[..., None] | None = None
    ) -> _Connection:
        connection = _Connection(
            self._network,
            self._server_name,
            host,
            port,
            client_id=self._client_id,
            request_timeout_ms=self._request_timeout_ms,
            ssl_context=self._ssl_context,
            security_protocol=self._security_protocol,
            max_idle_ms=self._connections_max_idle_ms,
            on_close=on_close,
            sasl_mechanism=self._sasl_mechanism,
            sasl_plain_username=self._sasl_plain_username,
            sasl_plain_password=self._sasl_plain_password,
        )
        try:
            await connection.connect()
        except (OSError, errors.KafkaError) as error:
            self.connection_error = error
            raise
        except _NOT_KAFKA as error:
            self.connection_error = NotKafka(type(error).__name__)
            raise self.connection_error from error
        self.connection_error = None
        return connection


class Producer(AIOKafkaProducer):
    """A producer whose brokers are reached through the guard; `server_name` is theirs in TLS."""

    def __init__(self, network: GuardedNetwork, server_name: str | None, **options: Any) -> None:
        shared = dict(options)
        for name in ("acks", "enable_idempotence", "max_request_size"):
            shared.pop(name, None)
        super().__init__(**options)
        client = _Client(network, server_name, **shared)
        self.client = self._sender.client = client
        self._metadata = self._message_accumulator._cluster = client.cluster

    @property
    def connection_error(self) -> Exception | None:
        """Why the last connection failed; None since one was made."""
        return self.client.connection_error

    async def end(self) -> None:
        """Closes it within 5 s, whatever the brokers do. For when nobody waits for what is still unsent.

        Not by aiokafka's `stop`, which sends that first, and leaves connections open when it cannot.
        """
        self._closed = True
        await self.client.close()  # what waits for an answer fails at once
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._sender.close()
        except TimeoutError:
            pass
        finally:
            await self.client.close()  # a last attempt could have connected meanwhile
