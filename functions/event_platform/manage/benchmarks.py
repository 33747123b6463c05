"""The use case of a benchmark: test events for the caller's benchmark subscriptions (contract/wire.md 14)."""

from itertools import islice
from typing import Any

import structlog
import uuid_utils

from ..domain.call_limits import CallType
from ..domain.errors import Conflict
from ..domain.events.benchmarks import Benchmark
from ..domain.subscriptions import Status
from ..domain.timestamps import to_rfc3339
from ..domain.words import counted
from ..ports import Intake, Subscriptions
from .call_limits import CallerLimits
from .identity import Caller
from .pauses import Pauses
from .payloads.body import validated
from .payloads.trials import BenchmarkBody
from .services import Manage
from .subscribers import check_permission

log = structlog.get_logger()

MAX_DELIVERIES = 100_000
DELIVERIES_A_SECOND = 1000
"""The wait for a caller's next benchmark: a second for so many deliveries, at least one."""
EVENTS_AT_ONCE = 200
DELIVERIES_AT_ONCE = 10_000
"""The deliveries of one commit, so that events of PIMs come between."""


async def start_benchmark(
    caller: Caller,
    body: Any,
    *,
    manage: Manage,
    pauses: Pauses,
    limits: CallerLimits,
) -> Benchmark:
    """Starts a benchmark; all its events are durable when it returns.

    Raises InvalidRequest, Forbidden, Conflict (more deliveries than a benchmark may have), TooManyRequests,
    and StoreUnavailable or PublishFailed, after which some of the events may come all the same.
    """
    wanted = validated(BenchmarkBody, body, rules=manage.rules_for(caller))
    check_permission(caller)
    receivers = await _receivers(caller, manage.subscriptions)
    deliveries = wanted.count * receivers
    if deliveries > MAX_DELIVERIES:
        raise Conflict(
            f"{counted(wanted.count, 'event')} for {counted(receivers, 'benchmark subscription')} are"
            f" {deliveries} deliveries; at"
            f" most {MAX_DELIVERIES} are made: lower count to {MAX_DELIVERIES // receivers}"
        )
    key = f"{caller.owner.tenant}\n{caller.owner.client_id}"
    pauses.take(key, max(1, deliveries / DELIVERIES_A_SECOND), what="a benchmark can be started")
    limits.take(caller.owner, CallType.BENCHMARK, max(1, deliveries))
    benchmark = Benchmark(
        id=str(uuid_utils.uuid7()),
        client_id=caller.owner.client_id,
        count=wanted.count,
        size=wanted.size,
        time=to_rfc3339(manage.clock.now()),
        custom_data={} if wanted.custom_data is None else {"custom_data": wanted.custom_data},
    )
    if receivers:
        at_once = min(EVENTS_AT_ONCE, max(1, DELIVERIES_AT_ONCE // receivers))
        await _accept(caller, benchmark, at_once, manage.intake)
    log.info("benchmark.started", tenant=caller.owner.tenant, events=wanted.count, deliveries=deliveries)
    return benchmark


async def _receivers(caller: Caller, subscriptions: Subscriptions) -> int:
    """Returns the number of active benchmark subscriptions of the caller."""
    number = 0
    for subscriber in await subscriptions.subscribers(caller.owner):
        found = await subscriptions.subscriptions(caller.owner, subscriber.id)
        number += sum(each.source == "benchmark" and each.status is Status.ACTIVE for each in found)
    return number


async def _accept(caller: Caller, benchmark: Benchmark, at_once: int, intake: Intake) -> None:
    events = benchmark.events()
    while piece := list(islice(events, at_once)):
        await intake.accept(caller.owner.tenant, piece)
