"""The time that a stop may take."""

from pathlib import Path

import orjson
import pytest

from aep.runtime.stopping import (
    DRAIN_SECONDS,
    LAST_WRITE_SECONDS,
    METRICS_SECONDS,
    REQUESTS_SECONDS,
    STOP_SECONDS,
    WORKER_SECONDS,
)
from event_platform.settings import Settings
from support.processes import server


def test_the_parts_of_a_stop_end_within_its_time() -> None:
    parts = REQUESTS_SECONDS + METRICS_SECONDS + WORKER_SECONDS + 2 * LAST_WRITE_SECONDS
    assert parts < STOP_SECONDS


def test_an_attempt_ends_while_deliveries_drain() -> None:
    assert Settings().timeout < DRAIN_SECONDS


@pytest.mark.provokes("settings.timeout_above_drain")
def test_a_timeout_that_a_stop_may_cut_off_is_named_at_the_start(tmp_path: Path) -> None:
    with server(
        tmp_path, "serve", "--data", str(tmp_path / "data"), settings={"AEP_TIMEOUT": "6.5"}
    ) as serve:
        line = next(line for line in serve.stderr().splitlines() if "settings.timeout_above_drain" in line)
        assert orjson.loads(line)["drain"] == DRAIN_SECONDS
        assert serve.stop() == 0
