"""The file of `aep export`: tenants, subscribers, subscriptions and feeds of one store, for another one.

It is one JSON document of mode 0600. Its secrets are sealed with a key that is not in it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from event_platform.documents import (
    DAMAGED,
    Document,
    feed_document,
    feed_of,
    subscriber_document,
    subscriber_of,
    subscription_document,
    subscription_of,
    tenant_document,
    tenant_of,
)
from event_platform.domain.feeds import Feed, ResourceName, ResourceState, to_move
from event_platform.domain.pace.lanes import LANES_AT_START
from event_platform.domain.subscriptions import Status, Subscriber, Subscription
from event_platform.domain.tenants import Tenant
from event_platform.domain.validation_words import json_words, words_of
from event_platform.ports import Seal

from ..errors import BadExport, MoveRefused, WrongKey
from .copies import sync_folder
from .files import written_beside

FORMAT = "aep-export"
VERSION = 1
_CHECK = "export_check"
_KEY_IN_A_PROJECT = {
    "tenants": ", of a project in AEP_REGISTRY_KEY",
    "feeds": ", of a project in AEP_FEED_KEY",
}

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Records:
    """The records that move, in the order of names and ids: no deleted ones, and subscriptions without their
    pace. Feeds are off, and begin from where they are complete.
    """

    tenants: Sequence[Tenant]
    subscribers: Sequence[Subscriber]
    subscriptions: Sequence[Subscription]
    feeds: Sequence[Feed] = field(default_factory=list[Feed])

    def families(self) -> Mapping[str, Sequence[tuple[Subscriber, Sequence[Subscription]]]]:
        """The subscribers with their subscriptions, by their tenant."""
        of: dict[str, list[Subscription]] = {each.id: [] for each in self.subscribers}
        for subscription in self.subscriptions:
            of[subscription.subscriber_id].append(subscription)
        families: dict[str, list[tuple[Subscriber, Sequence[Subscription]]]] = {}
        for each in self.subscribers:
            families.setdefault(each.owner.tenant, []).append((each, of[each.id]))
        return families

    def counts(self) -> dict[str, int]:
        return {
            "pims": len(self.tenants),
            "subscribers": len(self.subscribers),
            "subscriptions": len(self.subscriptions),
            "feeds": len(self.feeds),
        }


class ExportFile(BaseModel):
    """The content. `check` is a text that only the right key opens; the rest are documents of `records`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["aep-export"]
    version: Literal[1]
    exported_at: datetime
    check: str
    tenants: list[Document]
    subscribers: list[Document]
    subscriptions: list[Document]
    feeds: list[Document] = []

    @property
    def key_id(self) -> str:
        """The name of the key that its secrets are sealed with."""
        return self.check.partition(".")[0]


def records_of(
    documents: Mapping[str, Iterable[Document]],
    states: Mapping[str, Mapping[ResourceName, ResourceState]],
    seal: Seal,
) -> Records:
    """Reads the records of a store from its documents, by the name of their table or collection.

    `states` say by PIM how far feeds have come. Raises WrongKey when a secret cannot be opened.
    """

    def opened(name: str, record_of: Callable[[Mapping[str, Any], Seal], R]) -> list[R]:
        try:
            return [record_of(each, seal) for each in documents[name] if each.get("status") != Status.DELETED]
        except ValueError as error:
            raise WrongKey(
                f"{name} were sealed with another key ({error}): put it behind the others in"
                f" AEP_SECRETS_KEY{_KEY_IN_A_PROJECT.get(name, '')}"
            ) from error

    return Records(
        sorted(opened("tenants", tenant_of), key=lambda each: each.name),
        sorted(opened("subscribers", subscriber_of), key=lambda each: each.id),
        sorted(map(_without_pace, opened("subscriptions", subscription_of)), key=lambda each: each.id),
        sorted(
            (to_move(each, states.get(each.tenant, {})) for each in opened("feeds", feed_of)),
            key=lambda each: each.tenant,
        ),
    )


def write(path: Path, records: Records, seal: Seal) -> None:
    """Writes the file; it is durable when this returns, and has its name only when it is whole.

    Raises MoveRefused, OSError.
    """
    content = ExportFile(
        format=FORMAT,
        version=VERSION,
        exported_at=datetime.now(UTC),
        check=seal.seal(_CHECK, context=_CHECK),
        tenants=[tenant_document(each, seal) for each in records.tenants],
        subscribers=[subscriber_document(each, seal) for each in records.subscribers],
        subscriptions=[subscription_document(each, seal) for each in records.subscriptions],
        feeds=[feed_document(each, seal) for each in records.feeds],
    )
    absent = set[str]() if content.feeds else {"feeds"}  # programs of before know none
    temporary = written_beside(path, content.model_dump_json(indent=1, exclude=absent).encode())
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        raise MoveRefused(f"{path} exists: choose another name, or remove it") from None
    finally:
        temporary.unlink()
    sync_folder(path.parent)


def read(path: Path) -> ExportFile:
    """Reads the file; its secrets stay sealed. Raises BadExport, OSError."""
    try:
        content = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise BadExport(f"{path} is no whole file of `aep export`: it is {json_words(error)}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise BadExport(f"{path} is no file of `aep export`")
    if content.get("version") != VERSION:
        raise BadExport(
            f"{path} has version {content.get('version')} of the form, and this program knows {VERSION}:"
            " import it with the version of the program that wrote it, or a later one"
        )
    try:
        return ExportFile.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise BadExport(f"{path} is damaged, {'.'.join(map(str, first['loc']))}: {words_of(first)}") from None


def open_with(file: ExportFile, seal: Seal) -> Records:
    """Opens the records in the file.

    Raises WrongKey, and BadExport naming the record that cannot be understood.
    """
    try:
        seal.open(file.check, context=_CHECK)
    except ValueError:
        raise WrongKey(
            f"the file was sealed with the key {file.key_id}, which is not among yours: put it behind the"
            " store's own in AEP_SECRETS_KEY, separated by a comma"
        ) from None
    records = Records(
        _understood("tenants", file.tenants, lambda each: tenant_of(each, seal)),
        _understood("subscribers", file.subscribers, lambda each: subscriber_of(each, seal)),
        _understood("subscriptions", file.subscriptions, lambda each: subscription_of(each, seal)),
        _understood("feeds", file.feeds, lambda each: feed_of(each, seal)),
    )
    _check(records)
    return records


def _understood(name: str, documents: Sequence[Document], record_of: Callable[[Document], R]) -> list[R]:
    records: list[R] = []
    for number, document in enumerate(documents):
        try:
            records.append(record_of(document))
        except DAMAGED as error:
            # Not the error's text: it could quote a secret.
            is_missing = isinstance(error, KeyError)
            wrong = f"{error} is missing" if is_missing else "a value is not what was exported"
            raise BadExport(f"the file is damaged, {name}[{number}]: {wrong}") from None
    return records


def _check(records: Records) -> None:
    """Raises BadExport when the records do not belong together, as those of a store do."""
    owners = {each.id: each.owner for each in records.subscribers}
    names = {each.name for each in records.tenants}
    fed = {each.tenant for each in records.feeds}
    if (
        len(owners) < len(records.subscribers)
        or len(names) < len(records.tenants)
        or len(fed) < len(records.feeds)
    ):
        raise BadExport("the file is damaged: a subscriber, a PIM or its feed is in it twice")
    if len({each.id for each in records.subscriptions}) < len(records.subscriptions):
        raise BadExport("the file is damaged: a subscription is in it twice")
    for each in records.subscriptions:
        if owners.get(each.subscriber_id) != each.owner:
            raise BadExport(
                f"the file is damaged: subscription {each.id} has no subscriber of its owner in it"
            )


def _without_pace(subscription: Subscription) -> Subscription:
    return replace(subscription, lanes=LANES_AT_START, lanes_changed_at=None, rate=None)
