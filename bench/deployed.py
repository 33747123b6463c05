"""The functions as Google runs them: processes whose interpreter has only the deployed packages."""

import base64
import hashlib
import http.client
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from aep.google.ports import free_ports
from aep.runtime.children import Child, ChildFailed

from .errors import BenchFailed
from .platform import environment
from .workers import ROOT

FUNCTIONS = ROOT / "functions"
REQUIREMENTS = FUNCTIONS / "requirements.txt"
BUILT = ROOT / ".venv" / "deployed"
SETTINGS: Mapping[str, str] = {
    "GOOGLE_CLOUD_PROJECT": "bench",
    "AEP_SECRETS_KEY": base64.b64encode(bytes(32)).decode(),
    "AEP_REGISTRY_KEY": base64.b64encode(bytes(32)).decode(),
    "AEP_PUBLIC_URL": "https://events.example.com",
    # Nothing is asked of them before the first request; with an address no credentials are looked for.
    "PUBSUB_EMULATOR_HOST": "127.0.0.1:1",
    "FIRESTORE_EMULATOR_HOST": "127.0.0.1:1",
}
PATIENCE_SECONDS = 30.0
_POLL_SECONDS = 0.01
_EMPTY = """
from functions_framework import aio
{imports}
@aio.http
async def nothing(request):
    return "ok"
"""


@cache
def interpreter() -> Path:
    """Returns a Python with `functions/requirements.txt` installed and byte-compiled, as a build at Google
    makes it.

    It lacks packages that only one machine needs: rich, which structlog would import, is an example. It is
    made once for each content of the file, beside the packages of `.venv`. Raises BenchFailed.
    """
    return _environment("functions", "-r", str(REQUIREMENTS))


@cache
def interpreter_of_framework() -> Path:
    """Returns a Python with only the Functions Framework and its requirements, in the same versions."""
    return _environment("framework", "functions-framework", "--constraints", str(REQUIREMENTS))


def _environment(name: str, *packages: str) -> Path:
    folder = BUILT / f"{name}-{hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    complete = folder / "complete"
    if not complete.exists():
        _uv("venv", "--clear", "--python", sys.executable, str(folder))
        _uv("pip", "install", "--compile-bytecode", "--python", str(python), *packages)
        complete.touch()
    return python


@cache
def source() -> Path:
    """Returns `main.py` in a copy of the functions that is byte-compiled, as a build at Google leaves
    them.
    """
    folder = BUILT / "functions"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(FUNCTIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([interpreter(), "-m", "compileall", "-q", folder], check=True)  # noqa: S603 - ours
    return folder / "main.py"


@dataclass(frozen=True, slots=True)
class Function:
    """A function's process: the Functions Framework's master, whose worker answers on `url`."""

    pid: int
    url: str
    seconds: float  # from the start of its process to the first answer of /health


@contextmanager
def running(
    target: str, settings: Mapping[str, str], *, main: Path | None = None, python: Path | None = None
) -> Iterator[Function]:
    """Runs the function for the block, by the command that Google's build makes. Raises BenchFailed.

    `main` is its file, unless it is one of ours; `python` that of another environment.
    """
    main = main or source()
    (port,) = free_ports(1)
    python = python or interpreter()
    framework = [str(python), "-m", "functions_framework", "--host", "127.0.0.1", "--port", str(port)]
    with tempfile.TemporaryDirectory(prefix="aep-bench-") as folder:
        log = Path(folder) / "function.log"
        began = time.monotonic()
        child = Child(
            f"the function {target}",
            framework,
            stdout=log,
            stderr=log,
            environment=environment({**settings, "FUNCTION_TARGET": target, "FUNCTION_SOURCE": str(main)}),
        )
        with child:
            try:
                child.wait_until(partial(_answers, port), seconds=PATIENCE_SECONDS, every=_POLL_SECONDS)
            except ChildFailed as failed:
                raise BenchFailed(f"{failed}: {' '.join(failed.lines)}") from None
            yield Function(child.pid, f"http://127.0.0.1:{port}", time.monotonic() - began)


@contextmanager
def empty(imports: str = "", *, python: Path | None = None) -> Iterator[Function]:
    """Runs an asynchronous function that does nothing, after the statement `imports`. Raises BenchFailed."""
    with tempfile.TemporaryDirectory(prefix="aep-bench-") as folder:
        main = Path(folder) / "main.py"
        main.write_text(_EMPTY.format(imports=imports))
        with running("nothing", {}, main=main, python=python) as function:
            yield function


def _uv(*arguments: str) -> None:
    uv = Path(sys.executable).with_name("uv")
    made = subprocess.run(  # noqa: S603 - a command of ours
        [uv, "--quiet", *arguments], capture_output=True, text=True, check=False
    )
    if made.returncode:
        raise BenchFailed(f"the packages of the functions could not be installed: {made.stderr.strip()}")


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
