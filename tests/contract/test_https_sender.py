"""The sender over https, on both event loops."""

import asyncio
import errno
import gc
import resource
import ssl
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import IPPROTO_TCP, SO_RCVBUF, SOL_SOCKET, TCP_NODELAY, socket

import pytest
import uvloop
from aiohappyeyeballs import AddrInfoType

from contract.suites.sender import (
    AMPLE,
    HEADERS,
    OTHER_OWNER,
    SHORT,
    MakeSender,
    SenderContract,
    certificates,
    reason_of,
    status_of,
)
from event_platform.adapters import descriptors, guard
from event_platform.adapters.connections import MAX_AGE_SECONDS
from event_platform.adapters.guard import GuardedNetwork, TrustedNetwork
from event_platform.adapters.http_client import connection, pool
from event_platform.adapters.http_client.answers import MAX_BODY_BYTES, AnswerReader
from event_platform.adapters.http_client.client import default_tls
from event_platform.adapters.http_client.connection import PIECE_BYTES, Connection
from event_platform.adapters.https import HttpsSender
from event_platform.adapters.resolvers import Resolver, public_names
from event_platform.domain.attempts.outcomes import Reason
from event_platform.domain.errors import NoResolver, OutOfSockets
from event_platform.ports import Sender
from support.eventually import eventually
from support.processes import free_port
from support.records import OWNER
from support.servers import OK, Certificates, DnsServer, Peer, answers, serve

__all__ = ["certificates"]


def connections(sender: Sender) -> list[Connection]:
    assert isinstance(sender, HttpsSender)
    return list(sender._client._connections)


KEPT_OPEN = answers(OK, keep=True)
A = 1
"""A question for IPv4 addresses (RFC 1035 3.2.2). c-ares remembers that there are none by IPv6."""


@contextmanager
def no_more_files() -> Iterator[None]:
    """Lets this process open no file or socket more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def resolver_of(dns: DnsServer) -> Resolver:
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

    @pytest.mark.parametrize("host", ["127.0.0.1", "hooks.example.org"])
    async def test_being_out_of_sockets_is_no_receivers_failure(
        self, make_sender: MakeSender, host: str
    ) -> None:
        """Neither where one is opened for the connection, nor where one is for the lookup."""
        async with DnsServer({"hooks.example.org": [["127.0.0.1"]]}) as dns, serve(answers(OK)) as server:
            sender = make_sender(dns=dns)
            with no_more_files(), pytest.raises(OutOfSockets, match="too many open files"):
                await sender.post(server.url(host=host), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
            result = await sender.post(server.url(host=host), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
        assert status_of(result) == 200

    async def test_an_address_that_could_not_be_tried_leaves_the_failure_open(self) -> None:
        class Exhausted(GuardedNetwork):
            def open_socket(self, address: AddrInfoType) -> socket:
                if ":" in str(address[4][0]):
                    raise OSError(errno.EMFILE, "too many open files")
                return super().open_socket(address)

        async with DnsServer({"hooks.example.org": [["::1", "127.0.0.1"]]}) as dns:
            network = Exhausted(allow_loopback=True, make_resolver=lambda: resolver_of(dns))
            sender = HttpsSender(network)
            url = f"http://hooks.example.org:{free_port()}/"
            with pytest.raises(OutOfSockets):
                await sender.post(url, HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
            await sender.close()
            await network.close()

    async def test_idle_connections_make_way_when_there_are_no_sockets(self, sender: Sender) -> None:
        async with serve(KEPT_OPEN) as idle, serve(answers(OK)) as other:
            await sender.post(idle.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
            with no_more_files(), pytest.raises(OutOfSockets):
                await sender.post(other.url(), HEADERS, b"{}", owner=OTHER_OWNER, timeout=AMPLE)
            await asyncio.wait_for(idle.hung_up.wait(), 2)

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
            result = await sender.post(url, HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
            await sender.close()
            await network.close()
        assert reason_of(result) is Reason.CONNECTION_REFUSED

    async def test_no_route_at_all(self) -> None:
        class Unconnected(GuardedNetwork):
            def open_socket(self, address: AddrInfoType) -> socket:
                raise OSError(errno.ENETUNREACH, "network is unreachable")

        sender = HttpsSender(Unconnected(allow_loopback=True))
        result = await sender.post("http://127.0.0.1/", HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
        assert reason_of(result) is Reason.NETWORK_UNREACHABLE
        await sender.close()

    @pytest.mark.parametrize("is_tls", [False, True], ids=["http", "https"])
    async def test_a_body_that_a_receiver_does_not_read_is_in_memory_once(
        self, make_sender: MakeSender, certificates: Certificates, *, is_tls: bool
    ) -> None:
        over = asyncio.Event()

        async def play(peer: Peer) -> None:
            await over.wait()

        context = certificates.good("127.0.0.1") if is_tls else None
        async with serve(play, tls=context) as server:
            sender = make_sender(trust=certificates.trust)
            post = asyncio.create_task(
                sender.post(server.url(), HEADERS, b"x" * 32_000_000, owner=OWNER, timeout=AMPLE)
            )
            await eventually(lambda: (kept := connections(sender)) and kept[0]._is_paused)
            (connection,) = connections(sender)
            assert len(connection._unsent) > 0
            assert connection._transport.get_write_buffer_size() < 4 * PIECE_BYTES
            post.cancel()
            await asyncio.gather(post, return_exceptions=True)
            over.set()

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
            assert (
                status_of(await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)) == 200
            )
            await asyncio.sleep(0.2)
            await sender.post(
                server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE
            )  # drops the dead one from the pool
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
            result = await sender.post(
                server.url(host="hooks.example.org"), HEADERS, b"{}", owner=OWNER, timeout=AMPLE
            )
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
            result = await sender.post(
                server.url(host="hooks.example.org"), HEADERS, b"{}", owner=OWNER, timeout=AMPLE
            )
            await sender.close()
            await network.close()
        assert reason_of(result) is Reason.INVALID_DESTINATION_CONFIGURATION
        assert server.connections == 0

    async def test_a_name_is_looked_up_once_for_all_who_connect_within_ten_seconds(
        self, make_sender: MakeSender
    ) -> None:
        async with DnsServer({"hooks.example.org": [["127.0.0.1"]]}) as dns, serve(answers(OK)) as server:
            sender, url = make_sender(dns=dns), server.url(host="hooks.example.org")
            posts = (sender.post(url, HEADERS, b"{}", owner=OWNER, timeout=AMPLE) for _ in range(20))
            assert {status_of(result) for result in await asyncio.gather(*posts)} == {200}
            await sender.post(url, HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
        assert server.connections == 21
        assert set(dns.asked.values()) == {1}

    async def test_a_name_is_looked_up_again_later(
        self, make_sender: MakeSender, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(guard, "KEPT_SECONDS", 0)
        async with DnsServer({"hooks.example.org": [["127.0.0.1"]]}) as dns, serve(answers(OK)) as server:
            sender, url = make_sender(dns=dns), server.url(host="hooks.example.org")
            for _ in range(2):
                assert status_of(await sender.post(url, HEADERS, b"{}", owner=OWNER, timeout=AMPLE)) == 200
        assert dns.asked["hooks.example.org", A] == 2

    async def test_a_nameserver_that_is_away_is_no_receivers_failure(self, make_sender: MakeSender) -> None:
        async with DnsServer({}) as dns:
            pass  # its port is closed again
        sender = make_sender(dns=dns)
        with pytest.raises(NoResolver, match="no nameserver answers"):
            await sender.post("http://hooks.example.org/", HEADERS, b"{}", owner=OWNER, timeout=AMPLE)

    async def test_a_connection_that_is_used_all_the_time_ends_at_its_age_and_the_name_is_followed(
        self, make_sender: MakeSender, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(guard, "KEPT_SECONDS", 0)
        rounds = {"hooks.example.org": [["127.0.0.1"], ["127.0.0.2"]]}
        async with (
            DnsServer(rounds) as dns,
            serve(KEPT_OPEN) as old,
            serve(KEPT_OPEN, host="127.0.0.2", port=old.port) as new,
        ):
            sender, url = make_sender(dns=dns), old.url(host="hooks.example.org")

            async def post() -> None:
                assert status_of(await sender.post(url, HEADERS, b"{}", owner=OWNER, timeout=AMPLE)) == 200

            await post()
            await post()
            assert (old.connections, len(old.requests)) == (1, 2)
            assert isinstance(sender, HttpsSender)
            (kept,) = sender._client._connections
            now = asyncio.get_running_loop().time()
            assert now + 0.7 * MAX_AGE_SECONDS < kept.expires_at <= now + MAX_AGE_SECONDS
            kept.expires_at = now
            await post()  # on the connection that is too old from now on
            await post()
            assert (len(old.requests), len(new.requests)) == (3, 1)

    async def test_a_lookup_that_failed_is_not_remembered(self, make_sender: MakeSender) -> None:
        rounds = {"hooks.example.org": [["10.0.0.5"], ["127.0.0.1"]]}
        async with DnsServer(rounds) as dns, serve(answers(OK)) as server:
            sender, url = make_sender(dns=dns), server.url(host="hooks.example.org")
            result = await sender.post(url, HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
            assert reason_of(result) is Reason.INVALID_DESTINATION_CONFIGURATION
            assert status_of(await sender.post(url, HEADERS, b"{}", owner=OWNER, timeout=AMPLE)) == 200

    async def test_connections_take_turns_at_a_names_addresses(self) -> None:
        first: list[str] = []

        class Watched(GuardedNetwork):
            def open_socket(self, address: AddrInfoType) -> socket:
                first.append(str(address[4][0]))
                return super().open_socket(address)

        found = ["127.0.0.1", "127.0.0.2"]
        async with (
            DnsServer({"hooks.example.org": [found]}) as dns,
            serve(answers(OK), host="0.0.0.0") as server,  # noqa: S104 - for an instant
        ):
            network = Watched(allow_loopback=True, make_resolver=lambda: resolver_of(dns))
            sender = HttpsSender(network)
            for _ in range(4):
                url = server.url(host="hooks.example.org")
                assert status_of(await sender.post(url, HEADERS, b"{}", owner=OWNER, timeout=AMPLE)) == 200
            await sender.close()
            await network.close()
        assert sorted(first[:2]) == found
        assert first[2:] == first[:2]

    async def test_four_of_a_names_addresses_are_tried_and_other_ones_next_time(self) -> None:
        tried: list[str] = []

        class Watched(GuardedNetwork):
            def open_socket(self, address: AddrInfoType) -> socket:
                tried.append(str(address[4][0]))
                return super().open_socket(address)

        found = [f"127.0.1.{number}" for number in range(1, 201)]
        async with DnsServer({"hooks.example.org": [found]}) as dns:
            network = Watched(allow_loopback=True, make_resolver=lambda: resolver_of(dns))
            sender = HttpsSender(network)
            url = f"http://hooks.example.org:{free_port()}/"
            for _ in range(40):
                result = await sender.post(url, HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
                assert reason_of(result) is Reason.CONNECTION_REFUSED
            await sender.close()
            await network.close()
        assert (len(tried), len(set(tried))) == (160, guard.MAX_ADDRESSES)

    async def test_what_a_receiver_sends_at_once_is_bounded(self) -> None:
        """The event loop reads all that came, and over TLS each record of it costs a call."""
        sender = HttpsSender(GuardedNetwork(allow_loopback=True))
        async with serve(answers(OK, keep=True)) as server:
            await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
            (connection,) = sender._client._connections
            opened = connection._transport.get_extra_info("socket")
            assert opened.getsockopt(SOL_SOCKET, SO_RCVBUF) <= 2 * 64 * 1024
            await sender.close()

    async def test_only_http_1_1_is_offered(
        self, certificates: Certificates, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        certificates.authority.cert_pem.write_to_path(tmp_path / "ca.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        default_tls.cache_clear()
        chosen: list[str | None] = []

        async def play(peer: Peer) -> None:
            chosen.append(peer.writer.get_extra_info("ssl_object").selected_alpn_protocol())
            await answers(OK)(peer)

        tls = certificates.good()
        tls.set_alpn_protocols(["h2", "http/1.1"])
        async with serve(play, tls=tls) as server:
            sender = HttpsSender(GuardedNetwork(allow_loopback=True))
            assert (
                status_of(await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)) == 200
            )
            await sender.close()
        default_tls.cache_clear()
        assert chosen == ["http/1.1"]

    async def test_small_packets_are_not_held_back(self) -> None:
        sender = HttpsSender(GuardedNetwork(allow_loopback=True))
        async with serve(answers(OK, keep=True)) as server:
            await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
            (connection,) = sender._client._connections
            opened = connection._transport.get_extra_info("socket")
            assert opened.getsockopt(IPPROTO_TCP, TCP_NODELAY)
            await sender.close()

    async def test_an_idle_connection_is_closed_in_time(
        self, sender: Sender, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pool, "KEPT_SECONDS", 0.05)

        async with serve(KEPT_OPEN) as server:
            await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
            await asyncio.wait_for(server.hung_up.wait(), 2)
            assert (
                status_of(await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)) == 200
            )
        assert server.connections == 2

    async def test_the_longest_idle_connection_gives_way(
        self, sender: Sender, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pool, "MAX_KEPT", 2)
        async with serve(KEPT_OPEN) as first, serve(KEPT_OPEN) as second, serve(KEPT_OPEN) as third:
            for server in (first, second, third):
                await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
            await asyncio.wait_for(first.hung_up.wait(), 2)
            assert not second.hung_up.is_set()
            await sender.post(second.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
            await sender.post(first.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
            await asyncio.wait_for(third.hung_up.wait(), 2)
        assert (first.connections, second.connections, third.connections) == (2, 1, 1)

    async def test_of_few_descriptors_half_are_for_attempts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        network = GuardedNetwork(allow_loopback=True)
        monkeypatch.setattr(descriptors, "limit", lambda: 64)
        sender = HttpsSender(network)
        room = descriptors.below_for_receivers(64) // 2
        async with serve(KEPT_OPEN) as server:
            posts = (
                sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE) for _ in range(room + 5)
            )
            assert {status_of(each) for each in await asyncio.gather(*posts)} == {200}
            assert len(sender._client._pool) == room
            await sender.close()

    async def test_closing_ends_what_is_idle_and_what_is_under_way(self) -> None:
        sender = HttpsSender(GuardedNetwork(allow_loopback=True))
        async with serve(KEPT_OPEN) as idle, serve(answers(30.0)) as busy, serve(answers(OK)) as later:
            await sender.post(idle.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
            waiting = asyncio.create_task(sender.post(busy.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE))
            await busy.received(1)
            await sender.close()
            await asyncio.wait_for(idle.hung_up.wait(), 2)
            assert reason_of(await waiting) is Reason.CLIENT_CLOSED_CONNECTION
            result = await sender.post(later.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
            assert reason_of(result) is Reason.CLIENT_CLOSED_CONNECTION
        assert not later.requests

    @pytest.mark.parametrize("method", ["data_received", "eof_received"])
    async def test_a_bug_of_ours_is_raised(
        self, sender: Sender, monkeypatch: pytest.MonkeyPatch, method: str
    ) -> None:
        """In what the loop calls, where nobody waits for it."""

        def broken(*_: object) -> None:
            raise ZeroDivisionError

        asyncio.get_running_loop().set_exception_handler(lambda _, context: None)
        monkeypatch.setattr(AnswerReader, {"data_received": "feed", "eof_received": "end"}[method], broken)
        async with serve(answers(b"HTTP/1.1 200 OK\r\n\r\nx")) as server:
            with pytest.raises(ZeroDivisionError):
                await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)

    async def test_a_bug_of_ours_in_what_the_parser_calls_is_raised(
        self, sender: Sender, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object) -> None:
            raise ZeroDivisionError

        asyncio.get_running_loop().set_exception_handler(lambda _, context: None)
        monkeypatch.setattr(AnswerReader, "on_headers_complete", broken)
        async with serve(answers(OK)) as server:
            with pytest.raises(ZeroDivisionError):
                await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)

    async def test_a_kept_connection_that_ends_in_the_moment_in_which_it_is_taken(self) -> None:
        sender = HttpsSender(GuardedNetwork(allow_loopback=True))
        async with serve(KEPT_OPEN) as server:
            await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
            (kept,) = sender._client._connections
            kept.eof_received()  # the loop has not called connection_lost yet
            assert (
                status_of(await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)) == 200
            )
            assert server.connections == 2
            await sender.close()

    async def test_an_exchange_on_a_connection_that_was_lost_before_it_fails_at_once(self) -> None:
        sender = HttpsSender(GuardedNetwork(allow_loopback=True))
        async with serve(KEPT_OPEN) as server:
            await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
            (kept,) = sender._client._connections
            await sender.close()
            with pytest.raises(EOFError):  # and no TimeoutError
                await kept.exchange(b"", b"", asyncio.get_running_loop().time() + AMPLE)

    async def test_each_exchange_on_a_kept_connection_has_a_deadline_of_its_own(self, sender: Sender) -> None:
        """Exchanges share a timer, which may have been set for an earlier or a later deadline."""
        is_answered = asyncio.Event()

        async def play(peer: Peer) -> None:
            await peer.request()
            await peer.send(OK)
            await peer.request()
            await is_answered.wait()
            await peer.send(OK)
            await peer.request()
            await asyncio.Event().wait()

        async with serve(play) as server:
            await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
            (kept,) = connections(sender)
            later = asyncio.create_task(
                sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=2 * AMPLE)
            )
            await server.received(2)
            kept._expire()  # as it does at the deadline of the first
            is_answered.set()
            assert status_of(await later) == 200
            result = await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=SHORT)
            assert reason_of(result) is Reason.DESTINATION_TIMEOUT
            assert server.connections == 1

    async def test_an_answer_that_a_connection_has_brought_before_is_read_once(
        self, sender: Sender, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made: list[AnswerReader] = []

        class Noted(AnswerReader):
            def __init__(self) -> None:
                super().__init__()
                made.append(self)

        monkeypatch.setattr(connection, "AnswerReader", Noted)
        usual, other, last = (
            b"HTTP/1.1 %b\r\n%bContent-Length: 0\r\n\r\n" % parts
            for parts in [(b"200 OK", b""), (b"503 No", b""), (b"200 OK", b"Connection: close\r\n")]
        )
        steps = [usual, usual, other, usual, last]

        async def play(peer: Peer) -> None:
            for step in steps:
                await peer.request()
                await peer.send(step)

        async with serve(play) as server:
            posts = [
                await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE) for _ in steps
            ]
            assert [status_of(each) for each in posts] == [200, 200, 503, 200, 200]
            assert (len(made), server.connections) == (4, 1)
            await eventually(lambda: not connections(sender))

    async def test_nothing_is_left_of_what_failed(self, sender: Sender) -> None:
        async with serve(answers(b"HTTP/1.1 200 OK\r\nContent-Le")) as server:
            for _ in range(20):
                await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
            await asyncio.sleep(0.01)
            assert isinstance(sender, HttpsSender)
            assert not sender._client._connections
            assert not len(sender._client._pool)

    async def test_what_one_owner_keeps_does_not_push_out_what_others_keep(
        self, sender: Sender, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pool, "MAX_KEPT_OF_OWNER", 2)
        async with (
            serve(KEPT_OPEN) as other,
            serve(KEPT_OPEN) as first,
            serve(KEPT_OPEN) as second,
            serve(KEPT_OPEN) as third,
        ):
            await sender.post(other.url(), HEADERS, b"{}", owner=OTHER_OWNER, timeout=AMPLE)
            for server in (first, second, third):
                await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
            await asyncio.wait_for(third.hung_up.wait(), 2)
            assert not any(server.hung_up.is_set() for server in (other, first, second))

    async def test_nothing_is_left_of_owners_that_keep_no_connection(
        self, sender: Sender, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pool, "KEPT_SECONDS", 0.05)
        async with serve(KEPT_OPEN) as server:
            await sender.post(server.url(), HEADERS, b"{}", owner=OWNER, timeout=AMPLE)
            await asyncio.wait_for(server.hung_up.wait(), 2)
        assert isinstance(sender, HttpsSender)
        assert not sender._client._pool._of_owner

    @pytest.mark.parametrize(
        "steps",
        [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok",),
            (b"HTTP/1.1 200 OK\r\n\r\nok",),
            (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * MAX_BODY_BYTES, AMPLE),
            (b"220 mail.example.org ESMTP\r\n",),
            (b"HTTP/1.1 200 OK\r\n", AMPLE),
        ],
        ids=["cut off", "until the end", "too much", "not http", "no answer in time"],
    )
    async def test_an_exchange_is_freed_without_waiting_for_a_collection_of_garbage(
        self, sender: Sender, steps: tuple[bytes | float, ...]
    ) -> None:
        body = bytes(1000)
        gc.collect()
        gc.disable()
        try:
            async with serve(answers(*steps)) as server:
                await sender.post(server.url(), HEADERS, body, owner=OWNER, timeout=SHORT)
                await asyncio.sleep(0.01)
                assert sys.getrefcount(body) == 2  # ours, and that of the call itself
                assert not [one for one in gc.get_objects() if isinstance(one, AnswerReader)]
        finally:
            gc.enable()

    async def test_a_body_that_nobody_took_is_freed_without_waiting_for_a_collection_of_garbage(
        self, sender: Sender
    ) -> None:
        body = bytes(1000)
        gc.collect()
        gc.disable()
        try:
            await sender.post(f"http://127.0.0.1:{free_port()}/", HEADERS, body, owner=OWNER, timeout=AMPLE)
            assert sys.getrefcount(body) == 2
        finally:
            gc.enable()

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
