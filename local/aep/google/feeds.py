"""Feeds in the Firestore of a project, as a command of its operator works on them."""

from collections.abc import Mapping

from event_platform.adapters.seal import KeylessSeal
from event_platform.domain.feeds import Feed, ResourceName, ResourceState
from event_platform.ports import Seal

from .connection import firestore_of


async def read(project: str, tenant: str) -> tuple[Feed | None, Mapping[ResourceName, ResourceState]]:
    """Returns the feed of a PIM, its secrets sealed, and how far it has come; None without one.

    Raises StoreUnavailable, NoGooglePackages, GoogleFailed.
    """
    async with firestore_of(project) as firestore:
        from event_platform.adapters.firestore import feeds

        stored = await feeds.stored_feed(firestore, tenant, KeylessSeal())
        return (None if stored is None else stored.feed), await feeds.states_of(firestore, tenant)


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
