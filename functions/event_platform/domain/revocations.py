"""Events that say that a connection or App was removed from the PIM (contract/wire.md 5)."""

from collections.abc import Mapping

from .events.event import Event
from .record.actions import Action, Actor
from .tenants import is_client_id

_GONE: Mapping[str, str] = {
    "com.akeneo.pim.v1.connection.deleted": "connection",
    "com.akeneo.pim.v1.app.deleted": "app",
}
"""The part of `data` that names the client id, by event type."""


def client_gone(event: Event) -> str | None:
    """Returns the client id whose connection or App was removed; None if the event is of another kind.

    What no caller can have as client id names nobody: a store may be unable to look for it, and events from
    a relay come unchecked.
    """
    noun = _GONE.get(event.type)
    if noun is None:
        return None
    client_id: object = event.facts.part(noun).get("client_id")
    return client_id if isinstance(client_id, str) and is_client_id(client_id) else None


def revoking(event: Event) -> Action:
    """The action under which what the client has is revoked."""
    return Action(Actor.PLATFORM, reason=f"the {_GONE[event.type]} was removed from the PIM")
