"""Checks of what an app would be answered that calls for a PIM: each PIM is asked about a token."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus

from event_platform.adapters.clock import SystemClock
from event_platform.adapters.guard import GuardedNetwork, TrustedNetwork
from event_platform.adapters.https import HttpsPimGateway
from event_platform.domain.errors import PimUnavailable, Unauthenticated
from event_platform.domain.tenants import Tenant
from event_platform.domain.words import counted
from event_platform.manage.identity import CallerVerifier, path_of_question
from event_platform.ports import PimGateway

from .credentials import Credentials
from .findings import Check, missing, ok, problem

ASKED = 20
"""The largest number of PIMs that are asked."""
NAME = "apps"
NO_TOKEN = "made-up-by-aep-doctor"  # noqa: S105 - no PIM has given it to anybody
_LETS_IN: Mapping[str, Sequence[int]] = {
    "token-info": (HTTPStatus.OK,),
    "probe": (HTTPStatus.OK, HTTPStatus.FORBIDDEN),
}
"""The answers by which a token counts as good."""


async def checks(
    tenants: Sequence[Tenant], known: Credentials, gateway: PimGateway | None = None
) -> list[Check]:
    """Returns a finding for each PIM. The PIM of the credentials is asked about their token, too."""
    exact = [tenant for tenant in tenants if tenant.url is not None]
    opened = HttpsPimGateway(GuardedNetwork(), TrustedNetwork()) if gateway is None else None
    try:
        asked = gateway or opened
        assert asked is not None  # noqa: S101 - one of the two is there
        found = await asyncio.gather(*(_of_pim(tenant, asked) for tenant in exact[:ASKED]))
        own = await _of_client(tenants, known, asked)
    finally:
        if opened is not None:
            await opened.close()
    left_out = len(tenants) - len(found)
    more = [missing(NAME, f"{counted(left_out, 'PIM')} more, not asked")] if left_out else []
    return [*found, *own, *more]


async def _of_pim(tenant: Tenant, gateway: PimGateway) -> Check:
    url = tenant.url or ""
    command = f"`aep pims client {url} CLIENT_ID`"
    if tenant.auth == "platform-key":
        with_keys = [client for client in tenant.clients if client.keys_at(datetime.now(UTC))]
        if not with_keys:
            return problem(NAME, f"{url}: every app gets 401, as none has a platform key: {command}")
        return ok(NAME, f"{url}: {counted(len(with_keys), 'client')} can call with a platform key")
    if tenant.auth == "probe" and not tenant.clients:
        return problem(NAME, f"{url}: every app gets 401, as no client is listed: {command}")
    try:
        answer = await gateway.get(tenant, url, path_of_question(tenant), NO_TOKEN)
    except PimUnavailable as error:
        return problem(NAME, f"{url}: every app gets 503: {error}")
    if answer.status in _LETS_IN[tenant.auth]:
        return problem(NAME, f"{url}: it takes a token that was made up: look whether that URL is the PIM's")
    match answer.status:
        case HTTPStatus.UNAUTHORIZED:
            return ok(NAME, f"{url}: it refuses a token that was made up, so an app needs a good one")
        case HTTPStatus.NOT_FOUND if tenant.auth == "token-info":
            return problem(
                NAME,
                f"{url}: every app gets 401, as the PIM has no token-info route: run"
                f" `aep pims add {url} --auth platform-key`, then {command} for each app",
            )
        case status:
            return problem(
                NAME, f"{url}: it answers {status} to a token that was made up, and 401 is expected"
            )


async def _of_client(tenants: Sequence[Tenant], known: Credentials, gateway: PimGateway) -> list[Check]:
    """Returns what the client of the credentials would be answered; nothing without credentials."""
    triple = known.triple()
    if triple is None:
        return []
    url, client_id = triple["X-PIM-URL"], triple["X-PIM-CLIENT-ID"]
    who = f"{url}: {client_id} (AEP_PIM_CLIENT_ID)"
    verifier = CallerVerifier(_Listed(tenants), gateway, SystemClock(), allow_http=True)
    try:
        caller = await verifier.verify(triple, "")
    except Unauthenticated as error:
        return [problem(NAME, f"{who} gets 401: {error}")]
    except PimUnavailable as error:
        return [problem(NAME, f"{who} gets 503: {error}")]
    if not caller.may_subscribe:
        return [problem(NAME, f"{who} gets 403: its connection has no Event Platform permission in the PIM")]
    return [ok(NAME, f"{who} is let in and may subscribe")]


class _Listed:
    """The port `TenantRegistry` over the entries that were read."""

    def __init__(self, tenants: Sequence[Tenant]) -> None:
        self._tenants = tenants

    async def tenants(self) -> Sequence[Tenant]:
        return self._tenants
