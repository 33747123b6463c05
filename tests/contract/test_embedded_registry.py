"""The registry of one machine passes the suite of `TenantRegistry`: in the store, and in a file over it."""

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from aep.errors import BadPims
from aep.store import tenants
from aep.store.database import Database
from aep.store.opening import beside_the_server
from aep.store.tenants import StoredAndListed
from contract.suites.registry import (
    OTHER,
    PATTERN,
    PIM,
    SEEN_WITHIN,
    RegistryContract,
    RegistrySide,
    SteppingClock,
    StoredRegistryContract,
    a_tenant,
    ingest_keys,
    names,
)
from event_platform.adapters.pim_registry import PimRegistry
from event_platform.adapters.seal import AesGcmSeal
from event_platform.domain.tenants import Tenant

SEAL = AesGcmSeal(b"\x01" * 32)
OTHER_SEAL = AesGcmSeal(b"\x02" * 32)
HTTP = "http://pim.example.com"


class StoredRegistry:
    """Entries in the store, changed as `aep pims` does it: by another connection to the file."""

    def __init__(self, folder: Path, *, source: str | None = None, allow_http: bool = False) -> None:
        self.clock = SteppingClock()
        self._folder = folder
        self._database = Database(folder)
        self._database.open()
        self.registry = self._registry(source, allow_http=allow_http)

    async def put(self, tenant: Tenant) -> None:
        with beside_the_server(self._folder) as connection:
            tenants.put(connection, tenant, SEAL)

    async def remove(self, tenant: Tenant) -> None:
        self._run("DELETE FROM tenants WHERE name = ?", tenant.name)

    async def spoil(self) -> None:
        self._run("ALTER TABLE tenants RENAME TO lost")

    async def mend(self) -> None:
        self._run("ALTER TABLE lost RENAME TO tenants")

    async def spoil_entry(self, tenant: Tenant) -> None:
        with beside_the_server(self._folder) as connection:
            tenants.put(connection, tenant, OTHER_SEAL)

    async def damage(self, tenant: Tenant, document: str) -> None:
        self._run("UPDATE tenants SET document = ? WHERE name = ?", document, tenant.name)

    async def reads_with_list(self, listed: Sequence[Tenant]) -> Sequence[Tenant]:
        source = orjson.dumps(list(map(_entry_of, listed))).decode()
        return await self._registry(source, allow_http=False).tenants()

    async def close(self) -> None:
        await self._database.close()

    def _registry(self, source: str | None, *, allow_http: bool) -> PimRegistry:
        entries = StoredAndListed(self._database, source=source, allow_http=allow_http)
        return PimRegistry(entries, SEAL, self.clock, allow_http=allow_http)

    def _run(self, statement: str, *values: str) -> None:
        with beside_the_server(self._folder) as connection:
            connection.execute(statement, values)


class ListedRegistry(StoredRegistry):
    """Entries in the file of --pims, changed as an editor does it, over an empty store."""

    def __init__(self, folder: Path, *, allow_http: bool = False) -> None:
        self.file = folder / "pims.json"
        self.file.write_text("[]")
        self._entries: list[Tenant] = []
        super().__init__(folder / "data", source=str(self.file), allow_http=allow_http)

    async def put(self, tenant: Tenant) -> None:
        self._write([*_without(self._entries, tenant), tenant])

    async def remove(self, tenant: Tenant) -> None:
        self._write(_without(self._entries, tenant))

    async def spoil(self) -> None:
        self.file.rename(self.file.with_suffix(".away"))

    async def mend(self) -> None:
        self.file.with_suffix(".away").rename(self.file)

    async def spoil_entry(self, tenant: Tenant) -> None:
        rest = map(_entry_of, _without(self._entries, tenant))
        self.file.write_bytes(orjson.dumps([*rest, {"url": tenant.url, "ingest_keys": "no such field"}]))

    async def put_in_store(self, tenant: Tenant) -> None:
        await super().put(tenant)

    def _write(self, entries: Sequence[Tenant]) -> None:
        self._entries = list(entries)
        self.file.write_bytes(orjson.dumps(list(map(_entry_of, entries))))


def _entry_of(tenant: Tenant) -> dict[str, Any]:
    """As the operator writes it, secrets in clear."""
    entry = tenant.model_dump(exclude_defaults=True)
    for name in ("ingest_key", "events_api_secret", "relay_secret"):
        entry[name] = [secret.get_secret_value() for secret in getattr(tenant, name)]
    return entry


def _without(entries: Sequence[Tenant], tenant: Tenant) -> list[Tenant]:
    return [each for each in entries if each.name != tenant.name]


@asynccontextmanager
async def closing(world: StoredRegistry) -> AsyncIterator[StoredRegistry]:
    try:
        yield world
    finally:
        await world.close()


class TestStoredPims(StoredRegistryContract):
    @pytest.fixture
    async def world(self, tmp_path: Path) -> AsyncIterator[StoredRegistry]:
        async with closing(StoredRegistry(tmp_path)) as world:
            yield world

    @pytest.fixture
    async def dev_world(self, tmp_path: Path) -> AsyncIterator[RegistrySide]:
        async with closing(StoredRegistry(tmp_path, allow_http=True)) as world:
            yield world


class TestListedPims(RegistryContract):
    """Where the file says nothing of its own, it is like the store."""

    @pytest.fixture
    async def world(self, tmp_path: Path) -> AsyncIterator[RegistrySide]:
        async with closing(ListedRegistry(tmp_path)) as world:
            yield world

    @pytest.fixture
    async def dev_world(self, tmp_path: Path) -> AsyncIterator[RegistrySide]:
        async with closing(ListedRegistry(tmp_path, allow_http=True)) as world:
            yield world

    @pytest.fixture
    async def listed(self, tmp_path: Path) -> AsyncIterator[ListedRegistry]:
        world = ListedRegistry(tmp_path)
        async with closing(world):
            yield world

    async def test_an_http_entry_is_left_out_without_dev(self, world: RegistrySide) -> None:
        """With all that the file says beside it: a list is taken as a whole or not at all."""
        await world.put(a_tenant())
        assert await names(world) == [PIM]
        await world.put(a_tenant(HTTP))
        await world.put(a_tenant(OTHER))
        await world.clock.advance(SEEN_WITHIN)
        assert await names(world) == [PIM]
        await world.remove(a_tenant(HTTP))
        await world.clock.advance(SEEN_WITHIN)
        assert sorted(await names(world)) == [OTHER, PIM]

    async def test_the_file_goes_before_the_store(self, listed: ListedRegistry) -> None:
        await listed.put_in_store(a_tenant(ingest_key="stored"))
        await listed.put_in_store(a_tenant(OTHER, ingest_key="other"))
        await listed.put_in_store(PATTERN)
        await listed.put(a_tenant(ingest_key="listed"))
        assert sorted(await ingest_keys(listed)) == ["listed", "other"]
        assert (await names(listed))[2:] == [PATTERN.host_pattern]
        await listed.remove(a_tenant())
        await listed.clock.advance(SEEN_WITHIN)
        assert sorted(await ingest_keys(listed)) == ["other", "stored"]

    async def test_a_pattern_of_the_file_comes_after_urls_of_the_store(self, listed: ListedRegistry) -> None:
        await listed.put_in_store(a_tenant())
        await listed.put(PATTERN)
        assert await names(listed) == [PIM, PATTERN.host_pattern]

    @pytest.mark.parametrize(
        "text",
        [
            b"", b"[", b"{}", b"null", b"[5]", b'[{"url": "pim.example.com"}]', b"\xff",
            b'[{"url": "https://a.example.com"}, {"url": "https://a.example.com"}]',
            b'[{"url": "https://a.example.com", "key": "x"}, {"url": "https://b.example.com", "key": "x"}]',
        ],
    )  # fmt: skip
    async def test_a_file_that_turned_bad_leaves_what_was_good(
        self, listed: ListedRegistry, text: bytes
    ) -> None:
        await listed.put(a_tenant())
        assert await names(listed) == [PIM]
        listed.file.write_bytes(text)
        await listed.clock.advance(SEEN_WITHIN)
        assert await names(listed) == [PIM]

    async def test_a_store_that_is_away_leaves_what_was_good(self, listed: ListedRegistry) -> None:
        await listed.put(a_tenant())
        await listed.put_in_store(a_tenant(OTHER))
        assert sorted(await names(listed)) == [OTHER, PIM]
        await StoredRegistry.spoil(listed)
        await listed.clock.advance(SEEN_WITHIN)
        assert sorted(await names(listed)) == [OTHER, PIM]
        await StoredRegistry.mend(listed)

    @pytest.mark.parametrize("key", ["\N{HORIZONTAL ELLIPSIS}", "sixteen letters.\n"])
    async def test_a_key_that_is_not_printable_ascii_is_refused(
        self, listed: ListedRegistry, key: str
    ) -> None:
        strong = SecretStr("sixteen letters.")
        await listed.put(Tenant(url=PIM, ingest_key=(strong, SecretStr(key))))
        with pytest.raises(
            BadPims, match=r"entry 1, ingest_key, entry 2: must have at least 16 printable ASCII"
        ):
            await listed.registry.tenants()
        await listed.put(Tenant(url=PIM, ingest_key=(strong,)))
        await listed.registry.tenants()

    @pytest.mark.parametrize("key", ["k", "15 characters.."])
    async def test_a_listed_key_that_is_short_is_in_force_and_warned_of(
        self, listed: ListedRegistry, key: str
    ) -> None:
        await listed.put(Tenant(url=PIM, ingest_key=(SecretStr(key),)))
        with capture_logs() as logs:
            await listed.registry.tenants()
            (found,) = await listed.registry.tenants()
        assert found.ingest_key == (SecretStr(key),)
        (line,) = [line for line in logs if line["event"] == "pims.weak_secrets"]
        assert (line["tenant"], line["secrets"]) == (PIM, ["ingest_key.0"])
        for cure in ("at least 16", "aep pims add URL --rotate", "openssl rand -base64 32"):
            assert cure in line["fix"]

    async def test_a_bad_file_is_refused_at_the_start(self, listed: ListedRegistry) -> None:
        await listed.put(a_tenant(HTTP))
        with pytest.raises(BadPims, match="--dev"):
            await listed.registry.tenants()


async def test_the_list_can_be_given_itself(tmp_path: Path) -> None:
    source = orjson.dumps([_entry_of(a_tenant()), _entry_of(PATTERN)]).decode()
    async with closing(StoredRegistry(tmp_path, source=source)) as world:
        assert await world.registry.tenants() == [a_tenant(), PATTERN]


async def test_the_store_keeps_no_secret_in_clear(tmp_path: Path) -> None:
    async with closing(StoredRegistry(tmp_path)) as world:
        await world.put(a_tenant(ingest_key="an-ingest-key-of-tests"))
        assert await ingest_keys(world) == ["an-ingest-key-of-tests"]
        with sqlite3.connect(tmp_path / "aep.db") as connection:
            ((document,),) = connection.execute("SELECT document FROM tenants").fetchall()
        connection.close()
    assert PIM in document
    assert "an-ingest-key-of-tests" not in document
