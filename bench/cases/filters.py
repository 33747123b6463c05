"""Filters alone: one event against as many subscriptions as a PIM can have, each with a filter of its own."""

import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from statistics import median

from pydantic import SecretStr

from event_platform.domain import filters
from event_platform.domain.events import catalog, json_form
from event_platform.domain.events.event import Event
from event_platform.domain.events.facts import Facts
from event_platform.domain.subscriptions import (
    SUBSCRIBERS_PER_PIM,
    SUBSCRIPTIONS_PER_SUBSCRIBER,
    HttpsConfig,
    Owner,
    Subscription,
)
from event_platform.fanout import matches

from ..figures import Figure, at_most, case
from ..measuring import Bench
from ..platform import SECRET

TYPE = "com.akeneo.pim.v1.product.updated.delta"
REPETITIONS = 500
# The last comparison decides, so all four are looked at.
FILTER = (
    'attribute in ["name", "other-{0}"] and not (user = "user-{0}" or user_type = "job") and user = "x-{0}"'
)


@case("filters", "one event, 400 filters")
def filters_(bench: Bench) -> list[Figure]:
    subscriptions = [_subscription(n) for n in range(SUBSCRIBERS_PER_PIM * SUBSCRIPTIONS_PER_SUBSCRIBER)]
    filters.parse(FILTER)  # what the first one costs once is no matter of each
    began = time.process_time()
    predicates = {text: filters.predicate_of(text) for each in subscriptions if (text := each.filter)}
    compiled = time.process_time() - began
    event = _event()
    matched = [_milliseconds(event, subscriptions, predicates) for _ in range(REPETITIONS)]
    return [
        Figure("CPU to match an event with 400", median(matched), "ms", at_most(0.5)),
        Figure("CPU to compile a filter", compiled * 1e3 / len(subscriptions), "ms"),
    ]


def _milliseconds(
    event: Event, subscriptions: list[Subscription], predicates: Mapping[str, filters.Predicate]
) -> float:
    began = time.thread_time_ns()
    for each in subscriptions:
        matches(event, each, predicates)
    return (time.thread_time_ns() - began) / 1e6


def _event() -> Event:
    data = catalog.load()[TYPE].example
    return Event("bench", TYPE, "2026-01-31T12:00:00Z", Facts(TYPE, data), json_form.stringify(data), ())


def _subscription(number: int) -> Subscription:
    now = datetime.now(UTC)
    return Subscription(
        id=str(uuid.uuid4()),
        subscriber_id="bench",
        owner=Owner("https://pim.example.com", "bench"),
        source="pim",
        subject="https://pim.example.com",
        events=(TYPE,),
        config=HttpsConfig("https://erp.example.com/events", SecretStr(SECRET)),
        created_at=now,
        updated_at=now,
        filter=FILTER.format(number),
    )
