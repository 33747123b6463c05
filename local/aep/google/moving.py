"""Takes records out of Firestore, and adds those of another store to it; both can be repeated at any
moment.
"""

from collections.abc import Iterable
from itertools import chain
from typing import TYPE_CHECKING, Any

import orjson

from event_platform.adapters.seal import KeylessSeal, SplitSeal
from event_platform.documents import tenant_of
from event_platform.domain.errors import Conflict
from event_platform.domain.feeds import Feed
from event_platform.ports import Seal

from ..errors import MoveRefused, WrongKey
from ..store.export_file import Records, records_of
from ..store.reseal import RESEALS
from .connection import firestore_of

if TYPE_CHECKING:
    from google.cloud.firestore_v1 import AsyncTransaction

    from event_platform.adapters.firestore.client import Firestore
    from event_platform.domain.tenants import Tenant


async def take_out(project: str, seal: SplitSeal) -> tuple[Records, int]:
    """Returns the records that move, all of one moment, and the number of feeds that stay.

    Feeds stay where their key is not known. Raises WrongKey, NoGooglePackages, GoogleFailed.
    """
    async with firestore_of(project) as firestore:
        from event_platform.adapters.firestore.feeds import all_states, feed_key

        documents = await _documents(firestore, RESEALS)
        found = await all_states(firestore)
        feeds = documents["feeds"]
        states = {each["tenant"]: found.get(feed_key(each["tenant"]), {}) for each in feeds}
        if seal.feeds is None:
            return records_of({**documents, "feeds": []}, states, seal), len(feeds)
        return records_of(documents, states, seal), 0


async def bring_in(project: str, seal: SplitSeal, records: Records, *, buckets: int) -> int:
    """Adds the records that are not here yet; returns their number.

    A feed that is here stays as it is. Without their key there must be no feeds.

    `buckets` is AEP_VERSION_BUCKETS of the functions. All records are checked before anything is written. A
    subscriber and its subscriptions come at once; the PIMs come last, so that no event is taken in before its
    subscriptions are there. Raises MoveRefused when a record is here with other content, or there would be
    too many; WrongKey, StoreUnavailable, NoGooglePackages, GoogleFailed.
    """
    async with firestore_of(project) as firestore:
        from event_platform.adapters.clock import SystemClock
        from event_platform.adapters.firestore import feeds, tenants
        from event_platform.adapters.firestore.subscriptions import FirestoreSubscriptions

        store = FirestoreSubscriptions(firestore, seal, SystemClock(), buckets=buckets)
        try:
            new_tenants = await _missing_tenants(firestore, seal, records)
            families = records.families()
            for tenant, of_tenant in families.items():
                await store.check_in(tenant, of_tenant)
            new = 0
            for subscriber, subscriptions in chain.from_iterable(families.values()):
                new += await store.bring_in(subscriber, subscriptions)
        except Conflict as error:
            raise MoveRefused(f"{error}: remove it there, or import into another project") from error
        except ValueError as error:
            raise WrongKey(
                f"a record in Firestore was sealed with another key ({error}): put that behind the others"
            ) from error
        for tenant in new_tenants:
            await tenants.put(firestore, tenant, seal)
        new_feeds = await _missing_feeds(firestore, records)
        for feed in new_feeds:
            await feeds.put(firestore, feed, seal)
        return new + len(new_tenants) + len(new_feeds)


async def _missing_feeds(firestore: "Firestore", records: Records) -> list[Feed]:
    """Returns the feeds of PIMs that have none here."""
    from event_platform.adapters.firestore.feeds import stored_feeds

    here = {each.tenant for each in await stored_feeds(firestore, KeylessSeal())} if records.feeds else ()
    return [feed for feed in records.feeds if feed.tenant not in here]


async def _documents(firestore: "Firestore", collections: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """Returns the documents by their collection, all of one moment."""
    from google.cloud.firestore_v1 import AsyncQuery
    from google.cloud.firestore_v1.async_transaction import async_transactional

    @async_transactional
    async def read(transaction: "AsyncTransaction") -> dict[str, list[dict[str, Any]]]:
        return {
            name: [
                orjson.loads(snapshot.get("document"))
                async for snapshot in AsyncQuery(firestore.client.collection(name)).stream(
                    transaction=transaction
                )
            ]
            for name in collections
        }

    return await read(firestore.client.transaction(read_only=True))


async def _missing_tenants(firestore: "Firestore", seal: Seal, records: Records) -> list["Tenant"]:
    """Returns the PIMs that are not here yet. Raises MoveRefused when one is here with other content."""
    documents = await _documents(firestore, ["tenants"])
    here = {each.name: each for each in (tenant_of(document, seal) for document in documents["tenants"])}
    for tenant in records.tenants:
        if tenant.name in here and here[tenant.name] != tenant:
            raise MoveRefused(f"the PIM {tenant.name} is there already and differs: remove it there")
    return [tenant for tenant in records.tenants if tenant.name not in here]
