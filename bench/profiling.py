"""A flame graph of the platform while a load is on it, by py-spy."""

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import BenchFailed

SAMPLES_PER_SECOND = "250"
_COMMAND_LINE = re.compile(r">[^<>]*py-spy record[^<>]*<")
"""The title that py-spy gives its picture; it names folders of this machine."""


@contextmanager
def flame_graph(py_spy: str, pid: int, output: Path) -> Iterator[None]:
    """Samples the process inside the block. `.svg` gives a picture, any other name folded stacks."""
    form = "flamegraph" if output.suffix == ".svg" else "raw"
    command = [py_spy, "record", "--pid", str(pid), "--format", form, "--output", str(output)]
    try:
        process = subprocess.Popen(  # noqa: S603 - what the user named
            [*command, "--threads", "--function", "--rate", SAMPLES_PER_SECOND, "--duration", "unlimited"],
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
        if output.suffix == ".svg":
            output.write_text(_COMMAND_LINE.sub(">aep serve, under load<", output.read_text()))
