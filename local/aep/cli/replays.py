"""`aep replay` and `aep retry`: kept events again, and retries now, for the operator of a data folder."""

import asyncio
import contextlib
import sqlite3
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import orjson
import typer
import uuid_utils
from rich.progress import BarColumn, Progress, TextColumn

from event_platform.documents import subscription_of
from event_platform.domain.errors import InvalidRequest, NotFound
from event_platform.domain.record import representations
from event_platform.domain.record.actions import BY_THE_OPERATOR
from event_platform.domain.replays import Replay, ReplayRequest, ReplayStatus, Which, check_active
from event_platform.domain.subscriptions import Subscription
from event_platform.domain.timestamps import normalise_rfc3339, to_rfc3339
from event_platform.domain.words import counted

from ..broker.replays import start_in
from ..control.client import control
from ..google.replaying import replayed
from ..output import console, echo, echo_json, fail
from ..store import keys, replays, times
from ..store.retries import MADE_DUE, Search, make_due, subscription_no
from .options import DEFAULT_DATA, AsJson, Data, Google, VersionBuckets, settings
from .stores import open_store, transaction

POLL_SECONDS = 0.5

SubscriptionId = Annotated[str, typer.Argument(metavar="SUBSCRIPTION", help="The subscription's id.")]
From = Annotated[str, typer.Option("--from", metavar="TIME", help="Events accepted at or after this time.")]
To = Annotated[
    str | None, typer.Option("--to", metavar="TIME", help="Events accepted before this time; now without it.")
]
Chosen = Annotated[Which, typer.Option("--which", help="Those that were not delivered, or all that match.")]


def replay(
    subscription: SubscriptionId,
    since: From,
    until: To = None,
    which: Chosen = Which.UNDELIVERED,
    google: Google = None,
    version_buckets: VersionBuckets = 1,
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Send kept events to a subscription again, beside new ones, and show how far it is.

    Example: aep replay 0199c1a1-02f4-7d8b-8e6f-5a4b3c2d1e0f --from 2026-11-30T10:00:00Z

    Without a running platform the next one sends them. Ctrl-C ends this command, not the replay.
    With --google --which must be all, it starts within a minute, and it is done when all is in the lanes.
    """
    asked = ReplayRequest(_time("--from", since), _time("--to", until) if until else None, which=which)
    if google is not None:
        _print(_replayed_on_google(google, subscription, asked, version_buckets), as_json=as_json)
        return
    with open_store(data) as connection:
        try:
            replay_id = _started(connection, data, subscription, asked)
        except InvalidRequest as error:  # its fields are the options
            fail("; ".join(f"--{problem.field} {problem.message}" for problem in error.problems), 1)
        with contextlib.suppress(KeyboardInterrupt):
            _follow(connection, replay_id)
        row = replays.by_id(connection, replay_id)
    assert row is not None  # noqa: S101 - it was started above
    _print(replays.replay_of(row, subscription), as_json=as_json)


def _print(ended: Replay, *, as_json: bool) -> None:
    if as_json:
        echo_json(representations.replay(ended))
        return
    number = "" if ended.events is None else f" of {counted(ended.events, 'event')}"
    reason = f" ({ended.reason})" if ended.reason else ""
    echo(
        f"Replay {ended.id} is {ended.status}{reason}:{number} {ended.delivered} delivered,"
        f" {ended.ended} ended undelivered."
    )


def retry(subscription: SubscriptionId, data: Data = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """Have the deliveries that wait for their next attempt tried now, at the subscription's rate.

    Example: aep retry 0199c1a1-02f4-7d8b-8e6f-5a4b3c2d1e0f

    Without a running platform the next one tries them.
    """
    total, is_running = _retried(data, subscription)
    if as_json:
        echo_json({"retries": total})
    elif total:
        when = "now" if is_running else "by the platform that runs here next"
        echo(f"{counted(total, 'delivery')} {'is' if total == 1 else 'are'} tried {when}.")
    else:
        echo("Nothing waits for its next attempt.")


def _started(connection: sqlite3.Connection, data: Path, subscription_id: str, asked: ReplayRequest) -> str:
    """Starts a replay, through the platform if one runs; returns its id."""
    with control(data) as platform:
        if platform is not None:
            return platform.call("POST", ("subscriptions", subscription_id, "replays"), _body(asked))["id"]
    if settings().keep == 0:
        fail("no events are kept, so none can be sent again: AEP_KEEP is 0")
    found = _subscription(connection, data, subscription_id)
    started = Replay(str(uuid_utils.uuid7()), found.id, asked, times.now(connection))
    with transaction(connection):
        start_in(connection, found, started, BY_THE_OPERATOR)
    return started.id


def _replayed_on_google(project: str, subscription_id: str, asked: ReplayRequest, buckets: int) -> Replay:
    """Starts a replay in a project and shows a bar until it has ended."""
    with _progress() as progress:
        bar = progress.add_task("reading", total=None)

        def show(replay: Replay) -> None:
            done = replay.delivered + replay.ended
            doing = "reading" if replay.events is None else f"sending: {done} of {replay.events} so far"
            progress.update(bar, description=doing, total=replay.events, completed=done)

        try:
            return asyncio.run(replayed(project, subscription_id, asked, buckets=buckets, show=show))
        except NotFound as error:
            fail(str(error))


def _body(asked: ReplayRequest) -> dict[str, str]:
    body = {"which": asked.which.value}
    for name, at in (("from", asked.since), ("to", asked.until)):
        if at is not None:
            body[name] = to_rfc3339(at)
    return body


def _retried(data: Path, subscription_id: str) -> tuple[int, bool]:
    """Makes the waiting deliveries due, through the platform if one runs.

    Returns their number, and whether one runs.
    """
    with control(data) as platform:
        if platform is not None:
            return platform.call("POST", ("subscriptions", subscription_id, "retries"))["retries"], True
    with open_store(data) as connection:
        check_active(_subscription(connection, data, subscription_id), "retry")
        number, now = subscription_no(connection, subscription_id), times.now(connection).timestamp()
        assert number is not None  # noqa: S101 - it was found above
        search, total = Search(number, now), 0
        while search.after is not None:
            found = search.step(connection)
            for start in range(0, len(found), MADE_DUE):
                with transaction(connection):
                    total += make_due(connection, found[start : start + MADE_DUE], now)
    return total, False


def _time(option: str, text: str) -> datetime:
    try:
        return datetime.fromisoformat(normalise_rfc3339(text)).astimezone(UTC)
    except ValueError as error:
        fail(f"{option} {text}: {error}")


def _subscription(connection: sqlite3.Connection, data: Path, subscription_id: str) -> Subscription:
    row = connection.execute("SELECT document FROM subscriptions WHERE id = ?", (subscription_id,)).fetchone()
    if row is None:
        fail(f"no subscription {subscription_id}: `aep status` lists them")
    return subscription_of(orjson.loads(row[0]), keys.load(data, settings().secrets_key))


def _follow(connection: sqlite3.Connection, replay_id: str) -> None:
    """Shows a bar until the replay has ended: what was delivered or ended, of what was read so far."""
    with _progress() as progress:
        bar = progress.add_task("reading", total=None)
        while (
            row := replays.by_id(connection, replay_id)
        ) is not None and row.status == ReplayStatus.RUNNING:
            done = row.delivered + row.ended
            doing = "sending" if row.is_read else "reading"
            progress.update(bar, description=f"{doing}: {done} of {row.sent}", total=row.sent, completed=done)
            time.sleep(POLL_SECONDS)


def _progress() -> Progress:
    columns = TextColumn("{task.description}"), BarColumn()
    return Progress(*columns, console=console(err=True), transient=True)
