"""`aep dev`: the platform, a simulated PIM and a subscription in one process, for whoever writes an app.

It says what becomes of each delivery. All of it ends with the process, however that ends.
"""

import asyncio
import contextlib
import os
import secrets
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson

from event_platform import telemetry
from event_platform.settings import Settings

from ..output import echo, echo_whole
from ..runtime.children import environment
from ..serving import server
from ..wiring import Platform
from . import dev_session, inbox
from .demo_processes import Children, StepFailed, report
from .dev_deliveries import Exchanges, LogEntries
from .dev_lines import TRIES_AGAIN_AFTER, DevLines
from .dev_session import DevSession
from .management import Api, management_api
from .pim.app import create_app

POLL_SECONDS = 0.1
CONNECT_SECONDS = 2.0
FIRST_TYPE = "com.akeneo.pim.v1.product.updated"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The choices of whoever starts `aep dev`. Without `forward_to` an inbox is the receiver.

    Every event whose number `lose` divides is lost before it comes to the platform.
    """

    forward_to: str | None
    authorities: Path | None
    events: Sequence[str]
    filter: str | None
    port: int
    secret: str | None
    lose: int | None = None
    is_verbose: bool = False


def run_dev(wanted: Wanted) -> int:
    """Runs until a signal ends it; returns the exit status."""
    # What is set for a platform of the user's must not reach this one: it might send real e-mail.
    kept = environment({})
    for name in set(os.environ) - set(kept):
        del os.environ[name]
    if wanted.authorities is not None:
        os.environ["SSL_CERT_FILE"] = str(wanted.authorities.resolve())
    try:
        with dev_session.held() as write:
            asyncio.run(_until_ended(wanted, write))
    except StepFailed as failure:
        report("dev", failure)
        return 1
    return 0


async def _until_ended(wanted: Wanted, write: Callable[[DevSession], None]) -> None:
    task = asyncio.create_task(_Dev(wanted, write).run())
    for number in SIGNALS:
        # Once: a second Ctrl-C must not end the end of the platform.
        asyncio.get_running_loop().add_signal_handler(number, lambda: task.cancelling() or task.cancel())
    with contextlib.suppress(asyncio.CancelledError):
        await task


class _Dev:
    """An `aep dev` from its start to its end."""

    def __init__(self, wanted: Wanted, write: Callable[[DevSession], None]) -> None:
        self._wanted = wanted
        self._write = write
        self._secret = wanted.secret or secrets.token_urlsafe(24)
        self._key = secrets.token_urlsafe(32)
        self._exchanges = Exchanges()
        self._log = LogEntries()
        self._fault: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=dev_session.FOLDER_PREFIX)))
            session = await stack.enter_async_context(aiohttp.ClientSession())
            pim = await stack.enter_async_context(server.running(create_app(), dates_itself=True))
            receiver = self._wanted.forward_to or await stack.enter_async_context(self._inbox())
            platform = await stack.enter_async_context(self._platform(folder, pim))
            api = await management_api(session, pim, platform, Children(folder))
            subscription = await self._subscribe(api, receiver)
            echo("The platform and a simulated PIM run until Ctrl-C. Copy for your app:\n")
            for line in self._to_copy(platform, api.identity):
                echo_whole(line)
            if self._wanted.forward_to is not None:
                await _wait_for_app(receiver)
            lose = self._wanted.lose
            self._write(DevSession(platform, pim, self._key, subscription, receiver, str(folder), lose))
            echo("\nReady. In another terminal:")
            events = self._wanted.events
            echo_whole(f"aep trigger {FIRST_TYPE if FIRST_TYPE in events else events[0]}\n")
            await self._follow()

    @contextlib.asynccontextmanager
    async def _platform(self, folder: Path, pim: str) -> AsyncIterator[str]:
        """Runs the platform for the PIM; yields its URL."""
        entry = {"url": pim, "ingest_key": self._key, "auth": "token-info"}
        delays = ",".join(map(str, TRIES_AGAIN_AFTER))
        given: dict[str, Any] = {"pims": orjson.dumps([entry]).decode(), "retry_delays": delays, "dev": True}
        telemetry.configure("info", self._log)
        with server.listen("127.0.0.1", self._wanted.port) as listener:
            platform = Platform(
                Settings(**given),
                folder / "data",
                base_url=server.url_of(listener),
                on_fault=self._on_fault,
                watched=self._exchanges.watched,
            )
            await platform.start()
            try:
                async with server.running_on(listener, platform.app) as url:
                    yield url
            finally:
                await platform.stop()

    def _on_fault(self, error: BaseException) -> None:
        if not self._fault.done():
            self._fault.set_result(error)

    @contextlib.asynccontextmanager
    async def _inbox(self) -> AsyncIterator[str]:
        settings = inbox.Settings(secret=self._secret)
        async with server.running(inbox.create_app(settings)) as url:
            yield f"{url}/"

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

    async def _follow(self) -> None:
        """Says what the platform's log tells of deliveries, until a part of the platform fails."""
        lines = DevLines(self._wanted.is_verbose)
        following = asyncio.create_task(self._print(lines))
        try:
            await asyncio.wait({self._fault, following}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            following.cancel()
        if self._fault.done():
            fault = self._fault.result()
            raise StepFailed(f"the platform has failed ({type(fault).__name__}): {fault}")
        await following

    async def _print(self, lines: DevLines) -> None:
        async for entry in self._log:
            for line in lines.lines(entry, self._exchanges.pop(entry)):
                echo(line, hanging=4 if line.startswith(" ") else 0)


async def _wait_for_app(url: str) -> None:
    """Waits until something takes connections where the URL points to."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    has_said = False
    while not await _takes_connections(parts.hostname or "", port):
        if not has_said:
            echo(f"\nNothing listens at {url} yet: start your app, this waits for it.")
            has_said = True
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
