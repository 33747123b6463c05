"""The number of workers when nobody says it."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aep.workers import usual as usual_workers
from aep.workers.usual import DEAR_SWITCH_MICROSECONDS, switch_microseconds, usable_cores, usual


@pytest.fixture
def two_cores() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    yield
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize(
    ("cores", "switch", "workers"),
    [
        (0.5, None, 0),
        (1, None, 0),
        (1.5, None, 0),
        (2, 5.0, 1),
        (2, DEAR_SWITCH_MICROSECONDS - 0.1, 1),
        (2, DEAR_SWITCH_MICROSECONDS, 0),
        (2.5, 50.0, 0),
        (3, None, 1),
        (64, None, 1),
    ],
)
def test_the_choice_follows_the_cores_and_on_two_of_them_the_switch(
    cores: float, switch: float | None, workers: int
) -> None:
    def measured() -> float:
        assert switch is not None, "is measured where it decides, only"
        return switch

    chosen = usual(cores, measured)

    assert chosen.workers == workers
    assert (switch is None) == ("µs" not in chosen.reason)


def test_a_switch_is_measured_within_some_milliseconds_of_cpu(two_cores: None) -> None:
    before = time.thread_time()
    took = switch_microseconds()

    assert 0.1 < took < 1_000_000
    assert time.thread_time() - before < 0.5


@pytest.mark.parametrize(
    ("text", "cores"), [("max 100000\n", 2), ("150000 100000\n", 1.5), ("800000 100000\n", 2), ("", 2)]
)
def test_the_quota_of_a_container_counts(
    text: str, cores: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text(text)
    monkeypatch.setattr(usual_workers, "CPU_MAX", quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})

    assert usable_cores() == cores
    quota.unlink()
    assert usable_cores() == 2
