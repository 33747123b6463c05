"""Bodies of requests on subscribers (contract/wire.md 3)."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from ...domain import fields
from ...domain.errors import InvalidRequest, Problem
from .body import Body, Rules, fold, validated
from .values import Email, EndpointUrl, Name, SigningSecret

Channels = Annotated[
    list[Literal["email", "webhook"]], Field(max_length=fields.MAX_CHANNELS), AfterValidator(fold)
]


class ContactBody(Body):
    """`contact` of a new subscriber."""

    technical_email: Email
    notification_channels: Channels | None = None
    notification_webhook_url: EndpointUrl | None = None
    notification_webhook_secret: SigningSecret | None = None


class SubscriberBody(Body):
    """A new subscriber."""

    name: Name
    contact: ContactBody


class ContactPatch(Body):
    """The part of `contact` that a PATCH names."""

    needed = frozenset({"technical_email"})
    technical_email: Email = ""
    notification_channels: Channels | None = None
    notification_webhook_url: EndpointUrl | None = None
    notification_webhook_secret: SigningSecret | None = None


class SubscriberPatch(Body):
    """A change of a subscriber."""

    needed = frozenset({"name", "contact"})
    name: Name = ""
    contact: ContactPatch = ContactPatch()


def parse_subscriber(body: Any, *, rules: Rules) -> SubscriberBody:
    """A new subscriber. Raises InvalidRequest with every problem, a missing webhook's among them."""
    contact = body.get("contact") if isinstance(body, dict) else None
    contact = contact if isinstance(contact, dict) else {}
    problems = webhook_problems(
        contact.get("notification_channels"),
        contact.get("notification_webhook_url"),
        contact.get("notification_webhook_secret"),
    )
    try:
        subscriber = validated(SubscriberBody, body, rules=rules)
        if not problems:
            return subscriber
    except InvalidRequest as error:
        problems = [*error.problems, *problems]
    raise InvalidRequest(*problems)


def webhook_problems(channels: Any, url: object, secret: object) -> list[Problem]:
    """Returns what is missing for notifications by webhook, if the channels list it (contract/wire.md 3)."""
    if not isinstance(channels, list | tuple) or "webhook" not in channels:
        return []
    needed = {"contact.notification_webhook_url": url, "contact.notification_webhook_secret": secret}
    return [
        Problem(field, "is required while notification_channels lists 'webhook'")
        for field, value in needed.items()
        if value is None
    ]
