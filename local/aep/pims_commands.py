"""`aep pims`: the registry of PIMs, in the data folder or in a file, and the credentials of each."""

import contextlib
import secrets
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import SecretStr

from event_platform.domain.tenants import STRONG, PimClient, Tenant, is_strong
from event_platform.settings import Settings

from . import client_commands
from .options import DEFAULT_DATA, AsJson, Data, is_default
from .output import echo, echo_json, fail, show
from .registry import PimsFile, check_may_make, has_registry, open_registry, pim_name, pim_url
from .store import calls, database
from .store.calls import CallKey, LastCalls

pims = typer.Typer(
    no_args_is_help=True,
    help="The PIMs that the platform works for, and their credentials.\n\nExample: aep pims list",
)


class Auth(StrEnum):
    """How a PIM's clients prove themselves."""

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
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Add a PIM, or change it, and print its new secrets once.

    Example: aep pims add https://pim.example.com

    A running platform takes the change in within 5 seconds. With --events-api-secret - the PIM's own webhook
    is taken in: save its URL in the PIM first, and press Test there afterwards.
    """
    name = pim_url(url)
    is_new = pims_file is None and not has_registry(data)
    if is_new and is_default(context, "data"):
        check_may_make(data)
    webhook_secret = _secret_from_input(events_api_secret)
    with open_registry(pims_file, data, makes=True) as entries:
        before = entries.get(name)
        rotated = {"ingest_key": rotate, "relay_secret": rotate_relay}
        after, new = _added(before or Tenant(url=name), auth, client or [], rotated)
        if identifier_attribute is not None:
            after = after.model_copy(update={"identifier_attribute": identifier_attribute or None})
        if webhook_secret is not None:
            after = _with_events_api_secret(after, webhook_secret)
        entries.put(after)
    if is_new:
        echo(f"aep: made a registry in the new data folder {data.absolute()}", err=True)
    _print_secrets(after, new, (pims_file or data).absolute(), as_json=as_json)


pims.command("client")(client_commands.set_client)
pims.command("clients")(client_commands.list_clients)
pims.command("revoke")(client_commands.revoke_client)


@pims.command("list")
def list_pims(pims_file: PimsFile = None, data: Data = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """List the PIMs and the paths at which each sends its events.

    Example: aep pims list --json

    Of each it shows when an event was taken last and which call was refused last, by each way in. What `aep
    serve` on that data folder saw is there within 5 seconds.
    """
    tenants: list[Tenant] = []
    if pims_file is not None or has_registry(data):  # looking makes no folder
        with open_registry(pims_file, data) as entries:
            tenants = entries.all()
    known = _last_calls(data)
    if as_json:
        echo_json([_row(tenant) | _calls_in_json(tenant, known) for tenant in tenants])
        return
    show(
        ("PIM", "key", "auth", "ingest path", "last event taken", "last call refused"),
        [
            (row["url"], row["key"], row["auth"], row["ingest_path"], *_calls_in_words(tenant, known))
            for tenant, row in ((tenant, _row(tenant)) for tenant in tenants)
        ],
    )


@pims.command("remove")
def remove(
    url: Annotated[str, typer.Argument(help="The PIM's base URL or host pattern, as `list` shows it.")],
    pims_file: PimsFile = None,
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Take a PIM out of the registry: its events and its clients are refused from then on.

    Example: aep pims remove https://pim.example.com
    """
    with open_registry(pims_file, data) as entries:
        name = pim_name(entries, url)
        if not entries.remove(name):
            fail(f"{name} is not in the registry; `aep pims list` shows what is")
    if as_json:
        echo_json({"removed": name})
    else:
        echo(f"removed {name}")


def _added(
    before: Tenant, auth: Auth | None, clients: list[str], rotated: Mapping[str, bool]
) -> tuple[Tenant, dict[str, str]]:
    """The entry after `add`, and the secrets that were made for it."""
    new: dict[str, str] = {}
    update: dict[str, Any] = {}
    for field, is_rotated in rotated.items():
        kept: tuple[SecretStr, ...] = getattr(before, field)
        if not kept or is_rotated:
            new[field] = secrets.token_urlsafe(32)
            update[field] = (SecretStr(new[field]), *kept[:1])
    if auth is not None:
        update["auth"] = auth.value
    known = {client.client_id for client in before.clients}
    update["clients"] = (
        *before.clients,
        *(PimClient(client_id=client_id) for client_id in dict.fromkeys(clients) if client_id not in known),
    )
    return before.model_copy(update=update), new


def _secret_from_input(option: str | None) -> SecretStr | None:
    """A secret on the command line would be seen by every process of the machine."""
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


def _with_events_api_secret(tenant: Tenant, secret: SecretStr) -> Tenant:
    """The newest first; the one before it stays good for what is on its way."""
    others = [kept for kept in tenant.events_api_secret if kept != secret]
    return tenant.model_copy(update={"events_api_secret": (secret, *others[:1])})


def _print_secrets(tenant: Tenant, new: dict[str, str], where_kept: Path, *, as_json: bool) -> None:
    if as_json:
        echo_json(_row(tenant) | new)
        return
    echo(f"{tenant.url} is registered in {where_kept} (auth: {tenant.auth}, key: {tenant.key}).")
    where, base = _row(tenant), Settings().public_url or "https://YOUR-PLATFORM"
    if "ingest_key" in new:
        echo(
            "Ingest key (shown only now). Whoever sends this PIM's CloudEvents posts them to\n"
            f"  {base}{where['ingest_path']} with the header  Authorization: Bearer {new['ingest_key']}"
        )
    else:
        echo("Its ingest key was shown when it was made; --rotate makes another beside it.")
    echo(
        "The PIM's own Events API: in the PIM, a connection's Event subscription, field URL:\n"
        f"  {base}{where['events_api_path']}"
    )
    if tenant.events_api_secret:
        echo("  Its secret is known here: press Test in the PIM.")
    else:
        echo(
            "  Save it there, copy the secret that appears, and give it to\n"
            f"  aep pims add {tenant.url} --events-api-secret -"
        )
    echo(
        f"Akeneo's own Event Platform: the url of an https subscription there:\n  {base}{where['relay_path']}"
    )
    if "relay_secret" in new:
        echo(f"  Its primary secret (shown only now): {new['relay_secret']}")
    else:
        echo("  Its secret was shown when it was made; --rotate-relay makes another beside it.")


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


def _last_calls(data: Path) -> Mapping[CallKey, LastCalls]:
    if not (data / database.FILE).exists():
        return {}
    with contextlib.closing(database.connect_to_read(data / database.FILE)) as connection:
        return calls.read(connection)


def _calls_in_json(tenant: Tenant, known: Mapping[CallKey, LastCalls]) -> dict[str, Any]:
    """By way in, as far as calls came; nothing of a PIM from which none did."""
    found = {
        way.value: {
            "last_taken_at": _time_of(last.taken_at),
            "last_refused": None
            if last.refused_at is None
            else {"at": _time_of(last.refused_at), "status": last.status, "reason": last.reason},
        }
        for (name, way), last in known.items()
        if name == tenant.name
    }
    return {"calls": found} if found else {}


def _calls_in_words(tenant: Tenant, known: Mapping[CallKey, LastCalls]) -> tuple[str, str]:
    own = [(way, last) for (name, way), last in known.items() if name == tenant.name]
    taken = [f"{_time_of(last.taken_at)} {way}" for way, last in own if last.taken_at is not None]
    refused = [
        f"{_time_of(last.refused_at)} {way} {last.status} {last.reason}"
        for way, last in own
        if last.refused_at is not None
    ]
    return ", ".join(taken), ", ".join(refused)


def _time_of(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
