"""Reading bodies into events: small ones where they arrive, large ones in a process of their own.

The functions are pure, and run in either place.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TypeVar

from ..domain import cloudevents, events_api, json_form, relay
from ..domain.catalog import Catalog
from ..domain.cloudevents import Context
from ..domain.events import Event
from ..domain.tenants import Tenant
from ..ports import Reader

LARGE_BYTES = 256 * 1024
"""From here on a body is not read, and its signature not made, where other requests wait for it."""

T = TypeVar("T")


def read_cloudevents(
    catalog: Catalog, body: bytes, tenant: str, now: datetime, media_type: str, headers: Mapping[str, str]
) -> list[Event]:
    """The events of a request to /ingest. Raises what `cloudevents.read` raises."""
    return cloudevents.read(media_type, headers, body, Context(tenant, catalog, now))


def read_webhook(catalog: Catalog, body: bytes, tenant: Tenant) -> events_api.Taken:
    """The events of a webhook of the Events API. Raises what `events_api.read` raises."""
    return events_api.read(body, tenant, catalog)


def read_relayed(catalog: Catalog, body: bytes, now: datetime) -> relay.Relayed:
    """The event that was relayed."""
    return relay.read(body, catalog, now)


class Reading:
    """Runs the functions above, each where it holds up nobody."""

    def __init__(self, catalog: Catalog, reader: Reader) -> None:
        self._catalog = catalog
        self._reader = reader

    async def run(
        self, tenant: Tenant, function: Callable[..., T], body: bytes | bytearray, *arguments: object
    ) -> T:
        """The function's result. Raises what it raises, and Overloaded."""
        if len(body) <= LARGE_BYTES:
            text = bytes(body)
            if json_form.is_quick(text):
                return function(self._catalog, text, *arguments)
        return await self._reader.run(tenant.key, function, body, *arguments)


async def check(checks: Callable[..., None], body: bytes | bytearray, *arguments: object) -> None:
    """Checks the signature of a body: of a large one in a thread, as hashing leaves the others running."""
    if len(body) > LARGE_BYTES:
        await asyncio.to_thread(checks, body, *arguments)
    else:
        checks(body, *arguments)
