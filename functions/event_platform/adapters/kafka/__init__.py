"""Kafka: records for subscribers' topics, on aiokafka, which is imported for the first record."""

from typing import TYPE_CHECKING

from ...first_use import FirstUse
from ..guard import GuardedNetwork

if TYPE_CHECKING:
    from .sender import KafkaSender


class KafkaOnFirstUse:
    """Makes the sender for the first record: aiokafka takes 0.4 s and 5 MB, and few have a topic of Kafka."""

    def __init__(self, guard: GuardedNetwork) -> None:
        self._guard = guard
        self._sender: KafkaSender | None = None
        self._library = FirstUse(_load)

    async def sender(self) -> "KafkaSender":
        """Returns the one sender."""
        await self._library.ready()
        if self._sender is None:
            from .sender import KafkaSender

            self._sender = KafkaSender(self._guard)
        return self._sender

    async def close(self) -> None:
        if self._sender is not None:
            await self._sender.close()


def _load() -> None:
    from . import sender  # noqa: F401
