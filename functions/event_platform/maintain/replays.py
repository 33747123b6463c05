"""Replays where topics keep the events: makes the push subscriptions for each, and takes them away.

The names of these follow from the replay, so a tick that was killed is done again by the next one. They are
removed before the record is closed.
"""

from datetime import datetime, timedelta

import structlog

from ..domain.errors import Unavailable
from ..domain.replays import PushedReplay, ReplayStatus
from ..domain.subscriptions import Status, Subscription
from ..ports import Clock, OpenReplays, ReplayPushes, SubscriptionLookup

log = structlog.get_logger()

KNOWN_WITHIN = timedelta(seconds=10)
"""Longer than the instances go by what they have read: no delivery of it is then dropped as of no replay."""
QUIET = timedelta(minutes=3)
"""The time without a push after which all events of the range were pushed. A push that is refused comes again
within a minute."""
UNWATCHED = timedelta(seconds=150)
"""The longest time between two ticks for which silence counts: an outage of ours is silent, too."""
LONGEST = timedelta(hours=24)
BEGINNING_SECONDS = 40.0
"""No replay is begun with later than this in a tick."""


async def work_on_replays(
    replays: OpenReplays, pushes: ReplayPushes, *, subscriptions: SubscriptionLookup, clock: Clock
) -> int:
    """Runs one tick. Returns how many replays are open.

    What fails with one replay is left for the next tick; its error is raised once the others are done.
    """
    end = clock.monotonic() + BEGINNING_SECONDS
    found = await replays.open()
    failure: Unavailable | None = None
    for pushed in found:
        if clock.monotonic() >= end:
            break
        try:
            subscription = await subscriptions.current(pushed.replay.subscription_id)
            await _work_on(pushed, subscription, replays, pushes, clock.now())
        except Unavailable as error:
            log.warning("replay.tick_failed", replay_id=pushed.replay.id, error=str(error))
            failure = failure or error
    if failure is not None:
        raise failure
    return len(found)


async def _work_on(
    pushed: PushedReplay,
    subscription: Subscription | None,
    replays: OpenReplays,
    pushes: ReplayPushes,
    now: datetime,
) -> None:
    replay = pushed.replay
    if replay.status is ReplayStatus.RUNNING and now - replay.created_at < KNOWN_WITHIN:
        return
    end = _end_of(pushed, subscription, now)
    if end is not None:
        status, reason = end
        await pushes.remove(pushed)
        await replays.close(pushed, status, reason)
        log.info("replay.closed", replay_id=replay.id, subscription_id=replay.subscription_id, status=status)
        return
    if pushed.pushed_at is None:
        await pushes.make(pushed)
    is_new = pushed.pushed_at is None or pushed.watched_at is None
    await replays.watch(replay.id, as_pushed=is_new or _was_unwatched(pushed, now))


def _was_unwatched(pushed: PushedReplay, now: datetime) -> bool:
    return pushed.watched_at is not None and now - pushed.watched_at > UNWATCHED


def _end_of(
    pushed: PushedReplay, subscription: Subscription | None, now: datetime
) -> tuple[ReplayStatus, Status | None] | None:
    """Returns the status in which it ends and why; None while it goes on."""
    replay = pushed.replay
    if replay.status is not ReplayStatus.RUNNING:
        return replay.status, replay.reason
    if subscription is None:
        return ReplayStatus.ENDED, Status.DELETED
    if not pushed.is_of(subscription):
        suspended = subscription.status is Status.ACTIVE  # and resumed since
        return ReplayStatus.ENDED, Status.SUSPENDED if suspended else subscription.status
    if now - replay.created_at >= LONGEST:
        log.error("replay.not_done", replay_id=replay.id, subscription_id=replay.subscription_id)
        return ReplayStatus.ENDED, None
    if pushed.pushed_at is None or _was_unwatched(pushed, now) or now - pushed.pushed_at < QUIET:
        return None
    return ReplayStatus.DONE, None
