"""`aep pims feed`: has a PIM's REST API asked for changes, and shows how far that has come."""

import asyncio
import contextlib
import secrets
import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from pydantic import SecretStr, ValidationError

from event_platform.adapters.seal import KeylessSeal
from event_platform.documents import feed_document
from event_platform.domain.feeds import Feed, ResourceName, ResourceState, is_behind
from event_platform.domain.tenants import UnusableList
from event_platform.domain.validation_words import words_of
from event_platform.ports import Seal

from ..control.client import control
from ..errors import BadPims
from ..google import feeds as on_google
from ..google import keys as google_keys
from ..google import registry as google_registry
from ..layout import Column, Fact, Item
from ..output import echo, echo_json, fail, show
from ..store import feeds, keys, opening, tenants
from .options import DEFAULT_DATA, AsJson, Data, settings
from .registry import Project, has_registry, pim_url

COLUMNS = (
    Column("resource"),
    Column("status"),
    Column("complete to"),
    Column("last round"),
    Column("found", is_number=True),
    Column("sent", is_number=True),
    Column("skipped", is_number=True),
)


class SweepChoice(StrEnum):
    """The choices of how often to look for deletions."""

    OFF = "off"
    DAILY = "daily"


def feed(
    url: Annotated[str, typer.Argument(metavar="URL", help="The PIM's base URL.")],
    client_id: Annotated[
        str | None, typer.Option(help="The client id of the connection that the feed asks with.")
    ] = None,
    username: Annotated[str | None, typer.Option(help="The user name on that connection's page.")] = None,
    secret: Annotated[
        str | None,
        typer.Option(
            metavar="-", help="Read the connection's secret, then its password, from standard input."
        ),
    ] = None,
    resources: Annotated[
        str | None,
        typer.Option(metavar="LIST", help=f"Which to ask for: {', '.join(ResourceName)}; 'all' by default."),
    ] = None,
    every: Annotated[
        int | None, typer.Option(min=60, max=86_400, metavar="SECONDS", help="How often; 300 unless set.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="DATE", help="Begin anew with what was changed since then.")
    ] = None,
    timezone: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The time zone of the PIM's server; '' if it is not known."),
    ] = None,
    overlap: Annotated[
        int | None,
        typer.Option(
            min=0, max=86_400, metavar="SECONDS", help="How far each round looks back; 120 unless set."
        ),
    ] = None,
    settle: Annotated[
        int | None,
        typer.Option(
            min=0, max=3600, metavar="SECONDS", help="How long the webhook of a change gets; 60 unless set."
        ),
    ] = None,
    sweep: Annotated[
        SweepChoice | None, typer.Option(help="How often to look for deletions; off unless set.")
    ] = None,
    confirm_deletions: Annotated[
        bool, typer.Option("--confirm-deletions", help="Send the deletions that a sweep holds back.")
    ] = False,
    off: Annotated[
        bool, typer.Option("--off", help="Ask no more. Any other setting has it go on from where it was.")
    ] = False,
    google: Project = None,
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Ask a PIM's REST API for what its webhook does not tell, or show how far that has come.

    Example: aep pims feed https://pim.example.com

    Set up by --client-id, --username and --secret -, with a connection of the PIM that may list what is asked
    for (docs/connect-a-pim.md). Secret and password come from standard input, a line each. A running platform
    takes a change in within 5 seconds, the functions of a project within a minute; AEP_FEED_KEY, the stack's
    key, seals the secrets there.
    """
    name = pim_url(url)
    given: dict[str, Any] = {
        "client_id": client_id,
        "username": username,
        "every": every,
        "overlap": overlap,
        "settle": settle,
        "sweep": None if sweep is None else sweep.value,
    }
    update = {key: value for key, value in given.items() if value is not None}
    if timezone is not None:
        update["timezone"] = timezone or None
    if resources is not None:
        update["resources"] = _resources(resources)
    if since is not None:
        update["since"] = _date(since)
    if secret is not None:
        update |= _secrets_from_input(secret)
    if confirm_deletions:
        update["confirmed_at"] = datetime.now(UTC)  # what is held back later needs another word
    if off and update:
        fail("--off goes with no other setting")
    opened = _of_folder(data, name) if google is None else _of_project(google, name, secret is not None)
    with opened as place:
        if off or update:
            after = _changed(place, name, update, is_off=off)
            place.put(after, since is not None)
        elif place.before is None:
            fail(f"{name} has no feed: --client-id, --username and --secret - set one up")
        else:
            after = place.before
        states = place.states()
    if as_json:
        echo_json(in_json(after, states, datetime.now(UTC)))
    else:
        _print(after, states)


@dataclass(frozen=True, slots=True)
class _Place:
    """The feed of one PIM where the command works on it.

    `put` writes the settings, and has the feed begin again if its second argument is true.
    """

    before: Feed | None
    is_registered: Callable[[], bool]
    put: Callable[[Feed, bool], None]
    states: Callable[[], Mapping[ResourceName, ResourceState]]


@contextmanager
def _of_folder(data: Path, name: str) -> Iterator[_Place]:
    if not has_registry(data):
        fail(f"there is no registry in {data.absolute()}: name the platform's data folder with --data")
    seal = keys.load(data, settings().secrets_key)
    with control(data) as platform:
        if platform is not None:
            with contextlib.closing(opening.connect_to_read(data / opening.FILE)) as connection:
                version = feeds.version(connection, name)

                def change(feed: Feed, begins_again: bool) -> None:
                    after = orjson.dumps(feed_document(feed, seal)).decode()
                    body = {"before": version, "after": after, "begins_again": begins_again}
                    platform.call("POST", ("feeds",), body)

                yield _in_store(connection, name, seal, change)
            return
    with opening.beside_the_server(data) as connection:
        connection.execute("BEGIN IMMEDIATE")

        def put(feed: Feed, begins_again: bool) -> None:
            if begins_again:
                feeds.begin_again(connection, name)
            feeds.put(connection, feed, seal)

        yield _in_store(connection, name, seal, put)
        connection.execute("COMMIT")


def _in_store(
    connection: sqlite3.Connection, name: str, seal: Seal, put: Callable[[Feed, bool], None]
) -> _Place:
    keys.check(connection, seal)
    found = feeds.feed_of_tenant(connection, name, seal)
    return _Place(
        None if found is None else found.feed,
        lambda: _is_registered(connection, name),
        put,
        lambda: feeds.states(connection, name),
    )


@contextmanager
def _of_project(project: str, name: str, has_secrets: bool) -> Iterator[_Place]:
    seal = google_keys.load_feed() if has_secrets else KeylessSeal()
    before, states = asyncio.run(on_google.read(project, name))

    def put(feed: Feed, begins_again: bool) -> None:
        nonlocal states
        asyncio.run(on_google.put(project, feed, seal, begins_again=begins_again))
        states = {} if begins_again else states

    def is_registered() -> bool:
        stored = asyncio.run(google_registry.read(project, KeylessSeal()))
        return _is_listed(name) or any(entry.name == name for entry in stored)

    yield _Place(before, is_registered, put, lambda: states)


def _changed(place: _Place, name: str, update: Mapping[str, Any], *, is_off: bool) -> Feed:
    before = place.before
    if before is None:
        if not place.is_registered():
            fail(
                f"{name} is not in the registry: run `aep pims add {name}` first, or set AEP_PIMS if it is in"
                " the list that the platform is given"
            )
        missing = [
            option
            for field, option in (
                ("client_id", "--client-id"),
                ("username", "--username"),
                ("secret", "--secret -"),
            )
            if field not in update
        ]
        if missing:
            fail(f"{name} has no feed yet: {', '.join(missing)} must be given, too")
    document: dict[str, Any] = {"tenant": name} if before is None else before.model_dump()
    document |= {**update, "is_off": is_off, "version": secrets.token_hex(8)}
    try:
        return Feed.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        fail(f"--{str(first['loc'][0]).replace('_', '-')}: {words_of(first)}")


def _is_registered(connection: sqlite3.Connection, name: str) -> bool:
    return _is_listed(name) or any(entry.name == name for entry in tenants.stored_entries(connection))


def _is_listed(name: str) -> bool:
    """True if AEP_PIMS has the PIM."""
    source = settings().pims
    try:
        text = tenants.source_text(source)
        listed = [] if text is None else tenants.parse(text, source, allow_http=True)
    except (BadPims, UnusableList) as error:
        fail(str(error))
    return any(entry.name == name for entry in listed)


def _resources(text: str) -> tuple[ResourceName, ...]:
    if text == "all":
        return ()
    names = [each.strip() for each in text.split(",")]
    if unknown := [each for each in names if each not in list(ResourceName)]:
        fail(f"--resources: there is no {unknown[0]!r}; there are {', '.join(ResourceName)}, and 'all'")
    return tuple(ResourceName(each) for each in names)


def _date(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        fail("--since must be a date such as 2026-01-31, or a time such as 2026-01-31T12:00:00Z")
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _secrets_from_input(option: str) -> dict[str, SecretStr]:
    """Reads both from standard input, as every process would see them on the command line."""
    if option != "-":
        fail("--secret takes - and reads the secret and the password from standard input, a line each")
    is_asked = sys.stdin.isatty()
    read: dict[str, SecretStr] = {}
    for field, words in (("secret", "the connection's secret"), ("password", "its user's password")):
        if is_asked:
            echo(f"{words}: ", err=True, nl=False)
        text = sys.stdin.readline().strip()
        if not text:
            fail(f"--secret -: {words} is missing on standard input, where each is a line")
        read[field] = SecretStr(text)
    return read


def in_json(feed: Feed, states: Mapping[ResourceName, ResourceState], now: datetime) -> dict[str, Any]:
    """The settings of a feed without secrets, and how far each resource has come."""
    settings = feed.model_dump(mode="json", exclude={"secret", "password", "version"})
    return settings | {
        "resources": [
            {"resource": name.value, **_shown(states.get(name, ResourceState()), feed, now)}
            for name in feed.names
        ]
    }


def _shown(state: ResourceState, feed: Feed, now: datetime) -> dict[str, Any]:
    return {
        "status": status_of(state, feed, now),
        "complete_to": _time(state.cursor),
        "last_round": _time(state.succeeded_at),
        "found": state.found,
        "sent": state.sent,
        "skipped": state.skipped,
        "error": state.error,
        "sweep": None if feed.sweep == "off" else _sweep_shown(state),
    }


def _sweep_shown(state: ResourceState) -> dict[str, Any]:
    sweep = state.sweep
    return {
        "stage": sweep.stage,
        "done_at": _time(sweep.done_at),
        "listed": sweep.listed,
        "gone": sweep.gone,
        "held_because": sweep.held_because if sweep.stage == "held" else None,
    }


def status_of(state: ResourceState, feed: Feed, now: datetime) -> str:
    """A word for how a resource is doing."""
    if feed.is_off:
        return "off"
    if state.missing:
        return "not in this PIM"
    if state.error is not None:
        return "behind" if is_behind(state, feed, now) else "failing"
    if state.cursor is None:
        return "learning" if state.round is not None else "not begun"
    if is_behind(state, feed, now):
        return "behind"
    return "reading" if state.round is not None else "ok"


def _print(feed: Feed, states: Mapping[ResourceName, ResourceState]) -> None:
    now = datetime.now(UTC)
    how_often = "is off" if feed.is_off else f"asks every {feed.every} s"
    zone = feed.timezone or "not named"
    echo(f"The feed of {feed.tenant} {how_often}, as {feed.username} (client {feed.client_id}).")
    echo(f"Overlap {feed.overlap} s, settle {feed.settle} s, time zone {zone}, sweep {feed.sweep}.")
    show(
        COLUMNS,
        (_item(name, _shown(states.get(name, ResourceState()), feed, now)) for name in feed.names),
        empty="It asks for nothing.",
    )


def _item(name: ResourceName, shown: Mapping[str, Any]) -> Item:
    cells = [
        name.value,
        shown["status"],
        shown["complete_to"] or "",
        shown["last_round"] or "",
        *(str(shown[each]) for each in ("found", "sent", "skipped")),
    ]
    more = [Fact("last error", shown["error"] or "")]
    if (sweep := shown["sweep"]) is not None:
        held = sweep["held_because"]
        said = f"done at {sweep['done_at']}" if sweep["done_at"] else sweep["stage"]
        more.append(Fact("sweep", f"{sweep['gone']} deletions held back, as {held}" if held else said))
    return Item(cells, more)


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
