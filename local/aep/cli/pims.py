"""`aep pims`: the registry of PIMs, in a data folder, a file or a project, and the credentials of each."""

import asyncio
import contextlib
import os
import shlex
import sqlite3
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer
from pydantic import SecretStr

from event_platform.domain import pim_credentials
from event_platform.domain.feeds import ResourceName, ResourceState, problem_of
from event_platform.domain.tenants import STRONG, PimClient, Tenant, Way, is_strong

from ..google import feeds as google_feeds
from ..output import echo, echo_json, echo_whole, fail, show
from ..runtime.meters import LastCalls
from ..store import calls, feeds, opening
from . import clients as client_commands
from . import feeds as feed_commands
from . import views
from .options import DEFAULT_DATA, AsJson, Data, is_default, settings
from .registry import PimsFile, Place, Project, check_may_make, open_registry, pim_name, pim_url
from .usage import Commands

pims = Commands(
    help="The PIMs that the platform works for, and their credentials.\n\nExample: aep pims list",
)


class Auth(StrEnum):
    """The ways in which a PIM's clients prove themselves."""

    TOKEN_INFO = "token-info"  # noqa: S105 - the name of a way
    PLATFORM_KEY = "platform-key"
    PROBE = "probe"


@pims.command("add")
def add(
    context: typer.Context,
    url: Annotated[str, typer.Argument(help="The PIM's base URL, as in its browser address.")],
    auth: Annotated[
        Auth | None, typer.Option(help="How clients prove themselves; token-info unless set before.")
    ] = None,
    client: Annotated[
        list[str] | None, typer.Option(help="A client id to list, for --auth probe. Repeatable.")
    ] = None,
    rotate: Annotated[
        bool, typer.Option("--rotate", help="Add a new ingest key; the one before it stays good.")
    ] = False,
    rotate_relay: Annotated[
        bool, typer.Option("--rotate-relay", help="Add a new relay secret; the one before it stays good.")
    ] = False,
    identifier_attribute: Annotated[
        str | None,
        typer.Option(
            metavar="CODE",
            help="The PIM's identifier attribute, if it sends products with their UUID; '' for none.",
        ),
    ] = None,
    events_api_secret: Annotated[
        str | None,
        typer.Option(
            metavar="-",
            help="Read from standard input the secret that the PIM shows at its Event subscription.",
        ),
    ] = None,
    pims_file: PimsFile = None,
    google: Project = None,
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Add a PIM, or change it, and print its new secrets once.

    Example: aep pims add https://pim.example.com

    A platform that runs on the folder takes the change in at once. With --events-api-secret - the PIM's own
    webhook is taken in: save its URL in the PIM first, and press Test there afterwards. With --google the
    functions of the project need no release for it; AEP_REGISTRY_KEY, the stack's key, seals the secrets.
    """
    name = pim_url(url)
    place = Place(data, pims_file, google)
    is_new = place.is_new
    if is_new and is_default(context, "data"):
        check_may_make(data)
    webhook_secret = _secret_from_input(events_api_secret)
    with open_registry(place, makes=True) as entries:
        before = entries.get(name)
        rotated: Mapping[pim_credentials.MadeSecret, bool] = {
            "ingest_key": rotate,
            "relay_secret": rotate_relay,
        }
        after, new = _added(before or Tenant(url=name), auth, client or [], rotated)
        if identifier_attribute is not None:
            after = after.model_copy(update={"identifier_attribute": identifier_attribute or None})
        if webhook_secret is not None:
            after = pim_credentials.with_events_api_secret(after, webhook_secret)
        entries.put(after)
    if is_new:
        echo(f"aep: made a registry in the new data folder {data.absolute()}", err=True)
    _print_secrets(after, new, place, as_json=as_json)


pims.command("client")(client_commands.set_client)
pims.command("clients")(client_commands.list_clients)
pims.command("revoke")(client_commands.revoke_client)
pims.command("feed")(feed_commands.feed)


@pims.command("list")
def list_pims(
    pims_file: PimsFile = None, google: Project = None, data: Data = DEFAULT_DATA, as_json: AsJson = False
) -> None:
    """List the PIMs and the paths at which each sends its events.

    Example: aep pims list --json

    Shown are the PIM's URL, its short key in paths and topics, how its clients prove themselves, where its
    CloudEvents go, when an event was taken last and which call was refused last, by each way in. What `aep
    serve` on that data folder saw is there within 5 seconds. With --google the log of ingest has the calls
    instead. Of a feed it is shown when it was read, and what fails.
    """
    place = Place(data, pims_file, google)
    tenants: list[Tenant] = []
    if not place.is_new:  # looking makes no folder
        with open_registry(place) as entries:
            tenants = entries.all()
            for name in entries.unreadable:
                echo(
                    f"aep: the entry of {name} cannot be understood, so the platform ignores it:"
                    f" `{place.command(f'remove {name}')}`, then add it again",
                    err=True,
                )
    known = _last_calls(place)
    fed = _feeds(place)
    if as_json:
        echo_json(
            [
                _row(tenant)
                | _calls_in_json(known.get(tenant.name, ()))
                | _feed_in_json(fed.get(tenant.name))
                for tenant in tenants
            ]
        )
        return
    show(
        views.PIMS,
        (
            views.pim_item(
                tenant,
                _row(tenant)["ingest_path"],
                known.get(tenant.name, ()),
                _feed_in_words(fed.get(tenant.name)),
            )
            for tenant in tenants
        ),
        empty=f"No PIM is registered in {place}: `{place.command('add URL')}` adds one.",
    )


@pims.command("remove")
def remove(
    url: Annotated[str, typer.Argument(help="The PIM's base URL or host pattern, as `list` shows it.")],
    pims_file: PimsFile = None,
    google: Project = None,
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Take a PIM out of the registry: its events and its clients are refused from then on.

    Example: aep pims remove https://pim.example.com
    """
    place = Place(data, pims_file, google)
    with open_registry(place) as entries:
        name = pim_name(entries, url)
        if not entries.remove(name):
            fail(f"{name} is not in the registry; `{place.command('list')}` shows what is")
    if as_json:
        echo_json({"removed": name})
    else:
        echo(f"Removed {name}: its events and its clients are refused from now on.")


def _added(
    before: Tenant, auth: Auth | None, clients: list[str], rotated: Mapping[pim_credentials.MadeSecret, bool]
) -> tuple[Tenant, dict[str, str]]:
    """Returns the entry after `add`, and the secrets that were made for it."""
    new: dict[str, str] = {}
    after = before if auth is None else before.model_copy(update={"auth": auth.value})
    for field, is_rotated in rotated.items():
        if is_rotated or not getattr(before, field):
            after, new[field] = pim_credentials.with_new_secret(after, field)
    for client_id in clients:
        if after.client(client_id) is None:
            after = pim_credentials.with_client(after, PimClient(client_id=client_id))
    return after, new


def _secret_from_input(option: str | None) -> SecretStr | None:
    """Reads a secret from standard input, as every process would see one on the command line."""
    if option is None:
        return None
    if option != "-":
        fail("--events-api-secret takes - and reads the secret from standard input")
    secret = sys.stdin.readline().strip()
    if not secret:
        fail("--events-api-secret -: there is no secret on standard input")
    entered = SecretStr(secret)
    if not is_strong(entered):
        fail(f"--events-api-secret -: the secret {STRONG}; copy the whole secret that the PIM shows")
    return entered


def _print_secrets(tenant: Tenant, new: dict[str, str], place: Place, *, as_json: bool) -> None:
    if as_json:
        echo_json(_row(tenant) | new)
        return
    echo(f"{tenant.url} is registered in {place} (auth: {tenant.auth}, key: {tenant.key}).")
    where, base = _row(tenant), _base_url(place)
    if "ingest_key" in new:
        echo(
            f"Ingest key (shown only now):\n  {new['ingest_key']}\n"
            "Whoever sends this PIM's CloudEvents gives it as the bearer token, and posts them to\n"
            f"  {base}{where['ingest_path']}"
        )
    else:
        echo("Its ingest key was shown when it was made; --rotate makes another beside it.")
    echo(
        "The PIM's own Events API: in the PIM, a connection's Event subscription, field URL:\n"
        f"  {base}{where['events_api_path']}"
    )
    if tenant.events_api_secret:
        echo("Its secret is known here: press Test in the PIM.")
    else:
        echo("Save it there, copy the secret that appears, and give it to")
        echo_whole(f"  {place.command(f'add {tenant.url} --events-api-secret -')}")
    echo(
        f"Akeneo's own Event Platform: the url of an https subscription there:\n  {base}{where['relay_path']}"
    )
    if "relay_secret" in new:
        echo(f"Its primary secret (shown only now):\n  {new['relay_secret']}")
    else:
        echo("Its secret was shown when it was made; --rotate-relay makes another beside it.")
    if place.project is not None:
        echo(
            "The functions know it within 5 seconds, without a release. An entry of the same URL in `pims` of"
            " the stack goes before it. Next: a token and a first event, as docs/operate.md says."
        )
    elif place.file is not None:
        file = shlex.quote(str(place.file))
        echo("The file counts where it is given: on one machine by")
        echo_whole(f"  aep serve --pims {file}")
        echo("and for a stack by")
        echo_whole(f'  pulumi config set --secret pims "$(cat {file})" && pulumi up')
    if base in PLACEHOLDERS:
        echo(f"{base} stands for the address at which others reach it: {PLACEHOLDERS[base]} names it.")


PLATFORM, INGEST = "https://YOUR-PLATFORM", "https://YOUR-INGEST"
PLACEHOLDERS = {PLATFORM: "AEP_PUBLIC_URL", INGEST: "AEP_INGEST_URL"}
"""The texts in the place of a URL that is not known, and the variable that names it."""


def _base_url(place: Place) -> str:
    """Returns the URL before the paths of ingest, as far as it is known."""
    if place.project is None:
        return settings().public_url or PLATFORM
    known = os.environ.get("AEP_INGEST_URL", "").rstrip("/")
    return known.removesuffix("/ingest") or INGEST


def _row(tenant: Tenant) -> dict[str, str]:
    takes_events = tenant.url is not None
    return {
        "url": tenant.name,
        "key": tenant.key,
        "auth": tenant.auth,
        "ingest_path": "/ingest" if takes_events else "",
        "events_api_path": f"/ingest/events-api/{tenant.key}" if takes_events else "",
        "relay_path": f"/ingest/relay/{tenant.key}" if takes_events else "",
    }


def _last_calls(place: Place) -> Mapping[str, Sequence[tuple[Way, LastCalls]]]:
    """Returns the last calls of each PIM by its name; none of a project, which keeps them in its log."""
    if place.project is not None or not (place.data / opening.FILE).exists():
        return {}
    found: defaultdict[str, list[tuple[Way, LastCalls]]] = defaultdict(list)
    with contextlib.closing(opening.connect_to_read(place.data / opening.FILE)) as connection:
        for (name, way), last in calls.read(connection).items():
            found[name].append((way, last))
    return found


def _feeds(place: Place) -> Mapping[str, Mapping[ResourceName, ResourceState]]:
    """Returns how far the feeds have come that are not off."""
    if place.project is not None:
        found = asyncio.run(google_feeds.read_all(place.project))
        return {name: each.states for name, each in found.items() if each.is_on}
    if not (place.data / opening.FILE).exists():
        return {}
    with (
        contextlib.suppress(sqlite3.OperationalError),  # a file of an older program
        contextlib.closing(opening.connect_to_read(place.data / opening.FILE)) as connection,
    ):
        return feeds.running(connection)
    return {}


def _feed_in_json(states: Mapping[ResourceName, ResourceState] | None) -> dict[str, Any]:
    if states is None:
        return {}
    return {
        "feed": {"problems": {name: words for name, each in states.items() if (words := problem_of(each))}}
    }


def _feed_in_words(states: Mapping[ResourceName, ResourceState] | None) -> str:
    if states is None:
        return ""
    bad = [name for name, each in states.items() if problem_of(each)]
    last = max((each.succeeded_at for each in states.values() if each.succeeded_at), default=None)
    shown = "nothing read yet" if last is None else f"read at {last:%Y-%m-%dT%H:%M:%SZ}"
    return f"{shown}, failing: {', '.join(bad)}" if bad else shown


def _calls_in_json(own: Iterable[tuple[Way, LastCalls]]) -> dict[str, Any]:
    """Returns the calls of a PIM by ingest format, without formats by which none came."""
    found = {
        way.value: {
            "last_taken_at": _time_of(last.taken_at),
            "last_refused": None
            if last.refused_at is None
            else {"at": _time_of(last.refused_at), "status": last.status, "reason": last.reason},
        }
        for way, last in own
    }
    return {"calls": found} if found else {}


def _time_of(at: float | None) -> str | None:
    return None if at is None else views.moment_of(at)
