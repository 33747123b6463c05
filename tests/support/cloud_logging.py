"""A Cloud Logging that answers `entries:list` on a real socket, in the shape of Google's reference.

https://cloud.google.com/logging/docs/reference/v2/rest/v2/entries/list
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, cast

_TEXT = r'"(?:[^"\\]|\\.)*"'
_ONE_OF = re.compile(rf"jsonPayload\.(\w+)=(\((?:{_TEXT}(?: OR )?)+\)|{_TEXT})")
_SINCE = re.compile(rf"timestamp>=({_TEXT})")


@dataclass
class CloudLogging:
    """Entries, the oldest first, and the requests that came. `status` and `answer` go before them."""

    url: str = ""
    page: int = 1_000
    status: int = 200
    answer: bytes | None = None
    entries: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    requests: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def add(self, at: datetime, **fields: Any) -> None:
        """Adds a line of a function, with nanoseconds as Google writes them."""
        self.entries.append(
            {
                "logName": "projects/p/logs/run.googleapis.com%2Fstderr",
                "resource": {"type": "cloud_run_revision", "labels": {"service_name": "deliver"}},
                "timestamp": at.strftime("%Y-%m-%dT%H:%M:%S.%f") + "000Z",
                "insertId": f"{len(self.entries):016x}",
                "severity": "INFO",
                "jsonPayload": {"level": "info", **fields},
            }
        )

    def add_all(self, at: datetime, lines: list[Any]) -> None:
        """Adds lines that were captured, a second apart."""
        for number, line in enumerate(lines):
            fields = json.loads(json.dumps({**line, "level": line["log_level"]}, default=str))
            self.add(at + timedelta(seconds=number), **fields)

    def answered(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        found = [entry for entry in self.entries if _fits(entry, asked["filter"])]
        if asked["orderBy"] == "timestamp desc":
            found.reverse()
        begin = int(asked.get("pageToken", 0))
        end = begin + min(self.page, asked["pageSize"])
        answer: dict[str, Any] = {"entries": found[begin:end]} if found[begin:end] else {}
        return answer | ({"nextPageToken": str(end)} if end < len(found) else {})


def _fits(entry: Mapping[str, Any], wanted: str) -> bool:
    """True if an entry fits the filter, of the kind that a trace asks with."""
    since = _SINCE.search(wanted)
    payload: dict[str, Any] = entry["jsonPayload"]
    if since is not None and entry["timestamp"] < json.loads(since[1])[:-1]:
        return False
    conditions: dict[str, set[str]] = {}
    for name, values in _ONE_OF.findall(wanted):
        conditions[name] = {json.loads(text) for text in re.findall(_TEXT, values)}
    if payload["event"] not in conditions.pop("event"):
        return False
    return any(_has(payload.get(name), values) for name, values in conditions.items())


def _has(value: Any, values: set[str]) -> bool:
    """True if the value is among them; a list if one of its items is."""
    items = cast("list[Any]", value) if isinstance(value, list) else [value]
    return any(item in values for item in items)


@contextmanager
def cloud_logging() -> Iterator[CloudLogging]:
    """Serves until the block ends."""
    served = CloudLogging()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            served.requests.append(asked)
            body = served.answer if served.answer is not None else json.dumps(served.answered(asked)).encode()
            self.send_response(served.status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name that it has there
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        served.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()
