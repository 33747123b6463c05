"""`aep pims client`, `clients` and `revoke`: the clients of a PIM, their platform keys and their users."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from event_platform.domain import pim_credentials
from event_platform.domain.errors import Conflict
from event_platform.domain.tenants import PimClient, Tenant

from ..output import echo, echo_json, fail, show
from . import views
from .options import DEFAULT_DATA, AsJson, Data, span
from .registry import Entries, PimsFile, Place, Project, open_registry, pim_name

LONGEST_OVERLAP = timedelta(days=30)

PimUrl = Annotated[str, typer.Argument(metavar="URL", help="The PIM's base URL.")]
ClientId = Annotated[str, typer.Argument(metavar="CLIENT_ID", help="The client's id.")]


def set_client(
    url: PimUrl,
    client_id: ClientId,
    username: Annotated[
        str | None,
        typer.Option(help="The client's user in the PIM, whose changes are the client's own; '' for none."),
    ] = None,
    key: Annotated[bool, typer.Option("--key", help="Issue another platform key.")] = False,
    overlap: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="How long earlier keys stay good beside another, as in 90s, 2h or 1d; 1h unless given.",
        ),
    ] = None,
    pims_file: PimsFile = None,
    google: Project = None,
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Set the user of a PIM's client, or issue a platform key to the client and print it once.

    Example: aep pims client https://pim.example.com 2_1x8s --username erp_4711

    The user may be set for every way in which clients prove themselves, and touches no key. Where that way is
    platform-key, a client that has no key gets one, which it sends as X-PIM-TOKEN; with --key it gets
    another, and the one before stays good for an hour, so that the app that runs can be given the new one.
    """
    now = datetime.now(UTC)
    lasts = None if overlap is None else span("--overlap", overlap, LONGEST_OVERLAP)
    new_key: str | None = None
    place = Place(data, pims_file, google)
    with open_registry(place) as entries:
        tenant = _tenant(entries, url, place)
        before = tenant.client(client_id)
        after = before or PimClient(client_id=client_id)
        has_keys = tenant.auth == "platform-key"
        if key and not has_keys:
            fail(
                f"--key: clients of {tenant.name} prove themselves by {tenant.auth};"
                f" `{place.command(f'add {tenant.name} --auth platform-key')}` changes that"
            )
        if has_keys and (key or after.key_sha256 is None):
            try:
                after, new_key = pim_credentials.with_new_key(
                    after, now, pim_credentials.OVERLAP if lasts is None else lasts
                )
            except Conflict as error:
                fail(f"{error}; `--key --overlap 0` ends them")
        if overlap is not None and not key:
            fail("--overlap says how long earlier keys stay good beside another: give --key too")
        if username is not None:
            after = after.model_copy(update={"username": username or None})
        if tenant.auth == "token-info" and username is None:
            fail(
                f"the PIM says who the clients of {tenant.name} are: --username sets a client's user;"
                f" keys are for PIMs with `{place.command(f'add {tenant.name} --auth platform-key')}`"
            )
        if after != before:
            entries.put(pim_credentials.with_client(tenant, after))
    if as_json:
        shown = _shown(tenant, after, now)
        echo_json({"url": tenant.name, **shown, **({"key": new_key} if new_key is not None else {})})
        return
    if username is not None:
        echo(_about_user(client_id, after.username))
    elif new_key is None:
        echo(_unchanged(tenant, client_id) if after == before else f"{client_id} is listed.")
    if new_key is not None:
        echo(f"X-PIM-TOKEN of client {client_id} (shown only now):\n  {new_key}")
        for previous in after.previous_keys:
            echo(f"A key from before stays good until {views.moment(previous.until)}.")


def list_clients(
    url: PimUrl,
    pims_file: PimsFile = None,
    google: Project = None,
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """List the clients of a PIM that the registry knows.

    Example: aep pims clients https://pim.example.com

    Shown are the client's id, its user in the PIM, whose changes are the client's own, the number of platform
    keys that are good, and until when those before the newest are. Where the PIM is asked about tokens
    (token-info), a client need not be listed to call.
    """
    now = datetime.now(UTC)
    place = Place(data, pims_file, google)
    with open_registry(place) as entries:
        tenant = _tenant(entries, url, place)
    rows = [_shown(tenant, client, now) for client in tenant.clients]
    if as_json:
        echo_json(rows)
        return
    show(views.CLIENTS, map(views.client_item, rows), empty=_none_listed(tenant, place))


def _none_listed(tenant: Tenant, place: Place) -> str:
    nobody = f"No client of {tenant.name} is listed"
    if tenant.auth == "token-info":
        return f"{nobody}, and none has to be: the PIM says whose a token is."
    return f"{nobody}: `{place.command(f'client {tenant.name} CLIENT_ID')}` lists one."


def revoke_client(
    url: PimUrl,
    client_id: ClientId,
    pims_file: PimsFile = None,
    google: Project = None,
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Take a client off the list of a PIM: its platform keys end at once.

    Example: aep pims revoke https://pim.example.com 2_1x8s

    On Google Cloud, and with --pims FILE, within 5 seconds. Its subscriptions stay as they are. Where the PIM
    is asked about tokens (token-info), end the client's
    connection in the PIM.
    """
    place = Place(data, pims_file, google)
    with open_registry(place) as entries:
        tenant = _tenant(entries, url, place)
        if tenant.client(client_id) is None:
            fail(f"{client_id} is not listed: `{place.command(f'clients {tenant.name}')}` shows who is")
        entries.put(pim_credentials.without_client(tenant, client_id))
    if as_json:
        echo_json({"url": tenant.name, "revoked": client_id})
        return
    echo(f"{client_id} is no listed client of {tenant.name} any more. Its subscriptions stay as they are.")
    if tenant.auth == "token-info":
        echo("The PIM still vouches for its tokens: end its connection there.")


def _tenant(entries: Entries, url: str, place: Place) -> Tenant:
    name = pim_name(entries, url)
    tenant = entries.get(name)
    if tenant is None:
        fail(f"{name} is not in the registry: run `{place.command(f'add {name}')}` first")
    return tenant


def _shown(tenant: Tenant, client: PimClient, now: datetime) -> dict[str, Any]:
    return {
        "client_id": client.client_id,
        "username": client.username,
        "platform_keys": len(client.keys_at(now)) if tenant.auth == "platform-key" else 0,
        "previous_keys_until": [
            views.moment(each.until) for each in client.previous_keys if each.until > now
        ],
    }


def _unchanged(tenant: Tenant, client_id: str) -> str:
    if tenant.auth == "platform-key":
        return f"The key of {client_id} was shown when it was issued; --key issues another beside it."
    return f"{client_id} is listed already; --username NAME sets its user in the PIM."


def _about_user(client_id: str, username: str | None) -> str:
    if username is None:
        return f"Client {client_id} has no user in the PIM any more."
    return f"What {username} changes in the PIM is now marked as client {client_id}'s own."
