"""Subscriptions that get products by UUIDs that the PIM does not know, and nothing else (ingest.md 3)."""

from collections.abc import Iterable

import structlog
from cachetools import TTLCache

from ..domain.events import Event
from ..domain.events_api import has_made_up_uuid
from ..ports import Clock
from .fanout import Matched

log = structlog.get_logger()

TOLD_AGAIN_SECONDS = 3600
SUBSCRIPTIONS_REMEMBERED = 10_000


class IdentifierCheck:
    """Warns the operator of each such subscription, once an hour."""

    def __init__(self, clock: Clock) -> None:
        self._told: TTLCache[str, bool] = TTLCache(
            SUBSCRIPTIONS_REMEMBERED, TOLD_AGAIN_SECONDS, clock.monotonic
        )

    def look(self, tenant: str, event: Event, matched: Iterable[Matched]) -> None:
        """Looks at who gets an event of the tenant (its normalised URL)."""
        if not has_made_up_uuid(event, tenant):
            return
        for match in matched:
            subscription = match.subscription
            if subscription.send_product_identifier or subscription.id in self._told:
                continue
            self._told[subscription.id] = True
            log.warning(
                "subscription.lacks_identifiers",
                tenant=tenant,
                subscription_id=subscription.id,
                advice="its PIM has no product UUIDs: send_product_identifier must be true",
            )
