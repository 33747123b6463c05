"""What was answered 2xx survives SIGKILL at any moment: answered − delivered = 0."""

import random
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests

from event_platform.domain.pace.lanes import LANES_AT_START
from support.processes import (
    Child,
    Client,
    SimulatedPim,
    command,
    free_port,
    ready,
    received,
    send_events,
    server,
    until,
)
from support.records import UPDATED

KILLS = [pytest.param(6, 2, id="few"), pytest.param(20, 5, id="many", marks=pytest.mark.full)]
"""While it runs, and while it starts."""
IN_FLIGHT_SECONDS = 1.0
"""What is sent this close to a kill may have been sent, and not been settled."""
PATHS = ("/ok", "/flaky")
SECRET = "a signing secret of tests"
INGEST_KEY = "an ingest key of tests"
EVENTS_A_REQUEST = 5
MISSED = 400
"""The events of a replay and of catching up, which take some seconds at the rate SLOW."""
SLOW = 150
KILLS_OF_A_REPLAY = 3
NOBODY = 'user = "nobody"'
PUBLISHERS = 3


class Publisher(threading.Thread):
    """Sends events without a pause, the same again until they are answered, and remembers which were."""

    def __init__(self, number: int) -> None:
        super().__init__(daemon=True)
        self.number = number
        self.answered: list[str] = []
        self.refused: list[int] = []
        self.unanswered = 0
        self.platform = ""
        self.paused = threading.Event()
        self.ended = threading.Event()

    def run(self) -> None:
        count = 0
        while not self.ended.is_set():
            events = [an_event(f"{self.number}-{count + index}") for index in range(EVENTS_A_REQUEST)]
            count += len(events)
            if self._send(events):
                self.answered += [event["id"] for event in events]
            time.sleep(0.03)  # paces the load; nothing is waited for

    def _send(self, events: list[dict[str, Any]]) -> bool:
        while not self.ended.is_set():
            try:
                status = send_events(self.platform, INGEST_KEY, *events)
                if status != 202:
                    self.refused.append(status)
                return status == 202
            except requests.RequestException:  # killed: nobody knows whether it was taken
                self.unanswered += 1
                time.sleep(0.02)
        return False


def an_event(name: str) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": name,
        "type": UPDATED,
        "data": {
            "product": {"uuid": f"3f1a2c9e-58a1-4f3c-9a45-{zlib.crc32(name.encode()):012}"},
            "author": {"identifier": "tests", "type": "system"},
        },
    }


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("kills", "kills_at_start"), KILLS)
def test_nothing_that_was_answered_is_lost_by_sigkill(
    tmp_path: Path, kills: int, kills_at_start: int
) -> None:
    seed = random.randrange(10**6)
    moments = random.Random(seed)
    print("seed", seed)
    with ExitStack() as stack:
        inbox = stack.enter_context(
            server(tmp_path, "inbox", "--secret", SECRET, "--every", "10", "--keep", "200000", "--quiet")
        )
        pim = SimulatedPim(stack.enter_context(server(tmp_path, "sim")).url)
        publishers = [Publisher(number) for number in range(PUBLISHERS)]
        port = _subscribe(tmp_path, pim, inbox.url)
        for publisher in publishers:
            publisher.platform = f"http://127.0.0.1:{port}"
            publisher.start()
        killed_at: list[datetime] = []
        for kill in range(kills):
            with _platform(tmp_path, pim, port, workers=kill % 3) as platform:
                time.sleep(moments.uniform(0.0, 0.5))  # the random moment is the point
                platform.kill_group()
                killed_at.append(datetime.now(UTC))
        for kill in range(kills_at_start):
            with command(tmp_path, *_serve(tmp_path, port), settings=_settings(pim, kill % 3)) as starting:
                time.sleep(moments.uniform(0.0, 1.2))
                starting.kill_group()
                killed_at.append(datetime.now(UTC))
        for publisher in publishers:
            publisher.ended.set()
            publisher.join(10)
        answered = {event_id for publisher in publishers for event_id in publisher.answered}
        assert [publisher.refused for publisher in publishers] == [[]] * PUBLISHERS
        assert len(answered) > 10 * kills
        assert sum(publisher.unanswered for publisher in publishers) > 0
        with _platform(tmp_path, pim, port):
            until(lambda: not _missing(inbox.url, answered), "all that was answered", seconds=90)
            _check_duplicates(inbox.url, len(answered), killed_at)


@pytest.mark.timeout(300)
@pytest.mark.full
def test_a_replay_and_catching_up_survive_sigkill(tmp_path: Path) -> None:
    """The replay goes to the endpoint that fails at first on every 10th event."""
    moments = random.Random(seed := random.randrange(10**6))
    print("seed", seed)
    with ExitStack() as stack:
        inbox = stack.enter_context(
            server(tmp_path, "inbox", "--secret", SECRET, "--every", "10", "--keep", "200000", "--quiet")
        )
        pim = SimulatedPim(stack.enter_context(server(tmp_path, "sim")).url)
        names = {f"missed-{number}" for number in range(MISSED)}
        killed_at: list[datetime] = []
        with _platform(tmp_path, pim, port := free_port(), rate=SLOW) as platform:
            client, begun = pim.client(platform.url), datetime.now(UTC)
            caught_up, replayed = (_subscribed(client, inbox.url + path, filter=NOBODY) for path in PATHS)
            client.call("PATCH", caught_up, {"filter": None}, expect=200)
            client.call("POST", f"{caught_up}/suspend", expect=202)
            for start in range(0, MISSED, 100):
                sent = [an_event(f"missed-{number}") for number in range(start, start + 100)]
                assert send_events(platform.url, INGEST_KEY, *sent) == 202
            client.call("PATCH", replayed, {"filter": None}, expect=200)
            client.call("POST", f"{caught_up}/resume", {"catch_up": True}, expect=202)
            replay = client.call("POST", f"{replayed}/replays", {"from": begun.isoformat()}, expect=201)
            time.sleep(moments.uniform(0.3, 1.0))  # the random moment is the point
            platform.kill_group()
            killed_at.append(datetime.now(UTC))
        for kill in range(KILLS_OF_A_REPLAY):
            with _platform(tmp_path, pim, port, workers=kill % 2, rate=SLOW) as platform:
                time.sleep(moments.uniform(0.1, 1.0))
                platform.kill_group()
                killed_at.append(datetime.now(UTC))
        with _platform(tmp_path, pim, port, rate=1000) as platform:
            until(lambda: not _missing(inbox.url, names), "all that was missed", seconds=90)
            client, one = pim.client(platform.url), f"{replayed}/replays/{replay['id']}"
            until(lambda: client.call("GET", one, expect=200)["status"] == "done", "the end of the replay")
            shown = client.call("GET", one, expect=200)
            assert (shown["events"], shown["delivered"], shown["ended"]) == (MISSED, MISSED, 0)
            _check_duplicates(inbox.url, MISSED, killed_at)


def _subscribed(client: Client, url: str, **more: Any) -> str:
    """Subscribes the endpoint, as a subscriber of its own; returns the path of the subscription."""
    contact = {"technical_email": "ops@example.com"}
    subscriber = client.call("POST", "/subscribers", {"name": "kill", "contact": contact}, expect=201)
    body = {"events": [UPDATED], "type": "https", "config": {"url": url, "secret": {"primary": SECRET}}}
    path = f"/subscribers/{subscriber['id']}/subscriptions"
    return f"{path}/{client.call('POST', path, body | more, expect=201)['id']}"


def _missing(inbox: str, answered: set[str]) -> set[tuple[str, str]]:
    time.sleep(0.2)  # asking costs the inbox more than a delivery does
    found = {path: {one["id"] for one in received(inbox, path) if one["status"] == 200} for path in PATHS}
    return {(path, event_id) for path in PATHS for event_id in answered - found[path]}


def _check_duplicates(inbox: str, answered: int, killed_at: list[datetime]) -> None:
    """A kill may repeat what was in flight: what came just before it, one of each lane, and nothing else."""
    repeated = 0
    for path in PATHS:
        came: dict[str, list[datetime]] = {}
        for one in received(inbox, path):
            assert one["verified"]
            if one["status"] == 200:
                came.setdefault(one["id"], []).append(datetime.fromisoformat(one["received_at"]))
        for moments in came.values():
            repeated += len(moments) - 1
            for moment in moments[:-1]:
                after = [(kill - moment).total_seconds() for kill in killed_at]
                assert any(-IN_FLIGHT_SECONDS < seconds < IN_FLIGHT_SECONDS for seconds in after)
    in_flight = len(killed_at) * LANES_AT_START * len(PATHS)
    print(f"{answered} events answered, {repeated} deliveries repeated of at most {in_flight} in flight")
    assert repeated <= in_flight


def _serve(folder: Path, port: int) -> list[str]:
    return ["serve", "--dev", "--data", str(folder / "data"), "--port", str(port)]


def _settings(pim: SimulatedPim, workers: int, rate: int = 1000) -> dict[str, str]:
    pims = orjson.dumps([{"url": pim.url, "ingest_key": INGEST_KEY}]).decode()
    return {
        "AEP_PIMS": pims,
        "AEP_RETRY_DELAYS": "0.2,0.4,0.8",
        "AEP_RATE_MIN": str(rate),
        "AEP_RATE_MAX": str(rate),
        "AEP_WORKERS": str(workers),
    }


@contextmanager
def _platform(
    folder: Path, pim: SimulatedPim, port: int, *, workers: int = 1, rate: int = 1000
) -> Iterator[Child]:
    with server(folder, *_serve(folder, port), settings=_settings(pim, workers, rate)) as child:
        yield ready(child)


def _subscribe(folder: Path, pim: SimulatedPim, inbox: str) -> int:
    """Subscribes one endpoint that works and one that fails at first on every 10th event; the port."""
    with _platform(folder, pim, port := free_port()) as platform:
        client = pim.client(platform.url)
        contact = {"technical_email": "ops@example.com"}
        subscriber = client.call("POST", "/subscribers", {"name": "kill", "contact": contact}, expect=201)
        for path in PATHS:
            body = {
                "events": [UPDATED],
                "type": "https",
                "config": {"url": inbox + path, "secret": {"primary": SECRET}},
            }
            client.call("POST", f"/subscribers/{subscriber['id']}/subscriptions", body, expect=201)
        return port
