"""Workers that stand still without ending: they are killed and replaced, and nobody waits long for them."""

import asyncio
import os
import re
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from aep.serving import server as serving
from aep.store.steady_clock import SteadyClock
from aep.workers.channel import Channel
from aep.workers.owner import (
    GROWN_BYTES,
    IDLE_ROUNDS,
    ROUND_SECONDS,
    SILENT_ROUNDS,
    START_ROUNDS,
    WAITED_FOR_ROUNDS,
    Processes,
    Workers,
)
from aep.workers.process import WorkerProcess, WorkerProcesses
from contract.suites.broker import a_removal
from event_platform.domain.subscriptions import Subscription, suspend
from event_platform.settings import Settings
from support import one_pim
from support.clock import ManualClock
from support.embedded import Embedded
from support.eventually import eventually
from support.processes import Child, children, http, not_ready, server, until, with_metrics
from support.records import OWNER, PIM, an_event

STARTS = 60.0
"""Seconds in which processes start, on a machine that has much else to do."""


class Receiver:
    """An endpoint that notes the events that it gets, in their order, and answers when `open` is set."""

    def __init__(self) -> None:
        self.got: list[tuple[str, str]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.app = Starlette(routes=[Route("/{path}", self._take, methods=["POST"])])

    def of(self, path: str) -> list[str]:
        return [event for to, event in self.got if to == path]

    async def _take(self, request: Request) -> Response:
        event = (await request.json())["id"]
        self.got.append((request.path_params["path"], event))
        await self.open.wait()
        return Response()


def is_stopped(pid: int) -> bool:
    """True if the process does not run, as after SIGSTOP, or has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "TZ"
    except FileNotFoundError:
        return True


class Owner(Embedded):
    """The owner's side on a store in the folder, for whatever processes."""

    def __init__(self, folder: Path, processes: Processes) -> None:
        super().__init__(folder, clock=ManualClock(datetime.now(UTC)))
        self.resident_bytes: dict[int, int] = {}
        self.workers = Workers(
            processes,
            self.queue,
            self.subscriptions,
            self.counts,
            settings=Settings(dev=True, rate_min=1000, rate_max=1000),
            meters=self.meters,
            clock=self.clock,
            write_log=lambda lines: None,
            on_fault=self.faults.append,
            resident_bytes=lambda pid: self.resident_bytes.get(pid, 0),
        )
        self.subscriptions.copies = self.workers


class TwoWorkers(Owner):
    """The same with two workers as processes, a receiver, and rounds that the test makes."""

    def __init__(self, folder: Path, processes: WorkerProcesses, receiver: Receiver, url: str) -> None:
        super().__init__(folder, processes)
        self.processes, self.receiver, self.url = processes, receiver, url

    async def subscribe_to(self, path: str) -> Subscription:
        """Subscriptions are dealt out: the first one is the second worker's, then the first's, and so on."""
        (subscription,) = await self.subscribe(url=f"{self.url}/{path}")
        return subscription

    async def emit(self, first: int, number: int = 1) -> list[str]:
        events = [an_event(each, entity="one") for each in range(first, first + number)]
        await self.queue.accept(PIM, events)
        return [each.id for each in events]

    async def rounds_of_silence(self, number: int) -> None:
        """Rounds until the first worker, which hangs, was silent for so many."""
        while self.workers._workers[0].silent_rounds < number:
            await self.round()

    def is_replaced(self, hung: WorkerProcess) -> bool:
        return self.workers._workers[0].process is not hung

    async def round(self) -> None:
        """A round of the owner; who runs has answered at its end."""
        await self.clock.advance(ROUND_SECONDS)
        await eventually(self._have_answered, within=STARTS)

    def _have_answered(self) -> bool:
        return all(
            worker.channel.has_heard or is_stopped(worker.process.pid) for worker in self.workers._workers
        )

    async def started(self) -> None:
        await eventually(lambda: all(worker.is_started for worker in self.workers._workers), within=STARTS)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[TwoWorkers]:
    async with AsyncExitStack() as stack:
        processes = WorkerProcesses(SteadyClock())
        stack.callback(processes.end)
        processes.started = [processes.start_another(), processes.start_another()]
        receiver = Receiver()
        url = await stack.enter_async_context(serving.running(receiver.app))
        world = await stack.enter_async_context(TwoWorkers(tmp_path, processes, receiver, url))
        await world.queue.open(world.workers.put, lambda _: None, read_more=world.workers.read_more)
        await world.workers.start()
        stack.push_async_callback(world.workers.stop)
        yield world
        receiver.open.set()


@pytest.mark.provokes("worker.killed", "worker.replaced")
async def test_a_worker_that_hangs_is_killed_and_replaced_and_its_lanes_go_on_in_order(
    world: TwoWorkers,
) -> None:
    await world.subscribe_to("second")
    await world.subscribe_to("first")
    ids = await world.emit(0)
    await eventually(lambda: len(world.receiver.got) == 2)
    hung, healthy = world.processes.started
    os.kill(hung.pid, signal.SIGSTOP)
    ids += await world.emit(1, 3)
    with structlog.testing.capture_logs() as lines:
        await world.rounds_of_silence(SILENT_ROUNDS - 1)
        assert not hung.reap()
        assert world.workers.problem() == "1 of 2 workers do not answer; they are replaced"
        await world.round()
        await eventually(lambda: world.is_replaced(hung))
    ids += await world.emit(4, 3)  # while the new one starts
    await world.started()
    ids += await world.emit(7, 3)
    await eventually(lambda: set(world.receiver.of("first")) == set(ids))
    await eventually(lambda: set(world.receiver.of("second")) == set(ids))
    assert world.receiver.of("second") == ids
    assert list(dict.fromkeys(world.receiver.of("first"))) == ids
    assert not healthy.reap()
    assert world.workers.problem() is None
    assert world.meters.processes_replaced == {"worker": 1, "reading": 0}
    killed, replaced = (line for line in lines if line["event"].startswith("worker."))
    assert killed["event"] == "worker.killed"
    assert (killed["worker"], killed["pid"], killed["silent_seconds"]) == (0, hung.pid, SILENT_ROUNDS)
    assert (replaced["event"], replaced["worker"]) == ("worker.replaced", 0)


async def test_a_change_waits_for_a_worker_that_hangs_only_until_that_is_killed(world: TwoWorkers) -> None:
    await world.subscribe_to("second")
    first = await world.subscribe_to("first")
    world.receiver.open.clear()
    await world.emit(0, 5)  # in each lane one is sent, and the others wait for its answer
    await eventually(lambda: len(world.receiver.got) == 2)
    hung, healthy = world.processes.started
    os.kill(hung.pid, signal.SIGSTOP)
    world.receiver.open.set()
    await eventually(lambda: len(world.receiver.of("second")) == 5)
    change = asyncio.create_task(
        world.subscriptions.change_subscription(
            OWNER, first.subscriber_id, first.id, partial(suspend, now=world.clock.now())
        )
    )
    removal = asyncio.create_task(world.queue.accept(PIM, [a_removal("app", OWNER.client_id)]))
    await eventually(lambda: sum(len(worker.unanswered_changes) for worker in world.workers._workers) >= 2)
    await world.rounds_of_silence(WAITED_FOR_ROUNDS - 1)
    assert not change.done()
    assert not removal.done()
    assert not hung.reap()
    assert world.workers.problem() is None
    await world.round()
    await asyncio.gather(change, removal)
    assert world.is_replaced(hung)
    assert not healthy.reap()
    await world.started()
    await eventually(lambda: world.meters.ended)  # the new one drops what waits
    await eventually(lambda: world.meters.queued == 0)
    assert len(world.receiver.of("first")) == 1


@pytest.mark.full
@pytest.mark.provokes("worker.renewed")
async def test_an_idle_worker_that_keeps_memory_is_replaced_and_a_busy_one_is_not(world: TwoWorkers) -> None:
    await world.subscribe_to("second")
    await world.subscribe_to("first")
    grown, other = world.processes.started
    world.resident_bytes[grown.pid] = GROWN_BYTES
    world.receiver.open.clear()
    ids = await world.emit(0)
    await eventually(lambda: len(world.receiver.got) == 2)
    for _ in range(2 * IDLE_ROUNDS):
        await world.round()
    assert not world.is_replaced(grown)
    world.receiver.open.set()
    await eventually(lambda: world.meters.delivered == 2)
    with structlog.testing.capture_logs() as lines:
        while not lines:
            await world.round()
        await eventually(lambda: world.is_replaced(grown))
    assert world.workers.problem() is None  # nobody waits for it
    await world.started()
    ids += await world.emit(1, 3)
    await eventually(lambda: world.meters.queued == 0)
    assert world.receiver.of("first") == world.receiver.of("second") == ids
    assert [line["event"] for line in lines] == ["worker.renewed", "worker.replaced"]
    assert (lines[0]["worker"], lines[0]["pid"], lines[0]["grown_bytes"]) == (0, grown.pid, GROWN_BYTES)
    assert world.meters.processes_replaced == {"worker": 0, "reading": 0}
    assert not other.reap()


async def test_workers_live_on_when_the_owner_or_the_machine_stood_still(world: TwoWorkers) -> None:
    hung, healthy = world.processes.started
    for pid in (hung.pid, healthy.pid):
        os.kill(pid, signal.SIGSTOP)
    while max(worker.silent_rounds for worker in world.workers._workers) < SILENT_ROUNDS - 1:
        await world.clock.jump(3600)  # of the monotonic clock, too
    os.kill(healthy.pid, signal.SIGCONT)
    await eventually(lambda: world.workers._workers[1].channel.has_heard)
    for _ in range(2):  # one may have been heard in one round more than the other
        await world.clock.jump(3600)
    await eventually(lambda: world.is_replaced(hung))
    assert not healthy.reap()


class Deaf:
    """A process that never answers, and that the system cannot end."""

    pid = 1

    def __init__(self) -> None:
        self.end, self.far = socket.socketpair()
        self.kills = 0

    def kill(self) -> None:
        self.kills += 1


class Willing(Deaf):
    """One that answers whatever it is asked."""

    async def open(self) -> None:
        self.channel = Channel(self, on_end=lambda: None, on_fault=lambda _: None)
        await self.channel.open(self.far)

    def __getattr__(self, method: str) -> Callable[..., None]:
        return lambda *arguments: None


class Listed:
    """Processes, of which each replaces the one before."""

    def __init__(self, first: Deaf, *others: Deaf) -> None:
        self.started, self.others = [first], list(others)

    def start_another(self) -> Deaf:
        if not self.others:
            raise OSError("there is no room for another process")
        return self.others.pop(0)


async def test_a_worker_that_the_system_cannot_end_is_waited_for_no_longer_than_a_round(
    tmp_path: Path,
) -> None:
    deaf, willing = Deaf(), Willing()
    await willing.open()
    of = Owner(tmp_path, Listed(deaf, willing))
    starting = asyncio.create_task(of.workers.start())
    await of.clock.advance((START_ROUNDS - 1) * ROUND_SECONDS)
    assert deaf.kills == 0
    await of.clock.advance(ROUND_SECONDS)
    assert deaf.kills == 1
    await of.clock.advance(ROUND_SECONDS)
    await starting
    await eventually(lambda: of.workers.problem() is None)
    await of.workers.stop()
    await of.database.close()
    assert of.faults == []


async def test_a_worker_that_cannot_be_replaced_is_a_fault(tmp_path: Path) -> None:
    of = Owner(tmp_path, Listed(Deaf()))
    starting = asyncio.create_task(of.workers.start())
    await of.clock.advance((START_ROUNDS + 1) * ROUND_SECONDS)
    await starting
    assert [str(fault) for fault in of.faults] == ["there is no room for another process"]
    await of.workers.stop()
    await of.database.close()


def test_the_platform_says_that_a_worker_hangs_and_delivers_all(tmp_path: Path) -> None:
    settings = with_metrics() | {"AEP_RATE_MIN": "1000", "AEP_RATE_MAX": "1000", "TEST_ROUND_SECONDS": "0.1"}
    platform = (*one_pim.arguments(tmp_path), "--workers", "1")
    with (
        server(tmp_path, "inbox", "--quiet") as inbox,
        server(tmp_path, *platform, settings=settings) as serve,
    ):
        one_pim.subscribe(serve, f"{inbox.url}/hook")
        (pid,) = children(serve.process.pid)
        os.kill(pid, signal.SIGSTOP)
        ids = one_pim.emit(serve, 3)
        answer = until(lambda: not_ready(serve.url), "/ready says so")
        assert answer == "1 of 1 workers do not answer; they are replaced"
        assert http().get(f"{serve.url}/health", timeout=10).status_code == 200
        until(lambda: set(one_pim.ids_received(inbox.url)) == set(ids), "all of it", seconds=STARTS)
        until(lambda: not not_ready(serve.url), "/ready says that all is well", seconds=STARTS)
        until(lambda: pid not in children(serve.process.pid), "nothing of it is left")
        assert replaced(serve, "worker") >= 1
        assert serve.stop() == 0
    for name in ("worker.killed", "worker.replaced"):
        assert f'"event":"{name}"' in serve.stderr()


def replaced(serve: Child, process: str) -> float:
    """The number of such processes that were replaced, by the platform's metrics."""
    page = http().get(serve.metrics, timeout=10).text
    found = re.search(rf'^aep_processes_replaced_total{{process="{process}"}} (.+)$', page, re.MULTILINE)
    assert found is not None
    return float(found[1])
