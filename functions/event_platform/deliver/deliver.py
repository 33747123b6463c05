"""One attempt at one delivery: load, decide, send, settle. Effects come in as arguments."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from ..domain import rates, retries
from ..domain.deliveries import DeliverPolicy, Delivery, Settlement
from ..domain.egress import Egress
from ..domain.https_requests import EXCERPT_BYTES, request_headers, without_secrets
from ..domain.logs import DeliveryEnd, Operation
from ..domain.outcomes import Answer, Kind, Outcome, Reason, Refusal, Result, TransportFailure, classify
from ..domain.rates import Observation
from ..domain.subscriptions import Config, HttpsConfig, KafkaConfig, Status, Subscription
from ..domain.suspension import Suspension
from ..domain.timestamps import to_rfc3339
from ..ports import Clock, SubscriptionLookup
from .sending import Senders

log = structlog.get_logger()


async def deliver(
    delivery: Delivery,
    *,
    subscriptions: SubscriptionLookup,
    senders: Senders,
    clock: Clock,
    policy: DeliverPolicy,
    egress: Egress,
) -> Settlement:
    """What follows from handling `delivery` now; the caller has it applied by `Settlements.settle`.

    Raises only for faults of ours: a receiver's failure is a settlement.
    """
    subscription = await subscriptions.current(delivery.subscription_id)
    now = clock.now()
    if (end := _not_to_be_sent(delivery, subscription, now, policy.max_age)) is not None:
        log.info("delivery.ended", **_ids(delivery), operation=end.operation, message=end.message)
        return Settlement(delivery, None, end=end)
    assert subscription is not None  # noqa: S101 - _not_to_be_sent ends a delivery without one
    return await _attempt(
        delivery, subscription, now, senders=senders, clock=clock, policy=policy, egress=egress
    )


def _not_to_be_sent(
    delivery: Delivery, subscription: Subscription | None, now: datetime, max_age: timedelta
) -> DeliveryEnd | None:
    if subscription is None:
        return DeliveryEnd(Operation.DROPPED, Status.DELETED, now)
    if subscription.status is not Status.ACTIVE:
        return DeliveryEnd(Operation.DROPPED, subscription.status, now)
    if subscription.epoch != delivery.epoch:  # suspended and resumed since: what waited then is not kept
        return DeliveryEnd(Operation.DROPPED, Status.SUSPENDED, now)
    if now - delivery.accepted_at > max_age:
        message = f"not delivered within {max_age.total_seconds():g} s of its acceptance"
        return DeliveryEnd(Operation.FAILED, message, now, Reason.DESTINATION_FAILURE)
    return None


async def _attempt(
    delivery: Delivery,
    subscription: Subscription,
    now: datetime,
    *,
    senders: Senders,
    clock: Clock,
    policy: DeliverPolicy,
    egress: Egress,
) -> Settlement:
    config = subscription.config
    started = clock.monotonic()
    result: Result
    if isinstance(config, HttpsConfig):
        headers = request_headers(delivery.event_id, delivery.body, config)
        result = await senders.https.post(config.url, headers, delivery.body, timeout=policy.timeout)
    else:
        result = await senders.to_broker(delivery, config, timeout=policy.timeout)
    ended = clock.monotonic()
    latency = ended - started
    outcome = classify(result)
    in_transport = isinstance(result, TransportFailure) and outcome.kind is Kind.RETRYABLE
    egress.observe(config.host, ended, failed=in_transport)
    we_fail = outcome.kind is not Kind.DELIVERED and _we_fail(egress, ended)
    is_ours = in_transport and we_fail
    tried = replace(
        delivery,
        attempts=delivery.attempts + 1,
        failures=delivery.failures + (outcome.kind is Kind.RETRYABLE and not is_ours),
        first_attempt_at=delivery.first_attempt_at or now,
    )
    settled_at = clock.now()
    settlement = (
        Settlement(tried, outcome, retry_at=retries.again_at(settled_at, policy.retry_delays))
        if is_ours
        else _settlement(
            tried, outcome, _without_secrets(result, config), settled_at, _delays(config, policy)
        )
    )
    seen = _observed(subscription, result, outcome, began_at=now, latency=latency, now=settled_at)
    settlement = replace(
        settlement,
        pace=None if is_ours else seen,
        tried_under=subscription,
        suspension=None if we_fail else _suspension(subscription, settlement),
        is_our_fault=is_ours,
    )
    log.info(
        "delivery.attempted",
        **_ids(delivery),
        attempt=tried.attempts,
        outcome=outcome.kind,
        reason=outcome.reason,
        status=outcome.status,
        milliseconds=round(latency * 1000, 1),
        **({"retry_at": to_rfc3339(settlement.retry_at)} if settlement.retry_at else {}),
        **({"detail": result.detail} if isinstance(result, TransportFailure | Refusal) else {}),
    )
    return settlement


def _we_fail(egress: Egress, now: float) -> bool:
    """Whether most origins cannot be reached from here; said once a minute, for an alert."""
    failing = egress.is_failing(now)
    if failing and egress.is_to_be_told(now):
        log.error("egress.failing", origins=egress.origins, failing=egress.failing)
    return failing


def _delays(config: Config, policy: DeliverPolicy) -> Sequence[timedelta]:
    return retries.KAFKA_DELAYS if isinstance(config, KafkaConfig) else policy.retry_delays


def _without_secrets(result: Result, config: Config) -> Result:
    """Of what brokers say nothing is shown but words of ours."""
    if isinstance(config, HttpsConfig) and isinstance(result, Answer):
        return without_secrets(result, config)
    return result


def _settlement(
    tried: Delivery, outcome: Outcome, result: Result, now: datetime, delays: Sequence[timedelta]
) -> Settlement:
    """Wire contract 11: what follows from each kind of outcome."""
    match outcome.kind:
        case Kind.DELIVERED:
            return Settlement(tried, outcome)
        case Kind.RETRYABLE:
            due = retries.retry_at(tried.failures, now, delays)
            if due is not None:
                return Settlement(tried, outcome, retry_at=due)
        case Kind.THROTTLED:
            if not retries.throttling_is_over(tried.attempts, tried.first_attempt_at or now, now):
                return Settlement(tried, outcome, back_to_lane=True)
        case Kind.PERMANENT | Kind.SUSPENDING:
            pass
    return Settlement(tried, outcome, end=_end(outcome, result, now))


def _suspension(subscription: Subscription, settlement: Settlement) -> Suspension | None:
    """Later than the end by as little as the log tells apart, which shows it after that."""
    outcome, end = settlement.outcome, settlement.end
    if outcome is None or outcome.kind is not Kind.SUSPENDING or end is None:
        return None
    return Suspension(subscription, end.message, end.at + timedelta(microseconds=1))


def _observed(
    subscription: Subscription,
    result: Result,
    outcome: Outcome,
    *,
    began_at: datetime,
    latency: float,
    now: datetime,
) -> Observation | None:
    """What the attempt tells about the receiver's pace; a connection that failed tells nothing.

    Brokers have no pace to follow.
    """
    timeout = outcome.reason is Reason.DESTINATION_TIMEOUT
    if not subscription.is_paced or (isinstance(result, TransportFailure) and not timeout):
        return None
    throttled = outcome.kind is Kind.THROTTLED
    asked = result.headers.get("retry-after") if throttled and isinstance(result, Answer) else None
    return Observation(
        began_at,
        subscription.current_rate,
        latency,
        throttled=throttled or timeout,
        retry_after=rates.retry_after(asked, now),
    )


def _end(outcome: Outcome, result: Result, now: datetime) -> DeliveryEnd:
    if not isinstance(result, Answer):
        detail = result.detail if isinstance(result, TransportFailure | Refusal) else ""
        return DeliveryEnd(Operation.FAILED, detail or str(outcome.reason), now, outcome.reason)
    excerpt = result.body[:EXCERPT_BYTES].decode("utf-8", "replace")
    message = f"the endpoint answered {result.status}"
    return DeliveryEnd(Operation.FAILED, message, now, outcome.reason, result.status, excerpt)


def _ids(delivery: Delivery) -> dict[str, str]:
    return {
        "subscription_id": delivery.subscription_id,
        "event_id": delivery.event_id,
        "event_type": delivery.event_type,
    }
