"""`aep dev` and `aep trigger`: the loop of whoever writes an app.

Starts the platform, a simulated PIM and, if no app is named, an inbox as child processes, subscribes the app,
and says what becomes of each delivery. A trigger is an event at the one that runs.
"""

import asyncio
import contextlib
import secrets
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson

from event_platform.domain.words import counted

from ..output import console, echo, text
from ..runtime.children import ChildFailed
from . import dev_session, emitting
from .demo import one_machine
from .demo_processes import Children, StepFailed, report
from .dev_lines import TRIES_AGAIN_AFTER, DevLines, said_of
from .dev_session import DevSession
from .events import CloudEvent
from .management import Api, management_api

POLL_SECONDS = 0.1
CONNECT_SECONDS = 2.0
OUTCOME_SECONDS = 60.0
"""The time that a trigger waits for the first answer of the app to an event."""
RATE = 50
FIRST_TYPE = "com.akeneo.pim.v1.product.updated"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The choices of whoever starts `aep dev`. Without `forward_to` an inbox is the receiver."""

    forward_to: str | None
    authorities: Path | None
    events: Sequence[str]
    filter: str | None
    port: int
    secret: str | None


def run_dev(wanted: Wanted) -> int:
    """Runs until a signal ends it; returns the exit status."""
    try:
        with dev_session.held() as write:
            asyncio.run(_until_ended(_Dev(wanted, write)))
    except (ChildFailed, StepFailed) as failure:
        report("dev", failure)
        return 1
    return 0


def run_trigger(events: Iterable[CloudEvent], session: DevSession) -> int:
    """Sends the events and says what came of them; returns 0 when the app took all of them."""
    try:
        return asyncio.run(_trigger(list(events), session))
    except StepFailed as failure:
        report("trigger", failure)
        return 1


def _say(sentence: str) -> None:
    """Prints text that nobody copies, broken between words at the terminal's width."""
    shown = console()
    for line in sentence.split("\n"):
        shown.print(text(line))


async def _until_ended(dev: "_Dev") -> None:
    task = asyncio.create_task(dev.run())
    for number in SIGNALS:
        # Once: a second Ctrl-C must not end the end of the children.
        asyncio.get_running_loop().add_signal_handler(number, lambda: task.cancelling() or task.cancel())
    with contextlib.suppress(asyncio.CancelledError):
        await task


class _Dev:
    """An `aep dev` from its start to its end."""

    def __init__(self, wanted: Wanted, write: Callable[[DevSession], None]) -> None:
        self._wanted = wanted
        self._write = write
        self._secret = wanted.secret or secrets.token_urlsafe(24)

    async def run(self) -> None:
        with tempfile.TemporaryDirectory(prefix="aep-dev-") as folder:
            async with Children(Path(folder)) as children, aiohttp.ClientSession() as session:
                await self._run(Path(folder), children, session)

    async def _run(self, folder: Path, children: Children, session: aiohttp.ClientSession) -> None:
        key = secrets.token_urlsafe(32)
        pim, receiver = await asyncio.gather(children.start("sim", "--port", "0"), self._receiver(children))
        entry = {"url": pim, "ingest_key": key, "auth": "token-info"}
        started = one_machine(children, folder, entry, port=self._wanted.port, settings=self._settings())
        async with started as platform:
            api = await management_api(session, pim, platform.manage, children)
            subscription = await self._subscribe(api, receiver)
            _say("The platform and a simulated PIM run until Ctrl-C. Copy for your app:\n")
            for line in self._to_copy(platform.manage, api.identity):
                echo(line)
            if self._wanted.forward_to is not None:
                await _wait_for_app(receiver, children)
            self._write(DevSession(platform.manage, pim, key, subscription, receiver))
            _say("\nReady. In another terminal:")
            events = self._wanted.events
            echo(f"aep trigger {FIRST_TYPE if FIRST_TYPE in events else events[0]}\n")
            await _follow(children.errors_of("serve"), children)

    async def _receiver(self, children: Children) -> str:
        if self._wanted.forward_to is not None:
            return self._wanted.forward_to
        return f"{await children.start('inbox', '--port', '0', '--quiet', f'--secret={self._secret}')}/"

    def _settings(self) -> dict[str, str]:
        settings = {"AEP_RETRY_DELAYS": ",".join(map(str, TRIES_AGAIN_AFTER))}
        if self._wanted.authorities is not None:
            settings["SSL_CERT_FILE"] = str(self._wanted.authorities.resolve())
        return settings

    async def _subscribe(self, api: Api, receiver: str) -> str:
        contact = {"technical_email": "dev@example.com"}
        subscriber = await api.call("POST", "/subscribers", 201, {"name": "aep dev", "contact": contact})
        path = f"/subscribers/{subscriber['id']}/subscriptions"
        body: dict[str, Any] = {
            "events": list(self._wanted.events),
            "type": "https",
            "config": {"url": receiver, "secret": {"primary": self._secret}},
            "send_product_identifier": True,
        }
        if self._wanted.filter is not None:
            body["filter"] = self._wanted.filter
        created = await api.call("POST", path, 201, body)
        return f"{path}/{created['id']}"

    def _to_copy(self, platform: str, identity: Mapping[str, str]) -> Iterator[str]:
        yield f"export AEP_URL={platform}"
        yield f"export AEP_PIM_URL={identity['X-PIM-URL']}"
        yield f"export AEP_PIM_CLIENT_ID={identity['X-PIM-CLIENT-ID']}"
        yield f"export AEP_PIM_TOKEN={identity['X-PIM-TOKEN']}"
        yield f"export SIGNING_SECRET={self._secret}"


async def _wait_for_app(url: str, children: Children) -> None:
    """Waits until something takes connections where the URL points to."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    has_said = False
    while not await _takes_connections(parts.hostname or "", port):
        if not has_said:
            _say(f"\nNothing listens at {url} yet: start your app, this waits for it.")
            has_said = True
        children.check()
        await asyncio.sleep(POLL_SECONDS)


async def _takes_connections(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


async def _follow(log: Path, children: Children) -> None:
    """Says what the platform's log tells of deliveries, until a child ends. Raises ChildFailed."""
    said = DevLines()
    rest = b""
    with log.open("rb") as file:
        while True:
            *lines, rest = (rest + file.read()).split(b"\n")
            for line in filter(lambda each: each.startswith(b"{"), lines):
                for each in said.lines(orjson.loads(line)):
                    _say(each)
            children.check()
            await asyncio.sleep(POLL_SECONDS)


async def _trigger(events: Sequence[CloudEvent], session: DevSession) -> int:
    children = Children(Path())  # none: those of `aep dev` are not ours
    async with aiohttp.ClientSession() as http:
        api = await management_api(http, session.pim, session.platform, children)
        subscription = await api.call("GET", session.subscription, 200)
        if subscription["status"] == "suspended":
            await api.call("POST", f"{session.subscription}/resume", 202)
            _say("The subscription was suspended; it is resumed.")
        emitted = await emitting.emit(events, to=session.platform, key=session.ingest_key, rate=RATE)
        if emitted.failed:
            raise StepFailed(f"not accepted: {counted(emitted.failed, 'event')}: {emitted.error}")
        found = [await _outcome(api, event["id"], subscription["id"]) for event in events]
    if len(events) == 1:
        _say(f"{events[0]['type']}\nid {events[0]['id']}")
    for said, number in Counter(said_of(each, session.receiver) for each in found).items():
        _say(said if len(events) == 1 else f"{counted(number, 'event')}: {said}")
    return 0 if all(each.get("outcome") == "delivered" for each in found) else 1


async def _outcome(api: Api, event_id: str, subscription: str) -> Mapping[str, Any]:
    """Returns what came of an event at the subscription, once there is an answer or no more time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + OUTCOME_SECONDS
    while True:
        shown = (await api.call("GET", f"/events/{event_id}", 200))["items"][0]["subscriptions"]
        found = next(each for each in shown if each["subscription_id"] == subscription)
        is_open = found.get("outcome") == "waiting" and not found.get("attempts")
        if not is_open or loop.time() > deadline:
            return found
        await asyncio.sleep(POLL_SECONDS)
