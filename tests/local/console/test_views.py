"""The contexts of pages, and how values are shown."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from aep.console import pages, views
from aep.console.events import judged
from aep.console.subscription import acts_for, charts_of
from aep.runtime.gaps import Gaps
from aep.runtime.meters import LastCalls, Meters
from event_platform.domain.kept_events import Course, CourseStatus, KeptEvent
from event_platform.domain.subscriptions import Status
from event_platform.domain.suspension import Count
from event_platform.domain.tenants import Tenant, Way
from support.records import KAFKA_CONFIG, a_subscriber, a_subscription

NOW = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)
PIM = Tenant.model_validate({"url": "https://pim.example.com", "ingest_key": "a-key-of-the-tests"})


def remarks(**more: object) -> list[str]:
    given: dict[str, object] = {
        "problem": None,
        "by_status": {},
        "meters": Meters(),
        "oldest": 0.0,
        "silent": [],
        "refused": [],
        "lead": 0.0,
    }
    return [each.sentence for each in views.remarks(**{**given, **more})]  # type: ignore[arg-type]


def test_nothing_is_wrong_with_a_platform_that_is_well() -> None:
    assert remarks() == []


def test_each_thing_that_is_wrong_is_a_sentence_the_worst_first() -> None:
    meters = Meters()
    meters.dead_letters, meters.queued = 1, 5
    sentences = remarks(
        problem="the disk is full",
        by_status={Status.SUSPENDED: 2},
        meters=meters,
        oldest=1000.0,
        silent=[{"pim": "https://a.example.com", "silent_for": 7200.0, "usual": 64.0}],
        refused=[{"pim": "https://b.example.com", "way": "relay", "status": 401, "reason": "wrong_key"}],
        lead=60.0,
    )

    assert sentences == [
        "No event is taken in: the disk is full.",
        "The platform's own code failed on 1 message, now dead letters.",
        "2 subscriptions are suspended: nothing is sent to them.",
        "A call of https://b.example.com was refused last, by relay: 401 wrong_key.",
        "https://a.example.com has been silent for 2.0 h; usually events come every 1.1 min.",
        "Deliveries wait for their receivers' pace.",
        "The clock of this machine was set back; the platform goes on with its own until it has caught up.",
    ]


def test_of_many_pims_some_are_named_and_the_others_counted() -> None:
    silent = [{"pim": f"pim-{number}", "silent_for": 7200.0, "usual": 1.0} for number in range(1_000)]
    refused = [{"pim": f"pim-{number}", "way": "relay", "status": 401, "reason": "x"} for number in range(11)]
    sentences = remarks(silent=silent, refused=refused)

    assert len(sentences) == 2 * views.NAMED + 2
    assert "The last call of 1 more way of PIMs was refused, too." in sentences
    assert sentences[-1] == "990 more PIMs have been silent, too."


def test_silent_pims_are_those_that_are_known() -> None:
    meters, at = Meters(), NOW.timestamp()
    for name in ("https://pim.example.com", "https://gone.example.com"):
        meters.gaps[name] = Gaps()
        for number in range(30):
            meters.gaps[name].note(at - 90_000 + number)
        meters.last_calls[name, Way.CLOUDEVENTS] = LastCalls(taken_at=at - 89_970)

    (found,) = views.silent(meters, [PIM], NOW)
    assert (found["pim"], found["silent_for"]) == ("https://pim.example.com", 89_970)


def test_a_refused_call_counts_until_one_is_taken() -> None:
    calls = {
        ("https://pim.example.com", Way.RELAY): LastCalls(
            refused_at=2.0, answered_at=1.0, status=401, reason="x"
        ),
        ("https://pim.example.com", Way.CLOUDEVENTS): LastCalls(refused_at=1.0, answered_at=2.0, status=401),
        ("https://gone.example.com", Way.RELAY): LastCalls(refused_at=2.0, status=401),
    }

    assert [each["way"] for each in views.refused_now(calls, [PIM])] == ["relay"]


def test_the_ways_of_a_pim_have_their_urls() -> None:
    found = views.ways_of(PIM, {}, "https://events.example.com")

    assert [each["url"] for each in found] == [
        "https://events.example.com/ingest",
        f"https://events.example.com/ingest/events-api/{PIM.key}",
        f"https://events.example.com/ingest/relay/{PIM.key}",
    ]
    assert [each["is_open"] for each in found] == [True, False, False]
    assert views.ways_of(Tenant.model_validate({"host_pattern": "*.example.com"}), {}, "") == []


@pytest.mark.parametrize(
    ("status", "has", "lacks"),
    [
        (Status.ACTIVE, {"suspend", "replay", "retry", "test"}, {"resume"}),
        (Status.SUSPENDED, {"resume", "test", "delete"}, {"suspend", "replay"}),
        (Status.REVOKED, {"delete"}, {"resume", "test", "suspend"}),
    ],
)
def test_what_can_be_done_follows_the_status(status: Status, has: set[str], lacks: set[str]) -> None:
    names = {name for name, _, _ in acts_for(a_subscription(a_subscriber(), status=status))}

    assert has <= names
    assert not lacks & names


@pytest.mark.parametrize(
    ("read", "number"), [([], 0), ([0], 1), ([0, 2], 3), (["gone"], 0), ([3, "gone"], 4)]
)
def test_nothing_is_said_of_subscriptions_whose_deliveries_were_not_read(
    read: list[int | str], number: int
) -> None:
    subscriptions = [a_subscription(a_subscriber()) for _ in range(4)]
    ids = [each if isinstance(each, str) else subscriptions[each].id for each in read]
    courses = [Course(each, CourseStatus.DELIVERED) for each in ids]
    event = KeptEvent(1, "pim", NOW, "cloudevents", "one", "x.y", "2026-01-31T12:00:00Z", ("a",), courses)

    assert judged(subscriptions, event) == subscriptions[:number]


def test_curves_have_a_point_for_each_minute_and_gaps_where_nothing_is_known() -> None:
    subscription = a_subscription(a_subscriber(), now=NOW - timedelta(minutes=2))
    first = int(NOW.timestamp() // 60) - 3
    minutes = {first: Count(), first + 1: Count(3, 1), first + 2: Count(), first + 3: Count(0, 2)}
    attempts, success, pace = charts_of(subscription, minutes, lambda at: 10.0, NOW)

    assert attempts["series"][0]["y"] == [0, 3, 0, 0]
    assert success["series"][0]["y"] == [None, 75.0, None, 0.0]
    assert pace["series"][0]["y"] == [None, 10.0, 10.0, 10.0]
    assert charts_of(a_subscription(a_subscriber(), config=KAFKA_CONFIG), minutes, lambda at: 1.0, NOW) == []


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0.0004, "0.4 ms"),
        (0.25, "250 ms"),
        (1.5, "1.5 s"),
        (59.0, "59 s"),
        (90.0, "1.5 min"),
        (7200.0, "2.0 h"),
        (864_000.0, "10 d"),
    ],
)
def test_a_span_has_two_digits(value: float | None, shown: str) -> None:
    assert pages.seconds(value) == shown


@pytest.mark.parametrize(
    ("passed", "words"), [(0, "now"), (5, "5.0 s ago"), (3600, "1.0 h ago"), (-120, "in 2.0 min")]
)
def test_a_time_is_shown_as_how_long_ago_it_was(passed: int, words: str) -> None:
    at = NOW - timedelta(seconds=passed)

    for given in (at, at.timestamp(), at.isoformat()):
        assert f">{words}</time>" in pages.ago(given, NOW)
    assert pages.ago(None, NOW) == "–"


@pytest.mark.parametrize(
    ("share", "shown"), [(None, "–"), (1.0, "100 %"), (0.99999, "99.9 %"), (0.5, "50 %"), (0.0, "0 %")]
)
def test_a_hundred_percent_is_all(share: float | None, shown: str) -> None:
    assert pages.percent(share) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("it is wrong", "It is wrong."),
        ("config.url: is wrong", "config.url: is wrong."),
        ("Done.", "Done."),
        ("what now?", "What now?"),
    ],
)
def test_an_error_is_a_sentence(text: str, shown: str) -> None:
    assert pages.sentence(text) == shown


def test_a_long_error_is_a_sentence_at_once() -> None:
    began = time.thread_time()
    assert pages.sentence("." * 40_000) == "." * 40_000
    assert time.thread_time() - began < 0.5
