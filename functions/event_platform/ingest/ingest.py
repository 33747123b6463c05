"""The use cases of ingest: read what a PIM sent, and have it durable (contract/ingest.md 1 to 4)."""

from asyncio import Future
from collections.abc import Callable, Mapping, Sequence

import structlog

from ..domain.errors import TooLarge
from ..domain.events.event import Event
from ..domain.ingest_formats import events_api, relay
from ..domain.line_limit import LineLimit
from ..domain.tenants import Tenant, Way
from ..ports import IntakeAtOnce
from ..reading import Reading
from .reading import read_cloudevents, read_relayed, read_webhook
from .services import Ingest

log = structlog.get_logger()

EVENTS_NAMED = 200
"""The first events of a request. An id has at most 256 characters, and a line of Cloud Logging 256 KiB."""


class Taking:
    """Takes in what a tenant sent, whose credentials are checked. What is accepted is durable."""

    def __init__(self, ingest: Ingest, lines: LineLimit) -> None:
        self._ingest = ingest
        self._lines = lines
        self._reading = Reading(ingest.catalog, ingest.reader)

    async def cloudevents(
        self, tenant: Tenant, body: bytes | bytearray, media_type: str, attributes: Mapping[str, str]
    ) -> int:
        """Returns how many events were accepted, which are all of the body."""
        about = (tenant.name, self._ingest.clock.wall(), media_type, attributes)
        events = await self._reading.run(tenant.key, read_cloudevents, body, *about)
        if events:
            await self._ingest.intake.accept(tenant.name, events, way=Way.CLOUDEVENTS)
        self._note(tenant, Way.CLOUDEVENTS, events)
        return len(events)

    def begin_cloudevents(
        self,
        tenant: Tenant,
        body: bytes,
        media_type: str,
        attributes: Mapping[str, str],
        intake: IntakeAtOnce,
        accepted: Callable[[int | None], None],
    ) -> bool:
        """Begins what `cloudevents` does. False, and nothing done, if that takes more waiting than a commit.

        `accepted` gets the number of events later, or None if they could not be made durable. Raises what
        reading raises.
        """
        if not self._reading.is_here(body):
            return False
        about = (tenant.name, self._ingest.clock.wall(), media_type, attributes)
        events = read_cloudevents(self._ingest.catalog, body, *about)
        submitted = intake.submit(tenant.name, events, way=Way.CLOUDEVENTS) if events else None
        if submitted is None:
            return False

        def committed(future: "Future[object]") -> None:
            if future.cancelled() or future.exception() is not None:
                accepted(None)
                return
            self._note(tenant, Way.CLOUDEVENTS, events)
            accepted(len(events))

        submitted.add_done_callback(committed)
        return True

    async def webhook(self, tenant: Tenant, body: bytes | bytearray) -> events_api.Taken:
        """Returns what was accepted of a webhook, and what was left out."""
        has_feed = self._ingest.webhooks.wants(tenant.name)
        taken = await self._reading.run(tenant.key, read_webhook, body, tenant, has_feed)
        if taken.events:
            await self._ingest.intake.accept(tenant.name, taken.events, way=Way.EVENTS_API)
            if has_feed:
                await self._ingest.webhooks.note(tenant.name, taken.events, taken.updated)
        self._note(tenant, Way.EVENTS_API, taken.events)
        if left_out := taken.left_out():
            self._warn("events.skipped", tenant, **left_out)
        return taken

    async def relayed(self, tenant: Tenant, body: bytes | bytearray) -> int:
        """Returns how many events were accepted: one, or none when it cannot be taken."""
        now = min(self._ingest.clock.now(), self._ingest.clock.wall())
        try:
            relayed = await self._reading.run(tenant.key, read_relayed, body, now)
        except TooLarge as error:  # of too many values; a refusal would count against the subscription
            relayed = relay.Relayed(None, [str(error)], relay.id_in(body))
        events = [] if relayed.event is None else [relayed.event]
        if relayed.warnings:
            name = "relay.differs" if events else "relay.skipped"
            self._warn(name, tenant, event_id=relayed.event_id, reasons=relayed.warnings)
        if events:
            await self._ingest.intake.accept(tenant.name, events, way=Way.RELAY)
        self._note(tenant, Way.RELAY, events)
        return len(events)

    def _note(self, tenant: Tenant, way: Way, events: Sequence[Event]) -> None:
        if events:
            named = events[:EVENTS_NAMED] if self._ingest.names_events else ()
            more = {"event_ids": [event.id for event in named]} if named else {}
            log.info("events.accepted", tenant=tenant.name, way=way, events=len(events), **more)
        self._ingest.observer.taken(tenant.name, way, len(events))

    def _warn(self, name: str, tenant: Tenant, **fields: object) -> None:
        if times := self._lines.count((name, tenant.name)):
            log.warning(name, tenant=tenant.name, times=times, **fields)
