"""The console on a platform in this process, served on a socket, and a browser without scripts for it."""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import aiohttp

from aep.console.app import Console, Site
from aep.console.serving import build
from aep.serving import server
from aep.serving.samples import Samples
from aep.wiring import Platform
from event_platform.domain.subscriptions import Owner, Subscription
from event_platform.settings import Settings
from support.records import OWNER, subscribed

FORM_TOKEN = re.compile(r'name="csrf" value="([0-9a-f]{64})"')


@dataclass(frozen=True)
class Page:
    """An answer of the console."""

    status: int
    url: str
    headers: Mapping[str, str]
    text: str

    @property
    def words(self) -> str:
        """The text that a reader sees, with single spaces."""
        return " ".join(unescape(re.sub(r"<[^>]*>", " ", self.text)).split())


class Reader:
    """A browser without scripts: it keeps cookies and follows redirects."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self.session = session

    async def get(self, path: str, **how: Any) -> Page:
        return await self._ask("GET", path, **how)

    async def post(self, path: str, fields: Mapping[str, str] | None = None, **how: Any) -> Page:
        """Sends a form as it is."""
        return await self._ask("POST", path, data=dict(fields or {}), **how)

    async def submit(self, path: str, fields: Mapping[str, str] | None = None) -> Page:
        """Sends a form with the token of the session, as the page at the path has it."""
        return await self.post(path, {"csrf": await self.form_token(), **(fields or {})})

    async def form_token(self) -> str:
        found = FORM_TOKEN.search((await self.get("/console/subscriptions")).text)
        assert found is not None
        return found[1]

    async def _ask(self, method: str, path: str, **how: Any) -> Page:
        async with self.session.request(method, self.url + path, **how) as answer:
            return Page(answer.status, str(answer.url), dict(answer.headers), await answer.text())


@asynccontextmanager
async def stranger(url: str) -> AsyncIterator[Reader]:
    """A browser that nobody has signed in with."""
    jar = aiohttp.CookieJar(unsafe=True)  # which has cookies of addresses, too
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        yield Reader(url, session)


@asynccontextmanager
async def signed_in(url: str, console: Console[Any]) -> AsyncIterator[Reader]:
    """A browser that is signed in."""
    async with stranger(url) as reader:
        token = console.site.links.issue()
        assert (await reader.post("/console/enter", {"token": token})).status == 200
        yield reader


class ConsoleHere:
    """The console of a platform that runs in this process."""

    def __init__(self, platform: Platform, console: Console[Site], samples: Samples, url: str) -> None:
        self.platform = platform
        self.console = console
        self.samples = samples
        self.url = url

    def stranger(self) -> AbstractAsyncContextManager[Reader]:
        return stranger(self.url)

    def reader(self) -> AbstractAsyncContextManager[Reader]:
        return signed_in(self.url, self.console)

    async def subscribe(self, number: int = 1, owner: Owner = OWNER, **more: Any) -> Sequence[Subscription]:
        """Adds as many subscriptions of a new subscriber."""
        return await subscribed(self.platform.parts.subscriptions, number, owner, **more)


@asynccontextmanager
async def console_here(
    folder: Path, *, url: str | None = None, port: int = 0, **settings: Any
) -> AsyncIterator[ConsoleHere]:
    """Runs a platform on the folder with its console, in this process; `url` is in place of the socket's."""
    faults: list[BaseException] = []
    given: dict[str, Any] = {"dev": True, **settings}
    platform = Platform(Settings(**given), folder, base_url="http://127.0.0.1:1", on_fault=faults.append)
    await platform.start()
    try:
        with server.listen("127.0.0.1", port) as listener:
            here = server.url_of(listener)
            samples = Samples(platform.parts.meters, platform.parts.clock, on_fault=faults.append)
            samples.take()
            console = await build(platform.parts, url or here, samples)
            async with server.running_on(listener, console, by_address=False):
                try:
                    yield ConsoleHere(platform, console, samples, here)
                finally:
                    await console.stop()
    finally:
        await platform.stop()
    assert faults == []
