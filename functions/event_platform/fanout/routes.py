"""Push routes of fanout: events that ingest accepted, and those that PIMs publish (contract/ingest.md)."""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.routing import Route

from ..domain.events.catalog import Catalog
from ..domain.line_limit import LineLimit
from ..domain.messages.message import MalformedMessage
from ..domain.messages.queue_messages import DEAD_LETTERS_TOPIC, Accepted, acceptance_of
from ..domain.tenants import Tenant, with_key
from ..ports import (
    ActiveSubscriptions,
    Clock,
    MissedEvents,
    Publisher,
    Reader,
    ReplayCounts,
    ReplayLookup,
    Subscriptions,
    TenantRegistry,
)
from ..push import Pushed, dead_letters_to, push_route, room_for_large_pushes
from ..reading import Reading
from .accepted import CompiledFilters, fan_out_accepted, read_accepted
from .identifier_check import IdentifierCheck
from .published_events import published_events
from .recent_lanes import RecentLanes
from .replays import fan_out_replayed

EVENTS_PATH = "/events"
PIM_EVENTS_PATH = "/pim-events/{key}"
REPLAY_PATH = "/replays/{rid}"
REPLAY_OF_PIM_EVENTS_PATH = "/replays/{rid}/{key}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fanout:
    """The services of fanout. `schema_base` is the URL under which the schemas are served."""

    registry: TenantRegistry
    subscriptions: ActiveSubscriptions
    records: Subscriptions
    publisher: Publisher
    catalog: Catalog
    clock: Clock
    schema_base: str
    reader: Reader
    replays: ReplayLookup
    missed: MissedEvents
    replay_counts: ReplayCounts
    shards: int = 1  # of the topics that take deliveries


def routes(fanout: Fanout) -> Sequence[Route]:
    """The routes of fanout: where the push subscriptions of `events` and `pim-events-<tenant key>` point, and
    those that are made for replays.
    """

    recent, lines = RecentLanes(fanout.clock), LineLimit(fanout.clock.monotonic)
    reading = Reading(fanout.catalog, fanout.reader)

    async def take_accepted(pushed: Pushed) -> None:
        await put_on_queue(await read_accepted(pushed.message, fanout.catalog))

    async def take_published(pushed: Pushed) -> None:
        tenant = await tenant_of(fanout.registry, pushed.parameters["key"])
        accepted_at = pushed.published_at or fanout.clock.now()
        events = await published_events(pushed.message, tenant, reading, accepted_at, lines)
        await put_on_queue(Accepted(tenant.name, accepted_at, events))

    async def take_replayed(pushed: Pushed) -> None:
        """Acknowledges what is not the replay's: what came later, and what a filter should have kept back."""
        replay_id, key = pushed.parameters["rid"], pushed.parameters.get("key")
        replay = await fanout.replays.running(replay_id)
        if replay is None:
            await fanout.replays.reopen(replay_id)
            return
        try:
            pim = None if key is None else await tenant_of(fanout.registry, key)
            if pim is None:
                tenant, accepted_at = acceptance_of(pushed.message)
            else:
                tenant, accepted_at = pim.name, pushed.published_at or fanout.clock.now()
            if tenant != replay.tenant or not replay.has(accepted_at):
                return
            await fanout.replays.note_push(replay_id)
            if pim is None:
                accepted = await read_accepted(pushed.message, fanout.catalog)
            else:
                events = await published_events(pushed.message, pim, reading, accepted_at, lines)
                accepted = Accepted(tenant, accepted_at, events)
        except MalformedMessage:
            return  # a dead letter since it was pushed first
        await fan_out_replayed(
            accepted,
            replay,
            subscriptions=fanout.subscriptions,
            publisher=fanout.publisher,
            clock=fanout.clock,
            recent=recent,
            shards=fanout.shards,
            schema_base=fanout.schema_base,
            compiled=compiled,
            counts=fanout.replay_counts,
        )

    async def put_on_queue(accepted: Accepted) -> None:
        await fan_out_accepted(
            accepted,
            subscriptions=fanout.subscriptions,
            records=fanout.records,
            publisher=fanout.publisher,
            clock=fanout.clock,
            recent=recent,
            shards=fanout.shards,
            schema_base=fanout.schema_base,
            identifiers=identifiers,
            compiled=compiled,
            missed=fanout.missed,
        )

    identifiers, compiled = IdentifierCheck(fanout.clock), CompiledFilters()
    publish_dead_letter, room = dead_letters_to(fanout.publisher, DEAD_LETTERS_TOPIC), room_for_large_pushes()
    return [
        push_route(EVENTS_PATH, take_accepted, publish_dead_letter=publish_dead_letter, room=room),
        push_route(PIM_EVENTS_PATH, take_published, publish_dead_letter=publish_dead_letter, room=room),
        push_route(REPLAY_PATH, take_replayed, publish_dead_letter=publish_dead_letter, room=room),
        push_route(
            REPLAY_OF_PIM_EVENTS_PATH, take_replayed, publish_dead_letter=publish_dead_letter, room=room
        ),
    ]


async def tenant_of(registry: TenantRegistry, key: str) -> Tenant:
    """The PIM whose topic it is. Raises MalformedMessage: the topic has outlived the registry's entry."""
    tenant = with_key(await registry.tenants(), key)
    if tenant is None:
        raise MalformedMessage(f"no PIM in the registry has the key {key}")
    return tenant
