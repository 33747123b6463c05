"""What every registry of PIMs must do: the port `TenantRegistry`.

A subclass gives the fixtures `world` and `dev_world`, each with an empty registry at the start of each test.
Changes to a world's entries are made as the operator makes them: beside the registry, which isn't told.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from event_platform.domain.tenants import Tenant
from event_platform.ports import TenantRegistry
from support.clock import ManualClock

SEEN_WITHIN = 5.0
"""Seconds after which a change is in force."""
LONG = 3600.0
"""Seconds in which nobody asks."""

PIM = "https://pim.example.com"
OTHER = "https://other.example.com"
PREFIX = "the ingest key: "
FULL = Tenant.model_validate(
    {
        "url": "https://full.example.com:8443/base",
        "key": "full",
        "auth": "platform-key",
        "clients": [
            {"client_id": "erp", "key_sha256": "0123456789abcdef" * 4, "username": "erp_4711"},
            {
                "client_id": "shop",
                "key_sha256": "fedcba9876543210" * 4,
                "previous_keys": [{"key_sha256": "0123456789abcdef" * 4, "until": "2026-01-31T12:00:00Z"}],
            },
        ],
        "token_info_client_id": "/app/id",
        "ingest_key": ["the new ingest key", "the old ingest key"],
        "events_api_secret": "the secret that the PIM made",
        "relay_secret": ["the secret of the relay"],
    }
)
PATTERN = Tenant.model_validate(
    {"host_pattern": "*.cloud.example.org", "auth": "probe", "clients": [{"client_id": "erp"}]}
)


class SteppingClock(ManualClock):
    """A clock of which tests set the time of day too, as an operator or NTP sets a machine's."""

    def __init__(self) -> None:
        super().__init__()
        self._set_by = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self._set_by

    def step(self, seconds: float) -> None:
        """What is monotonic goes on as if nothing had happened."""
        self._set_by += timedelta(seconds=seconds)


class RegistrySide(Protocol):
    """The parts that the suite works with."""

    clock: SteppingClock

    @property
    def registry(self) -> TenantRegistry: ...

    async def put(self, tenant: Tenant) -> None:
        """Adds an entry, or replaces the one of the same URL or pattern."""
        ...

    async def remove(self, tenant: Tenant) -> None:
        """Takes out the entry of that URL or pattern."""
        ...

    async def spoil(self) -> None:
        """Makes what the entries are read from unreadable; `put` and `remove` have to wait for `mend`."""
        ...

    async def mend(self) -> None:
        """Makes it readable again, with the entries that it had."""
        ...

    async def spoil_entry(self, tenant: Tenant) -> None:
        """Makes this entry one that can't be understood, whatever the others are."""
        ...


def a_tenant(url: str = PIM, *, ingest_key: str = "an ingest key") -> Tenant:
    """An entry of a PIM that sends events; PREFIX makes its key long enough to be listed."""
    return Tenant(url=url, ingest_key=(SecretStr(PREFIX + ingest_key),))


def secrets_of(tenant: Tenant) -> list[list[str]]:
    """What no repr shows."""
    kinds = (tenant.ingest_key, tenant.events_api_secret, tenant.relay_secret)
    return [[secret.get_secret_value() for secret in kind] for kind in kinds]


async def names(world: RegistrySide) -> list[str]:
    """The registry's entries by URL or pattern, in its order."""
    return [tenant.url or tenant.host_pattern or "" for tenant in await world.registry.tenants()]


async def ingest_keys(world: RegistrySide) -> list[str]:
    """Those of all entries."""
    found = await world.registry.tenants()
    return [
        secret.get_secret_value().removeprefix(PREFIX) for tenant in found for secret in tenant.ingest_key
    ]


DAMAGED = ["", "{", "{}", "[]", "5", "null", '{"url": "https://pim.example.com"}', '{"ingest_key": [5]}']
"""Documents that are no entry."""


class StoredSide(RegistrySide, Protocol):
    """The parts that the suite of entries in a store works with."""

    async def damage(self, tenant: Tenant, document: str) -> None:
        """Replaces the document of a stored entry."""
        ...

    async def reads_with_list(self, listed: Sequence[Tenant]) -> Sequence[Tenant]:
        """Returns the entries of a registry whose operator lists these."""
        ...


class RegistryContract:
    """The suite; see the module."""

    @pytest.fixture
    def world(self) -> RegistrySide:
        """As in production."""
        raise AssertionError("a subclass gives the world")

    @pytest.fixture
    def dev_world(self) -> RegistrySide:
        """As with --dev."""
        raise AssertionError("a subclass gives the world")

    # Entries

    @pytest.mark.provokes("pims.token_info")
    async def test_pims_that_may_have_no_token_info_are_named_with_the_cure(
        self, world: RegistrySide
    ) -> None:
        await world.put(Tenant(url=PIM))
        await world.put(Tenant(url="https://acme.cloud.akeneo.com"))
        with capture_logs() as logs:
            await world.registry.tenants()
        (line,) = [line for line in logs if line["event"] == "pims.token_info"]
        assert line["tenants"] == [PIM]
        assert "--auth platform-key" in line["fix"]

    async def test_a_registry_without_entries_is_empty(self, world: RegistrySide) -> None:
        assert not await world.registry.tenants()

    @pytest.mark.parametrize("tenant", [FULL, PATTERN, a_tenant()], ids=["full", "pattern", "short"])
    async def test_an_entry_comes_back_as_it_was_stored(self, world: RegistrySide, tenant: Tenant) -> None:
        await world.put(tenant)
        (found,) = await world.registry.tenants()
        assert found == tenant
        assert secrets_of(found) == secrets_of(tenant)

    async def test_secrets_stay_with_their_entry(self, world: RegistrySide) -> None:
        for number in range(5):
            await world.put(a_tenant(f"https://pim-{number}.example.com", ingest_key=f"key {number}"))
        found = {tenant.url: secrets_of(tenant)[0] for tenant in await world.registry.tenants()}
        assert found == {
            f"https://pim-{number}.example.com": [f"{PREFIX}key {number}"] for number in range(5)
        }

    async def test_exact_urls_come_before_patterns(self, world: RegistrySide) -> None:
        exact = [a_tenant("https://z.cloud.example.org"), a_tenant("https://a.example.com")]
        patterns = [PATTERN, Tenant(host_pattern="*.a.example.com")]
        for tenant in (patterns[0], exact[0], patterns[1], exact[1]):
            await world.put(tenant)
        found = await names(world)
        assert set(found[:2]) == {tenant.url for tenant in exact}
        assert set(found[2:]) == {tenant.host_pattern for tenant in patterns}

    async def test_an_http_entry_is_left_out_without_dev(self, world: RegistrySide) -> None:
        await world.put(a_tenant())
        await world.put(a_tenant("http://pim.example.com"))
        assert await names(world) == [PIM]
        await world.put(a_tenant(OTHER))
        await world.clock.advance(SEEN_WITHIN)
        assert sorted(await names(world)) == [OTHER, PIM]

    async def test_an_http_entry_is_served_with_dev(self, dev_world: RegistrySide) -> None:
        await dev_world.put(a_tenant("http://127.0.0.1:8080"))
        await dev_world.put(a_tenant())
        assert sorted(await names(dev_world)) == ["http://127.0.0.1:8080", PIM]

    # Changes

    async def test_an_added_entry_is_seen_within_5_seconds(self, world: RegistrySide) -> None:
        await world.put(a_tenant())
        assert await names(world) == [PIM]
        await world.put(a_tenant(OTHER))
        await world.put(PATTERN)
        await world.clock.advance(SEEN_WITHIN)
        found = await names(world)
        assert (sorted(found[:2]), found[2:]) == ([OTHER, PIM], [PATTERN.host_pattern])

    async def test_the_first_entry_of_all_is_seen_within_5_seconds(self, world: RegistrySide) -> None:
        assert await names(world) == []
        await world.put(a_tenant())
        await world.clock.advance(SEEN_WITHIN)
        assert await names(world) == [PIM]

    async def test_a_changed_entry_is_seen_within_5_seconds_and_replaces_the_old_one(
        self, world: RegistrySide
    ) -> None:
        await world.put(a_tenant(ingest_key="old"))
        await world.put(a_tenant(OTHER, ingest_key="other"))
        assert sorted(await ingest_keys(world)) == ["old", "other"]
        await world.put(a_tenant(ingest_key="new"))
        await world.clock.advance(SEEN_WITHIN)
        assert sorted(await ingest_keys(world)) == ["new", "other"]

    async def test_a_removed_entry_is_gone_within_5_seconds(self, world: RegistrySide) -> None:
        for tenant in (a_tenant(), a_tenant(OTHER), PATTERN):
            await world.put(tenant)
        assert len(await names(world)) == 3
        await world.remove(PATTERN)
        await world.remove(a_tenant())
        await world.clock.advance(SEEN_WITHIN)
        assert await names(world) == [OTHER]
        await world.remove(a_tenant(OTHER))
        await world.clock.advance(SEEN_WITHIN)
        assert await names(world) == []

    @pytest.mark.parametrize("pause", [0.25, 0.7, 1.9, 2.6, 4.9])
    async def test_however_often_it_is_asked_it_is_never_more_than_5_seconds_old(
        self, world: RegistrySide, pause: float
    ) -> None:
        """The entry changes before every question, so what is answered tells when it was read."""
        for version in range(40):
            await world.put(a_tenant(ingest_key=str(version)))
            (seen,) = await ingest_keys(world)
            assert (version - int(seen)) * pause <= SEEN_WITHIN
            await world.clock.advance(pause)

    async def test_whoever_asks_after_a_long_silence_sees_what_is_now(self, world: RegistrySide) -> None:
        """Also those who ask while it is being read again: a removed PIM's key must not open anything."""
        await world.put(a_tenant(ingest_key="old"))
        assert await ingest_keys(world) == ["old"]
        await world.put(a_tenant(ingest_key="new"))
        await world.clock.advance(LONG)
        assert await asyncio.gather(*(ingest_keys(world) for _ in range(5))) == [["new"]] * 5

    async def test_those_who_ask_at_the_very_beginning_all_see_the_entries(self, world: RegistrySide) -> None:
        await world.put(a_tenant())
        assert await asyncio.gather(*(names(world) for _ in range(5))) == [[PIM]] * 5

    async def test_what_was_answered_does_not_change_afterwards(self, world: RegistrySide) -> None:
        await world.put(a_tenant())
        before = await world.registry.tenants()
        await world.remove(a_tenant())
        await world.put(a_tenant(OTHER))
        await world.clock.advance(SEEN_WITHIN)
        assert await names(world) == [OTHER]
        assert [tenant.url for tenant in before] == [PIM]

    @pytest.mark.parametrize("seconds", [-LONG, LONG])
    async def test_changes_are_seen_in_time_though_the_time_of_day_is_set(
        self, world: RegistrySide, seconds: float
    ) -> None:
        await world.put(a_tenant(ingest_key="old"))
        assert await ingest_keys(world) == ["old"]
        world.clock.step(seconds)
        await world.put(a_tenant(ingest_key="new"))
        await world.clock.advance(SEEN_WITHIN)
        assert await ingest_keys(world) == ["new"]

    # What can't be read

    @pytest.mark.provokes("pims.not_reread")
    async def test_while_nothing_can_be_read_the_last_good_entries_stay(self, world: RegistrySide) -> None:
        for tenant in (FULL, PATTERN):
            await world.put(tenant)
        good = await world.registry.tenants()
        await world.spoil()
        for seconds in (0.0, SEEN_WITHIN, SEEN_WITHIN, LONG):
            await world.clock.advance(seconds)
            assert await world.registry.tenants() == good
            assert [secrets_of(tenant) for tenant in good] == [secrets_of(FULL), secrets_of(PATTERN)]

    async def test_nobody_who_asks_at_once_fails_while_nothing_can_be_read(self, world: RegistrySide) -> None:
        await world.put(a_tenant())
        assert await names(world) == [PIM]
        await world.spoil()
        await world.clock.advance(SEEN_WITHIN)
        assert await asyncio.gather(*(names(world) for _ in range(5))) == [[PIM]] * 5

    async def test_what_can_be_read_again_is_followed_within_5_seconds(self, world: RegistrySide) -> None:
        await world.put(a_tenant())
        assert await names(world) == [PIM]
        await world.spoil()
        await world.clock.advance(SEEN_WITHIN)
        assert await names(world) == [PIM]
        await world.mend()
        await world.remove(a_tenant())
        await world.put(a_tenant(OTHER))
        await world.clock.advance(SEEN_WITHIN)
        assert await names(world) == [OTHER]

    async def test_an_entry_that_cannot_be_understood_takes_no_other_with_it(
        self, world: RegistrySide
    ) -> None:
        await world.put(a_tenant())
        await world.put(a_tenant(OTHER))
        assert sorted(await names(world)) == [OTHER, PIM]
        await world.spoil_entry(a_tenant(OTHER))
        for _ in range(3):
            await world.clock.advance(SEEN_WITHIN)
            assert PIM in await names(world)


class StoredRegistryContract(RegistryContract):
    """The further duties of every registry with entries in a store. `world` is a StoredSide."""

    @pytest.fixture
    def world(self) -> StoredSide:
        raise AssertionError("a subclass gives the world")

    @pytest.mark.provokes("pims.entry_unreadable")
    @pytest.mark.alerts("entry-unreadable")
    @pytest.mark.parametrize("document", DAMAGED)
    async def test_a_damaged_entry_is_logged_with_the_cure_and_takes_no_other_with_it(
        self, world: StoredSide, document: str
    ) -> None:
        for tenant in (a_tenant(), a_tenant(OTHER)):
            await world.put(tenant)
        await world.damage(a_tenant(OTHER), document)
        with capture_logs() as logs:
            assert await names(world) == [PIM]
        (line,) = [line for line in logs if line["event"] == "pims.entry_unreadable"]
        assert line["tenant"] == OTHER
        assert "aep pims list" in line["fix"]

    async def test_an_entry_that_was_unreadable_is_in_force_when_it_is_put_again(
        self, world: StoredSide
    ) -> None:
        await world.put(a_tenant())
        await world.spoil_entry(a_tenant())
        assert await names(world) == []
        await world.put(a_tenant())
        await world.clock.advance(SEEN_WITHIN)
        assert await names(world) == [PIM]

    @pytest.mark.provokes("pims.left_out")
    async def test_an_http_entry_that_is_left_out_is_logged(self, world: StoredSide) -> None:
        await world.put(a_tenant("http://pim.example.com"))
        with capture_logs() as logs:
            assert await names(world) == []
        (line,) = [line for line in logs if line["event"] == "pims.left_out"]
        assert "http://pim.example.com" in line["error"]

    async def test_a_listed_entry_goes_before_a_stored_one_of_its_name(self, world: StoredSide) -> None:
        listed = [PATTERN, a_tenant(ingest_key="listed")]
        for tenant in (a_tenant(ingest_key="stored"), a_tenant(OTHER, ingest_key="other")):
            await world.put(tenant)
        found = await world.reads_with_list(listed)
        assert [tenant.name for tenant in found] == [PIM, OTHER, PATTERN.host_pattern]
        assert found[0].ingest_key == listed[1].ingest_key

    @pytest.mark.provokes("pims.weak_secrets")
    async def test_a_stored_key_that_is_easy_to_guess_is_in_force_and_warned_of(
        self, world: StoredSide
    ) -> None:
        weak = Tenant(
            url=PIM, ingest_key=(SecretStr("k"),), relay_secret=(SecretStr("long enough a secret"),)
        )
        await world.put(weak)
        with capture_logs() as logs:
            (found,) = await world.registry.tenants()
        assert found.ingest_key == weak.ingest_key
        (line,) = [line for line in logs if line["event"] == "pims.weak_secrets"]
        assert (line["tenant"], line["secrets"]) == (PIM, ["ingest_key.0"])
