"""One attempt at one delivery: load, decide, send, settle. Effects come in as arguments."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from ..domain.attempts import retries
from ..domain.attempts.egress import Egress
from ..domain.attempts.https_requests import EXCERPT_BYTES, request_headers, without_secrets
from ..domain.attempts.outcomes import (
    Answer,
    Kind,
    Outcome,
    Reason,
    Refusal,
    Result,
    TransportFailure,
    classify,
    has_connected,
)
from ..domain.deliveries import DeliverPolicy, Delivery, Settlement
from ..domain.errors import CannotConnect
from ..domain.pace import rates
from ..domain.pace.rates import Observation
from ..domain.record.logs import DeliveryEnd, Operation
from ..domain.replays import REPLAY_CANCELLED, is_sent
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
    """Handles `delivery` now. Returns the settlement, which the caller applies by `Settlements.settle`.

    Raises only for faults of ours: a receiver's failure is a settlement. After CannotConnect nothing was
    sent, so the delivery can be handled again as it is.
    """
    subscription = await subscriptions.current(delivery.subscription_id)
    began_at = clock.now()
    if (end := ended_unsent(delivery, subscription, began_at, policy.max_age)) is not None:
        log.info("delivery.ended", **_ids(delivery), operation=end.operation, message=end.message)
        return Settlement(delivery, None, end=end)
    assert subscription is not None  # noqa: S101 - ended_unsent ends a delivery without one
    config, owner = subscription.config, subscription.owner
    started = clock.monotonic()
    result: Result
    try:
        if isinstance(config, HttpsConfig):
            headers = request_headers(delivery.event_id, delivery.body, config, delivery.shown_replay_id)
            result = await senders.https.post(
                config.url, headers, delivery.body, owner=owner, timeout=policy.timeout
            )
        else:
            result = await senders.to_broker(delivery, config, owner=owner, timeout=policy.timeout)
    except CannotConnect as error:
        if egress.is_due(error.log_event, clock.monotonic()):
            log.error(error.log_event, error=str(error))
        raise
    ended, now = clock.monotonic(), clock.now()
    latency = ended - started
    outcome = classify(result)
    in_transport = isinstance(result, TransportFailure) and outcome.kind is Kind.RETRYABLE
    had_no_network = egress.had_no_network(started, ended, connected=has_connected(result)) and in_transport
    if not had_no_network:
        egress.observe(owner, config.host, ended, failed=in_transport)
    we_fail = outcome.kind is not Kind.DELIVERED and _we_fail(egress, ended)
    is_ours = in_transport and (we_fail or had_no_network)
    # without a network one attempt is free: none was yet if each so far used up a retry
    is_free = is_ours and (we_fail or delivery.attempts == delivery.failures)
    settlement = settlement_of(
        delivery,
        subscription,
        result,
        outcome,
        began_at=began_at,
        latency=latency,
        now=now,
        policy=policy,
        we_fail=we_fail,
        is_ours=is_ours,
        is_free=is_free,
    )
    _log_attempt(settlement, result, latency, now)
    return settlement


def ended_unsent(
    delivery: Delivery, subscription: Subscription | None, now: datetime, max_age: timedelta
) -> DeliveryEnd | None:
    """Returns the end of a delivery that must not be sent; None if it may be."""
    if subscription is None:
        return DeliveryEnd(Operation.DROPPED, Status.DELETED, now)
    if subscription.status is not Status.ACTIVE:
        return DeliveryEnd(Operation.DROPPED, subscription.status, now)
    if subscription.epoch != delivery.epoch:  # suspended and resumed since: what waited then is not kept
        return DeliveryEnd(Operation.DROPPED, Status.SUSPENDED, now)
    if not is_sent(delivery.replay_id, subscription):
        return DeliveryEnd(Operation.DROPPED, REPLAY_CANCELLED, now)
    if now - delivery.waits_since > max_age:
        message = f"not delivered within {max_age.total_seconds():g} s of its acceptance"
        return DeliveryEnd(Operation.FAILED, message, now, Reason.DESTINATION_FAILURE)
    return None


def settlement_of(
    delivery: Delivery,
    subscription: Subscription,
    result: Result,
    outcome: Outcome,
    *,
    began_at: datetime,
    latency: float,
    now: datetime,
    policy: DeliverPolicy,
    we_fail: bool = False,
    is_ours: bool = False,
    is_free: bool = False,
) -> Settlement:
    """Returns what follows from an attempt under the subscription, which ended `now` after `latency` seconds.

    `we_fail`: most origins cannot be reached from here. `is_ours`: this attempt failed by a fault of ours.
    `is_free`: it uses up no retry for that.
    """
    tried = delivery.after_attempt(began_at, used_a_retry=outcome.kind is Kind.RETRYABLE and not is_free)
    if outcome.kind is Kind.DELIVERED:
        pace = _observed(subscription, result, outcome, began_at, latency, now)
        return Settlement(
            tried, outcome, pace=pace, tried_under=subscription, milliseconds=round(latency * 1000)
        )
    follows = (
        _Follows(retry_at=retries.again_at(now, policy.retry_delays))
        if is_free
        else _what_follows(tried, outcome, result, subscription.config, now, policy)
    )
    return Settlement(
        tried,
        outcome,
        follows.retry_at,
        follows.back_to_lane,
        follows.end,
        pace=None if is_ours else _observed(subscription, result, outcome, began_at, latency, now),
        tried_under=subscription,
        suspension=None if we_fail else _suspension(subscription, outcome, follows.end),
        is_our_fault=is_ours,
        milliseconds=round(latency * 1000),
    )


def _log_attempt(settlement: Settlement, result: Result, latency: float, now: datetime) -> None:
    outcome, tried = settlement.outcome, settlement.delivery
    more: dict[str, str] = {}
    if tried.replay_id is not None:
        more["replay_id"] = tried.replay_id
    assert outcome is not None  # noqa: S101 - there was an attempt
    if settlement.back_to_lane:  # from then on at the lowered rate
        asked_for = settlement.pace.retry_after if settlement.pace is not None else None
        more["retry_at"] = to_rfc3339(asked_for or now)
    elif settlement.retry_at is not None:
        more["retry_at"] = to_rfc3339(settlement.retry_at)
    if settlement.end is not None:
        more["ended"] = settlement.end.operation
    if isinstance(result, TransportFailure | Refusal):
        more["detail"] = result.detail
    log.info(
        "delivery.attempted",
        subscription_id=tried.subscription_id,
        event_id=tried.event_id,
        event_type=tried.event_type,
        attempt=tried.attempts,
        outcome=outcome.kind,
        reason=outcome.reason,
        status=outcome.status,
        milliseconds=round(latency * 1000, 1),
        **more,
    )


def _we_fail(egress: Egress, now: float) -> bool:
    """True if most origins cannot be reached from here; logged once a minute, for an alert."""
    failing = egress.is_failing(now)
    if failing and egress.should_log(now):
        log.error("egress.failing", origins=egress.origins, failing=egress.failing)
    return failing


def _delays(config: Config, policy: DeliverPolicy) -> Sequence[timedelta]:
    return retries.KAFKA_DELAYS if isinstance(config, KafkaConfig) else policy.retry_delays


def _without_secrets(result: Result, config: Config) -> Result:
    """Takes secrets out of an endpoint's answer. Results of brokers are in our own words already."""
    if isinstance(config, HttpsConfig) and isinstance(result, Answer):
        return without_secrets(result, config)
    return result


@dataclass(frozen=True, slots=True)
class _Follows:
    """The parts of a settlement that follow from an outcome."""

    retry_at: datetime | None = None
    back_to_lane: bool = False
    end: DeliveryEnd | None = None


def _what_follows(
    tried: Delivery, outcome: Outcome, result: Result, config: Config, now: datetime, policy: DeliverPolicy
) -> _Follows:
    """Returns what follows from each kind of outcome but a delivery (contract/wire.md 11)."""
    match outcome.kind:
        case Kind.RETRYABLE:
            due = retries.retry_at(tried.failures, now, _delays(config, policy))
            if due is not None:
                return _Follows(retry_at=due)
        case Kind.THROTTLED:
            if not retries.throttling_is_over(tried.attempts, tried.first_attempt_at or now, now):
                return _Follows(back_to_lane=True)
        case Kind.DELIVERED | Kind.PERMANENT | Kind.SUSPENDING:
            pass
    return _Follows(end=_end(outcome, _without_secrets(result, config), now))


def _suspension(subscription: Subscription, outcome: Outcome, end: DeliveryEnd | None) -> Suspension | None:
    """Returns one microsecond after the end, so that the log sorts it after it."""
    if outcome.kind is not Kind.SUSPENDING or end is None:
        return None
    return Suspension(subscription, end.message, end.at + timedelta(microseconds=1))


def _observed(
    subscription: Subscription,
    result: Result,
    outcome: Outcome,
    began_at: datetime,
    latency: float,
    now: datetime,
) -> Observation | None:
    """Returns what the attempt shows of the receiver's pace; None for a connection that failed.

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
        retry_after=rates.retry_after(asked, now) if asked is not None else None,
    )


def _end(outcome: Outcome, result: Result, now: datetime) -> DeliveryEnd:
    if not isinstance(result, Answer):
        detail = result.detail if isinstance(result, TransportFailure | Refusal) else ""
        message = detail or str(outcome.reason).replace("_", " ")
        return DeliveryEnd(Operation.FAILED, message, now, outcome.reason)
    excerpt = result.body[:EXCERPT_BYTES].decode("utf-8", "replace")
    message = f"the endpoint answered {result.status}"
    return DeliveryEnd(Operation.FAILED, message, now, outcome.reason, result.status, excerpt)


def _ids(delivery: Delivery) -> dict[str, str]:
    ids = {
        "subscription_id": delivery.subscription_id,
        "event_id": delivery.event_id,
        "event_type": delivery.event_type,
    }
    return ids if delivery.replay_id is None else ids | {"replay_id": delivery.replay_id}
