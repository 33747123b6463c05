"""`aep serve` on a machine whose wall clock is moved while it runs, workers included."""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests

from support import one_pim
from support.aep_here import run
from support.components import require
from support.processes import Child, http, received, send_events, server, until

sys.path.append(str(Path(__file__).parents[3]))  # the bench is not installed with the packages

from bench.wall_clock import MovableWallClock, is_available

DAYS = 10
DAY = 86400.0
SETTINGS = {"AEP_RETRY_DELAYS": ",".join(["1"] * 60), "AEP_TIMEOUT": "30"}
SECONDS = 30.0
"""The longest wait for each condition, on a machine with neighbours."""


@pytest.fixture
def clock(tmp_path: Path) -> MovableWallClock:
    require("a movable wall clock (Linux, cc)", is_available())
    return MovableWallClock(tmp_path)


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Child]:
    """Its clock is the machine's."""
    with server(tmp_path, "inbox", "--quiet") as inbox:
        yield inbox


def settings_for(clock: MovableWallClock) -> Mapping[str, str]:
    return clock.environment | SETTINGS


def jumps(serve: Child) -> list[dict[str, Any]]:
    """The lines of the log that tell of jumps."""
    lines = [line for line in serve.stderr().splitlines() if '"clock.' in line]
    return [json.loads(line) for line in lines]


def move(serve: Child, clock: MovableWallClock, days: float) -> None:
    """Returns when the platform has seen it."""
    before = len(jumps(serve))
    clock.move(days * DAY)
    until(lambda: len(jumps(serve)) > before, "the line of a jump", seconds=SECONDS)


def ready_says(serve: Child) -> dict[str, Any]:
    response: requests.Response = http().get(f"{serve.url}/ready", timeout=10)
    assert response.status_code == 200
    return response.json()


def requests_at(inbox: Child, path: str) -> int:
    return len(received(inbox.url, path))


@pytest.mark.full
def test_events_retries_ids_and_paces_go_on_whatever_the_clock_does(
    tmp_path: Path, clock: MovableWallClock, inbox: Child
) -> None:
    arguments = [*one_pim.arguments(tmp_path), "--workers", "1"]
    paths = ("/ok", "/flaky")
    with server(tmp_path, *arguments, settings=settings_for(clock)) as serve:
        for path in (*paths, "/429"):
            one_pim.subscribe(serve, inbox.url + path)
        first = one_pim.event()
        sent: list[str] = []

        def send(event: dict[str, Any]) -> None:
            assert send_events(serve.url, one_pim.INGEST_KEY, event) == 202

        def all_arrived() -> bool:
            return all(sorted(one_pim.ids_received(inbox.url, path)) == sorted(sent) for path in paths)

        for days in (0, DAYS, -2 * DAYS, 2 * DAYS, -DAYS):
            event = one_pim.event() if sent else first
            if days:
                waits = one_pim.event()  # for its retry, when the clock jumps
                send(waits)
                sent.append(waits["id"])
                move(serve, clock, days)
            began, before = time.monotonic(), requests_at(inbox, "/429")
            send(event)
            send(first)  # whose id is known
            sent.append(event["id"])
            until(all_arrived, f"all after {days} days more", seconds=SECONDS)
            throttled = requests_at(inbox, "/429") - before
            assert throttled <= 20 + 4 * (time.monotonic() - began), "429s lower the rate"
        assert [line["seconds"] for line in jumps(serve)] == [
            pytest.approx(days * DAY, abs=60) for days in (DAYS, -2 * DAYS, 2 * DAYS, -DAYS)
        ]
        assert "clock" not in ready_says(serve)
        assert '"delivery.ended"' not in serve.stderr()


@pytest.mark.full
def test_a_jump_is_said_by_ready_and_doctor_and_a_restart_goes_on(
    tmp_path: Path, clock: MovableWallClock, inbox: Child
) -> None:
    arguments = one_pim.arguments(tmp_path)
    settings = settings_for(clock)
    with server(tmp_path, *arguments, settings=settings) as serve:
        one_pim.subscribe(serve, f"{inbox.url}/500")
        one_pim.emit(serve)
        until(lambda: requests_at(inbox, "/500") > 1, "a retry", seconds=SECONDS)
        assert ready_says(serve) == {"status": "ok"}
        move(serve, clock, DAYS)
        assert "has jumped 864000 s ahead" in ready_says(serve)["clock"]
        until(lambda: "864000 s ahead" in doctors_line(tmp_path), "doctor says it", seconds=SECONDS)
        move(serve, clock, -2 * DAYS)
        assert "is 864000 s behind" in ready_says(serve)["clock"]
        until(lambda: "864000 s behind" in doctors_line(tmp_path), "doctor says it", seconds=SECONDS)
        serve.kill_group()
    with server(tmp_path, *arguments, settings=settings) as serve:
        assert len(jumps(serve)) == 1
        before = requests_at(inbox, "/500")
        until(lambda: requests_at(inbox, "/500") > before, "the retry that waited", seconds=SECONDS)
        (event_id,) = one_pim.emit(serve)
        until(
            lambda: any(each["id"] == event_id for each in received(inbox.url, "/500")),
            "a new event",
            seconds=SECONDS,
        )
        accepted = one_pim.rows(tmp_path / "data" / "aep.db", "SELECT accepted_at FROM kept ORDER BY no")
        assert accepted == sorted(accepted)
        assert '"delivery.ended"' not in serve.stderr()


def doctors_line(folder: Path) -> str:
    """Returns the line of `aep doctor` about the clock, by the clock of the machine."""
    lines = run("doctor", "--data", str(folder / "data")).out.splitlines()
    return next(line for line in lines if line[9:].startswith("clock "))
