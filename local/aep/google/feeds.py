"""Feeds in the Firestore of a project, as commands of its operator work on them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from event_platform.adapters.seal import KeylessSeal
from event_platform.domain.feeds import Feed, ResourceName, ResourceState
from event_platform.ports import Seal

from .connection import firestore_of

if TYPE_CHECKING:
    from event_platform.adapters.firestore.client import Firestore


@dataclass(frozen=True, slots=True)
class ProjectFeed:
    """The feed of a PIM: its settings, None if they cannot be understood, and how far it has come."""

    feed: Feed | None
    due_at: datetime | None
    states: Mapping[ResourceName, ResourceState]

    @property
    def is_on(self) -> bool:
        return self.feed is None or not self.feed.is_off


async def read(project: str, tenant: str) -> tuple[Feed | None, Mapping[ResourceName, ResourceState]]:
    """Returns the feed of a PIM, its secrets sealed, and how far it has come; None without one.

    Raises StoreUnavailable, NoGooglePackages, GoogleFailed.
    """
    async with firestore_of(project) as firestore:
        from event_platform.adapters.firestore import feeds

        stored = await feeds.stored_feed(firestore, tenant, KeylessSeal())
        return (None if stored is None else stored.feed), await feeds.states_of(firestore, tenant)


async def read_all(project: str) -> Mapping[str, ProjectFeed]:
    """Returns the feeds of all PIMs. Raises StoreUnavailable, NoGooglePackages, GoogleFailed."""
    async with firestore_of(project) as firestore:
        return await read_all_from(firestore)


async def read_all_from(firestore: "Firestore") -> Mapping[str, ProjectFeed]:
    """Does the same as `read_all`, over a connection. Raises StoreUnavailable, and what Google refuses."""
    from event_platform.adapters.firestore import feeds

    stored = await feeds.stored_feeds(firestore, KeylessSeal())
    states = await feeds.all_states(firestore)
    return {
        each.tenant: ProjectFeed(
            each.feed, each.due_at or each.written_at, states.get(feeds.feed_key(each.tenant), {})
        )
        for each in sorted(stored, key=lambda each: each.tenant)
    }


async def put(project: str, feed: Feed, seal: Seal, *, begins_again: bool) -> None:
    """Adds or replaces the settings of a feed. With `begins_again` it forgets how far it has come.

    Raises StoreUnavailable, NoGooglePackages, GoogleFailed.
    """
    async with firestore_of(project) as firestore:
        from event_platform.adapters.firestore import feeds

        if begins_again:  # nothing is read while it forgets
            await feeds.put(firestore, feed.model_copy(update={"is_off": True}), seal)
            await feeds.begin_again(firestore, feed.tenant)
        await feeds.put(firestore, feed, seal)
