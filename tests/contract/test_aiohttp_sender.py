"""The sender that is built on aiohttp."""

import asyncio
import errno
import gc
import ssl
from collections.abc import AsyncIterator
from socket import socket

import pytest
import uvloop
from aiohttp import AddrInfoType
from aiohttp.abc import AbstractResolver

from contract.sender import AMPLE, HEADERS, MakeSender, SenderContract, certificates, reason_of, status_of
from contract.servers import OK, DnsServer, Peer, answers, free_port, serve
from event_platform.adapters.guard import GuardedNetwork, TrustedNetwork, public_names
from event_platform.adapters.https import HttpsSender
from event_platform.domain.outcomes import Reason

__all__ = ["certificates"]


def resolver_of(dns: DnsServer) -> AbstractResolver:
    return public_names([f"127.0.0.1:{dns.port}"])


class TestHttpsSender(SenderContract):
    @pytest.fixture
    async def make_sender(self) -> AsyncIterator[MakeSender]:
        made: list[HttpsSender | GuardedNetwork] = []

        def make(
            *, allow_loopback: bool = True, trust: ssl.SSLContext | None = None, dns: DnsServer | None = None
        ) -> HttpsSender:
            network = GuardedNetwork(
                allow_loopback=allow_loopback,
                make_resolver=public_names if dns is None else lambda: resolver_of(dns),
            )
            sender = HttpsSender(network, tls=trust)
            made.extend((sender, network))
            return sender

        yield make
        for one in made:
            await one.close()

    async def test_being_out_of_sockets_is_no_receivers_failure(self) -> None:
        class Exhausted(GuardedNetwork):
            def open_socket(self, address: AddrInfoType) -> socket:
                raise OSError(errno.EMFILE, "too many open files")

        sender = HttpsSender(Exhausted(allow_loopback=True))
        with pytest.raises(OSError, match="too many open files"):
            await sender.post("http://127.0.0.1/", HEADERS, b"{}", timeout=AMPLE)
        await sender.close()

    async def test_no_route_to_one_address_does_not_hide_what_another_did(self) -> None:
        class WithoutIpv6(GuardedNetwork):
            def open_socket(self, address: AddrInfoType) -> socket:
                if ":" in str(address[4][0]):
                    raise OSError(errno.ENETUNREACH, "network is unreachable")
                return super().open_socket(address)

        async with DnsServer({"hooks.example.org": [["::1", "127.0.0.1"]]}) as dns:
            network = WithoutIpv6(allow_loopback=True, make_resolver=lambda: resolver_of(dns))
            sender = HttpsSender(network)
            url = f"http://hooks.example.org:{free_port()}/"
            result = await sender.post(url, HEADERS, b"{}", timeout=AMPLE)
            await sender.close()
            await network.close()
        assert reason_of(result) is Reason.CONNECTION_REFUSED

    async def test_no_route_at_all(self) -> None:
        class Unconnected(GuardedNetwork):
            def open_socket(self, address: AddrInfoType) -> socket:
                raise OSError(errno.ENETUNREACH, "network is unreachable")

        sender = HttpsSender(Unconnected(allow_loopback=True))
        result = await sender.post("http://127.0.0.1/", HEADERS, b"{}", timeout=AMPLE)
        assert reason_of(result) is Reason.NETWORK_UNREACHABLE
        await sender.close()

    async def test_an_idle_connection_that_is_reset_does_not_litter_the_log(self) -> None:
        sender = HttpsSender(GuardedNetwork(allow_loopback=True))
        told: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

        async def play(peer: Peer) -> None:
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
            await asyncio.sleep(0.05)  # so that somebody waits for the body, and asks how the connection ends
            await peer.send(b"ok")
            await asyncio.sleep(0.05)
            peer.reset()

        async with serve(play) as server:
            assert status_of(await sender.post(server.url(), HEADERS, b"{}", timeout=AMPLE)) == 200
            await asyncio.sleep(0.2)
            await sender.post(server.url(), HEADERS, b"{}", timeout=AMPLE)  # drops the dead one from the pool
        await sender.close()
        await asyncio.sleep(0)
        gc.collect()
        assert not told

    async def test_a_name_that_changes_between_the_check_and_the_connection_is_refused(self) -> None:
        async with (
            DnsServer({"hooks.example.org": [["93.184.215.14"], ["127.0.0.1"]]}) as dns,
            serve(answers(OK)) as server,
        ):
            network = GuardedNetwork(make_resolver=lambda: resolver_of(dns))
            sender = HttpsSender(network)
            await network.check("hooks.example.org")
            result = await sender.post(server.url(host="hooks.example.org"), HEADERS, b"{}", timeout=AMPLE)
            await sender.close()
            await network.close()
        assert reason_of(result) is Reason.INVALID_DESTINATION_CONFIGURATION
        assert server.connections == 0

    async def test_the_socket_checks_what_the_lookup_let_through(self) -> None:
        """The last word is at the socket, whatever went wrong before it."""

        class Careless(GuardedNetwork):
            resolve = TrustedNetwork.resolve

        async with (
            DnsServer({"hooks.example.org": [["127.0.0.1", "127.0.0.2"]]}) as dns,
            serve(answers(OK)) as server,
        ):
            network = Careless(make_resolver=lambda: resolver_of(dns))
            sender = HttpsSender(network)
            result = await sender.post(server.url(host="hooks.example.org"), HEADERS, b"{}", timeout=AMPLE)
            await sender.close()
            await network.close()
        assert reason_of(result) is Reason.INVALID_DESTINATION_CONFIGURATION
        assert server.connections == 0

    async def test_closing_twice_and_unused_does_no_harm(self) -> None:
        sender = HttpsSender(GuardedNetwork())
        await sender.close()
        await sender.close()


@pytest.mark.filterwarnings("ignore:Overriding the")
class TestHttpsSenderOnUvloop(TestHttpsSender):
    """The loop that the platform runs on, whose sockets and TLS fail in ways of their own."""

    @pytest.fixture
    def event_loop_policy(self) -> asyncio.AbstractEventLoopPolicy:
        return uvloop.EventLoopPolicy()

    async def test_it_is_uvloop(self) -> None:
        assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
