"""Telling one notification, by the channels of its subscriber. Effects come in as arguments."""

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
    Pending,
    Result,
    Told,
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

NO_MAIL_SERVER = "set AEP_SMTP_URL and AEP_MAIL_FROM, so that subscribers can be told by e-mail"


@dataclass(frozen=True, slots=True)
class Telling:
    """What notifications are told with. Without `mailer` there are no mails; `base_url` is the platform's."""

    subscribers: SubscriberLookup
    outbox: Outbox
    sender: Sender
    clock: Clock
    mailer: Mailer | None = None
    base_url: str = ""


async def notify(pending: Pending, *, telling: Telling) -> Told:
    """Returns what came of telling it now; the caller has it applied by `settle`.

    Raises only for faults of ours and StoreUnavailable: a receiver's failure is a result. Takes at most 40 s.
    """
    notification = pending.notification
    try:
        subscriber = await telling.subscribers.subscriber(notification.owner, notification.subscriber_id)
    except NotFound:  # deleted, more than 30 days ago by now
        log.warning("notification.dropped", **_ids(notification), why="the subscriber is not known any more")
        return Told()
    if pending.is_held:
        return await _merged(pending, subscriber, telling)
    mail = mail_of(notification, subscriber, telling.base_url)
    if pending.mail_attempts > 0:
        return await _by_mail((), pending, mail, telling)
    channels = channels_of(notification, subscriber.contact)
    if not await _is_allowed(channels, subscriber, telling):
        return await _held((), pending, telling)
    results: list[tuple[Channel, Result]] = []
    if Channel.WEBHOOK in channels:
        body = body_of(notification)
        results.append((Channel.WEBHOOK, await _by_webhook(notification, body, subscriber.contact, telling)))
    if Channel.EMAIL not in channels:
        if results[0][1] is not Result.FAILED:
            return Told(results)
        if not await _is_allowed([Channel.EMAIL], subscriber, telling):  # contract/wire.md 12: a mail instead
            return await _held(tuple(results), pending, telling)
    return await _by_mail(tuple(results), pending, mail, telling)


async def settle(outbox: Outbox, pending: Pending, told: Told) -> None:
    """Applies what came of telling. Raises StoreUnavailable."""
    if told.held_until is not None:
        attempts = pending.mail_attempts + (1 if told.results else 0)  # the webhook is not repeated
        await outbox.hold(pending, told.held_until, mail_attempts=attempts)
    else:
        await outbox.settle(pending, told.again_at, told.merged)


async def _is_allowed(
    channels: Sequence[Channel], subscriber: Subscriber, telling: Telling, *, merged: bool = False
) -> bool:
    return await telling.outbox.count(
        [allowance_of(channel, subscriber.owner, subscriber.contact, merged=merged) for channel in channels]
    )


async def _held(results: tuple[tuple[Channel, Result], ...], pending: Pending, telling: Telling) -> Told:
    """The first that is held of a subscriber is told at the end of the period, and the others with it."""
    until = merged_at(telling.clock.now())
    if await telling.outbox.held(pending.notification.subscriber_id, 1):
        until += HELD_FOR_ANOTHER
    return Told(results, held_until=until)


async def _merged(pending: Pending, subscriber: Subscriber, telling: Telling) -> Told:
    """Tells of all that are held of the subscriber at once, when it is the oldest's turn."""
    held = await telling.outbox.held(subscriber.id, MERGED_AT_MOST)
    if not held or held[0].notification.id != pending.notification.id:
        return Told(held_until=merged_at(telling.clock.now()) + HELD_FOR_ANOTHER)
    wanted = subscriber.contact.notification_channels
    by_webhook = [
        each.notification
        for each in held
        if each.mail_attempts == 0 and Channel.WEBHOOK in channels_of(each.notification, subscriber.contact)
    ]
    channels = [Channel.EMAIL] if Channel.EMAIL in wanted or len(by_webhook) < len(held) else []
    channels += [Channel.WEBHOOK] if by_webhook else []
    if pending.mail_attempts == 0 and not await _is_allowed(channels, subscriber, telling, merged=True):
        return Told(held_until=merged_at(telling.clock.now()))
    results: list[tuple[Channel, Result]] = []
    if by_webhook:
        body = merged_body_of(by_webhook)
        result = await _by_webhook(held[0].notification, body, subscriber.contact, telling)
        results.append((Channel.WEBHOOK, result))
    by_mail = [
        each.notification
        for each in held
        if Channel.EMAIL in wanted or each.notification not in by_webhook or results[0][1] is Result.FAILED
    ]
    log.warning("notification.merged", **_ids(held[0].notification), changes=len(held))
    if not by_mail:
        return Told(results, merged=held[1:])
    mail = merged_mail_of(by_mail, subscriber, telling.base_url)
    told = await _by_mail(tuple(results), pending, mail, telling)
    return replace(told, merged=held[1:])


async def _by_webhook(
    notification: Notification, content: dict[str, Any], contact: Contact, telling: Telling
) -> Result:
    """Up to three attempts. The contact has URL and secret while the webhook is among its channels."""
    url, secret = contact.notification_webhook_url, contact.notification_webhook_secret
    assert url is not None  # noqa: S101 - management refuses a webhook without them
    assert secret is not None  # noqa: S101
    body = json_form.stringify(content)
    headers = signed(Sent(notification.id, body, secret.get_secret_value()))
    attempts = 1
    post = partial(telling.sender.post, url, headers, body, owner=notification.owner, timeout=WEBHOOK_SECONDS)
    result = await post()
    for pause in WEBHOOK_PAUSES:
        if not may_succeed_later(result):
            break
        await telling.clock.sleep(pause)
        attempts += 1
        result = await post()
    sent = isinstance(result, Answer) and 200 <= result.status <= 299
    outcome = Result.SENT if sent else Result.FAILED
    _log(notification, Channel.WEBHOOK, outcome, attempts=attempts, **_why(result))
    return outcome


async def _by_mail(
    results: tuple[tuple[Channel, Result], ...], pending: Pending, mail: Mail, telling: Telling
) -> Told:
    """One attempt; what the server does not take now is to be tried again at a time that is told."""
    notification, attempts = pending.notification, pending.mail_attempts + 1
    if telling.mailer is None:
        log.warning("notification.not_sent", **_ids(notification), channel="email", fix=NO_MAIL_SERVER)
        return Told((*results, (Channel.EMAIL, Result.NOT_SENT)))
    failure = await telling.mailer.send(mail)
    if failure is None:
        _log(notification, Channel.EMAIL, Result.SENT, attempts=attempts)
        return Told((*results, (Channel.EMAIL, Result.SENT)))
    again_at = None if failure.permanent else mail_retry_at(attempts, telling.clock.now())
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
    return Told((*results, (Channel.EMAIL, result)), again_at)


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
