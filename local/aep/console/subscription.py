"""The page of one subscription: how it is, what it gets, live, and all that can be done with it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from event_platform.domain.errors import Conflict, InvalidRequest, Problem
from event_platform.domain.events.entities import Entity
from event_platform.domain.kept_events import KeptQuery
from event_platform.domain.record import representations
from event_platform.domain.record.logs import LogQuery
from event_platform.domain.replays import Which
from event_platform.domain.subscriptions import REDACTED, HttpsConfig, Status, Subscription
from event_platform.domain.suspension import Count
from event_platform.domain.timestamps import to_rfc3339
from event_platform.manage import replays, subscriptions, trials
from event_platform.manage.identity import Caller
from event_platform.manage.pauses import Pauses

from ..broker.tail import Attempt
from . import views
from .answers import read_form
from .app import Site
from .forms import action, json_of
from .streams import Update

PATH = "/console/subscriptions"
LOG_SHOWN = 20
EVENTS_SHOWN = 20
TAIL_EVERY = 0.5
NUMBERS_EVERY = 5.0
"""The seconds between two updates of the tail, and of the numbers and curves."""
SPANS = {"15": "15 minutes", "60": "hour", "360": "6 hours", "1440": "24 hours"}
"""The times from which a replay may begin, in minutes ago."""


@dataclass(frozen=True, slots=True)
class Act:
    """One thing that can be done: the title of its page, what it does, and the words of its button.

    `done` is what the page of the subscription says after it.
    """

    title: str
    text: str
    button: str
    done: str = ""
    is_dangerous: bool = False
    template: str = "confirm.html"


ACTS: Mapping[str, Act] = {
    "test": Act(
        "Send a test",
        "An example of one of its event types is sent now, signed as a delivery is. It is not counted and not"
        " logged, and changes neither pace nor status. You see what was sent and what was answered.",
        "Send it",
        template="test.html",
    ),
    "explain": Act(
        "Explain an event",
        "Says whether the subscription gets an event, and which part of it says no. Nothing is sent.",
        "Explain it",
        template="explain.html",
    ),
    "suspend": Act(
        "Suspend",
        "Nothing is sent from then on. Its deliveries that wait are dropped or, if it catches up, kept for"
        " the resume. The subscriber is notified.",
        "Suspend it",
        "It is suspended.",
    ),
    "resume": Act(
        "Resume",
        "Events are delivered again from now on. The subscriber is notified.",
        "Resume it",
        "It is active again.",
        template="resume.html",
    ),
    "retry": Act(
        "Retry now",
        "The deliveries that wait for their next attempt are tried now, at the pace of the subscription. An"
        " attempt that fails uses up a retry.",
        "Retry them",
        "What waited for its next attempt is tried now.",
    ),
    "replay": Act(
        "Replay",
        "Kept events are sent again beside new ones, and carry a header that says so. The receiver may get"
        " what it has already.",
        "Start the replay",
        "The replay has started.",
        template="replay.html",
    ),
    "cancel": Act(
        "Cancel the replay",
        "No more of it is sent; what it has sent stays sent.",
        "Cancel it",
        "The replay is cancelled.",
    ),
    "url": Act(
        "Change the URL",
        "The next attempts go to the new URL, also those of deliveries that wait. If the scheme, the host or"
        " the port changes, the signing secret and the values of custom headers have to be given again.",
        "Change it",
        "The URL is changed.",
        template="url.html",
    ),
    "delete": Act(
        "Delete",
        "The subscription ends for good, and its deliveries that wait are dropped. This cannot be undone. The"
        " subscriber is notified.",
        "Delete it for good",
        is_dangerous=True,
    ),
}


def routes(site: Site) -> Sequence[Route]:
    page = _Page(site)
    one = f"{PATH}/{{id}}"
    return [
        Route(one, page.show, methods=["GET"]),
        Route(f"{one}/live", page.live, methods=["GET"]),
        Route(f"{one}/{{act}}", page.ask, methods=["GET"]),
        Route(f"{one}/{{act}}", page.act, methods=["POST"]),
    ]


Doing = Callable[[Request, Mapping[str, str]], Awaitable[Response]]


class _Page:
    def __init__(self, site: Site) -> None:
        self._site = site
        self._pauses = Pauses(site.parts.clock)
        self._doing: Mapping[str, Doing] = {
            "test": self._test,
            "explain": self._explain,
            "suspend": self._suspend,
            "resume": self._resume,
            "retry": self._retry,
            "replay": self._replay,
            "cancel": self._cancel,
            "url": self._url,
            "delete": self._delete,
        }

    async def show(self, request: Request) -> Response:
        found, caller = await self._site.records.subscription(request.path_params["id"])
        records, manage = self._site.records, self._site.parts.manage
        log = await records.log(found.owner, LogQuery(subscription_id=found.id, limit=LOG_SHOWN))
        subscriber = await manage.subscriptions.subscriber(found.owner, found.subscriber_id)
        done = ACTS.get(request.query_params.get("done", ""))
        return self._site.page(
            request,
            "subscription.html",
            subscription=found,
            subscriber=subscriber,
            config=config_lines(found),
            acts=acts_for(found),
            done=done.done if done else "",
            log=log,
            replays=await replays.list_replays(caller, found.subscriber_id, found.id, manage=manage),
            attempts=await self._kept_attempts(found),
            is_live=False,
            left_out=0,
            **await self._numbers(found),
        )

    async def live(self, request: Request) -> Any:
        found, _ = await self._site.records.subscription(request.path_params["id"])
        sessions, session = self._site.sessions, request.scope["session"]
        return self._site.streams.stream(self._updates(request, found), lambda: sessions.is_good(session))

    async def _updates(self, request: Request, subscription: Subscription) -> AsyncIterator[Update]:
        clock, tails = self._site.parts.clock, self._site.parts.queue.tails
        tail = tails.watch(subscription.id)
        try:
            shown, tail_at, numbers_at = 0, clock.monotonic(), clock.monotonic()
            while True:
                now = clock.monotonic()
                if tail.seen != shown and now - tail_at >= TAIL_EVERY:
                    shown, tail_at = tail.seen, now
                    attempts = await self._attempts(list(tail.latest)[::-1])
                    yield (
                        "attempts",
                        self._site.render(
                            request, "_attempts.html", attempts=attempts, is_live=True, left_out=tail.left_out
                        ),
                    )
                elif now - numbers_at >= NUMBERS_EVERY:
                    numbers_at = now
                    found, _ = await self._site.records.subscription(subscription.id)
                    yield (
                        "numbers",
                        self._site.render(
                            request, "_numbers.html", subscription=found, **await self._numbers(found)
                        ),
                    )
                else:
                    yield "", ""
        finally:
            tails.leave(subscription.id, tail)

    async def _numbers(self, subscription: Subscription) -> Mapping[str, Any]:
        records, parts = self._site.records, self._site.parts
        return {
            "row": await records.numbers_of(subscription.id),
            "charts": charts_of(
                subscription,
                await records.minutes_of(subscription),
                lambda at: subscription.current_rate.at(at, parts.settings.rate_limits()),
                parts.clock.now(),
            ),
        }

    async def _attempts(self, attempts: Sequence[Attempt]) -> list[dict[str, Any]]:
        known = await self._site.records.headings({each.event_no for each in attempts})
        return [attempt_shown(each, known.get(each.event_no)) for each in attempts]

    async def _kept_attempts(self, subscription: Subscription) -> list[dict[str, Any]]:
        """Returns the attempts of the last events, as far as they are kept."""
        try:
            page = await self._site.records.kept(
                KeptQuery(subscription_id=subscription.id, limit=EVENTS_SHOWN)
            )
        except Conflict:
            return []
        return views.attempts_of(page.events)

    async def ask(self, request: Request) -> Response:
        return await self._ask(request, request.query_params)

    async def _ask(
        self,
        request: Request,
        fields: Mapping[str, str],
        problem: str = "",
        status: int = 200,
        result: Mapping[str, Any] | None = None,
    ) -> Response:
        name = request.path_params["act"]
        found, _ = await self._site.records.subscription(request.path_params["id"])
        act = ACTS.get(name)
        if act is None:
            raise HTTPException(404)
        return self._site.page(
            request,
            act.template,
            status,
            act=act,
            subscription=found,
            fields=fields,
            problem=problem,
            result=result,
            **await self._choices(name, found, fields),
        )

    async def _choices(self, name: str, found: Subscription, fields: Mapping[str, str]) -> dict[str, Any]:
        """Returns what the page of an act lets a reader choose from."""
        manage = self._site.parts.manage
        if name == "explain":
            known = next((each for each in found.events if each in manage.catalog), None)
            event = {"type": known, "data": manage.catalog[known].example} if known else {}
            example = orjson.dumps(event, option=orjson.OPT_INDENT_2).decode()
            return {"event": fields.get("event") or example}
        if name == "test":
            return {"types": [each for each in found.events if each in manage.catalog]}
        if name == "resume":
            return {"keeps": self._site.parts.settings.keep > 0}
        return {"spans": SPANS}

    async def act(self, request: Request) -> Response:
        doing = self._doing.get(request.path_params["act"])
        if doing is None:
            raise HTTPException(404)
        fields = await read_form(request)
        try:
            return await doing(request, fields)
        except (InvalidRequest, Conflict) as error:
            return await self._ask(request, fields, str(error), 409 if isinstance(error, Conflict) else 400)

    def _done(self, request: Request) -> Response:
        path = f"{PATH}/{request.path_params['id']}?done={request.path_params['act']}"
        return RedirectResponse(path, 303)

    async def _named(self, request: Request) -> tuple[Caller, str, str]:
        """Returns what use cases know the subscription of a request by: client, subscriber's id, own id."""
        found, caller = await self._site.records.subscription(request.path_params["id"])
        return caller, found.subscriber_id, found.id

    async def _suspend(self, request: Request, fields: Mapping[str, str]) -> Response:
        named = await self._named(request)
        await subscriptions.suspend_subscription(
            *named,
            manage=self._site.parts.manage,
            action=action(request.url.path),
        )
        return self._done(request)

    async def _resume(self, request: Request, fields: Mapping[str, str]) -> Response:
        named = await self._named(request)
        body = {"catch_up": fields.get("catch_up") == "yes"}
        await subscriptions.resume_subscription(
            *named,
            body,
            manage=self._site.parts.manage,
            action=action(request.url.path, body),
        )
        return self._done(request)

    async def _retry(self, request: Request, fields: Mapping[str, str]) -> Response:
        named = await self._named(request)
        await replays.retry_now(*named, manage=self._site.parts.manage)
        return self._done(request)

    async def _replay(self, request: Request, fields: Mapping[str, str]) -> Response:
        named = await self._named(request)
        kept_since = await self._site.records.kept_since()
        body = replay_body(fields, self._site.parts.clock.now(), kept_since)
        await replays.start_replay(
            *named,
            body,
            manage=self._site.parts.manage,
            action=action(request.url.path, body),
        )
        return self._done(request)

    async def _cancel(self, request: Request, fields: Mapping[str, str]) -> Response:
        named = await self._named(request)
        await replays.cancel_replay(
            *named,
            fields.get("replay", ""),
            manage=self._site.parts.manage,
            action=action(request.url.path),
        )
        return self._done(request)

    async def _url(self, request: Request, fields: Mapping[str, str]) -> Response:
        found, caller = await self._site.records.subscription(request.path_params["id"])
        body = {"config": https_body(found, fields)}
        await subscriptions.change_subscription(
            caller,
            found.subscriber_id,
            found.id,
            body,
            manage=self._site.parts.manage,
            action=action(request.url.path, body),
        )
        return self._done(request)

    async def _delete(self, request: Request, fields: Mapping[str, str]) -> Response:
        named = await self._named(request)
        await subscriptions.remove_subscription(
            *named,
            manage=self._site.parts.manage,
            action=action(request.url.path),
        )
        return RedirectResponse(PATH, 303)

    async def _test(self, request: Request, fields: Mapping[str, str]) -> Response:
        named = await self._named(request)
        manage = self._site.parts.manage
        sent = await trials.send_test(
            *named,
            {"type": fields["type"]} if fields.get("type") else {},
            manage=manage,
            pauses=self._pauses,
            schema_base=f"{manage.public_url}/spec",
        )
        return await self._ask(request, fields, result=sent.shown())

    async def _explain(self, request: Request, fields: Mapping[str, str]) -> Response:
        named = await self._named(request)
        event, checks = await trials.explain(
            *named,
            json_of(fields.get("event", ""), "the event"),
            manage=self._site.parts.manage,
        )
        result = representations.explanation(event, checks)
        return await self._ask(request, fields, result=result)


def acts_for(subscription: Subscription) -> list[tuple[str, str, bool]]:
    """Returns what can be done with a subscription as it is: path, title, and whether it is dangerous."""
    match subscription.status:
        case Status.ACTIVE:
            names = ["test", "explain", "url", "retry", "replay", "suspend", "delete"]
        case Status.SUSPENDED:
            names = ["resume", "test", "explain", "url", "delete"]
        case _:
            names = ["explain", "delete"]
    if not isinstance(subscription.config, HttpsConfig):
        names = [name for name in names if name not in ("test", "url")]
    return [(name, ACTS[name].title, ACTS[name].is_dangerous) for name in names]


def config_lines(subscription: Subscription) -> list[tuple[str, str]]:
    """Returns the config as names and values, with its secrets redacted."""
    return list(_lines("", representations.config(subscription.config)))


def _lines(prefix: str, shown: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in shown.items():
        if isinstance(value, dict):
            found += _lines(f"{prefix}{name}.", value)
        else:
            found.append((prefix + name, str(value)))
    return found


def https_body(subscription: Subscription, fields: Mapping[str, str]) -> dict[str, Any]:
    """Returns the config with another URL: what is not given anew stays. Raises Conflict."""
    config = subscription.config
    if not isinstance(config, HttpsConfig):
        raise Conflict(f"the URL can be changed of https destinations, and this one is {config.type}")
    secret: dict[str, str] = {"primary": fields.get("secret") or REDACTED}
    if config.secondary_secret is not None and not fields.get("secret"):
        secret["secondary"] = REDACTED
    headers = {name: fields.get(f"header.{name}") or REDACTED for name in config.headers}
    return {"url": fields.get("url", "").strip(), "secret": secret, "headers": headers}


def replay_body(fields: Mapping[str, str], now: datetime, kept_since: datetime | None) -> dict[str, Any]:
    """Returns the body of a replay: of the last minutes, as far as events are kept, or since a time.

    Raises InvalidRequest.
    """
    minutes, since = fields.get("minutes", ""), fields.get("from", "").strip()
    if since:
        start = since
    elif minutes in SPANS:
        begin = now - timedelta(minutes=int(minutes))
        start = to_rfc3339(begin if kept_since is None else max(begin, rounded_up(kept_since)))
    else:
        raise InvalidRequest(Problem("from", "choose since when, or give a time"))
    which = Which.ALL if fields.get("which") == Which.ALL else Which.UNDELIVERED
    return {"from": start, "which": which.value}


def rounded_up(moment: datetime) -> datetime:
    """Returns a time of whole milliseconds, as times are written, that is not earlier."""
    return moment + timedelta(microseconds=-moment.microsecond % 1000)


def charts_of(
    subscription: Subscription,
    minutes: Mapping[int, Count],
    rate_at: Callable[[datetime], float],
    now: datetime,
) -> list[dict[str, Any]]:
    """Returns the curves of the last hour: attempts and success rate by minute, and the pace."""
    x = [minute * 60 for minute in minutes]
    counts = list(minutes.values())
    attempts = {
        "label": "Attempts that succeeded and failed, by minute",
        "x": x,
        "series": [
            {"label": "succeeded", "y": [each.succeeded for each in counts], "color": "b"},
            {"label": "failed", "y": [each.failed for each in counts], "color": "c"},
        ],
    }
    shares = [
        round(100 * each.succeeded / total, 1) if (total := each.succeeded + each.failed) else None
        for each in counts
    ]
    success = {
        "label": "Success rate in percent, by minute",
        "top": 100,
        "x": x,
        "series": [{"label": "success rate in %", "y": shares, "color": "b"}],
    }
    since = subscription.current_rate.since
    moments = [datetime.fromtimestamp(each, now.tzinfo) for each in x]
    pace = {
        "label": "Deliveries a second that its pace allows",
        "x": x,
        "series": [
            {
                "label": "pace/s",
                "y": [round(rate_at(each), 1) if each >= since else None for each in moments],
                "color": "a",
            }
        ],
    }
    return [attempts, success, pace] if subscription.is_paced else []


def attempt_shown(attempt: Attempt, heading: tuple[str, str, Entity | None] | None) -> dict[str, Any]:
    """Returns a row of the tail; without what the event was if it is not kept."""
    event_id, event_type, entity = heading or ("", "", None)
    return {
        "at": attempt.at,
        "event_id": event_id,
        "type": event_type,
        "entity": entity,
        "outcome": attempt.outcome,
        "status": attempt.status,
        "reason": attempt.reason,
        "milliseconds": attempt.milliseconds,
    }
