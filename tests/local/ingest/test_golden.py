"""Golden vectors: for each type and each way in, a request and the exact bytes that are delivered.

`tests/golden/make.mjs` made them with JavaScript alone; this feeds them to the routes of ingest and reads the
queue behind.
"""

import shutil
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from aep.sandbox.ingest_requests import EVENTS_API_TYPES, Format
from aep.store.tenants import StoredAndListed
from event_platform.adapters.pim_registry import PimRegistry
from event_platform.domain.events import catalog
from event_platform.domain.events.facts import IDENTIFIER_TYPES
from support.components import require
from support.embedded import SEAL, Embedded
from support.ingesting import Ingesting, ingesting
from support.records import PIM, a_subscriber, a_subscription

GOLDEN = Path(__file__).parents[2] / "golden"
VECTORS: list[dict[str, Any]] = [
    orjson.loads(line) for line in (GOLDEN / "vectors.jsonl").read_bytes().splitlines()
]
TYPES = list(catalog.load().types)
WITH, WITHOUT = (f"0190f3a0-0000-7000-8000-00000000000{number}" for number in (1, 2))
ENTRY = {
    "url": PIM,
    "key": "golden",
    "clients": [{"client_id": "1_erp", "username": "erp_1234"}],
    "identifier_attribute": "sku",
    "ingest_key": "the-ingest-key-of-the-pim",
    "events_api_secret": "the-secret-that-the-pim-made",
    "relay_secret": "the-relay-secret-of-the-pim",
}


@dataclass
class Vectors(Ingesting):
    """The routes of ingest, and the store that gets what they accept."""

    store: Embedded

    async def delivered(self, vector: dict[str, Any]) -> dict[str, Any]:
        """What is delivered of it, in the vector's form."""
        self.store.put.clear()
        url, body = self.url + vector["path"], vector["body"].encode()
        async with self.session.post(url, data=body, headers=vector["headers"]) as answer:
            assert answer.status in (200, 202), await answer.text()
        bodies: dict[str, list[str]] = {WITH: [], WITHOUT: []}
        for queued in self.store.put:
            bodies[queued.subscription_id].append(queued.delivery().body.decode())
        return {"delivered": bodies[WITH]} | (
            {"without_identifier": bodies[WITHOUT]} if bodies[WITHOUT] else {}
        )


@pytest.fixture
async def world(embedded: Embedded) -> AsyncIterator[Vectors]:
    store, subscriber = await embedded.open(), a_subscriber()
    await store.subscriptions.add_subscriber(subscriber, limit=1)
    for id_, types in ((WITH, TYPES), (WITHOUT, sorted(IDENTIFIER_TYPES))):
        made = a_subscription(subscriber, events=types, send_product_identifier=id_ == WITH)
        made = replace(made, id=id_, filter=None)
        await store.subscriptions.add_subscription(made, lambda subscriber: None, limit=2)
    entries = StoredAndListed(store.database, source=orjson.dumps([ENTRY]).decode(), allow_http=False)
    pims = PimRegistry(entries, SEAL, store.clock, allow_http=False)
    async with ingesting(pims, store.queue, store.clock) as served:
        yield Vectors(served.session, served.url, store)


@pytest.mark.parametrize("format_", list(Format))
async def test_the_delivered_bytes_are_those_that_javascript_made(world: Vectors, format_: Format) -> None:
    for vector in (each for each in VECTORS if each["format"] == format_):
        expected = {key: vector[key] for key in ("delivered", "without_identifier") if key in vector}
        assert await world.delivered(vector) == expected, (vector["type"], vector.get("pim"))


def test_there_is_a_vector_for_each_type_and_each_way_in() -> None:
    found = Counter((vector["type"], vector["format"]) for vector in VECTORS if "pim" not in vector)
    assert len(TYPES) == 45
    assert found == Counter(
        (type_, format_) for format_ in Format for type_ in TYPES if format_.carries(type_)
    )
    assert {type_ for type_, format_ in found if format_ == Format.EVENTS_API} == set(EVENTS_API_TYPES)


def test_there_is_a_vector_for_each_event_of_each_version_of_a_pim() -> None:
    found = Counter(vector["pim"] for vector in VECTORS if "pim" in vector)
    assert found == dict.fromkeys(("5.0.1", "5.0.2", "6.0", "7.0", "7.0 with UUIDs"), len(EVENTS_API_TYPES))
    with_uuids = [vector for vector in VECTORS if vector.get("pim") == "7.0 with UUIDs"]
    assert '"identifier"' not in "".join(each["body"] for each in with_uuids if "removed" not in each["body"])


def test_the_vectors_are_those_of_the_catalog_as_it_is() -> None:
    require("node", node := shutil.which("node"))
    path = Path(catalog.__file__).with_name("event-catalog.json")
    made = subprocess.run([str(node), GOLDEN / "make.mjs", path], capture_output=True, check=True)
    same = made.stdout == (GOLDEN / "vectors.jsonl").read_bytes()
    assert same, "make them anew as make.mjs says, and look at what is different"
