"""The PIM gateway over https."""

import ssl
from collections.abc import AsyncIterator

import pytest

from contract.suites.pim_gateway import HOST, PATTERN, TOKEN, MakeGateway, PimGatewayContract, refusal
from contract.suites.sender import certificates
from event_platform import __version__
from event_platform.adapters.guard import GuardedNetwork, TrustedNetwork
from event_platform.adapters.https import HttpsPimGateway
from event_platform.adapters.resolvers import local_names, public_names
from event_platform.domain.tenants import Tenant
from event_platform.ports import PimGateway
from support.processes import free_port
from support.servers import OK, DnsServer, answers, serve

__all__ = ["certificates"]


class TestHttpsPimGateway(PimGatewayContract):
    @pytest.fixture
    async def make_gateway(self) -> AsyncIterator[MakeGateway]:
        made: list[HttpsPimGateway | TrustedNetwork] = []

        def make(
            *, allow_loopback: bool = False, trust: ssl.SSLContext | None = None, dns: DnsServer | None = None
        ) -> HttpsPimGateway:
            servers = None if dns is None else [f"127.0.0.1:{dns.port}"]
            guarded = GuardedNetwork(
                allow_loopback=allow_loopback, make_resolver=lambda: public_names(servers)
            )
            trusted = TrustedNetwork(make_resolver=lambda: local_names(servers))
            gateway = HttpsPimGateway(guarded, trusted, tls=trust)
            made.extend((gateway, guarded, trusted))
            return gateway

        yield make
        for one in made:
            await one.close()

    async def test_nothing_but_the_question_is_sent(self, gateway: PimGateway) -> None:
        async with serve(answers(OK)) as server:
            await gateway.get(Tenant(url=server.url("")), server.url(""), "/", TOKEN)
        assert server.requests == [
            b"GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: Bearer %s\r\n"
            b"Accept: application/json\r\nUser-Agent: akeneo-event-platform/%s\r\n\r\n"
            % (server.port, TOKEN.encode(), __version__.encode())
        ]

    async def test_a_refusal_names_the_reason(self, make_gateway: MakeGateway) -> None:
        async with DnsServer({HOST: [["127.0.0.1"]]}) as dns:
            gateway = make_gateway(dns=dns)
            assert "the host has no public address" in await refusal(gateway, PATTERN, f"https://{HOST}")
            pim = f"http://127.0.0.1:{free_port()}"
            assert "connection refused" in await refusal(gateway, Tenant(url=pim), pim)
