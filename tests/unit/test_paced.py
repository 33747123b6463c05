"""What is sent, and what ends unsent."""

from dataclasses import replace

import pytest

from event_platform.domain.paced import to_be_sent
from event_platform.domain.subscriptions import Status, Subscription
from support.records import a_subscriber, a_subscription

ACTIVE = a_subscription(a_subscriber())
REPLAYING = replace(ACTIVE, replay_id="a replay")


@pytest.mark.parametrize(
    ("subscription", "epoch", "replay_id", "is_sent"),
    [
        (ACTIVE, ACTIVE.epoch, None, True),
        (ACTIVE, ACTIVE.epoch + 1, None, False),
        (replace(ACTIVE, status=Status.SUSPENDED), ACTIVE.epoch, None, False),
        (None, 0, None, False),
        (REPLAYING, ACTIVE.epoch, None, True),
        (REPLAYING, ACTIVE.epoch, "a replay", True),
        (REPLAYING, ACTIVE.epoch, "one that has ended", False),
        (ACTIVE, ACTIVE.epoch, "one that has ended", False),
    ],
)
def test_what_is_sent(
    subscription: Subscription | None, epoch: int, replay_id: str | None, is_sent: bool
) -> None:
    assert to_be_sent(subscription, epoch, replay_id) is (subscription if is_sent else None)
