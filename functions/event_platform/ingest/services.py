"""The services of ingest: everything that its use cases need."""

from dataclasses import dataclass, field

from ..domain.events.catalog import Catalog
from ..domain.tenants import Way
from ..ports import Clock, IngestObserver, Intake, Reader, TenantRegistry


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingest:
    """The services of ingest."""

    registry: TenantRegistry
    intake: Intake
    catalog: Catalog
    clock: Clock
    reader: Reader
    observer: IngestObserver = field(default_factory=lambda: _Nobody())


class _Nobody:
    """Observes nothing."""

    def taken(self, tenant: str, way: Way, events: int) -> None: ...

    def refused(self, tenant: str, way: Way, status: int, reason: str) -> None: ...
