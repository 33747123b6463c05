"""The six functions as deployed, on Google's emulators: topics, push subscriptions, a process for each.

The Pub/Sub emulator pushes at most two messages of a subscription at a time, so this shows that the functions
work and never how fast.
"""

import asyncio
import base64
import contextlib
import secrets
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
from google.pubsub_v1 import PublisherAsyncClient, SubscriberAsyncClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcAsyncIOTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcAsyncIOTransport

import event_platform
from event_platform.domain.faults import FAULTS_AT_MOST
from event_platform.domain.messages.queue_messages import (
    DEAD_LETTERS_TOPIC,
    EVENTS_TOPIC,
    NOTIFICATIONS_TOPIC,
)
from event_platform.settings import KEEP_SECONDS

from ..runtime.children import Child, end_all, environment
from .emulators import FIRESTORE_HOST, PUBSUB_HOST
from .ports import free_ports

FUNCTIONS = ("manage", "ingest", "fanout", "deliver", "maintain", "notify")
DELIVERIES_TOPIC = "deliveries-0"
SOURCE = Path(event_platform.__file__).parent.parent / "main.py"

ACK_SECONDS = 60  # as in the deployment
READY_SECONDS = 100.0
"""The time for a start: six functions start at once on a busy machine.

A function that fails ends by itself.
"""


@dataclass
class Function:
    """A function's process: the Functions Framework's master and its worker, a process group."""

    name: str
    port: int
    environment: Mapping[str, str] = field(repr=False)
    log: Path
    child: Child | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Starts the function, also again after an end, on the same port. Raises ChildFailed."""
        framework = [sys.executable, "-m", "functions_framework", "--source", str(SOURCE)]
        self.child = Child(
            f"the function {self.name}",
            [*framework, "--target", self.name, "--host", "127.0.0.1", "--port", str(self.port)],
            stdout=self.log,
            stderr=self.log,
            environment=self.environment,
        )
        timeout = aiohttp.ClientTimeout(total=10)
        async with aiohttp.ClientSession(timeout=timeout) as session:

            async def is_healthy() -> bool:
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with session.get(f"{self.url}/health") as answer:
                        return answer.status == 200
                return False

            await self.child.until(is_healthy, seconds=READY_SECONDS)

    def kill(self) -> None:
        """Sends SIGKILL to the whole group, as a lost instance ends."""
        if self.child is not None:
            self.child.kill_group()

    async def stop(self) -> None:
        """Sends SIGTERM, and SIGKILL when that is not enough."""
        if self.child is not None:
            await end_all([self.child])

    def lines(self) -> list[str]:
        """Returns what it logged, the latest last."""
        return self.log.read_text(errors="replace").splitlines() if self.log.exists() else []


class GooglePlatform:
    """A project on the emulators with everything that a deployment creates, and the functions running."""

    def __init__(
        self,
        project: str,
        *,
        pubsub: str,
        firestore: str,
        folder: Path,
        settings: Mapping[str, str],
        ack_seconds: int = ACK_SECONDS,
    ) -> None:
        """Prepares the project.

        `settings` are AEP_ variables for every function; `folder` takes the functions' logs. `ack_seconds`
        (10 at least) is the time after which a push without an answer is repeated.
        """
        self.project = project
        self._ack_seconds = ack_seconds
        ports = free_ports(len(FUNCTIONS))
        common = {
            "GOOGLE_CLOUD_PROJECT": project,
            PUBSUB_HOST: pubsub,
            FIRESTORE_HOST: firestore,
            "AEP_DEV": "true",
            "AEP_SECRETS_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
            "AEP_REGISTRY_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
            "AEP_PUBLIC_URL": f"http://127.0.0.1:{ports[0]}",
            "AEP_FANOUT_URL": f"http://127.0.0.1:{ports[FUNCTIONS.index('fanout')]}",
        }
        variables = environment(common | dict(settings))
        self.functions = {
            name: Function(name, port, variables, folder / f"{name}.log")
            for name, port in zip(FUNCTIONS, ports, strict=True)
        }
        self._others: list[Function] = []
        options = [("grpc.max_send_message_length", -1)]
        topics = grpc.aio.insecure_channel(pubsub, options=options)
        self._topics = PublisherAsyncClient(transport=PublisherGrpcAsyncIOTransport(channel=topics))
        pushes = grpc.aio.insecure_channel(pubsub)
        self._pushes = SubscriberAsyncClient(transport=SubscriberGrpcAsyncIOTransport(channel=pushes))
        self._ticking: asyncio.Task[None] | None = None

    async def start(self, *, tenant_keys: Sequence[str] = (), tick_seconds: float = 1.0) -> None:
        """Creates topics, starts the functions, then the pushes.

        `tenant_keys` are PIMs that publish to own topics.
        """
        pims = {f"pim-events-{key}": f"/pim-events/{key}" for key in tenant_keys}
        for topic in (DEAD_LETTERS_TOPIC, EVENTS_TOPIC, DELIVERIES_TOPIC, NOTIFICATIONS_TOPIC, *pims):
            kept = KEEP_SECONDS if topic in (EVENTS_TOPIC, *pims) else 0
            await self._topics.create_topic(request=self._topic_that_keeps(topic, kept))
        await self._pushes.create_subscription(request=self._subscription(DEAD_LETTERS_TOPIC))
        await self.start_functions(tick_seconds=tick_seconds)
        await self._push(EVENTS_TOPIC, "fanout", f"/{EVENTS_TOPIC}")
        await self._push(DELIVERIES_TOPIC, "deliver", f"/{DELIVERIES_TOPIC}", enable_message_ordering=True)
        await self._push(NOTIFICATIONS_TOPIC, "notify", f"/{NOTIFICATIONS_TOPIC}")
        for topic, path in pims.items():
            await self._push(topic, "fanout", path)

    async def start_functions(self, *, tick_seconds: float = 1.0) -> None:
        """Starts the functions without topics and pushes, for a project that has them.

        Raises ChildFailed.
        """
        async with asyncio.TaskGroup() as group:
            for function in self.functions.values():
                group.create_task(function.start())
        self._ticking = asyncio.create_task(self._tick(tick_seconds))

    async def stop(self) -> None:
        """Ends every process and connection."""
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)
        processes = [*self.functions.values(), *self._others]
        await asyncio.gather(*(function.stop() for function in processes))
        await self._topics.transport.close()
        await self._pushes.transport.close()

    async def another(self, name: str, settings: Mapping[str, str] | None = None) -> Function:
        """Starts a second instance of a function, with other settings where some are given.

        Nothing is pushed to it, while Google would spread the requests.
        """
        first = self.functions[name]
        (port,) = free_ports(1)
        environment = {**first.environment, **(settings or {})}
        second = Function(name, port, environment, first.log.with_name(f"{name}-{port}.log"))
        self._others.append(second)
        await second.start()
        return second

    async def publish(self, topic: str, data: bytes, attributes: Mapping[str, str]) -> None:
        """Publishes an event on the PIM's own topic, as the PIM does."""
        messages = [{"data": data, "attributes": dict(attributes)}]
        await self._topics.publish(request={"topic": self._topic(topic), "messages": messages})

    async def dead_letters(self, seconds: float = 1.0) -> Sequence[tuple[bytes, Mapping[str, str]]]:
        """Returns the dead letters that come within the time, acknowledged: data and attributes."""
        from google.api_core.exceptions import DeadlineExceeded

        path = self._push_path(DEAD_LETTERS_TOPIC)
        try:
            pulled = await self._pushes.pull(
                request={"subscription": path, "max_messages": 100}, timeout=seconds, retry=None
            )
        except DeadlineExceeded:
            return []
        received = list(pulled.received_messages)
        if received:
            await self._pushes.acknowledge(subscription=path, ack_ids=[each.ack_id for each in received])
        return [(each.message.data, dict(each.message.attributes)) for each in received]

    async def _tick(self, seconds: float) -> None:
        """Calls maintain again and again, as Cloud Scheduler does, but more often."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
            while True:
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with session.post(self.functions["maintain"].url + "/") as answer:
                        await answer.read()
                await asyncio.sleep(seconds)

    async def _push(self, topic: str, function: str, path: str, **more: Any) -> None:
        """Makes a push subscription as the deployment does, but without the retry policy.

        With one, the emulator (0.8.20) forgets messages whose pushes fail together: of 12 on their way to a
        killed function up to 6 never came again. Without one it backs off by itself, from a second.
        """
        await self._pushes.create_subscription(
            request=self._subscription(topic)
            | {
                "push_config": {"push_endpoint": self.functions[function].url + path},
                "dead_letter_policy": {
                    "dead_letter_topic": self._topic(DEAD_LETTERS_TOPIC),
                    "max_delivery_attempts": FAULTS_AT_MOST,
                },
            }
            | more
        )

    def _subscription(self, topic: str) -> dict[str, Any]:
        return {
            "name": self._push_path(topic),
            "topic": self._topic(topic),
            "ack_deadline_seconds": self._ack_seconds,
        }

    def _topic_that_keeps(self, name: str, seconds: int) -> dict[str, Any]:
        topic: dict[str, Any] = {"name": self._topic(name)}
        return topic | ({"message_retention_duration": timedelta(seconds=seconds)} if seconds else {})

    def _topic(self, name: str) -> str:
        return f"projects/{self.project}/topics/{name}"

    def _push_path(self, name: str) -> str:
        return f"projects/{self.project}/subscriptions/{name}"


@asynccontextmanager
async def running(
    project: str,
    *,
    pubsub: str,
    firestore: str,
    folder: Path,
    settings: Mapping[str, str],
    tenant_keys: Sequence[str] = (),
    ack_seconds: int = ACK_SECONDS,
) -> AsyncIterator[GooglePlatform]:
    """Runs the platform for the block; see GooglePlatform. Raises ChildFailed."""
    platform = GooglePlatform(
        project,
        pubsub=pubsub,
        firestore=firestore,
        folder=folder,
        settings=settings,
        ack_seconds=ack_seconds,
    )
    try:
        await platform.start(tenant_keys=tenant_keys)
        yield platform
    finally:
        await platform.stop()
