"""Calls of a client of the simulated PIM: its token, and the platform's management API with it."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from ..runtime import unanswered
from .demo_processes import Children, StepFailed
from .pim.connections import DEFAULT_CLIENT


@dataclass(frozen=True, slots=True)
class Api:
    """JSON requests to one base URL, each with the status that it must be answered."""

    session: aiohttp.ClientSession
    base: str
    children: Children
    identity: Mapping[str, str] = field(default_factory=dict)

    async def call(
        self,
        method: str,
        path: str,
        expect: int,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        url = self.base + path
        try:
            async with self.session.request(
                method, url, json=body, headers={**self.identity, **(headers or {})}
            ) as answer:
                status, text = answer.status, await answer.text(errors="replace")
        except aiohttp.ClientError as error:
            self.children.check()
            raise StepFailed(f"{method} {url}: {error}", self.children.last_words()) from error
        if status != expect:
            message = f"{method} {url} answered {status} in place of {expect}: {unanswered.refusal(text)}"
            raise StepFailed(message, self.children.last_words() if status >= 500 else [])
        return orjson.loads(text)


async def management_api(session: aiohttp.ClientSession, pim: str, platform: str, children: Children) -> Api:
    """Returns the platform's management API as the default client of the simulated PIM, with a new token."""
    password = {
        "grant_type": "password",
        "username": DEFAULT_CLIENT.username,
        "password": DEFAULT_CLIENT.password,
    }
    credentials = f"{DEFAULT_CLIENT.client_id}:{DEFAULT_CLIENT.secret}"
    basic = f"Basic {base64.b64encode(credentials.encode()).decode()}"
    at_pim = Api(session, pim, children)
    tokens = await at_pim.call("POST", "/api/oauth/v1/token", 200, password, headers={"Authorization": basic})
    identity = {
        "X-PIM-URL": pim,
        "X-PIM-TOKEN": tokens["access_token"],
        "X-PIM-CLIENT-ID": DEFAULT_CLIENT.client_id,
    }
    return Api(session, f"{platform}/api/v1", children, identity)
