"""Sends one notification by the channels of its subscriber. Effects come in as arguments."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import structlog

from ..domain.attempts.delivery_headers import Sent, signed
from ..domain.attempts.outcomes import Answer, TransportFailure
from ..domain.errors import NotFound
from ..domain.events import json_form
from ..domain.record.notifications import (
    HELD_FOR_ANOTHER,
    MERGED_AT_MOST,
    WEBHOOK_PAUSES,
    WEBHOOK_SECONDS,
    Channel,
    Mail,
    Notification,
    NotificationResult,
    Pending,
    Result,
    allowance_of,
    body_of,
    channels_of,
    mail_of,
    mail_retry_at,
    may_succeed_later,
    merged_at,
    merged_body_of,
    merged_mail_of,
)
from ..domain.subscriptions import Contact, Subscriber
from ..domain.timestamps import to_rfc3339
from ..ports import Clock, Mailer, Outbox, Sender, SubscriberLookup

log = structlog.get_logger()

NO_MAIL_SERVER = "set AEP_SMTP_URL and AEP_MAIL_FROM, so that subscribers can be notified by e-mail"


@dataclass(frozen=True, slots=True, kw_only=True)
class NotifyServices:
    """The services of notify. Without `mailer` there are no mails; `base_url` is the platform's."""

    subscribers: SubscriberLookup
    outbox: Outbox
    sender: Sender
    clock: Clock
    mailer: Mailer | None = None
    base_url: str = ""


async def notify(pending: Pending, *, services: NotifyServices) -> NotificationResult:
    """Sends it now. Returns the result, which the caller applies by `settle`.

    Raises only for faults of ours and StoreUnavailable: a receiver's failure is a result. Takes at most 40 s.
    """
    notification = pending.notification
    try:
        subscriber = await services.subscribers.subscriber(notification.owner, notification.subscriber_id)
    except NotFound:  # deleted, more than 30 days ago by now
        log.warning("notification.dropped", **_ids(notification), why="the subscriber is not known any more")
        return NotificationResult()
    if pending.is_held:
        return await _merged(pending, subscriber, services)
    mail = mail_of(notification, subscriber, services.base_url)
    if pending.mail_attempts > 0:
        return await _by_mail((), pending, mail, services)
    channels = channels_of(notification, subscriber.contact)
    if not await _is_allowed(channels, subscriber, services):
        return await _held((), pending, services)
    results: list[tuple[Channel, Result]] = []
    if Channel.WEBHOOK in channels:
        body = body_of(notification)
        results.append((Channel.WEBHOOK, await _by_webhook(notification, body, subscriber.contact, services)))
    if Channel.EMAIL not in channels:
        if results[0][1] is not Result.FAILED:
            return NotificationResult(results)
        # contract/wire.md 12: a mail instead
        if not await _is_allowed([Channel.EMAIL], subscriber, services):
            return await _held(tuple(results), pending, services)
    return await _by_mail(tuple(results), pending, mail, services)


async def settle(outbox: Outbox, pending: Pending, result: NotificationResult) -> None:
    """Applies the result of `notify`. Raises StoreUnavailable."""
    if result.held_until is not None:
        attempts = pending.mail_attempts + (1 if result.results else 0)  # the webhook is not repeated
        await outbox.hold(pending, result.held_until, mail_attempts=attempts)
    else:
        await outbox.settle(pending, result.again_at, result.merged)


async def _is_allowed(
    channels: Sequence[Channel], subscriber: Subscriber, services: NotifyServices, *, merged: bool = False
) -> bool:
    return await services.outbox.count(
        [allowance_of(channel, subscriber.owner, subscriber.contact, merged=merged) for channel in channels]
    )


async def _held(
    results: tuple[tuple[Channel, Result], ...], pending: Pending, services: NotifyServices
) -> NotificationResult:
    """Holds it. The first of a subscriber is sent at the end of the period, and the others with it."""
    until = merged_at(services.clock.now())
    if await services.outbox.held(pending.notification.subscriber_id, 1):
        until += HELD_FOR_ANOTHER
    return NotificationResult(results, held_until=until)


async def _merged(pending: Pending, subscriber: Subscriber, services: NotifyServices) -> NotificationResult:
    """Sends all that are held of the subscriber as one, if this is the oldest."""
    held = await services.outbox.held(subscriber.id, MERGED_AT_MOST)
    if not held or held[0].notification.id != pending.notification.id:
        return NotificationResult(held_until=merged_at(services.clock.now()) + HELD_FOR_ANOTHER)
    wanted = subscriber.contact.notification_channels
    by_webhook = [
        each.notification
        for each in held
        if each.mail_attempts == 0 and Channel.WEBHOOK in channels_of(each.notification, subscriber.contact)
    ]
    channels = [Channel.EMAIL] if Channel.EMAIL in wanted or len(by_webhook) < len(held) else []
    channels += [Channel.WEBHOOK] if by_webhook else []
    if pending.mail_attempts == 0 and not await _is_allowed(channels, subscriber, services, merged=True):
        return NotificationResult(held_until=merged_at(services.clock.now()))
    results: list[tuple[Channel, Result]] = []
    if by_webhook:
        body = merged_body_of(by_webhook)
        result = await _by_webhook(held[0].notification, body, subscriber.contact, services)
        results.append((Channel.WEBHOOK, result))
    by_mail = [
        each.notification
        for each in held
        if Channel.EMAIL in wanted or each.notification not in by_webhook or results[0][1] is Result.FAILED
    ]
    log.warning("notification.merged", **_ids(held[0].notification), changes=len(held))
    if not by_mail:
        return NotificationResult(results, merged=held[1:])
    mail = merged_mail_of(by_mail, subscriber, services.base_url)
    result = await _by_mail(tuple(results), pending, mail, services)
    return replace(result, merged=held[1:])


async def _by_webhook(
    notification: Notification, content: dict[str, Any], contact: Contact, services: NotifyServices
) -> Result:
    """Makes up to three attempts. The contact has URL and secret while the webhook is among its channels."""
    url, secret = contact.notification_webhook_url, contact.notification_webhook_secret
    assert url is not None  # noqa: S101 - management refuses a webhook without them
    assert secret is not None  # noqa: S101
    body = json_form.stringify(content)
    headers = signed(Sent(notification.id, body, secret.get_secret_value()))
    attempts = 1
    post = partial(
        services.sender.post, url, headers, body, owner=notification.owner, timeout=WEBHOOK_SECONDS
    )
    result = await post()
    for pause in WEBHOOK_PAUSES:
        if not may_succeed_later(result):
            break
        await services.clock.sleep(pause)
        attempts += 1
        result = await post()
    sent = isinstance(result, Answer) and 200 <= result.status <= 299
    outcome = Result.SENT if sent else Result.FAILED
    _log(notification, Channel.WEBHOOK, outcome, attempts=attempts, **_why(result))
    return outcome


async def _by_mail(
    results: tuple[tuple[Channel, Result], ...], pending: Pending, mail: Mail, services: NotifyServices
) -> NotificationResult:
    """Makes one attempt. The result has the time of the next one if the server does not take it now."""
    notification, attempts = pending.notification, pending.mail_attempts + 1
    if services.mailer is None:
        log.warning("notification.not_sent", **_ids(notification), channel="email", fix=NO_MAIL_SERVER)
        return NotificationResult((*results, (Channel.EMAIL, Result.NOT_SENT)))
    failure = await services.mailer.send(mail)
    if failure is None:
        _log(notification, Channel.EMAIL, Result.SENT, attempts=attempts)
        return NotificationResult((*results, (Channel.EMAIL, Result.SENT)))
    again_at = None if failure.permanent else mail_retry_at(attempts, services.clock.now())
    result = Result.FAILED if again_at is None else Result.POSTPONED
    _log(
        notification,
        Channel.EMAIL,
        result,
        attempts=attempts,
        again_at=to_rfc3339(again_at) if again_at is not None else None,
        detail=failure.detail,
        code=failure.code,
    )
    return NotificationResult((*results, (Channel.EMAIL, result)), again_at)


def _log(notification: Notification, channel: Channel, result: Result, **more: str | int | None) -> None:
    """A line for each channel; no address of a person, no text of a server."""
    write = log.info if result is Result.SENT else log.warning
    write(
        f"notification.{result}",
        **_ids(notification),
        channel=channel,
        **{name: value for name, value in more.items() if value is not None},
    )


def _why(result: Answer | TransportFailure) -> dict[str, str | int | None]:
    if isinstance(result, TransportFailure):
        return {"reason": result.reason, "detail": result.detail or None}
    return {"status": result.status}


def _ids(notification: Notification) -> dict[str, str | None]:
    return {
        "notification_id": notification.id,
        "kind": notification.kind,
        "subscriber_id": notification.subscriber_id,
        "subscription_id": notification.subscription_id,
    }
