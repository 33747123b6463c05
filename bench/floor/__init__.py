"""The floor: the least that a relay of events has to do, in Go's standard library (main.go beside this file).

Its rate and CPU on the same machine in the same run are the yardstick for those of the platform.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from aep.runtime.children import Child, ChildFailed, environment

from ..errors import BenchFailed, LeftOut
from ..platform import Relay

SOURCE = Path(__file__).parent
BUILT = SOURCE.parents[1] / ".cache" / "floor"
BUILD_SECONDS = 300
START_SECONDS = 10
POLL_SECONDS = 0.002


@contextmanager
def running(
    endpoints: Sequence[str], secret: str, *, split: bool, parent: Path | None = None
) -> Iterator[Relay]:
    """Runs a floor that sends each event to each of the endpoints, with its file in a folder in `parent`.

    With `split` a request is an array of events. Raises LeftOut without Go, BenchFailed when it does not
    build or start.
    """
    program = _built()
    with tempfile.TemporaryDirectory(prefix="aep-bench-", dir=parent) as name:
        folder = Path(name)
        options = ["-to", ",".join(endpoints), "-copies", str(len(endpoints)), "-secret", secret]
        child = Child(
            "the floor",
            [str(program), "-listen", "127.0.0.1:0", "-file", str(folder / "events"), *options]
            + (["-split"] if split else []),
            stdout=folder / "output",
            stderr=folder / "log",
            environment=environment({}),
        )
        try:
            try:
                url = child.wait_until(child.ready_url, seconds=START_SECONDS, every=POLL_SECONDS)
            except ChildFailed as failed:
                raise BenchFailed(f"{failed}: {' '.join(failed.lines[-1:])}") from None
            yield Relay(url, child)
        finally:
            child.end()


def _built() -> Path:
    """Returns the program, which is built anew when its source has changed."""
    go = shutil.which("go")
    if go is None:
        raise LeftOut("go is not on PATH, so nothing is compared with the floor")
    source = b"".join((SOURCE / name).read_bytes() for name in ("go.mod", "main.go"))
    program = BUILT / hashlib.sha256(source).hexdigest()[:16]
    if not program.exists():
        command = [go, "build", "-o", str(program), "."]
        settings = {**os.environ, "GOTOOLCHAIN": "local", "GOPROXY": "off", "GOFLAGS": "-mod=mod"}
        done = subprocess.run(  # noqa: S603 - go, found above
            command,
            cwd=SOURCE,
            env=settings,
            capture_output=True,
            text=True,
            timeout=BUILD_SECONDS,
            check=False,
        )
        if done.returncode:
            raise BenchFailed(f"the floor does not build: {done.stderr.strip()}")
    return program
