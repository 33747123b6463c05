"""The proof that a Pub/Sub topic is a client's own: a label that only the topic's owner can set."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ..domain.attempts.broker_messages import TopicRules
from ..domain.errors import InvalidRequest, Problem, TopicHeld
from ..domain.subscriptions import Owner, Subscription
from ..domain.topic_claims import PROOF_LABEL
from ..ports import Subscriptions, TopicLabels


@dataclass(frozen=True, slots=True)
class TopicProofs:
    """Decides whether a client may take a topic that another one holds. Without `labels` it never may."""

    subscriptions: Subscriptions
    rules: TopicRules
    labels: TopicLabels | None = None

    async def proving(
        self, owner: Owner, subscriber_id: str, change: Callable[[bool], Awaitable[Subscription]]
    ) -> Subscription:
        """Makes the change, called with True to take the topic once that is proved.

        Raises InvalidRequest, which says how to prove it, and what `change` raises.
        """
        try:
            return await change(False)
        except TopicHeld as held:
            if not await self._is_proved(owner, held):
                raise InvalidRequest(Problem("config.topic_id", self._what_to_do(subscriber_id))) from held
        return await change(True)

    def _what_to_do(self, subscriber_id: str) -> str:
        account = self.rules.account or "the platform's account for destinations"
        return (
            f"is named by another client here; if the topic is yours, set its label {PROOF_LABEL} to"
            f" {subscriber_id}, your subscriber's id (or to the id of one of your subscriptions), let"
            f" {account} read it (roles/pubsub.viewer on the topic) and try again"
        )

    async def _is_proved(self, owner: Owner, held: TopicHeld) -> bool:
        if self.labels is None:
            return False
        named = await self.labels.label(held.project_id, held.topic_id, PROOF_LABEL)
        if named is None:
            return False
        for subscriber in await self.subscriptions.subscribers(owner):
            if named == subscriber.id:
                return True
            found = await self.subscriptions.subscriptions(owner, subscriber.id)
            if any(named == subscription.id for subscription in found):
                return True
        return False
