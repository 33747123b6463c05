"""Which ends are one entry of the log, and what a reader may ask for (contract/wire.md 13)."""

from dataclasses import replace
from datetime import timedelta

import pytest

from event_platform.domain.record.logs import (
    CAUGHT_UP,
    COUNTED_WITHIN,
    FAILED_DELIVERY,
    MERGED_WITHIN,
    MORE_REFUSED,
    REFUSED,
    VALIDATION_ERROR,
    DeliveryEnd,
    LogEntry,
    LogQuery,
    LogType,
    Operation,
    merged_within,
    window_start,
)
from support.clock import START
from support.records import a_subscriber

MICROSECOND = timedelta(microseconds=1)
FAILED = DeliveryEnd(Operation.FAILED, "given up", START)
DROPPED = DeliveryEnd(Operation.DROPPED, "suspended", START)


@pytest.mark.parametrize(
    ("operation", "message", "minutes"),
    [
        (Operation.FAILED, "given up", 5),
        (Operation.FAILED, MORE_REFUSED, 5),
        (Operation.DROPPED, "suspended", 60),
        (REFUSED, "no such event", 5),
        (REFUSED, None, 5),
        (REFUSED, MORE_REFUSED, 60),
        ("subscription_created_by_the_user", None, 5),
    ],
)
def test_equal_entries_are_one_for_minutes_and_what_only_counts_for_an_hour(
    operation: str, message: str | None, minutes: int
) -> None:
    assert merged_within(operation, message) == timedelta(minutes=minutes)
    owner = a_subscriber().owner
    entry = LogEntry("one", owner, LogType.ERROR, START, operation, error_message=message)
    assert entry.merged_within == timedelta(minutes=minutes)


@pytest.mark.parametrize(("end", "within"), [(FAILED, MERGED_WITHIN), (DROPPED, COUNTED_WITHIN)])
def test_an_end_joins_an_entry_that_began_less_than_its_time_away(
    end: DeliveryEnd, within: timedelta
) -> None:
    """Before and after: who counts may have a clock that is behind."""
    assert end.joins(START)
    assert end.joins(START - within + MICROSECOND)
    assert end.joins(START + within - MICROSECOND)
    for times in (1, 2, 100):
        assert not end.joins(START - times * within)
        assert not end.joins(START + times * within)


def test_windows_are_counted_on_the_clock() -> None:
    hour = START.replace(minute=0, second=0, microsecond=0)
    for minutes, first in [(0, 0), (4.999, 0), (5, 5), (59.999, 55)]:
        at = hour + timedelta(minutes=minutes)
        assert window_start(at, MERGED_WITHIN) == hour + timedelta(minutes=first)
        assert window_start(at, COUNTED_WITHIN) == hour
    assert window_start(hour - MICROSECOND, COUNTED_WITHIN) == hour - timedelta(hours=1)


def test_whoever_begins_an_entry_gives_it_the_same_id() -> None:
    first = FAILED.entry_id("one")
    assert replace(FAILED, status=500, excerpt="what it said").entry_id("one") == first
    others = [
        FAILED.entry_id("two"),
        DROPPED.entry_id("one"),
        replace(FAILED, message="another").entry_id("one"),
        replace(FAILED, at=START + MICROSECOND).entry_id("one"),
    ]
    assert len({first, *others}) == 5
    assert all(len(each) == 32 and set(each) <= set("0123456789abcdef") for each in [first, *others])


@pytest.mark.parametrize(
    ("error_type", "is_of_one"), [(FAILED_DELIVERY, True), (VALIDATION_ERROR, False), (None, False)]
)
def test_which_entries_are_of_a_delivery(error_type: str | None, is_of_one: bool) -> None:
    entry = LogEntry("one", a_subscriber().owner, LogType.ERROR, START, REFUSED, error_type=error_type)
    assert entry.is_of_a_delivery is is_of_one


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        (LogQuery(), None),
        (LogQuery(log_type=LogType.ACTION), ("log_type", "action")),
        (LogQuery(log_type=LogType.ERROR), ("log_type", "error")),
        (LogQuery(operation=CAUGHT_UP), ("operation", CAUGHT_UP)),
        (
            LogQuery(LogType.ACTION, "replay_ended_by_the_platform"),
            ("operation", "replay_ended_by_the_platform"),
        ),
        (LogQuery(LogType.ERROR, Operation.DROPPED), ("operation", "deliveries_dropped")),
        (LogQuery(error_reason="dns_lookup_failure"), ("error_reason", "dns_lookup_failure")),
        (LogQuery(LogType.ERROR, Operation.FAILED, "x"), ("error_reason", "x")),
    ],
)
def test_the_narrowest_filter_implies_the_others(query: LogQuery, kind: tuple[str, str] | None) -> None:
    assert query.kind() == kind


@pytest.mark.parametrize(
    "query",
    [
        LogQuery(LogType.ERROR, CAUGHT_UP),
        LogQuery(LogType.ACTION, REFUSED),
        LogQuery(LogType.ACTION, error_reason="x"),
        LogQuery(operation=CAUGHT_UP, error_reason="x"),
        LogQuery(operation=Operation.DROPPED, error_reason="x"),
    ],
)
def test_filters_that_exclude_each_other_are_refused(query: LogQuery) -> None:
    with pytest.raises(ValueError, match="these filters exclude each other"):
        query.kind()
