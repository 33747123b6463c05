"""How the networks look up and connect; whom the guard lets pass is in the suite of `DestinationGuard`."""

import ipaddress
import socket
import time
from collections.abc import AsyncIterator, Sequence

import pytest

from contract.suites.guard import REFUSED_NAMES, SILENT, TRICKS, dns, refusal
from event_platform.adapters.guard import (
    MAX_ADDRESSES,
    AddressRefused,
    GuardedNetwork,
    TrustedNetwork,
    _some_of,
    is_own_address,
)
from event_platform.adapters.resolvers import CaresResolver, local_names, public_names
from event_platform.domain.addresses import IpAddress
from support.servers import DnsServer

__all__ = ["dns"]


def lookups(dns: DnsServer) -> CaresResolver:
    """Patient ones, so that what ends a lookup is the guard."""
    return CaresResolver([f"127.0.0.1:{dns.port}"], timeout=30, tries=1)


@pytest.fixture
async def guard(dns: DnsServer) -> AsyncIterator[GuardedNetwork]:
    guard = GuardedNetwork(make_resolver=lambda: lookups(dns))
    yield guard
    await guard.close()


async def test_a_refusal_says_why(guard: GuardedNetwork) -> None:
    assert await refusal(guard, "10.0.0.5") == "'10.0.0.5' is not publicly routable"
    assert await refusal(guard, "localhost") == "'localhost' is a name for private networks"
    assert await refusal(guard, "127.1") == "'127.1' is not an address in its usual form"
    assert await refusal(guard, "a..example") == "'a..example' is not a host name"
    assert (
        await refusal(guard, "mixed.example")
        == "'mixed.example' resolves to 10.0.0.5, which is not publicly routable"
    )


@pytest.mark.parametrize("host", [name for name, _ in REFUSED_NAMES])
async def test_a_lookup_refuses_what_the_check_refuses(guard: GuardedNetwork, host: str) -> None:
    with pytest.raises(AddressRefused):
        await guard.resolve(host)


@pytest.mark.parametrize("host", TRICKS)
async def test_a_lookup_refuses_tricks_without_asking(
    guard: GuardedNetwork, dns: DnsServer, host: str
) -> None:
    with pytest.raises(AddressRefused):
        await guard.resolve(host)
    assert not dns.asked


async def test_a_lookup_of_a_name_that_does_not_exist_is_no_refusal(guard: GuardedNetwork) -> None:
    with pytest.raises(OSError, match=r".") as raised:
        await guard.resolve("something.invalid")
    assert not isinstance(raised.value, AddressRefused)


async def test_a_check_gives_a_lookup_two_seconds(guard: GuardedNetwork) -> None:
    started = time.monotonic()
    await guard.check(SILENT)
    assert 1.9 <= time.monotonic() - started < 10


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.5", "169.254.169.254", "0.0.0.0"])  # noqa: S104 - not bound to
def test_no_socket_is_opened_for_an_address_that_is_not_public(address: str) -> None:
    with pytest.raises(AddressRefused, match="the address is refused"):
        GuardedNetwork().open_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, 443)))


@pytest.mark.parametrize("address", ["::1", "::ffff:1.1.1.1", "fe80::1", "fd00::1"])
def test_no_socket_is_opened_for_an_ipv6_address_that_is_not_public(address: str) -> None:
    with pytest.raises(AddressRefused, match="the address is refused"):
        GuardedNetwork().open_socket((socket.AF_INET6, socket.SOCK_STREAM, 0, "", (address, 443, 0, 0)))


def test_a_socket_is_opened_for_a_public_address() -> None:
    with GuardedNetwork().open_socket(
        (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("1.1.1.1", 443))
    ) as opened:
        assert opened.family is socket.AF_INET
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000


def test_an_address_of_an_interface_is_the_machines_own() -> None:
    assert is_own_address(ipaddress.ip_address("127.0.0.1"))
    assert not is_own_address(ipaddress.ip_address("93.184.215.14"))
    assert not is_own_address(ipaddress.ip_address("2606:4700::1111"))


async def test_of_a_name_with_very_many_addresses_some_are_looked_at() -> None:
    class Endless:
        async def resolve(self, host: str) -> Sequence[str]:
            return [f"93.184.{number // 250}.{number % 250}" for number in range(6000)]

        async def close(self) -> None:
            pass

    judged: list[IpAddress] = []

    def is_own(address: IpAddress) -> bool:
        judged.append(address)
        return False

    guard = GuardedNetwork(make_resolver=Endless, is_own=is_own)
    assert len(await guard.resolve("hooks.example.org")) == MAX_ADDRESSES
    assert len(judged) == MAX_ADDRESSES


@pytest.mark.parametrize(
    ("found", "tried"),
    [
        ("1", "1"), ("1 2 3 4 5", "1 2 3 4"), ("a: 1 2 3 4", "a: 1 2 3"), ("a: b: c: d: e: 1", "a: 1 b: c:"),
        ("1 2 a: 3 4", "1 a: 2 3"), ("1 a:", "1 a:"),
    ],
)  # fmt: skip
def test_four_addresses_are_tried_and_one_is_of_the_other_family(found: str, tried: str) -> None:
    assert list(_some_of(found.split())) == tried.split()


async def test_a_search_list_is_for_trusted_names_only(
    dns: DnsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCALDOMAIN", "example")  # c-ares takes its search list from here
    servers = [f"127.0.0.1:{dns.port}"]
    trusted = TrustedNetwork(make_resolver=lambda: local_names(servers))
    assert await trusted.resolve("inside") == ["10.0.0.5"]
    guard = GuardedNetwork(make_resolver=lambda: public_names(servers))
    await guard.check("dotted.inside")
    assert not any(name.endswith(".example") for name, _ in dns.asked if name != "inside.example")
    await trusted.close()
    await guard.close()


async def test_a_trusted_network_may_be_private(dns: DnsServer) -> None:
    trusted = TrustedNetwork(make_resolver=lambda: lookups(dns))
    assert await trusted.resolve("inside.example") == ["10.0.0.5"]
    trusted.open_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("10.0.0.5", 8080))).close()
    await trusted.close()


async def test_it_can_be_used_after_closing(guard: GuardedNetwork) -> None:
    await guard.check("public.example")
    await guard.close()
    await guard.close()
    await guard.check("public.example")
