"""Dead letters, the log of all owners, and the health of the platform."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import orjson
import structlog
from pydantic import SecretStr
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from event_platform.domain.attempts.outcomes import Reason
from event_platform.domain.errors import InvalidRequest, NotFound, Overloaded, Problem
from event_platform.domain.events.catalog import Catalog
from event_platform.domain.record.logs import ACTIONS, ERRORS, LogEntry, LogQuery, LogType, Position
from event_platform.manage.logs import since_of, until_of
from event_platform.settings import Settings

from .answers import read_form
from .app import Shell, Site
from .records import DEAD_LISTED

log = structlog.get_logger()

LOG_PAGE = 50
DOCTOR_SECONDS = 60.0
HIDDEN = "hidden"


def routes(site: Site) -> Sequence[Route]:
    page = _Page(site)
    return [
        Route("/console/dead", page.dead, methods=["GET"]),
        Route("/console/dead/{act}", page.ask_dead, methods=["GET"]),
        Route("/console/dead/{act}", page.act_on_dead, methods=["POST"]),
        Route("/console/log", page.log, methods=["GET"]),
        Route("/console/health", page.health, methods=["GET"]),
        Route("/console/health/checks", page.checks, methods=["GET"]),
    ]


class _Page:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._checking = asyncio.Lock()

    async def dead(self, request: Request) -> Response:
        letters = await self._site.records.dead_letters()
        done = {"replayed": "They are sent again.", "dropped": "They are dropped."}
        return self._site.page(
            request,
            "dead.html",
            letters=letters,
            is_cut=len(letters) >= DEAD_LISTED,
            done=done.get(request.query_params.get("done", ""), ""),
        )

    async def ask_dead(self, request: Request) -> Response:
        ids = _ids(request.query_params.getlist("id"))
        return self._site.page(request, "dead_act.html", act=_dead_act(request), ids=ids)

    async def act_on_dead(self, request: Request) -> Response:
        act, ids = _dead_act(request), _ids((await read_form(request)).get("ids", "").split(","))
        if not ids:
            raise InvalidRequest(Problem("", "choose dead letters first"))
        move = self._site.records.replay_dead if act == "replay" else self._site.records.drop_dead
        moved = await move(ids)
        log.info("console.dead_letters_moved", act=act, letters=moved)
        return RedirectResponse(f"/console/dead?done={'replayed' if act == 'replay' else 'dropped'}", 303)

    async def log(self, request: Request) -> Response:
        return await log_page(self._site, request, self._entries)

    async def _entries(self, query: LogQuery) -> "Entries":
        if query.subscription_id is None:
            return await self._site.records.log_of_all(query)
        try:
            owner = (await self._site.records.any_subscription(query.subscription_id)).owner
        except NotFound:
            return [], None
        entries = await self._site.records.log(owner, query)
        last = entries[-1] if len(entries) == LOG_PAGE else None
        return entries, None if last is None else Position(last.at.timestamp(), last.id)

    async def health(self, request: Request) -> Response:
        parts = self._site.parts
        figures = await asyncio.to_thread(parts.measure)
        return self._site.page(
            request,
            "health.html",
            problem=parts.problem(),
            figures=figures,
            settings=settings_shown(parts.settings),
            folder=parts.folder.absolute(),
            streams=self._site.streams.number,
        )

    async def checks(self, request: Request) -> Response:
        """Runs `aep doctor` in a process of its own: some of its checks open files of the store."""
        if self._checking.locked():
            raise Overloaded("the checks run already: load the page again in some seconds", 5)
        async with self._checking:
            checks = await self._doctor()
        return self._site.page(request, "checks.html", checks=checks)

    async def _doctor(self) -> Any:
        parts = self._site.parts
        listed = [] if parts.settings.pims is None else ["--pims", parts.settings.pims]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "aep", "doctor", "--json", "--data", str(parts.folder), *listed),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(DOCTOR_SECONDS):
                output, _ = await process.communicate()
        except TimeoutError:
            raise Overloaded(f"the checks took longer than {DOCTOR_SECONDS:.0f} s", 60) from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return orjson.loads(output)


def _dead_act(request: Request) -> str:
    act: str = request.path_params["act"]
    if act not in ("replay", "drop"):
        raise HTTPException(404)
    return act


def _ids(texts: Sequence[str]) -> list[int]:
    """Returns the ids of dead letters, DEAD_LISTED at most. Raises InvalidRequest."""
    given = [each for each in texts if each]
    if len(given) > DEAD_LISTED or any(not (each.isdecimal() and len(each) < 19) for each in given):
        raise InvalidRequest(Problem("", f"choose up to {DEAD_LISTED} dead letters of the list"))
    return [int(each) for each in given]


def fields_of(parameters: Mapping[str, str]) -> Mapping[str, str]:
    """Returns the fields of the log's form, as long as they may be."""
    return {name: value.strip()[:300] for name, value in parameters.items()}


Entries = tuple[Sequence[LogEntry], Position | None]
"""Entries of the log, and where the next page begins, None if nothing is left."""


async def log_page(site: Shell, request: Request, read: Callable[[LogQuery], Awaitable[Entries]]) -> Response:
    """Shows the entries that the form asks for."""
    fields = fields_of(request.query_params)
    entries: Entries = [], None
    problem = ""
    try:
        query = query_of(fields)
    except InvalidRequest as error:
        problem = str(error)
    else:
        entries = await read(query)
    context = log_context(fields, *entries)
    return site.page(request, "log.html", 400 if problem else 200, problem=problem, **context)


def query_of(fields: Mapping[str, str]) -> LogQuery:
    """Returns the query of the log's form. What is none of its choices counts as absent.

    Raises InvalidRequest for a time that is none.
    """
    log_type, operation, reason = (fields.get(name, "") for name in ("type", "operation", "reason"))
    return LogQuery(
        log_type=LogType(log_type) if log_type in set(LogType) else None,
        operation=operation if operation in ACTIONS | ERRORS else None,
        error_reason=reason if reason in set(Reason) else None,
        subscription_id=fields.get("subscription") or None,
        since=time_of(fields, "from", since_of),
        before=time_of(fields, "to", until_of),
        limit=LOG_PAGE,
        after=_position(fields),
    )


def time_of(fields: Mapping[str, str], name: str, parse: Callable[[str], datetime]) -> datetime | None:
    """Returns the time in a field of a form; None without one. Raises InvalidRequest."""
    if not fields.get(name):
        return None
    try:
        return parse(fields[name])
    except ValueError as error:
        raise InvalidRequest(Problem(name, str(error))) from None


def log_context(
    fields: Mapping[str, str], entries: Sequence[LogEntry], after: Position | None
) -> dict[str, Any]:
    """Returns the context of a page of the log; `after` is where the next one begins."""
    older = None
    if after is not None:
        kept = {name: value for name, value in fields.items() if value and name not in ("at", "after")}
        older = f"/console/log?{urlencode({**kept, 'at': after.at, 'after': after.id})}"
    return {
        "fields": fields,
        "log": entries,
        "older": older,
        "operations": sorted(ACTIONS | ERRORS),
        "reasons": sorted(Reason),
        "types": list(LogType),
    }


def _position(fields: Mapping[str, str]) -> Position | None:
    try:
        return Position(float(fields["at"]), fields["after"])
    except (KeyError, ValueError):
        return None


def settings_shown(settings: Settings) -> list[tuple[str, str, bool]]:
    """Returns the settings as variables and values, and whether each is set; secrets are hidden."""
    found: list[tuple[str, str, bool]] = []
    for name in sorted(type(settings).model_fields):
        value = getattr(settings, name)
        found.append((f"AEP_{name.upper()}", _shown(value), name in settings.model_fields_set))
    return found


def _shown(value: Any) -> str:
    match value:
        case None | "":
            return ""
        case SecretStr():
            return HIDDEN
        case Catalog():
            return f"{len(value.types)} types"
        case str() if value.lstrip().startswith("["):
            return "a list"
        case tuple() | list():
            return ", ".join(map(str, value))
        case _:
            return str(value)
