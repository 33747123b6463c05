"""`aep subscriptions`: the subscriptions of a client, or as the operator of all."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from event_platform.domain.subscriptions import REDACTED

from ..output import confirm, echo, echo_json, fail, show, show_json, show_one
from . import views
from .bodies import Body, body_in, event_types, new_secret, secret_from_input
from .management import Management, managing
from .options import AsJson
from .subscribers import SubscriberId, Yes
from .usage import Commands

subscriptions = Commands(
    help="The subscriptions of an app, through the management API, or as the operator of all clients.\n\n"
    "Example: aep subscriptions list --operator"
)

SubscriptionId = Annotated[str, typer.Argument(metavar="SUBSCRIPTION", help="The subscription's id.")]
Endpoint = Annotated[
    str | None, typer.Option("--endpoint", metavar="URL", help="Where events are delivered, by https.")
]
Events = Annotated[
    str | None,
    typer.Option(metavar="TYPE,…", help="The event types; Akeneo's also as product.updated."),
]
Filter = Annotated[
    str | None, typer.Option("--filter", metavar="EXPR", help="Which of these events; '' for all.")
]
Secret = Annotated[
    str | None,
    typer.Option("--secret", metavar="-", help="Read the secret that signs from standard input."),
]
CatchUp = Annotated[
    bool | None,
    typer.Option("--catch-up/--no-catch-up", help="Whether a resume delivers what came meanwhile."),
]


@subscriptions.command("list")
@managing
def list_subscriptions(
    management: Management,
    subscriber: Annotated[
        str | None, typer.Option("--subscriber", metavar="ID", help="Of this subscriber only.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the subscriptions.

    Example: aep subscriptions list --pim-url https://pim.example.com --client-id erp

    Shown are the id, the state, where it delivers, the subscriber, the event types and the filter, and with
    --operator whose it is. `aep status` has the operator's figures.
    """
    found = management.subscriptions(subscriber)
    if as_json:
        show_json(found)
    else:
        show(views.RECORDS, map(views.record_item, found), empty="There are no subscriptions yet.")


@subscriptions.command("show")
@managing
def show_subscription(management: Management, subscription: SubscriptionId, as_json: AsJson = False) -> None:
    """Show a subscription, without its secrets.

    Example: aep subscriptions show 0199c1a1-02f4-7d8b-8e6f-5a4b3c2d1e0f
    """
    _print(management.subscription("GET", subscription), as_json=as_json)


@subscriptions.command("create")
@managing
def create_subscription(
    management: Management,
    subscriber: SubscriberId,
    endpoint: Endpoint = None,
    events: Events = None,
    filter_: Filter = None,
    secret: Secret = None,
    catch_up: CatchUp = None,
    body: Body = None,
    as_json: AsJson = False,
) -> None:
    """Create a subscription of a subscriber. A secret that signs is made and printed, unless one is given.

    Example: aep subscriptions create ID --endpoint https://erp.example.com/events --events product.updated

    Other destinations than https, and custom headers, come in --body.
    """
    wanted = _changes(body_in(body), events, filter_, catch_up)
    signing = secret_from_input("--secret", secret)
    made: str | None = None
    if endpoint is not None:
        wanted = {"type": "https", **wanted, "config": {**(wanted.get("config") or {}), "url": endpoint}}
        if signing is None and "secret" not in wanted["config"]:
            signing = made = new_secret()
    if signing is not None:
        wanted["config"] = {**(wanted.get("config") or {}), "secret": {"primary": signing}}
    created = management.create_subscription(subscriber, wanted)
    _print(created, as_json=as_json, done="created", secret=made)


@subscriptions.command("set")
@managing
def set_subscription(
    management: Management,
    subscription: SubscriptionId,
    endpoint: Endpoint = None,
    events: Events = None,
    filter_: Filter = None,
    secret: Secret = None,
    catch_up: CatchUp = None,
    body: Body = None,
    as_json: AsJson = False,
) -> None:
    """Change a subscription: what is not given stays, secrets too.

    Example: aep subscriptions set ID --events product.updated,product.created
    """
    wanted = _changes(body_in(body), events, filter_, catch_up)
    signing = secret_from_input("--secret", secret)
    if endpoint is not None or signing is not None:
        wanted["config"] = _config(management.subscription("GET", subscription), wanted, endpoint, signing)
    if not wanted:
        fail("nothing to change: give an option such as --events, or --body FILE")
    _print(management.subscription("PATCH", subscription, wanted), as_json=as_json, done="changed")


@subscriptions.command("suspend")
@managing
def suspend_subscription(
    management: Management, subscription: SubscriptionId, as_json: AsJson = False
) -> None:
    """Suspend a subscription: nothing is sent until a resume.

    Example: aep subscriptions suspend 0199c1a1-02f4-7d8b-8e6f-5a4b3c2d1e0f
    """
    _print(management.subscription("POST", subscription, action="suspend"), as_json=as_json, done="suspended")


@subscriptions.command("resume")
@managing
def resume_subscription(
    management: Management, subscription: SubscriptionId, catch_up: CatchUp = None, as_json: AsJson = False
) -> None:
    """Resume a suspended subscription.

    Example: aep subscriptions resume 0199c1a1-02f4-7d8b-8e6f-5a4b3c2d1e0f --catch-up
    """
    body = {} if catch_up is None else {"catch_up": catch_up}
    resumed = management.subscription("POST", subscription, body, action="resume")
    _print(resumed, as_json=as_json, done="resumed")


@subscriptions.command("delete")
@managing
def delete_subscription(
    management: Management, subscription: SubscriptionId, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Delete a subscription, for good.

    Example: aep subscriptions delete 0199c1a1-02f4-7d8b-8e6f-5a4b3c2d1e0f --yes
    """
    record = management.subscription("GET", subscription)
    confirm(f"Delete the subscription to {views.destination(record)}, for good?", yes=yes)
    _print(management.subscription("DELETE", subscription), as_json=as_json, done="deleted")


def _changes(
    body: Mapping[str, Any], events: str | None, filter_: str | None, catch_up: bool | None
) -> dict[str, Any]:
    """Returns the body with what the options say."""
    given = {
        "events": None if events is None else event_types(events),
        "filter": filter_,
        "catch_up": catch_up,
    }
    return {**body, **{name: value for name, value in given.items() if value is not None}}


def _config(
    record: Mapping[str, Any], wanted: Mapping[str, Any], endpoint: str | None, signing: str | None
) -> Mapping[str, Any]:
    """Returns the https config to send: what is shown redacted stays as it is."""
    if record["type"] != "https" and wanted.get("type") != "https":
        fail(f"--endpoint and --secret are of https, and {record['id']} is of {record['type']}: use --body")
    before = record["config"] if record["type"] == "https" else {"secret": {"primary": REDACTED}}
    config = {**before, **(wanted.get("config") or {})}
    if endpoint is not None:
        config["url"] = endpoint
    if signing is not None:
        config["secret"] = {**(config.get("secret") or {}), "primary": signing}
    return config


def _print(
    record: Mapping[str, Any], *, as_json: bool, done: str | None = None, secret: str | None = None
) -> None:
    if as_json:
        echo_json({**record, **({"secret": secret} if secret is not None else {})})
        return
    if done is not None:
        echo(f"Subscription {record['id']} is {done}.")
    if done != "deleted":
        show_one(views.record_in_full(record))
    if secret is not None:
        echo(f"The secret that signs (shown only now):\n  {secret}")
