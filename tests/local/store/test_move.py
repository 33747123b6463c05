"""`aep export` and `aep import`: between folders, and between a folder and Firestore."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from aep.google import moving as on_google
from aep.store import feeds, keys, migrations, moving, opening
from aep.store import tenants as pims
from aep.store.export_file import Records
from aep.store.subscriptions import put_subscriber, put_subscription
from event_platform import data_model
from event_platform.adapters.firestore import tenants
from event_platform.adapters.firestore.client import Firestore, connect
from event_platform.adapters.firestore.subscriptions import FirestoreSubscriptions
from event_platform.adapters.seal import AesGcmSeal, SplitSeal, key_id
from event_platform.domain.errors import Conflict
from event_platform.domain.feeds import ResourceName, ResourceState
from event_platform.domain.pace.rates import Rate
from event_platform.domain.subscriptions import (
    KafkaConfig,
    Owner,
    Sasl,
    Status,
    Subscriber,
    Subscription,
    Tls,
    delete_subscription,
    revoke_subscriber,
    revoke_subscription,
    suspend,
)
from event_platform.domain.tenants import Tenant
from support import one_pim
from support.aep_here import Ended, run
from support.clock import START, ManualClock
from support.fake_pim import PASSWORD
from support.feeding import a_feed
from support.processes import command, delivered, server, signature
from support.records import OWNER, PIM, a_subscriber, a_subscription

OLD, NEW, REGISTRY, FEEDS = (bytes(range(begin, begin + 32)) for begin in (0, 32, 64, 96))
BOTH = SplitSeal(AesGcmSeal(NEW), AesGcmSeal(REGISTRY), AesGcmSeal(FEEDS))
LATER = START + timedelta(days=1)
SECRETS = (
    PASSWORD,
    "secret of tests",
    "secrets of tests",
    "a header value of tests",
    "an ingest key of tests",
)
ACTIVE = a_subscriber()
REVOKED = revoke_subscriber(a_subscriber(Owner(PIM, "gone"), name="Gone"), LATER)
KAFKA = KafkaConfig(
    "kafka.example.com:9093",
    "events",
    Sasl("plain", "erp", SecretStr("a password, also a secret of tests")),
    Tls("kafka.example.com", "a CA", "a certificate", SecretStr("a key, also a secret of tests")),
)
RECORDS = Records(
    tenants=[
        Tenant(host_pattern="*.cloud.akeneo.com"),
        Tenant(
            url=PIM,
            ingest_key=(SecretStr("an ingest key of tests"), SecretStr("another secret of tests")),
            relay_secret=(SecretStr("a relay secret of tests"),),
        ),
    ],
    subscribers=[ACTIVE, REVOKED],
    subscriptions=[
        a_subscription(ACTIVE),
        suspend(a_subscription(ACTIVE, events=["com.akeneo.pim.v1.product.deleted"]), LATER),
        revoke_subscription(a_subscription(REVOKED), LATER),
        replace(a_subscription(REVOKED), config=KAFKA, status=Status.REVOKED),
    ],
    feeds=[a_feed(PIM, is_off=True, since=START, timezone="Europe/Paris")],
)


def text(*several: bytes) -> str:
    return ",".join(base64.b64encode(key).decode() for key in several)


def connect_to(folder: Path) -> Any:
    return closing(opening.connect(folder / opening.FILE))


def a_folder(folder: Path, records: Records = RECORDS, *, key: bytes = OLD) -> Path:
    """With a store of the records, sealed with the key."""
    folder.mkdir()
    seal = AesGcmSeal(key)
    with connect_to(folder) as connection:
        migrations.prepare(connection)
        keys.check(connection, seal)
        put_all(connection, records, seal)
    return folder


def put_all(connection: Any, records: Records, seal: AesGcmSeal) -> None:
    for tenant in records.tenants:
        pims.put(connection, tenant, seal)
    for subscriber in records.subscribers:
        put_subscriber(connection, seal, subscriber)
    for subscription in records.subscriptions:
        put_subscription(connection, seal, subscription)
    for feed in records.feeds:
        feeds.put(connection, feed, seal)


def of_folder(folder: Path, *several: bytes) -> Records:
    """What the folder holds, with the keys."""
    with connect_to(folder) as connection:
        return moving.take_out(connection, AesGcmSeal(*several))[0]


def export(folder: Path, file: Path, key: bytes = OLD) -> Ended:
    return run("export", str(file), "--data", str(folder), "--json", settings={"AEP_SECRETS_KEY": text(key)})


def import_(file: Path, *where: str, several: Sequence[bytes] = (NEW, OLD)) -> Ended:
    settings = {"AEP_SECRETS_KEY": text(*several)} if several else {}
    return run("import", str(file), *where, "--json", settings=settings)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """An export of RECORDS, sealed with OLD."""
    file = tmp_path / "moving.json"
    ended = export(a_folder(tmp_path / "from"), file)
    assert ended.status == 0, ended
    return file


# The file


def test_the_file_is_for_its_owner_alone_and_shows_no_secret(file: Path) -> None:
    content = file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert not [secret for secret in SECRETS if secret in content]
    assert text(OLD) not in content
    assert orjson.loads(content)["check"].startswith(f"{key_id(OLD)}.")


def test_an_export_counts_what_it_took_and_replaces_no_file(file: Path, tmp_path: Path) -> None:
    again = export(tmp_path / "from", file)
    assert (again.status, again.err.count("\n")) == (1, 1)
    assert f"{file} exists" in again.err
    other = export(tmp_path / "from", tmp_path / "other.json")
    told = orjson.loads(other.out)
    assert (told["pims"], told["subscribers"], told["subscriptions"], told["feeds"]) == (2, 2, 4, 1)
    assert told["waiting"] == 0
    assert sorted(each.name for each in tmp_path.iterdir()) == ["from", "moving.json", "other.json"]


def test_deleted_records_and_rates_stay(tmp_path: Path) -> None:
    paced = replace(RECORDS.subscriptions[0], lanes=4, lanes_changed_at=LATER, rate=Rate(LATER, 5.0, 8.0))
    gone = delete_subscription(a_subscription(ACTIVE), LATER)
    folder = a_folder(tmp_path / "from", replace(RECORDS, subscriptions=[paced, gone]))
    assert of_folder(folder, OLD).subscriptions == RECORDS.subscriptions[:1]


def test_deliveries_that_wait_are_told(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "from")
    with connect_to(folder) as connection:
        connection.execute("INSERT INTO deliveries VALUES (1, 0, 1, 1, 16, 0, 0, 0, NULL, 0, NULL)")
    settings = {"AEP_SECRETS_KEY": text(OLD)}
    ended = run("export", str(tmp_path / "moving.json"), "--data", str(folder), settings=settings)
    assert ended.status == 0, ended
    assert "WARNING: what waits does not move: 1 delivery in lanes" in ended.out
    assert "Kept events stay" not in ended.out


def test_kept_events_stay_and_that_is_said(tmp_path: Path) -> None:
    folder = a_folder(tmp_path / "from")
    with connect_to(folder) as connection:
        connection.execute(
            "INSERT INTO kept VALUES"
            " (2, 'https://pim.example.com', 0, 'cloudevents', 'x', 'y', '', '[]', NULL, '{}')"
        )
    settings = {"AEP_SECRETS_KEY": text(OLD)}
    ended = run("export", str(tmp_path / "moving.json"), "--data", str(folder), settings=settings)
    assert "Kept events stay here, with replays of them" in ended.out
    assert "kept" not in (tmp_path / "moving.json").read_text()


def test_a_feed_moves_as_off_and_begins_where_it_was_complete(tmp_path: Path) -> None:
    running = a_feed(PIM, resources=["products", "families", "assets", "records"])
    folder = a_folder(tmp_path / "from", replace(RECORDS, feeds=[running]))
    cursors = {
        ResourceName.PRODUCTS: ResourceState(cursor=LATER),
        ResourceName.FAMILIES: ResourceState(cursor=START),
        ResourceName.ASSETS: ResourceState(),
        ResourceName.RECORDS: ResourceState(cursor=START - timedelta(days=9), missing=True),
    }
    with connect_to(folder) as connection:
        for name, state in cursors.items():
            feeds.put_state(connection, PIM, name, state)
    moved = running.model_copy(update={"is_off": True, "since": START})
    assert of_folder(folder, OLD).feeds == [moved]


def test_a_feed_that_is_there_stays_as_it_is(file: Path, tmp_path: Path) -> None:
    own = a_feed(PIM, every=600)
    to = a_folder(tmp_path / "to", replace(RECORDS, feeds=[own]), key=NEW)
    ended = import_(file, "--data", str(to))
    assert orjson.loads(ended.out)["there_already"] == 9
    with connect_to(to) as connection:
        found = feeds.feed_of_tenant(connection, PIM, AesGcmSeal(NEW))
    assert found is not None
    assert found.feed == own


# From folder to folder


def test_records_move_to_a_new_folder_under_its_key(file: Path, tmp_path: Path) -> None:
    ended = import_(file, "--data", str(tmp_path / "to"))
    assert ended.status == 0, ended
    told = orjson.loads(ended.out)
    assert (told["new"], told["there_already"], told["key_id"]) == (9, 0, key_id(NEW))
    assert of_folder(tmp_path / "to", NEW) == RECORDS


@pytest.mark.full
def test_a_platform_goes_on_with_what_moved(tmp_path: Path) -> None:
    old, new, file = tmp_path / "old", tmp_path / "new", tmp_path / "moving.json"
    with server(tmp_path, "inbox", "--secret", one_pim.PRIMARY) as inbox:
        with one_pim.serve(tmp_path, data=old) as serve:
            subscription_id = one_pim.subscribe(serve, f"{inbox.url}/ok")
        assert run("export", str(file), "--data", str(old)).status == 0
        new.mkdir(mode=0o700)
        (new / keys.KEY_FILE).write_bytes((old / keys.KEY_FILE).read_bytes())
        assert run("import", str(file), "--data", str(new)).status == 0
        with one_pim.serve(tmp_path, data=new) as serve:
            (event_id,) = one_pim.emit(serve)
            came = delivered(inbox.url, "/ok", event_id)
    assert subscription_id in came["body"]
    assert came["headers"]["x-akeneo-signature-primary"] == signature(one_pim.PRIMARY, came["body"].encode())


def test_what_is_there_and_the_same_is_left_alone(file: Path, tmp_path: Path) -> None:
    to = a_folder(tmp_path / "to", replace(RECORDS, subscriptions=[]), key=NEW)
    assert orjson.loads(import_(file, "--data", str(to)).out)["new"] == 4
    again = orjson.loads(import_(file, "--data", str(to)).out)
    assert (again["new"], again["there_already"]) == (0, 9)
    assert of_folder(to, NEW) == RECORDS


@pytest.mark.parametrize(
    "there",
    [
        Records([Tenant(url=PIM)], [], []),
        Records([], [replace(ACTIVE, name="Renamed")], []),
        Records([], [], [suspend(RECORDS.subscriptions[0], LATER)]),
        Records([], [], [delete_subscription(RECORDS.subscriptions[0], LATER)]),
    ],
)
def test_what_is_there_and_differs_is_refused_as_a_whole(there: Records, file: Path, tmp_path: Path) -> None:
    to = a_folder(tmp_path / "to", there, key=NEW)
    before = of_folder(to, NEW)
    ended = import_(file, "--data", str(to))
    assert (ended.status, ended.err.count("\n")) == (1, 1)
    assert "differs" in ended.err
    assert of_folder(to, NEW) == before


def test_a_pim_has_no_more_subscribers_than_allowed(file: Path, tmp_path: Path) -> None:
    there = [a_subscriber(name=f"{number}") for number in range(19)]
    to = a_folder(tmp_path / "to", Records([], there, []), key=NEW)
    ended = import_(file, "--data", str(to))
    assert ended.status == 1
    assert "at most 20" in ended.err
    assert of_folder(to, NEW).subscribers == there


def test_it_is_refused_while_the_platform_runs(file: Path, tmp_path: Path) -> None:
    with opening.exclusive(tmp_path / "to"):
        ended = import_(file, "--data", str(tmp_path / "to"))
    assert ended.status == 1
    assert "already runs the platform" in ended.err
    assert (tmp_path / "to" / opening.FILE).stat().st_size == 0


# Keys and files that do not fit


@pytest.mark.parametrize("several", [(), (NEW,)])
def test_without_the_key_of_the_file_nothing_is_made(
    several: Sequence[bytes], file: Path, tmp_path: Path
) -> None:
    ended = import_(file, "--data", str(tmp_path / "to"), several=several)
    assert (ended.status, ended.err.count("\n")) == (1, 1)
    assert key_id(OLD) in ended.err
    assert "AEP_SECRETS_KEY" in ended.err
    assert not (tmp_path / "to").exists()


def test_the_key_of_the_folder_must_seal(file: Path, tmp_path: Path) -> None:
    own = keys.load(tmp_path / "to", None)
    ended = import_(file, "--data", str(tmp_path / "to"))
    assert ended.status == 1
    assert f"its key {own.key_id} must be the first" in ended.err
    assert not (tmp_path / "to" / opening.FILE).exists()


def test_a_store_of_another_key_is_left_as_it_is(file: Path, tmp_path: Path) -> None:
    to = a_folder(tmp_path / "to", Records([], [], []), key=bytes(32))
    ended = import_(file, "--data", str(to))
    assert ended.status == 1
    assert "sealed with another key" in ended.err
    assert of_folder(to, bytes(32)) == Records([], [], [])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content[:-20], "no whole file of `aep export`"),
        (lambda _: b"[]", "no file of `aep export`"),
        (lambda content: content.replace(b'"version": 1', b'"version": 2'), "version 2 of the form"),
        (lambda content: content.replace(b'"exported_at"', b'"at"'), "exported_at: is required"),
        (lambda content: content.replace(b'"epoch"', b'"era"'), "subscriptions[0]: 'epoch' is missing"),
        (
            lambda content: content.replace(ACTIVE.id.encode(), b"0197" + ACTIVE.id.encode()[4:], 1),
            "subscribers[0]: a value is not what was exported",
        ),
    ],
)
def test_a_file_that_is_wrong_changes_nothing(
    change: Callable[[bytes], bytes], said: str, file: Path, tmp_path: Path
) -> None:
    file.write_bytes(change(file.read_bytes()))
    ended = import_(file, "--data", str(tmp_path / "to"))
    assert (ended.status, ended.err.count("\n")) == (1, 1)
    assert said in ended.err
    assert not (tmp_path / "to").exists()


def test_there_must_be_a_store_and_a_file(tmp_path: Path) -> None:
    assert "there is no store" in export(tmp_path, tmp_path / "moving.json").err
    assert "No such file" in import_(tmp_path / "moving.json", "--data", str(tmp_path / "to")).err
    assert not any(tmp_path.iterdir())


def test_google_needs_the_key(file: Path) -> None:
    ended = import_(file, "--google", "project", several=())
    assert (ended.status, ended.out) == (2, "")
    assert "--google needs AEP_SECRETS_KEY and AEP_REGISTRY_KEY" in ended.err


# To Firestore and back


@pytest.fixture
async def firestore(
    firestore_host: str, project: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Firestore]:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", firestore_host)
    firestore = connect(project, emulator=firestore_host)
    yield firestore
    await firestore.close()


async def here(*arguments: str, several: Sequence[bytes] = (NEW, OLD), has_feed_key: bool = True) -> Ended:
    """A command in a thread: it has an event loop of its own."""
    settings = {"AEP_SECRETS_KEY": text(*several), "AEP_REGISTRY_KEY": text(REGISTRY)}
    settings |= {"AEP_FEED_KEY": text(FEEDS)} if has_feed_key else {}
    return await asyncio.to_thread(run, *arguments, "--json", settings=settings)


def many(subscribers: int, subscriptions: int) -> Records:
    owners = [a_subscriber(Owner(f"{PIM}/{number // 20}", "erp")) for number in range(subscribers)]
    return Records([], owners, [a_subscription(each) for each in owners for _ in range(subscriptions)])


def in_order(records: Records) -> Records:
    """Ids made within a millisecond may come in any."""
    return Records(
        records.tenants,
        sorted(records.subscribers, key=lambda each: each.id),
        sorted(records.subscriptions, key=lambda each: each.id),
    )


async def ids(firestore: Firestore, collection: str) -> set[str]:
    return {each.id async for each in firestore.client.collection(collection).stream()}


async def test_records_go_to_firestore_and_come_back_the_same(
    file: Path, firestore: Firestore, project: str, tmp_path: Path
) -> None:
    there = await here("import", str(file), "--google", project)
    assert orjson.loads(there.out)["new"] == 9, there
    assert await on_google.take_out(project, BOTH) == (RECORDS, 0)
    back = tmp_path / "back.json"
    assert (await here("export", str(back), "--google", project)).status == 0
    ended = await here("import", str(back), "--data", str(tmp_path / "to"), several=[NEW])
    assert ended.status == 0, ended
    assert of_folder(tmp_path / "to", NEW) == RECORDS


async def test_without_their_key_feeds_stay_where_they_are(
    file: Path, firestore: Firestore, project: str, tmp_path: Path
) -> None:
    there = await here("import", str(file), "--google", project, has_feed_key=False)
    assert there.err == "aep: not brought without AEP_FEED_KEY: 1 feed\n"
    assert orjson.loads(there.out)["feeds"] == 0
    assert (await here("import", str(file), "--google", project)).status == 0
    back = tmp_path / "back.json"
    ended = await here("export", str(back), "--google", project, has_feed_key=False)
    assert ended.err == "aep: stays here without AEP_FEED_KEY: 1 feed\n"
    assert "feeds" not in orjson.loads(back.read_bytes())


async def test_what_came_to_firestore_is_as_if_made_there(
    file: Path, firestore: Firestore, project: str
) -> None:
    assert (await here("import", str(file), "--google", project)).status == 0
    seal, clock = AesGcmSeal(NEW), ManualClock()
    store = FirestoreSubscriptions(firestore, seal, clock)
    assert await store.active(PIM) == RECORDS.subscriptions[:1]
    assert await ids(firestore, data_model.OPEN_SUBSCRIBERS) == {ACTIVE.id}
    assert len(await ids(firestore, data_model.SLOTS)) == 6
    assert not await ids(firestore, data_model.LOG_ENTRIES)
    assert not await ids(firestore, data_model.NOTIFICATIONS)
    await store.add_subscription(a_subscription(ACTIVE), lambda _: None, limit=3)
    with pytest.raises(Conflict, match="at most 3"):
        await store.add_subscription(a_subscription(ACTIVE), lambda _: None, limit=3)
    deleted = await store.change_subscription(
        OWNER, ACTIVE.id, RECORDS.subscriptions[0].id, lambda each: delete_subscription(each, LATER)
    )
    assert deleted.status is Status.DELETED
    await store.add_subscription(a_subscription(ACTIVE), lambda _: None, limit=3)


async def test_functions_that_run_see_what_came(file: Path, firestore: Firestore, project: str) -> None:
    clock = ManualClock()
    store = FirestoreSubscriptions(firestore, AesGcmSeal(NEW), clock, buckets=64)
    assert await store.active(PIM) == []
    arguments = ("import", str(file), "--google", project, "--version-buckets", "64")
    assert (await here(*arguments)).status == 0
    await clock.advance(5)
    assert await store.active(PIM) == RECORDS.subscriptions[:1]


@pytest.mark.full
async def test_an_import_that_was_killed_goes_on_where_it_was(
    firestore: Firestore, project: str, tmp_path: Path
) -> None:
    records, file = many(12, 1), tmp_path / "moving.json"
    assert export(a_folder(tmp_path / "from", records), file).status == 0
    settings = {"AEP_SECRETS_KEY": text(NEW, OLD), "AEP_REGISTRY_KEY": text(REGISTRY)}
    with command(tmp_path, "import", str(file), "--google", project, settings=settings) as child:
        while not await ids(firestore, data_model.SUBSCRIBERS):
            assert child.process.poll() is None, child.stderr()
        child.kill_group()
    came = await ids(firestore, data_model.SUBSCRIBERS)
    assert came
    ended = await here("import", str(file), "--google", project)
    assert orjson.loads(ended.out)["there_already"] == 2 * len(came), ended
    assert await on_google.take_out(project, BOTH) == (in_order(records), 0)


@pytest.mark.parametrize("what", ["subscriber", "subscription", "pim", "limit"])
async def test_firestore_is_left_as_it_is_when_something_does_not_fit(
    what: str, file: Path, firestore: Firestore, project: str
) -> None:
    seal = AesGcmSeal(NEW)
    store = FirestoreSubscriptions(firestore, seal, ManualClock())
    match what:
        case "pim":
            await tenants.put(firestore, Tenant(url=PIM), seal)
        case "limit":
            for number in range(19):
                await store.add_subscriber(a_subscriber(name=f"{number}"), limit=20)
        case _:
            other: tuple[Subscriber, Sequence[Subscription]] = (
                (replace(REVOKED, name="Renamed"), [])
                if what == "subscriber"
                else (REVOKED, [replace(RECORDS.subscriptions[2], epoch=7)])
            )
            await store.bring_in(*other)
    before = await on_google.take_out(project, BOTH)
    ended = await here("import", str(file), "--google", project)
    assert (ended.status, ended.err.count("\n")) == (1, 1)
    assert ("at most 20" if what == "limit" else "differs") in ended.err
    assert await on_google.take_out(project, BOTH) == before
