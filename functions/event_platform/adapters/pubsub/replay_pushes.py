"""The push subscriptions of replays on topics that keep messages: the port `ReplayPushes`.

https://cloud.google.com/pubsub/docs/replay-overview and, for filters, .../docs/subscription-message-filter
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from ...domain.errors import Unavailable
from ...domain.faults import FAULTS_AT_MOST, LONGEST_BACKOFF_SECONDS
from ...domain.messages.queue_messages import DEAD_LETTERS_TOPIC, EVENTS_TOPIC, TENANT_KEY
from ...domain.replays import PushedReplay
from ...domain.tenants import tenant_key
from .publisher import EMULATOR_HOST, LIBRARY, retry

if TYPE_CHECKING:
    from google.pubsub_v1 import SubscriberAsyncClient

NAME = "replay-"
"""The beginning of the names of these push subscriptions, and of no others."""
DEADLINE_SECONDS = 15.0
ACK_SECONDS = 60
UNACKED_KEPT_SECONDS = 86400
EXPIRES_AFTER_SECONDS = 2 * 86400
"""After so long without a push Pub/Sub removes it. Google wants a day, and more than messages are kept."""
EARLIER = timedelta(minutes=1)
"""An event is published after it was accepted, by another clock."""


class SubscriptionClient(Protocol):
    """The methods of `google.pubsub_v1.SubscriberAsyncClient` that are used."""

    async def create_subscription(self, request: Any, *, retry: Any, timeout: float) -> Any: ...
    async def seek(self, request: Any, *, retry: Any, timeout: float) -> Any: ...
    async def delete_subscription(self, request: Any, *, retry: Any, timeout: float) -> Any: ...


class PubSubReplayPushes:
    """Pushes to `fanout_url`, as the account `caller`.

    What is on the topic `events` is filtered. A PIM's own topic needs no filter, where it has one.
    """

    def __init__(
        self, project: str, *, fanout_url: str, caller: str | None, client: SubscriptionClient | None = None
    ) -> None:
        self._project = project
        self._fanout_url = fanout_url
        self._caller = caller
        self._client = client

    async def make(self, pushed: PushedReplay) -> None:
        """Port `ReplayPushes`."""
        await LIBRARY.ready()
        from google.api_core.exceptions import AlreadyExists, NotFound

        for request in self.requests(pushed):
            try:
                await self._call("create_subscription", request)
            except AlreadyExists:
                pass  # by a tick that was killed before it noted that
            except NotFound:
                continue  # the PIM has no topic of its own
            await self._call(
                "seek", {"subscription": request["name"], "time": (pushed.since - EARLIER).astimezone(UTC)}
            )

    async def remove(self, pushed: PushedReplay) -> None:
        """Port `ReplayPushes`."""
        await LIBRARY.ready()
        from google.api_core.exceptions import NotFound

        for request in self.requests(pushed):
            with suppress(NotFound):  # there was none, or a tick that was killed has removed it
                await self._call("delete_subscription", {"subscription": request["name"]})

    def requests(self, pushed: PushedReplay) -> Iterator[dict[str, Any]]:
        """The subscriptions that a replay has, as they are created."""
        rid, key = pushed.replay.id, pushed.key
        by_key = f'attributes.{TENANT_KEY} = "{tenant_key(pushed.tenant)}"'
        yield self._request(EVENTS_TOPIC, f"{NAME}{rid}", f"/replays/{rid}", by_key)
        yield self._request(f"pim-events-{key}", f"{NAME}{rid}-pim", f"/replays/{rid}/{key}", "")

    def _request(self, topic: str, name: str, path: str, message_filter: str) -> dict[str, Any]:
        push: dict[str, Any] = {"push_endpoint": f"{self._fanout_url}{path}"}
        if self._caller is not None:
            push["oidc_token"] = {"service_account_email": self._caller, "audience": self._fanout_url}
        return {
            "name": f"projects/{self._project}/subscriptions/{name}",
            "topic": f"projects/{self._project}/topics/{topic}",
            "push_config": push,
            "filter": message_filter,
            "ack_deadline_seconds": ACK_SECONDS,
            "retry_policy": {
                "minimum_backoff": timedelta(seconds=1),
                "maximum_backoff": timedelta(seconds=LONGEST_BACKOFF_SECONDS),
            },
            "dead_letter_policy": {
                "dead_letter_topic": f"projects/{self._project}/topics/{DEAD_LETTERS_TOPIC}",
                "max_delivery_attempts": FAULTS_AT_MOST,
            },
            "message_retention_duration": timedelta(seconds=UNACKED_KEPT_SECONDS),
            "expiration_policy": {"ttl": timedelta(seconds=EXPIRES_AFTER_SECONDS)},
        }

    async def _call(self, method: str, request: Mapping[str, Any]) -> None:
        """Raises NotFound and AlreadyExists of Google's, and Unavailable for all else."""
        from google.api_core.exceptions import AlreadyExists, GoogleAPIError, NotFound
        from google.auth.exceptions import GoogleAuthError

        self._client = self._client or subscriber_client()
        call: Callable[..., Awaitable[Any]] = getattr(self._client, method)
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await call(request, retry=retry(DEADLINE_SECONDS), timeout=DEADLINE_SECONDS)
        except (NotFound, AlreadyExists):
            raise
        except (GoogleAPIError, GoogleAuthError, TimeoutError) as error:
            raise Unavailable(f"Pub/Sub: {method}: {type(error).__name__}: {error}"[:300]) from error


def subscriber_client(environ: Mapping[str, str] = os.environ) -> "SubscriberAsyncClient":
    """Google's client, or one on the emulator that PUBSUB_EMULATOR_HOST names. Needs a running event loop."""
    from google.pubsub_v1 import SubscriberAsyncClient

    host = environ.get(EMULATOR_HOST)
    if not host:
        return SubscriberAsyncClient()
    import grpc
    from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcAsyncIOTransport

    return SubscriberAsyncClient(
        transport=SubscriberGrpcAsyncIOTransport(channel=grpc.aio.insecure_channel(host))
    )
