"""A worker: publishes events one a request at a steady rate, each again until it is answered 202.

The order: {url, key, run, events, rate, size, connections}; without `events` it publishes until the next
order. It waits for a word, says that it begins, and at its end says {"repeated", "behind", "began",
"answered"}: how many requests got no 202 and were made again, how many seconds after its time the last event
was answered, the monotonic nanoseconds when the first event was due, and those when each was answered 202.
"""

import asyncio
import sys
import time
from typing import Any

import aiohttp
import uvloop

from .events import structured
from .workers import hear, say

PAUSE_SECONDS = 0.2
"""The pause before an event is sent again."""
TIMEOUT = aiohttp.ClientTimeout(total=30)


class _Publisher:
    def __init__(self, order: dict[str, Any], session: aiohttp.ClientSession) -> None:
        self._order = order
        self._session = session
        self._repeated = 0
        self._answered: list[int] = []

    async def run(self) -> dict[str, Any]:
        began, events, rate = time.monotonic(), self._order["events"], self._order["rate"]
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), stopped.set)
        async with asyncio.TaskGroup() as requests:
            while (number := len(self._answered)) != events and not stopped.is_set():
                if (wait := began + number / rate - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                self._answered.append(0)
                requests.create_task(self._publish(number))
        return {
            "repeated": self._repeated,
            "behind": time.monotonic() - began - len(self._answered) / rate,
            "began": round(began * 1e9),
            "answered": self._answered,
        }

    async def _publish(self, number: int) -> None:
        body = structured(self._order["run"], number, self._order["size"])
        while not await self._is_taken(body):
            self._repeated += 1
            await asyncio.sleep(PAUSE_SECONDS)
        self._answered[number] = time.monotonic_ns()

    async def _is_taken(self, body: bytes) -> bool:
        """True if the event was accepted.

        Raises ClientResponseError when it is refused for good: a fault of the bench.
        """
        try:
            async with self._session.post(self._order["url"], data=body) as answer:
                if answer.status < 500:
                    answer.raise_for_status()
                return answer.status == 202
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError):
            return False  # killed: nobody knows whether it was taken


async def _run(order: dict[str, Any]) -> dict[str, Any]:
    headers = {
        "Authorization": f"Bearer {order['key']}",
        "Content-Type": "application/cloudevents+json",
    }
    connector = aiohttp.TCPConnector(limit=order["connections"])
    async with aiohttp.ClientSession(headers=headers, connector=connector, timeout=TIMEOUT) as session:
        hear()
        say("begins")
        return await _Publisher(order, session).run()


if __name__ == "__main__":
    say(uvloop.run(_run(hear())))
