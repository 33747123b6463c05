"""Lookups when the machine's configuration changes, and when nameservers do not answer. Over real sockets."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from event_platform.adapters import resolvers
from event_platform.adapters.resolvers import (
    CaresResolver,
    NameNotResolved,
    RenewedResolver,
    Resolver,
    ResolverSilent,
)
from support.eventually import eventually
from support.processes import free_port
from support.servers import EVERY_NAME, DnsServer

NAME, NS = "hooks.example.org", 2
OLD, NEW = "10.0.0.1", "10.0.0.2"
NEVER = 1e9


@pytest.fixture(autouse=True)
def no_time_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets answers come late, and keeps the answers that are known."""
    for name in ("LOOKUP_SECONDS", "ASK_SECONDS", "ASKED_SECONDS"):
        monkeypatch.setattr(resolvers, name, NEVER)


class Machine:
    """A file that names a nameserver, and the resolvers that were made from it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "resolv.conf"
        self.channels = 0
        self._made: list[Resolver] = []

    def asks(self, server: DnsServer | int) -> None:
        port = server if isinstance(server, int) else server.port
        written = self.file.with_name("written")
        written.write_text(f"127.0.0.1:{port}")
        written.replace(self.file)

    def resolver(self, *, look_seconds: float = NEVER) -> RenewedResolver:
        made = RenewedResolver(self._channel, configuration=[str(self.file)], look_seconds=look_seconds)
        self._made.append(made)
        return made

    def _channel(self) -> CaresResolver:
        self.channels += 1
        return CaresResolver([self.file.read_text()], timeout=30, tries=1)

    async def close(self) -> None:
        for each in self._made:
            await each.close()


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    await machine.close()


# The configuration


async def test_the_next_lookup_follows_a_configuration_that_was_replaced(machine: Machine) -> None:
    async with DnsServer({NAME: [[OLD]]}) as old, DnsServer({NAME: [[NEW]]}) as new:
        machine.asks(old)
        resolver = machine.resolver(look_seconds=0)
        assert await resolver.resolve(NAME) == [OLD]
        machine.asks(new)
        assert await resolver.resolve(NAME) == [NEW]


async def test_a_link_that_leads_to_another_file_is_another_configuration(
    machine: Machine, tmp_path: Path
) -> None:
    async with DnsServer({NAME: [[OLD]]}) as old, DnsServer({NAME: [[NEW]]}) as new:
        first, second = tmp_path / "first", tmp_path / "second"
        first.write_text(f"127.0.0.1:{old.port}")
        second.write_text(f"127.0.0.1:{new.port}")
        machine.file.symlink_to(first)
        resolver = machine.resolver(look_seconds=0)
        assert await resolver.resolve(NAME) == [OLD]
        other = tmp_path / "other"
        other.symlink_to(second)
        other.replace(machine.file)
        assert await resolver.resolve(NAME) == [NEW]


async def test_a_file_that_a_link_leads_to_may_be_written_in_place(machine: Machine, tmp_path: Path) -> None:
    async with DnsServer({NAME: [[OLD]]}) as old, DnsServer({NAME: [[NEW]]}) as new:
        target = tmp_path / "target"
        target.write_text(f"127.0.0.1:{old.port}")
        machine.file.symlink_to(target)
        resolver = machine.resolver(look_seconds=0)
        assert await resolver.resolve(NAME) == [OLD]
        target.write_text(f"127.0.0.1:{new.port}")
        os.utime(target, ns=(0, target.stat().st_mtime_ns + 1))  # file systems may count in coarse steps
        assert await resolver.resolve(NAME) == [NEW]


async def test_a_configuration_that_stays_costs_no_new_channel_and_few_looks(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    identity_of = resolvers._identity_of

    def counted(paths: list[str]) -> resolvers.Identity:
        nonlocal looks
        looks += 1
        return identity_of(paths)

    monkeypatch.setattr(resolvers, "_identity_of", counted)
    async with DnsServer({NAME: [[OLD]]}) as dns:
        machine.asks(dns)
        often, rarely = machine.resolver(look_seconds=0), machine.resolver(look_seconds=NEVER)
        for _ in range(20):
            await rarely.resolve(NAME)
        assert looks == 2  # one when each was made
        await often.resolve(NAME)
        assert looks == 3
    assert machine.channels == 2


async def test_a_failure_by_an_old_configuration_is_not_the_names(machine: Machine) -> None:
    """The old nameserver says that there is no such name, as one of another network does."""
    async with DnsServer({}) as old, DnsServer({NAME: [[NEW]]}) as new:
        machine.asks(old)
        resolver = machine.resolver()
        with pytest.raises(NameNotResolved):
            await resolver.resolve(NAME)
        machine.asks(new)
        with pytest.raises(ResolverSilent, match="renewed"):
            await resolver.resolve(NAME)
        assert await resolver.resolve(NAME) == [NEW]


async def test_a_lookup_under_way_ends_by_the_configuration_that_it_began_with(machine: Machine) -> None:
    async with DnsServer({NAME: [[OLD]]}, silent=["slow.example.org"]) as old, DnsServer({}) as new:
        machine.asks(old)
        resolver = machine.resolver(look_seconds=0)
        slow = asyncio.create_task(resolver.resolve("slow.example.org"))
        await until_asked(old, "slow.example.org")
        machine.asks(new)
        with pytest.raises(NameNotResolved):
            await resolver.resolve(NAME)
        assert not slow.done()
        slow.cancel()


async def test_a_file_that_is_mounted_over_the_machines_own_is_followed(tmp_path: Path) -> None:
    """Asks the resolver as it is used, in a mount namespace; only the time of its looks is injected."""
    if not may_mount():
        pytest.skip("this user may not make a mount namespace")
    async with DnsServer({NAME: [[OLD]]}) as old, DnsServer({NAME: [[NEW]]}) as new:
        for file, server in ("old", old), ("new", new):
            (tmp_path / file).write_text(f"nameserver 127.0.0.1:{server.port}\n")
        ran = await asyncio.create_subprocess_exec(
            *IN_A_MOUNT_NAMESPACE, sys.executable, "-c", MOUNTS, str(tmp_path), NAME, stdout=subprocess.PIPE
        )
        printed, _ = await ran.communicate()
    assert ran.returncode == 0
    assert [line for line in printed.decode().splitlines() if line in (OLD, NEW)] == [OLD, NEW]


def may_mount() -> bool:
    return (
        shutil.which("unshare") is not None
        and subprocess.run([*IN_A_MOUNT_NAMESPACE, "true"], check=False).returncode == 0
    )


IN_A_MOUNT_NAMESPACE = ("unshare", "--map-root-user", "--mount")
MOUNTS = """
import asyncio, subprocess, sys
from event_platform.adapters import resolvers

folder, name = sys.argv[1:]
resolvers.LOOKUP_SECONDS = resolvers.ASK_SECONDS = 60

async def main():
    for file in "old", "new":
        subprocess.run(["mount", "--bind", f"{folder}/{file}", "/etc/resolv.conf"], check=True)
        if file == "old":
            resolver = resolvers.local_names()
            resolver._look_seconds = 0
        print(*await resolver.resolve(name))
    await resolver.close()

asyncio.run(main())
"""


# Nameservers that do not answer


async def test_a_name_that_nobody_answers_for_does_not_resolve_when_the_nameserver_answers(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolvers, "LOOKUP_SECONDS", 0.05)
    async with DnsServer({}, silent=[NAME]) as dns:
        machine.asks(dns)
        with pytest.raises(NameNotResolved):
            await machine.resolver().resolve(NAME)
        assert questions(dns) == 1
    assert machine.channels == 1


async def test_a_name_whose_own_nameserver_fails_does_not_resolve(machine: Machine) -> None:
    async with DnsServer({}, failing=[NAME]) as dns:
        machine.asks(dns)
        with pytest.raises(NameNotResolved):
            await machine.resolver().resolve(NAME)
    assert machine.channels == 1


async def test_many_names_that_fail_cost_one_question(machine: Machine) -> None:
    names = [f"{number}.example.org" for number in range(20)]
    async with DnsServer({}, failing=names) as dns:
        machine.asks(dns)
        resolver = machine.resolver()
        found = await asyncio.gather(*map(resolver.resolve, names), return_exceptions=True)
        assert questions(dns) == 1
    assert {type(each) for each in found} == {resolvers.Unanswered}


@pytest.mark.parametrize("kind", ["silent", "failing"])
async def test_a_nameserver_that_answers_nothing_is_not_the_names_fault(
    machine: Machine, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOOKUP_SECONDS", "ASK_SECONDS"):
        monkeypatch.setattr(resolvers, name, 0.05)
    every = [EVERY_NAME]
    dns = DnsServer({}, silent=every) if kind == "silent" else DnsServer({}, failing=every)
    async with dns:
        machine.asks(dns)
        resolver = machine.resolver()
        with capture_logs() as lines:
            for name in (NAME, "other.example.org", NAME):
                with pytest.raises(ResolverSilent, match="no nameserver answers"):
                    await resolver.resolve(name)
    assert [line["event"] for line in lines] == ["resolver.renewed"]


@pytest.mark.parametrize(("asked_seconds", "channels"), [(NEVER, 2), (0, 11)])
async def test_while_a_nameserver_is_away_there_is_one_new_channel_for_each_question(
    machine: Machine, asked_seconds: float, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port where nobody listens says so at once, and every lookup fails in less than a millisecond."""
    monkeypatch.setattr(resolvers, "ASKED_SECONDS", asked_seconds)
    machine.asks(free_port())
    resolver = machine.resolver()
    for _ in range(10):
        with pytest.raises(ResolverSilent):
            await resolver.resolve(NAME)
    assert machine.channels == channels


async def test_a_channel_that_gets_no_answers_is_replaced_though_the_configuration_stays(
    machine: Machine,
) -> None:
    async with DnsServer({NAME: [[NEW]]}) as dns:
        dead = free_port()
        servers = iter([dead])
        made = RenewedResolver(
            lambda: CaresResolver([f"127.0.0.1:{next(servers, dns.port)}"], timeout=30), configuration=()
        )
        with pytest.raises(ResolverSilent):
            await made.resolve(NAME)
        assert await made.resolve(NAME) == [NEW]
        await made.close()


async def test_a_resolver_that_is_closed_ends_its_lookups(machine: Machine) -> None:
    async with DnsServer({}, silent=[NAME]) as dns:
        machine.asks(dns)
        resolver = machine.resolver()
        lookup = asyncio.create_task(resolver.resolve(NAME))
        await until_asked(dns, NAME)
        await resolver.close()
        with pytest.raises(NameNotResolved):
            await lookup
    assert machine.channels == 1


async def test_each_question_is_about_another_name(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """c-ares and the nameservers keep answers, also those that there is no such name."""
    monkeypatch.setattr(resolvers, "ASKED_SECONDS", 0)
    async with DnsServer({}, failing=[NAME]) as dns:
        machine.asks(dns)
        resolver = machine.resolver()
        for _ in range(5):
            with pytest.raises(NameNotResolved):
                await resolver.resolve(NAME)
        assert questions(dns) == len({name for name, kind in dns.asked if kind == NS}) == 5


def questions(dns: DnsServer) -> int:
    """The number of questions that find out whether it answers."""
    return sum(count for (_, kind), count in dns.asked.items() if kind == NS)


async def until_asked(dns: DnsServer, name: str) -> None:
    await eventually(lambda: any(asked == name for asked, _ in dns.asked))
