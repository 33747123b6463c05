"""Senders for tests in which one type of destination is delivered to."""

from typing import Any, NoReturn

from event_platform.deliver import Senders
from event_platform.domain.events import catalog
from event_platform.ports import Sender


class Unused:
    """A sender that nobody may call."""

    async def publish(self, *_: Any, **__: Any) -> NoReturn:
        raise AssertionError("nothing goes to Pub/Sub here")

    async def append(self, *_: Any, **__: Any) -> NoReturn:
        raise AssertionError("nothing goes to Kafka here")


async def unused() -> Unused:
    return Unused()


def https_by(sender: Sender) -> Senders:
    """Sends to https destinations."""
    return Senders(sender, Unused(), unused, catalog.load())
