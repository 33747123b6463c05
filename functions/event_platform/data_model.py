"""What the Firestore database holds, as data: collections, indexes, and which field ends a document's life.

The adapters write by these names and the infrastructure sets the database up by them; `docs/data-model.md`
describes the documents.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

SUBSCRIBERS = "subscribers"
SUBSCRIPTIONS = "subscriptions"
OPEN_SUBSCRIBERS = "open_subscribers"
SLOTS = "slots"
VERSIONS = "versions"
TENANTS = "tenants"
RETRIES = "retries"
LEASES = "leases"
LOG_ENTRIES = "log_entries"
ACTIONS = "actions"
SUCCESS_COUNTS = "success_counts"

EXPIRES_AT = "expires_at"
"""In every collection of `EXPIRING`: the time after which Firestore deletes the document by itself."""


@dataclass(frozen=True, slots=True)
class Index:
    """A composite index, its fields in their order."""

    collection: str
    fields: Sequence[tuple[str, Literal["ASCENDING", "DESCENDING"]]]


INDEXES: Sequence[Index] = (
    Index(SUBSCRIBERS, (("tenant", "ASCENDING"), ("client_id", "ASCENDING"), ("status", "ASCENDING"))),
    Index(SUBSCRIPTIONS, (("subscriber_id", "ASCENDING"), ("status", "ASCENDING"))),
    Index(SUBSCRIPTIONS, (("tenant", "ASCENDING"), ("status", "ASCENDING"))),
    Index(LOG_ENTRIES, (("subscription_id", "ASCENDING"), ("at", "DESCENDING"))),
)
"""All that the queries of the adapters need beside the indexes of single fields."""

UNINDEXED: Mapping[str, Sequence[str]] = {
    SUBSCRIBERS: ("document", "slot", "change", EXPIRES_AT),
    SUBSCRIPTIONS: ("document", "slot", "change", EXPIRES_AT),
    OPEN_SUBSCRIBERS: ("changes",),
    SLOTS: ("number", "record"),
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
        EXPIRES_AT,
    ),
    LEASES: ("token", "until"),
    ACTIONS: (
        "tenant",
        "client_id",
        "operation",
        "subscriber_id",
        "subscription_id",
        "message",
        "request",
        "response",
        "at",
        EXPIRES_AT,
    ),
    SUCCESS_COUNTS: ("minutes", EXPIRES_AT),
    LOG_ENTRIES: (
        "entry",
        "subscription_id",
        "operation",
        "message",
        "reason",
        "status",
        "excerpt",
        "occurrences",
        "events",
        "first_at",
        "at",
        EXPIRES_AT,
    ),
}
"""Fields without the index that Firestore keeps of every field by itself.

Nobody asks for them; an index costs storage and time at each write, and one of rising times is a hot spot. An
exemption of a map covers what is in it, and composite indexes stay as they are."""

EXPIRING: Sequence[str] = (SUBSCRIBERS, SUBSCRIPTIONS, RETRIES, LOG_ENTRIES, ACTIONS, SUCCESS_COUNTS)
"""The collections with a TTL policy on `EXPIRES_AT`."""
