"""Fan-out of a message: accepted events in, one delivery for each match out."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import structlog
from cachetools import LRUCache

from ..domain import filters
from ..domain.catching_up import begins_too_late, left_to_fan_out
from ..domain.errors import PublishFailed
from ..domain.events.catalog import Catalog
from ..domain.messages.message import Message
from ..domain.messages.queue_messages import (
    Accepted,
    acceptance_of,
    deliveries_topic,
    delivery_message,
    events_of,
    size_of,
)
from ..domain.subscriptions import Subscription
from ..first_use import FirstUse
from ..ports import ActiveSubscriptions, Clock, MissedEvents, Publisher, Subscriptions
from .identifier_check import IdentifierCheck
from .match_lines import MatchLines
from .matched import fan_out
from .recent_lanes import RecentLanes
from .revoking import revoke

log = structlog.get_logger()

MESSAGES_AT_ONCE = 10_000
BYTES_AT_ONCE = 32_000_000
"""The bounds of a piece of a large fan-out, which is rendered and published piece by piece."""
SECONDS_AT_ONCE = 0.005
"""The time that the event loop works on one message before it works on others."""
TENANTS_HELD = 1000
"""The number of tenants whose compiled filters are kept."""
PARSER = FirstUse(filters.load)

Item = TypeVar("Item")


async def read_accepted(message: Message, catalog: Catalog) -> Accepted:
    """Reads what `events_messages` wrote. Raises MalformedMessage.

    The event loop works on other messages too.
    """
    tenant, accepted_at = acceptance_of(message)
    events = [event async for event in _with_pauses(events_of(message, catalog))]
    return Accepted(tenant, accepted_at, events)


class CompiledFilters:
    """The predicates of each tenant's active subscriptions by their filters."""

    def __init__(self) -> None:
        self._held: LRUCache[str, tuple[Sequence[Subscription], Mapping[str, filters.Predicate]]] = LRUCache(
            TENANTS_HELD
        )

    async def of(self, tenant: str, active: Sequence[Subscription]) -> Mapping[str, filters.Predicate]:
        """Compiles those that the list before did not have, while the event loop works on other messages."""
        held = self._held.get(tenant)
        if held is not None and held[0] is active:
            return held[1]
        if any(each.filter is not None and not filters.is_compiled(each.filter) for each in active):
            await PARSER.ready()
        predicates: dict[str, filters.Predicate] = {}
        async for each in _with_pauses(active):
            if each.filter is not None:
                predicates[each.filter] = filters.predicate_of(each.filter)
        self._held[tenant] = active, predicates
        return predicates


async def fan_out_accepted(
    accepted: Accepted,
    *,
    subscriptions: ActiveSubscriptions,
    records: Subscriptions,
    publisher: Publisher,
    clock: Clock,
    recent: RecentLanes,
    shards: int,
    schema_base: str,
    identifiers: IdentifierCheck,
    compiled: CompiledFilters,
    missed: MissedEvents,
) -> int:
    """Publishes one delivery for each match. Returns their number.

    A subscription that gets these events by catching up is left out. One that was suspended after they were
    accepted has missed them, which is noted. A client that is gone from the PIM is revoked first, so that
    nothing is published for it. The caller has the events repeated on errors. Raises StoreUnavailable, and
    PublishFailed when a delivery was not taken twice.
    """
    await revoke(accepted, clock.now(), records=records)
    active = await subscriptions.active(accepted.tenant)
    predicates = await compiled.of(accepted.tenant, active)
    for each in await subscriptions.suspended(accepted.tenant):
        if begins_too_late(each, accepted.accepted_at):
            await missed.note(each.id, accepted.accepted_at)
    active = left_to_fan_out(active, accepted.accepted_at)
    topic, lines = deliveries_topic(accepted.tenant, shards), MatchLines(accepted)
    published = await publish_deliveries(
        _deliveries(accepted, active, predicates, schema_base, identifiers, lines),
        publisher=publisher,
        topic=topic,
        recent=recent,
    )
    log.info("events.fanned_out", events=len(accepted.events), deliveries=published, **lines.rest())
    return published


async def publish_deliveries(
    messages: Iterable[Message], *, publisher: Publisher, topic: str, recent: RecentLanes
) -> int:
    """Publishes the messages in pieces, each made when it is needed. Returns their number.

    Raises PublishFailed when one was not taken twice.
    """
    published = 0
    async for piece in _pieces(messages):
        await _publish(publisher, topic, recent.marked(piece))
        published += len(piece)
    return published


def _deliveries(
    accepted: Accepted,
    active: Sequence[Subscription],
    predicates: Mapping[str, filters.Predicate],
    schema_base: str,
    identifiers: IdentifierCheck,
    lines: MatchLines,
) -> Iterator[Message]:
    """Group by group, of as many subscriptions as make a piece: a lane's messages then share requests."""
    size = max(1, MESSAGES_AT_ONCE // max(1, len(accepted.events)))
    for start in range(0, max(1, len(active)), size):
        group = active[start : start + size]
        for event in accepted.events:
            matched = fan_out(event, group, predicates, schema_base)
            lines.note(event, matched)
            identifiers.look(accepted.tenant, event, matched)
            for match in matched:
                yield delivery_message(match.delivery(event, accepted.accepted_at))


async def _with_pauses(items: Iterable[Item]) -> AsyncIterator[Item]:
    """The items, each made when it is drawn; lets the event loop work on other things in between."""
    began = time.monotonic()
    for item in items:
        yield item
        if time.monotonic() - began > SECONDS_AT_ONCE:
            await asyncio.sleep(0)
            began = time.monotonic()


async def _pieces(messages: Iterable[Message]) -> AsyncIterator[list[Message]]:
    piece: list[Message] = []
    size = 0
    async for message in _with_pauses(messages):
        piece.append(message)
        size += size_of(message)
        if len(piece) == MESSAGES_AT_ONCE or size >= BYTES_AT_ONCE:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


async def _publish(publisher: Publisher, topic: str, messages: Sequence[Message]) -> None:
    """Publishes what failed once more: a nack would repeat everything, also what was published."""
    try:
        await publisher.publish(topic, messages)
    except PublishFailed as error:
        log.warning("deliveries.publish_repeated", topic=topic, failed=len(error.failed), error=str(error))
        await publisher.publish(topic, [messages[position] for position in error.failed])
