"""Calls the routes of the control socket without a socket: on a folder on which no platform runs."""

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any
from urllib.parse import quote

import orjson
from starlette.types import ASGIApp

from .client import result_of


async def call(app: ASGIApp, method: str, path: Sequence[str], body: Any, headers: Mapping[str, str]) -> Any:
    """Returns the answer's JSON, and raises what `Control.call` raises."""
    sent = b"" if body is None else orjson.dumps(body)
    given = {"content-type": "application/json", "content-length": str(len(sent)), **headers}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": "/" + "/".join(path),
        "raw_path": ("/" + "/".join(quote(part, safe="") for part in path)).encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in given.items()],
        "client": None,
        "server": ("localhost", 80),
    }
    status, answer = 0, b""

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": sent, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal status, answer
        status = message.get("status", status)
        answer += message.get("body", b"")

    await app(scope, receive, send)
    return result_of(status, answer)
