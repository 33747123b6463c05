"""The demo: the whole way of an event on this machine, through the public interfaces only.

Starts the platform, a simulated PIM and an inbox as child processes, subscribes with a token of the PIM,
sends events in every format and holds what arrives against what was accepted.
"""

import asyncio
import contextlib
import secrets
import signal
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp
import orjson
from rich.console import Console

from event_platform.domain.words import counted

from .. import output
from ..output import echo
from ..runtime.children import ChildFailed
from . import emitting, events
from .demo_processes import Children, StepFailed, report
from .demo_view import Progress
from .events import CloudEvent
from .ingest_requests import Format
from .management import management_api
from .pim.connections import DEFAULT_CLIENT

FLAKY_EVERY = 20  # more failures would end in a suspension: the success rate has to stay above 90 %
TYPE_OF = {
    Format.STRUCTURED: "com.akeneo.pim.v1.product.updated.delta",
    Format.BATCH: "com.akeneo.pim.v1.product.created",
    Format.BINARY: "com.akeneo.pim.v1.product-model.updated",
}
SERVE_SETTINGS = {
    "AEP_RETRY_DELAYS": "1,2,4",
    "AEP_RATE_MIN": "100",  # the real start, 10 a second, would need minutes for what is sent here
}
PATCHED = ("X-Demo-Stage", "patched")


@dataclass(frozen=True, slots=True)
class Platform:
    """A platform that runs: its URLs, and the reader of its last lines for an error."""

    manage: str
    ingest: str
    last_words: Callable[[], list[str]]


Start: TypeAlias = Callable[[Children, Path, Mapping[str, Any]], AbstractAsyncContextManager[Platform]]
"""A function that starts a platform for the PIM of an entry of the registry, with a folder for its files."""


@dataclass(frozen=True, slots=True)
class Stage:
    """The place of the demo: how the platform starts, how many events there are, and in which time."""

    start: Start
    what: str = "the platform"
    rate: float = 60
    events_per_format: int = 180
    events_per_act: int = 20
    steps_seconds: float = 90  # far more than it takes, for machines that are slow or busy
    delivered_seconds: float = 30
    act_seconds: float = 20
    in_force_seconds: float = 0


@asynccontextmanager
async def one_machine(
    children: Children,
    folder: Path,
    pim: Mapping[str, Any],
    *,
    port: int = 0,
    settings: Mapping[str, str] = SERVE_SETTINGS,
) -> AsyncIterator[Platform]:
    """Starts `aep serve`, which ends with the other children."""
    pims = folder / "pims.json"
    pims.write_bytes(orjson.dumps([pim]))
    data = str(folder / "data")
    off = ("--metrics-port", "0", "--console-port", "0")
    arguments = ("--port", str(port), *off, "--dev", "--data", data, "--pims", str(pims))
    url = await children.start("serve", *arguments, settings=settings)
    yield Platform(url, url, children.last_words)


def run_demo(console: Console | None = None, stage: Stage | None = None) -> int:
    """Runs the demo to its end.

    Returns the exit status, 0 when nothing was lost and every signature matched.
    """
    console = console or output.console()
    stage = stage or Stage(one_machine)
    console.print(output.text(f"Starting a simulated PIM, {stage.what} and a receiver on this machine …"))
    progress = Progress(console)
    try:
        asyncio.run(_demo(progress, stage))
    except (ChildFailed, StepFailed) as failure:
        report("demo", failure)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        echo("aep demo: interrupted, everything it started is stopped", err=True)
        return 130
    for part in (progress.one_delivery(), progress.summary(), progress.next_steps()):
        console.print(part)
    return 0


async def _demo(progress: Progress, where: Stage) -> None:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - asyncio.run made it
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with progress.shown(), tempfile.TemporaryDirectory(prefix="aep-demo-") as folder:
        async with Children(Path(folder)) as children, aiohttp.ClientSession() as session:
            try:
                async with asyncio.timeout(where.steps_seconds):
                    await _Demo(children, session, progress, Path(folder), where).run()
            except TimeoutError:
                children.check()
                message = f"not finished within {where.steps_seconds:g} s, during: {progress.current}"
                raise StepFailed(message, children.last_words()) from None


class _Demo:
    """The steps in their order, each with its check."""

    def __init__(
        self,
        children: Children,
        session: aiohttp.ClientSession,
        progress: Progress,
        folder: Path,
        where: Stage,
    ) -> None:
        self._where = where
        self._children = children
        self._session = session
        self._progress = progress
        self._folder = folder
        self._secrets = (secrets.token_urlsafe(32), secrets.token_urlsafe(32))
        self._ingest_key = secrets.token_urlsafe(32)
        self._expected: defaultdict[str, set[str]] = defaultdict(set)  # event ids by subscription
        self._seed = 0

    async def run(self) -> None:
        async with contextlib.AsyncExitStack() as running:
            with self._progress.stage(f"start the PIM, the inbox and {self._where.what}") as note:
                await self._start(running)
                note(self._platform.manage)
            await self._steps()

    async def _steps(self) -> None:
        stage = self._progress.stage
        with stage("get a token from the PIM") as note:
            self._api = await management_api(self._session, self._pim, self._platform.manage, self._children)
            note(f"client {DEFAULT_CLIENT.client_id}")
        with stage("create a subscriber and two subscriptions") as note:
            await self._subscribe()
            note(f"/flaky fails 1 in {FLAKY_EVERY}")
        async with _Watch(self._session, self._inbox, self._progress) as self._watch:
            for format_ in TYPE_OF:
                with stage(f"send events, CloudEvents {format_}"):
                    await self._emit(format_, self._where.events_per_format, self._plain, self._flaky)
            with stage("deliver them, retries included"):
                await self._all_delivered(seconds=self._where.delivered_seconds)
            with stage("change a subscription, secrets sent back redacted"):
                await self._patch()
            with stage("suspend it: events pass by") as note:
                note(f"{counted(await self._suspended(), 'event')} not sent to it")
            with stage("resume it: events arrive again"):
                await self._resumed()

    async def _start(self, running: contextlib.AsyncExitStack) -> None:
        primary, secondary = self._secrets
        inbox = ("inbox", "--port", "0", "--quiet", "--every", str(FLAKY_EVERY), "--keep", "20000")
        self._pim, self._inbox = await asyncio.gather(
            self._children.start("sim", "--port", "0"),
            self._children.start(*inbox, f"--secret={primary}", f"--secondary-secret={secondary}"),
        )
        pim = {"url": self._pim, "ingest_key": self._ingest_key, "auth": "token-info"}
        started = self._where.start(self._children, self._folder, pim)
        self._platform = await running.enter_async_context(started)

    async def _subscribe(self) -> None:
        contact = {"technical_email": "demo@example.com"}
        subscriber = await self._api.call("POST", "/subscribers", 201, {"name": "Demo", "contact": contact})
        self._subscriptions = f"/subscribers/{subscriber['id']}/subscriptions"
        self._plain = await self._subscription("/ok")
        self._flaky = await self._subscription("/flaky")
        await self._in_force()

    async def _in_force(self) -> None:
        """Waits until a change is in force: within the promised 5 s, or on one machine with its answer."""
        await asyncio.sleep(self._where.in_force_seconds)

    async def _subscription(self, path: str) -> str:
        primary, secondary = self._secrets
        config = {"url": self._inbox + path, "secret": {"primary": primary, "secondary": secondary}}
        wanted = {"events": list(TYPE_OF.values()), "type": "https", "config": config}
        created = await self._api.call("POST", self._subscriptions, 201, wanted)
        return created["id"]

    async def _emit(self, format_: Format, count: int, *subscriptions: str) -> list[str]:
        """Sends events that `subscriptions` have to get; returns their ids."""
        ids: list[str] = []
        self._seed += 1
        emitted = self._progress.emitted
        drawn = _remembering(events.events(TYPE_OF[format_], count, self._seed), ids)
        await emitting.emit(
            drawn,
            to=self._platform.ingest,
            key=self._ingest_key,
            rate=self._where.rate,
            format=format_,
            into=emitted,
        )
        if emitted.failed:
            self._children.check()
            message = f"not accepted: {counted(emitted.failed, 'event')}: {emitted.error}"
            raise StepFailed(message, self._platform.last_words())
        for subscription in subscriptions:
            self._expected[subscription].update(ids)
        self._progress.expected = sum(map(len, self._expected.values()))
        return ids

    async def _all_delivered(self, *, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while missing := self._missing():
            self._children.check()
            self._watch.check()
            self._check_signatures()
            if time.monotonic() > deadline:
                text = ", ".join(f"{number} at {name}" for name, number in missing.items())
                raise StepFailed(f"lost or late: {text}", self._platform.last_words())
            await asyncio.sleep(0.05)
        self._check_signatures()

    def _check_signatures(self) -> None:
        if bad := self._progress.counts["bad signatures"]:
            raise StepFailed(f"{counted(bad, 'delivery')} had a wrong signature", self._platform.last_words())

    def _missing(self) -> dict[str, int]:
        names = {self._plain: "/ok", self._flaky: "/flaky"}
        missing = {
            names[subscription]: len(ids - self._watch.delivered[subscription].keys())
            for subscription, ids in self._expected.items()
        }
        return {name: number for name, number in missing.items() if number}

    async def _patch(self) -> None:
        """Patches a subscription as a client with a form does: reads it, changes it and sends it back."""
        path = f"{self._subscriptions}/{self._plain}"
        row = await self._api.call("GET", path, 200)
        if any(secret in orjson.dumps(row).decode() for secret in self._secrets):
            raise StepFailed("the platform returned a secret")
        name, value = PATCHED
        row["config"]["headers"] = {name: value}
        await self._api.call("PATCH", path, 200, row)
        await self._in_force()
        ids = await self._emit(Format.BATCH, self._where.events_per_act, self._plain, self._flaky)
        await self._all_delivered(seconds=self._where.act_seconds)
        for event_id in ids:
            if self._watch.delivered[self._plain][event_id]["headers"].get(name.lower()) != value:
                raise StepFailed(f"a delivery after the change lacks the header {name}")

    async def _suspended(self) -> int:
        path = f"{self._subscriptions}/{self._plain}"
        await self._api.call("POST", f"{path}/suspend", 202)
        await self._in_force()
        self._passed_by = await self._emit(Format.STRUCTURED, self._where.events_per_act, self._flaky)
        await self._all_delivered(seconds=self._where.act_seconds)
        self._check_passed_by()
        return len(self._passed_by)

    async def _resumed(self) -> None:
        path = f"{self._subscriptions}/{self._plain}"
        await self._api.call("POST", f"{path}/resume", 202)
        await self._in_force()
        await self._emit(Format.BINARY, self._where.events_per_act, self._plain, self._flaky)
        await self._all_delivered(seconds=self._where.act_seconds)
        self._check_passed_by()

    def _check_passed_by(self) -> None:
        if arrived := self._watch.delivered[self._plain].keys() & set(self._passed_by):
            raise StepFailed(f"{counted(len(arrived), 'event')} reached a suspended subscription")


def _remembering(drawn: Iterator[CloudEvent], ids: list[str]) -> Iterator[CloudEvent]:
    for event in drawn:
        ids.append(event["id"])
        yield event


class _Watch:
    """Follows the inbox: for each subscription the deliveries that it took, by event id."""

    def __init__(self, session: aiohttp.ClientSession, inbox: str, progress: Progress) -> None:
        self.delivered: defaultdict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        self._session = session
        self._inbox = inbox
        self._progress = progress
        self._last = 0

    async def __aenter__(self) -> "_Watch":
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError, aiohttp.ClientError):
            await self._task

    def check(self) -> None:
        """Raises StepFailed when the inbox could not be followed any longer."""
        if self._task.done() and (error := self._task.exception()) is not None:
            raise StepFailed(f"the inbox does not answer: {error}") from error

    async def _follow(self) -> None:
        while True:
            url = f"{self._inbox}/_inbox/events"
            async with self._session.get(url, params={"after": self._last}) as answer:
                for received in await answer.json():
                    self._last = received["number"]
                    self._note(received)
            await asyncio.sleep(0.15)

    def _note(self, received: dict[str, Any]) -> None:
        self._progress.note(received)
        if received["status"] == 200 and received["verified"]:
            self.delivered[received["subject"]].setdefault(received["id"], received)
