"""Use cases for whoever writes a receiver: send one example now, and say why an event comes or does not."""

from dataclasses import dataclass, replace
from typing import Any

import structlog
import uuid_utils

from ..domain.attempts.https_requests import EXCERPT_BYTES, request_headers, without_secrets
from ..domain.attempts.outcomes import Answer, TransportFailure, classify
from ..domain.errors import Conflict, InvalidRequest, Problem
from ..domain.events.catalog import BENCHMARK, Catalog
from ..domain.events.event import Event, envelope, example_of
from ..domain.ingest_formats.cloudevents import Context, read_value
from ..domain.matching import Check, checks
from ..domain.record.answers import ShownResponse, TrialAnswer
from ..domain.subscriptions import REDACTED, HttpsConfig, Subscription, check_changeable, check_known
from ..domain.timestamps import to_rfc3339
from .identity import Caller
from .pauses import Pauses
from .payloads.body import validated
from .payloads.trials import TestBody
from .services import Manage
from .subscribers import check_permission

log = structlog.get_logger()

SECONDS_BETWEEN_TESTS = 1.0
"""The pause between two tests of one subscription."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One example event that was sent to a subscription, outside its queue, and what came back.

    `headers` are those that were sent, the values of custom ones redacted; `result` is without our secrets.
    """

    url: str
    event: Event
    headers: tuple[tuple[str, str], ...]
    body: bytes
    result: Answer | TransportFailure
    milliseconds: float

    def shown(self) -> TrialAnswer:
        """Returns the answer; the body's text in UTF-8 is the bytes that were sent."""
        outcome = classify(self.result)
        return {
            "event": {"id": self.event.id, "type": self.event.type},
            "outcome": outcome.kind,
            "status": outcome.status,
            "reason": outcome.reason,
            "milliseconds": self.milliseconds,
            "request": {
                "method": "POST",
                "url": self.url,
                "headers": dict(self.headers),
                "body": self.body.decode(),
            },
            "detail": self.result.detail if isinstance(self.result, TransportFailure) else "",
            "response": _shown(self.result) if isinstance(self.result, Answer) else None,
        }


def _shown(answer: Answer) -> ShownResponse:
    return {"status": answer.status, "body": answer.body[:EXCERPT_BYTES].decode("utf-8", "replace")}


async def send_test(
    caller: Caller,
    subscriber_id: str,
    subscription_id: str,
    body: Any,
    *,
    manage: Manage,
    pauses: Pauses,
    schema_base: str,
) -> Trial:
    """Sends an example of one of its events to a subscription, suspended or not, and waits for the answer.

    It is no delivery: neither counted nor logged, nor does it change pace or status. Raises
    InvalidRequest, Forbidden, NotFound, Conflict (deleted, revoked, or not https) and TooManyRequests.
    """
    rules, clock = manage.rules_for(caller), manage.clock
    wanted = validated(TestBody, body, rules=rules)
    check_permission(caller)
    subscription = await manage.subscriptions.subscription(caller.owner, subscriber_id, subscription_id)
    check_changeable(subscription, clock.now())
    config = subscription.config
    if not isinstance(config, HttpsConfig):
        raise Conflict(f"tests are of https subscriptions, and this one is of {config.type}")
    name = _type_to_send(wanted.type, subscription, rules.known)
    pauses.take(subscription.id, SECONDS_BETWEEN_TESTS, what="a test of this subscription can be made")
    event = example_of(rules.known[name], event_id=str(uuid_utils.uuid7()), time=to_rfc3339(clock.now()))
    with_identifier = subscription.send_product_identifier or not event.facts.has_identifier
    sent = envelope(event, schema_base, with_identifier=with_identifier).addressed_to(subscription.id)
    headers = request_headers(event.id, sent, config)
    started = clock.monotonic()
    result = await manage.sender.post(config.url, headers, sent, owner=caller.owner, timeout=manage.timeout)
    milliseconds = round((clock.monotonic() - started) * 1000, 1)
    outcome = classify(result)
    log.info("test.sent", subscription_id=subscription.id, outcome=outcome.kind, milliseconds=milliseconds)
    shown = tuple((name, REDACTED if name in config.headers else value) for name, value in headers)
    return Trial(config.url, event, shown, sent, without_secrets(result, config), milliseconds)


async def explain(
    caller: Caller,
    subscriber_id: str,
    subscription_id: str,
    body: Any,
    *,
    manage: Manage,
) -> tuple[Event, list[Check]]:
    """Returns the answer of each part of a subscription to an event, which is not sent anywhere.

    Raises InvalidRequest (as ingest would), Forbidden (an event that claims another PIM), TooLarge, NotFound.
    """
    now = manage.clock.now()
    event = _event(caller, body, Context(caller.owner.tenant, manage.catalog, now))
    subscription = await manage.subscriptions.subscription(caller.owner, subscriber_id, subscription_id)
    check_known(subscription, now)
    return event, checks(event, subscription)


def _event(caller: Caller, body: Any, context: Context) -> Event:
    """A CloudEvent as ingest takes it, whose id may be left out; of a benchmark, the caller's."""
    identified = {"id": str(uuid_utils.uuid7()), **body} if isinstance(body, dict) else body
    event = read_value(identified, context)
    return replace(event, benchmark_client=caller.owner.client_id) if event.type == BENCHMARK else event


def _type_to_send(wanted: str | None, subscription: Subscription, known: Catalog) -> str:
    """Raises InvalidRequest. An own type that the operator took away since has no example."""
    listed = (BENCHMARK,) if subscription.source == "benchmark" else subscription.events
    types = [name for name in listed if name in known]
    if wanted is None and types:
        return types[0]
    if wanted not in types:
        raise InvalidRequest(
            Problem("type", f"must be one of the subscription's: {', '.join(types[:20]) or 'none is known'}")
        )
    return wanted
