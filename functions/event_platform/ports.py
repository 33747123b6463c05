"""Ports: the protocols of what the functions need. Each is named after the need.

The embedded store and broker and Google's services implement these; the suites in `tests/contract`
say what an implementation must do.
"""

from asyncio import Future
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, Protocol, TypeVar

from .domain.attempts.outcomes import Answer, LastFailure, Published, Refusal, TransportFailure
from .domain.deliveries import Delivery, Settlement
from .domain.errors import EventPlatformError
from .domain.events.event import Event
from .domain.feeds import Feed, Mark, ResourceName, ResourceState
from .domain.kept_events import KeptEvent, KeptPage, KeptQuery, KeptWithData
from .domain.messages.message import Message
from .domain.record.actions import BY_THE_PLATFORM, Action
from .domain.record.logs import DeliveryEnd, LogEntry, LogQuery
from .domain.record.notifications import Allowance, Mail, MailFailure, Pending
from .domain.replays import PushedReplay, Replay, ReplayStatus
from .domain.subscriptions import KafkaConfig, Owner, PubSubConfig, Status, Subscriber, Subscription
from .domain.suspension import Count, Series
from .domain.tenants import Tenant, Way
from .domain.webhook_notes import WebhookNote

T = TypeVar("T")


class Clock(Protocol):
    """Time, as an argument: tests inject one that they move."""

    def now(self) -> datetime:
        """Aware, UTC: for what is due, for ages, and for times in the store.

        Where one process owns the store it never goes back. Elsewhere it may step, as when a clock is set.
        """
        ...

    def wall(self) -> datetime:
        """The machine's wall clock as it is, aware, UTC: beside times that other machines wrote."""
        ...

    def monotonic(self) -> float:
        """Seconds that only ever go forward, from any start: for paces and for how long something is kept."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class TenantRegistry(Protocol):
    """The PIMs that the platform works for."""

    async def tenants(self) -> Sequence[Tenant]:
        """Returns all entries, exact URLs before patterns; at most 5 s old."""
        ...


class RegistryAtOnce(Protocol):
    """The registry of PIMs for those who do not wait."""

    def tenants_at_once(self) -> Sequence[Tenant] | None:
        """Returns what `tenants` returns; None if they have to be read first."""
        ...


class IngestObserver(Protocol):
    """Notes what comes of the calls of ingest. Neither method waits."""

    def taken(self, tenant: str, way: Way, events: int) -> None:
        """Notes a call that was answered 2xx and brought so many events, 0 when it was a test."""
        ...

    def refused(self, tenant: str, way: Way, status: int, reason: str) -> None:
        """Notes a call that was refused; `tenant` is empty when nothing says whose it was."""
        ...


class Reader(Protocol):
    """Reads large bodies where it holds up nobody."""

    async def run(
        self, owner: str, function: Callable[..., T], body: bytes | bytearray, *arguments: object
    ) -> T:
        """Returns what the function, one of a module, makes of the catalog, the body and the arguments.

        Owners take turns. Raises what the function raises, and Overloaded.
        """
        ...


class PimGateway(Protocol):
    """Calls back to PIMs, to learn whose token it is."""

    async def get(self, tenant: Tenant, pim_url: str, path: str, token: str) -> Answer:
        """GET `pim_url` + `path` with the token as bearer, within 3 s.

        Raises PimUnavailable when no answer came or it was a 5xx or 429. For a tenant of a pattern only
        public addresses are connected to.
        """
        ...


class DestinationGuard(Protocol):
    """Says where strangers may have us connect to."""

    async def check(self, host: str) -> None:
        """Raises ValueError, saying why, when the host is or resolves to an address that is refused.

        A name that does not resolve now passes: it fails later as `dns_lookup_failure`.
        """
        ...


class SubscriptionChanges(Protocol):
    """Changes of subscriptions alone, as `Subscriptions` makes them."""

    async def change_subscription(
        self,
        owner: Owner,
        subscriber_id: str,
        subscription_id: str,
        change: Callable[[Subscription], Subscription],
        *,
        action: Action = BY_THE_PLATFORM,
    ) -> Subscription:
        """The changed record. Raises NotFound."""
        ...


class TopicLabels(Protocol):
    """Reads what the owner of a subscriber's Pub/Sub topic has written on it."""

    async def label(self, project_id: str, topic_id: str, name: str) -> str | None:
        """The label's value. None when there is none, or when we may not or cannot read it now."""
        ...


class Subscriptions(SubscriptionChanges, Protocol):
    """The records of subscribers and subscriptions, as management changes them.

    A record of another owner is NotFound. `change` functions are pure and may be called more than
    once; what they raise reaches the caller and leaves the record as it was, as does returning the same
    object. Every method raises StoreUnavailable when the store is away, and a change is durable and in
    force for new deliveries when it returns (on Google: within 5 s). Each record that a change makes another
    one of gets its log entry, by `action`, and its notification a place in the outbox, in the same
    commit.

    A Pub/Sub topic is held by the client that named it first, until none of its subscriptions names it any
    more. A change by which another client would name it too, or resume a subscription that does, raises
    TopicHeld. With `takes_topic` that client takes it, and the active subscriptions of the first client that
    name it are suspended in the same commit.
    """

    async def change_subscription(
        self,
        owner: Owner,
        subscriber_id: str,
        subscription_id: str,
        change: Callable[[Subscription], Subscription],
        *,
        action: Action = BY_THE_PLATFORM,
        takes_topic: bool = False,
        catch_up: bool | None = None,
    ) -> Subscription:
        """The changed record. Raises NotFound, TopicHeld.

        A change that resumes it has it catch up by `catch_up`; by what the record says where that is None.
        """
        ...

    async def add_subscriber(
        self, subscriber: Subscriber, *, limit: int, action: Action = BY_THE_PLATFORM
    ) -> None:
        """Raises Conflict when the PIM already has `limit` subscribers that are not deleted."""
        ...

    async def subscriber(self, owner: Owner, subscriber_id: str) -> Subscriber:
        """Raises NotFound."""
        ...

    async def subscribers(self, owner: Owner) -> Sequence[Subscriber]:
        """Returns all but the deleted ones, oldest first."""
        ...

    async def change_subscriber(
        self,
        owner: Owner,
        subscriber_id: str,
        change: Callable[[Subscriber], Subscriber],
        *,
        and_subscriptions: Callable[[Subscription], Subscription] | None = None,
        action: Action = BY_THE_PLATFORM,
    ) -> Subscriber:
        """The changed record, and in the same step those of its subscriptions. Raises NotFound."""
        ...

    async def add_subscription(
        self,
        subscription: Subscription,
        check: Callable[[Subscriber], None],
        *,
        limit: int,
        action: Action = BY_THE_PLATFORM,
        takes_topic: bool = False,
    ) -> None:
        """`check` sees its subscriber and may raise. Raises NotFound, TopicHeld, Conflict over `limit`."""
        ...

    async def subscription(self, owner: Owner, subscriber_id: str, subscription_id: str) -> Subscription:
        """Raises NotFound."""
        ...

    async def subscriptions(self, owner: Owner, subscriber_id: str) -> Sequence[Subscription]:
        """Returns all but the deleted ones, oldest first."""
        ...


class Replays(Protocol):
    """Kept events that are sent again. All methods but the first raise StoreUnavailable."""

    def check_kept(self) -> None:
        """Raises Conflict, which names the setting, if no events are kept."""
        ...

    async def start(self, owner: Owner, subscriber_id: str, replay: Replay, *, action: Action) -> Replay:
        """Starts the replay, which goes on by itself, and logs that by `action` in the same commit.

        Raises NotFound, InvalidRequest (older than what is kept, or too many events) and Conflict (the
        subscription is not active, or a replay of it is running).
        """
        ...

    async def replays(self, subscription_id: str) -> Sequence[Replay]:
        """Returns the latest of the subscription, newest first."""
        ...

    async def replay(self, subscription_id: str, replay_id: str) -> Replay:
        """Raises NotFound."""
        ...

    async def cancel(
        self,
        owner: Owner,
        subscriber_id: str,
        subscription_id: str,
        replay_id: str,
        *,
        now: datetime,
        action: Action,
    ) -> Replay:
        """Ends it: what waits of it is dropped. Raises NotFound, and Conflict if it has ended otherwise."""
        ...


class KeptEvents(Protocol):
    """Accepted events that are kept. All methods but the first raise StoreUnavailable."""

    def check_kept(self) -> None:
        """Raises Conflict, which names the setting, if no events are kept."""
        ...

    async def page(self, owner: Owner, query: KeptQuery) -> KeptPage:
        """Returns events of the owner's PIM, with the courses of the owner's deliveries.

        A page may end before its limit, where finding more would take long.
        """
        ...

    async def with_data(self, events: Sequence[KeptEvent]) -> Sequence[KeptWithData]:
        """Returns those that are still kept, with their data."""
        ...


class ReplayLookup(Protocol):
    """Replays as fan-out sees them where it is a function of its own. All methods raise StoreUnavailable."""

    async def running(self, replay_id: str) -> PushedReplay | None:
        """Returns it as it was 5 s ago at most; None if there is none, or it is not running."""
        ...

    async def note_push(self, replay_id: str) -> None:
        """Notes that an event of its range was pushed; of one instance once in 10 s at most."""
        ...

    async def reopen(self, replay_id: str) -> None:
        """Notes that a replay that is not running is still pushed, so that its push subscriptions go."""
        ...


class ReplayCounts(Protocol):
    """The numbers of replays where topics keep the events: near to the truth, and late."""

    async def add(self, replay_id: str, *, events: int = 0, delivered: int = 0, ended: int = 0) -> None:
        """Counts events that are in the lanes, and deliveries that arrived or ended. It may wait for 5 s."""
        ...


class OpenReplays(Protocol):
    """Replays for which there may be push subscriptions. All methods raise StoreUnavailable."""

    async def open(self) -> Sequence[PushedReplay]:
        """Returns some of them: those of one tick."""
        ...

    async def watch(self, replay_id: str, *, as_pushed: bool) -> None:
        """Notes that it was looked at now, and `as_pushed` that the time without a push begins now."""
        ...

    async def close(self, pushed: PushedReplay, status: ReplayStatus, reason: Status | None) -> None:
        """Notes that it has no push subscriptions any more, and how it ended if it was running."""
        ...


class ReplayPushes(Protocol):
    """The push subscriptions of replays. Both methods raise Unavailable, and may be repeated."""

    async def make(self, pushed: PushedReplay) -> None:
        """Has the events of its range, and later ones, pushed to fan-out."""
        ...

    async def remove(self, pushed: PushedReplay) -> None:
        """Ends that."""
        ...


class WaitingRetries(Protocol):
    """The deliveries that wait for their next attempt."""

    async def retry_now(self, subscription_id: str) -> int:
        """Makes those of the subscription due now; returns how many. Raises StoreUnavailable."""
        ...


class FailedAttempts(Protocol):
    """The attempts that were no success."""

    async def last_failure(self, subscription_id: str) -> LastFailure | None:
        """Returns the last one of the subscription; None if there was none. Raises StoreUnavailable."""
        ...


class SubscriberLookup(Protocol):
    """The subscriber that a notification is for."""

    async def subscriber(self, owner: Owner, subscriber_id: str) -> Subscriber:
        """Raises NotFound, and StoreUnavailable."""
        ...


class SubscriptionLookup(Protocol):
    """The subscription that a delivery is for."""

    async def current(self, subscription_id: str) -> Subscription | None:
        """Returns it as it is now (on Google at most 5 s ago); None if there is no such record any more."""
        ...


class Paces(Protocol):
    """The rate and the lanes of subscriptions, which receivers steer and nobody else sees."""

    async def change_pace(self, subscription_id: str, change: Callable[[Subscription], Subscription]) -> None:
        """Writes `rate`, `lanes` and `lanes_changed_at` of what `change` returns, and nothing else of it.

        Conditional: `change` sees the record as it is when it is written, so it may be called again, and
        may return the same object to leave it. No record, no change. Raises StoreUnavailable.
        """
        ...


class SuccessCounts(Protocol):
    """Attempts that succeeded and failed, by series and minute. Both methods raise StoreUnavailable."""

    async def add(self, counts: Mapping[Series, Mapping[int, Count]]) -> None:
        """Adds to what is counted of each minute; what another instance adds at the same time adds up.

        A figure may be negative: it takes back what turned out not to count. Kept for two hours at least.
        """
        ...

    async def since(self, series: Series, minute: int) -> Mapping[int, Count]:
        """Returns what all have counted in the series in that minute and the 59 after it."""
        ...


class ActiveSubscriptions(Protocol):
    """The subscriptions that a tenant's events are matched with, where fan-out is a function of its own."""

    async def active(self, tenant: str) -> Sequence[Subscription]:
        """The active ones of the tenant (a normalised PIM URL), at most 5 s old. Raises StoreUnavailable."""
        ...

    async def suspended(self, tenant: str) -> Sequence[Subscription]:
        """The suspended ones, as `active` has the others."""
        ...


class MissedEvents(Protocol):
    """The beginning of what suspended subscriptions have missed, where topics keep the events."""

    async def note(self, subscription_id: str, accepted_at: datetime) -> None:
        """Notes an event that a subscription did not get as it is suspended: catching up begins no later.

        Nothing is written if it begins early enough. Raises StoreUnavailable, also if the subscription was
        resumed meanwhile: it gets the event after all.
        """
        ...


class Intake(Protocol):
    """Takes the events of ingest."""

    async def accept(self, tenant: str, events: Sequence[Event], *, way: Way = Way.CLOUDEVENTS) -> None:
        """Makes the events durable, all or none, when it returns.

        `way` is the ingest format that they came in. An id that this tenant sent in the last 10 minutes, or
        twice here, fans out once; a relayed one fans out once in 24 hours of relayed events. Raises
        StoreUnavailable, or PublishFailed where they go to a topic.
        """
        ...


class IntakeAtOnce(Protocol):
    """Takes the events of ingest from those who do not wait."""

    def submit(self, tenant: str, events: Sequence[Event], *, way: Way) -> "Future[object] | None":
        """Submits events; the future ends as `Intake.accept` does.

        None, and nothing was done, if an answer has to wait for more than the events.
        """
        ...


class Call(Protocol):
    """A whole request on the short way, and who answers it."""

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """Names in lower case, and values."""
        ...

    @property
    def body(self) -> bytes: ...

    def has_room(self, owner: Owner | str) -> bool:
        """True if there is room for an answer to this owner, as `http.note_owner` has it."""
        ...

    def end(self, answer: bytes | None) -> None:
        """Answers 202 with this JSON; None has the request go the ordinary way after all."""
        ...


class WebhookNotes(Protocol):
    """Notes what the Events API brought of PIMs that have a feed, so that the feed leaves it out."""

    def wants(self, tenant: str) -> bool:
        """True if the PIM has a feed."""
        ...

    async def note(self, tenant: str, events: Sequence[Event], updated: Sequence[int]) -> None:
        """Notes accepted events, and the `updated` of the entity of each in unix seconds, -1 without one.

        Raises nothing: what cannot be noted may come twice.
        """
        ...


class StoredNote(NamedTuple):
    """A note of a webhook, and when it was written."""

    id: str
    at: datetime
    note: WebhookNote


class WebhookNoteLog(Protocol):
    """Reads the notes of webhooks where another function writes them."""

    async def read(
        self, tenant: str, begin: datetime, end: datetime | None, *, after: str | None, limit: int
    ) -> Sequence[StoredNote]:
        """Returns notes of a PIM in the order of their time, from one to before another.

        `after` is the id of the last one that was read. Raises StoreUnavailable.
        """
        ...


@dataclass(frozen=True, slots=True)
class PimAnswer:
    """An answer of a PIM's REST API.

    `date` is the answer's own time, `body` what was not read as it came, at most 64 KiB.
    """

    status: int
    date: datetime | None = None
    retry_after: float | None = None
    body: bytes = b""


class PimRest(Protocol):
    """Calls the REST API of PIMs whose URL the operator has given, so that it may be private."""

    async def call(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        read: Callable[[bytes], None] | None,
    ) -> PimAnswer:
        """Returns the answer; no redirect is followed, and the whole takes a minute at most.

        The body of a 200 goes to `read`, in pieces of at most 8 KiB. Raises PimUnavailable, TooLarge over
        32 MiB, and what `read` raises.
        """
        ...


@dataclass(frozen=True, slots=True)
class Listed:
    """An entity that a sweep has listed: its identity, and a product's identifier."""

    identity: tuple[str, ...]
    identifier: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedStep:
    """A step of a feed, after a page or a fault. All of it is one commit.

    `marks` are what was found of entities, by their keys. Those whose `updated` is before `forget_before`
    are not needed any more. The sweep of that number has `listed` these, and `unlisted` ones are deleted.
    """

    feed: Feed
    resource: ResourceName
    state: ResourceState
    events: Sequence[Event] = ()
    marks: Mapping[bytes, Mark] = field(default_factory=dict[bytes, Mark])
    forget_before: int | None = None
    listed: Sequence[Listed] = ()
    sweep: int = 0
    unlisted: Sequence[Listed] = ()


class FeedStore(Protocol):
    """Keeps the progress of feeds and what they found. All methods raise StoreUnavailable."""

    async def states(self, tenant: str) -> Mapping[ResourceName, ResourceState]:
        """Returns the state of each resource that was asked for."""
        ...

    async def known(self, tenant: str, resource: ResourceName, keys: Sequence[bytes]) -> Mapping[bytes, Mark]:
        """Returns what the feed remembers of these entities."""
        ...

    async def listed(self, tenant: str, resource: ResourceName, sweep: int) -> tuple[int, int]:
        """Returns how many entities are known, and how many of them the sweep of that number did not list."""
        ...

    async def gone(self, tenant: str, resource: ResourceName, sweep: int, limit: int) -> Sequence[Listed]:
        """Returns some of those that it did not list."""
        ...

    async def commit(self, step: FeedStep) -> None:
        """Accepts the events and writes the rest, all or nothing. Raises FeedReplaced."""
        ...


class FeedSchedule(Protocol):
    """The schedule of feeds where ticks make their rounds. All methods raise StoreUnavailable."""

    async def due(self) -> Sequence[Feed]:
        """Returns the feeds that are due now and not off."""
        ...

    async def set_due(self, feed: Feed, seconds: float) -> None:
        """Makes the next round due in so many seconds, unless the settings have changed."""
        ...

    async def lease(self, tenant: str, seconds: float) -> bool:
        """True if this caller alone may read the PIM's feed for that long."""
        ...

    async def release(self, tenant: str) -> None:
        """Gives back a lease of this caller's."""
        ...


class FeedReplaced(EventPlatformError):
    """Raised when the settings of a feed are not those that a step was made with."""


class Sender(Protocol):
    """Sends one request to an endpoint."""

    async def post(
        self, url: str, headers: Sequence[tuple[str, str]], body: bytes, *, owner: Owner, timeout: float
    ) -> Answer | TransportFailure:
        """POST within `timeout` seconds in all: name, connect, TLS, sending, answer and body.

        `owner` is whose request it is: connections are used again for requests of the same owner only.

        No redirect is followed, at most 64 KiB of the answer is read, nothing is unpacked, and an address
        that the guard refuses is never connected to. A receiver's failure is returned, never raised. Raises
        CannotConnect, which is no fault of the receiver's.
        """
        ...


class TopicSender(Protocol):
    """Publishes one event to a subscriber's topic of Google Pub/Sub."""

    async def publish(
        self, config: PubSubConfig, attributes: Mapping[str, str], body: bytes, *, timeout: float
    ) -> Published | Refusal | TransportFailure:
        """Publishes within `timeout` seconds in all. Raises DestinationsNotSetUp, no fault of the topic's."""
        ...


class RecordSender(Protocol):
    """Appends one record to a subscriber's Kafka topic."""

    async def append(
        self,
        config: KafkaConfig,
        key: bytes,
        headers: Sequence[tuple[str, bytes]],
        body: bytes,
        *,
        owner: Owner,
        timeout: float,
    ) -> Published | Refusal | TransportFailure:
        """Publishes within `timeout` seconds in all; published when all replicas in sync have it.

        `owner` is whose record it is: connections are shared by records of the same owner only.

        An address that the guard refuses is never connected to, whoever names it: the config or the cluster.
        Raises CannotConnect, which is no fault of the broker's.
        """
        ...


class Mailer(Protocol):
    """Sends one mail to one address."""

    async def send(self, mail: Mail) -> MailFailure | None:
        """None when the mail server took it, within 20 s in all; its failure is returned, never raised."""
        ...


class Outbox(Protocol):
    """Notifications from the commit of the change until they are sent.

    All methods raise StoreUnavailable.
    """

    async def due(self, limit: int) -> Sequence[Pending]:
        """The first `limit` whose time has come; of each owner's the longest due first."""
        ...

    async def settle(
        self, pending: Pending, again_at: datetime | None, merged: Sequence[Pending] = ()
    ) -> None:
        """Removes it after it was sent; or notes one more attempt at its mail, which is tried again then.

        The same goes for the others that were `merged` with it.
        """
        ...

    async def hold(self, pending: Pending, until: datetime, *, mail_attempts: int) -> None:
        """Holds it until then."""
        ...

    async def held(self, subscriber_id: str, limit: int) -> Sequence[Pending]:
        """The first `limit` notifications of the subscriber that are held, oldest first."""
        ...

    async def count(self, allowances: Sequence[Allowance]) -> bool:
        """Counts one notification against each allowance of this hour; False, and nothing counted, if one
        of them is used up."""
        ...


class PublishedOutbox(Outbox, Protocol):
    """An outbox whose notifications travel through a topic, by their ids."""

    async def pending(self, notification_id: str) -> Pending | None:
        """Returns it; None if it was sent already. Raises StoreUnavailable."""
        ...

    async def published(self, pending: Sequence[Pending]) -> None:
        """Marks notifications that are on the topic: they are not due any more, unless one was settled since
        it was read.
        """
        ...


class Settlements(Protocol):
    """Applies what follows from an attempt."""

    async def settle(self, settlement: Settlement) -> None:
        """Applies all of it or nothing; settling a delivery that has gone changes nothing.

        Raises StoreUnavailable.
        """
        ...


class Publisher(Protocol):
    """Puts messages on a topic."""

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        """Publishes the messages, which are durable when it returns; `topic` is the short name.

        Messages of one ordering key keep their order. Raises PublishFailed, which names those that may be
        published again (each of them may have got there all the same).
        """
        ...


@dataclass(frozen=True, slots=True)
class Due:
    """An entry of the retry schedule whose time has come.

    `entry` is the schedule's own id, `place` where it stands in its shard's order. An entry that cannot be
    read has a `remnant` in place of a delivery: what could be read of it.
    """

    entry: str
    place: str
    delivery: Delivery | None
    remnant: Message | None = None


class RetrySchedule(Protocol):
    """Deliveries that wait for their next attempt, in `shards` parts that are worked off separately."""

    shards: int

    async def schedule(self, delivery: Delivery, due_at: datetime) -> None:
        """Durable when it returns; after the same attempt it is one entry.

        Raises StoreUnavailable, and MalformedMessage for a delivery that the store can never take.
        """
        ...

    async def lease(self, shard: int, seconds: float) -> bool:
        """True if this caller may work on the shard for that long; nobody else can meanwhile."""
        ...

    async def release(self, shard: int) -> None:
        """Gives back a lease of this caller's."""
        ...

    async def due(self, shard: int, limit: int, after: str = "") -> Sequence[Due]:
        """Returns up to `limit` entries behind the place `after` that are due now, the longest due first."""
        ...

    async def remove(self, entries: Sequence[str]) -> None:
        """Takes entries off the schedule; one that has gone already is no error."""
        ...


class EndLog(Protocol):
    """The log of deliveries that ended undelivered."""

    async def record(self, delivery: Delivery, end: DeliveryEnd) -> None:
        """Counts the end in its entry, durable when it returns. Raises StoreUnavailable."""
        ...


class Logs(Protocol):
    """The log as clients read it, and the refused calls in it. Both methods raise StoreUnavailable."""

    async def add_refusal(self, entry: LogEntry) -> None:
        """Durable when it returns; within its `merged_within` of an equal one (owner, ids, message), counted
        there."""
        ...

    async def entries(self, owner: Owner, query: LogQuery) -> Sequence[LogEntry]:
        """The owner's entries that fit, ordered by time and id, at most `query.limit` after `query.after`."""
        ...


class Seal(Protocol):
    """Encrypts secrets for the store."""

    def seal(self, plain: str, *, context: str) -> str:
        """Printable text that only `open` with the same `context` (the resource's id) turns back."""
        ...

    def open(self, sealed: str, *, context: str) -> str:
        """Raises ValueError when the key or the context is another, or the text was changed."""
        ...
