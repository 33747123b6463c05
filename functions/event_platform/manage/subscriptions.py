"""The use cases around subscriptions (contract/wire.md 4 and 5)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import uuid_utils

from ..domain.attempts.outcomes import LastFailure
from ..domain.errors import Conflict, InvalidRequest, NotFound
from ..domain.record.actions import Action
from ..domain.subscriptions import (
    SUBSCRIPTIONS_PER_SUBSCRIBER,
    HttpsConfig,
    Subscriber,
    Subscription,
    check_changeable,
    check_known,
    delete_subscription,
    resume,
    suspend,
)
from .configs import config_of
from .guarding import HostOf, host_of_broker, host_of_endpoint, parsed_and_guarded
from .identity import Caller
from .payloads.body import Rules, validated
from .payloads.configs import ConfigBody
from .payloads.replays import ResumeBody
from .payloads.subscriptions import (
    OptionsBody,
    SubscriptionPatch,
    parse_subscription,
    parse_subscription_patch,
    type_named,
)
from .replays import replays_of
from .services import Manage
from .subscribers import check_permission

HOSTS: Mapping[str, Mapping[str, HostOf]] = {
    "https": {"config.url": host_of_endpoint},
    "kafka": {"config.broker": host_of_broker},
}
"""The fields of a config that name a host, and their form, by the destination's type."""


async def create_subscription(
    caller: Caller,
    subscriber_id: str,
    body: Any,
    *,
    manage: Manage,
    action: Action,
) -> Subscription:
    """Raises InvalidRequest, Forbidden, NotFound, Conflict (limit; subscriber deleted or revoked)."""
    rules = manage.rules_for(caller)
    parse = partial(parse_subscription, body, rules=rules)
    wanted, config = await parsed_and_guarded(parse, body, _hosts(body, rules), manage.guard)
    destination = config_of(config, None)
    check_permission(caller)
    _check_catch_up(wanted.catch_up, manage)
    now = manage.clock.now()
    subscription = Subscription(
        id=str(uuid_utils.uuid7()),
        subscriber_id=subscriber_id,
        owner=caller.owner,
        source=wanted.source,
        subject=wanted.subject or caller.subject,
        events=tuple(wanted.events),
        config=destination,
        created_at=now,
        updated_at=now,
        filter=wanted.filter or None,
        send_product_identifier=wanted.send_product_identifier,
        options=_options(wanted.options),
        catch_up=manage.catch_up if wanted.catch_up is None else wanted.catch_up,
    )

    def check(subscriber: Subscriber) -> None:
        check_changeable(subscriber, now)

    async def add(takes_topic: bool) -> Subscription:
        await manage.subscriptions.add_subscription(
            subscription,
            check,
            limit=SUBSCRIPTIONS_PER_SUBSCRIBER,
            action=action,
            takes_topic=takes_topic,
        )
        return subscription

    return await manage.topic_proofs().proving(caller.owner, subscriber_id, add)


async def list_subscriptions(caller: Caller, subscriber_id: str, *, manage: Manage) -> Sequence[Subscription]:
    """The active, suspended and revoked ones. Raises NotFound."""
    check_known(await manage.subscriptions.subscriber(caller.owner, subscriber_id), manage.clock.now())
    return await manage.subscriptions.subscriptions(caller.owner, subscriber_id)


async def get_subscription(
    caller: Caller, subscriber_id: str, subscription_id: str, *, manage: Manage
) -> Subscription:
    """Raises NotFound."""
    subscription = await manage.subscriptions.subscription(caller.owner, subscriber_id, subscription_id)
    check_known(subscription, manage.clock.now())
    return subscription


async def last_failure(subscription: Subscription, *, manage: Manage) -> LastFailure | None:
    """Returns the last failed attempt; None also where that is not stored."""
    return None if manage.failures is None else await manage.failures.last_failure(subscription.id)


async def change_subscription(
    caller: Caller,
    subscriber_id: str,
    subscription_id: str,
    body: Any,
    *,
    manage: Manage,
    action: Action,
) -> Subscription:
    """Changes what the body names. Raises InvalidRequest, Forbidden, NotFound, Conflict."""
    stored = await _stored_type(caller, subscriber_id, subscription_id, manage)
    rules = replace(manage.rules_for(caller, is_new=False), stored_type=stored)
    parse = partial(parse_subscription_patch, body, rules=rules)
    patch, config = await parsed_and_guarded(parse, body, _hosts(body, rules), manage.guard)
    check_permission(caller)
    _check_catch_up(patch.catch_up, manage)
    now = manage.clock.now()

    def change(before: Subscription) -> Subscription:
        check_changeable(before, now)
        if before.type != stored:
            raise Conflict("the type of the destination was changed meanwhile; try again")
        after = _patched(before, patch, config, caller.subject, catch_up=manage.catch_up)
        return before if after == before else replace(after, updated_at=now)

    async def put(takes_topic: bool) -> Subscription:
        return await manage.subscriptions.change_subscription(
            caller.owner, subscriber_id, subscription_id, change, action=action, takes_topic=takes_topic
        )

    return await manage.topic_proofs().proving(caller.owner, subscriber_id, put)


async def remove_subscription(
    caller: Caller,
    subscriber_id: str,
    subscription_id: str,
    *,
    manage: Manage,
    action: Action,
) -> Subscription:
    """Raises NotFound, Conflict."""
    change = partial(delete_subscription, now=manage.clock.now())
    return await manage.subscriptions.change_subscription(
        caller.owner, subscriber_id, subscription_id, change, action=action
    )


async def suspend_subscription(
    caller: Caller,
    subscriber_id: str,
    subscription_id: str,
    *,
    manage: Manage,
    action: Action,
) -> Subscription:
    """Harmless when it is suspended already. Raises NotFound, Conflict."""
    change = partial(suspend, now=manage.clock.now())
    return await manage.subscriptions.change_subscription(
        caller.owner, subscriber_id, subscription_id, change, action=action
    )


async def resume_subscription(
    caller: Caller,
    subscriber_id: str,
    subscription_id: str,
    body: Any,
    *,
    manage: Manage,
    action: Action,
) -> Subscription:
    """Harmless when it is active already.

    Raises InvalidRequest, Forbidden, NotFound, Conflict (also of its topic, or when no events are kept that
    it could catch up with).
    """
    catch_up = validated(ResumeBody, body, rules=manage.rules_for(caller)).catch_up
    check_permission(caller)
    _check_catch_up(catch_up, manage)
    change = partial(resume, now=manage.clock.now())

    async def put(takes_topic: bool) -> Subscription:
        return await manage.subscriptions.change_subscription(
            caller.owner,
            subscriber_id,
            subscription_id,
            change,
            action=action,
            takes_topic=takes_topic,
            catch_up=catch_up,
        )

    try:
        return await manage.topic_proofs().proving(caller.owner, subscriber_id, put)
    except InvalidRequest as error:  # there is no body to be wrong
        raise Conflict(str(error)) from error


def _check_catch_up(catch_up: bool | None, manage: Manage) -> None:
    """Raises Conflict if a subscription should catch up and cannot: no events are kept."""
    if catch_up:
        replays_of(manage)


def _patched(
    before: Subscription,
    patch: SubscriptionPatch,
    config: ConfigBody | None,
    subject: str,
    *,
    catch_up: bool,
) -> Subscription:
    """The subscription after a change; `subject`, the PIM's URL, and `catch_up` are the defaults."""
    named = patch.model_fields_set
    return replace(
        before,
        source=patch.source if "source" in named else before.source,
        subject=(patch.subject or subject) if "subject" in named else before.subject,
        events=tuple(patch.events) if "events" in named else before.events,
        config=config_of(config, before.config) if config else before.config,
        filter=(patch.filter or None) if "filter" in named else before.filter,
        send_product_identifier=(
            patch.send_product_identifier
            if "send_product_identifier" in named
            else before.send_product_identifier
        ),
        options=_options(patch.options) if "options" in named else before.options,
        catch_up=(
            (catch_up if patch.catch_up is None else patch.catch_up)
            if "catch_up" in named
            else before.catch_up
        ),
    )


async def _stored_type(caller: Caller, subscriber_id: str, subscription_id: str, manage: Manage) -> str:
    """Returns the type for a config that comes without one. A body is checked before the subscription is."""
    try:
        return (await manage.subscriptions.subscription(caller.owner, subscriber_id, subscription_id)).type
    except NotFound:
        return HttpsConfig.type


def _hosts(body: Any, rules: Rules) -> Mapping[str, HostOf]:
    return HOSTS.get(str(type_named(body, rules)), {})


def _options(options: OptionsBody | None) -> dict[str, Any] | None:
    return options.model_dump(exclude_none=True) if options is not None else None
