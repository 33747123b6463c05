"""The content of the Firestore database, as data: collections, indexes, and the fields of expiry.

The adapters write by these names and the infrastructure sets the database up by them; `docs/data-model.md`
describes the documents.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, TypeAlias

SUBSCRIBERS = "subscribers"
SUBSCRIPTIONS = "subscriptions"
OPEN_SUBSCRIBERS = "open_subscribers"
SLOTS = "slots"
PACES = "paces"
VERSIONS = "versions"
TENANTS = "tenants"
RETRIES = "retries"
LEASES = "leases"
LOG_ENTRIES = "log_entries"
SUCCESS_COUNTS = "success_counts"
NOTIFICATIONS = "notifications"
TOPIC_CLAIMS = "topic_claims"
NOTIFICATION_COUNTS = "notification_counts"
REPLAYS = "replays"
FEEDS = "feeds"
FEED_STATES = "feed_states"
FEED_MARKS = "feed_marks"
FEED_LISTED = "feed_listed"
FEED_NOTES = "feed_notes"

EXPIRES_AT = "expires_at"
"""The field with the time after which Firestore deletes a document of a collection of `EXPIRING`."""


Order: TypeAlias = Literal["ASCENDING", "DESCENDING"]


@dataclass(frozen=True, slots=True)
class Index:
    """A composite index, its fields in their order."""

    collection: str
    fields: Sequence[tuple[str, Order]]


LOG_SCOPES: Sequence[str] = ("", "subscriber_id", "subscription_id")
LOG_KINDS: Sequence[str] = ("", "log_type", "operation", "error_reason")
"""The filters of a client's log: one of each, with two indexes for every pair ("" is no filter)."""


def _of_log(scope: str, kind: str, order: Order) -> Index:
    """Firestore reads an index in its own order only."""
    equal: list[tuple[str, Order]] = [(name, "ASCENDING") for name in (scope, kind) if name]
    owner: tuple[tuple[str, Order], ...] = (("tenant", "ASCENDING"), ("client_id", "ASCENDING"))
    return Index(LOG_ENTRIES, (*owner, *equal, ("at", order), ("id", order)))


_ORDERS: Sequence[Order] = ("ASCENDING", "DESCENDING")

INDEXES: Sequence[Index] = (
    Index(SUBSCRIBERS, (("tenant", "ASCENDING"), ("client_id", "ASCENDING"), ("status", "ASCENDING"))),
    Index(SUBSCRIPTIONS, (("subscriber_id", "ASCENDING"), ("status", "ASCENDING"))),
    Index(SUBSCRIPTIONS, (("tenant", "ASCENDING"), ("status", "ASCENDING"))),
    Index(REPLAYS, (("subscription_id", "ASCENDING"), ("kind", "ASCENDING"), ("created_at", "DESCENDING"))),
    Index(REPLAYS, (("subscription_id", "ASCENDING"), ("kind", "ASCENDING"), ("status", "ASCENDING"))),
    *(_of_log(scope, kind, order) for scope, kind, order in product(LOG_SCOPES, LOG_KINDS, _ORDERS)),
)
"""The indexes that the queries of the adapters need beside the indexes of single fields."""

UNINDEXED: Mapping[str, Sequence[str]] = {
    SUBSCRIBERS: ("document", "slot", "change", EXPIRES_AT),
    SUBSCRIPTIONS: ("document", "slot", "change", EXPIRES_AT),
    OPEN_SUBSCRIBERS: ("changes",),
    SLOTS: ("number", "record"),
    TOPIC_CLAIMS: ("tenant", "client_id", "changes"),
    PACES: ("since", "base", "ceiling", "held_until", EXPIRES_AT),
    VERSIONS: ("tenants", "version"),
    TENANTS: ("name", "document"),
    RETRIES: (
        "subscription_id",
        "event_id",
        "event_type",
        "accepted_at",
        "lane",
        "lanes",
        "epoch",
        "attempts",
        "failures",
        "first_attempt_at",
        "body",
        "receipt",
        "replay_id",
        "entered_at",
        EXPIRES_AT,
    ),
    LEASES: ("token", "until"),
    SUCCESS_COUNTS: ("minutes", "successes", EXPIRES_AT),
    NOTIFICATIONS: ("document", "mail_attempts", EXPIRES_AT),
    NOTIFICATION_COUNTS: ("count", EXPIRES_AT),
    REPLAYS: (
        "tenant",
        "key",
        "epoch",
        "since",
        "until",
        "asked",
        "reason",
        "ended_at",
        "pushed_at",
        "watched_at",
        "is_cut",
        "events",
        "delivered",
        "ended",
        EXPIRES_AT,
    ),
    FEEDS: ("tenant", "version", "document", "has_notes", "step", "due_at"),
    FEED_STATES: ("state",),
    FEED_MARKS: ("created", "updated", "digest"),
    FEED_LISTED: ("identity", "identifier"),
    FEED_NOTES: ("entities", "removed", EXPIRES_AT),
    LOG_ENTRIES: (
        "id",
        "tenant",
        "client_id",
        "log_type",
        "at",
        "operation",
        "subscriber_id",
        "subscription_id",
        "error_type",
        "error_reason",
        "error_code",
        "error_message",
        "request",
        "response",
        "occurrences",
        "events",
        EXPIRES_AT,
    ),
}
"""Fields without the index that Firestore keeps of every field by itself.

Nobody asks for them; an index costs storage and time at each write, and one of rising times is a hot spot. An
exemption of a map covers what is in it, and composite indexes stay as they are."""

EXPIRING: Sequence[str] = (
    SUBSCRIBERS,
    SUBSCRIPTIONS,
    PACES,
    RETRIES,
    LOG_ENTRIES,
    SUCCESS_COUNTS,
    NOTIFICATIONS,
    NOTIFICATION_COUNTS,
    REPLAYS,
    FEED_NOTES,
)
"""The collections with a TTL policy on `EXPIRES_AT`."""
