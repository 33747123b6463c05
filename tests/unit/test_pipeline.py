"""The steps of a delivery, in the order that every host has them."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from event_platform.deliver import Judge, Observer, Pipeline
from event_platform.deliver.observer import Follow
from event_platform.deliver.pipeline import TurnTooLate
from event_platform.domain.attempts.outcomes import Kind, Outcome
from event_platform.domain.deliveries import Delivery, Settlement
from event_platform.domain.pace.rates import Limits
from support.clock import START, ManualClock
from support.records import UPDATED

DELIVERY = Delivery("subscription-1", "event-1", UPDATED, START, lane=0, lanes=16, epoch=0, body=b"{}")
TAKEN = Outcome(Kind.DELIVERED, None, 200)


@dataclass
class Host:
    """Notes the steps. The attempts at a delivery come to `settlements`, one after the other."""

    settlements: list[Settlement]
    too_late: bool = False
    turns: int = 0
    """Returns how often the turn after an attempt comes soon enough."""
    steps: list[str] = field(default_factory=list[str])

    async def carry_out(self) -> list[str]:
        await Pipeline(self, self.attempt, Noting(self.steps), self.settle, Unjudged(self.steps)).carry_out(
            DELIVERY
        )
        return self.steps

    async def before(self, waiting: Delivery) -> Delivery:
        self.steps.append("before")
        if self.too_late:
            raise TurnTooLate(waiting)
        return waiting

    async def attempt(self, delivery: Delivery) -> Settlement:
        self.steps.append(f"attempt {delivery.attempts + 1}")
        tried = delivery.after_attempt(START, used_a_retry=False)
        return replace(self.settlements.pop(0), delivery=tried)

    async def again(self, waiting: Delivery, settlement: Settlement) -> bool:
        self.steps.append("again")
        self.turns -= 1
        return self.turns >= 0

    async def settle(self, waiting: Delivery, settlement: Settlement) -> None:
        self.steps.append(f"settle {settlement.delivery.attempts}")

    def after(self, waiting: Delivery, settlement: Settlement) -> Awaitable[None]:
        async def hold() -> None:
            self.steps.append("hold")

        self.steps.append("after")
        return hold()


class Noting(Observer):
    """Has something to change after each attempt."""

    def __init__(self, steps: list[str]) -> None:
        unused: Any = None
        super().__init__(unused, unused, ManualClock(), Limits())
        self._steps = steps

    def seen(self, settlement: Settlement) -> Follow:
        self._steps.append("seen")
        return lambda subscription: subscription

    async def follow(self, subscription_id: str, change: Callable[[Any], Any]) -> None:
        self._steps.append("follow")


class Unjudged(Judge):
    def __init__(self, steps: list[str]) -> None:
        self._steps = steps

    async def settled(self, settlement: Settlement) -> None:
        self._steps.append("judge")


AN_ATTEMPT = ["seen", "follow"]
THE_END = ["judge", "after", "hold"]


async def test_a_delivery_is_attempted_observed_settled_and_judged_between_two_turns() -> None:
    host = Host([Settlement(DELIVERY, TAKEN)])
    assert await host.carry_out() == ["before", "attempt 1", *AN_ATTEMPT, "settle 1", *THE_END]


async def test_a_429_is_attempted_again_while_the_turn_comes_soon_enough() -> None:
    throttled = Settlement(DELIVERY, Outcome(Kind.THROTTLED, None, 429), back_to_lane=True)
    host = Host([throttled] * 3, turns=2)
    first, second, third = (f"attempt {number}" for number in (1, 2, 3))
    assert await host.carry_out() == [
        *("before", first, *AN_ATTEMPT, "again"),
        *(second, *AN_ATTEMPT, "again"),
        *(third, *AN_ATTEMPT, "again"),
        *("settle 3", *THE_END),
    ]


async def test_what_comes_too_late_is_settled_and_held_untried() -> None:
    host = Host([], too_late=True)
    assert await host.carry_out() == ["before", "settle 0", *THE_END]


@pytest.mark.parametrize("fails", ["before", "attempt", "settle"])
async def test_a_fault_of_ours_ends_it_where_it_is(fails: str, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host([Settlement(DELIVERY, TAKEN)])

    async def failing(*_: object) -> None:
        raise RuntimeError(fails)

    monkeypatch.setattr(host, fails, failing)
    with pytest.raises(RuntimeError, match=fails):
        await host.carry_out()
    assert "judge" not in host.steps
    assert "after" not in host.steps


def test_it_needs_no_event_loop() -> None:
    """So that the simulation of the deployment can run it on its own clock."""
    steps = Host([Settlement(DELIVERY, TAKEN)]).carry_out()
    with pytest.raises(StopIteration) as ended:
        steps.send(None)
    assert ended.value.value[-1] == "hold"
