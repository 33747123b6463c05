"""Requests to an application in this process, without a server."""

from typing import Any

from starlette.types import ASGIApp, Message


async def post(app: ASGIApp, path: str, body: bytes) -> int:
    """The status of the answer. What the application raises after a 500, for the server's log, is dropped."""
    sent: list[Message] = []
    try:
        await _ask(app, "POST", path, body, sent)
    except Exception:
        if not sent or sent[0]["status"] != 500:
            raise
    return sent[0]["status"]


async def get(app: ASGIApp, path: str, *headers: tuple[bytes, bytes]) -> bytes:
    """The body of the answer, which is a 200."""
    sent: list[Message] = []
    await _ask(app, "GET", path, b"", sent, *headers)
    assert sent[0]["status"] == 200
    return b"".join(message.get("body", b"") for message in sent)


async def _ask(
    app: ASGIApp, method: str, path: str, body: bytes, sent: list[Message], *headers: tuple[bytes, bytes]
) -> None:
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"test"), (b"content-length", str(len(body)).encode()), *headers],
        "server": ("test", 80),
        "client": ("test", 1),
        "state": {},
    }

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
