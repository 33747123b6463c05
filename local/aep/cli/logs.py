"""`aep logs` and `aep status`: the log and the subscriptions of a data folder, for all clients."""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from event_platform.domain.record.logs import LogEntry, LogType
from event_platform.domain.timestamps import to_rfc3339

from ..output import echo, echo_json, fail, show
from ..store import accepted, logs, overview, times
from ..store.overview import State
from .options import DEFAULT_DATA, AsJson, Data, settings
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
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Show the log of all clients, oldest first: actions, refused calls, undelivered events.

    Example: aep logs --subscription 0199c1a1-02f4-7d8b-8e6f-5a4b3c2d1e0f --follow

    With --json one line is one entry. An entry that further events are counted in comes again with --follow.
    """
    with open_store(data) as connection:
        if subscription is not None and not logs.is_known(connection, subscription):
            fail(f"no subscription {subscription}: `aep status` lists them")

        def newest(number: int, after: float | None = None) -> list[LogEntry]:
            return logs.latest(
                connection, subscription_id=subscription, log_type=log_type, limit=number, changed_after=after
            )

        entries = newest(limit)
        _print(entries, as_json=as_json, as_table=not follow)
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
                _print(come, as_json=as_json, as_table=False)
                seen |= {entry.id: entry.occurrences for entry in come}
                last = max((entry.at.timestamp() for entry in come), default=last)


def status(data: Data = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """Show each subscription with its rate, what waits for it, what ended undelivered, and its last error.

    Example: aep status --json

    The rate is in deliveries a second. The share of attempts that succeeded in the last hour is what a
    subscription is suspended by. Delivered events are counted by a running platform at /metrics.
    """
    limits = settings().rate_limits()
    with open_store(data) as connection:
        states = overview.states(connection, times.now(connection), limits)
        to_fan_out = accepted.number_of(connection)
    if as_json:
        echo_json([_plain_state(state) for state in states])
        return
    columns = ("subscription", "destination", "PIM", "client", "status")
    columns += ("rate", "lanes", "succeeded", "queued", "retries", "ended", "last error")
    rows: list[tuple[str, ...]] = []
    for state in states:
        cells = (state.id, state.destination, state.tenant, state.client_id, state.status)
        numbers = (f"{state.rate:g}/s", str(state.lanes), _share(state))
        numbers += (str(state.queued), str(state.retries), str(state.ended))
        rows.append((*cells, *numbers, _last_error(state)))
    show(columns, rows)
    if to_fan_out:
        echo(f"{to_fan_out} accepted events wait for their deliveries to be queued")


def _print(entries: Sequence[LogEntry], *, as_json: bool, as_table: bool) -> None:
    if as_json:
        for entry in entries:
            echo_json(_plain(entry))
    elif as_table:
        show(("time", "operation", "subscription", "×", "message"), map(_cells, entries))
    else:
        for entry in entries:
            echo("  ".join(_cells(entry)))


def _cells(entry: LogEntry) -> tuple[str, ...]:
    subject = entry.subscription_id or entry.subscriber_id or ""
    text = " ".join(": ".join(filter(None, (entry.error_reason, entry.error_message))).split())
    return to_rfc3339(entry.at), entry.operation, subject, str(entry.occurrences), text


def _plain(entry: LogEntry) -> dict[str, Any]:
    plain = asdict(entry)
    del plain["owner"]
    return {"log_id": plain.pop("id"), **entry.owner._asdict(), **plain, "at": to_rfc3339(entry.at)}


def _plain_state(state: State) -> dict[str, Any]:
    at = to_rfc3339(state.last_error_at) if state.last_error_at else None
    failed_at = to_rfc3339(state.last_failure_at) if state.last_failure_at else None
    return asdict(state) | {"last_error_at": at, "last_failure_at": failed_at}


def _share(state: State) -> str:
    return "" if state.success_rate is None else f"{state.success_rate:.1%} of {state.attempts}"


def _last_error(state: State) -> str:
    """Returns the newer of the last event that was given up and the last attempt that failed."""
    error, failure = state.last_error_at, state.last_failure_at
    if failure is not None and (error is None or failure > error):
        return f"{to_rfc3339(failure)} {state.last_failure}"
    return f"{to_rfc3339(error)} {state.last_error}" if error is not None else ""
