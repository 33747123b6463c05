"""Google's emulators of Pub/Sub and Firestore, found in the gcloud SDK and run as children of this process.

Started directly they are ready sooner than through `gcloud`, and end with their process. They prove what
the adapters do, never how fast: see `docs/data-model.md` for where the real services differ.
"""

import atexit
import http.client
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import quote

from ..runtime.children import Child, ChildFailed, environment
from .ports import free_ports

PUBSUB_HOST = "PUBSUB_EMULATOR_HOST"
FIRESTORE_HOST = "FIRESTORE_EMULATOR_HOST"
"""The variables in which Google's tools name an emulator that runs already."""

_READY_SECONDS = 30.0
_QUOTED_CHARACTERS = 2000
_STARTS = 3  # a port that was free may be somebody else's a moment later
_SDK_PLACES = (
    "/usr/lib/google-cloud-sdk",
    "/usr/lib64/google-cloud-sdk",
    "/opt/google-cloud-sdk",
    "/snap/google-cloud-cli/current",
    "~/google-cloud-sdk",
)
# The smallest memory that holds up, one compiler and one collector thread: they share a machine with tests.
_JAVA = ("-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")


class EmulatorFailed(Exception):
    """Raised when an emulator is not installed or does not start."""


@dataclass(frozen=True, slots=True)
class Found:
    """The parts found on this machine; `problems` says what is missing and where it comes from."""

    java: str | None
    pubsub_jar: Path | None
    firestore_jar: Path | None
    problems: Sequence[str] = field(default=())


def find(environ: Mapping[str, str] = os.environ) -> Found:
    """Looks on PATH and in the SDK's usual folders; starts nothing."""
    path = environ.get("PATH", os.defpath)
    java = shutil.which("java", path=path)
    platform = next((root / "platform" for root in _sdk_roots(path, environ) if root.is_dir()), None)
    pubsub = _only(platform, "pubsub-emulator/lib/cloud-pubsub-emulator-*-all.jar")
    firestore = _only(platform, "cloud-firestore-emulator/cloud-firestore-emulator.jar")
    problems: list[str] = []
    if java is None:
        problems.append("java is not on PATH: install a Java runtime, 17 or later")
    if pubsub is None:
        problems.append("the Pub/Sub emulator is missing: run `gcloud components install pubsub-emulator`")
    if firestore is None:
        problems.append(
            "the Firestore emulator is missing: run `gcloud components install cloud-firestore-emulator`"
        )
    return Found(java, pubsub, firestore, tuple(problems))


def running_pubsub(environ: Mapping[str, str] = os.environ) -> AbstractContextManager[str]:
    """Yields `host:port` of a Pub/Sub emulator: the one that runs already, or one of our own for the block.

    Raises EmulatorFailed.
    """
    found = find(environ)
    return _emulator(environ.get(PUBSUB_HOST), found, found.pubsub_jar, lambda jar: [*_JAVA, "-jar", jar])


def running_firestore(environ: Mapping[str, str] = os.environ) -> AbstractContextManager[str]:
    """Yields `host:port` of a Firestore emulator: the one that runs already, or one of our own for the block.

    Raises EmulatorFailed.
    """
    main = ["com.google.cloud.datastore.emulator.firestore.CloudFirestore", "start"]
    # Its start-up parses formatted numbers, so the language has to be one with a decimal point.
    java = ["-Duser.language=en", *_JAVA]
    found = find(environ)
    return _emulator(
        environ.get(FIRESTORE_HOST), found, found.firestore_jar, lambda jar: [*java, "-cp", jar, *main]
    )


@contextmanager
def _emulator(
    running: str | None, found: Found, jar: Path | None, arguments: Callable[[str], Sequence[str]]
) -> Iterator[str]:
    """Yields the address that is `running`, or that of our own emulator, started by java with these
    arguments.
    """
    if running:
        yield running
        return
    if found.java is None or jar is None:
        raise EmulatorFailed("; ".join(found.problems))
    with _running([found.java, *arguments(str(jar))]) as host:
        yield host


def clear_firestore(host: str, project: str, database: str = "(default)") -> None:
    """Deletes every document of the project. Raises EmulatorFailed."""
    path = f"/emulator/v1/projects/{quote(project)}/databases/{quote(database, safe='()')}/documents"
    status = _status(host, "DELETE", path, timeout=10)
    if status != 200:
        raise EmulatorFailed(f"the Firestore emulator did not clear {project}: {status or 'no answer'}")


def _sdk_roots(path: str, environ: Mapping[str, str]) -> Iterator[Path]:
    if root := environ.get("CLOUDSDK_ROOT_DIR"):
        yield Path(root)
    if gcloud := shutil.which("gcloud", path=path):
        yield Path(gcloud).resolve().parent.parent
    yield from (Path(place).expanduser() for place in _SDK_PLACES)


def _only(platform: Path | None, pattern: str) -> Path | None:
    return max(platform.glob(pattern), default=None) if platform else None


@contextmanager
def _running(command: Sequence[str]) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="aep-emulator-") as folder:
        child, host = _start(command, Path(folder) / "output")
        atexit.register(child.end)  # also when the block is never left, as by sys.exit in another thread
        try:
            yield host
        finally:
            child.end()
            atexit.unregister(child.end)


def _start(command: Sequence[str], log: Path) -> tuple[Child, str]:
    for _ in range(_STARTS):
        (port,) = free_ports(1)
        host = f"127.0.0.1:{port}"
        child = Child(
            "the emulator",
            [*_ends_with_us(), *command, "--host=127.0.0.1", f"--port={port}"],
            stdout=log,
            stderr=log,
            environment=environment({}, without=("JAVA_TOOL_OPTIONS",)),
        )
        with suppress(ChildFailed):
            child.wait_until(partial(_answers, host), seconds=_READY_SECONDS)
            if child.status is None:
                return child, host
        child.end()
    said = log.read_text(errors="replace")[-_QUOTED_CHARACTERS:]
    raise EmulatorFailed(f"did not come up: {' '.join(command)}\n{said}")


def _ends_with_us() -> Sequence[str]:
    """Has the kernel end the child when this process is killed, where the system can do that."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []


def _answers(host: str) -> bool:
    return _status(host, "GET", "/", timeout=1) == 200


def _status(host: str, method: str, path: str, *, timeout: float) -> int | None:
    """Returns the answer's status; None without an answer."""
    connection = http.client.HTTPConnection(host, timeout=timeout)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        response.read()
        return response.status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
