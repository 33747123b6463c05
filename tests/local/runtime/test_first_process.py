"""`aep serve` as process 1, as in a container: the kernel drops signals that process 1 has no handler for."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from aep.runtime.children import aep
from support.components import optional
from support.processes import STOP_SECONDS, Child, children, environment, ready, until

Start = Callable[..., Child]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `aep` as process 1 of a namespace of its own; skips the test where none may be made."""
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    isolated = [optional("unshare"), *as_root, "--pid", "--fork", "--kill-child", "--mount-proc"]
    tried = subprocess.run([*isolated, "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"unshare may make no namespace here: {tried.stderr.strip()}")
    with ExitStack() as stack:

        def started(*arguments: str) -> Child:
            child = Child(
                f"aep {arguments[0]}",
                [*isolated, *aep(*arguments)],
                stdout=tmp_path / "out",
                stderr=tmp_path / "err",
                environment=environment({}),
            )
            stack.callback(child.kill_group)  # and, by --kill-child, of all in the namespace
            return child

        yield started


def end(child: Child) -> int:
    """Sends SIGTERM to process 1 of the namespace; returns the exit status."""
    (first,) = until(lambda: children(child.process.pid), "process 1")
    os.kill(first, signal.SIGTERM)
    return child.wait(STOP_SECONDS)


def held_by_reader(fifo: Path) -> int:
    """Opens a FIFO if somebody reads it, who then waits for its end; returns the descriptor, else 0."""
    with suppress(OSError):
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    return 0


@pytest.mark.parametrize("workers", ["0", "1"])
def test_sigterm_ends_it_with_status_0_and_leaves_no_zombie(
    start: Start, tmp_path: Path, workers: str
) -> None:
    child = ready(start("serve", "--port", "0", "--data", str(tmp_path / "data"), "--workers", workers))
    (first,) = children(child.process.pid)
    states = [Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] for pid in children(first)]
    assert len(states) >= int(workers)
    assert "Z" not in states
    assert end(child) == 0, child.stderr()


def test_sigterm_ends_a_start(start: Start, tmp_path: Path) -> None:
    never_written = tmp_path / "event-types.json"
    os.mkfifo(never_written)
    child = start(
        "serve", "--port", "0", "--data", str(tmp_path / "data"), "--event-types", str(never_written)
    )
    writer = until(lambda: held_by_reader(never_written), "the start reads its event types")
    try:
        assert end(child) == 128 + signal.SIGTERM, child.stderr()
    finally:
        os.close(writer)
