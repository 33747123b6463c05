"""What a push request holds, and what each end of a message answers."""

import asyncio
import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from event_platform import push
from event_platform.budget import Budget
from event_platform.domain.errors import PublishFailed, StoreUnavailable
from event_platform.domain.messages.message import MalformedMessage, Message
from event_platform.http import App
from event_platform.push import (
    DELIVERY_COUNT,
    MESSAGE_ID,
    ORDERING_KEY,
    REASON,
    SMALL_PUSH_BYTES,
    SOURCE_PROJECT,
    SOURCE_SUBSCRIPTION,
    Pushed,
    dead_letter,
    push_route,
    pushed_of,
)
from support.asgi import post
from support.garbage import garbage_frames

SUBSCRIPTION = "projects/p/subscriptions/events-push"


def envelope(data: bytes = b"secret payload", *, attempt: int | None = None, **message: Any) -> bytes:
    """A push request's body as Pub/Sub sends it."""
    body = {
        "message": {
            "attributes": {"tenant": "t"},
            "data": base64.b64encode(data).decode(),
            "messageId": "2070443601311540",
            "message_id": "2070443601311540",
            "orderingKey": "s/1",
            "publishTime": "2021-02-26T19:13:55.749Z",
            "publish_time": "2021-02-26T19:13:55.749Z",
        }
        | message,
        "subscription": SUBSCRIPTION,
    }
    return json.dumps(body | ({} if attempt is None else {"deliveryAttempt": attempt})).encode()


# --- the envelope --------------------------------------------------------------------------------------


def test_a_message_is_read_from_its_envelope() -> None:
    assert pushed_of(envelope(b"\0\xff", attempt=5)) == Pushed(
        Message(b"\0\xff", {"tenant": "t"}, "s/1"),
        "2070443601311540",
        SUBSCRIPTION,
        5,
        datetime(2021, 2, 26, 19, 13, 55, 749000, UTC),
    )


def test_what_pubsub_leaves_out_is_empty() -> None:
    body = b'{"message":{"messageId":"1"},"subscription":"s"}'
    assert pushed_of(body) == Pushed(Message(b"", {}, ""), "1", "s")


def test_every_byte_comes_through() -> None:
    data = bytes(range(256))
    assert {"+", "/", "="} <= set(base64.b64encode(data).decode())
    assert pushed_of(envelope(data=data)).message.data == data


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "json_invalid"),
        (b"[]", "model"),
        (b'{"message":{"messageId":"1"}}', "subscription missing"),
        (b'{"subscription":"s"}', "message missing"),
        (envelope(messageId=None), "message.messageId"),
        (envelope(data=b"").replace(b'"data": ""', b'"data": "@"'), "message.data bytes_invalid"),
        (envelope(attributes={"a": 1}), "message.attributes.a"),
        (envelope(publishTime="0001-01-01T00:00:00+14:00"), "nothing is made of"),
    ],
)
def test_what_is_no_envelope_is_malformed(body: bytes, told: str) -> None:
    with pytest.raises(MalformedMessage, match=told):
        pushed_of(body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
nearly = st.fixed_dictionaries(
    {},
    optional={
        "message": json_values
        | st.fixed_dictionaries(
            {},
            optional={
                "data": json_values,
                "attributes": json_values | st.dictionaries(st.text(), st.text(st.characters(codec=None))),
                "messageId": st.text() | json_values,
                "publishTime": st.datetimes().map(str) | json_values,
                "orderingKey": st.text() | json_values,
            },
        ),
        "subscription": st.text() | json_values,
        "deliveryAttempt": st.integers() | json_values,
    },
).map(lambda value: json.dumps(value).encode())


@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()) | nearly)
@example(b"[" * 100_000)
@example(b'{"message":{"messageId":"1","attributes":{"a":"\\ud800"}},"subscription":"s"}')
def test_any_bytes_are_a_message_or_malformed_and_have_a_dead_letter(body: bytes) -> None:
    try:
        pushed = pushed_of(body)
    except MalformedMessage as error:
        pushed = Pushed(Message(body), "", "")
        letter = dead_letter(pushed, str(error))
    else:
        letter = dead_letter(pushed, "why")
    assert letter.data == pushed.message.data
    assert len(letter.attributes) <= 100
    assert all(len(name.encode()) <= 256 for name in letter.attributes)
    assert all(len(value.encode()) <= 1024 for value in letter.attributes.values())


# --- what is answered ----------------------------------------------------------------------------------


class Function:
    """One push route whose handler does `end`, and what it buried."""

    def __init__(self, end: Callable[[Pushed], Any], *, unburied: Exception | None = None) -> None:
        self.buried: list[Message] = []
        self.handled: list[Pushed] = []

        async def handle(pushed: Pushed) -> None:
            self.handled.append(pushed)
            end(pushed)

        async def bury(letter: Message) -> None:
            if unburied is not None:
                raise unburied
            self.buried.append(letter)

        self._app = App([push_route("/push/{key}", handle, publish_dead_letter=bury)])

    async def push(self, body: bytes) -> tuple[int, list[dict[str, Any]]]:
        """The status and the lines that were logged."""
        with capture_logs() as lines:
            status = await post(self._app, "/push/k", body)
        return status, [dict(line) for line in lines]


def raising(error: Exception) -> Callable[[Pushed], None]:
    def end(pushed: Pushed) -> None:
        raise error

    return end


async def test_a_handled_message_is_acknowledged() -> None:
    function = Function(lambda pushed: None)
    assert await function.push(envelope()) == (204, [])
    assert function.handled[0].parameters == {"key": "k"}
    assert function.handled[0].message.data == b"secret payload"
    assert function.buried == []


@pytest.mark.provokes("message.dead_lettered")
async def test_malformed_content_becomes_a_dead_letter() -> None:
    function = Function(raising(MalformedMessage("the attribute lane is missing")))
    status, lines = await function.push(envelope(attempt=3))
    assert status == 204
    assert function.buried == [
        Message(
            b"secret payload",
            {
                "tenant": "t",
                REASON: "the attribute lane is missing",
                MESSAGE_ID: "2070443601311540",
                ORDERING_KEY: "s/1",
                SOURCE_PROJECT: "p",
                SOURCE_SUBSCRIPTION: "events-push",
                DELIVERY_COUNT: "3",
            },
        )
    ]
    assert [(line["event"], line["log_level"]) for line in lines] == [("message.dead_lettered", "error")]
    assert "payload" not in str(lines)


async def test_a_message_that_is_not_taken_does_not_wait_for_the_garbage_collector() -> None:
    """Its body may have 20 MiB."""

    async def handle(pushed: Pushed) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_exception(errors[pushed.message.data]("x"))
        await future

    async def bury(letter: Message) -> None:
        pass

    errors = {b"malformed": MalformedMessage, b"away": StoreUnavailable, b"fault": KeyError}
    app = App([push_route("/push", handle, publish_dead_letter=bury)])
    for body in b"{}", envelope(b"malformed"), envelope(b"away"), envelope(b"fault", attempt=100):
        with garbage_frames() as kept:
            assert await post(app, "/push", body) != 500
        assert not kept


async def test_an_envelope_that_cannot_be_read_becomes_a_dead_letter_as_it_came() -> None:
    function = Function(lambda pushed: None)
    status, lines = await function.push(b"not an envelope")
    assert (status, len(lines)) == (204, 1)
    assert [letter.data for letter in function.buried] == [b"not an envelope"]
    assert function.handled == []


@pytest.mark.parametrize("error", [StoreUnavailable("the disk is full"), PublishFailed("no topic", (0,))])
@pytest.mark.provokes("message.unavailable")
async def test_what_is_unavailable_has_the_message_pushed_again(error: Exception) -> None:
    function = Function(raising(error))
    status, lines = await function.push(envelope(attempt=1000))
    assert status == 503
    assert [(line["event"], line["log_level"]) for line in lines] == [("message.unavailable", "warning")]
    assert function.buried == []


@pytest.mark.parametrize(("attempt", "status"), [(None, 500), (99, 500), (100, 204), (101, 204)])
async def test_a_fault_of_ours_is_pushed_again_until_it_has_failed_100_times(
    attempt: int | None, status: int
) -> None:
    function = Function(raising(ZeroDivisionError("secret payload")))
    assert (await function.push(envelope(attempt=attempt)))[0] == status
    assert [letter.attributes[REASON] for letter in function.buried] == (
        [f"ZeroDivisionError {attempt} times"] if status == 204 else []
    )


async def test_a_message_that_cannot_be_buried_is_pushed_again() -> None:
    away = PublishFailed("there is no topic dead-letters", (0,))
    function = Function(raising(MalformedMessage("broken")), unburied=away)
    assert (await function.push(envelope()))[0] == 503


async def test_a_body_beyond_what_pubsub_pushes_is_refused() -> None:
    function = Function(lambda pushed: None)
    assert (await function.push(b"x" * (15 * 1024 * 1024 + 1)))[0] == 413


# --- dead letters --------------------------------------------------------------------------------------


def test_a_dead_letter_stays_within_pubsubs_limits() -> None:
    attributes = {f"a{number}": "x" for number in range(100)} | {
        "googclient_schemaencoding": "JSON",
        "": "x",
        "n" * 257: "x",
        "long": "ü" * 513,
    }
    pushed = Pushed(Message(b"x", attributes), "1", SUBSCRIPTION)
    letter = dead_letter(pushed, "ü" * 2000)
    assert len(letter.attributes) == 100
    assert letter.attributes[REASON] == "ü" * 512
    assert not {"googclient_schemaencoding", "", "n" * 257, "long"} & set(letter.attributes)


# --- how many bytes at once ----------------------------------------------------------------------------

LARGE = 2 * SMALL_PUSH_BYTES


class Handling:
    """A handler that notes the size of what it gets and ends when it is told to."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.done = asyncio.Event()

    async def __call__(self, pushed: Pushed) -> None:
        self.sizes.append(len(pushed.message.data))
        await self.done.wait()


async def no_letter(letter: Message) -> None:
    raise AssertionError("no dead letter is expected")


async def let_all_run() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def room_for(pushes: int, *, minimum: int = 1) -> Budget:
    """Room for so many large pushes, of which one URL may have `minimum`, and one beyond them."""
    size = len(envelope(b"x" * LARGE))
    return Budget(pushes * size, reserve=0, minimum=minimum * size)


async def test_large_pushes_wait_for_room_in_order_and_small_ones_never() -> None:
    handle = Handling()
    app = App([push_route("/", handle, publish_dead_letter=no_letter, room=room_for(1))])
    pushes = [asyncio.create_task(post(app, "/", envelope(b"x" * (LARGE - n)))) for n in range(5)]
    await let_all_run()
    assert handle.sizes == [LARGE, LARGE - 1]
    pushes.append(asyncio.create_task(post(app, "/", envelope(b"x"))))
    await let_all_run()
    assert handle.sizes[2:] == [1]
    handle.done.set()
    assert set(await asyncio.gather(*pushes)) == {204}
    assert handle.sizes[3:] == [LARGE - 2, LARGE - 3, LARGE - 4]


async def test_large_pushes_of_one_pim_leave_room_for_those_of_another() -> None:
    handle = Handling()
    app = App([push_route("/{key}", handle, publish_dead_letter=no_letter, room=room_for(2))])
    pushes = [asyncio.create_task(post(app, "/loud", envelope(b"x" * LARGE))) for _ in range(5)]
    await let_all_run()
    assert len(handle.sizes) == 2
    pushes.append(asyncio.create_task(post(app, "/quiet", envelope(b"x" * (LARGE - 1)))))
    await let_all_run()
    assert handle.sizes == [LARGE, LARGE, LARGE - 1]
    handle.done.set()
    assert set(await asyncio.gather(*pushes)) == {204}


async def test_a_push_that_needs_room_for_reading_only_gives_it_back_before_it_is_handled() -> None:
    handle = Handling()
    app = App(
        [push_route("/", handle, publish_dead_letter=no_letter, room=room_for(1), room_for_reading_only=True)]
    )
    pushes = [asyncio.create_task(post(app, "/", envelope(b"x" * LARGE))) for _ in range(5)]
    await let_all_run()
    assert handle.sizes == [LARGE] * 5
    handle.done.set()
    await asyncio.gather(*pushes)


async def test_a_push_larger_than_all_room_is_taken_alone_and_who_finds_none_is_pushed_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handle, room = Handling(), room_for(0, minimum=0)
    app = App([push_route("/", handle, publish_dead_letter=no_letter, room=room)])
    first = asyncio.create_task(post(app, "/", envelope(b"x" * 2 * LARGE)))
    await let_all_run()
    monkeypatch.setattr(push, "WAIT_SECONDS", 0.01)
    refused = await post(app, "/", envelope(b"x" * LARGE))
    assert (refused, handle.sizes) == (503, [2 * LARGE])
    given_up = asyncio.create_task(room.hold("/", LARGE).__aenter__())
    await let_all_run()
    given_up.cancel()
    handle.done.set()
    assert await first == 204
    assert await post(app, "/", envelope(b"x" * LARGE)) == 204
