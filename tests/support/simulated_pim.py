"""The simulated PIM on a real socket with its own clock, and a client that reads its catalogue."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson

from aep.sandbox.pim.app import create_app
from aep.sandbox.pim.catalogue import Catalogue
from aep.sandbox.pim.connections import Client
from aep.sandbox.pim.rest import Pim
from aep.serving import server

ERP = Client("erp", "erp-secret", "erp-user", "erp-password")


@dataclass
class PimClock:
    """The PIM's clock, which the test sets."""

    moment: datetime = datetime(2026, 1, 31, 12, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment


@dataclass
class Read:
    """An answer of the PIM."""

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def items(self) -> Sequence[dict[str, Any]]:
        return self.body["_embedded"]["items"]

    def codes(self, key: str = "code") -> list[str]:
        return [item[key] for item in self.items]

    def link(self, name: str) -> str | None:
        link = self.body["_links"].get(name)
        return None if link is None else link["href"]


@dataclass
class PimReader:
    """A client of a simulated PIM that has a token."""

    url: str
    session: aiohttp.ClientSession
    pim: Pim
    clock: PimClock
    token: str = field(default="", repr=False)

    @property
    def catalogue(self) -> Catalogue:
        return self.pim.catalogue

    async def get(self, path: str, **parameters: Any) -> Read:
        """Reads a path below `/api/rest/v1`; what is no text among the parameters goes as JSON."""
        texts = {
            name: value if isinstance(value, str) else orjson.dumps(value).decode()
            for name, value in parameters.items()
        }
        headers = {"Authorization": f"Bearer {self.token}"}
        url = path if path.startswith("http") else f"{self.url}/api/rest/v1{path}"
        async with self.session.get(url, params=texts, headers=headers) as answer:
            return Read(answer.status, answer.headers, orjson.loads(await answer.read()))

    async def all_pages(self, path: str, **parameters: Any) -> list[Read]:
        """Follows the links to the next page to the end, by their paths and queries."""
        pages = [await self.get(path, **parameters)]
        while (href := pages[-1].link("next")) is not None:
            parts = urlsplit(href)
            pages.append(await self.get(f"{self.url}{parts.path}?{parts.query}"))
        return pages

    async def log_in(self) -> None:
        """Gets a token by the password of the connection's user."""
        password = {"grant_type": "password", "username": ERP.username, "password": ERP.password}
        headers = {"Authorization": aiohttp.encode_basic_auth(ERP.client_id, ERP.secret)}
        url = f"{self.url}/api/oauth/v1/token"
        async with self.session.post(url, json=password, headers=headers) as answer:
            self.token = (await answer.json())["access_token"]


@asynccontextmanager
async def simulated_pim(*, client: Client = ERP, **options: Any) -> AsyncIterator[PimReader]:
    """Serves a simulated PIM; `options` are those of `create_app`."""
    clock = PimClock()
    app = create_app([client], clock.now, **options)
    async with server.running(app, dates_itself=True) as url, aiohttp.ClientSession() as session:
        reader = PimReader(url, session, app.state.pim, clock)
        await reader.log_in()
        yield reader
