"""`aep logs` and `aep status`: the log and the subscriptions of a data folder, for all clients."""

import asyncio
import contextlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from event_platform.domain.errors import NotFound
from event_platform.domain.record.logs import LogEntry, LogType
from event_platform.domain.timestamps import to_rfc3339
from event_platform.domain.words import counted

from ..google import overview as on_google
from ..output import echo, echo_json, fail, show, show_json
from ..store import accepted, logs, overview, times
from ..store.overview import State
from . import views
from .options import DEFAULT_DATA, AsJson, Data, Google, settings
from .stores import open_store

POLL_SECONDS = 1.0
MOST_AT_ONCE = 10_000

Limit = Annotated[
    int, typer.Option("--limit", min=1, max=MOST_AT_ONCE, help="So many of the newest entries.")
]


def list_logs(
    subscription: Annotated[
        str | None, typer.Option("--subscription", metavar="ID", help="Of this subscription only.")
    ] = None,
    log_type: Annotated[LogType | None, typer.Option("--type", help="Of this type only.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what comes, until Ctrl-C.")] = False,
    limit: Limit = 50,
    google: Google = None,
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Show the log of all clients, oldest first: actions, refused calls, undelivered events.

    Example: aep logs --subscription 0199c1a1-02f4-7d8b-8e6f-5a4b3c2d1e0f --follow

    Shown are the time of an entry (the latest, where several are counted in one), what was done or refused,
    how often, the subscription or else the subscriber that it is about, and the reason. With --json one line
    is one entry. An entry that further events are counted in comes again with --follow. With --google it is
    the log of the clients that have a subscriber, and --follow is not possible.
    """
    is_chosen = subscription is not None or log_type is not None
    empty = "The log has no such entry." if is_chosen else "The log has no entry yet."
    if google is not None:
        if follow:
            fail("--follow goes on with the log of a data folder: leave it out with --google")
        _print(_latest_on_google(google, subscription, log_type, limit), empty, as_json=as_json)
        return
    with open_store(data) as connection:
        if subscription is not None and not logs.is_known(connection, subscription):
            fail(f"no subscription {subscription}: `aep status` lists them")

        def newest(number: int, after: float | None = None) -> list[LogEntry]:
            return logs.latest(
                connection, subscription_id=subscription, log_type=log_type, limit=number, changed_after=after
            )

        entries = newest(limit)
        _print(entries, empty, as_json=as_json, has_header=not follow)
        with contextlib.suppress(KeyboardInterrupt):
            seen = {entry.id: entry.occurrences for entry in entries}
            last = max((entry.at.timestamp() for entry in entries), default=0.0)
            while follow:
                time.sleep(POLL_SECONDS)
                # What is committed late may be a little older than what was seen.
                come = [
                    entry
                    for entry in newest(MOST_AT_ONCE, last - 10)
                    if seen.get(entry.id) != entry.occurrences
                ]
                _print(come, as_json=as_json, has_header=False)
                seen |= {entry.id: entry.occurrences for entry in come}
                last = max((entry.at.timestamp() for entry in come), default=last)


def status(google: Google = None, data: Data = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """Show each subscription: its state, the last hour, what waits and since when, its last failure.

    Example: aep status --json

    Shown are the subscription's id, its subscriber's name and its state; the attempts of the last hour that
    delivered and that failed (up to 10 s late, at the destination that it has now); the deliveries that wait
    and when the oldest was accepted, how many of them wait for a retry; the PIM and the client that own it,
    the destination, the event types (Akeneo's without com.akeneo.pim.v1), the rate in deliveries a second,
    what ended undelivered in 30 days, and the last attempt that failed or event that was given up, with the
    reason. A running platform counts all that it delivers at /metrics. With --google it is not known how many
    deliveries wait in lanes, nor which attempt failed last.
    """
    limits = settings().rate_limits()
    if google is not None:
        found = asyncio.run(on_google.states(google, limits, datetime.now(UTC)))
        _print_states(found, as_json=as_json)
        return
    with open_store(data) as connection:
        _print_states(overview.states(connection, times.now(connection), limits), as_json=as_json)
        if as_json:
            return
        to_fan_out = accepted.number_of(connection)
    if to_fan_out:
        waits = "waits" if to_fan_out == 1 else "wait"
        echo(f"{counted(to_fan_out, 'accepted event')} {waits} for deliveries to be queued")


def _latest_on_google(
    project: str, subscription: str | None, log_type: LogType | None, limit: int
) -> Sequence[LogEntry]:
    try:
        return asyncio.run(
            on_google.latest(project, subscription_id=subscription, log_type=log_type, limit=limit)
        )
    except NotFound as error:
        fail(str(error))


def _print_states(states: Iterable[State], *, as_json: bool) -> None:
    if as_json:
        show_json(map(_plain_state, states))
    else:
        show(views.SUBSCRIPTIONS, map(views.subscription_item, states), empty=views.NO_SUBSCRIPTIONS)


def _print(entries: Sequence[LogEntry], empty: str = "", *, as_json: bool, has_header: bool = True) -> None:
    if as_json:
        for entry in entries:
            echo_json(_plain(entry))
    elif entries or has_header:
        show(views.LOG, map(views.log_item, entries), empty=empty, has_header=has_header)


def _plain(entry: LogEntry) -> dict[str, Any]:
    plain = asdict(entry)
    del plain["owner"]
    return {"log_id": plain.pop("id"), **entry.owner._asdict(), **plain, "at": to_rfc3339(entry.at)}


def _plain_state(state: State) -> dict[str, Any]:
    plain = asdict(state)
    for name in ("subscriber_name", "events", "delivered", "failed", "waiting_since"):
        del plain[name]
    at = to_rfc3339(state.last_error_at) if state.last_error_at else None
    failed_at = to_rfc3339(state.last_failure_at) if state.last_failure_at else None
    return plain | {"last_error_at": at, "last_failure_at": failed_at}
