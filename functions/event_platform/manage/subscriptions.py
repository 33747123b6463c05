"""The use cases around subscriptions (wire contract 4 and 5)."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import uuid_utils
from pydantic import SecretStr

from ..domain.actions import Action
from ..domain.catalog import Catalog
from ..domain.errors import InvalidRequest, Problem
from ..domain.subscriptions import (
    REDACTED,
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
from ..domain.urls import host_and_port
from ..ports import Clock, DestinationGuard, Subscriptions
from .guarding import parsed_and_guarded
from .identity import Caller
from .payloads import (
    HttpsBody,
    OptionsBody,
    Rules,
    SubscriptionPatch,
    parse_subscription,
    parse_subscription_patch,
)
from .subscribers import check_permission

URL_FIELDS = ("config.url",)


async def create_subscription(
    caller: Caller,
    subscriber_id: str,
    body: Any,
    *,
    subscriptions: Subscriptions,
    guard: DestinationGuard,
    clock: Clock,
    allow_http: bool,
    known: Catalog,
    action: Action,
) -> Subscription:
    """Raises InvalidRequest, Forbidden, NotFound, Conflict (limit; subscriber deleted or revoked)."""
    rules = Rules(caller.owner.tenant, allow_http, is_new=True, known=known)
    parse = partial(parse_subscription, body, rules=rules)
    wanted, config = await parsed_and_guarded(parse, body, URL_FIELDS, guard)
    destination = https_config(config, None)
    check_permission(caller)
    now = clock.now()
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
    )

    def check(subscriber: Subscriber) -> None:
        check_changeable(subscriber, now)

    await subscriptions.add_subscription(
        subscription, check, limit=SUBSCRIPTIONS_PER_SUBSCRIBER, action=action
    )
    return subscription


async def list_subscriptions(
    caller: Caller, subscriber_id: str, *, subscriptions: Subscriptions, clock: Clock
) -> Sequence[Subscription]:
    """The active, suspended and revoked ones. Raises NotFound."""
    check_known(await subscriptions.subscriber(caller.owner, subscriber_id), clock.now())
    return await subscriptions.subscriptions(caller.owner, subscriber_id)


async def get_subscription(
    caller: Caller, subscriber_id: str, subscription_id: str, *, subscriptions: Subscriptions, clock: Clock
) -> Subscription:
    """Raises NotFound."""
    subscription = await subscriptions.subscription(caller.owner, subscriber_id, subscription_id)
    check_known(subscription, clock.now())
    return subscription


async def change_subscription(
    caller: Caller,
    subscriber_id: str,
    subscription_id: str,
    body: Any,
    *,
    subscriptions: Subscriptions,
    guard: DestinationGuard,
    clock: Clock,
    allow_http: bool,
    known: Catalog,
    action: Action,
) -> Subscription:
    """Changes what the body names. Raises InvalidRequest, Forbidden, NotFound, Conflict."""
    rules = Rules(caller.owner.tenant, allow_http, is_new=False, known=known)
    parse = partial(parse_subscription_patch, body, rules=rules)
    patch, config = await parsed_and_guarded(parse, body, URL_FIELDS, guard)
    check_permission(caller)
    now = clock.now()

    def change(before: Subscription) -> Subscription:
        check_changeable(before, now)
        after = _patched(before, patch, config)
        return before if after == before else replace(after, updated_at=now)

    return await subscriptions.change_subscription(
        caller.owner, subscriber_id, subscription_id, change, action=action
    )


async def remove_subscription(
    caller: Caller,
    subscriber_id: str,
    subscription_id: str,
    *,
    subscriptions: Subscriptions,
    clock: Clock,
    action: Action,
) -> Subscription:
    """Raises NotFound, Conflict."""
    change = partial(delete_subscription, now=clock.now())
    return await subscriptions.change_subscription(
        caller.owner, subscriber_id, subscription_id, change, action=action
    )


async def suspend_subscription(
    caller: Caller,
    subscriber_id: str,
    subscription_id: str,
    *,
    subscriptions: Subscriptions,
    clock: Clock,
    action: Action,
) -> Subscription:
    """Harmless when it is suspended already. Raises NotFound, Conflict."""
    change = partial(suspend, now=clock.now())
    return await subscriptions.change_subscription(
        caller.owner, subscriber_id, subscription_id, change, action=action
    )


async def resume_subscription(
    caller: Caller,
    subscriber_id: str,
    subscription_id: str,
    *,
    subscriptions: Subscriptions,
    clock: Clock,
    action: Action,
) -> Subscription:
    """Harmless when it is active already. Raises Forbidden, NotFound, Conflict."""
    check_permission(caller)
    change = partial(resume, now=clock.now())
    return await subscriptions.change_subscription(
        caller.owner, subscriber_id, subscription_id, change, action=action
    )


def https_config(wanted: HttpsBody, stored: HttpsConfig | None) -> HttpsConfig:
    """The config to store: `wanted`, with what is redacted in it or absent from it taken from `stored`.

    Header values do not follow to another host, so that a hidden one can't be sent elsewhere (wire
    contract 4). Raises InvalidRequest.
    """
    problems: list[Problem] = []

    def secret(field: str, value: str, kept: SecretStr | None) -> SecretStr:
        if value == REDACTED and kept is None:
            problems.append(Problem(field, "is the redaction mark, but nothing is stored; send the value"))
        return kept if value == REDACTED and kept is not None else SecretStr(value)

    primary = secret("config.secret.primary", wanted.secret.primary, stored and stored.primary_secret)
    secondary = None
    if wanted.secret.secondary is not None:
        kept = stored and stored.secondary_secret
        secondary = secret("config.secret.secondary", wanted.secret.secondary, kept)
    headers = _headers(wanted, stored, problems)
    if problems:
        raise InvalidRequest(*problems)
    return HttpsConfig(wanted.url, primary, secondary, headers)


def _headers(wanted: HttpsBody, stored: HttpsConfig | None, problems: list[Problem]) -> dict[str, SecretStr]:
    known = {name.lower(): value for name, value in stored.headers.items()} if stored else {}
    named = wanted.headers
    if named is None:
        named = dict.fromkeys(stored.headers, REDACTED) if stored else {}
    missing = "is the redaction mark, but nothing is stored; send the value"
    if stored and host_and_port(stored.url)[0] != host_and_port(wanted.url)[0]:
        known, missing = {}, "must be sent anew when the URL's host changes"
    problems += [
        Problem(f"config.headers.{name}", missing)
        for name, value in named.items()
        if value == REDACTED and name.lower() not in known
    ]
    return {
        name: known.get(name.lower(), SecretStr(value)) if value == REDACTED else SecretStr(value)
        for name, value in named.items()
    }


def _patched(before: Subscription, patch: SubscriptionPatch, config: HttpsBody | None) -> Subscription:
    named = patch.model_fields_set
    return replace(
        before,
        source=patch.source if "source" in named else before.source,
        subject=patch.subject if patch.subject is not None else before.subject,
        events=tuple(patch.events) if "events" in named else before.events,
        config=https_config(config, before.config) if config else before.config,
        filter=(patch.filter or None) if "filter" in named else before.filter,
        send_product_identifier=(
            patch.send_product_identifier
            if "send_product_identifier" in named
            else before.send_product_identifier
        ),
        options=_options(patch.options) if "options" in named else before.options,
    )


def _options(options: OptionsBody | None) -> dict[str, Any] | None:
    return options.model_dump(exclude_none=True) if options is not None else None
