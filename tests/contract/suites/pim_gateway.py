"""What every way to ask a PIM whose token it is must do: the port `PimGateway`, against real sockets."""

import asyncio
import ssl
import time
from collections.abc import Callable
from typing import Protocol

import pytest

from event_platform.domain.errors import PimUnavailable
from event_platform.domain.tenants import Tenant
from event_platform.ports import PimGateway
from support.processes import free_port
from support.servers import OK, Certificates, DnsServer, Peer, Play, answers, serve

TOKEN = "t0k3n-of-tests"
PATTERN = Tenant(host_pattern="*.cloud.example.org")
HOST = "a.cloud.example.org"
"""One that PATTERN covers."""


class MakeGateway(Protocol):
    """Makes a gateway; it is closed when the test ends.

    It trusts `trust` (the system's authorities when None) and resolves with `dns` (the system's resolver).
    With `allow_loopback` it is as with --dev, where this machine counts as a public one.
    """

    def __call__(
        self,
        *,
        allow_loopback: bool = False,
        trust: ssl.SSLContext | None = None,
        dns: DnsServer | None = None,
    ) -> PimGateway: ...


async def refusal(gateway: PimGateway, tenant: Tenant, pim_url: str) -> str:
    """What it says when the PIM could not be asked: never the token, as this gets into logs."""
    with pytest.raises(PimUnavailable, match=r".") as raised:
        await gateway.get(tenant, pim_url, "/", TOKEN)
    assert TOKEN not in str(raised.value)
    return str(raised.value)


class PimGatewayContract:
    """Subclasses provide `make_gateway`, and import the fixture `certificates` of `suites.sender`."""

    @pytest.fixture
    def make_gateway(self) -> MakeGateway:
        raise AssertionError("a subclass makes its gateways here")

    @pytest.fixture
    def gateway(self, make_gateway: MakeGateway, certificates: Certificates) -> PimGateway:
        return make_gateway(trust=certificates.trust)

    # What the PIM said

    async def test_the_token_goes_to_the_pim_and_the_answer_comes_back(self, gateway: PimGateway) -> None:
        async with serve(answers(OK)) as server:
            pim = server.url("/pim")
            answer = await gateway.get(Tenant(url=pim), pim, "/api/rest/v1/token-info?a=%20", TOKEN)
        assert (answer.status, answer.body) == (200, b"ok")
        (request,) = server.requests
        first, *headers = request.decode().split("\r\n\r\n")[0].split("\r\n")
        assert first == "GET /pim/api/rest/v1/token-info?a=%20 HTTP/1.1"
        sent = dict(line.lower().split(": ", 1) for line in headers)
        assert sent["authorization"] == f"bearer {TOKEN}"
        assert sent["host"] == f"127.0.0.1:{server.port}"
        assert f"Bearer {TOKEN}" in request.decode()

    async def test_each_token_goes_with_its_own_question(self, gateway: PimGateway) -> None:
        async def play(peer: Peer) -> None:
            while True:
                request = await peer.request()
                token = request.split(b"Bearer ")[1].split(b"\r\n")[0]
                await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(token), token))

        tokens = [f"token-{number}" for number in range(20)]
        async with serve(play) as server:
            tenant, pim = Tenant(url=server.url("")), server.url("")
            found = await asyncio.gather(*(gateway.get(tenant, pim, "/", token) for token in tokens))
            again = [await gateway.get(tenant, pim, "/", token) for token in tokens]
        assert [answer.body.decode() for answer in found] == tokens
        assert [answer.body.decode() for answer in again] == tokens

    @pytest.mark.parametrize("status", [200, 204, 400, 401, 403, 404])
    async def test_what_the_pim_decides_is_returned(self, gateway: PimGateway, status: int) -> None:
        async with serve(answers(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status)) as server:
            answer = await gateway.get(Tenant(url=server.url("")), server.url(""), "/", TOKEN)
        assert answer.status == status

    async def test_at_most_64_kib_are_read(self, gateway: PimGateway) -> None:
        async def play(peer: Peer) -> None:
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_000_000)
            await peer.until_hung_up()

        async with serve(play) as server:
            answer = await gateway.get(Tenant(url=server.url("")), server.url(""), "/", TOKEN)
        assert answer.body == b"x" * 65536

    # What is no answer

    @pytest.mark.parametrize("status", [301, 302, 307, 429, 500, 502, 503, 599])
    async def test_what_is_no_decision_is_unavailable(self, gateway: PimGateway, status: int) -> None:
        answer = b"HTTP/1.1 %d X\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n" % status
        async with serve(answers(answer, keep=True)) as server:
            assert str(status) in await refusal(gateway, Tenant(url=server.url("")), server.url(""))
        assert len(server.requests) == 1

    async def test_nobody_there_is_unavailable(self, gateway: PimGateway) -> None:
        pim = f"http://127.0.0.1:{free_port()}"
        await refusal(gateway, Tenant(url=pim), pim)

    async def test_a_name_that_does_not_resolve_is_unavailable(self, make_gateway: MakeGateway) -> None:
        async with DnsServer({}) as dns:
            pim = "http://pim.example.org"
            await refusal(make_gateway(dns=dns), Tenant(url=pim), pim)

    @pytest.mark.parametrize(
        "step",
        [
            b"",
            b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Le",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ],
    )
    async def test_what_is_no_whole_answer_is_unavailable(self, gateway: PimGateway, step: bytes) -> None:
        async with serve(answers(step)) as server:
            await refusal(gateway, Tenant(url=server.url("")), server.url(""))

    async def test_a_pim_has_three_seconds(self, gateway: PimGateway) -> None:
        """For all of it: headers, and a body that goes on and on."""

        async def drip(peer: Peer) -> None:
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            while True:
                await peer.send(b"x")
                await asyncio.sleep(0.2)

        async def seconds(play: Play) -> float:
            async with serve(play) as server:
                started = time.monotonic()
                await refusal(gateway, Tenant(url=server.url("")), server.url(""))
                return time.monotonic() - started

        slow: list[Play] = [answers(30.0), answers(b"HTTP/1.1 200 OK\r\n", 30.0), drip]
        for taken in await asyncio.gather(*map(seconds, slow)):
            assert 2.9 <= taken < 15

    # TLS

    async def test_a_pim_over_tls(self, gateway: PimGateway, certificates: Certificates) -> None:
        async with serve(answers(OK), tls=certificates.good()) as server:
            pim = server.url("")
            assert (await gateway.get(Tenant(url=pim), pim, "/", TOKEN)).status == 200

    @pytest.mark.parametrize(
        "make",
        [
            Certificates.wrong_name,
            Certificates.expired,
            Certificates.unknown_authority,
            Certificates.self_signed,
        ],
    )
    async def test_no_token_goes_to_whoever_has_no_good_certificate(
        self,
        gateway: PimGateway,
        certificates: Certificates,
        make: Callable[[Certificates], ssl.SSLContext],
    ) -> None:
        async with serve(answers(OK), tls=make(certificates)) as server:
            await refusal(gateway, Tenant(url=server.url("")), server.url(""))
        assert not server.requests

    async def test_certificates_are_verified_by_default(
        self, make_gateway: MakeGateway, certificates: Certificates
    ) -> None:
        async with serve(answers(OK), tls=certificates.good()) as server:
            await refusal(make_gateway(), Tenant(url=server.url("")), server.url(""))
        assert not server.requests

    # Where it connects to

    @pytest.mark.parametrize("addresses", [["127.0.0.1"], ["127.0.0.1", "93.184.215.14"]])
    async def test_a_pim_of_a_pattern_must_be_public(
        self, make_gateway: MakeGateway, certificates: Certificates, addresses: list[str]
    ) -> None:
        async with (
            DnsServer({HOST: [addresses]}) as dns,
            serve(answers(OK), tls=certificates.good(HOST)) as server,
        ):
            gateway = make_gateway(trust=certificates.trust, dns=dns)
            await refusal(gateway, PATTERN, server.url("", host=HOST))
        assert server.connections == 0

    async def test_a_pim_of_an_exact_url_may_be_private(
        self, make_gateway: MakeGateway, certificates: Certificates
    ) -> None:
        async with (
            DnsServer({HOST: [["127.0.0.1"]]}) as dns,
            serve(answers(OK), tls=certificates.good(HOST)) as server,
        ):
            gateway, pim = make_gateway(trust=certificates.trust, dns=dns), server.url("", host=HOST)
            assert (await gateway.get(Tenant(url=pim), pim, "/", TOKEN)).status == 200

    async def test_a_pims_open_connection_is_not_lent_to_a_pattern(
        self, make_gateway: MakeGateway, certificates: Certificates
    ) -> None:
        """Nor is what its name resolved to: both would go around the guard."""
        async with (
            DnsServer({HOST: [["127.0.0.1"]]}) as dns,
            serve(answers(OK, keep=True), tls=certificates.good(HOST)) as server,
        ):
            gateway, pim = make_gateway(trust=certificates.trust, dns=dns), server.url("", host=HOST)
            assert (await gateway.get(Tenant(url=pim), pim, "/", TOKEN)).status == 200
            await refusal(gateway, PATTERN, pim)
        assert len(server.requests) == 1

    async def test_a_pim_of_a_pattern_that_is_public_is_asked(
        self, make_gateway: MakeGateway, certificates: Certificates
    ) -> None:
        async with (
            DnsServer({HOST: [["127.0.0.1"]]}) as dns,
            serve(answers(OK), tls=certificates.good(HOST)) as server,
        ):
            gateway = make_gateway(allow_loopback=True, trust=certificates.trust, dns=dns)
            assert (await gateway.get(PATTERN, server.url("", host=HOST), "/", TOKEN)).status == 200
