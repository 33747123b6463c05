"""The caller: the triple of PIM, token and client id, verified by asking the PIM (contract/wire.md 1)."""

import asyncio
import hashlib
import hmac
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime

import structlog
from cachetools import TTLCache
from jsonpointer import JsonPointerException, resolve_pointer

from ..domain.attempts.outcomes import Answer
from ..domain.errors import Unauthenticated
from ..domain.events import json_form
from ..domain.front_door import Admission, FrontDoor
from ..domain.line_limit import LineLimit
from ..domain.subscriptions import Owner
from ..domain.tenants import MAX_CLIENT_ID_LENGTH, Tenant
from ..domain.urls import MAX_URL_LENGTH, normalise_pim_url
from ..ports import Clock, PimGateway, TenantRegistry
from .questions import Questions

log = structlog.get_logger()

GOOD_FOR_SECONDS = 60
BAD_FOR_SECONDS = 5
REMEMBERED = 10_000
"""The time for which answers of PIMs are remembered, and their number."""

KEYS_SHOWN = 20
KEY_SHOWN = 100
URL_SHOWN = 200
"""The keys of a PIM's answer that a log line shows, and the characters of each."""

HEADERS = ("X-PIM-URL", "X-PIM-TOKEN", "X-PIM-CLIENT-ID")
LONGEST = {"X-PIM-URL": MAX_URL_LENGTH, "X-PIM-TOKEN": 4096, "X-PIM-CLIENT-ID": MAX_CLIENT_ID_LENGTH}
"""The longest value in characters. A client id is kept with every record of its owner."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A verified caller. `subject` is the PIM's URL as sent, `may_subscribe` the permission there."""

    owner: Owner
    subject: str
    may_subscribe: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """A PIM's answer about a token. `refusal` is empty if the token is good."""

    refusal: str = ""
    may_subscribe: bool = True


class CallerVerifier:
    """Verifies callers and remembers what the PIM said, keyed by a hash of the whole triple."""

    def __init__(
        self, registry: TenantRegistry, pim: PimGateway, clock: Clock, *, allow_http: bool = False
    ) -> None:
        self._registry = registry
        self._pim = pim
        self._allow_http = allow_http
        self._clock = clock
        self._good = _memory(GOOD_FOR_SECONDS, clock)
        self._bad = _memory(BAD_FOR_SECONDS, clock)
        self._asking: dict[bytes, asyncio.Task[Verdict]] = {}
        self._door = FrontDoor(clock.monotonic)
        self._questions = Questions()
        self._lines = LineLimit(clock.monotonic)

    async def verify(self, headers: Mapping[str, str], address: str) -> Caller:
        """The caller that the headers of a request from `address` prove.

        Raises Unauthenticated, TooManyRequests, and PimUnavailable (never cached).
        """
        subject, token, client_id = _triple(headers)
        try:
            pim_url = normalise_pim_url(subject, allow_http=self._allow_http)
        except ValueError as error:
            raise Unauthenticated(f"X-PIM-URL {error}") from error
        tenant = next((entry for entry in await self._registry.tenants() if entry.covers(pim_url)), None)
        if tenant is None:
            if times := self._lines.count("pim.unknown"):
                shown = pim_url[:URL_SHOWN]
                fix = f"if it is one of yours, register it with `aep pims add {shown}`"
                log.warning("pim.unknown", url=shown, times=times, fix=fix)
            raise Unauthenticated(
                f"X-PIM-URL names {pim_url}, a PIM that this platform is not configured for"
            )
        verdict = await self._verdict(tenant, pim_url, token, client_id, address)
        if verdict.refusal:
            raise Unauthenticated(verdict.refusal)
        return Caller(Owner(pim_url, client_id), subject, verdict.may_subscribe)

    async def _verdict(
        self, tenant: Tenant, pim_url: str, token: str, client_id: str, address: str
    ) -> Verdict:
        key = hashlib.sha256(json_form.stringify([tenant.auth, pim_url, token, client_id])).digest()
        if tenant.auth == "platform-key":
            verdict = _check_platform_key(tenant, token, client_id, self._clock.wall())
            if verdict.refusal:
                self._door.count_wrong(address, key)
            return verdict
        if tenant.auth == "probe" and tenant.client(client_id) is None:
            return Verdict("X-PIM-CLIENT-ID is not on this PIM's list of clients")
        remembered = self._good.get(key) or self._bad.get(key)
        if remembered is not None:
            return remembered
        if key not in self._asking:
            admission = self._door.admit_to(pim_url, tenant.name, address, key)
            # One question for all who ask at once; shielded below, so that one who leaves disturbs no other.
            queue = self._questions.place((address, pim_url)) if admission.must_queue else nullcontext()
            asking = self._ask(key, admission, queue, tenant, pim_url, token, client_id)
            self._asking[key] = asyncio.ensure_future(asking)
        return await asyncio.shield(self._asking[key])

    async def _ask(
        self,
        key: bytes,
        admission: Admission,
        queue: AbstractAsyncContextManager[None],
        tenant: Tenant,
        pim_url: str,
        token: str,
        client_id: str,
    ) -> Verdict:
        try:
            async with queue:
                verdict = await self._answer_of(tenant, pim_url, token, client_id)
            if not verdict.refusal:
                admission.proved()
            is_positive = not verdict.refusal and verdict.may_subscribe
            (self._good if is_positive else self._bad)[key] = verdict
            return verdict
        finally:
            del self._asking[key]

    async def _answer_of(self, tenant: Tenant, pim_url: str, token: str, client_id: str) -> Verdict:
        answer = await self._pim.get(tenant, pim_url, path_of_question(tenant), token)
        if tenant.auth == "probe":
            return probe_verdict(answer)
        return token_info_verdict(answer, tenant, client_id, self._lines)


def path_of_question(tenant: Tenant) -> str:
    """Returns the path at which a PIM is asked about a token. No PIM is asked about platform keys."""
    return "/api/rest/v1/channels?limit=1" if tenant.auth == "probe" else "/api/rest/v1/token-info"


def probe_verdict(answer: Answer) -> Verdict:
    """`"auth": "probe"`: a token is good when the PIM lets it in, even to a route that it may not read."""
    return Verdict() if answer.status in (200, 403) else Verdict("X-PIM-TOKEN is not valid in this PIM")


def token_info_verdict(answer: Answer, tenant: Tenant, client_id: str, lines: LineLimit) -> Verdict:
    """`"auth": "token-info"`: the token is good when the PIM says that it belongs to that client id."""
    if answer.status == 404:
        _log(lines, "pim.token_info_missing", tenant, fix='set "auth" to "platform-key" or "probe"')
    if answer.status != 200:
        return Verdict("X-PIM-TOKEN is not valid in this PIM")
    try:
        info = json_form.parse(answer.body, round_integers=True)
        owner: object = resolve_pointer(info, tenant.token_info_client_id)
    except (json_form.MalformedJson, JsonPointerException):
        _log_unusable(answer, tenant, lines)
        return Verdict("X-PIM-TOKEN could not be verified: the PIM's answer names no client id")
    if isinstance(owner, bool) or not isinstance(owner, str | int) or str(owner) != client_id:
        return Verdict("X-PIM-TOKEN belongs to another client than X-PIM-CLIENT-ID")
    allowed = not isinstance(info, dict) or info.get("event_platform", True) is not False
    return Verdict(may_subscribe=allowed)


def _log_unusable(answer: Answer, tenant: Tenant, lines: LineLimit) -> None:
    """Logs for the operator which keys were there (never values), and what to set."""
    try:
        info = json_form.parse(answer.body, round_integers=True)
    except json_form.MalformedJson:
        info = None
    found = [key[:KEY_SHOWN] for key in sorted(info)[:KEYS_SHOWN]] if isinstance(info, dict) else []
    _log(
        lines,
        "pim.token_info_without_client_id",
        tenant,
        pointer=tenant.token_info_client_id,
        keys_found=found,
        fix="set token_info_client_id to the JSON pointer of the client id",
    )


def _log(lines: LineLimit, name: str, tenant: Tenant, **fields: object) -> None:
    """Logs once a minute for each PIM of the registry: every wrong token may bring such a line."""
    if times := lines.count((name, tenant.name)):
        log.error(name, tenant=tenant.name, times=times, **fields)


def _check_platform_key(tenant: Tenant, token: str, client_id: str, now: datetime) -> Verdict:
    client = tenant.client(client_id)
    issued = client.keys_at(now) if client else []
    presented = hashlib.sha256(token.encode()).hexdigest()
    matched = [hmac.compare_digest(presented, each) for each in issued or ["0" * 64]]
    return (
        Verdict()
        if issued and any(matched)
        else Verdict("X-PIM-TOKEN is not a key issued for X-PIM-CLIENT-ID")
    )


def _triple(headers: Mapping[str, str]) -> tuple[str, str, str]:
    subject, token, client_id = (headers.get(name, "").strip() for name in HEADERS)
    missing = [name for name in HEADERS if not headers.get(name, "").strip()]
    if missing:
        raise Unauthenticated(f"missing header{'s' if len(missing) > 1 else ''}: {', '.join(missing)}")
    for name, value in zip(HEADERS, (subject, token, client_id), strict=True):
        if len(value) > LONGEST[name] or not value.isprintable():
            raise Unauthenticated(f"{name} must have at most {LONGEST[name]} printable characters")
    return subject, token, client_id


def _memory(seconds: float, clock: Clock) -> TTLCache[bytes, Verdict]:
    return TTLCache(REMEMBERED, seconds, clock.monotonic)
