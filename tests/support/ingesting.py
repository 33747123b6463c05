"""The routes of ingest on a server in this process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from aep.serving import server
from event_platform import ingest
from event_platform.adapters.reading import ReadingProcess
from event_platform.domain.events import catalog
from event_platform.http import App
from event_platform.ports import Clock, Intake, TenantRegistry


@dataclass
class Ingesting:
    """Ingest as PIMs call it."""

    session: aiohttp.ClientSession
    url: str

    async def post(self, path: str, body: bytes, headers: dict[str, str]) -> int:
        async with self.session.post(self.url + path, data=body, headers=headers) as answer:
            return answer.status


@asynccontextmanager
async def ingesting(
    registry: TenantRegistry, intake: Intake, clock: Clock, **more: Any
) -> AsyncIterator[Ingesting]:
    """Serves ingest for the block; `more` are further services of it."""
    types = catalog.load()
    reader = ReadingProcess(types)
    services = ingest.Ingest(
        registry=registry, intake=intake, catalog=types, clock=clock, reader=reader, **more
    )
    async with (
        server.running(App(list(ingest.routes(services)))) as url,
        aiohttp.ClientSession() as session,
    ):
        yield Ingesting(session, url)
    await reader.close()
