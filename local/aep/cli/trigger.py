"""`aep trigger`: events at the `aep dev` that runs, or as if a PIM had sent them to a platform."""

import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from event_platform.domain.events import catalog
from event_platform.domain.kept_events import Course, CourseStatus, KeptEvent, KeptQuery
from event_platform.domain.urls import normalise_pim_url
from event_platform.domain.validation_words import json_words
from event_platform.domain.words import counted

from ..control.client import Control, control
from ..output import confirm, echo, fail
from ..sandbox import dev_session
from ..sandbox.events import CloudEvent, events_of
from ..store import accepted, kept_search
from . import options
from .event_files import text_of
from .stores import open_store

POLL_SECONDS = 0.2
OUTCOME_SECONDS = 60.0
"""The time that a trigger waits for the first attempt of each delivery."""


def trigger(
    event_type: Annotated[str, typer.Argument(metavar="TYPE", help="An event type of `aep events`.")],
    data: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE|-|DIR",
            help="A file, or - for standard input: the event's data, a JSON object. A folder: the data folder"
            " of the platform that gets the event, in place of `aep dev`. Both may be given.",
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="PATH=VALUE", help="A text in the data, as product.identifier=SKU-1; repeatable."
        ),
    ] = None,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="The author's identifier.")] = None,
    count: Annotated[int, typer.Option(min=1, max=1000, help="How many events.")] = 1,
    pim: Annotated[
        str | None,
        typer.Option(metavar="URL", help="With a folder: the PIM that sends it, if there are more."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="With a folder: do not ask.")] = False,
) -> None:
    """Make an event at the `aep dev` that runs, and say who gets it and what came of it.

    Example: aep trigger com.akeneo.pim.v1.product.updated --set product.identifier=SKU-1

    Exit status 0 when all who get it took it. At `aep dev` it resumes the subscription if an answer of the
    app has suspended it. With --data and the data folder of a platform that runs it asks first, as the
    subscribers there get the event.
    """
    folder, file = _shared_out(data or [])
    types = catalog.load()
    known = options.known_type(types.in_full(event_type), types)
    given = None if file is None else _data(file)
    events = list(events_of(known, count, seed=uuid.uuid4().int))
    for event in events:
        if given is not None:
            event["data"] = orjson.loads(given)
        for each in set_ or []:
            _set(event["data"], each)
        if user is not None:
            event["data"]["author"] = {"identifier": user, "type": "user"}
    for path, message in known.problems_of(events[0]["data"], first_only=True):
        field = ".".join(filter(None, ("data", path)))
        fail(f"{field}: {message}; `aep events {known.name}` shows what fits")
    if folder is not None:
        raise typer.Exit(_trigger_at(folder, events, pim, is_sure=yes))
    if pim is not None or yes:
        fail("--pim and --yes go with --data DIR, the data folder of a platform")
    from ..sandbox.triggers import run_trigger

    raise typer.Exit(run_trigger(events, dev_session.running()))


def _shared_out(paths: Sequence[Path]) -> tuple[Path | None, Path | None]:
    """Returns the platform's folder and the file of the event's data; ends the command if one comes twice."""
    folders = [path for path in paths if path.is_dir()]
    files = [path for path in paths if not path.is_dir()]
    if len(folders) > 1 or len(files) > 1:
        fail("--data takes one folder, that of a platform, and one file, with the data of the event")
    return next(iter(folders), None), next(iter(files), None)


def _data(file: Path) -> bytes:
    where = f"--data {file}"
    text = text_of(file, where)
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        fail(f"{where} must hold a JSON object, and is {json_words(error)}")
    if not isinstance(found, dict):
        fail(f"{where} must hold a JSON object, the data of an event")
    return orjson.dumps(found)


def _set(data: dict[str, Any], assignment: str) -> None:
    path, equals, value = assignment.partition("=")
    *parents, name = path.split(".")
    holder: Any = data
    for part in parents:
        holder = holder.setdefault(part, {})
        if not isinstance(holder, dict):
            fail(f"--set {assignment}: {part} is no object in the data; `aep events TYPE` shows an example")
    if not equals or not all((*parents, name)):
        fail(f"--set {assignment}: give PATH=VALUE, such as product.identifier=SKU-1")
    holder[name] = value


def _trigger_at(folder: Path, events: Sequence[CloudEvent], pim: str | None, *, is_sure: bool) -> int:
    """Has the platform that runs on the folder accept the events; returns the exit status."""
    with control(folder) as platform:
        if platform is None:
            fail(f"no platform runs on {folder}: start it with `aep serve --data {folder}`", 1)
        ways = platform.call("GET", ("events",))
        url = _pim(ways["pims"], pim)
        _ask(folder, events, url, yes=is_sure)
        _accept(platform, events, url)
    if len(events) == 1:
        echo(f"{events[0]['type']}\nid {events[0]['id']}")
    if not ways["keeps"]:
        echo("accepted; what became of it is not kept, as AEP_KEEP is 0 there: `aep logs` shows failures")
        return 0
    found = _outcomes(folder, [event["id"] for event in events])
    for said, number in Counter(each for event in found for each in _said_of(event)).items():
        echo(said if len(events) == 1 else f"{counted(number, 'event')}: {said}")
    courses = [course for event in found for course in event.courses]
    return 0 if courses and all(each.outcome is CourseStatus.DELIVERED for each in courses) else 1


def _pim(known: Sequence[str], named: str | None) -> str:
    """Returns the PIM that is to have sent the events; ends the command when that is not clear."""
    if not known:
        fail("that platform knows no PIM: `aep pims add URL` adds one", 1)
    if named is None and len(known) > 1:
        fail(f"that platform has {counted(len(known), 'PIM')}: name one with --pim, such as {known[0]}")
    try:
        url = known[0] if named is None else normalise_pim_url(named, allow_http=True)
    except ValueError as error:
        fail(f"--pim {named}: {error}")
    if url not in known:
        fail(f"--pim {named} is no PIM of that platform: `aep pims list` shows them")
    return url


def _ask(folder: Path, events: Sequence[CloudEvent], pim: str, *, yes: bool) -> None:
    what = f"{counted(len(events), 'event')} {events[0]['type']} as {pim}"
    confirm(f"Send {what} to the platform on {folder}, and so to its subscribers?", yes=yes)


def _accept(platform: Control, events: Sequence[CloudEvent], pim: str) -> None:
    platform.call("POST", ("events",), {"pim": pim, "events": list(events)})


def _outcomes(folder: Path, ids: Sequence[str]) -> Sequence[KeptEvent]:
    """Returns the events with what came of them, once each delivery was attempted or the time is over."""
    deadline = time.monotonic() + OUTCOME_SECONDS
    with open_store(folder) as connection:
        while True:
            searches = [
                kept_search.search_of_all(connection, KeptQuery(event_id=each, limit=1)) for each in ids
            ]
            found = [event for search in searches for event in search.page(connection).events]
            is_over = len(found) == len(ids) and not accepted.number_of(connection)
            if is_over and not any(map(_is_open, (course for event in found for course in event.courses))):
                return found
            if time.monotonic() > deadline:
                return found
            time.sleep(POLL_SECONDS)


def _is_open(course: Course) -> bool:
    return course.outcome is CourseStatus.WAITING and not course.attempts


def _said_of(event: KeptEvent) -> Iterator[str]:
    """Says who got an event and what came of it."""
    if not event.courses:
        yield "nobody gets it: no subscription matches"
    for course in event.courses:
        match course.outcome:
            case CourseStatus.DELIVERED:
                came = "delivered"
            case CourseStatus.WAITING if course.attempts:
                last = course.attempts[-1]
                came = f"failed ({last.status or last.reason}), and is tried again"
            case CourseStatus.WAITING:
                came = "no answer yet; `aep trace` shows it later"
            case _:
                came = f"given up ({course.status or course.reason})"
        yield f"{course.subscription_id}: {came}"
