"""A project on Google's Pub/Sub emulator: topics, and subscriptions that are pulled or pushed."""

from collections.abc import Mapping, Sequence

import grpc
from google.pubsub_v1 import SubscriberAsyncClient
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcAsyncIOTransport
from google.pubsub_v1.types import PubsubMessage

from event_platform.adapters.pubsub.publisher import publisher_client


class Project:
    """Each topic has one ordered subscription of its name, read by unary pulls."""

    def __init__(self, host: str, name: str) -> None:
        self.name = name
        self.client = publisher_client({"PUBSUB_EMULATOR_HOST": host})
        channel = grpc.aio.insecure_channel(host)
        self._subscriber = SubscriberAsyncClient(transport=SubscriberGrpcAsyncIOTransport(channel=channel))

    async def create_topic(
        self, topic: str, *, push_to: str | None = None, labels: Mapping[str, str] | None = None
    ) -> None:
        """`push_to` is the URL that a second subscription pushes to."""
        path = f"projects/{self.name}/topics/{topic}"
        await self.client.create_topic(request={"name": path, "labels": dict(labels or {})})
        subscription = {"name": self._path(topic), "topic": path, "enable_message_ordering": True}
        await self._subscriber.create_subscription(request=subscription)
        if push_to is not None:
            pushed = {"name": f"{self._path(topic)}-push", "push_config": {"push_endpoint": push_to}}
            await self._subscriber.create_subscription(request=subscription | pushed)

    async def pull(self, topic: str, count: int) -> Sequence[PubsubMessage]:
        """The next `count` messages, acknowledged."""
        pulled: list[PubsubMessage] = []
        while len(pulled) < count:
            response = await self._subscriber.pull(
                request={"subscription": self._path(topic), "max_messages": count}, timeout=10
            )
            pulled += [received.message for received in response.received_messages]
            ids = [received.ack_id for received in response.received_messages]
            if ids:
                await self._subscriber.acknowledge(subscription=self._path(topic), ack_ids=ids)
        return pulled

    async def close(self) -> None:
        await self.client.transport.close()
        await self._subscriber.transport.close()

    def _path(self, topic: str) -> str:
        return f"projects/{self.name}/subscriptions/{topic}"
