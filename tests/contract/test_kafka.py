"""Records in a real Kafka broker, and what each of its failures is called (contract/wire.md 10b and 13)."""

import asyncio
import errno
import gc
import ipaddress
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiohappyeyeballs import AddrInfoType
from aiokafka.errors import KafkaError
from pydantic import SecretStr

from event_platform.adapters.guard import AddressRefused, GuardedNetwork
from event_platform.adapters.kafka import sender as kafka_module
from event_platform.adapters.kafka.client import Producer, SlowWork
from event_platform.adapters.kafka.sender import KafkaSender
from event_platform.domain.attempts.outcomes import (
    Kind,
    Published,
    Reason,
    Refusal,
    TransportFailure,
    classify,
)
from event_platform.domain.subscriptions import KafkaConfig
from support.eventually import eventually
from support.kafka_broker import KafkaBroker
from support.records import KAFKA_CONFIG, OWNER

HEADERS = [("type", b"com.akeneo.pim.v1.product.updated"), ("X-Stage", b"production")]
AMPLE = 20.0
SHORT = 1.0
"""Seconds; nothing here needs as long to fail as a deadline allows, but for who says nothing."""


@pytest.fixture
async def sender() -> AsyncIterator[KafkaSender]:
    sender = KafkaSender(GuardedNetwork(allow_loopback=True))
    yield sender
    await sender.close()


async def appended(
    sender: KafkaSender, config: KafkaConfig, body: bytes = b"{}", *, timeout: float = AMPLE
) -> Published | Refusal | TransportFailure:
    return await sender.append(config, b"an entity", HEADERS, body, owner=OWNER, timeout=timeout)


async def failed(sender: KafkaSender, config: KafkaConfig, *, timeout: float = AMPLE) -> tuple[Reason, Kind]:
    """The reason and what follows from it."""
    result = await appended(sender, config, timeout=timeout)
    assert not isinstance(result, Published)
    assert "\n" not in result.detail
    return result.reason, classify(result).kind


@asynccontextmanager
async def server(
    handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[Any]],
    *,
    host: str = "127.0.0.1",
) -> AsyncIterator[str]:
    """Its host:port."""
    tasks: set[asyncio.Task[Any]] = set()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.ensure_future(handle(reader, writer)))

    listening = await asyncio.start_server(accepted, host, 0)
    try:
        yield f"{host}:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()


def _forward_to(
    host: str, port: int
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[Any]]:
    """A broker's other address: it has no name for itself but its own."""

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, port)
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))

    return forward


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
@pytest.mark.parametrize("listener", ["sasl_plaintext", "sasl_ssl", "sasl_mtls"])
async def test_every_mechanism_without_and_with_tls(
    kafka: KafkaBroker, sender: KafkaSender, listener: str, mechanism: str
) -> None:
    tls = None if listener == "sasl_plaintext" else kafka.tls()
    config = kafka.config(listener, mechanism=mechanism, tls=tls)
    assert await appended(sender, config) == Published()


async def test_key_headers_and_value_arrive_as_they_were(kafka: KafkaBroker, sender: KafkaSender) -> None:
    body = '{"a":"\u00e9"}'.encode()
    async with kafka.consumed() as consumer:
        assert await appended(sender, kafka.config(), body) == Published()
        record = await asyncio.wait_for(consumer.getone(), AMPLE)
    assert (record.key, list(record.headers), record.value) == (b"an entity", HEADERS, body)


async def test_large_events_go_as_far_as_the_topic_takes_them(
    kafka: KafkaBroker, sender: KafkaSender
) -> None:
    assert await appended(sender, kafka.config(), b"x" * 900_000) == Published()
    result = await appended(sender, kafka.config(), b"x" * 2_000_000)
    assert result == Refusal(Reason.PUBLISH_REJECTED, "the event is larger than the topic takes")
    assert await appended(sender, kafka.config()) == Published()


async def test_an_event_that_is_refused_harms_no_other(kafka: KafkaBroker, sender: KafkaSender) -> None:
    bodies = [b"x" * (2_000_000 if number == 3 else 10) for number in range(8)]
    results = await asyncio.gather(*(appended(sender, kafka.config(), body) for body in bodies))
    assert [isinstance(result, Published) for result in results] == [number != 3 for number in range(8)]


# --- what fails, by a real cause -----------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
async def test_a_wrong_password_does_not_suspend(
    kafka: KafkaBroker, sender: KafkaSender, mechanism: str
) -> None:
    config = kafka.config(mechanism=mechanism, password="wrong")
    assert await failed(sender, config) == (Reason.AUTHENTICATION_FAILED, Kind.RETRYABLE)


async def test_a_broker_without_sasl_is_a_failed_authentication(
    kafka: KafkaBroker, sender: KafkaSender
) -> None:
    assert await failed(sender, kafka.config("plaintext")) == (Reason.AUTHENTICATION_FAILED, Kind.RETRYABLE)


async def test_an_unknown_topic_suspends(kafka: KafkaBroker, sender: KafkaSender) -> None:
    config = kafka.config(topic="there.is.no.such.topic")
    assert await failed(sender, config) == (Reason.TOPIC_NOT_FOUND, Kind.SUSPENDING)
    assert await appended(sender, kafka.config()) == Published()
    assert sender.producers == 1  # who refuses one topic's events is good for the others


async def test_a_forbidden_topic_is_a_rejection_and_does_not_suspend(
    kafka: KafkaBroker, sender: KafkaSender
) -> None:
    config = kafka.config(topic=kafka.forbidden_topic)
    assert await failed(sender, config) == (Reason.PUBLISH_REJECTED, Kind.RETRYABLE)


async def test_a_certificate_of_another_authority_is_invalid(kafka: KafkaBroker, sender: KafkaSender) -> None:
    config = kafka.config("sasl_ssl", tls=kafka.tls(ca="other_ca"))
    assert await failed(sender, config) == (Reason.INVALID_CERTIFICATE, Kind.RETRYABLE)


async def test_a_certificate_for_another_name_is_invalid(kafka: KafkaBroker, sender: KafkaSender) -> None:
    config = kafka.config("sasl_ssl", tls=kafka.tls(server_name="other.test"))
    assert await failed(sender, config) == (Reason.INVALID_CERTIFICATE, Kind.RETRYABLE)


async def test_tls_to_a_broker_without_it_fails_in_the_handshake(
    kafka: KafkaBroker, sender: KafkaSender
) -> None:
    config = kafka.config("sasl_plaintext", tls=kafka.tls())
    assert (await failed(sender, config))[1] is Kind.RETRYABLE


async def test_a_key_that_is_not_the_certificates_is_a_wrong_configuration(
    kafka: KafkaBroker, sender: KafkaSender
) -> None:
    tls = replace(kafka.tls(), client_cert_pem=kafka.pem("ca"))
    config = kafka.config("sasl_ssl", tls=tls)
    assert await failed(sender, config) == (Reason.INVALID_DESTINATION_CONFIGURATION, Kind.PERMANENT)


async def test_nobody_listens(kafka: KafkaBroker, sender: KafkaSender) -> None:
    async with server(_forward_to("127.0.0.1", 1)) as address:
        pass  # it is closed again
    config = kafka.config(broker=address)
    assert await failed(sender, config) == (Reason.CONNECTION_REFUSED, Kind.RETRYABLE)


async def test_a_name_that_does_not_resolve(kafka: KafkaBroker, sender: KafkaSender) -> None:
    config = kafka.config(broker="kafka.invalid:9092")
    assert await failed(sender, config) == (Reason.DNS_LOOKUP_FAILURE, Kind.RETRYABLE)


async def test_a_broker_that_accepts_and_says_nothing(kafka: KafkaBroker, sender: KafkaSender) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with server(silent) as address:
        began = time.monotonic()
        results = await asyncio.gather(
            *(failed(sender, kafka.config(broker=address), timeout=SHORT) for _ in range(4))
        )
        assert time.monotonic() - began < SHORT + 2 * AMPLE
        await sender.close()
        assert time.monotonic() - began < SHORT + 3 * AMPLE
    assert set(results) == {(Reason.DESTINATION_TIMEOUT, Kind.RETRYABLE)}


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x00\x00\x00\x04abcd",
        b"\x7f\xff\xff\xff" + bytes(1000),
        b"\xff\xff\xff\xff",
    ],
)
async def test_what_does_not_speak_kafka_is_a_failure(
    kafka: KafkaBroker, sender: KafkaSender, answer: bytes
) -> None:
    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        await asyncio.Event().wait()

    async with server(garbage) as address:
        result = await failed(sender, kafka.config(broker=address), timeout=SHORT)
    assert result == (Reason.DESTINATION_FAILURE, Kind.RETRYABLE)


async def test_a_broker_that_asks_for_too_much_work_gets_none(
    kafka: KafkaBroker, sender: KafkaSender
) -> None:
    """Between us and the broker somebody asks for more iterations of SCRAM than Kafka ever does."""
    host, _, port = kafka.bootstrap("sasl_plaintext").partition(":")

    async def more_work(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            (size,) = struct.unpack(">i", await reader.readexactly(4))
            answer = await reader.readexactly(size)
            if (end := answer.find(b",i=4096")) >= 0:
                start = answer.index(b"r=")  # of the server's first message, behind its length
                asked = answer[start:end] + b",i=16385"
                rest = answer[end + len(b",i=4096") :]
                answer = answer[: start - 4] + struct.pack(">i", len(asked)) + asked + rest
            writer.write(struct.pack(">i", len(answer)) + answer)

    async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        await asyncio.gather(_pump(reader, far_writer), more_work(far_reader, writer))

    async with server(between) as address:
        config = kafka.config(broker=address, mechanism="SCRAM-SHA-256")
        result = await failed(sender, config, timeout=SHORT)
    assert result == (Reason.DESTINATION_FAILURE, Kind.RETRYABLE)


async def test_a_broker_that_hangs_up_at_once(kafka: KafkaBroker, sender: KafkaSender) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    async with server(hang_up) as address:
        result = await failed(sender, kafka.config(broker=address), timeout=SHORT)
    assert result in {(reason, Kind.RETRYABLE) for reason in (Reason.UNEXPECTED_EOF, Reason.CONNECTION_RESET)}


# --- where it connects to -------------------------------------------------------------------------------


async def test_a_private_address_is_never_connected_to(kafka: KafkaBroker) -> None:
    sender = KafkaSender(GuardedNetwork())
    reached: list[str] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append("reached")

    async with server(note) as address:
        for broker in (address, "10.0.0.1:9092", "[::ffff:10.0.0.1]:9092", "localhost:9092", "0x7f.1:9092"):
            assert await failed(sender, kafka.config(broker=broker)) == (
                Reason.INVALID_DESTINATION_CONFIGURATION,
                Kind.PERMANENT,
            )
        async with asyncio.timeout(AMPLE):
            await sender.close()
        assert not reached
        host, port = address.split(":")
        await asyncio.open_connection(host, int(port))
        await eventually(lambda: reached == ["reached"])


@pytest.mark.parametrize("topic", [None, "there.is.no.such.topic"])
async def test_a_cluster_that_names_a_private_address_leads_nowhere(
    kafka: KafkaBroker, topic: str | None
) -> None:
    """The broker that was asked is allowed, the one that its metadata name is not: no topic is missing."""
    host, _, port = kafka.bootstrap("sasl_plaintext").partition(":")
    sender = KafkaSender(GuardedNetwork(allow_networks=[ipaddress.ip_network("127.0.0.2/32")]))
    async with server(_forward_to(host, int(port)), host="127.0.0.2") as address:
        result = await failed(sender, kafka.config(broker=address, topic=topic), timeout=SHORT)
        await sender.close()
    assert result == (Reason.INVALID_DESTINATION_CONFIGURATION, Kind.PERMANENT)


async def test_the_producer_remembers_which_named_broker_it_could_not_reach(kafka: KafkaBroker) -> None:
    for network, expected in (
        (GuardedNetwork(allow_networks=[ipaddress.ip_network("127.0.0.1/32")]), AddressRefused),
        (GuardedNetwork(allow_loopback=True), ConnectionRefusedError),
    ):
        with ThreadPoolExecutor(1) as executor:
            producer = Producer(
                network,
                None,
                SlowWork(executor),
                bootstrap_servers=kafka.bootstrap("redirect"),
                request_timeout_ms=500,
            )
            try:
                with pytest.raises((KafkaError, TimeoutError)):
                    await asyncio.wait_for(_started_and_sent(producer, kafka.topic), SHORT)
                assert isinstance(producer.connection_error, expected)
            finally:
                await producer.end()


async def _started_and_sent(producer: Producer, topic: str) -> None:
    await producer.start()
    await producer.send_and_wait(topic, b"x")


# --- producers ------------------------------------------------------------------------------------------


async def test_one_producer_serves_all_topics_of_a_broker_and_credentials(
    kafka: KafkaBroker, sender: KafkaSender
) -> None:
    configs = [kafka.config(), kafka.config(headers={"X-A": SecretStr("1")}), kafka.config()]
    assert await asyncio.gather(*(appended(sender, each) for each in configs)) == [Published()] * 3
    assert sender.producers == 1
    await appended(sender, kafka.config(mechanism="SCRAM-SHA-256"))
    assert sender.producers == 2


async def test_an_idle_producer_is_closed_and_the_next_event_makes_another(kafka: KafkaBroker) -> None:
    sender = KafkaSender(GuardedNetwork(allow_loopback=True), idle_seconds=0.05)
    try:
        for _ in range(2):
            assert await appended(sender, kafka.config()) == Published()
            assert sender.producers == 1
            await eventually(lambda: sender.producers == 0)
    finally:
        await sender.close()


class CuttableNetwork(GuardedNetwork):
    """One that can go down."""

    is_down = False

    def open_socket(self, address: AddrInfoType) -> socket.socket:
        if self.is_down:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "down")
        return super().open_socket(address)


async def test_nothing_is_left_behind_when_brokers_go_away(
    kafka: KafkaBroker, caplog: pytest.LogCaptureFixture
) -> None:
    before = asyncio.all_tasks()
    network = CuttableNetwork(allow_loopback=True)
    sender = KafkaSender(network)
    assert await appended(sender, kafka.config()) == Published()
    network.is_down = True
    for kept in sender._kept.values():
        for connection in kept.producer.client._conns.values():
            connection.abort()
    result = await failed(sender, kafka.config(), timeout=SHORT)
    assert result == (Reason.CONNECTION_REFUSED, Kind.RETRYABLE)
    await sender.close()
    gc.collect()  # tells of errors that nobody asked for
    assert asyncio.all_tasks() == before
    assert not caplog.records


async def test_nothing_is_left_behind_when_it_is_closed(kafka: KafkaBroker) -> None:
    before = asyncio.all_tasks()
    sender = KafkaSender(GuardedNetwork(allow_loopback=True))
    await appended(sender, kafka.config())
    await failed(sender, kafka.config(password="wrong"))
    await failed(sender, kafka.config(topic=kafka.forbidden_topic))
    await sender.close()
    assert asyncio.all_tasks() == before


async def test_so_many_producers_are_kept_and_one_in_use_is_never_ended(
    sender: KafkaSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_module, "MAX_PRODUCERS", 2)

    def config(name: str) -> KafkaConfig:
        return replace(KAFKA_CONFIG, broker=f"{name}.example.com:9093", tls=None)

    in_use = sender._take(OWNER, config("in-use"))
    for name in ("a", "b", "c"):
        sender._release(sender._take(OWNER, config(name)), keep=True)
    assert sender.producers == 2
    assert not in_use.is_retired
    sender._release(in_use, keep=True)
