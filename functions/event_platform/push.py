"""The parts that functions called by Pub/Sub push share: the envelope, and the answer to each end.

A 2xx acknowledges the message, anything else has Pub/Sub push it again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeAlias

import structlog
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .budget import Budget
from .domain.errors import Unavailable
from .domain.faults import FAULTS_AT_MOST
from .domain.messages.message import MalformedMessage, Message
from .http import Direct, read_body
from .ports import Publisher
from .tracebacks import drop_tracebacks

log = structlog.get_logger()

PUSH_BODY_LIMIT = 15 * 1024 * 1024
"""A message has at most 10 MB, in base64 13.4."""
SMALL_PUSH_BYTES = 64 * 1024
"""A push of this size is taken at once: as many as an instance gets fit into its memory."""
LARGE_PUSHES_BYTES = 40 * 1024 * 1024
"""The bytes that larger pushes may have together, one of them beyond the budget: while one is read, it is in
memory several times."""
WAIT_SECONDS = 20.0
"""A push waits so long until others have ended, and is then refused, to be pushed again within 60 s."""

MAX_ATTRIBUTES = 100
MAX_ATTRIBUTE_NAME_BYTES = 256
MAX_ATTRIBUTE_BYTES = 1024
MAX_LETTER_BYTES = 9_000_000

SOURCE_SUBSCRIPTION = "CloudPubSubDeadLetterSourceSubscription"
SOURCE_PROJECT = "CloudPubSubDeadLetterSourceSubscriptionProject"
DELIVERY_COUNT = "CloudPubSubDeadLetterSourceDeliveryCount"
"""The attributes of the dead letters that Pub/Sub makes by itself; ours bear them too."""
REASON = "dead_letter_reason"
MESSAGE_ID = "dead_letter_message_id"
ORDERING_KEY = "dead_letter_ordering_key"


@dataclass(frozen=True, slots=True)
class Pushed:
    """A message as it was pushed to us. `subscription` is the full name of the push subscription.

    `delivery_attempt` counts from 1 and is there only with a dead-letter policy. `parameters` are those
    of the route's path.
    """

    message: Message
    message_id: str
    subscription: str
    delivery_attempt: int | None = None
    published_at: datetime | None = None
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])


_ACKNOWLEDGED = Response(status_code=204)
Handle: TypeAlias = Callable[[Pushed], Awaitable[None]]
PublishDeadLetter: TypeAlias = Callable[[Message], Awaitable[None]]
"""Puts a dead letter where an operator finds it; durable when it returns. Raises Unavailable."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, val_json_bytes="base64")


class _PubsubMessage(_Part):
    data: bytes | None = None
    attributes: dict[str, str] | None = None
    message_id: str = Field(alias="messageId")
    publish_time: AwareDatetime | None = Field(default=None, alias="publishTime")
    ordering_key: str | None = Field(default=None, alias="orderingKey")


class _Envelope(_Part):
    message: _PubsubMessage
    subscription: str
    delivery_attempt: int | None = Field(default=None, alias="deliveryAttempt")


def pushed_of(body: bytes, parameters: Mapping[str, str] | None = None) -> Pushed:
    """The message in the body of a push request, in Pub/Sub's wrapped form. Raises MalformedMessage.

    https://cloud.google.com/pubsub/docs/push#receive_push
    """
    try:
        envelope = _Envelope.model_validate_json(body)
        message = envelope.message
        published_at = message.publish_time.astimezone(UTC) if message.publish_time else None
    except ValidationError as error:
        raise MalformedMessage(f"the push envelope: {_problems_of(error)}") from error
    except (ValueError, OverflowError) as error:
        raise MalformedMessage("the push envelope holds a value that nothing is made of") from error
    return Pushed(
        message=Message(message.data or b"", message.attributes or {}, message.ordering_key or ""),
        message_id=message.message_id,
        subscription=envelope.subscription,
        delivery_attempt=envelope.delivery_attempt,
        published_at=published_at,
        parameters=parameters or {},
    )


def room_for_large_pushes() -> Budget:
    """The budget of an instance; each of its routes' URLs, such as that of a PIM, is an owner."""
    return Budget(LARGE_PUSHES_BYTES - PUSH_BODY_LIMIT, reserve=0, minimum=PUSH_BODY_LIMIT)


def push_route(
    path: str,
    handle: Handle,
    *,
    publish_dead_letter: PublishDeadLetter,
    room: Budget | None = None,
    room_for_reading_only: bool = False,
    attempts: int = FAULTS_AT_MOST,
) -> Route:
    """A route for a push subscription. How `handle` ends decides what becomes of the message.

    It returns: acknowledged. It raises MalformedMessage: a dead letter. Unavailable: pushed again. Anything
    else is a fault of ours: raised, so pushed again, until `attempts` of them make a dead letter. `room` is
    shared by the routes of a function; a push has it until it is handled, or read only.
    """
    shared = room or room_for_large_pushes()

    async def receive(request: Request) -> Response:
        declared = request.headers.get("content-length", "")
        size = int(declared) if declared.isdecimal() else PUSH_BODY_LIMIT
        try:
            async with AsyncExitStack() as room:
                if size > SMALL_PUSH_BYTES:
                    await _wait_for_room(room, shared.hold(request.url.path, min(size, PUSH_BODY_LIMIT)))
                if (pushed := await _read(request)) is None:
                    return _ACKNOWLEDGED
                if room_for_reading_only:
                    await room.aclose()
                await _handle(pushed)
        except Unavailable as error:
            log.warning("message.unavailable", path=request.url.path, error=str(error))
            drop_tracebacks(error)
            return Response(status_code=503)
        return _ACKNOWLEDGED

    async def _read(request: Request) -> Pushed | None:
        """None if it was malformed and is a dead letter now."""
        body = bytes(await read_body(request, PUSH_BODY_LIMIT))
        try:
            return pushed_of(body, request.path_params)
        except MalformedMessage as error:
            await _dead_letter(Pushed(Message(body[:MAX_LETTER_BYTES]), "", ""), str(error))
            drop_tracebacks(error)
            return None

    async def _handle(pushed: Pushed) -> None:
        try:
            await handle(pushed)
        except MalformedMessage as error:
            await _dead_letter(pushed, str(error))
            drop_tracebacks(error)
        except Unavailable:
            raise
        except Exception as error:
            if (pushed.delivery_attempt or 0) < attempts:
                raise
            reason = f"{type(error).__name__} {pushed.delivery_attempt} times"
            await _dead_letter(pushed, reason, exc_info=error)
            drop_tracebacks(error)

    async def _dead_letter(pushed: Pushed, reason: str, exc_info: Exception | None = None) -> None:
        await publish_dead_letter(dead_letter(pushed, reason))
        log.error(
            "message.dead_lettered",
            path=path,
            subscription=pushed.subscription,
            message_id=pushed.message_id,
            reason=reason,
            exc_info=exc_info,
        )

    return Route(path, Direct(receive), methods=["POST"])


async def _wait_for_room(stack: AsyncExitStack, room: AbstractAsyncContextManager[None]) -> None:
    """Takes room until the stack ends. Raises Unavailable after WAIT_SECONDS."""
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            await stack.enter_async_context(room)
    except TimeoutError:
        raise Unavailable(f"no room for a large push within {WAIT_SECONDS:g} s") from None


def dead_letter(pushed: Pushed, reason: str) -> Message:
    """The message as it came, and in attributes why it ended and where it came from."""
    project, _, subscription = pushed.subscription.removeprefix("projects/").partition("/subscriptions/")
    ours = {
        REASON: reason,
        MESSAGE_ID: pushed.message_id,
        ORDERING_KEY: pushed.message.ordering_key,
        SOURCE_PROJECT: project,
        SOURCE_SUBSCRIPTION: subscription,
        DELIVERY_COUNT: "" if pushed.delivery_attempt is None else str(pushed.delivery_attempt),
    }
    ours = {name: _cut(value, MAX_ATTRIBUTE_BYTES) for name, value in ours.items() if value}
    room = MAX_ATTRIBUTES - len(ours)
    kept = [item for item in pushed.message.attributes.items() if _may_be_published(*item)][:room]
    return Message(pushed.message.data, {**dict(kept), **ours})


def dead_letters_to(publisher: Publisher, topic: str) -> PublishDeadLetter:
    """Publishes dead letters to a topic."""

    async def publish(letter: Message) -> None:
        await publisher.publish(topic, [letter])

    return publish


def _may_be_published(name: str, value: str) -> bool:
    return (
        0 < len(name.encode()) <= MAX_ATTRIBUTE_NAME_BYTES
        and not name.startswith("goog")  # Pub/Sub's own, which nobody else may set
        and len(value.encode()) <= MAX_ATTRIBUTE_BYTES
    )


def _cut(text: str, limit: int) -> str:
    return text.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore")


def _problems_of(error: ValidationError) -> str:
    """Returns where it is wrong and how, without the values."""
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    places = [f"{'.'.join(map(str, problem['loc']))} {problem['type']}".strip() for problem in problems[:5]]
    return _cut("; ".join(places), 500)
