"""`aep trigger`: events at the `aep dev` that runs, and what came of them."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from event_platform.domain.words import counted

from ..output import echo
from . import dev_session, emitting
from .demo_processes import Children, StepFailed, report
from .dev_lines import said_of
from .dev_session import DevSession
from .emitting import Emitted
from .events import CloudEvent
from .management import Api, management_api

POLL_SECONDS = 0.1
OUTCOME_SECONDS = 60.0
"""The time that a trigger waits for the first answer of the app to an event."""
RATE = 50


def run_trigger(events: Iterable[CloudEvent], session: DevSession) -> int:
    """Sends the events and says what came of them; returns 0 when the app took all of them."""
    try:
        return asyncio.run(_trigger(list(events), session))
    except StepFailed as failure:
        report("trigger", failure)
        return 1


async def _trigger(events: Sequence[CloudEvent], session: DevSession) -> int:
    children = Children(Path())  # none: those of `aep dev` are not ours
    sent, lost = _shared_out(events, session)
    async with aiohttp.ClientSession() as http:
        api = await management_api(http, session.pim, session.platform, children)
        subscription = await api.call("GET", session.subscription, 200)
        if subscription["status"] == "suspended":
            await api.call("POST", f"{session.subscription}/resume", 202)
            echo("The subscription was suspended; it is resumed.")
        emitted = await _emit(sent, session)
        await _emit(lost, session, lose=1)  # changes the PIM
        if emitted.failed:
            raise StepFailed(f"not accepted: {counted(emitted.failed, 'event')}: {emitted.error}")
        found = [await _outcome(api, event["id"], subscription["id"]) for event in sent]
    if len(events) == 1:
        echo(f"{events[0]['type']}\nid {events[0]['id']}")
    outcomes = Counter(said_of(each, session.receiver) for each in found)
    if lost:
        outcomes[f"lost on the way to the platform, as --lose {session.lose} asks for"] = len(lost)
    for said, number in outcomes.items():
        echo(said if len(events) == 1 else f"{counted(number, 'event')}: {said}")
    return 0 if not lost and all(each.get("outcome") == "delivered" for each in found) else 1


def _shared_out(
    events: Sequence[CloudEvent], session: DevSession
) -> tuple[Sequence[CloudEvent], Sequence[CloudEvent]]:
    """Returns the events that are sent, and those that are lost."""
    first = dev_session.count(len(events)) + 1
    lost = [
        event for number, event in enumerate(events, first) if session.lose and number % session.lose == 0
    ]
    return [event for event in events if event not in lost], lost


async def _emit(events: Sequence[CloudEvent], session: DevSession, lose: int = 0) -> Emitted:
    return await emitting.emit(
        events, to=session.platform, key=session.ingest_key, rate=RATE, pim=session.pim, lose=lose
    )


async def _outcome(api: Api, event_id: str, subscription: str) -> Mapping[str, Any]:
    """Returns what came of an event at the subscription, once there is an answer or no more time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + OUTCOME_SECONDS
    while True:
        shown = (await api.call("GET", f"/events/{event_id}", 200))["items"][0]["subscriptions"]
        found = next(each for each in shown if each["subscription_id"] == subscription)
        is_open = found.get("outcome") == "waiting" and not found.get("attempts")
        if not is_open or loop.time() > deadline:
            return found
        await asyncio.sleep(POLL_SECONDS)
