"""Fan-out as a function: accepted and published events in, deliveries on their topic out."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import MutableMapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from event_platform.adapters.reading import ReadingProcess
from event_platform.domain.errors import Overloaded, PublishFailed, StoreUnavailable
from event_platform.domain.events import catalog, json_form
from event_platform.domain.events.entities import entity_of
from event_platform.domain.messages.message import Message
from event_platform.domain.messages.queue_messages import (
    Accepted,
    deliveries_topic,
    delivery_of,
    events_messages,
    is_alone,
)
from event_platform.domain.pace.lanes import lane_of
from event_platform.domain.replays import PushedReplay, Replay, ReplayRequest, Which
from event_platform.domain.subscriptions import Missed, Status, Subscription
from event_platform.domain.tenants import Tenant
from event_platform.fanout import Fanout, IdentifierCheck, match_lines, routes
from event_platform.fanout import accepted as messages
from event_platform.fanout.recent_lanes import RecentLanes
from event_platform.http import App
from event_platform.push import REASON
from event_platform.shared_lines import FORMS
from support.clock import START, ManualClock
from support.pushing import push
from support.records import PIM, UPDATED, a_subscriber, a_subscription, an_event, data_of

SCHEMAS = "https://events.example.com/spec"
DELIVERIES = deliveries_topic(PIM, 4)
UUID = "00000000-0000-4000-8000-000000000001"
DATA = {"product": {"uuid": UUID}, "author": {"identifier": "erp", "type": "api"}}
CLOUDEVENT = {"specversion": "1.0", "id": "a", "type": UPDATED, "time": "2026-01-31T11:00:00Z", "data": DATA}


class Topics:
    """A publisher that keeps what was published, and fails as often as `failures` says."""

    def __init__(self) -> None:
        self.published: list[tuple[str, Message]] = []
        self.calls: list[int] = []
        self.failures: list[Sequence[int]] = []

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        self.calls.append(len(messages))
        failed = self.failures.pop(0) if self.failures else ()
        self.published += [(topic, message) for at, message in enumerate(messages) if at not in failed]
        if failed:
            raise PublishFailed("the topic is away", tuple(failed))

    def on(self, topic: str) -> list[Message]:
        return [message for published_on, message in self.published if published_on == topic]


class FanningOut:
    """The function fanout with subscriptions of one PIM."""

    def __init__(self, *subscriptions: Subscription) -> None:
        self.topics = Topics()
        self.subscriptions: Sequence[Subscription] | Exception = subscriptions
        self.clock = ManualClock()
        self.replay: PushedReplay | None = None
        self.noted: list[str] = []
        self.held_back: list[Subscription] = []
        self.missed: list[tuple[str, datetime]] = []
        nobody: Any = None
        known = catalog.load()
        self.reader = ReadingProcess(known)
        fanout = Fanout(
            registry=self,
            subscriptions=self,
            records=nobody,
            publisher=self.topics,
            catalog=known,
            clock=self.clock,
            schema_base=SCHEMAS,
            reader=self.reader,
            replays=self,
            missed=self,
            replay_counts=self,
            shards=4,
        )
        self._app = App(list(routes(fanout)))

    async def tenants(self) -> Sequence[Tenant]:
        return [Tenant(host_pattern="*.cloud.akeneo.com"), Tenant(url=PIM, key="pim")]

    async def active(self, tenant: str) -> Sequence[Subscription]:
        if isinstance(self.subscriptions, Exception):
            raise self.subscriptions
        return self.subscriptions if tenant == PIM else []

    async def suspended(self, tenant: str) -> Sequence[Subscription]:
        return self.held_back

    async def note(self, subscription_id: str, accepted_at: datetime) -> None:
        self.missed.append((subscription_id, accepted_at))

    async def add(self, replay_id: str, *, events: int = 0, delivered: int = 0, ended: int = 0) -> None:
        self.noted.append(f"{events} events")

    async def running(self, replay_id: str) -> PushedReplay | None:
        return self.replay

    async def note_push(self, replay_id: str) -> None:
        self.noted.append("pushed")

    async def reopen(self, replay_id: str) -> None:
        self.noted.append("reopened")

    async def push(self, message: Message, path: str = "/events") -> int:
        return await push(self._app, path, message, publishTime="2026-01-31T11:30:00.123Z")

    async def publish(self, data: Any, attributes: dict[str, str] | None = None, key: str = "pim") -> int:
        """What a PIM publishes to its own topic."""
        return await self.push(Message(json.dumps(data).encode(), attributes or {}), f"/pim-events/{key}")


SUBSCRIBER = a_subscriber()


def subscription(**fields: Any) -> Subscription:
    return replace(a_subscription(SUBSCRIBER), **fields)


def accepted(*numbers: int) -> Message:
    ((message, _),) = events_messages(Accepted(PIM, START, [an_event(number) for number in numbers]))
    return message


# --- accepted events -----------------------------------------------------------------------------------


async def test_each_match_becomes_a_delivery_in_its_lane() -> None:
    first, second = subscription(lanes=64, epoch=3), subscription()
    world = FanningOut(first, second, subscription(status=Status.SUSPENDED), subscription(events=("other",)))
    assert await world.push(accepted(1, 2)) == 204
    deliveries = [delivery_of(message) for message in world.topics.on(DELIVERIES)]
    assert [(delivery.subscription_id, delivery.event_id) for delivery in deliveries] == [
        (first.id, "event-1"),
        (second.id, "event-1"),
        (first.id, "event-2"),
        (second.id, "event-2"),
    ]
    delivery = deliveries[0]
    lane = lane_of(an_event(1).identity, "event-1", 64)
    assert (delivery.lane, delivery.lanes, delivery.epoch) == (lane, 64, 3)
    assert (delivery.attempts, delivery.failures, delivery.first_attempt_at) == (0, 0, None)
    assert delivery.accepted_at == START
    body = json_form.parse(delivery.body)
    assert isinstance(body, dict)
    assert (body["id"], body["subject"], body["data"]) == ("event-1", first.id, data_of(an_event(1)))
    assert len(world.topics.published) == 4


async def test_others_are_served_while_a_large_message_is_read_and_fanned_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(messages, "SECONDS_AT_ONCE", -1.0)
    turns = 0

    async def another() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    world = FanningOut(*[subscription() for _ in range(20)])
    other = asyncio.create_task(another())
    assert await world.push(accepted(*range(50))) == 204
    other.cancel()
    assert len(world.topics.on(DELIVERIES)) == 1000
    assert turns > 1000, "one after each event that was read, and each delivery that was made"


@pytest.mark.provokes("events.fanned_out")
async def test_without_a_match_nothing_is_published() -> None:
    world = FanningOut()
    assert await world.push(accepted(1)) == 204
    assert world.topics.calls == []


async def test_what_failed_is_published_once_more() -> None:
    world = FanningOut(subscription())
    world.topics.failures = [[1, 2]]
    assert await world.push(accepted(1, 2, 3, 4)) == 204
    ids = [delivery_of(message).event_id for message in world.topics.on(DELIVERIES)]
    assert ids == ["event-1", "event-4", "event-2", "event-3"]
    assert world.topics.calls == [4, 2]


async def test_what_failed_twice_is_pushed_again() -> None:
    world = FanningOut(subscription())
    world.topics.failures = [[0, 1], [1]]
    assert await world.push(accepted(1, 2)) == 503
    assert world.topics.calls == [2, 2]


async def test_without_the_store_the_message_is_pushed_again() -> None:
    world = FanningOut()
    world.subscriptions = StoreUnavailable("away")
    assert await world.push(accepted(1)) == 503


async def test_a_message_that_is_none_of_ours_becomes_a_dead_letter() -> None:
    world = FanningOut(subscription())
    assert await world.push(Message(b"[]", {"tenant": PIM})) == 204
    ((topic, letter),) = world.topics.published
    assert topic == "dead-letters"
    assert letter.attributes[REASON] == "the attribute accepted_at is missing"


async def test_filters_are_compiled_while_the_loop_works_on_other_messages(
    monkeypatch: pytest.MonkeyPatch, compiles: Counter[str]
) -> None:
    monkeypatch.setattr(messages, "SECONDS_AT_ONCE", 0)
    subscriptions = [subscription(filter=f'user = "{number}"') for number in range(20)]
    world = FanningOut(*subscriptions)
    at_once: list[int] = []

    async def watch() -> None:
        while True:
            before = compiles.total()
            await asyncio.sleep(0)
            at_once.append(compiles.total() - before)

    watching = asyncio.create_task(watch())
    await world.push(accepted(1))
    watching.cancel()
    assert (max(at_once), compiles.total()) == (1, 20)
    await world.push(accepted(2))
    assert compiles.total() == 20, "they are kept"
    world.subscriptions = [*subscriptions[1:], subscription(filter='user = "new"')]
    await world.push(accepted(3))
    assert compiles == Counter({f'user = "{number}"': 1 for number in range(20)} | {'user = "new"': 1})


async def test_the_messages_of_a_lane_share_publish_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A piece for each event would bring the many subscriptions of a PIM one message a lane."""
    monkeypatch.setattr(messages, "MESSAGES_AT_ONCE", 20)
    subscriptions = [
        replace(a_subscription(a_subscriber()), id=f"00000000-0000-4000-8000-{number:012}")
        for number in range(10)
    ]
    world = FanningOut(*subscriptions)
    nobody: Any = None
    events = [replace(an_event(), id=str(number)) for number in range(10)]
    await messages.fan_out_accepted(
        Accepted(PIM, START, events),
        subscriptions=world,
        records=nobody,
        publisher=world.topics,
        clock=ManualClock(),
        recent=RecentLanes(ManualClock()),
        shards=4,
        schema_base=SCHEMAS,
        identifiers=IdentifierCheck(ManualClock()),
        missed=world,
        compiled=messages.CompiledFilters(),
    )
    pieces = [world.topics.published[start : start + 20] for start in range(0, 100, 20)]
    assert [len({message.attributes["subscription_id"] for _, message in piece}) for piece in pieces] == [
        2
    ] * 5


async def test_what_nothing_travels_near_in_its_lane_is_marked_alone() -> None:
    world = FanningOut(subscription(lanes=1))
    for wait, sent, alone in [
        (0, accepted(1), [True]),
        (44, accepted(2), [False]),
        (46, accepted(3, 4), [False, False]),
        (46, accepted(5), [True]),
    ]:
        await world.clock.advance(wait)
        world.topics.published.clear()
        assert await world.push(sent) == 204
        assert [is_alone(message) for message in world.topics.on(DELIVERIES)] == alone


def test_where_too_many_lanes_are_in_use_to_remember_nothing_counts_as_alone() -> None:
    clock = ManualClock()
    recent = RecentLanes(clock, kept=2)

    def alone(*keys: str) -> list[bool]:
        return [is_alone(message) for message in recent.marked([Message(b"", {}, key) for key in keys])]

    assert alone("s/1") == [True]
    assert alone("s/2", "s/3") == [False, False]


async def test_a_large_fan_out_is_published_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "MESSAGES_AT_ONCE", 3)
    world = FanningOut(subscription(), subscription())
    assert await world.push(accepted(1, 2, 3, 4)) == 204
    assert world.topics.calls == [3, 3, 2]
    monkeypatch.setattr(messages, "BYTES_AT_ONCE", 1)
    world.topics.calls.clear()
    assert await world.push(accepted(1)) == 204
    assert world.topics.calls == [1, 1]


# --- a PIM's own topic ---------------------------------------------------------------------------------

BINARY = {"ce-specversion": "1.0", "ce-type": UPDATED, "ce-time": "2026-01-31T11:00:00Z"}


@pytest.mark.parametrize(
    ("data", "attributes", "ids"),
    [
        (CLOUDEVENT, {}, ["a"]),
        (CLOUDEVENT, {"content-type": "application/cloudevents+json; charset=utf-8"}, ["a"]),
        ([CLOUDEVENT, CLOUDEVENT | {"id": "b"}], {}, ["a", "b"]),
        ([CLOUDEVENT], {"Content-Type": "application/cloudevents-batch+json"}, ["a"]),
        (DATA, BINARY | {"ce-id": "a", "content-type": "application/json"}, ["a"]),
        (DATA, BINARY | {"ce-id": "a"}, ["a"]),
        (DATA, BINARY | {"ce-id": '"100%25 é"'}, ['"100%25 é"']),
        (CLOUDEVENT | {"pimurl": f"{PIM}/"}, {}, ["a"]),
    ],
)
async def test_a_pim_may_publish_cloudevents_in_three_modes(
    data: Any, attributes: dict[str, str], ids: list[str]
) -> None:
    world = FanningOut(subscription())
    assert await world.publish(data, attributes) == 204
    deliveries = [delivery_of(message) for message in world.topics.on(DELIVERIES)]
    assert [delivery.event_id for delivery in deliveries] == ids
    # It was durable when it was published, however often it is pushed.
    assert deliveries[0].accepted_at == datetime(2026, 1, 31, 11, 30, 0, 123000, UTC)
    assert deliveries[0].lane == lane_of((UUID,), "a", 16)


async def test_a_large_message_of_a_pim_is_read_in_a_process_of_its_own() -> None:
    world = FanningOut(subscription())
    product = {"identifier": "a", "values": {"text": [{"data": 1.5}] * 40_000}}
    event = {
        "action": "product.updated",
        "event_datetime": "2026-01-31T11:00:00+00:00",
        "author": "julia",
        "author_type": "ui",
        "data": {"resource": {"uuid": UUID, **product}},
    }
    message = Message(json.dumps({"events": [event | {"event_id": "a"}, event | {"event_id": "b"}]}).encode())
    began = time.thread_time()
    assert await world.push(message, "/pim-events/pim") == 204
    assert time.thread_time() - began < 0.1  # read here, it would take a second
    assert [delivery_of(each).event_id for each in world.topics.on(DELIVERIES)] == ["a", "b"]
    await world.reader.close()


async def test_a_large_message_that_nothing_can_be_made_of_is_a_dead_letter_too() -> None:
    world = FanningOut(subscription())
    assert await world.push(Message(b"[" + b"7," * 200_000 + b"7]"), "/pim-events/pim") == 204
    assert len(world.topics.on("dead-letters")) == 1
    await world.reader.close()


async def test_a_message_that_cannot_be_read_now_is_pushed_again() -> None:
    world = FanningOut(subscription())

    async def run(*arguments: object) -> object:
        raise Overloaded("the body could not be read now; send it again later", 5)

    world.reader.run = run  # type: ignore[method-assign]
    assert await world.push(Message(b"[" + b"7," * 200_000 + b"7]"), "/pim-events/pim") == 503
    assert not world.topics.published


async def test_a_pim_may_publish_what_its_events_api_would_send() -> None:
    world = FanningOut(subscription())
    good = {
        "action": "product.updated",
        "event_id": "a",
        "event_datetime": "2026-01-31T11:00:00+00:00",
        "author": "julia",
        "author_type": "ui",
        "data": {"resource": {"uuid": UUID, "identifier": "a"}},
    }
    unknown, malformed = good | {"action": "family.created"}, good | {"event_id": 7}
    assert await world.publish({"events": [good, unknown, malformed]}, {}) == 204
    (message,) = world.topics.on(DELIVERIES)
    assert json.loads(message.data)["data"]["author"] == {"identifier": "julia", "type": "user"}


@pytest.mark.parametrize(
    ("data", "attributes", "key", "told"),
    [
        (CLOUDEVENT | {"pimurl": "https://other.example.com"}, {}, "pim", "pimurl names another PIM"),
        (CLOUDEVENT, {}, "gone", "no PIM in the registry has the key gone"),
        (CLOUDEVENT, {"content-type": "text/plain"}, "pim", "the body must be application/json"),
        (CLOUDEVENT | {"type": "unknown"}, {}, "pim", "type: unknown event type 'unknown'"),
        (CLOUDEVENT | {"data": {"product": "secret"}}, {}, "pim", "data.product: does not fit the schema"),
        ([{}] * 20, {}, "pim", "[0].id: is required"),
        ({"events": [{"event_id": "secret"}]}, {}, "pim", "events[0].action: must be a string"),
        ({"events": 7}, {"ce-id": "a"}, "pim", "type: is required"),
        ([CLOUDEVENT] * 1001, {}, "pim", "the request holds 1001 events"),
        ("", {}, "pim", "must be a CloudEvent"),
    ],
)
async def test_what_cannot_be_taken_becomes_a_dead_letter(
    data: Any, attributes: dict[str, str], key: str, told: str
) -> None:
    world = FanningOut(subscription())
    assert await world.publish(data, attributes, key) == 204
    ((topic, letter),) = world.topics.published
    assert topic == "dead-letters"
    assert told in letter.attributes[REASON]
    assert "secret" not in letter.attributes[REASON]
    assert letter.data == json.dumps(data).encode()
    assert attributes.items() <= letter.attributes.items()


async def test_functions_share_nothing_between_requests() -> None:
    world = FanningOut(subscription())
    statuses = await asyncio.gather(*(world.push(accepted(number)) for number in range(20)))
    assert statuses == [204] * 20
    assert len(world.topics.on(DELIVERIES)) == 20


# --- replays -------------------------------------------------------------------------------------------


def replayed(subscription: Subscription, **asked: Any) -> PushedReplay:
    """A replay of the hour before, which ends a second after START."""
    since, until = START - timedelta(hours=1), START + timedelta(seconds=1)
    replay = Replay("rid", subscription.id, ReplayRequest(since, until, which=Which.ALL, **asked), until)
    return PushedReplay(replay, PIM, "pim", subscription.epoch, since, until)


def replay_world(**asked: Any) -> tuple[FanningOut, Subscription]:
    wanted = subscription(lanes=16, epoch=4, replay_id="rid")
    world = FanningOut(subscription(), wanted)
    world.replay = replayed(wanted, **asked)
    return world, wanted


@pytest.mark.provokes("events.replayed")
async def test_a_replayed_event_goes_to_its_subscription_alone_in_a_quarter_as_many_lanes() -> None:
    world, wanted = replay_world()
    assert await world.push(accepted(1, 2), "/replays/rid") == 204
    messages = world.topics.on(DELIVERIES)
    deliveries = [delivery_of(message) for message in messages]
    assert [(each.subscription_id, each.event_id) for each in deliveries] == [
        (wanted.id, "event-1"),
        (wanted.id, "event-2"),
    ]
    first = deliveries[0]
    assert (first.replay_id, first.entered_at, first.accepted_at) == ("rid", world.clock.now(), START)
    assert (first.lane, first.lanes) == (lane_of(an_event(1).identity, "event-1", 4), 16)
    assert messages[0].ordering_key == f"{wanted.id}/4/{first.lane}/rid"
    assert world.noted == ["pushed", "2 events"]


async def test_what_came_after_the_range_is_acknowledged_and_is_no_sign_of_life() -> None:
    world, _ = replay_world()
    ((later, _),) = events_messages(Accepted(PIM, START + timedelta(seconds=1), [an_event()]))
    assert await world.push(later, "/replays/rid") == 204
    assert (world.topics.published, world.noted) == ([], [])


async def test_events_of_another_pim_are_not_replayed_though_no_filter_kept_them_back() -> None:
    world, _ = replay_world()
    ((foreign, _),) = events_messages(Accepted("https://other.example.com", START, [an_event()]))
    assert await world.push(foreign, "/replays/rid") == 204
    assert (world.topics.published, world.noted) == ([], [])


@pytest.mark.parametrize(
    "change", [{"epoch": 5}, {"status": Status.SUSPENDED}, {"replay_id": None}, {"replay_id": "another"}]
)
async def test_nothing_is_replayed_to_a_subscription_that_has_moved_on(change: dict[str, Any]) -> None:
    world, wanted = replay_world()
    world.subscriptions = [replace(wanted, **change)]
    assert await world.push(accepted(1), "/replays/rid") == 204
    assert world.topics.published == []


@pytest.mark.parametrize(
    ("asked", "ids"), [({"events": ("other",)}, []), ({"event_ids": ("event-2",)}, ["event-2"])]
)
async def test_a_replay_is_narrowed_by_types_and_by_ids(asked: dict[str, Any], ids: list[str]) -> None:
    world, _ = replay_world(**asked)
    assert await world.push(accepted(1, 2), "/replays/rid") == 204
    assert [delivery_of(message).event_id for message in world.topics.on(DELIVERIES)] == ids


async def test_a_push_for_a_replay_that_is_over_is_acknowledged_and_has_it_cleaned_up() -> None:
    world, _ = replay_world()
    world.replay = None
    assert await world.push(accepted(1), "/replays/rid") == 204
    assert (world.topics.published, world.noted) == ([], ["reopened"])


async def test_what_a_pim_published_to_its_own_topic_is_replayed_from_there() -> None:
    world, wanted = replay_world()
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
    world.replay = replace(replayed(wanted), since=noon - timedelta(hours=1), until=noon)
    message = Message(json.dumps(CLOUDEVENT).encode(), {})
    assert await world.push(message, "/replays/rid/pim") == 204
    assert [delivery_of(each).event_id for each in world.topics.on(DELIVERIES)] == ["a"]


async def test_what_cannot_be_read_is_no_dead_letter_a_second_time() -> None:
    world, _ = replay_world()
    attributes = dict(accepted(1).attributes)
    assert await world.push(Message(b"no events", attributes), "/replays/rid") == 204
    assert world.topics.published == []


async def test_a_subscription_that_catches_up_gets_an_event_of_its_range_that_way_alone() -> None:
    missed = Missed(0, START - timedelta(hours=1), START + timedelta(seconds=1))
    catching_up, other = subscription(missed=missed), subscription()
    world = FanningOut(catching_up, other)
    assert await world.push(accepted(1)) == 204
    assert [delivery_of(each).subscription_id for each in world.topics.on(DELIVERIES)] == [other.id]
    world.replay = replace(
        replayed(catching_up), replay=replace(replayed(catching_up).replay, id="catch-up-1")
    )
    assert await world.push(accepted(1), "/replays/catch-up-1") == 204
    caught_up = delivery_of(world.topics.on(DELIVERIES)[-1])
    assert (caught_up.subscription_id, caught_up.replay_id) == (catching_up.id, "catch-up-1")
    assert caught_up.shown_replay_id is None


async def test_an_event_that_is_fanned_out_after_a_suspension_is_missed() -> None:
    later = START + timedelta(seconds=1)
    held_back = subscription(status=Status.SUSPENDED, epoch=1, missed=Missed(0, later))
    in_time = subscription(status=Status.SUSPENDED, epoch=1, missed=Missed(0, START))
    world = FanningOut()
    world.held_back = [held_back, in_time]
    assert await world.push(accepted(1)) == 204
    assert (world.topics.published, world.missed) == ([], [(held_back.id, START)])


# --- what a trace reads --------------------------------------------------------------------------------


def matched_in(lines: Sequence[MutableMapping[str, Any]]) -> dict[str, tuple[str, list[str]]]:
    """Entity and subscriptions by event, of all lines."""
    found: dict[str, tuple[str, list[str]]] = {}
    for line in lines:
        if line["event"] in ("events.matched", "events.fanned_out"):
            names = zip(line["event_ids"], line["entities"], line["subscriptions"], strict=True)
            found |= {event_id: (entity, matched) for event_id, entity, matched in names}
    return found


@pytest.mark.provokes("events.fanned_out")
async def test_the_line_says_which_subscriptions_matched_each_event() -> None:
    wanted, other = subscription(), subscription(events=("com.akeneo.pim.v1.family.created",))
    world = FanningOut(wanted, other)
    with capture_logs() as lines:
        await world.push(accepted(1, 2))
    entity = entity_of(an_event(1).type, an_event(1).identity)
    assert matched_in(lines)["event-1"] == (str(entity), [wanted.id])
    (line,) = [each for each in lines if each["event"] == "events.fanned_out"]
    assert (line["accepted_at"], line["event_types"]) == (START.isoformat(), [an_event(1).type] * 2)
    line.pop("log_level")
    assert FORMS["events.fanned_out"].takes(line)
    with capture_logs() as lines:
        await FanningOut().push(accepted(1))
    assert matched_in(lines)["event-1"][1] == []


@pytest.mark.provokes("events.matched")
async def test_many_matches_are_in_lines_that_cloud_logging_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(match_lines, "TEXT_LISTED", 1_000)
    world = FanningOut(*(subscription(id=f"{number:036}") for number in range(3)))
    with capture_logs() as lines:
        await world.push(accepted(*range(1, 31)))
    of_events = [each for each in lines if each["event"] == "events.matched"]
    assert len(of_events) > 3
    assert max(len(json.dumps(each)) for each in of_events) < 2_500
    assert [len(matched) for _, matched in matched_in(lines).values()] == [3] * 30
