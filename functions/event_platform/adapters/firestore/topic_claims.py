"""The client that holds each Pub/Sub topic, in Firestore (`domain/topic_claims.py`).

One document names the topic's holder. Another one counts the changes by which the holder named the topic. A
client that takes or frees the topic deletes the latter, on the condition that nothing was counted meanwhile.
"""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from google.cloud.firestore_v1 import AsyncDocumentReference, AsyncWriteBatch, Increment
from google.cloud.firestore_v1.base_document import DocumentSnapshot

from ... import data_model
from ...domain.errors import TopicHeld
from ...domain.subscriptions import Owner, PubSubConfig
from .client import Firestore

Naming = Callable[[Owner, PubSubConfig], Awaitable[Sequence[DocumentSnapshot]]]
"""The open subscriptions of an owner that name a topic. One try, for a job."""


class TopicClaims:
    """Puts into a batch what makes a topic a client's, or free. Each method is one try, for a job."""

    def __init__(self, firestore: Firestore, naming: Naming) -> None:
        self._firestore = firestore
        self._naming = naming

    async def claim(
        self, batch: AsyncWriteBatch, topic: PubSubConfig, owner: Owner, *, takes_topic: bool
    ) -> Sequence[DocumentSnapshot]:
        """Makes the topic the owner's. Returns the other client's subscriptions that name it.

        Raises TopicHeld when there are any, unless the owner `takes_topic`. The commit fails if the topic was
        claimed, taken or freed meanwhile.
        """
        claim = await self._firestore.get(self._claim_at(topic))
        if not claim.exists:
            batch.create(claim.reference, _fields(owner))
            batch.create(self._uses_at(topic, owner), {"changes": 0})
            return ()
        holder = Owner(claim.get("tenant"), claim.get("client_id"))
        if holder == owner:
            batch.update(self._uses_at(topic, owner), {"changes": Increment(1)})
            return ()
        uses = await self._firestore.get(self._uses_at(topic, holder))  # before the subscriptions
        others = await self._naming(holder, topic)
        if others and not takes_topic:
            raise TopicHeld(topic.project_id, topic.topic_id)
        self._delete(batch, uses)
        batch.update(claim.reference, _fields(owner), option=self._unchanged(claim))
        batch.create(self._uses_at(topic, owner), {"changes": 0})
        return others

    async def claim_if_free(self, batch: AsyncWriteBatch, topic: PubSubConfig, owner: Owner) -> None:
        """Makes the topic the owner's, unless another client holds it."""
        claim = await self._firestore.get(self._claim_at(topic))
        if not claim.exists or Owner(claim.get("tenant"), claim.get("client_id")) == owner:
            await self.claim(batch, topic, owner, takes_topic=False)

    async def release(
        self, batch: AsyncWriteBatch, topic: PubSubConfig, owner: Owner, leaving: Sequence[str]
    ) -> None:
        """Frees the owner's topic if none of its subscriptions but those `leaving` (ids) names it."""
        claim = await self._firestore.get(self._claim_at(topic))
        if not claim.exists or Owner(claim.get("tenant"), claim.get("client_id")) != owner:
            return
        uses = await self._firestore.get(self._uses_at(topic, owner))  # before the subscriptions
        if any(snapshot.id not in leaving for snapshot in await self._naming(owner, topic)):
            return
        self._delete(batch, uses)
        self._delete(batch, claim)

    def _delete(self, batch: AsyncWriteBatch, snapshot: DocumentSnapshot) -> None:
        if snapshot.exists:
            batch.delete(snapshot.reference, option=self._unchanged(snapshot))

    def _unchanged(self, snapshot: DocumentSnapshot) -> Any:
        return self._firestore.client.write_option(last_update_time=snapshot.update_time)

    def _claim_at(self, topic: PubSubConfig) -> AsyncDocumentReference:
        return self._at(topic.destination)

    def _uses_at(self, topic: PubSubConfig, owner: Owner) -> AsyncDocumentReference:
        return self._at(f"{topic.destination}\n{owner.tenant}\n{owner.client_id}")

    def _at(self, name: str) -> AsyncDocumentReference:
        digest = hashlib.sha256(name.encode()).hexdigest()[:32]
        return self._firestore.client.collection(data_model.TOPIC_CLAIMS).document(digest)


def _fields(owner: Owner) -> dict[str, Any]:
    return {"tenant": owner.tenant, "client_id": owner.client_id}
