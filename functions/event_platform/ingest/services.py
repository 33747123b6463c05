"""The services of ingest: everything that its use cases need."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..domain.events.catalog import Catalog
from ..domain.events.event import Event
from ..domain.tenants import Way
from ..ports import (
    Clock,
    IngestObserver,
    Intake,
    IntakeAtOnce,
    Reader,
    RegistryAtOnce,
    TenantRegistry,
    WebhookNotes,
)


@dataclass(frozen=True, slots=True)
class AtOnce:
    """The services of the short way."""

    registry: RegistryAtOnce
    intake: IntakeAtOnce


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingest:
    """The services of ingest. With `names_events` its log lines name the events that it accepts.

    With `at_once` the usual requests to /ingest have a short way.
    """

    registry: TenantRegistry
    intake: Intake
    catalog: Catalog
    clock: Clock
    reader: Reader
    names_events: bool = False
    at_once: AtOnce | None = None
    observer: IngestObserver = field(default_factory=lambda: _Nobody())
    webhooks: WebhookNotes = field(default_factory=lambda: _NoFeeds())


class _Nobody:
    """Observes nothing."""

    def taken(self, tenant: str, way: Way, events: int) -> None: ...

    def refused(self, tenant: str, way: Way, status: int, reason: str) -> None: ...


class _NoFeeds:
    """The notes of a platform without feeds."""

    def wants(self, tenant: str) -> bool:
        return False

    async def note(self, tenant: str, events: Sequence[Event], updated: Sequence[int]) -> None: ...
