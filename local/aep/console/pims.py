"""The PIMs: how their events come in, who their clients are, and their secrets, each shown once."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from pydantic import SecretStr, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from event_platform.domain import pim_credentials
from event_platform.domain.errors import Conflict, InvalidRequest, NotFound, Problem
from event_platform.domain.feeds import ResourceName, ResourceState
from event_platform.domain.tenants import STRONG, PimClient, Tenant, is_client_id, is_strong
from event_platform.domain.urls import normalise_pim_url
from event_platform.domain.validation_words import words_of

from ..errors import BadPims
from ..runtime.meters import Meters
from . import views
from .answers import read_form
from .app import Shell, Site

log = structlog.get_logger()

PATH = "/console/pims"
ONE = f"{PATH}/one"
TEXT_CHARACTERS = 200
AUTHS = {
    "token-info": "the PIM says whose a token is (Akeneo's cloud)",
    "platform-key": "keys that are issued here",
    "probe": "the PIM lets the token in, and the client is listed here",
}


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a PIM: what it does, and the words of its button."""

    title: str
    text: str
    button: str
    is_dangerous: bool = False


CHANGES: Mapping[str, Change] = {
    "rotate-ingest": Change(
        "Make another ingest key",
        "The new key is shown once. The one before it stays good until the next is made, so that there is"
        " time to change over.",
        "Make it",
    ),
    "rotate-relay": Change(
        "Make another relay secret",
        "The new secret is shown once. The one before it stays good until the next is made.",
        "Make it",
    ),
    "webhook-secret": Change(
        "Enter the secret of the PIM's webhook",
        "The PIM shows it at its Event subscription when the URL is saved there. It is stored sealed, and not"
        " shown again.",
        "Enter it",
    ),
    "issue": Change(
        "Issue a key",
        "The client gets a platform key, which is shown once. Keys that it has stay good for an hour.",
        "Issue it",
    ),
    "revoke": Change(
        "Take the client off the list",
        "Its platform keys end at once. Its subscriptions stay as they are.",
        "Take it off",
        is_dangerous=True,
    ),
    "remove": Change(
        "Remove the PIM",
        "Its events and its clients are refused from then on. Its subscriptions stay as they are. Its secrets"
        " are gone for good.",
        "Remove it",
        is_dangerous=True,
    ),
}


class PimRecords(Protocol):
    """The registry of PIMs as the pages read and change it.

    `can_seal` is false where the key that seals new secrets is not known.
    """

    can_seal: bool

    async def pims(self) -> Sequence[Tenant]: ...

    async def stored_pim(self, name: str) -> Tenant | None: ...

    async def change_pim(self, name: str, change: Callable[[Tenant | None], Tenant]) -> Tenant: ...

    async def remove_pim(self, name: str) -> None: ...

    async def feed(self, name: str) -> Mapping[ResourceName, ResourceState]: ...


def routes(site: Site) -> Sequence[Route]:
    base = site.parts.manage.public_url or ""
    return routes_of(site, site.records, site.parts.meters, base)


def routes_of(site: Shell, records: PimRecords, meters: Meters, base: str) -> Sequence[Route]:
    """Returns the routes over a registry; `base` is the URL before the paths of ingest."""
    page = _Page(site, records, meters, base)
    return [
        Route(PATH, page.show_all, methods=["GET"]),
        Route(f"{PATH}/add", page.add, methods=["POST"]),
        Route(ONE, page.show_one, methods=["GET"]),
        Route(f"{ONE}/{{change}}", page.ask, methods=["GET"]),
        Route(f"{ONE}/{{change}}", page.change, methods=["POST"]),
    ]


Doing = Callable[[str, Mapping[str, str]], Awaitable[Mapping[str, str]]]
"""A change of the PIM of that name by a form; returns the new secrets by what they are."""


class _Page:
    def __init__(self, site: Shell, records: PimRecords, meters: Meters, base: str) -> None:
        self._site = site
        self._records = records
        self._meters = meters
        self._base = base
        self._doing: Mapping[str, Doing] = {
            "rotate-ingest": self._rotate_ingest,
            "rotate-relay": self._rotate_relay,
            "webhook-secret": self._enter_webhook_secret,
            "issue": self._issue,
            "revoke": self._revoke,
            "remove": self._remove,
        }

    async def show_all(self, request: Request) -> Response:
        return await self._all(request)

    async def _all(
        self, request: Request, problem: str = "", fields: Mapping[str, str] | None = None
    ) -> Response:
        meters, now = self._meters, self._site.clock.now()
        parameters = request.query_params
        text = parameters.get("q", "").strip()[:TEXT_CHARACTERS]
        every = await self._records.pims()
        page = views.page_of(like(every, text), parameters.get("page", ""), PATH, {"q": text})
        silent = {each["pim"]: each for each in views.silent(meters, page.rows, now)}
        rows = [
            {
                "tenant": tenant,
                "ways": views.ways_of(tenant, meters.last_calls, self._base),
                "silent": silent.get(tenant.name),
            }
            for tenant in page.rows
        ]
        return self._site.page(
            request,
            "pims.html",
            400 if problem else 200,
            rows=rows,
            text=text,
            total=len(every),
            page=page,
            auths=AUTHS,
            can_seal=self._records.can_seal,
            problem=problem,
            fields=fields or {},
        )

    async def add(self, request: Request) -> Response:
        fields = await read_form(request)
        made: dict[str, str] = {}

        def change(before: Tenant | None) -> Tenant:
            if before is not None:
                raise Conflict(f"{name} is known already")
            tenant = Tenant.model_validate({"url": name, "auth": fields.get("auth", "token-info")})
            tenant, made["Ingest key"] = pim_credentials.with_new_secret(tenant, "ingest_key")
            tenant, made["Relay secret"] = pim_credentials.with_new_secret(tenant, "relay_secret")
            return tenant

        try:
            name = _pim_name(fields.get("url", ""))
            await self._records.change_pim(name, change)
        except (InvalidRequest, Conflict, BadPims) as error:
            return await self._all(request, str(error), fields)
        except ValidationError as error:
            return await self._all(request, _words(error), fields)
        log.info("console.pim_changed", tenant=name, change="add")
        return await self._one(request, name, secrets=made, done="The PIM is known now.")

    async def show_one(self, request: Request) -> Response:
        return await self._one(request, request.query_params.get("name", ""))

    async def _one(
        self, request: Request, name: str, *, secrets: Mapping[str, str] | None = None, done: str = ""
    ) -> Response:
        tenant = next((each for each in await self._records.pims() if each.name == name), None)
        if tenant is None:
            raise NotFound(f"{name[:200]} is no PIM that this platform works for")
        stored = await self._records.stored_pim(name)
        now, parameters = self._site.clock.wall(), request.query_params
        text = parameters.get("q", "").strip()[:TEXT_CHARACTERS]
        found = [each for each in tenant.clients if text in each.client_id or text in (each.username or "")]
        page = views.page_of(found, parameters.get("page", ""), ONE, {"name": name, "q": text})
        return self._site.page(
            request,
            "pim.html",
            tenant=tenant,
            ways=views.ways_of(tenant, self._meters.last_calls, self._base),
            feed=views.feed_shown(await self._records.feed(name)),
            auth=AUTHS[tenant.auth],
            clients=[views.client_shown(each, now) for each in page.rows],
            page=page,
            text=text,
            can_seal=self._records.can_seal,
            is_changeable=stored is not None and stored == tenant,
            secrets=secrets or {},
            done=done,
        )

    async def ask(self, request: Request) -> Response:
        return await self._ask(request, request.query_params)

    async def _ask(self, request: Request, fields: Mapping[str, str], problem: str = "") -> Response:
        name = request.path_params["change"]
        if name not in CHANGES:
            raise HTTPException(404)
        return self._site.page(
            request,
            "pim_change.html",
            400 if problem else 200,
            change=CHANGES[name],
            kind=name,
            fields=fields,
            problem=problem,
        )

    async def change(self, request: Request) -> Response:
        fields = await read_form(request)
        name, kind = fields.get("name", ""), request.path_params["change"]
        if kind not in self._doing:
            raise HTTPException(404)
        try:
            made = await self._doing[kind](name, fields)
        except (InvalidRequest, Conflict, BadPims) as error:
            return await self._ask(request, fields, str(error))
        log.info("console.pim_changed", tenant=name, change=kind)
        if kind == "remove":
            return RedirectResponse(PATH, 303)
        return await self._one(request, name, secrets=made, done="It is done.")

    async def _rotate_ingest(self, name: str, fields: Mapping[str, str]) -> Mapping[str, str]:
        return {"Ingest key": await self._rotated(name, "ingest_key")}

    async def _rotate_relay(self, name: str, fields: Mapping[str, str]) -> Mapping[str, str]:
        return {"Relay secret": await self._rotated(name, "relay_secret")}

    async def _rotated(self, name: str, field: pim_credentials.MadeSecret) -> str:
        made: list[str] = []

        def change(before: Tenant | None) -> Tenant:
            after, secret = pim_credentials.with_new_secret(_known(before, name), field)
            made.append(secret)
            return after

        await self._records.change_pim(name, change)
        return made[-1]

    async def _enter_webhook_secret(self, name: str, fields: Mapping[str, str]) -> Mapping[str, str]:
        secret = SecretStr(fields.get("secret", "").strip())
        if not is_strong(secret):
            raise InvalidRequest(Problem("", f"the secret {STRONG}: copy the whole one that the PIM shows"))
        await self._records.change_pim(
            name, lambda before: pim_credentials.with_events_api_secret(_known(before, name), secret)
        )
        return {}

    async def _issue(self, name: str, fields: Mapping[str, str]) -> Mapping[str, str]:
        client_id, now = _client_id(fields), self._site.clock.wall()
        made: list[str] = []

        def change(before: Tenant | None) -> Tenant:
            tenant = _known(before, name)
            client = tenant.client(client_id) or PimClient(client_id=client_id)
            if tenant.auth == "platform-key":
                client, key = pim_credentials.with_new_key(client, now, pim_credentials.OVERLAP)
                made.append(key)
            return pim_credentials.with_client(tenant, client)

        await self._records.change_pim(name, change)
        return {f"X-PIM-TOKEN of {client_id}": made[-1]} if made else {}

    async def _revoke(self, name: str, fields: Mapping[str, str]) -> Mapping[str, str]:
        client_id = _client_id(fields)

        def change(before: Tenant | None) -> Tenant:
            tenant = _known(before, name)
            if tenant.client(client_id) is None:
                raise Conflict(f"{client_id} is not listed")
            return pim_credentials.without_client(tenant, client_id)

        await self._records.change_pim(name, change)
        return {}

    async def _remove(self, name: str, fields: Mapping[str, str]) -> Mapping[str, str]:
        await self._records.remove_pim(name)
        return {}


def like(tenants: Iterable[Tenant], text: str) -> list[Tenant]:
    """Returns the PIMs whose names have the text, in the order of their names."""
    wanted = text.casefold()
    return sorted((each for each in tenants if wanted in each.name.casefold()), key=lambda each: each.name)


def _pim_name(text: str) -> str:
    url = text.strip()
    if not re.match(r"https?://", url):
        url = f"https://{url}"
    try:
        return normalise_pim_url(url, allow_http=True)
    except ValueError as error:
        raise InvalidRequest(Problem("the URL", str(error))) from None


def _client_id(fields: Mapping[str, str]) -> str:
    client_id = fields.get("client", "").strip()
    if not is_client_id(client_id):
        raise InvalidRequest(Problem("", "give the client's id, as the PIM shows it"))
    return client_id


def _known(tenant: Tenant | None, name: str) -> Tenant:
    if tenant is None:
        raise Conflict(f"{name} is not in the registry, so it cannot be changed here")
    return tenant


def _words(error: ValidationError) -> str:
    first: Any = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {words_of(first)}"
