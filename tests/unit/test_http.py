"""What every HTTP function does with a request and its answer, before and after the routes."""

from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send
from structlog.testing import capture_logs

from event_platform.domain.errors import Conflict, StoreUnavailable
from event_platform.http import SAFE, App, Direct, json_response


async def ask(app: App, method: str = "GET", scheme: str = "http", path: str = "/") -> list[Message]:
    """What the app sends; what it raises after that comes through."""
    sent: list[Message] = []
    await app(scope_of(method, scheme, path), nothing_comes, into(sent))
    return sent


def scope_of(method: str = "GET", scheme: str = "http", path: str = "/") -> dict[str, Any]:
    return {
        "type": "http",
        "method": method,
        "scheme": scheme,
        "path": path,
        "query_string": b"",
        "headers": [],
        "client": ("192.0.2.1", 1),
    }


async def nothing_comes() -> Message:
    return {"type": "http.disconnect"}


def into(sent: list[Message]) -> Send:
    async def send(message: Message) -> None:
        sent.append(message)

    return send


def headers_of(sent: list[Message]) -> dict[str, str]:
    names = [name for name, _ in sent[0]["headers"]]
    assert len(names) == len(set(names))
    return {name.decode(): value.decode() for name, value in sent[0]["headers"]}


async def well(request: Request) -> Response:
    return json_response({}, headers={"Cache-Control": "private"})


class Midway:
    """An endpoint whose answer has begun when it raises."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise self._error


@pytest.mark.parametrize("endpoint", [well, Direct(well)])
async def test_an_answer_gets_the_safe_headers_that_it_does_not_set_itself(endpoint: Any) -> None:
    app = App([Route("/", endpoint)])
    expected = {name.lower(): value for name, value in SAFE.items()} | {"cache-control": "private"}
    for _ in range(2):
        found = headers_of(await ask(app))
        assert {name: found.get(name) for name in expected} == expected
        assert "strict-transport-security" not in found
    assert "strict-transport-security" in headers_of(await ask(app, scheme="https"))


@pytest.mark.parametrize("endpoint", [well, Direct(well)])
async def test_another_method_is_405_and_names_those_allowed(endpoint: Any) -> None:
    sent = await ask(App([Route("/", endpoint, methods=["POST"])]))
    assert sent[0]["status"] == 405
    assert headers_of(sent)["allow"] == "POST"


async def test_a_path_with_a_slash_too_many_is_404() -> None:
    assert (await ask(App([Route("/a", well)]), path="/a/"))[0]["status"] == 404


@pytest.mark.parametrize("error", [Conflict("for the test"), RuntimeError("for the test")])
async def test_an_error_after_the_answer_began_is_raised_and_answered_no_second_time(
    error: Exception,
) -> None:
    sent: list[Message] = []
    app = App([Route("/", Midway(error))])
    with pytest.raises(type(error), match="for the test"):
        await app(scope_of(), nothing_comes, into(sent))
    assert [message["type"] for message in sent] == ["http.response.start"]


async def test_each_answer_is_told_with_its_endpoint() -> None:
    told: list[tuple[Any, int]] = []
    app = App([Route("/", well)], answered=lambda scope, status: told.append((scope.get("endpoint"), status)))
    await ask(app)
    await ask(app, "PURGE")
    await ask(app, path="/nowhere")
    assert told == [(well, 200), (well, 405), (None, 404)]


@pytest.mark.provokes("request.unavailable")
async def test_a_part_that_is_away_is_logged_once_a_minute_and_cut() -> None:
    async def fails(request: Request) -> Response:
        raise StoreUnavailable("away: " + "x" * 10_000)

    app = App([Route("/{name:path}", fails)])
    with capture_logs() as lines:
        for number in range(100):
            sent = await ask(app, path=f"/{number}" + "x" * 30_000)
            assert sent[0]["status"] == 503
    (line,) = lines
    assert line["times"] == 1
    assert len(str(line)) < 2000
