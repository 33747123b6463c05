"""The steps of one delivery in their order, for every host: one machine, Google Cloud, and the simulation.

A host says what waiting is, by its `Pace`. Nothing here does I/O or knows an event loop, so the simulation
runs the same steps on a clock of its own.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeAlias, TypeVar

from ..domain.deliveries import Delivery, Settlement
from .judge import Judge
from .observer import Observer

W = TypeVar("W")
Waiting = TypeVar("Waiting", contravariant=True)

Attempt: TypeAlias = Callable[[Delivery], Awaitable[Settlement]]


class TurnTooLate(Exception):
    """Raised by `Pace.before` when the delivery's turn comes too late for the host to wait for it."""

    def __init__(self, delivery: Delivery) -> None:
        super().__init__(delivery)
        self.delivery = delivery


class Pace(Protocol[Waiting]):
    """Waits for the turns of a lane. `waiting` is what the host has of a delivery before it is sent."""

    async def before(self, waiting: Waiting, /) -> Delivery:
        """Returns the delivery when it may be attempted. Raises TurnTooLate: it goes back to its lane."""
        ...

    async def again(self, waiting: Waiting, settlement: Settlement, /) -> bool:
        """True when the delivery may be attempted again at once; False if it goes back to its lane."""
        ...

    def after(self, waiting: Waiting, settlement: Settlement, /) -> Awaitable[None] | None:
        """Ends the turn, which is settled. Returns what to wait for before the lane's next may come."""
        ...


@dataclass(frozen=True, slots=True)
class Pipeline(Generic[W]):
    """Carries deliveries out.

    `attempt` raises for faults of ours only, and `settle` makes durable what follows from an attempt.
    """

    pace: Pace[W]
    attempt: Attempt
    observer: Observer
    settle: Callable[[W, Settlement], Awaitable[None]]
    judge: Judge

    async def carry_out(self, waiting: W) -> None:
        """Carries one delivery out, from its lane's turn until the next of the lane may come.

        The pace is observed first, so that what goes back to its lane finds the lower rate.
        """
        try:
            delivery = await self.pace.before(waiting)
        except TurnTooLate as late:
            settlement = back_to_lane(late.delivery)
        else:
            while True:
                settlement = await self.attempt(delivery)
                if (change := self.observer.seen(settlement)) is not None:
                    await self.observer.follow(settlement.delivery.subscription_id, change)
                if not (settlement.back_to_lane and await self.pace.again(waiting, settlement)):
                    break
                delivery = settlement.delivery
            del delivery  # settling may take a while, and its body may be large
        await self.settle(waiting, settlement)
        await self.judge.settled(settlement)
        if (rest := self.pace.after(waiting, settlement)) is not None:
            await rest


def back_to_lane(delivery: Delivery) -> Settlement:
    """The settlement of a delivery that goes back to its lane untried."""
    return Settlement(delivery, None, back_to_lane=True)
