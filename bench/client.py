"""A worker: the platform's HTTP client alone, without queue, store and server, as the ceiling of deliveries.

The order: {url, authority, secret, run, events, size, concurrency}; `authority`, in PEM, is trusted. Bodies
and headers are those of deliveries, made beforehand. It says that it is prepared, waits for a word, and says
{"started", "ended", "failed", "cpu"}.
"""

import asyncio
import ssl
import time
from collections.abc import Iterator
from typing import Any

import orjson
import uvloop

from event_platform.adapters.guard import GuardedNetwork
from event_platform.adapters.https import HttpsSender
from event_platform.domain.attempts.delivery_headers import Sent, signed
from event_platform.domain.attempts.outcomes import Answer
from event_platform.domain.events import json_form
from event_platform.domain.events.event import Event, envelope
from event_platform.domain.events.facts import Facts
from event_platform.domain.subscriptions import Owner

from .events import TYPE, event_id, structured
from .workers import hear, say

OWNER = Owner("https://pim.example", "bench")
SUBSCRIPTION = "018f0000-0000-7000-8000-000000000000"
Post = tuple[list[tuple[str, str]], bytes]


async def _run(order: dict[str, Any]) -> dict[str, Any]:
    posts = [_post(order, number) for number in range(order["events"])]
    tls = ssl.create_default_context(cadata=order["authority"])
    sender = HttpsSender(GuardedNetwork(allow_loopback=True), tls=tls)
    say("prepared")
    hear()
    remaining = iter(posts)
    started, cpu = time.monotonic_ns(), time.process_time()
    lanes = (_lane(sender, order["url"], remaining) for _ in range(order["concurrency"]))
    failed = sum(await asyncio.gather(*lanes))
    used = time.process_time() - cpu
    result = {"started": started, "ended": time.monotonic_ns(), "failed": failed, "cpu": used}
    await sender.close()
    return result


async def _lane(sender: HttpsSender, url: str, posts: Iterator[Post]) -> int:
    failed = 0
    for headers, body in posts:
        result = await sender.post(url, headers, body, owner=OWNER, timeout=5)
        failed += not (isinstance(result, Answer) and result.status == 200)
    return failed


def _post(order: dict[str, Any], number: int) -> Post:
    sent = orjson.loads(structured(order["run"], number, order["size"]))
    event = Event(
        sent["id"], TYPE, sent["time"], Facts(TYPE, sent["data"]), json_form.stringify(sent["data"]), ()
    )
    body = envelope(event, f"{order['url']}/spec", with_identifier=True).addressed_to(SUBSCRIPTION)
    return signed(Sent(event_id(order["run"], number), body, order["secret"])), body


if __name__ == "__main__":
    say(uvloop.run(_run(hear())))
