"""The contexts of pages: pure functions from what was read to what a template shows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

from event_platform.domain.feeds import ResourceName, ResourceState, problem_of
from event_platform.domain.kept_events import CourseStatus, KeptEvent
from event_platform.domain.subscriptions import Status
from event_platform.domain.tenants import PimClient, Tenant, Way
from event_platform.domain.words import counted

from ..runtime.gaps import silent_for
from ..runtime.meters import CallKey, LastCalls, Meters
from ..serving.samples import Period, Samples
from .pages import seconds as span

NAMED = 10
"""The PIMs that the overview names for one thing that is wrong; of more it says the number."""
ON_A_PAGE = 50
"""The PIMs, or the clients of one, on a page."""
OLD_SECONDS = 300.0
"""The age of an event that waits from which that is worth a sentence, while it is no retry."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PageOf(Generic[T]):
    """The rows of one page of a list of `number` rows, from its row `first` on, counted from 1.

    `before` and `after` are the URLs of the pages around it, None where there is none.
    """

    rows: Sequence[T]
    first: int
    number: int
    before: str | None
    after: str | None

    @property
    def last(self) -> int:
        return self.first + len(self.rows) - 1


def page_of(found: Sequence[T], page: str, path: str, kept: Mapping[str, str]) -> PageOf[T]:
    """Returns the page of that number, which begin with 0; `kept` is the rest of its URL's query."""

    def url(number: int) -> str:
        return f"{path}?{urlencode({**kept, 'page': number})}"

    number = page_number(page)
    begin = number * ON_A_PAGE
    return PageOf(
        found[begin : begin + ON_A_PAGE],
        begin + 1,
        len(found),
        url(number - 1) if number else None,
        url(number + 1) if begin + ON_A_PAGE < len(found) else None,
    )


def page_number(text: str) -> int:
    """Returns the number of a page in a URL; what is none counts as the first."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else 0


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing that is wrong, in a sentence, with the page of the console to go to.

    `docs` is the part of the documentation that says what to do. `is_bad` tells what needs somebody now from
    what should be looked at.
    """

    sentence: str
    link: str
    docs: str
    is_bad: bool = True


def remarks(
    *,
    problem: object | None,
    by_status: Mapping[Status, int],
    meters: Meters,
    oldest: float,
    silent: Sequence[Mapping[str, Any]],
    refused: Sequence[Mapping[str, Any]],
    lead: float,
) -> list[Remark]:
    """Returns what is wrong now, the worst first; `oldest` is the age of the oldest event that waits."""
    found: list[Remark] = []
    if problem is not None:
        found.append(
            Remark(
                f"No event is taken in: {problem}.",
                "/console/health",
                docs="run-on-one-server.md#look-after-it",
            )
        )
    if meters.dead_letters + meters.dead_events:
        number = meters.dead_letters + meters.dead_events
        found.append(
            Remark(
                f"The platform's own code failed on {counted(number, 'message')}, now dead letters.",
                "/console/dead",
                docs="run-on-one-server.md#look-after-it",
            )
        )
    if suspended := by_status.get(Status.SUSPENDED, 0):
        is_are = "is" if suspended == 1 else "are"
        found.append(
            Remark(
                f"{counted(suspended, 'subscription')} {is_are} suspended: nothing is sent to"
                f" {'it' if suspended == 1 else 'them'}.",
                "/console/subscriptions?status=suspended",
                docs="suspension.md#what-to-do",
            )
        )
    found += [
        Remark(
            f"A call of {each['pim'] or 'nobody known'} was refused last, by {each['way']}:"
            f" {each['status']} {each['reason']}.",
            "/console/pims",
            docs="connect-a-pim.md#what-is-refused",
        )
        for each in refused[:NAMED]
    ]
    if (more := len(refused) - NAMED) > 0:
        sentence = f"The last call of {counted(more, 'more way')} of PIMs was refused, too."
        found.append(Remark(sentence, "/console/pims", docs="connect-a-pim.md#what-is-refused"))
    found += [
        Remark(
            f"{each['pim']} has been silent for {span(each['silent_for'])}; usually events come every"
            f" {span(each['usual'])}.",
            "/console/pims",
            is_bad=False,
            docs="connect-a-pim.md#what-to-know",
        )
        for each in silent[:NAMED]
    ]
    if (more := len(silent) - NAMED) > 0:
        sentence = f"{counted(more, 'more PIM')} {'has' if more == 1 else 'have'} been silent, too."
        found.append(Remark(sentence, "/console/pims", is_bad=False, docs="connect-a-pim.md#what-to-know"))
    if oldest > OLD_SECONDS and meters.queued > meters.retries:
        found.append(
            Remark(
                "Deliveries wait for their receivers' pace.",
                "/console/subscriptions?sort=waiting",
                is_bad=False,
                docs="throughput.md",
            )
        )
    if abs(lead) > 1:
        found.append(
            Remark(
                "The clock of this machine was set back; the platform goes on with its own until it has"
                " caught up.",
                "/console/health",
                is_bad=False,
                docs="run-on-one-server.md#the-clock",
            )
        )
    return found


def refused_now(calls: Mapping[CallKey, LastCalls], known: Iterable[Tenant]) -> list[dict[str, Any]]:
    """Returns the ways of known PIMs by which the last call was refused."""
    names = {tenant.name for tenant in known}
    return [
        {"pim": name, "way": way.value, "status": last.status, "reason": last.reason}
        for (name, way), last in calls.items()
        if last.is_refused_now and name in names
    ]


def silent(meters: Meters, known: Iterable[Tenant], now: datetime) -> list[dict[str, Any]]:
    """Returns the PIMs that have been silent for much longer than usual, the longest first."""
    found: list[dict[str, Any]] = []
    at = now.timestamp()
    for name in (tenant.name for tenant in known):
        passed = silent_for(meters.gaps, name, meters.last_taken(name), at)
        if passed is not None:
            found.append({"pim": name, "silent_for": passed, "usual": meters.gaps[name].median(at)})
    return sorted(found, key=lambda each: -each["silent_for"])


def tiles(samples: Samples, meters: Meters, oldest: float) -> dict[str, Any]:
    """Returns the figures of the overview: of now, and of the last hour."""
    return {
        "current": samples.now(),
        "hour": samples.hour(),
        "waiting": max(0, meters.queued),
        "to_fan_out": max(0, meters.events_to_fan_out),
        "retries": max(0, meters.retries),
        "dead": max(0, meters.dead_letters + meters.dead_events),
        "oldest": oldest,
    }


def chart_of(minutes: Sequence[Period]) -> dict[str, Any]:
    """Returns the series of the overview's curve, one point a minute."""
    return {
        "label": "Events accepted, deliveries and failed attempts a second",
        "x": [round(each.at) for each in minutes],
        "series": [
            {"label": "accepted/s", "y": [round(each.accepted, 2) for each in minutes], "color": "a"},
            {"label": "delivered/s", "y": [round(each.delivered, 2) for each in minutes], "color": "b"},
            {"label": "failed/s", "y": [round(each.failed, 2) for each in minutes], "color": "c"},
        ],
    }


def ways_of(tenant: Tenant, calls: Mapping[CallKey, LastCalls], base: str) -> list[dict[str, Any]]:
    """Returns the ways by which a PIM's events come in, each with its URL and its last calls."""
    if tenant.url is None:
        return []
    paths = {
        Way.CLOUDEVENTS: ("CloudEvents, by its ingest key", "/ingest", bool(tenant.ingest_key)),
        Way.EVENTS_API: (
            "The PIM's own webhook (Events API)",
            f"/ingest/events-api/{tenant.key}",
            bool(tenant.events_api_secret),
        ),
        Way.RELAY: (
            "Akeneo's Event Platform (relay)",
            f"/ingest/relay/{tenant.key}",
            bool(tenant.relay_secret),
        ),
    }
    return [
        {
            "name": name,
            "url": f"{base}{path}",
            "is_open": is_open,
            "last": calls.get((tenant.name, way), LastCalls()),
        }
        for way, (name, path, is_open) in paths.items()
    ]


def attempts_of(events: Sequence[KeptEvent]) -> list[dict[str, Any]]:
    """Returns the attempts of kept events, the latest first."""
    found: list[dict[str, Any]] = []
    for event in events:
        about = {"event_id": event.id, "type": event.type, "entity": event.entity}
        for course in event.courses:
            found += [
                {
                    **about,
                    "at": each.at.timestamp(),
                    "outcome": each.outcome,
                    "status": each.status,
                    "reason": each.reason,
                    "milliseconds": each.milliseconds,
                }
                for each in course.attempts
            ]
            if course.ended_at is not None and course.outcome is CourseStatus.DELIVERED:
                found.append(
                    {
                        **about,
                        "at": course.ended_at.timestamp(),
                        "outcome": course.outcome.value,
                        "status": course.status,
                        "reason": course.reason,
                        "milliseconds": course.milliseconds,
                    }
                )
    return sorted(found, key=lambda each: -each["at"])


def feed_shown(states: Mapping[ResourceName, ResourceState]) -> list[dict[str, Any]]:
    """Returns how far the feed of a PIM is, by the resources that the PIM has; nothing without a feed."""
    return [
        {
            "resource": name.value,
            "succeeded_at": state.succeeded_at,
            "complete_to": state.cursor,
            "sent": state.sent,
            "problem": problem_of(state),
        }
        for name, state in sorted(states.items())
        if not state.missing
    ]


def client_shown(client: PimClient, now: datetime) -> dict[str, Any]:
    """Returns a client of a PIM: how many keys it has, and until when earlier ones are good."""
    return {
        "id": client.client_id,
        "username": client.username or "",
        "good_keys": len(client.keys_at(now)),
        "previous_until": [each.until for each in client.previous_keys if each.until > now],
    }
