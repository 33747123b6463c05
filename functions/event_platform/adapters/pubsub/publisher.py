"""Publishing to Pub/Sub with Google's asynchronous client: the port `Publisher`.

https://cloud.google.com/pubsub/docs/publisher and, for ordering keys, .../docs/ordering
"""

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ...domain.errors import PublishFailed, TopicMissing
from ...domain.messages.message import Message
from ...domain.messages.queue_messages import size_of
from ...first_use import FirstUse

if (
    TYPE_CHECKING
):  # takes 50 ms and more, and some publish rarely: imported by `load_client` or the first publish
    from google.auth.credentials import Credentials
    from google.pubsub_v1 import PublisherAsyncClient

EMULATOR_HOST = "PUBSUB_EMULATOR_HOST"
MAX_REQUEST_MESSAGES = 1000
MAX_REQUEST_BYTES = 9_000_000  # Pub/Sub takes 10 MB
CONCURRENT_REQUESTS = 64
DEADLINE_SECONDS = 15.0


class PublishClient(Protocol):
    """The methods of `google.pubsub_v1.PublisherAsyncClient` that are used."""

    async def publish(self, request: Any, *, retry: Any, timeout: float) -> Any: ...


class PubSubPublisher:
    """The port `Publisher` on the topics of one project.

    A request carries messages of one ordering key, as Pub/Sub demands. The requests of a key follow each
    other, those of different keys run side by side, CONCURRENT_REQUESTS at most over all calls.
    """

    def __init__(
        self, project: str, client: PublishClient | None = None, *, deadline: float = DEADLINE_SECONDS
    ) -> None:
        """Makes a publisher.

        Without `client`, one is made in the running event loop when it is first needed.
        """
        self._project = project
        self._client = client
        self._deadline = deadline
        self._requests = asyncio.Semaphore(CONCURRENT_REQUESTS)

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        """Port `Publisher`; each request is tried again within `deadline` seconds."""
        by_key: dict[str, list[int]] = {}
        for position, message in enumerate(messages):
            by_key.setdefault(message.ordering_key, []).append(position)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._in_order(topic, messages, positions)) for positions in by_key.values()
            ]
        failures = [failure for task in tasks if (failure := task.result()) is not None]
        if failures:
            failed = sorted(position for failure in failures for position in failure.failed)
            is_missing = all(isinstance(failure, TopicMissing) for failure in failures)
            kind = TopicMissing if is_missing else PublishFailed
            raise kind(f"{failures[0]} ({len(failed)} of {len(messages)} messages failed)", tuple(failed))

    async def close(self) -> None:
        """Ends the client's connections."""
        transport = getattr(self._client, "transport", None)
        if transport is not None:
            await transport.close()

    async def _in_order(
        self, topic: str, messages: Sequence[Message], positions: Sequence[int]
    ) -> PublishFailed | None:
        """Publishes the messages of one key; after a request that failed none goes out, to keep the order."""
        done = 0
        for chunk in _chunks(messages, positions):
            async with self._requests:
                failure = await self._request(topic, [messages[position] for position in chunk])
            if failure is not None:
                failure.failed = tuple(positions[done:])
                return failure
            done += len(chunk)
        return None

    async def _request(self, topic: str, messages: Sequence[Message]) -> PublishFailed | None:
        """Makes one publish request. Returns what went wrong, if anything did."""
        if self._client is None:
            await LIBRARY.ready()
            self._client = self._client or publisher_client()
        from google.api_core.exceptions import GoogleAPIError, NotFound
        from google.auth.exceptions import GoogleAuthError

        path = f"projects/{self._project}/topics/{topic}"
        try:
            request = _publish_request(path, messages)
            await self._client.publish(request, retry=retry(self._deadline), timeout=self._deadline)
        except NotFound:
            return TopicMissing(f"there is no topic {path}", ())
        except (GoogleAPIError, GoogleAuthError) as error:
            return PublishFailed(f"the topic {path} took no message: {_first_line(error)}", ())
        return None


def load_client() -> None:
    """Imports Google's client now: for who cannot answer its first request without it."""
    import google.api_core.exceptions
    import google.pubsub_v1  # noqa: F401 - its import is what is wanted


LIBRARY = FirstUse(load_client)


def publisher_client(
    environ: Mapping[str, str] = os.environ, *, credentials: "Credentials | None" = None
) -> "PublisherAsyncClient":
    """Google's client, or one on the emulator that PUBSUB_EMULATOR_HOST names. Needs a running event loop."""
    from google.pubsub_v1 import PublisherAsyncClient

    host = environ.get(EMULATOR_HOST)
    if not host:
        return PublisherAsyncClient(credentials=credentials)
    import grpc
    from google.pubsub_v1.services.publisher.transports import PublisherGrpcAsyncIOTransport

    channel = grpc.aio.insecure_channel(host, options=[("grpc.max_send_message_length", -1)])
    return PublisherAsyncClient(transport=PublisherGrpcAsyncIOTransport(channel=channel))


def _chunks(messages: Sequence[Message], positions: Sequence[int]) -> Iterator[list[int]]:
    """The positions in their order, as many at a time as a request takes; always at least one."""
    chunk: list[int] = []
    size = 0
    for position in positions:
        more = size_of(messages[position])
        if chunk and (len(chunk) == MAX_REQUEST_MESSAGES or size + more > MAX_REQUEST_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(position)
        size += more
    if chunk:
        yield chunk


def _publish_request(path: str, messages: Sequence[Message]) -> Any:
    from google.pubsub_v1 import PublishRequest

    request = PublishRequest(topic=path)
    raw: Any = PublishRequest.pb(request)  # the plain protobuf message: a tenth of the time of proto-plus
    for message in messages:
        raw.messages.add(
            data=message.data, attributes=dict(message.attributes), ordering_key=message.ordering_key
        )
    return request


def retry(deadline: float) -> Any:
    """Tries again what Google's own client does (its publisher's default), but within our time."""
    from google.api_core import exceptions
    from google.api_core.retry import AsyncRetry, if_exception_type

    transient = if_exception_type(
        exceptions.Aborted,
        exceptions.Cancelled,
        exceptions.DeadlineExceeded,
        exceptions.InternalServerError,
        exceptions.ResourceExhausted,
        exceptions.ServiceUnavailable,
        exceptions.Unknown,
    )
    return AsyncRetry(predicate=transient, initial=0.1, maximum=2, multiplier=2, timeout=deadline)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
