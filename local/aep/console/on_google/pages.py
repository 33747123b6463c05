"""The pages of a project that differ from those of one machine."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import structlog
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from event_platform.domain.errors import Conflict, InvalidRequest, NotFound, Problem
from event_platform.domain.record.logs import LogQuery
from event_platform.domain.replays import ReplayRequest, Which
from event_platform.domain.subscriptions import Status, Subscription
from event_platform.domain.timestamps import normalise_rfc3339
from event_platform.domain.words import counted

from ...google.cloud_log import quoted
from .. import operations, subscription, subscriptions
from ..answers import read_form
from ..app import Shell
from ..records import DEAD_LISTED
from . import links
from .records import SORTS, ProjectRecords, row_of

log = structlog.get_logger()

MENU: Mapping[str, str] = {
    "/console": "Overview",
    "/console/subscriptions": "Subscriptions",
    "/console/pims": "PIMs",
    "/console/dead": "Dead letters",
    "/console/log": "Log",
}
ID_CHARACTERS = 64
UNREADABLE_SHOWN = 20
REPLAY = subscription.ACTS["replay"]


def routes(site: Shell, records: ProjectRecords) -> Sequence[Route]:
    page = _Page(site, records)
    one = f"{subscription.PATH}/{{id}}"
    return [
        Route("/console", page.overview, methods=["GET"]),
        Route(subscriptions.PATH, page.subscriptions, methods=["GET"]),
        Route(one, page.subscription, methods=["GET"]),
        Route(f"{one}/replay", page.ask_replay, methods=["GET"]),
        Route(f"{one}/replay", page.replay, methods=["POST"]),
        Route("/console/dead", page.dead, methods=["GET"]),
        Route("/console/dead/replay", page.ask_dead, methods=["GET"]),
        Route("/console/dead/replay", page.replay_dead, methods=["POST"]),
        Route("/console/log", page.log, methods=["GET"]),
    ]


class _Page:
    def __init__(self, site: Shell, records: ProjectRecords) -> None:
        self._site = site
        self._records = records

    async def overview(self, request: Request) -> Response:
        project = self._records.project
        by_status = await self._records.by_status()
        entries = await self._records.registry()
        return self._site.page(
            request,
            "google_overview.html",
            by_status=by_status,
            suspended=by_status[Status.SUSPENDED],
            pims=sum(each.tenant is not None for each in entries),
            unreadable=[each.name for each in entries if each.tenant is None][:UNREADABLE_SHOWN],
            dashboards=links.dashboards(project),
            alerts=links.alerts(project),
            warnings=links.lines(project, "severity>=WARNING"),
            refused=links.lines(project, 'jsonPayload.event="ingest.refused"'),
        )

    async def subscriptions(self, request: Request) -> Response:
        query = subscriptions.query_of(request.query_params, SORTS)
        context = subscriptions.context_of(query, await self._records.listed(query), SORTS)
        template = "_subscriptions.html" if subscriptions.is_part(request) else "google_subscriptions.html"
        return self._site.page(request, template, **context)

    async def subscription(self, request: Request) -> Response:
        found = await self._records.one(request.path_params["id"])
        one, now = found.subscription, self._site.clock.now()
        entries, _ = await self._records.log(LogQuery(subscription_id=one.id, limit=subscription.LOG_SHOWN))
        limits = self._records.limits
        return self._site.page(
            request,
            "google_subscription.html",
            subscription=one,
            subscriber=found.subscriber,
            config=subscription.config_lines(one),
            acts=[("replay", REPLAY.title, False)] if one.status is Status.ACTIVE else [],
            done=REPLAY.done if request.query_params.get("done") == "replay" else "",
            log=entries,
            replays=found.replays,
            row=row_of(found.state),
            charts=subscription.charts_of(
                one, found.minutes, lambda at: one.current_rate.at(at, limits), now
            ),
            attempts=links.lines(self._records.project, f"jsonPayload.subscription_id={quoted(one.id)}"),
        )

    async def ask_replay(self, request: Request) -> Response:
        return await self._ask_replay(request, request.query_params)

    async def _ask_replay(
        self, request: Request, fields: Mapping[str, str], problem: str = "", status: int = 200
    ) -> Response:
        found: Subscription = (await self._records.one(request.path_params["id"])).subscription
        return self._site.page(
            request,
            "google_replay.html",
            status,
            act=REPLAY,
            subscription=found,
            fields=fields,
            problem=problem,
            spans=subscription.SPANS,
        )

    async def replay(self, request: Request) -> Response:
        fields = await read_form(request)
        subscription_id = request.path_params["id"]
        try:
            asked = request_of(fields, self._site.clock.now())
            await self._records.start_replay(subscription_id, asked)
        except (InvalidRequest, Conflict) as error:
            status = 409 if isinstance(error, Conflict) else 400
            return await self._ask_replay(request, fields, str(error), status)
        return RedirectResponse(f"{subscription.PATH}/{subscription_id}?done=replay", 303)

    async def dead(self, request: Request) -> Response:
        letters = await self._records.dead_letters()
        return self._site.page(
            request,
            "google_dead.html",
            letters=letters[:DEAD_LISTED],
            number=len(letters),
        )

    async def ask_dead(self, request: Request) -> Response:
        ids = _ids(request.query_params.getlist("id"))
        return self._site.page(request, "dead_act.html", act="replay", ids=ids)

    async def replay_dead(self, request: Request) -> Response:
        ids = _ids((await read_form(request)).get("ids", "").split(","))
        if not ids:
            raise InvalidRequest(Problem("", "choose dead letters first"))
        done = await self._records.replay_dead(ids)
        log.info("console.dead_letters_moved", act="replay", letters=done.replayed)
        return self._site.page(
            request,
            "google_dead_done.html",
            done=f"{counted(done.replayed, 'dead letter')} went back to where they came from.",
            left=done.left,
        )

    async def log(self, request: Request) -> Response:
        return await operations.log_page(self._site, request, self._entries)

    async def _entries(self, query: LogQuery) -> operations.Entries:
        try:
            return await self._records.log(query)
        except NotFound:
            return [], None


def request_of(fields: Mapping[str, str], now: datetime) -> ReplayRequest:
    """Returns the replay that a form asks for: all that matched, as a project stores no arrivals.

    Raises InvalidRequest.
    """
    since = subscription.replay_body(fields, now, None)["from"]
    try:
        moment = datetime.fromisoformat(normalise_rfc3339(since)).astimezone(UTC)
    except ValueError as error:
        raise InvalidRequest(Problem("from", str(error))) from error
    return ReplayRequest(moment, which=Which.ALL)


def _ids(texts: Sequence[str]) -> list[str]:
    """Returns the ids of dead letters, DEAD_LISTED at most. Raises InvalidRequest."""
    given = [each for each in texts if each]
    if len(given) > DEAD_LISTED or any(len(each) > ID_CHARACTERS for each in given):
        raise InvalidRequest(Problem("", f"choose up to {DEAD_LISTED} dead letters of the list"))
    return given
