"""Where strangers may have us connect to, with lookups against a name server of our own."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator

import pytest
from aiohttp.resolver import AsyncResolver

from contract.servers import DnsServer
from event_platform.adapters.guard import (
    AddressRefused,
    GuardedNetwork,
    TrustedNetwork,
    local_names,
    public_names,
)

NAMES = {
    "public.example": [["93.184.215.14", "2606:4700::1111"]],
    "v4.example": [["93.184.215.14"]],
    "inside.example": [["10.0.0.5"]],
    "mixed.example": [["93.184.215.14", "10.0.0.5"]],
    "mixed6.example": [["93.184.215.14", "fd00::1"]],
    "mapped.example": [["::ffff:93.184.215.14"]],
    "here.example": [["127.0.0.1"]],
    "name_of-1.example": [["93.184.215.14"]],
}


@pytest.fixture
async def dns() -> AsyncIterator[DnsServer]:
    async with DnsServer(NAMES, silent=["silent.example"]) as server:
        yield server


def lookups(dns: DnsServer) -> AsyncResolver:
    return AsyncResolver(nameservers=[f"127.0.0.1:{dns.port}"], timeout=30, tries=1)


@pytest.fixture
async def guard(dns: DnsServer) -> AsyncIterator[GuardedNetwork]:
    guard = GuardedNetwork(make_resolver=lambda: lookups(dns))
    yield guard
    await guard.close()


@pytest.fixture
async def dev_guard(dns: DnsServer) -> AsyncIterator[GuardedNetwork]:
    guard = GuardedNetwork(allow_loopback=True, make_resolver=lambda: lookups(dns))
    yield guard
    await guard.close()


async def refusal(guard: GuardedNetwork, host: str) -> str:
    with pytest.raises(ValueError, match=r".") as raised:
        await guard.check(host)
    return str(raised.value)


@pytest.mark.parametrize(
    "host",
    ["public.example", "PUBLIC.example", "v4.example", "name_of-1.example", "1.1.1.1", "2606:4700::1111"],
)
async def test_a_public_host_passes(guard: GuardedNetwork, host: str) -> None:
    await guard.check(host)


@pytest.mark.parametrize(
    "host", ["10.0.0.5", "127.0.0.1", "169.254.169.254", "::1", "fd00::1", "::ffff:1.1.1.1"]
)
async def test_an_address_that_is_not_public_is_refused_and_named(guard: GuardedNetwork, host: str) -> None:
    assert await refusal(guard, host) == f"'{host}' is not publicly routable"


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("inside.example", "10.0.0.5"),
        ("mixed.example", "10.0.0.5"),
        ("mixed6.example", "fd00::1"),
        ("mapped.example", "::ffff:93.184.215.14"),
        ("here.example", "127.0.0.1"),
    ],
)
async def test_a_name_is_refused_for_any_of_its_addresses_with_both_named(
    guard: GuardedNetwork, host: str, address: str
) -> None:
    assert await refusal(guard, host) == f"'{host}' resolves to {address}, which is not publicly routable"
    with pytest.raises(AddressRefused):
        await guard.resolve(host, 443)


@pytest.mark.parametrize(
    "host",
    [
        "2130706433", "127.1", "0", "0x7f.1", "0x7f000001", "0X7F.0.0.1", "0177.0.0.1", "017700000001",
        "1.1.1.1.", "256.1.1.1", "1.2.3", "01.1.1.1", "example.1", "example.0x1", "example.0x",
        "public.example.", "public.example..", ".public.example", "public..example", ".", "",
        "-public.example", "public-.example", "pub lic.example", "public.example\n", "p\u00fcblic.example",
        "pub%6cic.example", "[2606:4700::1111]", "[1.1.1.1]", "a" * 64 + ".example", "a." * 127 + "example",
        "fe80::1%eth0", "2606:4700::1111%1",
        "db", "localhost", "LocalHost", "a.localhost", "printer.local", "db.internal",
        "metadata.google.internal", "nas.home.arpa", "NAS.HOME.ARPA",
    ],
)  # fmt: skip
async def test_tricks_and_private_names_are_refused_without_a_lookup(
    guard: GuardedNetwork, dns: DnsServer, host: str
) -> None:
    assert host in await refusal(guard, host)
    with pytest.raises(AddressRefused):
        await guard.resolve(host, 443)
    assert not dns.asked


async def test_localhost_is_refused_by_its_name(guard: GuardedNetwork) -> None:
    assert await refusal(guard, "localhost") == "'localhost' is a name for private networks"


async def test_private_suffixes_are_whole_labels(guard: GuardedNetwork) -> None:
    await guard.check("not.thelocal")
    await guard.check("internal.example")


async def test_a_name_that_does_not_resolve_passes(guard: GuardedNetwork) -> None:
    await guard.check("something.invalid")
    with pytest.raises(OSError, match=r".") as raised:
        await guard.resolve("something.invalid")
    assert not isinstance(raised.value, AddressRefused)


async def test_a_lookup_that_takes_too_long_passes_after_two_seconds(guard: GuardedNetwork) -> None:
    started = time.monotonic()
    await guard.check("silent.example")
    assert 1.9 <= time.monotonic() - started < 3


async def test_a_slow_lookup_is_nobodys_neighbour(guard: GuardedNetwork) -> None:
    slow = [asyncio.create_task(guard.check("silent.example")) for _ in range(100)]
    await asyncio.sleep(0.05)
    started = time.monotonic()
    await guard.check("public.example")
    assert time.monotonic() - started < 0.5
    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.8.9.10", "::1", "localhost", "here.example", "public.example"]
)
async def test_loopback_can_be_allowed(dev_guard: GuardedNetwork, host: str) -> None:
    await dev_guard.check(host)


@pytest.mark.parametrize(
    "host",
    [
        "10.0.0.5",
        "::ffff:127.0.0.1",
        "::",
        "0.0.0.0",  # noqa: S104 - not bound to
        "inside.example",
        "db",
        "a.localhost",
        "2130706433",
        "127.1",
    ],
)
async def test_allowing_loopback_allows_nothing_else(dev_guard: GuardedNetwork, host: str) -> None:
    assert host in await refusal(dev_guard, host)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.5", "169.254.169.254", "0.0.0.0"])  # noqa: S104 - not bound to
def test_no_socket_is_opened_for_an_address_that_is_not_public(address: str) -> None:
    with pytest.raises(AddressRefused, match="not publicly routable"):
        GuardedNetwork().open_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, 443)))


@pytest.mark.parametrize("address", ["::1", "::ffff:1.1.1.1", "fe80::1", "fd00::1"])
def test_no_socket_is_opened_for_an_ipv6_address_that_is_not_public(address: str) -> None:
    with pytest.raises(AddressRefused, match="not publicly routable"):
        GuardedNetwork().open_socket((socket.AF_INET6, socket.SOCK_STREAM, 0, "", (address, 443, 0, 0)))


def test_a_socket_is_opened_for_a_public_address() -> None:
    with GuardedNetwork().open_socket(
        (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("1.1.1.1", 443))
    ) as opened:
        assert opened.family is socket.AF_INET
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000


async def test_a_search_list_is_for_trusted_names_only(
    dns: DnsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCALDOMAIN", "example")  # c-ares takes its search list from here
    servers = [f"127.0.0.1:{dns.port}"]
    trusted = TrustedNetwork(make_resolver=lambda: local_names(servers))
    assert [answer["host"] for answer in await trusted.resolve("inside")] == ["10.0.0.5"]
    guard = GuardedNetwork(make_resolver=lambda: public_names(servers))
    await guard.check("dotted.inside")
    assert not any(name.endswith(".example") for name, _ in dns.asked if name != "inside.example")
    await trusted.close()
    await guard.close()


async def test_a_trusted_network_may_be_private(dns: DnsServer) -> None:
    trusted = TrustedNetwork(make_resolver=lambda: lookups(dns))
    found = await trusted.resolve("inside.example", 8080)
    assert [(answer["host"], answer["port"]) for answer in found] == [("10.0.0.5", 8080)]
    trusted.open_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("10.0.0.5", 8080))).close()
    await trusted.close()


async def test_it_can_be_used_after_closing(guard: GuardedNetwork) -> None:
    await guard.check("public.example")
    await guard.close()
    await guard.close()
    await guard.check("public.example")
