"""The OpenAPI document is made once, in a thread, however many ask at once."""

import asyncio
import threading
from typing import Any

import pytest
from starlette.types import Message

from event_platform.descriptions import openapi
from event_platform.descriptions.openapi import document as module
from event_platform.domain.attempts.broker_messages import TopicRules
from event_platform.domain.events import catalog
from event_platform.http import App


async def ask(app: App) -> bytes:
    scope = {"type": "http", "method": "GET", "path": "/openapi.json", "query_string": b"", "headers": []}
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return b"".join(message.get("body", b"") for message in sent)


async def test_the_document_is_made_once_and_not_in_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []

    def document(*parts: Any) -> dict[str, str]:
        threads.append(threading.current_thread())
        return {"openapi": "3.1.0"}

    monkeypatch.setattr(module, "document", document)
    app = App([openapi.route([], catalog.load(), TopicRules())])
    assert set(await asyncio.gather(*(ask(app) for _ in range(20)))) == {b'{"openapi":"3.1.0"}'}
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()
