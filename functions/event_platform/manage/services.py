"""The services of the management API, which every use case takes."""

from dataclasses import dataclass, field

from ..domain.attempts.broker_messages import TopicRules
from ..domain.events import catalog
from ..domain.events.catalog import Catalog
from ..ports import (
    Clock,
    DestinationGuard,
    FailedAttempts,
    Intake,
    KeptEvents,
    Logs,
    Replays,
    Sender,
    Subscriptions,
    TopicLabels,
    WaitingRetries,
)
from .identity import Caller, CallerVerifier
from .payloads.body import Rules
from .topic_proofs import TopicProofs


@dataclass(frozen=True, slots=True, kw_only=True)
class Manage:
    """The parts that the management API works with.

    `public_url` is where clients reach it, when that is known. `catalog` has the event types that
    subscriptions can get, `topics` says which of Pub/Sub's they may name, `topic_labels` reads what is
    written on these. Without `replays` no events are kept here, without `kept` none are shown, and without
    `failures` no failed attempt is. With `catch_up` new subscriptions catch up.
    """

    verifier: CallerVerifier
    subscriptions: Subscriptions
    logs: Logs
    guard: DestinationGuard
    clock: Clock
    intake: Intake
    sender: Sender
    allow_http: bool = False
    public_url: str | None = None
    catalog: Catalog = field(default_factory=catalog.load)
    timeout: float = 5  # seconds, for a whole test
    topics: TopicRules = field(default_factory=TopicRules)
    topic_labels: TopicLabels | None = None
    replays: Replays | None = None
    retries: WaitingRetries | None = None
    kept: KeptEvents | None = None
    failures: FailedAttempts | None = None
    catch_up: bool = False

    def rules_for(self, caller: Caller, *, is_new: bool = True) -> Rules:
        """Returns the rules by which the caller's bodies are valid."""
        return Rules(
            caller.owner.tenant, self.allow_http, is_new=is_new, known=self.catalog, topics=self.topics
        )

    def topic_proofs(self) -> TopicProofs:
        return TopicProofs(self.subscriptions, self.topics, self.topic_labels)
