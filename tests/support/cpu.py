"""CPU time of this thread, which other processes on the machine do not change."""

import time
from collections.abc import Callable
from typing import Any


def cpu_seconds(work: Callable[[], Any], *, tries: int = 3) -> float:
    """Returns the least CPU time that `work` took in some tries: the first may pay for imports."""
    return min(_cpu_seconds(work) for _ in range(tries))


def _cpu_seconds(work: Callable[[], Any]) -> float:
    started = time.thread_time()
    work()
    return time.thread_time() - started
