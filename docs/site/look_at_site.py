"""Looks at the built site with Chromium: `make docs-look`.

Each page of PAGES is opened from a server on this machine. It must ask no other host for anything and log no
error; its pictures must be drawn, and the search must find something. Screenshots go to `.cache/site/looks`.
"""

import asyncio
import base64
import contextlib
import functools
import http.server
import shutil
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Self

import aiohttp

ROOT = Path(__file__).parents[2]
SITE = ROOT / "site"
LOOKS = ROOT / ".cache" / "site" / "looks"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 60
PAGES: dict[str, str] = {
    "": "document.querySelectorAll('h1').length == 1",
    "docs/architecture/": """(() => {
        const pictures = document.querySelectorAll("div.mermaid");
        pictures[1]?.scrollIntoView();
        return pictures.length >= 4 && !document.querySelector("pre.mermaid");
    })()""",
    "docs/settings/": "document.querySelectorAll('abbr').length > 3",
    "docs/api/": "document.querySelectorAll('.opblock').length > 10",
}
"""Pages with what must be true of each in the end."""
SEARCH = """(() => {
  const box = [...document.body.children].find((each) => each.shadowRoot?.querySelector("input"))?.shadowRoot;
  const field = box?.querySelector("input");
  if (!field) { document.querySelector(".md-search__button")?.click(); return false; }
  if (!field.value) {
    document.querySelector(".md-search__button")?.click();
    field.value = "dead letter";
    field.dispatchEvent(new Event("input", {bubbles: true}));
  }
  return [...box.querySelectorAll("a")].some((each) => /dead.letter/i.test(each.textContent));
})()"""
"""Types into the search; true when a page was found."""


class Tab:
    """A tab of the browser, driven by the DevTools protocol."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self.requests: list[str] = []
        self.errors: list[str] = []

    @classmethod
    @contextlib.asynccontextmanager
    async def of(cls, session: aiohttp.ClientSession, address: str) -> AsyncIterator[Self]:
        async with session.ws_connect(address, max_msg_size=0) as socket:
            tab = cls(socket)
            reading = asyncio.create_task(tab._read())
            for domain in ("Page", "Network", "Log", "Runtime"):
                await tab.call(f"{domain}.enable")
            yield tab
            reading.cancel()

    async def call(self, method: str, **parameters: Any) -> Any:
        number = len(self._calls)
        self._calls[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        return await asyncio.wait_for(self._calls[number], PATIENCE)

    async def until(self, expression: str) -> None:
        """Waits until an expression is true on the page. Raises TimeoutError."""
        async with asyncio.timeout(PATIENCE):
            while not (await self.call("Runtime.evaluate", expression=expression))["result"].get("value"):  # noqa: ASYNC110
                await asyncio.sleep(0.1)  # the page does not say when

    async def _read(self) -> None:
        async for message in self._socket:
            line = message.json()
            if "id" in line:
                if not (waiting := self._calls[line["id"]]).done():
                    waiting.set_result(line.get("result"))
            elif line["method"] == "Network.requestWillBeSent":
                self.requests.append(line["params"]["request"]["url"])
            elif line["method"] == "Runtime.exceptionThrown":
                self.errors.append(str(line["params"]["exceptionDetails"]))
            elif line["method"] == "Log.entryAdded" and line["params"]["entry"]["level"] == "error":
                self.errors.append(str(line["params"]["entry"]))


@contextlib.contextmanager
def served() -> Iterator[str]:
    """Serves the site on a free port of this machine."""
    handler = functools.partial(_Quiet, directory=str(SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
        pass


@contextlib.asynccontextmanager
async def browser(program: str) -> AsyncIterator[str]:
    """Starts the browser and gives the address of its first tab."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--window-size=1400,1000",
        ]
        process = await asyncio.create_subprocess_exec(
            program,
            *options,
            "--remote-debugging-port=0",
            f"--user-data-dir={profile}",
            "about:blank",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            noted = Path(profile) / "DevToolsActivePort"
            async with asyncio.timeout(PATIENCE):
                while not noted.exists() or not noted.read_text():  # noqa: ASYNC110 - a file of the browser
                    await asyncio.sleep(0.1)
            yield f"http://127.0.0.1:{noted.read_text().split()[0]}"
        finally:
            process.terminate()
            await process.wait()


async def look(program: str) -> list[str]:
    """Returns what is wrong with the site."""
    wrong: list[str] = []
    LOOKS.mkdir(parents=True, exist_ok=True)
    with served() as base:
        async with browser(program) as address, aiohttp.ClientSession() as session:
            async with session.get(f"{address}/json/list") as answer:
                (target,) = [each for each in await answer.json() if each["type"] == "page"]
            for path, expected in {**PAGES, "docs/glossary/": SEARCH}.items():
                async with Tab.of(session, target["webSocketDebuggerUrl"]) as tab:
                    await tab.call("Page.navigate", url=base + path)
                    await tab.until("document.readyState == 'complete'")
                    wrong += await _tried(tab, path, expected)
                    picture = await tab.call("Page.captureScreenshot")
                name = path.strip("/").replace("/", "-") or "start"
                (LOOKS / f"{name}.png").write_bytes(base64.b64decode(picture["data"]))
                local = (base, "data:", "blob:", "about:")
                wrong += [f"{path}: asks {url}" for url in tab.requests if not url.startswith(local)]
                wrong += [f"{path}: {error}" for error in tab.errors]
    return wrong


async def _tried(tab: Tab, path: str, expected: str) -> list[str]:
    try:
        await tab.until(expected)
    except TimeoutError:
        return [f"{path}: not true after {PATIENCE} s: {expected}"]
    return []


def main() -> None:
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if program is None:
        sys.exit(f"make docs-look: needs one of {', '.join(BROWSERS)} on PATH")
    if wrong := asyncio.run(look(program)):
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
