"""Seals the secrets in Firestore anew, with the first of the keys, while the functions run."""

from typing import TYPE_CHECKING

from event_platform import data_model
from event_platform.adapters.seal import SplitSeal
from event_platform.ports import Seal

from ..store.reseal import RESEALS, Reseal, resealed_text
from .connection import firestore_of

if TYPE_CHECKING:
    from google.cloud.firestore_v1 import AsyncDocumentReference

    from event_platform.adapters.firestore.client import Firestore

PAGE = 200


async def reseal(project: str, seal: SplitSeal) -> tuple[int, int]:
    """Seals all secrets anew; returns the number of changed records, and of feeds that were left.

    Feeds are left where their key is not known. Each record is written only over the version that was read.
    After an end at any moment it can be run again. Raises WrongKey when a record was sealed with none of the
    keys, NoGooglePackages, GoogleFailed.
    """
    async with firestore_of(project) as firestore:
        left = 0 if seal.feeds is not None else await _number_of_feeds(firestore)
        resealed = {
            name: each for name, each in RESEALS.items() if seal.feeds is not None or name != data_model.FEEDS
        }
        records = [await _reseal_all(firestore, name, each, seal) for name, each in resealed.items()]
        return sum(records), left


async def _number_of_feeds(firestore: "Firestore") -> int:
    from google.cloud.firestore_v1 import AsyncQuery

    feeds = AsyncQuery(firestore.client.collection(data_model.FEEDS))
    return len(await firestore.query(feeds.select([])))


async def _reseal_all(firestore: "Firestore", collection: str, resealed: Reseal, seal: Seal) -> int:
    from google.cloud.firestore_v1 import AsyncQuery

    query = AsyncQuery(firestore.client.collection(collection)).order_by("__name__").limit(PAGE)
    records = 0
    while page := await firestore.query(query):
        for snapshot in page:
            records += await _reseal_one(firestore, snapshot.reference, resealed, seal)
        query = query.start_after(page[-1])
    return records


async def _reseal_one(
    firestore: "Firestore", reference: "AsyncDocumentReference", resealed: Reseal, seal: Seal
) -> bool:
    from event_platform.adapters.firestore.client import MISSING, PRECONDITION_FAILED

    async def job() -> bool:
        snapshot = await firestore.get(reference)
        if not snapshot.exists:
            return False  # has expired meanwhile
        text = resealed_text(snapshot.get("document"), resealed, seal, of=reference.path)
        batch = firestore.client.batch()
        same = firestore.client.write_option(last_update_time=snapshot.update_time)
        batch.update(reference, {"document": text}, option=same)
        await firestore.commit(batch)
        return True

    return await firestore.run(job, raced=[PRECONDITION_FAILED, MISSING])
