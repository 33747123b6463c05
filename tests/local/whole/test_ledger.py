"""The ledger of 100,000 deliveries to receivers of every kind, through kills: nothing ends silently.

For each subscription accepted = delivered + the sum of `occurrences` in the log (contract/wire.md 13), where
delivered is what the receiver answered 2xx to, each event once. The courses that are kept say the same.
Then some are replayed or catch up, through kills: each of these deliveries is one of its own on both sides.
"""

import asyncio
import os
import random
import threading
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from starlette.types import Receive, Scope, Send

from aep.serving.server import running
from support import one_pim
from support.processes import Child, Client, free_port, ready, send_events, server, until
from support.records import UPDATED

DELIVERIES = int(os.environ.get("AEP_TEST_LEDGER_DELIVERIES", "100000"))
KILLS, KILLS_OF_REPLAYS = 5, 2
EVENTS_A_REQUEST = 100
PUBLISHERS = 4
SETTINGS = {
    "AEP_RETRY_DELAYS": "0.2,0.4,0.8",
    "AEP_TIMEOUT": "2",  # the receivers run in the process of the test, which a busy machine holds up
    "AEP_RATE_MIN": "2000",  # so that a 429 is tried again at once
    "AEP_RATE_MAX": "2000",
    "AEP_LOG_LEVEL": "warning",
}

Status = Callable[[float, int], int | None]
"""What a receiver answers to an event, by the event's lot from 0 to 1 and the number of its attempt; None is
no answer in time. Where it once answered 2xx it does so again, as a kill may repeat what had arrived."""

RECEIVERS: dict[str, Status] = {
    "fine": lambda lot, attempt: 200,
    "fine-too": lambda lot, attempt: 204,
    "flaky": lambda lot, attempt: 500 if lot < 0.05 and attempt == 1 else 200,
    "picky": lambda lot, attempt: 422 if lot < (0.01 if attempt <= 4 else 0.005) else 200,
    "stalling": lambda lot, attempt: None if lot < 0.005 else 200,
    "throttling": lambda lot, attempt: 429 if lot < 0.05 and attempt <= 3 else 200,
    "broken": lambda lot, attempt: 503,
    "throttled-for-good": lambda lot, attempt: 429,
    "missing": lambda lot, attempt: 404,
    "moved": lambda lot, attempt: 301,
}
REFUSED = "refused"
"""A port that nobody listens on."""
NUMBER_OF_RECEIVERS = len(RECEIVERS) + 1
SUSPENDED_AT_ONCE = ("missing", "moved")
STOPPED_BY_HAND = ("throttled-for-good", "broken", REFUSED)
"""Suspended in the middle of it all, so that what waits for them is dropped."""
CAUGHT_UP = (*SUSPENDED_AT_ONCE, "broken")
"""Mended in the end, and resumed so that they catch up."""
REPLAYED = {"fine": "all", "picky": "undelivered"}
REPLAY_HEADER = b"x-event-platform-replay"


class Receivers:
    """The application that plays all receivers, and what it answered 2xx to: events by receiver.

    An event of a replay is another one than the same event before. Once it is `mended`, those of CAUGHT_UP
    answer 200.
    """

    def __init__(self) -> None:
        self.delivered: defaultdict[str, set[tuple[str, bytes]]] = defaultdict(set)
        self.mended = False
        self._attempts: Counter[tuple[str, str]] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        name = scope["path"].strip("/")
        replay_id = dict(scope["headers"]).get(REPLAY_HEADER, b"")
        status = await self._status(name, orjson.loads(body)["id"], replay_id)
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def _status(self, name: str, event_id: str, replay_id: bytes) -> int:
        self._attempts[name, event_id] += 1
        lot = zlib.crc32(event_id.encode()) / 2**32
        status = RECEIVERS[name](lot, self._attempts[name, event_id])
        if self.mended and name in CAUGHT_UP:
            status = 200
        if status is None:
            await asyncio.sleep(6)  # longer than AEP_TIMEOUT
            return 500
        if 200 <= status < 300:
            self.delivered[name].add((event_id, replay_id))
        return status

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Answers in a thread of its own; gives the URL."""
        loop = asyncio.new_event_loop()
        urls: list[str] = []
        end = asyncio.Event()

        async def serve() -> None:
            async with running(self) as url:
                urls.append(url)
                await end.wait()

        thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
        thread.start()
        try:
            yield until(lambda: urls, "the receivers")[0]
        finally:
            loop.call_soon_threadsafe(end.set)
            thread.join()
            loop.close()


class Publisher(threading.Thread):
    """Sends its share of the events, each request again until it is answered."""

    def __init__(self, platform: str, batches: list[list[dict[str, Any]]]) -> None:
        super().__init__(daemon=True)
        self._platform = platform
        self._batches = batches
        self.answered = 0

    def run(self) -> None:
        for batch in self._batches:
            while not self._send(batch):
                time.sleep(0.05)  # killed, and not up again
            self.answered += 1

    def _send(self, batch: list[dict[str, Any]]) -> bool:
        try:
            return send_events(self._platform, one_pim.INGEST_KEY, *batch) == 202
        except OSError:
            return False


@pytest.mark.full
@pytest.mark.timeout(600)
def test_every_accepted_delivery_arrived_or_is_in_the_log(tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    moments = random.Random(seed)
    print("seed", seed)
    receivers = Receivers()
    number = -(-DELIVERIES // NUMBER_OF_RECEIVERS // EVENTS_A_REQUEST) * EVENTS_A_REQUEST
    events = [one_pim.event() for _ in range(number)]
    batches = [events[at : at + EVENTS_A_REQUEST] for at in range(0, number, EVENTS_A_REQUEST)]
    with ExitStack() as stack:
        url = stack.enter_context(receivers.serving())
        subscriptions, port = _subscribe(tmp_path, url)
        began = datetime.now(UTC)
        platform = f"http://127.0.0.1:{port}"
        publishers = [Publisher(platform, batches[n::PUBLISHERS]) for n in range(PUBLISHERS)]
        for kill in range(KILLS):
            with _platform(tmp_path, port, workers=kill % 3) as child:
                if kill == 0:
                    for publisher in publishers:
                        publisher.start()
                if kill == KILLS - 1:  # all is accepted, and what waits is dropped through a kill
                    _all_answered(publishers)
                    _suspend(child, subscriptions)
                time.sleep(moments.uniform(0.5, 2.5))  # the random moment is the point
                child.kill_group()
        with _platform(tmp_path, port):
            until(lambda: _waiting(tmp_path) == 0, "an empty queue", seconds=300)
        books = _books(tmp_path, receivers, subscriptions)
        courses = _courses(tmp_path)
        receivers.mended = True
        _replay_through_kills(tmp_path, port, subscriptions, began, moments)
        books_after = _books(tmp_path, receivers, subscriptions)
    print(books, books_after)
    by_id = {subscription_id: books[name] for name, (_, subscription_id) in subscriptions.items()}
    assert {each: (*counts,) for each, *counts in courses} == {
        each: (*counts, 0) for each, counts in by_id.items()
    }
    total = {name: delivered + undelivered for name, (delivered, undelivered) in books.items()}
    again = _sent_again(tmp_path, subscriptions)
    assert {name: sum(counts) for name, counts in books_after.items()} == {
        name: accepted + again[name] for name, accepted in total.items()
    }
    assert {again["fine"], *(books_after[name][0] for name in SUSPENDED_AT_ONCE)} == {number}
    assert again["picky"] <= books["picky"][1]  # fewer if its failures suspend it
    assert [waiting for *_, waiting in _courses(tmp_path)] == [0] * NUMBER_OF_RECEIVERS
    for name in SUSPENDED_AT_ONCE:  # what came in after that was not accepted for it
        delivered, undelivered = books.pop(name)
        assert delivered == 0
        assert 0 < undelivered == total.pop(name) <= number
    assert total == dict.fromkeys(books, number)
    assert books["fine"] == (number, 0)
    assert books["broken"] == (0, number)


def _books(
    folder: Path, receivers: Receivers, subscriptions: dict[str, tuple[str, str]]
) -> dict[str, tuple[int, int]]:
    """The deliveries of each receiver that arrived, and those that the log says ended otherwise."""
    ended = dict(
        one_pim.rows(
            folder / "data" / "aep.db",
            "SELECT subscription_id, sum(occurrences) FROM log_entries WHERE operation IN"
            " ('failed_to_deliver_event', 'deliveries_dropped') GROUP BY subscription_id",
        )
    )
    return {
        name: (len(receivers.delivered[name]), ended.get(subscription_id, 0))
        for name, (_, subscription_id) in subscriptions.items()
    }


def _courses(folder: Path) -> list[tuple[Any, ...]]:
    """Returns for each subscription the numbers of courses that were delivered, that ended, and that wait."""
    return one_pim.rows(
        folder / "data" / "aep.db",
        "SELECT s.id, count(*) FILTER (WHERE outcome = 'delivered'),"
        " count(*) FILTER (WHERE outcome = 'ended'), count(*) FILTER (WHERE outcome IS NULL)"
        " FROM courses c JOIN subscriptions s ON s.no = c.subscription_no GROUP BY s.id",
    )


def _replay_through_kills(
    folder: Path,
    port: int,
    subscriptions: dict[str, tuple[str, str]],
    began: datetime,
    moments: random.Random,
) -> None:
    for kill in range(KILLS_OF_REPLAYS):
        with _platform(folder, port, workers=kill % 2) as child:
            client = one_pim.client_of(child)
            if kill == 0:
                for name, which in REPLAYED.items():
                    body = {"from": began.isoformat().replace("+00:00", "Z"), "which": which}
                    client.call("POST", f"{_path(subscriptions[name])}/replays", body, expect=201)
                for name in CAUGHT_UP:
                    resume = f"{_path(subscriptions[name])}/resume"
                    client.call("POST", resume, {"catch_up": True}, expect=202)
            time.sleep(moments.uniform(0.1, 1.0))  # the random moment is the point
            child.kill_group()
    with _platform(folder, port):
        until(lambda: _waiting(folder) == 0, "the end of replays and catching up", seconds=200)


def _sent_again(folder: Path, subscriptions: dict[str, tuple[str, str]]) -> dict[str, int]:
    """The deliveries of each receiver that were replayed or caught up, by what the platform counted."""
    file = folder / "data" / "aep.db"
    counted = one_pim.rows(
        file,
        "SELECT s.id, r.sent FROM replays r JOIN subscriptions s ON s.no = r.subscription_no"
        " WHERE r.kind = 'replay' AND r.status <> 'running' AND r.sent = r.delivered + r.ended UNION ALL"
        " SELECT subscription_id, json_extract(response, '$.events') FROM log_entries"
        " WHERE operation = 'subscription_caught_up'",
    )
    assert len(counted) == len(REPLAYED) + len(CAUGHT_UP)
    sent = dict(counted)
    return {name: sent.get(subscription_id, 0) for name, (_, subscription_id) in subscriptions.items()}


def _path(ids: tuple[str, str]) -> str:
    return f"/subscribers/{ids[0]}/subscriptions/{ids[1]}"


def _subscribe(folder: Path, url: str) -> tuple[dict[str, tuple[str, str]], int]:
    """Subscriber and subscription of each receiver by its name, and the platform's port from now on."""
    urls = {name: f"{url}/{name}" for name in RECEIVERS} | {REFUSED: f"http://127.0.0.1:{free_port()}/"}
    with _platform(folder, port := free_port()) as child:
        made = {name: _subscription(one_pim.client_of(child), name, at) for name, at in urls.items()}
        return made, port


def _subscription(client: Client, name: str, url: str) -> tuple[str, str]:
    contact = {"technical_email": "ops@example.com"}
    subscriber = client.call("POST", "/subscribers", {"name": name, "contact": contact}, expect=201)
    config = {"url": url, "secret": {"primary": one_pim.PRIMARY}}
    body = {"events": [UPDATED], "type": "https", "config": config}
    path = f"/subscribers/{subscriber['id']}/subscriptions"
    return subscriber["id"], client.call("POST", path, body, expect=201)["id"]


def _all_answered(publishers: list[Publisher]) -> None:
    until(lambda: not any(each.is_alive() for each in publishers), "all requests answered", seconds=200)


def _suspend(child: Child, subscriptions: dict[str, tuple[str, str]]) -> None:
    for name in STOPPED_BY_HAND:
        one_pim.client_of(child).call("POST", f"{_path(subscriptions[name])}/suspend", expect=202)


@contextmanager
def _platform(folder: Path, port: int, *, workers: int = 1) -> Iterator[Child]:
    arguments = (*one_pim.arguments(folder), "--port", str(port), "--workers", str(workers))
    with server(folder, *arguments, settings=SETTINGS) as child:
        yield ready(child)


def _waiting(folder: Path) -> int:
    time.sleep(0.5)  # counting costs the platform's disk
    file = folder / "data" / "aep.db"
    count = (
        "SELECT (SELECT count(*) FROM deliveries) + (SELECT count(*) FROM retries)"
        " + (SELECT count(*) FROM replays WHERE status IN ('running', 'clearing'))"
    )
    return one_pim.rows(file, count)[0][0]
