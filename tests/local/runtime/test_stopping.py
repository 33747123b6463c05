"""The time that a stop may take."""

import asyncio
from pathlib import Path

import orjson
import pytest

from aep.broker import live
from aep.broker.live import Outgoing
from aep.runtime.stopping import (
    CONNECTIONS_SECONDS,
    CONSOLE_SECONDS,
    CONTROL_SECONDS,
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
    others = CONTROL_SECONDS + CONSOLE_SECONDS + METRICS_SECONDS
    around = REQUESTS_SECONDS + others + 2 * LAST_WRITE_SECONDS
    assert around + WORKER_SECONDS < STOP_SECONDS
    assert around + DRAIN_SECONDS + CONNECTIONS_SECONDS < STOP_SECONDS  # without workers


class Stuck:
    """A sender to a broker that does not let its connection be closed."""

    async def close(self) -> None:
        await asyncio.Event().wait()


async def test_a_broker_that_keeps_its_connection_does_not_hold_up_a_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outgoing = Outgoing(Settings())
    monkeypatch.setattr(outgoing, "_kafka", Stuck())
    monkeypatch.setattr(live, "CONNECTIONS_SECONDS", 0.01)
    async with asyncio.timeout(20):
        await outgoing.close()


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
