"""From a receiver's behaviour on the wire to what follows from it: real sockets, sender and `deliver`.

What an implementation of the sender makes of the bytes is told in full by `contract/suites/sender.py`; here
each kind of failure goes the whole way to its settlement (contract/wire.md 11 and 13).
"""

import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from contract.suites.sender import AMPLE, SHORT, certificates
from contract.test_https_sender import resolver_of
from event_platform.adapters.guard import GuardedNetwork
from event_platform.adapters.https import HttpsSender
from event_platform.adapters.resolvers import public_names
from event_platform.deliver import deliver
from event_platform.domain.attempts.egress import Egress
from event_platform.domain.attempts.outcomes import Kind, Reason
from event_platform.domain.deliveries import DeliverPolicy, Delivery, Settlement
from event_platform.domain.subscriptions import Subscription
from support.clock import START, ManualClock
from support.processes import free_port
from support.records import UPDATED, a_subscriber, a_subscription
from support.senders import https_by
from support.servers import OK, Certificates, DnsServer, Peer, Play, answers, serve

__all__ = ["certificates"]

RETRY_DELAYS = [timedelta(minutes=minutes) for minutes in (5, 10, 20)]
POLICY = DeliverPolicy(RETRY_DELAYS, max_age=timedelta(days=3), timeout=AMPLE)


class One:
    """The port `SubscriptionLookup`, of one subscription."""

    def __init__(self, subscription: Subscription) -> None:
        self._subscription = subscription

    async def current(self, subscription_id: str) -> Subscription | None:
        return self._subscription if subscription_id == self._subscription.id else None


async def settled(
    url: str, *, timeout: float = AMPLE, trust: ssl.SSLContext | None = None, dns: DnsServer | None = None
) -> Settlement:
    """What follows from the first attempt at a delivery to that endpoint."""
    subscription = a_subscription(a_subscriber(), url=url)
    make_resolver = public_names if dns is None else lambda: resolver_of(dns)
    network = GuardedNetwork(allow_loopback=True, make_resolver=make_resolver)
    sender = HttpsSender(network, tls=trust)
    delivery = Delivery(
        subscription.id, "event-1", UPDATED, START, lane=0, lanes=16, epoch=0, body=b'{"id":"event-1"}'
    )
    try:
        return await deliver(
            delivery,
            subscriptions=One(subscription),
            senders=https_by(sender),
            clock=ManualClock(),
            policy=replace(POLICY, timeout=timeout),
            egress=Egress(),
        )
    finally:
        await sender.close()
        await network.close()


def check(settlement: Settlement, kind: Kind, reason: Reason | None) -> None:
    """The outcome, and that exactly what belongs to its kind follows."""
    assert settlement.outcome is not None
    assert (settlement.outcome.kind, settlement.outcome.reason) == (kind, reason)
    assert settlement.delivery.attempts == 1
    assert settlement.delivery.failures == (1 if kind is Kind.RETRYABLE else 0)
    due = START + RETRY_DELAYS[0] if kind is Kind.RETRYABLE else None
    assert settlement.retry_at == due
    assert settlement.back_to_lane is (kind is Kind.THROTTLED)
    ended = kind in (Kind.PERMANENT, Kind.SUSPENDING)
    assert (settlement.end.reason if settlement.end else None) == (reason if ended else None)


def head(status: int, *headers: str) -> bytes:
    lines = (f"HTTP/1.1 {status} Told", "Content-Length: 0", *headers, "", "")
    return "\r\n".join(lines).encode()


@pytest.mark.parametrize(
    ("answer", "kind", "reason"),
    [
        (head(200), Kind.DELIVERED, None),
        (b"HTTP/1.1 204 No Content\r\n\r\n", Kind.DELIVERED, None),
        (head(299), Kind.DELIVERED, None),
        (b"HTTP/1.0 200 OK\r\n\r\nold", Kind.DELIVERED, None),
        (b"HTTP/1.1 200 OK\r\n\r\nno content length", Kind.DELIVERED, None),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, Kind.DELIVERED, None),
        (head(301, "Location: https://elsewhere.test/"), Kind.SUSPENDING, Reason.DESTINATION_REDIRECTED),
        (head(301), Kind.SUSPENDING, Reason.DESTINATION_REDIRECTED),
        (head(404), Kind.SUSPENDING, Reason.DESTINATION_NOT_FOUND),
        (head(400), Kind.RETRYABLE, Reason.DESTINATION_FAILURE),
        (head(401), Kind.RETRYABLE, Reason.DESTINATION_FAILURE),
        (head(408), Kind.RETRYABLE, Reason.DESTINATION_FAILURE),
        (head(410), Kind.RETRYABLE, Reason.DESTINATION_FAILURE),
        (head(425), Kind.RETRYABLE, Reason.DESTINATION_FAILURE),
        (head(429), Kind.THROTTLED, Reason.DESTINATION_FAILURE),
        (head(500), Kind.RETRYABLE, Reason.DESTINATION_FAILURE),
        (head(599), Kind.RETRYABLE, Reason.DESTINATION_FAILURE),
        (b"220 mail.example.org ESMTP\r\n", Kind.RETRYABLE, Reason.DESTINATION_FAILURE),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", Kind.RETRYABLE, Reason.UNEXPECTED_EOF),
    ],
    ids=lambda value: value.decode("latin-1").partition("\r")[0] if isinstance(value, bytes) else None,
)  # fmt: skip
async def test_an_answer_has_its_consequence(answer: bytes, kind: Kind, reason: Reason | None) -> None:
    async with serve(answers(answer)) as server:
        check(await settled(server.url()), kind, reason)
    assert len(server.requests) == 1


async def endless(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        await peer.send(b"x" * 4096)


async def test_an_endless_body_is_a_delivery_that_arrived() -> None:
    async with serve(endless) as server:
        check(await settled(server.url()), Kind.DELIVERED, None)


async def resetting(peer: Peer) -> None:
    await peer.request()
    peer.reset()


async def silent_after_the_status(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")
    await peer.until_hung_up()


async def dripping_headers(peer: Peer) -> None:
    await answers(b"HTTP/1.1 200 OK\r\n", *(b"X-A: b\r\n", SHORT / 5) * 100)(peer)


@pytest.mark.parametrize(
    ("play", "timeout", "reason"),
    [
        (resetting, AMPLE, Reason.CONNECTION_RESET),
        (dripping_headers, SHORT, Reason.DESTINATION_TIMEOUT),
        (silent_after_the_status, SHORT, Reason.DESTINATION_TIMEOUT),
    ],
)
async def test_a_connection_that_breaks_or_stalls_is_tried_again(
    play: Play, timeout: float, reason: Reason
) -> None:
    async with serve(play) as server:
        check(await settled(server.url(), timeout=timeout), Kind.RETRYABLE, reason)


async def test_nobody_who_listens_is_tried_again() -> None:
    settlement = await settled(f"http://127.0.0.1:{free_port()}/")
    check(settlement, Kind.RETRYABLE, Reason.CONNECTION_REFUSED)


async def test_a_host_that_is_unknown_is_tried_again() -> None:
    async with DnsServer({}) as dns:
        settlement = await settled("https://hooks.example.org/", dns=dns)
    check(settlement, Kind.RETRYABLE, Reason.DNS_LOOKUP_FAILURE)


@pytest.mark.parametrize("make", [Certificates.wrong_name, Certificates.expired, Certificates.self_signed])
async def test_a_certificate_that_does_not_hold_is_tried_again(
    certificates: Certificates, make: Callable[[Certificates], ssl.SSLContext]
) -> None:
    async with serve(answers(OK), tls=make(certificates)) as server:
        settlement = await settled(server.url(), trust=certificates.trust)
    check(settlement, Kind.RETRYABLE, Reason.INVALID_CERTIFICATE)
    assert not server.requests


async def test_plain_http_on_a_tls_port_is_tried_again() -> None:
    async def play(peer: Peer) -> None:
        await peer.reader.read(1)
        await peer.send(head(400))
        await peer.until_hung_up()

    async with serve(play) as server:
        settlement = await settled(f"https://127.0.0.1:{server.port}/")
    check(settlement, Kind.RETRYABLE, Reason.INVALID_TLS_HANDSHAKE)


async def test_an_address_that_is_refused_is_not_tried_again() -> None:
    settlement = await settled("https://10.0.0.1/")
    check(settlement, Kind.PERMANENT, Reason.INVALID_DESTINATION_CONFIGURATION)
