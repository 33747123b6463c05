"""Dead letters on Google Cloud: reads the pull subscription of their topic, and publishes them again.

The wheel does not bring Google's packages, so they are imported when a command needs them.
"""

import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from event_platform.adapters.pubsub.publisher import EMULATOR_HOST, PubSubPublisher, publisher_client
from event_platform.adapters.pubsub.replay_pushes import NAME as REPLAYS
from event_platform.domain.errors import NotFound, PublishFailed
from event_platform.domain.messages.message import MalformedMessage, Message
from event_platform.domain.messages.queue_messages import DEAD_LETTERS_TOPIC, delivery_of
from event_platform.push import (
    DELIVERY_COUNT,
    MESSAGE_ID,
    ORDERING_KEY,
    REASON,
    SOURCE_PROJECT,
    SOURCE_SUBSCRIPTION,
)

from ..errors import GoogleFailed, NoGooglePackages
from .connection import refusals_of

if TYPE_CHECKING:
    from google.pubsub_v1 import PublisherAsyncClient, SubscriberAsyncClient
    from google.pubsub_v1.types import ReceivedMessage

PULL_SUBSCRIPTION = DEAD_LETTERS_TOPIC
"""The default name of the pull subscription."""
MOST = 10_000
"""The most letters that are looked at; they are held in memory."""
LEASE_SECONDS = 120
PULL_SECONDS = 1.5
"""The seconds that one request waits for a letter. Pub/Sub may answer with none although there are some."""
EMPTY_PULLS = 2
AT_ONCE = 100
"""The number of letters that are published before they are acknowledged; a kill in between repeats them."""

_OURS = {REASON, MESSAGE_ID, ORDERING_KEY}
_PUBSUBS = ("CloudPubSub", "goog")
_NO_TOPIC = "_deleted-topic_"  # what Pub/Sub names as the topic of a subscription whose topic is gone


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter. `origin` is the full name of the push subscription it came from, "" when unknown.

    `event_id` and `subscription_id` are "" for a letter that is no delivery and names none.
    """

    id: str
    at: datetime
    origin: str
    reason: str
    event_id: str
    subscription_id: str
    message: Message = field(repr=False)
    ack_id: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Replayed:
    """The number of letters that went back to their topics, and by id why the others stayed."""

    replayed: int
    left: Mapping[str, str]


class DeadLetters:
    """Dead letters, the oldest first; see `opened`. `held` are the ack ids of those that are still there."""

    def __init__(
        self,
        letters: Sequence[Letter],
        subscription: str,
        subscriber: "SubscriberAsyncClient",
        publisher: "PublisherAsyncClient",
    ) -> None:
        self.letters = letters
        self.held = [letter.ack_id for letter in letters]
        self._subscription = subscription
        self._subscriber = subscriber
        self._publisher = publisher

    def chosen(self, ids: Sequence[str]) -> Sequence[Letter]:
        """Returns the letters of the ids, or all when none is given. Raises NotFound naming one."""
        unknown = sorted(set(ids).difference(letter.id for letter in self.letters))
        if unknown:
            raise NotFound(
                f"no dead letter {unknown[0]}: `aep dead list` shows what there is; nothing was changed"
            )
        return [letter for letter in self.letters if not ids or letter.id in ids]

    async def replay(self, letters: Sequence[Letter]) -> Replayed:
        """Publishes each to the topic that its push subscription reads, then acknowledges it here."""
        left: dict[str, str] = {}
        by_topic: dict[str, list[Letter]] = {}
        topics: dict[str, str] = {}
        for letter in letters:
            if letter.origin.rpartition("/")[2].startswith(REPLAYS):  # its topic is that of all subscriptions
                left[letter.id] = "it was part of a replay: start another for the subscription"
                continue
            if letter.origin not in topics:
                topics[letter.origin] = await self._topic(letter.origin) if letter.origin else ""
            if topic := topics[letter.origin]:
                by_topic.setdefault(topic, []).append(letter)
            elif letter.origin:
                left[letter.id] = f"the push subscription {letter.origin} or its topic is gone"
            else:
                left[letter.id] = "it does not say which push subscription it came from"
        for topic, those in by_topic.items():
            for start in range(0, len(those), AT_ONCE):
                left |= await self._publish(topic, those[start : start + AT_ONCE])
        return Replayed(len(letters) - len(left), left)

    async def _topic(self, origin: str) -> str:
        """Returns the full name of the topic; "" when it is gone."""
        from google.api_core.exceptions import InvalidArgument
        from google.api_core.exceptions import NotFound as Missing

        try:
            topic = (await self._subscriber.get_subscription(subscription=origin)).topic
        except (Missing, InvalidArgument):
            return ""
        return "" if topic == _NO_TOPIC else topic

    async def _publish(self, topic: str, letters: Sequence[Letter]) -> Mapping[str, str]:
        """Publishes letters; returns by id why those that were not taken stay."""
        project, _, name = topic.removeprefix("projects/").partition("/topics/")
        failed: Mapping[str, str] = {}
        try:
            publisher = PubSubPublisher(project, self._publisher)
            await publisher.publish(name, [_original(letter.message) for letter in letters])
        except PublishFailed as error:
            failed = {letters[position].id: str(error) for position in error.failed}
        taken = [letter.ack_id for letter in letters if letter.id not in failed]
        if taken:
            await self._subscriber.acknowledge(subscription=self._subscription, ack_ids=taken)
            gone = set(taken)
            self.held = [ack_id for ack_id in self.held if ack_id not in gone]
        return failed


@asynccontextmanager
async def opened(
    project: str, name: str = PULL_SUBSCRIPTION, environ: Mapping[str, str] = os.environ
) -> AsyncGenerator[DeadLetters, None]:
    """Opens the letters of the project's pull subscription `name`, kept from others for the block.

    Letters that were not replayed are released at its end. Raises NoGooglePackages, GoogleFailed.
    """
    try:
        from google.api_core.exceptions import NotFound as Missing
        from google.pubsub_v1 import SubscriberAsyncClient  # noqa: F401 - is it there?
    except ImportError as error:
        raise NoGooglePackages(
            "--google needs Google's client of Pub/Sub: `pip install google-cloud-pubsub`"
        ) from error

    path = f"projects/{project}/subscriptions/{name}"
    with refusals_of(f"{path} of Pub/Sub"):
        try:
            publisher = publisher_client(environ)
            subscriber = _subscriber_client(environ)
            try:
                opened = DeadLetters(await _pulled(subscriber, path), path, subscriber, publisher)
                try:
                    yield opened
                finally:
                    await _lease(subscriber, path, opened.held, 0)
            finally:
                await subscriber.transport.close()
                await publisher.transport.close()
        except Missing as error:
            raise GoogleFailed(
                f"there is no subscription {path}: --pull-subscription names the one of the dead letters"
            ) from error


async def _pulled(subscriber: "SubscriberAsyncClient", path: str) -> Sequence[Letter]:
    from google.api_core.exceptions import DeadlineExceeded

    letters: dict[str, Letter] = {}
    empty = 0
    while empty < EMPTY_PULLS and len(letters) < MOST:
        try:
            response = await subscriber.pull(
                request={"subscription": path, "max_messages": 1000}, retry=None, timeout=PULL_SECONDS
            )
            received = response.received_messages
        except DeadlineExceeded:
            received = []
        empty = 0 if received else empty + 1
        letters |= {letter.id: letter for letter in map(_letter, received)}  # a repeated one has a new ack id
        await _lease(subscriber, path, [each.ack_id for each in received], LEASE_SECONDS)
    return sorted(letters.values(), key=lambda letter: letter.at)


async def _lease(
    subscriber: "SubscriberAsyncClient", path: str, ack_ids: Sequence[str], seconds: int
) -> None:
    """Extends the lease of letters by so many seconds; 0 releases them."""
    for start in range(0, len(ack_ids), 1000):
        await subscriber.modify_ack_deadline(
            subscription=path, ack_ids=list(ack_ids[start : start + 1000]), ack_deadline_seconds=seconds
        )


def _subscriber_client(environ: Mapping[str, str]) -> "SubscriberAsyncClient":
    """Returns Google's client, or one on the emulator that PUBSUB_EMULATOR_HOST names."""
    from google.pubsub_v1 import SubscriberAsyncClient

    host = environ.get(EMULATOR_HOST)
    if not host:
        return SubscriberAsyncClient()
    import grpc
    from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcAsyncIOTransport

    channel = grpc.aio.insecure_channel(host, options=[("grpc.max_receive_message_length", -1)])
    return SubscriberAsyncClient(transport=SubscriberGrpcAsyncIOTransport(channel=channel))


def _letter(received: "ReceivedMessage") -> Letter:
    got = received.message
    message = Message(got.data, dict(got.attributes), got.ordering_key)
    attributes = message.attributes
    project, name = attributes.get(SOURCE_PROJECT), attributes.get(SOURCE_SUBSCRIPTION)
    try:
        delivery = delivery_of(message)
        event_id, subscription_id = delivery.event_id, delivery.subscription_id
    except MalformedMessage:
        event_id = attributes.get("event_id") or attributes.get("ce-id", "")
        subscription_id = attributes.get("subscription_id", "")
    return Letter(
        id=got.message_id,
        at=got.publish_time,  # pyright: ignore[reportArgumentType] - proto-plus gives a datetime
        origin=f"projects/{project}/subscriptions/{name}" if project and name else "",
        reason=attributes.get(REASON) or _reason_of_pubsub(attributes),
        event_id=event_id,
        subscription_id=subscription_id,
        message=message,
        ack_id=received.ack_id,
    )


def _reason_of_pubsub(attributes: Mapping[str, str]) -> str:
    count = attributes.get(DELIVERY_COUNT)
    return f"pushed {'once' if count == '1' else f'{count} times'} and never acknowledged" if count else ""


def _original(message: Message) -> Message:
    """Returns the message as it was on its topic: in its lane, without attributes that Pub/Sub and we
    added.
    """
    attributes = {
        name: value
        for name, value in message.attributes.items()
        if name not in _OURS and not name.startswith(_PUBSUBS)
    }
    key = message.attributes.get(ORDERING_KEY) or message.ordering_key
    return Message(message.data, attributes, key)
