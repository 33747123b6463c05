"""The schemas of events over the management API (contract/wire.md 9), and the form of times."""

import re

import pytest

from event_platform.domain.events import catalog
from support.management import UPDATED, Client, ManageApi, request

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_schemas_are_public_and_an_unknown_one_is_404(world: ManageApi) -> None:
    base = world.url.removesuffix("/api/v1")
    known = await request(world, "GET", f"{base}/spec/{UPDATED}.schema.json", None, {})
    url = f"{base}/spec/{UPDATED}.schema.json"
    assert (known.status, known.body) == (200, {**catalog.load()[UPDATED].schema, "$id": url})
    assert known.headers["Content-Type"] == "application/schema+json"
    assert known.headers["Cache-Control"] == "public, max-age=3600"
    unknown = await request(world, "GET", f"{base}/spec/com.akeneo.nothing.schema.json", None, {})
    assert unknown.status == 404
    assert unknown.body["errors"][0]["message"]


async def test_the_index_of_schemas_is_public_and_leads_to_each(world: ManageApi) -> None:
    base = world.url.removesuffix("/api/v1")
    index = await request(world, "GET", f"{base}/spec/", None, {})
    assert index.status == 200
    assert [each["type"] for each in index.body["types"]] == list(catalog.load().types)
    found = await request(world, "GET", index.body["types"][0]["schema"], None, {})
    assert (found.status, found.body["$id"]) == (200, index.body["types"][0]["schema"])


async def test_times_are_rfc_3339_in_utc(client: Client) -> None:
    row = await client.subscriber()
    for name in ("created_at", "updated_at"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", row[name])
