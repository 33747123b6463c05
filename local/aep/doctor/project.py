"""Checks of a project of Google Cloud by what its Firestore holds: the registry of PIMs, and feeds."""

from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from event_platform.adapters.seal import KeylessSeal
from event_platform.domain.errors import StoreUnavailable
from event_platform.domain.tenants import PIMS_NAMED
from event_platform.domain.words import counted

from ..errors import GoogleFailed
from ..google import feeds
from ..google import registry as on_google
from ..google.connection import firestore_of
from ..google.feeds import ProjectFeed
from . import registry
from .findings import Check, missing, ok, problem

if TYPE_CHECKING:
    from event_platform.adapters.firestore.client import Firestore

NOT_READ_AFTER = timedelta(minutes=15)
"""The time after which a feed that is due and was not read has nobody that reads it."""


async def everything(project: str) -> AsyncIterator[Check]:
    """Runs the checks of a project, by the operator's own credentials. Raises NoGooglePackages."""
    try:
        async with firestore_of(project) as firestore:
            yield await pims(firestore)
            async for check in of_feeds(firestore):
                yield check
    except (GoogleFailed, StoreUnavailable) as error:
        yield problem("firestore", str(error))


async def pims(firestore: "Firestore") -> Check:
    """Checks that the entries of the registry can be understood."""
    entries = await on_google.read_from(firestore, KeylessSeal())
    project: str = firestore.client.project
    if unreadable := sorted(entry.name for entry in entries if entry.tenant is None):
        return problem(
            "pims",
            f"the functions ignore {', '.join(unreadable[:PIMS_NAMED])}, whose entry cannot be understood:"
            f" `aep pims remove URL --google {project}`, then add it again",
        )
    if not entries:
        return missing("pims", f"none in Firestore: `aep pims add URL --google {project}` adds one")
    return ok("pims", f"{len(entries)} in Firestore")


async def of_feeds(firestore: "Firestore") -> AsyncIterator[Check]:
    """Checks that feeds read what they ask for; nothing where there is no feed."""
    found = {name: each for name, each in (await feeds.read_all_from(firestore)).items() if each.is_on}
    if found:
        states = {name: each.states for name, each in found.items()}
        others = list(_of_settings(found, datetime.now(UTC)))
        yield registry.check_of(states, others, f" --google {firestore.client.project}")


def _of_settings(found: Mapping[str, ProjectFeed], now: datetime) -> Iterator[str]:
    for name, each in found.items():
        if each.feed is None:
            yield f"{name}: its settings cannot be understood, so it does not run; set it up anew"
    if late := [each for each in found.values() if each.due_at and each.due_at < now - NOT_READ_AFTER]:
        yield (
            f"{counted(len(late), 'feed')} due for {NOT_READ_AFTER.seconds // 60} minutes and not read: the"
            " stack needs a `feedKey`, and its job event-platform-feeds must run"
        )
