"""A log line reaches its reader whole, whatever interrupts the write."""

import os
import subprocess
import sys

import pytest

SIZE = 1_000_000
"""More than a pipe takes at once."""
LOGS = f"""
import os, signal
from aep.log_lines import GatheredLines
from event_platform import telemetry

signal.signal(signal.SIGALRM, lambda *_: os.write(1, b"!"))
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
GatheredLines(telemetry.standard_error().buffer).error(b"x" * {SIZE})
signal.setitimer(signal.ITIMER_REAL, 0)
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_line_that_was_interrupted_is_written_to_its_end(unbuffered: str) -> None:
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    command = [sys.executable, "-c", LOGS]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(1) == b"!"  # the pipe is full and the signal came
        assert process.stderr.read() == b"x" * SIZE + b"\n"
