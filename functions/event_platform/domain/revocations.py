"""Clients whose connection or App was removed from the PIM (contract/wire.md 5), and what they lose."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from .events.event import Event
from .record.actions import Action, Actor
from .subscriptions import Owner, Status, Subscriber
from .tenants import is_client_id

_GONE: Mapping[str, str] = {
    "com.akeneo.pim.v1.connection.deleted": "connection",
    "com.akeneo.pim.v1.app.deleted": "app",
}
"""The part of `data` that names the client id, by event type."""
REMOVALS = frozenset(_GONE)
"""The types of the events that say it."""


@dataclass(frozen=True, slots=True)
class RemovedClient:
    """A client whose connection or App was removed from its PIM, by an event that was accepted `at` a time.

    Its subscribers are revoked under `action`, each with its subscriptions, before the event is fanned out.
    """

    owner: Owner
    at: datetime
    action: Action

    def loses(self, subscriber: Subscriber) -> bool:
        """True if the client's subscriber is to be revoked.

        One that was made after the event came stays: the client has come back since. So an event that is
        handled again changes nothing.
        """
        return subscriber.status is Status.ACTIVE and subscriber.created_at <= self.at


def removed_client(event: Event, tenant: str, at: datetime) -> RemovedClient | None:
    """Returns the client that an event says was removed; None if the event is of another kind.

    What no caller can have as client id names nobody: a store may be unable to look for it, and events from
    a relay come unchecked.
    """
    noun = _GONE.get(event.type)
    if noun is None:
        return None
    client_id: object = event.facts.part(noun).get("client_id")
    if not isinstance(client_id, str) or not is_client_id(client_id):
        return None
    action = Action(Actor.PLATFORM, reason=f"the {noun} was removed from the PIM")
    return RemovedClient(Owner(tenant, client_id), at, action)
