"""Workers as processes: what they do for the owner of the file, and how each ends with the other."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import orjson
import pytest

from event_platform.domain.pace.lanes import LANES_AT_START
from support import one_pim
from support.processes import Child, children, command, received, send_events, server, until

SLOW = ("--behaviour", "slow", "--delay", "0.7")
SLOWER = ("--behaviour", "slow", "--delay", "1.5")
FAST = {"AEP_RATE_MIN": "1000", "AEP_RATE_MAX": "1000"}
PATHS = [f"/{number}" for number in range(4)]  # of subscriptions that are dealt out to both workers
IDLE = "SELECT (SELECT count(*) FROM deliveries) + (SELECT count(*) FROM retries)"
DROPPED = "SELECT sum(occurrences) FROM log_entries WHERE operation = 'deliveries_dropped'"
REMOVED = "com.akeneo.pim.v1.connection.deleted"


@pytest.fixture
def cores() -> Iterator[list[int]]:
    """Those that this process may use, for a test that changes them."""
    before = os.sched_getaffinity(0)
    yield sorted(before)
    os.sched_setaffinity(0, before)


def platform(folder: Path) -> AbstractContextManager[Child]:
    return one_pim.serve(folder, "--workers", "2", settings=FAST)


def workers_of(serve: Child) -> list[int]:
    return children(serve.process.pid)


def is_running(pid: int) -> bool:
    """Whether the process is there, and not only its status."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def arrived(inbox: Child, ids: list[str]) -> bool:
    return all(set(one_pim.ids_received(inbox.url, path)) >= set(ids) for path in PATHS)


def waiting(folder: Path) -> int:
    return one_pim.rows(folder / "data" / "aep.db", IDLE)[0][0]


def sent_to(inbox: Child) -> list[int]:
    """How many requests came to each path, answered or not."""
    return [len(received(inbox.url, path)) for path in PATHS]


@contextmanager
def standing_still(pids: list[int]) -> Iterator[None]:
    """Inside the block these processes do nothing at all."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def subscribe_all(serve: Child, inbox: Child) -> None:
    for path in PATHS:
        one_pim.subscribe(serve, inbox.url + path)


def subscriptions(serve: Child) -> list[str]:
    """The paths of all that there are, each of a subscriber of its own."""
    client = one_pim.client_of(serve)
    found: list[str] = []
    for subscriber in client.call("GET", "/subscribers", expect=200):
        path = f"/subscribers/{subscriber['id']}/subscriptions"
        found += [f"{path}/{each['id']}" for each in client.call("GET", path, expect=200)]
    return found


def test_workers_deliver_and_their_log_is_the_owners(tmp_path: Path) -> None:
    with server(tmp_path, "inbox", "--quiet") as inbox, platform(tmp_path) as serve:
        assert len(workers_of(serve)) == 2
        subscribe_all(serve, inbox)
        ids = one_pim.emit(serve, 50)
        until(lambda: arrived(inbox, ids), "all of it")
        assert serve.stop() == 0
    _warning, *lines = serve.stderr().splitlines()
    attempts = [line for line in map(orjson.loads, lines) if line["event"] == "delivery.attempted"]
    assert len(attempts) == 50 * len(PATHS)
    assert waiting(tmp_path) == 0


def test_one_worker_is_usual_and_none_where_one_core_may_be_used(tmp_path: Path, cores: list[int]) -> None:
    with one_pim.serve(tmp_path) as serve:
        assert len(workers_of(serve)) == (1 if len(cores) > 1 else 0)
    os.sched_setaffinity(0, cores[:1])
    with one_pim.serve(tmp_path) as serve:
        assert workers_of(serve) == []


def test_after_the_answer_to_a_change_nothing_more_is_sent(tmp_path: Path) -> None:
    events = 300
    author = {"identifier": "julia", "type": "user"}
    data = {"connection": {"client_id": "erp"}, "author": author}
    removal = one_pim.event() | {"type": REMOVED, "data": data}
    with server(tmp_path, "inbox", "--quiet", *SLOWER) as inbox, platform(tmp_path) as serve:
        subscribe_all(serve, inbox)
        suspended, deleted, of_deleted, _of_removed = subscriptions(serve)
        one_pim.emit(serve, events)
        until(lambda: min(sent_to(inbox)) >= LANES_AT_START, "each lane waits for an answer")

        def call(method: str, path: str, status: int) -> None:
            one_pim.client_of(serve).call(method, path, expect=status)

        def remove() -> None:
            assert send_events(serve.url, one_pim.INGEST_KEY, removal) == 202

        with ThreadPoolExecutor() as threads:
            with standing_still(workers_of(serve)):  # who therefore do not know, so nobody is answered
                answers = [
                    threads.submit(call, "POST", f"{suspended}/suspend", 202),
                    threads.submit(call, "DELETE", deleted, 200),
                    threads.submit(call, "DELETE", of_deleted.partition("/subscriptions")[0], 200),
                ]
                assert not wait(answers, 0.2).done
                answers.append(threads.submit(remove))
                assert not wait(answers, 0.2).done
            for answer in answers:
                answer.result()
        sent = sent_to(inbox)
        until(lambda: waiting(tmp_path) == 0, "the end of all of it")
        assert sent_to(inbox) == sent  # though they were answered, and their lanes went on
    dropped = one_pim.rows(tmp_path / "data" / "aep.db", DROPPED)
    assert dropped == [(len(PATHS) * events - sum(sent),)]


@pytest.mark.full
def test_a_stop_waits_for_what_a_worker_has_under_way(tmp_path: Path) -> None:
    with (
        server(tmp_path, "inbox", "--quiet", *SLOW) as inbox,
        platform(tmp_path) as serve,
    ):
        subscribe_all(serve, inbox)
        ids = one_pim.emit(serve)
        until(lambda: waiting(tmp_path) == len(PATHS), "it is on its way")
        workers = workers_of(serve)
        os.killpg(serve.process.pid, signal.SIGINT)  # as a terminal does, to all of them
        assert serve.wait() == 0
        assert arrived(inbox, ids)
        assert waiting(tmp_path) == 0
        assert not any(map(is_running, workers))


def test_workers_end_with_an_owner_that_was_killed_and_nothing_is_lost(tmp_path: Path) -> None:
    with server(tmp_path, "inbox", "--quiet", *SLOW) as inbox:
        with platform(tmp_path) as serve:
            subscribe_all(serve, inbox)
            ids = one_pim.emit(serve, 20)
            workers = workers_of(serve)
            serve.process.kill()
            until(lambda: not any(map(is_running, workers)), "the end of the workers")
            assert "fault" not in serve.stderr()
        with platform(tmp_path):
            until(lambda: arrived(inbox, ids), "all of it")


@pytest.mark.full
def test_a_worker_that_was_killed_ends_the_owner_with_an_error_and_nothing_is_lost(tmp_path: Path) -> None:
    with server(tmp_path, "inbox", "--quiet", *SLOW) as inbox:
        with platform(tmp_path) as serve:
            subscribe_all(serve, inbox)
            ids = one_pim.emit(serve, 20)
            first, second = workers_of(serve)
            os.kill(first, signal.SIGKILL)
            assert serve.wait() == 1
            assert "WorkerEnded" in serve.stderr()
            assert not is_running(second)
        with platform(tmp_path):
            until(lambda: arrived(inbox, ids), "all of it")


def test_a_worker_that_ends_during_the_start_ends_the_owner_with_an_error(tmp_path: Path) -> None:
    with command(tmp_path, *one_pim.arguments(tmp_path), "--port", "0", "--workers", "2") as serve:
        first, *_ = until(lambda: workers_of(serve), "the workers")
        os.kill(first, signal.SIGKILL)
        assert serve.wait() == 1
        assert "stopped by a fault of its own (WorkerEnded)" in serve.stderr()
        assert serve.stdout() == ""
