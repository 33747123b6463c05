"""Which worker gets which lanes: a subscription has one rate, and one count of its successes."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from aep.broker.dispatcher import Dispatcher, LaneQueue
from aep.broker.live import Records
from contract.suites.broker import Consumer, Handler
from contract.test_embedded import BrokerWithWorkers
from event_platform.domain.deliveries import Delivery, Settlement
from event_platform.ports import SuccessCounts
from support.eventually import eventually
from support.records import PIM, an_event


class NotingWorkers(BrokerWithWorkers):
    """Notes which lanes each of the two workers has delivered, by subscription."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.delivered: list[dict[str, set[int]]] = []

    def _dispatcher(
        self, handler: Handler, queue: LaneQueue, records: Records, counts: SuccessCounts
    ) -> Dispatcher:
        of_worker: dict[str, set[int]] = {}
        self.delivered.append(of_worker)

        async def noted(delivery: Delivery) -> Settlement:
            of_worker.setdefault(delivery.subscription_id, set()).add(delivery.lane)
            return await handler(delivery)

        return super()._dispatcher(noted, queue, records, counts)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[NotingWorkers]:
    async with NotingWorkers(tmp_path) as world:
        yield world


async def test_all_lanes_of_a_subscription_are_one_workers(world: NotingWorkers) -> None:
    consumer = Consumer()
    subscriptions = await world.subscribe(4)
    await world.intake.accept(PIM, [an_event(number, entity=str(number)) for number in range(20)])
    await world.start(consumer)  # 20 are read from the file, and 20 are sent
    await world.intake.accept(PIM, [an_event(number, entity=str(number)) for number in range(20, 40)])
    await eventually(lambda: len(consumer.got) == 40 * len(subscriptions))
    assert all(world.delivered)
    for subscription in subscriptions:
        (lanes,) = (each[subscription.id] for each in world.delivered if subscription.id in each)
        assert len(lanes) > 2
