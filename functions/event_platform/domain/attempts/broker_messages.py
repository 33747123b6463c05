"""Attributes, headers and keys for Pub/Sub and Kafka, and allowed topics (contract/wire.md 10b)."""

from dataclasses import dataclass
from typing import Any

from ..events import json_form
from ..events.catalog import Catalog
from ..subscriptions import KafkaConfig, PubSubConfig
from .delivery_headers import REPLAY

TYPE = "type"
"""The attribute, or record header, that names the event type."""
_BETWEEN = "/"


@dataclass(frozen=True, slots=True)
class TopicRules:
    """The rules for the Pub/Sub topics that subscribers may name.

    `own_project` is the one that our queues are in: who could have us publish there could write into them.
    `missing` says what the operator has to set up first; None when nothing is missing. `account` is the
    service account that publishes, None for whatever account Google's credentials are.
    """

    own_project: str | None = None
    missing: str | None = None
    account: str | None = None

    def check(self, project_id: str) -> None:
        """Raises ValueError, saying why, for a project whose topics we do not publish to."""
        if project_id.isdecimal():  # ours has one too, which is not known here
            raise ValueError("must be the project's id, not its number")
        if project_id == self.own_project:
            raise ValueError("must not be the platform's own project")


def attributes_of(event_type: str, config: PubSubConfig, replay_id: str | None = None) -> dict[str, str]:
    """The attributes of a message."""
    custom = {name: value.get_secret_value() for name, value in config.headers.items()}
    return _own(event_type, replay_id) | custom


def record_headers(
    event_type: str, config: KafkaConfig, replay_id: str | None = None
) -> list[tuple[str, bytes]]:
    """The headers of a record."""
    return [
        *((name, value.encode()) for name, value in _own(event_type, replay_id).items()),
        *((name, value.get_secret_value().encode()) for name, value in config.headers.items()),
    ]


def _own(event_type: str, replay_id: str | None) -> dict[str, str]:
    """The platform's own attributes."""
    return {TYPE: event_type} if replay_id is None else {TYPE: event_type, REPLAY.name: replay_id}


def record_key(event_type: str, event_id: str, body: bytes, known: Catalog) -> bytes:
    """The entity's identity, so that one entity's changes share a partition; the event's id without one.

    The parts of an identity are joined by a slash. `body` is a delivery's.
    """
    identity: tuple[str, ...] = ()
    if event_type in known and known[event_type].identity:
        envelope: Any = json_form.parse(body, round_integers=True, max_depth=json_form.MAX_DEPTH + 1)
        identity = known[event_type].identity_of(envelope["data"])
    return (_BETWEEN.join(identity) or event_id).encode("utf-8", "surrogatepass")
