"""`aep serve` whose standard error is a full pipe, as behind a stalled journal or a suspended `less`."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from aep.runtime.log_lines import WAITING_BYTES
from support import one_pim
from support.full_pipe import ROOM, fill
from support.processes import (
    START_SECONDS,
    Child,
    command,
    delivered,
    free_port,
    http,
    ready,
    send_events,
    server,
    until,
    with_metrics,
)

STOPS_WITHIN = 10.0
WAITING = "SELECT count(*) FROM deliveries"


class Pipe:
    """A full pipe, which is read from `start` on."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        fill(self.writing)
        self._found = bytearray()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _read(self) -> None:
        while piece := os.read(self.reading, 1 << 16):
            self._found += piece

    def holds(self, text: str) -> bool:
        """True if the text has been read."""
        return text.encode() in self._found

    def lines(self) -> list[str]:
        """All lines behind what filled the pipe, once nobody writes to it any more."""
        os.close(self.writing)
        self._thread.join(10)
        return bytes(self._found[ROOM:]).decode().splitlines()


@pytest.fixture
def pipe() -> Pipe:
    return Pipe()


@pytest.fixture(scope="module")
def inbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    with command(tmp_path_factory.mktemp("inbox"), "inbox", "--port", "0") as inbox:
        yield ready(inbox)


def healthy(serve: Child) -> bool:
    return http().get(f"{serve.url}/health", timeout=5).status_code == 200


@pytest.mark.parametrize("workers", ["0", "1"])
def test_events_health_deliveries_and_the_end_wait_for_no_reader_of_the_log(
    tmp_path: Path, pipe: Pipe, inbox: Child, workers: str
) -> None:
    arguments = [*one_pim.arguments(tmp_path), "--workers", workers]
    path = f"/full-{workers}"
    with server(tmp_path, *arguments, settings=with_metrics(), stderr=pipe.writing) as serve:
        one_pim.subscribe(serve, inbox.url + path)
        for _ in range(3):
            (event_id,) = one_pim.emit(serve)
            delivered(inbox.url, path, event_id)
        assert healthy(serve)
        assert http().get(serve.metrics, timeout=5).status_code == 200
        began = time.monotonic()
        assert serve.stop(signal.SIGTERM) == 0
        assert time.monotonic() - began < STOPS_WITHIN


@pytest.mark.parametrize("name", ["inbox", "sim"])
def test_the_tools_that_serve_wait_for_no_reader_either(tmp_path: Path, pipe: Pipe, name: str) -> None:
    url = f"http://127.0.0.1:{(port := free_port())}"
    with command(tmp_path, name, "--port", str(port), stdout=pipe.writing, stderr=pipe.writing) as tool:
        until(lambda: answers(f"{url}/health"), "an answer", seconds=START_SECONDS)
        for _ in range(ROOM // 64 if name == "inbox" else 0):  # a line is longer
            assert http().post(f"{url}/full", data=b"{}", timeout=5).status_code == 200
        assert tool.stop(signal.SIGTERM) == 0


def answers(url: str) -> bool:
    """True if somebody listens there and answers."""
    try:
        return http().get(url, timeout=5).ok
    except requests.ConnectionError:
        return False


def test_a_reader_that_comes_back_gets_the_lines_in_order_and_how_many_were_dropped(
    tmp_path: Path, pipe: Pipe, inbox: Child
) -> None:
    arguments = [*one_pim.arguments(tmp_path), "--workers", "1"]
    settings = {"AEP_RATE_MIN": "100000", "AEP_RATE_MAX": "100000"}
    file = tmp_path / "data" / "aep.db"
    sent = [f"{number:0256}" for number in range(WAITING_BYTES // 400)]
    with server(tmp_path, *arguments, settings=settings, stderr=pipe.writing) as serve:
        one_pim.subscribe(serve, f"{inbox.url}/back")
        for start in range(0, len(sent), 500):
            events = [one_pim.event() | {"id": each} for each in sent[start : start + 500]]
            assert send_events(serve.url, one_pim.INGEST_KEY, *events) == 202
        until(lambda: one_pim.rows(file, WAITING) == [(0,)], "all deliveries", seconds=60)
        assert healthy(serve)
        pipe.start()
        until(lambda: pipe.holds('"log.lines_dropped"'), "how many were dropped")
        assert serve.stop(signal.SIGTERM) == 0
    warning, *written = pipe.lines()
    assert warning.startswith("WARNING: --dev")
    lines = [json.loads(line) for line in written]
    (dropped,) = [line for line in lines if line["event"] == "log.lines_dropped"]
    assert (dropped["stream"], dropped["severity"]) == ("stderr", "ERROR")
    attempts = [line["event_id"] for line in lines if line["event"] == "delivery.attempted"]
    assert 0 < len(attempts) == len(set(attempts)) < len(sent)
    assert dropped["count"] >= len(sent) - len(attempts)


CRASHES = """
import sys
import structlog
from aep import wiring
from aep.cli import main

log = structlog.get_logger()

async def start(self):
    for number in range(1000):
        log.info("before", number=number)
    raise RuntimeError("a bug, for the test")

wiring.Platform.start = start
main.main()
"""


def test_what_was_logged_before_a_crash_and_its_traceback_are_written(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CRASHES, *one_pim.arguments(tmp_path), "--metrics-port", "0"]
    ended = subprocess.run([*command, "--port", "0"], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    before, crash, after = ended.stderr.partition("Traceback (most recent call last)")
    assert before.count('"before"') == 1000
    assert crash
    assert after.endswith("RuntimeError: a bug, for the test\n")


def test_a_crash_ends_the_process_though_nobody_reads_its_traceback(tmp_path: Path, pipe: Pipe) -> None:
    command = [sys.executable, "-c", CRASHES, *one_pim.arguments(tmp_path), "--metrics-port", "0"]
    with subprocess.Popen([*command, "--port", "0"], stderr=pipe.writing) as process:
        assert process.wait(START_SECONDS) == 1
