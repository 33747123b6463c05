"""The vectors of `suites/destinations.py`, each when a subscription is made and when a delivery is sent."""

import socket
from collections.abc import AsyncIterator
from functools import partial
from urllib.parse import urlsplit

import pytest
from aiohappyeyeballs import AddrInfoType

from contract.suites.destinations import VECTORS, Vector
from contract.test_https_sender import resolver_of
from event_platform.adapters.guard import GuardedNetwork
from event_platform.adapters.https import HttpsSender
from event_platform.domain.attempts.outcomes import Reason, TransportFailure
from event_platform.domain.errors import InvalidRequest
from event_platform.domain.urls import normalise_endpoint_url
from event_platform.manage.guarding import parsed_and_guarded
from event_platform.manage.payloads.body import Rules
from event_platform.manage.payloads.configs import HttpsBody
from event_platform.manage.payloads.subscriptions import parse_subscription
from event_platform.manage.subscriptions import HOSTS
from support.records import OWNER, PIM, PRIMARY, UPDATED
from support.servers import DnsServer

NOTHING_OPENED = "no connection leaves this machine"


class WatchedNetwork(GuardedNetwork):
    """Notes each address that a socket would be opened for, and opens none."""

    def __init__(self, dns: DnsServer) -> None:
        super().__init__(make_resolver=lambda: resolver_of(dns))
        self.opened: list[str] = []

    def open_socket(self, address: AddrInfoType) -> socket.socket:
        super().open_socket(address).close()
        self.opened.append(address[4][0])
        raise ConnectionRefusedError(111, NOTHING_OPENED)


@pytest.fixture(params=VECTORS, ids=str)
def vector(request: pytest.FixtureRequest) -> Vector:
    return request.param


@pytest.fixture
async def dns(vector: Vector) -> AsyncIterator[DnsServer]:
    try:
        host = urlsplit(normalise_endpoint_url(vector.url, allow_http=True)).hostname or ""
    except ValueError:
        host = ""
    rounds = [vector.at_first, vector.later] if vector.at_first or vector.later else []
    async with DnsServer({host: rounds} if host and rounds else {}) as server:
        yield server


@pytest.fixture
async def network(dns: DnsServer) -> AsyncIterator[WatchedNetwork]:
    network = WatchedNetwork(dns)
    yield network
    await network.close()


async def made(vector: Vector, network: GuardedNetwork) -> str:
    """The URL that a new subscription keeps. Raises InvalidRequest."""
    body = {
        "events": [UPDATED],
        "type": "https",
        "config": {"url": vector.url, "secret": {"primary": PRIMARY}},
    }
    parse = partial(parse_subscription, body, rules=Rules(PIM, allow_http=False, is_new=True))
    _, config = await parsed_and_guarded(parse, body, HOSTS["https"], network)
    assert isinstance(config, HttpsBody)
    return config.url


async def sent(url: str, network: GuardedNetwork) -> TransportFailure:
    sender = HttpsSender(network)
    try:
        result = await sender.post(url, [], b"{}", owner=OWNER, timeout=5)
    finally:
        await sender.close()
    assert isinstance(result, TransportFailure)
    return result


async def test_a_destination_is_checked_when_it_is_made_and_when_it_is_connected_to(
    vector: Vector, network: WatchedNetwork
) -> None:
    if vector.refused:
        with pytest.raises(InvalidRequest) as raised:
            await made(vector, network)
        assert {problem.field for problem in raised.value.problems} == {"config.url"}
        assert vector.refused in str(raised.value.problems[0].message)
        url = vector.url  # as if it had been stored all the same
    else:
        url = await made(vector, network)
    assert not network.opened
    if vector.refused == "https://" and url.startswith("http://"):
        return  # that plain http is not for production is a rule of what is made; the guard holds for both
    result = await sent(url, network)
    assert set(network.opened) == set(vector.reached)
    if vector.reached:
        assert result.reason is Reason.CONNECTION_REFUSED
    elif vector.at_first or vector.later or vector.refused:
        assert result.reason is Reason.INVALID_DESTINATION_CONFIGURATION
    else:
        assert result.reason is Reason.DNS_LOOKUP_FAILURE


def test_there_are_vectors_of_every_kind() -> None:
    assert len(VECTORS) >= 60
    assert any(vector.refused and vector.at_first for vector in VECTORS)
    assert any(not vector.refused and not vector.reached and vector.later for vector in VECTORS)
    assert any(vector.reached for vector in VECTORS)
