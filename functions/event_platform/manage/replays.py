"""The use cases that send again: replays of kept events, and retries now (contract/wire.md 15)."""

from collections.abc import Sequence
from typing import Any

import uuid_utils

from ..domain.errors import Conflict
from ..domain.record.actions import Action
from ..domain.replays import Replay, check_active, check_replayable
from ..domain.subscriptions import Subscription, check_known
from ..ports import Replays
from .identity import Caller
from .payloads.replays import parse_replay
from .services import Manage
from .subscribers import check_permission

NOT_KEPT = "this platform keeps no events"


def replays_of(manage: Manage) -> Replays:
    """Returns the port. Raises Conflict where events are not kept."""
    if manage.replays is None:
        raise Conflict(f"{NOT_KEPT}, so it can neither replay nor catch up")
    manage.replays.check_kept()
    return manage.replays


async def start_replay(
    caller: Caller, subscriber_id: str, subscription_id: str, body: Any, *, manage: Manage, action: Action
) -> Replay:
    """Has kept events sent again to a subscription; it goes on by itself.

    Raises InvalidRequest, Forbidden, NotFound, Conflict (not active, one is running, nothing is kept).
    """
    now = manage.clock.now()
    asked = parse_replay(body, now, rules=manage.rules_for(caller))
    subscription = await _permitted(caller, subscriber_id, subscription_id, manage)
    check_replayable(subscription)
    replay = Replay(str(uuid_utils.uuid7()), subscription_id, asked, now)
    return await replays_of(manage).start(caller.owner, subscriber_id, replay, action=action)


async def list_replays(
    caller: Caller, subscriber_id: str, subscription_id: str, *, manage: Manage
) -> Sequence[Replay]:
    """The latest replays of a subscription, newest first. Raises NotFound."""
    await _known(caller, subscriber_id, subscription_id, manage)
    return [] if manage.replays is None else await manage.replays.replays(subscription_id)


async def get_replay(
    caller: Caller, subscriber_id: str, subscription_id: str, replay_id: str, *, manage: Manage
) -> Replay:
    """Raises NotFound."""
    await _known(caller, subscriber_id, subscription_id, manage)
    return await replays_of(manage).replay(subscription_id, replay_id)


async def cancel_replay(
    caller: Caller,
    subscriber_id: str,
    subscription_id: str,
    replay_id: str,
    *,
    manage: Manage,
    action: Action,
) -> Replay:
    """Has no more of it sent; harmless when it is cancelled already. Raises NotFound, Conflict."""
    await _known(caller, subscriber_id, subscription_id, manage)
    return await replays_of(manage).cancel(
        caller.owner, subscriber_id, subscription_id, replay_id, now=manage.clock.now(), action=action
    )


async def retry_now(caller: Caller, subscriber_id: str, subscription_id: str, *, manage: Manage) -> int:
    """Makes the deliveries that wait for their next attempt due now; returns how many.

    Raises Forbidden, NotFound, Conflict (not active).
    """
    subscription = await _permitted(caller, subscriber_id, subscription_id, manage)
    check_active(subscription, "retry")
    if manage.retries is None:
        raise Conflict("this platform cannot make retries due before their time")
    return await manage.retries.retry_now(subscription_id)


async def _permitted(
    caller: Caller, subscriber_id: str, subscription_id: str, manage: Manage
) -> Subscription:
    check_permission(caller)
    return await _known(caller, subscriber_id, subscription_id, manage)


async def _known(caller: Caller, subscriber_id: str, subscription_id: str, manage: Manage) -> Subscription:
    subscription = await manage.subscriptions.subscription(caller.owner, subscriber_id, subscription_id)
    check_known(subscription, manage.clock.now())
    return subscription
