"""What follows from handling a delivery once (contract/wire.md 10, 11 and 13)."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from event_platform.deliver import deliver
from event_platform.domain.attempts.egress import Egress
from event_platform.domain.attempts.https_requests import request_headers
from event_platform.domain.attempts.outcomes import Answer, Kind, Outcome, Reason, TransportFailure
from event_platform.domain.attempts.signatures import sign
from event_platform.domain.deliveries import DeliverPolicy, Delivery, Settlement
from event_platform.domain.errors import CannotConnect, NoResolver, OutOfSockets
from event_platform.domain.pace.rates import Observation
from event_platform.domain.record.logs import DeliveryEnd, Operation
from event_platform.domain.subscriptions import HttpsConfig, Owner, Status, Subscription
from event_platform.domain.suspension import Suspension
from event_platform.domain.timestamps import to_rfc3339
from event_platform.shared_lines import FORMS
from support.clock import START, ManualClock
from support.records import PRIMARY, UPDATED, a_subscriber, a_subscription, https_config
from support.senders import https_by

POLICY = DeliverPolicy([timedelta(minutes=minutes) for minutes in (5, 10, 20)], timedelta(days=3), timeout=5)
SUBSCRIPTION = replace(a_subscription(a_subscriber()), epoch=2)
BODY = '{"id":"event-1","data":{"a":"\u00e9"}}'.encode()
TOOK = 1.5  # seconds that an exchange takes here
RESET = TransportFailure(Reason.CONNECTION_RESET, "reset by peer")
Result = Answer | TransportFailure


class Lookup:
    """The port `SubscriptionLookup`."""

    def __init__(self, *subscriptions: Subscription) -> None:
        self._subscriptions = {subscription.id: subscription for subscription in subscriptions}

    async def current(self, subscription_id: str) -> Subscription | None:
        return self._subscriptions.get(subscription_id)


class ScriptedSender:
    """The port `Sender`: gives the results in turn, each after TOOK seconds, and keeps the requests."""

    def __init__(self, clock: ManualClock, *results: Result) -> None:
        self._clock = clock
        self._results = list(results)
        self.requests: list[tuple[str, Sequence[tuple[str, str]], bytes, float]] = []

    async def post(
        self, url: str, headers: Sequence[tuple[str, str]], body: bytes, *, owner: Owner, timeout: float
    ) -> Result:
        assert owner == SUBSCRIPTION.owner
        self.requests.append((url, headers, body, timeout))
        await self._clock.advance(TOOK)
        return self._results.pop(0)


def a_delivery(**fields: Any) -> Delivery:
    delivery = Delivery(
        subscription_id=SUBSCRIPTION.id,
        event_id="event-1",
        event_type=UPDATED,
        accepted_at=START,
        lane=3,
        lanes=16,
        epoch=2,
        body=BODY,
    )
    return replace(delivery, **fields)


async def handled(
    result: Result, delivery: Delivery | None = None, *, clock: ManualClock | None = None
) -> Settlement:
    """Without what it tells about the pace, which has its own tests."""
    return replace(await observed(result, delivery, clock=clock), pace=None)


async def observed(
    result: Result, delivery: Delivery | None = None, *, clock: ManualClock | None = None
) -> Settlement:
    clock = clock or ManualClock()
    return await deliver(
        delivery or a_delivery(),
        subscriptions=Lookup(SUBSCRIPTION),
        senders=https_by(ScriptedSender(clock, result)),
        clock=clock,
        policy=POLICY,
        egress=Egress(),
    )


# --- the request -------------------------------------------------------------------------------------


async def test_one_request_is_made_with_the_body_as_it_is() -> None:
    sender = ScriptedSender(clock := ManualClock(), Answer(200))
    lookup = Lookup(SUBSCRIPTION, a_subscription(a_subscriber(), url="https://other.example/"))
    await deliver(
        a_delivery(),
        subscriptions=lookup,
        senders=https_by(sender),
        clock=clock,
        policy=POLICY,
        egress=Egress(),
    )
    headers = request_headers("event-1", BODY, https_config())
    assert sender.requests == [("https://erp.example.com/events", headers, BODY, 5)]


def test_headers_are_in_the_contracts_order_and_custom_ones_come_last() -> None:
    config = HttpsConfig(
        "https://erp.example.com/events",
        SecretStr(PRIMARY),
        SecretStr("a secondary secret"),
        headers={"X-Second": SecretStr("2"), "A-First": SecretStr("1")},
    )
    assert request_headers("event-1", BODY, config) == [
        ("Content-Type", "application/json"),
        ("User-Agent", "akeneo/event-platform"),
        ("X-Correlation-ID", "event-1"),
        ("X-AKENEO-SIGNATURE-PRIMARY", sign(BODY, PRIMARY)),
        ("X-AKENEO-SIGNATURE-SECONDARY", sign(BODY, "a secondary secret")),
        ("X-AKENEO-SIGNATURE-ALGORITHM", "HmacSHA256"),
        ("X-Second", "2"),
        ("A-First", "1"),
    ]


def test_without_a_secondary_secret_there_is_no_secondary_signature() -> None:
    config = HttpsConfig("https://erp.example.com/events", SecretStr(PRIMARY))
    assert [name for name, _ in request_headers("event-1", BODY, config)] == [
        "Content-Type",
        "User-Agent",
        "X-Correlation-ID",
        "X-AKENEO-SIGNATURE-PRIMARY",
        "X-AKENEO-SIGNATURE-ALGORITHM",
    ]


@pytest.mark.parametrize(
    ("event_id", "header"),
    [
        ("019c1000-0000-7000-8000-000000000001", "019c1000-0000-7000-8000-000000000001"),
        ("a/b?c=d&e+f:~!*'()[]{}|\\^`<>;,@#$", "a/b?c=d&e+f:~!*'()[]{}|\\^`<>;,@#$"),
        ('a b"c%d', "a%20b%22c%25d"),
        ("a\r\nX-Evil: 1", "a%0D%0AX-Evil:%201"),
        ("\x00\x1f\x7f", "%00%1F%7F"),
        ("\u00e9\u20ac\U0001f600", "%C3%A9%E2%82%AC%F0%9F%98%80"),
    ],
)
def test_the_correlation_id_is_the_event_id_percent_encoded(event_id: str, header: str) -> None:
    headers = dict(request_headers(event_id, BODY, https_config()))
    assert headers["X-Correlation-ID"] == header


# --- no request --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("delivery", "subscription", "message"),
    [
        (a_delivery(subscription_id="unknown"), SUBSCRIPTION, "deleted"),
        (a_delivery(), replace(SUBSCRIPTION, status=Status.SUSPENDED), "suspended"),
        (a_delivery(), replace(SUBSCRIPTION, status=Status.REVOKED), "revoked"),
        (a_delivery(), replace(SUBSCRIPTION, status=Status.DELETED), "deleted"),
        (a_delivery(epoch=0), SUBSCRIPTION, "suspended"),
        (a_delivery(epoch=1, attempts=2, failures=2), SUBSCRIPTION, "suspended"),
    ],
)
@pytest.mark.provokes("delivery.ended")
async def test_what_is_no_longer_wanted_is_dropped_without_an_attempt(
    delivery: Delivery, subscription: Subscription, message: str
) -> None:
    sender = ScriptedSender(clock := ManualClock())
    settlement = await deliver(
        delivery,
        subscriptions=Lookup(subscription),
        senders=https_by(sender),
        clock=clock,
        policy=POLICY,
        egress=Egress(),
    )
    assert sender.requests == []
    assert settlement == Settlement(delivery, None, end=DeliveryEnd(Operation.DROPPED, message, START))


async def test_a_delivery_that_is_too_old_ends_without_an_attempt() -> None:
    delivery = a_delivery(accepted_at=START - timedelta(days=3, microseconds=1), attempts=1, failures=1)
    sender = ScriptedSender(clock := ManualClock())
    settlement = await deliver(
        delivery,
        subscriptions=Lookup(SUBSCRIPTION),
        senders=https_by(sender),
        clock=clock,
        policy=POLICY,
        egress=Egress(),
    )
    assert sender.requests == []
    assert settlement.outcome is None
    assert settlement.delivery == delivery
    assert settlement.end == DeliveryEnd(
        Operation.FAILED,
        "not delivered within 259200 s of its acceptance",
        START,
        Reason.DESTINATION_FAILURE,
    )


async def test_a_delivery_of_exactly_that_age_is_tried() -> None:
    settlement = await handled(Answer(200), a_delivery(accepted_at=START - timedelta(days=3)))
    assert settlement.outcome == Outcome(Kind.DELIVERED, None, 200)


# --- what follows ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_any_2xx_delivers(status: int) -> None:
    assert await handled(Answer(status)) == Settlement(
        a_delivery(attempts=1, first_attempt_at=START), Outcome(Kind.DELIVERED, None, status)
    )


@pytest.mark.parametrize("result", [Answer(500), Answer(400), Answer(410), Answer(100), RESET])
@pytest.mark.parametrize(("failures", "minutes"), [(0, 5), (1, 10), (2, 20)])
async def test_a_transient_failure_is_retried_after_5_10_and_20_minutes(
    result: Result, failures: int, minutes: int
) -> None:
    before = a_delivery(attempts=failures + 4, failures=failures, first_attempt_at=START - timedelta(hours=1))
    settlement = await handled(result, before)
    assert settlement.delivery == replace(before, attempts=failures + 5, failures=failures + 1)
    assert settlement.outcome is not None
    assert settlement.outcome.kind is Kind.RETRYABLE
    assert settlement.retry_at == START + timedelta(minutes=minutes, seconds=TOOK)
    assert (settlement.back_to_lane, settlement.end) == (False, None)


@pytest.mark.parametrize(
    ("result", "end"),
    [
        (
            Answer(503, body=b"busy"),
            ("the endpoint answered 503", Reason.DESTINATION_FAILURE, 503, "busy"),
        ),
        (RESET, ("reset by peer", Reason.CONNECTION_RESET, None, None)),
    ],
)
async def test_after_the_last_retry_it_ends_with_a_log_entry(result: Result, end: tuple[Any, ...]) -> None:
    settlement = await handled(result, a_delivery(attempts=3, failures=3, first_attempt_at=START))
    message, reason, status, excerpt = end
    at = START + timedelta(seconds=TOOK)
    assert settlement.end == DeliveryEnd(Operation.FAILED, message, at, reason, status, excerpt)
    assert settlement.delivery == a_delivery(attempts=4, failures=4, first_attempt_at=START)
    assert (settlement.retry_at, settlement.back_to_lane) == (None, False)


async def test_an_answer_that_echoes_secrets_does_not_carry_them_into_the_log() -> None:
    config = https_config()
    secrets = [config.primary_secret, config.secondary_secret, *config.headers.values()]
    values = [secret.get_secret_value() for secret in secrets if secret is not None]
    settlement = await handled(Answer(404, body=f"you sent {' and '.join(values)}".encode()))
    assert settlement.end is not None
    assert settlement.end.excerpt == "you sent ***redacted*** and ***redacted*** and ***redacted***"


async def test_four_failing_attempts_take_35_minutes_and_leave_one_entry() -> None:
    clock = ManualClock()
    sender = ScriptedSender(clock, RESET, Answer(500), RESET, Answer(500))
    delivery, at, end = a_delivery(), [], None
    while end is None:
        at.append((clock.now() - START).total_seconds())
        settlement = await deliver(
            delivery,
            subscriptions=Lookup(SUBSCRIPTION),
            senders=https_by(sender),
            clock=clock,
            policy=POLICY,
            egress=Egress(),
        )
        delivery, end = settlement.delivery, settlement.end
        if settlement.retry_at is not None:
            await clock.advance((settlement.retry_at - clock.now()).total_seconds())
    assert at == [0, 300 + TOOK, 900 + 2 * TOOK, 2100 + 3 * TOOK]
    assert len(sender.requests) == 4
    assert (delivery.attempts, delivery.failures, delivery.first_attempt_at) == (4, 4, START)


@pytest.mark.parametrize(
    ("result", "kind", "reason"),
    [
        (Answer(404), Kind.SUSPENDING, Reason.DESTINATION_NOT_FOUND),
        (Answer(301), Kind.SUSPENDING, Reason.DESTINATION_REDIRECTED),
        (Answer(304), Kind.SUSPENDING, Reason.DESTINATION_REDIRECTED),
        (
            TransportFailure(Reason.INVALID_DESTINATION_CONFIGURATION, "a private address"),
            Kind.PERMANENT,
            Reason.INVALID_DESTINATION_CONFIGURATION,
        ),
    ],
)
async def test_what_cannot_get_better_ends_at_the_first_attempt(
    result: Result, kind: Kind, reason: Reason
) -> None:
    settlement = await handled(result)
    assert settlement.outcome is not None
    assert (settlement.outcome.kind, settlement.outcome.reason) == (kind, reason)
    assert settlement.end is not None
    assert (settlement.end.operation, settlement.end.reason) == (Operation.FAILED, reason)
    assert (settlement.retry_at, settlement.back_to_lane) == (None, False)
    assert settlement.delivery == a_delivery(attempts=1, first_attempt_at=START)


@pytest.mark.parametrize(
    ("attempts", "since"),
    [(0, None), (4, timedelta(minutes=59)), (1000, timedelta(minutes=59)), (3, timedelta(hours=2))],
)
async def test_a_throttled_delivery_goes_back_to_its_lane_and_uses_up_no_retry(
    attempts: int, since: timedelta | None
) -> None:
    first = None if since is None else START - since
    settlement = await handled(Answer(429), a_delivery(attempts=attempts, failures=3, first_attempt_at=first))
    assert settlement == Settlement(
        a_delivery(attempts=attempts + 1, failures=3, first_attempt_at=first or START),
        Outcome(Kind.THROTTLED, Reason.DESTINATION_FAILURE, 429),
        back_to_lane=True,
    )


@pytest.mark.parametrize("since", [timedelta(hours=1), timedelta(minutes=59, seconds=59), timedelta(days=2)])
async def test_a_delivery_that_was_throttled_for_an_hour_and_five_times_ends(since: timedelta) -> None:
    settlement = await handled(Answer(429), a_delivery(attempts=4, first_attempt_at=START - since))
    assert settlement.end == DeliveryEnd(
        Operation.FAILED,
        "the endpoint answered 429",
        START + timedelta(seconds=TOOK),
        Reason.DESTINATION_FAILURE,
        429,
        "",
    )
    assert (settlement.retry_at, settlement.back_to_lane) == (None, False)


async def test_only_the_first_kilobyte_of_an_answer_is_kept() -> None:
    settlement = await handled(Answer(404, body=b"\xff" + b"x" * 5000))
    assert settlement.end is not None
    assert settlement.end.excerpt == "\ufffd" + "x" * 1023


async def test_a_fault_of_the_sender_is_raised() -> None:
    class Broken:
        async def post(self, *_: Any, **__: Any) -> Result:
            raise RuntimeError("a bug of ours")

    with pytest.raises(RuntimeError, match="a bug of ours"):
        await deliver(
            a_delivery(),
            subscriptions=Lookup(SUBSCRIPTION),
            senders=https_by(Broken()),
            clock=ManualClock(),
            policy=POLICY,
            egress=Egress(),
        )


# --- the pace ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "throttled"),
    [
        (Answer(200), False),
        (Answer(503), False),
        (Answer(429), True),
        (TransportFailure(Reason.DESTINATION_TIMEOUT), True),
    ],
)
async def test_an_attempt_tells_its_latency_and_whether_the_receiver_was_overrun(
    result: Result, throttled: bool
) -> None:
    seen = (await observed(result)).pace
    assert seen == Observation(START, SUBSCRIPTION.current_rate, TOOK, throttled=throttled)


async def test_a_connection_that_failed_tells_nothing_about_the_pace() -> None:
    assert (await observed(RESET)).pace is None


@pytest.mark.parametrize(("status", "held"), [(429, True), (503, False), (200, False)])
async def test_only_a_429_asks_to_wait(status: int, held: bool) -> None:
    seen = (await observed(Answer(status, {"retry-after": "30"}))).pace
    assert seen is not None
    assert seen.retry_after == (START + timedelta(seconds=TOOK + 30) if held else None)


# --- suspension, and our own faults ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "reason"), [(404, "the endpoint answered 404"), (301, "the endpoint answered 301")]
)
async def test_an_answer_that_suspends_says_why_and_under_which_record(status: int, reason: str) -> None:
    settlement = await handled(Answer(status))
    at = START + timedelta(seconds=TOOK, microseconds=1)  # after the end, in the log too
    assert settlement.suspension == Suspension(SUBSCRIPTION, reason, at)
    assert settlement.tried_under == SUBSCRIPTION


@pytest.mark.parametrize(
    ("result", "seconds"),
    [
        (Answer(429, {"retry-after": "30"}), TOOK + 30),
        (Answer(429), TOOK),
        (Answer(503), TOOK + 300),
        (Answer(404), None),
        (Answer(200), None),
    ],
)
async def test_the_log_says_from_when_on_it_is_tried_again(result: Answer, seconds: float | None) -> None:
    with capture_logs() as lines:
        await handled(result)
    (line,) = lines
    again_at = None if seconds is None else to_rfc3339(START + timedelta(seconds=seconds))
    assert (line["event"], line.get("retry_at")) == ("delivery.attempted", again_at)
    line.pop("log_level")
    assert FORMS["delivery.attempted"].takes(line) is (result == Answer(200))  # shares an entry on Google


@pytest.mark.parametrize("result", [Answer(200), Answer(410), Answer(429), Answer(503), RESET])
async def test_no_other_answer_suspends_at_once(result: Result) -> None:
    assert (await handled(result)).suspension is None


def a_failing_egress() -> Egress:
    """Of 30 other receivers 25 cannot be reached."""
    egress = Egress()
    for number in range(30):
        owner = Owner("https://pim.example.com", f"client-{number % 3}")
        egress.observe(owner, f"receiver-{number}.example", 0.0, failed=number < 25)
    return egress


async def when_egress_fails(result: Result, delivery: Delivery | None = None) -> Settlement:
    clock = ManualClock()
    return await deliver(
        delivery or a_delivery(),
        subscriptions=Lookup(SUBSCRIPTION),
        senders=https_by(ScriptedSender(clock, result)),
        clock=clock,
        policy=POLICY,
        egress=a_failing_egress(),
    )


@pytest.mark.parametrize("failures", [0, 3])
async def test_while_most_origins_fail_no_retry_is_used_up(failures: int) -> None:
    settlement = await when_egress_fails(RESET, a_delivery(failures=failures, attempts=failures))
    assert settlement.is_our_fault
    assert (settlement.delivery.failures, settlement.delivery.attempts) == (failures, failures + 1)
    assert settlement.retry_at == START + timedelta(minutes=5, seconds=TOOK)
    assert settlement.end is None


async def test_while_most_origins_fail_a_timeout_does_not_lower_the_rate() -> None:
    assert (await when_egress_fails(TransportFailure(Reason.DESTINATION_TIMEOUT))).pace is None


async def test_while_most_origins_fail_an_answer_still_ends_a_delivery_but_suspends_nobody() -> None:
    settlement = await when_egress_fails(Answer(404))
    assert settlement.end is not None
    assert (settlement.suspension, settlement.is_our_fault) == (None, False)


async def test_while_most_origins_fail_an_error_that_was_answered_uses_up_its_retry() -> None:
    settlement = await when_egress_fails(Answer(503))
    assert (settlement.delivery.failures, settlement.is_our_fault) == (1, False)


@pytest.mark.provokes("egress.failing")
@pytest.mark.alerts("egress-failing")
async def test_that_most_origins_fail_is_told_once_a_minute_for_an_alert() -> None:
    egress, clock = a_failing_egress(), ManualClock()
    sender = ScriptedSender(clock, *[RESET] * 3)
    with capture_logs() as lines:
        for _ in range(3):
            await deliver(
                a_delivery(),
                subscriptions=Lookup(SUBSCRIPTION),
                senders=https_by(sender),
                clock=clock,
                policy=POLICY,
                egress=egress,
            )
    (line,) = [line for line in lines if line["event"] == "egress.failing"]
    assert (line["log_level"], line["origins"], line["failing"]) == ("error", 31, 26)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        pytest.param(
            OutOfSockets("too many open files"),
            "egress.out_of_sockets",
            marks=pytest.mark.provokes("egress.out_of_sockets"),
        ),
        pytest.param(
            NoResolver("no nameserver answers"),
            "egress.no_resolver",
            marks=[pytest.mark.provokes("egress.no_resolver"), pytest.mark.alerts("no-resolver")],
        ),
    ],
)
async def test_being_unable_to_connect_is_no_attempt_and_is_told_once_a_minute_without_a_traceback(
    error: CannotConnect, line: str
) -> None:
    class Exhausted:
        async def post(self, *_: Any, **__: Any) -> Result:
            raise error

    clock, egress = ManualClock(), Egress()
    with capture_logs() as lines:
        for _ in range(61):
            with pytest.raises(CannotConnect):
                await deliver(
                    a_delivery(),
                    subscriptions=Lookup(SUBSCRIPTION),
                    senders=https_by(Exhausted()),
                    clock=clock,
                    policy=POLICY,
                    egress=egress,
                )
            await clock.advance(1)
    assert [each["event"] for each in lines] == [line] * 2
    assert all(each["log_level"] == "error" and "exc_info" not in each for each in lines)
    assert (egress.origins, egress.failing) == (0, 0)


# --- a network that comes later ----------------------------------------------------------------------

TIMEOUT = TransportFailure(Reason.DESTINATION_TIMEOUT, "no complete answer within 5 s")


async def before_a_network(
    *results: Result, delivery: Delivery | None = None, egress: Egress | None = None
) -> list[Settlement]:
    """What follows from attempts one after the other, in an instance that is new unless `egress` is given."""
    egress, clock = egress or Egress(network_comes_later=True), ManualClock()
    sender = ScriptedSender(clock, *results)
    return [
        await deliver(
            delivery or a_delivery(),
            subscriptions=Lookup(SUBSCRIPTION),
            senders=https_by(sender),
            clock=clock,
            policy=POLICY,
            egress=egress,
        )
        for _ in results
    ]


@pytest.mark.parametrize(
    "reason",
    [
        Reason.DESTINATION_TIMEOUT,
        Reason.DNS_LOOKUP_FAILURE,
        Reason.NETWORK_UNREACHABLE,
        Reason.CONNECTION_REFUSED,
    ],
)
async def test_until_the_first_connection_a_transport_failure_counts_against_nobody(reason: Reason) -> None:
    egress = Egress(network_comes_later=True)
    (settlement,) = await before_a_network(TransportFailure(reason), egress=egress)
    assert (settlement.delivery.attempts, settlement.delivery.failures) == (1, 0)
    assert settlement.retry_at == START + timedelta(minutes=5, seconds=TOOK)
    assert (settlement.succeeded, settlement.pace, settlement.suspension) == (None, None, None)
    assert (egress.origins, egress.failing) == (0, 0)


@pytest.mark.parametrize(
    "first", [Answer(200), Answer(503), RESET, TransportFailure(Reason.INVALID_CERTIFICATE)]
)
async def test_after_a_connection_anywhere_a_transport_failure_uses_up_its_retry(first: Result) -> None:
    _, settlement = await before_a_network(first, TIMEOUT)
    assert (settlement.delivery.failures, settlement.succeeded) == (1, False)


async def test_60_seconds_after_the_first_attempt_a_transport_failure_uses_up_its_retry() -> None:
    settlements = await before_a_network(*[TIMEOUT] * 42)  # TOOK seconds each
    failures = [settlement.delivery.failures for settlement in settlements]
    assert failures == [0] * 41 + [1]
    assert settlements[-1].succeeded is False


@pytest.mark.parametrize(
    ("attempts", "failures", "then"),
    [(0, 0, 0), (1, 1, 1), (1, 0, 1), (2, 1, 2)],
)
async def test_a_delivery_has_one_free_retry_at_most(attempts: int, failures: int, then: int) -> None:
    before = a_delivery(attempts=attempts, failures=failures, first_attempt_at=START)
    (settlement,) = await before_a_network(TIMEOUT, delivery=before)
    assert settlement.delivery.failures == then
    assert settlement.succeeded is None, "the receiver has no part in it, free or not"
