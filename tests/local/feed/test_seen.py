"""The views that an operator has of a feed: /metrics, `aep doctor`, `aep pims list` and `aep pims feed`."""

import io
import sqlite3
import sys
from datetime import datetime
from pathlib import Path
from unittest import mock

import orjson
import pytest

from aep.doctor import registry
from aep.doctor.findings import State
from aep.runtime.meters import Meters
from aep.serving.metrics_page import Page
from aep.wiring import Platform
from event_platform.domain.feeds import ResourceState
from event_platform.settings import Settings
from support.aep_here import Ended, run
from support.clock import START
from support.feeding import Feeding, feeding

URL = "https://pim.example.com"


@pytest.fixture
def folder(tmp_path: Path) -> list[str]:
    """The option that names a folder with one PIM."""
    option = ["--data", str(tmp_path / "data")]
    assert run("pims", "add", URL, *option).status == 0
    return option


def set_up(*options: str, typed: str = "the-secret\nthe-password\n") -> Ended:
    """Sets up the feed; `typed` comes from standard input."""
    who = ("--client-id", "1_c", "--username", "feed_1", "--secret", "-")
    with mock.patch.object(sys, "stdin", io.StringIO(typed)):
        return run("pims", "feed", URL, *who, *options)


def test_a_feed_is_set_up_shown_and_turned_off(folder: list[str]) -> None:
    assert "has no feed" in run("pims", "feed", URL, *folder).err
    assert set_up("--resources", "products,families", "--timezone", "Europe/Paris", *folder).status == 0
    shown = orjson.loads(run("pims", "feed", URL, "--json", *folder).out)
    assert [each["resource"] for each in shown["resources"]] == ["products", "families"]
    assert (shown["username"], shown["timezone"], shown["is_off"]) == ("feed_1", "Europe/Paris", False)
    assert "the-secret" not in str(shown)
    assert "the-password" not in str(shown)
    assert orjson.loads(run("pims", "feed", URL, "--off", "--json", *folder).out)["is_off"]
    assert not orjson.loads(run("pims", "feed", URL, "--every", "600", "--json", *folder).out)["is_off"]


def test_secrets_are_sealed_in_the_file(folder: list[str]) -> None:
    set_up(*folder)
    data = Path(folder[1])
    content = b"".join(path.read_bytes() for path in data.glob("aep.db*"))
    assert b"the-password" not in content
    assert b"the-secret" not in content
    assert run("secrets", "rotate", *folder).status == 0
    assert run("pims", "feed", URL, *folder).status == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--timezone", "Europe/Nowhere"], "--timezone: must be a time zone of IANA"),
        (["--resources", "products,orders"], "--resources: there is no 'orders'"),
        (["--since", "yesterday"], "--since must be a date such as 2026-01-31"),
        (["--secret", "shown-to-all"], "--secret takes -"),
        (["--off", "--every", "600"], "--off goes with no other setting"),
    ],
)
def test_a_wrong_setting_is_named_and_changes_nothing(
    options: list[str], words: str, folder: list[str]
) -> None:
    set_up(*folder)
    before = run("pims", "feed", URL, "--json", *folder).out
    ended = run("pims", "feed", URL, *options, *folder)
    assert ended.status == 2
    assert words in ended.err
    assert run("pims", "feed", URL, "--json", *folder).out == before


def test_what_is_missing_at_first_is_named(folder: list[str]) -> None:
    assert (
        "--secret - must be given, too"
        in run("pims", "feed", URL, "--client-id", "1", "--username", "u", *folder).err
    )
    assert "its user's password is missing" in set_up(*folder, typed="only-one\n").err
    assert (
        "is not in the registry"
        in run("pims", "feed", "https://other.example.com", "--every", "600", *folder).err
    )


def test_a_pim_that_is_removed_takes_its_feed_along(folder: list[str]) -> None:
    set_up(*folder)
    assert run("pims", "remove", URL, *folder).status == 0
    assert run("pims", "add", URL, *folder).status == 0
    assert "has no feed" in run("pims", "feed", URL, *folder).err


def test_since_begins_anew(folder: list[str]) -> None:
    set_up("--since", "2026-01-31", *folder)
    assert orjson.loads(run("pims", "feed", URL, "--json", *folder).out)["since"] == "2026-01-31T00:00:00Z"


async def failing(feed: Feeding) -> None:
    """Has products read, and families refused."""
    feed.pim.denied.add("families")
    await feed.round()


async def test_doctor_and_list_name_what_fails(tmp_path: Path) -> None:
    async with feeding(tmp_path, resources=["products", "families"]) as feed:
        await failing(feed)
        (found,) = registry.of_feeds(tmp_path)
        assert (found.name, found.state) == ("feeds", State.PROBLEM)
        assert f"{URL}, families: the PIM answered 403" in found.detail
        feed.pim.denied.clear()
        feed.clock.pass_by(3600)
        await feed.round()
        (found,) = registry.of_feeds(tmp_path)
        assert found.state is State.OK
        await feed.set(feed.feed.model_copy(update={"is_off": True}))
        assert list(registry.of_feeds(tmp_path)) == []


def test_a_platform_without_feeds_says_nothing_of_them(folder: list[str]) -> None:
    assert list(registry.of_feeds(Path(folder[1]))) == []
    assert "feed" not in orjson.loads(run("pims", "list", "--json", *folder).out)[0]
    set_up(*folder)
    assert orjson.loads(run("pims", "list", "--json", *folder).out)[0]["feed"] == {"problems": {}}


def test_metrics_have_what_feeds_did() -> None:
    meters = Meters()
    state = ResourceState(succeeded_at=START, cursor=START)
    meters.feed_read(URL, "products", state, 3)
    meters.feed_read(URL, "products", state, 2)
    meters.feed_read(URL, "families", ResourceState(failed_since=START), 0)
    meters.feed_failed(URL, "families", "forbidden")
    meters.feed_read(URL, "assets", ResourceState(missing=True), 0)
    samples = {
        (sample.name, sample.labels.get("resource")): sample.value
        for family in Page(meters).collect()
        for sample in family.samples
        if sample.name.startswith("aep_feed")
    }
    assert samples["aep_feed_events_total", "products"] == 5
    assert samples["aep_feed_last_success_timestamp_seconds", "products"] == START.timestamp()
    assert samples["aep_feed_last_success_timestamp_seconds", "families"] == START.timestamp()
    assert samples["aep_feed_lag_seconds", "products"] == pytest.approx(
        datetime.now(START.tzinfo).timestamp() - START.timestamp(), abs=60
    )
    assert samples["aep_feed_errors_total", "families"] == 1
    assert ("aep_feed_events_total", "assets") not in samples
    meters.feeds_are([])
    assert meters.feeds == {}


@pytest.mark.provokes("feed.settings_unreadable")
async def test_settings_that_cannot_be_opened_are_named_and_the_platform_runs(tmp_path: Path) -> None:
    def put_unreadable(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT OR REPLACE INTO feeds VALUES (1, ?, 'v', '{}')", (URL,))

    faults: list[BaseException] = []
    for _ in range(2):
        platform = Platform(Settings(), tmp_path, base_url="http://test", on_fault=faults.append)
        await platform.start()
        await platform._database.write(put_unreadable)
        await platform.stop()
    assert faults == []
