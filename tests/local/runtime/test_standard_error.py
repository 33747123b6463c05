"""A log line reaches its reader whole, whatever interrupts the write and whoever writes beside it."""

import fcntl
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import orjson
import pytest

from support.processes import environment

SIZE = 1_000_000
"""More than a pipe takes at once."""
LOGS = """
import os, signal, sys
from aep.runtime.log_lines import BackgroundFile, GatheredLines
from event_platform import telemetry

signal.signal(signal.SIGALRM, lambda *_: os.write(1, b"!"))
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
{writes}
signal.setitimer(signal.ITIMER_REAL, 0)
"""
BY_THE_CALLER = f"""
telemetry.standard_error().buffer.write(b"x" * {SIZE} + b"\\n")
sys.stderr.flush()
"""
BY_A_THREAD = f"""
file = BackgroundFile(2, "stderr")
GatheredLines(file.write).error(b"x" * {SIZE})
assert file.drain(60)
"""

LINES = 100
LINE_TIMES = 1000
"""The word of a line: more than a pipe takes without another process's between (4,096 bytes)."""
SERVES = f"""
import asyncio
import structlog
from aep import wiring
from aep.cli import main
from aep.workers import process

log = structlog.get_logger()

async def write(text):
    for number in range({LINES}):
        (log.error if number % 10 == 0 else log.info)(text * {LINE_TIMES})
        await asyncio.sleep(0.001)

class Live:  # in place of the dispatcher
    put = read_more = None

    async def start(self):
        self.writing = asyncio.create_task(write("worker "))

    async def stop(self, drain=0):
        await self.writing

start = wiring.Platform.start

async def start_and_write(self):
    await start(self)
    await write("owner ")

process.dispatcher = lambda *_, **more: Live()
wiring.Platform.start = start_and_write
main.main()
"""


@pytest.mark.parametrize("writes", [BY_THE_CALLER, BY_A_THREAD], ids=["by-the-caller", "by-a-thread"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_line_that_was_interrupted_is_written_to_its_end(unbuffered: str, writes: str) -> None:
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    command = [sys.executable, "-c", LOGS.format(writes=writes)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(1) == b"!"  # the pipe is full and the signal came
        assert process.stderr.read() == b"x" * SIZE + b"\n"


def test_long_lines_of_the_owner_and_a_worker_never_stand_within_each_other(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        SERVES,
        "serve",
        "--port",
        "0",
        "--metrics-port",
        "0",
        "--console-port",
        "0",
        "--workers",
        "1",
        "--data",
        str(tmp_path),
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment({})
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        fcntl.fcntl(process.stderr, fcntl.F_SETPIPE_SZ, 4096)  # so that writers take turns
        found = Counter[str]()
        for line in process.stderr:
            found[orjson.loads(line)["event"]] += 1
            if found.total() == 2 * LINES + 2:  # with those of the start
                process.terminate()
        del found["pims.read"], found["platform.started"], found["platform.stopped"]
        assert found == {"owner " * LINE_TIMES: LINES, "worker " * LINE_TIMES: LINES}
