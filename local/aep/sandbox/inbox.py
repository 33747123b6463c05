"""A receiver of deliveries and notifications: verifies them, counts them, and can play receivers in
trouble.
"""

import asyncio
import json
import math
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from itertools import count
from typing import Any

from cachetools import LRUCache
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from event_platform.domain.attempts import signatures
from event_platform.domain.events import json_form
from event_platform.domain.events.json_form import MalformedJson

IDS_REMEMBERED = 200_000
OF_A_PLATFORM = ("/api/v1", "/api/v1/{path:path}", "/ingest", "/ingest/{path:path}")
"""The paths at which a platform takes calls and events, and an inbox nothing."""
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


class Behaviour(StrEnum):
    """The parts that the inbox plays, each at a path of its name."""

    OK = "ok"
    SLOW = "slow"
    THROTTLING = "429"
    BROKEN = "500"
    MISSING = "404"
    REDIRECT = "redirect"
    FLAKY = "flaky"


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of the inbox.

    Without `secret` nothing is verified. With `secondary_secret` the second signature has to be there as
    well. `behaviour` is played at every path that names none, `delay` is the seconds of `slow`, and `flaky`
    fails the first attempt of every `every`-th event.
    """

    secret: str | None = field(default=None, repr=False)
    secondary_secret: str | None = field(default=None, repr=False)
    behaviour: Behaviour = Behaviour.OK
    delay: float = 10
    every: int = 1
    keep: int = 1000  # deliveries that can be read back


@dataclass(frozen=True, slots=True)
class Received:
    """A request that came in, and the status of its answer."""

    number: int
    path: str
    id: str | None
    type: str | None
    subject: str | None
    latency_ms: float | None  # from the event's `time`
    attempt: int
    verified: bool | None  # None: there is no secret to verify with
    duplicate: bool
    status: int
    received_at: str
    headers: dict[str, str]
    body: str


@dataclass(slots=True)
class _Known:
    """The facts that are remembered of one event at one path and subscription."""

    ordinal: int
    attempts: int = 0
    accepted: bool = False


class Inbox:
    """The last deliveries that came in, and counts of all of them."""

    def __init__(self, settings: Settings, on_received: Callable[[Received], None] | None = None) -> None:
        self.settings = settings
        self.counts: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.deliveries: deque[Received] = deque(maxlen=settings.keep)
        self._on_received = on_received
        self._numbers = count(1)
        self._ordinals: Counter[str] = Counter()
        self._known: LRUCache[tuple[str, str | None, str], _Known] = LRUCache(IDS_REMEMBERED)

    def take(self, path: str, behaviour: Behaviour, headers: dict[str, str], body: bytes) -> Received:
        """Verifies and counts one request, and decides its answer."""
        event = _event_in(body)
        event_type, event_id, subject = _text(event, "type"), _text(event, "id"), _text(event, "subject")
        if (change := _text(event, "notification_type")) is not None:  # its id is in the header only
            event_type, event_id = change, headers.get("x-correlation-id")
        known = self._recall(path, subject, event_id)
        known.attempts += 1
        verified = self._verify(headers, body)
        status = 401 if verified is False else self._status(behaviour, known)
        now = datetime.now(UTC)
        received = Received(
            number=next(self._numbers),
            path=path,
            id=event_id,
            type=event_type,
            subject=subject,
            latency_ms=_milliseconds_since(_text(event, "time"), now),
            attempt=known.attempts,
            verified=verified,
            duplicate=known.accepted,
            status=status,
            received_at=now.isoformat(),
            headers=headers,
            body=body.decode("utf-8", "replace"),
        )
        known.accepted = known.accepted or 200 <= status < 300
        self._count(received)
        return received

    def after(self, number: int) -> list[Received]:
        """Returns the remembered deliveries with a higher number, oldest first."""
        return [received for received in self.deliveries if received.number > number]

    def statistics(self) -> dict[str, Any]:
        """Returns counts of all deliveries; latencies are those of deliveries that are remembered and were
        taken.
        """
        taken = [
            received.latency_ms
            for received in self.deliveries
            if received.latency_ms is not None and 200 <= received.status < 300
        ]
        names = ("received", "accepted", "verified", "bad_signatures", "duplicates", "retried")
        return {
            **{name: self.counts[name] for name in names},
            "answered": {str(status): number for status, number in sorted(self.statuses.items())},
            "latency_ms": {"p50": percentile(taken, 50), "p99": percentile(taken, 99)},
        }

    def _recall(self, path: str, subject: str | None, event_id: str | None) -> _Known:
        """Returns the facts of the event at that path and subscription: two subscriptions may send the same
        event here.
        """
        if event_id is None:
            return _Known(ordinal=0)
        key = (path, subject, event_id)
        if key not in self._known:
            self._ordinals[path] += 1
            self._known[key] = _Known(ordinal=self._ordinals[path])
        return self._known[key]

    def _verify(self, headers: dict[str, str], body: bytes) -> bool | None:
        pairs = (
            (self.settings.secret, signatures.PRIMARY_HEADER),
            (self.settings.secondary_secret, signatures.SECONDARY_HEADER),
        )
        checks = [
            signatures.verify(body, secret, headers.get(name.lower(), ""))
            for secret, name in pairs
            if secret is not None
        ]
        return all(checks) if checks else None

    def _status(self, behaviour: Behaviour, known: _Known) -> int:
        match behaviour:
            case Behaviour.OK | Behaviour.SLOW:
                return 200
            case Behaviour.REDIRECT:
                return 302
            case Behaviour.FLAKY:
                fails = known.attempts == 1 and known.ordinal % self.settings.every == 0
                return 500 if fails else 200
            case Behaviour.THROTTLING | Behaviour.BROKEN | Behaviour.MISSING:
                return int(behaviour)

    def _count(self, received: Received) -> None:
        self.counts["received"] += 1
        self.counts["accepted"] += 200 <= received.status < 300
        self.counts["verified"] += received.verified is True
        self.counts["bad_signatures"] += received.verified is False
        self.counts["duplicates"] += received.duplicate
        self.counts["retried"] += received.attempt > 1
        self.statuses[received.status] += 1
        self.deliveries.append(received)
        if self._on_received is not None:
            self._on_received(received)


def create_app(
    settings: Settings | None = None, on_received: Callable[[Received], None] | None = None
) -> Starlette:
    """Returns the inbox as an ASGI app; `on_received` is called for each delivery before it is answered."""
    app = Starlette(
        routes=[
            Route("/_inbox/stats", _get_stats),
            Route("/_inbox/events", _get_events),
            Route("/health", _health),
            *(Route(path, _elsewhere, methods=METHODS) for path in OF_A_PLATFORM),
            Route("/{path:path}", _receive, methods=["POST"]),
        ]
    )
    app.state.inbox = Inbox(settings or Settings(), on_received)
    return app


async def _receive(request: Request) -> Response:
    inbox = _inbox(request)
    path = request.path_params["path"].strip("/")
    behaviour = Behaviour(path) if path in set(Behaviour) else inbox.settings.behaviour
    received = inbox.take(f"/{path}", behaviour, dict(request.headers), await request.body())
    if behaviour is Behaviour.SLOW and received.status == 200:
        await asyncio.sleep(inbox.settings.delay)
    headers = {"Location": "/ok"} if received.status == 302 else None
    return PlainTextResponse(f"{received.status}\n", received.status, headers)


async def _elsewhere(request: Request) -> Response:
    """Answers whoever takes the inbox for a platform, in a platform's form of errors."""
    message = (
        f"{request.url.netloc} is an inbox, which only receives deliveries; the platform is elsewhere: "
        "take the address that `aep serve` or `aep dev` printed"
    )
    return JSONResponse({"errors": [{"message": message}]}, 404)


async def _get_stats(request: Request) -> Response:
    return JSONResponse(_inbox(request).statistics())


async def _get_events(request: Request) -> Response:
    after = request.query_params.get("after", "0")
    if not (after.isascii() and after.isdigit()):
        return JSONResponse({"message": "after: the number of the last delivery that you have, or 0"}, 400)
    return StreamingResponse(_as_list(_inbox(request).after(int(after))), media_type="application/json")


async def _as_list(found: Sequence[Received]) -> AsyncIterator[bytes]:
    """Yields a JSON list in pieces: in one piece it may be more than the server holds for a client."""
    for number, received in enumerate(found):
        yield (b"," if number else b"[") + json.dumps(asdict(received)).encode()
    yield b"]" if found else b"[]"


async def _health(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


def _inbox(request: Request) -> Inbox:
    return request.app.state.inbox


def percentile(values: Iterable[float], percent: float) -> float | None:
    """Returns the nearest-rank percentile; None for no values."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else None


def _event_in(body: bytes) -> dict[str, Any]:
    """Returns the CloudEvent of a body, or the notification; empty for anything else."""
    try:
        event = json_form.parse(
            body, round_integers=True
        )  # also what orjson refuses: half of a surrogate pair
    except MalformedJson:
        return {}
    return event if isinstance(event, dict) else {}


def _text(event: dict[str, Any], key: str) -> str | None:
    value = event.get(key)
    return value if isinstance(value, str) else None


def _milliseconds_since(time: str | None, now: datetime) -> float | None:
    try:
        moment = datetime.fromisoformat(time or "")
    except ValueError:
        return None
    return round((now - moment).total_seconds() * 1000, 1) if moment.tzinfo else None
