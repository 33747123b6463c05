"""Replays in a project, for its operator's command.

The wheel does not bring Google's packages, so they are imported when a command needs them.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import uuid_utils

from event_platform.adapters.seal import KeylessSeal
from event_platform.domain.errors import Conflict, NotFound
from event_platform.domain.messages.queue_messages import EVENTS_TOPIC
from event_platform.domain.record.actions import BY_THE_OPERATOR
from event_platform.domain.replays import Replay, ReplayRequest, ReplayStatus, check_replayable

from ..errors import GoogleFailed
from .connection import firestore_of

if TYPE_CHECKING:
    from event_platform.adapters.firestore.client import Firestore
    from event_platform.adapters.firestore.replays import FirestoreReplays

POLL_SECONDS = 2.0
TOPIC_WITHIN = 15.0


async def replayed(
    project: str,
    subscription_id: str,
    asked: ReplayRequest,
    *,
    buckets: int,
    show: Callable[[Replay], None],
    poll_seconds: float = POLL_SECONDS,
) -> Replay:
    """Starts a replay, and shows it again and again while it runs; returns it as it ended.

    `buckets` is AEP_VERSION_BUCKETS of the functions. If it is cancelled the replay goes on. Raises NotFound,
    Conflict, InvalidRequest, StoreUnavailable, NoGooglePackages, GoogleFailed.
    """
    async with firestore_of(project) as firestore:
        replays, replay = await start(firestore, subscription_id, asked, buckets=buckets)
        with suppress(asyncio.CancelledError):
            while replay.status is ReplayStatus.RUNNING:
                show(replay)
                await asyncio.sleep(poll_seconds)
                replay = await replays.replay(replay.subscription_id, replay.id)
        return replay


async def start(
    firestore: "Firestore", subscription_id: str, asked: ReplayRequest, *, buckets: int
) -> "tuple[FirestoreReplays, Replay]":
    """Starts a replay; returns it with the replays of the project.

    Raises NotFound, Conflict, InvalidRequest, StoreUnavailable, GoogleFailed, and what Google refuses.
    """
    from event_platform.adapters.clock import SystemClock
    from event_platform.adapters.firestore.replays import FirestoreReplays
    from event_platform.adapters.firestore.subscriptions import FirestoreSubscriptions
    from event_platform.adapters.firestore.tenants import FirestoreEntries
    from event_platform.adapters.pim_registry import PimRegistry

    project, clock = firestore.client.project, SystemClock()
    subscriptions = FirestoreSubscriptions(firestore, KeylessSeal(), clock, buckets=buckets)
    found = await firestore.run(lambda: subscriptions.read(subscription_id))
    if found is None:
        raise NotFound(f"no subscription {subscription_id}: `aep status --google {project}` lists them")
    subscription, _ = found
    check_replayable(subscription)
    keep = await _kept_for(project)
    if keep == 0:
        raise Conflict(f"the topic {EVENTS_TOPIC} of {project} keeps no events: AEP_KEEP is 0 there")
    registry = PimRegistry(FirestoreEntries(firestore), KeylessSeal(), clock, allow_http=True)
    replays = FirestoreReplays(firestore, subscriptions, clock, registry=registry, keep=keep)
    replay = Replay(str(uuid_utils.uuid7()), subscription.id, asked, clock.now())
    owner, subscriber_id = subscription.owner, subscription.subscriber_id
    return replays, await replays.start(owner, subscriber_id, replay, action=BY_THE_OPERATOR)


async def _kept_for(project: str) -> int:
    """Returns for how many seconds the topic of events keeps messages. Raises GoogleFailed."""
    from google.api_core.exceptions import GoogleAPIError

    from event_platform.adapters.pubsub.publisher import publisher_client

    publisher = publisher_client()
    try:
        topic = await publisher.get_topic(
            topic=f"projects/{project}/topics/{EVENTS_TOPIC}", timeout=TOPIC_WITHIN
        )
    except GoogleAPIError as error:
        words = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise GoogleFailed(f"Pub/Sub does not say how long {EVENTS_TOPIC} keeps messages: {words}") from error
    finally:
        await publisher.transport.close()
    return int(topic.message_retention_duration.total_seconds())  # pyright: ignore[reportAttributeAccessIssue]
