"""The requests that publishing makes, which the emulator does not check: keys, sizes, order, failures."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from google.api_core.exceptions import InvalidArgument, NotFound, ServiceUnavailable
from google.auth.exceptions import TransportError
from google.pubsub_v1 import PublishRequest, PublishResponse

from event_platform.adapters.pubsub.publisher import CONCURRENT_REQUESTS, PubSubPublisher, publisher_client
from event_platform.domain.errors import PublishFailed
from event_platform.domain.messages.message import Message


class RecordedClient:
    """Google's client as far as it is used; `answer` may wait or raise."""

    def __init__(self, answer: Callable[[PublishRequest], Awaitable[None]] | None = None) -> None:
        self.requests: list[PublishRequest] = []
        self._answer = answer
        self.running = 0
        self.most = 0

    async def publish(self, request: PublishRequest, *, retry: Any, timeout: float) -> None:
        self.requests.append(request)
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0)
        try:
            if self._answer is not None:
                await self._answer(request)
        finally:
            self.running -= 1

    def keys(self) -> list[set[str]]:
        return [{message.ordering_key for message in request.messages} for request in self.requests]

    def sizes(self) -> list[int]:
        return [len(request.messages) for request in self.requests]


def messages(*keys: str) -> list[Message]:
    return [Message(str(number).encode(), {"n": str(number)}, key) for number, key in enumerate(keys)]


def data_of(client: RecordedClient, key: str) -> list[bytes]:
    return [
        message.data
        for request in client.requests
        for message in request.messages
        if message.ordering_key == key
    ]


async def test_a_request_carries_messages_of_one_ordering_key() -> None:
    client = RecordedClient()
    await PubSubPublisher("p", client).publish("deliveries", messages("a", "b", "a", "", "b", "a"))
    assert sorted(map(list, client.keys())) == [[""], ["a"], ["b"]]
    assert data_of(client, "a") == [b"0", b"2", b"5"]
    assert data_of(client, "b") == [b"1", b"4"]
    assert data_of(client, "") == [b"3"]


async def test_a_message_arrives_as_it_is() -> None:
    client = RecordedClient()
    await PubSubPublisher("p", client).publish("events", [Message(b"\0\xff", {"a": "ü"}, "k")])
    (request,) = client.requests
    assert request.topic == "projects/p/topics/events"
    (message,) = request.messages
    assert (message.data, dict(message.attributes), message.ordering_key) == (b"\0\xff", {"a": "ü"}, "k")


async def test_nothing_to_publish_is_no_request() -> None:
    client = RecordedClient()
    await PubSubPublisher("p", client).publish("events", [])
    assert client.requests == []


async def test_a_request_has_at_most_1000_messages() -> None:
    client = RecordedClient()
    await PubSubPublisher("p", client).publish("events", messages(*["a"] * 2001))
    assert client.sizes() == [1000, 1000, 1]
    assert data_of(client, "a") == [str(number).encode() for number in range(2001)]


async def test_a_request_has_at_most_9_mb() -> None:
    client = RecordedClient()
    many = [Message(b"x" * 900_000, ordering_key="a")] * 20
    await PubSubPublisher("p", client).publish("events", many)
    assert client.sizes() == [9, 9, 2]
    assert all(len(PublishRequest.serialize(request)) <= 9_000_000 for request in client.requests)


async def test_attributes_count_into_the_size() -> None:
    client = RecordedClient()
    heavy = [Message(b"", {f"{number:0250}": "x" * 1024 for number in range(100)}, "a")] * 100
    await PubSubPublisher("p", client).publish("events", heavy)
    assert all(len(PublishRequest.serialize(request)) <= 9_000_000 for request in client.requests)


async def test_a_message_larger_than_a_request_goes_alone() -> None:
    client = RecordedClient()
    many = [Message(b"1"), Message(b"x" * 9_500_000), Message(b"3")]
    await PubSubPublisher("p", client).publish("events", many)
    assert client.sizes() == [1, 1, 1]


async def test_requests_of_a_key_follow_each_other_and_those_of_others_run_beside_them() -> None:
    running: set[str] = set()

    async def answer(request: PublishRequest) -> None:
        key = request.messages[0].ordering_key
        assert key not in running
        running.add(key)
        await asyncio.sleep(0.001)
        running.discard(key)

    client = RecordedClient(answer)
    keys = [f"{number % 100}" for number in range(200_000)]
    await PubSubPublisher("p", client).publish("deliveries", [Message(b"", ordering_key=key) for key in keys])
    assert client.sizes() == [1000] * 200
    assert client.most == CONCURRENT_REQUESTS


async def test_calls_share_the_bound() -> None:
    async def answer(request: PublishRequest) -> None:
        await asyncio.sleep(0.001)

    client = RecordedClient(answer)
    publisher = PubSubPublisher("p", client)
    many = messages(*map(str, range(50)))
    await asyncio.gather(*(publisher.publish("deliveries", many) for _ in range(4)))
    assert client.most == CONCURRENT_REQUESTS


async def test_what_failed_is_named_and_nothing_of_its_key_follows() -> None:
    async def answer(request: PublishRequest) -> None:
        if request.messages[0].ordering_key == "a" and request.messages[0].data == b"1000":
            raise ServiceUnavailable("try later")

    client = RecordedClient(answer)
    keys = ["a"] * 2500 + ["b"]
    with pytest.raises(PublishFailed, match=r"try later .1500 of 2501 messages failed") as raised:
        await PubSubPublisher("p", client).publish("deliveries", messages(*keys))
    assert raised.value.failed == tuple(range(1000, 2500))
    assert sorted(client.sizes()) == [1, 1000, 1000]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (NotFound("Resource not found (resource=events)."), "there is no topic projects/p/topics/events"),
        (InvalidArgument("One attribute is too long\nand more"), "400 One attribute is too long"),
        (TransportError("no metadata server"), "no metadata server"),
    ],
)
async def test_every_refusal_is_a_failed_publish(error: Exception, told: str) -> None:
    async def answer(request: PublishRequest) -> None:
        raise error

    with pytest.raises(PublishFailed, match=told) as raised:
        await PubSubPublisher("p", RecordedClient(answer)).publish("events", messages("a", "b"))
    assert raised.value.failed == (0, 1)


async def test_a_fault_of_ours_is_no_failed_publish() -> None:
    async def answer(request: PublishRequest) -> None:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as raised:
        await PubSubPublisher("p", RecordedClient(answer)).publish("events", messages("a"))
    assert raised.group_contains(ZeroDivisionError)


# --- through Google's client, to a server that has faults ------------------------------------------------


class FaultyServer:
    """A Pub/Sub that answers each publish request with the next of `answers`, then takes them all."""

    def __init__(self, *answers: grpc.StatusCode, seconds: float = 0) -> None:
        self._answers = list(answers)
        self._seconds = seconds
        self.requests = 0

    async def __aenter__(self) -> str:
        self._server = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(
            self._publish, PublishRequest.deserialize, PublishResponse.serialize
        )
        methods = grpc.method_handlers_generic_handler("google.pubsub.v1.Publisher", {"Publish": handler})
        self._server.add_generic_rpc_handlers((methods,))
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        return f"127.0.0.1:{port}"

    async def __aexit__(self, *error: object) -> None:
        await self._server.stop(None)

    async def _publish(self, request: PublishRequest, context: Any) -> PublishResponse:
        self.requests += 1
        await asyncio.sleep(self._seconds)
        if self._answers:
            await context.abort(self._answers.pop(0), "a fault")
        return PublishResponse(message_ids=[str(number) for number in range(len(request.messages))])


async def test_a_transient_fault_is_tried_again() -> None:
    server = FaultyServer(grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL)
    async with server as host:
        publisher = PubSubPublisher("p", publisher_client({"PUBSUB_EMULATOR_HOST": host}))
        await publisher.publish("events", messages("a"))
        await publisher.close()
    assert server.requests == 3


async def test_a_refusal_is_not_tried_again() -> None:
    server = FaultyServer(grpc.StatusCode.PERMISSION_DENIED)
    async with server as host:
        publisher = PubSubPublisher("p", publisher_client({"PUBSUB_EMULATOR_HOST": host}))
        with pytest.raises(PublishFailed, match="403 a fault"):
            await publisher.publish("events", messages("a"))
        await publisher.close()
    assert server.requests == 1


@pytest.mark.parametrize(
    "server",
    [FaultyServer(*[grpc.StatusCode.UNAVAILABLE] * 100), FaultyServer(seconds=60)],
    ids=["refuses", "is silent"],
)
async def test_the_deadline_ends_what_stays_away(server: FaultyServer) -> None:
    async with server as host:
        client = publisher_client({"PUBSUB_EMULATOR_HOST": host})
        publisher = PubSubPublisher("p", client, deadline=0.5)
        with pytest.raises(PublishFailed) as raised:
            await asyncio.wait_for(publisher.publish("events", messages("a")), 3)
        await publisher.close()
    assert raised.value.failed == (0,)
