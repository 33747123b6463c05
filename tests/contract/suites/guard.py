"""What everything that says where strangers may have us connect to must do: the port `DestinationGuard`.

Names are looked up at a name server of the suite's own.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import pytest

from event_platform.ports import DestinationGuard
from support.servers import DnsServer

NAMES = {
    "public.example": [["93.184.215.14", "2606:4700::1111"]],
    "v4.example": [["93.184.215.14"]],
    "inside.example": [["10.0.0.5"]],
    "mixed.example": [["93.184.215.14", "10.0.0.5"]],
    "mixed6.example": [["93.184.215.14", "fd00::1"]],
    "mapped.example": [["::ffff:93.184.215.14"]],
    "here.example": [["127.0.0.1"]],
    "name_of-1.example": [["93.184.215.14"]],
    "db": [["10.0.0.7"]],
    "db.internal": [["10.0.0.8"]],
    "localhost": [["127.0.0.1"]],
}
REFUSED_NAMES = [
    ("inside.example", "10.0.0.5"),
    ("mixed.example", "10.0.0.5"),
    ("mixed6.example", "fd00::1"),
    ("mapped.example", "::ffff:93.184.215.14"),
    ("here.example", "127.0.0.1"),
]
"""Names, and which of its addresses each is refused for."""

SILENT = "silent.example"
"""A name that no answer comes for."""

TRICKS = [
    "2130706433", "127.1", "0", "0x7f.1", "0x7f000001", "0X7F.0.0.1", "0177.0.0.1", "017700000001",
    "1.1.1.1.", "256.1.1.1", "1.2.3", "01.1.1.1", "example.1", "example.0x1", "example.0x",
    "public.example.", "public.example..", ".public.example", "public..example", ".", "",
    "-public.example", "public-.example", "pub lic.example", "public.example\n", "p\u00fcblic.example",
    "pub%6cic.example", "[2606:4700::1111]", "[1.1.1.1]", "a" * 64 + ".example", "a." * 127 + "example",
    "fe80::1%eth0", "2606:4700::1111%1",
    "db", "localhost", "LocalHost", "a.localhost", "printer.local", "db.internal",
    "metadata.google.internal", "nas.home.arpa", "NAS.HOME.ARPA",
]  # fmt: skip
"""Addresses in unusual forms, what is no host name, and names for private networks."""


class MakeGuard(Protocol):
    """Makes a guard that asks `dns` only; it is closed when the test ends.

    With `allow_loopback` it is as with --dev; `allow_networks` are those that the operator opened, and
    `refuse_networks` those that he closed. `own` are the machine's addresses.
    """

    def __call__(
        self,
        dns: DnsServer,
        *,
        allow_loopback: bool = False,
        allow_networks: Sequence[str] = (),
        refuse_networks: Sequence[str] = (),
        own: Sequence[str] = (),
    ) -> DestinationGuard: ...


@pytest.fixture
async def dns() -> AsyncIterator[DnsServer]:
    async with DnsServer(NAMES, silent=[SILENT]) as server:
        yield server


async def refusal(guard: DestinationGuard, host: str) -> str:
    """What it says to a host that it refuses."""
    with pytest.raises(ValueError, match=r".") as raised:
        await guard.check(host)
    return str(raised.value)


class GuardContract:
    """Subclasses provide `make_guard`, and import the fixture `dns`."""

    @pytest.fixture
    def make_guard(self) -> MakeGuard:
        raise AssertionError("a subclass makes its guards here")

    @pytest.fixture
    def guard(self, make_guard: MakeGuard, dns: DnsServer) -> DestinationGuard:
        return make_guard(dns)

    @pytest.fixture
    def dev_guard(self, make_guard: MakeGuard, dns: DnsServer) -> DestinationGuard:
        return make_guard(dns, allow_loopback=True)

    # What passes

    @pytest.mark.parametrize("host", ["public.example", "PUBLIC.example", "v4.example", "name_of-1.example"])
    async def test_a_name_with_public_addresses_passes(
        self, guard: DestinationGuard, dns: DnsServer, host: str
    ) -> None:
        await guard.check(host)
        assert {name for name, _ in dns.asked} == {host.lower()}

    @pytest.mark.parametrize("host", ["1.1.1.1", "2606:4700::1111"])
    async def test_a_public_address_passes(self, guard: DestinationGuard, dns: DnsServer, host: str) -> None:
        await guard.check(host)
        assert not dns.asked

    async def test_private_suffixes_are_whole_labels(self, guard: DestinationGuard) -> None:
        await guard.check("not.thelocal")
        await guard.check("internal.example")

    async def test_a_name_that_does_not_resolve_passes(self, guard: DestinationGuard, dns: DnsServer) -> None:
        await guard.check("something.invalid")
        assert dns.asked

    async def test_a_lookup_that_takes_too_long_passes_in_time_for_an_answer(
        self, guard: DestinationGuard
    ) -> None:
        started = time.monotonic()
        await guard.check(SILENT)
        assert time.monotonic() - started < 10

    async def test_a_slow_lookup_is_nobodys_neighbour(self, guard: DestinationGuard) -> None:
        slow = [asyncio.create_task(guard.check(SILENT)) for _ in range(100)]
        await guard.check("v4.example")  # they began before it
        assert not any(task.done() for task in slow)
        quick = asyncio.create_task(guard.check("public.example"))
        done, _ = await asyncio.wait({quick, *slow}, return_when=asyncio.FIRST_COMPLETED)
        assert quick in done
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)

    # What is refused

    @pytest.mark.parametrize(
        "host", ["10.0.0.5", "127.0.0.1", "169.254.169.254", "::1", "fd00::1", "::ffff:1.1.1.1"]
    )
    async def test_an_address_that_is_not_public_is_refused_and_named(
        self, guard: DestinationGuard, host: str
    ) -> None:
        assert host in await refusal(guard, host)

    @pytest.mark.parametrize(("host", "address"), REFUSED_NAMES)
    async def test_a_name_is_refused_for_any_of_its_addresses_with_both_named(
        self, guard: DestinationGuard, host: str, address: str
    ) -> None:
        said = await refusal(guard, host)
        assert host in said
        assert address in said

    async def test_a_name_is_looked_up_again_each_time(self, make_guard: MakeGuard) -> None:
        async with DnsServer({"turns.example": [["93.184.215.14"], ["10.0.0.5"]]}) as dns:
            guard = make_guard(dns)
            await guard.check("turns.example")
            assert "10.0.0.5" in await refusal(guard, "turns.example")

    @pytest.mark.parametrize("host", TRICKS)
    async def test_tricks_and_private_names_are_refused_without_a_lookup(
        self, guard: DestinationGuard, dns: DnsServer, host: str
    ) -> None:
        assert host in await refusal(guard, host)
        assert not dns.asked

    # With --dev

    @pytest.mark.parametrize(
        "host", ["127.0.0.1", "127.8.9.10", "::1", "localhost", "here.example", "public.example"]
    )
    async def test_loopback_can_be_allowed(self, dev_guard: DestinationGuard, host: str) -> None:
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
    async def test_allowing_loopback_allows_nothing_else(
        self, dev_guard: DestinationGuard, host: str
    ) -> None:
        assert host in await refusal(dev_guard, host)

    # Networks that the operator closed, and the machine itself

    @pytest.mark.parametrize("host", ["93.184.215.14", "2606:4700::1111", "public.example", "v4.example"])
    async def test_networks_with_public_numbers_can_be_closed(
        self, make_guard: MakeGuard, dns: DnsServer, host: str
    ) -> None:
        guard = make_guard(dns, refuse_networks=["93.184.215.0/24", "2606:4700::/32"])
        assert "is in a network that this platform does not connect to" in await refusal(guard, host)
        await guard.check("1.1.1.1")

    async def test_a_part_of_a_network_that_is_opened_can_be_closed(
        self, make_guard: MakeGuard, dns: DnsServer
    ) -> None:
        guard = make_guard(dns, allow_networks=["10.0.0.0/8"], refuse_networks=["10.0.0.0/24"])
        await guard.check("10.0.1.5")
        assert "inside.example" in await refusal(guard, "inside.example")

    @pytest.mark.parametrize("host", ["93.184.215.14", "2606:4700::1111", "public.example"])
    async def test_the_machines_own_public_addresses_are_refused(
        self, make_guard: MakeGuard, dns: DnsServer, host: str
    ) -> None:
        guard = make_guard(dns, own=["93.184.215.14", "2606:4700::1111"])
        assert "is this platform's own address" in await refusal(guard, host)
        await guard.check("1.1.1.1")

    async def test_the_machines_own_address_can_be_opened(
        self, make_guard: MakeGuard, dns: DnsServer
    ) -> None:
        guard = make_guard(dns, own=["93.184.215.14"], allow_networks=["93.184.215.14/32"])
        await guard.check("v4.example")

    # Networks that the operator opened

    @pytest.mark.parametrize(
        "host", ["10.0.0.5", "fd00::1", "inside.example", "mixed.example", "db", "db.internal", "v4.example"]
    )
    async def test_private_networks_can_be_opened(
        self, make_guard: MakeGuard, dns: DnsServer, host: str
    ) -> None:
        await make_guard(dns, allow_networks=["10.0.0.0/24", "fd00::/8"]).check(host)

    @pytest.mark.parametrize(
        "host",
        [
            "10.0.1.5", "192.168.0.1", "127.0.0.1", "fe80::1", "::ffff:10.0.0.5", "::ffff:10.0.9.5",
            "here.example", "mixed6.example", "localhost", "167772165", "0x0a.5", "012.0.0.5",
            "inside.example.",
        ],
    )  # fmt: skip
    async def test_opening_a_network_opens_nothing_else(
        self, make_guard: MakeGuard, dns: DnsServer, host: str
    ) -> None:
        assert host in await refusal(make_guard(dns, allow_networks=["10.0.0.0/24"]), host)
