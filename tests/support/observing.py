"""Has an observer follow what attempts came to, as the pipeline does."""

from event_platform.deliver import Observer
from event_platform.domain.deliveries import Settlement


async def observe(observer: Observer, settlement: Settlement) -> None:
    if (change := observer.seen(settlement)) is not None:
        await observer.follow(settlement.delivery.subscription_id, change)
