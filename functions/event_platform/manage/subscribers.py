"""The use cases around subscribers (contract/wire.md 3)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import uuid_utils
from pydantic import SecretStr

from ..domain.errors import Forbidden, InvalidRequest, Problem
from ..domain.record.actions import Action
from ..domain.subscriptions import (
    REDACTED,
    SUBSCRIBERS_PER_PIM,
    Contact,
    Status,
    Subscriber,
    Subscription,
    check_changeable,
    check_known,
    delete_subscriber,
    delete_subscription,
)
from .guarding import HostOf, host_of_endpoint, parsed_and_guarded
from .identity import Caller
from .payloads.body import validated
from .payloads.subscribers import (
    ContactBody,
    ContactPatch,
    SubscriberPatch,
    parse_subscriber,
    webhook_problems,
)
from .services import Manage

HOSTS: Mapping[str, HostOf] = {"contact.notification_webhook_url": host_of_endpoint}


def check_permission(caller: Caller) -> None:
    """Raises Forbidden for a caller whose connection lacks the PIM's "Event Platform" permission."""
    if not caller.may_subscribe:
        raise Forbidden("the connection has no Event Platform permission in the PIM; ask its administrator")


async def create_subscriber(
    caller: Caller,
    body: Any,
    *,
    manage: Manage,
    action: Action,
) -> Subscriber:
    """Raises InvalidRequest, Forbidden, Conflict (limit)."""
    rules = manage.rules_for(caller)
    parse = partial(parse_subscriber, body, rules=rules)
    wanted = await parsed_and_guarded(parse, body, HOSTS, manage.guard)
    check_permission(caller)
    now = manage.clock.now()
    subscriber = Subscriber(
        id=str(uuid_utils.uuid7()),
        owner=caller.owner,
        name=wanted.name,
        subject=caller.subject,
        contact=_contact(wanted.contact),
        created_at=now,
        updated_at=now,
    )
    await manage.subscriptions.add_subscriber(subscriber, limit=SUBSCRIBERS_PER_PIM, action=action)
    return subscriber


async def list_subscribers(caller: Caller, *, manage: Manage) -> Sequence[Subscriber]:
    """The caller's active and revoked ones."""
    return await manage.subscriptions.subscribers(caller.owner)


async def get_subscriber(caller: Caller, subscriber_id: str, *, manage: Manage) -> Subscriber:
    """Raises NotFound."""
    subscriber = await manage.subscriptions.subscriber(caller.owner, subscriber_id)
    check_known(subscriber, manage.clock.now())
    return subscriber


async def change_subscriber(
    caller: Caller,
    subscriber_id: str,
    body: Any,
    *,
    manage: Manage,
    action: Action,
) -> Subscriber:
    """Changes what the body names, `contact` by key. Raises InvalidRequest, Forbidden, NotFound, Conflict."""
    rules = manage.rules_for(caller, is_new=False)
    parse = partial(validated, SubscriberPatch, body, rules=rules)
    patch = await parsed_and_guarded(parse, body, HOSTS, manage.guard)
    check_permission(caller)
    now = manage.clock.now()

    def change(before: Subscriber) -> Subscriber:
        check_changeable(before, now)
        contact = _patched_contact(before.contact, patch.contact)
        _check_webhook(contact)
        name = patch.name if "name" in patch.model_fields_set else before.name
        after = replace(before, name=name, contact=contact)
        return before if after == before else replace(after, updated_at=now)

    return await manage.subscriptions.change_subscriber(caller.owner, subscriber_id, change, action=action)


async def remove_subscriber(
    caller: Caller, subscriber_id: str, *, manage: Manage, action: Action
) -> Subscriber:
    """Deletes it and its subscriptions. Raises NotFound, Conflict."""
    now = manage.clock.now()

    def delete_too(subscription: Subscription) -> Subscription:
        return (
            subscription if subscription.status is Status.DELETED else delete_subscription(subscription, now)
        )

    return await manage.subscriptions.change_subscriber(
        caller.owner,
        subscriber_id,
        partial(delete_subscriber, now=now),
        and_subscriptions=delete_too,
        action=action,
    )


def _contact(wanted: ContactBody) -> Contact:
    secret = wanted.notification_webhook_secret
    if secret is not None and secret.get_secret_value() == REDACTED:
        raise InvalidRequest(
            Problem("contact.notification_webhook_secret", "is the redaction mark, not a secret")
        )
    return Contact(
        technical_email=wanted.technical_email,
        notification_channels=tuple(wanted.notification_channels or ["email"]),
        notification_webhook_url=wanted.notification_webhook_url,
        notification_webhook_secret=secret,
    )


def _patched_contact(before: Contact, patch: ContactPatch) -> Contact:
    changes: dict[str, Any] = {name: getattr(patch, name) for name in patch.model_fields_set}
    if "notification_channels" in changes:
        changes["notification_channels"] = tuple(changes["notification_channels"] or ["email"])
    if "notification_webhook_secret" in changes:
        changes["notification_webhook_secret"] = _patched_secret(before, changes)
    return replace(before, **changes)


def _patched_secret(before: Contact, changes: Mapping[str, Any]) -> SecretStr | None:
    secret: SecretStr | None = changes["notification_webhook_secret"]
    if secret is None or secret.get_secret_value() != REDACTED:
        return secret
    if before.notification_webhook_secret is None:
        raise InvalidRequest(
            Problem("contact.notification_webhook_secret", "is redacted, but none is stored")
        )
    return before.notification_webhook_secret


def _check_webhook(contact: Contact) -> None:
    problems = webhook_problems(
        contact.notification_channels, contact.notification_webhook_url, contact.notification_webhook_secret
    )
    if problems:
        raise InvalidRequest(*problems)
