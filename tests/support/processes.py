"""The command `aep` as child processes, and a client of the platform that knows nothing of its insides."""

import base64
import hashlib
import hmac
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import orjson
import requests

from aep.google.ports import free_ports
from aep.runtime import children as child_processes
from aep.runtime import stopping
from aep.runtime.children import ChildFailed
from support import cpu_watchdog

WATCHED = Path(__file__).with_name("watched_aep.py")
START_SECONDS = 60.0
STOP_SECONDS = stopping.STOP_SECONDS + 2.0
"""A little more than the time in which a stop has to be over, so that a test can tell late from never."""

T = TypeVar("T")


def until(condition: Callable[[], T], what: str, *, seconds: float = 60.0) -> T:
    """What `condition` returns, once that is true. Fails the test when it stays false for too long."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.02)
    return result


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """That of this process, without the AEP_ settings that happen to be in it.

    Several platforms run on one machine here, so none serves /metrics or the console unless it is told where.
    """
    off = {"AEP_METRICS_PORT": "0", "AEP_CONSOLE_PORT": "0"}
    return child_processes.environment(off | dict(settings))


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, for a server to come or for none at all."""
    return free_ports(1)[0]


def with_metrics() -> dict[str, str]:
    """Settings that have a platform serve /metrics at `Child.metrics`."""
    return {"AEP_METRICS_PORT": str(free_port())}


class Child(child_processes.Child):
    """A running command. It is ended after its block, whatever happens."""

    url = ""
    metrics = ""

    def wait(self, seconds: float = START_SECONDS) -> int:
        """The exit status; fails the test when the command goes on."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds:g} s:\n{self.stderr()}") from None

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Sends the signal and waits for the end; the exit status."""
        if self.status is None:
            self.send(number)
        return self.wait(STOP_SECONDS)

    def end(self, *, seconds: float = STOP_SECONDS) -> None:
        super().end(seconds=seconds)


def children(pid: int) -> list[int]:
    """The processes that a process has started and that run, or have ended unseen."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def command(
    folder: Path,
    *arguments: str,
    settings: Mapping[str, str] | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    open_files: int | None = None,
) -> Iterator[Child]:
    """`aep` with the arguments as a child that is gone after the block; `settings` are AEP_ variables.

    `stdout` and `stderr` are file descriptors in place of the files that `Child` reads. `open_files` is the
    child's hard limit of them.
    The callbacks of `aep serve` are watched: the test fails when one took too much CPU.
    """
    limited = [] if open_files is None else ["sh", "-c", f'ulimit -n {open_files}; exec "$@"', "sh"]
    name = f"{arguments[0]}-{uuid.uuid4().hex[:8]}"
    out, err, overruns = (folder / f"{name}.{kind}" for kind in ("out", "err", "overruns"))
    program = [str(WATCHED), str(overruns)] if arguments[0] == "serve" else ["-m", "aep"]
    child = Child(
        f"aep {arguments[0]}",
        [*limited, sys.executable, *program, *arguments],
        stdout=out if stdout is None else stdout,
        stderr=err if stderr is None else stderr,
        environment=environment(settings or {}),
    )
    child.metrics = f"http://127.0.0.1:{(settings or {}).get('AEP_METRICS_PORT')}/metrics"
    with child:
        yield child
    if overruns.exists():
        cpu_watchdog.fail_for(overruns.read_text().splitlines())


@contextmanager
def server(
    folder: Path,
    *arguments: str,
    settings: Mapping[str, str] | None = None,
    stderr: int | None = None,
    open_files: int | None = None,
) -> Iterator[Child]:
    """A command that serves, on a free port unless the arguments name one, once it has said `ready`."""
    if "--port" not in arguments:
        arguments = (*arguments, "--port", "0")
    with command(folder, *arguments, settings=settings, stderr=stderr, open_files=open_files) as child:
        yield ready(child)


def ready(child: Child) -> Child:
    """The child with its URL, read from its `ready` line."""
    try:
        child.url = child.wait_until(child.ready_url, seconds=START_SECONDS, every=0.02)
    except ChildFailed as failed:
        raise AssertionError(f"{failed}:\n{child.stderr()}") from None
    return child


def http() -> requests.Session:
    """A session that no proxy or .netrc of this machine has a say in."""
    session = requests.Session()
    session.trust_env = False
    return session


def not_ready(url: str) -> str:
    """Returns the reason why a platform is not ready; empty for one that is."""
    response = http().get(f"{url}/ready", timeout=10)
    return response.json()["errors"][0]["message"] if response.status_code == 503 else ""


@dataclass
class Client:
    """A client of the platform: its base URL and the three headers, as any client of AEP sends them."""

    base: str
    pim: str
    token: str = field(repr=False)
    client_id: str
    session: requests.Session = field(default_factory=http, repr=False)

    def call(self, method: str, path: str, body: Any = None, *, expect: int | None = None) -> Any:
        """The answer's JSON when `expect` is its status, else the failed test; without it the response."""
        response = self.session.request(
            method,
            f"{self.base}/api/v1{path}",
            data=None if body is None else orjson.dumps(body),
            headers={
                "X-PIM-URL": self.pim,
                "X-PIM-TOKEN": self.token,
                "X-PIM-CLIENT-ID": self.client_id,
                **({} if body is None else {"Content-Type": "application/json"}),
            },
            timeout=10,
        )
        if expect is None:
            return response
        assert response.status_code == expect, response.text
        return response.json()


@dataclass(frozen=True)
class SimulatedPim:
    """`aep sim` with its default connection, seen from its client and from who orders its troubles."""

    url: str
    client_id: str = "demo-client"

    def token(self) -> str:
        """A new access token, by the password grant."""
        credentials = base64.b64encode(f"{self.client_id}:demo-secret".encode()).decode()
        response = http().post(
            f"{self.url}/api/oauth/v1/token",
            json={"grant_type": "password", "username": "demo-user", "password": "demo-password"},
            headers={"Authorization": f"Basic {credentials}"},
            timeout=10,
        )
        assert response.status_code == 200, response.text
        return response.json()["access_token"]

    def client(self, platform: str) -> Client:
        """A client with a token of its own, which the platform has not seen before."""
        return Client(platform, self.url, self.token(), self.client_id)

    @contextmanager
    def without_permission(self) -> Iterator[None]:
        """The connection lacks the "Event Platform" permission inside the block."""
        self._permit(allowed=False)
        try:
            yield
        finally:
            self._permit(allowed=True)

    @contextmanager
    def outage(self, status: int = 503) -> Iterator[None]:
        """The PIM's API answers with that status inside the block."""
        self._order({"status": status})
        try:
            yield
        finally:
            self._order({})

    def _permit(self, *, allowed: bool) -> None:
        url = f"{self.url}/_sim/clients/{self.client_id}"
        assert http().put(url, json={"event_platform": allowed}, timeout=10).status_code == 200

    def _order(self, outage: dict[str, int]) -> None:
        assert http().post(f"{self.url}/_sim/outage", json=outage, timeout=10).status_code == 200


def received(inbox: str, path: str) -> list[dict[str, Any]]:
    """What came to a path of `aep inbox` so far, oldest first."""
    response = http().get(f"{inbox}/_inbox/events", timeout=10)
    return [delivery for delivery in response.json() if delivery["path"] == path]


def delivered(inbox: str, path: str, event_id: str, *, seconds: float = 60.0) -> dict[str, Any]:
    """The delivery of an event to a path of `aep inbox`, waited for."""

    def found() -> list[dict[str, Any]]:
        return [delivery for delivery in received(inbox, path) if delivery["id"] == event_id]

    return until(found, f"delivery of {event_id} to {path}", seconds=seconds)[0]


def signature(secret: str, body: bytes) -> str:
    """What the contract says, written down once more: lower-case hex of HMAC-SHA256 over the raw body."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def send_events(platform: str, key: str, *events: dict[str, Any]) -> int:
    """Sends structured CloudEvents as one batch; the status."""
    response = http().post(
        f"{platform}/ingest",
        data=orjson.dumps(events),
        headers={
            "Authorization": f"Bearer {key}",
            "Content-Type": "application/cloudevents-batch+json",
        },
        timeout=10,
    )
    return response.status_code
