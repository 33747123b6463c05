"""The functions that `Reading` runs for ingest, in this process or another: pure, from a body to events."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime

from ..domain.events.catalog import Catalog
from ..domain.events.event import Event
from ..domain.ingest_formats import cloudevents, events_api, relay
from ..domain.ingest_formats.cloudevents import Context
from ..domain.tenants import Tenant
from ..reading import LARGE_BYTES, MAX_VALUES, MAX_WEBHOOK_VALUES, check_values


def read_cloudevents(
    catalog: Catalog, body: bytes, tenant: str, now: datetime, media_type: str, headers: Mapping[str, str]
) -> list[Event]:
    """The events of a request to /ingest. Raises what `cloudevents.read` raises, and TooLarge."""
    check_values(body, MAX_VALUES)
    return cloudevents.read(media_type, headers, body, Context(tenant, catalog, now))


def read_webhook(
    catalog: Catalog, body: bytes, tenant: Tenant, with_updated: bool = False
) -> events_api.Taken:
    """The events of a webhook of the Events API. Raises what `events_api.read` raises, and TooLarge."""
    check_values(body, MAX_WEBHOOK_VALUES)
    return events_api.read(body, tenant, catalog, with_updated=with_updated)


def read_relayed(catalog: Catalog, body: bytes, now: datetime) -> relay.Relayed:
    """The event that was relayed. Raises what `relay.read` raises, and TooLarge."""
    check_values(body, MAX_VALUES)
    return relay.read(body, catalog, now)


async def check(checks: Callable[..., None], body: bytes | bytearray, *arguments: object) -> None:
    """Checks the signature of a body: of a large one in a thread, as hashing leaves the others running."""
    if len(body) > LARGE_BYTES:
        await asyncio.to_thread(checks, body, *arguments)
    else:
        checks(body, *arguments)
