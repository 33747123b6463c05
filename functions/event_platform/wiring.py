"""Wires the adapters of each function on Google Cloud. An app is built once, when its process starts.

The imports stand inside, so that a function loads what it needs and no more.
"""

import gc
import os
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, TypeVar

import structlog
from pydantic import ValidationError
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from . import http, telemetry
from .settings import (
    DeliverSettings,
    FanoutSettings,
    FunctionSettings,
    IngestSettings,
    MaintainSettings,
    ManageSettings,
    NotifySettings,
    RecordsSettings,
    RegistrySettings,
    SecretsSettings,
    unknown_variables,
    wrong_setting,
)
from .shared_lines import SharedLines

if TYPE_CHECKING:
    from pydantic import SecretStr

    from .adapters.firestore.client import Firestore
    from .adapters.guard import GuardedNetwork
    from .adapters.pubsub.publisher import PubSubPublisher
    from .adapters.seal import AesGcmSeal
    from .domain.feeds import Feed
    from .domain.tenants import Tenant
    from .maintain import FeedTicks
    from .ports import Seal, TenantRegistry

log = structlog.get_logger()

NETWORK_WITHIN = 120.0
"""Seconds. Google's page on direct VPC egress speaks of "a minute or more", and up to 80 s were seen. Cloud
Run itself waits 240 s for the port."""

FEED_CALL_SECONDS = 20.0
"""The longest time of a feed's call, so that a PIM that hangs is noted before the tick is cut."""

S = TypeVar("S", bound=FunctionSettings)

SETTINGS: Mapping[str, type[FunctionSettings]] = {
    "manage": ManageSettings,
    "ingest": IngestSettings,
    "fanout": FanoutSettings,
    "deliver": DeliverSettings,
    "maintain": MaintainSettings,
    "notify": NotifySettings,
}


class WrongSettings(SystemExit):
    """Raised when a setting is missing or wrong: ends the process with one line on standard error."""


class NoNetwork(SystemExit):
    """Raised when the network did not come: ends the process with one line on standard error."""


def check(function: str) -> FunctionSettings:
    """Returns the settings of a function, of which nothing is built yet. Raises WrongSettings."""
    settings = _read(SETTINGS[function])
    if isinstance(settings, SecretsSettings):
        _seal(settings)
    if isinstance(settings, IngestSettings):
        _registry_seal(settings)
    if isinstance(settings, MaintainSettings):
        _feed_seal(settings)
    return settings


def start(function: str | None) -> None:
    """Builds the function that is about to start. Raises WrongSettings, NoNetwork.

    A port that is open gets requests, so all that the first of them needs is loaded before; it is shared by
    the server's processes then. No connection is opened: they would not survive the server's fork.
    """
    if function is None or function not in SETTINGS:
        return
    settings = check(function)
    gc.disable()  # what is loaded stays: there is nothing to find in it, now or later
    globals()[function]()
    gc.freeze()
    gc.enable()
    await_network(settings)


def await_network(settings: FunctionSettings, limit: float = NETWORK_WITHIN) -> None:
    """Returns when the network is there, where it comes later than the instance. Raises NoNetwork."""
    if not settings.await_network:
        return
    from .adapters.firestore.client import address
    from .adapters.reachability import Unreachable, wait_until_reachable

    try:
        seconds = wait_until_reachable([address()], settings.await_network, limit=limit)
    except Unreachable as error:
        raise NoNetwork(f"aep: {error}: is there a way out (NAT, firewall)? See AEP_AWAIT_NETWORK") from None
    log.info("network.reached", seconds=round(seconds, 1))


@cache
def manage() -> "Answers":
    """The management API."""
    from . import manage
    from .adapters.clock import SystemClock
    from .adapters.firestore.catch_ups import FirestoreCatchUps
    from .adapters.firestore.logs import FirestoreLogs
    from .adapters.firestore.replays import FirestoreReplays
    from .adapters.firestore.subscriptions import FirestoreSubscriptions
    from .adapters.guard import TrustedNetwork
    from .adapters.https import HttpsPimGateway, HttpsSender
    from .adapters.pubsub.intake import PubSubIntake
    from .adapters.pubsub.topics import PubSubTopics, rules_on_google
    from .adapters.seal import KeylessSeal
    from .descriptions import asyncapi, openapi
    from .manage.identity import CallerVerifier

    settings, clock = _read(ManageSettings), SystemClock()
    firestore, seal = _firestore(settings), _seal(settings)
    guard = _guard(settings)
    registry = _registry(settings, firestore, KeylessSeal())
    subscriptions = FirestoreSubscriptions(
        firestore,
        seal,
        clock,
        buckets=settings.version_buckets,
        publisher=_publisher(settings),
        catch_ups=FirestoreCatchUps(firestore, keep=settings.keep, registry=registry),
    )
    gateway = HttpsPimGateway(guard, TrustedNetwork())
    verifier = CallerVerifier(registry, gateway, clock, allow_http=settings.dev)
    topics = rules_on_google(settings.project, settings.destination_account)
    function = manage.Manage(
        verifier=verifier,
        subscriptions=subscriptions,
        logs=FirestoreLogs(firestore, clock),
        guard=guard,
        clock=clock,
        intake=PubSubIntake(_publisher(settings), clock, topic=settings.topic_events),
        sender=HttpsSender(guard),
        allow_http=settings.dev,
        public_url=settings.public_url,
        catalog=settings.event_types,
        timeout=settings.timeout,
        topics=topics,
        topic_labels=PubSubTopics(topics),
        replays=FirestoreReplays(firestore, subscriptions, clock, registry=registry, keep=settings.keep),
        catch_up=settings.catch_up,
    )
    routes = [*manage.routes(function), asyncapi.route(settings.event_types, settings.public_url)]
    return _app(settings, [*routes, openapi.route(routes, settings.event_types, topics)])


@cache
def ingest() -> "Answers":
    """Takes a PIM's events in."""
    from . import ingest
    from .adapters.clock import SystemClock
    from .adapters.firestore.tenants import FirestoreEntries
    from .adapters.firestore.webhook_notes import FirestoreWebhookNotes
    from .adapters.pim_registry import PimRegistry
    from .adapters.pubsub.intake import PubSubIntake
    from .adapters.pubsub.publisher import load_client
    from .adapters.reading import ReadingProcess

    load_client()
    settings, clock = _read(IngestSettings), SystemClock()
    firestore = _firestore(settings)
    entries = FirestoreEntries(firestore, listed=settings.pims, reads_feeds=settings.feeds)
    registry = PimRegistry(entries, _registry_seal(settings), clock, allow_http=settings.dev)
    intake = PubSubIntake(_publisher(settings), clock, topic=settings.topic_events)
    reader = ReadingProcess(settings.event_types)
    function = ingest.Ingest(
        registry=registry,
        intake=intake,
        catalog=settings.event_types,
        clock=clock,
        reader=reader,
        names_events=True,
        webhooks=FirestoreWebhookNotes(firestore, entries, clock),
    )
    return _app(settings, ingest.routes(function))


@cache
def fanout() -> "Answers":
    """Chooses the subscriptions that get an event."""
    from . import fanout
    from .adapters.clock import SystemClock
    from .adapters.firestore.missed import FirestoreMissedEvents
    from .adapters.firestore.replay_counts import FirestoreReplayCounts
    from .adapters.firestore.replays import FirestoreReplays
    from .adapters.firestore.subscriptions import FirestoreSubscriptions
    from .adapters.pubsub.publisher import load_client
    from .adapters.reading import ReadingProcess
    from .adapters.seal import KeylessSeal

    load_client()
    settings, clock = _read(FanoutSettings), SystemClock()
    firestore, seal, publisher = _firestore(settings), KeylessSeal(), _publisher(settings)
    subscriptions = FirestoreSubscriptions(
        firestore, seal, clock, buckets=settings.version_buckets, publisher=publisher
    )
    function = fanout.Fanout(
        registry=_registry(settings, firestore, seal),
        subscriptions=subscriptions,
        records=subscriptions,
        publisher=publisher,
        catalog=settings.event_types,
        clock=clock,
        schema_base=f"{settings.public_url}/spec",
        reader=ReadingProcess(settings.event_types),
        replays=FirestoreReplays(firestore, subscriptions, clock),
        missed=FirestoreMissedEvents(firestore, subscriptions, clock),
        replay_counts=FirestoreReplayCounts(firestore, clock),
        shards=settings.deliveries_shards,
    )
    return _app(settings, fanout.routes(function))


@cache
def deliver() -> "Answers":
    """Sends deliveries."""
    from . import deliver
    from .adapters.clock import SystemClock
    from .adapters.firestore.catch_ups import FirestoreCatchUps
    from .adapters.firestore.ends import FirestoreEndLog
    from .adapters.firestore.missed import FirestoreMissedEvents
    from .adapters.firestore.paces import FirestorePaces
    from .adapters.firestore.replay_counts import FirestoreReplayCounts
    from .adapters.firestore.retries import FirestoreRetrySchedule
    from .adapters.firestore.subscriptions import FirestoreSubscriptions
    from .adapters.firestore.success_counts import FirestoreSuccessCounts
    from .adapters.https import HttpsSender
    from .adapters.kafka import KafkaOnFirstUse
    from .adapters.pubsub.topics import PubSubTopics, rules_on_google
    from .adapters.settlements import QueueSettlements
    from .domain.attempts.egress import Egress

    settings, clock = _read(DeliverSettings), SystemClock()
    firestore, seal, publisher = _firestore(settings), _seal(settings), _publisher(settings)
    schedule, egress = (
        FirestoreRetrySchedule(firestore, clock),
        Egress(network_comes_later=bool(settings.await_network)),
    )
    subscriptions = FirestoreSubscriptions(
        firestore,
        seal,
        clock,
        buckets=settings.version_buckets,
        publisher=publisher,
        catch_ups=FirestoreCatchUps(firestore, keep=settings.keep),
    )
    missed = FirestoreMissedEvents(firestore, subscriptions, clock)
    counts = FirestoreReplayCounts(firestore, clock)
    paces = FirestorePaces(firestore, subscriptions, clock)
    ends = FirestoreEndLog(firestore, subscriptions, clock)
    guard = _guard(settings)

    function = deliver.Deliver(
        subscriptions=paces,
        paces=paces,
        senders=deliver.Senders(
            HttpsSender(guard),
            PubSubTopics(rules_on_google(settings.project, settings.destination_account)),
            KafkaOnFirstUse(guard).sender,
            settings.event_types,
        ),
        settlements=QueueSettlements(schedule, ends, publisher, subscriptions, missed, counts),
        publisher=publisher,
        clock=clock,
        policy=settings.deliver_policy(),
        limits=settings.rate_limits(),
        egress=egress,
        judge=deliver.Judge(FirestoreSuccessCounts(firestore), subscriptions, egress, clock),
    )
    return _app(settings, deliver.routes(function))


@cache
def maintain() -> "Answers":
    """Puts due retries back, publishes due notifications, has replays pushed, and reads feeds."""
    from . import maintain
    from .adapters.clock import SystemClock
    from .adapters.firestore.outbox import FirestoreOutbox
    from .adapters.firestore.replays import FirestoreReplays
    from .adapters.firestore.retries import FirestoreRetrySchedule
    from .adapters.firestore.subscriptions import FirestoreSubscriptions
    from .adapters.pubsub.replay_pushes import PubSubReplayPushes
    from .adapters.seal import KeylessSeal

    settings, clock = _read(MaintainSettings), SystemClock()
    firestore = _firestore(settings)
    subscriptions = FirestoreSubscriptions(firestore, KeylessSeal(), clock, buckets=settings.version_buckets)
    pushes = None
    if settings.fanout_url is not None:
        pushes = PubSubReplayPushes(
            settings.project, fanout_url=settings.fanout_url, caller=settings.fanout_caller
        )
    function = maintain.Maintain(
        schedule=FirestoreRetrySchedule(firestore, clock),
        outbox=FirestoreOutbox(firestore, clock),
        publisher=_publisher(settings),
        clock=clock,
        project=settings.project,
        subscriptions=subscriptions,
        replays=FirestoreReplays(firestore, subscriptions, clock),
        pushes=pushes,
        feeds=_feeds(settings, firestore),
    )
    return _app(settings, maintain.routes(function))


def _feeds(settings: MaintainSettings, firestore: "Firestore") -> "FeedTicks | None":
    """Returns None where there is no key of feeds."""
    feed_seal = _feed_seal(settings)
    if feed_seal is None:
        return None
    from .adapters.clock import SystemClock
    from .adapters.firestore.feeds import FirestoreFeedSchedule, FirestoreFeedStore
    from .adapters.firestore.webhook_notes import FirestoreNoteLog
    from .adapters.pim_rest import HttpsPimRest
    from .adapters.pubsub.intake import PubSubIntake
    from .adapters.seal import KeylessSeal
    from .domain.events import catalog
    from .feed import FeedReader, NotedWebhooks, PimSession
    from .maintain import FeedLog, FeedTicks

    clock = SystemClock()
    rest, observer = HttpsPimRest(seconds=FEED_CALL_SECONDS), FeedLog()
    webhooks = NotedWebhooks(FirestoreNoteLog(firestore), clock)
    listed = {tenant.name for tenant in settings.pims}  # without secrets, so each may have a webhook
    event_types = catalog.load()
    intake = PubSubIntake(_publisher(settings), clock, topic=settings.topic_events)
    store = FirestoreFeedStore(firestore, intake)

    def reader_of(feed: "Feed", tenant: "Tenant") -> FeedReader:
        return FeedReader(
            feed,
            tenant,
            PimSession(rest, feed, clock),
            store=store,
            catalog=event_types,
            clock=clock,
            webhooks=webhooks,
            has_webhook=bool(tenant.events_api_secret) or tenant.name in listed,
            observer=observer,
        )

    return FeedTicks(
        FirestoreFeedSchedule(firestore, feed_seal, clock),
        store,
        _registry(settings, firestore, KeylessSeal()),
        reader_of,
        clock,
    )


@cache
def notify() -> "Answers":
    """Tells subscribers."""
    from . import notify
    from .adapters.clock import SystemClock
    from .adapters.firestore.outbox import FirestoreOutbox
    from .adapters.firestore.subscriptions import FirestoreSubscriptions
    from .adapters.https import HttpsSender
    from .adapters.smtp import SmtpMailer

    settings, clock = _read(NotifySettings), SystemClock()
    firestore, seal = _firestore(settings), _seal(settings)
    server = settings.mail_server()
    outbox = FirestoreOutbox(firestore, clock)
    services = notify.NotifyServices(
        subscribers=FirestoreSubscriptions(firestore, seal, clock, buckets=settings.version_buckets),
        outbox=outbox,
        sender=HttpsSender(_guard(settings)),
        clock=clock,
        mailer=SmtpMailer(server) if server is not None else None,
        base_url=settings.public_url or "",
    )
    function = notify.Notify(outbox=outbox, services=services, publisher=_publisher(settings))
    return _app(settings, notify.routes(function))


def _read(model: type[S]) -> S:
    try:
        return model()  # pyright: ignore[reportCallIssue] - from the environment
    except ValidationError as error:
        raise WrongSettings(f"aep: {wrong_setting(error)}") from None


def _seal(settings: SecretsSettings) -> "AesGcmSeal":
    return _seal_of("AEP_SECRETS_KEY", settings.secrets_key)


def _registry_seal(settings: IngestSettings) -> "AesGcmSeal":
    return _seal_of("AEP_REGISTRY_KEY", settings.registry_key)


def _feed_seal(settings: MaintainSettings) -> "AesGcmSeal | None":
    return None if settings.feed_key is None else _seal_of("AEP_FEED_KEY", settings.feed_key)


def _seal_of(variable: str, keys: "SecretStr") -> "AesGcmSeal":
    from .adapters.seal import AesGcmSeal, keys_from_base64

    try:
        return AesGcmSeal(*keys_from_base64(keys.get_secret_value(), variable))
    except ValueError as error:
        raise WrongSettings(f"aep: {error}") from None


def _guard(settings: RecordsSettings) -> "GuardedNetwork":
    from .adapters.guard import GuardedNetwork

    return GuardedNetwork(
        allow_loopback=settings.dev,
        allow_networks=settings.allow_networks,
        refuse_networks=settings.refuse_networks,
    )


def _firestore(settings: FunctionSettings) -> "Firestore":
    from .adapters.firestore.client import connect

    return connect(settings.project)


def _publisher(settings: FunctionSettings) -> "PubSubPublisher":
    from .adapters.pubsub.publisher import PubSubPublisher

    return PubSubPublisher(settings.project)


def _registry(settings: RegistrySettings, firestore: "Firestore", seal: "Seal") -> "TenantRegistry":
    from .adapters.clock import SystemClock
    from .adapters.firestore.tenants import FirestoreEntries
    from .adapters.pim_registry import PimRegistry

    entries = FirestoreEntries(firestore, listed=settings.pims)
    return PimRegistry(entries, seal, SystemClock(), allow_http=settings.dev)


def _app(settings: FunctionSettings, routes: Sequence[Route]) -> "Answers":
    lines = SharedLines()
    telemetry.configure(settings.log_level, first=[lines])
    for name, nearest in unknown_variables(os.environ).items():
        log.warning("settings.unknown_variable", variable=name, nearest=nearest)
    health = http.health_route(archive=settings.archive)
    return Answers(lines.written_before_answers(http.App([*routes, health], settings.trusted_proxies)))


class Answers(Response):
    """A function's app in the form that the Functions Framework takes: the response to whatever was asked."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__()
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except Exception:  # the app has answered 500 by now; the framework would answer a second time
            log.exception("request.failed", path=scope["path"])
