"""The HTTP routes of the management API: parse, call one use case, map the result (contract/wire.md 2)."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..domain.call_limits import CallType
from ..domain.errors import InvalidRequest
from ..domain.record import representations as show
from ..domain.record.actions import Action, Actor
from ..http import base_url, client_address, json_response, note_owner, only_once
from . import benchmarks, events, logs, replays, subscribers, subscriptions, trials
from .call_limits import CallerLimits
from .identity import HEADERS, Caller
from .json_bodies import read_json, read_object, redaction_of
from .parameters import check_whole_list
from .pauses import Pauses
from .public_routes import PublicRoutes
from .services import Manage
from .withdrawal import Withdrawals

PREFIX = "/api/v1"

Handler: TypeAlias = Callable[[Caller, Request], Awaitable[Response]]


def routes(manage: Manage) -> Sequence[Route]:
    """The routes of the management API and of the event schemas."""
    public = PublicRoutes(manage.catalog, manage.public_url)
    return [*ManagementApi(manage, public).routes(), *public.routes()]


class ManagementApi:
    """Answers the calls of one process, which counts by itself how many a caller makes."""

    def __init__(self, manage: Manage, public: PublicRoutes) -> None:
        self._manage = manage
        self._public = public
        self._withdrawals = Withdrawals(manage.subscriptions, manage.clock)
        self._pauses_of_benchmarks, self._pauses_of_tests = Pauses(manage.clock), Pauses(manage.clock)
        self._limits = CallerLimits(manage.clock)
        self._refusals = logs.RefusalLog(manage.logs, manage.clock)

    def routes(self) -> Sequence[Route]:
        collection = f"{PREFIX}/subscribers"
        one = collection + "/{sid}"
        subscription = one + "/subscriptions/{id}"
        resource, trial = self._resource, CallType.TRIAL
        return [
            resource(collection, GET=self.list_subscribers, POST=self.create_subscriber),
            resource(
                one, GET=self.get_subscriber, PATCH=self.change_subscriber, DELETE=self.remove_subscriber
            ),
            resource(f"{one}/subscriptions", GET=self.list_subscriptions, POST=self.create_subscription),
            resource(
                subscription,
                GET=self.get_subscription,
                PATCH=self.change_subscription,
                DELETE=self.remove_subscription,
            ),
            resource(f"{subscription}/suspend", POST=self.suspend),
            resource(f"{subscription}/resume", POST=self.resume),
            resource(f"{subscription}/retries", POST=self.retry_now),
            resource(f"{subscription}/replays", GET=self.list_replays, POST=self.start_replay),
            resource(f"{subscription}/replays/{{rid}}", GET=self.get_replay, DELETE=self.cancel_replay),
            resource(f"{subscription}/test", others=trial, POST=self.send_test),
            resource(f"{subscription}/explain", others=trial, POST=self.explain),
            resource(f"{PREFIX}/benchmark", POST=self.start_benchmark),
            resource(f"{PREFIX}/logs", GET=self.read_log),
            *self._routes_of_events(),
        ]

    def _routes_of_events(self) -> Sequence[Route]:
        """Returns none where kept events are not shown, as on Google Cloud."""
        if self._manage.kept is None:
            return []
        collection = f"{PREFIX}/events"
        return [
            self._resource(collection, GET=self.read_events),
            self._resource(collection + "/{event_id:path}", GET=self.read_event),
        ]

    async def create_subscriber(self, caller: Caller, request: Request) -> Response:
        body = await read_json(request)
        record = await subscribers.create_subscriber(
            caller, body, manage=self._manage, action=self._action(request)
        )
        return json_response(show.subscriber(record), 201)

    async def list_subscribers(self, caller: Caller, request: Request) -> Response:
        check_whole_list(request.query_params.multi_items())
        records = await subscribers.list_subscribers(caller, manage=self._manage)
        return json_response([show.subscriber(record) for record in records])

    async def get_subscriber(self, caller: Caller, request: Request) -> Response:
        record = await subscribers.get_subscriber(caller, _subscriber_id(request), manage=self._manage)
        return json_response(show.subscriber(record))

    async def change_subscriber(self, caller: Caller, request: Request) -> Response:
        body = await read_json(request)
        record = await subscribers.change_subscriber(
            caller, _subscriber_id(request), body, manage=self._manage, action=self._action(request)
        )
        return json_response(show.subscriber(record))

    async def remove_subscriber(self, caller: Caller, request: Request) -> Response:
        record = await subscribers.remove_subscriber(
            caller, _subscriber_id(request), manage=self._manage, action=self._action(request)
        )
        return json_response(show.subscriber(record))

    async def create_subscription(self, caller: Caller, request: Request) -> Response:
        body = await read_json(request)
        record = await subscriptions.create_subscription(
            caller, _subscriber_id(request), body, manage=self._manage, action=self._action(request)
        )
        return json_response(show.subscription(record), 201)

    async def list_subscriptions(self, caller: Caller, request: Request) -> Response:
        check_whole_list(request.query_params.multi_items())
        records = await subscriptions.list_subscriptions(caller, _subscriber_id(request), manage=self._manage)
        return json_response([show.subscription(record) for record in records])

    async def get_subscription(self, caller: Caller, request: Request) -> Response:
        record = await subscriptions.get_subscription(caller, *_ids(request), manage=self._manage)
        failure = await subscriptions.last_failure(record, manage=self._manage)
        return json_response(show.subscription(record, failure))

    async def change_subscription(self, caller: Caller, request: Request) -> Response:
        body = await read_json(request)
        record = await subscriptions.change_subscription(
            caller, *_ids(request), body, manage=self._manage, action=self._action(request)
        )
        return json_response(show.subscription(record))

    async def remove_subscription(self, caller: Caller, request: Request) -> Response:
        record = await subscriptions.remove_subscription(
            caller, *_ids(request), manage=self._manage, action=self._action(request)
        )
        return json_response(show.subscription(record))

    async def suspend(self, caller: Caller, request: Request) -> Response:
        record = await subscriptions.suspend_subscription(
            caller, *_ids(request), manage=self._manage, action=self._action(request)
        )
        return json_response(show.subscription(record), 202)

    async def resume(self, caller: Caller, request: Request) -> Response:
        body = await read_object(request)
        record = await subscriptions.resume_subscription(
            caller, *_ids(request), body, manage=self._manage, action=self._action(request)
        )
        return json_response(show.subscription(record), 202)

    async def retry_now(self, caller: Caller, request: Request) -> Response:
        number = await replays.retry_now(caller, *_ids(request), manage=self._manage)
        return json_response(show.retries(number), 202)

    async def start_replay(self, caller: Caller, request: Request) -> Response:
        body = await read_json(request)
        replay = await replays.start_replay(
            caller, *_ids(request), body, manage=self._manage, action=self._action(request)
        )
        return json_response(show.replay(replay), 201)

    async def list_replays(self, caller: Caller, request: Request) -> Response:
        check_whole_list(request.query_params.multi_items())
        found = await replays.list_replays(caller, *_ids(request), manage=self._manage)
        return json_response([show.replay(replay) for replay in found])

    async def get_replay(self, caller: Caller, request: Request) -> Response:
        replay = await replays.get_replay(
            caller, *_ids(request), request.path_params["rid"], manage=self._manage
        )
        return json_response(show.replay(replay))

    async def cancel_replay(self, caller: Caller, request: Request) -> Response:
        replay = await replays.cancel_replay(
            caller,
            *_ids(request),
            request.path_params["rid"],
            manage=self._manage,
            action=self._action(request),
        )
        return json_response(show.replay(replay))

    async def start_benchmark(self, caller: Caller, request: Request) -> Response:
        body, pauses = await read_json(request), self._pauses_of_benchmarks
        started = await benchmarks.start_benchmark(
            caller, body, manage=self._manage, pauses=pauses, limits=self._limits
        )
        return json_response(show.benchmark(started), 202)

    async def send_test(self, caller: Caller, request: Request) -> Response:
        body, base = await read_json(request, or_empty=True), self._public.schema_base(request)
        sent = await trials.send_test(
            caller,
            *_ids(request),
            body,
            manage=self._manage,
            pauses=self._pauses_of_tests,
            schema_base=base,
        )
        return json_response(sent.shown())

    async def explain(self, caller: Caller, request: Request) -> Response:
        body = await read_json(request)
        event, found = await trials.explain(caller, *_ids(request), body, manage=self._manage)
        return json_response(show.explanation(event, found))

    async def read_log(self, caller: Caller, request: Request) -> Response:
        base = self._manage.public_url or base_url(request)
        parameters = request.query_params.multi_items()
        return json_response(await logs.read_page(caller, parameters, logs=self._manage.logs, base=base))

    async def read_events(self, caller: Caller, request: Request) -> Response:
        parameters = request.query_params.multi_items()
        return json_response(await events.read_events(caller, parameters, manage=self._manage))

    async def read_event(self, caller: Caller, request: Request) -> Response:
        event_id = request.path_params["event_id"]
        return json_response(await events.read_event(caller, event_id, manage=self._manage))

    def _resource(self, path: str, *, others: CallType = CallType.CHANGE, **handlers: Handler) -> Route:
        """One route for all methods of a path, so that a 405 names them all.

        A GET is a read; calls of other methods are counted as `others`. What is refused as invalid is logged
        for the caller.
        """

        async def endpoint(request: Request) -> Response:
            method = "GET" if request.method == "HEAD" else request.method
            caller = await self._admit(request, CallType.READ if method == "GET" else others)
            try:
                return await handlers[method](caller, request)
            except InvalidRequest as error:
                await self._record_refusal(caller, request, error)
                raise

        return Route(path, endpoint, methods=list(handlers))

    async def _admit(self, request: Request, call_type: CallType) -> Caller:
        """Returns who calls. Comes before each call."""
        only_once(request.headers, *HEADERS)
        caller = await self._manage.verifier.verify(request.headers, client_address(request))
        note_owner(request, caller.owner)
        self._limits.take(caller.owner, call_type)
        await self._withdrawals.checked(caller)
        return caller

    async def _record_refusal(self, caller: Caller, request: Request, error: InvalidRequest) -> None:
        """Writes for the caller's log what was invalid about the call."""
        redaction, ids, url = redaction_of(request), request.path_params, request.url.path
        await self._refusals.record(caller.owner, request.method, url, redaction, ids, error)

    def _action(self, request: Request) -> Action:
        return Action(Actor.USER, logs.call_of(request.method, request.url.path, redaction_of(request)))


def _subscriber_id(request: Request) -> str:
    return request.path_params["sid"]


def _ids(request: Request) -> tuple[str, str]:
    return request.path_params["sid"], request.path_params["id"]
