"""`aep secrets rotate`: on a folder, with keys of the settings, and in Firestore."""

import asyncio
import base64
import re
from pathlib import Path

import orjson
import pytest
from pydantic import SecretStr

from aep.google.reseal import reseal
from aep.store import keys
from event_platform.adapters.firestore import feeds, tenants
from event_platform.adapters.firestore.client import connect
from event_platform.adapters.firestore.subscriptions import FirestoreSubscriptions
from event_platform.adapters.firestore.tenants import FirestoreEntries
from event_platform.adapters.pim_registry import PimRegistry
from event_platform.adapters.seal import AesGcmSeal, SplitSeal, key_id
from event_platform.domain.tenants import Tenant
from support import one_pim
from support.aep_here import Ended, run
from support.clock import ManualClock
from support.feeding import a_feed
from support.processes import delivered, server, signature
from support.records import OWNER, PIM, a_subscriber, a_subscription

OLD, NEW, REGISTRY, FEED = (bytes(range(begin, begin + 32)) for begin in (0, 32, 64, 96))
SEALED = re.compile(r"[0-9a-f]{8}\.[A-Za-z0-9_-]{38,}")


def text(*several: bytes) -> str:
    return ",".join(base64.b64encode(key).decode() for key in several)


@pytest.fixture
def inbox(tmp_path: Path) -> str:
    """Where deliveries go; it need not be there for a subscription to be made."""
    return "http://127.0.0.1:40999/ok"


@pytest.fixture
def folder(tmp_path: Path, inbox: str) -> Path:
    """A data folder with a subscription, made by a platform that has stopped."""
    with one_pim.serve(tmp_path) as serve:
        one_pim.subscribe(serve, inbox, headers={"X-Api-Key": "a header value of tests"})
    assert run("pims", "add", "https://other.example.com", "--data", str(tmp_path / "data")).status == 0
    return tmp_path / "data"


def rotate(folder: Path, **settings: str) -> Ended:
    return run("secrets", "rotate", "--json", "--data", str(folder), settings=settings)


def ids_of_keys(folder: Path) -> set[str]:
    """Those that the store's secrets are sealed with."""
    dump = (folder / "aep.db").read_bytes()  # the last connection has put everything here
    assert not (folder / "aep.db-wal").exists()
    documents = one_pim.rows(
        folder / "aep.db",
        "SELECT document FROM tenants UNION ALL SELECT document FROM subscribers"
        " UNION ALL SELECT document FROM subscriptions UNION ALL SELECT value FROM meta",
    )
    assert b"a header value of tests" not in dump
    assert one_pim.PRIMARY.encode() not in dump
    return {sealed.partition(".")[0] for (each,) in documents for sealed in SEALED.findall(each)}


def test_a_folder_gets_a_new_key_and_goes_on(folder: Path, tmp_path: Path) -> None:
    before = (folder / keys.KEY_FILE).read_text()
    (old_id,) = ids_of_keys(folder)
    ended = rotate(folder)
    assert ended.status == 0, ended
    told = orjson.loads(ended.out)
    assert told["records"] == 3  # a PIM, a subscriber, a subscription
    assert ids_of_keys(folder) == {told["key_id"]} != {old_id}
    after = (folder / keys.KEY_FILE).read_text()
    assert before.strip() not in after
    assert len(after.splitlines()) == 1
    assert (folder / keys.KEY_FILE).stat().st_mode & 0o777 == 0o600
    with server(tmp_path, "inbox", "--secret", one_pim.PRIMARY) as inbox:
        arguments = one_pim.arguments(tmp_path, data=folder)
        with server(tmp_path, *arguments) as serve:
            one_pim.subscribe(serve, f"{inbox.url}/ok")
        assert rotate(folder).status == 0
        with server(tmp_path, *arguments) as serve:
            (event_id,) = one_pim.emit(serve)
            came = delivered(inbox.url, "/ok", event_id)
    assert came["headers"]["x-akeneo-signature-primary"] == signature(one_pim.PRIMARY, came["body"].encode())


def test_it_is_refused_while_the_platform_runs(folder: Path, tmp_path: Path) -> None:
    before = (folder / keys.KEY_FILE).read_text()
    with one_pim.serve(tmp_path, data=folder):
        ended = rotate(folder)
    assert ended.status == 1
    assert "already runs the platform" in ended.err
    assert (folder / keys.KEY_FILE).read_text() == before


@pytest.mark.full
def test_a_rotation_that_was_killed_can_be_begun_again(folder: Path, tmp_path: Path) -> None:
    keys.put_before(folder)  # killed here
    (old_id,) = ids_of_keys(folder)
    with one_pim.serve(tmp_path, data=folder):
        pass
    ended = rotate(folder)
    assert ended.status == 0, ended
    (new_id,) = ids_of_keys(folder)
    assert new_id != old_id
    assert len((folder / keys.KEY_FILE).read_text().splitlines()) == 1


def test_keys_of_the_settings_rotate_by_their_order(folder: Path) -> None:
    (folder_key,) = (folder / keys.KEY_FILE).read_text().split()
    (folder / keys.KEY_FILE).unlink()
    ended = rotate(folder, AEP_SECRETS_KEY=f"{text(NEW)},{folder_key}")
    assert ended.status == 0, ended
    assert ids_of_keys(folder) == {key_id(NEW)}
    assert not (folder / keys.KEY_FILE).exists()
    assert run("pims", "list", "--data", str(folder), settings={"AEP_SECRETS_KEY": text(NEW)}).status == 0


def test_a_rotation_without_a_new_key_is_refused(folder: Path) -> None:
    (folder_key,) = (folder / keys.KEY_FILE).read_text().split()
    before = ids_of_keys(folder)
    for given in (folder_key, f"{folder_key},{folder_key}", f"{folder_key},{text(NEW)}"):
        ended = rotate(folder, AEP_SECRETS_KEY=given)
        assert (ended.status, ended.out) == (1, "")
        assert "nothing was rotated" in ended.err
        assert folder_key not in ended.err
    assert ids_of_keys(folder) == before


def test_a_rotation_in_firestore_needs_a_new_key_in_one_of_them() -> None:
    settings = {
        "AEP_SECRETS_KEY": text(NEW),
        "AEP_REGISTRY_KEY": text(REGISTRY),
        "AEP_FEED_KEY": text(FEED),
    }
    ended = run("secrets", "rotate", "--google", "project", settings=settings)
    assert (ended.status, ended.out) == (1, "")
    assert "nothing was rotated" in ended.err


def test_a_store_of_another_key_is_left_as_it_is(folder: Path) -> None:
    before = ids_of_keys(folder)
    ended = rotate(folder, AEP_SECRETS_KEY=text(NEW))
    assert ended.status == 1
    assert "sealed with another key" in ended.err
    assert ids_of_keys(folder) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("secrets", "rotate"),
        pytest.param(("pims", "list"), marks=pytest.mark.full),
        pytest.param(("serve", "--port", "0"), marks=pytest.mark.full),
    ],
    ids=str,
)
def test_a_malformed_key_is_wrong_usage_as_any_other_wrong_setting(
    folder: Path, arguments: tuple[str, ...]
) -> None:
    ended = run(*arguments, "--data", str(folder), settings={"AEP_SECRETS_KEY": "no key"})
    assert ended.status == 2
    assert ended.err.startswith("aep: AEP_SECRETS_KEY must be the base64 of 32 random bytes")


def test_there_must_be_a_store(tmp_path: Path) -> None:
    assert "there is no store" in rotate(tmp_path).err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("known", ["AEP_SECRETS_KEY", "AEP_REGISTRY_KEY"])
def test_google_needs_both_keys(known: str) -> None:
    ended = run("secrets", "rotate", "--google", "project", settings={known: text(NEW)})
    assert (ended.status, ended.out) == (2, "")
    assert "AEP_SECRETS_KEY and AEP_REGISTRY_KEY" in ended.err


def test_a_malformed_key_of_the_registry_is_named() -> None:
    settings = {"AEP_SECRETS_KEY": text(NEW), "AEP_REGISTRY_KEY": "no key"}
    ended = run("secrets", "rotate", "--google", "project", settings=settings)
    assert ended.status == 2
    assert ended.err.startswith("aep: AEP_REGISTRY_KEY must be the base64 of 32 random bytes")


async def test_records_in_firestore_are_sealed_anew(
    firestore_host: str, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = AesGcmSeal(OLD)
    firestore = connect(project, emulator=firestore_host)
    before = FirestoreSubscriptions(firestore, old, ManualClock())
    subscriber = a_subscriber()
    subscription = a_subscription(subscriber)
    await before.add_subscriber(subscriber, limit=20)
    await before.add_subscription(subscription, lambda _: None, limit=20)
    pim = Tenant(url=PIM, ingest_key=(SecretStr("an ingest key of tests"),))
    await tenants.put(firestore, pim, old)
    feed = a_feed(PIM)
    await feeds.put(firestore, feed, old)
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_host)
    # A project that had one key until now gets one for its registry.
    both = {"AEP_SECRETS_KEY": text(OLD), "AEP_REGISTRY_KEY": text(REGISTRY, OLD)}
    ended = await asyncio.to_thread(run, "secrets", "rotate", "--google", project, "--json", settings=both)
    assert orjson.loads(ended.out) == {
        "records": 3,
        "key_id": key_id(OLD),
        "registry_key_id": key_id(REGISTRY),
    }
    assert ended.err == "aep: not sealed anew without AEP_FEED_KEY: 1 feed\n"
    registry = PimRegistry(FirestoreEntries(firestore), AesGcmSeal(REGISTRY), ManualClock(), allow_http=False)
    assert list(await registry.tenants()) == [pim]
    # And another one for the rest, and one for feeds.
    seal = SplitSeal(AesGcmSeal(NEW, OLD), AesGcmSeal(REGISTRY), AesGcmSeal(FEED, OLD))
    assert await reseal(project, seal) == (4, 0)
    stored = await feeds.stored_feed(firestore, PIM, AesGcmSeal(FEED))
    assert stored is not None
    assert stored.feed == feed
    after = FirestoreSubscriptions(firestore, AesGcmSeal(NEW), ManualClock())
    assert await after.subscriber(OWNER, subscriber.id) == subscriber
    assert await after.current(subscription.id) == subscription
    await firestore.close()
