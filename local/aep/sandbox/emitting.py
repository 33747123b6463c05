"""Sends events to a platform's ingest, as a PIM or Akeneo's Event Platform does."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import TYPE_CHECKING

import orjson

from ..errors import SetupError
from ..runtime import unanswered
from . import ingest_requests
from .events import CloudEvent
from .ingest_requests import Format, Post, Resources

if TYPE_CHECKING:
    import aiohttp

RETRY_PAUSES = (0.1, 0.3, 1.0, 2.0)
"""The seconds before an emitted request that got no answer, or a 5xx, is sent again."""


@dataclass(slots=True)
class Emitted:
    """The counts of emitted events. `error` says what the first request that failed met."""

    accepted: int = 0
    failed: int = 0
    lost: int = 0  # in requests that were left out on purpose
    retried: int = 0  # requests that were sent again
    error: str | None = None


def ingest_url(platform: str) -> str:
    """Returns the URL of ingest of a platform, given by its base URL or by that of the ingest itself."""
    base = platform.rstrip("/")
    return base if base.endswith("/ingest") else f"{base}/ingest"


async def emit(
    to_send: Iterable[CloudEvent],
    *,
    to: str,
    key: str,
    rate: float,
    format: Format = Format.STRUCTURED,  # noqa: A002 - as CloudEvents name it
    batch: int = 20,
    pauses: Iterable[float] = RETRY_PAUSES,
    pim: str | None = None,
    lose: int = 0,
    into: Emitted | None = None,
) -> Emitted:
    """Sends events to the ingest at `to`, `rate` a second whatever the answers, as a PIM does.

    `key` is the ingest key, or for `Format.EVENTS_API` and `RELAY` the secret that signs; their `to` is the
    whole URL. `batch` events go into a request of `Format.BATCH`, at most 10 of `EVENTS_API`. A request
    without an answer, or with a 5xx, is sent again with the same ids, except by the Events API; any other
    refusal is final. The catalogue of the simulated PIM at the URL `pim` changes first. Each `lose`-th
    request is not sent. Counts go to `into` while it runs. Raises SetupError when the PIM does not answer.
    """
    result = into if into is not None else Emitted()
    pauses = tuple(pauses) if format.is_sent_again else ()
    source = iter(to_send)
    loop = asyncio.get_running_loop()
    due = loop.time()
    url = to if format.place else ingest_url(to)
    import aiohttp  # here, as a server would keep it in memory for nothing

    timeout = aiohttp.ClientTimeout(total=format.patience)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as sending:
            for number in count(1):
                group = list(islice(source, format.most_events(batch)))
                if not group:
                    break
                resources = {} if pim is None else await _change(session, pim, group)
                if lose and number % lose == 0:
                    result.lost += len(group)
                else:
                    post = ingest_requests.post(group, format, key, resources)
                    sending.create_task(_send(session, url, post, pauses, result))
                due += len(group) / rate
                await asyncio.sleep(due - loop.time())
    except* SetupError as failed:
        raise failed.exceptions[0] from None
    return result


async def _change(session: "aiohttp.ClientSession", pim: str, group: Sequence[CloudEvent]) -> Resources:
    """Changes the catalogue of a simulated PIM; returns its entities by the ids of the events."""
    import aiohttp

    url = f"{pim.rstrip('/')}/_sim/changes"
    patience = aiohttp.ClientTimeout(total=ingest_requests.PATIENCE_SECONDS)
    changes = {"events": [{"type": event["type"], "data": event["data"]} for event in group]}
    try:
        async with session.post(url, json=changes, allow_redirects=False, timeout=patience) as answer:
            text = await answer.text(errors="replace")
    except (aiohttp.ClientError, TimeoutError) as error:
        raise SetupError(f"no answer from {url}: {unanswered.why(error)}. Is `aep sim` running?") from None
    try:
        resources = orjson.loads(text)["resources"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise SetupError(f"{url} answered {answer.status}: {unanswered.refusal(text)}") from None
    return {event["id"]: shown for event, shown in zip(group, resources, strict=True) if shown is not None}


async def _send(
    session: "aiohttp.ClientSession", url: str, post: Post, pauses: tuple[float, ...], result: Emitted
) -> None:
    for pause in (*pauses, None):
        answered = await _post(session, url, post)
        if answered.is_final or pause is None:
            result.accepted += answered.accepted
            result.failed += post.events - answered.accepted
            result.error = result.error or answered.error
            return
        result.retried += 1
        await asyncio.sleep(pause)


@dataclass(frozen=True, slots=True)
class _Answered:
    """The number of accepted events, the error if there was one, and whether no further request makes
    sense.
    """

    accepted: int = 0
    error: str | None = None
    is_final: bool = True


async def _post(session: "aiohttp.ClientSession", url: str, post: Post) -> _Answered:
    import aiohttp

    try:
        async with session.post(url, headers=post.headers, data=post.body, allow_redirects=False) as answer:
            text = await answer.text(errors="replace")
    except (aiohttp.ClientError, TimeoutError) as error:
        is_final = isinstance(error, aiohttp.InvalidURL)
        return _Answered(error=f"no answer from {url}: {unanswered.why(error)}", is_final=is_final)
    error = f"{url} answered {answer.status}: {unanswered.refusal(text)}"
    if answer.status != post.success:
        return _Answered(error=error, is_final=answer.status < 500)
    accepted = _accepted(text, post.events)
    return _Answered(accepted, error if accepted < post.events else None)


def _accepted(text: str, events: int) -> int:
    """Returns the number of events that were accepted, by a successful answer; 0 when it is no platform's."""
    try:
        counts = orjson.loads(text)
    except orjson.JSONDecodeError:
        return 0
    if not isinstance(counts, dict):
        return 0
    return events - counts.get("skipped", 0) - counts.get("malformed", 0)
