"""What a Kafka broker, or a subscriber's certificate and key, can make us do. No real broker behaves so."""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretStr

from event_platform.adapters.connections import MAX_AGE_SECONDS
from event_platform.adapters.guard import GuardedNetwork
from event_platform.adapters.kafka import client
from event_platform.adapters.kafka import sender as kafka
from event_platform.adapters.kafka.client import MAX_FRAME_BYTES, SlowWork
from event_platform.adapters.kafka.sender import KafkaSender
from event_platform.adapters.resolvers import public_names
from event_platform.domain.attempts.outcomes import Published, Reason, Refusal, TransportFailure
from event_platform.domain.errors import NoResolver
from event_platform.domain.subscriptions import KafkaConfig, Owner, Sasl, Tls
from support.dear_keys import a_certificate, a_dear_key, pem_of
from support.eventually import eventually
from support.garbage import garbage_frames
from support.records import OWNER
from support.scripted_kafka import VERSIONS, Api, ScriptedBroker, Topic, a_topic
from support.servers import DnsServer

SASL = Sasl("PLAIN", "aep", SecretStr("secret"))
TOPIC = "pim.events"


@pytest.fixture
async def sender() -> AsyncIterator[KafkaSender]:
    sender = KafkaSender(GuardedNetwork(allow_loopback=True))
    yield sender
    await sender.close()


async def appended(
    sender: KafkaSender,
    broker: str,
    topic: str = TOPIC,
    tls: Tls | None = None,
    timeout: float = 5,
    owner: Owner = OWNER,
) -> Published | Refusal | TransportFailure:
    config = KafkaConfig(broker, topic, SASL, tls)
    return await sender.append(config, b"key", [], b"{}", owner=owner, timeout=timeout)


async def refused_by(sender: KafkaSender, answer: bytes | None) -> Any:
    """The result of two attempts at a broker that answers so, or hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer or b"")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return [await appended(sender, address, timeout=5) for _ in range(2)]


@pytest.mark.parametrize("answer", [None, b"\x7f\xff\xff\xff" + bytes(1000)], ids=["hangs up", "no Kafka"])
async def test_a_failed_attempt_does_not_wait_for_the_garbage_collector(answer: bytes | None) -> None:
    """An attempt's frames hold the event."""
    with garbage_frames() as kept:
        sender = KafkaSender(GuardedNetwork(allow_loopback=True))
        for result in await refused_by(sender, answer):
            assert isinstance(result, TransportFailure)
        await sender.close()
    assert not {name for name in kept if name.startswith("KafkaSender.")}


# --- metadata ----------------------------------------------------------------------------------------


async def test_metadata_is_asked_for_of_each_topic_alone_and_never_of_all(sender: KafkaSender) -> None:
    broker = ScriptedBroker(lambda names: [a_topic(name) for name in names or ()])
    async with broker.listening():
        for topic in ("a", "b", "a"):
            assert await appended(sender, broker.address, topic) == Published()
    assert sender.producers == 1
    assert {tuple(names) for names in broker.asked if names is not None} == {(), ("a",), ("b",)}
    assert None not in broker.asked


async def test_a_producer_that_is_used_all_the_time_ends_at_its_age(sender: KafkaSender) -> None:
    broker = ScriptedBroker(lambda names: [a_topic(name) for name in names or ()])
    async with broker.listening():
        for _ in range(2):
            assert await appended(sender, broker.address) == Published()
        assert broker.connections == 2  # one to ask for the brokers, one to each
        old = next(iter(sender._kept.values()))
        now = asyncio.get_running_loop().time()
        assert now + 0.7 * MAX_AGE_SECONDS < old.expires_at <= now + MAX_AGE_SECONDS
        old.expires_at = now
        assert await appended(sender, broker.address) == Published()
        assert broker.connections == 4
        assert sender.producers == 1
        await eventually(lambda: old.producer._closed)


async def test_a_nameserver_that_is_away_is_no_brokers_failure() -> None:
    async with DnsServer({}) as dns:
        port = dns.port  # closed again
    sender = KafkaSender(GuardedNetwork(make_resolver=lambda: public_names([f"127.0.0.1:{port}"])))
    with pytest.raises(NoResolver, match="no nameserver answers"):
        await appended(sender, "broker.example.org:9092", timeout=2)
    await sender.close()


async def test_a_broker_that_can_only_name_all_topics_is_not_asked(sender: KafkaSender) -> None:
    broker = ScriptedBroker(lambda _: [a_topic(TOPIC)], versions={**VERSIONS, Api.METADATA: (0, 0)})
    async with broker.listening():
        result = await appended(sender, broker.address, timeout=1)
    assert isinstance(result, TransportFailure)
    assert not broker.asked


async def test_topics_that_nobody_asked_for_are_left_out(sender: KafkaSender) -> None:
    broker = ScriptedBroker(
        lambda names: [*map(a_topic, names or ()), *(a_topic(f"t{n}") for n in range(900))]
    )
    async with broker.listening():
        assert await appended(sender, broker.address) == Published()
        (kept,) = sender._kept.values()
        assert kept.producer.client.cluster.topics() == {TOPIC}


@pytest.mark.parametrize("topics", [None, [(0, TOPIC, False, None)]], ids=["no list", "no partitions"])
async def test_null_where_a_list_belongs_is_no_fault_of_ours(sender: KafkaSender, topics: Any) -> None:
    broker = ScriptedBroker(lambda _: topics)
    async with broker.listening():
        result = await appended(sender, broker.address, timeout=0.5)
    assert isinstance(result, TransportFailure)


@pytest.mark.parametrize(
    "topics",
    [
        lambda _: [a_topic(f"topic {number}") for number in range(120_000)],
        lambda _: [a_topic(TOPIC, partitions=20_000)],
    ],
    ids=["topics", "partitions"],
)
async def test_a_long_answer_is_not_parsed(
    sender: KafkaSender, topics: Callable[[list[str] | None], list[Topic]]
) -> None:
    broker = ScriptedBroker(topics)
    async with broker.listening():
        answer = broker.metadata([TOPIC])
        assert len(answer) > MAX_FRAME_BYTES
        broker.metadata = lambda names: answer
        started = time.thread_time()
        result = await appended(sender, broker.address, timeout=1)
        taken = time.thread_time() - started
    assert isinstance(result, TransportFailure)
    assert result.reason is Reason.DESTINATION_FAILURE
    assert taken < 0.2, "a second and a half, when it was parsed"


async def test_the_partitions_of_many_topics_are_bounded_together(
    sender: KafkaSender, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "MAX_PARTITIONS", 30)
    broker = ScriptedBroker(lambda names: [a_topic(name, partitions=10) for name in names or ()])
    async with broker.listening():
        results = [await appended(sender, broker.address, topic) for topic in ("a", "b", "c")]
        assert results == [Published()] * 3
        result = await appended(sender, broker.address, "d", timeout=1)
    assert isinstance(result, TransportFailure)
    assert result.reason is Reason.DESTINATION_FAILURE


# --- owners ------------------------------------------------------------------------------------------


async def test_no_connection_is_shared_with_another_owner(sender: KafkaSender) -> None:
    broker = ScriptedBroker(lambda names: [a_topic(name) for name in names or ()])
    async with broker.listening():
        for owner in (OWNER, OWNER, OWNER._replace(client_id="another")):
            assert await appended(sender, broker.address, owner=owner) == Published()
    assert sender.producers == 2


async def test_slow_work_of_one_owner_is_done_one_at_a_time() -> None:
    with ThreadPoolExecutor(2) as executor:
        his, ours = SlowWork(executor), SlowWork(executor)
        running, most, release = 0, 0, threading.Event()

        def work() -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            release.wait(10)
            running -= 1

        pending = [asyncio.create_task(his.do(work)) for _ in range(20)]
        await eventually(lambda: running == 1)
        assert await ours.do(lambda: "done") == "done"  # though all of his still waits
        release.set()
        await asyncio.gather(*pending)
    assert most == 1


# --- TLS ---------------------------------------------------------------------------------------------


@contextmanager
def server_that_asks_for_a_certificate(authority: trustme.CA, folder: Path) -> Iterator[str]:
    """Its host:port. It ends each connection after the handshake, in threads of its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("kafka.test").configure_cert(context)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                accepted, _ = listening.accept()
            except OSError:
                return
            try:
                context.wrap_socket(accepted, server_side=True).close()
            except OSError:
                accepted.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"127.0.0.1:{listening.getsockname()[1]}"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()


async def test_a_handshake_with_a_dear_key_takes_none_of_the_loops_time(
    sender: KafkaSender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Tls] = []
    make_context = kafka._tls_context
    monkeypatch.setattr(kafka, "_tls_context", lambda tls: made.append(tls) or make_context(tls))
    authority, key = trustme.CA(), a_dear_key(8192)
    tls = Tls(
        "kafka.test",
        authority.cert_pem.bytes().decode(),
        a_certificate(key.public_key()),
        SecretStr(pem_of(key)),
    )
    with server_that_asks_for_a_certificate(authority, tmp_path) as broker:
        await appended(sender, broker, tls=tls)
        loop, whole = time.thread_time(), time.process_time()
        for _ in range(3):
            result = await appended(sender, broker, tls=tls)
            assert isinstance(result, TransportFailure)
        loop, whole = time.thread_time() - loop, time.process_time() - whole
    assert loop < whole / 4, "signatures are made by threads"
    assert len(made) == 1, "the context of TLS is made once"


@pytest.mark.parametrize("bits", [16384])
async def test_a_key_that_was_stored_before_keys_were_bounded_is_not_used(
    sender: KafkaSender, bits: int
) -> None:
    key = a_dear_key(bits)
    tls = Tls(
        "kafka.test", a_certificate(ec.generate_private_key(ec.SECP256R1()).public_key()), "", SecretStr("")
    )
    tls = replace(tls, client_cert_pem=a_certificate(key.public_key()), client_key_pem=SecretStr(pem_of(key)))
    started = time.thread_time()
    result = await appended(sender, "127.0.0.1:1", tls=tls)
    assert isinstance(result, TransportFailure)
    assert result.reason is Reason.INVALID_DESTINATION_CONFIGURATION
    assert time.thread_time() - started < 0.1
