"""`aep trigger --data DIR`: an event at the platform that runs on a folder, as if a PIM had sent it."""

import asyncio
import io
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from aep.control import server as control_server
from aep.control.client import control
from aep.sandbox import inbox
from aep.serving import server
from aep.wiring import Platform
from event_platform.domain.errors import InvalidRequest
from event_platform.settings import Settings
from support.aep_here import Ended, run
from support.records import UPDATED

PIM, OTHER = "https://pim.example.com", "https://other.example.com"
OWNER = {"X-PIM-URL": PIM, "X-PIM-CLIENT-ID": "erp"}
KEY = "the-ingest-key-of-the-pim"


@dataclass(frozen=True)
class Running:
    """A platform with its inbox, and a subscription to it for product updates."""

    folder: Path
    inbox: inbox.Inbox
    subscription: str

    async def trigger(self, *arguments: str) -> Ended:
        return await asyncio.to_thread(run, "trigger", UPDATED, "--data", str(self.folder), *arguments)


@asynccontextmanager
async def running(folder: Path, *pims: str, at: str = "", **settings: Any) -> AsyncGenerator[Running, None]:
    """Runs a platform for the PIMs on the folder; `at` is the path of its endpoint at the inbox."""
    faults: list[BaseException] = []
    entries = orjson.dumps([{"url": url, "ingest_key": f"{KEY}-{url}"} for url in pims]).decode()
    app = inbox.create_app()
    platform = Platform(
        Settings(dev=True, pims=entries, **settings), folder, base_url="http://test", on_fault=faults.append
    )
    await platform.start()
    try:
        async with server.running(app) as url, control_server.serving(platform.control_app, folder):
            made = await asyncio.to_thread(_subscribe, folder, f"{url}/{at}") if pims else ""
            yield Running(folder, app.state.inbox, made)
    finally:
        await platform.stop()
    assert faults == []


def _subscribe(folder: Path, url: str) -> str:
    with control(folder) as platform:
        assert platform is not None
        body: dict[str, Any] = {"name": "ERP", "contact": {"technical_email": "ops@example.com"}}
        subscriber = platform.call("POST", ("subscribers",), body, OWNER)["id"]
        body = {"events": [UPDATED], "type": "https"}
        body["config"] = {"url": url, "secret": {"primary": "0123456789abcdef"}}
        return platform.call("POST", ("subscribers", subscriber, "subscriptions"), body, OWNER)["id"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "data"
    made.mkdir()
    return made


async def test_it_is_said_who_gets_the_event_and_what_came_of_it(folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "event.json"
    data.write_text('{"product": {"uuid": "3f1a2c9e-58a1-4f3c-9a45-2a1f7f1f0b11"}}')
    async with running(folder, PIM) as world:
        ended = await world.trigger("--yes", "--data", str(data), "--user", "me")
        assert (ended.status, ended.err) == (0, "")
        [came] = world.inbox.deliveries
        assert ended.out == f"{UPDATED}\nid {came.id}\n{world.subscription}: delivered\n"
        event = orjson.loads(came.body)["data"]
        assert event["product"]["uuid"] == "3f1a2c9e-58a1-4f3c-9a45-2a1f7f1f0b11"
        assert event["author"] == {"identifier": "me", "type": "user"}


async def test_several_events_are_summed_up(folder: Path) -> None:
    async with running(folder, PIM) as world:
        ended = await world.trigger("--yes", "--count", "3")
        assert (ended.status, ended.out) == (0, f"3 events: {world.subscription}: delivered\n")


@pytest.mark.parametrize(
    ("at", "came"), [("500", "failed (500), and is tried again"), ("404", "given up (404)")]
)
async def test_what_was_not_delivered_is_status_1(folder: Path, at: str, came: str) -> None:
    async with running(folder, PIM, at=at) as world:
        ended = await world.trigger("--yes")
        assert (ended.status, ended.out.splitlines()[-1]) == (1, f"{world.subscription}: {came}")


async def test_an_event_that_nobody_gets_is_status_1(folder: Path) -> None:
    async with running(folder, PIM, OTHER) as world:
        ended = await world.trigger("--yes", "--pim", OTHER)
        assert (ended.status, ended.out.splitlines()[-1]) == (1, "nobody gets it: no subscription matches")
        assert not world.inbox.deliveries


async def test_without_kept_events_it_says_where_to_look(folder: Path) -> None:
    async with running(folder, PIM, keep=0) as world:
        ended = await world.trigger("--yes")
        assert (ended.status, "`aep logs` shows failures" in ended.out) == (0, True)


async def test_it_asks_before(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(folder, PIM) as world:
        ended = await world.trigger()
        assert (ended.status, "give --yes" in ended.err) == (2, True)
        typed = io.StringIO("n\n")
        monkeypatch.setattr(typed, "isatty", lambda: True)
        monkeypatch.setattr("sys.stdin", typed)
        ended = await world.trigger()
        assert (ended.status, ended.err) == (1, "aep: nothing was done\n")
        question = f"Send 1 event {UPDATED} as {PIM} to the platform on {folder}, and so to its subscribers?"
        assert ended.out == f"{question} [y/N] "
        assert not world.inbox.deliveries


@pytest.mark.parametrize(
    ("pims", "arguments", "said"),
    [
        ((PIM, OTHER), (), "has 2 PIMs: name one with --pim, such as "),
        ((PIM,), ("--pim", "https://third.example.com"), "is no PIM of that platform"),
        ((PIM,), ("--pim", "nonsense"), "--pim nonsense: "),
        ((), (), "that platform knows no PIM: `aep pims add URL` adds one"),
    ],
)
async def test_the_pim_must_be_clear(
    folder: Path, pims: tuple[str, ...], arguments: tuple[str, ...], said: str
) -> None:
    async with running(folder, *pims) as world:
        ended = await world.trigger("--yes", *arguments)
        assert ended.status in (1, 2)
        assert said in ended.err


def test_no_platform_on_the_folder(folder: Path) -> None:
    ended = run("trigger", UPDATED, "--data", str(folder))
    assert ended.status == 1
    assert ended.err == f"aep: no platform runs on {folder}: start it with `aep serve --data {folder}`\n"


def test_options_of_a_platform_need_its_folder(folder: Path) -> None:
    assert "go with --data DIR" in run("trigger", UPDATED, "--yes").err
    twice = run("trigger", UPDATED, "--data", str(folder), "--data", str(folder.parent))
    assert (twice.status, "one folder" in twice.err) == (2, True)


async def test_the_socket_refuses_what_no_pim_may_send(folder: Path) -> None:
    async with running(folder, PIM):

        def refused(body: Any) -> str:
            with control(folder) as platform:
                assert platform is not None
                with pytest.raises(InvalidRequest) as error:
                    platform.call("POST", ("events",), body)
            return str(error.value)

        for body, said in (
            ({"pim": OTHER, "events": [{}]}, "pim: is no PIM of this platform"),
            ({"pim": PIM, "events": []}, "events: must hold at least 1"),
            ({"pim": PIM, "events": [{"type": UPDATED}]}, "id"),
        ):
            assert said in await asyncio.to_thread(refused, body)
