"""A platform with something to see in its console: PIMs, receivers of several kinds, and events for a while.

`screenshots.py` looks at it; `python docs/console/scene.py` runs it until Ctrl-C, with a link in its output.
"""

import asyncio
import contextlib
import hashlib
import random
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from aiohttp import web

from aep.control.client import control
from aep.google.ports import free_ports
from aep.runtime import children

UPDATED = "com.akeneo.pim.v1.product.updated"
CREATED = "com.akeneo.pim.v1.product.created"
PIMS = ("https://pim.example.com", "https://fashion.example.com")
INGEST_KEY = "the-ingest-key-of-the-scene"
SUBSCRIPTIONS: Sequence[tuple[str, str, str, str, str | None]] = (
    (PIMS[0], "erp_4711", "ERP", "/erp/products", None),
    (PIMS[0], "erp_4711", "ERP", "/erp/prices", 'user = "julia"'),
    (PIMS[0], "shop_0815", "Web shop", "/shop/events", None),
    (PIMS[0], "search_23", "Search index", "/search/slow", None),
    (PIMS[1], "shop_0815", "Web shop", "/fashion/events", None),
    (PIMS[1], "dam_42", "Asset store", "/assets/broken", None),
    (PIMS[1], "mail_7", "Newsletter", "/newsletter/gone", None),
)
"""PIM, client, subscriber, path of the receiver, and filter."""


@dataclass(frozen=True)
class Scene:
    """A running platform: the URLs of its API and its receivers, its data folder, and its subscriptions."""

    url: str
    receivers: str
    folder: Path
    subscriptions: Sequence[str]

    def link(self) -> str:
        """Returns a one-time link into the console."""
        return _call(self.folder, ("console", "links"))["url"]

    async def emit(self, number: int) -> None:
        """Sends as many events of each PIM."""
        async with aiohttp.ClientSession() as session:
            for pim in range(len(PIMS)):
                body = orjson.dumps([event() for _ in range(number)])
                headers = {
                    "Authorization": f"Bearer {INGEST_KEY}-{pim}",
                    "Content-Type": "application/cloudevents-batch+json",
                }
                async with session.post(f"{self.url}/ingest", data=body, headers=headers) as answer:
                    answer.raise_for_status()


def event() -> dict[str, Any]:
    """Returns an event of a product, as a PIM sends it."""
    author = {"identifier": random.choice(("julia", "peter", "erp_4711")), "type": "user"}  # noqa: S311
    data = {"product": {"uuid": str(uuid.uuid4())}, "author": author}
    kind = random.choice((UPDATED, UPDATED, CREATED))  # noqa: S311
    return {"specversion": "1.0", "id": str(uuid.uuid4()), "source": "pim", "type": kind, "data": data}


class Receivers:
    """Receivers in one server: `/slow` takes its time, `/broken` answers 503 until it is mended."""

    def __init__(self) -> None:
        self.is_mended = False

    async def answer(self, request: web.Request) -> web.Response:
        await request.read()
        if request.path.endswith("/slow"):
            await asyncio.sleep(0.4)
        elif request.path.endswith("/broken") and not self.is_mended:
            return web.Response(status=503, text="the asset store is being moved")
        elif request.path.endswith("/gone"):
            return web.Response(status=404, text="no such route")
        return web.Response(status=204)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self.answer)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            host, port = runner.addresses[0][:2]
            yield f"http://{host}:{port}"
        finally:
            await runner.cleanup()


@contextlib.asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[Scene]:
    """Runs the platform and its receivers inside the block."""
    port, console = free_ports(2)
    pims = folder / "pims.json"
    key = hashlib.sha256(b"the-platform-key").hexdigest()
    clients = sorted({client for _, client, *_ in SUBSCRIPTIONS})
    pims.write_bytes(
        orjson.dumps(
            [
                {
                    "url": url,
                    "auth": "platform-key",
                    "ingest_key": f"{INGEST_KEY}-{number}",
                    "clients": [{"client_id": client, "key_sha256": key} for client in clients],
                }
                for number, url in enumerate(PIMS)
            ]
        )
    )
    data, url = folder / "data", f"http://127.0.0.1:{port}"
    child = children.Child(
        "aep serve",
        children.aep("serve", "--dev", "--port", str(port), "--data", str(data), "--pims", str(pims)),
        stdout=folder / "out",
        stderr=folder / "err",
        environment=children.environment({"AEP_METRICS_PORT": "0", "AEP_CONSOLE_PORT": str(console)}),
    )
    async with Receivers().serving() as receivers:
        with child:
            await asyncio.to_thread(_until_ready, folder / "out")
            made = await asyncio.to_thread(_subscribe, data, receivers)
            yield Scene(url, receivers, data, made)


def _until_ready(output: Path) -> None:
    while not (output.exists() and "ready " in output.read_text()):
        time.sleep(0.05)


def _call(
    data: Path, path: tuple[str, ...], body: Any = None, headers: Mapping[str, str] | None = None
) -> Any:
    with control(data) as platform:
        if platform is None:
            raise SystemExit("the platform of the scene does not run")
        return platform.call("POST", path, body, headers)


def _subscribe(data: Path, receivers: str) -> list[str]:
    """Makes the subscriptions; returns their ids."""
    subscribers: dict[tuple[str, str], str] = {}
    made: list[str] = []
    for pim, client, name, path, wanted in SUBSCRIPTIONS:
        owner = {"X-PIM-URL": pim, "X-PIM-CLIENT-ID": client}
        if (pim, client) not in subscribers:
            contact = {"technical_email": "integrations@example.com"}
            made_one = _call(data, ("subscribers",), {"name": name, "contact": contact}, owner)
            subscribers[pim, client] = made_one["id"]
        body: dict[str, Any] = {
            "events": [UPDATED, CREATED],
            "type": "https",
            "config": {"url": receivers + path, "secret": {"primary": "a-signing-secret-of-the-scene"}},
        }
        if wanted is not None:
            body["filter"] = wanted
        path_of_list = ("subscribers", subscribers[pim, client], "subscriptions")
        made.append(_call(data, path_of_list, body, owner)["id"])
    return made


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with scene(Path(folder)) as running:
            print(running.link(), flush=True)  # noqa: T201
            while True:
                await running.emit(5)
                await asyncio.sleep(1)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
    sys.exit()
