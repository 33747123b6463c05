"""Pushes of messages to a function in this process, in the form that Pub/Sub has."""

import base64
from typing import Any

import orjson
from starlette.types import ASGIApp

from event_platform.domain.messages.message import Message
from support.asgi import post


def pushed(message: Message, subscription: str = "s", **fields: Any) -> bytes:
    """The body of a push by the subscription; `fields` are further ones of the message."""
    wrapped = {
        "data": base64.b64encode(message.data).decode(),
        "attributes": dict(message.attributes),
        "messageId": "1",
        **fields,
    }
    return orjson.dumps({"message": wrapped, "subscription": f"projects/p/subscriptions/{subscription}"})


async def push(app: ASGIApp, path: str, message: Message, **how: Any) -> int:
    """The status that a push of the message is answered; `how` is as of `pushed`."""
    return await post(app, path, pushed(message, **how))
