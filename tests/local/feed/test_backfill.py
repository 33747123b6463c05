"""A backfill of a large PIM by `--since`: bounded calls and memory."""

import json
import resource
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from event_platform.domain.tenants import Tenant
from event_platform.ports import PimAnswer
from support.fake_pim import FakePim
from support.feeding import Feeding, QuickClock, a_feed

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
MAX_BYTES = 60_000_000
"""The most memory beside that of before. The products of all pages take several times as much as objects."""


class LargePim:
    """The port `PimRest`, of a PIM that makes its pages when they are asked for."""

    def __init__(self, clock: QuickClock, products: int) -> None:
        self._clock = clock
        self._products = products
        self.calls = 0
        self.most_memory = 0

    async def call(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        read: Callable[[bytes], None] | None,
    ) -> PimAnswer:
        self.calls += 1
        now = self._clock.now()
        if read is None:
            return PimAnswer(200, now, body=b'{"access_token":"a","expires_in":3600}')
        query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        page = {"items": [{"code": "sku", "type": "pim_catalog_identifier"}]}
        links = {}
        if "/products-uuid" in url:
            first = int(query.get("search_after", "0"))
            last = min(first + 100, self._products)
            page = {"items": [_item(number) for number in range(first, last)]}
            if last < self._products:
                links = {"next": {"href": f"{url.split('&search_after')[0]}&search_after={last}"}}
        text = json.dumps({"_links": links, "_embedded": page}).encode()
        self.most_memory = max(self.most_memory, memory())
        for start in range(0, len(text), 32768):
            read(text[start : start + 32768])
        return PimAnswer(200, now)


def memory() -> int:
    """Returns the bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _item(number: int) -> dict[str, object]:
    return {
        "uuid": str(uuid.UUID(int=number + 1, version=4)),
        "values": {"sku": [{"data": f"sku-{number}"}]},
        "associations": {"PACK": {"products": ["x" * 300]}},
        "created": "2020-01-01T00:00:00+00:00",
        "updated": "2026-01-15T00:00:00+00:00",
    }


@pytest.mark.full
@pytest.mark.timeout(600)
async def test_100_000_products_take_1_100_calls_and_little_memory(tmp_path: Path) -> None:
    await backfilled(tmp_path, 100_000, at_most=1_100)


async def test_a_small_one_takes_a_call_for_100_products(tmp_path: Path) -> None:
    await backfilled(tmp_path, 1_000, at_most=15)


async def backfilled(folder: Path, products: int, *, at_most: int) -> None:
    clock = QuickClock()
    pim = LargePim(clock, products)
    settings = a_feed(resources=["products"], since=SINCE)
    feed = Feeding(folder, clock, FakePim(clock), settings, Tenant(url=settings.tenant), rest=pim)
    await feed.open()
    await feed.set(settings)
    before = memory()
    await feed.round()
    assert (await feed.state()).sent == products
    assert pim.calls <= at_most
    assert pim.most_memory - before < MAX_BYTES
    await feed.embedded.close()
