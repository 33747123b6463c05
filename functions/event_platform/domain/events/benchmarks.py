"""Test events of benchmarks (contract/wire.md 14): what they hold, and whose they are."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..subscriptions import Recipient
from . import json_form
from .catalog import BENCHMARK
from .event import Event
from .facts import Facts

BYTES_PER_KB = 1024


@dataclass(frozen=True, slots=True)
class Benchmark:
    """`count` test events for the benchmark subscriptions of a client, with `data` of at least `size` kB.

    `custom_data` holds what the call gave under that name, or nothing.
    """

    id: str
    client_id: str
    count: int
    size: float
    time: str
    custom_data: dict[str, Any] = field(default_factory=dict[str, Any], repr=False)

    def events(self) -> Iterator[Event]:
        """Yields the test events; each is made when it is asked for."""
        for number in range(1, self.count + 1):
            data = self._data(number)
            yield Event(
                id=f"{self.id}-{number}",
                type=BENCHMARK,
                time=self.time,
                facts=Facts(BENCHMARK, data),
                data_json=json_form.stringify(data),
                identity=(),
                benchmark_client=self.client_id,
            )

    def _data(self, number: int) -> dict[str, Any]:
        data = {"benchmark": {"id": self.id, "number": number, "count": self.count}, **self.custom_data}
        missing = round(self.size * BYTES_PER_KB) - len(json_form.stringify(data)) - len(',"padding":""')
        return {**data, "padding": "x" * missing} if missing > 0 else data


def is_benchmarked(event: Event, subscription: Recipient) -> bool:
    """True if the test event is for this subscription. Its `events` and its filter play no part."""
    return subscription.source == "benchmark" and subscription.owner.client_id == event.benchmark_client
