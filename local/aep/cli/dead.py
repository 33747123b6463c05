"""`aep dead`: the deliveries that the platform's own code failed on."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from event_platform.domain.errors import NotFound
from event_platform.domain.words import counted

from ..broker import dead_letters
from ..broker.dead_letters import DeadLetter, Move
from ..control.client import control
from ..google import dead_letters as google_letters
from ..google.dead_letters import PULL_SUBSCRIPTION, Letter, Replayed
from ..output import echo, echo_json, fail, show, show_json
from ..store import times
from . import views
from .options import DEFAULT_DATA, AsJson, Data
from .stores import open_store, transaction
from .usage import Commands

dead = Commands(
    help="Dead letters: deliveries and events that the platform's own code failed on 100 times.\n\n"
    "Example: aep dead list",
)

Ids = Annotated[
    list[str] | None, typer.Argument(metavar="[ID]...", help="Ids, as `aep dead list` shows them.")
]
All = Annotated[bool, typer.Option("--all", help="All that there are now.")]
Google = Annotated[
    str | None,
    typer.Option("--google", metavar="PROJECT", help="Those of a Google Cloud project instead."),
]
PullSubscription = Annotated[
    str, typer.Option(metavar="NAME", help="With --google: the pull subscription of the dead letters' topic.")
]
MOST_DIGITS = 19


@dead.command("list")
def list_dead(
    data: Data = DEFAULT_DATA,
    google: Google = None,
    pull_subscription: PullSubscription = PULL_SUBSCRIPTION,
    as_json: AsJson = False,
) -> None:
    """List the dead letters, oldest first, with the error of each.

    Example: aep dead list --json

    Shown are the id for `replay` and `drop`, since when it lies there, the subscription ("all of the PIM" for
    an event that is not matched yet), the requests that were sent before, the event with its type, and the
    error of our own code that came last. With --google these are messages of any topic; while they are read
    nobody else gets them.
    """
    if google is not None:
        _list_google(google, pull_subscription, as_json=as_json)
        return
    with open_store(data) as connection:
        letters = dead_letters.listed(connection)
        if as_json:
            show_json(map(_plain, letters))
        else:
            show(views.DEAD_LETTERS, map(views.dead_letter_item, letters), empty=views.NO_DEAD_LETTERS)


@dead.command("replay")
def replay(
    ids: Ids = None,
    every: All = False,
    data: Data = DEFAULT_DATA,
    google: Google = None,
    pull_subscription: PullSubscription = PULL_SUBSCRIPTION,
    as_json: AsJson = False,
) -> None:
    """Put dead letters back on the queue: a running platform takes them up at once.

    Example: aep dead replay 4711 4712

    Do it when what failed is mended. One that is older than AEP_MAX_AGE, or whose subscription was
    suspended or deleted since, then ends with a log entry. With --google each goes to the topic that it came
    from; one that does not tell stays, and the status is 1.
    """
    if google is not None:
        _replay_google(google, pull_subscription, _asked(ids, every=every), as_json=as_json)
        return
    _change("replay", dead_letters.replay_some, "replayed", ids, data, every=every, as_json=as_json)


@dead.command("drop")
def drop(ids: Ids = None, every: All = False, data: Data = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """Give dead letters up: each is counted in a log entry of its subscription, if it has one, and goes.

    Example: aep dead drop --all
    """
    _change("drop", dead_letters.drop_some, "dropped", ids, data, every=every, as_json=as_json)


def _change(
    verb: str, job: Move, done: str, ids: list[str] | None, data: Path, *, every: bool, as_json: bool
) -> None:
    numbers = [_number(each) for each in _asked(ids, every=every)]
    number = 0
    with open_store(data) as connection, control(data) as platform:
        try:
            chosen = dead_letters.chosen(connection, numbers)
        except NotFound as error:
            fail(str(error))
        for piece in dead_letters.pieces(chosen):
            if platform is not None:
                number += platform.call("POST", ("dead-letters", verb), {"ids": piece})["moved"]
                continue
            with transaction(connection):
                number += job(connection, piece, times.now(connection))
    if as_json:
        echo_json({done: number})
    else:
        echo(_counted(done, number))


def _list_google(project: str, name: str, *, as_json: bool) -> None:
    async def read() -> Sequence[Letter]:
        async with google_letters.opened(project, name) as opened:
            return opened.letters

    letters = asyncio.run(read())
    if as_json:
        echo_json([_plain_google(letter) for letter in letters])
    else:
        show(views.MESSAGES, map(views.message_item, letters), empty=views.NO_DEAD_LETTERS)


def _replay_google(project: str, name: str, ids: Sequence[str], *, as_json: bool) -> None:
    async def work() -> Replayed:
        async with google_letters.opened(project, name) as opened:
            return await opened.replay(opened.chosen(ids))

    try:
        done = asyncio.run(work())
    except NotFound as error:
        fail(str(error))
    if as_json:
        echo_json({"replayed": done.replayed, "left": done.left})
    else:
        echo(_counted("replayed", done.replayed))
    for letter_id, reason in done.left.items():
        echo(f"aep: dead letter {letter_id} stays: {reason}", err=True)
    if done.left:
        raise SystemExit(1)


def _asked(ids: Sequence[str] | None, *, every: bool) -> Sequence[str]:
    """Returns the ids; none with --all."""
    if every == bool(ids):
        fail("give the ids of dead letters, or --all; `aep dead list` shows them")
    return ids or ()


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < MOST_DIGITS):
        fail(f"no dead letter {text}: ids are numbers, as `aep dead list` shows them")
    return int(text)


def _counted(done: str, number: int) -> str:
    return (
        f"{done.capitalize()} {counted(number, 'dead letter')}." if number else "There are no dead letters."
    )


def _plain(letter: DeadLetter) -> dict[str, Any]:
    plain = asdict(letter)
    del plain["event_no"], plain["subscription_no"]
    plain["subscription_id"] = letter.subscription_id or None
    return plain | {"at": views.moment_of(letter.at), "accepted_at": views.moment_of(letter.accepted_at)}


def _plain_google(letter: Letter) -> dict[str, str]:
    return {
        "id": letter.id,
        "at": views.moment(letter.at),
        "from": letter.origin,
        "subscription_id": letter.subscription_id,
        "event_id": letter.event_id,
        "error": letter.reason,
    }
