"""The lanes into which this instance has put something lately: a delivery alone in its lane need not be
paced.
"""

from collections import Counter
from collections.abc import Sequence

from cachetools import TTLCache

from ..domain.messages.message import Message
from ..domain.messages.queue_messages import marked_alone
from ..ports import Clock

RECENT_SECONDS = 45.0
"""The time for which a push is held at most; after it nothing waits for the push."""
LANES_KEPT = 50_000
"""Some 20 MB. Where more are in use nothing counts as alone, which only costs waiting."""


class RecentLanes:
    """The ordering keys of the last 45 s."""

    def __init__(self, clock: Clock, *, kept: int = LANES_KEPT) -> None:
        self._kept = kept
        self._keys: TTLCache[str, None] = TTLCache(kept, RECENT_SECONDS, timer=clock.monotonic)

    def marked(self, messages: Sequence[Message]) -> list[Message]:
        """The messages, marked where nothing else of their lane is among them or was there lately."""
        keys = Counter(message.ordering_key for message in messages)
        self._keys.expire()
        knows = len(self._keys) + len(keys) <= self._kept
        alone = {key for key, count in keys.items() if count == 1 and knows and key not in self._keys}
        for key in keys:
            self._keys[key] = None
        return [marked_alone(message) if message.ordering_key in alone else message for message in messages]
