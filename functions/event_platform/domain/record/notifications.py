"""Notifications of changes to subscriptions, and their words (contract/wire.md 12).

A store that changes records calls `notifications_of` with all the changes of a commit, and keeps what it
returns in the same commit until it was sent.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, TypeAlias

import uuid_utils

from ..attempts.outcomes import Answer, Reason, TransportFailure
from ..subscriptions import Contact, Owner, Status, Subscriber, Subscription
from ..timestamps import to_rfc3339
from .actions import Action, Actor

WEBHOOK_SECONDS = 5.0
WEBHOOK_PAUSES = (1.0, 2.0)
"""Seconds before the second and the third attempt (contract/wire.md 12)."""
MAIL_RETRIES = (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=15), timedelta(hours=1))
"""The waits before a mail that the server did not take is tried again, each from the attempt before."""
MERGED_EVERY = timedelta(minutes=10)
"""The period at whose end a subscriber gets one merged notification, when an allowance is used up."""
HELD_FOR_ANOTHER = timedelta(minutes=30)
"""The delay until the rest of a merged notification is due by itself, in case the first of it was lost."""
LONGEST_WAIT = MAIL_RETRIES[-1] + HELD_FOR_ANOTHER
"""The longest time for which a notification waits before it is due."""
MERGED_AT_MOST = 1000
"""Notifications that become one."""
LISTED_AT_MOST = 50
"""Subscriptions that a merged notification lists."""
FIRST_OF_OWNER = 3
"""The number that get through in an hour for each owner, whatever other owners have sent to the address."""
_NAME_LENGTH = 100
_TEXT_LENGTH = 1000

Change: TypeAlias = tuple[Subscriber | Subscription, Subscriber | Subscription]
"""A record before and after."""


class Kind(StrEnum):
    """The changes that notify. The last two are sent by e-mail only."""

    SUSPENDED_BY_SYSTEM = "subscription.suspended.system"
    SUSPENDED_BY_USER = "subscription.suspended.user"
    REVOKED = "subscription.revoked"
    RESUMED = "subscription.resumed"
    DELETED = "subscription.deleted"
    SUBSCRIBER_DELETED = "subscriber.deleted"


class Channel(StrEnum):
    """The channels by which a subscriber can be notified."""

    EMAIL = "email"
    WEBHOOK = "webhook"


@dataclass(frozen=True, slots=True)
class Allowance:
    """The number of notifications that an address gets within an hour from one owner, and from all owners.

    The keys name what is counted. An address is in them as a hash only.
    """

    own_key: str
    shared_key: str
    own: int
    shared: int

    def is_left(self, own: int, shared: int) -> bool:
        """True if one more may be sent, after so many of this owner and so many of all."""
        return own < self.own and (shared < self.shared or own < FIRST_OF_OWNER)


_PER_HOUR = {Channel.EMAIL: (20, 60), Channel.WEBHOOK: (100, 300)}
"""The allowances for one owner, and for all owners together."""
_MERGED_PER_HOUR = (6, 1_000_000)
"""Merged ones have an allowance of their own, which no other owner can use up."""


class Result(StrEnum):
    """The result of a notification by one channel."""

    SENT = "sent"
    FAILED = "failed"  # given up
    POSTPONED = "postponed"  # tried again later
    NOT_SENT = "not_sent"  # the platform has no mail server


@dataclass(frozen=True, slots=True)
class About:
    """The subscription of a notification, as it was at the change."""

    subscription_id: str
    destination: str
    events: Sequence[str]


@dataclass(frozen=True, slots=True)
class Notification:
    """One change to notify of. It holds no contact: that is read when it is sent.

    `about` is one subscription, and of a deleted subscriber all that were deleted with it.
    """

    id: str
    kind: Kind
    at: datetime
    owner: Owner
    subscriber_id: str
    subject: str
    about: Sequence[About]
    reason: str | None = None

    @property
    def subscription_id(self) -> str | None:
        """The subscription that it is about; None when it is about a subscriber."""
        return None if self.kind is Kind.SUBSCRIBER_DELETED else self.about[0].subscription_id


@dataclass(frozen=True, slots=True)
class Pending:
    """A notification in the outbox; if its mail was tried before, the webhook was sent already."""

    notification: Notification
    mail_attempts: int = 0
    is_held: bool = False
    """True if it is to be merged with the others of its subscriber that are held."""


@dataclass(frozen=True, slots=True)
class NotificationResult:
    """The result of each channel, and when the mail is to be tried again.

    With `held_until` the notification has to wait until then, to be merged with others. `merged` are the
    others that were sent with it.
    """

    results: Sequence[tuple[Channel, Result]] = ()
    again_at: datetime | None = None
    held_until: datetime | None = None
    merged: Sequence[Pending] = ()


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail as text. `id` is the same for each attempt."""

    id: str
    recipient: str
    subject: str
    text: str
    at: datetime


@dataclass(frozen=True, slots=True)
class MailFailure:
    """The reason why the mail server took no mail.

    `detail` is in our own words: a server's quote addresses.
    """

    detail: str
    permanent: bool = False
    code: int | None = None


def notifications_of(changes: Sequence[Change], action: Action) -> list[Notification]:
    """Returns the notifications of the changes of one commit: one for each status that changed.

    A subscriber's deletion is one notification, whatever is deleted with it.
    """
    turned = [(before, after) for before, after in changes if before.status is not after.status]
    subscriptions = [after for _, after in turned if isinstance(after, Subscription)]
    for _, after in turned:
        if isinstance(after, Subscriber) and after.status is Status.DELETED:
            return [_notification(Kind.SUBSCRIBER_DELETED, after, after.id, subscriptions, action)]
    return [
        _notification(_kind(after, action), after, after.subscriber_id, [after], action)
        for after in subscriptions
    ]


def channels_of(notification: Notification, contact: Contact) -> Sequence[Channel]:
    """Returns the channels to try first: the webhook before the mail that replaces it if it fails."""
    if notification.kind in (Kind.DELETED, Kind.SUBSCRIBER_DELETED):
        return [Channel.EMAIL]
    wanted = contact.notification_channels
    return [channel for channel in (Channel.WEBHOOK, Channel.EMAIL) if channel in wanted]


def allowance_of(channel: Channel, owner: Owner, contact: Contact, *, merged: bool = False) -> Allowance:
    """Returns what a notification by this channel counts against."""
    address = contact.technical_email
    if channel is Channel.EMAIL:
        local, at, domain = address.rpartition("@")
        address = f"{local}{at}{domain.lower()}"
    else:
        address = contact.notification_webhook_url or ""
    own, shared = _MERGED_PER_HOUR if merged else _PER_HOUR[channel]
    kind = f"{channel} merged" if merged else channel
    return Allowance(
        _key(kind, address, owner.tenant, owner.client_id), _key(kind, address, ""), own=own, shared=shared
    )


def _key(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def hour_of(now: datetime) -> int:
    """The hour that notifications are counted in, since 1970."""
    return int(now.timestamp() // 3600)


def merged_at(now: datetime) -> datetime:
    """Returns when notifications held from now on are sent: the end of the current period of MERGED_EVERY."""
    seconds = MERGED_EVERY.total_seconds()
    return datetime.fromtimestamp((now.timestamp() // seconds + 1) * seconds, UTC)


def merged_body_of(notifications: Sequence[Notification]) -> dict[str, Any]:
    """Returns the JSON of the webhook for several changes, oldest first: the last one, how many, and each
    subscription's latest. None of them is one that goes by e-mail only."""
    if len(notifications) == 1:
        return body_of(notifications[0])
    latest = _latest_of(notifications)
    return {
        **body_of(notifications[-1]),
        "changes": len(notifications),
        "latest": [body_of(each) for each, _ in latest[-LISTED_AT_MOST:]],
    }


def _latest_of(notifications: Sequence[Notification]) -> list[tuple[Notification, int]]:
    """Returns the latest of each subscription (or deleted subscriber), oldest first, and their number."""
    latest: dict[str | None, tuple[Notification, int]] = {}
    for notification in notifications:
        _, count = latest.pop(notification.subscription_id, (None, 0))
        latest[notification.subscription_id] = (notification, count + 1)
    return list(latest.values())


def body_of(notification: Notification) -> dict[str, Any]:
    """The JSON of the webhook, its keys in the contract's order."""
    (about,) = notification.about
    reason = {} if notification.reason is None else {"reason": notification.reason}
    return {
        "notification_type": str(notification.kind),
        "timestamp": to_rfc3339(notification.at),
        "subscription_id": about.subscription_id,
        "subscriber_id": notification.subscriber_id,
        "destination": about.destination,
        "events": list(about.events),
        **reason,
        "subject": notification.subject,
    }


def may_succeed_later(result: Answer | TransportFailure) -> bool:
    """True if another attempt at the webhook can succeed: 5xx, 429, no answer."""
    if isinstance(result, TransportFailure):  # an address that is refused stays so
        return result.reason is not Reason.INVALID_DESTINATION_CONFIGURATION
    return result.status == 429 or result.status >= 500


def mail_retry_at(attempts: int, now: datetime) -> datetime | None:
    """Returns when to try a mail again after so many attempts; None if none is left."""
    return now + MAIL_RETRIES[attempts - 1] if attempts <= len(MAIL_RETRIES) else None


def mail_of(notification: Notification, subscriber: Subscriber, base_url: str) -> Mail:
    """The mail: what happened, why, since when, to what, and what to do. `base_url` is the platform's."""
    name = _one_line(subscriber.name, _NAME_LENGTH)
    return Mail(
        id=notification.id,
        recipient=subscriber.contact.technical_email,
        subject=_one_line(_SUBJECT[notification.kind].format(name=name), 2 * _NAME_LENGTH),
        text="\n".join(_paragraphs(notification, name, base_url)) + "\n",
        at=notification.at,
    )


def merged_mail_of(notifications: Sequence[Notification], subscriber: Subscriber, base_url: str) -> Mail:
    """One mail for several changes of a subscriber, oldest first: how many, and the latest of each
    subscription."""
    if len(notifications) == 1:
        return mail_of(notifications[0], subscriber, base_url)
    first, last, number = notifications[0], notifications[-1], len(notifications)
    name = _one_line(subscriber.name, _NAME_LENGTH)
    latest = _latest_of(notifications)
    listed = latest[-LISTED_AT_MOST:]
    lines = [
        f"There were {number} changes of subscriptions of {name}.",
        "They came so fast that they are in one mail. The latest of each subscription:",
    ]
    for notification, count in listed:
        facts = [
            ("Latest", f"{_HAPPENED_IN_SHORT[notification.kind]}, {notification.at:%Y-%m-%d %H:%M:%S} UTC"),
            ("Why", notification.reason or _WHY[notification.kind]),
            *(fact for about in notification.about for fact in _facts_about(about)[:2]),
            ("Changes", str(count)),
        ]
        lines += ["", *map(_line_of, facts)]
    if len(latest) > len(listed):
        lines += ["", f"And {len(latest) - len(listed)} more subscriptions."]
    words = {"base": base_url, "subscriber": last.subscriber_id}
    lines += [
        "",
        _line_of(("Since", f"{first.at:%Y-%m-%d %H:%M:%S} UTC")),
        _line_of(("PIM", last.subject)),
        _line_of(("Subscriber", f"{name} ({last.subscriber_id})")),
        "",
        "What changed, and who did it, is shown by",
        "  GET {base}/api/v1/logs?subscriber_id={subscriber}".format_map(words),
        "",
        _FOOTER,
    ]
    return Mail(
        id=first.id,
        recipient=subscriber.contact.technical_email,
        subject=_one_line(f"{number} changes of subscriptions of {name}", 2 * _NAME_LENGTH),
        text="\n".join(lines) + "\n",
        at=last.at,
    )


_HAPPENED_IN_SHORT = {
    Kind.SUSPENDED_BY_SYSTEM: "suspended by the event platform",
    Kind.SUSPENDED_BY_USER: "suspended by a call of its API client",
    Kind.REVOKED: "revoked",
    Kind.RESUMED: "resumed",
    Kind.DELETED: "deleted",
    Kind.SUBSCRIBER_DELETED: "deleted with the subscriber",
}

_FOOTER = "This mail was sent by itself; an answer is read by nobody."

_SUBJECT = {
    Kind.SUSPENDED_BY_SYSTEM: "Suspended by the event platform: a subscription of {name}",
    Kind.SUSPENDED_BY_USER: "Suspended: a subscription of {name}",
    Kind.REVOKED: "Revoked: a subscription of {name}",
    Kind.RESUMED: "Resumed: a subscription of {name}",
    Kind.DELETED: "Deleted: a subscription of {name}",
    Kind.SUBSCRIBER_DELETED: "Deleted: the subscriber {name}",
}

_HAPPENED = {
    Kind.SUSPENDED_BY_SYSTEM: "The event platform has suspended a subscription of {name}.",
    Kind.SUSPENDED_BY_USER: "A subscription of {name} was suspended by a call of its API client.",
    Kind.REVOKED: "A subscription of {name} was revoked.",
    Kind.RESUMED: "A subscription of {name} was resumed.",
    Kind.DELETED: "A subscription of {name} was deleted.",
    Kind.SUBSCRIBER_DELETED: "The subscriber {name} was deleted, and its subscriptions with it.",
}

_WHY = {
    Kind.SUSPENDED_BY_SYSTEM: "the platform's rules for failing destinations",
    Kind.SUSPENDED_BY_USER: "it was asked for through the API",
    Kind.REVOKED: "the connection or App was removed from the PIM",
    Kind.RESUMED: "it was asked for through the API",
    Kind.DELETED: "it was asked for through the API",
    Kind.SUBSCRIBER_DELETED: "it was asked for through the API",
}
"""The reason in a mail if the action has none."""

_NOW = {
    Kind.SUSPENDED_BY_SYSTEM: "Since then nothing is delivered, and events are not kept for later.",
    Kind.SUSPENDED_BY_USER: "Since then nothing is delivered, and events are not kept for later.",
    Kind.REVOKED: "Since then nothing is delivered, and it cannot be resumed.",
    Kind.RESUMED: "Events that happen from then on are delivered again.",
    Kind.DELETED: "Since then nothing is delivered, and it cannot be resumed.",
    Kind.SUBSCRIBER_DELETED: "Since then nothing is delivered, and they cannot be resumed.",
}

_RESUME = "  POST {base}/api/v1/subscribers/{subscriber}/subscriptions/{subscription}/resume"
_LOGS = "  GET {base}/api/v1/logs?subscription_id={subscription}"
_CONNECT_ANEW = (
    "If that was not meant, connect again in the PIM and create a new subscriber and subscription."
)

_TO_DO: dict[Kind, Sequence[str]] = {
    Kind.SUSPENDED_BY_SYSTEM: (
        'What to do: put right what stands under "Why", at the destination or in the PIM, and then call',
        _RESUME,
        "What was not delivered, and why, is shown by",
        _LOGS,
    ),
    Kind.SUSPENDED_BY_USER: ("What to do: nothing, if that was meant. To go on, call", _RESUME),
    Kind.REVOKED: ("What to do: nothing, if that was meant. " + _CONNECT_ANEW,),
    Kind.RESUMED: ("What to do: nothing. Whether events arrive is shown by", _LOGS),
    Kind.DELETED: (
        "What to do: nothing, if that was meant. If not, create a new subscription by",
        "  POST {base}/api/v1/subscribers/{subscriber}/subscriptions",
    ),
    Kind.SUBSCRIBER_DELETED: (
        "What to do: nothing, if that was meant. If not, create a new subscriber by",
        "  POST {base}/api/v1/subscribers",
    ),
}


def _paragraphs(notification: Notification, name: str, base_url: str) -> list[str]:
    kind = notification.kind
    facts = [
        ("Why", notification.reason or _WHY[kind]),
        ("Since", f"{notification.at:%Y-%m-%d %H:%M:%S} UTC"),
        *(fact for about in notification.about for fact in _facts_about(about)),
        ("PIM", notification.subject),
        ("Subscriber", f"{name} ({notification.subscriber_id})"),
    ]
    words = {
        "base": base_url,
        "subscriber": notification.subscriber_id,
        "subscription": notification.subscription_id or "",
    }
    return [
        _HAPPENED[kind].format(name=name),
        "",
        *map(_line_of, facts),
        "",
        _NOW[kind],
        "",
        *(line.format_map(words) for line in _TO_DO[kind]),
        "",
        _FOOTER,
    ]


def _line_of(fact: tuple[str, str]) -> str:
    label, value = fact
    return f"{label + ':':14}{_one_line(value, _TEXT_LENGTH)}"


def _facts_about(about: About) -> Sequence[tuple[str, str]]:
    return (
        ("Subscription", about.subscription_id),
        ("Destination", about.destination),
        ("Events", ", ".join(about.events)),
    )


def _kind(after: Subscription, action: Action) -> Kind:
    match after.status:
        case Status.ACTIVE:
            return Kind.RESUMED
        case Status.SUSPENDED:
            return Kind.SUSPENDED_BY_USER if action.by is Actor.USER else Kind.SUSPENDED_BY_SYSTEM
        case Status.REVOKED:
            return Kind.REVOKED
        case Status.DELETED:
            return Kind.DELETED


def _notification(
    kind: Kind,
    after: Subscriber | Subscription,
    subscriber_id: str,
    subscriptions: Sequence[Subscription],
    action: Action,
) -> Notification:
    return Notification(
        id=str(uuid_utils.uuid7()),
        kind=kind,
        at=after.updated_at,
        owner=after.owner,
        subscriber_id=subscriber_id,
        subject=after.subject,
        about=tuple(About(each.id, each.config.destination, each.events) for each in subscriptions),
        reason=action.reason,
    )


def _one_line(text: str, length: int) -> str:
    """Text of strangers as it may stand in a header or a line: nothing that moves a cursor or ends a line."""
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return line if len(line) <= length else line[: length - 1] + "…"
