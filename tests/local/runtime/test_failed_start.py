"""What a start that fails leaves behind in the log: its reason, and nothing else."""

import asyncio
from pathlib import Path
from typing import NoReturn

import pytest

from aep.broker.notifier import Notifier
from aep.serving.last_calls import CallObserver
from aep.wiring import Platform
from event_platform.domain.errors import StoreUnavailable
from event_platform.settings import Settings


@pytest.mark.parametrize("part", [Notifier, CallObserver])
async def test_parts_that_had_started_are_stopped_when_another_one_cannot_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: type[Notifier] | type[CallObserver]
) -> None:
    async def fail(self: object) -> NoReturn:
        raise StoreUnavailable("its disk is full")

    monkeypatch.setattr(part, "start", fail)
    faults: list[BaseException] = []
    before = asyncio.all_tasks()
    platform = Platform(Settings(), tmp_path, base_url="http://127.0.0.1", on_fault=faults.append)
    with pytest.raises(StoreUnavailable, match="its disk is full"):
        await platform.start()
    left = asyncio.all_tasks() - before
    for task in left:  # as a runner does at its end
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    assert not faults
    assert not {task.get_name() for task in left if not task.get_name().startswith("Task-")}
