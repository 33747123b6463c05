"""The platform as a user starts it, with a simulated PIM beside it, and the calls of the bench."""

import base64
import http.client
import os
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from aep.google.ports import free_ports
from aep.runtime import children
from aep.runtime.children import Child, ChildFailed

from . import machine
from .errors import BenchFailed
from .events import TYPE

SECRET = "a-secret-of-the-bench"  # noqa: S105 - of a subscription that lives for seconds
INGEST_KEY = "an-ingest-key-of-the-bench"
EVENTS_API_SECRET = "an-events-api-secret-of-the-bench"  # noqa: S105 - as long-lived as the one above
PIM_KEY = "bench"
CLIENT, PIM_SECRET, USER, PASSWORD = "demo-client", "demo-secret", "demo-user", "demo-password"
NO_LIMIT = {"AEP_RATE_MIN": "1000000", "AEP_RATE_MAX": "1000000"}
START_SECONDS = 600
"""The time of a start on the largest queue of all cases."""
POLL_SECONDS = 0.002
STOP_SECONDS = 12
PIMS = "pims.json"


@dataclass(frozen=True, slots=True)
class Relay:
    """A running process that is measured: a platform, or the floor beside it. It takes events below `url`."""

    url: str
    child: Child

    @property
    def pid(self) -> int:
        return self.child.pid

    def cpu_seconds(self) -> float:
        return machine.cpu_seconds(self.pid)

    def pss_mb(self) -> float:
        return machine.pss_mb(self.pid)


@dataclass(frozen=True, slots=True)
class Platform(Relay):
    """A running platform. `start_seconds` is from the start of the process to its `ready` line."""

    start_seconds: float
    pim: str
    folder: Path

    def kill(self) -> None:
        """Kills the platform with all its processes by SIGKILL."""
        for pid in machine.tree(self.pid):
            os.kill(pid, signal.SIGKILL)

    def identity(self) -> dict[str, str]:
        """Returns the headers of a client of the management API, with a token of their own."""
        return {"X-PIM-URL": self.pim, "X-PIM-TOKEN": _token(self.pim), "X-PIM-CLIENT-ID": CLIENT}

    def subscribe(self, *endpoints: str, events: Sequence[str] = (TYPE,)) -> list[str]:
        """Makes one subscriber with a subscription for each endpoint.

        Returns the URLs of the subscriptions.
        """
        identity = self.identity()
        contact = {"technical_email": "bench@example.com"}
        api = f"{self.url}/api/v1/subscribers"
        subscriber = call("POST", api, {"name": "Bench", "contact": contact}, identity)
        subscriptions = f"{api}/{subscriber['id']}/subscriptions"
        made: list[str] = []
        for endpoint in endpoints:
            config = {"url": endpoint, "secret": {"primary": SECRET}}
            wanted = {"events": list(events), "type": "https", "config": config}
            made.append(f"{subscriptions}/{call('POST', subscriptions, wanted, identity)['id']}")
        return made


@dataclass(frozen=True, slots=True)
class Installation:
    """A data folder and a PIM, on which platforms run one after the other; their log goes to a file.

    Only `settings` are set of AEP_; the rest are defaults, as a user's would be. `within` is a command that
    starts the platforms, and `errors` a file descriptor in place of the file for their log.
    """

    folder: Path
    pim: str
    port: int
    settings: Mapping[str, str]
    within: Sequence[str] = ()
    errors: int | None = None

    @contextmanager
    def running(self) -> Iterator[Platform]:
        """Runs a platform for the block. Raises BenchFailed when it ended before, except by a kill."""
        data, pims = self.folder / "data", self.folder / PIMS
        arguments = ("--port", str(self.port), "--dev", "--data", str(data), "--pims", str(pims))
        settings = {"AEP_METRICS_PORT": "0", "AEP_CONSOLE_PORT": "0", **self.settings}
        served = _aep(
            self.folder, "serve", *arguments, settings=settings, within=self.within, errors=self.errors
        )
        with served as (child, url, seconds):
            yield Platform(url, child, seconds, self.pim, self.folder)
            if (status := child.status) not in (None, -signal.SIGKILL):
                raise BenchFailed(f"the platform ended with status {status}")


@contextmanager
def installed(settings: Mapping[str, str], *, parent: Path | None = None) -> Iterator[Installation]:
    """Yields an installation with a fresh data folder (below `parent`), which is removed after the block."""
    with tempfile.TemporaryDirectory(prefix="aep-bench-", dir=parent) as name:
        folder = Path(name)
        with _aep(folder, "sim", "--port", "0") as (_, pim, _):
            secrets = {"ingest_key": INGEST_KEY, "events_api_secret": EVENTS_API_SECRET}
            (folder / PIMS).write_bytes(orjson.dumps([{"url": pim, "key": PIM_KEY, **secrets}]))
            (port,) = free_ports(1)
            yield Installation(folder, pim, port, settings)


def environment(settings: Mapping[str, str]) -> Mapping[str, str]:
    """Returns the environment of a process of the product: only `settings` are set of AEP_, and Python caches
    bytecode.
    """
    return children.environment(settings, without=("PYTHONDONTWRITEBYTECODE",))


@contextmanager
def _aep(
    folder: Path,
    *arguments: str,
    settings: Mapping[str, str] | None = None,
    within: Sequence[str] = (),
    errors: int | None = None,
) -> Iterator[tuple[Child, str, float]]:
    """Yields the child, its URL, and the seconds that it took to be ready."""
    started = time.monotonic()
    child = Child(
        f"aep {arguments[0]}",
        [*within, *children.aep(*arguments)],
        stdout=folder / f"{arguments[0]}.out",
        stderr=folder / f"{arguments[0]}.log" if errors is None else errors,
        environment=environment(settings or {}),
    )
    try:
        try:
            url = child.wait_until(child.ready_url, seconds=START_SECONDS, every=POLL_SECONDS)
        except ChildFailed as failed:
            raise BenchFailed(f"{failed}: {' '.join(failed.lines[-1:])}") from None
        yield child, url, time.monotonic() - started
    finally:
        child.end(seconds=STOP_SECONDS)


def _token(pim: str) -> str:
    credentials = base64.b64encode(f"{CLIENT}:{PIM_SECRET}".encode()).decode()
    password = {"grant_type": "password", "username": USER, "password": PASSWORD}
    headers = {"Authorization": f"Basic {credentials}"}
    return call("POST", f"{pim}/api/oauth/v1/token", password, headers)["access_token"]


def call(method: str, url: str, body: Any, headers: Mapping[str, str], *, timeout: float = 10) -> Any:
    """Returns the JSON of a 2xx answer. Raises BenchFailed for any other."""
    target = urlsplit(url)
    connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=timeout)
    try:
        wire = {**headers, "Content-Type": "application/json"}
        connection.request(method, target.path, orjson.dumps(body), wire)
        response = connection.getresponse()
        text = response.read()
    finally:
        connection.close()
    if not 200 <= response.status < 300:
        raise BenchFailed(f"{method} {url} answered {response.status}: {text[:300].decode(errors='replace')}")
    return orjson.loads(text)
