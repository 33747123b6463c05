"""A task that should run does not end unseen."""

import asyncio

from aep.runtime.tasks import TaskCancelled, WatchedTasks


async def for_ever() -> None:
    await asyncio.Event().wait()


async def failing() -> None:
    raise ValueError("broken")


async def nothing() -> None:
    pass


async def ended(task: "asyncio.Task[None]") -> None:
    await asyncio.wait([task])
    await asyncio.sleep(0)  # for those that are told of it


async def test_an_error_is_a_fault() -> None:
    faults: list[BaseException] = []
    await ended(WatchedTasks(faults.append).start(failing()))
    assert [str(fault) for fault in faults] == ["broken"]


async def test_a_cancellation_is_a_fault_unless_it_is_a_stop() -> None:
    faults: list[BaseException] = []
    tasks = WatchedTasks(faults.append)
    first, second = tasks.start(for_ever()), tasks.start(for_ever())
    first.cancel()
    await ended(first)
    assert [type(fault) for fault in faults] == [TaskCancelled]
    tasks.stopping = True
    second.cancel()
    await ended(second)
    assert len(faults) == 1


async def test_a_stop_waits_for_the_end_of_its_tasks_and_is_no_fault() -> None:
    faults: list[BaseException] = []
    tasks = WatchedTasks(faults.append)
    running = [tasks.start(for_ever()), tasks.start(for_ever())]
    await tasks.stop(*running, None)
    assert all(task.cancelled() for task in running)
    await asyncio.sleep(0)  # for those that are told of it
    assert not faults


async def test_a_task_may_end() -> None:
    faults: list[BaseException] = []
    await ended(WatchedTasks(faults.append).start(nothing()))
    assert not faults
