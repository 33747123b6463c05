"""A flame graph of the platform while a load is on it, by py-spy."""

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import BenchFailed

SAMPLES_PER_SECOND = "250"
_TITLE = re.compile(r">[^<>]*py-spy record[^<>]*<")
_PROCESS = re.compile(r'process (\d+):(?:"|&quot;)[^<]*?(?:"|&quot;|(?=<))')  # cut off where there is no room
"""The pattern of py-spy's names for its picture and the processes in it: command lines with folders of this
machine.
"""


@contextmanager
def flame_graph(py_spy: str, pid: int, output: Path) -> Iterator[None]:
    """Samples a process and its children inside the block. `.svg` gives a picture, else folded stacks."""
    form = "flamegraph" if output.suffix == ".svg" else "raw"
    command = [py_spy, "record", "--pid", str(pid), "--format", form, "--output", str(output)]
    try:
        process = subprocess.Popen(  # noqa: S603 - what the user named
            [
                *command,
                "--subprocesses",
                "--threads",
                "--function",
                "--rate",
                SAMPLES_PER_SECOND,
                "--duration",
                "unlimited",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    except FileNotFoundError:
        raise BenchFailed(f"no {py_spy} here: pip install py-spy, and name it with --py-spy") from None
    assert process.stdout is not None  # noqa: S101 - it was asked for as a pipe
    first = process.stdout.readline()
    if "Sampling" not in first:
        raise BenchFailed(f"py-spy cannot attach: {(first + process.stdout.read()).strip()[:300]}")
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)  # it writes its file then
        process.communicate(timeout=60)
        output.write_text(_named(output.read_text(), pid))


def _named(text: str, pid: int) -> str:
    """Returns py-spy's text without command lines."""
    text = _TITLE.sub(">under load<", text)
    return _PROCESS.sub(lambda found: "platform" if int(found[1]) == pid else "worker", text)
