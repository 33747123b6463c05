"""`aep serve` for one PIM whose clients need no call to it, and what a test does with such a platform."""

import sqlite3
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from support.processes import Child, Client, SimulatedPim, http, send_events, server
from support.records import UPDATED

PIM = "https://pim.example.com"
CLIENT_KEY = "the-platform-key-of-the-client"
INGEST_KEY = "the-ingest-key-of-the-pim"
PRIMARY = "primary-secret-of-the-subscription"


def registry(folder: Path, *entries: Mapping[str, Any]) -> list[str]:
    """Writes the list of PIMs into the folder; returns the option that names it."""
    listed = folder / "pims.json"
    listed.write_bytes(orjson.dumps(entries))
    return ["--pims", str(listed)]


def entry(*clients: str, **more: Any) -> dict[str, Any]:
    """The PIM in the registry, with clients that all have CLIENT_KEY; `more` are further fields."""
    digest = sha256(CLIENT_KEY.encode()).hexdigest()
    known = [{"client_id": client, "key_sha256": digest} for client in clients or ("erp",)]
    return {"url": PIM, "auth": "platform-key", "clients": known, "ingest_key": INGEST_KEY, **more}


def arguments(folder: Path, *pims: Mapping[str, Any], data: Path | None = None) -> list[str]:
    """The arguments of `aep serve`; `pims` are in place of `entry()`, `data` of the folder's data folder."""
    listed = registry(folder, *(pims or [entry()]))
    return ["serve", "--dev", "--data", str(data or folder / "data"), *listed]


def serve(
    folder: Path, *options: str, pims: Sequence[Mapping[str, Any]] = (), data: Path | None = None, **how: Any
) -> AbstractContextManager[Child]:
    """Runs `aep serve` for the block; `pims` and `data` are as of `arguments`, `how` is as of `server`."""
    return server(folder, *arguments(folder, *pims, data=data), *options, **how)


@contextmanager
def serve_simulated(
    folder: Path, *others: Mapping[str, Any], more: Mapping[str, Any] | None = None, **how: Any
) -> Iterator[tuple[Child, SimulatedPim]]:
    """Runs `aep serve` and, as its PIM, `aep sim` for the block.

    `more` are further fields of the PIM's entry, `others` further entries, and `how` is as of `server`.
    """
    with server(folder, "sim") as sim:
        first = {"url": sim.url, "ingest_key": INGEST_KEY, **(more or {})}
        with server(folder, *arguments(folder, first, *others), **how) as platform:
            yield platform, SimulatedPim(sim.url)


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
