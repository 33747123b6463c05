"""Subscriptions whose events do not say which product of the PIM they are about (contract/ingest.md 3)."""

from collections.abc import Iterable

import structlog
from cachetools import TTLCache

from ..domain.events.event import Event
from ..domain.events.facts import IDENTIFIER_TYPES
from ..domain.ingest_formats.events_api import has_made_up_uuid
from ..ports import Clock
from .matched import Matched

log = structlog.get_logger()

LOGGED_EVERY_SECONDS = 3600
SUBSCRIPTIONS_REMEMBERED = 10_000
ASK_FOR_IT = "its PIM has no product UUIDs: send_product_identifier must be true"
SAY_WHERE_IT_IS = (
    "send_product_identifier is true, but an event of a product came without its identifier. If the PIM sends"
    " products with UUIDs, run `aep pims add URL --identifier-attribute CODE`, or switch that off in the PIM"
)


class IdentifierCheck:
    """Warns the operator of each such subscription, once an hour."""

    def __init__(self, clock: Clock) -> None:
        self._logged: TTLCache[str, bool] = TTLCache(
            SUBSCRIPTIONS_REMEMBERED, LOGGED_EVERY_SECONDS, clock.monotonic
        )

    def look(self, tenant: str, event: Event, matched: Iterable[Matched]) -> None:
        """Looks at who gets an event of the tenant (its normalised URL)."""
        if event.type not in IDENTIFIER_TYPES:
            return
        if not event.facts.has_identifier:
            wants, advice = True, SAY_WHERE_IT_IS
        elif has_made_up_uuid(event, tenant):
            wants, advice = False, ASK_FOR_IT
        else:
            return
        for match in matched:
            subscription = match.subscription
            if subscription.send_product_identifier is not wants or subscription.id in self._logged:
                continue
            self._logged[subscription.id] = True
            log.warning(
                "subscription.lacks_identifiers",
                tenant=tenant,
                subscription_id=subscription.id,
                advice=advice,
            )
