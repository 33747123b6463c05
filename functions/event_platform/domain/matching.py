"""Explains why a subscription gets an event, or which of its parts says no.

Fan-out decides the same in one step.
"""

from dataclasses import dataclass
from typing import Literal

from . import filters
from .events.benchmarks import is_benchmarked
from .events.event import Event
from .subscriptions import Status, Subscription

Part = Literal["status", "source", "events", "filter"]


@dataclass(frozen=True, slots=True)
class Check:
    """The answer of one part of a subscription to an event."""

    part: Part
    passes: bool
    message: str


def checks(event: Event, subscription: Subscription) -> list[Check]:
    """Returns each part's answer for an event of the subscription's tenant; it gets the event if all pass."""
    return [
        _status(subscription),
        _source(event, subscription),
        _events(event, subscription),
        _filter(event, subscription),
    ]


def _status(subscription: Subscription) -> Check:
    active = subscription.status is Status.ACTIVE
    message = f"the subscription is {subscription.status}"
    return Check("status", active, message if active else f"{message}: nothing is delivered to it")


def _source(event: Event, subscription: Subscription) -> Check:
    if event.benchmark_client is None:
        passes = subscription.source == "pim"
        wants = "events of the PIM" if passes else "test events of benchmarks only"
    else:
        passes = is_benchmarked(event, subscription)
        wants = "test events of benchmarks" if passes else "events of the PIM only"
    return Check("source", passes, f"source is {subscription.source}: it gets {wants}")


def _events(event: Event, subscription: Subscription) -> Check:
    if event.benchmark_client is not None:
        return Check("events", True, "test events of a benchmark come whatever events lists")
    listed = event.type in subscription.events
    return Check("events", listed, f"events {'lists' if listed else 'does not list'} {event.type}")


def _filter(event: Event, subscription: Subscription) -> Check:
    if subscription.filter is None:
        return Check("filter", True, "there is no filter")
    if event.benchmark_client is not None:
        return Check("filter", True, "test events of a benchmark come whatever the filter says")
    explained = filters.explain(subscription.filter, event)
    said = "; ".join(
        f"{part.text} is {'true' if part.holds else 'false'} ({part.why})" for part in explained.decided_by
    )
    return Check(
        "filter", explained.matches, f"filter {'fits' if explained.matches else 'does not fit'}: {said}"
    )
