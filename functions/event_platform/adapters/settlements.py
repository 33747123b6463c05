"""Settlements where the queue is a topic: the port `Settlements` on a schedule, a log and a publisher.

The message is acknowledged by the answer to its push, so all is written before that.
"""

from ..domain.deliveries import Delivery, Settlement
from ..domain.messages.queue_messages import delivery_message
from ..domain.record.logs import Operation
from ..domain.replays import is_catch_up
from ..domain.suspension import Suspension
from ..ports import EndLog, MissedEvents, Publisher, ReplayCounts, RetrySchedule, Subscriptions


class QueueSettlements:
    """One write for each settlement, none for a delivery that arrived; a suspension comes after the end's.

    What a suspension holds back moves the beginning of catching up in the same way.

    A push that is repeated after the write repeats it: the same retry entry, one more in the end's count, or
    one more message in the lane.
    """

    def __init__(
        self,
        schedule: RetrySchedule,
        log: EndLog,
        publisher: Publisher,
        subscriptions: Subscriptions,
        missed: MissedEvents,
        counts: ReplayCounts,
    ) -> None:
        self._schedule = schedule
        self._log = log
        self._publisher = publisher
        self._subscriptions = subscriptions
        self._missed = missed
        self._counts = counts

    async def settle(self, settlement: Settlement) -> None:
        """Port `Settlements`; raises PublishFailed too, when a lane's topic takes nothing."""
        if settlement.retry_at is not None:
            await self._schedule.schedule(settlement.delivery, settlement.retry_at)
        elif settlement.end is not None:
            if settlement.end.operation is Operation.DROPPED:
                await self._note_missed(settlement.delivery)
            await self._log.record(settlement.delivery, settlement.end)
        elif settlement.back_to_lane:
            topic = topic_of(settlement.delivery)
            await self._publisher.publish(topic, [delivery_message(settlement.delivery)])
        if settlement.suspension is not None:
            await self._suspend(settlement.suspension)
            await self._note_missed(settlement.delivery)
        if (replay_id := settlement.delivery.replay_id) is not None:
            if settlement.is_delivered:
                await self._counts.add(replay_id, delivered=1)
            elif settlement.end is not None:
                await self._counts.add(replay_id, ended=1)

    async def _suspend(self, suspension: Suspension) -> None:
        tried = suspension.tried_under
        await self._subscriptions.change_subscription(
            tried.owner, tried.subscriber_id, tried.id, suspension.of, action=suspension.action
        )

    async def _note_missed(self, delivery: Delivery) -> None:
        """A replay that the suspension ends is not caught up with."""
        if delivery.replay_id is None or is_catch_up(delivery.replay_id):
            await self._missed.note(delivery.subscription_id, delivery.accepted_at)


def topic_of(delivery: Delivery) -> str:
    """The topic that the delivery was pushed from."""
    if not isinstance(delivery.receipt, str):
        raise TypeError("the receipt of a delivery on a topic is the topic's name")
    return delivery.receipt
