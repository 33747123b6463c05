"""The rate over real sockets: a receiver with a token bucket, and one that asks for a pause."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import orjson
import pytest

from support import one_pim
from support.processes import until

ALLOWED, BURST = 15.0, 5.0
SECONDS = 22.0
SETTLED = 8.0
"""From then on the rate, 10/s at first, has met the limit."""


@contextmanager
def receiver(answer: Callable[[], tuple[int, dict[str, str]]]) -> Iterator[str]:
    """Its URL; `answer` gives status and headers, one call at a time."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            with lock:
                status, headers = answer()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listener.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.server_port}/hook"
    finally:
        listener.shutdown()
        thread.join()
        listener.server_close()


@pytest.mark.full
def test_a_token_bucket_gets_about_its_rate_and_few_429s(tmp_path: Path) -> None:
    moments: list[tuple[float, int]] = []
    tokens, at = BURST, time.monotonic()

    def answer() -> tuple[int, dict[str, str]]:
        nonlocal tokens, at
        now = time.monotonic()
        tokens, at = min(BURST, tokens + (now - at) * ALLOWED), now
        status = 200 if tokens >= 1 else 429
        tokens -= status == 200
        moments.append((now, status))
        return status, {}

    with receiver(answer) as url, one_pim.serve(tmp_path) as serve:
        one_pim.subscribe(serve, url)
        began = time.monotonic()
        for _ in range(5):
            one_pim.emit(serve, 100)
        time.sleep(SECONDS)
        ended = time.monotonic()
        stored = one_pim.rows(tmp_path / "data" / "aep.db", "SELECT document FROM subscriptions")
    seen = [status for moment, status in moments if began + SETTLED <= moment < ended]
    assert 0.7 * ALLOWED <= seen.count(200) / (ended - began - SETTLED) <= 1.2 * ALLOWED
    assert seen.count(429) <= 0.1 * len(seen)
    assert any(status == 429 for _, status in moments)
    assert ALLOWED * 0.6 <= orjson.loads(stored[0][0])["rate"]["ceiling"] <= ALLOWED * 1.5


def test_retry_after_holds_the_subscription_back(tmp_path: Path) -> None:
    moments: list[float] = []

    def answer() -> tuple[int, dict[str, str]]:
        moments.append(time.monotonic())
        return (429, {"Retry-After": "3"}) if len(moments) == 1 else (200, {})

    with receiver(answer) as url, one_pim.serve(tmp_path) as serve:
        one_pim.subscribe(serve, url)
        one_pim.emit(serve)
        until(lambda: moments, "the first request")
        time.sleep(0.5)
        one_pim.emit(serve, 3)
        until(lambda: len(moments) == 5, "all five requests")
    assert moments[1] - moments[0] > 2.5
