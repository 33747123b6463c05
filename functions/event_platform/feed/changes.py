"""Changes that an item of the REST API shows, and the events that are made of them."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

import orjson

from ..domain.events import json_form
from ..domain.events.catalog import Catalog, lower_uuid
from ..domain.events.event import Event
from ..domain.events.facts import Facts
from ..domain.feeds import Mark, ResourceName, Round, key_of
from ..domain.ingest_formats.events_api import made_up_uuid
from .pages import Item
from .resources import UUID_ROUTE, Resource

AUTHOR = {"identifier": "unknown", "type": "unknown-user-type"}
"""The author of every event of a feed: the REST API does not say who changed something."""
CREATED, UPDATED, DELETED = "created", "updated", "deleted"


@dataclass(frozen=True, slots=True)
class Brought:
    """The webhook brought this of an entity: its newest `updated` in unix seconds, and its creation."""

    updated: int = -1
    created: bool = False


NOTHING_BROUGHT = Brought()


@dataclass(frozen=True, slots=True)
class Entity:
    """The entity that an item is about. `known_as` names it in the PIM's API, `identity` in events."""

    identity: tuple[str, ...]
    known_as: str
    identifier: str | None = None

    @property
    def key(self) -> bytes:
        """The bytes that stand for the identity within its resource."""
        return key_of(self.identity)


def entity_of(item: Item, resource: Resource, route: str, parent: str | None, tenant: str) -> Entity | None:
    """The entity of an item; None if the item does not name it."""
    if resource.name is ResourceName.PRODUCTS:
        if route == UUID_ROUTE:
            known_as = lower_uuid(item.uuid)
            return Entity((known_as,), known_as, item.identifier or None) if known_as else None
        if not item.identifier:
            return None
        return Entity((made_up_uuid(tenant, item.identifier),), item.identifier, item.identifier)
    if not item.code:
        return None
    return Entity((item.code,) if parent is None else (parent, item.code), item.code)


@dataclass(frozen=True, slots=True)
class Found:
    """The actions that an item shows, with the date that each is about, and what is remembered of it.

    `mark` is None where nothing new is to be remembered.
    """

    actions: Sequence[tuple[str, datetime]]
    mark: Mark | None


def changes_of(item: Item, known: Mark | None, brought: Brought, asked: Round, upper: datetime) -> Found:
    """Returns the actions of an item, by what is known of its entity. The round ends at `upper`."""
    if item.created is not None:
        return _of_dated(item, item.created, known, brought, asked, _seconds(upper))
    if item.updated is not None:
        return _of_updated(item.updated, known, asked, _seconds(upper))
    return _of_undated(item, known, asked, upper)


def _of_dated(
    item: Item, created_at: datetime, known: Mark | None, brought: Brought, asked: Round, upper: int
) -> Found:
    created, updated = _seconds(created_at), _seconds(item.updated or created_at)
    actions: list[tuple[str, datetime]] = []
    lower = -1 if asked.lower is None else _seconds(asked.lower)
    is_new = lower < created <= upper and (known is None or known.created != created)
    is_changed = created < updated <= upper and lower < updated
    if known is not None and known.created == created and (known.updated or 0) >= updated:
        is_changed = False
    if not is_new and not is_changed:
        return Found((), None)
    if is_new and not brought.created:
        actions.append((CREATED, created_at))
    if is_changed and brought.updated < updated:
        actions.append((UPDATED, item.updated or created_at))
    return Found(actions, Mark(created=created, updated=updated if is_changed else created))


def _of_updated(updated_at: datetime, known: Mark | None, asked: Round, upper: int) -> Found:
    updated = _seconds(updated_at)
    if updated > upper and asked.emits:
        return Found((), None)
    if known is None:
        action = UPDATED if asked.is_backfill else CREATED
    elif (known.updated or 0) < updated or asked.is_backfill:
        action = UPDATED
    else:
        return Found((), None)
    return Found(((action, updated_at),) if asked.emits else (), Mark(updated=updated))


def _of_undated(item: Item, known: Mark | None, asked: Round, upper: datetime) -> Found:
    if known is not None and known.digest == item.digest and not asked.is_backfill:
        return Found((), None)
    action = CREATED if known is None and not asked.is_backfill else UPDATED
    return Found(((action, upper),) if asked.emits else (), Mark(digest=item.digest))


def event_of(
    resource: Resource,
    action: str,
    at: datetime,
    entity: Entity,
    *,
    tenant: str,
    catalog: Catalog,
    digest: bytes = b"",
) -> Event | None:
    """The event of an action; None if the PIM's data do not fit its schema.

    Its id is the same whenever the same change is found again.
    """
    event_type = catalog[resource.type_of(action)]
    data = {resource.entity: resource.data_of(entity.identity, entity.identifier), "author": AUTHOR}
    if event_type.problems_of(data, first_only=True):
        return None
    moment = at.astimezone(UTC).isoformat().replace("+00:00", "Z")
    name = orjson.dumps([event_type.name, *entity.identity, moment, digest.hex()]).decode()
    return Event(
        str(uuid.uuid5(_namespace(tenant), name)),
        event_type.name,
        moment,
        Facts(event_type.name, data),
        json_form.stringify(data),
        event_type.identity_of(data),
    )


@lru_cache(maxsize=256)
def _namespace(tenant: str) -> uuid.UUID:
    return uuid.uuid5(uuid.NAMESPACE_URL, tenant)


def _seconds(moment: datetime) -> int:
    """The moment in whole seconds, which is all that dates of the PIM tell apart."""
    return int(moment.timestamp() // 1)
