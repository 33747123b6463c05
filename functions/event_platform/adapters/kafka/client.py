"""aiokafka's producer, with connections of ours: every broker's address passes the guard, whoever names it,
what a broker says is bounded, the handshake of TLS is made outside of the event loop, and the last connection
that failed is remembered.

Written against aiokafka's insides, so its minor version is fixed.
"""

import asyncio
import random
import socket
import ssl
import struct
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable, Collection
from concurrent.futures import Executor
from typing import Any, TypeVar

from aiokafka import AIOKafkaProducer, errors
from aiokafka.client import AIOKafkaClient, CloseReason, ConnectionGroup
from aiokafka.cluster import ClusterMetadata
from aiokafka.conn import AIOKafkaConnection, ScramAuthenticator
from aiokafka.protocol.metadata import MetadataRequest

from ..guard import GuardedNetwork

T = TypeVar("T")

MAX_FRAME_BYTES = 64 * 1024
"""One answer, which is parsed in at most 10 ms. A topic of 1,300 partitions with 3 replicas fits."""
MAX_PARTITIONS = 10_000
"""The partitions of all topics of one producer, which are looked through whenever metadata is renewed."""
MAX_SCRAM_ITERATIONS = 16_384
"""The iterations that Kafka lets a user have; its default is 4,096. Each is work that a broker asks of us."""
UNKNOWN_TOPIC_SECONDS = 1.0
"""The time for which brokers must miss a topic: one that was just made is not known to all."""
_STOP_SECONDS = 5.0
_BACKOFF_SECONDS = 0.1
_NOT_KAFKA = (ValueError, LookupError, AssertionError, struct.error)
"""Errors that aiokafka raises for a malformed answer."""


class NotKafka(errors.KafkaError):
    """Raised when what answers does not speak Kafka's protocol, or more than we read of it."""


class SlowWork:
    """Runs an owner's slow work in threads, one thing at a time.

    So another owner's work waits for one thing of his at most.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._lock = asyncio.Lock()

    async def do(self, function: Callable[..., T], *arguments: Any) -> T:
        """Returns what the function returns."""
        async with self._lock:
            return await asyncio.get_running_loop().run_in_executor(self._executor, function, *arguments)


class _TopicsRequest(MetadataRequest):
    """Asks for the topics it names and no other: in version 0 an empty list stands for all there are."""

    def build(self, request_struct_class: type[Any]) -> Any:
        if request_struct_class.API_VERSION == 0:
            raise errors.IncompatibleBrokerVersion("the broker is older than Kafka 0.10")
        return super().build(request_struct_class)


class _Handshake:
    """Stands in for an SSL context, to make the handshake of the protocol that asks for its TLS object."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, **options: Any) -> ssl.SSLObject:
        """Does what `ssl.SSLContext.wrap_bio` does, and keeps what the handshake needs."""
        self._incoming, self._outgoing = incoming, outgoing
        self._tls = self._context.wrap_bio(incoming, outgoing, **options)
        return self._tls

    async def make(self, opened: socket.socket, slow_work: SlowWork) -> None:
        """Makes the handshake, each step in a thread, where OpenSSL holds up nobody.

        Certificates and keys that others choose can make a step take a tenth of a second of CPU.
        """
        loop = asyncio.get_running_loop()
        is_done = False
        while True:
            try:
                await slow_work.do(self._tls.do_handshake)
                is_done = True
            except ssl.SSLWantReadError:
                pass
            if self._outgoing.pending:
                await loop.sock_sendall(opened, self._outgoing.read())
            if is_done:
                return
            heard = await loop.sock_recv(opened, MAX_FRAME_BYTES)
            if not heard:
                raise ConnectionResetError  # as asyncio's own handshake
            self._incoming.write(heard)


class _GuardedLoop:
    """The event loop as a connection sees it: connects to addresses that the guard lets pass."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        network: GuardedNetwork,
        server_name: str | None,
        slow_work: SlowWork,
    ) -> None:
        self._loop = loop
        self._network = network
        self._server_name = server_name
        self._slow_work = slow_work
        self.transport: asyncio.Transport | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def run_in_executor(self, executor: None, function: Callable[..., Any], *arguments: Any) -> Any:
        """Does what the loop's own does; aiokafka has SCRAM's salted passwords made so."""
        return self._slow_work.do(function, *arguments)

    async def create_connection(
        self, factory: Callable[[], asyncio.Protocol], host: str, port: int, *, ssl: ssl.SSLContext | None
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """Connects as the loop's own method does, to the addresses that were checked."""
        opened = await self._network.connect(host, port)
        protocol = factory()
        if ssl is None:
            self.transport, _ = await self._loop.create_connection(lambda: protocol, sock=opened)
        else:
            self.transport = await self._secured(opened, protocol, ssl)
        return self.transport, protocol

    async def _secured(
        self, opened: socket.socket, protocol: asyncio.Protocol, context: ssl.SSLContext
    ) -> asyncio.Transport:
        """Returns the transport of TLS over a socket, once the handshake is made."""
        handshake: Any = _Handshake(context)
        ready = self._loop.create_future()
        secured = SSLProtocol(self._loop, protocol, handshake, ready, server_hostname=self._server_name)
        try:
            await handshake.make(opened, self._slow_work)
        except BaseException:
            opened.close()
            secured.connection_lost(None)
            raise
        await self._loop.create_connection(lambda: secured, sock=opened)
        await ready
        return secured._app_transport


class _Scram(ScramAuthenticator):
    def create_salted_password(self, salt: bytes, iterations: int) -> None:
        if iterations > MAX_SCRAM_ITERATIONS:
            raise ValueError("too many iterations")
        super().create_salted_password(salt, iterations)


class _Connection(AIOKafkaConnection):
    def __init__(
        self,
        network: GuardedNetwork,
        server_name: str | None,
        slow_work: SlowWork,
        host: str,
        port: int,
        **options: Any,
    ) -> None:
        super().__init__(host, port, **options)
        loop: Any = _GuardedLoop(self._loop, network, server_name, slow_work)
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
        """Reads as aiokafka does, but no answer that is too long; holds no reference while it waits."""
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

    def __init__(
        self, network: GuardedNetwork, server_name: str | None, slow_work: SlowWork, **options: Any
    ) -> None:
        super().__init__(**options)
        self.cluster = _Cluster(metadata_max_age_ms=self._metadata_max_age_ms)
        self.connection_error: Exception | None = None
        self._network = network
        self._server_name = server_name
        self._slow_work = slow_work

    async def bootstrap(self) -> None:
        ((host, port, _),) = self.hosts
        connection = await self._connect(host, port)
        try:
            self.cluster.update_metadata(await _ask(connection, ()))
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

    async def _metadata_update(self, cluster_metadata: ClusterMetadata, topics: Collection[str]) -> bool:
        """Does what aiokafka's does, for these topics alone. Each topic has a short answer of its own."""
        nodes = [broker.nodeId for broker in self.cluster.brokers()]
        random.shuffle(nodes)
        for node in nodes:
            connection = await self._get_conn(node)
            if connection is None:
                continue
            try:
                found = await _ask(connection, topics)
            except NotKafka as error:
                self.connection_error = error
                break
            except (errors.KafkaError, TimeoutError):
                continue
            if not found.brokers:
                return False
            cluster_metadata.update_metadata(found)
            return True
        cluster_metadata.failed_update(None)
        return False

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
            self._slow_work,
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


async def _ask(connection: _Connection, topics: Collection[str]) -> Any:
    """Returns what a broker says of itself and of these topics. Raises NotKafka if that is too much."""
    found: Any = None
    kept: list[Any] = []
    partitions = 0
    for topic in list(topics) or [None]:
        found = await connection.send(_TopicsRequest([] if topic is None else [topic]))
        for said in found.topics or ():
            if said[1] == topic and said[-1] is not None:
                kept.append(said)
                partitions += len(said[-1])
        if partitions > MAX_PARTITIONS:
            raise NotKafka("more partitions than are read")
    found.topics = kept
    return found


class Producer(AIOKafkaProducer):
    """A producer whose brokers are reached through the guard; `server_name` is theirs in TLS.

    `slow_work` is its owner's.
    """

    def __init__(
        self, network: GuardedNetwork, server_name: str | None, slow_work: SlowWork, **options: Any
    ) -> None:
        shared = dict(options)
        for name in ("acks", "enable_idempotence", "max_request_size"):
            shared.pop(name, None)
        super().__init__(**options)
        client = _Client(network, server_name, slow_work, **shared)
        self.client = self._sender.client = client
        self._metadata = self._message_accumulator._cluster = client.cluster

    @property
    def connection_error(self) -> Exception | None:
        """The reason why the last connection failed; None since one was made."""
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
