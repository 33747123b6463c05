"""The HTTP routes of the management API: parse, call one use case, map the result (contract/wire.md 2)."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..domain.attempts.broker_messages import TopicRules
from ..domain.errors import InvalidRequest, NotFound, Problem, TooLarge, UnsupportedMediaType
from ..domain.events import catalog, json_form
from ..domain.events.catalog import Catalog, schema_url
from ..domain.limits import CallType
from ..domain.record import representations as show
from ..domain.record.actions import Action, Actor
from ..domain.record.answers import EventTypesAnswer, ExplanationAnswer, ListedTypeAnswer
from ..domain.record.redaction import Redaction
from ..http import (
    CACHED,
    as_it_is,
    base_url,
    client_address,
    json_response,
    media_type,
    note_owner,
    only_once,
    read_body,
)
from ..ports import Clock, DestinationGuard, Intake, Logs, Sender, Subscriptions, TopicLabels
from . import benchmarks, logs, subscribers, subscriptions, trials
from .identity import HEADERS, Caller, CallerVerifier
from .limits import CallerLimits
from .parameters import check_whole_list
from .pauses import Pauses
from .payloads.body import Rules
from .payloads.values import FIRST_BODY
from .topic_proofs import TopicProofs
from .withdrawal import Withdrawals

BODY_LIMIT = 256 * 1024
MAX_VALUES = 5_000
"""JSON values of a body. Together the two bound the work that a body makes; no valid one comes near."""
PREFIX = "/api/v1"

Handler: TypeAlias = Callable[[Caller, Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Manage:
    """The parts that the management API works with.

    `public_url` is where clients reach it, when that is known. `catalog` has the event types that
    subscriptions can get, `topics` says which of Pub/Sub's they may name, `topic_labels` reads what is
    written on these.
    """

    verifier: CallerVerifier
    subscriptions: Subscriptions
    logs: Logs
    guard: DestinationGuard
    clock: Clock
    intake: Intake
    sender: Sender
    allow_http: bool = False
    public_url: str | None = None
    catalog: Catalog = field(default_factory=catalog.load)
    timeout: float = 5  # seconds, for a whole test
    topics: TopicRules = field(default_factory=TopicRules)
    topic_labels: TopicLabels | None = None


def routes(manage: Manage) -> Sequence[Route]:
    """The routes of the management API and of the event schemas."""
    collection = f"{PREFIX}/subscribers"
    subscriber = collection + "/{sid}"
    subscription = subscriber + "/subscriptions/{id}"
    store: dict[str, Any] = {"subscriptions": manage.subscriptions}
    timed: dict[str, Any] = store | {"clock": manage.clock}
    checked: dict[str, Any] = timed | {"guard": manage.guard, "allow_http": manage.allow_http}
    proofs = TopicProofs(manage.subscriptions, manage.topics, manage.topic_labels)
    typed: dict[str, Any] = checked | {"known": manage.catalog, "topics": manage.topics, "proofs": proofs}

    async def create_subscriber(caller: Caller, request: Request) -> Response:
        body = await _json(request)
        record = await subscribers.create_subscriber(caller, body, action=_action(request), **checked)
        return json_response(show.subscriber(record), 201)

    async def list_subscribers(caller: Caller, request: Request) -> Response:
        check_whole_list(request.query_params.multi_items())
        records = await subscribers.list_subscribers(caller, **store)
        return json_response([show.subscriber(record) for record in records])

    async def get_subscriber(caller: Caller, request: Request) -> Response:
        record = await subscribers.get_subscriber(caller, request.path_params["sid"], **timed)
        return json_response(show.subscriber(record))

    async def change_subscriber(caller: Caller, request: Request) -> Response:
        body = await _json(request)
        record = await subscribers.change_subscriber(
            caller, request.path_params["sid"], body, action=_action(request), **checked
        )
        return json_response(show.subscriber(record))

    async def remove_subscriber(caller: Caller, request: Request) -> Response:
        record = await subscribers.remove_subscriber(
            caller, request.path_params["sid"], action=_action(request), **timed
        )
        return json_response(show.subscriber(record))

    async def create_subscription(caller: Caller, request: Request) -> Response:
        body = await _json(request)
        record = await subscriptions.create_subscription(
            caller, request.path_params["sid"], body, action=_action(request), **typed
        )
        return json_response(show.subscription(record), 201)

    async def list_subscriptions(caller: Caller, request: Request) -> Response:
        check_whole_list(request.query_params.multi_items())
        records = await subscriptions.list_subscriptions(caller, request.path_params["sid"], **timed)
        return json_response([show.subscription(record) for record in records])

    async def get_subscription(caller: Caller, request: Request) -> Response:
        record = await subscriptions.get_subscription(caller, *_ids(request), **timed)
        return json_response(show.subscription(record))

    async def change_subscription(caller: Caller, request: Request) -> Response:
        body = await _json(request)
        record = await subscriptions.change_subscription(
            caller, *_ids(request), body, action=_action(request), **typed
        )
        return json_response(show.subscription(record))

    async def remove_subscription(caller: Caller, request: Request) -> Response:
        record = await subscriptions.remove_subscription(
            caller, *_ids(request), action=_action(request), **timed
        )
        return json_response(show.subscription(record))

    async def suspend(caller: Caller, request: Request) -> Response:
        record = await subscriptions.suspend_subscription(
            caller, *_ids(request), action=_action(request), **timed
        )
        return json_response(show.subscription(record), 202)

    async def resume(caller: Caller, request: Request) -> Response:
        record = await subscriptions.resume_subscription(
            caller, *_ids(request), proofs=proofs, action=_action(request), **timed
        )
        return json_response(show.subscription(record), 202)

    withdrawals = Withdrawals(manage.subscriptions, manage.clock)
    pauses_of_benchmarks, pauses_of_tests = Pauses(manage.clock), Pauses(manage.clock)
    limits, refusals = CallerLimits(manage.clock), logs.RefusalLog(manage.logs, manage.clock)

    def rules_of(caller: Caller) -> Rules:
        return Rules(caller.owner.tenant, manage.allow_http, is_new=True, known=manage.catalog)

    async def start_benchmark(caller: Caller, request: Request) -> Response:
        started = await benchmarks.start_benchmark(
            caller,
            await _json(request),
            intake=manage.intake,
            pauses=pauses_of_benchmarks,
            limits=limits,
            rules=rules_of(caller),
            **timed,
        )
        return json_response(show.benchmark(started), 202)

    async def send_test(caller: Caller, request: Request) -> Response:
        sent = await trials.send_test(
            caller,
            *_ids(request),
            await _json(request, or_empty=True),
            sender=manage.sender,
            pauses=pauses_of_tests,
            rules=rules_of(caller),
            schema_base=_schema_base(manage, request),
            timeout=manage.timeout,
            **timed,
        )
        return json_response(sent.shown())

    async def explain(caller: Caller, request: Request) -> Response:
        event, found = await trials.explain(
            caller, *_ids(request), await _json(request), known=manage.catalog, **timed
        )
        return json_response(show.explanation(event, found))

    async def read_log(caller: Caller, request: Request) -> Response:
        base = manage.public_url or base_url(request)
        page = await logs.read_page(caller, request.query_params.multi_items(), logs=manage.logs, base=base)
        return json_response(page)

    async def admit(request: Request, call_type: CallType) -> Caller:
        only_once(request.headers, *HEADERS)
        caller = await manage.verifier.verify(request.headers, client_address(request))
        note_owner(request, caller.owner)
        limits.take(caller.owner, call_type)
        await withdrawals.checked(caller)
        return caller

    def resource(path: str, *, others: CallType = CallType.CHANGE, **handlers: Handler) -> Route:
        return _resource(admit, refusals, path, handlers, others)

    return [
        resource(collection, GET=list_subscribers, POST=create_subscriber),
        resource(subscriber, GET=get_subscriber, PATCH=change_subscriber, DELETE=remove_subscriber),
        resource(f"{subscriber}/subscriptions", GET=list_subscriptions, POST=create_subscription),
        resource(subscription, GET=get_subscription, PATCH=change_subscription, DELETE=remove_subscription),
        resource(f"{subscription}/suspend", POST=suspend),
        resource(f"{subscription}/resume", POST=resume),
        resource(f"{subscription}/test", others=CallType.TRIAL, POST=send_test),
        resource(f"{subscription}/explain", others=CallType.TRIAL, POST=explain),
        resource(f"{PREFIX}/benchmark", POST=start_benchmark),
        resource(f"{PREFIX}/logs", GET=read_log),
        Route(logs.DOCUMENTATION, _explanation, methods=["GET"]),
        *_schemas(manage),
    ]


def _schema_base(manage: Manage, request: Request) -> str:
    """The URL under which the schemas are served."""
    return f"{manage.public_url or base_url(request)}/spec"


def _resource(
    admit: Callable[[Request, CallType], Awaitable[Caller]],
    refusals: logs.RefusalLog,
    path: str,
    handlers: dict[str, Handler],
    others: CallType,
) -> Route:
    """One route for all methods of a path, so that a 405 names them all; `admit` comes before each call.

    A GET is a read; calls of other methods are counted as `others`. What is refused as invalid is logged for
    the caller.
    """

    async def endpoint(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        caller = await admit(request, CallType.READ if method == "GET" else others)
        try:
            return await handlers[method](caller, request)
        except InvalidRequest as error:
            redaction, ids = _redaction(request), request.path_params
            await refusals.record(caller.owner, request.method, request.url.path, redaction, ids, error)
            raise

    return Route(path, endpoint, methods=list(handlers))


def _action(request: Request) -> Action:
    return Action(Actor.USER, logs.call_of(request.method, request.url.path, _redaction(request)))


def _redaction(request: Request) -> Redaction:
    """The request's body as the log shows it, when it was JSON."""
    return getattr(request.state, "redaction", None) or Redaction(None)


async def _explanation(request: Request) -> Response:
    """Answers what an error of the log means, at its `documentation_url`; public."""
    name = request.path_params["name"]
    if name not in logs.EXPLANATIONS:
        raise NotFound(f"unknown error {name[:64]!r}")
    answer: ExplanationAnswer = {"error": name, "explanation": logs.EXPLANATIONS[name]}
    return json_response(answer)


def _schemas(manage: Manage) -> Sequence[Route]:
    """The JSON Schemas of `data`, where `dataschema` points, and their index (contract/wire.md 9); public."""

    def url_of(request: Request, name: str) -> str:
        return schema_url(_schema_base(manage, request), name)

    async def schema(request: Request) -> Response:
        name = request.path_params["type"]
        if name not in manage.catalog:
            raise NotFound(f"unknown event type {name!r}")
        content = manage.catalog[name].schema_at(url_of(request, name))
        return Response(orjson.dumps(content), headers=CACHED, media_type="application/schema+json")

    async def index(request: Request) -> Response:
        types: list[ListedTypeAnswer] = [
            {
                "type": each.name,
                "trigger": each.trigger,
                "certainty": each.certainty,
                "schema": url_of(request, each.name),
            }
            for each in manage.catalog.types.values()
        ]
        answer: EventTypesAnswer = {"types": types}
        return json_response(answer, headers=CACHED)

    return [
        Route("/spec/", index, methods=["GET"]),
        Route("/spec/{type}.schema.json", schema, methods=["GET"]),
    ]


async def _json(request: Request, *, or_empty: bool = False) -> Any:
    """The body as JSON; `or_empty`: none is {}. Raises TooLarge, UnsupportedMediaType, InvalidRequest."""
    body = await read_body(request, BODY_LIMIT)
    await FIRST_BODY.ready()
    if not body and or_empty:
        return {}
    if not body:
        raise InvalidRequest(Problem("", "the body is empty; a JSON object is needed"))
    as_it_is(request)
    if media_type(request) != "application/json":
        raise UnsupportedMediaType("the body must be application/json")
    if json_form.has_more_values(body, MAX_VALUES):
        raise TooLarge(f"the body holds more than {MAX_VALUES} JSON values")
    try:
        value = json_form.parse(body)
    except json_form.MalformedJson as error:
        raise InvalidRequest(Problem("", error.said_of("the body"))) from error
    if json_form.has_lone_surrogates(value):
        raise InvalidRequest(Problem("", "the body holds half of a surrogate pair, which is no character"))
    request.state.redaction = Redaction(value)
    return value


def _ids(request: Request) -> tuple[str, str]:
    return request.path_params["sid"], request.path_params["id"]
