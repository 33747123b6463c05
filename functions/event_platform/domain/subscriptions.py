"""Subscribers and subscriptions: what they hold, how their status may change (contract/wire.md 3 to 5)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias

from pydantic import SecretStr

from .errors import Conflict, NotFound
from .pace.lanes import LANES_AT_START
from .pace.rates import Rate
from .urls import host_and_port_of_broker, host_of

SUBSCRIBERS_PER_PIM = 20
SUBSCRIPTIONS_PER_SUBSCRIBER = 20
SHOWN_AFTER_DELETION = timedelta(days=30)

REDACTED = "***redacted***"
"""The text that is shown in place of a secret (contract/wire.md 4)."""

Headers: TypeAlias = Mapping[str, SecretStr]


class Status(StrEnum):
    """`deleted` is final; `revoked` can only be deleted."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    REVOKED = "revoked"
    DELETED = "deleted"


class Owner(NamedTuple):
    """An owner of data: a client (connection or App) of one PIM. `tenant` is the PIM's normalised URL."""

    tenant: str
    client_id: str


@dataclass(frozen=True, slots=True)
class Contact:
    """The addresses at which a subscriber is notified of changes."""

    technical_email: str
    notification_channels: tuple[str, ...] = ("email",)
    notification_webhook_url: str | None = None
    notification_webhook_secret: SecretStr | None = None


@dataclass(frozen=True, slots=True)
class Subscriber:
    """An application that subscribes. `subject` is the PIM's URL as it was first sent."""

    id: str
    owner: Owner
    name: str
    subject: str
    contact: Contact
    created_at: datetime
    updated_at: datetime
    status: Status = Status.ACTIVE


@dataclass(frozen=True, slots=True)
class HttpsConfig:
    """An https destination."""

    type: ClassVar[str] = "https"
    url: str
    primary_secret: SecretStr
    secondary_secret: SecretStr | None = None
    headers: Headers = field(default_factory=dict[str, SecretStr])

    @property
    def destination(self) -> str:
        """The destination as notifications and the operator's overview name it (contract/wire.md 12)."""
        return self.url

    @property
    def host(self) -> str:
        """The origin by which outages are counted."""
        return host_of(self.url)


@dataclass(frozen=True, slots=True)
class PubSubConfig:
    """A topic of Google Pub/Sub; custom headers are attributes."""

    type: ClassVar[str] = "pubsub"
    host: ClassVar[str] = "pubsub.googleapis.com"
    project_id: str
    topic_id: str
    headers: Headers = field(default_factory=dict[str, SecretStr])

    @property
    def destination(self) -> str:
        """The topic's full name."""
        return f"projects/{self.project_id}/topics/{self.topic_id}"


@dataclass(frozen=True, slots=True)
class Sasl:
    """Credentials for a Kafka cluster. `mechanism` is Kafka's name: PLAIN, SCRAM-SHA-256 or -512."""

    mechanism: str
    username: str
    password: SecretStr


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS to a Kafka cluster: the brokers' name and authorities, and our certificate with its key (PEM)."""

    server_name: str
    ca_pem: str
    client_cert_pem: str
    client_key_pem: SecretStr


@dataclass(frozen=True, slots=True)
class KafkaConfig:
    """A Kafka topic; `broker` (host:port) is asked for the cluster's others. Without `tls` plain TCP."""

    type: ClassVar[str] = "kafka"
    broker: str
    topic: str
    sasl: Sasl
    tls: Tls | None = None
    headers: Headers = field(default_factory=dict[str, SecretStr])

    @property
    def destination(self) -> str:
        """The topic."""
        return self.topic

    @property
    def host(self) -> str:
        """The host of the broker that is asked first."""
        return host_and_port_of_broker(self.broker)[0]


Config: TypeAlias = HttpsConfig | PubSubConfig | KafkaConfig


@dataclass(frozen=True, slots=True)
class Missed:
    """The events that a suspension holds back, where topics keep them: those accepted from `since` on.

    Deliveries of `epoch` and later ones were waiting. `until` is None while the subscription is suspended.
    Once it is resumed, catching up has the events accepted before `until`, and fan-out the later ones.
    `is_done` means that all of them are in the lanes.
    """

    epoch: int
    since: datetime
    until: datetime | None = None
    is_done: bool = False

    def has(self, accepted_at: datetime) -> bool:
        """True if events that were accepted then are delivered by catching up."""
        return self.until is not None and self.since <= accepted_at < self.until


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription: the events that are delivered, and their destination.

    `epoch` counts suspensions, resumptions and the deletion: deliveries of an older epoch are dropped.
    `lanes` is the number of ordering keys that its deliveries travel under, `rate` None until the receiver
    first slowed it down. `filter` is an expression of contract/wire.md 7. With `catch_up`, what comes while
    it is suspended is delivered when it is resumed. `replay_id` names the replay whose deliveries are sent:
    those of any other one are dropped. `missed` and `shared_until` are of Google Cloud: until then the lanes
    of a replay take turns with the others.
    """

    id: str
    subscriber_id: str
    owner: Owner
    source: str
    subject: str
    events: tuple[str, ...]
    config: Config
    created_at: datetime
    updated_at: datetime
    filter: str | None = None
    send_product_identifier: bool = False
    options: Mapping[str, Any] | None = None
    status: Status = Status.ACTIVE
    epoch: int = 0
    lanes: int = LANES_AT_START
    lanes_changed_at: datetime | None = None
    rate: Rate | None = None
    catch_up: bool = False
    replay_id: str | None = None
    missed: Missed | None = None
    shared_until: datetime | None = None

    @property
    def current_rate(self) -> Rate:
        """The rate that is stored, or the one that every subscription begins with."""
        return self.rate or _first_rate(self.created_at)

    @property
    def type(self) -> str:
        """The destination's type as the wire names it."""
        return self.config.type

    @property
    def is_paced(self) -> bool:
        """True if its rate adapts and its success rate is judged: for https only (contract/wire.md 11)."""
        return isinstance(self.config, HttpsConfig)


class Recipient(Protocol):
    """The fields of a subscription that matching and fan-out look at."""

    @property
    def id(self) -> str: ...
    @property
    def owner(self) -> Owner: ...
    @property
    def source(self) -> str: ...
    @property
    def events(self) -> Collection[str]: ...
    @property
    def filter(self) -> str | None: ...
    @property
    def send_product_identifier(self) -> bool: ...
    @property
    def status(self) -> Status: ...
    @property
    def epoch(self) -> int: ...
    @property
    def lanes(self) -> int: ...


@lru_cache(maxsize=10_000)
def _first_rate(created_at: datetime) -> Rate:
    """Remembered, as it is asked for several times with every delivery."""
    return Rate(created_at)


def check_known(record: Subscriber | Subscription, now: datetime) -> None:
    """Raises NotFound for what was deleted more than 30 days ago (contract/wire.md 2)."""
    if record.status is Status.DELETED and now - record.updated_at > SHOWN_AFTER_DELETION:
        raise NotFound(f"{_noun(record)} {record.id} is unknown")


def check_changeable(record: Subscriber | Subscription, now: datetime) -> None:
    """Raises Conflict for what is deleted or revoked and so can't be changed (contract/wire.md 2)."""
    check_known(record, now)
    if record.status in (Status.DELETED, Status.REVOKED):
        raise Conflict(f"{_noun(record)} {record.id} is {record.status} and cannot be changed")


def suspend(subscription: Subscription, now: datetime) -> Subscription:
    """Suspended; the same object when it already is. Raises Conflict when deleted or revoked."""
    return _with_status(subscription, Status.SUSPENDED, now)


def resume(subscription: Subscription, now: datetime) -> Subscription:
    """Active again; the same object when it already is. Raises Conflict when deleted or revoked."""
    return _with_status(subscription, Status.ACTIVE, now)


def revoke_subscription(subscription: Subscription, now: datetime) -> Subscription:
    """Revoked, for the connection or App is gone; the same object when it is already, or deleted."""
    if subscription.status in (Status.REVOKED, Status.DELETED):
        return subscription
    return replace(subscription, status=Status.REVOKED, epoch=subscription.epoch + 1, updated_at=now)


def revoke_subscriber(subscriber: Subscriber, now: datetime) -> Subscriber:
    """Revoked; the same object when it is already, or deleted."""
    if subscriber.status in (Status.REVOKED, Status.DELETED):
        return subscriber
    return replace(subscriber, status=Status.REVOKED, updated_at=now)


def delete_subscription(subscription: Subscription, now: datetime) -> Subscription:
    """Deleted, for good. Raises Conflict when it already is."""
    _check_deletable(subscription, now)
    return replace(subscription, status=Status.DELETED, epoch=subscription.epoch + 1, updated_at=now)


def delete_subscriber(subscriber: Subscriber, now: datetime) -> Subscriber:
    """Deleted, for good. Raises Conflict when it already is."""
    _check_deletable(subscriber, now)
    return replace(subscriber, status=Status.DELETED, updated_at=now)


def _with_status(subscription: Subscription, status: Status, now: datetime) -> Subscription:
    check_changeable(subscription, now)
    if subscription.status is status:
        return subscription
    return replace(subscription, status=status, epoch=subscription.epoch + 1, updated_at=now)


def _check_deletable(record: Subscriber | Subscription, now: datetime) -> None:
    check_known(record, now)
    if record.status is Status.DELETED:
        raise Conflict(f"{_noun(record)} {record.id} is already deleted")


def _noun(record: Subscriber | Subscription) -> str:
    return "subscriber" if isinstance(record, Subscriber) else "subscription"
