"""Feeds: what the operator has set up so that a PIM's REST API is asked for changes (docs/pim-feed.md)."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
)

MAX_CREDENTIAL_LENGTH = 1024
MAX_KEY_BYTES = 64
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
EVERY_SECONDS, OVERLAP_SECONDS, SETTLE_SECONDS = 300, 120, 60


class ResourceName(StrEnum):
    """The resources of the REST API that are asked for."""

    PRODUCTS = "products"
    PRODUCT_MODELS = "product-models"
    ATTRIBUTES = "attributes"
    ATTRIBUTE_GROUPS = "attribute-groups"
    FAMILIES = "families"
    CATEGORIES = "categories"
    ASSETS = "assets"
    RECORDS = "records"


NAMED_BY_WEBHOOKS = frozenset({ResourceName.PRODUCTS, ResourceName.PRODUCT_MODELS})
"""The resources that the Events API tells of, too."""


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ValueError, OSError) as error:  # ZoneInfoNotFoundError is a KeyError in some versions
        raise ValueError("must be a time zone of IANA, such as Europe/Paris") from error
    except KeyError as error:
        raise ValueError("must be a time zone of IANA, such as Europe/Paris") from error
    return name


Credential = Annotated[str, StringConstraints(min_length=1, max_length=MAX_CREDENTIAL_LENGTH)]
Secret = Annotated[SecretStr, Field(min_length=1, max_length=MAX_CREDENTIAL_LENGTH)]


class Feed(BaseModel):
    """The feed of one PIM: its connection there, and what is asked for how often.

    `version` changes with each change of the settings. `since` is where the first round begins; None stands
    for its own moment. `resources` is empty for all that the PIM has.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    tenant: str
    client_id: Credential
    username: Credential
    secret: Secret
    password: Secret
    resources: tuple[ResourceName, ...] = ()
    every: Annotated[int, Field(ge=60, le=86_400)] = EVERY_SECONDS
    since: AwareDatetime | None = None
    timezone: Annotated[str, AfterValidator(_zone)] | None = None
    overlap: Annotated[int, Field(ge=0, le=86_400)] = OVERLAP_SECONDS
    settle: Annotated[int, Field(ge=0, le=3_600)] = SETTLE_SECONDS
    sweep: Literal["off", "daily"] = "off"
    is_off: bool = False
    version: str = ""
    confirmed_at: AwareDatetime | None = None

    @property
    def has_webhook_notes(self) -> bool:
        """True if what the PIM's webhook brings has to be noted for it: its feed reads the same resources."""
        return not self.is_off and any(name in self.names for name in NAMED_BY_WEBHOOKS)

    @property
    def names(self) -> Sequence[ResourceName]:
        """The resources in the order in which they are asked for."""
        return [name for name in ResourceName if not self.resources or name in self.resources]


class Shape(StrEnum):
    """The dates that the items of a resource have."""

    DATED = "dated"
    UPDATED_ONLY = "updated-only"
    UNDATED = "undated"


class _State(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Round(_State):
    """A round that has begun: what it asks for, and how far it has come.

    It is about what was changed after `lower` up to `upper`, which the first answer says; without `lower` it
    is about everything. `next` is the path and query of the next page, None before the first. `parents` are
    the families that are still to be read after `parent`. `mark` is an earlier page's path, by which a circle
    of pages is noticed, and `of_list` counts the pages of the list that is being read.
    """

    lower: AwareDatetime | None
    upper: AwareDatetime | None = None
    emits: bool = True
    is_backfill: bool = False
    parents: tuple[str, ...] | None = None
    parent: str | None = None
    next: str | None = None
    pages: int = 0
    of_list: int = 0
    mark: str = ""
    limit: int = 100
    items_count: int | None = None
    restarts: int = 0
    found: int = 0


class Sweep(_State):
    """A list of all identities that is being read, or was read last."""

    number: int = 0
    stage: Literal["idle", "listing", "asking", "held"] = "idle"
    begun_at: AwareDatetime | None = None
    done_at: AwareDatetime | None = None
    held_at: AwareDatetime | None = None
    held_because: str = ""
    listed: int = 0
    gone: int = 0
    reading: Round | None = None


class ResourceState(_State):
    """The progress of the feed of one resource, which is complete up to `cursor`."""

    begun: AwareDatetime | None = None
    cursor: AwareDatetime | None = None
    stage: Literal["learning", "backfill", "changes"] = "learning"
    shape: Shape | None = None
    route: str = ""
    offset_minutes: int | None = None
    offset_of: AwareDatetime | None = None
    round: Round | None = None
    sweep: Sweep = Sweep()
    missing: bool = False
    succeeded_at: AwareDatetime | None = None
    asked_again_at: AwareDatetime | None = None
    found: int = 0
    sent: int = 0
    skipped: int = 0
    error: str | None = None
    reason: str | None = None
    failed_since: AwareDatetime | None = None
    failures: int = 0


class Mark(BaseModel):
    """The dates of an entity when the feed found it last, in unix seconds, or the hash of it."""

    model_config = ConfigDict(frozen=True)

    created: int | None = None
    updated: int | None = None
    digest: bytes | None = None


def to_move(feed: Feed, states: Mapping[ResourceName, ResourceState]) -> Feed:
    """Returns the feed as it moves to another platform: off, and to begin from where it is complete here."""
    cursors = [states[name].cursor for name in feed.names if name in states and not states[name].missing]
    since = min((cursor for cursor in cursors if cursor is not None), default=feed.since)
    return feed.model_copy(update={"is_off": True, "since": since, "confirmed_at": None})


def is_behind(state: ResourceState, feed: Feed, now: datetime) -> bool:
    """True if a resource was not complete for three rounds, though the PIM has it."""
    if state.missing or feed.is_off:
        return False
    last = state.succeeded_at or state.failed_since
    return last is not None and (now - last).total_seconds() > max(3 * feed.every, 900)


def problem_of(state: ResourceState) -> str:
    """Returns what the operator should look at; empty if there is nothing."""
    if state.error is not None and not state.missing:
        return state.error
    if state.sweep.stage == "held":
        return f"{state.sweep.gone} deletions are held back, as {state.sweep.held_because}"
    return ""


def key_of(identity: tuple[str, ...]) -> bytes:
    """Returns the bytes that stand for an identity within its resource.

    They are in the order in which a PIM lists its items, so that those of a page lie together in a file.
    """
    if len(identity) == 1 and _UUID.fullmatch(identity[0]) is not None:
        return bytes.fromhex(identity[0].replace("-", ""))
    text = "\n".join(identity).encode()
    return text if len(text) <= MAX_KEY_BYTES else text[:32] + hashlib.sha256(text).digest()[:16]
