"""Replays on Google: when their push subscriptions are made and removed, and what these ask of Pub/Sub."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from google.api_core.exceptions import AlreadyExists, NotFound, PermissionDenied
from structlog.testing import capture_logs

from event_platform.adapters.pubsub.replay_pushes import EARLIER, PubSubReplayPushes
from event_platform.domain.errors import Unavailable
from event_platform.domain.faults import FAULTS_AT_MOST
from event_platform.domain.replays import PushedReplay, Replay, ReplayRequest, ReplayStatus, Which
from event_platform.domain.subscriptions import Status, Subscription
from event_platform.domain.tenants import tenant_key
from event_platform.maintain.replays import work_on_replays
from support.clock import START, ManualClock
from support.records import PIM, a_subscriber, a_subscription

RID = "0199a000-0000-7000-8000-000000000001"
SINCE = START - timedelta(hours=1)
SUBSCRIPTION = replace(a_subscription(a_subscriber()), replay_id=RID)
MINUTE = 60


class InMemory:
    """Replays, their pushes and the subscription in memory; `away` is what Pub/Sub answers."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        asked = ReplayRequest(SINCE, START, which=Which.ALL)
        replay = Replay(RID, SUBSCRIPTION.id, asked, START)
        self.pushed = PushedReplay(replay, PIM, "pim", SUBSCRIPTION.epoch, SINCE, START)
        self.subscription: Subscription | None = SUBSCRIPTION
        self.is_open = True
        self.away: Exception | None = None
        self.calls: list[str] = []

    async def open(self) -> Sequence[PushedReplay]:
        return [self.pushed] if self.is_open else []

    async def watch(self, replay_id: str, *, as_pushed: bool) -> None:
        now = self.clock.now()
        self.pushed = replace(
            self.pushed, watched_at=now, pushed_at=now if as_pushed else self.pushed.pushed_at
        )

    async def close(self, pushed: PushedReplay, status: ReplayStatus, reason: Status | None) -> None:
        self.is_open = False
        ended = replace(pushed.replay, status=status, reason=reason)
        self.pushed = replace(pushed, replay=ended)

    async def make(self, pushed: PushedReplay) -> None:
        self.calls.append("make")
        if self.away is not None:
            raise self.away

    async def remove(self, pushed: PushedReplay) -> None:
        self.calls.append("remove")
        if self.away is not None:
            raise self.away

    async def current(self, subscription_id: str) -> Subscription | None:
        return self.subscription

    def push(self) -> None:
        self.pushed = replace(self.pushed, pushed_at=self.clock.now())

    async def tick(self, after: float = MINUTE) -> None:
        await self.clock.advance(after)
        await work_on_replays(self, self, subscriptions=self, clock=self.clock)

    @property
    def status(self) -> ReplayStatus:
        return self.pushed.replay.status


async def test_it_is_done_when_nothing_was_pushed_for_three_minutes() -> None:
    world = InMemory()
    await world.tick()
    assert world.calls == ["make"]
    for _ in range(5):
        world.push()
        await world.tick()
    assert world.status is ReplayStatus.RUNNING
    await world.tick()
    await world.tick()
    assert (world.status, world.calls, world.is_open) == (ReplayStatus.DONE, ["make", "remove"], False)


async def test_nothing_is_pushed_before_every_instance_knows_the_replay() -> None:
    world = InMemory()
    await world.tick(after=5)
    assert world.calls == []
    await world.tick(after=5)
    assert world.calls == ["make"]


async def test_silence_while_nobody_looked_is_no_end() -> None:
    world = InMemory()
    await world.tick()
    await world.tick(after=30 * MINUTE)  # the store was away, so no push could be noted
    assert world.status is ReplayStatus.RUNNING
    for _ in range(3):
        await world.tick()
    assert world.status is ReplayStatus.DONE


@pytest.mark.provokes("replay.tick_failed")
async def test_a_tick_that_failed_or_was_killed_is_done_again() -> None:
    world = InMemory()
    world.away = Unavailable("Pub/Sub is away")
    with pytest.raises(Unavailable):
        await world.tick()
    assert world.pushed.pushed_at is None
    world.away = None
    await world.tick()
    assert world.calls == ["make", "make"]
    world.subscription, world.away = None, Unavailable("Pub/Sub is away")
    with pytest.raises(Unavailable):
        await world.tick()
    assert world.is_open
    world.away = None
    await world.tick()
    assert (world.is_open, world.calls[2:]) == (False, ["remove", "remove"])


@pytest.mark.parametrize(
    ("subscription", "reason"),
    [
        (None, Status.DELETED),
        (replace(SUBSCRIPTION, status=Status.SUSPENDED, epoch=1), Status.SUSPENDED),
        (replace(SUBSCRIPTION, epoch=2), Status.SUSPENDED),  # and resumed since
        (replace(SUBSCRIPTION, status=Status.REVOKED, epoch=1), Status.REVOKED),
    ],
)
async def test_it_ends_with_its_subscription(subscription: Subscription | None, reason: Status) -> None:
    world = InMemory()
    await world.tick()
    world.subscription = subscription
    await world.tick()
    assert (world.status, world.pushed.replay.reason) == (ReplayStatus.ENDED, reason)
    assert world.calls == ["make", "remove"]


async def test_the_pushes_of_a_cancelled_one_are_removed() -> None:
    world = InMemory()
    await world.tick()
    world.pushed = replace(world.pushed, replay=replace(world.pushed.replay, status=ReplayStatus.CANCELLED))
    await world.tick()
    assert (world.status, world.is_open) == (ReplayStatus.CANCELLED, False)
    assert world.calls == ["make", "remove"]


@pytest.mark.alerts("replay-not-done")
@pytest.mark.provokes("replay.not_done")
async def test_after_a_day_it_ends_and_somebody_is_called() -> None:
    world = InMemory()
    await world.tick()
    world.pushed = replace(world.pushed, watched_at=START + timedelta(hours=24))
    with capture_logs() as lines:
        await world.tick(after=24 * 60 * MINUTE)
    assert [line["replay_id"] for line in lines if line["event"] == "replay.not_done"] == [RID]
    assert (world.status, world.pushed.replay.reason) == (ReplayStatus.ENDED, None)
    assert world.calls == ["make", "remove"]


class PubSub:
    """Google's client: notes calls, and fails as `failing` says for a method and the end of a name."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.failing: dict[tuple[str, str], Exception] = {}

    async def create_subscription(self, request: Any, *, retry: Any, timeout: float) -> None:
        self._called("create", request, request["topic"])

    async def seek(self, request: Any, *, retry: Any, timeout: float) -> None:
        self._called("seek", request, request["subscription"])

    async def delete_subscription(self, request: Any, *, retry: Any, timeout: float) -> None:
        self._called("delete", request, request["subscription"])

    def _called(self, method: str, request: Any, name: str) -> None:
        self.calls.append((method, request))
        if (error := self.failing.get((method, name.rpartition("/")[2]))) is not None:
            raise error

    def names(self) -> list[tuple[str, str]]:
        named = [(method, request.get("name") or request["subscription"]) for method, request in self.calls]
        return [(method, name.rpartition("/")[2]) for method, name in named]


def pushes(pubsub: PubSub) -> PubSubReplayPushes:
    return PubSubReplayPushes(
        "project",
        fanout_url="https://fanout.example",
        caller="aep-call-fanout@project.iam.gserviceaccount.com",
        client=pubsub,
    )


async def test_both_topics_of_a_pim_are_pushed_from_where_the_range_begins() -> None:
    pubsub = PubSub()
    await pushes(pubsub).make(InMemory().pushed)
    (_, events), (_, sought), (_, own), (_, also_sought) = pubsub.calls
    assert events["topic"] == "projects/project/topics/events"
    assert events["push_config"] == {
        "push_endpoint": f"https://fanout.example/replays/{RID}",
        "oidc_token": {
            "service_account_email": "aep-call-fanout@project.iam.gserviceaccount.com",
            "audience": "https://fanout.example",
        },
    }
    assert events["filter"] == f'attributes.tenant_key = "{tenant_key(PIM)}"'
    assert own["topic"] == "projects/project/topics/pim-events-pim"
    assert own["push_config"]["push_endpoint"] == f"https://fanout.example/replays/{RID}/pim"
    assert own["filter"] == ""
    assert sought == {"subscription": events["name"], "time": SINCE - EARLIER}
    assert also_sought == {"subscription": own["name"], "time": SINCE - EARLIER}


def test_a_subscription_is_as_google_takes_it_and_ends_by_itself() -> None:
    for request in pushes(PubSub()).requests(InMemory().pushed):
        assert len(request["filter"].encode()) <= 256
        assert 3 <= len(request["name"].rpartition("/")[2]) <= 255
        assert request["expiration_policy"]["ttl"] >= timedelta(days=1)
        assert request["expiration_policy"]["ttl"] > request["message_retention_duration"]
        assert request["dead_letter_policy"] == {
            "dead_letter_topic": "projects/project/topics/dead-letters",
            "max_delivery_attempts": FAULTS_AT_MOST,
        }


async def test_a_pim_without_a_topic_of_its_own_has_one_subscription() -> None:
    pubsub = PubSub()
    pubsub.failing["create", "pim-events-pim"] = NotFound("no topic")  # pyright: ignore[reportUnknownMemberType]
    pubsub.failing["delete", f"replay-{RID}-pim"] = NotFound("none")
    await pushes(pubsub).make(InMemory().pushed)
    await pushes(pubsub).remove(InMemory().pushed)
    assert [method for method, _ in pubsub.names()] == ["create", "seek", "create", "delete", "delete"]


async def test_what_a_killed_tick_has_made_is_sought_again_and_what_it_removed_is_no_error() -> None:
    pubsub = PubSub()
    for topic in ("events", "pim-events-pim"):
        pubsub.failing["create", topic] = AlreadyExists("there")
    for name in (f"replay-{RID}", f"replay-{RID}-pim"):
        pubsub.failing["delete", name] = NotFound("gone")
    await pushes(pubsub).make(InMemory().pushed)
    await pushes(pubsub).remove(InMemory().pushed)
    assert [method for method, _ in pubsub.names()] == ["create", "seek"] * 2 + ["delete"] * 2


async def test_what_google_refuses_is_left_for_the_next_tick() -> None:
    pubsub = PubSub()
    pubsub.failing["seek", f"replay-{RID}"] = PermissionDenied("no right")
    with pytest.raises(Unavailable, match="seek: PermissionDenied"):
        await pushes(pubsub).make(InMemory().pushed)
