"""`aep subscribers`: the subscribers of a client, or as the operator of all."""

from typing import Annotated, Any

import typer

from ..output import confirm, echo, echo_json, show, show_json, show_one
from . import views
from .bodies import Body, body_in, new_secret, secret_from_input
from .management import Management, managing
from .options import AsJson
from .usage import Commands

subscribers = Commands(
    help="The subscribers of an app, through the management API, or as the operator of all clients.\n\n"
    "Example: aep subscribers list --operator"
)

SubscriberId = Annotated[str, typer.Argument(metavar="SUBSCRIBER", help="The subscriber's id.")]
Name = Annotated[str | None, typer.Option(help="The name, for people.")]
Email = Annotated[str | None, typer.Option(metavar="ADDRESS", help="Who is told when something is wrong.")]
Webhook = Annotated[
    str | None,
    typer.Option("--webhook", metavar="URL", help="Where notifications go, beside e-mail; '' for nowhere."),
]
WebhookSecret = Annotated[
    str | None,
    typer.Option(
        "--webhook-secret",
        metavar="-",
        help="Read the secret that signs notifications from standard input; else one is made.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@subscribers.command("list")
@managing
def list_subscribers(management: Management, as_json: AsJson = False) -> None:
    """List the subscribers.

    Example: aep subscribers list --pim-url https://pim.example.com --client-id erp

    Shown are the id, the name, the state and the address for notifications, and with --operator whose it is.
    """
    found = management.subscribers()
    if as_json:
        show_json(found)
    else:
        show(views.SUBSCRIBERS, map(views.subscriber_item, found), empty="There are no subscribers yet.")


@subscribers.command("show")
@managing
def show_subscriber(management: Management, subscriber: SubscriberId, as_json: AsJson = False) -> None:
    """Show a subscriber.

    Example: aep subscribers show 0199c1a1-02f4-7d8b-8e6f-5a4b3c2d1e0f
    """
    _print(management.subscriber("GET", subscriber), as_json=as_json)


@subscribers.command("create")
@managing
def create_subscriber(
    management: Management,
    name: Name = None,
    email: Email = None,
    webhook: Webhook = None,
    webhook_secret: WebhookSecret = None,
    body: Body = None,
    as_json: AsJson = False,
) -> None:
    """Create a subscriber, under which subscriptions are made.

    Example: aep subscribers create --name ERP --email ops@example.com
    """
    wanted, made = _body(name, email, webhook, webhook_secret, body, makes_secret=True)
    _print(management.create_subscriber(wanted), as_json=as_json, done="created", secret=made)


@subscribers.command("set")
@managing
def set_subscriber(
    management: Management,
    subscriber: SubscriberId,
    name: Name = None,
    email: Email = None,
    webhook: Webhook = None,
    webhook_secret: WebhookSecret = None,
    body: Body = None,
    as_json: AsJson = False,
) -> None:
    """Change a subscriber: what is not given stays.

    Example: aep subscribers set 0199c1a1-02f4-7d8b-8e6f-5a4b3c2d1e0f --email ops@example.com
    """
    before = management.subscriber("GET", subscriber)["contact"]
    has_webhook = "notification_webhook_url" in before
    wanted, made = _body(name, email, webhook, webhook_secret, body, makes_secret=not has_webhook)
    _print(management.subscriber("PATCH", subscriber, wanted), as_json=as_json, done="changed", secret=made)


@subscribers.command("suspend")
@managing
def suspend_subscriber(management: Management, subscriber: SubscriberId, as_json: AsJson = False) -> None:
    """Suspend all active subscriptions of a subscriber.

    Example: aep subscribers suspend 0199c1a1-02f4-7d8b-8e6f-5a4b3c2d1e0f
    """
    _change_all(management, subscriber, "suspend", "active", as_json=as_json)


@subscribers.command("resume")
@managing
def resume_subscriber(management: Management, subscriber: SubscriberId, as_json: AsJson = False) -> None:
    """Resume all suspended subscriptions of a subscriber.

    Example: aep subscribers resume 0199c1a1-02f4-7d8b-8e6f-5a4b3c2d1e0f
    """
    _change_all(management, subscriber, "resume", "suspended", as_json=as_json)


@subscribers.command("delete")
@managing
def delete_subscriber(
    management: Management, subscriber: SubscriberId, yes: Yes = False, as_json: AsJson = False
) -> None:
    """Delete a subscriber and its subscriptions, for good.

    Example: aep subscribers delete 0199c1a1-02f4-7d8b-8e6f-5a4b3c2d1e0f --yes
    """
    record = management.subscriber("GET", subscriber)
    confirm(f"Delete subscriber {record['name']} and all its subscriptions, for good?", yes=yes)
    _print(management.subscriber("DELETE", subscriber), as_json=as_json, done="deleted")


def _body(
    name: str | None,
    email: str | None,
    webhook: str | None,
    webhook_secret: str | None,
    body: Any,
    *,
    makes_secret: bool,
) -> tuple[dict[str, Any], str | None]:
    """Returns the body, and the secret that was made for it."""
    wanted = body_in(body)
    given: dict[str, Any] = {}
    made: str | None = None
    if email is not None:
        given["technical_email"] = email
    secret = secret_from_input("--webhook-secret", webhook_secret)
    if webhook is not None:
        given["notification_webhook_url"] = webhook or None
        given["notification_channels"] = ["email", "webhook"] if webhook else ["email"]
        if not webhook:
            given["notification_webhook_secret"] = None
        elif secret is None and makes_secret:
            secret = made = new_secret()
    if secret is not None:
        given["notification_webhook_secret"] = secret
    if name is not None:
        wanted["name"] = name
    if given:
        contact = wanted.get("contact")
        wanted["contact"] = given if contact is None else {**contact, **given}
    return wanted, made


def _change_all(management: Management, subscriber: str, action: str, status: str, *, as_json: bool) -> None:
    body = {} if action == "resume" else None
    changed = management.act_on_all(subscriber, action, body, lambda each: each["status"] == status)
    if as_json:
        echo_json(changed)
    else:
        empty = f"No subscription of {subscriber} is {status}."
        show(views.RECORDS, map(views.record_item, changed), empty=empty)


def _print(record: Any, *, as_json: bool, done: str | None = None, secret: str | None = None) -> None:
    if as_json:
        echo_json({**record, **({"notification_webhook_secret": secret} if secret is not None else {})})
        return
    if done is not None:
        echo(f"Subscriber {record['id']} is {done}.")
    if done != "deleted":
        show_one(views.subscriber_in_full(record))
    if secret is not None:
        echo(f"The secret that signs notifications (shown only now):\n  {secret}")
