"""One notification, told: the attempts at a webhook, the mail that stands in, what is left for later."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

import orjson

from clock import START, ManualClock
from event_platform.domain import signatures
from event_platform.domain.actions import Action, Actor
from event_platform.domain.errors import NotFound
from event_platform.domain.notifications import (
    Channel,
    Mail,
    MailFailure,
    Pending,
    Result,
    Told,
    body_of,
    notifications_of,
)
from event_platform.domain.outcomes import Answer, Reason, TransportFailure
from event_platform.domain.subscriptions import Owner, Status, Subscriber
from event_platform.notify import Telling, notify
from records import OWNER, a_subscriber, a_subscription

SECRET = "a webhook secret of tests"
NO_ANSWER = TransportFailure(Reason.DESTINATION_TIMEOUT)
BUSY = MailFailure("busy", code=451)


@dataclass
class Endpoint:
    """Answers in turn; notes when it was asked, and what."""

    clock: ManualClock
    answers: list[Answer | TransportFailure]
    asked: list[tuple[float, str, dict[str, str], bytes, float]] = field(
        default_factory=list[tuple[float, str, dict[str, str], bytes, float]]
    )

    async def post(
        self, url: str, headers: Sequence[tuple[str, str]], body: bytes, *, owner: Owner, timeout: float
    ) -> Answer | TransportFailure:
        assert owner == OWNER
        self.asked.append((self.clock.monotonic(), url, dict(headers), body, timeout))
        return self.answers.pop(0)


@dataclass
class Post:
    """Answers in turn, and takes a mail when no answer is left."""

    failures: list[MailFailure] = field(default_factory=list[MailFailure])
    mails: list[Mail] = field(default_factory=list[Mail])

    async def send(self, mail: Mail) -> MailFailure | None:
        self.mails.append(mail)
        return self.failures.pop(0) if self.failures else None


@dataclass
class Known:
    """The one subscriber that there is, or none."""

    record: Subscriber | None

    async def subscriber(self, owner: Owner, subscriber_id: str) -> Subscriber:
        if self.record is None or (owner, subscriber_id) != (self.record.owner, self.record.id):
            raise NotFound("unknown")
        return self.record


class World:
    """A subscriber with these channels whose subscription was suspended, a webhook and a mail server."""

    def __init__(
        self,
        *channels: str,
        answers: Sequence[Answer | TransportFailure] = (),
        failures: Sequence[MailFailure] = (),
    ) -> None:
        subscriber = a_subscriber()
        contact = replace(subscriber.contact, notification_channels=channels)
        self.subscriber = replace(subscriber, contact=contact)
        subscription = a_subscription(subscriber)
        changed = replace(subscription, status=Status.SUSPENDED)
        (self.notification,) = notifications_of([(subscription, changed)], Action(Actor.USER))
        self.clock = ManualClock()
        self.endpoint = Endpoint(self.clock, list(answers))
        self.post = Post(list(failures))
        self.telling = Telling(Known(self.subscriber), self.endpoint, self.clock, self.post)

    async def tell(self, *, mail_attempts: int = 0) -> Told:
        telling = asyncio.create_task(notify(Pending(self.notification, mail_attempts), telling=self.telling))
        await self.clock.advance(3)
        return await telling


async def test_a_webhook_is_signed_with_the_notification_secret_only() -> None:
    world = World("webhook", answers=[Answer(204)])
    assert await world.tell() == Told([(Channel.WEBHOOK, Result.SENT)])
    ((_, url, headers, body, timeout),) = world.endpoint.asked
    assert (url, timeout) == ("https://hooks.example.com/aep", 5)
    assert orjson.loads(body) == body_of(world.notification)
    assert headers == {
        "Content-Type": "application/json",
        "User-Agent": "akeneo/event-platform",
        "X-Correlation-ID": world.notification.id,
        "X-AKENEO-SIGNATURE-PRIMARY": signatures.sign(body, SECRET),
        "X-AKENEO-SIGNATURE-ALGORITHM": "HmacSHA256",
    }
    assert world.post.mails == []


async def test_the_second_attempt_follows_after_1_s_and_the_third_after_2_more() -> None:
    world = World("webhook", answers=[Answer(503), NO_ANSWER, Answer(200)])
    assert await world.tell() == Told([(Channel.WEBHOOK, Result.SENT)])
    assert [at for at, *_ in world.endpoint.asked] == [0, 1, 3]
    assert len({body for *_, body, _ in world.endpoint.asked}) == 1


async def test_a_mail_stands_in_for_a_webhook_that_failed_three_times() -> None:
    world = World("webhook", answers=[Answer(429), Answer(500), NO_ANSWER])
    assert await world.tell() == Told(((Channel.WEBHOOK, Result.FAILED), (Channel.EMAIL, Result.SENT)))
    (mail,) = world.post.mails
    assert mail.recipient == "ops@example.com"


async def test_404_and_a_redirect_are_final() -> None:
    for status in (404, 302):
        world = World("webhook", answers=[Answer(status)])
        assert await world.tell() == Told(((Channel.WEBHOOK, Result.FAILED), (Channel.EMAIL, Result.SENT)))
        assert len(world.endpoint.asked) == 1


async def test_both_channels_are_used_and_one_mail_is_enough() -> None:
    world = World("email", "webhook", answers=[Answer(400)])
    assert await world.tell() == Told(((Channel.WEBHOOK, Result.FAILED), (Channel.EMAIL, Result.SENT)))
    assert len(world.post.mails) == 1


async def test_a_mail_that_is_not_taken_for_now_is_tried_again_alone() -> None:
    world = World("email", "webhook", answers=[Answer(200)], failures=[BUSY, BUSY])
    first = await world.tell()
    assert first.results == ((Channel.WEBHOOK, Result.SENT), (Channel.EMAIL, Result.POSTPONED))
    assert first.again_at == START + timedelta(minutes=1)
    second = await world.tell(mail_attempts=1)
    assert second == Told(((Channel.EMAIL, Result.POSTPONED),), START + timedelta(seconds=3, minutes=5))
    assert len(world.endpoint.asked) == 1
    assert await world.tell(mail_attempts=2) == Told(((Channel.EMAIL, Result.SENT),))
    assert len({mail.id for mail in world.post.mails}) == 1


async def test_the_fifth_attempt_at_a_mail_is_the_last() -> None:
    world = World("email", failures=[BUSY])
    assert await world.tell(mail_attempts=4) == Told(((Channel.EMAIL, Result.FAILED),))


async def test_a_mail_that_is_refused_for_good_is_given_up() -> None:
    world = World("email", failures=[MailFailure("unknown", permanent=True, code=550)])
    assert await world.tell() == Told(((Channel.EMAIL, Result.FAILED),))


async def test_without_a_mail_server_the_webhook_still_goes_out() -> None:
    world = World("email", "webhook", answers=[Answer(200)])
    world.telling = replace(world.telling, mailer=None)
    assert await world.tell() == Told(((Channel.WEBHOOK, Result.SENT), (Channel.EMAIL, Result.NOT_SENT)))


async def test_a_subscriber_that_is_known_no_more_is_told_nothing() -> None:
    world = World("email", "webhook")
    world.telling = replace(world.telling, subscribers=Known(None))
    assert await world.tell() == Told()
    assert (world.endpoint.asked, world.post.mails) == ([], [])
