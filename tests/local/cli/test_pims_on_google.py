"""`aep pims --google`: the registry in a project's Firestore, which running functions follow."""

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson
import pytest

from contract.suites.registry import SEEN_WITHIN
from event_platform.adapters.firestore import tenants
from event_platform.adapters.firestore.client import Firestore, connect
from event_platform.adapters.firestore.tenants import FirestoreEntries
from event_platform.adapters.pim_registry import PimRegistry
from event_platform.adapters.seal import AesGcmSeal, KeylessSeal
from event_platform.domain.tenants import Tenant
from event_platform.ports import Seal
from support.aep_here import Ended, run
from support.clock import ManualClock

PIM, OTHER = "https://pim.example.com", "https://other.example.com"
KEY, WRONG_KEY = bytes(range(32)), bytes(range(32, 64))
SEAL = AesGcmSeal(KEY)


def variable(*keys: bytes) -> Mapping[str, str]:
    return {"AEP_REGISTRY_KEY": ",".join(base64.b64encode(key).decode() for key in keys)}


@pytest.fixture
async def firestore(
    firestore_host: str, project: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Firestore]:
    """The project's own, which commands reach by the variable of the emulator."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_host)
    opened = connect(project, emulator=firestore_host)
    yield opened
    await opened.close()


async def pims(firestore: Firestore, *words: str, settings: Mapping[str, str] | None = None) -> Ended:
    """The command on that project, without a key unless the settings have one."""
    place = ("--google", firestore.client.project)
    return await asyncio.to_thread(run, "pims", *words, *place, settings=settings)


async def added(firestore: Firestore, url: str = PIM) -> Any:
    ended = await pims(firestore, "add", url, "--json", settings=variable(KEY))
    assert ended.status == 0, ended.err
    return orjson.loads(ended.out)


class Function:
    """The registry as a function that has been running for long reads it."""

    def __init__(self, firestore: Firestore, seal: Seal) -> None:
        self._clock = ManualClock()
        self._registry = PimRegistry(FirestoreEntries(firestore), seal, self._clock, allow_http=False)

    async def sees(self) -> Mapping[str | None, Tenant]:
        await self._clock.advance(SEEN_WITHIN)
        return {tenant.url: tenant for tenant in await self._registry.tenants()}


def ingest_key(tenant: Tenant) -> list[str]:
    return [key.get_secret_value() for key in tenant.ingest_key]


async def test_running_functions_follow_the_command_without_a_release(firestore: Firestore) -> None:
    ingest, manage = Function(firestore, SEAL), Function(firestore, KeylessSeal())
    assert await ingest.sees() == await manage.sees() == {}
    new = await added(firestore)
    assert ingest_key((await ingest.sees())[PIM]) == [new["ingest_key"]]
    assert (await manage.sees())[PIM].auth == "token-info"
    await pims(firestore, "add", PIM, "--auth", "platform-key", settings=variable(KEY))
    key = orjson.loads((await pims(firestore, "client", PIM, "erp", "--json")).out)["key"]
    (client,) = (await manage.sees())[PIM].clients
    assert (client.client_id, bool(client.key_sha256), bool(key)) == ("erp", True, True)
    assert (await pims(firestore, "revoke", PIM, "erp")).status == 0
    assert (await manage.sees())[PIM].clients == ()
    assert ingest_key((await ingest.sees())[PIM]) == [new["ingest_key"]]
    assert (await pims(firestore, "remove", PIM)).status == 0
    assert await ingest.sees() == await manage.sees() == {}


async def test_only_add_needs_the_key_and_says_where_it_is(firestore: Firestore) -> None:
    refused = await pims(firestore, "add", PIM)
    assert (refused.status, refused.out, refused.err.count("\n")) == (2, "", 1)
    assert "pulumi -C infra config get registryKey" in refused.err
    await added(firestore)
    for words in (("list",), ("clients", PIM), ("client", PIM, "erp", "--username", "erp_1")):
        assert (await pims(firestore, *words)).status == 0, words
    assert (await pims(firestore, "remove", PIM)).status == 0


async def test_another_key_than_the_stacks_changes_nothing(firestore: Firestore) -> None:
    new = await added(firestore)
    for url in (PIM, OTHER):
        refused = await pims(firestore, "add", url, "--rotate", settings=variable(WRONG_KEY))
        assert (refused.status, refused.out, refused.err.count("\n")) == (1, "", 1)
        assert PIM in refused.err
        assert "AEP_REGISTRY_KEY" in refused.err
    seen = await Function(firestore, SEAL).sees()
    assert {url: ingest_key(tenant) for url, tenant in seen.items()} == {PIM: [new["ingest_key"]]}


async def test_the_first_key_seals_and_the_older_ones_open(firestore: Firestore) -> None:
    new = await added(firestore)
    rotated = await pims(firestore, "add", PIM, "--rotate", "--json", settings=variable(WRONG_KEY, KEY))
    both = [orjson.loads(rotated.out)["ingest_key"], new["ingest_key"]]
    assert ingest_key((await Function(firestore, AesGcmSeal(WRONG_KEY)).sees())[PIM]) == both


async def test_an_entry_that_cannot_be_understood_is_named_and_can_be_removed(firestore: Firestore) -> None:
    await added(firestore)
    await added(firestore, OTHER)
    (damaged,) = [
        each.reference
        for each in await tenants.stored_entries(firestore)
        if tenants.entry_of(each).name == OTHER
    ]
    await firestore.set(damaged, {"document": "{"}, merge=True)
    listed = await pims(firestore, "list", "--json")
    assert [row["url"] for row in orjson.loads(listed.out)] == [PIM]
    assert f"`aep pims remove {OTHER} --google {firestore.client.project}`" in listed.err
    assert list(await Function(firestore, SEAL).sees()) == [PIM]
    assert (await pims(firestore, "remove", OTHER)).status == 0
    assert (await pims(firestore, "list")).err == ""
    await added(firestore, OTHER)
    assert set(await Function(firestore, SEAL).sees()) == {PIM, OTHER}


async def test_commands_that_are_printed_work_on_the_same_project(firestore: Firestore) -> None:
    ended = await pims(firestore, "add", PIM, settings=variable(KEY))
    place = f"--google {firestore.client.project}"
    assert f"  aep pims add {PIM} --events-api-secret - {place}\n" in ended.out
    assert "without a release" in ended.out
    assert f"`aep pims add {OTHER} {place}`" in (await pims(firestore, "client", OTHER, "erp")).err


@pytest.mark.parametrize("dev", ["false", "true"])
async def test_a_pim_without_tls_is_for_development_only(firestore: Firestore, dev: str) -> None:
    settings = {**variable(KEY), "AEP_DEV": dev}
    ended = await pims(firestore, "add", "http://pim.example.com", settings=settings)
    assert (ended.status == 0) == (dev == "true")
    assert ("https://" in ended.err) == (dev == "false")


def test_a_file_and_a_project_are_two_registries() -> None:
    ended = run("pims", "list", "--pims", "pims.json", "--google", "my-project")
    assert ended.status == 2
    assert "two registries" in ended.err
