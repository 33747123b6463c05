"""The IAM permissions of each function, as data: what it calls needs these and no others.

The infrastructure gives them to the functions' service accounts. A test on emulators holds them against the
calls that the functions make. https://cloud.google.com/firestore/native/docs/security/iam
"""

from collections.abc import Mapping

from .domain.messages.queue_messages import DEAD_LETTERS_TOPIC, EVENTS_TOPIC, NOTIFICATIONS_TOPIC

ENTITIES_GET = "datastore.entities.get"
ENTITIES_LIST = "datastore.entities.list"
ENTITIES_CREATE = "datastore.entities.create"
ENTITIES_UPDATE = "datastore.entities.update"
ENTITIES_DELETE = "datastore.entities.delete"
TOPICS_PUBLISH = "pubsub.topics.publish"
TOPICS_ATTACH = "pubsub.topics.attachSubscription"
SUBSCRIPTIONS_CREATE = "pubsub.subscriptions.create"
SUBSCRIPTIONS_CONSUME = "pubsub.subscriptions.consume"
SUBSCRIPTIONS_DELETE = "pubsub.subscriptions.delete"

_READ = frozenset({ENTITIES_GET, ENTITIES_LIST})
_WRITE = frozenset({ENTITIES_CREATE, ENTITIES_UPDATE})

_REPLAY = frozenset({TOPICS_ATTACH, SUBSCRIPTIONS_CREATE, SUBSCRIPTIONS_CONSUME, SUBSCRIPTIONS_DELETE})

PERMISSIONS: Mapping[str, frozenset[str]] = {
    "manage": _READ | _WRITE | {ENTITIES_DELETE, TOPICS_PUBLISH},
    "ingest": _READ | {TOPICS_PUBLISH},
    "fanout": _READ | _WRITE | {ENTITIES_DELETE, TOPICS_PUBLISH},
    "deliver": _READ | _WRITE | {TOPICS_PUBLISH},
    "maintain": _READ | _WRITE | _REPLAY | {ENTITIES_DELETE, TOPICS_PUBLISH},
    "notify": _READ | _WRITE | {ENTITIES_DELETE, TOPICS_PUBLISH},
}
"""The permissions of each function, by its name in `main.py`."""

PERMISSIONS_FOR_FEEDS: Mapping[str, frozenset[str]] = {"ingest": frozenset({ENTITIES_CREATE})}
"""The permissions that functions have beside these in a stack with a key of feeds.

Ingest notes what webhooks bring. Firestore knows no rights on a collection, so it could create any document.
"""

DELIVERIES_TOPICS = "deliveries"
"""The beginning of `deliveries-0`, `deliveries-1`, …"""

PUBLISHES_TO: Mapping[str, frozenset[str]] = {
    "manage": frozenset({EVENTS_TOPIC, NOTIFICATIONS_TOPIC}),
    "ingest": frozenset({EVENTS_TOPIC}),
    "fanout": frozenset({DELIVERIES_TOPICS, NOTIFICATIONS_TOPIC, DEAD_LETTERS_TOPIC}),
    "deliver": frozenset({DELIVERIES_TOPICS, NOTIFICATIONS_TOPIC, DEAD_LETTERS_TOPIC}),
    "maintain": frozenset({DELIVERIES_TOPICS, NOTIFICATIONS_TOPIC, DEAD_LETTERS_TOPIC}),
    "notify": frozenset({DEAD_LETTERS_TOPIC}),
}
"""The topics to which each function is permitted to publish."""

PUBLISHES_FOR_FEEDS: Mapping[str, frozenset[str]] = {"maintain": frozenset({EVENTS_TOPIC})}
"""The topics beside these in a stack with a key of feeds: what feeds find goes where ingest leaves events."""


def permissions_of(function: str, *, feeds: bool) -> frozenset[str]:
    """Returns the permissions of a function, in a stack that has feeds or not."""
    return PERMISSIONS[function] | (
        PERMISSIONS_FOR_FEEDS.get(function, frozenset()) if feeds else frozenset()
    )


def topics_of(function: str, *, feeds: bool) -> frozenset[str]:
    """Returns the topics to which a function publishes, in a stack that has feeds or not."""
    more = PUBLISHES_FOR_FEEDS if feeds else {}
    return PUBLISHES_TO[function] | more.get(function, frozenset())


PERMISSIONS_OF_CALLS: Mapping[str, frozenset[str]] = {
    "Firestore/BatchGetDocuments": frozenset({ENTITIES_GET}),
    "Firestore/RunQuery": _READ,
    "Firestore/Commit, a write that must create": frozenset({ENTITIES_CREATE}),
    "Firestore/Commit, a write to what exists": frozenset({ENTITIES_UPDATE}),
    "Firestore/Commit, a write to whatever is there": _WRITE,
    "Firestore/Commit, a deletion": frozenset({ENTITIES_DELETE}),
    "Publisher/Publish": frozenset({TOPICS_PUBLISH}),
    "Subscriber/CreateSubscription": frozenset({SUBSCRIPTIONS_CREATE, TOPICS_ATTACH}),
    "Subscriber/Seek": frozenset({SUBSCRIPTIONS_CONSUME}),
    "Subscriber/DeleteSubscription": frozenset({SUBSCRIPTIONS_DELETE}),
}
"""The permissions that Google asks for, by method, and for Commit by each kind of write."""
