"""The messages of `aep serve` to systemd, over a socket like its own."""

import os
import signal
import socket
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import structlog

from aep.errors import SetupError
from aep.runtime import systemd
from aep.runtime.tasks import WatchedTasks
from support import one_pim
from support.clock import ManualClock
from support.processes import START_SECONDS

ROOT = Path(__file__).parents[3]


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a service's manager, as NOTIFY_SOCKET names it."""
    return f"@aep-test-{uuid.uuid4()}" if request.param == "abstract" else str(tmp_path / "notify")


@pytest.fixture
def manager(address: str) -> Iterator[socket.socket]:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as bound:
        bound.bind(address.replace("@", "\0"))
        bound.settimeout(START_SECONDS)
        yield bound


def everything(manager: socket.socket) -> list[bytes]:
    """Returns what has come and nobody has taken."""
    manager.setblocking(False)
    messages: list[bytes] = []
    try:
        while True:
            messages.append(manager.recv(100))
    except BlockingIOError:
        return messages


def test_a_service_says_when_it_is_ready_that_it_lives_and_when_it_stops(
    address: str, manager: socket.socket, tmp_path: Path
) -> None:
    settings = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "100000"}
    with one_pim.serve(tmp_path, "--workers", "1", settings=settings) as serve:
        heard = [manager.recv(100)]
        while len(heard) < 4 or b"READY=1" not in heard:
            heard.append(manager.recv(100))
        serve.send(signal.SIGTERM)
        while heard[-1] != b"STOPPING=1":
            heard.append(manager.recv(100))
        assert serve.wait() == 0
    assert everything(manager) == []
    assert set(heard) == {b"READY=1", b"WATCHDOG=1", b"STOPPING=1"}
    assert heard.count(b"READY=1") == 1


async def test_it_is_said_at_half_of_the_interval(
    address: str, manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    clock, faults = ManualClock(), list[BaseException]()
    async with systemd.watchdog(clock, WatchedTasks(faults.append)):
        await clock.advance(0)
        assert everything(manager) == [b"WATCHDOG=1"]
        await clock.advance(14)
        assert everything(manager) == []
        await clock.advance(31)
        assert everything(manager) == [b"WATCHDOG=1"] * 3
    await clock.advance(60)
    assert everything(manager) == []
    assert faults == []


def test_who_is_not_watched_says_nothing() -> None:
    assert systemd.watchdog_seconds({}) is None
    assert systemd.watchdog_seconds({"WATCHDOG_USEC": "1", "WATCHDOG_PID": str(os.getppid())}) is None
    assert systemd.watchdog_seconds({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}) == 30
    systemd.notify("READY=1", {})


@pytest.mark.parametrize("value", ["0", "-5", "soon"])
def test_an_interval_that_is_none_is_an_error(value: str) -> None:
    with pytest.raises(SetupError, match=r"WATCHDOG_USEC is .* microseconds"):
        systemd.watchdog_seconds({"WATCHDOG_USEC": value})


def test_a_manager_that_is_gone_or_takes_nothing_is_logged_and_not_waited_for(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with structlog.testing.capture_logs() as logged:
        systemd.notify("READY=1", {"NOTIFY_SOCKET": address})
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as full:
            full.bind(address)
            while len(logged) < 2:  # until there is no room
                systemd.notify("WATCHDOG=1", {"NOTIFY_SOCKET": address})
    assert [line["event"] for line in logged] == ["systemd.not_notified"] * 2


def test_the_unit_waits_for_it_and_watches() -> None:
    lines = (ROOT / "deploy/systemd/aep.service").read_text().splitlines()
    assert {"Type=notify", "WatchdogSec=30", "WatchdogSignal=SIGKILL"} <= set(lines)
    assert any(line.startswith("After=") and "time-sync.target" in line for line in lines)
    assert any(line.startswith("Wants=") and "time-sync.target" in line for line in lines)
    assert {"Restart=always", "TimeoutStartSec=600"} <= set(lines)
