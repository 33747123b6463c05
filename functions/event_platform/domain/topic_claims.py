"""The client that holds a Pub/Sub topic.

Whoever names a topic first holds it, without any proof, until none of its subscriptions names it any more.
Another client that proves that the topic is its own takes it, and suspends the subscriptions of the first.
"""

from .record.actions import Action, Actor
from .subscriptions import PubSubConfig, Status, Subscription

PROOF_LABEL = "aep-subscription"
"""The topic's label whose value is the id of a subscription, or of its subscriber."""
LOST = Action(
    Actor.PLATFORM,
    reason=f"the topic is another client's: its label {PROOF_LABEL} names a record of that client",
)
"""Suspends a subscription whose topic another client has proved to be its own."""


def topic_named(subscription: Subscription) -> PubSubConfig | None:
    """The topic that the subscription keeps from other clients, also while it is suspended."""
    if subscription.status not in (Status.ACTIVE, Status.SUSPENDED):
        return None
    return subscription.config if isinstance(subscription.config, PubSubConfig) else None


def topic_to_claim(before: Subscription | None, after: Subscription) -> PubSubConfig | None:
    """The topic that the client must hold for this change: a new one, or that of a resumed subscription.

    `before` is None for a subscription that is created.
    """
    named = topic_named(after)
    if named is None or before is None or not is_named_by(before, named):
        return named
    return named if before.status is not Status.ACTIVE and after.status is Status.ACTIVE else None


def topic_to_release(before: Subscription, after: Subscription) -> PubSubConfig | None:
    """The topic that the subscription does not name any more."""
    named = topic_named(before)
    return named if named is not None and not is_named_by(after, named) else None


def is_named_by(subscription: Subscription, topic: PubSubConfig) -> bool:
    """True if the subscription names the same topic."""
    named = topic_named(subscription)
    return named is not None and named.destination == topic.destination
