"""How much callers with good credentials may ask for, and how often a line of the log repeats itself."""

from event_platform.domain.call_limits import LIMITS, PIM_FACTOR, CallType, Limit, OwnerAllowances, Shortage
from event_platform.domain.line_limit import SECONDS_BETWEEN_LINES, LineLimit
from event_platform.domain.subscriptions import (
    SUBSCRIBERS_PER_PIM,
    SUBSCRIPTIONS_PER_SUBSCRIBER,
    Owner,
)
from event_platform.manage.benchmarks import MAX_DELIVERIES
from support.records import OWNER, PIM

SHOP = Owner(PIM, "shop")
ELSEWHERE = Owner("https://other.example.com", OWNER.client_id)


class Time:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_all_that_a_pim_may_have_can_be_made_changed_and_deleted_in_one_go_three_times_over() -> None:
    allowances = OwnerAllowances(LIMITS[CallType.CHANGE], Time())
    records = SUBSCRIBERS_PER_PIM * (1 + SUBSCRIPTIONS_PER_SUBSCRIBER)
    assert records == 420
    assert [allowances.take(OWNER) for _ in range(3 * 3 * records)] == [None] * 3780


def test_an_owner_that_has_used_up_its_burst_goes_on_at_the_rate() -> None:
    time = Time()
    allowances = OwnerAllowances(Limit(3, 0.5), time)
    assert [allowances.take(OWNER) for _ in range(3)] == [None] * 3
    assert allowances.take(OWNER) == Shortage("this client", 2.0)
    time.seconds = 1.5
    assert allowances.take(OWNER) == Shortage("this client", 0.5)
    time.seconds = 2.0
    assert allowances.take(OWNER) is None
    assert allowances.take(OWNER) == Shortage("this client", 2.0)


def test_other_clients_and_other_pims_have_allowances_of_their_own() -> None:
    allowances = OwnerAllowances(Limit(3, 1), Time())
    while allowances.take(OWNER) is None:
        pass
    assert allowances.take(SHOP) is None
    assert allowances.take(ELSEWHERE) is None


def test_all_clients_of_a_pim_share_one() -> None:
    allowances = OwnerAllowances(Limit(3, 1), Time())
    clients = [Owner(PIM, f"client-{number}") for number in range(2 * PIM_FACTOR)]
    assert sum(allowances.take(each) is None for each in clients * 3) == 3 * PIM_FACTOR
    assert allowances.take(Owner(PIM, "one more")) == Shortage("the clients of this PIM", 1 / PIM_FACTOR)
    assert allowances.take(ELSEWHERE) is None


def test_what_is_refused_takes_nothing() -> None:
    allowances = OwnerAllowances(Limit(10, 1), Time())
    assert allowances.take(OWNER, 8) is None
    assert allowances.take(OWNER, 5) == Shortage("this client", 3.0)
    assert allowances.take(OWNER, 2) is None


def test_the_largest_benchmark_has_a_place_in_the_allowance() -> None:
    allowances = OwnerAllowances(LIMITS[CallType.BENCHMARK], Time())
    assert allowances.take(OWNER, MAX_DELIVERIES) is None


def test_a_line_comes_once_a_minute_and_counts_what_it_stands_for() -> None:
    time = Time()
    lines = LineLimit(time)
    assert lines.count("a") == 1
    assert [lines.count("a") for _ in range(5)] == [0] * 5
    assert lines.count("b") == 1
    time.seconds = SECONDS_BETWEEN_LINES
    assert lines.count("a") == 6
    assert lines.count("a") == 0
