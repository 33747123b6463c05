"""Live pages of the console beside 3,000 deliveries a second: what they show, and what they cost."""

import http.client
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from urllib.parse import urlsplit

from aep.control.client import control
from aep.google.ports import free_ports

from ..errors import BenchFailed
from ..figures import Figure, at_most, case, percentile
from ..measuring import PATH, Bench, Load
from ..platform import Platform

RATE = 3_000.0
BATCH = 10
LEFT_OUT = re.compile(r"([\d\s]+) attempts? since")
TIMEOUT = 30
LAST_UPDATES_SECONDS = 2.0
"""The time after the last delivery in which each stream has its last update."""
UPDATES_A_SECOND = 5


@case("live", "two open live pages beside 3,000 deliveries a second, in pairs with none", by_default=False)
def live(bench: Bench) -> list[Figure]:
    load = Load(round(RATE * bench.options.paced_seconds), batch=BATCH, connections=8, rate=RATE)
    alone: list[float] = []
    watched: list[float] = []
    p99: list[tuple[float, float]] = []
    (port,) = free_ports(1)
    with bench.subscribed(more={"AEP_CONSOLE_PORT": str(port)}) as platform:
        cookie = _sign_in(platform)
        tail = _Stream(port, cookie, f"/console/subscriptions/{_subscription(port, cookie)}/live")
        overview = _Stream(port, cookie, "/console/live/overview")
        for _ in range(2):
            without = bench.publish(platform, load)
            with tail.reading(), overview.reading():
                beside = bench.publish(platform, load)
                time.sleep(LAST_UPDATES_SECONDS)
            if tail.attempts != beside.deliveries:
                raise BenchFailed(f"the tail counts {tail.attempts} attempts of {beside.deliveries}")
            alone.append(without.cpu_ms_per_delivery)
            watched.append(beside.cpu_ms_per_delivery)
            p99.append((percentile(without.latencies[PATH], 99), percentile(beside.latencies[PATH], 99)))
    return [
        Figure("CPU per delivery, no page open", sum(alone) / 2, "ms"),
        Figure("CPU per delivery, two pages open", sum(watched) / 2, "ms"),
        Figure("the same, times that of no page", sum(watched) / sum(alone), "", at_most(1.01)),
        Figure("p99, no page open", max(before for before, _ in p99), "ms"),
        Figure("p99, two pages open", max(beside for _, beside in p99), "ms"),
        Figure("updates of the tail in a second, at most", tail.most, "", at_most(UPDATES_A_SECOND)),
        Figure("updates of the overview in a second, at most", overview.most, "", at_most(UPDATES_A_SECOND)),
        Figure("attempts that the tail showed or counted", tail.attempts, ""),
    ]


def _sign_in(platform: Platform) -> str:
    """Opens a one-time link; returns the cookie of the session."""
    with control(platform.folder / "data") as running:
        if running is None:
            raise BenchFailed("the platform does not run")
        link = urlsplit(running.call("POST", ("console", "links"), None)["url"])
    connection = http.client.HTTPConnection(link.hostname or "", link.port, timeout=TIMEOUT)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", link.path, link.query, headers)
    cookie = connection.getresponse().getheader("set-cookie") or ""
    connection.close()
    return cookie.partition(";")[0]


def _subscription(port: int, cookie: str) -> str:
    """Returns the id of the only subscription."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    connection.request("GET", "/console/subscriptions", headers={"Cookie": cookie})
    page = connection.getresponse().read().decode()
    connection.close()
    found = re.search(r'href="/console/subscriptions/([0-9a-f-]{36})"', page)
    if found is None:
        raise BenchFailed("the console shows no subscription")
    return found[1]


class _Stream:
    """A stream of the console, read as a browser does. `most` is the largest number of updates a second."""

    def __init__(self, port: int, cookie: str, path: str) -> None:
        self._port = port
        self._cookie = cookie
        self._path = path
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
        self._is_over = False
        self.most = 0
        self.attempts = 0
        """The attempts that the last update of a tail shows, and those that it counts."""

    @contextmanager
    def reading(self) -> Iterator[None]:
        self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT)
        self._connection.request("GET", self._path, headers={"Cookie": self._cookie})
        response = self._connection.getresponse()
        if response.status != 200:
            raise BenchFailed(f"{self._path} answered {response.status}")
        self._is_over = False
        reader = threading.Thread(target=self._read, args=(response,), daemon=True)
        reader.start()
        try:
            yield
        finally:
            self._is_over = True  # seen with the next beat
            reader.join()
            self._connection.close()

    def _read(self, response: http.client.HTTPResponse) -> None:
        moments: list[float] = []
        lines: list[str] = []
        while not self._is_over:
            line = response.readline().decode()
            if line.startswith("event: "):
                now = time.monotonic()
                moments = [*(each for each in moments if now - each < 1), now]
                self.most = max(self.most, len(moments))
                lines = []
            elif line.startswith("data: "):
                lines.append(line)
            elif lines:
                self._look("".join(lines))
                lines = []

    def _look(self, html: str) -> None:
        if 'aria-label="Attempts"' in html:
            left_out = LEFT_OUT.search(unescape(html))
            counted = 0 if left_out is None else int(re.sub(r"\D", "", left_out[1]))
            self.attempts = counted + html.count("<tr>") - 1
