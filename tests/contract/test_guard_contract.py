"""The guarded network passes the suite of `DestinationGuard`."""

import ipaddress
from collections.abc import AsyncIterator, Sequence

import pytest

from contract.suites.guard import GuardContract, MakeGuard, dns
from event_platform.adapters.guard import GuardedNetwork
from event_platform.adapters.resolvers import public_names
from support.servers import DnsServer

__all__ = ["dns"]


class TestGuardedNetwork(GuardContract):
    @pytest.fixture
    async def make_guard(self) -> AsyncIterator[MakeGuard]:
        made: list[GuardedNetwork] = []

        def make(
            dns: DnsServer,
            *,
            allow_loopback: bool = False,
            allow_networks: Sequence[str] = (),
            refuse_networks: Sequence[str] = (),
            own: Sequence[str] = (),
        ) -> GuardedNetwork:
            servers = [f"127.0.0.1:{dns.port}"]
            guard = GuardedNetwork(
                allow_loopback=allow_loopback,
                allow_networks=[ipaddress.ip_network(network) for network in allow_networks],
                refuse_networks=[ipaddress.ip_network(network) for network in refuse_networks],
                is_own=lambda address: str(address) in own,
                make_resolver=lambda: public_names(servers),
            )
            made.append(guard)
            return guard

        yield make
        for guard in made:
            await guard.close()
