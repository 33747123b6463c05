"""The time that a stop may take."""

from aep.runtime.stopping import (
    DRAIN_SECONDS,
    LAST_WRITE_SECONDS,
    METRICS_SECONDS,
    REQUESTS_SECONDS,
    STOP_SECONDS,
    WORKER_SECONDS,
)
from event_platform.settings import Settings


def test_the_parts_of_a_stop_end_within_its_time() -> None:
    parts = REQUESTS_SECONDS + METRICS_SECONDS + WORKER_SECONDS + 2 * LAST_WRITE_SECONDS
    assert parts < STOP_SECONDS


def test_an_attempt_ends_while_deliveries_drain() -> None:
    assert Settings().timeout < DRAIN_SECONDS
