"""The simulation of the deployment: what holds in every run, and that it is of what is deployed."""

import random
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2]))  # the bench is not installed with the packages

from bench.cloud import Backoff, CloudRun, Lane, Push, Pushing, PushSubscription, Simulation, Window
from bench.cost import success_counts
from bench.population import START, Kind, Mix, Tenant, busiest_shard, of_shard, population, tenant_rates
from bench.shard import Deployment, Shard, Tally, Times, fanned_out

from event_platform.domain.pace.rates import Rate
from event_platform.domain.subscriptions import Status
from stack.settings import read
from stack.sizes import sizes_of
from support.deployed import configuration

MIX = replace(Mix(), batch=3.0, most_of_a_tenant=30.0)
ALL_KINDS = replace(MIX, kinds=tuple((kind, 1.0) for kind in Kind))
HEALTHY = replace(MIX, kinds=((Kind.HEALTHY, 1.0),), errors=0.0)
THROTTLING = replace(MIX, kinds=((Kind.THROTTLING, 1.0),), errors=0.0, events_a_tenant=20.0, allowed=(10.0,))
SOON = Times(retry_delays=[timedelta(seconds=each) for each in (5, 10, 20)])


def a_shard(
    mix: Mix,
    seconds: float,
    *,
    tenants: int = 12,
    until: float,
    deployment: Deployment | None = None,
    warm: int = 0,
    look: Callable[[Shard], None] = lambda shard: None,
) -> tuple[Shard, Tally]:
    """The load lasts for `seconds`, and the run `until` then."""
    deployment = deployment or Deployment()
    them = population(mix, tenants, deployment.limits, random.Random(1), seconds)
    requests = fanned_out(them, deployment, mix, seconds, random.Random(2)).requests
    mine = of_shard(them, busiest_shard(them, deployment.shards, _load), deployment.shards)
    shard = Shard(mine, deployment, random.Random(3), times=SOON, warm=warm)
    look(shard)
    return shard, shard.run(requests, until)


def _load(tenant: Tenant) -> float:
    return tenant.rate * len(tenant.subscriptions)


def _latencies(tally: Tally) -> list[float]:
    return sorted(arrived - accepted for times in tally.arrivals.values() for accepted, arrived in times)


def test_everything_that_was_published_arrives_or_ends() -> None:
    shard, tally = a_shard(ALL_KINDS, 20, until=1500)
    assert shard.retries_waiting == shard.pushes.waiting == shard.pushes.outstanding == 0
    assert tally.arrived + tally.failed + tally.dropped == tally.published > 800
    assert min(tally.arrived, tally.dropped, tally.throttled) > 0


def test_a_delivery_that_goes_back_to_its_lane_is_neither_lost_nor_sent_twice() -> None:
    def many_lanes_at_a_low_rate(shard: Shard) -> None:
        for each in shard.subscribed:
            each.record = replace(each.record, lanes=64, rate=Rate(START, 1.0, 2.0))

    strict = replace(THROTTLING, allowed=(1.0,), events_a_tenant=3.0)
    shard, tally = a_shard(strict, 20, until=3000, tenants=4, look=many_lanes_at_a_low_rate)
    assert tally.requeued > 0
    assert tally.arrived == tally.published == len(_latencies(tally))
    assert shard.pushes.waiting == shard.pushes.outstanding == 0


def test_of_a_lane_one_delivery_is_under_way_and_of_the_shard_no_more_than_the_window() -> None:
    under_way: set[int] = set()

    def look(shard: Shard) -> None:
        pushes = shard.pushes
        handle, acknowledge = pushes._handle, pushes.acknowledge

        def handled(push: Push) -> None:
            assert id(push.lane) not in under_way
            assert pushes.outstanding <= pushes.window.size
            under_way.add(id(push.lane))
            handle(push)

        def acknowledged(push: Push) -> None:
            under_way.remove(id(push.lane))
            acknowledge(push)

        pushes._handle, pushes.acknowledge = handled, acknowledged

    _, tally = a_shard(ALL_KINDS, 10, until=60, look=look)
    assert tally.attempts > 400


def test_the_same_seed_gives_the_same_run() -> None:
    (_, one), (_, other) = (a_shard(ALL_KINDS, 10, until=40) for _ in range(2))
    assert _latencies(one) == _latencies(other)
    assert one.writes == other.writes


def test_a_destination_that_is_down_is_suspended_by_the_judge() -> None:
    down = replace(MIX, kinds=((Kind.DOWN, 1.0),))
    shard, tally = a_shard(down, 150, until=150, tenants=4)
    for each in shard.subscribed:
        if each.receiver.trouble_at < 75:  # nobody is judged in the first minute
            assert each.record.status is Status.SUSPENDED
    assert tally.suspended > 0
    assert tally.dropped > 0


def test_a_receiver_that_throttles_gets_what_it_allows_and_few_429s() -> None:
    """As in the simulation of the rate alone."""
    shard, tally = a_shard(THROTTLING, 60, until=60, tenants=4)
    beyond = [each for each in shard.subscribed if each.load > 12]
    for each in beyond:
        taken = sum(30 <= arrived < 60 for _, arrived in tally.arrivals[each]) / 30
        assert 0.8 * 10 <= taken <= 10.5
    assert beyond
    assert tally.throttled < 0.06 * tally.attempts


def test_a_shard_of_several_is_as_the_only_one() -> None:
    """What a run of one shard is taken for: with the same load on each, all are alike."""
    only, all_of_it = a_shard(HEALTHY, 12, until=16, tenants=12, warm=4)
    one, part = a_shard(HEALTHY, 12, until=16, tenants=48, deployment=Deployment(shards=4), warm=4)
    ours, theirs = _latencies(all_of_it), _latencies(part)
    assert theirs[len(theirs) // 2] == pytest.approx(ours[len(ours) // 2], rel=0.15)
    assert one.pushes.counts.seconds / one.pushes.counts.pushes == pytest.approx(
        only.pushes.counts.seconds / only.pushes.counts.pushes, rel=0.15
    )


def test_counts_of_successes_are_written_as_often_as_the_bill_says() -> None:
    shard, tally = a_shard(HEALTHY, 40, until=40, warm=6)
    said = success_counts([each.load for each in shard.subscribed], 6, HEALTHY.batch)
    assert tally.writes["success counts"] / 40 == pytest.approx(said, rel=0.3)


def test_a_push_without_a_place_is_refused_after_10_s_and_comes_again() -> None:
    simulation, chance = Simulation(), random.Random(1)
    function = CloudRun(simulation, chance, concurrency=1, most=1, cold_seconds=2)
    done: list[tuple[str, float]] = []

    def handle(push: Push[str]) -> None:
        simulation.at(simulation.now + 15, answer, push)

    def answer(push: Push[str]) -> None:
        done.append((push.message, simulation.now))
        pushes.acknowledge(push)

    pushes: PushSubscription[str] = PushSubscription(simulation, function, handle)
    for message in "ab":
        pushes.add(Lane(), message)
    simulation.run(60)
    assert done == [("a", 17.0), ("b", 32.0)]
    assert pushes.counts.nacks == function.refused == 1


def test_an_overloaded_function_gets_instances_up_to_the_most() -> None:
    simulation = Simulation()
    function = CloudRun(simulation, random.Random(1), concurrency=2, most=3, cold_seconds=1)
    for _ in range(20):
        function.request(lambda instance: None, lambda: None)
    simulation.run(9)
    assert len(function.instances) == 3
    assert function.most_open == 6


def test_the_window_grows_with_successes_and_falls_when_answers_are_slow_or_refused() -> None:
    grown = Window(Pushing())
    for _ in range(4000):
        grown.answered(1, 0.1, acknowledged=True)
    assert 3000 <= grown.size < 3001  # beyond it only linearly
    for seconds, acknowledged in ((1.5, True), (0.1, False)):
        window = Window(Pushing(window_at_start=8000))
        for moment in range(12):
            window.answered(moment, seconds, acknowledged=acknowledged)
        assert window.size <= 3001


@pytest.mark.parametrize(("share", "seconds"), [(0, 0.1), (0.2, 0.5), (1, 45)])
def test_the_pause_after_nacks_is_as_documented(share: float, seconds: float) -> None:
    assert Backoff.pause(share) == pytest.approx(seconds)


def test_a_fifth_of_the_tenants_sends_most_of_the_load() -> None:
    rates = tenant_rates(Mix(), 10_000)
    assert sum(rates) == pytest.approx(50_000)
    assert max(rates) <= 500
    assert sum(rates[:2000]) > 0.65 * 50_000


def test_the_simulated_deployment_is_the_one_that_is_made() -> None:
    told = configuration("production")
    settings = read(told, secret=told)
    made = sizes_of(settings)
    simulated = Deployment(shards=settings.deliveries_shards)
    assert simulated.outstanding == settings.outstanding_messages
    assert simulated.most_ingest == made["ingest"].max_instances
    assert simulated.most_fanout == made["fanout"].max_instances
    assert simulated.most_deliver == made["deliver"].max_instances
