"""`aep serve` for one PIM whose clients need no call to it, and what a test does with such a platform."""

import sqlite3
import uuid
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from support.processes import Child, Client, http, send_events
from support.records import UPDATED

PIM = "https://pim.example.com"
CLIENT_KEY = "the-platform-key-of-the-client"
INGEST_KEY = "the-ingest-key-of-the-pim"
PRIMARY = "primary-secret-of-the-subscription"


def arguments(folder: Path, data: Path | None = None) -> list[str]:
    """Of `aep serve`; the data folder is `data` of the folder unless another is given."""
    client = {"client_id": "erp", "key_sha256": sha256(CLIENT_KEY.encode()).hexdigest()}
    entry = {"url": PIM, "auth": "platform-key", "clients": [client], "ingest_key": INGEST_KEY}
    listed = folder / "pims.json"
    listed.write_bytes(orjson.dumps([entry]))
    return ["serve", "--dev", "--data", str(data or folder / "data"), "--pims", str(listed)]


def client_of(serve: Child) -> Client:
    return Client(serve.url, PIM, CLIENT_KEY, "erp")


def subscribe(serve: Child, url: str, **config: Any) -> str:
    """A subscription of an own subscriber to product updates; its id."""
    client = client_of(serve)
    contact = {"technical_email": "ops@example.com"}
    subscriber = client.call("POST", "/subscribers", {"name": "Tests", "contact": contact}, expect=201)
    body = {
        "events": [UPDATED],
        "type": "https",
        "config": {"url": url, "secret": {"primary": PRIMARY}} | config,
    }
    return client.call("POST", f"/subscribers/{subscriber['id']}/subscriptions", body, expect=201)["id"]


def emit(serve: Child, number: int = 1) -> list[str]:
    """Updates of as many products into the platform; their ids."""
    events = [event() for _ in range(number)]
    assert send_events(serve.url, INGEST_KEY, *events) == 202
    return [each["id"] for each in events]


def event() -> dict[str, Any]:
    author = {"identifier": "julia", "type": "user"}
    data = {"product": {"uuid": str(uuid.uuid4())}, "author": author}
    return {"id": str(uuid.uuid4()), "type": UPDATED, "data": data}


def rows(file: Path, query: str) -> list[tuple[Any, ...]]:
    """Read beside the platform, or after it."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return connection.execute(query).fetchall()


def ids_received(inbox: str, path: str = "/hook") -> list[str]:
    """Of the events that `aep inbox` answered 2xx to at the path, in their order."""
    found = http().get(f"{inbox}/_inbox/events", timeout=10).json()
    return [each["id"] for each in found if each["path"] == path and 200 <= each["status"] < 300]
