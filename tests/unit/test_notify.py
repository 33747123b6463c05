"""One notification, told: the attempts at a webhook, the mail that stands in, what is left for later."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

import orjson
import pytest
from structlog.testing import capture_logs

from event_platform.domain.attempts import signatures
from event_platform.domain.attempts.outcomes import Answer, Reason, TransportFailure
from event_platform.domain.errors import NotFound
from event_platform.domain.record.actions import Action, Actor
from event_platform.domain.record.notifications import (
    Channel,
    Mail,
    MailFailure,
    NotificationResult,
    Pending,
    Result,
    body_of,
    notifications_of,
)
from event_platform.domain.subscriptions import Owner, Status, Subscriber
from event_platform.notify import NotifyServices, notify, settle
from support.clock import START, ManualClock
from support.memory_outbox import MemoryOutbox
from support.records import OWNER, a_subscriber, a_subscription

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


class Change:
    """A subscriber with these channels whose subscription was suspended, a webhook and a mail server."""

    def __init__(
        self,
        *channels: str,
        answers: Sequence[Answer | TransportFailure] = (),
        failures: Sequence[MailFailure] = (),
    ) -> None:
        self.subscriber = a_subscriber(channels=channels)
        self.subscription = subscription = a_subscription(self.subscriber)
        changed = replace(subscription, status=Status.SUSPENDED)
        (self.notification,) = notifications_of([(subscription, changed)], Action(Actor.USER))
        self.clock = ManualClock()
        self.endpoint = Endpoint(self.clock, list(answers))
        self.post = Post(list(failures))
        self.outbox = MemoryOutbox(self.clock)
        self.services = NotifyServices(
            subscribers=Known(self.subscriber),
            outbox=self.outbox,
            sender=self.endpoint,
            clock=self.clock,
            mailer=self.post,
        )

    async def tell(self, *, mail_attempts: int = 0) -> NotificationResult:
        telling = asyncio.create_task(
            notify(Pending(self.notification, mail_attempts), services=self.services)
        )
        await self.clock.advance(3)
        return await telling

    def another(self, *, status: Status = Status.SUSPENDED, actor: Actor = Actor.USER) -> Pending:
        """A later change of the same subscription."""
        before = replace(self.subscription, status=Status.ACTIVE)
        if status is Status.ACTIVE:
            before = replace(self.subscription, status=Status.SUSPENDED)
        after = replace(before, status=status, updated_at=self.clock.now())
        (notification,) = notifications_of([(before, after)], Action(actor))
        return Pending(notification)

    async def told(self, pending: Pending) -> NotificationResult:
        """Tells it and applies what came of it, as the hosts do."""
        told = await notify(pending, services=self.services)
        await settle(self.outbox, pending, told)
        return told

    async def told_all_due(self) -> None:
        while due := await self.outbox.due(1):
            await self.told(due[0])


async def test_a_webhook_is_signed_with_the_notification_secret_only() -> None:
    world = Change("webhook", answers=[Answer(204)])
    assert await world.tell() == NotificationResult([(Channel.WEBHOOK, Result.SENT)])
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
    world = Change("webhook", answers=[Answer(503), NO_ANSWER, Answer(200)])
    assert await world.tell() == NotificationResult([(Channel.WEBHOOK, Result.SENT)])
    assert [at for at, *_ in world.endpoint.asked] == [0, 1, 3]
    assert len({body for *_, body, _ in world.endpoint.asked}) == 1


async def test_a_mail_stands_in_for_a_webhook_that_failed_three_times() -> None:
    world = Change("webhook", answers=[Answer(429), Answer(500), NO_ANSWER])
    assert await world.tell() == NotificationResult(
        ((Channel.WEBHOOK, Result.FAILED), (Channel.EMAIL, Result.SENT))
    )
    (mail,) = world.post.mails
    assert mail.recipient == "ops@example.com"


async def test_404_and_a_redirect_are_final() -> None:
    for status in (404, 302):
        world = Change("webhook", answers=[Answer(status)])
        assert await world.tell() == NotificationResult(
            ((Channel.WEBHOOK, Result.FAILED), (Channel.EMAIL, Result.SENT))
        )
        assert len(world.endpoint.asked) == 1


async def test_both_channels_are_used_and_one_mail_is_enough() -> None:
    world = Change("email", "webhook", answers=[Answer(400)])
    assert await world.tell() == NotificationResult(
        ((Channel.WEBHOOK, Result.FAILED), (Channel.EMAIL, Result.SENT))
    )
    assert len(world.post.mails) == 1


@pytest.mark.provokes("notification.postponed")
async def test_a_mail_that_is_not_taken_for_now_is_tried_again_alone() -> None:
    world = Change("email", "webhook", answers=[Answer(200)], failures=[BUSY, BUSY])
    first = await world.tell()
    assert first.results == ((Channel.WEBHOOK, Result.SENT), (Channel.EMAIL, Result.POSTPONED))
    assert first.again_at == START + timedelta(minutes=1)
    second = await world.tell(mail_attempts=1)
    assert second == NotificationResult(
        ((Channel.EMAIL, Result.POSTPONED),), START + timedelta(seconds=3, minutes=5)
    )
    assert len(world.endpoint.asked) == 1
    assert await world.tell(mail_attempts=2) == NotificationResult(((Channel.EMAIL, Result.SENT),))
    assert len({mail.id for mail in world.post.mails}) == 1


async def test_the_fifth_attempt_at_a_mail_is_the_last() -> None:
    world = Change("email", failures=[BUSY])
    assert await world.tell(mail_attempts=4) == NotificationResult(((Channel.EMAIL, Result.FAILED),))


@pytest.mark.provokes("notification.failed")
async def test_a_mail_that_is_refused_for_good_is_given_up() -> None:
    world = Change("email", failures=[MailFailure("unknown", permanent=True, code=550)])
    assert await world.tell() == NotificationResult(((Channel.EMAIL, Result.FAILED),))


@pytest.mark.provokes("notification.not_sent")
async def test_without_a_mail_server_the_webhook_still_goes_out() -> None:
    world = Change("email", "webhook", answers=[Answer(200)])
    world.services = replace(world.services, mailer=None)
    assert await world.tell() == NotificationResult(
        ((Channel.WEBHOOK, Result.SENT), (Channel.EMAIL, Result.NOT_SENT))
    )


async def test_a_subscriber_that_is_known_no_more_is_told_nothing() -> None:
    world = Change("email", "webhook")
    world.services = replace(world.services, subscribers=Known(None))
    assert await world.tell() == NotificationResult()
    assert (world.endpoint.asked, world.post.mails) == ([], [])


@pytest.mark.provokes("notification.merged", "notification.sent")
async def test_beyond_the_allowance_changes_are_merged_into_one_mail_that_says_how_many() -> None:
    world = Change("email")
    for number in range(50):
        status = Status.SUSPENDED if number % 2 == 0 else Status.ACTIVE
        world.outbox.put(world.another(status=status))
        await world.told_all_due()
        await world.clock.jump(1)
    assert len(world.post.mails) == 20
    assert len(world.outbox.pending) == 30
    with capture_logs() as lines:
        await world.clock.jump(600)
        await world.told_all_due()
    assert len(world.post.mails) == 21
    assert world.outbox.pending == []
    merged = world.post.mails[-1]
    assert merged.subject == "30 changes of subscriptions of ERP"
    assert "Latest:       resumed, 2026-01-31 12:00:49 UTC" in merged.text
    assert "Changes:      30" in merged.text
    (said,) = [line for line in lines if line["event"] == "notification.merged"]
    assert said["changes"] == 30


async def test_a_loop_of_changes_sends_a_bounded_number_of_mails_an_hour_and_loses_none() -> None:
    world = Change("email")
    changes = 0
    for _ in range(60):
        world.outbox.put(*[world.another() for _ in range(3)])
        changes += 3
        await world.told_all_due()
        await world.clock.jump(60)
    assert 20 + 5 <= len(world.post.mails) <= 2 * (20 + 6)  # of two hours by the clock
    await world.clock.jump(3600)
    await world.told_all_due()
    assert world.outbox.pending == []
    single = [mail for mail in world.post.mails if mail.subject.startswith("Suspended")]
    several = [int(mail.subject.split()[0]) for mail in world.post.mails if mail not in single]
    assert len(single) + sum(several) == changes


async def test_twenty_subscriptions_suspended_and_resumed_once_are_all_told_within_ten_minutes() -> None:
    world = Change("email")
    for number in range(40):
        world.subscription = replace(world.subscription, id=f"subscription-{number // 2}")
        world.outbox.put(world.another(status=Status.ACTIVE if number % 2 else Status.SUSPENDED))
    await world.told_all_due()
    await world.clock.jump(600)
    await world.told_all_due()
    assert len(world.post.mails) == 21
    text = "".join(mail.text for mail in world.post.mails)
    assert all(f"subscription-{number}\n" in text for number in range(20))


async def test_a_webhook_beyond_its_allowance_gets_one_with_the_latest_of_each_subscription() -> None:
    world = Change("webhook", answers=[Answer(200)] * 101)
    for number in range(110):
        world.subscription = replace(world.subscription, id=f"subscription-{number % 2}")
        world.outbox.put(world.another())
    await world.told_all_due()
    assert len(world.endpoint.asked) == 100
    await world.clock.jump(600)
    await world.told_all_due()
    assert len(world.endpoint.asked) == 101
    body = orjson.loads(world.endpoint.asked[-1][3])
    assert (body["subscription_id"], body["changes"]) == ("subscription-1", 10)
    assert [each["subscription_id"] for each in body["latest"]] == ["subscription-0", "subscription-1"]
    assert {key: body[key] for key in body["latest"][-1]} == body["latest"][-1]
    assert world.post.mails == []
    assert world.outbox.pending == []


async def test_a_mail_that_stands_in_for_a_webhook_counts_too_and_the_webhook_is_not_repeated() -> None:
    world = Change("webhook", answers=[Answer(400)] * 30)
    world.outbox.put(*[world.another() for _ in range(30)])
    await world.told_all_due()
    assert (len(world.endpoint.asked), len(world.post.mails)) == (30, 20)
    await world.clock.jump(600)
    await world.told_all_due()
    assert (len(world.endpoint.asked), len(world.post.mails)) == (30, 21)
    assert world.post.mails[-1].subject.startswith("10 changes")
    assert world.outbox.pending == []


async def test_other_owners_cannot_use_up_what_an_owner_may_send_to_an_address() -> None:
    victim, mails = Change("email"), 0
    for number in range(10):
        hostile = Change("email")
        owner = Owner("https://other.example.com", f"client-{number}")
        hostile.subscriber = replace(hostile.subscriber, owner=owner)
        hostile.subscription = replace(hostile.subscription, owner=owner, subscriber_id=hostile.subscriber.id)
        hostile.outbox = victim.outbox
        hostile.services = replace(
            victim.services, subscribers=Known(hostile.subscriber), mailer=hostile.post
        )
        hostile.clock = victim.clock
        for _ in range(30):
            await hostile.told(hostile.another())
        mails += len(hostile.post.mails)
    assert mails == 60 + 7 * 3  # of all together, and the first three of each owner
    await victim.told(victim.another(actor=Actor.PLATFORM))
    assert len(victim.post.mails) == 1


async def test_a_merged_mail_that_is_not_taken_for_now_is_tried_again_with_what_came_since() -> None:
    world = Change("email")
    world.outbox.put(*[world.another() for _ in range(22)])
    await world.told_all_due()
    world.post.failures = [BUSY]
    await world.clock.jump(600)
    await world.told_all_due()
    world.outbox.put(world.another())
    await world.told_all_due()
    await world.clock.jump(60)
    await world.told_all_due()
    assert world.outbox.pending == []
    assert [mail.subject.split()[0] for mail in world.post.mails[20:]] == ["2", "3"]
    assert len({mail.id for mail in world.post.mails[20:]}) == 1


async def test_only_the_oldest_of_those_that_are_held_is_told_with_the_others() -> None:
    world = Change("email")
    world.outbox.put(*[world.another() for _ in range(22)])
    await world.told_all_due()
    first, second = await world.outbox.held(world.subscriber.id, 10)
    told = await world.told(second)
    assert told.results == ()
    assert told.held_until is not None
    assert len(world.post.mails) == 20
    await world.told(first)
    assert world.outbox.pending == []
