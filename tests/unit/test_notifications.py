"""What is told of which change, and in which words."""

from dataclasses import replace
from datetime import timedelta

import pytest

from event_platform.adapters.smtp import message_of
from event_platform.domain.attempts.outcomes import Answer, Reason, TransportFailure
from event_platform.domain.mail_servers import MailServer
from event_platform.domain.record.actions import BY_THE_PLATFORM, Action, Actor
from event_platform.domain.record.notifications import (
    Channel,
    Kind,
    Notification,
    body_of,
    channels_of,
    mail_of,
    mail_retry_at,
    may_succeed_later,
    notifications_of,
)
from event_platform.domain.subscriptions import Contact, Status, delete_subscriber, delete_subscription
from support.clock import START
from support.records import UPDATED, a_subscriber, a_subscription

BY_THE_USER = Action(Actor.USER)
SUBSCRIBER = a_subscriber()
SUBSCRIPTION = a_subscription(SUBSCRIBER)
LATER = START + timedelta(minutes=1)
BASE = "https://events.example.com"


def told(status: Status, action: Action = BY_THE_USER, before: Status = Status.ACTIVE) -> Notification:
    changed = replace(SUBSCRIPTION, status=status, updated_at=LATER)
    (notification,) = notifications_of([(replace(SUBSCRIPTION, status=before), changed)], action)
    return notification


@pytest.mark.parametrize(
    ("before", "after", "by", "kind"),
    [
        (Status.ACTIVE, Status.SUSPENDED, Actor.USER, "subscription.suspended.user"),
        (Status.ACTIVE, Status.SUSPENDED, Actor.PLATFORM, "subscription.suspended.system"),
        (Status.SUSPENDED, Status.ACTIVE, Actor.USER, "subscription.resumed"),
        (Status.ACTIVE, Status.REVOKED, Actor.PLATFORM, "subscription.revoked"),
        (Status.SUSPENDED, Status.REVOKED, Actor.PLATFORM, "subscription.revoked"),
        (Status.REVOKED, Status.DELETED, Actor.USER, "subscription.deleted"),
    ],
)
def test_a_status_that_followed_on_another_is_told(
    before: Status, after: Status, by: Actor, kind: str
) -> None:
    notification = told(after, Action(by), before)
    assert (notification.kind, notification.at) == (kind, LATER)
    assert notification.subscription_id == SUBSCRIPTION.id
    assert notification.subscriber_id == SUBSCRIBER.id


@pytest.mark.parametrize("status", Status)
def test_what_keeps_its_status_is_told_to_nobody(status: Status) -> None:
    before = replace(SUBSCRIPTION, status=status)
    after = replace(before, send_product_identifier=True, updated_at=LATER)
    assert notifications_of([(before, before)], BY_THE_USER) == []
    assert notifications_of([(before, after)], BY_THE_USER) == []
    assert notifications_of([(SUBSCRIBER, replace(SUBSCRIBER, name="B"))], BY_THE_USER) == []


def test_a_subscriber_deleted_with_its_subscriptions_is_one_notification() -> None:
    others = [SUBSCRIPTION, a_subscription(SUBSCRIBER), a_subscription(SUBSCRIBER)]
    changes = [(each, delete_subscription(each, LATER)) for each in others]
    (notification,) = notifications_of(
        [(SUBSCRIBER, delete_subscriber(SUBSCRIBER, LATER)), *changes], BY_THE_USER
    )
    assert (notification.kind, notification.subscription_id) == (Kind.SUBSCRIBER_DELETED, None)
    assert [about.subscription_id for about in notification.about] == [each.id for each in others]


def test_a_subscriber_revoked_with_its_subscriptions_is_one_notification_for_each() -> None:
    others = [SUBSCRIPTION, a_subscription(SUBSCRIBER)]
    changes = [(each, replace(each, status=Status.REVOKED)) for each in others]
    revoked = (SUBSCRIBER, replace(SUBSCRIBER, status=Status.REVOKED))
    found = notifications_of([revoked, *changes], BY_THE_PLATFORM)
    assert [(each.kind, each.subscription_id) for each in found] == [
        (Kind.REVOKED, each.id) for each in others
    ]


def test_the_webhooks_keys_are_in_the_contracts_order() -> None:
    because = Action(Actor.PLATFORM, reason="the endpoint answered 404")
    assert list(body_of(told(Status.SUSPENDED, because)).items()) == [
        ("notification_type", "subscription.suspended.system"),
        ("timestamp", "2026-01-31T12:01:00.000Z"),
        ("subscription_id", SUBSCRIPTION.id),
        ("subscriber_id", SUBSCRIBER.id),
        ("destination", "https://erp.example.com/events"),
        ("events", [UPDATED]),
        ("reason", "the endpoint answered 404"),
        ("subject", "https://pim.example.com/"),
    ]
    assert "reason" not in body_of(told(Status.SUSPENDED))


@pytest.mark.parametrize(
    ("status", "channels", "used"),
    [
        (Status.SUSPENDED, ("email",), ["email"]),
        (Status.SUSPENDED, ("webhook",), ["webhook"]),
        (Status.SUSPENDED, ("email", "webhook"), ["webhook", "email"]),
        (Status.DELETED, ("webhook",), ["email"]),
        (Status.DELETED, ("email", "webhook"), ["email"]),
    ],
)
def test_the_channels_are_the_subscribers_and_of_a_deletion_the_mail(
    status: Status, channels: tuple[str, ...], used: list[Channel]
) -> None:
    contact = Contact("ops@example.com", channels)
    assert channels_of(told(status), contact) == used


def test_a_mail_says_what_why_since_when_and_what_to_do() -> None:
    because = Action(Actor.PLATFORM, reason="the endpoint answered 404")
    mail = mail_of(told(Status.SUSPENDED, because), SUBSCRIBER, BASE)
    assert mail.recipient == "ops@example.com"
    assert mail.subject == "Suspended by the event platform: a subscription of ERP"
    assert (
        mail.text
        == f"""\
The event platform has suspended a subscription of ERP.

Why:          the endpoint answered 404
Since:        2026-01-31 12:01:00 UTC
Subscription: {SUBSCRIPTION.id}
Destination:  https://erp.example.com/events
Events:       com.akeneo.pim.v1.product.updated
PIM:          https://pim.example.com/
Subscriber:   ERP ({SUBSCRIBER.id})

Since then nothing is delivered, and events are not kept for later.

What to do: put right what stands under "Why", at the destination or in the PIM, and then call
  POST https://events.example.com/api/v1/subscribers/{SUBSCRIBER.id}/subscriptions/{SUBSCRIPTION.id}/resume
What was not delivered, and why, is shown by
  GET https://events.example.com/api/v1/logs?subscription_id={SUBSCRIPTION.id}

This mail was sent by itself; an answer is read by nobody.
"""
    )


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.ACTIVE])
@pytest.mark.parametrize("by", Actor)
def test_every_mail_has_a_reason_and_names_the_subscription(status: Status, by: Actor) -> None:
    text = mail_of(told(status, Action(by)), SUBSCRIBER, BASE).text
    assert SUBSCRIPTION.id in text
    assert "{" not in text
    assert [line for line in text.splitlines() if line.startswith("Why:") and len(line) > 20]


@pytest.mark.parametrize(
    "name",
    ["ERP\r\nBcc: other@example.com", "ERP\nBcc: x", "a\x1b[2Jb\x00", "{name} {0}", "x" * 500, "\u2028"],
)
def test_a_name_can_neither_add_a_header_nor_a_line(name: str) -> None:
    plain, named = [
        mail_of(told(Status.SUSPENDED), replace(SUBSCRIBER, name=each), BASE) for each in ("ERP", name)
    ]
    server = MailServer("mail.example.com", 25, False, "events@example.com")
    message = message_of(named, server)
    assert message.keys() == message_of(plain, server).keys()
    assert len(named.text.splitlines()) == len(plain.text.splitlines())
    assert all(line.isprintable() for line in named.text.splitlines())
    assert len(named.subject) < 200


@pytest.mark.parametrize(
    ("result", "again"),
    [
        *[(Answer(status), False) for status in (200, 204, 301, 302, 400, 404, 408, 410, 425)],
        *[(Answer(status), True) for status in (429, 500, 502, 503, 599)],
        *[
            (TransportFailure(reason), reason is not Reason.INVALID_DESTINATION_CONFIGURATION)
            for reason in Reason
        ],
    ],
)
def test_a_webhook_is_tried_again_after_5xx_429_or_no_answer(
    result: Answer | TransportFailure, again: bool
) -> None:
    assert may_succeed_later(result) is again


def test_a_mail_is_tried_again_four_times() -> None:
    due = [mail_retry_at(attempts, START) for attempts in range(1, 6)]
    minutes = [moment and (moment - START).total_seconds() / 60 for moment in due]
    assert minutes == [1, 5, 15, 60, None]
