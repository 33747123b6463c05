"""Which Pub/Sub topic a change claims and which it releases."""

from dataclasses import replace

import pytest

from event_platform.domain.subscriptions import Subscription, delete_subscription, resume, suspend
from event_platform.domain.topic_claims import is_named_by, topic_named, topic_to_claim, topic_to_release
from support.clock import START
from support.records import PUBSUB_CONFIG, a_subscriber, a_subscription, https_config

ACTIVE = replace(a_subscription(a_subscriber()), config=PUBSUB_CONFIG)
SUSPENDED = suspend(ACTIVE, START)
DELETED = delete_subscription(ACTIVE, START)
TO_HTTPS = replace(ACTIVE, config=https_config())
OTHER_TOPIC = replace(PUBSUB_CONFIG, topic_id="other-events")
MOVED = replace(ACTIVE, config=OTHER_TOPIC)
OTHER_HEADERS = replace(ACTIVE, config=replace(PUBSUB_CONFIG, headers={}))


def test_a_topic_is_kept_while_its_subscription_lives_and_is_of_pubsub() -> None:
    assert [topic_named(each) for each in (ACTIVE, SUSPENDED)] == [PUBSUB_CONFIG] * 2
    assert [topic_named(each) for each in (DELETED, TO_HTTPS)] == [None] * 2
    assert is_named_by(OTHER_HEADERS, PUBSUB_CONFIG)
    assert not is_named_by(MOVED, PUBSUB_CONFIG)
    assert not is_named_by(DELETED, PUBSUB_CONFIG)


@pytest.mark.parametrize(
    ("before", "after", "claimed", "released"),
    [
        (None, ACTIVE, PUBSUB_CONFIG, None),
        (None, TO_HTTPS, None, None),
        (ACTIVE, ACTIVE, None, None),
        (ACTIVE, OTHER_HEADERS, None, None),
        (ACTIVE, MOVED, OTHER_TOPIC, PUBSUB_CONFIG),
        (ACTIVE, TO_HTTPS, None, PUBSUB_CONFIG),
        (TO_HTTPS, ACTIVE, PUBSUB_CONFIG, None),
        (ACTIVE, SUSPENDED, None, None),
        (SUSPENDED, resume(SUSPENDED, START), PUBSUB_CONFIG, None),
        (SUSPENDED, replace(SUSPENDED, events=()), None, None),
        (ACTIVE, DELETED, None, PUBSUB_CONFIG),
        (DELETED, DELETED, None, None),
    ],
)
def test_what_a_change_claims_and_releases(
    before: Subscription | None, after: Subscription, claimed: object, released: object
) -> None:
    assert topic_to_claim(before, after) == claimed
    if before is not None:
        assert topic_to_release(before, after) == released
