"""All functions on one machine: builds the parts, wires them, starts and stops them in order."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from event_platform import ingest, manage, notify
from event_platform.adapters.guard import TrustedNetwork
from event_platform.adapters.https import HttpsPimGateway
from event_platform.adapters.pim_registry import PimRegistry
from event_platform.adapters.reading import ReadingProcess
from event_platform.adapters.seal import AesGcmSeal
from event_platform.descriptions import asyncapi, openapi
from event_platform.domain.attempts import retries
from event_platform.domain.errors import Problem, StoreUnavailable
from event_platform.domain.mail_servers import MailServer
from event_platform.domain.record.answers import ReadyAnswer
from event_platform.domain.tenants import Tenant
from event_platform.http import App, error_response, health_route, json_response
from event_platform.manage.identity import CallerVerifier
from event_platform.ports import Mailer, Sender
from event_platform.settings import Settings

from .broker.fan_out import FanOut
from .broker.feed_store import SqliteFeedStore
from .broker.feeds import Feeds
from .broker.keeper import Keeper
from .broker.live import Outgoing, dispatcher
from .broker.notifier import Notifier
from .broker.queue import DurableQueue
from .broker.replays import Replayer, SqliteReplays
from .broker.upkeep import Upkeep
from .commit import commit
from .control import dead_letters as control_of_dead_letters
from .control import events as control_of_events
from .control import feeds as control_of_feeds
from .control import operator
from .control import registry as control_of_pims
from .control import server as control
from .runtime.memory import MemoryUpkeep
from .runtime.meters import Meters
from .serving import metrics
from .serving.last_calls import CallObserver
from .store import keys, replays
from .store.database import Database
from .store.ends import SqliteFailedAttempts
from .store.figures import Figures, figures_of
from .store.kept_index import Bounds
from .store.kept_search import SqliteKeptEvents
from .store.logs import SqliteLogs
from .store.outbox import SqliteOutbox
from .store.room import RESERVE_BYTES
from .store.steady_clock import ClockWatch, SteadyClock, describe_lead
from .store.subscriptions import SqliteSubscriptions
from .store.success_counts import SqliteSuccessCounts
from .store.tenants import StoredAndListed
from .workers.owner import Processes, Workers

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of a platform that its operator's console works with.

    `problem` returns the reason why no event is taken in, None if all is well; `measure` is called in a
    thread. `made_due` is called with the time at which retries are due that were made by hand.
    """

    settings: Settings
    folder: Path
    clock: SteadyClock
    seal: AesGcmSeal
    meters: Meters
    database: Database
    subscriptions: SqliteSubscriptions
    queue: DurableQueue
    pims: PimRegistry
    verifier: CallerVerifier
    manage: manage.Manage
    problem: Callable[[], object | None]
    measure: Callable[[], Figures]
    made_due: Callable[[float], None]


class Platform:
    """The platform on one data folder; `app` serves it between `start` and `stop`.

    `metrics_app` serves /metrics alone, as that has no credentials, and `control_app` what commands call on
    the control socket. `base_url` is its URL when
    `AEP_PUBLIC_URL` is not set. `on_fault` is called when a part that must run has ended by an error.
    `workers` are the processes that deliver; without any, this process delivers. `write_log` takes the lines
    that they log, and `clock` is theirs too. `watched` wraps the sender of https deliveries in this process.
    """

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        *,
        base_url: str,
        on_fault: Callable[[BaseException], None],
        workers: Processes | None = None,
        write_log: Callable[[bytes], None] = lambda lines: None,
        clock: SteadyClock | None = None,
        watched: Callable[[Sender], Sender] = lambda sender: sender,
    ) -> None:
        clock = self._clock = clock or SteadyClock()
        self._seal = keys.load(folder, settings.secrets_key)
        meters = self._meters = Meters()
        self._database = Database(folder, meters, on_fault=on_fault, reserve=RESERVE_BYTES)
        self._clock_watch = ClockWatch(clock, self._database, on_fault=on_fault)
        self._subscriptions = SqliteSubscriptions(self._database, self._seal, keeps=settings.keep > 0)
        entries = StoredAndListed(self._database, source=settings.pims, allow_http=settings.dev)
        self._pims = PimRegistry(entries, self._seal, clock, allow_http=settings.dev)
        self._outgoing = Outgoing(settings, watched)
        self._gateway = HttpsPimGateway(self._outgoing.guard, TrustedNetwork())
        self._queue = DurableQueue(
            self._database,
            self._subscriptions,
            clock,
            schema_base=f"{settings.public_url or base_url}/spec",
            meters=meters,
            longest_delay=retries.longest(settings.deliver_policy().retry_delays),
            keeps=settings.keep > 0,
        )
        counts = SqliteSuccessCounts(self._database)
        self._workers: Workers | None = None
        if workers is not None and workers.started:
            self._live = self._workers = Workers(
                workers,
                self._queue,
                self._subscriptions,
                counts,
                settings=settings,
                meters=meters,
                clock=clock,
                write_log=write_log,
                on_fault=on_fault,
            )
            self._subscriptions.copies = self._live
        else:
            self._live = dispatcher(
                settings,
                self._queue,
                self._subscriptions,
                counts,
                self._outgoing.senders,
                clock,
                on_fault=on_fault,
            )
        self._memory = MemoryUpkeep(clock, on_fault=on_fault, shrink=self._database.shrink_caches)
        self._upkeep = Upkeep(self._queue, clock, on_fault=on_fault)
        bounds = Bounds(settings.keep, settings.keep_bytes)
        self._keeper = Keeper(
            self._database, clock, bounds, meters, schema_base=self._queue.schema_base, on_fault=on_fault
        )
        self._keeper.held_from = replays.held_from
        self._fan_out = FanOut(self._queue, clock, on_fault=on_fault)
        self._replayer = Replayer(self._database, self._subscriptions, self._queue, clock, on_fault=on_fault)
        self._subscriptions.on_change.append(self._replayer.look)
        mail_server = settings.mail_server()
        outbox = SqliteOutbox(self._database, clock)
        self._notifier = Notifier(
            outbox,
            notify.NotifyServices(
                subscribers=self._subscriptions,
                outbox=outbox,
                sender=self._outgoing.https,
                clock=clock,
                mailer=_mailer(mail_server) if mail_server is not None else None,
                base_url=settings.public_url or base_url,
            ),
            meters,
            clock,
            on_fault=on_fault,
        )
        self._subscriptions.on_change.append(self._notifier.look)
        self._observer = CallObserver(self._database, self._pims, meters, clock, on_fault=on_fault)
        self._feeds = Feeds(
            self._database,
            SqliteFeedStore(self._database, self._queue),
            self._pims,
            self._seal,
            clock,
            catalog=settings.event_types,
            meters=meters,
            observer=self._observer,
            on_fault=on_fault,
        )
        self._reader = ReadingProcess(
            settings.event_types, on_replaced=partial(meters.process_replaced, "reading")
        )
        verifier = CallerVerifier(self._pims, self._gateway, clock, allow_http=settings.dev)
        manager = manage.Manage(
            verifier=verifier,
            subscriptions=self._subscriptions,
            logs=SqliteLogs(self._database),
            guard=self._outgoing.guard,
            clock=clock,
            intake=self._queue,
            sender=self._outgoing.https,
            allow_http=settings.dev,
            public_url=settings.public_url or base_url,
            catalog=settings.event_types,
            timeout=settings.timeout,
            topics=self._outgoing.topic_rules,
            topic_labels=self._outgoing.topics,
            retries=self._queue,
            replays=SqliteReplays(
                self._database,
                self._subscriptions,
                self._queue,
                keeps=settings.keep > 0,
                look=self._replayer.look,
            ),
            catch_up=settings.catch_up,
            kept=SqliteKeptEvents(self._database, keeps=settings.keep > 0),
            failures=SqliteFailedAttempts(self._database),
        )
        intake = ingest.Ingest(
            registry=self._pims,
            intake=self._queue,
            catalog=settings.event_types,
            clock=clock,
            reader=self._reader,
            observer=self._observer,
            webhooks=self._feeds.memory,
            at_once=ingest.AtOnce(self._pims, self._queue),
        )
        self.parts = Parts(
            settings=settings,
            folder=folder,
            clock=clock,
            seal=self._seal,
            meters=meters,
            database=self._database,
            subscriptions=self._subscriptions,
            queue=self._queue,
            pims=self._pims,
            verifier=verifier,
            manage=manager,
            problem=self._problem,
            measure=self._measure,
            made_due=self._upkeep.scheduled,
        )
        routes = [
            # The router goes through them in turn, and most requests are events.
            *ingest.routes(intake),
            *manage.routes(manager),
            asyncapi.route(settings.event_types, settings.public_url or base_url),
            health_route(commit=commit()),
            Route("/ready", self._ready, methods=["GET"]),
        ]
        routes.append(openapi.route(routes, settings.event_types, self._outgoing.topic_rules))
        counted = metrics.CountedAnswers(routes, meters)
        self.app = App(routes, settings.trusted_proxies, counted)
        self.control_app = control.app(
            [
                *operator.routes(manager, self._subscriptions),
                *control_of_dead_letters.routes(self._database, clock, self._upkeep.scheduled),
                *control_of_pims.routes(self._database, self._seal, self._pims.reread),
                *control_of_feeds.routes(self._database, self._seal),
                *control_of_events.routes(intake, keeps=settings.keep > 0),
            ]
        )
        self.metrics_app = App([metrics.route(meters, self._queue.look, self._measure)])

    async def start(self) -> None:
        """Opens the folder and continues with what waits there. Raises SetupError, StoreUnavailable."""
        await asyncio.to_thread(self._database.open, asyncio.get_running_loop())
        try:
            await self._database.write(partial(keys.check, seal=self._seal), needs_room=False)
            await self._clock_watch.start()
            await self._pims.tenants()  # raises BadPims before anything is served
            await self._queue.open(
                self._live.put, self._upkeep.scheduled, self._fan_out.behind, self._live.read_more
            )
            await self._live.start()
            self._upkeep.start()
            self._keeper.start()
            self._memory.start()
            await self._fan_out.start()
            await self._replayer.start()
            await self._notifier.start()
            await self._observer.start()
            await self._feeds.start()
        except BaseException:
            await self.stop()
            raise

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncGenerator[None, None]:
        """Opens the folder, so that `control_app` can be called inside the block; nothing is delivered.

        Raises SetupError, StoreUnavailable.
        """
        await asyncio.to_thread(self._database.open, asyncio.get_running_loop())
        try:
            await self._database.write(partial(keys.check, seal=self._seal), needs_room=False)
            yield
        finally:
            await self._close()

    async def stop(self) -> None:
        """Hands out nothing more, waits for what is on its way, and closes the folder."""
        try:
            await asyncio.gather(
                self._live.stop(),
                self._upkeep.stop(),
                self._keeper.stop(),
                self._memory.stop(),
                self._fan_out.stop(),
                self._replayer.stop(),
                self._notifier.stop(),
                self._observer.stop(),
                self._feeds.stop(),
            )
        finally:
            await self._close()

    async def pims(self) -> Sequence[Tenant]:
        """Returns the entries of the registry that are in force."""
        return await self._pims.tenants()

    def deliveries_waiting(self) -> int:
        """Returns how many deliveries wait in lanes or for their next attempt."""
        return self._meters.queued + self._meters.retries

    def _measure(self) -> Figures:
        return figures_of(self._database.folder, takes_in=self._problem() is None)

    def _problem(self) -> object | None:
        """Returns the reason why no event is taken in; None if all is well."""
        return self._database.ended or self._database.room.problem

    async def _ready(self, request: Request) -> Response:
        """Answers whether the platform is ready.

        Requests come only between start and stop, so it is unless a part is not.
        """
        if (reason := self._problem()) is not None:
            raise StoreUnavailable(str(reason))
        if self._workers is not None and (problem := self._workers.problem()) is not None:
            return error_response(503, Problem("", problem))
        answer: ReadyAnswer = {"status": "ok"}
        if self._clock.is_apart:
            answer["clock"] = describe_lead(self._clock.lead)
        return json_response(answer)

    async def _close(self) -> None:
        await self._clock_watch.stop()
        await self._reader.close()
        await self._outgoing.close()
        await self._gateway.close()
        await self._database.close()


def _mailer(mail_server: MailServer) -> Mailer:
    from event_platform.adapters.smtp import SmtpMailer  # few have a mail server

    return SmtpMailer(mail_server)
